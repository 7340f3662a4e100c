"""One solve: iterations on the host or in a compiled loop, and what they end with."""

import abc
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._solver import Iterate, Outcome, StepCallback
from .._trace import RESULTS, Multipliers, Step
from . import loop
from .barrier import Problem
from .iterate import iterate
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
    Record,
    State,
    begin,
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


class _Iteration(abc.ABC):
    """One solve; to be used inside `x64()`.

    `state` is the last one, `compile_seconds` what it took to get ready since `begin`.
    """

    def __init__(
        self,
        numbers: Numbers,
        problem: Problem,
        z: np.ndarray,
        warm: Multipliers | None,
        begin: float,
    ):
        self.numbers, self.problem = numbers, problem
        self.state = self._first(z, warm)
        self.start = time.perf_counter()
        self.compile_seconds = self.start - begin

    @abc.abstractmethod
    def _first(self, z: np.ndarray, warm: Multipliers | None) -> State:
        """The first state, with everything compiled that is to be."""

    @abc.abstractmethod
    def _advance(self) -> list[Record]:
        """Take one or more iterations; their records."""

    def outcome(self, callback: StepCallback) -> Outcome:
        """Iterate until the end, or until the callback asks for it."""
        steps: list[Step] = []
        result: RESULTS | None = None
        try:
            if self._told([self.state.record], 0, steps, callback):
                result = RESULTS.stopped
            elif self.numbers.max_steps == 0:
                result = RESULTS.max_steps_reached
            while result is None and int(self.state.status) == RUNNING:
                before = int(self.state.iteration)
                records = self._advance()
                if self._told(records, before + 1, steps, callback):
                    result = getattr(callback, "result", None) or RESULTS.stopped
        except KeyboardInterrupt:
            result = RESULTS.interrupted
        seconds = time.perf_counter() - self.start
        state = jax.tree.map(np.asarray, self.state)
        return outcome_of(self.problem, state, result, steps, self.compile_seconds, seconds)

    def _told(
        self, records: list[Record], number: int, steps: list[Step], callback: StepCallback
    ) -> bool:
        """Show the callback what has happened; whether it wants to stop."""
        new = steps_of(records, number, time.perf_counter() - self.start)
        steps += new
        # All of them are shown, whichever asks to stop.
        return sum(callback(step, self._current) for step in new) > 0

    def _current(self) -> Iterate:
        return _unscaled(self.problem, self.state)


class TracedIteration(_Iteration):
    """The compiled loop, advanced `look` iterations at a time."""

    def _first(self, z: np.ndarray, warm: Multipliers | None) -> State:
        self.state = loop.first(self.problem, *first_inputs(self.numbers, self.problem, z, warm))
        # Compile the loop without taking a step.
        self._several(0)
        np.asarray(self.state.point.z)
        return self.state

    def _advance(self) -> list[Record]:
        before = int(self.state.iteration)
        records = self._several(self.numbers.look)
        return rows_of(records, int(self.state.iteration) - before)

    def _several(self, count: int) -> Any:
        numbers = self.numbers
        self.state, records = loop.several(
            self.problem, options_of(numbers), not numbers.gauss_newton, self.state,
            jnp.asarray(count), numbers.look,
        )  # fmt: skip
        return jax.tree.map(np.asarray, records)


class HostIteration(_Iteration):
    """NumPy, one iteration at a time; `problem` is from `host_problem_of`."""

    def _first(self, z: np.ndarray, warm: Multipliers | None) -> State:
        numbers = self.numbers
        inputs = scaled_inputs(numbers, self.problem, z, warm)
        with np.errstate(all="ignore"):
            state = begin(self.problem, *inputs)
            # Whatever the functions compile is compiled now, and is no time of an iteration.
            self.problem.trial(state.point.z, state.point.s)
            self.problem.curvature(state.point.z, state.point.multipliers, not numbers.gauss_newton)
        return state

    def _advance(self) -> list[Record]:
        numbers = self.numbers
        options = Options(numbers.tol, numbers.max_steps)
        before = self.state.iteration
        with np.errstate(all="ignore"):
            while self.state.iteration == before and self.state.status == RUNNING:
                self.state = iterate(self.problem, options, not numbers.gauss_newton, self.state)
        return [self.state.record] if self.state.iteration > before else []


def options_of(numbers: Numbers) -> Options:
    """Those numbers that are arguments of the compiled loop."""
    return Options(jnp.asarray(numbers.tol), jnp.asarray(numbers.max_steps))


def scaled_inputs(
    numbers: Numbers, problem: Problem, z: np.ndarray, warm: Multipliers | None
) -> tuple[Any, ...]:
    """Variables, multipliers in the scaled problem, and the first barrier parameter."""
    if warm is None:
        return z, None, None, None, np.float64(numbers.mu)
    scale, row_scale = np.asarray(problem.scale), np.asarray(problem.row_scale)
    rows = np.asarray(warm.constraints) * scale / row_scale
    low, high = (scale * np.asarray(item) for item in (warm.lower, warm.upper))
    return z, rows, low, high, np.float64(max(warm.mu, min(numbers.tol, 1e-6)))


def first_inputs(
    numbers: Numbers, problem: Problem, z: np.ndarray, warm: Multipliers | None
) -> tuple[Any, ...]:
    """The same on the device."""
    inputs: tuple[Any, ...] = jax.device_put(scaled_inputs(numbers, problem, z, warm))
    return inputs


def rows_of(records: Any, count: int) -> list[Record]:
    """The first `count` of some records that stand in one, one above the other."""
    return [jax.tree.map(lambda item, row=row: item[row], records) for row in range(count)]


def steps_of(records: list[Record], number: int, seconds: float) -> list[Step]:
    """The records as steps, the first of which has this number."""
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
        for row, record in enumerate(records)
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
