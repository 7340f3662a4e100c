"""Constraints beyond the model's equations: what the caller states, and the terms made of it."""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

from ._blocks import Blocks, Points
from ._check import choice, describe, integer
from ._functions import OfModel, of_model
from ._grid import Grid
from ._layout import Layout
from ._nlp import Group
from ._terms import Continuity, Pointwise
from ._weighted import Weighted


_PLACES = ("nodes", "start", "end")


class Constraint(eqx.Module):
    r"""$\mathtt{lower} \le g(t, y, args, model) \le \mathtt{upper}$ along trajectories.

        jc.Constraint(lambda t, y, args: y[0] * y[1], upper=2.0)
        jc.Constraint(lambda t, y, args: jnp.sum(y), 1.0, 1.0, at="start")

    It holds at the nodes of the grid; between them the collocation polynomial may exceed it a
    little, and a rollout too. An equality at all nodes takes as many degrees of freedom as there
    are nodes, which only a model with as many weights has: for an invariant of the model itself
    use `jc.Conserving`. What bounds single components is cheaper as `jc.StateBounds`.

    **Arguments:**

    - `function`: $g$, called as `g(t, y, args)` or, if it takes four arguments,
      `g(t, y, args, model)`; returns a scalar or an array of shape `(value,)`.
    - `lower`, `upper`: numbers or arrays of shape `(value,)`; equal for an equation.
    - `at`: "nodes" for all of them, "start" or "end" for the first or last node.
    - `trajectories`: the positions of those it applies to; None for all.
    """

    function: Callable[..., Any]
    lower: Any
    upper: Any
    at: str = eqx.field(static=True)
    trajectories: tuple[int, ...] | None = eqx.field(static=True)

    def __init__(
        self,
        function: Callable[..., Any],
        lower: ArrayLike = -np.inf,
        upper: ArrayLike = np.inf,
        *,
        at: str = "nodes",
        trajectories: Sequence[int] | None = None,
    ):
        self.function = function
        self.lower, self.upper = _sides(lower, upper)
        self.at = choice("at", at, _PLACES)
        self.trajectories = _positions(trajectories)


class StateBounds(eqx.Module):
    r"""$\mathtt{lower} \le y_c \le \mathtt{upper}$ for some components of the state.

    Bounds on the variables themselves: they cost no equation. With `lower` equal to `upper` and
    `at="end"` it is a terminal condition.

    **Arguments:**

    - `components`: their positions; None for all.
    - `lower`, `upper`: numbers or arrays of shape `(component,)`.
    - `at`, `trajectories`: as for `jc.Constraint`.
    """

    components: tuple[int, ...] | None = eqx.field(static=True)
    lower: Any
    upper: Any
    at: str = eqx.field(static=True)
    trajectories: tuple[int, ...] | None = eqx.field(static=True)

    def __init__(
        self,
        components: int | Sequence[int] | None = None,
        lower: ArrayLike = -np.inf,
        upper: ArrayLike = np.inf,
        *,
        at: str = "nodes",
        trajectories: Sequence[int] | None = None,
    ):
        if isinstance(components, (int, np.integer)):
            components = [int(components)]
        self.components = _positions(components, "components")
        self.lower, self.upper = _sides(lower, upper)
        self.at = choice("at", at, _PLACES)
        self.trajectories = _positions(trajectories)


class Tie(eqx.Module):
    """The state at the end of trajectory `first` is that at the start of trajectory `second`."""

    first: int = eqx.field(static=True)
    second: int = eqx.field(static=True)

    def __init__(self, first: int, second: int):
        self.first = integer("first", first, 0)
        self.second = integer("second", second, 0)


def nonnegative(components: int | Sequence[int] | None = None) -> StateBounds:
    """$y_c \\ge 0$ at all nodes, for the given components or all of them."""
    return StateBounds(components, lower=0.0)


