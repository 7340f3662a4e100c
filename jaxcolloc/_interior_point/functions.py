"""An NLP's functions for the host: they take and give arrays of NumPy."""

from typing import Any

import numpy as np

from .._nlp import NLP


class HostFunctions:
    """The functions that `barrier.Functions` lists; to be called inside `x64()`."""

    def __init__(self, nlp: NLP):
        self._compiled = nlp.compiled

    def objective(self, z: np.ndarray) -> Any:
        return self._call("objective", z)[()]

    def constraints(self, z: np.ndarray) -> np.ndarray:
        return self._call("constraints", z)

    def point(self, z: np.ndarray) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray]:
        objective, *others = map(np.asarray, self._compiled.function("point")(z))
        gradient, constraints, jacobian = others
        return objective[()], gradient, constraints, jacobian

    def hessian(self, z: np.ndarray, multipliers: np.ndarray, factor: float) -> np.ndarray:
        return self._call("hessian", z, multipliers, factor)

    def gauss_newton(self, z: np.ndarray, factor: float) -> np.ndarray:
        return self._call("gauss_newton", z, factor)

    def _call(self, name: str, *inputs: Any) -> np.ndarray:
        return np.asarray(self._compiled.function(name)(*inputs))
