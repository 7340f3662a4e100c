"""Ipopt: the general-purpose solver. The only file that imports cyipopt."""

import contextlib
import math
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from .._check import choice, describe, integer, positive
from .._nlp import NLP
from .._precision import x64
from .._run import Best
from .._solver import AbstractSolver, Iterate, Outcome, StepCallback
from .._trace import RESULTS, Multipliers, Step
from . import c_interface


_STATUS = {
    0: RESULTS.successful,
    1: RESULTS.acceptable,
    2: RESULTS.infeasible,
    3: RESULTS.small_steps,
    4: RESULTS.diverging,
    5: RESULTS.stopped,
    6: RESULTS.successful,
    -1: RESULTS.max_steps_reached,
    -2: RESULTS.restoration_failed,
    -3: RESULTS.small_steps,
    -4: RESULTS.max_seconds_reached,
    -5: RESULTS.max_seconds_reached,
    -10: RESULTS.too_few_freedom,
    -11: RESULTS.too_few_freedom,
    -12: RESULTS.invalid_option,
    -13: RESULTS.not_finite,
    1000: RESULTS.interrupted,
}
# Not IPOPT's own: the solve was left by KeyboardInterrupt.
_INTERRUPTED = 1000

_MISSING = (
    "jc.Ipopt needs the package `cyipopt`, which could not be imported. With pip:\n"
    "    pip install cyipopt-wheels==1.7.0.dev0\n"
    "(it imports as `cyipopt` and brings IPOPT with it); with conda:\n"
    "    conda install -c conda-forge cyipopt"
)


class Ipopt(AbstractSolver):
    r"""IPOPT, a primal-dual interior-point method with a filter line search.

    Waechter and Biegler, Mathematical Programming 106 (2006). One jitted call per iterate
    yields objective, gradient, constraints and Jacobian, another the Hessian. Other than IPOPT's
    own default, the barrier strategy is "adaptive".

    **Arguments:**

    - `tol`: the tolerance on the scaled optimality conditions.
    - `max_steps`, `max_seconds`: limits; reaching one returns the best point found.
    - `hessian`: "exact"; "gauss_newton", which drops the curvature of equations and
      observations; or "lbfgs", IPOPT's own limited-memory approximation.
    - `options`: any of IPOPT's options, by name; they override the ones above.

    **Errors:** `ValueError` for an unknown `hessian` or an option that IPOPT refuses;
    `ImportError`, with the commands that mend it, if cyipopt is not installed.
    """

    tol: float
    max_steps: int
    max_seconds: float | None
    hessian: str
    options: dict[str, Any]

    def __init__(
        self,
        tol: float = 1e-6,
        max_steps: int = 3000,
        max_seconds: float | None = None,
        hessian: str = "exact",
        options: Mapping[str, Any] | None = None,
    ):
        self.tol = positive("tol", tol)
        self.max_steps = integer("max_steps", max_steps, 0)
        self.max_seconds = None if max_seconds is None else positive("max_seconds", max_seconds)
        self.hessian = choice("hessian", hessian, ("exact", "gauss_newton", "lbfgs"))
        named = isinstance(options, Mapping) and all(isinstance(name, str) for name in options)
        if options is not None and not named:
            raise ValueError(
                f"`options` must map IPOPT's option names to values; got {describe(options)}."
            )
        self.options = dict(options or {})

    @property
    def time_limit(self) -> float | None:
        return self.max_seconds

    @property
    def step_limit(self) -> int:
        limit = self.options.get("max_iter", self.max_steps)
        return int(limit) if isinstance(limit, (int, np.integer)) else self.max_steps

    def run(
        self,
        nlp: NLP,
        z: np.ndarray,
        multipliers: Multipliers | None,
        callback: StepCallback,
    ) -> Outcome:
        cyipopt = _import()
        kind = _Functions if self.hessian == "lbfgs" else _FunctionsWithHessian
        with x64():
            functions = kind(nlp, self.hessian, callback, cyipopt.CyIpoptEvaluationError)
            compile_seconds = functions.warm_up(z)
            problem = self._problem(cyipopt, nlp, functions, multipliers)
            functions.problem = problem
            dual = {}
            if multipliers is not None:
                dual = {
                    "lagrange": multipliers.constraints,
                    "zl": multipliers.lower,
                    "zu": multipliers.upper,
                }
            info: dict[str, Any] = {}
            functions.start = time.perf_counter()
            try:
                _, info = problem.solve(z, **dual)
            except KeyboardInterrupt:
                # A second Ctrl-C, which ends the iteration as well.
                info = {"status": _INTERRUPTED, "status_msg": "interrupted"}
            seconds = time.perf_counter() - functions.start
            functions.problem = None
        return _outcome(nlp, functions, info, z, compile_seconds, seconds)

    def _problem(
        self, cyipopt: Any, nlp: NLP, functions: "_Functions", warm: Multipliers | None
    ) -> Any:
        problem = _create(cyipopt, nlp, functions)
        options: dict[str, Any] = {
            "print_level": 0,
            "sb": "yes",
            "tol": self.tol,
            "max_iter": self.max_steps,
            # From a guess near the data, the monotone strategy's large first barrier would push
            # the states away from them, and more often end in a poor optimum.
            "mu_strategy": "adaptive",
        }
        if warm is not None:
            options |= {
                "mu_strategy": "monotone",
                "warm_start_init_point": "yes",
                "warm_start_bound_push": 1e-9,
                "warm_start_bound_frac": 1e-9,
                "warm_start_slack_bound_push": 1e-9,
                "warm_start_slack_bound_frac": 1e-9,
                "warm_start_mult_bound_push": 1e-9,
                "mu_init": max(warm.mu, min(self.tol, 1e-6)),
            }
        for name, value in (options | self.options).items():
            _set_option(problem, name, value)
        return problem


