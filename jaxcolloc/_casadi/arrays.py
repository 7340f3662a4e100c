"""Arrays of CasADi expressions: a column of scalars in C order, and a shape of any rank."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import casadi as ca
import numpy as np


Shape = tuple[int, ...]

# Whole numbers above have no exact float.
_LARGEST = 2**53


class Unsupported(Exception):
    """An operation that has no CasADi expression; its text says why."""


class Array(NamedTuple):
    """An array of expressions, which are numbers where nothing symbolic went in."""

    flat: Any
    shape: Shape

    def positions(self) -> np.ndarray:
        """Where each element stands in the column, in the array's shape."""
        return np.arange(int(np.prod(self.shape))).reshape(self.shape)

    def take(self, positions: np.ndarray) -> "Array":
        """The elements at `positions` of the column, in the shape of `positions`."""
        return Array(taken(self.flat, positions), positions.shape)

    def reshape(self, shape: Shape) -> "Array":
        """The same elements in another shape."""
        return Array(self.flat, shape)

    def spread(self, shape: Shape) -> "Array":
        """A scalar as an array of a shape; an array of this shape as it is."""
        return self if self.shape == shape else self.take(np.broadcast_to(self.positions(), shape))

    def known(self) -> np.ndarray | None:
        """The numbers, or None if any is an expression."""
        if not self.flat.is_constant():
            return None
        numbers: np.ndarray = ca.DM(self.flat).full().reshape(self.shape)
        return numbers


def taken(column: Any, positions: np.ndarray) -> Any:
    """Some elements of a column, as one."""
    # Of a scalar, CasADi would make a row.
    return ca.vec(column[positions.ravel().tolist()]) if positions.size else ca.SX(0, 1)


def of_numbers(value: Any) -> Array:
    """An array of numbers or truth values."""
    array = np.asarray(value)
    if array.dtype.kind not in "biuf" and array.dtype.name != "bfloat16":
        raise Unsupported(f"arrays of type {array.dtype} are no real numbers")
    if array.dtype.kind in "iu" and array.size and np.max(np.abs(array.astype(float))) > _LARGEST:
        raise Unsupported("whole numbers above 2**53 have no exact float")
    return Array(ca.SX(ca.DM(np.asarray(array, np.float64).reshape(-1, 1))), array.shape)


def full(value: float, shape: Shape) -> Array:
    """An array of one number."""
    return of_numbers(np.full(shape, value))


def column(parts: Sequence[Array]) -> tuple[Any, list[np.ndarray]]:
    """All elements of several arrays in one column, and the positions of each array in it."""
    where, first = [], 0
    for part in parts:
        positions = part.positions()
        where.append(first + positions)
        first += positions.size
    return ca.vertcat(*(part.flat for part in parts)), where


def matrix(column: Any, positions: np.ndarray) -> Any:
    """Elements of a column as a CasADi matrix; `positions` has its two axes."""
    return ca.reshape(taken(column, positions.T), *positions.shape)
