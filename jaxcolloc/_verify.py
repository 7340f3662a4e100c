"""verify: a fit judged by rollouts, between its nodes and by how errors grow."""

import warnings
from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ._args import as_arrays
from ._callables import OfModel
from ._grid import Grid
from ._nlp import NLP
from ._precision import to_float64, x64
from ._simulate import simulate
from ._solution import Solution
from ._verification import VERDICT, Verification, rms


_RTOL, _ATOL = 1e-7, 1e-9
_MAX_STEPS = 20_000
_INTERVAL_STEPS = 2_000
# Intervals that are integrated together, always so many: one compilation serves all grids.
_BATCH = 64
# A perturbation that grows by this much makes a rollout meaningless whatever the grid.
_UNSTABLE = 1e3
# A rollout follows if its error on the data is at most this many times the path's, or if it stays
# this close to the path, as a share of the states' spread.
_LOSS = 1.5
_CLOSE = 1e-4
# Errors of the intervals, in the same unit, that a grid should not have.
_COARSE = 0.01
# A weight this close to its bound, relative to its size, lies at it.
_AT_BOUND = 1e-4


def verify(sol: Solution) -> Verification:
    r"""Judge a fit by what its model does, not by its collocation states.

    Every trajectory is integrated from its fitted start (by Tsit5, by Kvaerno5 where that fails)
    and compared with the path and with the data. Every interval is integrated for itself from the
    path, together with its sensitivity $\Phi_e = \partial y(t_{e+1}) / \partial y(t_e)$, which
    tells a grid that is too coarse (the intervals' own errors are large) from dynamics that no
    grid would follow (the products of $\Phi_e$ are).

    The verdict is good only if in every trajectory the rollout's error on the data is at most 1.5
    times the path's (or its distance from the path is at most 1e-4 of the states' spread).
    """
    spread = _state_spread(sol)
    rows = [_trajectory(sol, k, spread) for k in range(len(sol.paths))]
    return Verification(
        verdict=_verdict(sol, rows),
        rollouts=tuple(row.rollout for row in rows),
        path_rmse=np.array([row.path_rmse for row in rows]),
        rollout_rmse=np.array([row.rollout_rmse for row in rows]),
        distance=np.array([row.distance for row in rows]),
        interval_errors=tuple(row.interval_errors for row in rows),
        residuals=tuple(row.residuals for row in rows),
        growth=np.array([row.growth for row in rows]),
    )


def follows(sol: Solution) -> bool:
    """Whether the rollouts follow the data as a good verdict demands, and nothing else."""
    for k, path in enumerate(sol.paths):
        data, args = sol.nlp.trajectories[k], sol.args[k]
        times = np.unique(np.append(path.grid.boundaries[0], data.ts))
        rolled = rollout(sol.model, times, path.states[0], args)
        at_data = rolled[np.searchsorted(times, data.ts)]
        fitted = path.grid.interpolate(path.states, data.ts)
        error, least = (_data_rmse(sol, k, states) for states in (at_data, fitted))
        if not error <= _LOSS * least and rms(at_data - fitted) > _CLOSE * rms(fitted):
            return False
    return True


def warn_unless_verified(sol: Solution) -> None:
    """Warn the caller of the function that calls this where the verdict of `sol` is not good."""
    assert sol.verification is not None
    verdict = sol.verification.verdict
    if not verdict.ok:
        warnings.warn(f"The fit is not verified ({verdict.name}). {verdict.value}", stacklevel=3)


class _Row(NamedTuple):
    """What is measured of one trajectory; the names are those of `Verification`."""

    rollout: np.ndarray
    path_rmse: float
    rollout_rmse: float
    distance: float
    interval_errors: np.ndarray
    residuals: np.ndarray
    growth: float


