r"""The chain of interval boundaries (`chain.py`) in NumPy and LAPACK: a banded matrix.

With boundaries and multipliers in order, $u = (l_0, \nu_0, l_1, \nu_1, \dots)$, the optimality
conditions have a band of $2d - 1$ entries on either side of the diagonal, which LU with partial
pivoting takes apart. Trajectories follow one another in one matrix, where nothing joins them, so
that many short ones cost no more than a long one.

The functions are those of `chain.py`, for all trajectories of a chain at once.
"""

import functools
from typing import NamedTuple

import numpy as np

from .batched import lapack
from .options import CURVATURE_ROUNDING


class Banded(NamedTuple):
    r"""The factorised matrix and its pivots; $u$ as a linear function of the weights.

    `by_weights` has axes (traj, boundary, entry, weight); `unit`, that of a trajectory's
    multipliers $\nu$, has (traj, 1, 1, 1).
    """

    factors: np.ndarray
    pivots: np.ndarray
    by_weights: np.ndarray
    unit: np.ndarray


def factorise_chains(
    q_ll: np.ndarray, ends: np.ndarray, step_l: np.ndarray, held: np.ndarray
) -> Banded:
    """Factorise the matrix of all trajectories, and solve with it for the weights' columns."""
    count, length, d, _ = q_ll.shape
    p = ends.shape[3]
    unit = np.abs(q_ll).max(axis=(1, 2, 3), keepdims=True)
    unit = np.where(unit > 0, unit, 1.0)
    factors, pivots, _ = lapack().dgbtrf(
        _band(q_ll / unit, step_l, held).T, 2 * d - 1, 2 * d - 1, overwrite_ab=1
    )
    scale = np.ones((count, length, 2 * d))
    scale[:, :, d:] = unit[..., 0]
    # LAPACK's order: what is contiguous is a column.
    right = np.empty((p, count, length, 2 * d))
    np.multiply(ends.transpose(3, 0, 1, 2), scale / -unit[..., 0], out=right)
    right[:, :, 0, :d][:, held] = 0.0
    u = _solved(factors, pivots, right)
    u *= scale
    return Banded(factors, pivots, u.transpose(1, 2, 3, 0), unit)


def solve_chains(
    turned: Banded, q_first: np.ndarray, q_l: np.ndarray, step: np.ndarray
) -> np.ndarray:
    r"""Boundaries and multipliers $(l, \nu)$ of all trajectories for one right-hand side.

    Arguments are as in `chain.py`.
    """
    count, length, d = q_l.shape
    right = np.empty((1, count, length, 2 * d))
    np.negative(q_l, out=right[0, :, :, :d])
    np.negative(q_first, out=right[0, :, 0, :d])
    right[..., :d] /= turned.unit[:, :, 0]
    np.negative(step, out=right[0, :, :, d:])
    u = _solved(turned.factors, turned.pivots, right)[0]
    u[:, :, d:] *= turned.unit[..., 0]
    return u


def are_convex(q_ll: np.ndarray, step_l: np.ndarray, held: np.ndarray) -> np.ndarray:
    """Whether the objective is convex in each trajectory's initial state.

    $V = Q_1 + T'_1{}^T Q_2 T'_1$ and $T' = T'_2 T'_1$ stand for two stages, one after the other;
    so halving their number again and again leaves one.
    """
    value = _reduced(q_ll, step_l)
    bad = ~np.isfinite(value).all(axis=(1, 2))
    if bad.any():
        value[bad] = _reduced_scaled(q_ll[bad], step_l[bad])
        bad = ~np.isfinite(value).all(axis=(1, 2))
        value[bad] = 0.0
    free = ~held[:, :, None] & ~held[:, None, :]
    value = np.where(
        free, (value + value.swapaxes(1, 2)) / 2, held[:, None] * np.eye(held.shape[1])
    )
    lowest = np.linalg.eigvalsh(value)[:, 0]
    # What is lost in rounding is no curvature.
    return (lowest > -CURVATURE_ROUNDING * np.abs(value).max(axis=(1, 2))) & ~bad


