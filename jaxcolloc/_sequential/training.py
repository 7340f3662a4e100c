"""Training: steps of an optimizer on the loss of rollouts, and the best parameters so far."""

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array

from .._check import describe, float_array
from .._guess import guess, resting_start
from .._integrate import Stepping
from .._nlp import NLP
from .._precision import x64
from .._rollout import rollout_at_nodes
from .._run import Best, Run
from .._solution import Solution
from .._solver import Outcome
from .._trace import RESULTS, TrainingStep
from .loss import Parameters, RolloutLoss, all_rollouts, rollout_value
from .schedule import Schedule


if TYPE_CHECKING:
    import optax


# A step whose rollout fails is halved so often before the training ends.
_HALVINGS = 30
# Options that are objects of other libraries.
_OBJECTS = ("optimizer", "stepping")


class FineTuning(eqx.Module):
    """The options of a sequential training, once they are checked."""

    optimizer: Any
    steps: tuple[int, ...]
    windows: tuple[float, ...]
    batch: int | None
    held_out: float
    patience: int | None
    every: int
    stepping: Stepping

    @property
    def shown(self) -> dict[str, Any]:
        """What a solution's `stats` tell of them."""
        own = {name: value for name, value in vars(self).items() if name not in _OBJECTS}
        return own | {name: getattr(self.stepping, name) for name in ("rtol", "atol", "max_steps")}


class Training:
    """One training run: its data as arrays, its steps, and the best parameters so far."""

    def __init__(self, nlp: NLP, tuning: FineTuning, key: Any):
        self.nlp, self.tuning = nlp, tuning
        self.columns = nlp.layout.start_columns
        core = nlp.compiled.host
        penalties = (core.quadratics[0], *core.priors)
        self.loss, parts = all_rollouts(nlp, penalties, tuning.stepping)
        self.schedule = Schedule(
            parts, tuning.steps, tuning.windows, tuning.batch, 1.0 - tuning.held_out, key
        )
        lower, upper = (self.parameters(side) for side in nlp.bounds)
        self.bounds = (lower, upper)
        self.best: Best[Parameters] = Best()
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
            states = _start_states(start, len(nlp.grids), nlp.num_states)
            unknowns = np.zeros(0)
        counts = nlp.layout.node_counts
        constant = [np.tile(item, (count, 1)) for item, count in zip(states, counts, strict=True)]
        weights = nlp.layout.model.flatten("model", nlp.model)
        z = nlp.pack_head(np.concatenate([weights, unknowns]), constant)
        return self.parameters(nlp.inside(z))

    def model(self, parameters: Parameters) -> Any:
        """The model with these parameters, as the caller knows it."""
        with x64():
            return self.nlp.layout.model.restore(self.nlp.layout.weights(parameters.head))

    def run(self, parameters: Parameters, loop: Run) -> tuple[Parameters, RESULTS]:
        """The best parameters that the steps have come to, and how they ended."""
        optimizer = self.tuning.optimizer
        state = optimizer.init(parameters)
        self._compile(parameters, state)
        begin = time.perf_counter()
        last = sum(self.tuning.steps)
        good, moved = parameters, 0.0
        try:
            for number, task in enumerate(self.schedule.tasks()):
                if task.opens and not self.tuning.held_out:
                    self.best = Best()
                seconds = time.perf_counter() - begin
                self.seconds["solve"] = seconds
                problem = (task.parts, -1.0, task.until, task.factor)
                parameters, value, gradient, size = self._finite(parameters, good, problem)
                if not np.isfinite(value):
                    return self._found(good), RESULTS.not_finite
                good = parameters
                patient = self._look(number, value, parameters, task.until)
                step = TrainingStep(number, value, size, float(moved), seconds)
                over = loop(step, lambda here=parameters: here)  # type: ignore[misc]
                limit = loop.result is RESULTS.max_seconds_reached
                if over and not (number == last and limit):
                    return self._found(good), loop.result or RESULTS.stopped
                if not patient:
                    return self._found(good), RESULTS.early_stopped
                if number == last:
                    break
                parameters, state, moved = self._timed(
                    _update, self.loss, optimizer, parameters, gradient, state,
                    jnp.asarray(value), arrays(problem), self.bounds,
                )  # fmt: skip
        except KeyboardInterrupt:
            return self._found(good), RESULTS.interrupted
        return self._found(good), RESULTS.trained

    def _found(self, last: Parameters) -> Parameters:
        return last if self.best.point is None else self.best.point

    def _finite(
        self, parameters: Parameters, good: Parameters, problem: tuple[Any, ...]
    ) -> tuple[Parameters, float, Parameters, float]:
        """Value and gradient, at a point closer to the last good one where a rollout fails."""
        for _ in range(_HALVINGS):
            value, gradient, size = self._timed(
                value_and_gradient, self.loss, parameters, arrays(problem)
            )
            if np.isfinite(value) and np.isfinite(size):
                break
            value = np.nan
            self.skipped += 1
            parameters = jtu.tree_map(lambda a, b: (a + b) / 2, parameters, good)
        return parameters, float(value), gradient, float(size)

    def _look(self, number: int, value: float, parameters: Parameters, until: float) -> bool:
        """Keep the parameters if they are the best so far; False once patience has ended."""
        tuning = self.tuning
        if tuning.held_out or tuning.batch is not None:
            if number % tuning.every and number != sum(tuning.steps):
                return True
            trained = self.schedule.trained
            after, until = (trained, 1.0) if tuning.held_out else (-1.0, until)
            count = self.schedule.count(after, until)
            problem = (self.schedule.parts, after, until, 1 / max(count, 1))
            value = float(self._timed(rollout_value, self.loss, parameters, arrays(problem)))
            if tuning.held_out:
                value -= float(self.loss.penalty(parameters))
        self.looks.append((number, value))
        self.since = 0 if self.best.offer(0.0, value, parameters) else self.since + 1
        return tuning.patience is None or self.since < tuning.patience

    def _compile(self, parameters: Parameters, state: Any) -> None:
        """Call everything once, so that steps are timed without compilation."""
        begin = time.perf_counter()
        shapes = [self.schedule.parts]
        if self.tuning.batch is not None:
            # Batches of a group are all of one size.
            shapes = [
                ((series, every[: self.tuning.batch]),) for series, every in self.schedule.parts
            ]
        for parts in shapes:
            # No time at all: the integration ends where it starts.
            problem = arrays((parts, -1.0, 0.0, 0.0))
            value, gradient, _ = value_and_gradient(self.loss, parameters, problem)
        _update(self.loss, self.tuning.optimizer, parameters, gradient, state, value, problem,
                self.bounds)  # fmt: skip
        if self.tuning.held_out or self.tuning.batch is not None:
            rollout_value(self.loss, parameters, arrays((self.schedule.parts, -1.0, 0.0, 0.0)))
        self.seconds["compile"] = time.perf_counter() - begin

    def _timed(self, function: Callable[..., Any], *inputs: Any) -> Any:
        begin = time.perf_counter()
        result: Any = jax.block_until_ready(function(*inputs))  # type: ignore[no-untyped-call]
        self.seconds["evaluation"] += time.perf_counter() - begin
        return result

    def outcome(
        self, found: Parameters, result: RESULTS, steps: Sequence[TrainingStep] = ()
    ) -> Outcome:
        """What was found as a point of the NLP: the states are those of rollouts."""
        nlp = self.nlp
        head = np.asarray(found.head)
        starts = np.asarray(found.starts) * np.asarray(self.loss.units)
        model = nlp.layout.model.join(nlp.layout.weights(found.head))
        z = np.concatenate([head, np.zeros(nlp.num_variables - len(head))])
        states = []
        pairs = zip(nlp.grids, nlp.args(z), nlp.jumps(z), starts, strict=True)
        for k, (grid, args, jumps, start) in enumerate(pairs):
            start = resting_start(nlp, k, model, args, start)
            rolled = rollout_at_nodes(model, grid, start, args, jumps)
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
            steps=steps,
            compile_seconds=self.seconds["compile"],
            solve_seconds=self.seconds["solve"],
            evaluation_seconds=self.seconds["evaluation"],
        )


