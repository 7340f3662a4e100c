r"""The optimum's derivative as a linear map, forwards and backwards.

By the implicit function theorem the optimum moves with the parameters $p$ as the optimality
conditions say,

$$K \begin{pmatrix} \dot z \\ \dot\lambda \\ \dot\nu \end{pmatrix} =
  \begin{pmatrix} -\partial_p \nabla_z L \\ -\partial_p c \\ \partial_p b \end{pmatrix} \dot p,$$

$K$ being the matrix of `system.py`, $L = f + \lambda \cdot c$ the Lagrangian and $b$ the bounds
that hold. What stands on the right is taken by JAX, of the same functions that are minimised.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .active import UPPER, Point
from .places import Places


class Mixed:
    """Derivatives of gradient and constraints by the parameters, compiled once for a form.

    To be called inside `x64()`.
    """

    def __init__(self, places: Places):
        self._places = places
        self._core = places.nlp.compiled.core
        self._forward = jax.jit(self._along)
        self._backward = jax.jit(self._gradient)

    def forward(self, p: np.ndarray, point: Point, dp: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The changes of the Lagrangian's gradient and of the constraints with the parameters."""
        found = self._forward(p, point.z, point.multipliers, dp)
        return np.asarray(found[0]), np.asarray(found[1])

    def backward(self, p: np.ndarray, point: Point, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """The derivative by the parameters of `u` times the gradient plus `v` times constraints."""
        return np.asarray(self._backward(p, point.z, point.multipliers, u, v))

    def _along(self, p: Any, z: Any, multipliers: Any, dp: Any) -> Any:
        def conditions(p: Any) -> Any:
            gradient = jax.grad(lambda z: self._lagrangian(p, z, multipliers)[0])(z)
            return gradient, self._lagrangian(p, z, multipliers)[1]

        return jax.jvp(conditions, (p,), (dp,))[1]

    def _gradient(self, p: Any, z: Any, multipliers: Any, u: Any, v: Any) -> Any:
        def total(p: Any) -> Any:
            def both(z: Any) -> Any:
                return self._lagrangian(p, z, multipliers)

            (_, constraints), (along, _) = jax.jvp(both, (z,), (u,))
            return along + v @ constraints

        return jax.grad(total)(p)

    def _lagrangian(self, p: Any, z: Any, multipliers: Any) -> Any:
        """The Lagrangian and the constraints."""
        core = self._places.core_at(self._core, p)
        constraints = core.constraints(z)
        return core.objective(z) + multipliers @ constraints, jnp.asarray(constraints)


class Linearised:
    """The derivative at one optimum; `p` are the parameters there."""

    def __init__(self, places: Places, mixed: Mixed, p: np.ndarray, point: Point):
        self._mixed, self._p, self._point = mixed, p, point
        sides = places.sides(p)
        upper = point.held == UPPER
        self._source = np.where(upper, sides.source[1], sides.source[0])
        self._slope = np.where(upper, sides.slope[1], sides.slope[0])
        self._moves = (point.held != 0) & (self._source >= 0)

    def forward(self, dp: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """How variables and multipliers change with the parameters."""
        r, c = self._mixed.forward(self._p, self._point, dp)
        h = np.zeros(len(self._source))
        h[self._moves] = self._slope[self._moves] * dp[self._source[self._moves]]
        dz, multipliers, _ = self._point.system.solve(-r, -c, h)
        return dz, multipliers

    def backward(self, z: np.ndarray, multipliers: np.ndarray) -> np.ndarray:
        """The cotangent of the parameters from those of variables and multipliers."""
        # What is held moves with its bound, and its cotangent with it.
        u, v, w = self._point.system.solve(z, multipliers, np.zeros(len(z)))
        found = -self._mixed.backward(self._p, self._point, u, v)
        at = self._moves
        return found + np.bincount(self._source[at], (self._slope * w)[at], minlength=len(found))
