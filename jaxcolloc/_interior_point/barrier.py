r"""The barrier problem that an interior-point method solves, and its optimality conditions.

With slacks $s$ for the inequalities among the constraints, $c(z) - s = 0$, and for given $\mu$

$$\min_{z, s} \; \varphi = f(z) - \mu \sum \ln(z - l) - \mu \sum \ln(u - z) - \dots \quad
  \text{subject to} \quad c(z) = 0.$$

Waechter and Biegler, Mathematical Programming 106 (2006); equation numbers are theirs.
"""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .._transcription.core import Core
from . import kkt
from .structure import Structure


# Multipliers stay within this factor of mu over their slack (Eq. 16).
_NEAR = 1e10
_MEAN = 100.0


class Box(eqx.Module):
    """Bounds of some variables; infinite where there are none, or where they are not varied."""

    lower: Float[Array, " _"]
    upper: Float[Array, " _"]

    def gaps(self, x: Array) -> tuple[Array, Array]:
        """The distances to both; one where there is no bound."""
        below = jnp.where(jnp.isfinite(self.lower), x - self.lower, 1.0)
        above = jnp.where(jnp.isfinite(self.upper), self.upper - x, 1.0)
        return below, above

    def barrier(self, x: Array) -> Array:
        """$-\\sum \\ln(x - l) - \\sum \\ln(u - x)$."""
        below, above = self.gaps(x)
        return -jnp.sum(jnp.log(below)) - jnp.sum(jnp.log(above))

    def push(self, mu: Array, x: Array) -> Array:
        """The gradient of mu times the barrier."""
        below, above = self.gaps(x)
        pull_up = jnp.where(jnp.isfinite(self.lower), mu / below, 0.0)
        pull_down = jnp.where(jnp.isfinite(self.upper), mu / above, 0.0)
        return pull_down - pull_up

    def sigma(self, x: Array, low: Array, high: Array) -> Array:
        """The primal-dual Hessian of the barrier."""
        below, above = self.gaps(x)
        return low / below + high / above

    def multiplier_steps(
        self, mu: Array, x: Array, dx: Array, low: Array, high: Array
    ) -> tuple[Array, Array]:
        """Newton steps of the bounds' multipliers (Eq. 12)."""
        below, above = self.gaps(x)
        d_low = jnp.where(jnp.isfinite(self.lower), (mu - low * dx) / below - low, 0.0)
        d_high = jnp.where(jnp.isfinite(self.upper), (mu + high * dx) / above - high, 0.0)
        return d_low, d_high

    def first_multipliers(self, mu: Array, x: Array) -> tuple[Array, Array]:
        """Those of the central path at `x`."""
        below, above = self.gaps(x)
        return (
            jnp.where(jnp.isfinite(self.lower), mu / below, 0.0),
            jnp.where(jnp.isfinite(self.upper), mu / above, 0.0),
        )

    def kept_near(self, mu: Array, x: Array, low: Array, high: Array) -> tuple[Array, Array]:
        """The multipliers, not too far from the central path (Eq. 16)."""
        low_path, high_path = self.first_multipliers(mu, x)
        return (
            jnp.clip(low, low_path / _NEAR, low_path * _NEAR),
            jnp.clip(high, high_path / _NEAR, high_path * _NEAR),
        )

    def complementarity(self, mu: Array, x: Array, low: Array, high: Array) -> Array:
        """The largest deviation of gap times multiplier from mu."""
        below, above = self.gaps(x)
        off_low = jnp.where(jnp.isfinite(self.lower), jnp.abs(below * low - mu), 0.0)
        off_high = jnp.where(jnp.isfinite(self.upper), jnp.abs(above * high - mu), 0.0)
        return jnp.maximum(jnp.max(off_low, initial=0.0), jnp.max(off_high, initial=0.0))

    def longest(self, tau: Array, x: Array, dx: Array) -> Array:
        """The largest share of a step that keeps 1 - tau of every gap (Eq. 15a)."""
        below, above = self.gaps(x)
        down = jnp.where(jnp.isfinite(self.lower) & (dx < 0), -tau * below / dx, 1.0)
        up = jnp.where(jnp.isfinite(self.upper) & (dx > 0), tau * above / dx, 1.0)
        return jnp.minimum(jnp.min(down, initial=1.0), jnp.min(up, initial=1.0))

    def inside(self, x: Array, push: float = 1e-2) -> Array:
        """`x` moved away from the bounds (section 3.6)."""
        width = self.upper - self.lower
        low = self.lower + jnp.minimum(push * jnp.maximum(1.0, jnp.abs(self.lower)), push * width)
        high = self.upper - jnp.minimum(push * jnp.maximum(1.0, jnp.abs(self.upper)), push * width)
        x = jnp.where(jnp.isfinite(self.lower), jnp.maximum(x, low), x)
        return jnp.where(jnp.isfinite(self.upper), jnp.minimum(x, high), x)


