"""fit: guess, solve, verify, refine; the one call that most users make."""

import dataclasses
import os
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from ._check import describe, integer, positive, share
from ._choose_grid import choose_grids
from ._continuation import solve_growing
from ._data import Trajectory, as_trajectories
from ._grid import Grid
from ._guess import Guess, guess
from ._holdout import Holdout, Score, hold_out
from ._ipopt.solver import Ipopt
from ._load import load, stored_setting
from ._nlp import NLP
from ._refine import refine
from ._scheme import AbstractScheme
from ._solution import Solution
from ._solve import solve
from ._solve_batch import at_a_time, solve_batch
from ._solver import AbstractSolver
from ._transcribe import Grids, check_options, transcribe, transcribe_again, with_l2
from ._transfer import transfer
from ._verify import follows, verify


# Factors of the data's variance that are tried as `l2`, the strongest first.
_LADDER = (1e-3, 1e-4, 1e-5, 1e-6)
# A weaker penalty must predict held-out data better by this much.
_BETTER = 0.95
# Widths of the smoothing window, one start after another.
_SMOOTHING = (3.0, 1.7, 1.0, 5.0, 1.3, 2.2)
# Starts are tried with looser tolerance and a limit of steps, on every other boundary.
_TRIAL_TOL, _TRIAL_STEPS = 1e-4, 100
_COARSENED = 24
# A solve that takes longer has gone astray.
_STEPS = 500
# Starts that agree this well in the objective need no more company.
_AGREE = 0.01
# An objective lower by this much counts as another optimum.
_LOWER = 0.05


