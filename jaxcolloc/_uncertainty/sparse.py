r"""The covariance by a sparse factorisation of the whole KKT matrix, for every kind of problem.

$$\begin{pmatrix} P & A^T \\ A & 0 \end{pmatrix}$$

with the precision $P$ and the Jacobian $A$ of equations and active constraints, without the
variables that are held. The covariance is the upper left block of its inverse. Head and initial
states together determine all states, so that the directions in which they are free are those of
the problem; where there are some, a weak prior makes the matrix invertible.
"""

from typing import Any

import numpy as np
from jaxtyping import Float

from .along import Along
from .gaussian import Gaussian
from .optimum import Optimum
from .structured import NotConvex


# The precision that is told from none, as a share of the data's; and the prior, subtracted again,
# with which the matrix is factorised where some directions have no more than that.
_BLIND = 1e-10
# Right-hand sides that are solved for together.
_TOGETHER = 256
# Variances below this share of the largest are rounding.
_TINY = 1e-14
# Negative ones are, down to this share; that of a Gauss-Newton Hessian has none but by rounding.
_NEGATIVE, _NEGATIVE_BY_ROUNDING = 1e-11, 1e-8


class Sparse:
    """The covariance at any optimum; see `Factorised`."""

    def __init__(self, optimum: Optimum, gauss_newton: bool):
        self.optimum = optimum
        nlp, head = optimum.nlp, optimum.nlp.layout.num_head
        self._free = np.flatnonzero(~optimum.held)
        self._theta = np.concatenate([np.arange(head), optimum.starts.ravel()])
        size = np.maximum(np.abs(optimum.z), 1.0)
        parts = nlp.parts
        pattern = parts.gauss_newton_pattern if gauss_newton else parts.hessian_pattern
        precision = pattern.symmetric(optimum.precision(gauss_newton))
        weight = (np.abs(precision.diagonal()) * size**2)[head:]
        self._scale = float(weight.sum()) or 1.0
        self._negative = _NEGATIVE_BY_ROUNDING if gauss_newton else _NEGATIVE
        self._size = size[self._theta]
        if not (self._factorise(precision, 0.0) or self._factorise(precision, _BLIND)):
            raise NotConvex

    def _factorise(self, precision: Any, prior: float) -> bool:
        """Factorise with this prior; whether that shows no free direction, or stands for them."""
        import scipy.sparse as sp
        from scipy.sparse.linalg import splu

        optimum, count = self.optimum, len(self.optimum.z)
        weak = np.zeros(count)
        weak[self._theta] = prior * self._scale / self._size**2
        jacobian = optimum.nlp.parts.jacobian_pattern.matrix(optimum.jacobian)
        jacobian = jacobian[np.flatnonzero(optimum.rows)][:, self._free]
        precision = (precision + sp.diags_array(weak)).tocsr()[self._free][:, self._free]
        self._num_rows = jacobian.shape[0]
        matrix = sp.block_array([[precision, jacobian.T], [jacobian, None]], format="csc")
        self._matrix: Any = matrix
        try:
            self._lu = splu(matrix)
        except RuntimeError:
            return False
        # The covariance of head and initial states with everything.
        self._columns = self._solve(self._rows_at(self._theta, np.ones(len(self._theta))))
        square = self._columns[:, self._theta]
        if not np.all(np.isfinite(square)):
            return False
        scaled = square / (self._size[:, None] * self._size)
        variances, vectors = np.linalg.eigh((scaled + scaled.T) / 2)
        largest = 1 / (_BLIND * self._scale)
        if not prior and (
            variances[-1] > largest
            or variances[0] < -self._negative * max(abs(variances[-1]), 1e-300)
        ):
            return False
        self._split(variances, vectors, 0.5 * largest, prior * self._scale)
        return True

    def _split(self, variances: np.ndarray, vectors: np.ndarray, most: float, prior: float) -> None:
        """Sort the directions into those that are kept, free, and none at all."""
        # A negative variance is a curvature that is not positive: no number either.
        negative = variances < -self._negative * np.abs(variances).max(initial=0.0)
        dark = (variances > most) | negative
        kept = ~dark & (variances > _TINY * np.abs(variances[~dark]).max(initial=0.0))
        theta = self._size[:, None] * vectors
        head = self.optimum.nlp.layout.num_head
        self._variances, self._kept, self._dark = variances, kept, dark
        # The variances of those that are kept were larger without the prior.
        self._growth = 1 / (1 - prior * variances[kept])
        # What a functional's covariance with head and initial states is in these coordinates.
        self._coordinates = vectors / self._size[:, None]
        reach = 1 / np.sqrt(_BLIND * self._scale)
        self.head = Gaussian(
            theta[:head, kept] * np.sqrt(variances[kept] * self._growth),
            theta[:head, dark] * reach,
            int(np.sum(negative)),
        )
        self._reach = reach
        self.num_kept = int(np.sum(kept))

    def along(self, trajectory: int, ts: Float[np.ndarray, " time"]) -> Along:
        nlp = self.optimum.nlp
        grid, layout, d = nlp.grids[trajectory], nlp.layout, nlp.num_states
        interval, rows, _ = grid.locate(ts)
        nodes = grid.interval_nodes[interval] + layout.first_nodes[trajectory]
        parts = []
        for some in np.array_split(np.arange(len(ts)), max(1, len(ts) * d // _TOGETHER)):
            at = layout.columns(nodes[some])[:, None, :] + np.arange(d)[:, None]
            weight = np.broadcast_to(rows[some][:, None, :], at.shape)
            parts.append(self._states(at, weight))
        return Along(*(np.concatenate(part) for part in zip(*parts, strict=True)))

    def starts(self) -> Along:
        at = self.optimum.starts.ravel()[None, :, None]
        return Along(*(part[0] for part in self._states(at, np.ones(at.shape))))

    def _states(self, at: np.ndarray, weight: np.ndarray) -> Along:
        """Sums of variables, axes (group, state, term), each group's jointly."""
        groups, d, terms = at.shape
        rows = self._rows_at(at.reshape(groups * d, terms), weight.reshape(groups * d, terms))
        found = self._solve(rows).reshape(groups, d, -1)
        square = np.einsum("gabt,gbt->gab", _picked(found, at), weight)
        shares = found[..., self._theta] @ self._coordinates
        kept = shares[..., self._kept] / np.sqrt(self._variances[self._kept])
        amplitude = shares[..., self._dark] / self._variances[self._dark]
        rest = square - kept @ kept.swapaxes(1, 2)
        rest = rest - (amplitude * self._variances[self._dark]) @ amplitude.swapaxes(1, 2)
        values, vectors = np.linalg.eigh((rest + rest.swapaxes(1, 2)) / 2)
        own = vectors * np.sqrt(np.maximum(values, 0.0))[:, None]
        kept = kept * np.sqrt(self._growth)
        return Along(kept, amplitude * self._reach, own, np.zeros_like(own))

    def _rows_at(self, at: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """Right-hand sides, one a row, with weights at positions of variables."""
        at, weight = at.reshape(len(at), -1), weight.reshape(len(at), -1)
        rows = np.zeros((len(at), len(self.optimum.z)))
        np.add.at(rows, (np.arange(len(at))[:, None], at), weight)
        return rows

    def _solve(self, rows: np.ndarray) -> np.ndarray:
        """The covariances of linear functions with all variables; zero for what is held."""
        right = np.zeros((self._matrix.shape[0], len(rows)))
        right[: len(self._free)] = rows[:, self._free].T
        solved = self._lu.solve(right)
        solved = solved + self._lu.solve(right - self._matrix @ solved)
        found = np.zeros(rows.shape)
        found[:, self._free] = solved[: len(self._free)].T
        return found


def _picked(found: np.ndarray, at: np.ndarray) -> np.ndarray:
    """For each group the covariances of its sums with its terms: (group, state, state, term)."""
    groups, d, terms = at.shape
    picked = np.take_along_axis(found, at.reshape(groups, 1, d * terms), axis=2)
    return picked.reshape(groups, d, d, terms)
