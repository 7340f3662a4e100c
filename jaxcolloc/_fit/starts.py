"""Starts: many tries on a coarser grid, the best of which begins the fit."""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from .._comparison import compare, poor_paths
from .._default_solver import default_solver
from .._goodness import explains_to_noise
from .._grid import Grid, doubled
from .._guess import (
    MATCHING_STEPS,
    Guess,
    drawn_constants,
    guess,
    matched_start,
    rolled_start,
    start_head,
    xavier,
)
from .._likelihoods import objective_size
from .._loss import Loss, squared_error
from .._nlp import NLP
from .._noise import noise_levels
from .._ridge import net_weights
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
# A solve that takes longer has gone astray.
_STEPS = 500
# Starts are tried with looser tolerance and a limit of steps, on every other boundary.
_TRIAL_TOL, _TRIAL_STEPS = 1e-4, 100
_COARSENED, _COARSENED_BETWEEN = 24, 12
# So many starts that agree this well in the objective need no more company; more if their path does
# not follow the data, which may be due to the penalty where this is yet to be chosen. There so many
# that agree are enough, even if they do not hold in a rollout.
_COMPANY, _COMPANY_IF_POOR, _COMPANY_IF_PENALISED, _AGREE = 2, 5, 3, 0.01
# Of a law without nets the right optimum leaves but noise: agreement on another means less.
_COMPANY_OF_LAWS = 4
_CROWD = 4
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
        solver: AbstractSolver | None,
        progress: bool,
        interrupt: Interrupt,
        horizon: float | None = None,
    ):
        self.horizon = horizon
        # The best start that was verified, on the grid on which starts are tried.
        self.found: Solution | None = None
        self.interrupt = interrupt
        # What is searched for now, and the best solution so far with what it was found for.
        self.whole: NLP | None = None
        self.holdout: Holdout | None = None
        self.kept: tuple[Solution, NLP | None, Holdout | None] | None = None
        self.key, self.starts, self.progress = key, starts, progress
        self._solver = solver
        self.states, self.weights = states, weights
        # Neither random nor smoothed: all starts would be one.
        drawn = key is not None and weights != "as_given"
        if not drawn and not (isinstance(states, str) or callable(states)):
            self.starts = 1

    def choose_solver(self, nlp: NLP) -> None:
        """Take the default one for `nlp`, and all that is made of it, where none was given."""
        if self._solver is None:
            self._solver = default_solver(nlp, _STEPS)

    @property
    def solver(self) -> AbstractSolver:
        """The solver; to be asked for once it is chosen."""
        assert self._solver is not None
        return self._solver

    def guess(self, nlp: NLP, number: int) -> Guess:
        """The start of that number; the first is that of `jc.guess`.

        The others have other weights of nets, other smoothing and, every second of them, physical
        constants and hidden states drawn over decades, with the states that follow from these.
        """
        smoothing = _SMOOTHING[number % len(_SMOOTHING)]
        options: dict[str, Any] = {"states": self.states, "smoothing": smoothing}
        if number == 0 or self.key is None:
            return guess(nlp, key=self.key, weights=self.weights, **options)
        key = jax.random.fold_in(self.key, number)
        constants = (
            bool(np.any(~net_weights(nlp.layout.model, nlp.model)))
            or len(start_head(nlp)) > nlp.num_weights
        )
        if not constants or number % 2 == 0 or self.weights == "as_given":
            return guess(nlp, key=key, weights=self.weights, **options)
        return self._drawn(nlp, key, smoothing)

    def _drawn(self, nlp: NLP, key: Any, smoothing: float) -> Guess:
        """A start from drawn constants: a rollout of the model, matched slopes where it fails."""
        head = start_head(nlp)
        head[: nlp.num_weights] = nlp.layout.model.flatten("model", xavier(nlp.model, key))
        head = drawn_constants(nlp, head, key)
        z = None
        steps = MATCHING_STEPS if self.weights == "gradient_matching" else 0
        if not np.any(net_weights(nlp.layout.model, nlp.model)):
            smooth = matched_start(nlp, head, self.states, smoothing, 0)
            z = rolled_start(nlp, head, nlp.states_at(smooth), key)
        if z is None:
            z = matched_start(nlp, head, self.states, smoothing, steps)
        return Guess(nlp, z, key)

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

    def best(self, nlp: NLP) -> tuple[Guess, list[dict[str, Any]]]:
        """The best of the starts, as a start for `nlp`, and how each ended.

        **Errors:** `Interrupted` after Ctrl-C.
        """
        if self.starts == 1:
            return self.guess(nlp, 0), []
        coarse = self.coarse(nlp)
        trial = self.solver.loosened(_TRIAL_TOL, _TRIAL_STEPS)
        log: list[dict[str, Any]] = []
        best, best_rank = None, (True, True, np.inf)
        nets = net_weights(nlp.layout.model, nlp.model).any()
        company = _COMPANY if nets else _COMPANY_OF_LAWS
        for sol in self._tries(coarse, trial):
            self.check()
            row = outcome_of(sol)
            log.append(row)
            rank = (not row["verified"], row["poor"], sol.objective if sol.result.ok else np.inf)
            if best is None or rank < best_rank:
                best, best_rank = sol, rank
                self.kept = (sol, self.whole, self.holdout)
            if_poor = _COMPANY_IF_POOR if self.holdout is None else _COMPANY_IF_PENALISED
            channels = nlp.trajectories[0].num_channels
            if settled(log, if_poor, nlp.settings.loss, channels, company):
                break
            if self.holdout is not None and crowded(log):
                break
        assert best is not None
        self.found = None if best_rank[0] else best
        if coarse is nlp:
            return Guess.at(nlp, best.z, best.key, best.multipliers), log
        return transfer(best, nlp), log


