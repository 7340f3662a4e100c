"""The filter: which trial points of a line search are accepted.

Waechter and Biegler (2006), section 2.3: a trial must lower the constraint violation or the
barrier objective, by a little, and must not be worse in both than any pair that the filter holds.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float


_SIZE = 64
_GAMMA_THETA = _GAMMA_PHI = 1e-5
_DELTA, _S_THETA, _S_PHI = 1.0, 1.1, 2.3
_ETA = 1e-4
_ALPHA = 0.05
_EPS = 10 * 2.2e-16


class Filter(NamedTuple):
    """Pairs of violation and barrier objective, newest last; infinite where there is none."""

    pairs: Float[Array, "pair two"]
    largest: Float[Array, ""]
    small: Float[Array, ""]

    @classmethod
    def start(cls, theta: Array) -> "Filter":
        """Empty, with limits from the first violation."""
        unit = jnp.maximum(1.0, theta)
        return cls(jnp.full((_SIZE, 2), jnp.inf), 1e4 * unit, 1e-4 * unit)

    def emptied(self) -> "Filter":
        """For another barrier problem."""
        return self._replace(pairs=jnp.full((_SIZE, 2), jnp.inf))

    def with_pair(self, theta: Array, phi: Array) -> "Filter":
        """One more pair; the oldest is forgotten where there are too many."""
        pair = jnp.stack([(1 - _GAMMA_THETA) * theta, phi - _GAMMA_PHI * theta])
        return self._replace(pairs=jnp.concatenate([self.pairs[1:], pair[None]]))

    def allows(self, theta: Array, phi: Array) -> Array:
        """Whether no pair is better in both."""
        worse = (theta >= self.pairs[:, 0]) & (phi >= self.pairs[:, 1])
        return (theta <= self.largest) & ~jnp.any(worse)


class Search(NamedTuple):
    """Where a line search starts: violation, barrier objective, its slope along the step."""

    theta: Array
    phi: Array
    slope: Array

    def switches(self, alpha: Array) -> Array:
        """Whether the step promises so much descent that the objective decides (Eq. 19)."""
        gain = jnp.maximum(-self.slope, 0.0)
        return (self.slope < 0) & (alpha * gain**_S_PHI > _DELTA * self.theta**_S_THETA)

    def descends(self, alpha: Array, phi: Array) -> Array:
        """Armijo's condition (Eq. 20)."""
        return phi <= self.phi + _ETA * alpha * self.slope + _EPS * jnp.abs(self.phi)

    def accepts(self, kept: Filter, alpha: Array, theta: Array, phi: Array) -> Array:
        """Whether a trial point is good enough."""
        objective_decides = self.switches(alpha) & (self.theta <= kept.small)
        better = (theta <= (1 - _GAMMA_THETA) * self.theta) | (
            phi <= self.phi - _GAMMA_PHI * self.theta + _EPS * jnp.abs(self.phi)
        )
        good = jnp.where(objective_decides, self.descends(alpha, phi), better)
        finite = jnp.isfinite(theta) & jnp.isfinite(phi)
        return good & finite & kept.allows(theta, phi)

    def shortest(self, kept: Filter) -> Array:
        """The step length below which the search gives up (Eq. 23)."""
        gain = jnp.maximum(-self.slope, 1e-300)
        by_phi = _GAMMA_PHI * self.theta / gain
        by_switch = _DELTA * self.theta**_S_THETA / gain**_S_PHI
        least = jnp.minimum(_GAMMA_THETA, by_phi)
        least = jnp.where(self.theta <= kept.small, jnp.minimum(least, by_switch), least)
        return _ALPHA * jnp.where(self.slope < 0, least, _GAMMA_THETA)
