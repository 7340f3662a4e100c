r"""The barrier problem that an interior-point method solves, and its optimality conditions.

With slacks $s$ for the inequalities among the constraints, $c(z) - s = 0$, and for given $\mu$

$$\min_{z, s} \; \varphi = f(z) - \mu \sum \ln(z - l) - \mu \sum \ln(u - z) - \dots \quad
  \text{subject to} \quad c(z) = 0.$$

Equation numbers are those of Waechter and Biegler (`options.py`).
"""

from typing import Any, NamedTuple, Protocol

from jaxtyping import Bool, Float

from .._arrays import Array, driver, module
from . import blocks
from .blocks import Curvature, Slopes
from .box import AnyBox
from .options import (
    BARRIER_TOL_FACTOR,
    MU_LINEAR_DECREASE_FACTOR,
    MU_MIN_FRACTION,
    MU_SUPERLINEAR_DECREASE_POWER,
    S_MAX,
)


class Functions(Protocol):
    """What the method asks of an optimization problem: functions of its variables `z`.

    Sparse matrices come as the values of their non-zeros, in the order that `Structure` knows.
    """

    def objective(self, z: Array) -> Array:
        """The objective $f(z)$, a number."""
        ...

    def constraints(self, z: Array) -> Array:
        """The constraints $c(z)$."""
        ...

    def point(self, z: Array) -> tuple[Array, Array, Array, Array]:
        """Objective, its gradient, constraints, and their Jacobian."""
        ...

    def hessian(self, z: Array, multipliers: Array, factor: Array) -> Array:
        r"""The Hessian of `factor` $f + \lambda^T c$, lower triangle."""
        ...

    def gauss_newton(self, z: Array, factor: Array) -> Array:
        """The Gauss-Newton approximation of the Hessian of `factor` $f$, lower triangle."""
        ...


class Point(NamedTuple):
    """Variables, slacks, and all multipliers, in the scaled problem.

    `multipliers` are those of the constraints; `low` and `high` those of the variables' bounds,
    `s_low` and `s_high` those of the slacks'. Slacks of equations are zero.
    """

    z: Float[Array, " variable"]
    s: Float[Array, " constraint"]
    multipliers: Float[Array, " constraint"]
    low: Float[Array, " variable"]
    high: Float[Array, " variable"]
    s_low: Float[Array, " constraint"]
    s_high: Float[Array, " constraint"]


class Values(NamedTuple):
    """Objective, gradient, residual of the constraints and Jacobian at a point, scaled.

    `finite`: whether all of them are.
    """

    objective: Array
    gradient: Array
    residual: Array
    slopes: tuple[Slopes, ...]
    finite: Array

    @property
    def theta(self) -> Array:
        """The constraint violation: the sum of the residuals' magnitudes."""
        return abs(self.residual).sum()


class Errors(NamedTuple):
    r"""How far a point is from an optimum.

    `total` is the scaled optimality error $E_\mu$ (Eq. 5); `dual` and `primal` are the largest
    magnitudes of the Lagrangian's gradient and of the constraints' residual.
    """

    total: Array
    dual: Array
    primal: Array


