r"""Factorising the KKT system, with as much added to the Hessian as its inertia asks for.

A Newton step leads downhill only if the system has as many negative eigenvalues as there are
constraints. Where it has not, growing multiples $\delta$ of a metric are added to the Hessian until
it has (Waechter and Biegler, section 3.1, algorithm IC; `options.py` says where ours differs).
"""

from collections.abc import Callable
from typing import NamedTuple

from .._arrays import Array, driver
from . import blocks, kkt
from .barrier import Problem
from .blocks import Curvature, Slopes
from .options import (
    CUT_STEP,
    FIRST_GAUSS_NEWTON_DAMPING,
    FIRST_HESSIAN_PERTURBATION,
    MAX_DAMPING,
    MAX_HESSIAN_PERTURBATION,
    MIN_DAMPING,
    MIN_GAUSS_NEWTON_DAMPING,
    MIN_HESSIAN_PERTURBATION,
    NEGLIGIBLE_PERTURBATION,
    PERTURB_DEC_FACT,
    PERTURB_INC_FACT,
    PERTURB_INC_FACT_FIRST,
    REMEMBERED_STEPS,
)


class Attempt(NamedTuple):
    """A factorisation that was tried.

    `factor`: the factors, and whether they are `good`. `hessian`: the Hessian before anything was
    added. `delta`: the multiple of the metric that was added. `tries`: how many attempts there have
    been, this one included. `flattened`: whether the curvature of the equations was left out.
    """

    factor: kkt.Factor
    good: Array
    hessian: Curvature
    delta: Array
    tries: Array
    flattened: Array


class Memory(NamedTuple):
    """What is remembered of the last iterations' attempts.

    `delta`: the last multiple that was added, zero if none has been. `damping`: the multiple to add
    when the curvature of the equations is left out. `at_once`: whether the first attempt of the
    last iteration was good. `missing`: the multiples that a Gauss-Newton Hessian would have needed
    along the last steps, and `for_missing` the one to add to the next.
    """

    delta: Array
    damping: Array
    at_once: Array
    missing: Array
    for_missing: Array

    @classmethod
    def start(cls, objective: Array) -> "Memory":
        """Nothing has been tried; `objective` is that of the first point."""
        on = driver(objective)
        return cls(
            delta=on.value(0.0),
            damping=on.value(MIN_DAMPING),
            at_once=on.value(True),
            missing=on.xp.zeros(REMEMBERED_STEPS),
            for_missing=FIRST_GAUSS_NEWTON_DAMPING * abs(objective),
        )

    def larger(self, delta: Array | float) -> Array:
        """The multiple to try after `delta` was too small; the smallest one after zero."""
        on = driver(self.delta)
        first = on.select(
            self.delta > 0,
            on.xp.maximum(MIN_HESSIAN_PERTURBATION, PERTURB_DEC_FACT * self.delta),
            FIRST_HESSIAN_PERTURBATION,
        )
        up = on.select(self.delta > 0, PERTURB_INC_FACT, PERTURB_INC_FACT_FIRST)
        return on.select(delta > 0, up * delta, first)

    def first(self) -> Array:
        """The multiple to try first.

        Zero if none has been needed yet, or if the last iteration needed little and got it at its
        first attempt; else a little less than last time.
        """
        hopeful = (self.at_once & (self.delta < NEGLIGIBLE_PERTURBATION)) | (self.delta == 0)
        on = driver(self.delta)
        zero = on.value(0.0)
        return on.select(hopeful, zero, self.larger(zero))

    def after(self, attempt: Attempt, alpha: Array, restoring: Array) -> "Memory":
        """The memory after an iteration that took a step of length `alpha` from `attempt`.

        The damping grows where the step had to be cut and falls where it had not. What restoration
        adds says nothing about the inertia.
        """
        on = driver(self.damping)
        damping = on.select(alpha < CUT_STEP, PERTURB_INC_FACT, PERTURB_DEC_FACT) * self.damping
        damping = on.xp.clip(damping, MIN_DAMPING, MAX_DAMPING)
        return self._replace(
            delta=on.select(restoring | (attempt.delta <= 0), self.delta, attempt.delta),
            damping=on.select(attempt.flattened, damping, self.damping),
            at_once=attempt.tries == 1,
        )

    def learned(self, missing: Array, alpha: Array, objective: Array) -> "Memory":
        r"""The memory after a step of length `alpha` with a Gauss-Newton Hessian $G$.

        `missing` is $\sigma = d^T (\nabla L(z + d) - \nabla L(z) - G d) / d^T M d$, the multiple of
        the metric $M$ with which the step $d$ would have had the right curvature, as in the
        spectral steps of Barzilai and Borwein; NaN where that is not known.
        """
        on = driver(self.missing)
        xp = on.xp
        known = xp.append(self.missing[1:], missing)
        known = on.select(xp.isfinite(missing), known, self.missing)
        change = on.select(alpha < CUT_STEP, PERTURB_INC_FACT, PERTURB_DEC_FACT)
        least = xp.maximum(change * self.for_missing, MIN_GAUSS_NEWTON_DAMPING * abs(objective))
        damping = xp.maximum(xp.max(known), least)
        return self._replace(missing=known, for_missing=damping)


def factorised(
    problem: Problem,
    slopes: tuple[Slopes, ...],
    eliminated: tuple[kkt.Eliminated, ...],
    curvature: Callable[[Array], Curvature],
    sigma: Array,
    weight: Array,
    metric_only: Array,
    memory: Memory,
    exact: bool,
) -> Attempt:
    """The first attempt that is good, or the last one.

    **Arguments:**

    - `slopes`: the Jacobian's blocks.
    - `eliminated`: their intervals, from `kkt.eliminate`.
    - `curvature`: gives the Hessian, for True without the curvature of the equations.
    - `sigma`: the diagonal that the bounds of the variables add to the Hessian.
    - `weight`: what loose rows weigh, see `kkt.factorise`.
    - `metric_only`: whether the metric is to stand for the Hessian.
    - `memory`: of the last iterations.
    - `exact`: whether the Hessian is, or the Gauss-Newton approximation.
    """
    on = driver(sigma)
    structure = problem.structure
    zero, no = on.value(0.0), on.value(False)
    first = on.select(metric_only, on.value(1.0), memory.first() if exact else memory.for_missing)

    def factor(hessian: Curvature, delta: Array) -> kkt.Factor:
        diagonal = sigma + delta * problem.metric
        return kkt.factorise(
            structure, slopes, eliminated, hessian, diagonal, weight, problem.fixed
        )

    def another(last: Attempt) -> Attempt:
        # The first attempt is one of the loop's, so that the factorisation is compiled once.
        is_first = last.tries == 0
        delta = on.select(is_first, first, memory.larger(last.delta))
        # A Gauss-Newton Hessian has no curvature of the equations.
        flattened = last.flattened | (exact & (delta > MAX_DAMPING))
        changed = flattened & on.negate(last.flattened)
        own = on.negate(metric_only)
        delta = on.select(changed & own, memory.damping, delta)
        hessian = on.either(
            (is_first | changed) & own, lambda: curvature(flattened), lambda: last.hessian
        )
        found = factor(hessian, delta)
        return Attempt(found, found.good, hessian, delta, last.tries + 1, flattened)

    def bad(last: Attempt) -> Array:
        return on.negate(last.good) & (last.delta < MAX_HESSIAN_PERTURBATION)

    flat = blocks.no_curvature(structure, on)
    untried = Attempt(on.blank(factor, flat, zero), no, flat, zero, on.value(0), no)
    return on.loop(bad, another, untried)
