"""Which Hessian-vector products a sparse symmetric matrix needs, and where its entries stand.

Columns of one colour are summed into one product. In a star colouring neighbours differ, and so do
some two of any four columns along a path, so that each entry is alone in its row of one of the two
products that it is part of. Columns that only ever meet columns which are told apart without them
need no product (colour -1).

Coleman and More, "Estimation of sparse Hessian matrices and graph coloring problems"
(Mathematical Programming 28, 1984). Gebremedhin, Manne and Pothen, "What color is your Jacobian?
Graph coloring for computing derivatives" (SIAM Review 47, 2005).
"""

import itertools
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int


# A symmetric pattern, as a scipy.sparse.csr_array; its values are not looked at.
Symmetric = Any

# Beyond so many looks at a column's neighbours each further column gets a colour of its own.
_MOST_WORK = 10**10
# Numbers in memory at a time while entries are counted.
_CHUNK = 2**22
# From so many entries on one order has to do.
_LARGE = 200_000


class Products(NamedTuple):
    """Hessian-vector products that hold every entry of a symmetric matrix.

    Product `c` of `num_colors` is the matrix times the sum of the unit vectors of the columns of
    colour `c`. Entry `(rows[e], columns[e])` of the lower triangle is element `position[e]` of
    product `product[e]`.
    """

    color: Int[np.ndarray, " column"]
    num_colors: int
    rows: Int[np.ndarray, " entry"]
    columns: Int[np.ndarray, " entry"]
    product: Int[np.ndarray, " entry"]
    position: Int[np.ndarray, " entry"]


def products(matrix: Symmetric) -> Products:
    """The fewest products that a greedy star colouring finds for a symmetric pattern.

    Columns are coloured in the order of their number of entries, most first, and as they come;
    with neutral columns chosen beforehand or found afterwards. Columns without entries have colour
    -1 too.
    """
    graph = _Graph(matrix)
    orders = [graph.by_degree] if graph.large else [graph.by_degree, graph.as_given]
    best, count = _greedy(graph, graph.by_degree, graph.none)
    for order, neutral in itertools.product(orders, (graph.independent(count), graph.none)):
        color, used = _greedy(graph, order, neutral)
        if used < count:
            best, count = color, used
    alone = graph.alone(best)
    if not np.all(alone | alone[graph.transposed]):
        raise AssertionError("the colouring does not separate all entries")
    lower = np.flatnonzero(graph.rows >= graph.columns)
    rows, columns, direct = graph.rows[lower], graph.columns[lower], alone[lower]
    product = np.where(direct, best[columns], best[rows])
    return Products(best, count, rows, columns, product, np.where(direct, rows, columns))


