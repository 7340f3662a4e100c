"""Band: a curve, or any array of values, with its standard errors and an interval."""

from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Float


class Band(eqx.Module):
    """Values with their standard errors and an interval of one level, point by point.

    - `at`: the times, or the points, that they belong to.
    - `value`, `stderr`, `lower`, `upper`: arrays of one shape, the first axis that of `at`.
      Infinite where the data leave a value free, NaN where a rollout has not reached.
    - `level`: the probability of each interval for itself, not of all together.
    """

    at: Any
    value: Float[np.ndarray, "..."]
    stderr: Float[np.ndarray, "..."]
    lower: Float[np.ndarray, "..."]
    upper: Float[np.ndarray, "..."]
    level: float = eqx.field(static=True)

    @classmethod
    def of(
        cls, at: Any, value: np.ndarray, variance: np.ndarray, quantile: float, level: float
    ) -> "Band":
        """A symmetric one, as wide as a quantile says."""
        stderr = np.sqrt(variance)
        return cls(at, value, stderr, value - quantile * stderr, value + quantile * stderr, level)
