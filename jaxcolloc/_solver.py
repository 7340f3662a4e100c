"""The interface between `solve` and a solver: AbstractSolver, Outcome."""

import abc
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Float

from ._check import describe
from ._nlp import NLP
from ._run import Run
from ._solution import Solution
from ._trace import RESULTS, Multipliers, Row, Step, Trace


# The point of the current iteration with its multipliers; None where the solver has none.
Iterate = tuple[Float[np.ndarray, " variable"], Multipliers] | None
StepCallback = Callable[[Step, Callable[[], Iterate]], bool]


class Outcome(eqx.Module):
    """What a solver found: a point, its multipliers, how it ended, and its own words on it.

    - `z`: the point, the best one where the solve failed or was stopped.
    - `multipliers`: those of that point, for a warm start; None where there are none.
    - `result`: how it ended; `jc.RESULTS.stopped` where the callback asked for it.
    - `status`, `status_text`: the solver's own.
    - `steps`: the rows of the trace, a `jc.Step` for each iteration.
    - `compile_seconds`, `solve_seconds`, `evaluation_seconds`: times, the last one within the NLP's
      functions.
    """

    z: Float[np.ndarray, " variable"]
    multipliers: Multipliers | None
    result: RESULTS = eqx.field(static=True)
    status: int = 0
    status_text: str = ""
    steps: Sequence[Row] = ()
    compile_seconds: float = 0.0
    solve_seconds: float = 0.0
    evaluation_seconds: float = 0.0

    def ended_by(self, run: Run) -> "Outcome":
        """The same, with the reason for which the run was to end."""
        run.over()
        if self.result is not RESULTS.stopped or run.result is None:
            return self
        return dataclasses.replace(self, result=run.result)

    def solution(
        self, nlp: NLP, solver: "AbstractSolver | None", key: Any, name: str | None = None
    ) -> Solution:
        """The solution of `nlp` with this point; `name` says what found it, if not the solver."""
        constraints, (lower, upper) = np.asarray(nlp.constraints(self.z)), nlp.constraint_bounds
        violation = np.maximum(lower - constraints, constraints - upper)
        return Solution(
            source=nlp,
            z=self.z,
            result=self.result,
            objective=float(nlp.objective(self.z)),
            stats={
                "num_steps": max(len(self.steps) - 1, 0),
                "num_constraints": nlp.num_constraints,
                "compile_seconds": self.compile_seconds,
                "solve_seconds": self.solve_seconds,
                "evaluation_seconds": self.evaluation_seconds,
                "max_defect": float(np.max(violation, initial=0.0)),
                "solver": type(solver).__name__ if name is None else name,
                "status": self.status,
                "status_text": self.status_text,
            },
            trace=Trace.collect(self.steps),
            multipliers=self.multipliers,
            solver=solver,
            key=key,
        )


def check_solver(solver: Any) -> None:
    """Refuse what is no solver."""
    if not isinstance(solver, AbstractSolver):
        raise ValueError(f"`solver` must be a solver such as jc.Ipopt(); got {describe(solver)}.")


class AbstractSolver(eqx.Module):
    """A method for the NLP, with its options; one of your own has `step_limit` and `run`."""

    @property
    @abc.abstractmethod
    def step_limit(self) -> int:
        """The largest number of iterations."""

    @property
    def time_limit(self) -> float | None:
        """The most seconds that a solve may take, counted from its first step; None for any."""
        return None

    def loosened(self, tol: float, max_steps: int | None = None) -> "AbstractSolver":
        """The same, with a tolerance no tighter and no more steps than these.

        Itself if it has no fields `tol` and `max_steps`.
        """
        if not {"tol", "max_steps"} <= {field.name for field in dataclasses.fields(self)}:
            return self
        own: Any = self
        steps = own.max_steps if max_steps is None else min(own.max_steps, max_steps)
        looser: AbstractSolver = dataclasses.replace(own, tol=max(own.tol, tol), max_steps=steps)
        return looser

    @abc.abstractmethod
    def run(
        self,
        nlp: NLP,
        z: Float[np.ndarray, " variable"],
        multipliers: Multipliers | None,
        callback: StepCallback,
    ) -> Outcome:
        """Solve from `z`; with multipliers, as a warm start.

        `callback(step, current)` is to be called once per iteration, the start included. It
        returns True where the solve is to end (the caller's wish, a limit of time, Ctrl-C), which
        is then `jc.RESULTS.stopped`; `current()` is to give the iterate.
        """

    def run_many(
        self,
        nlps: Sequence[NLP],
        starts: Sequence[Float[np.ndarray, " variable"]],
        multipliers: Sequence[Multipliers | None],
        *,
        vectorize: bool | None = None,
    ) -> list[Outcome]:
        """Solve NLPs of one shape, each from its own start; here, one after another.

        `vectorize` asks for one vectorised loop, or for none, where a solver has it.
        """
        outcomes = []
        for item in zip(nlps, starts, multipliers, strict=True):
            run = Run(max_seconds=self.time_limit)
            outcomes.append(self.run(*item, run).ended_by(run))
        return outcomes

    def together(self, most: int) -> int:
        """How many of `most` NLPs of one shape this solver best solves at a time."""
        return 1