class Conserving(eqx.Module):
    r"""A model whose invariants $C y$ stay constant, in the NLP and in a rollout alike.

    $$\dot y = f - C^T (C C^T)^{-1} C f$$

    is the closest field to $f$ with $C \dot y = 0$. The value that is conserved is that at the
    start: known from `y0`, fitted, or fixed by a `jc.Constraint` with `at="start"`.

    **Arguments:**

    - `model`: the vector field $f(t, y, args)$.
    - `invariants`: $C$, shape `(state,)` or `(invariant, state)` of full row rank; for instance
      `[1, 1, 1]` for the sum of three fractions.
    """

    model: Callable[[Any, Any, Any], Any]
    projection: tuple[tuple[float, ...], ...] = eqx.field(static=True)

    def __init__(self, model: Callable[[Any, Any, Any], Any], invariants: ArrayLike):
        rows = np.atleast_2d(np.asarray(invariants, np.float64))
        if rows.ndim != 2 or np.linalg.matrix_rank(rows) < len(rows):
            raise ValueError(
                "`invariants` must have shape (state,) or (invariant, state) and independent rows; "
                f"got {describe(np.asarray(invariants))}."
            )
        kept = np.eye(rows.shape[1]) - np.linalg.pinv(rows) @ rows
        self.model = model
        self.projection = tuple(map(tuple, kept.tolist()))

    def __call__(self, t: Any, y: Array, args: Any) -> Array:
        return jnp.asarray(self.projection) @ self.model(t, y, args)


AnyConstraint = Constraint | StateBounds | Tie


class PathFunction(eqx.Module):
    """A constraint's function as a point function."""

    model: Weighted
    function: OfModel

    def __call__(self, w: Array, t: Array, y: Array, args: Any, data: Any) -> Array:
        model, args = self.model.apply(w, args)
        return jnp.atleast_1d(jnp.asarray(self.function(t, y, args, model), float))


class Terms(eqx.Module):
    """The constraints' terms, the bounds of their rows, and how these are to be scaled."""

    terms: tuple[Pointwise | Continuity, ...]
    lower: Float[np.ndarray, " constraint"]
    upper: Float[np.ndarray, " constraint"]
    scale: Float[np.ndarray, " constraint"]


def check(constraints: Any, num_trajectories: int) -> tuple[AnyConstraint, ...]:
    """`constraints` as a tuple; one alone may stand for itself."""
    kinds = (Constraint, StateBounds, Tie)
    items = (constraints,) if isinstance(constraints, kinds) else tuple(constraints)
    for item in items:
        if not isinstance(item, kinds):
            raise ValueError(
                "`constraints` must hold jc.Constraint, jc.StateBounds or jc.Tie objects; "
                f"got {describe(item)}."
            )
        named = (item.first, item.second) if isinstance(item, Tie) else item.trajectories
        if named is not None and max(named, default=0) >= num_trajectories:
            raise ValueError(
                f"`constraints` must name trajectories below {num_trajectories}; got {named}."
            )
    return items


def constraint_terms(
    constraints: tuple[AnyConstraint, ...],
    model: Any,
    weighted: Weighted,
    layout: Layout,
    groups: list[Group],
    grids: tuple[Grid, ...],
    first_row: int,
    scale: Float[np.ndarray, " state"],
) -> Terms:
    """The terms of those constraints that are no bounds, with rows from `first_row` on."""
    terms: list[Pointwise | Continuity] = []
    lower, upper, factor = [np.zeros(0)], [np.zeros(0)], [np.zeros(0)]
    row = first_row
    for item in constraints:
        if isinstance(item, Constraint):
            function = PathFunction(weighted, of_model("function", item.function, model))
            for group in groups:
                members = _members(item.trajectories, group)
                if not members:
                    continue
                term, size = _pointwise(function, item.at, layout, group, members, grids, row)
                sides = [_spread(side, size, item) for side in (item.lower, item.upper)]
                count = int(np.sum(np.asarray(term.rows) >= 0))
                terms.append(term)
                lower.append(np.tile(sides[0], count))
                upper.append(np.tile(sides[1], count))
                factor.append(np.ones(count * size))
                row += count * size
        elif isinstance(item, Tie):
            d = layout.num_states
            terms.append(
                Continuity(
                    nodes=layout.last_nodes[[item.first]][:, None].astype(np.int32),
                    ends=layout.first_nodes[[item.second]].astype(np.int32),
                    extrapolation=np.ones(1),
                    rows=np.array([row], np.int32),
                    num_states=d,
                )
            )
            lower.append(np.zeros(d))
            upper.append(np.zeros(d))
            factor.append(1 / scale)
            row += d
    return Terms(tuple(terms), np.concatenate(lower), np.concatenate(upper), np.concatenate(factor))


