"""InteriorPoint: a structured interior-point method, all of it JAX."""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from .._check import choice, integer, positive
from .._nlp import NLP
from .._precision import x64
from .._solution import RESULTS, Multipliers, Step
from .._solver import AbstractSolver, Iterate, Outcome, StepCallback
from . import iterate
from .barrier import Box, Problem
from .structure import Structure, structure_of


_RESULTS = {
    iterate.SOLVED: RESULTS.successful,
    iterate.ACCEPTABLE: RESULTS.acceptable,
    iterate.LIMIT: RESULTS.max_steps_reached,
    iterate.TINY: RESULTS.small_steps,
    iterate.NO_RESTORATION: RESULTS.restoration_failed,
    iterate.NOT_FINITE: RESULTS.not_finite,
    iterate.DIVERGING: RESULTS.diverging,
}
# Gradients of objective and constraints are scaled down to this (Waechter and Biegler, 3.8).
_LARGEST_GRADIENT = 100.0
# Losses are means over samples, but norms are sums over nodes: each weighs this over their number.
_NODE = 30.0


class InteriorPoint(AbstractSolver):
    r"""A primal-dual interior-point method that uses the structure of collocation.

    The algorithm is IPOPT's (filter line search, second-order correction, corrected inertia); the
    linear systems are solved interval by interval, with the weights as a border (`kkt.py`), and
    all of an iteration is one compiled program, so that it runs on a GPU as well. It takes
    the same NLPs as `jc.Ipopt`, but for ties between trajectories, constraints over several
    intervals and states fixed elsewhere than at a start. The larger the problem, the more it gains;
    `bench/solvers.py` compares the two on 60 problems of 200 nodes, all of which both solve, and on
    up to 100,000 nodes, and `bench/systems.py --interior-point` fits twelve systems with it. Still
    `jc.fit` stays with `jc.Ipopt` unless it is given another `solver`: that takes every NLP, and
    compiles in a second or two where this takes about ten, anew for every grid that a fit tries.
    JAX's persistent cache, `jax.config.update("jax_compilation_cache_dir", folder)`, takes most of
    that away from the next process that solves an NLP of the same shape.

    **Arguments:**

    - `tol`: the tolerance on the scaled optimality conditions.
    - `max_steps`, `max_seconds`: limits; reaching one returns the best point found.
    - `hessian`: "exact", or "gauss_newton", which drops the curvature of equations and
      observations.
    - `mu`: the first barrier parameter of a cold start, times the number of nodes: a barrier is a
      sum over nodes where a loss is a mean over samples, and a strong one leads away from the data.
    - `look`: after how many iterations limits of time, Ctrl-C and callbacks are looked at.
      Callbacks see every step, but the iterate and the model are those of the last one.

    **Errors:** `ValueError` for an unknown `hessian` and for NLPs of another structure.
    """

    tol: float
    max_steps: int
    max_seconds: float | None
    hessian: str
    mu: float
    look: int

    def __init__(
        self,
        tol: float = 1e-6,
        max_steps: int = 3000,
        max_seconds: float | None = None,
        hessian: str = "exact",
        mu: float = 10.0,
        look: int = 10,
    ):
        self.tol = positive("tol", tol)
        self.max_steps = integer("max_steps", max_steps, 0)
        self.max_seconds = None if max_seconds is None else positive("max_seconds", max_seconds)
        self.hessian = choice("hessian", hessian, ("exact", "gauss_newton"))
        self.mu = positive("mu", mu)
        self.look = integer("look", look, 1)

    @property
    def step_limit(self) -> int:
        return self.max_steps

    def run(
        self,
        nlp: NLP,
        z: np.ndarray,
        multipliers: Multipliers | None,
        callback: StepCallback,
    ) -> Outcome:
        with x64():
            run = Run(self, problem_of(self, nlp, z), z, multipliers)
            return run.outcome(callback, lambda: late(self, run.start))


