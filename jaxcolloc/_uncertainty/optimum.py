"""An optimum as what its covariance is computed from: derivatives, and what is held."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from .._nlp import NLP
from .._precision import x64
from .._solution import Solution
from .held import held


class Optimum(NamedTuple):
    r"""Derivatives at an optimum, and the variables and constraints that are held there.

    `starts`: the positions in `z` of the initial states. `factor`: what turns the objective's
    Hessian into the precision, for a noise of one. `jacobian`, `hessian`: the non-zeros of the
    constraints' Jacobian and of the Lagrangian's Hessian, lower triangle.
    """

    nlp: NLP
    z: Float[np.ndarray, " variable"]
    starts: Int[np.ndarray, "traj state"]
    factor: float
    held: Bool[np.ndarray, " variable"]
    rows: Bool[np.ndarray, " constraint"]
    jacobian: Float[np.ndarray, " entry"]
    hessian: Float[np.ndarray, " entry"]

    @classmethod
    def of(cls, sol: Solution, factor: float) -> "Optimum":
        """That of a solution."""
        nlp, z = sol.nlp, np.asarray(sol.z, np.float64)
        assert sol.multipliers is not None
        with x64():
            _, _, values, jacobian = map(np.asarray, nlp.compiled.function("point")(z))
            force = np.asarray(sol.multipliers.constraints)
            hessian = np.asarray(nlp.compiled.function("hessian")(z, force, 1.0))
        variables, rows = held(nlp, z, values, sol.multipliers, jacobian, hessian)
        starts = nlp.layout.start_columns
        return cls(nlp, z, starts, factor, variables, rows, jacobian, hessian)

    def precision(self, gauss_newton: bool) -> Float[np.ndarray, " entry"]:
        """The non-zeros of the precision's lower triangle."""
        if not gauss_newton:
            return self.factor * self.hessian
        with x64():
            values = self.nlp.compiled.function("gauss_newton")(self.z, 1.0)
            return self.factor * np.asarray(values)
