"""Products and solves of the many small matrices, one for each interval of each trajectory.

Axes: a matrix is (traj, interval, row, column), a vector of the intervals (traj, interval, row),
and a vector of the weights, which all intervals of a trajectory share, (traj, weight).
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._arrays import Array, driver
from .options import LARGEST_INVERTED


# Numbers that stay in a processor's cache while they are worked with.
_CACHED = 2**16


@functools.cache
def lapack() -> Any:
    """SciPy's LAPACK, imported when it is first used: that takes a while."""
    from scipy.linalg import lapack

    return lapack


def transpose(a: Array) -> Array:
    """Each interval's matrix, transposed."""
    return a.swapaxes(-1, -2)


def times(a: Array, x: Array) -> Array:
    """Each interval's matrix times its vector."""
    if driver(a).traced:
        return jnp.einsum("...ij,...j->...i", a, x)
    return (a @ x[..., None])[..., 0]


def times_transposed(a: Array, x: Array) -> Array:
    """Each interval's transposed matrix times its vector."""
    if driver(a).traced:
        return jnp.einsum("...ij,...i->...j", a, x)
    return (x[..., None, :] @ a)[..., 0, :]


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


def gram_with(a: Array, square: Array, b: Array) -> Array:
    """The sum over intervals of `a.T @ (square @ a + 2 * b)`."""
    if driver(a).traced:
        return gram(a, square @ a + 2 * b)
    # As many intervals at a time as stay in the cache.
    count = max(1, _CACHED // (math.prod(a.shape) // a.shape[1] + 1))
    found = np.zeros((len(a), a.shape[3], a.shape[3]))
    for first in range(0, a.shape[1], count):
        some = slice(first, first + count)
        inner = square[:, some] @ a[:, some]
        inner += b[:, some]
        inner += b[:, some]
        found += gram(a[:, some], inner)
    return found


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
        if a.shape[-1] > largest_inverted:
            return cls(*(jax.scipy.linalg.lu_factor(a) if driver(a).traced else _lu_factor(a)))
        return cls(jnp.linalg.inv(a) if driver(a).traced else _inverse(a), None)

    def negative(self, b: Array) -> Array:
        """$-A^{-1} B$ for matrices $B$."""
        if self.pivots is None:
            return -self.matrices @ b
        return -self._solved(b, False)

    def vector(self, b: Array, transposed: bool = False) -> Array:
        """$A^{-1} b$, or $A^{-T} b$, for vectors $b$."""
        if self.pivots is None:
            return (times_transposed if transposed else times)(self.matrices, b)
        return self._solved(b[..., None], transposed)[..., 0]

    def _solved(self, b: Array, transposed: bool) -> Array:
        solve: Any = jax.scipy.linalg.lu_solve if driver(b).traced else _lu_solve
        return solve((self.matrices, self.pivots), b, int(transposed))


def _inverse(a: np.ndarray) -> np.ndarray:
    """The inverses; of NaN where a matrix has none, as JAX has it."""
    try:
        return np.linalg.inv(a)
    except np.linalg.LinAlgError:
        return np.full_like(a, np.nan)


def _lu_factor(a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The factors of each matrix, and its pivots."""
    factors, pivots = np.empty_like(a), np.empty(a.shape[:-1], np.int32)
    for at in np.ndindex(a.shape[:-2]):
        # Rows are LAPACK's columns: taken apart and kept is the transposed matrix, uncopied.
        found, pivots[at], _ = lapack().dgetrf(a[at].T)
        factors[at] = found.T
    return factors, pivots


def _lu_solve(factor: tuple[np.ndarray, np.ndarray], b: np.ndarray, trans: int) -> np.ndarray:
    """The solutions for the right-hand sides `b`, or those of the transposed matrices."""
    factors, pivots = factor
    solved = np.empty_like(b)
    for at in np.ndindex(b.shape[:-2]):
        solved[at] = lapack().dgetrs(factors[at].T, pivots[at], b[at], trans=1 - trans)[0]
    return solved


def cholesky(a: Array) -> tuple[Array, Array]:
    """The lower Cholesky factor of one symmetric matrix, and whether there is one."""
    if driver(a).traced:
        factor = jnp.linalg.cholesky(a)
        return factor, jnp.all(jnp.isfinite(factor))
    if not len(a):
        return a, True
    # NaN would not be noticed.
    if not np.all(np.isfinite(a)):
        return a, False
    factor, failed = lapack().dpotrf(a.T, lower=1)
    return factor, not failed


def cholesky_solve(factor: Array, b: Array) -> Array:
    """The solution for the right-hand side `b`."""
    if driver(factor).traced:
        return jax.scipy.linalg.cho_solve((factor, True), b)
    return lapack().dpotrs(factor, b, lower=1)[0] if len(b) else b
