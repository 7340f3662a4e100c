"""Which bounds and constraints are active at an optimum, and the optimum to full precision.

A solver ends within its tolerance, with every multiplier above zero. From there Newton's method on
the optimality conditions, with what is active held as an equation and the active set corrected at
every step (a primal-dual active-set method), takes one to three factorisations to rounding.
"""

from typing import NamedTuple

import numpy as np

from .._nlp import NLP
from .._trace import Multipliers
from .system import System


FREE, LOWER, UPPER = 0, 1, 2

_MOST_STEPS = 20
# It has converged where a step is so small, relative to the variables, or where steps smaller than
# the second number no longer shrink.
_STEP, _ROUGH = 1e-11, 1e-7
# Multipliers of the wrong sign, relative to the Hessian's size, and excess over bounds that count
# as rounding.
_ROUNDING = 1e-9
# Multipliers, relative likewise, and distances that make a bound weakly active.
_WEAK, _NEAR = 1e-6, 1e-8


class Point(NamedTuple):
    """An optimum to full precision.

    `held`, `rows`: for each variable and constraint whether it is free or at which bound it is.
    `forces` are the multipliers of the variables' bounds. `weak` tells whether something is at its
    bound with hardly any multiplier, or hardly away from it.
    """

    z: np.ndarray
    multipliers: np.ndarray
    forces: np.ndarray
    held: np.ndarray
    rows: np.ndarray
    system: System
    weak: bool


class _Sides(NamedTuple):
    """Variables, or constraints' values, between two bounds; equal ones always hold."""

    lower: np.ndarray
    upper: np.ndarray

    @property
    def equal(self) -> np.ndarray:
        return self.lower == self.upper

    def first(self, x: np.ndarray, down: np.ndarray, up: np.ndarray, unit: float) -> np.ndarray:
        """What is active at a solver's end, by multipliers in units of the Hessian's size."""
        low = np.isfinite(self.lower) & (down > unit * np.abs(x - self.lower))
        high = np.isfinite(self.upper) & (up > unit * np.abs(self.upper - x))
        return self._named(low, high & ~low)

    def corrected(
        self, sides: np.ndarray, x: np.ndarray, force: np.ndarray, unit: float
    ) -> np.ndarray:
        """What is active next: not what is pulled off its bound, but what is beyond one."""
        slack = _ROUNDING * np.maximum(1.0, np.abs(x))
        slip = _ROUNDING * unit
        low = np.where(sides == LOWER, force <= slip, x < self.lower - slack)
        high = np.where(sides == UPPER, force >= -slip, x > self.upper + slack)
        return self._named(low, high & ~low)

    def target(self, sides: np.ndarray) -> np.ndarray:
        """The bound that holds, zero where none does."""
        bound = np.where(sides == UPPER, self.upper, self.lower)
        return np.where(sides == FREE, 0.0, bound)

    def weak(self, sides: np.ndarray, x: np.ndarray, force: np.ndarray, unit: float) -> bool:
        """Whether something is weakly active, or nearly so."""
        loose = (sides != FREE) & ~self.equal & (np.abs(force) < _WEAK * unit)
        near = np.minimum(x - self.lower, self.upper - x) < _NEAR
        return bool(np.any(loose) or np.any((sides == FREE) & near))

    def _named(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        sides = np.where(low | self.equal, LOWER, np.where(high, UPPER, FREE))
        return sides.astype(np.int8)


def polished(nlp: NLP, z: np.ndarray, multipliers: Multipliers) -> Point | None:
    """The optimum near what a solver has found; None where the conditions do not lead to one.

    To be called inside `x64()`.
    """
    variables, constraints = _Sides(*nlp.bounds), _Sides(*nlp.constraint_bounds)
    values = np.asarray(nlp.compiled.function("constraints")(z))
    hessian = np.asarray(nlp.compiled.function("hessian")(z, multipliers.constraints, 1.0))
    unit = float(np.max(np.abs(hessian), initial=0.0)) or 1.0
    duals = np.asarray(multipliers.constraints)
    held = variables.first(z, np.asarray(multipliers.lower), np.asarray(multipliers.upper), unit)
    rows = constraints.first(values, np.maximum(-duals, 0), np.maximum(duals, 0), unit)
    z, before = z.copy(), np.inf
    for _ in range(_MOST_STEPS):
        duals = np.where(rows == FREE, 0.0, duals)
        system = System(nlp, z, duals, held != FREE, rows != FREE)
        if not system.regular:
            return None
        dz, new, force = system.solve(
            -system.gradient,
            constraints.target(rows) - system.constraints,
            variables.target(held) - z,
        )
        z = np.where(held != FREE, variables.target(held), z + dz)
        change = max(_relative(dz, z, 1e-6), _relative(new - duals, duals, 1e-6 * system.unit))
        duals = new
        values = np.asarray(nlp.compiled.function("constraints")(z))
        next_held = variables.corrected(held, z, force, system.unit)
        next_rows = constraints.corrected(rows, values, duals, system.unit)
        same = np.array_equal(next_held, held) and np.array_equal(next_rows, rows)
        if same and (change < _STEP or (change < _ROUGH and change > 0.3 * before)):
            weak = variables.weak(held, z, force, system.unit)
            weak |= constraints.weak(rows, values, duals, system.unit)
            return Point(z, duals, force, held, rows, system, weak)
        if not np.isfinite(change):
            return None
        before = change if same else np.inf
        held, rows = next_held, next_rows
    return None


def _relative(change: np.ndarray, x: np.ndarray, least: float) -> float:
    """The largest change, relative to the largest entry, or to one of this size."""
    return float(np.max(np.abs(change), initial=0.0) / np.max(np.abs(x), initial=least))
