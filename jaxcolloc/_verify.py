"""verify: a fit judged by rollouts, between its nodes and by how errors grow."""

import enum
from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ._args import as_arrays
from ._functions import OfModel
from ._grid import Grid
from ._nlp import NLP
from ._precision import to_float64, x64
from ._simulate import simulate
from ._solution import Solution


PerTrajectory = Float[np.ndarray, " traj"]

_RTOL, _ATOL = 1e-7, 1e-9
_MAX_STEPS = 20_000
_INTERVAL_STEPS = 2_000
# A perturbation that grows by this much makes a rollout meaningless whatever the grid.
_UNSTABLE = 1e3
# A rollout follows if its error on the data is at most this many times the path's, or if it stays
# this close to the path, as a share of the states' spread.
_LOSS = 1.5
_CLOSE = 1e-3
# Errors of the intervals, in the same unit, that a grid should not have.
_COARSE = 0.01
# A weight this close to its bound, relative to its size, lies at it.
_AT_BOUND = 1e-4


class VERDICT(enum.Enum):
    """What a verification found; the value says what it means and what to do."""

    good = "The rollout of the trained model follows the fitted path and the data."
    not_converged = (
        "The solve did not end in an optimum, and the rollout leaves the fitted path. Give it more "
        "steps, or start from another guess."
    )
    too_coarse = (
        "The grid is too coarse for the trained model: its solution leaves the collocation "
        "polynomials within intervals. Use more intervals or nodes where `interval_errors` are "
        "large, or raise `l2`."
    )
    unstable = (
        "The equation holds in every interval, but small errors grow along the trajectory until "
        "the rollout leaves the path, as they do for chaotic dynamics and would on any grid. "
        "Judge the model over shorter times."
    )
    blows_up = (
        "The rollout ends in infinity: where it leaves the data the model drives it away. Raise "
        "`l2`, bound the states' range in the model, or use a hybrid model."
    )
    at_bounds = (
        "The rollout follows the path, but weights lie at their bounds. Widen `weight_bounds`, "
        "or accept them as a regularisation."
    )

    @property
    def ok(self) -> bool:
        """Whether the rollout follows path and data."""
        return self in (VERDICT.good, VERDICT.at_bounds)

    def __repr__(self) -> str:
        return f"VERDICT.{self.name}"


class Verification(eqx.Module):
    r"""What `jc.verify` measured, one entry per trajectory.

    - `verdict`: a member of `jc.VERDICT`; `verdict.ok` tells whether the model can be trusted
      where it was fitted.
    - `rollouts`: states at the nodes from an integration by Diffrax, started in the path's first
      state; shape `(node, state)`, not finite behind a failure.
    - `path_rmse`, `rollout_rmse`: root mean square of the observations' residuals, each times the
      root of its weight, on the collocation path and on the rollout.
    - `distance`: root mean square of rollout minus path over the nodes, each state divided by its
      spread on the paths.
    - `interval_errors`: shape `(interval,)`; how far the model's exact solution, started on the
      path at the beginning of an interval, is from it at its end, in the same unit.
    - `residuals`: shape `(interval,)`; the largest $|\dot y - f|$ of the polynomial between its
      nodes, in the same unit times the interval's width.
    - `growth`: the factor by which a small perturbation grows along the trajectory at most.
    """

    verdict: VERDICT = eqx.field(static=True)
    rollouts: tuple[Float[np.ndarray, "_ state"], ...]
    path_rmse: PerTrajectory
    rollout_rmse: PerTrajectory
    distance: PerTrajectory
    interval_errors: tuple[Float[np.ndarray, " _"], ...]
    residuals: tuple[Float[np.ndarray, " _"], ...]
    growth: PerTrajectory

    def __str__(self) -> str:
        worst = int(np.argmax(np.where(np.isfinite(self.distance), self.distance, np.inf)))
        errors = np.concatenate(self.interval_errors)
        return "\n".join(
            [
                f"Verification: {self.verdict.name}. {self.verdict.value}",
                f"  data       RMSE {_rms(self.path_rmse):.4g} on the path, "
                f"{_rms(self.rollout_rmse):.4g} in the rollout",
                f"  distance   {self.distance[worst]:.3g} of a state's spread at most "
                f"(trajectory {worst})",
                f"  intervals  error {np.max(errors):.2g} at most, residual between nodes "
                f"{max(np.max(item) for item in self.residuals):.2g}",
                f"  growth     perturbations grow by {np.max(self.growth):.3g} at most",
            ]
        )

    def __repr__(self) -> str:
        return f"Verification({self.verdict!r})"