def _trajectory(sol: Solution, k: int, spread: np.ndarray) -> _Row:
    """Integrate one trajectory, and its intervals, and compare."""
    path, data = sol.paths[k], sol.nlp.trajectories[k]
    grid, args = path.grid, sol.args[k]
    times = np.unique(np.concatenate([grid.times, np.clip(data.ts, *grid.boundaries[[0, -1]])]))
    everywhere = rollout(sol.model, times, path.states[0], args)
    rolled = everywhere[np.searchsorted(times, grid.times)]
    at_data = everywhere[np.searchsorted(times, np.clip(data.ts, times[0], times[-1]))]
    fitted = grid.interpolate(path.states, data.ts)
    distance = rms((rolled - path.states) / spread)
    begin = path.states[grid.interval_ends - grid.interval_ends[0]]
    end = path.states[grid.interval_ends]
    with x64():
        inputs = to_float64((sol.model, as_arrays(args)))
        ends, sensitivity = _each_interval(*inputs, grid.boundaries, begin, spread)
        residuals = _residuals(*inputs, grid, path.states) / spread
    # Where an interval's integration fails its error is infinite.
    gap = np.linalg.norm((ends - end) / spread, axis=1)
    gap = np.where(np.isfinite(gap), gap, np.inf)
    residual = np.max(np.abs(residuals), axis=(1, 2)) * grid.widths
    return _Row(
        rollout=rolled,
        path_rmse=_data_rmse(sol, k, fitted),
        rollout_rmse=_data_rmse(sol, k, at_data),
        distance=distance,
        interval_errors=gap,
        residuals=residual,
        growth=_growth(sensitivity),
    )


def _verdict(sol: Solution, rows: list[_Row]) -> VERDICT:
    followed = [
        np.all(np.isfinite(row.rollout))
        and (row.rollout_rmse <= _LOSS * row.path_rmse or row.distance <= _CLOSE)
        for row in rows
    ]
    if all(followed):
        return VERDICT.at_bounds if _at_bounds(sol.nlp, sol.z) else VERDICT.good
    if not sol.result.ok:
        return VERDICT.not_converged
    causes = [_cause(row) for row, good in zip(rows, followed, strict=True) if not good]
    # A coarse grid first: once it is mended the other causes may be gone.
    order = (VERDICT.too_coarse, VERDICT.blows_up, VERDICT.unstable)
    return min(causes, key=order.index)


def _cause(row: _Row) -> VERDICT:
    """Why one trajectory's rollout leaves its path."""
    # What the intervals' errors come to if nothing amplifies them.
    own = np.sqrt(np.sum(row.interval_errors**2))
    if not np.all(np.isfinite(row.rollout)):
        return VERDICT.too_coarse if own > _COARSE else VERDICT.blows_up
    amplified = row.growth > _UNSTABLE and own < 0.1 * row.distance
    return VERDICT.unstable if amplified else VERDICT.too_coarse


def _state_spread(sol: Solution) -> Float[np.ndarray, " state"]:
    states = np.concatenate([path.states for path in sol.paths])
    spread = states.std(axis=0)
    return np.where(spread > 0, spread, np.maximum(np.abs(states).max(axis=0), 1e-300))


def rollout(model: Any, times: np.ndarray, start: np.ndarray, args: Any) -> np.ndarray:
    """States at `times`, integrated from `start`; by a stiff solver where that fails.

    Not finite behind a failure.
    """
    options: dict[str, Any] = {
        "rtol": _RTOL,
        "atol": _ATOL,
        "max_steps": _MAX_STEPS,
        "throw": False,
    }
    padded = np.pad(times, (0, _padding(len(times))), mode="edge")
    with x64():
        ys = np.asarray(simulate(model, padded, start, args, **options))
        if not np.all(np.isfinite(ys)):
            stiff = diffrax.Kvaerno5()
            again = np.asarray(simulate(model, padded, start, args, solver=stiff, **options))
            if np.isfinite(again).sum() > np.isfinite(ys).sum():
                ys = again
    return ys[: len(times)]


def _padding(length: int) -> int:
    """What is missing to a power of two: lengths that agree share a compilation."""
    return int(2 ** np.ceil(np.log2(length))) - length


def _data_rmse(sol: Solution, k: int, states: np.ndarray) -> float:
    """The weighted residuals of one trajectory if `states` are those at its data."""
    data = sol.nlp.trajectories[k]
    seen = observed(sol.nlp, sol.model, sol.args[k], data.ts, states)
    there = data.measured
    residual = (np.sqrt(data.weights) * (seen - data.ys))[there]
    return rms(residual) if there.any() else 0.0


def observed(nlp: NLP, model: Any, args: Any, ts: np.ndarray, states: np.ndarray) -> np.ndarray:
    """What would be measured of `states` at `ts`."""
    if nlp.observe is None:
        return states[:, : nlp.trajectories[0].num_channels]
    with x64():
        inputs = to_float64((model, as_arrays(args), jnp.asarray(ts), jnp.asarray(states)))
        return np.asarray(_observed(nlp.observe, *inputs))


