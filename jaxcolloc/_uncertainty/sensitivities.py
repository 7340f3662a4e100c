"""Derivatives of what is measured, of functions of the model, and of rollouts."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Float

from .._args import as_arrays, check_values, sealed
from .._callables import explained
from .._jump_tables import SeriesJumps
from .._jumps import Change
from .._nlp import NLP
from .._points import in_chunks
from .._precision import AnyArray, is_array, x64
from .._rollout import END, rollout
from .._transcription.parameters import Weighted
from .._transcription.point_functions import Sensor, VectorField


def local_args(nlp: NLP, trajectory: int) -> Any:
    """The `args` of one trajectory as point functions take them, with slots for its unknowns."""
    return jtu.tree_map(lambda leaf: leaf[0], nlp.group_of(trajectory).args)


def local_head(nlp: NLP, trajectory: int) -> np.ndarray:
    """The positions in the head of the weights and of one trajectory's unknowns."""
    return np.concatenate([np.arange(nlp.num_weights), nlp.layout.unknowns(trajectory)])


def given_args(args: Any) -> Any:
    """The caller's `args` in the same form."""
    check_values(args)
    with x64():
        return sealed(as_arrays(args))


def seen(
    nlp: NLP, w: np.ndarray, args: Any, ts: np.ndarray, states: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What is measured of states, and its derivatives by the state and by `w`.

    `w` are the weights and, behind them, unknowns; axes (time, obs, ...).
    """
    count = nlp.trajectories[0].num_channels
    if nlp.observe is None:
        by_state = np.zeros((len(ts), count, states.shape[1]))
        by_state[:, np.arange(count), np.arange(count)] = 1.0
        return states[:, :count], by_state, np.zeros((len(ts), count, len(w)))
    sensor = Sensor(nlp.layout.model, nlp.observe)
    value, by_state, by_weight = in_chunks(lambda t, y: _seen(sensor, w, args, t, y), ts, states)
    return value, by_state, by_weight


@eqx.filter_jit
def _seen(
    sensor: Sensor, w: AnyArray, args: Any, ts: AnyArray, states: AnyArray
) -> tuple[Array, Array, Array]:
    def point(t: Any, y: Any) -> tuple[Array, Array, Array]:
        def value(w: Any, y: Any) -> Array:
            return sensor(w, t, y, args, None)

        by_weight, by_state = jax.jacrev(value, argnums=(0, 1))(jnp.asarray(w), y)
        return value(w, y), by_state, by_weight

    return jax.vmap(point)(ts, states)


def of_model(
    nlp: NLP, w: np.ndarray, f: Callable[[Any, Any], Any], points: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """`f(model, point)` at all points and its derivative by the weights, axes (point, ..., weight).

    **Errors:** `ValueError` naming `f` where it cannot be evaluated.
    """
    weighted = nlp.layout.model

    def both(w: Array, point: Array) -> tuple[Array, Array]:
        def value(w: Array) -> Array:
            found = f(weighted.join(w), point)
            return jnp.asarray(found, jnp.float64)

        return value(w), jax.jacrev(value)(w)

    with x64(), explained("f", "f(model, point)"):
        value, slope = jax.jit(jax.vmap(both, in_axes=(None, 0)))(w, points)
    return np.asarray(value), np.asarray(slope)


class Start(NamedTuple):
    """Where a prediction starts: the state, and its derivatives by coordinates, one a column."""

    state: Float[np.ndarray, " state"]
    columns: Float[np.ndarray, "state column"]


class _Tangents(eqx.Module):
    """The field of a state and of its derivatives by some coordinates, one behind the other."""

    field: VectorField
    w: AnyArray
    columns: AnyArray
    args: Any

    def __call__(self, t: Any, u: Any, args: Any) -> Array:
        d = len(u) // (1 + self.columns.shape[1])
        y, tangents = u[:d], u[d:].reshape(-1, d)
        w = jnp.asarray(self.w)

        def value(w: Array, y: Array) -> Array:
            return self.field(w, t, y, self.args, None)

        slope, along = jax.linearize(value, w, y)
        return jnp.concatenate(
            [slope, jax.vmap(along)(jnp.asarray(self.columns).T, tangents).ravel()]
        )


def rolled(
    nlp: NLP,
    w: np.ndarray,
    columns: np.ndarray,
    start: Start,
    args: Any,
    ts: np.ndarray,
    spread: np.ndarray,
    jumps: SeriesJumps | None,
) -> tuple[np.ndarray, np.ndarray]:
    """A rollout at times and its derivatives by coordinates, axes (time, state, column).

    `columns`: how the weights and unknowns `w` change with the coordinates. Not finite where the
    rollout ends early. `jumps` are those of one trajectory.
    """
    size = np.maximum(np.abs(w), 1.0)
    unit = np.maximum(
        np.abs(columns / size[:, None]).max(axis=0, initial=0.0),
        np.abs(start.columns / spread[:, None]).max(axis=0, initial=0.0),
    )
    unit = np.where(unit > 0, unit, 1.0)
    model = _Tangents(VectorField(nlp.layout.model), w, columns / unit, args)
    begin = np.concatenate([start.state, (start.columns / unit).T.ravel()])
    changes = _changes(nlp, jumps, model)
    found = rollout(model, ts, begin, None, np.tile(spread, 1 + len(unit)), jumps=changes)
    states = found.states if found.end is END.complete else np.where(
        np.isfinite(found.states), found.states, np.nan
    )  # fmt: skip
    d = len(start.state)
    slopes = states[:, d:].reshape(len(ts), len(unit), d).swapaxes(1, 2)
    return states[:, :d], slopes * unit


def rolled_states(
    nlp: NLP,
    w: np.ndarray,
    start: np.ndarray,
    args: Any,
    ts: np.ndarray,
    spread: np.ndarray,
    jumps: SeriesJumps | None,
) -> np.ndarray:
    """A rollout at times; not finite where it ends early."""
    none = Start(start, np.zeros((len(start), 0)))
    return rolled(nlp, w, np.zeros((len(w), 0)), none, args, ts, spread, jumps)[0]


def _changes(nlp: NLP, jumps: SeriesJumps | None, tangents: _Tangents) -> list[Change]:
    """The jumps of a state together with its derivatives."""
    if jumps is None:
        return []
    weighted = nlp.layout.model
    one = jtu.tree_map(lambda leaf: leaf[0] if is_array(leaf) else leaf, jumps)
    if jumps.functions:
        # What these hold has no axis of trajectories.
        one = eqx.tree_at(lambda item: item.functions, one, jumps.functions)

    def change(number: int, t: float) -> Change:
        def after(u: np.ndarray) -> np.ndarray:
            with x64():
                return np.asarray(_jumped(one, weighted, tangents, np.asarray(number), u))

        return Change(t, after, after)

    return [change(number, float(t)) for number, t in enumerate(one.times)]


@eqx.filter_jit
def _jumped(
    jumps: SeriesJumps, weighted: Weighted, tangents: _Tangents, number: Any, u: AnyArray
) -> Array:
    d = len(u) // (1 + tangents.columns.shape[1])

    def value(w: Array, y: Array) -> Array:
        model, known = weighted.apply(w, tangents.args)
        return jumps.table(w[weighted.size :]).after(number, y, known, model)

    columns = jnp.asarray(tangents.columns).T
    after, along = jax.linearize(value, jnp.asarray(tangents.w), jnp.asarray(u[:d]))
    slopes = jax.vmap(along)(columns, jnp.asarray(u[d:]).reshape(-1, d))
    return jnp.concatenate([after, slopes.ravel()])
