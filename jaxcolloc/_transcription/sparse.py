"""Sparse matrices as lists of contributions: indices once in NumPy, values in NumPy or JAX."""

import itertools
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Float, Int

from .._arrays import Driver
from .._plain import plain
from .._precision import AnyArray


Indices = Int[np.ndarray, " entry"]


class Entries:
    """Positions of non-zeros as part of a compiled function: frozen, compared by value."""

    def __init__(self, rows: np.ndarray, columns: np.ndarray):
        self.rows = np.asarray(rows, np.int32)
        self.columns = np.asarray(columns, np.int32)
        self._key = (self.rows.tobytes(), self.columns.tobytes())
        self._hash = hash(self._key)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Entries) and self._key == other._key

    def take(self, matrix: AnyArray) -> AnyArray:
        """The entries of a dense matrix."""
        return matrix[self.rows, self.columns]


class Pattern(eqx.Module):
    """Where a sparse matrix may be non-zero: each position once, in a fixed order.

    Two are equal if they are the same object, as they are in problems of the same structure.
    """

    rows: Indices
    columns: Indices
    shape: tuple[int, int] = eqx.field(static=True)

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other

    @property
    def num_entries(self) -> int:
        """The number of structural non-zeros."""
        return len(self.rows)

    def matrix(self, values: Float[np.ndarray, " entry"]) -> Any:
        """The matrix with these values, a `scipy.sparse.csr_array`."""
        # It takes long to import.
        from scipy.sparse import coo_array

        return coo_array((values, (self.rows, self.columns)), shape=self.shape).tocsr()

    def symmetric(self, values: Float[np.ndarray, " entry"]) -> Any:
        """The symmetric matrix whose lower triangle has these values."""
        from scipy.sparse import tril

        lower = self.matrix(values)
        return (lower + tril(lower, -1).T).tocsr()

    def __repr__(self) -> str:
        return f"Pattern({self.shape[0]} x {self.shape[1]}, {self.num_entries} non-zeros)"


@plain
class Assembly:
    """Adds the values of several contributions up at the positions of one pattern.

    A position appears once, at its first occurrence; a contribution whose positions are all
    new is copied as it is, and only repeated positions cost a scatter.
    """

    keep: tuple[Int[AnyArray, " _"] | None, ...]
    repeats: tuple[Int[AnyArray, " _"], ...]
    targets: Int[AnyArray, " repeats"]

    @classmethod
    def build(
        cls, contributions: Sequence[tuple[np.ndarray, np.ndarray]], shape: tuple[int, int]
    ) -> tuple[Pattern, "Assembly"]:
        """From the (rows, columns) of each contribution; a negative row drops an entry."""
        rows = [np.asarray(row, np.int64).ravel() for row, _ in contributions]
        columns = [np.asarray(column, np.int64).ravel() for _, column in contributions]
        offsets = np.cumsum([0] + [len(row) for row in rows])
        all_rows = np.concatenate(rows) if rows else np.zeros(0, np.int64)
        all_columns = np.concatenate(columns) if columns else np.zeros(0, np.int64)
        real = np.flatnonzero(all_rows >= 0)
        key = all_rows[real] * shape[1] + all_columns[real]
        _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
        order = np.sort(first)
        rank = np.empty(len(first), np.int64)
        rank[np.argsort(first)] = np.arange(len(first))
        is_new = np.zeros(len(real), bool)
        is_new[order] = True
        keep: list[np.ndarray | None] = []
        repeats, targets = [], []
        for start, stop in itertools.pairwise(offsets):
            inside = (real >= start) & (real < stop)
            new = real[inside & is_new] - start
            again = inside & ~is_new
            keep.append(None if len(new) == stop - start else new.astype(np.int32))
            repeats.append((real[again] - start).astype(np.int32))
            targets.append(rank[inverse[again]].astype(np.int32))
        pattern = Pattern(
            all_rows[real][order].astype(np.int32), all_columns[real][order].astype(np.int32), shape
        )
        joined = np.concatenate(targets) if targets else np.zeros(0, np.int32)
        return pattern, cls(tuple(keep), tuple(repeats), joined)

    def values(
        self, driver: Driver, contributions: Sequence[AnyArray]
    ) -> Float[AnyArray, " entry"]:
        """The pattern's values, from one array of values per contribution."""
        xp = driver.xp
        flat = [xp.ravel(item) for item in contributions]
        new = [
            item if keep is None else item[keep] for item, keep in zip(flat, self.keep, strict=True)
        ]
        values = xp.concatenate(new) if new else xp.zeros(0)
        if len(self.targets) == 0:
            return values
        again = [item[index] for item, index in zip(flat, self.repeats, strict=True)]
        return driver.add_at(values, self.targets, xp.concatenate(again))
