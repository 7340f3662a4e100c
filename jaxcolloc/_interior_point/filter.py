"""The filter: which trial points of a line search are accepted.

Waechter and Biegler (`options.py`), section 2.3: a trial must lower the constraint violation
theta or the barrier objective phi, by a little, and must not be worse in both than any pair that
the filter holds.
"""

from typing import NamedTuple

from jaxtyping import Float

from .._arrays import Array, driver, module
from .options import (
    ALPHA_MIN_FRAC,
    DELTA,
    ETA_PHI,
    FILTER_SIZE,
    GAMMA_PHI,
    GAMMA_THETA,
    ROUNDING,
    S_PHI,
    S_THETA,
    THETA_MAX_FACT,
    THETA_MIN_FACT,
)


class Filter(NamedTuple):
    """Pairs of violation and barrier objective, newest last; infinite where there is none.

    `largest`: the largest violation allowed. `small`: the largest one at which the objective may
    decide.
    """

    pairs: Float[Array, "pair two"]
    largest: Float[Array, ""]
    small: Float[Array, ""]

    @classmethod
    def start(cls, theta: Array) -> "Filter":
        """An empty filter, with limits from the violation of the first point (Eq. 21)."""
        xp = module(theta)
        unit = xp.maximum(1.0, theta)
        empty = xp.full((FILTER_SIZE, 2), xp.inf)
        return cls(empty, THETA_MAX_FACT * unit, THETA_MIN_FACT * unit)

    def emptied(self) -> "Filter":
        """The filter without its pairs, for another barrier problem."""
        xp = module(self.pairs)
        return self._replace(pairs=xp.full((FILTER_SIZE, 2), xp.inf))

    def with_pair(self, theta: Array, phi: Array) -> "Filter":
        """With one more pair (Eq. 22); the oldest is forgotten where there are too many."""
        xp = module(self.pairs)
        pair = xp.asarray([(1 - GAMMA_THETA) * theta, phi - GAMMA_PHI * theta])
        return self._replace(pairs=xp.concatenate([self.pairs[1:], pair[None]]))

    def allows(self, theta: Array, phi: Array) -> Array:
        """Whether no pair is better in both."""
        worse = (theta >= self.pairs[:, 0]) & (phi >= self.pairs[:, 1])
        on = driver(self.pairs)
        return (theta <= self.largest) & on.negate(on.xp.any(worse))


class Search(NamedTuple):
    """Where a line search starts: violation, barrier objective, its slope along the step."""

    theta: Array
    phi: Array
    slope: Array

    def switches(self, alpha: Array) -> Array:
        """Whether a step of length alpha promises so much descent that the objective decides.

        Eq. 19, the switching condition.
        """
        gain = module(self.slope).maximum(-self.slope, 0.0)
        return (self.slope < 0) & (alpha * gain**S_PHI > DELTA * self.theta**S_THETA)

    def descends(self, alpha: Array, phi: Array) -> Array:
        """Whether the barrier objective falls enough (Eq. 20, Armijo's condition)."""
        return phi <= self.phi + ETA_PHI * alpha * self.slope + ROUNDING * abs(self.phi)

    def accepts(self, kept: Filter, alpha: Array, theta: Array, phi: Array) -> Array:
        """Whether a trial point with violation `theta` and objective `phi` is good enough."""
        objective_decides = self.switches(alpha) & (self.theta <= kept.small)
        better = (theta <= (1 - GAMMA_THETA) * self.theta) | (
            phi <= self.phi - GAMMA_PHI * self.theta + ROUNDING * abs(self.phi)
        )
        on = driver(phi)
        good = on.select(objective_decides, self.descends(alpha, phi), better)
        finite = on.xp.isfinite(theta) & on.xp.isfinite(phi)
        return good & finite & kept.allows(theta, phi)

    def shortest(self, kept: Filter) -> Array:
        """The step length below which the search gives up (Eq. 23)."""
        on = driver(self.slope)
        gain = on.xp.maximum(-self.slope, 1e-300)
        by_phi = GAMMA_PHI * self.theta / gain
        by_switch = DELTA * self.theta**S_THETA / gain**S_PHI
        least = on.xp.minimum(GAMMA_THETA, by_phi)
        smaller = on.xp.minimum(least, by_switch)
        least = on.select(self.theta <= kept.small, smaller, least)
        return ALPHA_MIN_FRAC * on.select(self.slope < 0, least, GAMMA_THETA)