class Problem(NamedTuple):
    """An optimization problem with its bounds, scaled (section 3.8).

    **Arguments:**

    - `core`: its `Functions`, not scaled.
    - `structure`: the `Structure`, where the blocks of its sparse matrices stand.
    - `box`: the bounds of the variables; those of fixed variables are infinite.
    - `slack_box`: the scaled bounds of the constraints; those of equations are infinite.
    - `target`: the scaled values that equations are to have; zero for inequalities.
    - `inequality`: which constraints are inequalities, and so have slacks.
    - `fixed`: which variables never move.
    - `metric`: the diagonal matrix of which multiples are added to the Hessian.
    - `scale`, `row_scale`: the factors of the objective and of the constraints.
    """

    core: Any
    structure: Any
    box: AnyBox
    slack_box: AnyBox
    target: Float[Array, " constraint"]
    inequality: Bool[Array, " constraint"]
    fixed: Bool[Array, " variable"]
    metric: Float[Array, " variable"]
    scale: Float[Array, ""]
    row_scale: Float[Array, " constraint"]

    def residual(self, constraints: Array, s: Array) -> Array:
        """$c(z) - s$ for inequalities, $c(z)$ minus its value for equations."""
        xp = module(constraints)
        return constraints * self.row_scale - xp.where(self.inequality, s, self.target)

    def evaluate(self, z: Array, s: Array) -> Values:
        """The objective, the residual and all first derivatives."""
        objective, gradient, constraints, jacobian = self.core.point(z)
        xp = module(gradient)
        gradient = xp.where(self.fixed, 0.0, gradient * self.scale)
        residual = self.residual(constraints, s)
        finite = xp.isfinite(objective) & xp.isfinite(gradient).all()
        finite = finite & xp.isfinite(residual).all() & xp.isfinite(jacobian).all()
        slopes = blocks.slopes(self.structure, jacobian, self.row_scale)
        return Values(objective * self.scale, gradient, residual, slopes, finite)

    def curvature(self, z: Array, multipliers: Array, exact: bool) -> Curvature:
        """The Hessian of the Lagrangian, or its Gauss-Newton approximation."""
        if exact:
            values = self.core.hessian(z, multipliers * self.row_scale, self.scale)
        else:
            values = self.core.gauss_newton(z, self.scale)
        return blocks.curvature(self.structure, values)

    def force(self, values: Values, multipliers: Array) -> Array:
        r"""$\nabla f + A^T \lambda$, zero for what is fixed."""
        pull = blocks.transposed_product(self.structure, values.slopes, multipliers)
        return module(pull).where(self.fixed, 0.0, values.gradient + pull)

    def trial(self, z: Array, s: Array) -> tuple[Array, Array]:
        """The objective and the residual, without derivatives."""
        return (
            self.core.objective(z) * self.scale,
            self.residual(self.core.constraints(z), s),
        )

    def barrier(self, mu: Array, objective: Array, z: Array, s: Array) -> Array:
        r"""The barrier objective $\varphi$, from the objective at `z`."""
        return objective + mu * (self.box.barrier(z) + self.slack_box.barrier(s))

    def errors(self, mu: Array, values: Values, point: Point, force: Array) -> Errors:
        """How far `point` is from the optimum of the barrier problem, its `force` being given."""
        in_z = force - point.low + point.high
        xp = module(in_z)
        in_s = xp.where(self.inequality, -point.multipliers - point.s_low + point.s_high, 0.0)
        dual = xp.maximum(abs(in_z).max(), abs(in_s).max(initial=0.0))
        primal = abs(values.residual).max(initial=0.0)
        bound_total = point.low.sum() + point.high.sum()
        bound_total = bound_total + point.s_low.sum() + point.s_high.sum()
        count = max(len(point.z), 1)
        total = abs(point.multipliers).sum() + bound_total
        scale_dual = xp.maximum(S_MAX, total / (count + len(point.s))) / S_MAX
        scale_bound = xp.maximum(S_MAX, bound_total / count) / S_MAX
        off = xp.maximum(
            self.box.complementarity(mu, point.z, point.low, point.high),
            self.slack_box.complementarity(mu, point.s, point.s_low, point.s_high),
        )
        largest = xp.maximum(xp.maximum(dual / scale_dual, primal), off / scale_bound)
        return Errors(largest, dual, primal)

    def next_mu(self, mu: Array, tol: Array, values: Values, point: Point, force: Array) -> Array:
        """The barrier parameter, lowered until `point` is no solution of its problem (Eq. 7)."""
        on = driver(mu)

        def solved(mu: Array) -> Array:
            error = self.errors(mu, values, point, force).total
            return (error <= BARRIER_TOL_FACTOR * mu) & (mu > tol / MU_MIN_FRACTION)

        def lower(mu: Array) -> Array:
            lower = on.xp.minimum(MU_LINEAR_DECREASE_FACTOR * mu, mu**MU_SUPERLINEAR_DECREASE_POWER)
            return on.xp.maximum(lower, tol / MU_MIN_FRACTION)

        return on.loop(solved, lower, mu)
