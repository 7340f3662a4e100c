r"""What is known of the head, weights and unknowns, as a Gaussian that may have free directions.

The reduced Hessian $S$, states being eliminated, is the precision. Directions in which it is zero
up to rounding are free: no number is their variance. A quantity with gradient $g$ has the variance
$|B^T g|^2$, where $B B^T$ inverts $S$ on the other directions, and is touched by the free ones,
scaled to where rounding begins, if $|F^T g|$ is the larger.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float


# Eigenvalues below this share of the largest are rounding, and what is left of a direction that is
# free at the optimum where it was found to a tolerance.
ROUNDING = 1e-11
# The exact Hessian feels that tolerance to first order: what it says of directions with smaller
# eigenvalues than this share of the largest is not relied on.
DOUBTFUL = 3e-6


class Reduced(NamedTuple):
    """A reduced Hessian, and for each entry the size of what it was subtracted from."""

    matrix: Float[np.ndarray, "head head"]
    size: Float[np.ndarray, " head"]


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


def is_doubtful(reduced: Reduced, held: Bool[np.ndarray, " head"]) -> bool:
    """Whether the reduced Hessian has directions that may be free."""
    if held.all():
        return False
    matrix = _scaled(reduced, held, _units(reduced, held))
    return not _is_positive(matrix - DOUBTFUL * _most(matrix) * np.eye(len(matrix)))


def _is_positive(matrix: np.ndarray) -> bool:
    try:
        np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        return False
    return True


def _most(matrix: np.ndarray) -> float:
    """What no eigenvalue is larger than."""
    return float(np.abs(matrix).sum(axis=1).max())


def gaussian(
    reduced: Reduced,
    held: Bool[np.ndarray, " head"],
    sight: Reduced | None = None,
    blind_below: float = ROUNDING,
) -> Gaussian:
    """The Gaussian of a reduced Hessian.

    Which directions are free is decided by `sight`, the Gauss-Newton one, if it is given: it is
    what the data see to first order, and feels the solver's tolerance to second order only. It also
    stands for the exact one where that is doubtful. Directions are free whose eigenvalue is below
    the share `blind_below` of the largest: more than rounding where an exact Hessian judges itself.
    """
    judge = reduced if sight is None else sight
    count, rows = len(held), np.flatnonzero(~held)
    if not len(rows):
        return Gaussian(np.zeros((count, 0)), np.zeros((count, 0)))
    units = _units(judge, held)
    seen_by = _scaled(judge, held, units)
    floor = max(ROUNDING * _most(seen_by), float(np.finfo(float).tiny))
    least = floor * blind_below / ROUNDING
    failed = not _is_positive(seen_by - least * np.eye(len(rows)))
    bent = np.zeros(len(rows), bool)
    if failed:
        values, vectors = np.linalg.eigh(seen_by)
        blind = values <= least
        seen, dark, values, bent = (
            vectors[:, ~blind],
            vectors[:, blind],
            values[~blind],
            bent[~blind],
        )
    else:
        seen, dark = np.eye(len(rows)), np.zeros((len(rows), 0))
    if sight is not None:
        values, turn, bent = _exact(
            _inner(_scaled(reduced, held, units), seen), _inner(seen_by, seen), floor
        )
        seen = seen @ turn
    elif not failed:
        # All is well determined: no eigenvalues are needed.
        seen, values = np.linalg.inv(np.linalg.cholesky(seen_by)).T, np.ones(len(rows))
    kept = seen[:, ~bent] / np.sqrt(values[~bent])
    dark = np.concatenate([dark, seen[:, bent]], axis=1) / np.sqrt(floor)

    def spread(directions: np.ndarray) -> np.ndarray:
        every = np.zeros((count, directions.shape[1]))
        every[rows] = units[:, None] * directions
        return every

    return Gaussian(spread(kept), spread(dark), int(np.sum(bent)))


def _exact(
    exact: np.ndarray, first_order: np.ndarray, floor: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Eigenvalues and vectors of the exact Hessian, with the other one where it is doubtful.

    And which of them are clearly negative.
    """
    values, vectors = np.linalg.eigh(exact)
    bound = DOUBTFUL * max(float(values[-1]), 0.0) if len(values) else 0.0
    bent = values < -bound
    doubtful = (values <= bound) & ~bent
    part = vectors[:, doubtful]
    found, turn = np.linalg.eigh(_inner(first_order, part))
    vectors[:, doubtful], values[doubtful] = part @ turn, np.maximum(found, floor)
    return values, vectors, bent


def _inner(matrix: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    inner = vectors.T @ matrix @ vectors
    return np.asarray((inner + inner.T) / 2)


def _units(reduced: Reduced, held: np.ndarray) -> np.ndarray:
    """A unit for each entry that is not held, in which what it was subtracted from is one."""
    size = reduced.size[~held]
    return np.asarray(1 / np.sqrt(np.where(size > 0, size, 1.0)))


def _scaled(reduced: Reduced, held: np.ndarray, units: np.ndarray) -> np.ndarray:
    matrix = reduced.matrix[np.ix_(~held, ~held)] * units[:, None] * units
    return np.asarray((matrix + matrix.T) / 2)
