"""Products and solves of the many small matrices, one for each interval of each trajectory.

Axes: a matrix is (traj, interval, row, column), a vector of the intervals (traj, interval, row),
and a vector of the weights, which all intervals of a trajectory share, (traj, weight).
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from .options import LARGEST_INVERTED


def transpose(a: Array) -> Array:
    """Each interval's matrix, transposed."""
    return jnp.swapaxes(a, -1, -2)


def times(a: Array, x: Array) -> Array:
    """Each interval's matrix times its vector."""
    return jnp.einsum("...ij,...j->...i", a, x)


def times_transposed(a: Array, x: Array) -> Array:
    """Each interval's transposed matrix times its vector."""
    return jnp.einsum("...ij,...i->...j", a, x)


def times_weights(a: Array, w: Array) -> Array:
    """Each interval's matrix times the weights of its trajectory: a vector for each interval."""
    flat = _rows(a)
    return (flat @ w[..., None]).reshape(a.shape[:-1])


def onto_weights(a: Array, x: Array) -> Array:
    """The sum over intervals of transposed matrix times vector: a vector of the weights."""
    flat = _rows(a)
    return (x.reshape(len(a), 1, -1) @ flat)[:, 0]


def gram(a: Array, b: Array) -> Array:
    """The sum over intervals of `a.T @ b`, as one product per trajectory."""
    return transpose(_rows(a)) @ _rows(b)


def _rows(a: Array) -> Array:
    """The rows of all intervals of each trajectory, also where they have no columns."""
    return a.reshape(len(a), math.prod(a.shape[1:-1]), a.shape[-1])


class Square(NamedTuple):
    """Square matrices, ready to solve with: the inverses of small ones, or $LU$ and pivots."""

    matrices: Array
    pivots: Array | None

    @classmethod
    def of(cls, a: Array, largest_inverted: int = LARGEST_INVERTED) -> "Square":
        """From the matrices in the last two axes; larger ones than said are not inverted."""
        if a.shape[-1] <= largest_inverted:
            return cls(jnp.linalg.inv(a), None)
        return cls(*jax.scipy.linalg.lu_factor(a))

    def negative(self, b: Array) -> Array:
        """$-A^{-1} B$ for matrices $B$."""
        if self.pivots is None:
            return -self.matrices @ b
        return -jax.scipy.linalg.lu_solve((self.matrices, self.pivots), b)

    def vector(self, b: Array, transposed: bool = False) -> Array:
        """$A^{-1} b$, or $A^{-T} b$, for vectors $b$."""
        if self.pivots is None:
            return (times_transposed if transposed else times)(self.matrices, b)
        factors = self.matrices, self.pivots
        return jax.scipy.linalg.lu_solve(factors, b[..., None], int(transposed))[..., 0]