class _Graph:
    """A symmetric pattern as a graph: its entries row by row, and each column's neighbours."""

    def __init__(self, matrix: Symmetric):
        entries = matrix.tocoo()
        order = np.lexsort((entries.col, entries.row))
        self.size = matrix.shape[0]
        self.rows, self.columns = entries.row[order], entries.col[order]
        # Where the entry (column, row) stands.
        self.transposed = np.lexsort((self.rows, self.columns))
        off = self.rows != self.columns
        self._neighbours = self.columns[off]
        self.degree = np.bincount(self.rows[off], minlength=self.size)
        self._start = np.concatenate([[0], np.cumsum(self.degree)])
        self.diagonal = np.zeros(self.size, bool)
        self.diagonal[self.rows[~off]] = True
        self.none = np.zeros(self.size, bool)
        self.as_given = np.flatnonzero((self.degree > 0) | self.diagonal)
        self.by_degree = self.as_given[np.argsort(-self.degree[self.as_given], kind="stable")]
        self.large = len(self.rows) > _LARGE

    def near(self, column: int) -> np.ndarray:
        """The neighbours of a column."""
        return self._neighbours[self._start[column] : self._start[column + 1]]

    def independent(self, limit: int) -> np.ndarray:
        """Which columns can be neutral: no diagonal entry, few neighbours, no two of them meet."""
        chosen, blocked = self.none.copy(), self.diagonal | (self.degree > limit)
        for column in self.by_degree[::-1]:
            if not blocked[column]:
                chosen[column] = True
                blocked[self.near(column)] = True
        return chosen

    def alone(self, color: np.ndarray) -> np.ndarray:
        """Which entries stand in the product of their column's colour without another."""
        result = np.zeros(len(self.rows), bool)
        paint = color[self.columns]
        width = int(color.max(initial=-1)) + 2
        step = max(_CHUNK // width, 1)
        for first in range(0, self.size, step):
            inside = slice(*np.searchsorted(self.rows, [first, first + step]))
            key = (self.rows[inside] - first) * width + paint[inside] + 1
            result[inside] = np.bincount(key, minlength=step * width)[key] == 1
        return result & (paint >= 0)


class _Taken:
    """Which colours a column may not have, kept up to date while columns are coloured.

    `meets[x, c]` counts the neighbours of colour `c` of column `x`, up to two: from two on, `x` is
    the centre of a star with leaves of that colour. `centre[w, c]` says whether column `w` is a
    leaf of a star whose centre has colour `c`.
    """

    def __init__(self, graph: _Graph, neutral: np.ndarray):
        self.graph, self.neutral = graph, neutral
        self.color = np.full(graph.size, -1)
        self.used = 0
        self.work = 0
        self.meets = np.zeros((graph.size, 16), np.uint8)
        self.centre = np.zeros((graph.size, 16), bool)

    def first_free(self, column: int) -> int:
        """The first colour that leaves every entry readable."""
        near = self.graph.near(column)
        coloured = near[self.color[near] >= 0]
        taken = np.zeros(self.used, bool)
        taken[self.color[coloured]] = True
        twice = coloured[self.meets[column, self.color[coloured]] > 1]
        told_apart = np.concatenate([twice, near[self.neutral[near]]])
        free = np.flatnonzero(~taken)
        self.work += len(free) * (len(coloured) + len(told_apart))
        if self.work > _MOST_WORK or len(free) == 0:
            return self.used
        bad = self.centre[np.ix_(coloured, free)].any(axis=0)
        bad |= self.meets[np.ix_(told_apart, free)].any(axis=0)
        return int(free[np.argmin(bad)]) if not bad.all() else self.used

    def give(self, column: int, color: int) -> None:
        """Colour a column."""
        self._widen(color)
        near = self.graph.near(column)
        paint = self.color[near]
        twice = near[(paint >= 0) & (self.meets[column, paint] > 1)]
        self.centre[twice, color] = True
        new_stars = near[(paint >= 0) & (self.meets[near, color] == 1)]
        for centre in new_stars:
            leaves = self.graph.near(centre)
            self.centre[leaves[self.color[leaves] == color], self.color[centre]] = True
        self.meets[near, color] = np.minimum(self.meets[near, color] + 1, 2)
        stars = near[(paint >= 0) & (self.meets[near, color] > 1)]
        self.centre[column, self.color[stars]] = True
        self.color[column] = color

    def _widen(self, color: int) -> None:
        self.used = max(self.used, color + 1)
        while self.used > self.meets.shape[1]:
            self.meets = np.concatenate([self.meets, np.zeros_like(self.meets)], axis=1)
            self.centre = np.concatenate([self.centre, np.zeros_like(self.centre)], axis=1)


def _greedy(
    graph: _Graph, order: np.ndarray, neutral: np.ndarray
) -> tuple[Int[np.ndarray, " column"], int]:
    """A star colouring: each column in turn gets the first colour that it may have."""
    taken = _Taken(graph, neutral)
    for column in order:
        if not neutral[column]:
            taken.give(column, taken.first_free(column))
    return _without_idle(graph, taken.color, taken.used)


def _without_idle(
    graph: _Graph, color: np.ndarray, count: int
) -> tuple[Int[np.ndarray, " column"], int]:
    """The colouring without the colours that no entry needs."""
    idle = np.ones(count, bool)
    idle[color[graph.diagonal]] = False
    for candidate in np.flatnonzero(idle):
        fewer = np.where(color == candidate, -1, color)
        alone = graph.alone(fewer)
        if np.all(alone | alone[graph.transposed]):
            color = fewer
    kept = np.unique(color[color >= 0])
    return np.where(color >= 0, np.searchsorted(kept, color), -1), len(kept)
