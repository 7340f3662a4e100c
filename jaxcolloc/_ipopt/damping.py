r"""Damping of the Gauss-Newton Hessian: a multiple of the identity on the weights.

The Gauss-Newton Hessian leaves out the curvature of equations and observations. With the weights
far from determined by the data, as in a neural net, steps are then much too long, and shortening
them in the line search does not make them good ones. Levenberg and Marquardt add $\lambda I$. How
large the curvature is that is missing shows along each step $d$: with the Lagrangian $L$, its
multipliers held, and the Gauss-Newton Hessian $G$ at the step's start,

$$\sigma = \frac{d^T (\nabla L(z + d) - \nabla L(z) - G d)}{d_w^T d_w}$$

is the $\lambda$ that would have given the right curvature in that direction, as in the spectral
steps of Barzilai and Borwein. The largest of the last few is used.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from .._nlp import NLP


# The first damping and the least one, as shares of the objective.
FIRST, LEAST = 1.0, 1e-5
# How many of the last steps count.
REMEMBERED = 5
# It falls at most to this share from one step to the next, and rises by this factor where a step
# had to be cut to less than this length.
FALL, RISE = 1 / 3, 4.0
CUT_STEP = 0.3


class Linearised(NamedTuple):
    """A point with the objective, its gradient and the constraints' Jacobian there."""

    z: Float[np.ndarray, " variable"]
    objective: float
    gradient: Float[np.ndarray, " variable"]
    jacobian: Float[np.ndarray, " _"]


class Damping:
    """The damping of one solve.

    `structure`: the non-zeros of the Hessian with the damping added. `estimates`: what the Hessian
    has lacked along the last steps, per square of the weights' steps.
    """

    def __init__(self, nlp: NLP):
        rows, columns = nlp.gauss_newton_structure
        weights = np.arange(nlp.num_weights)
        new = np.setdiff1d(weights, rows[rows == columns])
        self.structure = np.append(rows, new), np.append(columns, new)
        self._size, self._weights = len(rows), weights
        on_diagonal = self.structure[0] == self.structure[1]
        self._diagonal = np.flatnonzero(on_diagonal & (self.structure[0] < len(weights)))
        self._jacobian_at = nlp.jacobian_structure
        self._value: float | None = None
        self.estimates: list[float] = []
        self._last: Linearised | None = None
        self._hessian: tuple[np.ndarray, np.ndarray] | None = None

    def added(self, z: np.ndarray, values: np.ndarray, factor: float) -> np.ndarray:
        """`factor` times the damped Hessian, from the values of the plain one at `z`."""
        self._hessian = np.array(z), values
        result = np.zeros(len(self.structure[0]))
        result[: self._size] = values
        result[self._diagonal] += self._value or 0.0
        return factor * result

    def learn(self, at: Linearised, multipliers: np.ndarray, step_size: float) -> None:
        """Set the damping for the next step, from the one that has led to the point `at`.

        `multipliers` are those of the constraints there; `step_size` is the accepted share of the
        step.
        """
        size = abs(at.objective)
        if self._value is None:
            self._value = FIRST * size
        else:
            self._remember(at, multipliers)
            least = (RISE if step_size < CUT_STEP else FALL) * self._value
            self._value = max(*self.estimates, least, LEAST * size)
        self._last = at

    def _remember(self, new: Linearised, multipliers: np.ndarray) -> None:
        """Note what the Hessian lacks along the last step, if that began where it was evaluated."""
        old, found = self._last, self._hessian
        if old is None or found is None or not np.array_equal(old.z, found[0]):
            return
        step = new.z - old.z
        length = float(np.sum(step[self._weights] ** 2))
        if length == 0:
            return
        rows, columns = self._jacobian_at
        moved = np.bincount(
            columns, (new.jacobian - old.jacobian) * multipliers[rows], minlength=len(step)
        )
        actual = step @ (new.gradient - old.gradient + moved)
        rows, columns = (side[: self._size] for side in self.structure)
        twice = np.where(rows == columns, 1.0, 2.0)
        expected = np.sum(twice * found[1] * step[rows] * step[columns])
        estimate = float(actual - expected) / length
        self.estimates = [*self.estimates[1 - REMEMBERED :], estimate]