def fit(
    model: Any,
    data: Trajectory | Sequence[Trajectory],
    *,
    key: PRNGKeyArray | None = None,
    grid: Grids | None = None,
    scheme: AbstractScheme | None = None,
    l2: Any = None,
    held_out: float = 0.2,
    starts: int = 12,
    states: Any = "smooth",
    weights: str = "gradient_matching",
    tol: float = 1e-2,
    refinements: int = 5,
    continuation: bool = True,
    solver: AbstractSolver | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    every: int = 20,
    progress: bool = False,
    **options: Any,
) -> Solution:
    r"""Fit `model` to `data` and prove it by a rollout.

    Chooses a grid from the sampling and the smoothed data, `l2` by held-out data, tries several
    starts on a coarser grid, solves, verifies, and refines the grid until a rollout of the model
    follows the fitted path. Where a solve fails it goes through windows of growing length.

        sol = jc.fit(model, data, key=jax.random.key(0))
        print(sol)  # the solve, the verdict, all on one screen

    **Arguments:**

    - `model`: the vector field `f(t, y, args)`; or a list of them, such as nets of several widths,
      of which the one is kept that predicts held-out data best.
    - `data`: one `jc.Trajectory` or a list of them.
    - `key`: a PRNG key for the starts. Without one they differ in smoothing only, and begin with
      the model's own weights.
    - `grid`: one `jc.Grid` for all trajectories or one for each; `scheme`: the scheme of a
      chosen grid, `jc.Radau(3)` if not given.
    - `l2`: the factor of the ridge penalty, as in `jc.transcribe`; or a list of factors to choose
      from by held-out data. If not given, the list is $10^{-3}, \dots, 10^{-6}$ times the data's
      weighted variance.
    - `held_out`: the share of the data held out for choices: whole trajectories where there are
      at least four, else the end of each. The final fit uses all data.
    - `starts`: how many starts are tried at most, on every other boundary of a grid of many
      intervals; 1 for the plain guess. They differ in `key` and in the width of the smoothing
      window. Two verified ones that agree in the objective to 1%, with no lower one known, end the
      search. The best verified one wins; `stats["starts"]` lists all.
    - `states`, `weights`: as in `jc.guess`.
    - `tol`: the distance between rollout and path, as a share of the states' spread, at which
      refinement stops; `refinements`: the largest number of its rounds, 0 for none.
    - `continuation`: go through growing windows where the plain solve fails.
    - `solver`: `jc.Ipopt(max_steps=500)` if not given.
    - `checkpoint`: a file that is written every `every` iterations and at the end. If it is there
      already, from a fit of the same data that was killed or finished, the fit continues from it.
    - `progress`: show progress bars.
    - `options`: any other option of `jc.transcribe`.

    Returns a `jc.Solution` with `verification`. It warns if the verdict is not good; failures
    of the solver show in `result` and in the verdict, none is raised. `stats` tells what was
    chosen: `selection`, `starts`, `refinement`, `refinement_end`, `fit_seconds`.

    **Errors:** `ValueError` for bad arguments, as `jc.transcribe`.
    """
    begin = time.perf_counter()
    models = list(model) if isinstance(model, (list, tuple)) else [model]
    trajectories = as_trajectories(data)
    held_out = share("held_out", held_out, below=0.9)
    starts, refinements = integer("starts", starts, 1), integer("refinements", refinements, 0)
    tol = positive("tol", tol)
    if not models:
        raise ValueError("`model` must be a model or a list of at least one; got none.")
    check_options(options)
    solver = Ipopt(max_steps=_STEPS) if solver is None else solver
    grids = choose_grids(trajectories, grid, scheme)
    search = _Search(key, starts, states, weights, solver, progress)
    stats: dict[str, Any] = {}
    start: Guess | Solution
    if checkpoint is not None and Path(checkpoint).exists():
        nlp, start = _resumed(checkpoint, models, trajectories, l2, options)
    else:
        penalties = _penalties(l2, trajectories)
        first = penalties[0]
        nlps = [transcribe(item, trajectories, grids, l2=first, **options) for item in models]
        several = len(nlps) * len(penalties) > 1
        holdout = hold_out(search.coarse(nlps[0]), held_out) if several else None
        if holdout is None:
            penalties = penalties if len(penalties) == 1 else [penalties[len(penalties) // 2]]
            nlp = with_l2(nlps[0], penalties[0])
            start, stats["starts"] = search.best(nlp)
        else:
            nlp, start, stats["selection"], stats["starts"] = _selected(
                nlps, penalties, holdout, held_out, search
            )
    title = _title(progress, "fit")
    sol = solve(nlp, solver, start, throw=False, progress=title, checkpoint=checkpoint, every=every)
    if continuation and not sol.result.ok and isinstance(start, Guess):
        sol = _continued(sol, nlp, solver, start, progress)
    if refinements:
        title = _title(progress, "refine")
        sol = refine(sol, tol=tol, rounds=refinements, solver=solver, progress=title)
    else:
        sol = dataclasses.replace(sol, verification=verify(sol))
    sol = dataclasses.replace(sol, key=sol.key if key is None else key)
    sol.stats.update(stats, fit_seconds=time.perf_counter() - begin)
    if checkpoint is not None:
        sol.save(checkpoint)
    assert sol.verification is not None
    verdict = sol.verification.verdict
    if not verdict.ok:
        warnings.warn(f"The fit is not verified ({verdict.name}). {verdict.value}", stacklevel=2)
    return sol


class _Search:
    """How starts are made and compared."""

    def __init__(
        self,
        key: Any,
        starts: int,
        states: Any,
        weights: str,
        solver: AbstractSolver,
        progress: bool,
    ):
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

    def coarse(self, nlp: NLP) -> NLP:
        """The NLP on which starts are tried: a coarser one, unless states are given at nodes."""
        if isinstance(self.states, str) or callable(self.states):
            return _coarsened(nlp)
        return nlp

    def _tries(self, nlp: NLP, solver: AbstractSolver) -> Iterator[Solution]:
        """The solutions from all starts, found as they are asked for."""
        together = at_a_time(solver, self.starts)
        for first in range(0, self.starts, together):
            numbers = range(first, min(first + together, self.starts))
            if together > 1:
                guesses = [self.guess(nlp, number) for number in numbers]
                yield from solve_batch(nlp, solver, guesses, throw=False)
            else:
                title = _title(self.progress, f"start {first + 1} of {self.starts}")
                yield solve(nlp, solver, self.guess(nlp, first), throw=False, progress=title)

    def best(self, nlp: NLP) -> tuple[Guess | Solution, list[dict[str, Any]]]:
        """The best of the starts, as a start for `nlp`, and how each ended."""
        if self.starts == 1:
            return self.guess(nlp, 0), []
        coarse = self.coarse(nlp)
        trial = self.solver.loosened(_TRIAL_TOL, _TRIAL_STEPS)
        log: list[dict[str, Any]] = []
        best, best_rank = None, (True, np.inf)
        for sol in self._tries(coarse, trial):
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
            if _settled(log):
                break
        assert best is not None
        return (best if coarse is nlp else transfer(best, nlp)), log


def _settled(log: list[dict[str, Any]]) -> bool:
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


def _selected(
    nlps: list[NLP], penalties: list[Any], holdout: Holdout, share: float, search: _Search
) -> tuple[NLP, Guess, list[dict[str, Any]], list[dict[str, Any]]]:
    """The NLP of the model and penalty that predict held-out data best, with a start."""
    rows: list[dict[str, Any]] = []
    # Weak penalties hardly move the solution within a loose tolerance.
    trial = search.solver.loosened(0.0, _TRIAL_STEPS)
    chosen: tuple[NLP, Holdout, Any, Solution, Score, list[dict[str, Any]]] | None = None
    best = np.inf
    for number, nlp in enumerate(nlps):
        if number:
            other = hold_out(search.coarse(nlp), share)
            assert other is not None
            holdout = other
        start: Any = None
        log: list[dict[str, Any]] = []
        for penalty in penalties:
            train = with_l2(holdout.train, penalty)
            if start is None:
                start, log = search.best(train)
            title = _title(search.progress, f"l2 {_text(penalty)}")
            sol = solve(train, trial, start, throw=False, progress=title)
            score = holdout.score(sol, search.solver)
            rows.append(
                {
                    "model": number,
                    "l2": penalty,
                    "held_out_error": score.error,
                    "objective": sol.objective,
                    "result": sol.result.name,
                    "num_steps": sol.stats["num_steps"],
                }
            )
            if sol.result.ok:
                start = sol.z
            if chosen is None or score.error < _BETTER * best:
                chosen, best = (nlp, holdout, penalty, sol, score, log), score.error
    assert chosen is not None
    nlp, holdout, penalty, sol, score, log = chosen
    first = guess(nlp, states=search.states, weights="as_given")
    start = holdout.whole_start(nlp, sol, score, first)
    return with_l2(nlp, penalty), start, rows, log


def _continued(
    sol: Solution, nlp: NLP, solver: AbstractSolver, start: Guess, progress: bool
) -> Solution:
    """Another try through growing windows; the better of both."""
    title = _title(progress, "windows")
    other = solve_growing(nlp, solver, start, throw=False, progress=title)
    better = (not other.result.ok, other.objective) < (not sol.result.ok, sol.objective)
    return other if better else sol


def _penalties(l2: Any, trajectories: tuple[Trajectory, ...]) -> list[Any]:
    if isinstance(l2, (list, tuple)) or (isinstance(l2, np.ndarray) and l2.ndim == 1):
        values = sorted((positive("l2", item) for item in l2), reverse=True)
        if not values:
            raise ValueError("`l2` must be a number or a list of at least one; got none.")
        return list(values)
    if l2 is not None:
        return [l2]
    total = sum(
        float(np.nansum(item.weights * (item.ys - np.nanmean(item.ys, axis=0)) ** 2))
        if item.measured.any() else 0.0
        for item in trajectories
    )  # fmt: skip
    variance = total / sum(len(item.ts) for item in trajectories)
    return [factor * (variance if variance > 0 else 1.0) for factor in _LADDER]


def _resumed(
    checkpoint: Any,
    models: list[Any],
    trajectories: tuple[Trajectory, ...],
    l2: Any,
    options: dict[str, Any],
) -> tuple[NLP, Solution]:
    """What a checkpoint holds, and its NLP for these data."""
    problems = []
    for model in models:
        try:
            sol = load(checkpoint, like=model)
        except ValueError as error:
            problems.append(str(error))
            continue
        grids = [path.grid for path in sol.paths]
        if sol.problem is None:
            # Functions belong to the problem: it is made anew from the caller's.
            chosen = stored_setting(checkpoint, "l2", l2)
            nlp = transcribe(model, trajectories, grids, l2=chosen, **options)
            sol = load(checkpoint, like=nlp)
        _check_data(sol, trajectories, checkpoint)
        return sol.nlp, sol
    raise ValueError(
        f"`checkpoint` holds a fit of another model ({problems[0]}); remove {checkpoint} or "
        "give another file."
    )


def _check_data(sol: Solution, trajectories: tuple[Trajectory, ...], checkpoint: Any) -> None:
    stored = sol.nlp.trajectories
    same = len(stored) == len(trajectories) and all(
        np.array_equal(a.ts, b.ts) and np.array_equal(a.ys, b.ys, equal_nan=True)
        for a, b in zip(stored, trajectories, strict=True)
    )
    if not same:
        raise ValueError(
            f"`checkpoint` holds a fit of other data; remove {checkpoint} or give another file."
        )


def _title(progress: bool, text: str) -> bool | str:
    return text if progress else False


def _text(penalty: Any) -> str:
    return f"{penalty:.2g}" if isinstance(penalty, float) else describe(penalty)
