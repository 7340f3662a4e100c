r"""What is known of the head, weights and unknowns, as a Gaussian that may have free directions.

The reduced Hessian $S$, states being eliminated, is the precision. Directions in which it is zero
up to rounding are free: no number is their variance. A quantity with gradient $g$ has the variance
$|B^T g|^2$, where $B B^T$ inverts $S$ on the other directions, and is touched by the free ones,
scaled to where rounding begins, if $|F^T g|$ is the larger.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float


# Eigenvalues below this share of the largest are rounding.
ROUNDING = 1e-12
# What is lost when the Schur complement is formed: this share of what is subtracted counts.
_LOST, _MARGIN = 1e10, 30.0
# Where the smallest eigenvalue is no more than this share of the largest, an optimum found to a
# tolerance cannot tell it from zero: the Gauss-Newton Hessian decides.
DOUBTFUL = 1e-5


class Reduced(NamedTuple):
    """A reduced Hessian, and the rounding that its diagonal carries."""

    matrix: Float[np.ndarray, "head head"]
    noise: Float[np.ndarray, " head"]


class Gaussian(NamedTuple):
    """Factors of the covariance of the head, with rows of zeros for what is held.

    `kept`: $B$. `free`: $F$. `bent`: how many of the free directions the data see to first order,
    while the curvature is not positive there: the point is no minimum.
    """

    kept: Float[np.ndarray, "head direction"]
    free: Float[np.ndarray, "head direction"]
    bent: int = 0

    @property
    def num_free(self) -> int:
        """The number of free directions."""
        return self.free.shape[1]


class Variance(NamedTuple):
    """Of some quantities: the variance in the directions that are seen, and what the free add."""

    kept: Float[np.ndarray, "*_"]
    free: Float[np.ndarray, "*_"]

    def value(self) -> Float[np.ndarray, "*_"]:
        """The variance: infinite where free directions matter more than the others."""
        return np.where(self.free > self.kept, np.inf, self.kept)


def sum_of_squares(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The squared length of each row of `rows @ columns`."""
    product = rows @ columns
    return np.asarray((product**2).sum(axis=-1))


def is_doubtful(reduced: Reduced, held: Bool[np.ndarray, " head"]) -> bool:
    """Whether the reduced Hessian has directions that may be free."""
    if held.all():
        return False
    matrix = _scaled(reduced, held, _units(reduced, held))
    values = np.linalg.eigvalsh(matrix)
    return bool(values[0] <= DOUBTFUL * values[-1])


def gaussian(
    reduced: Reduced, held: Bool[np.ndarray, " head"], sight: Reduced | None = None
) -> Gaussian:
    """The Gaussian of a reduced Hessian.

    Which directions are free is decided by `sight`, the Gauss-Newton one, if it is given: it is
    what the data see to first order, and exact wherever the solver has stopped.
    """
    judge = reduced if sight is None else sight
    count = len(held)
    free_rows = np.flatnonzero(~held)
    if not len(free_rows):
        return Gaussian(np.zeros((count, 0)), np.zeros((count, 0)))
    units = _units(judge, held)
    values, vectors = np.linalg.eigh(_scaled(judge, held, units))
    lost = float((judge.noise[free_rows] * units**2).sum())
    floor = max(ROUNDING * float(values[-1]), _MARGIN * lost, np.finfo(float).tiny)
    blind = values <= floor
    seen, dark = vectors[:, ~blind], vectors[:, blind]
    inner = seen.T @ _scaled(reduced, held, units) @ seen
    values, vectors = np.linalg.eigh((inner + inner.T) / 2)
    good = values > floor
    kept = seen @ (vectors[:, good] / np.sqrt(values[good]))
    dark = np.concatenate([dark, seen @ vectors[:, ~good]], axis=1) / np.sqrt(floor)

    def spread(directions: np.ndarray) -> np.ndarray:
        rows = np.zeros((count, directions.shape[1]))
        rows[free_rows] = units[:, None] * directions
        return rows

    return Gaussian(spread(kept), spread(dark), int(np.sum(~good)))


def _units(reduced: Reduced, held: np.ndarray) -> np.ndarray:
    """A unit for each entry that is not held, in which its own precision is one.

    Where rounding is all that is left of a precision, the unit is that of the rounding.
    """
    own = np.diag(reduced.matrix)[~held]
    size = np.abs(own) + _LOST * reduced.noise[~held]
    return np.asarray(1 / np.sqrt(np.where(size > 0, size, 1.0)))


def _scaled(reduced: Reduced, held: np.ndarray, units: np.ndarray) -> np.ndarray:
    matrix = reduced.matrix[np.ix_(~held, ~held)] * units[:, None] * units
    return np.asarray((matrix + matrix.T) / 2)