class Run:
    """One solve; to be used inside `x64()`."""

    def __init__(
        self,
        solver: InteriorPoint,
        problem: Problem,
        z: np.ndarray,
        warm: Multipliers | None,
    ):
        self.solver, self.problem = solver, problem
        begin = time.perf_counter()
        self.state = iterate.first(problem, *first_inputs(solver, problem, z, warm))
        # Compile the loop without taking a step.
        self._advance(0)
        np.asarray(self.state.point.z)
        self.compile_seconds = time.perf_counter() - begin
        self.start = time.perf_counter()

    def _advance(self, count: int) -> Any:
        solver = self.solver
        self.state, records = iterate.several(
            self.problem, options_of(solver), solver.hessian == "exact", self.state,
            jnp.asarray(count), solver.look,
        )  # fmt: skip
        return jax.tree.map(np.asarray, records)

    def outcome(self, callback: StepCallback, ending: Callable[[], RESULTS | None]) -> Outcome:
        """Iterate until the end, or until `ending` gives a reason to stop."""
        steps: list[Step] = []
        result: RESULTS | None = None
        first = jax.tree.map(lambda item: np.asarray(item)[None], self.state.record)
        try:
            if self._told(first, 1, 0, steps, callback):
                result = RESULTS.stopped
            elif self.solver.max_steps == 0:
                result = RESULTS.max_steps_reached
            else:
                result = ending()
            while result is None and int(self.state.status) == iterate.RUNNING:
                before = int(self.state.iteration)
                records = self._advance(self.solver.look)
                taken = int(self.state.iteration) - before
                if self._told(records, taken, before + 1, steps, callback):
                    result = RESULTS.stopped
                if result is None and int(self.state.status) == iterate.RUNNING:
                    result = ending()
        except KeyboardInterrupt:
            result = RESULTS.interrupted
        seconds = time.perf_counter() - self.start
        state = jax.tree.map(np.asarray, self.state)
        return outcome_of(self.problem, state, result, steps, self.compile_seconds, seconds)

    def _told(
        self, records: Any, count: int, number: int, steps: list[Step], callback: StepCallback
    ) -> bool:
        """Show the callback what has happened; whether it wants to stop."""
        new = steps_of(records, count, number, time.perf_counter() - self.start)
        steps += new
        # All of them are shown, whichever asks to stop.
        return sum(callback(step, self._current) for step in new) > 0

    def _current(self) -> Iterate:
        return _unscaled(self.problem, self.state)


def late(solver: InteriorPoint, start: float) -> RESULTS | None:
    """That the limit of time since `start` is reached, if it is."""
    limit = solver.max_seconds
    over = limit is not None and time.perf_counter() - start > limit
    return RESULTS.max_seconds_reached if over else None


def options_of(solver: InteriorPoint) -> iterate.Options:
    """The solver's numbers."""
    return iterate.Options(jnp.asarray(solver.tol), jnp.asarray(solver.max_steps))


def first_inputs(
    solver: InteriorPoint, problem: Problem, z: np.ndarray, warm: Multipliers | None
) -> tuple[Array, Array | None, Array | None, Array | None, Array]:
    """Variables, multipliers in the scaled problem, and the first barrier parameter."""
    if warm is None:
        first = solver.mu / problem.core.layout.num_nodes
        return jnp.asarray(z), None, None, None, jnp.asarray(first)
    rows = jnp.asarray(warm.constraints) * problem.scale / problem.row_scale
    low, high = (problem.scale * jnp.asarray(item) for item in (warm.lower, warm.upper))
    mu = max(warm.mu, min(solver.tol, 1e-6))
    return jnp.asarray(z), rows, low, high, jnp.asarray(mu)


def steps_of(records: Any, count: int, number: int, seconds: float) -> list[Step]:
    """The first rows of the records as steps."""
    rows = [jax.tree.map(lambda item, row=row: item[row], records) for row in range(count)]
    return [
        Step(
            iteration=number + row,
            objective=float(record.objective),
            primal_infeasibility=float(record.primal),
            dual_infeasibility=float(record.dual),
            mu=float(record.mu),
            step_norm=float(record.step_norm),
            step_size=float(record.step_size),
            regularization=float(record.delta),
            trials=int(record.trials),
            restoration=bool(record.restoration),
            seconds=seconds,
        )
        for row, record in enumerate(rows)
    ]


