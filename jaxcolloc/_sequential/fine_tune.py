"""fine_tune: sequential training, the model integrated by Diffrax in every step of Optax."""

import functools
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import optax
from jaxtyping import Array, PRNGKeyArray

from .._check import describe, float_array, integer, positive, share
from .._choose_grid import choose_grids
from .._constraints import as_constraints
from .._data import Trajectory, as_trajectories
from .._guess import guess
from .._nlp import NLP
from .._precision import x64
from .._progress import progress_bar
from .._solution import RESULTS, Solution, SolveError, Step
from .._solve import asked_to_stop
from .._solver import Callback, Outcome
from .._transcribe import OPTIONS, Grids, check_options, transcribe
from .._verify import rollout
from .loss import (
    Integrator,
    Parameters,
    Part,
    RolloutLoss,
    all_rollouts,
    rollout_value,
    start_columns,
)


# A step whose rollout fails is halved so often before the training ends.
_HALVINGS = 30
# Options of `transcribe` that have no meaning where every path is a rollout.
_WITHOUT = ("residual_penalty", "collocate_start")


class FineTuning(eqx.Module):
    """The options of a sequential training, as a solution keeps them."""

    optimizer: Any
    steps: tuple[int, ...]
    windows: tuple[float, ...]
    batch: int | None
    held_out: float
    patience: int | None
    every: int
    integrator: Integrator


