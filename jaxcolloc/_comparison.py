"""compare: data, path and rollout of every trajectory side by side, channel by channel.

It is decided here whether a rollout follows its path and whether a path follows the data; the
search for starts and `jc.verify` ask the same functions.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ._args import as_arrays, opened, sealed
from ._callables import OfModel
from ._loss import squared_error
from ._nlp import NLP
from ._noise import not_wild, relative_weights, structured
from ._precision import to_float64, x64
from ._rollout import END, padding, rollout
from ._solution import Solution
from ._verification import rms


# How far a rollout may be from its path, root mean square: in each state this share of its spread;
# in each channel half its noise, but within these shares of its spread, and never less than a small
# share of noise and level, which no one can see.
_STATE = 0.1
_NOISE, _LEAST, _MOST = 0.5, 0.05, 0.25
_UNSEEN_NOISE, _UNSEEN_LEVEL = 0.05, 1e-6
# A trajectory's own spread counts down to this share of that of all, and of a state's size; states
# are not resolved beyond the solver's tolerance in the optimizer's units.
_OWN, _SIZE, _RESOLVED = 0.1, 1e-5, 1e-6
# A path is poor where it leaves more of the variance than this, and residuals that are so many
# times the noise, or autocorrelated at this significance and no smaller than noise. Where the
# noise is not known, it is poor where it leaves half.
_UNEXPLAINED, _LOUD, _CHANCE, _QUIET = 0.05, 2.0, 1e-3, 0.8
_UNKNOWN = 0.5
# Residuals of at most so many times the noise are the noise.
_TO_NOISE = 1.25
# A trajectory with fewer samples than this is judged together with the others only.
_FEW = 8
# With a loss that is not the squared error up to this share of the samples may be wild.
_WILD = 0.2


class Comparison(NamedTuple):
    """What data, path and rollout of one trajectory show; names as in `Verification`.

    `residuals` are those of the path in each channel, in the order of time, weighted within the
    channel and without wild ones; `variance` is that of the data in the same measure, `allowed` the
    departure up to which a rollout follows.
    """

    rollout: Float[np.ndarray, "node state"]
    end: END
    path_rmse: float
    rollout_rmse: float
    path_explained: Float[np.ndarray, " obs"]
    rollout_explained: Float[np.ndarray, " obs"]
    residuals: tuple[Float[np.ndarray, " _"], ...]
    variance: Float[np.ndarray, " obs"]
    departure: Float[np.ndarray, " obs"]
    allowed: Float[np.ndarray, " obs"]
    distances: Float[np.ndarray, " state"]

    @property
    def follows(self) -> bool:
        """Whether the rollout follows the path in every channel and state."""
        return bool(
            self.end is END.complete
            and np.all(self.departure <= self.allowed)
            and np.all(self.distances <= _STATE)
        )


def compare(sol: Solution, noise: Float[np.ndarray, " obs"]) -> list[Comparison]:
    """Roll out every trajectory of a solution and compare; `noise` is that of the channels."""
    spreads = state_spreads(sol)
    seen = []
    for path, data, args in zip(sol.paths, sol.nlp.trajectories, sol.args, strict=True):
        states = path.grid.interpolate(path.states, data.ts)
        seen.append(observed(sol.nlp, sol.model, args, data.ts, states))
    every = np.concatenate(seen)
    level, spread = np.abs(every).max(axis=0), every.std(axis=0)
    rows = []
    for k, own in enumerate(seen):
        size = np.maximum(own.std(axis=0), np.maximum(_OWN * spread, _SIZE * level))
        known = np.nan_to_num(noise)
        allowed = np.clip(_NOISE * known, _LEAST * size, _MOST * size)
        allowed = np.maximum(allowed, _UNSEEN_NOISE * known)
        allowed = np.maximum(allowed, np.maximum(_UNSEEN_LEVEL * level, 1e-300))
        rows.append(_compared(sol, k, own, spreads[k], allowed))
    return rows


def state_spreads(sol: Solution) -> list[Float[np.ndarray, " state"]]:
    """The scale on which each trajectory's states are compared."""
    states = np.concatenate([path.states for path in sol.paths])
    size = np.abs(states).max(axis=0)
    units = sol.nlp.parts.scale.state
    least = np.maximum(_OWN * states.std(axis=0), np.maximum(_SIZE * size, _RESOLVED * units))
    return [np.maximum(path.states.std(axis=0), least) for path in sol.paths]


def _compared(
    sol: Solution, k: int, seen: np.ndarray, spread: np.ndarray, allowed: np.ndarray
) -> Comparison:
    """One trajectory, whose path is `seen` like this at the observation times."""
    path, data = sol.paths[k], sol.nlp.trajectories[k]
    grid, args = path.grid, sol.args[k]
    inside = np.clip(data.ts, *grid.boundaries[[0, -1]])
    times = np.unique(np.concatenate([grid.times, inside]))
    found = rollout(sol.model, times, path.states[0], args, spread, grid.boundaries)
    rolled = found.states[np.searchsorted(times, grid.times)]
    at_data = found.states[np.searchsorted(times, inside)]
    seen_rolled = observed(sol.nlp, sol.model, args, data.ts, at_data)
    robust = sol.nlp.settings.loss is not squared_error
    explained, residuals, variance = _shares(sol, k, seen, robust)
    rolled_explained, _, _ = _shares(sol, k, seen_rolled, robust)
    return Comparison(
        rollout=rolled,
        end=found.end,
        path_rmse=_weighted_rmse(sol, k, seen),
        rollout_rmse=_weighted_rmse(sol, k, seen_rolled),
        path_explained=explained,
        rollout_explained=rolled_explained,
        residuals=residuals,
        variance=variance,
        departure=np.array([rms(column) for column in (seen_rolled - seen).T]),
        allowed=allowed,
        distances=np.array([rms(column) for column in ((rolled - path.states) / spread).T]),
    )