def _reduced(q: np.ndarray, step: np.ndarray) -> np.ndarray:
    """The Hessians in the initial states; not finite where products overflow."""
    while q.shape[1] > 1:
        (q_1, q_2, q_odd), (step_1, step_2, step_odd) = _pairs(q), _pairs(step)
        q = step_1.swapaxes(2, 3) @ q_2 @ step_1
        q += q_1
        step = step_2 @ step_1
        if q_odd.shape[1]:
            q, step = np.concatenate([q, q_odd], axis=1), np.concatenate([step, step_odd], axis=1)
    return q[:, 0].copy()


def _reduced_scaled(q: np.ndarray, step: np.ndarray) -> np.ndarray:
    """The same times a positive number, so that nothing overflows.

    `q` and `step` are kept near one, their sizes as logarithms.
    """
    size_q, size_step = np.zeros(q.shape[:2]), np.zeros(q.shape[:2])
    while q.shape[1] > 1:
        (q, size_q), (step, size_step) = _near_one(q, size_q), _near_one(step, size_step)
        (q_1, q_2, q_odd), (step_1, step_2, step_odd) = _pairs(q), _pairs(step)
        (a_1, a_2, a_odd), (b_1, b_2, b_odd) = _pairs(size_q), _pairs(size_step)
        later = a_2 + 2 * b_1
        both = np.maximum(a_1, later)
        q = np.exp(a_1 - both)[..., None, None] * q_1
        q = q + np.exp(later - both)[..., None, None] * (step_1.swapaxes(2, 3) @ q_2 @ step_1)
        q, step = np.concatenate([q, q_odd], axis=1), np.concatenate([step_2 @ step_1, step_odd], 1)
        size_q = np.concatenate([both, a_odd], axis=1)
        size_step = np.concatenate([b_1 + b_2, b_odd], axis=1)
    return q[:, 0]


def _near_one(x: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Matrices over their largest entries, and the logarithm of what they are to be times."""
    largest = np.abs(x).max(axis=(2, 3))
    largest = np.where(largest > 0, largest, 1.0)
    return x / largest[..., None, None], size + np.log(largest)


def _pairs(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Those at even places, those after them, and the one without a partner, if there is one."""
    last = x.shape[1] // 2 * 2
    return x[:, 0:last:2], x[:, 1:last:2], x[:, last:]


def _band(q_ll: np.ndarray, step_l: np.ndarray, held: np.ndarray) -> np.ndarray:
    """The matrix in LAPACK's storage of bands, transposed, with room for the factors."""
    count, length, d, _ = q_ll.shape
    template, i, j, middle = _template(d)
    if held.any():
        # What is held has a step of zero.
        q_ll, step_l = q_ll.copy(), step_l.copy()
        either = held[:, :, None] | held[:, None, :]
        q_ll[:, 0] = np.where(either, held[:, None] * np.eye(d), q_ll[:, 0])
        step_l[:, 0] = np.where(held[:, None], 0.0, step_l[:, 0])
    matrix = np.empty((count, length, *template.shape))
    matrix[:] = template
    # The entry of a row and a column stands at place `middle + row - column` of the column.
    matrix[:, :, j, middle + i - j] = q_ll
    matrix[:, :-1, j, middle + d + i - j] = step_l[:, :-1]
    matrix[:, :-1, d + j, middle + i - d - j] = step_l[:, :-1].swapaxes(2, 3)
    # The first boundary follows none. The last one has no step: its multiplier is zero.
    matrix[:, 0, :d, middle - d] = 0.0
    matrix[:, -1, d:] = 0.0
    matrix[:, -1, d:, middle] = 1.0
    return matrix.reshape(count * length * 2 * d, -1)


@functools.lru_cache
def _template(d: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """A boundary's columns with what is the same in all; a block's rows, columns; the diagonal."""
    band = 2 * d - 1
    template, middle = np.zeros((2 * d, 3 * band + 1)), 2 * band
    template[:d, middle - d] = template[d:, middle + d] = -1.0
    i, j = np.mgrid[:d, :d]
    return template, i, j, middle


def _solved(factors: np.ndarray, pivots: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The solutions for right-hand sides (column, traj, boundary, entry), which are overwritten."""
    d, columns = right.shape[3] // 2, len(right)
    right[:, :, -1, d:] = 0.0
    if not columns:
        return right
    # The matrix is symmetric, and LAPACK solves with the transposed one in less time.
    band = 2 * d - 1
    solved, _ = lapack().dgbtrs(
        factors, band, band, right.reshape(columns, -1).T, pivots, trans=1, overwrite_b=1
    )
    return solved.T.reshape(right.shape)
