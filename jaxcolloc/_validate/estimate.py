"""Initial states of unseen series, for a model as it is."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from .._args import Unknowns
from .._choose_grid import choose_grid
from .._comparison import observed, path_residuals
from .._constraints import Tie, as_constraints
from .._data import Trajectory, changed
from .._grid import Grid, divided
from .._guess.guess import matched_start
from .._jumps import Jump
from .._names import which
from .._nlp import NLP
from .._rollout import rollout_at_nodes
from .._scheme import AbstractScheme, Radau
from .._smooth import channel_spread
from .._solution import Solution
from .._solve import solve
from .._solver import AbstractSolver
from .._transcribe import transcribe_again
from .._verification import rms


# A scheme of more nodes is for one interval, not for many.
_MOST_NODES = 10
# A grid has at most so many intervals more than its samples ask for.
_FINER = 20
# A rollout this many times as large as its start has left for infinity.
_FAR = 1e8
# Where so many of the fitted series begin is tried as a beginning of others.
_BEGINS = 4
# A path that misses its samples so many times as far as those of the fit does not follow them; this
# share of a channel's spread no one looks at.
_MISSES, _LEAST = 5.0, 0.05


class Estimate(NamedTuple):
    """Where each series begins: its initial state, its `args` and jumps, and how that was found.

    `sol` is the solution for states (and unknowns); None where all is known. `notes` say what went
    wrong.
    """

    states: list[Float[np.ndarray, " state"]]
    args: list[Any]
    jumps: list[tuple[Jump, ...]]
    begins: list[float]
    sol: Solution | None
    notes: list[str]


def problem_of(sol: Solution, data: Sequence[Trajectory], grids: Sequence[Grid] | None) -> NLP:
    """The problem of `sol` for other data: what was stated for single trajectories is left out."""
    nlp = sol.nlp
    if grids is None:
        grids = [grid_for(nlp, item) for item in data]
    kept = [
        item
        for item in as_constraints(nlp.settings.constraints, len(nlp.grids))
        if not isinstance(item, Tie) and item.trajectories is None
    ]
    return transcribe_again(
        nlp, grids, data=data, constraints=kept, priors=(), **nlp.parts.scale.options
    )


def weighted_alike(nlp: NLP, data: Sequence[Trajectory]) -> list[Trajectory]:
    """The data with the weights of the channels that those of the fit had, if these are constant.

    Only where none of them has weights of its own.
    """
    rows = np.concatenate([item.weights[item.measured.all(axis=1)] for item in nlp.trajectories])
    if any(item.weighted for item in data) or not len(rows) or np.ptp(rows, axis=0).any():
        return list(data)
    if np.all(rows[0] == 1):
        return list(data)
    return [changed(item, weights=rows[0]) for item in data]


def grid_for(nlp: NLP, item: Trajectory) -> Grid:
    """A grid for an unseen series, as fine as those of the fit or as its samples and inputs ask."""
    scheme: AbstractScheme = nlp.grids[0].scheme
    if scheme.num_nodes > _MOST_NODES:
        scheme = Radau(3)
    grid = choose_grid(item, scheme)
    spans = [np.ptp(part.boundaries) / (part.num_nodes - 1) for part in nlp.grids]
    width = float(np.median(spans)) * (scheme.num_nodes - 1)
    parts = np.ceil(np.diff(grid.boundaries) / width - 1e-9)
    parts = np.clip(parts, 1, _FINER).astype(int)
    return Grid(divided(grid.boundaries, parts), scheme)


def estimated(
    sol: Solution,
    data: Sequence[Trajectory],
    grids: Sequence[Grid] | None,
    solver: AbstractSolver,
) -> Estimate:
    """The initial states and unknowns that fit these series best, the weights being held."""
    if all(_is_known(item) for item in data):
        begins = [
            item.begin if grids is None else float(grids[k].boundaries[0])
            for k, item in enumerate(data)
        ]
        states = [np.asarray(item.y0) for item in data if item.y0 is not None]
        jumps = [item.jumps for item in data]
        return Estimate(states, [item.args for item in data], jumps, begins, None, [])
    _check_spans(data, grids)
    nlp = problem_of(sol, data, grids)
    weights = sol.weights
    starts = [Unknowns.of(item.constants).start for item in nlp.trajectories]
    z = matched_start(nlp, np.concatenate([weights, *starts]), "smooth", 3.0, 0)
    z[: len(weights)] = weights
    held = nlp.with_weights_held(weights)
    found = solve(held, solver, z, throw=False)
    rolled = _rolled_out(sol, nlp, z)
    if rolled is not None:
        # Sparse samples make poor states to begin with, and a poor optimum of them.
        other = solve(held, solver, rolled, throw=False)
        better = other.objective < found.objective or not found.result.ok
        found = other if other.result.ok and better else found
    notes = []
    if _misses(sol, found):
        notes.append(
            "The path that was found for the initial states does not follow the data: the model "
            "does not hold there, or a better start was not found. Pass `y0`, or other `samples`."
        )
    if not found.result.ok:
        notes.append(
            f"The search for initial states ended with {found.result.name}: {found.result.value}"
        )
    return Estimate(
        [path.states[0] for path in found.paths],
        list(found.args),
        list(found.jumps),
        [float(grid.boundaries[0]) for grid in nlp.grids],
        found,
        notes,
    )


def _misses(sol: Solution, found: Solution) -> bool:
    """Whether paths of unseen series leave these by far more than those of the fit leave theirs."""
    spread = channel_spread(sol.nlp.trajectories)
    before, now = (
        np.array([rms(np.concatenate(parts)) for parts in zip(*_path_misses(item), strict=True)])
        for item in (sol, found)
    )
    return bool(np.any(now > _MISSES * np.maximum(before, _LEAST * spread)))


def _path_misses(sol: Solution) -> list[tuple[np.ndarray, ...]]:
    """What each path misses of its samples, by channel; zero where a channel has none."""
    return [
        tuple(np.append(part, 0.0) if not len(part) else part for part in item.misses)
        for item in path_residuals(sol)
    ]


def _rolled_out(sol: Solution, nlp: NLP, z: np.ndarray) -> np.ndarray | None:
    """A start whose states are rollouts, from where these miss the samples least.

    They begin at the first states of `z`, at the same within the range of the states that were
    fitted, or where those began. None where all rollouts fail.
    """
    states, any_whole = [], False
    model, own, args, jumps = sol.model, nlp.states_at(z), nlp.args(z), nlp.jumps(z)
    fitted = np.concatenate([path.states for path in sol.paths])
    begins = [path.states[0] for path in sol.paths[:_BEGINS]]
    for k, guessed in enumerate(own):
        inside = np.clip(guessed[0], fitted.min(axis=0), fitted.max(axis=0))
        tried = (guessed[0], inside, *begins)
        rolled = [_rollout(nlp, k, model, start, args[k], jumps[k]) for start in tried]
        best = min(rolled, key=lambda pair: pair[1])
        any_whole |= np.isfinite(best[1])
        states.append(best[0] if np.isfinite(best[1]) else guessed)
    return nlp.inside(nlp.pack_head(nlp.head(z), states)) if any_whole else None


def _rollout(
    nlp: NLP, k: int, model: Any, start: np.ndarray, args: Any, jumps: Sequence[Jump]
) -> tuple[np.ndarray, float]:
    """The rollout of one series at the nodes, and what it misses of the samples."""
    item, grid = nlp.trajectories[k], nlp.grids[k]
    if item.y0 is not None:
        start = np.where(np.isnan(item.y0), start, item.y0)
    states = rollout_at_nodes(model, grid, start, args, jumps, far_from(nlp, start))
    if not np.all(np.isfinite(states)):
        return states, np.inf
    seen = observed(nlp, model, args, item.ts, grid.interpolate(states, item.ts))
    missed = np.where(item.measured, item.weights * (seen - item.ys) ** 2, 0.0)
    return states, float(np.nan_to_num(missed.sum(), nan=np.inf))


def far_from(nlp: NLP, start: Float[np.ndarray, " state"]) -> Float[np.ndarray, " state"]:
    """States so large that a rollout from this start has left for infinity."""
    return np.asarray(_FAR * (np.abs(start) + nlp.parts.scale.state))


def _is_known(item: Trajectory) -> bool:
    """Whether nothing of a series is to be found."""
    known = item.y0 is not None and not np.isnan(item.y0).any()
    return known and not len(Unknowns.of(item.constants).start)


def _check_spans(data: Sequence[Trajectory], grids: Sequence[Grid] | None) -> None:
    for k, item in enumerate(data):
        if grids is None and item.begin == item.ts[-1]:
            raise ValueError(
                "`samples` must span some time in every series whose initial state is to be "
                f"found; there is one time in {which(item, k)}. Take more, or pass `y0`."
            )
