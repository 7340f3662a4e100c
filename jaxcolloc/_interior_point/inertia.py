r"""Factorising the KKT system, with as much added to the Hessian as its inertia asks for.

A Newton step leads downhill only if the system has as many negative eigenvalues as there are
constraints. Where it has not, growing multiples $\delta$ of a metric are added to the Hessian until
it has (Waechter and Biegler, section 3.1, algorithm IC; `options.py` says where ours differs).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from . import kkt
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

    `factor`: the factors. `hessian`: the Hessian before anything was added. `delta`: the multiple
    of the metric that was added. `tries`: how many attempts there have been, this one included.
    `flattened`: whether the curvature of the equations was left out.
    """

    factor: kkt.Factor
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
        return cls(
            delta=jnp.asarray(0.0),
            damping=jnp.asarray(MIN_DAMPING),
            at_once=jnp.asarray(True),
            missing=jnp.zeros(REMEMBERED_STEPS),
            for_missing=FIRST_GAUSS_NEWTON_DAMPING * jnp.abs(objective),
        )

    def larger(self, delta: Array | float) -> Array:
        """The multiple to try after `delta` was too small; the smallest one after zero."""
        first = jnp.where(
            self.delta > 0,
            jnp.maximum(MIN_HESSIAN_PERTURBATION, PERTURB_DEC_FACT * self.delta),
            FIRST_HESSIAN_PERTURBATION,
        )
        up = jnp.where(self.delta > 0, PERTURB_INC_FACT, PERTURB_INC_FACT_FIRST)
        return jnp.where(delta > 0, up * delta, first)

    def first(self) -> Array:
        """The multiple to try first.

        Zero if none has been needed yet, or if the last iteration needed little and got it at its
        first attempt; else a little less than last time.
        """
        hopeful = (self.at_once & (self.delta < NEGLIGIBLE_PERTURBATION)) | (self.delta == 0)
        return jnp.where(hopeful, 0.0, self.larger(jnp.asarray(0.0)))

    def after(self, attempt: Attempt, alpha: Array, restoring: Array) -> "Memory":
        """The memory after an iteration that took a step of length `alpha` from `attempt`.

        The damping grows where the step had to be cut and falls where it had not. What restoration
        adds says nothing about the inertia.
        """
        damping = jnp.where(alpha < CUT_STEP, PERTURB_INC_FACT, PERTURB_DEC_FACT) * self.damping
        damping = jnp.clip(damping, MIN_DAMPING, MAX_DAMPING)
        return self._replace(
            delta=jnp.where(restoring | (attempt.delta <= 0), self.delta, attempt.delta),
            damping=jnp.where(attempt.flattened, damping, self.damping),
            at_once=attempt.tries == 1,
        )

    def learned(self, missing: Array, alpha: Array, objective: Array) -> "Memory":
        r"""The memory after a step of length `alpha` with a Gauss-Newton Hessian $G$.

        `missing` is $\sigma = d^T (\nabla L(z + d) - \nabla L(z) - G d) / d^T M d$, the multiple of
        the metric $M$ with which the step $d$ would have had the right curvature, as in the
        spectral steps of Barzilai and Borwein; NaN where that is not known.
        """
        known = jnp.append(self.missing[1:], missing)
        known = jnp.where(jnp.isfinite(missing), known, self.missing)
        change = jnp.where(alpha < CUT_STEP, PERTURB_INC_FACT, PERTURB_DEC_FACT)
        least = jnp.maximum(
            change * self.for_missing, MIN_GAUSS_NEWTON_DAMPING * jnp.abs(objective)
        )
        damping = jnp.maximum(jnp.max(known), least)
        return self._replace(missing=known, for_missing=damping)


def factorised(
    problem: Problem,
    slopes: tuple[Slopes, ...],
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
    - `curvature`: gives the Hessian, for True without the curvature of the equations.
    - `sigma`: the diagonal that the bounds of the variables add to the Hessian.
    - `weight`: what loose rows weigh, see `kkt.factorise`.
    - `metric_only`: whether the metric is to stand for the Hessian.
    - `memory`: of the last iterations.
    - `exact`: whether the Hessian is, or the Gauss-Newton approximation.
    """
    first = jnp.where(metric_only, 1.0, memory.first() if exact else memory.for_missing)

    def tried(hessian: Curvature, delta: Array, tries: Array, flattened: Array) -> Attempt:
        diagonal = sigma + delta * problem.metric
        factor = kkt.factorise(problem.structure, slopes, hessian, diagonal, weight, problem.fixed)
        return Attempt(factor, hessian, delta, tries, flattened)

    def another(last: Attempt) -> Attempt:
        # The first attempt is one of the loop's, so that the factorisation is compiled once.
        delta = jnp.where(last.tries == 0, first, memory.larger(last.delta))
        # A Gauss-Newton Hessian has no curvature of the equations.
        flattened = last.flattened | (exact & (delta > MAX_DAMPING))
        changed = flattened & ~last.flattened
        delta = jnp.where(changed & ~metric_only, memory.damping, delta)
        hessian = jax.lax.cond(
            ((last.tries == 0) | changed) & ~metric_only,
            lambda _: curvature(flattened),
            lambda _: last.hessian,
            jnp.zeros(()),
        )
        return tried(hessian, delta, last.tries + 1, flattened)

    def bad(last: Attempt) -> Array:
        return ~last.factor.good & (last.delta < MAX_HESSIAN_PERTURBATION)

    no = jnp.asarray(False)
    hessian = jax.eval_shape(curvature, no)
    untried = jax.eval_shape(tried, hessian, jnp.asarray(0.0), jnp.asarray(0), no)
    zeros = jax.tree.map(lambda item: jnp.zeros(item.shape, item.dtype), untried)
    return jax.lax.while_loop(bad, another, zeros)