def verify(sol: Solution) -> Verification:
    r"""Judge a fit by what its model does, not by its collocation states.

    Every trajectory is integrated from its fitted start (by Tsit5, by Kvaerno5 where that fails)
    and compared with the path and with the data. Every interval is integrated for itself from the
    path, together with its sensitivity $\Phi_e = \partial y(t_{e+1}) / \partial y(t_e)$, which
    tells a grid that is too coarse (the intervals' own errors are large) from dynamics that no
    grid would follow (the products of $\Phi_e$ are).

    The verdict is good only if in every trajectory the rollout's error on the data is at most 1.5
    times the path's (or its distance from the path is at most 0.1% of the states' spread).
    """
    spread = _spread(sol)
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
    nlp, path, data = sol.nlp, sol.paths[k], sol.nlp.trajectories[k]
    grid, args = path.grid, sol.args[k]
    times = np.unique(np.concatenate([grid.times, np.clip(data.ts, *grid.boundaries[[0, -1]])]))
    everywhere = _rollout(sol.model, times, path.states[0], args)
    rollout = everywhere[np.searchsorted(times, grid.times)]
    at_data = everywhere[np.searchsorted(times, np.clip(data.ts, times[0], times[-1]))]
    fitted = grid.interpolate(path.states, data.ts)
    distance = _rms((rollout - path.states) / spread)
    begin = path.states[grid.interval_ends - grid.interval_ends[0]]
    end = path.states[grid.interval_ends]
    with x64():
        inputs = to_float64((sol.model, as_arrays(args)))
        ends, sensitivity = _intervals(
            *inputs, jnp.asarray(grid.boundaries), jnp.asarray(begin), jnp.asarray(spread)
        )
        residuals = _residuals(*inputs, grid, path.states) / spread
    # Where an interval's integration fails its error is infinite.
    gap = np.linalg.norm((np.asarray(ends) - end) / spread, axis=1)
    gap = np.where(np.isfinite(gap), gap, np.inf)
    residual = np.max(np.abs(residuals), axis=(1, 2)) * grid.widths
    return _Row(
        rollout=rollout,
        path_rmse=_data_rmse(nlp, k, sol.model, args, fitted),
        rollout_rmse=_data_rmse(nlp, k, sol.model, args, at_data),
        distance=distance,
        interval_errors=gap,
        residuals=residual,
        growth=_growth(np.asarray(sensitivity)),
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


def _spread(sol: Solution) -> Float[np.ndarray, " state"]:
    states = np.concatenate([path.states for path in sol.paths])
    spread = states.std(axis=0)
    return np.where(spread > 0, spread, np.maximum(np.abs(states).max(axis=0), 1e-300))


def _rollout(model: Any, times: np.ndarray, start: np.ndarray, args: Any) -> np.ndarray:
    """Integrated at once, or by a stiff solver where that fails."""
    options: dict[str, Any] = {
        "rtol": _RTOL,
        "atol": _ATOL,
        "max_steps": _MAX_STEPS,
        "throw": False,
    }
    with x64():
        ys = np.asarray(simulate(model, times, start, args, **options))
        if not np.all(np.isfinite(ys)):
            stiff = diffrax.Kvaerno5()
            again = np.asarray(simulate(model, times, start, args, solver=stiff, **options))
            if np.isfinite(again).sum() > np.isfinite(ys).sum():
                return again
    return ys


def _data_rmse(nlp: NLP, k: int, model: Any, args: Any, states: np.ndarray) -> float:
    data = nlp.trajectories[k]
    if nlp.observe is None:
        seen = states[:, : data.num_channels]
    else:
        with x64():
            inputs = to_float64((model, as_arrays(args), jnp.asarray(data.ts), jnp.asarray(states)))
            seen = np.asarray(_observed(nlp.observe, *inputs))
    there = data.measured
    residual = (np.sqrt(data.weights) * (seen - data.ys))[there]
    return _rms(residual) if there.any() else 0.0


@eqx.filter_jit
def _observed(observe: OfModel, model: Any, args: Any, ts: Array, states: Array) -> Array:
    return jax.vmap(lambda t, y: observe(t, y, args, model))(ts, states)


@eqx.filter_jit
def _intervals(
    model: Any, args: Any, boundaries: Array, begin: Array, spread: Array
) -> tuple[Array, Array]:
    """The model's solution at the end of every interval and its sensitivity, in spreads."""

    def field(t: Any, carry: tuple[Array, Array], args: Any) -> tuple[Array, Array]:
        y, sensitivity = carry
        slope, along = jax.linearize(lambda y: model(t, y, args), y)
        return slope, jax.vmap(along, in_axes=1, out_axes=1)(sensitivity)

    def interval(t0: Array, t1: Array, y0: Array) -> tuple[Array, Array]:
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(field),
            diffrax.Tsit5(),
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

    return jax.vmap(interval)(boundaries[:-1], boundaries[1:], begin)


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


def _rms(values: np.ndarray) -> float:
    with np.errstate(over="ignore", invalid="ignore"):
        result = float(np.sqrt(np.mean(np.square(values))))
    return result if np.isfinite(result) else np.inf
