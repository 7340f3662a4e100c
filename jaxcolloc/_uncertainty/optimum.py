"""An optimum as what its covariance is computed from: derivatives, and what is held."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from .._nlp import NLP
from .._precision import x64
from .._solution import Solution
from .held import held_rows, held_variables


class Optimum(NamedTuple):
    r"""Derivatives at an optimum, and the variables and constraints that are held there.

    `factor`: what turns the objective's Hessian into the precision, for a noise of one.
    `jacobian`: the non-zeros of the constraints' Jacobian.
    """

    nlp: NLP
    z: Float[np.ndarray, " variable"]
    multipliers: Float[np.ndarray, " constraint"]
    factor: float
    held: Bool[np.ndarray, " variable"]
    rows: Bool[np.ndarray, " constraint"]
    jacobian: Float[np.ndarray, " entry"]

    @classmethod
    def of(cls, sol: Solution, factor: float) -> "Optimum":
        """That of a solution."""
        nlp, z = sol.nlp, np.asarray(sol.z, np.float64)
        assert sol.multipliers is not None
        with x64():
            objective, _, values, jacobian = map(np.asarray, nlp.compiled.function("point")(z))
        return cls(
            nlp,
            z,
            np.asarray(sol.multipliers.constraints),
            factor,
            held_variables(nlp, z, sol.multipliers, float(objective)),
            held_rows(nlp, values, sol.multipliers, float(objective)),
            jacobian,
        )

    def precision(self, gauss_newton: bool) -> Float[np.ndarray, " entry"]:
        """The non-zeros of the precision's lower triangle."""
        functions: Any = self.nlp.compiled
        with x64():
            if gauss_newton:
                return self.factor * np.asarray(functions.function("gauss_newton")(self.z, 1.0))
            curved = functions.function("hessian")(self.z, self.multipliers, 1.0)
            return self.factor * np.asarray(curved)

    @property
    def starts(self) -> np.ndarray:
        """The positions in `z` of the initial states, shape `(traj, state)`."""
        layout = self.nlp.layout
        first = layout.columns(np.asarray(layout.first_nodes))
        return np.asarray(first[:, None] + np.arange(layout.num_states))
