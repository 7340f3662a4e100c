"""The interface between `solve` and a solver."""

import abc
import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Float

from ._check import describe
from ._nlp import NLP
from ._path import Path
from ._solution import RESULTS, Multipliers, Solution, Step, Trace


Callback = Callable[[Step], Any]
# The point of the current iteration with its multipliers; None where the solver has none.
Iterate = tuple[Float[np.ndarray, " variable"], Multipliers] | None
StepCallback = Callable[[Step, Callable[[], Iterate]], bool]


class Outcome(eqx.Module):
    """What a solver found: a point, its multipliers, how it ended, and its own words on it."""

    z: Float[np.ndarray, " variable"]
    multipliers: Multipliers | None
    result: RESULTS = eqx.field(static=True)
    status: int
    status_text: str
    steps: list[Step]
    compile_seconds: float
    solve_seconds: float
    evaluation_seconds: float

    def solution(self, nlp: NLP, solver: Any, key: Any) -> Solution:
        """The solution of `nlp` with this point."""
        model, states = nlp.unpack(self.z)
        constraints, (lower, upper) = np.asarray(nlp.constraints(self.z)), nlp.constraint_bounds
        violation = np.maximum(lower - constraints, constraints - upper)
        return Solution(
            model=model,
            args=nlp.args(self.z),
            paths=tuple(Path(grid, item) for grid, item in zip(nlp.grids, states, strict=True)),
            result=self.result,
            objective=float(nlp.objective(self.z)),
            stats={
                "num_steps": max(len(self.steps) - 1, 0),
                "num_constraints": nlp.num_constraints,
                "compile_seconds": self.compile_seconds,
                "solve_seconds": self.solve_seconds,
                "evaluation_seconds": self.evaluation_seconds,
                "max_defect": float(np.max(violation, initial=0.0)),
                "solver": type(solver).__name__,
                "status": self.status,
                "status_text": self.status_text,
            },
            trace=Trace.collect(self.steps),
            z=self.z,
            multipliers=self.multipliers,
            problem=nlp,
            solver=solver,
            key=key,
        )


def check_solver(solver: Any) -> None:
    """Refuse what is no solver."""
    if not isinstance(solver, AbstractSolver):
        raise ValueError(f"`solver` must be a solver such as jc.Ipopt(); got {describe(solver)}.")


class AbstractSolver(eqx.Module):
    """A method for the NLP, with its options."""

    @property
    @abc.abstractmethod
    def step_limit(self) -> int:
        """The largest number of iterations."""

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

        `callback(step, current)` is called once per iteration; it returns True to stop the
        solve, and `current()` is the iterate.
        """