def _weighted_rmse(sol: Solution, k: int, seen: np.ndarray) -> float:
    """The weighted residuals of one trajectory whose observations would be `seen`."""
    data = sol.nlp.trajectories[k]
    residual = (np.sqrt(data.weights) * (seen - data.ys))[data.measured]
    return rms(residual) if residual.size else 0.0


def _shares(
    sol: Solution, k: int, seen: np.ndarray, robust: bool
) -> tuple[np.ndarray, tuple[np.ndarray, ...], np.ndarray]:
    """Share of the variance explained, residuals and variance, for each channel."""
    data = sol.nlp.trajectories[k]
    roots = relative_weights(data)
    explained, residuals, variance = [], [], []
    for root, ys, column in zip(roots.T, data.ys.T, seen.T, strict=True):
        there = root > 0
        residual, root, ys = (root * (column - ys))[there], root[there], ys[there]
        kept = not_wild(residual, _WILD) if robust else np.ones(len(ys), bool)
        residual, root, ys = residual[kept], root[kept], ys[kept]
        mean = np.sum(root**2 * ys) / np.sum(root**2) if len(ys) else 0.0
        varied = rms(root * (ys - mean)) ** 2 if len(ys) else 0.0
        # A constant channel up to rounding has no variance to be explained.
        varies = varied > (1e-12 * abs(mean)) ** 2
        explained.append(1 - rms(residual) ** 2 / varied if varies else np.nan)
        residuals.append(residual)
        variance.append(varied)
    return np.array(explained), tuple(residuals), np.array(variance)


def explains_to_noise(rows: list[Comparison], noise: Float[np.ndarray, " obs"]) -> bool:
    """Whether the paths leave no more than the noise in any channel."""
    for channel, level in enumerate(noise):
        residuals = np.concatenate([row.residuals[channel] for row in rows])
        if len(residuals) and not rms(residuals) <= _TO_NOISE * level:
            return False
    return True


def channel_levels(nlp: NLP) -> Float[np.ndarray, " obs"]:
    """The size of each channel's largest sample."""
    ys = np.concatenate([item.ys for item in nlp.trajectories])
    return np.asarray(np.nanmax(np.abs(ys), axis=0))


def poor_channels(
    rows: list[Comparison], noise: Float[np.ndarray, " obs"], level: Float[np.ndarray, " obs"]
) -> list[tuple[int | None, int, bool]]:
    """Where the path does not follow the data: trajectory (None for all), channel, if structured.

    `level` is each channel's size, of which a constant channel is compared with a hundredth.
    """
    found: list[tuple[int | None, int, bool]] = []
    for channel in range(len(noise)):
        series = [row.residuals[channel] for row in rows]
        variances = np.array([row.variance[channel] for row in rows])
        counts = np.array([len(item) for item in series])
        if not counts.sum():
            continue
        common = float(np.sum(counts * variances) / counts.sum())
        least = max(_OWN**2 * common, (1e-2 * level[channel]) ** 2 if common == 0 else 0.0)
        parts: list[tuple[int | None, list[np.ndarray], float]] = [(None, series, common)]
        if len(rows) > 1:
            alone = [k for k in range(len(rows)) if counts[k] >= _FEW]
            parts += [(k, [series[k]], float(variances[k])) for k in alone]
        for where, chosen, variance in parts:
            kind = _poor(chosen, max(variance, least), float(noise[channel]), len(parts))
            if kind is not None:
                found.append((where if len(rows) > 1 else 0, channel, kind))
    return found


def _poor(series: list[np.ndarray], variance: float, noise: float, tests: int) -> bool | None:
    """None where residuals are those of a path that follows the data; else if structured only."""
    square = rms(np.concatenate(series)) ** 2
    if np.isnan(noise):
        return False if square > _UNKNOWN * variance else None
    if not square > _UNEXPLAINED * variance:
        return None
    if square > (_LOUD * noise) ** 2:
        return False
    quiet = square < (_QUIET * noise) ** 2
    return True if not quiet and structured(series, _CHANCE / tests) else None


def observed(
    nlp: NLP, model: Any, args: Any, ts: np.ndarray, states: np.ndarray
) -> Float[np.ndarray, "time obs"]:
    """What would be measured of `states` at `ts`."""
    if nlp.observe is None:
        return states[:, : nlp.trajectories[0].num_channels]
    pad = padding(len(ts))
    ts, states = np.pad(ts, (0, pad), mode="edge"), np.pad(states, ((0, pad), (0, 0)), mode="edge")
    with x64():
        known = sealed(as_arrays(args))
        inputs = to_float64((model, known, jnp.asarray(ts), jnp.asarray(states)))
        return np.asarray(_observed(nlp.observe, *inputs))[: len(ts) - pad]


@eqx.filter_jit
def _observed(observe: OfModel, model: Any, args: Any, ts: Array, states: Array) -> Array:
    known = opened(args)
    return jax.vmap(lambda t, y: observe(t, y, known, model))(ts, states)
