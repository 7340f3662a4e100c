"""Starts: many tries on a coarser grid, the best of which begins the fit."""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from .._comparison import follows
from .._grid import Grid
from .._guess import Guess, guess
from .._nlp import NLP
from .._run import Interrupt
from .._solution import Solution
from .._solve import solve
from .._solve_batch import solve_batch
from .._solver import AbstractSolver
from .._transcribe import transcribe_again
from .._transfer import transfer
from .holdout import Holdout


# Widths of the smoothing window, one start after another.
_SMOOTHING = (3.0, 1.7, 1.0, 5.0, 1.3, 2.2)
# Starts are tried with looser tolerance and a limit of steps, on every other boundary.
_TRIAL_TOL, TRIAL_STEPS = 1e-4, 100
_COARSENED = 24
# Starts that agree this well in the objective need no more company.
_AGREE = 0.01
# An objective lower by this much counts as another optimum.
_LOWER = 0.05


class Interrupted(Exception):
    """Ctrl-C was pressed while starts or choices were tried."""


class Search:
    """How starts are made and compared."""

    def __init__(
        self,
        key: Any,
        starts: int,
        states: Any,
        weights: str,
        solver: AbstractSolver,
        progress: bool,
        interrupt: Interrupt,
    ):
        self.interrupt = interrupt
        # What is searched for now, and the best solution so far with what it was found for.
        self.whole: NLP | None = None
        self.holdout: Holdout | None = None
        self.kept: tuple[Solution, NLP | None, Holdout | None] | None = None
        self.key, self.starts, self.solver, self.progress = key, starts, solver, progress
        self.states, self.weights = states, weights
        # Neither random nor smoothed: all starts would be one.
        drawn = key is not None and weights != "as_given"
        if not drawn and not (isinstance(states, str) or callable(states)):
            self.starts = 1

    def guess(self, nlp: NLP, number: int) -> Guess:
        """The start of that number; the first is that of `jc.guess`."""
        key = self.key if self.key is None or number == 0 else jax.random.fold_in(self.key, number)
        smoothing = _SMOOTHING[number % len(_SMOOTHING)]
        return guess(nlp, key=key, states=self.states, weights=self.weights, smoothing=smoothing)

    def check(self) -> None:
        """Raise `Interrupted` if the search is to end."""
        if self.interrupt.pressed:
            raise Interrupted

    def so_far(self, nlp: NLP) -> tuple[NLP, Guess]:
        """A problem and a start for it from the best solution before an interrupt.

        `nlp` itself, with the plain guess, where there is none.
        """
        if self.kept is None:
            return nlp, self.guess(nlp, 0)
        sol, whole, holdout = self.kept
        whole = nlp if whole is None else whole
        if holdout is None:
            return whole, transfer(sol, whole)
        first = guess(whole, states=self.states, weights="as_given")
        return whole, holdout.whole_start(whole, sol, None, first)

    def coarse(self, nlp: NLP) -> NLP:
        """The NLP on which starts are tried: a coarser one, unless states are given at nodes."""
        if isinstance(self.states, str) or callable(self.states):
            return _coarsened(nlp)
        return nlp

    def _tries(self, nlp: NLP, solver: AbstractSolver) -> Iterator[Solution]:
        """The solutions from all starts, found as they are asked for."""
        together = solver.together(self.starts)
        for first in range(0, self.starts, together):
            numbers = range(first, min(first + together, self.starts))
            if together > 1:
                guesses = [self.guess(nlp, number) for number in numbers]
                yield from solve_batch(nlp, solver, guesses, throw=False)
            else:
                shown = title(self.progress, f"start {first + 1} of {self.starts}")
                yield solve(nlp, solver, self.guess(nlp, first), throw=False, progress=shown)

    def best(self, nlp: NLP) -> tuple[Guess | Solution, list[dict[str, Any]]]:
        """The best of the starts, as a start for `nlp`, and how each ended.

        **Errors:** `Interrupted` after Ctrl-C.
        """
        if self.starts == 1:
            return self.guess(nlp, 0), []
        coarse = self.coarse(nlp)
        trial = self.solver.loosened(_TRIAL_TOL, TRIAL_STEPS)
        log: list[dict[str, Any]] = []
        best, best_rank = None, (True, np.inf)
        for sol in self._tries(coarse, trial):
            self.check()
            verified = sol.result.ok and follows(sol)
            log.append(
                {
                    "objective": sol.objective,
                    "result": sol.result.name,
                    "verified": verified,
                    "num_steps": sol.stats["num_steps"],
                    "seconds": sol.stats["solve_seconds"],
                }
            )
            rank = (not verified, sol.objective if sol.result.ok else np.inf)
            if best is None or rank < best_rank:
                best, best_rank = sol, rank
                self.kept = (sol, self.whole, self.holdout)
            if settled(log):
                break
        assert best is not None
        return (best if coarse is nlp else transfer(best, nlp)), log


def settled(log: list[dict[str, Any]]) -> bool:
    """Whether the two best verified starts agree, and none found a clearly lower objective.

    A lower one that did not hold in a rollout is a hint that there is a better optimum nearby.
    """
    found = sorted(row["objective"] for row in log if row["verified"])
    if len(found) < 2 or found[1] - found[0] > _AGREE * abs(found[0]):
        return False
    return min(row["objective"] for row in log) > found[0] - _LOWER * abs(found[0])


def _coarsened(nlp: NLP) -> NLP:
    """On every other boundary, if intervals are many."""
    if min(grid.num_intervals for grid in nlp.grids) < _COARSENED:
        return nlp
    grids = []
    for grid in nlp.grids:
        edges = grid.boundaries[::2]
        if edges[-1] != grid.boundaries[-1]:
            edges = np.append(edges[:-1], grid.boundaries[-1])
        grids.append(Grid(edges, grid.scheme))
    return transcribe_again(nlp, grids)


def title(progress: bool, text: str) -> bool | str:
    """What a progress bar is called, or that there is none."""
    return text if progress else False
