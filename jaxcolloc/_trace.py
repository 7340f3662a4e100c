"""How runs go and end: RESULTS, rows of a trace, Trace, Multipliers."""

import dataclasses
import enum
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Float


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
    trained = "All steps of the sequential training were taken."
    early_stopped = (
        "The error on held-out data stopped falling; the model is the one for which it was least."
    )

    @property
    def ok(self) -> bool:
        """Whether an optimum was found, or sequential training ended as it should."""
        good = (RESULTS.successful, RESULTS.acceptable, RESULTS.trained, RESULTS.early_stopped)
        return self in good

    def __repr__(self) -> str:
        return f"RESULTS.{self.name}"


@dataclasses.dataclass(frozen=True)
class Step:
    """One iteration of a solver, as the trace keeps it and the callback sees it.

    `primal_infeasibility` is the largest constraint violation, `dual_infeasibility` the largest
    gradient of the Lagrangian (as scaled by the solver), `mu` the barrier parameter,
    `step_size` the accepted fraction of the primal step, `seconds` the time since the solve
    began. `restoration` marks steps of the feasibility restoration, whose objective is another.
    For a callback only: `model()` is the trained model so far, or None where IPOPT cannot tell.
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
    model: Callable[[], Any] | None = dataclasses.field(default=None, repr=False, compare=False)

    def summary(self) -> str:
        """A few words for a progress bar."""
        return f"objective {self.objective:.5g}, defect {self.primal_infeasibility:.1e}"


@dataclasses.dataclass(frozen=True)
class TrainingStep:
    """One step of sequential training, as the trace of `jc.fine_tune` keeps it.

    `gradient` is the largest entry of the objective's gradient, `step_norm` the length of the step
    that led here. For a callback only: `model()` is the trained model so far.
    """

    iteration: int
    objective: float
    gradient: float
    step_norm: float
    seconds: float
    model: Callable[[], Any] | None = dataclasses.field(default=None, repr=False, compare=False)

    def summary(self) -> str:
        """A few words for a progress bar."""
        return f"objective {self.objective:.5g}, gradient {self.gradient:.1e}"


@dataclasses.dataclass(frozen=True)
class Round:
    """One round of consensus training, as the trace of `jc.fit_admm` keeps it.

    `primal` and `dual` are the residuals, `rho` the penalty, `moved` the length of the consensus'
    step, `num_steps` the iterations of all subproblems; `rejected` marks rounds that were repeated
    with a larger penalty. For a callback only: `model()` is the consensus model so far.
    """

    iteration: int
    objective: float
    primal: float
    dual: float
    rho: float
    moved: float
    num_steps: int
    rejected: bool
    seconds: float
    model: Callable[[], Any] | None = dataclasses.field(default=None, repr=False, compare=False)

    def summary(self) -> str:
        """A few words for a progress bar."""
        return f"objective {self.objective:.5g}, residuals {self.primal:.1e}, {self.dual:.1e}"


Row = Step | TrainingStep | Round

_KINDS: dict[Any, Any] = {int: np.int64, float: np.float64, bool: np.bool_}


class Trace(eqx.Module):
    """The iterations of a run: one array with an entry for each of them, for every field of a row.

    `trace.objective` is that of a column; the names are those of `jc.Step`, or of
    `jc.TrainingStep` after `jc.fine_tune` and `jc.Round` after `jc.fit_admm`.
    """

    columns: dict[str, np.ndarray]

    @classmethod
    def collect(cls, rows: Sequence[Row]) -> "Trace":
        """From the recorded rows, which are of one kind; `Step` where there are none."""
        columns: dict[str, np.ndarray] = {}
        for field in dataclasses.fields(rows[0] if rows else Step):
            if field.type in _KINDS:
                values = [getattr(row, field.name) for row in rows]
                columns[field.name] = np.array(values, _KINDS[field.type])
        return cls(columns)

    def __getattr__(self, name: str) -> np.ndarray:
        columns = self.__dict__.get("columns", {})
        if name not in columns:
            raise AttributeError(f"The trace has {', '.join(columns) or 'no columns'}; got {name}.")
        found: np.ndarray = columns[name]
        return found

    def __len__(self) -> int:
        return len(self.columns["iteration"])


class Multipliers(eqx.Module):
    """Lagrange multipliers: of the constraints, of the lower and of the upper bounds.

    `mu` is the barrier parameter they belong to, zero at an optimum.
    """

    constraints: Float[np.ndarray, " equation"]
    lower: Float[np.ndarray, " variable"]
    upper: Float[np.ndarray, " variable"]
    mu: float = 0.0
