"""refine: intervals split, joined or of higher order until the rollout follows the path."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from ._check import choice, flag, integer, positive
from ._choose_grid import input_edges
from ._default_solver import default_solver
from ._grid import Grid
from ._scheme import AbstractScheme
from ._solution import Solution, check_solution
from ._solve import solve
from ._solver import AbstractSolver, check_solver
from ._trace import RESULTS
from ._transcribe import transcribe_again
from ._transfer import transfer
from ._verification import VERDICT, Verification
from ._verify import verify


Errors = Float[np.ndarray, " interval"]

# An interval is split into at most so many at once: estimates on coarse grids are rough.
_MOST_PARTS = 4
# The order that is counted on, however high the scheme's.
_ORDER = 4
# Neighbours are joined if their common error would stay this far below the target.
_SAFE = 0.05
# Raising the order beats splitting if this share of the intervals would be split.
_EVERYWHERE = 0.7
_HIGHEST = 6
_WAYS = ("auto", "h", "p")
# Why a rollout may leave its path.
_DEPARTURES = (VERDICT.too_coarse, VERDICT.blows_up, VERDICT.out_of_steps, VERDICT.unstable)


def refine(
    sol: Solution,
    *,
    tol: float = 1e-2,
    rounds: int = 6,
    how: str = "auto",
    merge: bool = True,
    most_nodes: int = 20_000,
    solver: AbstractSolver | None = None,
    progress: bool | str = False,
) -> Solution:
    r"""Change the grid until the rollout of the model follows the fitted path.

    Each round verifies, gives every interval as many parts as its error $e$ asks for,
    $\lceil (e / e_{tol})^{1/4} \rceil$, moves states and multipliers to the new grid and solves
    warm from there. Needless boundaries are dropped, those at jumps of inputs are kept. The target
    $e_{tol}$ is such that independent errors would add up to half of `tol`, and is lowered where
    the dynamics amplify them.

    **Arguments:**

    - `sol`: from `jc.solve` or `jc.fit`.
    - `tol`: the distance of rollout and path to be reached, root mean square over a trajectory, as
      a share of each state's spread.
    - `rounds`: the largest number of solves.
    - `how`: "h" splits intervals, "p" raises the number of nodes in all of them, "auto" takes "p"
      for one interval or where most would be split.
    - `merge`: join intervals that are needlessly fine.
    - `most_nodes`: a grid with more nodes in all is not tried.
    - `solver`: the solution's own if not given; where it has none, that of `jc.fit`.

    Returns the last solution, with its verification; `stats["refinement"]` lists the rounds, and
    `stats["refinement_end"]` says why it ended. A warm solve that fails leaves the solution before
    it.

    **Errors:** `ValueError` for arguments out of range.
    """
    check_solution("sol", sol)
    tol, rounds = positive("tol", tol), integer("rounds", rounds, 0)
    choice("how", how, _WAYS)
    flag("merge", merge)
    most_nodes = integer("most_nodes", most_nodes, 1)
    if solver is None:
        solver = sol.solver or default_solver(sol.nlp)
    check_solver(solver)
    report = verify(sol) if sol.verification is None else sol.verification
    log = [_row(sol, report, 0.0)]
    for _ in range(rounds):
        end = _finished(report, tol)
        if end:
            break
        target = _target(report, tol)
        grids = _next_grids(sol, report, target, how, merge)
        if sum(grid.num_nodes for grid in grids) > most_nodes:
            end = f"the next grid would have more than most_nodes = {most_nodes} nodes"
            break
        if all(a.num_nodes == b.num_nodes for a, b in zip(grids, sol.nlp.grids, strict=True)):
            end = "no interval's error is left to be lowered"
            break
        begin = time.perf_counter()
        nlp = transcribe_again(sol.nlp, grids)
        finer = solve(nlp, solver, transfer(sol, nlp), throw=False, progress=progress)
        if not finer.result.ok:
            end = f"the solve on the finer grid ended with {finer.result.name}"
            if finer.result is RESULTS.interrupted:
                sol = dataclasses.replace(sol, result=RESULTS.interrupted)
            break
        sol, report = finer, verify(finer)
        log.append(_row(sol, report, time.perf_counter() - begin))
    else:
        end = _finished(report, tol) or f"rounds = {rounds} were done"
    return with_verification(sol, report, {"refinement": log, "refinement_end": end})


def with_verification(sol: Solution, report: Verification, stats: dict[str, Any]) -> Solution:
    """The solution with its verification and more entries in its `stats`."""
    return dataclasses.replace(sol, verification=report, stats=sol.stats | stats)


def _row(sol: Solution, report: Verification, seconds: float) -> dict[str, Any]:
    return {
        "intervals": sum(path.grid.num_intervals for path in sol.paths),
        "nodes": sum(path.grid.num_nodes for path in sol.paths),
        "num_steps": sol.stats["num_steps"],
        "objective": sol.objective,
        "distance": float(np.max(report.distance)),
        "interval_error": report.worst_interval,
        "verdict": report.verdict.name,
        "seconds": seconds,
    }


def _finished(report: Verification, tol: float) -> str:
    """Why no more rounds are needed, or empty."""
    if np.all(report.follows) and np.all(report.distance <= tol):
        return "the rollout follows the path"
    leaves = [item for item in report.causes if item in _DEPARTURES]
    if leaves == [VERDICT.unstable]:
        return "the dynamics amplify errors on any grid"
    return ""


def _target(report: Verification, tol: float) -> float:
    """The error that an interval may have."""
    count = max(len(item) for item in report.interval_errors)
    target = tol / (2 * np.sqrt(count))
    worst = report.worst_interval
    far = float(np.max(report.distance))
    if worst <= target and far > tol:
        # Each interval is fine for itself: what is amplified must be smaller from the start.
        target = worst * max(0.2 * tol / far, 1e-3)
    return float(target)


def _next_grids(
    sol: Solution, report: Verification, target: float, how: str, merge: bool
) -> list[Grid]:
    grids = [path.grid for path in sol.paths]
    parts = [
        np.where(grid.is_jump, 1, _parts(errors, target))
        for grid, errors in zip(grids, report.interval_errors, strict=True)
    ]
    scheme = grids[0].scheme
    if _raise_order(how, grids, parts):
        higher = _higher(scheme)
        return [Grid(grid.boundaries, higher) for grid in grids]
    if how == "p":
        return grids
    return [
        split(grid, errors, target, count, input_edges(item.args), merge)
        for grid, errors, count, item in zip(
            grids, report.interval_errors, parts, sol.nlp.trajectories, strict=True
        )
    ]


def _raise_order(how: str, grids: list[Grid], parts: list[np.ndarray]) -> bool:
    coarse = np.concatenate(parts) > 1
    if how != "auto":
        return how == "p" and bool(coarse.any())
    if all(grid.num_intervals == 1 for grid in grids):
        return bool(coarse.any())
    return bool(coarse.mean() > _EVERYWHERE and grids[0].scheme.num_nodes <= _HIGHEST)


def _higher(scheme: AbstractScheme) -> AbstractScheme:
    """The scheme with half as many nodes again, one more at least."""
    kind: Callable[[int], AbstractScheme] = type(scheme)
    return kind(3 * scheme.size // 2 if scheme.size > _HIGHEST else scheme.size + 1)


def _parts(errors: Errors, target: float) -> np.ndarray:
    """Into how many parts each interval is to be split."""
    ratio = np.minimum(errors / target, 1e12) ** (1 / _ORDER)
    return np.clip(np.ceil(ratio - 1e-9), 1, _MOST_PARTS).astype(int)


def split(
    grid: Grid,
    errors: Errors,
    target: float,
    parts: np.ndarray,
    jumps: Float[np.ndarray, " jump"],
    merge: bool,
) -> Grid:
    """The grid with each interval in its number of parts, and needless boundaries dropped."""
    kept = np.ones(len(grid.boundaries), bool)
    if merge:
        kept[1:-1] = ~_joined(grid, errors, target, parts, jumps)
    edges = [grid.boundaries[kept]]
    for first, width, count in zip(grid.boundaries[:-1], grid.widths, parts, strict=True):
        edges.append(first + width * np.arange(1, count) / count)
    return Grid(np.sort(np.concatenate(edges)), grid.scheme)


def _joined(
    grid: Grid, errors: Errors, target: float, parts: np.ndarray, jumps: np.ndarray
) -> Bool[np.ndarray, " inner"]:
    """Which inner boundaries can go: never two in a row."""
    widths = np.where(grid.is_jump, 1.0, grid.widths)
    ratio = (widths[1:] + widths[:-1]) / np.minimum(widths[1:], widths[:-1])
    expected = np.maximum(errors[1:], errors[:-1]) * ratio ** (_ORDER + 1)
    fine = (expected < _SAFE * target) & (parts[1:] == 1) & (parts[:-1] == 1)
    edge, inner = grid.boundaries[0], grid.boundaries[1:-1]
    # Up to rounding.
    gaps = np.abs(inner[:, None] - np.append(jumps, grid.jump_times))
    at_jump = np.min(gaps, axis=1, initial=np.inf) <= 1e-9 * (grid.boundaries[-1] - edge)
    result = np.zeros(len(inner), bool)
    for position in np.flatnonzero(fine & ~at_jump).tolist():
        result[position] = position == 0 or not result[position - 1]
    return result
