r"""Which variables and constraints an optimum holds: those at active bounds.

An interior-point method ends at some distance $s$ from a bound, with a multiplier $\mu$ that says
how hard it presses. It acts like a measurement of precision $\mu / s$: where that is more than all
else says of the variable, the bound is active. So the share $(\mu / s) \operatorname{Var}$ is
computed, with the variance that includes the bounds, of those that are near; it is near one or
near zero.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from .._nlp import NLP
from .._trace import Multipliers


# Bounds farther away than this, in the optimizer's units and as a share of a value's size, are not
# active.
_NEAR = 1e-2
_TOGETHER = 256


class _Bounds(NamedTuple):
    """Bounds as measurements: their precision, zero for those that are far, and what is equal."""

    precision: Float[np.ndarray, " _"]
    equal: Bool[np.ndarray, " _"]

    @classmethod
    def of(
        cls,
        value: np.ndarray,
        bounds: tuple[np.ndarray, np.ndarray],
        forces: tuple[np.ndarray, np.ndarray],
    ) -> "_Bounds":
        """From values between bounds, and the forces of the lower and the upper ones."""
        precision = np.zeros(len(value))
        equal = bounds[0] == bounds[1]
        for side, force in zip(bounds, forces, strict=True):
            finite = np.isfinite(side) & ~equal
            distance = np.abs(value - np.where(finite, side, 0.0))
            near = finite & (distance <= _NEAR * np.maximum(np.abs(value), 1.0)) & (force > 0)
            precision[near] += force[near] / np.maximum(distance[near], 1e-300)
        return cls(precision, equal)


def held(
    nlp: NLP,
    z: Float[np.ndarray, " variable"],
    values: Float[np.ndarray, " constraint"],
    multipliers: Multipliers,
    jacobian: Float[np.ndarray, " slope"],
    hessian: Float[np.ndarray, " entry"],
) -> tuple[Bool[np.ndarray, " variable"], Bool[np.ndarray, " constraint"]]:
    """Which variables are fixed or at active bounds; which constraints are equations or active.

    `jacobian` and `hessian` are the non-zeros of the constraints' Jacobian and of the Lagrangian's
    Hessian, whose scale is that of the multipliers.
    """
    force = multipliers.constraints
    sides = np.abs(np.minimum(force, 0.0)), np.maximum(force, 0.0)
    of_z = _Bounds.of(z, nlp.bounds, (multipliers.lower, multipliers.upper))
    of_rows = _Bounds.of(values, nlp.constraint_bounds, sides)
    variables, rows = of_z.equal.copy(), of_rows.equal.copy()
    if not (of_z.precision.any() or of_rows.precision.any()):
        return variables, rows
    import scipy.sparse as sp
    from scipy.sparse.linalg import splu

    curvature = nlp.parts.hessian_pattern.symmetric(hessian)
    slopes = nlp.parts.jacobian_pattern.matrix(jacobian)
    near = np.flatnonzero(of_rows.precision)
    pressed = slopes[near].T @ sp.diags_array(of_rows.precision[near]) @ slopes[near]
    matrix = (curvature + sp.diags_array(of_z.precision) + pressed).tocsr()
    free = np.flatnonzero(~of_z.equal)
    equations = slopes[np.flatnonzero(of_rows.equal)][:, free]
    # Free directions are no matter here.
    weak = 1e-12 * max(float(np.abs(hessian).max(initial=0.0)), 1e-300)
    inner = matrix[free][:, free] + weak * sp.eye_array(len(free))
    lu = splu(sp.block_array([[inner, equations.T], [equations, None]], format="csc"))
    at = np.flatnonzero(of_z.precision)
    ones = sp.eye_array(len(z), format="csr")[at]
    variables[at] = of_z.precision[at] * _variances(lu, ones[:, free]) > 0.5
    rows[near] = of_rows.precision[near] * _variances(lu, slopes[near][:, free]) > 0.5
    return variables, rows


def _variances(lu: Any, functionals: Any) -> np.ndarray:
    """The variances of some linear functions."""
    found = [np.zeros(0)]
    for first in range(0, functionals.shape[0], _TOGETHER):
        some = functionals[first : first + _TOGETHER].toarray().T
        right = np.zeros((lu.shape[0], some.shape[1]))
        right[: len(some)] = some
        solved = lu.solve(right)[: len(some)]
        found.append((some * solved).sum(axis=0))
    return np.concatenate(found)
