"""One solve: the compiled loop advanced a few iterations at a time, and what it ends with."""

import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from .._solver import Iterate, Outcome, StepCallback
from .._trace import RESULTS, Multipliers, Step
from . import loop
from .barrier import Problem
from .state import (
    ACCEPTABLE,
    DIVERGING,
    LIMIT,
    NO_RESTORATION,
    NOT_FINITE,
    RUNNING,
    SOLVED,
    TINY,
    Options,
)


_RESULTS = {
    SOLVED: RESULTS.successful,
    ACCEPTABLE: RESULTS.acceptable,
    LIMIT: RESULTS.max_steps_reached,
    TINY: RESULTS.small_steps,
    NO_RESTORATION: RESULTS.restoration_failed,
    NOT_FINITE: RESULTS.not_finite,
    DIVERGING: RESULTS.diverging,
}


class Numbers(NamedTuple):
    """The options of a solve, as `jc.InteriorPoint` documents them; `mu` is the first barrier's."""

    tol: float
    max_steps: int
    gauss_newton: bool
    mu: float
    look: int


class Iteration:
    """One solve; to be used inside `x64()`."""

    def __init__(self, numbers: Numbers, problem: Problem, z: np.ndarray, warm: Multipliers | None):
        self.numbers, self.problem = numbers, problem
        begin = time.perf_counter()
        self.state = loop.first(problem, *first_inputs(numbers, problem, z, warm))
        # Compile the loop without taking a step.
        self._advance(0)
        np.asarray(self.state.point.z)
        self.compile_seconds = time.perf_counter() - begin
        self.start = time.perf_counter()

    def _advance(self, count: int) -> Any:
        numbers = self.numbers
        self.state, records = loop.several(
            self.problem, options_of(numbers), not numbers.gauss_newton, self.state,
            jnp.asarray(count), numbers.look,
        )  # fmt: skip
        return jax.tree.map(np.asarray, records)

    def outcome(self, callback: StepCallback) -> Outcome:
        """Iterate until the end, or until the callback asks for it."""
        steps: list[Step] = []
        result: RESULTS | None = None
        first = jax.tree.map(lambda item: np.asarray(item)[None], self.state.record)
        try:
            if self._told(first, 1, 0, steps, callback):
                result = RESULTS.stopped
            elif self.numbers.max_steps == 0:
                result = RESULTS.max_steps_reached
            while result is None and int(self.state.status) == RUNNING:
                before = int(self.state.iteration)
                records = self._advance(self.numbers.look)
                taken = int(self.state.iteration) - before
                if self._told(records, taken, before + 1, steps, callback):
                    result = getattr(callback, "result", None) or RESULTS.stopped
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


def options_of(numbers: Numbers) -> Options:
    """Those numbers that are arguments of the compiled loop."""
    return Options(jnp.asarray(numbers.tol), jnp.asarray(numbers.max_steps))


def first_inputs(
    numbers: Numbers, problem: Problem, z: np.ndarray, warm: Multipliers | None
) -> tuple[Array, Array | None, Array | None, Array | None, Array]:
    """Variables, multipliers in the scaled problem, and the first barrier parameter."""
    if warm is None:
        return jnp.asarray(z), None, None, None, jnp.asarray(numbers.mu)
    rows = jnp.asarray(warm.constraints) * problem.scale / problem.row_scale
    low, high = (problem.scale * jnp.asarray(item) for item in (warm.lower, warm.upper))
    mu = max(warm.mu, min(numbers.tol, 1e-6))
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
    if result is None or (status != RUNNING and result is not RESULTS.stopped):
        result = _RESULTS[status]
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
