"""fit_admm: batches trained apart, one consensus model."""

import dataclasses
import os
import time
import warnings
from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import PRNGKeyArray

from .. import _storage
from .._check import describe, integer, positive
from .._choose_grid import choose_grids
from .._constraints import Tie, as_constraints
from .._data import Trajectory, as_trajectories
from .._fit import fit
from .._guess import guess
from .._ipopt.solver import Ipopt
from .._nlp import NLP
from .._precision import x64
from .._progress import progress_bar
from .._scheme import AbstractScheme
from .._solution import RESULTS, Multipliers, Solution, Step
from .._solve import asked_to_stop
from .._solver import AbstractSolver, Callback, Outcome, check_solver
from .._transcribe import Grids, as_grids, check_options, transcribe
from .._transcription.units import with_weights
from .._verify import verify
from .batches import Batches, make_batches
from .consensus import Consensus, Residuals
from .executors import Workers
from .subproblem import Job, Local, Recipe


# Observations that the joint fit of the start sees at most.
_START_SIZE = 1000
_LOCAL_STEPS = 200
# Subproblems are solved this much more exactly than the residuals deserve, and no more loosely.
_EXACT, _LOOSE = 1e-3, 1e-4
# From a common start, a round after which the batches fit this much worse, or lie this much
# further apart than they did (gaps below that share of the weights' size are none), has left it:
# the penalty was too weak for their negative curvature, and is raised by the factor.
_WORSE, _APART, _NO_GAP, _RAISE = 1.2, 5.0, 3e-3, 10.0
# Penalties that change for ever need not converge (Boyd et al., section 3.4.1).
_BALANCED_ROUNDS = 50
_STARTS = ("fit", "batch", "guess", "as_given")
# z and multipliers of a batch.
_Point = tuple[np.ndarray, Multipliers]


class Admm(eqx.Module):
    """The options of a consensus fit, as a solution keeps them."""

    rho: float
    relaxation: float
    balance: bool
    continuity: bool
    max_rounds: int
    rtol: float
    atol: float
    solver: AbstractSolver


