r"""Bounds of variables or slacks, and the logarithmic barrier that keeps them.

Equation numbers are those of Waechter and Biegler (`options.py`).
"""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from .options import KAPPA_SIGMA


class Box(eqx.Module):
    """Bounds `lower <= x <= upper`; infinite where there are none, or where `x` is not varied.

    Multipliers of bounds, `low` and `high`, are zero there.
    """

    lower: Float[Array, " _"]
    upper: Float[Array, " _"]

    def gaps(self, x: Array) -> tuple[Array, Array]:
        """The distances of `x` to both bounds; one where there is no bound."""
        below = jnp.where(jnp.isfinite(self.lower), x - self.lower, 1.0)
        above = jnp.where(jnp.isfinite(self.upper), self.upper - x, 1.0)
        return below, above

    def barrier(self, x: Array) -> Array:
        r"""$-\sum \ln(x - l) - \sum \ln(u - x)$."""
        below, above = self.gaps(x)
        return -jnp.sum(jnp.log(below)) - jnp.sum(jnp.log(above))

    def push(self, mu: Array, x: Array) -> Array:
        """The gradient of mu times the barrier."""
        below, above = self.gaps(x)
        pull_up = jnp.where(jnp.isfinite(self.lower), mu / below, 0.0)
        pull_down = jnp.where(jnp.isfinite(self.upper), mu / above, 0.0)
        return pull_down - pull_up

    def sigma(self, x: Array, low: Array, high: Array) -> Array:
        """The diagonal of the barrier's primal-dual Hessian."""
        below, above = self.gaps(x)
        return low / below + high / above

    def multiplier_steps(
        self, mu: Array, x: Array, dx: Array, low: Array, high: Array
    ) -> tuple[Array, Array]:
        """The Newton steps of `low` and `high` that go with the step `dx` (Eq. 12)."""
        below, above = self.gaps(x)
        d_low = jnp.where(jnp.isfinite(self.lower), (mu - low * dx) / below - low, 0.0)
        d_high = jnp.where(jnp.isfinite(self.upper), (mu + high * dx) / above - high, 0.0)
        return d_low, d_high

    def first_multipliers(self, mu: Array, x: Array) -> tuple[Array, Array]:
        """The multipliers of the central path at `x`: mu over the distances."""
        below, above = self.gaps(x)
        return (
            jnp.where(jnp.isfinite(self.lower), mu / below, 0.0),
            jnp.where(jnp.isfinite(self.upper), mu / above, 0.0),
        )

    def kept_near(self, mu: Array, x: Array, low: Array, high: Array) -> tuple[Array, Array]:
        """The multipliers, clipped to a neighbourhood of the central path (Eq. 16)."""
        low_path, high_path = self.first_multipliers(mu, x)
        return (
            jnp.clip(low, low_path / KAPPA_SIGMA, low_path * KAPPA_SIGMA),
            jnp.clip(high, high_path / KAPPA_SIGMA, high_path * KAPPA_SIGMA),
        )

    def complementarity(self, mu: Array, x: Array, low: Array, high: Array) -> Array:
        """The largest deviation of distance times multiplier from mu."""
        below, above = self.gaps(x)
        off_low = jnp.where(jnp.isfinite(self.lower), jnp.abs(below * low - mu), 0.0)
        off_high = jnp.where(jnp.isfinite(self.upper), jnp.abs(above * high - mu), 0.0)
        return jnp.maximum(jnp.max(off_low, initial=0.0), jnp.max(off_high, initial=0.0))

    def longest(self, tau: Array, x: Array, dx: Array) -> Array:
        """The largest share of the step `dx`, at most one, that keeps 1 - tau of every distance.

        Eq. 15a, the fraction-to-the-boundary rule.
        """
        below, above = self.gaps(x)
        down = jnp.where(jnp.isfinite(self.lower) & (dx < 0), -tau * below / dx, 1.0)
        up = jnp.where(jnp.isfinite(self.upper) & (dx > 0), tau * above / dx, 1.0)
        return jnp.minimum(jnp.min(down, initial=1.0), jnp.min(up, initial=1.0))

    def inside(self, x: Array, push: float) -> Array:
        """`x` moved away from the bounds (section 3.6).

        By `push` times the bound's size, at least one, or times the width of the box.
        """
        width = self.upper - self.lower
        low = self.lower + jnp.minimum(push * jnp.maximum(1.0, jnp.abs(self.lower)), push * width)
        high = self.upper - jnp.minimum(push * jnp.maximum(1.0, jnp.abs(self.upper)), push * width)
        x = jnp.where(jnp.isfinite(self.lower), jnp.maximum(x, low), x)
        return jnp.where(jnp.isfinite(self.upper), jnp.minimum(x, high), x)


def longest_dual(tau: Array, multipliers: Array, steps: Array) -> Array:
    """The largest share of `steps`, at most one, that keeps 1 - tau of every multiplier.

    Eq. 15b, the fraction-to-the-boundary rule for multipliers of bounds.
    """
    share = jnp.where(steps < 0, -tau * multipliers / jnp.where(steps < 0, steps, -1.0), 1.0)
    return jnp.min(share, initial=1.0)
