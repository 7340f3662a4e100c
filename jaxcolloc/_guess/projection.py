"""project: constants that only the observation uses, fitted to the data for given states.

Gains and offsets of sensors enter the observation linearly and the field not at all. For any states
their best values follow from linear least squares, so that a search need not find them: variable
projection (Golub and Pereyra, SIAM J. Numer. Anal. 10, 1973).
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from .._nlp import NLP
from .._ridge import net_weights
from .sensors import AtTimes
from .states import States


Head = Float[np.ndarray, " head"]

# A derivative that changes by less than this share is constant.
_CONSTANT = 1e-6


def project(nlp: NLP, head: Head, states: States) -> Head:
    """`head` with the constants that enter the observation only, and linearly, fitted to the data.

    `states` are given at the nodes of each trajectory. Nothing changes where there are none.
    """
    constant = ~net_weights(nlp.layout.model, nlp.model)
    if nlp.observe is None or not constant.any():
        return head
    here = _slopes(nlp, head, states)
    there = _slopes(nlp, _moved(nlp, head), states)
    if not all(np.all(np.isfinite(part)) for part in (*here[:2], *there[:2])):
        return head
    size = np.abs(here.observation).max(axis=(0, 1))
    same = np.abs(there.observation - here.observation).max(axis=(0, 1)) <= _CONSTANT * size
    linear = constant & (size > 0) & same & ~here.used_by_field & ~there.used_by_field
    if not linear.any():
        return head
    values = _fitted(nlp, here, linear)
    result = head.copy()
    inside = ~nlp.layout.model.positive | (values > 0)
    chosen = linear & inside
    result[: nlp.num_weights][chosen] = _inward(nlp, np.where(inside, values, 1.0))[chosen]
    return result


class _Slopes(NamedTuple):
    """What the weights do at the observation times, all trajectories one after another.

    `observation` is the derivative of what is seen by the weights' values, `seen` that itself.
    """

    observation: Float[np.ndarray, "time obs weight"]
    seen: Float[np.ndarray, "time obs"]
    values: Float[np.ndarray, " weight"]
    used_by_field: Bool[np.ndarray, " weight"]


def _slopes(nlp: NLP, head: Head, states: States) -> _Slopes:
    """Derivatives for the weights and unknowns in `head`."""
    weighted = nlp.layout.model
    w = head[: nlp.num_weights]
    rate = weighted.rates(w)
    observation, seen, used = [], [], np.zeros(len(w), bool)
    for k, (item, grid, own) in enumerate(zip(nlp.trajectories, nlp.grids, states, strict=True)):
        y = grid.interpolate(own, item.ts)
        sensor = AtTimes.sensor(nlp, k, item.ts)(head, y)
        observation.append(sensor.in_head[..., : len(w)] / rate)
        seen.append(sensor.value)
        of_field = AtTimes.field(nlp, k, item.ts)(head, y).in_head[..., : len(w)]
        used |= np.any(of_field != 0, axis=(0, 1))
    values = np.asarray(weighted.values(w))
    return _Slopes(np.concatenate(observation), np.concatenate(seen), values, used)


def _moved(nlp: NLP, head: Head) -> Head:
    """Other weights, none of them the same, with the same unknowns."""
    w = head[: nlp.num_weights]
    moved = np.where(nlp.layout.model.positive, w - 0.5, 1.7 * w + 1.0)
    return np.append(moved, head[nlp.num_weights :])


def _fitted(nlp: NLP, slopes: _Slopes, linear: np.ndarray) -> np.ndarray:
    """The values of all weights, with the `linear` ones fitted to the data within their bounds."""
    from scipy.optimize import lsq_linear

    ys, weights, measured = (
        np.concatenate([getattr(item, name) for item in nlp.trajectories])
        for name in ("ys", "weights", "measured")
    )
    part = slopes.observation[:, :, linear]
    target = ys - slopes.seen + part @ slopes.values[linear]
    root = np.sqrt(weights)[measured]
    matrix, rhs = root[:, None] * part[measured], root * target[measured]
    # Columns of one size, whatever the units of gains and offsets.
    size = np.linalg.norm(matrix, axis=0)
    size = np.where(size > 0, size, 1.0)
    lower, upper = (nlp.layout.weights(side)[linear] for side in nlp.bounds)
    low, high = (_all_values(nlp, side, linear) for side in (lower, upper))
    if np.any(low >= high):
        return slopes.values
    found = lsq_linear(matrix / size, rhs, bounds=(low * size, high * size)).x / size
    result = slopes.values.copy()
    result[linear] = found
    return result


def _all_values(nlp: NLP, side: np.ndarray, linear: np.ndarray) -> np.ndarray:
    """Bounds of the linear weights as bounds of their values."""
    full = np.full(nlp.num_weights, -1.0)
    full[linear] = np.clip(side, -700.0, 700.0)
    with np.errstate(divide="ignore"):
        values = np.asarray(nlp.layout.model.values(full))[linear]
    positive = nlp.layout.model.positive[linear]
    open_side = np.where(side < 0, np.where(positive, 0.0, -np.inf), np.inf)
    return np.where(np.isinf(side), open_side, values)


def _inward(nlp: NLP, values: np.ndarray) -> np.ndarray:
    """The optimizer's variables of the weights' values."""
    offsets = np.cumsum((0, *nlp.layout.model.sizes))
    parts = [
        scale.inward(values[first : first + size])
        for first, size, scale in zip(
            offsets, nlp.layout.model.sizes, nlp.layout.model.scales, strict=False
        )
    ]
    return np.concatenate([np.zeros(0), *parts])