def apply_state_bounds(
    constraints: tuple[AnyConstraint, ...],
    layout: Layout,
    lower: Float[np.ndarray, " variable"],
    upper: Float[np.ndarray, " variable"],
) -> None:
    """Tighten the bounds by those constraints that are bounds, in place."""
    d = layout.num_states
    for item in constraints:
        if not isinstance(item, StateBounds):
            continue
        components = tuple(range(d)) if item.components is None else item.components
        if max(components, default=0) >= d:
            raise ValueError(f"`components` must be below {d}; got {components}.")
        sides = [_spread(side, len(components), item) for side in (item.lower, item.upper)]
        for k, (first, last) in enumerate(zip(layout.first_nodes, layout.last_nodes, strict=True)):
            if item.trajectories is not None and k not in item.trajectories:
                continue
            nodes = _nodes(item.at, first, last)
            at = layout.columns(nodes)[:, None] + np.array(components, int)
            lower[at] = np.maximum(lower[at], sides[0])
            upper[at] = np.minimum(upper[at], sides[1])
            if np.any(lower[at] > upper[at]):
                raise ValueError(
                    f"`constraints` leave no value to components {components} of trajectory {k}: "
                    "they contradict `state_bounds`, `y0` or each other."
                )


def _pointwise(
    function: PathFunction,
    place: str,
    layout: Layout,
    group: Group,
    members: list[int],
    grids: tuple[Grid, ...],
    first_row: int,
) -> tuple[Pointwise, int]:
    """A constraint on some trajectories of a group, and the number of its values."""
    selected = group.select(members)
    most = max(len(_times(place, grids[k])) for k in selected.members)
    nodes, times, real = [], [], []
    for k in selected.members:
        where = _nodes(place, layout.first_nodes[k], layout.last_nodes[k])
        pad = (0, most - len(where))
        nodes.append(np.pad(where, pad, mode="edge"))
        times.append(np.pad(_times(place, grids[k]), pad, mode="edge"))
        real.append(np.arange(most) < len(where))
    points = Points.at(np.stack(times), selected.args, selected.unknowns, None)
    shape = eqx.filter_eval_shape(
        lambda w, *point: function(w, *point),
        jnp.zeros(layout.num_weights + points.num_unknowns),
        *points.example(jnp.ones(layout.num_states)),
    ).shape
    if len(shape) != 1:
        raise ValueError(
            "`function` of a jc.Constraint must return a scalar or an array of shape (value,); "
            f"got shape {shape}."
        )
    there = np.stack(real)
    rows = np.where(there, first_row + shape[0] * (np.cumsum(there).reshape(there.shape) - 1), -1)
    term = Pointwise(
        blocks=Blocks.detect(function, points, layout.num_states, layout.num_weights),
        points=points,
        nodes=np.stack(nodes).astype(np.int32),
        rows=rows.astype(np.int32),
    )
    return term, shape[0]


def _members(chosen: tuple[int, ...] | None, group: Group) -> list[int]:
    """The positions within the group of the trajectories chosen."""
    return [i for i, k in enumerate(group.members) if chosen is None or k in chosen]


def _nodes(place: str, first: int, last: int) -> Int[np.ndarray, " point"]:
    ranges = {"nodes": (first, last + 1), "start": (first, first + 1), "end": (last, last + 1)}
    return np.arange(*ranges[place])


def _times(place: str, grid: Grid) -> Float[np.ndarray, " point"]:
    return grid.times[_nodes(place, 0, grid.num_nodes - 1)]


def _sides(lower: Any, upper: Any) -> tuple[np.ndarray, np.ndarray]:
    try:
        sides = np.asarray(lower, np.float64), np.asarray(upper, np.float64)
        valid = bool(np.all(sides[0] <= sides[1])) and max(side.ndim for side in sides) <= 1
    except (TypeError, ValueError):
        valid = False
    if not valid:
        raise ValueError(
            "`lower` and `upper` must be numbers or arrays of shape (value,) with "
            f"lower <= upper; got {describe(lower)} and {describe(upper)}."
        )
    return sides


def _spread(side: Any, size: int, item: Any) -> np.ndarray:
    if np.shape(side) not in ((), (1,), (size,)):
        raise ValueError(
            f"`lower` and `upper` must be numbers or have one entry for each of {size} values of "
            f"the {type(item).__name__}; got shape {np.shape(side)}."
        )
    return np.broadcast_to(side, (size,))


def _positions(value: Sequence[int] | None, name: str = "trajectories") -> tuple[int, ...] | None:
    if value is None:
        return None
    try:
        return tuple(integer(name, item, 0) for item in value)
    except TypeError as error:
        raise ValueError(f"`{name}` must be a list of positions; got {describe(value)}.") from error
