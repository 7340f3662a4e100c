"""compare: data, path and rollout of every trajectory side by side, channel by channel.

It is decided here whether a rollout follows its path; the search for starts and `jc.verify` ask the
same function.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float

from ._args import opened
from ._callables import OfModel
from ._goodness import Poor, Residuals, poor_channels
from ._likelihoods import Gaussian
from ._loss import squared_error
from ._nlp import NLP
from ._points import in_chunks, known
from ._precision import AnyArray
from ._rollout import END, Rollout, rollout
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
_OWN, _SIZE, _RESOLVED = 0.1, 1e-5, 1e-4
# A state this many times as large as on the path has left for infinity.
_INFINITE = 1e8


class Comparison(NamedTuple):
    """What data, path and rollout of one trajectory show; names as in `Verification`.

    `residuals` are those of the path, `allowed` the departure up to which a rollout follows,
    `spread` the scale of the states.
    """

    rollout: Float[np.ndarray, "node state"]
    end: END
    path_rmse: float
    rollout_rmse: float
    path_explained: Float[np.ndarray, " obs"]
    rollout_explained: Float[np.ndarray, " obs"]
    residuals: Residuals
    departure: Float[np.ndarray, " obs"]
    allowed: Float[np.ndarray, " obs"]
    distances: Float[np.ndarray, " state"]
    spread: Float[np.ndarray, " state"]

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
    seen = seen_on_paths(sol)
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


def seen_on_paths(sol: Solution) -> list[Float[np.ndarray, "time obs"]]:
    """What would be measured of each path at the observation times."""
    seen = []
    for path, data, args in zip(sol.paths, sol.nlp.trajectories, sol.args, strict=True):
        states = path.grid.interpolate(path.states, data.ts)
        seen.append(observed(sol.nlp, sol.model, args, data.ts, states))
    return seen


def path_residuals(sol: Solution) -> list[Residuals]:
    """What each path misses of its data."""
    pairs = zip(sol.nlp.trajectories, seen_on_paths(sol), strict=True)
    return [Residuals.of(item, seen) for item, seen in pairs]


def poor_paths(
    nlp: NLP,
    residuals: Sequence[Residuals],
    noise: Float[np.ndarray, " obs"] | None = None,
) -> list[Poor]:
    """Where paths do not follow their data, the worst first; `noise` is that of the channels."""
    return poor_channels(residuals, nlp.trajectories, is_robust(nlp), noise)


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
    found = rolled_out(sol, k, times, spread)
    rolled = grid.with_jumps(found.states[np.searchsorted(times, grid.times)], found.after)
    at_data = found.states[np.searchsorted(times, inside)]
    seen_rolled = observed(sol.nlp, sol.model, args, data.ts, at_data)
    robust = is_robust(sol.nlp)
    residuals = Residuals.of(data, seen)
    return Comparison(
        rollout=rolled,
        end=found.end,
        path_rmse=_weighted_rmse(sol, k, seen),
        rollout_rmse=_weighted_rmse(sol, k, seen_rolled),
        path_explained=residuals.explained(robust),
        rollout_explained=Residuals.of(data, seen_rolled).explained(robust),
        residuals=residuals,
        departure=np.array([rms(column) for column in (seen_rolled - seen).T]),
        allowed=allowed,
        distances=np.array([rms(column) for column in ((rolled - path.states) / spread).T]),
        spread=spread,
    )


def rolled_out(
    sol: Solution, k: int, times: Float[np.ndarray, " time"], spread: Float[np.ndarray, " state"]
) -> Rollout:
    """The rollout of one trajectory from its path's start, of states with this `spread`."""
    path = sol.paths[k]
    far = _INFINITE * (np.abs(path.states).max(axis=0) + spread)
    edges = path.grid.boundaries
    return rollout(
        sol.model, times, path.states[0], sol.args[k], spread, edges, far, sol.changes(k)
    )


def _weighted_rmse(sol: Solution, k: int, seen: np.ndarray) -> float:
    """The weighted residuals of one trajectory whose observations would be `seen`."""
    data = sol.nlp.trajectories[k]
    residual = (np.sqrt(data.weights) * (seen - data.ys))[data.measured]
    return rms(residual) if residual.size else 0.0


def is_robust(nlp: NLP) -> bool:
    """Whether the loss may be one that lets samples be wild."""
    loss = nlp.settings.loss
    return loss is not squared_error and not (isinstance(loss, Gaussian) and loss.even)


def observed(
    nlp: NLP, model: Any, args: Any, ts: np.ndarray, states: np.ndarray
) -> Float[np.ndarray, "time obs"]:
    """What would be measured of `states` at `ts`."""
    if nlp.observe is None:
        return states[:, : nlp.trajectories[0].num_channels]
    inputs = nlp.observe, *known(model, args)
    (seen,) = in_chunks(lambda t, y: (_observed(*inputs, t, y),), ts, states)
    return seen


@eqx.filter_jit
def _observed(observe: OfModel, model: Any, args: Any, ts: AnyArray, states: AnyArray) -> Array:
    inner = opened(args)
    return jax.vmap(lambda t, y: observe(t, y, inner, model))(ts, states)