@eqx.filter_jit
def _observed(observe: OfModel, model: Any, args: Any, ts: Array, states: Array) -> Array:
    return jax.vmap(lambda t, y: observe(t, y, args, model))(ts, states)


def _each_interval(
    model: Any, args: Any, boundaries: np.ndarray, begin: np.ndarray, spread: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The model's solution at the end of every interval and its sensitivity, in spreads.

    By a stiff solver in those intervals where the explicit one fails.
    """

    def run(solver: diffrax.AbstractSolver[Any], which: np.ndarray) -> tuple[np.ndarray, ...]:
        batches = []
        for first in range(0, len(which), _BATCH):
            part = which[first : first + _BATCH]
            index = np.pad(part, (0, _BATCH - len(part)), mode="edge")
            edges = jnp.asarray(boundaries[index]), jnp.asarray(boundaries[index + 1])
            found = _intervals(
                model, args, solver, *edges, jnp.asarray(begin[index]), jnp.asarray(spread)
            )
            batches.append([np.asarray(item)[: len(part)] for item in found])
        return tuple(np.concatenate(parts) for parts in zip(*batches, strict=True))

    ends, sensitivity = run(diffrax.Tsit5(), np.arange(len(begin)))
    failed = np.flatnonzero(~np.all(np.isfinite(ends), axis=1))
    if len(failed):
        ends[failed], sensitivity[failed] = run(diffrax.Kvaerno5(), failed)
    return ends, sensitivity


@eqx.filter_jit
def _intervals(
    model: Any,
    args: Any,
    solver: diffrax.AbstractSolver[Any],
    first: Array,
    last: Array,
    begin: Array,
    spread: Array,
) -> tuple[Array, Array]:
    def field(t: Any, carry: tuple[Array, Array], args: Any) -> tuple[Array, Array]:
        y, sensitivity = carry
        slope, along = jax.linearize(lambda y: model(t, y, args), y)
        return slope, jax.vmap(along, in_axes=1, out_axes=1)(sensitivity)

    def interval(t0: Array, t1: Array, y0: Array) -> tuple[Array, Array]:
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(field),
            solver,
            t0,
            t1,
            None,
            (y0, jnp.eye(len(y0))),
            args,
            stepsize_controller=diffrax.PIDController(rtol=_RTOL, atol=_ATOL),
            max_steps=_INTERVAL_STEPS,
            throw=False,
        )
        assert solution.ys is not None
        y, sensitivity = solution.ys
        return y[0], sensitivity[0] * spread / spread[:, None]

    return jax.vmap(interval)(first, last, begin)


def _residuals(model: Any, args: Any, grid: Grid, states: np.ndarray) -> np.ndarray:
    """The polynomial's slope minus the field, halfway between neighbouring nodes."""
    nodes = np.append(grid.scheme.nodes, [] if grid.scheme.includes_end else 1.0)
    middle = (nodes[1:] + nodes[:-1]) / 2
    times = grid.boundaries[:-1, None] + grid.widths[:, None] * middle
    y, slope = (
        part(states, times.ravel()).reshape(*times.shape, -1)
        for part in (grid.interpolate, grid.slope)
    )
    return slope - np.asarray(_field(model, args, jnp.asarray(times), jnp.asarray(y)))


@eqx.filter_jit
def _field(model: Any, args: Any, times: Array, states: Array) -> Array:
    return jax.vmap(jax.vmap(lambda t, y: model(t, y, args)))(times, states)


def _growth(sensitivity: Float[np.ndarray, "interval state state"]) -> float:
    """The largest norm among the products of the sensitivities from the start on."""
    largest, product = 1.0, np.eye(sensitivity.shape[1])
    for item in sensitivity:
        product = item @ product
        size = np.linalg.norm(product, 2) if np.all(np.isfinite(product)) else np.inf
        largest = max(largest, float(size))
        if not np.isfinite(size) or size > 1e12:
            return max(largest, float(size))
    return largest


def _at_bounds(nlp: NLP, z: np.ndarray) -> bool:
    lower, upper = (nlp.layout.weights(side) for side in nlp.bounds)
    w = nlp.layout.weights(z)
    slack = _AT_BOUND * np.maximum(1.0, np.abs(w))
    near = (w - lower <= slack) | (upper - w <= slack)
    return bool(np.any(near & (lower < upper)))
