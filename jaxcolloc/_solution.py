"""What a solve returns: RESULTS, the trace, Solution."""

import dataclasses
import enum
import os
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Float, Int

from . import _storage
from ._nlp import NLP
from ._path import Path
from ._precision import is_array
from ._verification import Verification


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
    """One iteration, as the trace keeps it and the callback sees it.

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
            if field.type in _KINDS:
                values = [getattr(step, field.name) for step in steps]
                columns[field.name] = np.array(values, _KINDS[field.type])
        return cls(**columns)

    def __len__(self) -> int:
        return len(self.iteration)


class Multipliers(eqx.Module):
    """Lagrange multipliers: of the constraints, of the lower and of the upper bounds.

    `mu` is the barrier parameter they belong to, zero at an optimum.
    """

    constraints: Float[np.ndarray, " equation"]
    lower: Float[np.ndarray, " variable"]
    upper: Float[np.ndarray, " variable"]
    mu: float = 0.0


class Solution(eqx.Module):
    """The trained model and all that was found with it.

    - `model`: the trained module, in the dtypes it came with: `diffrax.ODETerm(sol.model)`.
    - `paths`: one `Path` per trajectory, `sol.paths[0].evaluate(t)`.
    - `args`: the `args` of each trajectory, with fitted values in the place of a `jc.Unknown`.
    - `result`: a member of `jc.RESULTS`; `result.ok` tells whether an optimum was found.
    - `objective`: the objective at the point returned.
    - `stats`: `num_steps`, `num_constraints`, `compile_seconds`, `solve_seconds`,
      `evaluation_seconds` (inside our functions), `max_defect` (the largest violation of an
      equation or constraint, in the units of the NLP: the state's per time), `solver`, `status`
      and `status_text` (the solver's own).
    - `trace`: the iterations.
    - `z`, `multipliers`: the optimizer's variables, for a warm start (None after `jc.fine_tune`,
      which has no multipliers); `nlp`: what was solved; `solver`: with which options; `key`: the
      PRNG key of its guess.
    - `verification`: the `jc.Verification` that `jc.fit` makes; None after the others.
    """

    model: Any
    args: tuple[Any, ...]
    paths: tuple[Path, ...]
    result: RESULTS = eqx.field(static=True)
    objective: float
    stats: dict[str, Any]
    trace: Trace
    z: Float[np.ndarray, " variable"]
    multipliers: Multipliers | None
    problem: NLP | None
    solver: Any
    key: Any = None
    verification: Verification | None = None

    @property
    def nlp(self) -> NLP:
        """The NLP that was solved.

        **Errors:** `ValueError` in a solution from a file that could not hold the whole problem.
        """
        if self.problem is None:
            raise ValueError(
                "This solution was loaded without its NLP, since functions or other objects that "
                "a file cannot hold belong to it. Load it with `like=nlp`."
            )
        return self.problem

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all of it to one file, for `jc.load`.

        Weights, states, multipliers, grids, options, the key and the data; no pickle. The file
        is replaced at once: a kill while writing leaves the old one whole. Functions (a loss,
        `observe`, constraints) and `args` of foreign classes cannot be stored; a solution with
        these is loaded with `like=nlp`, or without its NLP.
        """
        _storage.write(path, self._content())

    def to_pandas(self) -> Any:
        """A table of all trajectories: states at the nodes and at the observation times.

        Rows are indexed by trajectory and time; the columns are `path_0, ...`, the states on the
        collocation path, `rollout_0, ...`, those of the rollout at the nodes (after `jc.fit`), and
        `data_0, ...`, the observations. NaN where there is none.
        """
        import pandas as pd

        frames = []
        for k, path in enumerate(self.paths):
            data = self.nlp.trajectories[k] if self.problem is not None else None
            ts = path.grid.times if data is None else np.append(path.grid.times, data.ts)
            times = np.unique(np.clip(ts, *path.grid.boundaries[[0, -1]]))
            parts = [_columns("path", times, path.grid.interpolate(path.states, times))]
            if self.verification is not None:
                rolled = self.verification.rollouts[k]
                parts.append(_columns("rollout", path.grid.times, rolled))
            if data is not None:
                _, first = np.unique(data.ts, return_index=True)
                parts.append(_columns("data", data.ts[first], data.ys[first]))
            frames.append(pd.concat(parts, axis=1))
        return pd.concat(frames, keys=range(len(frames)), names=["trajectory", "time"])

    def _content(self) -> dict[str, Any]:
        problem = None
        if self.problem is not None:
            problem = {
                "data": _storage.storable(list(self.problem.trajectories)),
                "settings": {
                    name: _storage.storable(value) for name, value in self.problem.settings.items()
                },
            }
        leaves = [np.asarray(leaf) for leaf in jtu.tree_leaves(self.model) if is_array(leaf)]
        return {
            "model": leaves,
            "args": [_storage.storable(item) for item in self.args],
            "paths": [(path.grid, path.states) for path in self.paths],
            "result": self.result,
            "objective": self.objective,
            "stats": {name: _storage.storable(value) for name, value in self.stats.items()},
            "trace": self.trace,
            "z": self.z,
            "multipliers": self.multipliers,
            "problem": problem,
            "solver": _storage.storable(self.solver),
            "key": _storage.storable(self.key),
            "verification": self.verification,
        }

    def __str__(self) -> str:
        stats = self.stats
        count = len(self.paths)
        noun = "trajectory" if count == 1 else "trajectories"
        proof = [] if self.verification is None else [str(self.verification)]
        return "\n".join(
            [
                f"Solution: {self.result.name}. {self.result.value}",
                f"  problem    {len(self.z)} variables, "
                f"{stats['num_constraints']} constraints, {count} {noun}",
                f"  objective  {self.objective:.8g}",
                f"  defect     {stats['max_defect']:.2g} at most",
                f"  solver     {stats['solver']}, {stats['num_steps']} steps",
                f"  seconds    {stats['compile_seconds']:.2f} to compile, "
                f"{stats['solve_seconds']:.2f} to solve, "
                f"{stats['evaluation_seconds']:.2f} of these in functions",
                *proof,
            ]
        )

    def __repr__(self) -> str:
        return f"Solution({self.result!r}, objective={self.objective:.8g})"


def _columns(name: str, times: np.ndarray, values: np.ndarray) -> Any:
    import pandas as pd

    columns = [f"{name}_{column}" for column in range(values.shape[1])]
    return pd.DataFrame(values, index=times, columns=columns)


class SolveError(RuntimeError):
    """A solve failed; `solution` holds the best point found."""

    def __init__(self, solution: Solution):
        super().__init__(
            f"{solution.result.value} "
            f"[{solution.result!r}; the solver's status: {solution.stats['status_text']}; "
            "the best point found is in `error.solution`, or pass `throw=False`]"
        )
        self.solution = solution
