r"""The Newton step of the barrier problem, from the factorised KKT system.

The bounds' multipliers and the slacks are eliminated (Waechter and Biegler, Eq. 11 and 12), so that
the system is one for the variables and the constraints' multipliers. Two other steps come from the
same system with other right-hand sides, and so without a compilation of their own, the metric
standing for the Hessian: least-squares multipliers for a first point (Eq. 36), and the steps of
restoration.
"""

from collections.abc import Callable
from typing import NamedTuple

from .._arrays import Array, driver, module
from . import blocks, kkt
from .barrier import Point, Problem
from .blocks import Slopes
from .inertia import Attempt
from .options import LOOSE_REGULARISATION, MAX_REFINEMENT_STEPS, RESIDUAL_RATIO_MAX
from .state import State


class Step(NamedTuple):
    """The steps of everything in a `Point`."""

    z: Array
    s: Array
    multipliers: Array
    low: Array
    high: Array
    s_low: Array
    s_high: Array

    def relative_size(self, z: Array) -> Array:
        """The largest step of a variable, relative to its size (section 3.9)."""
        xp = module(z)
        return xp.max(xp.abs(self.z) / (1 + xp.abs(z)))

    def longest_dual(self, problem: Problem, tau: Array, point: Point) -> Array:
        """The longest share of the step for the multipliers of bounds (Eq. 15b)."""
        in_z = problem.box.longest_dual(tau, point.low, point.high, self.low, self.high)
        in_s = problem.slack_box.longest_dual(
            tau, point.s_low, point.s_high, self.s_low, self.s_high
        )
        return module(tau).minimum(in_z, in_s)


class Equations(NamedTuple):
    """What a Newton step is to solve.

    `multipliers`: those that the Hessian is to be taken at. `sigma`, `sigma_s`: the barrier's
    Hessian in variables and slacks. `in_s`: the gradient in the slacks. `dual`, `primal`: the
    right-hand sides. `metric_only`: whether the metric stands for the Hessian.
    """

    multipliers: Array
    sigma: Array
    sigma_s: Array
    in_s: Array
    dual: Array
    primal: Array
    metric_only: Array

    def weight(self, problem: Problem) -> Array:
        """What loose rows weigh, see `kkt.factorise`."""
        xp = module(self.sigma_s)
        return xp.where(problem.inequality, self.sigma_s, 1 / LOOSE_REGULARISATION)


def equations(problem: Problem, state: State) -> Equations:
    """The equations of the next step: of a Newton step, of restoration, or for multipliers.

    Restoration leaves the objective out; the search for multipliers the bounds and the residual.
    """
    mu, point, restoring, starting = state.mu, state.point, state.restoring, state.starting
    on = driver(point.z)
    xp = on.xp
    multipliers = on.zero_if(restoring, point.multipliers)
    sigma = on.zero_if(starting, problem.box.sigma(point.z, point.low, point.high))
    sigma_s = xp.where(
        problem.inequality & on.negate(starting),
        problem.slack_box.sigma(point.s, point.s_low, point.s_high),
        1.0,
    )
    in_z = on.zero_if(restoring, state.force) + problem.box.push(mu, point.z)
    in_z = xp.where(problem.fixed, 0.0, in_z)
    in_s = -multipliers + problem.slack_box.push(mu, point.s)
    in_s = xp.where(problem.inequality, in_s, 0.0)
    primal = -on.zero_if(starting, state.values.residual)
    primal = primal - xp.where(problem.inequality, in_s / sigma_s, 0.0)
    return Equations(multipliers, sigma, sigma_s, in_s, -in_z, primal, restoring | starting)


