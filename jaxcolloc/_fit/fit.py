"""fit: guess, solve, verify, refine; the one call that most users make."""

import dataclasses
import os
import time
import warnings
from collections.abc import Sequence
from typing import Any, Unpack

import numpy as np
from jaxtyping import PRNGKeyArray

from .._check import choice, flag, integer, positive, share
from .._choose_grid import choose_grids
from .._continuation import solve_growing
from .._data import Trajectory, as_trajectories
from .._early_inputs import warn_of_early_inputs
from .._fingerprint import fingerprint
from .._grid import Grids, as_grids
from .._guess import Guess
from .._likelihoods import objective_size
from .._load import load, stored_request, stored_setting
from .._nlp import NLP
from .._refine import refine
from .._run import Checkpoint, Interrupt, check_shown, interruptible
from .._scheme import AbstractScheme
from .._settings import Options, Settings
from .._solution import Solution
from .._solve import solve
from .._solver import AbstractSolver, check_solver
from .._trace import RESULTS
from .._transcribe import transcribe_with
from .._transfer import transfer
from .._verify import verify, warn_unless_verified
from .holdout import hold_out
from .penalties import penalties_of
from .selection import select
from .starts import Interrupted, Search, title


# A solve that ends so much higher than its start did on a coarser grid has lost it.
_WORSE = 0.05