def longest_dual(tau: Array, multipliers: Array, steps: Array) -> Array:
    """The same for multipliers, which stay positive (Eq. 15b)."""
    share = jnp.where(steps < 0, -tau * multipliers / jnp.where(steps < 0, steps, -1.0), 1.0)
    return jnp.min(share, initial=1.0)


class Point(NamedTuple):
    """Variables, slacks, and all multipliers, in the scaled problem."""

    z: Float[Array, " variable"]
    s: Float[Array, " constraint"]
    multipliers: Float[Array, " constraint"]
    low: Float[Array, " variable"]
    high: Float[Array, " variable"]
    s_low: Float[Array, " constraint"]
    s_high: Float[Array, " constraint"]


class Values(NamedTuple):
    """Objective, gradient, residual of the constraints and Jacobian at a point, scaled."""

    objective: Array
    gradient: Array
    residual: Array
    slopes: tuple[kkt.Slopes, ...]
    finite: Array


class Problem(eqx.Module):
    """The NLP with its bounds and the factors of objective and constraints (section 3.8).

    `metric` is the diagonal matrix of which multiples are added to the Hessian.
    """

    core: Core
    structure: Structure
    box: Box
    slack_box: Box
    target: Float[Array, " constraint"]
    inequality: Bool[Array, " constraint"]
    fixed: Bool[Array, " variable"]
    metric: Float[Array, " variable"]
    scale: Float[Array, ""]
    row_scale: Float[Array, " constraint"]

    def residual(self, constraints: Array, s: Array) -> Array:
        """$c(z) - s$ for inequalities, $c(z)$ minus its value for equations."""
        return constraints * self.row_scale - jnp.where(self.inequality, s, self.target)

    def evaluate(self, z: Array, s: Array) -> Values:
        """All first derivatives."""
        objective, gradient, constraints, jacobian = self.core.point(z)
        gradient = jnp.where(self.fixed, 0.0, gradient * self.scale)
        residual = self.residual(constraints, s)
        finite = jnp.isfinite(objective) & jnp.all(jnp.isfinite(gradient))
        finite = finite & jnp.all(jnp.isfinite(residual)) & jnp.all(jnp.isfinite(jacobian))
        blocks = kkt.slopes(self.structure, jacobian, self.row_scale)
        return Values(objective * self.scale, gradient, residual, blocks, finite)

    def curvature(self, z: Array, multipliers: Array, exact: bool) -> kkt.Curvature:
        """The Hessian of the Lagrangian, or its Gauss-Newton approximation."""
        if exact:
            values = self.core.hessian(z, multipliers * self.row_scale, self.scale)
        else:
            values = self.core.gauss_newton(z, self.scale)
        return kkt.curvature(self.structure, values)

    def force(self, values: Values, multipliers: Array) -> Array:
        """$\\nabla f + A^T \\lambda$, zero for what is fixed."""
        pull = kkt.transposed(self.structure, values.slopes, multipliers)
        return jnp.where(self.fixed, 0.0, values.gradient + pull)

    def trial(self, z: Array, s: Array) -> tuple[Array, Array]:
        """Objective and residual only."""
        return (
            self.core.objective(z) * self.scale,
            self.residual(self.core.constraints(z), s),
        )

    def barrier(self, mu: Array, objective: Array, z: Array, s: Array) -> Array:
        """The barrier objective."""
        return objective + mu * (self.box.barrier(z) + self.slack_box.barrier(s))

    def error(
        self, mu: Array, values: Values, point: Point, force: Array
    ) -> tuple[Array, Array, Array]:
        """Scaled optimality error (Eq. 5), dual and primal infeasibility, for given `force`."""
        in_z = force - point.low + point.high
        in_s = jnp.where(self.inequality, -point.multipliers - point.s_low + point.s_high, 0.0)
        dual = jnp.maximum(jnp.max(jnp.abs(in_z)), jnp.max(jnp.abs(in_s), initial=0.0))
        primal = jnp.max(jnp.abs(values.residual), initial=0.0)
        bound_total = jnp.sum(point.low) + jnp.sum(point.high)
        bound_total = bound_total + jnp.sum(point.s_low) + jnp.sum(point.s_high)
        count = max(len(point.z), 1)
        total = jnp.sum(jnp.abs(point.multipliers)) + bound_total
        scale_dual = jnp.maximum(_MEAN, total / (count + len(point.s))) / _MEAN
        scale_bound = jnp.maximum(_MEAN, bound_total / count) / _MEAN
        off = jnp.maximum(
            self.box.complementarity(mu, point.z, point.low, point.high),
            self.slack_box.complementarity(mu, point.s, point.s_low, point.s_high),
        )
        return jnp.maximum(jnp.maximum(dual / scale_dual, primal), off / scale_bound), dual, primal
