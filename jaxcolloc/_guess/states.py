"""Initial states: smoothed data, the observation inverted, candidates for what is not observed."""

from collections.abc import Callable, Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._args import Unknowns, as_arrays, restore
from .._callables import OfModel, explained
from .._nlp import NLP
from .._precision import x64
from .._smooth import SmoothTrajectory, channel_means


States = list[Float[np.ndarray, "_ state"]]
StateFunction = Callable[[np.ndarray, np.ndarray, np.ndarray], Any]

_INVERSION_STEPS = 12
_SINGULAR = 1e-6


def smooth_curves(nlp: NLP, width: float) -> list[SmoothTrajectory]:
    """The smoothed channels of each trajectory, through a known start where these are states."""
    means = channel_means(nlp.trajectories)
    curves = []
    for item, grid in zip(nlp.trajectories, nlp.grids, strict=True):
        start = None
        if item.y0 is not None and nlp.observe is None:
            start = (grid.boundaries[0], item.y0[: len(means)])
        curves.append(SmoothTrajectory(item, means, start, width))
    return curves


def called_states(nlp: NLP, curves: list[SmoothTrajectory], function: StateFunction) -> States:
    """The states that the caller's function makes of times, smoothed channels and slopes."""
    result = []
    for curve, grid in zip(curves, nlp.grids, strict=True):
        values, slopes = curve.values(grid.times), curve.slopes(grid.times)
        with explained("states", "states(ts, ys, slopes)"):
            states = np.array(function(grid.times, values, slopes), np.float64)
        if states.shape != (grid.num_nodes, nlp.num_states):
            raise ValueError(
                "`states` must be a function (ts, ys, slopes) -> array of shape (node, state) = "
                f"({grid.num_nodes}, {nlp.num_states}); got shape {states.shape}."
            )
        result.append(states)
    return result


def candidate_states(nlp: NLP, curves: list[SmoothTrajectory], model: Any) -> list[States]:
    """States at the nodes that agree with the smoothed data, one set after another.

    What the observation determines is the same in all. Components that it leaves open are
    tried as derivatives of the channels, first in the channel's unit per time, then stretched to
    the channel's spread and added to it or to its mean.
    """
    known = [_observed_part(nlp, position, model, curves) for position in range(len(curves))]
    hidden_axes = open_axes(nlp, known, model)
    if hidden_axes.shape[1] == 0:
        return [known]
    return [
        [part + signal @ hidden_axes.T for part, signal in zip(known, hidden, strict=True)]
        for hidden in _signals(nlp, curves, hidden_axes.shape[1])
    ]


def _observed_part(
    nlp: NLP, position: int, model: Any, curves: list[SmoothTrajectory]
) -> Float[np.ndarray, "node state"]:
    """States of least norm whose observation is the smoothed data."""
    grid = nlp.grids[position]
    seen = curves[position].values(grid.times)
    if nlp.observe is None:
        return np.pad(seen, [(0, 0), (0, nlp.num_states - seen.shape[1])])
    with x64():
        args = _start_args(nlp, position)
        return np.asarray(
            _invert(
                nlp.observe,
                model,
                args,
                jnp.asarray(grid.times),
                jnp.asarray(seen),
                nlp.num_states,
            )
        )


@eqx.filter_jit
def _invert(
    observe: OfModel, model: Any, args: Any, ts: Array, seen: Array, num_states: int
) -> Array:
    def at_time(t: Array, target: Array) -> Array:
        def miss(y: Array) -> Array:
            return target - observe(t, y, args, model)

        def step(carry: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], None]:
            y, best = carry
            y = y - jnp.linalg.pinv(jax.jacobian(miss)(y), rtol=_SINGULAR) @ miss(y)
            better = jnp.sum(miss(y) ** 2) < jnp.sum(miss(best) ** 2)
            return (y, jnp.where(better, y, best)), None

        # From zero the answer has the least norm; an observation without slope there needs
        # another start.
        flat = jnp.all(jax.jacobian(miss)(jnp.zeros(num_states)) == 0)
        start = jnp.where(flat, 1.0, 0.0) * jnp.ones(num_states)
        (_, best), _ = jax.lax.scan(step, (start, start), length=_INVERSION_STEPS)
        return best

    return jax.vmap(at_time)(ts, seen)


def open_axes(nlp: NLP, known: States, model: Any) -> Float[np.ndarray, "state open"]:
    """Directions of the state that the observation does not see, as columns."""
    d = nlp.num_states
    if nlp.observe is None:
        return np.eye(d)[:, nlp.trajectories[0].num_channels :]
    grid = nlp.grids[0]
    middle = grid.num_nodes // 2
    observe = nlp.observe
    with x64():
        args = _start_args(nlp, 0)
        slope = eqx.filter_jit(
            lambda t, y, args, model: jax.jacobian(lambda y: observe(t, y, args, model))(y)
        )(jnp.asarray(grid.times[middle]), jnp.asarray(known[0][middle]), args, model)
    unused = np.flatnonzero(np.all(np.asarray(slope) == 0, axis=0))
    _, singular, axes = np.linalg.svd(np.asarray(slope))
    rank = int(np.sum(singular > _SINGULAR * max(singular.max(initial=0.0), 1e-300)))
    if len(unused) == d - rank:
        return np.eye(d)[:, unused]
    return axes[rank:].T


def _signals(
    nlp: NLP, curves: list[SmoothTrajectory], count: int
) -> Iterator[list[Float[np.ndarray, "_ open"]]]:
    """Candidates for `count` components, at the nodes of every trajectory."""
    channels = nlp.trajectories[0].num_channels
    times = [grid.times for grid in nlp.grids]
    base, slope = [], []
    for curve, ts in zip(curves, times, strict=True):
        values = curve.values(ts)
        columns = [(i % channels, i // channels + 1) for i in range(count)]
        base.append(np.stack([values[:, channel] for channel, _ in columns], axis=1))
        slope.append(np.stack([curve.slopes(ts, order)[:, c] for c, order in columns], axis=1))
    every_base, every_slope = np.concatenate(base), np.concatenate(slope)
    spread = every_slope.std(axis=0)
    ratio = np.where(spread > 0, every_base.std(axis=0) / np.where(spread > 0, spread, 1.0), 0.0)
    mean = every_base.mean(axis=0)
    yield slope
    for share in (0.3, 1.0):
        yield [b + share * ratio * s for b, s in zip(base, slope, strict=True)]
    for sign in (1.0, -1.0):
        yield [mean + sign * ratio * s for s in slope]


def _start_args(nlp: NLP, position: int) -> Any:
    """The `args` of a trajectory with its unknowns at their starts."""
    args = nlp.trajectories[position].args
    return as_arrays(restore(args, Unknowns.of(args).start))
