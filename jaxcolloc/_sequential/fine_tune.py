"""fine_tune: sequential training, the model integrated by Diffrax in every step of Optax."""

import functools
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Unpack

import diffrax
import numpy as np
from jaxtyping import PRNGKeyArray

from .._check import describe, flag, instance, integer, positive, share
from .._choose_grid import choose_grids
from .._constraints import as_constraints
from .._data import Trajectory, as_trajectories
from .._early_inputs import warn_of_early_inputs
from .._grid import Grids
from .._integrate import Stepping
from .._nlp import NLP
from .._precision import x64
from .._run import Callback, Run, check_shown, interruptible, progress_bar
from .._settings import Options, Settings, check_options
from .._solution import Solution, SolveError
from .._trace import RESULTS
from .._transcribe import transcribe_with
from .schedule import as_schedule
from .training import FineTuning, Training


if TYPE_CHECKING:
    import optax


# Options of `transcribe` that have no meaning where every path is a rollout.
_WITHOUT = ("residual_penalty", "collocate_start")


def fine_tune(
    model: Callable[[Any, Any, Any], Any],
    data: Trajectory | Sequence[Trajectory],
    optimizer: "optax.GradientTransformation | None" = None,
    *,
    steps: int | Sequence[int] = 1000,
    windows: Sequence[float] = (1.0,),
    batch: int | None = None,
    key: PRNGKeyArray | None = None,
    held_out: float = 0.0,
    patience: int | None = None,
    every: int = 10,
    start: Solution | Sequence[Any] | None = None,
    grid: Grids | None = None,
    l2: Any = None,
    clip: float | None = None,
    solver: diffrax.AbstractSolver[Any] | None = None,
    adjoint: diffrax.AbstractAdjoint | None = None,
    rtol: float = 1e-4,
    atol: float = 1e-6,
    max_steps: int = 4096,
    max_seconds: float = np.inf,
    throw: bool = True,
    progress: bool | str = False,
    callback: Callback | None = None,
    **options: Unpack[Options],
) -> Solution:
    r"""Train `model` sequentially: integrate it by Diffrax, step by a gradient through that.

    $$\min_{w, y_k(0)} \; \frac{1}{N} \sum_k \sum_i
      \ell\big(h(t_{ki}, y_k(t_{ki})) - \mathrm{obs}_{ki}\big) + \mathtt{l2} \, \|w\|^2,
      \quad y_k \text{ the solution of } \dot y = f(t, y, args_k; w)$$

    The objective of `jc.transcribe` with the states eliminated. It polishes a model that
    collocation has found, and it is the usual way to train a Neural ODE from scratch:

        sol = jc.fit(model, data, key=key)
        tuned = jc.fine_tune(sol.model, data, optax.adam(1e-3), steps=500, start=sol)

        jc.fine_tune(model, data, optax.adam(1e-2), steps=(500, 2000), windows=(0.2, 1.0))

    **Arguments:**

    - `model`, `data`: as in `jc.transcribe`.
    - `optimizer`: any Optax optimizer, `optax.adam(1e-3)` if not given. It sees a PyTree with the
      arrays `head` (weights and unknowns, on the scales of `weight_scale`) and `starts` (initial
      states). Those that search along a line, such as `optax.lbfgs()`, work without `batch`.
    - `steps`: how many steps, in all; or one number for each of `windows`.
    - `windows`: growing shares of each trajectory's time, one after another, the last one 1.
    - `batch`: the number of trajectories in a step; all if not given. `key` shuffles them.
    - `held_out`: the share of each trajectory's time, at its end, that is not trained on. The
      model returned is the one that predicts it best, looked at every `every` steps; otherwise the
      one with the least objective (in the last window; with `batch`, looked at as often).
    - `patience`: stop after so many looks without progress.
    - `start`: initial states, one array of shape `(state,)` per trajectory; or a `jc.Solution` of
      the same data, from which unknowns, grids and all options come as well. Smoothed data
      if not given. Initial states are trained, but for the components known by `y0`; a
      `jc.SteadyState` is solved for in every step, and no `y0_prior` may stand beside it.
    - `grid`: the grids of the paths returned; chosen as by `jc.fit` if not given.
    - `l2`: the factor of the ridge penalty; 0 if neither it nor a solution is given.
    - `clip`: the largest norm of a gradient.
    - `solver`, `adjoint`, `rtol`, `atol`, `max_steps`: Diffrax's, of each integration; Tsit5 and
      `diffrax.RecursiveCheckpointAdjoint()` if not given. `atol` is in the units of `state_scale`.
    - `max_seconds`: stop after that time, compilation not counted.
    - `throw`, `progress`, `callback`: as in `jc.solve`.
    - `options`: `observe`, `num_states`, `loss`, `weight_bounds`, `weight_scale`, `trainable`,
      `state_bounds` (which here hold at the starts only) and `state_scale`, as in `jc.transcribe`.

    Returns a `jc.Solution` whose paths are rollouts, with a `jc.TrainingStep` for each row of its
    `trace`. Its `stats` add `skipped`, the steps that were halved since a rollout failed,
    `held_out`, pairs of a step and the mean loss on what is held out, and `options`. Ctrl-C ends
    the training and returns the best model so far.

    **Errors:** `ValueError` for bad arguments and for `constraints`, which a rollout cannot be made
    to obey; `jc.SolveError` if no rollout of the model succeeds.
    """
    begin = time.perf_counter()
    trajectories = as_trajectories(data)
    counts, shares = as_schedule(steps, windows)
    if batch is not None and key is None:
        raise ValueError("`key` must be a PRNG key with `batch`; got None.")
    # Infinity is no limit.
    if not (isinstance(max_seconds, float) and max_seconds == np.inf):
        max_seconds = positive("max_seconds", max_seconds)
    flag("throw", throw)
    check_shown(progress, callback)
    tuning = FineTuning(
        _optimizer(optimizer, clip),
        counts,
        shares,
        None if batch is None else integer("batch", batch, 1),
        share("held_out", held_out, below=0.9, allow_zero=True),
        None if patience is None else integer("patience", patience, 1),
        integer("every", every, 1),
        Stepping(
            instance("solver", solver, diffrax.AbstractSolver, diffrax.Tsit5()),
            positive("rtol", rtol),
            positive("atol", atol),
            integer("max_steps", max_steps, 1),
            adjoint=instance(
                "adjoint", adjoint, diffrax.AbstractAdjoint, diffrax.RecursiveCheckpointAdjoint()
            ),
        ),
    )
    for position, item in enumerate(trajectories):
        if item.steady is not None and item.y0_prior is not None:
            raise ValueError(
                "`data` must have no `y0_prior` beside a jc.SteadyState in jc.fine_tune; "
                f"trajectory {position} has both."
            )
    nlp = _problem(model, trajectories, start, grid, l2, options)
    if not isinstance(start, Solution):
        warn_of_early_inputs(nlp.trajectories, nlp.grids)
    title = "fine-tuning" if progress is True else progress
    with x64(), interruptible(), progress_bar(title, sum(counts)) as update:
        training = Training(nlp, tuning, key)
        loop = Run(callback=callback, update=update, max_seconds=max_seconds, model=training.model)
        found, result = training.run(training.first(start), loop)
        outcome = training.outcome(found, result, loop.rows)
    sol = outcome.solution(nlp, None, key, "fine_tune")
    looks = [list(pair) for pair in training.looks] if tuning.held_out else []
    sol.stats.update(
        held_out=looks,
        skipped=training.skipped,
        options=tuning.shown,
        fit_seconds=time.perf_counter() - begin,
    )
    if throw and result is RESULTS.not_finite:
        raise SolveError(sol)
    return sol


