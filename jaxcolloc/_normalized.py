"""normalized: a field that sees states near zero and of size one, whatever units the data have."""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ._check import describe, integer
from ._data import Trajectory, as_trajectories
from ._smooth import SmoothTrajectory, channel_means, channel_spread


class Normalized(eqx.Module):
    r"""A model of normalised states, $\dot y = \frac{s}{\tau} \, g(t, (y - m) / s, args)$.

    $m$ and $s$ are the mean and the standard deviation of each channel, $\tau$ the time in which a
    state moves by $s$, so that a net for $g$ has inputs and outputs of size one. They are constants
    of the model, no weights. Made by `jc.normalized`.
    """

    model: Callable[[Any, Any, Any], Any]
    center: tuple[float, ...] = eqx.field(static=True)
    scale: tuple[float, ...] = eqx.field(static=True)
    time: float = eqx.field(static=True)

    def __call__(self, t: Any, y: Array, args: Any) -> Array:
        center, scale = jnp.asarray(self.center), jnp.asarray(self.scale)
        return scale / self.time * self.model(t, (y - center) / scale, args)


def normalized(
    model: Callable[[Any, Any, Any], Any],
    data: Trajectory | Sequence[Trajectory],
    *,
    num_states: int | None = None,
) -> Normalized:
    """`model` as a field of the states of `data`, normalised.

    **Arguments:**

    - `model`: `g(t, x, args)` of the normalised state `x`, for instance one that calls a net.
    - `data`: one trajectory or a list of them; their channels are the first states.
    - `num_states`: the number of states, if larger than that of channels. The others have mean
      zero and spread one.

    **Errors:** `ValueError` for a model that is not callable or data that are no trajectories.
    """
    if not callable(model):
        raise ValueError(f"`model` must be callable as g(t, x, args); got {describe(model)}.")
    trajectories = as_trajectories(data)
    channels = trajectories[0].num_channels
    more = 0 if num_states is None else integer("num_states", num_states, channels) - channels
    center, scale = channel_means(trajectories), channel_spread(trajectories)
    squares, count = 0.0, 0
    for item in trajectories:
        times = np.linspace(item.ts[0], item.ts[-1], 100)
        slopes = SmoothTrajectory(item, center).slopes(times) / scale
        squares, count = squares + float(np.sum(slopes**2)), count + slopes.size
    rate = np.sqrt(squares / count)
    span = max(float(item.ts[-1] - item.begin) for item in trajectories)
    time = 1 / rate if rate > 0 else (span if span > 0 else 1.0)
    return Normalized(
        model,
        (*center.tolist(), *[0.0] * more),
        (*scale.tolist(), *[1.0] * more),
        float(time),
    )
