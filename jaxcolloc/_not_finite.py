"""where_not_finite: which of the caller's functions yields NaN or infinity, and where."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from ._args import as_arrays, stack
from ._callables import of_model
from ._constraints import Constraint, as_constraints
from ._jumps import JumpFunction
from ._likelihoods import Own
from ._names import which
from ._nlp import NLP
from ._precision import x64
from ._transcription.blocks import Points, over_points
from ._transcription.jump_terms import JumpMap
from ._transcription.point_functions import (
    AtRest,
    NodeField,
    Observed,
    PathFunction,
    PointLoss,
    Sensor,
    node_of,
)


class _Call(NamedTuple):
    """A function of the caller's at some points of one trajectory; `name` is its argument's.

    `args` are the trajectory's, if not given.
    """

    name: str
    function: Any
    times: Float[np.ndarray, " point"]
    states: Float[np.ndarray, "point state"]
    data: Any = None
    args: Any = None


def where_not_finite(nlp: NLP, z: ArrayLike) -> str:
    """The first function of `nlp` that is not finite at `z`, as a sentence; empty if all are.

    The model is looked at where it is collocated, jumps where they are, `observe` and `loss` at the
    observations, and constraints where they hold: their values, then their first and second
    derivatives. The sentence names the argument, the trajectory, the time and the state, behind
    which the algebraic variables of a `jc.DAE` stand.
    """
    z = np.asarray(z, np.float64)
    with x64():
        for k in range(len(nlp.trajectories)):
            args = stack([as_arrays(nlp.trajectories[k].args)])
            unknowns = nlp.layout.unknowns(k)[None].astype(np.int32)
            for call in _calls(nlp, k, nlp.node_values(z)[k]):
                own = args if call.args is None else call.args
                points = Points.at(call.times[None], own, unknowns, call.data)
                head, y = jnp.asarray(nlp.head(z)), jnp.asarray(call.states[None])
                found = _evaluated(call.function, head, points, y, nlp.num_weights)
                sentence = _sentence(
                    call, which(nlp.trajectories[k], k), [np.asarray(part)[0] for part in found]
                )
                if sentence:
                    return sentence
    return ""


def _calls(nlp: NLP, k: int, states: Float[np.ndarray, "node state"]) -> Iterator[_Call]:
    """The functions that the problem evaluates for one trajectory, in the order of blame."""
    grid, data, model = nlp.grids[k], nlp.trajectories[k], nlp.layout.model
    first = 0 if nlp.settings.collocate_start or nlp.num_algebraic else 1
    field, node = NodeField(model, nlp.num_algebraic), node_of(nlp.layout)
    yield _Call("model", field, grid.times[first:], states[first:])
    rest = nlp.group_of(k).rest
    if rest is not None:
        at_rest = AtRest(model, rest.equations, nlp.num_states)
        yield _Call("model", at_rest, grid.times[:1], states[:1], args=rest.args)
    for jump, nodes in zip(data.jumps, grid.interval_nodes[grid.is_jump], strict=False):
        if jump.to is not None:
            to = JumpMap(model, JumpFunction.of(jump.to, nlp.model), nlp.num_states)
            yield _Call("to", to, np.array([jump.t]), states[nodes[:1]])
    there = data.observed
    if there.any():
        ts, seen = data.ts[there], grid.interpolate(states, data.ts[there])
        if nlp.observe is not None:
            yield _Call("observe", Sensor(model, nlp.observe, node), ts, seen)
        measured = data.measured[there]
        samples = Observed(
            ys=np.where(measured, data.ys[there], 0.0)[None],
            weights=np.where(measured, data.weights[there], 0.0)[None],
            measured=measured[None],
            factor=np.ones((1, len(ts))),
        )
        loss = PointLoss.of(model, nlp.observe, nlp.settings.loss, nlp.model, node)
        yield _Call("loss", loss, ts, seen, samples.for_loss(loss))
    for item in as_constraints(nlp.settings.constraints, len(nlp.grids)):
        if not isinstance(item, Constraint):
            continue
        if item.trajectories is None or k in item.trajectories:
            at = nlp.layout.nodes_at(item.at, k) - nlp.layout.first_nodes[k]
            function = PathFunction(model, of_model("function", item.function, nlp.model), node)
            yield _Call("constraints", function, grid.times[at], states[at])


@eqx.filter_jit
def _evaluated(
    function: Any, head: Array, points: Points, y: Array, num_shared: int
) -> tuple[Array, Array, Array]:
    """The values at every point, and whether the first and the second derivatives are finite."""

    def at_point(w: Array, t: Array, y: Array, args: Any, data: Any) -> tuple[Array, Array, Array]:
        def slopes(w: Array, y: Array) -> tuple[Array, Array]:
            value, pullback = jax.vjp(lambda w, y: function(w, t, y, args, data), w, y)
            of_w, of_y = jax.vmap(pullback)(jnp.eye(len(value)))
            return of_w, of_y

        along = (jnp.ones_like(w), jnp.ones_like(y))
        first, second = jax.jvp(slopes, (w, y), along)
        return function(w, t, y, args, data), _finite(first), _finite(second)

    return over_points(at_point, head, points, y, num_shared)


def _finite(parts: tuple[Array, Array]) -> Array:
    return jnp.all(jnp.array([jnp.all(jnp.isfinite(part)) for part in parts]))


def _sentence(call: _Call, trajectory: str, found: list[np.ndarray]) -> str:
    """What is wrong at the first point where anything is; empty if nothing."""
    values, first, second = found
    for what, wrong in (
        (f"`{call.name}` is", ~np.all(np.isfinite(values), axis=1)),
        (f"The derivative of `{call.name}` is", ~first),
        (f"The second derivative of `{call.name}` is", ~second),
    ):
        if wrong.any():
            at = int(np.argmax(wrong))
            return (
                f"{what} not finite in {trajectory} at t = {call.times[at]:.6g}, where "
                f"y = {_shown(call.states[at])} and its value is {_shown(values[at])}."
                f"{_hint(call, at)}"
            )
    return ""


def _hint(call: _Call, at: int) -> str:
    """What a likelihood may have done to be no number."""
    own = isinstance(call.function, PointLoss) and isinstance(call.function.loss, Own)
    if not own or np.all(call.data.measured[0, at]):
        return ""
    return (
        " Not all channels were measured there: put numbers in the place of NaN in `observed`, by "
        "jnp.where, before it is used."
    )


def _shown(values: np.ndarray) -> str:
    """A few numbers as text."""
    listed = ", ".join(f"{value:.6g}" for value in values[:8])
    return f"[{listed}{', ...' if len(values) > 8 else ''}]"
