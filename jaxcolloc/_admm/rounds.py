"""Rounds: the state of a consensus run, its steps, and what was recorded of them."""

import time
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from .._guess import guess
from .._likelihoods import objective_size
from .._nlp import NLP
from .._precision import x64
from .._run import Callback, Checkpoint, Run, progress_bar
from .._solver import Outcome
from .._trace import RESULTS, Multipliers, Round
from .batches import Batches
from .consensus import Consensus, Residuals
from .executors import Workers
from .split import Admm, entries_of
from .subproblem import Job, Local


# Subproblems are solved this much more exactly than the residuals deserve, and no more loosely.
_EXACT, _LOOSE = 1e-3, 1e-4
# From a common start, a round after which the batches fit this much worse, or lie this much
# further apart than they did (gaps below that share of the weights' size are none), has left it:
# the penalty was too weak for their negative curvature, and is raised by the factor.
_WORSE, _APART, _NO_GAP, _RAISE = 0.2, 5.0, 3e-3, 10.0
# Penalties that change for ever need not converge (Boyd et al., section 3.4.1).
_BALANCED_ROUNDS = 50
# z and multipliers of a batch.
_Point = tuple[np.ndarray, Multipliers]

COLUMNS = (
    "objective", "primal", "dual", "primal_tolerance", "dual_tolerance", "rho", "rollout_mse",
    "num_steps", "left_out", "rejected", "seconds",
)  # fmt: skip
# What a checkpoint holds, by name, with the types of it.
CHECKPOINT: dict[str, Any] = {
    "consensus": Consensus,
    "points": list,
    "table": list,
    "steps": list,
    "tol": float,
    "worst": float,
    "widest": float,
    "least_rho": float,
    "request": dict,
}


class Rounds:
    """The state of a run: consensus, the batches' points, and what was recorded."""

    def __init__(
        self,
        joint: NLP,
        parts: Batches,
        admm: Admm,
        workers: Workers,
        rollouts: bool,
        checkpoint: Checkpoint | None,
    ):
        self.joint, self.parts, self.admm = joint, parts, admm
        self.workers, self.with_rollouts, self.checkpoint = workers, rollouts, checkpoint
        self.entries = entries_of(joint, parts, admm.continuity)
        self.shares = np.array(parts.counts()) / sum(parts.counts())
        self.points: list[_Point | None] = [None] * len(parts.members)
        self.first: list[np.ndarray] | None = None
        self.table: list[dict[str, Any]] = []
        self.steps: list[Round] = []
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
        run = Run()
        jobs = self._jobs(held=True, rho=0.0)
        answers, problems = self.workers.answers(jobs, self._colder, run.over)
        if problems and not run.over():
            warnings.warn(f"The start failed in {'; '.join(problems)}.", stacklevel=3)
        found = [item for item in answers if item is not None]
        self._keep(answers)
        if len(found) < len(answers):
            return
        total = sum(item.objective for item in found)
        channels = self.joint.trajectories[0].num_channels
        self.worst = total + _WORSE * objective_size(self.joint.settings.loss, channels, total)
        copies = [item.copy for item in found]
        mean[size:] = self.consensus.mean_of(copies)[size:]
        gradients = [item.gradient for item in found if item.gradient is not None]
        self.consensus = Consensus.start(mean, self.entries, self.admm.rho, gradients)

    def resume(self, content: Any) -> None:
        """Go on from what a checkpoint holds."""
        self.consensus, self.points = content["consensus"], list(content["points"])
        self.table, self.steps = list(content["table"]), list(content["steps"])
        self.tol, self.least_rho = content["tol"], content["least_rho"]
        self.worst, self.widest = content["worst"], content["widest"]

    def rounds(self, progress: bool | str, callback: Callback | None) -> RESULTS:
        """Rounds until the residuals are small; how they ended."""
        title = "consensus" if progress is True else progress
        begin = time.perf_counter() - (self.table[-1]["seconds"] if self.table else 0.0)
        with progress_bar(title, self.admm.max_rounds) as update:
            loop = Run(callback=callback, update=update, model=lambda current: self._model())
            try:
                while len(self.table) < self.admm.max_rounds and not loop.over():
                    answers, problems = self._answers(loop)
                    residuals, left_out, rejected = self._round(answers, problems, begin)
                    loop(self.steps[-1], lambda: None)
                    if left_out == len(self.entries):
                        return RESULTS.failed
                    if loop.result is not None:
                        return loop.result
                    if residuals.small and not (left_out or rejected):
                        return RESULTS.successful
            except KeyboardInterrupt:
                return RESULTS.interrupted
        return loop.result or RESULTS.max_steps_reached

    def _answers(self, loop: Run) -> tuple[list[Local | None], list[str]]:
        """The batches' answers of this round, and what failed; `KeyboardInterrupt` if told to end.

        What an interrupted subproblem answers is no result.
        """
        jobs = self._jobs(held=False, rho=self.consensus.rho)
        answers, problems = self.workers.answers(jobs, self._colder, loop.over)
        if loop.over():
            raise KeyboardInterrupt
        return answers, problems

    def _round(
        self, answers: list[Local | None], problems: list[str], begin: float
    ) -> tuple[Residuals, int, bool]:
        """The next consensus; its residuals, how many batches are left out, whether it is rejected.

        A round that is rejected is taken back, and the penalty raised.
        """
        before = self.consensus, list(self.points)
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
        self._record(found, residuals, len(problems), rejected, time.perf_counter() - begin)
        if rejected:
            self.consensus, self.points = before
            self.least_rho = _RAISE * rho
            self.consensus = self.consensus.with_rho(self.least_rho)
        else:
            self._adapt(residuals)
        self._save()
        return residuals, len(problems), rejected

    def _record(
        self,
        found: list[Local],
        residuals: Residuals,
        left_out: int,
        rejected: bool,
        seconds: float,
    ) -> None:
        """Add the round to the table and to the trace."""
        row: dict[str, Any] = {
            "objective": sum(item.objective for item in found),
            "primal": residuals.primal,
            "dual": residuals.dual,
            "rho": self.consensus.rho,
            "num_steps": sum(item.num_steps for item in found),
            "rejected": rejected,
            "seconds": seconds,
        }
        self.steps.append(Round(iteration=len(self.table) + 1, moved=residuals.moved, **row))
        self.table.append(
            row
            | {
                "primal_tolerance": residuals.primal_tolerance,
                "dual_tolerance": residuals.dual_tolerance,
                "rollout_mse": float("nan"),
                "left_out": left_out,
            }
        )

    def _adapt(self, residuals: Residuals) -> None:
        """After a round that is kept: the limits of the next, its exactness and its penalty."""
        admm, rho = self.admm, self.consensus.rho
        if np.isfinite(self.worst):
            apart = max(residuals.primal, _NO_GAP * residuals.size)
            self.widest = min(self.widest, _APART * apart)
        self.tol = float(np.clip(_EXACT * admm.rtol * residuals.share, 0.0, _LOOSE))
        if admm.balance and len(self.table) < _BALANCED_ROUNDS:
            new_rho = max(self.consensus.balanced(residuals).rho, self.least_rho)
            # Gaps grow as the pull weakens.
            self.widest *= max(1.0, rho / new_rho)
            self.consensus = self.consensus.with_rho(new_rho)

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
        return joint.inside(z)

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
        self.checkpoint.write(content)