def fit(
    model: Any,
    data: Trajectory | Sequence[Trajectory],
    *,
    key: PRNGKeyArray | None = None,
    grid: Grids | None = None,
    scheme: AbstractScheme | None = None,
    l2: Any = None,
    held_out: float = 0.2,
    horizon: float | None = None,
    starts: int = 12,
    states: Any = "smooth",
    weights: str = "gradient_matching",
    tol: float = 1e-2,
    refinements: int = 5,
    continuation: bool = True,
    solver: AbstractSolver | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    every: int = 20,
    progress: bool = False,
    **options: Unpack[Options],
) -> Solution:
    r"""Fit `model` to `data` and prove it by a rollout.

    Chooses a grid from the sampling and the smoothed data, `l2` by held-out data, tries several
    starts on a coarser grid, solves, verifies, and refines the grid until a rollout of the model
    follows the fitted path. Where a solve fails it goes through windows of growing length.

        sol = jc.fit(model, data, key=jax.random.key(0))
        print(sol)  # the solve, the verdict, all on one screen

    **Arguments:**

    - `model`: the vector field `f(t, y, args)`; or a list of them, such as nets of several widths,
      of which the one is kept that predicts held-out data best.
    - `data`: one `jc.Trajectory` or a list of them.
    - `key`: a PRNG key for the starts. Without one they differ in smoothing only, and begin with
      the model's own weights.
    - `grid`: one `jc.Grid` for all trajectories or one for each; `scheme`: the scheme of a
      chosen grid, `jc.Radau(3)` if not given.
    - `l2`: the factor of the ridge penalty, as in `jc.transcribe`; or a list of factors to choose
      from by held-out data. If not given, weights of nets only are penalised, as by `jc.OnNets`:
      layers of `equinox.nn` and matrices are, while scalars, vectors outside of such layers and
      whatever has a `weight_scale` of "log" or "softplus" are physical constants and are not. The
      factors are $10^{-3}, \dots, 10^{-6}$ times the data's variance in the units of the loss, and
      stronger or weaker ones where the best is at an end. With `l2="gradient"` they are not a
      ladder: from $10^{-4}$ on, the derivative of the held-out error (through the optimum, as of
      `jc.optimum`) says whether a weaker or a stronger one predicts better. At most three are
      solved for, to full precision, and the one with the least error is taken.
    - `held_out`: the share of the data held out for choices: whole trajectories where there are
      at least four, else the end of each. The final fit uses all data. The strongest penalty of a
      list wins that no weaker one beats by 10%; the error of one whose path does not follow its own
      data counts 1.3 times. A trial that takes many steps and predicts worse on the way is given up
      ("stopped" in `stats["selection"]`).
    - `horizon`: how far ahead held-out data are to be predicted, in the unit of `ts`. If not given,
      from the start or from the end of what was fitted over all that is held out; with a horizon,
      in windows of that length, each from the state that fits the window before. It is the right
      measure for chaotic series and noisy cycles, which no model predicts for long.
    - `starts`: how many starts are tried at most, on every other boundary of a grid of many
      intervals; 1 for the plain guess. They differ in the draw of net weights, in the width of the
      smoothing window and, every second one, in physical constants, drawn over decades within their
      bounds, and in hidden states, with the rollout that follows from them. A verified one that
      explains the data to their noise ends the search; so do two (of a model without nets four)
      that agree in the objective to 1%, with no lower one known (if their path does not follow the
      data five, or three while the penalty is yet to be chosen, or then any four that agree). The
      best verified one wins, and the final solve is not worse than it; `stats["starts"]` lists all.
    - `states`, `weights`: as in `jc.guess`.
    - `tol`: the distance between rollout and path, as a share of the states' spread, at which
      refinement stops; `refinements`: the largest number of its rounds, 0 for none.
    - `continuation`: go through growing windows where the plain solve fails.
    - `solver`: if not given `jc.InteriorPoint(max_steps=500)`, or `jc.Ipopt(max_steps=500)` for a
      problem that it does not take (one with a `jc.Tie`) and on an accelerator, for which it would
      be compiled anew on every grid.
    - `checkpoint`: a file that is written every `every` iterations and at the end. If it is there
      already, from the same fit that was killed or has finished, the fit continues from it. A file
      from a fit of another model, other data or other options (but for `tol`, `refinements`,
      `continuation` and `solver`, which say how it goes on) is refused. Nothing is written before
      starts and penalty are chosen.
    - `progress`: show progress bars.
    - `options`: any other option of `jc.transcribe`.

    Ctrl-C ends it, wherever it is, once the step, compilation or verification under way is done;
    the best point so far is returned, verified, with `jc.RESULTS.interrupted` as its `result`.

    Returns a `jc.Solution` with `verification`. It warns if the verdict is not good; failures
    of the solver show in `result` and in the verdict, none is raised. `stats` tells what was
    chosen: `selection`, `starts`, `refinement`, `refinement_end`, `fit_seconds`.

    **Errors:** `ValueError` for bad arguments, as `jc.transcribe`.
    """
    begin = time.perf_counter()
    several = isinstance(model, (list, tuple)) and not callable(model)
    models = list(model) if several else [model]
    if not models:
        raise ValueError("`model` must be a model or a list of at least one; got none.")
    trajectories = as_trajectories(data)
    held_out = share("held_out", held_out, below=0.9)
    starts, refinements = integer("starts", starts, 1), integer("refinements", refinements, 0)
    continuation = flag("continuation", continuation)
    check_shown(progress, None)
    choice("weights", weights, ("gradient_matching", "xavier", "as_given"))
    if isinstance(states, str):
        choice("states", states, ("smooth",))
    tol = positive("tol", tol)
    horizon = None if horizon is None else positive("horizon", horizon)
    settings = Settings.of(options)
    if solver is not None:
        check_solver(solver)
    file = None
    if checkpoint is not None:
        asked = {
            "model": model, "data": trajectories, "key": key, "grid": grid, "scheme": scheme,
            "l2": l2, "held_out": held_out, "horizon": horizon, "starts": starts, "states": states,
            "weights": weights,
        }  # fmt: skip
        file = Checkpoint(checkpoint, every, _request(asked, settings))
    stats: dict[str, Any] = {}
    start: Guess | Solution
    with interruptible() as interrupt:
        search = Search(key, starts, states, weights, solver, progress, interrupt, horizon)
        if file is not None and file.exists():
            nlp, start = _resumed(file, models, trajectories, l2, settings)
            search.choose_solver(nlp)
        else:
            grids = as_grids(choose_grids(trajectories, grid, scheme), trajectories)
            warn_of_early_inputs(trajectories, grids)
            nlp, start = _begun(models, trajectories, grids, l2, settings, held_out, search, stats)
            # What is not chosen yet is no fit to go on from.
            file = file if "starts" in stats else None
        solver = search.solver
        shown = title(progress, "fit")
        sol = solve(nlp, solver, start, throw=False, progress=shown, checkpoint=file)
        if continuation and not sol.result.ok and isinstance(start, Guess):
            sol = sol if interrupt.pressed else _continued(sol, start, solver, interrupt, progress)
        if search.found is not None and "selection" not in stats and not interrupt.pressed:
            sol = _no_worse(sol, search.found, solver)
        if refinements and not interrupt.pressed:
            shown = title(progress, "refine")
            sol = refine(sol, tol=tol, rounds=refinements, solver=solver, progress=shown)
        if interrupt.pressed:
            sol = _best_so_far(sol, start)
        elif not refinements:
            sol = dataclasses.replace(sol, verification=verify(sol))
    sol = dataclasses.replace(sol, key=sol.key if key is None else key)
    sol.stats.update(stats, fit_seconds=time.perf_counter() - begin)
    if file is not None:
        file.write(sol.content())
    warn_unless_verified(sol)
    return sol