def _import() -> Any:
    try:
        import cyipopt
    except ImportError as error:
        raise ImportError(_MISSING) from error
    return cyipopt


def _create(cyipopt: Any, nlp: NLP, functions: "_Functions") -> Any:
    library = c_interface.load()
    if library is not None:
        error = cyipopt.CyIpoptEvaluationError
        return c_interface.Problem(library, functions, error, nlp.bounds, nlp.constraint_bounds)
    lower, upper = nlp.bounds
    constraint_lower, constraint_upper = nlp.constraint_bounds
    return cyipopt.Problem(
        n=nlp.num_variables,
        m=nlp.num_constraints,
        problem_obj=functions,
        lb=lower,
        ub=upper,
        cl=constraint_lower,
        cu=constraint_upper,
    )


def _set_option(problem: Any, name: str, value: Any) -> None:
    candidates = [value]
    if isinstance(value, (bool, np.bool_)):
        candidates = ["yes" if value else "no"]
    elif isinstance(value, (int, np.integer)):
        candidates = [int(value), float(value)]
    elif isinstance(value, (float, np.floating)):
        candidates = [float(value)]
    for candidate in candidates:
        with contextlib.suppress(TypeError):
            problem.add_option(name, candidate)
            return
    raise ValueError(
        f"`options` holds {name!r} with value {value!r}, which IPOPT refuses: the name is unknown "
        "or the value has the wrong type or range."
    )


class _Functions:
    """IPOPT's callbacks. One evaluation per point, kept until the point changes."""

    def __init__(
        self, nlp: NLP, hessian: str, callback: StepCallback, evaluation_error: type[Exception]
    ):
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


class _FunctionsWithHessian(_Functions):
    """The same with second derivatives."""

    def __init__(
        self, nlp: NLP, hessian: str, callback: StepCallback, evaluation_error: type[Exception]
    ):
        super().__init__(nlp, hessian, callback, evaluation_error)
        self._exact = hessian == "exact"
        self._curvature = nlp.compiled.function("hessian" if self._exact else "gauss_newton")

    def warm_up(self, z: np.ndarray) -> float:
        begin = time.perf_counter()
        super().warm_up(z)
        with contextlib.suppress(self._error):
            self.hessian(z, np.zeros(self._nlp.num_constraints), 1.0)
        self.seconds = 0.0
        return time.perf_counter() - begin

    def hessian(self, z: np.ndarray, multipliers: np.ndarray, factor: float) -> np.ndarray:
        begin = time.perf_counter()
        if self._exact:
            values = np.asarray(self._curvature(z, multipliers, factor))
        else:
            values = np.asarray(self._curvature(z, factor))
        self.seconds += time.perf_counter() - begin
        if not _all_finite(values):
            raise self._error("not finite")
        return values

    def hessianstructure(self) -> tuple[np.ndarray, np.ndarray]:
        if self._exact:
            return self._nlp.hessian_structure
        return self._nlp.gauss_newton_structure


def _all_finite(values: np.ndarray) -> bool:
    # A sum is finite if all terms are, and much faster than looking at each.
    with np.errstate(invalid="ignore", over="ignore"):
        return math.isfinite(values.sum()) or bool(np.isfinite(values).all())


def _outcome(
    nlp: NLP,
    functions: _Functions,
    info: dict[str, Any],
    start: np.ndarray,
    compile_seconds: float,
    solve_seconds: float,
) -> Outcome:
    status = int(info.get("status", 5))
    result = _STATUS.get(status, RESULTS.failed)
    z = info.get("x")
    if not result.ok and functions.best.point is not None:
        z = functions.best.point
    if z is None or not np.all(np.isfinite(z)):
        z = start
    empty = np.zeros(nlp.num_variables)
    multipliers = Multipliers(
        constraints=info.get("mult_g", np.zeros(nlp.num_constraints)),
        lower=info.get("mult_x_L", empty),
        upper=info.get("mult_x_U", empty.copy()),
    )
    text = info.get("status_msg", b"interrupted")
    return Outcome(
        z=np.array(z),
        multipliers=multipliers,
        result=result,
        status=status,
        status_text=text.decode() if isinstance(text, bytes) else str(text),
        steps=functions.steps,
        compile_seconds=compile_seconds,
        solve_seconds=solve_seconds,
        evaluation_seconds=functions.seconds,
    )