def fine_tune(
    model: Callable[[Any, Any, Any], Any],
    data: Trajectory | Sequence[Trajectory],
    optimizer: optax.GradientTransformation | None = None,
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
    **options: Any,
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
      if not given. Initial states are trained, but for the components known by `y0`.
    - `grid`: the grids of the paths returned; chosen as by `jc.fit` if not given.
    - `l2`: the factor of the ridge penalty; 0 if neither it nor a solution is given.
    - `clip`: the largest norm of a gradient.
    - `solver`, `adjoint`, `rtol`, `atol`, `max_steps`: Diffrax's, of each integration; Tsit5 and
      `diffrax.RecursiveCheckpointAdjoint()` if not given.
    - `max_seconds`: stop after that time, compilation not counted.
    - `throw`, `progress`, `callback`: as in `jc.solve`.
    - `options`: `observe`, `num_states`, `loss`, `weight_bounds`, `weight_scale`, `trainable`,
      `state_bounds` (which here hold at the starts only) and `state_scale`, as in `jc.transcribe`.

    Returns a `jc.Solution` whose paths are rollouts. Its `stats` add `skipped`, the steps that
    were halved since a rollout failed, and `held_out`, pairs of a step and the mean loss on what
    is held out. Ctrl-C ends the training and returns the best model so far.

    **Errors:** `ValueError` for bad arguments and for `constraints`, which a rollout cannot be made
    to obey; `jc.SolveError` if no rollout of the model succeeds.
    """
    begin = time.perf_counter()
    trajectories = as_trajectories(data)
    counts, shares = _schedule(steps, windows)
    held_out = share("held_out", held_out, below=0.9, allow_zero=True)
    if batch is not None:
        batch = integer("batch", batch, 1)
        if key is None:
            raise ValueError("`key` must be a PRNG key with `batch`; got None.")
    optimizer = _optimizer(optimizer, clip)
    integrator = Integrator(
        diffrax.Tsit5() if solver is None else solver,
        diffrax.RecursiveCheckpointAdjoint() if adjoint is None else adjoint,
        positive("rtol", rtol),
        positive("atol", atol),
        integer("max_steps", max_steps, 1),
    )
    if not max_seconds > 0:
        raise ValueError(f"`max_seconds` must be a number above zero; got {describe(max_seconds)}.")
    tuning = FineTuning(
        optimizer,
        counts,
        shares,
        batch,
        held_out,
        None if patience is None else integer("patience", patience, 1),
        integer("every", every, 1),
        integrator,
    )
    nlp = _problem(model, trajectories, start, grid, l2, options)
    with x64():
        training = _Training(nlp, tuning, key)
        parameters = training.first(start)
        title = "fine-tuning" if progress is True else progress
        with progress_bar(title, sum(counts)) as update:

            def each_step(step: Step, current: Parameters) -> bool:
                update(step)
                return asked_to_stop(callback, step, lambda: training.model(current))

            found, result = training.run(parameters, each_step, max_seconds)
        outcome = training.outcome(found, result)
    sol = outcome.solution(nlp, tuning, key)
    looks = [list(pair) for pair in training.looks] if held_out else []
    sol.stats.update(
        held_out=looks, skipped=training.skipped, fit_seconds=time.perf_counter() - begin
    )
    if throw and result is RESULTS.not_finite:
        raise SolveError(sol)
    return sol


class _Training:
    """One training run: its data as arrays, its steps, and the best parameters so far."""

    def __init__(self, nlp: NLP, tuning: FineTuning, key: Any):
        self.nlp, self.tuning, self.key = nlp, tuning, key
        self.columns = start_columns(nlp)
        self.loss, self.all_parts = all_rollouts(nlp, nlp.compiled.core.ridge, tuning.integrator)
        lower, upper = (self.parameters(side) for side in nlp.bounds)
        self.bounds = (lower, upper)
        self.trained = 1.0 - tuning.held_out
        self.best: tuple[float, Parameters | None] = (np.inf, None)
        self.steps: list[Step] = []
        self.looks: list[tuple[int, float]] = []
        self.since = 0
        self.skipped = 0
        self.seconds = {"compile": 0.0, "solve": 0.0, "evaluation": 0.0}

    def parameters(self, z: np.ndarray) -> Parameters:
        """The part of `z` that is trained."""
        return Parameters(jnp.asarray(self.nlp.layout.head(z)), jnp.asarray(z[self.columns]))

    def first(self, start: Solution | Sequence[Any] | None) -> Parameters:
        """Where the training starts."""
        nlp = self.nlp
        if start is None:
            return self.parameters(guess(nlp, weights="as_given").z)
        if isinstance(start, Solution):
            states = [path.states[0] for path in start.paths]
            unknowns = start.nlp.head(start.z)[start.nlp.num_weights :]
        else:
            states = _states(start, len(nlp.grids), nlp.num_states)
            unknowns = np.zeros(0)
        counts = nlp.layout.node_counts
        constant = [np.tile(item, (count, 1)) for item, count in zip(states, counts, strict=True)]
        weights = nlp.layout.model.flatten("model", nlp.model)
        z = nlp.pack_head(np.concatenate([weights, unknowns]), constant)
        return self.parameters(np.clip(z, *nlp.bounds))

    def model(self, parameters: Parameters) -> Any:
        """The model with these parameters, as the caller knows it."""
        with x64():
            return self.nlp.layout.model.restore(self.nlp.layout.weights(parameters.head))

    def run(
        self,
        parameters: Parameters,
        each_step: Callable[[Step, Parameters], bool],
        max_seconds: float,
    ) -> tuple[Parameters, RESULTS]:
        """The best parameters that the steps have come to, and how they ended."""
        tuning = self.tuning
        state = tuning.optimizer.init(parameters)
        self._compile(parameters, state)
        begin = time.perf_counter()
        good, moved = parameters, 0.0
        try:
            for number, (parts, until, factor, opens) in enumerate(self._plan()):
                if opens and not tuning.held_out:
                    self.best = (np.inf, None)
                seconds = time.perf_counter() - begin
                self.seconds["solve"] = seconds
                problem = (parts, -1.0, until, factor)
                parameters, value, gradient, size = self._finite(parameters, good, problem)
                if not np.isfinite(value):
                    return self._found(good), RESULTS.not_finite
                good = parameters
                step = _step(number, value, size, moved, seconds)
                self.steps.append(step)
                stop = self._look(number, value, parameters, until)
                if each_step(step, parameters):
                    return self._found(good), RESULTS.stopped
                if stop:
                    return self._found(good), RESULTS.early_stopped
                if number == sum(tuning.steps):
                    break
                if seconds > max_seconds:
                    return self._found(good), RESULTS.max_seconds_reached
                parameters, state, moved = self._timed(
                    _update, self.loss, tuning.optimizer, parameters, gradient, state,
                    jnp.asarray(value), _arrays(problem), self.bounds,
                )  # fmt: skip
        except KeyboardInterrupt:
            return self._found(good), RESULTS.interrupted
        return self._found(good), RESULTS.trained

    def _found(self, last: Parameters) -> Parameters:
        return last if self.best[1] is None else self.best[1]

    def _finite(
        self, parameters: Parameters, good: Parameters, problem: tuple[Any, ...]
    ) -> tuple[Parameters, float, Parameters, float]:
        """Value and gradient, at a point closer to the last good one where a rollout fails."""
        for _ in range(_HALVINGS):
            value, gradient, size = self._timed(
                _value_and_gradient, self.loss, parameters, _arrays(problem)
            )
            if np.isfinite(value) and np.isfinite(size):
                break
            value = np.nan
            self.skipped += 1
            parameters = jtu.tree_map(lambda a, b: (a + b) / 2, parameters, good)
        return parameters, float(value), gradient, float(size)

    def _look(self, number: int, value: float, parameters: Parameters, until: float) -> bool:
        """Keep the parameters if they are the best so far; whether patience has ended."""
        tuning = self.tuning
        if tuning.held_out or tuning.batch is not None:
            if number % tuning.every and number != sum(tuning.steps):
                return False
            after, until = (self.trained, 1.0) if tuning.held_out else (-1.0, until)
            count = self._count(after, until)
            problem = (self.all_parts, after, until, 1 / max(count, 1))
            value = float(self._timed(rollout_value, self.loss, parameters, _arrays(problem)))
            if tuning.held_out:
                value -= float(self.loss.ridge.value(jnp.asarray(parameters.head)))
        self.looks.append((number, value))
        if value < self.best[0]:
            self.best = (value, parameters)
            self.since = 0
            return False
        self.since += 1
        return tuning.patience is not None and self.since >= tuning.patience

    def _plan(self) -> Iterator[tuple[tuple[Part, ...], float, float, bool]]:
        """For every step: its trajectories, its window, its factor, whether a window opens."""
        tuning = self.tuning
        last = len(tuning.steps) - 1
        for position, (count, window) in enumerate(zip(tuning.steps, tuning.windows, strict=True)):
            until = window * self.trained
            scale = 1 / max(self._count(-1.0, until), 1)
            # One more at the end, for the value of what the last step led to.
            more = count + (position == last)
            for number, (parts, factor) in enumerate(itertools.islice(self._batches(), more)):
                yield parts, until, factor * scale, number == 0

    def _batches(self) -> Iterator[tuple[tuple[Part, ...], float]]:
        """Batches without end, each with the share of the data it stands for, inverted."""
        size = self.tuning.batch
        if size is None:
            yield from itertools.repeat((self.all_parts, 1.0))
            return
        rng = np.random.default_rng(int(jax.random.bits(self.key)))
        while True:
            chunks: list[tuple[Part, ...]] = []
            for series, every in self.all_parts:
                order = rng.permutation(len(every))
                each = min(size, len(order))
                for first in range(0, len(order), each):
                    # The last batch is filled up from the first.
                    chunk = order[np.arange(first, first + each) % len(order)]
                    chunks.append(((series, jnp.asarray(chunk)),))
            for position in rng.permutation(len(chunks)):
                yield chunks[position], float(len(chunks))

    def _count(self, after: float, until: float) -> int:
        return sum(series.counts(after, until) for series, _ in self.all_parts)

    def _compile(self, parameters: Parameters, state: Any) -> None:
        """Call everything once, so that steps are timed without compilation."""
        begin = time.perf_counter()
        shapes = [self.all_parts]
        if self.tuning.batch is not None:
            # Batches of a group are all of one size.
            shapes = [((series, every[: self.tuning.batch]),) for series, every in self.all_parts]
        for parts in shapes:
            # No time at all: the integration ends where it starts.
            problem = _arrays((parts, -1.0, 0.0, 0.0))
            value, gradient, _ = _value_and_gradient(self.loss, parameters, problem)
        _update(self.loss, self.tuning.optimizer, parameters, gradient, state, value, problem,
                self.bounds)  # fmt: skip
        if self.tuning.held_out or self.tuning.batch is not None:
            rollout_value(self.loss, parameters, _arrays((self.all_parts, -1.0, 0.0, 0.0)))
        self.seconds["compile"] = time.perf_counter() - begin

    def _timed(self, function: Callable[..., Any], *inputs: Any) -> Any:
        begin = time.perf_counter()
        result: Any = jax.block_until_ready(function(*inputs))  # type: ignore[no-untyped-call]
        self.seconds["evaluation"] += time.perf_counter() - begin
        return result

    def outcome(self, found: Parameters, result: RESULTS) -> Outcome:
        """What was found as a point of the NLP: the states are those of rollouts."""
        nlp = self.nlp
        head = np.asarray(found.head)
        starts = np.asarray(found.starts) * np.asarray(self.loss.units)
        model = nlp.layout.model.join(nlp.layout.weights(found.head))
        z = np.concatenate([head, np.zeros(nlp.num_variables - len(head))])
        states = []
        for grid, args, start in zip(nlp.grids, nlp.args(z), starts, strict=True):
            rolled = np.array(rollout(model, grid.times, start, args))
            whole = np.all(np.isfinite(rolled), axis=1)
            # A path that fails keeps the last state that it came to.
            reached = len(whole) if whole.all() else max(int(np.argmin(whole)), 1)
            rolled[0] = start
            rolled[reached:] = rolled[reached - 1]
            states.append(rolled)
        return Outcome(
            z=nlp.pack_head(nlp.head(z), states),
            multipliers=None,
            result=result,
            status=0,
            status_text=result.name,
            steps=self.steps,
            compile_seconds=self.seconds["compile"],
            solve_seconds=self.seconds["solve"],
            evaluation_seconds=self.seconds["evaluation"],
        )


def _arrays(problem: tuple[Any, ...]) -> tuple[Any, ...]:
    """Numbers as arrays, which are not compiled in."""
    return (problem[0], *(jnp.asarray(item, float) for item in problem[1:]))


@eqx.filter_jit
def _value_and_gradient(
    loss: RolloutLoss, parameters: Parameters, problem: tuple[Any, ...]
) -> tuple[Array, Parameters, Array]:
    value, gradient = jax.value_and_grad(lambda item: loss(item, *problem))(parameters)
    largest = [jnp.max(jnp.abs(leaf), initial=0.0) for leaf in jtu.tree_leaves(gradient)]
    return value, gradient, jnp.max(jnp.stack(largest))


@eqx.filter_jit
def _update(
    loss: RolloutLoss,
    optimizer: optax.GradientTransformation,
    parameters: Parameters,
    gradient: Parameters,
    state: Any,
    value: Array,
    problem: tuple[Any, ...],
    bounds: tuple[Parameters, Parameters],
) -> tuple[Parameters, Any, Array]:
    """One step of the optimizer, into the bounds; and its length."""
    # What is known does not count in the gradient's norm.
    gradient = jtu.tree_map(
        lambda slope, low, high: jnp.where(low < high, slope, 0.0), gradient, *bounds
    )
    updates, state = optax.with_extra_args_support(optimizer).update(
        gradient,
        state,
        parameters,
        value=value,
        grad=gradient,
        value_fn=lambda item: loss(item, *problem),
    )
    moved = jtu.tree_map(jnp.clip, optax.apply_updates(parameters, updates), *bounds)
    change = jtu.tree_map(jnp.subtract, moved, parameters)
    return moved, state, optax.tree.norm(change)


def _step(number: int, value: float, slope: float, moved: Any, seconds: float) -> Step:
    return Step(
        iteration=number,
        objective=value,
        primal_infeasibility=0.0,
        dual_infeasibility=slope,
        mu=0.0,
        step_norm=float(moved),
        step_size=1.0,
        regularization=0.0,
        trials=1,
        restoration=False,
        seconds=seconds,
    )


def _schedule(steps: Any, windows: Any) -> tuple[tuple[int, ...], tuple[float, ...]]:
    shares = float_array("windows", windows, 1, "(window,)")
    if len(shares) == 0 or shares[-1] != 1 or shares[0] <= 0 or np.any(np.diff(shares) <= 0):
        raise ValueError(
            f"`windows` must be growing shares above 0 that end in 1; got {describe(windows)}."
        )
    if isinstance(steps, (list, tuple)):
        counts = tuple(integer("steps", item, 1) for item in steps)
        if len(counts) != len(shares):
            raise ValueError(
                f"`steps` must be a number or {len(shares)} of them, as `windows`; got {steps}."
            )
    else:
        total = integer("steps", steps, len(shares))
        edges = np.round(np.linspace(0, total, len(shares) + 1)).astype(int)
        counts = tuple(int(item) for item in np.diff(edges))
    return counts, tuple(float(item) for item in shares)


def _optimizer(optimizer: Any, clip: float | None) -> optax.GradientTransformation:
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
def _default_optimizer() -> optax.GradientTransformation:
    return optax.adam(1e-3)


@functools.lru_cache(64)
def _clipped(optimizer: optax.GradientTransformation, clip: float) -> optax.GradientTransformation:
    return optax.chain(optax.clip_by_global_norm(clip), optimizer)


def _problem(
    model: Any,
    trajectories: tuple[Trajectory, ...],
    start: Any,
    grid: Grids | None,
    l2: Any,
    options: dict[str, Any],
) -> NLP:
    """The NLP whose states are eliminated: it has the data, the layout and the grids of paths."""
    check_options(options, _WITHOUT)
    given: Solution | None = start if isinstance(start, Solution) else None
    if given is not None:
        if len(given.paths) != len(trajectories):
            raise ValueError(
                f"`start` must be a solution of the {len(trajectories)} trajectories in `data`; "
                f"got one of {len(given.paths)}."
            )
        settings = {name: given.nlp.settings[name] for name in OPTIONS if name not in _WITHOUT}
        options = settings | options
        l2 = given.nlp.settings["l2"] if l2 is None else l2
        grid = given.nlp.grids if grid is None else grid
    if as_constraints(options.get("constraints", ()), len(trajectories)):
        raise ValueError(
            "`constraints` cannot be imposed on rollouts; use jc.solve or jc.fit, or pass "
            "`constraints=()`."
        )
    grids = choose_grids(trajectories, grid)
    return transcribe(model, trajectories, grids, l2=0.0 if l2 is None else l2, **options)


def _states(start: Any, count: int, d: int) -> list[np.ndarray]:
    wanted = f"a jc.Solution or a list of {count} arrays of shape (state,) = ({d},)"
    if not isinstance(start, (list, tuple, np.ndarray)) or len(start) != count:
        raise ValueError(f"`start` must be {wanted}; got {describe(start)}.")
    states = [float_array("start", item, 1, "(state,)") for item in start]
    if any(item.shape != (d,) or not np.all(np.isfinite(item)) for item in states):
        raise ValueError(f"`start` must be {wanted}, all finite; got {describe(start)}.")
    return states
