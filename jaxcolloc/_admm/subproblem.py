"""Subproblem: one batch's NLP, kept by the process that solves it."""

import dataclasses
import threading
from typing import Any, NamedTuple

import diffrax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from .._data import Trajectory
from .._grid import Grid
from .._guess import Guess, guess
from .._integrate import Stepping
from .._nlp import NLP
from .._precision import x64
from .._sequential.loss import Parameters, all_rollouts, rollout_value
from .._settings import Settings
from .._solution import Solution
from .._solve import solve
from .._solver import AbstractSolver
from .._trace import RESULTS, Multipliers
from .._transcribe import transcribe_with
from .pickling import unpack


# The barrier parameter of a warm start: the last point is near the next, not at it.
_MU = 1e-5
# Ends of a solve whose point can be used.
_USABLE = (RESULTS.successful, RESULTS.acceptable, RESULTS.max_steps_reached,
           RESULTS.max_seconds_reached)  # fmt: skip
_STEPPING = Stepping(diffrax.Tsit5(), rtol=1e-5, atol=1e-7, max_steps=10_000)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """All that a process needs to build a batch's NLP; it travels once.

    `share` is the batch's share of all observation times, `parts` the number of batches that
    share the ridge penalty. `links` are (trajectory of the batch, whether its end) for each
    state that it shares with a neighbour.
    """

    model: Any
    trajectories: tuple[Trajectory, ...]
    grids: tuple[Grid, ...]
    settings: Settings
    share: float
    parts: int
    links: tuple[tuple[int, bool], ...]
    solver: AbstractSolver


class Job(NamedTuple):
    """What a subproblem is asked, all of it numbers.

    With `held` the weights keep the values in `consensus`; otherwise they are pulled to `center`
    with `rho`. `z` and `multipliers` are where to start from, None for smoothed data.
    """

    held: bool
    consensus: Float[np.ndarray, " _"]
    center: Float[np.ndarray, " _"]
    rho: float
    tol: float
    z: Float[np.ndarray, " variable"] | None
    multipliers: Multipliers | None
    rollout: bool


class Local(NamedTuple):
    """What comes back: a point, the batch's copy of what is shared, and its part of the objective.

    `gradient` is that of the batch's least objective with respect to the weights, where they
    were held. `rollout` is the mean loss of the consensus model's rollouts, started where the
    paths begin: those found for it where the weights were held, else those of the round before.
    """

    ok: bool
    text: str
    z: Float[np.ndarray, " variable"]
    multipliers: Multipliers
    copy: Float[np.ndarray, " _"]
    objective: float
    gradient: Float[np.ndarray, " _"] | None
    rollout: float
    num_steps: int


class Subproblem:
    """The NLP of one batch."""

    def __init__(self, recipe: Recipe):
        self.recipe = recipe
        nlp = transcribe_with(recipe.model, recipe.trajectories, recipe.grids, recipe.settings)
        # The batch's part of the ridge penalty, in the units of its own mean over observations.
        parts = recipe.parts
        nlp = nlp.with_ridge_shared(1 / (recipe.share * parts), 1 / recipe.share, 1 / parts)
        layout = nlp.layout
        ends = [
            layout.columns((layout.last_nodes if end else layout.first_nodes)[k])
            for k, end in recipe.links
        ]
        states = np.add.outer(np.array(ends, int), np.arange(nlp.num_states)).ravel()
        self.positions = np.concatenate([np.arange(nlp.num_weights), states])
        # The optimizer's units are the same in all batches, and so are those of what is shared.
        self.units = nlp.units[self.positions]
        zeros = np.zeros(len(self.positions))
        self.nlp = nlp.with_pull(self.positions, zeros, zeros)
        self._rollouts: Any = None

    def answer(self, job: Job) -> Local:
        """Solve it."""
        factor = np.full(len(self.positions), job.rho / (2 * self.recipe.share)) / self.units**2
        nlp = self.nlp.with_pull(self.positions, factor, job.center * self.units)
        if job.held:
            nlp = nlp.with_weights_held(job.consensus[: nlp.num_weights])
        start = self._start(nlp, job)
        rollout = float("nan")
        if job.rollout and not job.held:
            rollout = self._rollout(job, start.z)
        sol = solve(nlp, self.recipe.solver.loosened(job.tol), start, throw=False)
        assert sol.multipliers is not None
        if job.rollout and job.held:
            rollout = self._rollout(job, sol.z)
        plain = float(self.nlp.objective(sol.z))
        usable = sol.result in _USABLE and bool(np.all(np.isfinite(sol.z)))
        return Local(
            ok=usable,
            text=sol.stats["status_text"],
            z=sol.z,
            multipliers=dataclasses.replace(sol.multipliers, mu=_MU),
            copy=sol.z[self.positions],
            objective=plain * self.recipe.share,
            gradient=self._gradient(sol) if job.held and usable else None,
            rollout=rollout,
            num_steps=sol.stats["num_steps"],
        )

    def _start(self, nlp: NLP, job: Job) -> Guess:
        count = nlp.num_weights
        if job.z is None:
            first = guess(self.nlp, weights="as_given")
            z, multipliers = first.z.copy(), None
        else:
            z, multipliers = job.z.copy(), job.multipliers
        if job.held or job.z is None:
            z[:count] = job.consensus[:count]
        return Guess.at(nlp, z, multipliers=multipliers)

    def _gradient(self, sol: Solution) -> np.ndarray:
        """Of the least objective: that of the Lagrangian, zero for what was free."""
        assert sol.multipliers is not None
        nlp = self.nlp
        jacobian = nlp.parts.jacobian_pattern.matrix(np.asarray(nlp.jacobian(sol.z)))
        gradient = np.asarray(nlp.gradient(sol.z)) + jacobian.T @ sol.multipliers.constraints
        gradient = gradient[self.positions]
        gradient[nlp.num_weights :] = 0.0
        return gradient * self.recipe.share

    def _rollout(self, job: Job, z: np.ndarray) -> float:
        """Of the consensus model, from the states where the paths in `z` begin."""
        nlp = self.nlp
        columns = nlp.layout.start_columns
        head = nlp.layout.head(z).copy()
        head[: nlp.num_weights] = job.consensus[: nlp.num_weights]
        with x64():
            if self._rollouts is None:
                # Of the data alone, without penalty.
                self._rollouts = all_rollouts(nlp, (), _STEPPING)
            loss, parts = self._rollouts
            parameters = Parameters(jnp.asarray(head), jnp.asarray(z[columns]))
            count = sum(int(item.observed.sum()) for item in nlp.trajectories)
            ends = (jnp.asarray(-1.0), jnp.asarray(1.0), jnp.asarray(1.0 / count))
            return float(rollout_value(loss, parameters, (parts, *ends)))


# What this process has built: subproblems of one run, by its name and the batch's number.
_kept: dict[tuple[str, int], Subproblem] = {}
# IPOPT's linear solver is not safe to enter twice, and threads would only share the cores.
_one_at_a_time = threading.Lock()


def work(run: str, batch: int, job: Job, recipe: Recipe | bytes | None) -> Local | None:
    """Answer a job; None if this process has not been told how to build the batch yet."""
    with _one_at_a_time:
        key = (run, batch)
        if key not in _kept:
            if recipe is None:
                return None
            for other in [other for other in _kept if other[0] != run]:
                del _kept[other]
            _kept[key] = Subproblem(unpack(recipe) if isinstance(recipe, bytes) else recipe)
        return _kept[key].answer(job)
