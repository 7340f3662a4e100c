r"""Bounds of variables or slacks, and the logarithmic barrier that keeps them.

Equation numbers are those of Waechter and Biegler (`options.py`).
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from .._arrays import Array, module
from .options import KAPPA_SIGMA


class Box(NamedTuple):
    """Bounds `lower <= x <= upper`; infinite where there are none, or where `x` is not varied.

    `from_below` and `from_above` tell where they are finite. Multipliers of bounds, `low` and
    `high`, are zero where there is none.
    """

    lower: Float[Array, " _"]
    upper: Float[Array, " _"]
    from_below: Bool[Array, " _"]
    from_above: Bool[Array, " _"]

    @classmethod
    def of(cls, lower: np.ndarray, upper: np.ndarray) -> "Box":
        """With these bounds."""
        return cls(lower, upper, np.isfinite(lower), np.isfinite(upper))

    def gaps(self, x: Array) -> tuple[Array, Array]:
        """The distances of `x` to both bounds; one where there is no bound."""
        xp = module(x)
        below = xp.where(self.from_below, x - self.lower, 1.0)
        above = xp.where(self.from_above, self.upper - x, 1.0)
        return below, above

    def barrier(self, x: Array) -> Array:
        r"""$-\sum \ln(x - l) - \sum \ln(u - x)$."""
        xp = module(x)
        below, above = self.gaps(x)
        return -xp.sum(xp.log(below)) - xp.sum(xp.log(above))

    def push(self, mu: Array, x: Array) -> Array:
        """The gradient of mu times the barrier."""
        pull_up, pull_down = self.first_multipliers(mu, x)
        return pull_down - pull_up

    def sigma(self, x: Array, low: Array, high: Array) -> Array:
        """The diagonal of the barrier's primal-dual Hessian."""
        below, above = self.gaps(x)
        return low / below + high / above

    def multiplier_steps(
        self, mu: Array, x: Array, dx: Array, low: Array, high: Array
    ) -> tuple[Array, Array]:
        """The Newton steps of `low` and `high` that go with the step `dx` (Eq. 12)."""
        xp = module(x)
        below, above = self.gaps(x)
        d_low = xp.where(self.from_below, (mu - low * dx) / below - low, 0.0)
        d_high = xp.where(self.from_above, (mu + high * dx) / above - high, 0.0)
        return d_low, d_high

    def first_multipliers(self, mu: Array, x: Array) -> tuple[Array, Array]:
        """The multipliers of the central path at `x`: mu over the distances."""
        xp = module(x)
        below, above = self.gaps(x)
        return (
            xp.where(self.from_below, mu / below, 0.0),
            xp.where(self.from_above, mu / above, 0.0),
        )

    def kept_near(self, mu: Array, x: Array, low: Array, high: Array) -> tuple[Array, Array]:
        """The multipliers, clipped to a neighbourhood of the central path (Eq. 16)."""
        xp = module(x)
        low_path, high_path = self.first_multipliers(mu, x)
        return (
            xp.clip(low, low_path / KAPPA_SIGMA, low_path * KAPPA_SIGMA),
            xp.clip(high, high_path / KAPPA_SIGMA, high_path * KAPPA_SIGMA),
        )

    def complementarity(self, mu: Array, x: Array, low: Array, high: Array) -> Array:
        """The largest deviation of distance times multiplier from mu."""
        xp = module(x)
        below, above = self.gaps(x)
        off_low = xp.where(self.from_below, xp.abs(below * low - mu), 0.0)
        off_high = xp.where(self.from_above, xp.abs(above * high - mu), 0.0)
        return xp.maximum(off_low.max(initial=0.0), off_high.max(initial=0.0))

    def longest(self, tau: Array, x: Array, dx: Array) -> Array:
        """The largest share of the step `dx`, at most one, that keeps 1 - tau of every distance.

        Eq. 15a, the fraction-to-the-boundary rule.
        """
        xp = module(x)
        below, above = self.gaps(x)
        down = xp.where(self.from_below & (dx < 0), -tau * below / dx, 1.0)
        up = xp.where(self.from_above & (dx > 0), tau * above / dx, 1.0)
        return xp.minimum(down.min(initial=1.0), up.min(initial=1.0))

    def longest_dual(
        self, tau: Array, low: Array, high: Array, d_low: Array, d_high: Array
    ) -> Array:
        """The same share of the steps `d_low` and `d_high` of the multipliers (Eq. 15b)."""
        xp = module(low)
        return xp.minimum(_longest_dual(tau, low, d_low), _longest_dual(tau, high, d_high))

    def inside(self, x: Array, push: float) -> Array:
        """`x` moved away from the bounds (section 3.6).

        By `push` times the bound's size, at least one, or times the width of the box.
        """
        xp = module(x)
        width = self.upper - self.lower
        low = self.lower + xp.minimum(push * xp.maximum(1.0, xp.abs(self.lower)), push * width)
        high = self.upper - xp.minimum(push * xp.maximum(1.0, xp.abs(self.upper)), push * width)
        x = xp.where(self.from_below, xp.maximum(x, low), x)
        return xp.where(self.from_above, xp.minimum(x, high), x)


def _longest_dual(tau: Array, multipliers: Array, steps: Array) -> Array:
    xp = module(steps)
    share = xp.where(steps < 0, -tau * multipliers / xp.where(steps < 0, steps, -1.0), 1.0)
    return share.min(initial=1.0)


class NoBounds(NamedTuple):
    """A box without bounds, whose functions cost nothing; `zero` is as long as `x`.

    For the host: a compiled program is to serve problems with and without bounds.
    """

    zero: Float[np.ndarray, " _"]

    def barrier(self, x: Array) -> Any:
        return 0.0

    def push(self, mu: Array, x: Array) -> Any:
        return self.zero

    def sigma(self, x: Array, low: Array, high: Array) -> Any:
        return self.zero

    def multiplier_steps(self, mu: Array, x: Array, dx: Array, low: Array, high: Array) -> Any:
        return self.zero, self.zero

    def first_multipliers(self, mu: Array, x: Array) -> Any:
        return self.zero, self.zero

    def kept_near(self, mu: Array, x: Array, low: Array, high: Array) -> Any:
        return self.zero, self.zero

    def complementarity(self, mu: Array, x: Array, low: Array, high: Array) -> Any:
        return 0.0

    def longest(self, tau: Array, x: Array, dx: Array) -> Any:
        return 1.0

    def longest_dual(self, tau: Array, low: Array, high: Array, d_low: Array, d_high: Array) -> Any:
        return 1.0

    def inside(self, x: Array, push: float) -> Any:
        return x


AnyBox = Box | NoBounds


def host_box(lower: np.ndarray, upper: np.ndarray) -> AnyBox:
    """The box with these bounds for NumPy."""
    box = Box.of(lower, upper)
    none = not (np.any(box.from_below) or np.any(box.from_above))
    return NoBounds(np.zeros(len(lower))) if none else box