class System(NamedTuple):
    """The factorised equations, ready to solve with."""

    problem: Problem
    slopes: tuple[Slopes, ...]
    eliminated: tuple[kkt.Eliminated, ...]
    equations: Equations
    attempt: Attempt

    def solve(self, dual: Array, primal: Array) -> tuple[Array, Array]:
        """Variables and multipliers for one right-hand side, not refined."""
        problem = self.problem
        return kkt.solve(
            problem.structure, self.slopes, self.eliminated, self.attempt.factor, dual, primal,
            problem.fixed,
        )  # fmt: skip

    def left_over(self, dual: Array, primal: Array, dz: Array, dl: Array) -> tuple[Array, Array]:
        """What steps leave of a right-hand side, loose rows not being regularised."""
        problem, attempt = self.problem, self.attempt
        diagonal = self.equations.sigma + attempt.delta * problem.metric
        left = dual - blocks.hessian_product(problem.structure, attempt.hessian, dz) - diagonal * dz
        left = left - blocks.transposed_product(problem.structure, self.slopes, dl)
        missing = primal - blocks.product(problem.structure, self.slopes, dz)
        missing = missing + self._slack_step(dl)
        return module(left).where(problem.fixed, 0.0, left), missing

    def step(self, mu: Array, point: Point, starting: Array) -> Step:
        """The whole step, with slacks and multipliers of bounds.

        A search for multipliers moves neither variables nor slacks.
        """
        problem, equations = self.problem, self.equations
        dz, dl = refined(self.solve, self.left_over, equations.dual, equations.primal)
        ds = (dl - equations.in_s) / equations.sigma_s
        on = driver(dz)
        ds = on.xp.where(problem.inequality, ds, 0.0)
        low = problem.box.multiplier_steps(mu, point.z, dz, point.low, point.high)
        s_low = problem.slack_box.multiplier_steps(mu, point.s, ds, point.s_low, point.s_high)
        dz, ds = on.zero_if(starting, dz), on.zero_if(starting, ds)
        return Step(dz, ds, dl, *low, *s_low)

    def correction(self, residual: Array) -> tuple[Array, Array]:
        """Steps of variables and slacks that take a residual of the constraints away."""
        dz, dl = self.solve(module(residual).zeros(len(self.problem.fixed)), -residual)
        return dz, self._slack_step(dl)

    def _slack_step(self, dl: Array) -> Array:
        return module(dl).where(self.problem.inequality, dl / self.equations.sigma_s, 0.0)


class _Solving(NamedTuple):
    """Steps, what they leave of the right-hand side, and how often has been solved."""

    dz: Array
    dl: Array
    left: Array
    missing: Array
    rounds: Array


def refined(
    solve: Callable[[Array, Array], tuple[Array, Array]],
    left_over: Callable[[Array, Array, Array, Array], tuple[Array, Array]],
    dual: Array,
    primal: Array,
) -> tuple[Array, Array]:
    """The solution for one right-hand side, refined where what it leaves over asks for it.

    `solve` and `left_over` are as in `System`.
    """

    on = driver(dual)
    xp = on.xp

    def another(carry: _Solving) -> _Solving:
        # The first round is the solution itself, so that solving is compiled once.
        more_z, more_l = solve(carry.left, carry.missing)
        dz, dl = carry.dz + more_z, carry.dl + more_l
        left, missing = left_over(dual, primal, dz, dl)
        return _Solving(dz, dl, left, missing, carry.rounds + 1)

    def largest(item: Array) -> Array:
        return abs(item).max(initial=0.0)

    def going(carry: _Solving) -> Array:
        rough = largest(carry.left) > RESIDUAL_RATIO_MAX * largest(dual)
        rough = rough | (largest(carry.missing) > RESIDUAL_RATIO_MAX * largest(primal))
        return (carry.rounds == 0) | (rough & (carry.rounds <= MAX_REFINEMENT_STEPS))

    none_z, none_l = xp.zeros(len(dual)), xp.zeros(len(primal))
    solved = on.loop(going, another, _Solving(none_z, none_l, dual, primal, on.value(0)))
    return solved.dz, solved.dl