def fit_admm(
    model: Any,
    data: Trajectory | Sequence[Trajectory],
    *,
    batches: int | Sequence[Sequence[int]] = 2,
    rho: float = 1.0,
    key: PRNGKeyArray | None = None,
    start: Any = "fit",
    grid: Grids | None = None,
    scheme: AbstractScheme | None = None,
    l2: Any = 1e-3,
    continuity: bool = False,
    relaxation: float = 1.0,
    balance: bool = True,
    max_rounds: int = 100,
    rtol: float = 5e-4,
    atol: float = 1e-4,
    solver: AbstractSolver | None = None,
    executor: Executor | int | None = None,
    retries: int = 1,
    rollouts: bool = True,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool | str = False,
    callback: Callback | None = None,
    **options: Any,
) -> Solution:
    r"""Train one model on batches of data that are solved apart, by consensus ADMM.

    With $L_i$ the share of batch $i$ in the objective of `jc.transcribe`, each round solves

    $$\min_{w_i, Y_i} \; L_i + \tfrac{\rho}{2} \| w_i - \bar w + u_i / \rho \|^2 \quad
      \text{subject to the batch's equations},$$

    and then takes the mean $\bar w = \operatorname{mean}_i(w_i + u_i / \rho)$ and
    $u_i \leftarrow u_i + \rho (w_i - \bar w)$. It is for data that do not fit one solve, or that
    lie on several machines; where a joint `jc.fit` is possible it is faster and more exact. Nets
    can hold one function in many ways (hidden units permuted, signs flipped), whose mean is
    none of them: all batches begin with the same weights.

        sol = jc.fit_admm(model, data, batches=8, key=key, executor=4)

    **Arguments:**

    - `model`, `data`, `grid`, `scheme`, `key`: as in `jc.fit`.
    - `batches`: how many. Up to the number of trajectories, batches hold whole ones, of about
      equal numbers of observations; beyond it, trajectories are cut in time at boundaries of
      their grids. Or a list of lists of trajectories.
    - `rho`: the penalty $\rho$ of the first round. After a round in which the batches fit clearly
      worse than the common start did, or get clearly further apart, $\rho$ is raised tenfold and
      the round repeated.
    - `start`: the common start: "fit", a joint fit of at most 1000 observations; "batch", a
      fit of the first batch; "guess", gradient matching; "as_given", the model's own weights. Or
      one model per batch, to start them apart. With a common start, each batch first
      finds its path with those weights, and the gradients there give the first $u_i$.
    - `l2`: the factor of the ridge penalty, as in `jc.transcribe`.
    - `continuity`: also pull together the states where a trajectory is cut.
    - `relaxation`: over-relaxation, 1 for none, below 2.
    - `balance`: double or halve $\rho$ while one residual, relative to its tolerance, is more than
      twenty times the other (in the first 50 rounds).
    - `max_rounds`: the largest number of rounds.
    - `rtol`, `atol`: stop when $\sum_i \|w_i - \bar w\|$ is at most
      `atol` $\sum_i \sqrt{n_i}$ + `rtol` times the size of the weights, and
      $\rho \, (\sum_i \|\bar w^+ - \bar w\|^2)^{1/2}$ at most
      `atol` $(\sum_i n_i)^{1/2}$ + `rtol` times that of $u$.
    - `solver`: of the subproblems; `jc.Ipopt(max_steps=200)` if not given.
    - `executor`: where they run: None for this process, a number of processes to start, or any
      `concurrent.futures.Executor`, such as `distributed.Client(...).get_executor()` or
      `mpi4py.futures.MPIPoolExecutor()`. Only arrays travel after the first call. Scripts
      that start processes need `if __name__ == "__main__"` around their own work; workers on other
      machines need the model's class in a module that they can import.
    - `retries`: how often a subproblem that fails, or whose worker dies, is tried again in a round.
      After that the batch is left out of the round, with a warning.
    - `rollouts`: follow the error of the consensus model's rollouts.
    - `checkpoint`: a file that is written after every round; a run goes on from it.
    - `progress`, `callback`: as in `jc.solve`, once per round.
    - `options`: any other option of `jc.transcribe`. Constraints must apply to all trajectories.

    Returns a `jc.Solution` with the consensus model and `verification`; its paths, one for each
    trajectory or segment, are those of that model. In its `trace`, `primal_infeasibility` and
    `dual_infeasibility` are the residuals, `regularization` is $\rho$ and `trials` counts the
    iterations of all subproblems. `stats["rounds"]` adds `rollout_mse`, the tolerances and
    which were `rejected` to raise $\rho$;
    `stats["members"]` tells which trajectories or segments each batch has. It has no multipliers.

    Shapovalova and Tsay (arXiv 2502.15642), section 4.4; Boyd et al., "Distributed
    optimization and statistical learning via ADMM" (Found. Trends Mach. Learn. 3, 2011).

    **Errors:** `ValueError` for bad arguments. It warns where the limit of rounds is reached, and
    where the fit is not verified.
    """
    begin = time.perf_counter()
    check_options(options)
    solver = Ipopt(max_steps=_LOCAL_STEPS) if solver is None else solver
    check_solver(solver)
    relaxation = positive("relaxation", relaxation)
    if relaxation >= 2:
        raise ValueError(f"`relaxation` must be above 0 and below 2; got {relaxation}.")
    admm = Admm(
        positive("rho", rho),
        relaxation,
        bool(balance),
        bool(continuity),
        integer("max_rounds", max_rounds, 1),
        positive("rtol", rtol, allow_zero=True),
        positive("atol", atol),
        solver,
    )
    retries = integer("retries", retries, 0)
    parts, joint = _split(model, data, batches, grid, scheme, l2, options)
    recipes = _recipes(joint, parts, admm)
    with Workers(executor, recipes, retries).open() as workers:
        run = _Run(joint, parts, admm, workers, bool(rollouts), checkpoint)
        if checkpoint is not None and Path(checkpoint).exists():
            run.resume(_storage.read(checkpoint))
        else:
            run.begin(*_first_weights(start, joint, parts, key, l2, options))
        result = run.rounds(progress, callback)
        outcome = run.outcome(result)
    sol = outcome.solution(joint, admm, key)
    sol = dataclasses.replace(sol, verification=verify(sol))
    sol.stats.update(
        num_steps=len(run.table),
        rounds={name: [row[name] for row in run.table] for name in _COLUMNS},
        members=[list(item) for item in parts.members],
        fit_seconds=time.perf_counter() - begin,
    )
    _report(sol)
    return sol


