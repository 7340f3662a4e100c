"""guess: initial states and weights for the NLP."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, Float, PRNGKeyArray

from ._check import choice
from ._loss import VectorField
from ._nlp import NLP
from ._precision import x64
from ._smooth import SmoothTrajectory, channel_means
from ._weights import Slopes, fit_slopes, points_each, xavier


class Guess(eqx.Module):
    """A start for `jc.solve`: the model, the states of each trajectory, and `z` of both."""

    model: Any
    states: list[Float[np.ndarray, "node state"]]
    z: Float[np.ndarray, " variable"]


def guess(
    nlp: NLP,
    *,
    key: PRNGKeyArray | None = None,
    states: str | Sequence[ArrayLike] = "smooth",
    weights: str = "gradient_matching",
) -> Guess:
    """Initial states and weights.

    **Arguments:**

    - `nlp`: from `jc.transcribe`.
    - `key`: a PRNG key for the draw of the weights. Without one, the model's own weights are
      the start of gradient matching.
    - `states`: "smooth", LOWESS-smoothed data at the grid's nodes (unmeasured components are
      zero), or one array of shape `(node, state)` per trajectory.
    - `weights`: "gradient_matching", a least-squares fit of the model to the slopes of the
      smoothed data, from Xavier's draw; "xavier", that draw alone; "as_given", the model's own.

    States and weights are moved into their bounds; known initial states are set.

    **Errors:** `ValueError` for an unknown method, a missing key, states of another shape.
    """
    choice("weights", weights, ("gradient_matching", "xavier", "as_given"))
    if weights == "xavier" and key is None:
        raise ValueError('`key` must be a PRNG key with weights="xavier"; got None.')
    model = nlp.model
    if key is not None and weights != "as_given":
        model = xavier(model, key)
    if isinstance(states, str):
        choice("states", states, ("smooth",))
        curves = _curves(nlp)
        values = [
            _padded(nlp, curve.values(grid.times))
            for curve, grid in zip(curves, nlp.grids, strict=True)
        ]
    else:
        curves = None
        values = [np.array(item, np.float64) for item in states]
    z = np.array(nlp.pack(model, values))
    if weights == "gradient_matching" and nlp.num_weights:
        with x64():
            z[: nlp.num_weights] = _matched(nlp, z[: nlp.num_weights], curves, values)
    z = np.clip(z, *nlp.bounds)
    model, placed = nlp.unpack(z)
    return Guess(model, placed, z)


def _curves(nlp: NLP) -> list[SmoothTrajectory]:
    if nlp.observed:
        raise ValueError(
            "`states` must be given as arrays where `observe` is: the states cannot be read off "
            "the data."
        )
    means = channel_means(nlp.trajectories)
    return [SmoothTrajectory(item, means) for item in nlp.trajectories]


def _padded(nlp: NLP, measured: np.ndarray) -> np.ndarray:
    """Measured components first, unmeasured ones zero."""
    return np.pad(measured, [(0, 0), (0, nlp.num_states - measured.shape[1])])


def _matched(
    nlp: NLP, w: np.ndarray, curves: list[SmoothTrajectory] | None, states: list[np.ndarray]
) -> np.ndarray:
    """Weights fitted to slopes, at times spread evenly over each trajectory's grid."""
    each = points_each(len(nlp.trajectories))
    data = []
    for group in nlp.groups:
        times, values, slopes = [], [], []
        for member in group.members:
            grid = nlp.grids[member]
            ts = np.linspace(grid.boundaries[0], grid.boundaries[-1], each)
            times.append(ts)
            if curves is None:
                values.append(grid.interpolate(states[member], ts))
                slopes.append(grid.slope(states[member], ts))
            else:
                values.append(_padded(nlp, curves[member].values(ts)))
                slopes.append(_padded(nlp, curves[member].slopes(ts)))
        data.append(Slopes.stack(group.args, times, values, slopes))
    return np.asarray(fit_slopes(VectorField(nlp.layout.model), jnp.asarray(w), tuple(data)))
