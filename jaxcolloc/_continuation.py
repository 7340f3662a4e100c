"""solve_growing: continuation in time, from a short window of the data to all of them."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ._check import describe, integer
from ._constraints import AnyConstraint, StateBounds, Tie, as_constraints
from ._data import Trajectory, changed, measured_channels
from ._default_solver import default_solver
from ._grid import Grid, doubled, moved
from ._guess import Guess
from ._jumps import Jump, changes
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
    """The NLP of the first part of every trajectory; None if a channel is not measured there.

    Nor is there any where the amounts of later jumps are unknown.
    """
    grids = [_first_part(grid, share) for grid in nlp.grids]
    pairs = list(zip(nlp.trajectories, grids, strict=True))
    data = [_until(item, grid) for item, grid in pairs]
    later = [jump for item, grid in pairs for jump in item.jumps[len(grid.jump_times) :]]
    if not measured_channels(data).all() or any(jump.has_unknown for jump in later):
        return None
    constraints = as_constraints(nlp.settings.constraints, len(data))
    kept = tuple(item for item in constraints if _holds_early(item))
    return transcribe_again(nlp, grids, data=data, constraints=kept)


def _first_part(grid: Grid, share: float) -> Grid:
    smooth = np.flatnonzero(~grid.is_jump)
    if len(smooth) > 1:
        # A jump at the end of a window belongs to the next.
        count = max(1, round(share * len(smooth)))
        return Grid(grid.boundaries[: smooth[count - 1] + 2], grid.scheme)
    first, last = grid.boundaries[[0, -1]]
    kind: Callable[[int], AbstractScheme] = type(grid.scheme)
    scheme = kind(max(min(4, grid.scheme.size), round(share * grid.scheme.size)))
    end = first + share * (last - first)
    jumps = grid.jump_times[grid.jump_times < end]
    return Grid(doubled(np.array([first, end]), jumps), scheme)


def _until(item: Trajectory, grid: Grid) -> Trajectory:
    """Samples and jumps on the grid; a sample that is not measured where there would be none."""
    end = grid.boundaries[-1]
    keep = item.ts <= end + 1e-12 * abs(end)
    ts, ys, weights = (
        (item.ts[keep], item.ys[keep], item.weights[keep])
        if keep.any()
        else (np.array([end]), np.full_like(item.ys[:1], np.nan), item.weights[:1])
    )
    jumps = item.jumps[: len(grid.jump_times)]
    return changed(item, ts=ts, ys=ys, weights=weights, jumps=jumps)


def _holds_early(item: AnyConstraint) -> bool:
    return not isinstance(item, Tie) and (isinstance(item, StateBounds) or item.at != "end")


def extended(part: NLP, nlp: NLP, guess: Guess, before: Solution | None) -> Guess:
    """The start of a window: what the one before has found, and a continuation of it."""
    states = []
    guessed = guess.states
    head = nlp.head(guess.z) if before is None else before.nlp.head(before.z)
    jumps = part.jumps_of(head)
    for k, grid in enumerate(part.grids):
        placed = moved(nlp.grids[k], guessed[k], grid)
        if before is not None:
            path = before.paths[k]
            known = grid.sides <= path.grid.boundaries[-1]
            placed[known] = path.grid.interpolate(path.states, grid.times[known])
            placed = grid.with_jumps(placed, path.grid.after_jumps(path.states))
            placed = _rolled_on(placed, known, before, k, grid, jumps[k])
        states.append(placed)
    return Guess.at(part, part.pack_head(head, states), guess.key)


def _rolled_on(
    states: np.ndarray,
    known: np.ndarray,
    before: Solution,
    k: int,
    grid: Grid,
    jumps: Sequence[Jump],
) -> np.ndarray:
    """States with a rollout in the place of those behind the known ones, while it is sane."""
    last = int(np.flatnonzero(known)[-1])
    times, model, args = grid.times, before.model, before.args[k]
    own = changes(jumps, model, args, grid.jump_times.tolist())
    found = rollout(model, times[last:], states[last], args, jumps=own)
    after = grid.after_jumps(states)
    after[len(after) - len(found.after) :] = found.after
    ahead = grid.with_jumps(np.concatenate([states[:last], found.states]), after)[last + 1 :]
    states = states.copy()
    guessed = states[last + 1 :]
    center, spread = states.mean(axis=0), states.std(axis=0)
    with np.errstate(invalid="ignore"):
        sane = np.all(np.abs(ahead - center) <= _FAR * np.maximum(spread, 1e-300), axis=1)
    count = len(sane) if sane.all() else int(np.argmin(sane))
    guessed[:count] = ahead[:count]
    return states