def _report(sol: Solution) -> None:
    if sol.result is RESULTS.max_steps_reached:
        warnings.warn("The limit of rounds was reached. Raise `max_rounds`.", stacklevel=3)
    assert sol.verification is not None
    verdict = sol.verification.verdict
    if not verdict.ok:
        warnings.warn(f"The fit is not verified ({verdict.name}). {verdict.value}", stacklevel=3)


def _split(
    model: Any,
    data: Any,
    batches: Any,
    grid: Grids | None,
    scheme: AbstractScheme | None,
    l2: Any,
    options: dict[str, Any],
) -> tuple[Batches, NLP]:
    """The batches, and the joint problem that they are parts of."""
    # Weights that are chosen by magnitudes are those of all data in every batch.
    trajectories = tuple(
        Trajectory(item.ts, item.ys, item.args, weights=item.weights, y0=item.y0)
        for item in with_weights(as_trajectories(data))
    )
    for item in as_constraints(options.get("constraints", ()), len(trajectories)):
        if isinstance(item, Tie) or item.trajectories is not None:
            raise ValueError(
                "`constraints` must apply to all trajectories, since these are solved apart; "
                f"got {describe(item)}."
            )
    grids = as_grids(choose_grids(trajectories, grid, scheme), trajectories)
    parts = make_batches(trajectories, grids, batches)
    if min(parts.counts()) == 0:
        raise ValueError("`batches` must each hold at least one observation; one has none.")
    return parts, transcribe(model, parts.trajectories, parts.grids, l2=l2, **options)


def _recipes(joint: NLP, parts: Batches, admm: Admm) -> list[Recipe]:
    counts = parts.counts()
    spans = [grid.boundaries[-1] - grid.boundaries[0] for grid in parts.grids]
    options = dict(joint.settings)
    first = joint.layout.num_head
    options["state_scale"] = joint.units[first : first + joint.num_states]
    recipes = []
    for batch, members in enumerate(parts.members):
        share = counts[batch] / sum(counts)
        span = sum(spans[k] for k in members) / sum(spans)
        options["residual_penalty"] = joint.settings["residual_penalty"] * span / share
        recipes.append(
            Recipe(
                model=joint.model,
                trajectories=tuple(parts.trajectories[k] for k in members),
                grids=tuple(parts.grids[k] for k in members),
                options=dict(options),
                share=share,
                parts=len(counts),
                links=tuple(link for link, _ in _links(parts, batch, admm.continuity)),
                solver=admm.solver,
            )
        )
    return recipes


def _links(parts: Batches, batch: int, continuity: bool) -> list[tuple[tuple[int, bool], int]]:
    """The cuts of a batch: (its trajectory, whether at its end), and which cut it is."""
    if not continuity:
        return []
    members = parts.members[batch]
    found = []
    for cut, (left, right) in enumerate(parts.cuts):
        if left in members:
            found.append(((members.index(left), True), cut))
        if right in members:
            found.append(((members.index(right), False), cut))
    return found


def _entries(joint: NLP, parts: Batches, continuity: bool) -> list[np.ndarray]:
    """Which entries of the shared vector each batch has: all weights, then states at cuts."""
    weights, d = np.arange(joint.num_weights), joint.num_states
    return [
        np.concatenate(
            [weights]
            + [
                joint.num_weights + cut * d + np.arange(d)
                for _, cut in _links(parts, batch, continuity)
            ]
        )
        for batch in range(len(parts.members))
    ]


