"""Several iterations in one compiled loop, for one problem or for a batch of them.

Four functions are jitted here: `first` and `several` for one
problem, `first_of_batch` and `several_of_batch` for problems of the same shapes.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from .barrier import Problem
from .iterate import iterate
from .state import RUNNING, Options, Record, State, begin


def iterations(
    problem: Problem,
    options: Options,
    exact: bool,
    state: State,
    count: Array,
    room: int,
) -> tuple[State, Record]:
    """The state after at most `count` iterations, and their records, one after another.

    There is room for `room` records, which `count` must not exceed. `exact` is as in `iterate`.
    """
    records = jax.tree.map(lambda item: jnp.zeros((room, *item.shape), item.dtype), state.record)

    def one(carry: tuple[State, Record, Array]) -> tuple[State, Record, Array]:
        before, records, done = carry
        state = iterate(problem, options, exact, before)
        records = jax.tree.map(lambda all, new: all.at[done].set(new), records, state.record)
        return state, records, done + (state.iteration - before.iteration)

    def going(carry: tuple[State, Record, Array]) -> Array:
        return (carry[0].status == RUNNING) & (carry[2] < count)

    state, records, _ = jax.lax.while_loop(going, one, (state, records, jnp.asarray(0)))
    return strongly_typed(state), records


def strongly_typed(state: State) -> State:
    """With definite dtypes, so that what comes out can go in again without compiling anew."""
    return jax.tree.map(lambda item: jax.lax.convert_element_type(item, item.dtype), state)


def begun(problem: Problem, *inputs: Any) -> State:
    """`begin`, for what comes out to go in again."""
    return strongly_typed(begin(problem, *inputs))


first, several = eqx.filter_jit(begun), eqx.filter_jit(iterations)


@eqx.filter_jit
def first_of_batch(
    problem: Problem,
    axes: Any,
    inputs: tuple[Any, ...],
    input_axes: tuple[Any, ...],
) -> State:
    """`begin` for many problems; `axes` are those of the arrays in which they differ.

    `inputs` are the other arguments of `begin`, with `input_axes`.
    """

    def one(problem: Problem, *inputs: Any) -> State:
        return begun(problem, *inputs)

    return eqx.filter_vmap(one, in_axes=(axes, *input_axes))(problem, *inputs)


@eqx.filter_jit
def several_of_batch(
    problem: Problem,
    axes: Any,
    options: Options,
    exact: bool,
    state: State,
    count: Array,
    room: int,
) -> tuple[State, Record]:
    """`iterations` for many problems; `axes` are those of the arrays in which they differ."""

    def one(problem: Problem, state: State) -> tuple[State, Record]:
        return iterations(problem, options, exact, state, count, room)

    return eqx.filter_vmap(one, in_axes=(axes, 0))(problem, state)
