"""Ipopt: the general-purpose solver. The only file that imports cyipopt."""

import contextlib
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from .._check import choice, describe, integer, positive
from .._nlp import NLP
from .._precision import x64
from .._solver import AbstractSolver, Outcome, StepCallback
from .._trace import RESULTS, Multipliers
from . import c_interface
from .functions import Functions, WithGaussNewton, WithHessian


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

_KINDS = {"exact": WithHessian, "gauss_newton": WithGaussNewton, "lbfgs": Functions}

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
    - `hessian`: "exact"; "gauss_newton", which leaves out the curvature of equations and
      observations and damps the steps of the weights in its place: cheaper steps, some
      four times as many, and no help where the model cannot fit the data; or "lbfgs",
      IPOPT's own limited-memory approximation.
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
        self.hessian = choice("hessian", hessian, tuple(_KINDS))
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
        kind = _KINDS[self.hessian]
        with x64():
            functions = kind(nlp, callback, cyipopt.CyIpoptEvaluationError)
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
        self, cyipopt: Any, nlp: NLP, functions: Functions, warm: Multipliers | None
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


def _create(cyipopt: Any, nlp: NLP, functions: Functions) -> Any:
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


def _outcome(
    nlp: NLP,
    functions: Functions,
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