def _optimizer(optimizer: Any, clip: float | None) -> "optax.GradientTransformation":
    import optax

    if optimizer is None:
        optimizer = _default_optimizer()
    if not isinstance(optimizer, optax.GradientTransformation):
        raise ValueError(
            f"`optimizer` must be an Optax optimizer such as optax.adam(1e-3); "
            f"got {describe(optimizer)}."
        )
    return optimizer if clip is None else _clipped(optimizer, positive("clip", clip))


# One object per choice, so that equal choices share a compilation.
@functools.cache
def _default_optimizer() -> "optax.GradientTransformation":
    import optax

    return optax.adam(1e-3)


@functools.lru_cache(64)
def _clipped(
    optimizer: "optax.GradientTransformation", clip: float
) -> "optax.GradientTransformation":
    import optax

    return optax.chain(optax.clip_by_global_norm(clip), optimizer)


def _problem(
    model: Any,
    trajectories: tuple[Trajectory, ...],
    start: Any,
    grid: Grids | None,
    l2: Any,
    options: Options,
) -> NLP:
    """The NLP whose states are eliminated: it has the data, the layout and the grids of paths."""
    check_options(options, _WITHOUT)
    settings = Settings(l2=0.0)
    if isinstance(start, Solution):
        if len(start.paths) != len(trajectories):
            raise ValueError(
                f"`start` must be a solution of the {len(trajectories)} trajectories in `data`; "
                f"got one of {len(start.paths)}."
            )
        none = Settings()
        settings = start.nlp.settings.changed(**{name: none[name] for name in _WITHOUT})
        grid = start.nlp.grids if grid is None else grid
    settings = settings.changed(**options)
    if l2 is not None:
        settings = settings.changed(l2=l2)
    if as_constraints(settings.constraints, len(trajectories)):
        raise ValueError(
            "`constraints` cannot be imposed on rollouts; use jc.solve or jc.fit, or pass "
            "`constraints=()`."
        )
    return transcribe_with(model, trajectories, choose_grids(trajectories, grid), settings)