def _unscaled(problem: Problem, state: Any) -> tuple[np.ndarray, Multipliers]:
    """The last iterate, its multipliers those of the NLP as it was given."""
    point, scale = state.point, float(problem.scale)
    dual = Multipliers(
        constraints=np.asarray(point.multipliers) * np.asarray(problem.row_scale) / scale,
        lower=np.asarray(point.low) / scale,
        upper=np.asarray(point.high) / scale,
        mu=float(state.mu),
    )
    return np.array(point.z), dual


def outcome_of(
    problem: Problem,
    state: Any,
    result: RESULTS | None,
    steps: list[Step],
    compile_seconds: float,
    seconds: float,
) -> Outcome:
    """How a solve ended, from its last state."""
    status = int(state.status)
    if status != iterate.RUNNING or result is None:
        result = _RESULTS[status] if result is not RESULTS.stopped else result
    z, dual = _unscaled(problem, state)
    if not result.ok and np.all(np.isfinite(state.best)):
        z = np.array(state.best)
    return Outcome(
        z=z,
        multipliers=dual,
        result=result,
        status=status,
        status_text=result.name,
        steps=steps,
        compile_seconds=compile_seconds,
        solve_seconds=seconds,
        evaluation_seconds=0.0,
    )


def problem_of(solver: InteriorPoint, nlp: NLP, z: np.ndarray) -> Problem:
    """The scaled problem, with a structure of its own."""
    structure = structure_of(nlp, solver.hessian == "gauss_newton")
    return make_problem(nlp, z, jax.tree.map(jnp.asarray, structure))


def make_problem(nlp: NLP, z: np.ndarray, structure: Structure) -> Problem:
    """The scaled problem with slacks."""
    lower, upper = nlp.bounds
    row_lower, row_upper = nlp.constraint_bounds
    fixed, equal = lower == upper, row_lower == row_upper
    inner = np.ones(nlp.num_variables, bool)
    inner[: nlp.layout.num_head] = False
    for first in nlp.layout.first_nodes:
        at = nlp.layout.columns(first)
        inner[at : at + nlp.num_states] = False
    if np.any(fixed & inner):
        raise ValueError(
            "`nlp` must have no fixed states but initial ones for jc.InteriorPoint; got "
            f"{int(np.sum(fixed & inner))} of them. Use jc.Ipopt."
        )
    rows, _ = nlp.jacobian_structure
    _, gradient, _, jacobian = nlp.compiled.function("point")(jnp.asarray(z))
    largest = np.zeros(nlp.num_constraints)
    with np.errstate(invalid="ignore"):
        # Where the start has no values all is scaled by NaN, and replaced.
        np.maximum.at(largest, rows, np.abs(np.asarray(jacobian)))
        most = float(np.max(np.abs(np.where(fixed, 0.0, gradient)), initial=0.0))
    row_scale = np.minimum(1.0, _LARGEST_GRADIENT / np.maximum(largest, 1e-300))
    scale = min(1.0, _LARGEST_GRADIENT / max(most, 1e-300))
    if not np.all(np.isfinite(row_scale)) or not np.isfinite(scale):
        row_scale, scale = np.ones(len(row_scale)), 1.0

    metric = np.ones(nlp.num_variables)
    metric[nlp.layout.num_head :] = min(1.0, _NODE / nlp.layout.num_nodes)

    def box(low: np.ndarray, high: np.ndarray, free: np.ndarray) -> Box:
        return Box(jnp.where(free, low, -jnp.inf), jnp.where(free, high, jnp.inf))

    return Problem(
        core=nlp.compiled.core,
        structure=structure,
        box=box(lower, upper, ~fixed),
        slack_box=box(row_lower * row_scale, row_upper * row_scale, ~equal),
        target=jnp.asarray(np.where(equal, row_lower * row_scale, 0.0)),
        inequality=jnp.asarray(~equal),
        fixed=jnp.asarray(fixed),
        metric=jnp.asarray(metric),
        scale=jnp.asarray(scale),
        row_scale=jnp.asarray(row_scale),
    )
