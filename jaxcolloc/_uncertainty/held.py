"""Which variables and constraints an optimum holds: those at active bounds."""

import numpy as np
from jaxtyping import Bool, Float

from .._nlp import NLP
from .._trace import Multipliers


# A bound farther away than this share of a variable's size is not active.
_NEAR = 1e-2


def held_variables(
    nlp: NLP, z: Float[np.ndarray, " variable"], multipliers: Multipliers, objective: float
) -> Bool[np.ndarray, " variable"]:
    """Which variables are fixed, or at a bound that keeps them from a lower objective."""
    lower, upper = nlp.bounds
    held = lower == upper
    for side, force in ((lower, multipliers.lower), (upper, multipliers.upper)):
        held = held | _active(z, side, np.abs(force), objective)
    return held


def held_rows(
    nlp: NLP,
    values: Float[np.ndarray, " constraint"],
    multipliers: Multipliers,
    objective: float,
) -> Bool[np.ndarray, " constraint"]:
    """Which constraints are equations, or inequalities that keep from a lower objective."""
    lower, upper = nlp.constraint_bounds
    force = np.abs(multipliers.constraints)
    held = lower == upper
    for side in (lower, upper):
        held = held | _active(values, side, force, objective)
    return held


def _active(
    value: np.ndarray, bound: np.ndarray, force: np.ndarray, objective: float
) -> Bool[np.ndarray, " _"]:
    """Whether a bound is as good as reached, and its multiplier is more than the barrier's.

    An interior-point method ends with distance times multiplier at its last barrier parameter, so
    one of the two is small. Both are compared in units: the distance in that of the value's size,
    the multiplier in that of the objective per size.
    """
    finite = np.isfinite(bound)
    distance = np.abs(value - np.where(finite, bound, 0.0))
    size = np.maximum(np.maximum(np.abs(value), np.abs(np.where(finite, bound, 0.0))), 1e-3)
    near = finite & (distance <= _NEAR * size)
    pressed = force * size / max(abs(objective), 1e-300) > distance / size
    return near & pressed