def _first_weights(
    start: Any, joint: NLP, parts: Batches, key: Any, l2: Any, options: dict[str, Any]
) -> tuple[list[np.ndarray], bool]:
    """The weights that each batch starts with, and whether they are the same."""
    count = len(parts.members)
    flatten = joint.layout.model.flatten
    apart = isinstance(start, (list, tuple))
    known = len(start) == count if apart else isinstance(start, str) and start in _STARTS
    if not known:
        came = f"{len(start)} models" if apart else describe(start)
        raise ValueError(
            f"`start` must be one of {', '.join(_STARTS)} or one model for each of the "
            f"{count} batches; got {came}."
        )
    if apart:
        with x64():
            return [np.asarray(flatten("start", item)) for item in start], False
    if start in ("fit", "batch"):
        chosen = parts.members[0] if start == "batch" else _some(parts)
        data = [parts.trajectories[k] for k in chosen]
        grids = [parts.grids[k] for k in chosen]
        with warnings.catch_warnings():
            # What counts is how the whole fit is verified.
            warnings.simplefilter("ignore")
            found = fit(
                joint.model, data, key=key, grid=grids, l2=l2, refinements=0, **options
            ).model
    elif start == "guess":
        found = guess(joint, key=key).model
    else:
        found = joint.model
    with x64():
        return [np.asarray(flatten("start", found))] * count, True


def _some(parts: Batches) -> list[int]:
    """Trajectories or segments, spread evenly, with no more observations than a fit is to see."""
    counts = [int(item.observed.sum()) for item in parts.trajectories]
    number = len(counts)
    for every in range(1, number + 1):
        chosen = list(range(0, number, every))
        if sum(counts[k] for k in chosen) <= _START_SIZE:
            return chosen
    return [0]


_COLUMNS = (
    "objective", "primal", "dual", "primal_tolerance", "dual_tolerance", "rho", "rollout_mse",
    "num_steps", "left_out", "rejected", "seconds",
)  # fmt: skip