def arrays(problem: tuple[Any, ...]) -> tuple[Any, ...]:
    """Numbers as arrays, which are not compiled in."""
    return (problem[0], *(jnp.asarray(item, float) for item in problem[1:]))


@eqx.filter_jit
def value_and_gradient(
    loss: RolloutLoss, parameters: Parameters, problem: tuple[Any, ...]
) -> tuple[Array, Parameters, Array]:
    """The loss, its gradient, and the largest entry of that; `problem` holds other arguments."""
    value, gradient = jax.value_and_grad(lambda item: loss(item, *problem))(parameters)
    largest = [jnp.max(jnp.abs(leaf), initial=0.0) for leaf in jtu.tree_leaves(gradient)]
    return value, gradient, jnp.max(jnp.stack(largest))


@eqx.filter_jit
def _update(
    loss: RolloutLoss,
    optimizer: "optax.GradientTransformation",
    parameters: Parameters,
    gradient: Parameters,
    state: Any,
    value: Array,
    problem: tuple[Any, ...],
    bounds: tuple[Parameters, Parameters],
) -> tuple[Parameters, Any, Array]:
    """One step of the optimizer, into the bounds; and its length."""
    import optax

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


def _start_states(start: Any, count: int, d: int) -> list[np.ndarray]:
    wanted = f"a jc.Solution or a list of {count} arrays of shape (state,) = ({d},)"
    listed = isinstance(start, (list, tuple)) or (isinstance(start, np.ndarray) and start.ndim > 0)
    if not listed or len(start) != count:
        raise ValueError(f"`start` must be {wanted}; got {describe(start)}.")
    states = [float_array("start", item, 1, "(state,)") for item in start]
    if any(item.shape != (d,) or not np.all(np.isfinite(item)) for item in states):
        raise ValueError(f"`start` must be {wanted}, all finite; got {describe(start)}.")
    return states