def outcome_of(sol: Solution) -> dict[str, Any]:
    """How a start ended; `to_noise` if its path leaves no more than the data's noise."""
    nlp = sol.nlp
    noise = noise_levels(nlp.trajectories)
    rows = compare(sol, noise)
    residuals = [row.residuals for row in rows]
    return {
        "objective": sol.objective,
        "result": sol.result.name,
        "verified": sol.result.ok and all(row.follows for row in rows),
        "poor": bool(poor_paths(nlp, residuals)),
        "to_noise": explains_to_noise(residuals, noise),
        "num_steps": sol.stats["num_steps"],
        "seconds": sol.stats["solve_seconds"],
    }


def settled(
    log: list[dict[str, Any]],
    company_if_poor: int = _COMPANY_IF_POOR,
    loss: Loss = squared_error,
    num_channels: int = 1,
    company: int = _COMPANY,
) -> bool:
    """Whether no more starts need be tried.

    One that holds in a rollout and explains the data to their noise is enough. Otherwise the best
    that hold must agree, `company` of them, or more where their path does not follow the data, and
    none have found a clearly lower objective: one that did not hold is a hint that there is a
    better optimum nearby.
    """
    found = [row for row in log if row["verified"]]
    if any(row["to_noise"] for row in found):
        return True
    best = sorted(row["objective"] for row in found if not row["poor"])
    needed = company if best else company_if_poor
    best = best or sorted(row["objective"] for row in found)
    if len(best) < needed:
        return False
    size = objective_size(loss, num_channels, best[0])
    if best[needed - 1] - best[0] > _AGREE * size:
        return False
    return min(row["objective"] for row in log) > best[0] - _LOWER * size


def crowded(log: list[dict[str, Any]]) -> bool:
    """Whether so many starts have ended in one optimum that others will as well."""
    found = np.sort([row["objective"] for row in log if row["objective"] < np.inf])
    if len(found) < _CROWD:
        return False
    first, last = found[: len(found) - _CROWD + 1], found[_CROWD - 1 :]
    return bool(np.any(last - first <= _AGREE * np.abs(first)))


def _coarsened(nlp: NLP) -> NLP:
    """On every other boundary, if intervals are many, between jumps as well."""
    smooth, jumps = np.array(
        [(np.sum(~grid.is_jump), np.sum(grid.is_jump)) for grid in nlp.grids]
    ).T
    if np.any(smooth < np.where(jumps > 0, _COARSENED_BETWEEN * (jumps + 1), _COARSENED)):
        return nlp
    grids = []
    for grid in nlp.grids:
        every = np.unique(grid.boundaries)
        edges = every[::2]
        if edges[-1] != every[-1]:
            edges = np.append(edges[:-1], every[-1])
        grids.append(Grid(doubled(edges, grid.jump_times), grid.scheme))
    return transcribe_again(nlp, grids)


def title(progress: bool, text: str) -> bool | str:
    """What a progress bar is called, or that there is none."""
    return text if progress else False
