"""The interface between `solve` and a solver."""

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Float

from ._nlp import NLP
from ._solution import RESULTS, Multipliers, Step


Callback = Callable[[Step], Any]
# The point of the current iteration with its multipliers; None where the solver has none.
Iterate = tuple[Float[np.ndarray, " variable"], Multipliers] | None
StepCallback = Callable[[Step, Callable[[], Iterate]], bool]


class Outcome(eqx.Module):
    """What a solver found: a point, its multipliers, how it ended, and its own words on it."""

    z: Float[np.ndarray, " variable"]
    multipliers: Multipliers
    result: RESULTS = eqx.field(static=True)
    status: int
    status_text: str
    steps: list[Step]
    compile_seconds: float
    solve_seconds: float
    evaluation_seconds: float


class AbstractSolver(eqx.Module):
    """A method for the NLP, with its options."""

    @property
    @abc.abstractmethod
    def step_limit(self) -> int:
        """The largest number of iterations."""

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
