"""What a solve returns: RESULTS, the trace, Solution."""

import dataclasses
import enum
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Float, Int

from ._nlp import NLP
from ._path import Path


class RESULTS(enum.Enum):
    """How a solve ended; the value says what it means and what to try next."""

    successful = "An optimum was found to the tolerance asked for."
    acceptable = (
        "The solver could not reach the tolerance but stopped at a point within its looser "
        "acceptable tolerance. Use the result with care, or try another start or scaling."
    )
    max_steps_reached = (
        "The limit of steps was reached. Raise `max_steps`, start from a better guess, or use a "
        "coarser grid first."
    )
    max_seconds_reached = "The limit of wall-clock time was reached. Raise `max_seconds`."
    stopped = "The callback stopped the solve."
    interrupted = "The solve was interrupted from the keyboard."
    infeasible = (
        "The solver converged to a point where the collocation equations cannot be met. Widen "
        "the bounds, use more intervals or a better guess."
    )
    restoration_failed = (
        "No point closer to feasibility was found. Try another guess, more weights, or a grid "
        "that resolves the data."
    )
    small_steps = (
        "The steps became too small to make progress. Scale the data to magnitudes near one, or "
        "try another guess."
    )
    diverging = "The iterates grow without bound. Set bounds, or raise `l2`."
    not_finite = (
        "The model returned NaN or infinity and no shorter step avoided it. Check the model near "
        "the initial guess, or set `state_bounds`."
    )
    too_few_freedom = (
        "There are more equations than free variables. Free the initial state or use a model "
        "with more weights."
    )
    invalid_option = "The solver refused an option. Check its name and type in `options`."
    failed = "The solver failed inside; its own status is in `stats`."

    @property
    def ok(self) -> bool:
        """Whether an optimum was found."""
        return self in (RESULTS.successful, RESULTS.acceptable)

    def __repr__(self) -> str:
        return f"RESULTS.{self.name}"


@dataclasses.dataclass(frozen=True)
class Step:
    """One iteration, as the trace keeps it and the callback sees it.

    `primal_infeasibility` is the largest constraint violation, `dual_infeasibility` the largest
    gradient of the Lagrangian (as scaled by the solver), `mu` the barrier parameter,
    `step_size` the accepted fraction of the primal step, `seconds` the time since the solve
    began. `restoration` marks steps of the feasibility restoration, whose objective is another.
    """

    iteration: int
    objective: float
    primal_infeasibility: float
    dual_infeasibility: float
    mu: float
    step_norm: float
    step_size: float
    regularization: float
    trials: int
    restoration: bool
    seconds: float


_KINDS: dict[Any, Any] = {int: np.int64, float: np.float64, bool: np.bool_}


class Trace(eqx.Module):
    """The iterations of a solve, one array entry each; the fields are those of `Step`."""

    iteration: Int[np.ndarray, " step"]
    objective: Float[np.ndarray, " step"]
    primal_infeasibility: Float[np.ndarray, " step"]
    dual_infeasibility: Float[np.ndarray, " step"]
    mu: Float[np.ndarray, " step"]
    step_norm: Float[np.ndarray, " step"]
    step_size: Float[np.ndarray, " step"]
    regularization: Float[np.ndarray, " step"]
    trials: Int[np.ndarray, " step"]
    restoration: np.ndarray
    seconds: Float[np.ndarray, " step"]

    @classmethod
    def collect(cls, steps: list[Step]) -> "Trace":
        """From the recorded steps."""
        columns: dict[str, np.ndarray] = {}
        for field in dataclasses.fields(Step):
            values = [getattr(step, field.name) for step in steps]
            columns[field.name] = np.array(values, _KINDS[field.type])
        return cls(**columns)

    def __len__(self) -> int:
        return len(self.iteration)


class Multipliers(eqx.Module):
    """Lagrange multipliers: of the constraints, of the lower and of the upper bounds."""

    constraints: Float[np.ndarray, " equation"]
    lower: Float[np.ndarray, " variable"]
    upper: Float[np.ndarray, " variable"]


class Solution(eqx.Module):
    """The trained model and all that was found with it.

    - `model`: the trained module, in the dtypes it came with: `diffrax.ODETerm(sol.model)`.
    - `paths`: one `Path` per trajectory, `sol.paths[0].evaluate(t)`.
    - `args`: the `args` of each trajectory, with fitted values in the place of a `jc.Unknown`.
    - `result`: a member of `jc.RESULTS`; `result.ok` tells whether an optimum was found.
    - `objective`: the objective at the point returned.
    - `stats`: `num_steps`, `compile_seconds`, `solve_seconds`, `evaluation_seconds` (inside our
      functions), `max_defect` (the largest violation of an equation or constraint, in the
      units of the NLP: the state's per time), `solver`, `status` and `status_text` (the
      solver's own).
    - `trace`: the iterations.
    - `z`, `multipliers`: the optimizer's variables, for a warm start; `nlp`: what was solved.
    """

    model: Any
    args: tuple[Any, ...]
    paths: tuple[Path, ...]
    result: RESULTS = eqx.field(static=True)
    objective: float
    stats: dict[str, Any]
    trace: Trace
    z: Float[np.ndarray, " variable"]
    multipliers: Multipliers
    nlp: NLP

    def __str__(self) -> str:
        stats = self.stats
        count = len(self.paths)
        noun = "trajectory" if count == 1 else "trajectories"
        return "\n".join(
            [
                f"Solution: {self.result.name}. {self.result.value}",
                f"  problem    {self.nlp.num_variables} variables, "
                f"{self.nlp.num_constraints} constraints, {count} {noun}",
                f"  objective  {self.objective:.8g}",
                f"  defect     {stats['max_defect']:.2g} at most",
                f"  solver     {stats['solver']}, {stats['num_steps']} steps",
                f"  seconds    {stats['compile_seconds']:.2f} to compile, "
                f"{stats['solve_seconds']:.2f} to solve, "
                f"{stats['evaluation_seconds']:.2f} of these in functions",
            ]
        )

    def __repr__(self) -> str:
        return f"Solution({self.result!r}, objective={self.objective:.8g})"


class SolveError(RuntimeError):
    """A solve failed; `solution` holds the best point found."""

    def __init__(self, solution: Solution):
        super().__init__(
            f"{solution.result.value} "
            f"[{solution.result!r}; the solver's status: {solution.stats['status_text']}; "
            "the best point found is in `error.solution`, or pass `throw=False`]"
        )
        self.solution = solution