def _begun(
    models: list[Any],
    trajectories: tuple[Trajectory, ...],
    grids: Grids,
    l2: Any,
    settings: Settings,
    held_out: float,
    search: Search,
    stats: dict[str, Any],
) -> tuple[NLP, Guess | Solution]:
    """The NLP of the model and penalty that were chosen, with a start; `stats` says how.

    After Ctrl-C the first NLP, with the best start so far.
    """
    penalties = penalties_of(l2, trajectories, settings.loss)
    problems = []
    for item in models:
        nlp = transcribe_with(item, trajectories, grids, settings.changed(l2=penalties.middle))
        own = penalties.for_model(nlp)
        problems.append((nlp.with_l2(own.middle), own))
    several = len(problems) > 1 or any(own.is_choice for _, own in problems)
    nlp = problems[0][0]
    search.choose_solver(nlp)
    try:
        coarse = search.coarse(nlp)
        holdout = hold_out(coarse, held_out, search.horizon) if several else None
        if holdout is None:
            if several and (len(models) > 1 or l2 is not None):
                unknown = any(jump.has_unknown for item in trajectories for jump in item.jumps)
                reason = "later jumps have unknown amounts" if unknown else "the data are too few"
                warnings.warn(
                    f"Nothing can be held out, since {reason}: the first `model` and the middle "
                    "`l2` are taken. Pass one of each.",
                    stacklevel=4,
                )
            start, stats["starts"] = search.best(nlp)
            return nlp, start
        nlp, start, stats["selection"], stats["starts"] = select(
            problems, holdout, held_out, search
        )
    except Interrupted:
        return search.so_far(nlp)
    return nlp, start


def _best_so_far(sol: Solution, start: Guess | Solution) -> Solution:
    """An interrupted solution, verified; or its start, if only that holds in a rollout."""
    if sol.verification is not None:
        return dataclasses.replace(sol, result=RESULTS.interrupted)
    report = verify(sol)
    sol = dataclasses.replace(sol, result=RESULTS.interrupted, verification=report)
    if np.all(report.follows) or not isinstance(start, Guess):
        return sol
    # No step is taken after Ctrl-C.
    first = solve(sol.nlp, sol.solver, start, throw=False)
    report = verify(first)
    if not np.all(report.follows):
        return sol
    return dataclasses.replace(first, verification=report)


def _request(asked: dict[str, Any], settings: Settings) -> dict[str, str]:
    """What a checkpoint is for, as fingerprints by name."""
    own = settings.fingerprints()
    return own | {name: fingerprint(item) for name, item in asked.items()}


def _continued(
    sol: Solution, start: Guess, solver: AbstractSolver, interrupt: Interrupt, progress: bool
) -> Solution:
    """Another try through growing windows; the better of both."""
    shown = title(progress, "windows")
    other = solve_growing(sol.nlp, solver, start, throw=False, progress=shown)
    if interrupt.pressed and not other.result.ok:
        # It has not come further than its start.
        return sol
    better = (not other.result.ok, other.objective) < (not sol.result.ok, sol.objective)
    return other if better else sol


def _no_worse(sol: Solution, found: Solution, solver: AbstractSolver) -> Solution:
    """The solution, or where a start was better on its coarser grid, the one from there."""
    if sol.result.ok and sol.objective <= found.objective + _slack(found):
        return sol
    other = solve(found.nlp, solver, found, throw=False)
    better = (not other.result.ok, other.objective) < (not sol.result.ok, sol.objective)
    if not better:
        return sol
    again = solve(sol.nlp, solver, transfer(other, sol.nlp), throw=False)
    lost = not again.result.ok or again.objective > other.objective + _slack(other)
    return other if lost else again


def _slack(sol: Solution) -> float:
    """By how much another objective may be higher."""
    nlp = sol.nlp
    channels = nlp.trajectories[0].num_channels
    return _WORSE * objective_size(nlp.settings.loss, channels, sol.objective)


def _resumed(
    file: Checkpoint,
    models: list[Any],
    trajectories: tuple[Trajectory, ...],
    l2: Any,
    settings: Settings,
) -> tuple[NLP, Solution]:
    """What a checkpoint of the same fit holds, and its NLP."""
    file.check(stored_request(file.path))
    problems = []
    for model in models:
        try:
            sol = load(file.path, like=model)
        except ValueError as error:
            problems.append(str(error))
            continue
        if sol.problem is None:
            # Functions belong to the problem: it is made anew from the caller's.
            chosen = stored_setting(file.path, "l2", l2)
            grids = [path.grid for path in sol.paths]
            nlp = transcribe_with(model, trajectories, grids, settings.changed(l2=chosen))
            sol = load(file.path, like=nlp)
        return sol.nlp, sol
    raise ValueError(
        f"`checkpoint` cannot be continued ({problems[0]}); remove {file.path} or give another "
        "file."
    )