class _Run:
    """The state of a run: consensus, the batches' points, and what was recorded."""

    def __init__(
        self,
        joint: NLP,
        parts: Batches,
        admm: Admm,
        workers: Workers,
        rollouts: bool,
        checkpoint: str | os.PathLike[str] | None,
    ):
        self.joint, self.parts, self.admm = joint, parts, admm
        self.workers, self.with_rollouts, self.checkpoint = workers, rollouts, checkpoint
        self.entries = _entries(joint, parts, admm.continuity)
        self.shares = np.array(parts.counts()) / sum(parts.counts())
        self.points: list[_Point | None] = [None] * len(parts.members)
        self.first: list[np.ndarray] | None = None
        self.table: list[dict[str, Any]] = []
        self.steps: list[Step] = []
        self.tol = _LOOSE
        self.worst = self.widest = np.inf
        self.least_rho = 0.0
        self.consensus: Consensus

    @property
    def num_shared(self) -> int:
        return max(int(item.max()) for item in self.entries) + 1

    def begin(self, weights: list[np.ndarray], common: bool) -> None:
        """Paths and duals of the common start, or batches that start apart."""
        size = self.joint.num_weights
        mean = np.zeros(self.num_shared)
        mean[:size] = np.mean(weights, axis=0)
        self.consensus = Consensus.start(mean, self.entries, self.admm.rho)
        if not common:
            self.first = weights
            return
        answers, problems = self.workers.answers(self._jobs(held=True, rho=0.0), self._colder)
        if problems:
            warnings.warn(f"The start failed in {'; '.join(problems)}.", stacklevel=3)
        found = [item for item in answers if item is not None]
        self._keep(answers)
        if len(found) < len(answers):
            return
        self.worst = _WORSE * sum(item.objective for item in found)
        copies = [item.copy for item in found]
        mean[size:] = self.consensus.mean_of(copies)[size:]
        gradients = [item.gradient for item in found if item.gradient is not None]
        self.consensus = Consensus.start(mean, self.entries, self.admm.rho, gradients)

    def resume(self, content: Any) -> None:
        """Go on from what a checkpoint holds."""
        wanted = [len(item) for item in self.entries]
        try:
            consensus, points = content["consensus"], content["points"]
            table, steps = content["table"], content["steps"]
            sizes = [len(item) for item in consensus.entries]
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(
                f"`checkpoint` must be a file that fit_admm has written; got {self.checkpoint}."
            ) from error
        lengths = [None if item is None else len(item[0]) for item in points]
        expected = [self._length(batch) for batch in range(len(self.entries))]
        fits = all(a is None or a == b for a, b in zip(lengths, expected, strict=False))
        if sizes != wanted or len(points) != len(expected) or not fits:
            raise ValueError(
                f"`checkpoint` must be from the same model, data and batches; "
                f"got {self.checkpoint}, of another shape."
            )
        self.consensus, self.points = consensus, list(points)
        self.table, self.steps = list(table), list(steps)
        self.tol, self.least_rho = content["tol"], content["least_rho"]
        self.worst, self.widest = content["worst"], content["widest"]

    def rounds(self, progress: bool | str, callback: Callback | None) -> RESULTS:
        """Rounds until the residuals are small; how they ended."""
        title = "consensus" if progress is True else progress
        begin = time.perf_counter() - (self.table[-1]["seconds"] if self.table else 0.0)
        with progress_bar(title, self.admm.max_rounds) as update:
            try:
                while len(self.table) < self.admm.max_rounds:
                    residuals, left_out, rejected = self._round(begin)
                    step = self.steps[-1]
                    update(step)
                    if left_out == len(self.entries):
                        return RESULTS.failed
                    if asked_to_stop(callback, step, self._model):
                        return RESULTS.stopped
                    if residuals.small and not (left_out or rejected):
                        return RESULTS.successful
            except KeyboardInterrupt:
                return RESULTS.interrupted
        return RESULTS.max_steps_reached

    def _round(self, begin: float) -> tuple[Residuals, int, bool]:
        before = self.consensus, list(self.points)
        jobs = self._jobs(held=False, rho=self.consensus.rho)
        answers, problems = self.workers.answers(jobs, self._colder)
        if problems:
            warnings.warn(
                f"Left out of round {len(self.table) + 1} of the consensus: {'; '.join(problems)}.",
                stacklevel=4,
            )
        self._keep(answers)
        self.first = None
        copies = [None if item is None else item.copy for item in answers]
        admm, rho = self.admm, self.consensus.rho
        self.consensus, residuals = self.consensus.advance(
            copies, admm.relaxation, admm.atol, admm.rtol
        )
        found = [item for item in answers if item is not None]
        if self.table and self.with_rollouts:
            # Workers integrate with the consensus that they were sent: that of the round before.
            self.table[-1]["rollout_mse"] = self._rollout(answers)
        objective = sum(item.objective for item in found)
        rejected = not objective <= self.worst or residuals.primal > self.widest
        row = {
            "objective": objective,
            "primal": residuals.primal,
            "dual": residuals.dual,
            "primal_tolerance": residuals.primal_tolerance,
            "dual_tolerance": residuals.dual_tolerance,
            "rho": rho,
            "rollout_mse": float("nan"),
            "num_steps": sum(item.num_steps for item in found),
            "left_out": len(problems),
            "rejected": rejected,
            "seconds": time.perf_counter() - begin,
        }
        self.table.append(row)
        self.steps.append(_step(len(self.table), row, residuals.moved, admm.relaxation))
        if rejected:
            self.consensus, self.points = before
            self.least_rho = _RAISE * rho
            self.consensus = self.consensus.with_rho(self.least_rho)
        else:
            if np.isfinite(self.worst):
                apart = max(residuals.primal, _NO_GAP * residuals.size)
                self.widest = min(self.widest, _APART * apart)
            self.tol = float(np.clip(_EXACT * admm.rtol * residuals.share, 0.0, _LOOSE))
            if admm.balance and len(self.table) < _BALANCED_ROUNDS:
                new_rho = max(self.consensus.balanced(residuals).rho, self.least_rho)
                # Gaps grow as the pull weakens.
                self.widest *= max(1.0, rho / new_rho)
                self.consensus = self.consensus.with_rho(new_rho)
        self._save()
        return residuals, len(problems), rejected

    def outcome(self, result: RESULTS) -> Outcome:
        """The consensus model with its own paths."""
        answers: list[Local | None] = [None] * len(self.entries)
        if result is not RESULTS.interrupted:
            rho = self.consensus.rho if self.admm.continuity else 0.0
            self.tol = 0.0
            answers, _ = self.workers.answers(self._jobs(held=True, rho=rho), self._colder)
            if self.table and self.with_rollouts:
                self.table[-1]["rollout_mse"] = self._rollout(answers)
        self._keep(answers)
        seconds = self.table[-1]["seconds"] if self.table else 0.0
        return Outcome(
            z=self._assembled(),
            multipliers=None,
            result=result,
            status=0 if result.ok else 1,
            status_text=result.name,
            steps=self.steps,
            compile_seconds=0.0,
            solve_seconds=seconds,
            evaluation_seconds=0.0,
        )

    def _jobs(self, held: bool, rho: float) -> list[Job]:
        jobs = []
        for batch, (entries, point) in enumerate(zip(self.entries, self.points, strict=True)):
            z, multipliers = (None, None) if point is None else point
            mean = self.consensus.mean[entries]
            own = mean
            if self.first is not None:
                own = mean.copy()
                own[: len(self.first[batch])] = self.first[batch]
            center = self.consensus.center(batch)
            follow = self.with_rollouts and self.first is None and z is not None
            jobs.append(Job(held, own, center, rho, self.tol, z, multipliers, follow))
        return jobs

    def _colder(self, batch: int, job: Job) -> Job:
        """Another try, without what the first may have stumbled over."""
        if job.multipliers is not None:
            return job._replace(multipliers=None)
        return job._replace(z=None, rollout=False)

    def _keep(self, answers: Sequence[Local | None]) -> None:
        for batch, item in enumerate(answers):
            if item is not None:
                self.points[batch] = (item.z, item.multipliers)

    def _rollout(self, answers: Sequence[Local | None]) -> float:
        if any(item is None for item in answers):
            return float("nan")
        each = [item.rollout for item in answers if item is not None]
        return float(np.sum(self.shares * np.array(each)))

    def _model(self) -> Any:
        size = self.joint.num_weights
        with x64():
            return self.joint.layout.model.restore(self.consensus.mean[:size])

    def _length(self, batch: int) -> int:
        """The number of variables of a batch."""
        layout, members = self.joint.layout, self.parts.members[batch]
        own = sum(layout.unknown_counts[k] for k in members)
        nodes = sum(layout.node_counts[k] for k in members)
        return layout.num_weights + own + nodes * layout.num_states

    def _assembled(self) -> np.ndarray:
        """The joint problem's variables: the consensus, each batch's unknowns and states."""
        joint, layout = self.joint, self.joint.layout
        z = np.array(guess(joint, weights="as_given").z)
        size, d = layout.num_weights, layout.num_states
        z[:size] = self.consensus.mean[:size]
        for members, point in zip(self.parts.members, self.points, strict=True):
            if point is None:
                continue
            at = size
            for k in members:
                own = layout.unknowns(k)
                z[own] = point[0][at : at + len(own)]
                at += len(own)
            for k in members:
                first, count = layout.columns(layout.first_nodes[k]), layout.node_counts[k] * d
                z[first : first + count] = point[0][at : at + count]
                at += count
        return np.clip(z, *joint.bounds)

    def _save(self) -> None:
        if self.checkpoint is None:
            return
        content = {
            "consensus": self.consensus,
            "points": list(self.points),
            "table": self.table,
            "steps": self.steps,
            "tol": self.tol,
            "worst": self.worst,
            "widest": self.widest,
            "least_rho": self.least_rho,
        }
        _storage.write(self.checkpoint, content)


def _step(number: int, row: dict[str, Any], moved: float, relaxation: float) -> Step:
    return Step(
        iteration=number,
        objective=row["objective"],
        primal_infeasibility=row["primal"],
        dual_infeasibility=row["dual"],
        mu=0.0,
        step_norm=moved,
        step_size=relaxation,
        regularization=row["rho"],
        trials=row["num_steps"],
        restoration=False,
        seconds=row["seconds"],
    )
