"""solve_growing: continuation in time, from a short window of the data to all of them."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from ._check import describe, integer
from ._constraints import AnyConstraint, StateBounds, Tie, as_constraints
from ._data import Trajectory, changed, measured_channels
from ._default_solver import default_solver
from ._grid import Grid
from ._guess import Guess
from ._nlp import NLP, check_nlp
from ._rollout import rollout
from ._scheme import AbstractScheme
from ._solution import Solution
from ._solve import solve
from ._solver import AbstractSolver, check_solver
from ._transcribe import transcribe_again


# A rollout into the next window is used while it stays within this many spreads of the data.
_FAR = 3.0


def solve_growing(
    nlp: NLP,
    solver: AbstractSolver | None,
    guess: Guess,
    *,
    windows: int = 4,
    throw: bool = True,
    progress: bool | str = False,
    **options: Any,
) -> Solution:
    """Solve windows of growing length, each from the solution of the one before.

    For long oscillatory data and poor guesses: a model of the wrong frequency fits the first
    half-cycle well enough to be corrected there, and nothing of ten cycles. Window j of n covers
    the first j / n of every trajectory, in whole intervals. The weights and states of one window
    start the next, whose new states come from a rollout of the model as long as this stays near
    the data, and from `guess` after that.

    **Arguments:**

    - `nlp`, `solver`, `guess`: as in `jc.solve`; the guess holds the states of all windows. Without
      a solver (None), that of `jc.fit`.
    - `windows`: their number.
    - `throw`, `progress`, and other `options` of `jc.solve`: for the last window, the whole NLP.
      A failure in the windows before is no error; the next one starts from what there is.

    Constraints at the end of a trajectory, or between trajectories, hold in the last window only.

    **Errors:** as `jc.solve`; `ValueError` for fewer than two windows.
    """
    check_nlp("nlp", nlp)
    solver = default_solver(nlp) if solver is None else solver
    check_solver(solver)
    windows = integer("windows", windows, 2)
    if not isinstance(guess, Guess):
        raise ValueError(f"`guess` must come from jc.guess; got {describe(guess)}.")
    begin = time.perf_counter()
    steps: list[int] = []
    before: Solution | None = None
    for window in range(1, windows):
        part = first_window(nlp, window / windows)
        if part is None:
            continue
        start = extended(part, nlp, guess, before)
        before = solve(part, solver, start, throw=False, progress=progress)
        steps.append(before.stats["num_steps"])
    last = extended(nlp, nlp, guess, before)
    spent = time.perf_counter() - begin
    sol = solve(nlp, solver, last, throw=throw, progress=progress, **options)
    sol.stats["window_steps"], sol.stats["window_seconds"] = steps, spent
    return sol


def first_window(nlp: NLP, share: float) -> NLP | None:
    """The NLP of the first part of every trajectory; None if a channel is not measured there."""
    grids = [_first_part(grid, share) for grid in nlp.grids]
    data = [
        _until(item, grid.boundaries[-1])
        for item, grid in zip(nlp.trajectories, grids, strict=True)
    ]
    if not measured_channels(data).all():
        return None
    constraints = as_constraints(nlp.settings.constraints, len(data))
    kept = tuple(item for item in constraints if _holds_early(item))
    return transcribe_again(nlp, grids, data=data, constraints=kept)


def _first_part(grid: Grid, share: float) -> Grid:
    if grid.num_intervals > 1:
        count = max(1, round(share * grid.num_intervals))
        return Grid(grid.boundaries[: count + 1], grid.scheme)
    first, last = grid.boundaries
    kind: Callable[[int], AbstractScheme] = type(grid.scheme)
    scheme = kind(max(min(4, grid.scheme.size), round(share * grid.scheme.size)))
    return Grid.single(first, first + share * (last - first), scheme)


def _until(item: Trajectory, end: float) -> Trajectory:
    """The samples up to `end`; one that is not measured where there would be none."""
    keep = item.ts <= end + 1e-12 * abs(end)
    ts, ys, weights = (
        (item.ts[keep], item.ys[keep], item.weights[keep])
        if keep.any()
        else (np.array([end]), np.full_like(item.ys[:1], np.nan), item.weights[:1])
    )
    return changed(item, ts=ts, ys=ys, weights=weights)


def _holds_early(item: AnyConstraint) -> bool:
    return not isinstance(item, Tie) and (isinstance(item, StateBounds) or item.at != "end")


def extended(part: NLP, nlp: NLP, guess: Guess, before: Solution | None) -> Guess:
    """The start of a window: what the one before has found, and a continuation of it."""
    states = []
    guessed = guess.states
    for k, grid in enumerate(part.grids):
        placed = nlp.grids[k].interpolate(guessed[k], grid.times)
        if before is not None:
            path = before.paths[k]
            known = grid.times <= path.grid.boundaries[-1]
            placed[known] = path.grid.interpolate(path.states, grid.times[known])
            _roll_on(placed, known, before, k, grid.times)
        states.append(placed)
    head = nlp.head(guess.z) if before is None else before.nlp.head(before.z)
    return Guess.at(part, part.pack_head(head, states), guess.key)


def _roll_on(
    states: np.ndarray, known: np.ndarray, before: Solution, k: int, times: np.ndarray
) -> None:
    """Put a rollout in the place of the guessed states behind the known ones, while it is sane."""
    last = int(np.flatnonzero(known)[-1])
    ahead = rollout(before.model, times[last:], states[last], before.args[k]).states[1:]
    guessed = states[last + 1 :]
    center, spread = states.mean(axis=0), states.std(axis=0)
    with np.errstate(invalid="ignore"):
        sane = np.all(np.abs(ahead - center) <= _FAR * np.maximum(spread, 1e-300), axis=1)
    count = len(sane) if sane.all() else int(np.argmin(sane))
    guessed[:count] = ahead[:count]
