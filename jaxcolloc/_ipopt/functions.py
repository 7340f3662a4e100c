"""What IPOPT calls: the NLP's functions, evaluated once per point, and the rows of the trace."""

import contextlib
import math
import time
from typing import Any

import numpy as np

from .._nlp import NLP
from .._run import Best
from .._solver import Iterate, StepCallback
from .._trace import Multipliers, Step
from .damping import Damping, Linearised


class Functions:
    """IPOPT's callbacks. One evaluation per point, kept until the point changes."""

    curvature = ""

    def __init__(self, nlp: NLP, callback: StepCallback, evaluation_error: type[Exception]):
        self._nlp = nlp
        self._callback = callback
        self._error = evaluation_error
        self._evaluate = nlp.compiled.function("point")
        self._key = b""
        self._point: tuple[float, np.ndarray, np.ndarray, np.ndarray] | None = None
        self._accepted = np.full(nlp.num_variables, np.nan)
        self.best: Best[np.ndarray] = Best()
        self.steps: list[Step] = []
        self.seconds = 0.0
        self.start = 0.0
        self.problem: Any = None

    def warm_up(self, z: np.ndarray) -> float:
        """Compile by evaluating once; the seconds that took."""
        begin = time.perf_counter()
        self._nlp.compiled.prepare(self.curvature == "gauss_newton")
        with contextlib.suppress(self._error):
            self._at(z)
        self.seconds = 0.0
        return time.perf_counter() - begin

    def objective(self, z: np.ndarray) -> float:
        return self._at(z)[0]

    def gradient(self, z: np.ndarray) -> np.ndarray:
        self._accepted = z
        return self._at(z)[1]

    def constraints(self, z: np.ndarray) -> np.ndarray:
        return self._at(z)[2]

    def jacobian(self, z: np.ndarray) -> np.ndarray:
        return self._at(z)[3]

    def jacobianstructure(self) -> tuple[np.ndarray, np.ndarray]:
        return self._nlp.jacobian_structure

    def intermediate(
        self,
        mode: int,
        iteration: int,
        objective: float,
        primal: float,
        dual: float,
        mu: float,
        step_norm: float,
        regularization: float,
        dual_step: float,
        primal_step: float,
        trials: int,
    ) -> bool:
        step = Step(
            iteration=iteration,
            objective=objective,
            primal_infeasibility=primal,
            dual_infeasibility=dual,
            mu=mu,
            step_norm=step_norm,
            step_size=primal_step,
            regularization=regularization,
            trials=trials,
            restoration=mode != 0,
            seconds=time.perf_counter() - self.start,
        )
        self.steps.append(step)
        if mode == 0:
            self.best.offer(primal, objective, self._accepted)
        return not self._callback(step, lambda: None if mode else self._current(mu))

    def _current(self, mu: float) -> Iterate:
        found = self.problem.get_current_iterate()
        if not found:
            return None
        dual = Multipliers(found["mult_g"], found["mult_x_L"], found["mult_x_U"], mu)
        return np.array(found["x"]), dual

    def _at(self, z: np.ndarray) -> tuple[float, np.ndarray, np.ndarray, np.ndarray]:
        key = z.tobytes()
        if self._point is not None and key == self._key:
            return self._point
        begin = time.perf_counter()
        objective, gradient, constraints, jacobian = self._evaluate(z)
        point = (
            float(objective),
            np.asarray(gradient),
            np.asarray(constraints),
            np.asarray(jacobian),
        )
        self.seconds += time.perf_counter() - begin
        self._key, self._point = key, None
        if not (math.isfinite(point[0]) and all(map(_all_finite, point[1:]))):
            raise self._error("not finite")
        self._point = point
        return point


class WithHessian(Functions):
    """The same with exact second derivatives."""

    curvature = "hessian"

    def __init__(self, nlp: NLP, callback: StepCallback, evaluation_error: type[Exception]):
        super().__init__(nlp, callback, evaluation_error)
        self._curvature = nlp.compiled.function(self.curvature)

    def warm_up(self, z: np.ndarray) -> float:
        begin = time.perf_counter()
        super().warm_up(z)
        with contextlib.suppress(self._error):
            self.hessian(z, np.zeros(self._nlp.num_constraints), 1.0)
        self.seconds = 0.0
        return time.perf_counter() - begin

    def hessian(self, z: np.ndarray, multipliers: np.ndarray, factor: float) -> np.ndarray:
        begin = time.perf_counter()
        values = self._second(z, multipliers, factor)
        self.seconds += time.perf_counter() - begin
        if not _all_finite(values):
            raise self._error("not finite")
        return values

    def hessianstructure(self) -> tuple[np.ndarray, np.ndarray]:
        return self._nlp.hessian_structure

    def _second(self, z: np.ndarray, multipliers: np.ndarray, factor: float) -> np.ndarray:
        return np.asarray(self._curvature(z, multipliers, factor))


class WithGaussNewton(WithHessian):
    """The same with a damped Gauss-Newton Hessian in the place of the exact one."""

    curvature = "gauss_newton"

    def __init__(self, nlp: NLP, callback: StepCallback, evaluation_error: type[Exception]):
        super().__init__(nlp, callback, evaluation_error)
        self._damping = Damping(nlp)

    def hessianstructure(self) -> tuple[np.ndarray, np.ndarray]:
        return self._damping.structure

    def intermediate(self, *told: Any) -> bool:
        found = None if told[0] else self._current(0.0)
        if found is not None:
            z, dual = found
            objective, gradient, _, jacobian = self._at(z)
            at = Linearised(z, objective, gradient, jacobian)
            self._damping.learn(at, dual.constraints, told[9])
        return super().intermediate(*told)

    def _second(self, z: np.ndarray, multipliers: np.ndarray, factor: float) -> np.ndarray:
        return self._damping.added(z, np.asarray(self._curvature(z, 1.0)), factor)


def _all_finite(values: np.ndarray) -> bool:
    # A sum is finite if all terms are, and much faster than looking at each.
    with np.errstate(invalid="ignore", over="ignore"):
        return math.isfinite(values.sum()) or bool(np.isfinite(values).all())
