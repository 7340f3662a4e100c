"""fit_admm: batches trained apart, one consensus model."""

import dataclasses
import os
import time
import warnings
from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Any, Unpack

import numpy as np
from jaxtyping import PRNGKeyArray

from .. import _storage
from .._check import describe, flag, integer, positive
from .._data import Trajectory
from .._early_inputs import warn_of_early_inputs
from .._fingerprint import fingerprint
from .._fit import fit
from .._grid import Grids
from .._guess import guess
from .._ipopt import Ipopt
from .._nlp import NLP
from .._precision import x64
from .._run import Callback, Checkpoint, check_shown, interruptible
from .._scheme import AbstractScheme
from .._settings import Options, Settings
from .._solution import Solution
from .._solver import AbstractSolver, check_solver
from .._trace import RESULTS
from .._verify import verify, warn_unless_verified
from .batches import Batches
from .executors import Workers
from .rounds import CHECKPOINT, COLUMNS, Rounds
from .split import Admm, recipes_of, split_data


# Observations that the joint fit of the start sees at most.
_START_SIZE = 1000
_LOCAL_STEPS = 200
_STARTS = ("fit", "batch", "guess", "as_given")


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
    **options: Unpack[Options],
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
    - `checkpoint`: a file that is written after every round; a run that asks for the same problem
      goes on from it.
    - `progress`, `callback`: as in `jc.solve`, once per round.
    - `options`: any other option of `jc.transcribe`. Constraints must apply to all trajectories.

    Returns a `jc.Solution` with the consensus model and `verification`; its paths, one for each
    trajectory or segment, are those of that model. Its `trace` has a `jc.Round` for every round;
    `stats["rounds"]` adds `rollout_mse`, the tolerances and
    which were `rejected` to raise $\rho$;
    `stats["members"]` tells which trajectories or segments each batch has, `stats["options"]` how
    it was run. It has no multipliers.

    Shapovalova and Tsay (arXiv 2502.15642), section 4.4; Boyd et al., "Distributed
    optimization and statistical learning via ADMM" (Found. Trends Mach. Learn. 3, 2011).

    **Errors:** `ValueError` for bad arguments. It warns where the limit of rounds is reached, and
    where the fit is not verified.
    """
    begin = time.perf_counter()
    settings = Settings.of(options).changed(l2=l2)
    admm = _options(rho, relaxation, balance, continuity, max_rounds, rtol, atol, solver)
    retries, rollouts = integer("retries", retries, 0), flag("rollouts", rollouts)
    check_shown(progress, callback)
    parts, joint = split_data(model, data, batches, grid, scheme, settings)
    warn_of_early_inputs(joint.trajectories, joint.grids)
    file = None
    if checkpoint is not None:
        file = Checkpoint(checkpoint, 1, _request(joint, parts, admm, start, key))
    with interruptible(), Workers(executor, recipes_of(joint, parts, admm), retries).open() as pool:
        run = Rounds(joint, parts, admm, pool, rollouts, file)
        if file is not None and file.exists():
            run.resume(_resumed(file))
        else:
            run.begin(*_first_weights(start, joint, parts, key, options))
        result = run.rounds(progress, callback)
        outcome = run.outcome(result)
    sol = outcome.solution(joint, admm.solver, key, "fit_admm")
    sol = dataclasses.replace(sol, verification=verify(sol))
    sol.stats.update(
        num_steps=len(run.table),
        rounds={name: [row[name] for row in run.table] for name in COLUMNS},
        members=[list(item) for item in parts.members],
        options=admm.shown,
        fit_seconds=time.perf_counter() - begin,
    )
    if sol.result is RESULTS.max_steps_reached:
        warnings.warn("The limit of rounds was reached. Raise `max_rounds`.", stacklevel=2)
    warn_unless_verified(sol)
    return sol


def _options(
    rho: float,
    relaxation: float,
    balance: bool,
    continuity: bool,
    max_rounds: int,
    rtol: float,
    atol: float,
    solver: AbstractSolver | None,
) -> Admm:
    """The options once they are checked."""
    solver = Ipopt(max_steps=_LOCAL_STEPS) if solver is None else solver
    check_solver(solver)
    relaxation = positive("relaxation", relaxation)
    if relaxation >= 2:
        raise ValueError(f"`relaxation` must be above 0 and below 2; got {relaxation}.")
    return Admm(
        positive("rho", rho),
        relaxation,
        flag("balance", balance),
        flag("continuity", continuity),
        integer("max_rounds", max_rounds, 1),
        positive("rtol", rtol, allow_zero=True),
        positive("atol", atol),
        solver,
    )


def _request(joint: NLP, parts: Batches, admm: Admm, start: Any, key: Any) -> dict[str, str]:
    """What a checkpoint is for, as fingerprints by name."""
    asked = {
        "model": joint.model,
        "data": parts.trajectories,
        "grid": parts.grids,
        "batches": (parts.members, parts.cuts),
        "rho": admm.rho,
        "relaxation": admm.relaxation,
        "balance": admm.balance,
        "continuity": admm.continuity,
        "start": start,
        "key": key,
    }
    return {name: fingerprint(item) for name, item in asked.items()} | joint.settings.fingerprints()


def _resumed(file: Checkpoint) -> dict[str, Any]:
    """What a checkpoint holds, once it is known to be for the same problem."""
    content: dict[str, Any] = _storage.read(
        file.path, "checkpoint", entries=CHECKPOINT, writer="jc.fit_admm"
    )
    file.check(content["request"])
    return content


def _first_weights(
    start: Any, joint: NLP, parts: Batches, key: Any, options: Options
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
                joint.model,
                data,
                key=key,
                grid=grids,
                l2=joint.settings.l2,
                refinements=0,
                **options,
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
