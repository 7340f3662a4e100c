"""The terms, rows and bounds that are made of the caller's constraints."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .._callables import OfModel, of_model
from .._constraints import AnyConstraint, Constraint, StateBounds, Tie
from .._grid import Grid
from .._nlp import Group
from .blocks import Blocks, Points
from .layout import Layout
from .parameters import Weighted
from .terms import Continuity, Pointwise


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


def _spread(side: Any, size: int, item: Any) -> np.ndarray:
    if np.shape(side) not in ((), (1,), (size,)):
        raise ValueError(
            f"`lower` and `upper` must be numbers or have one entry for each of {size} values of "
            f"the {type(item).__name__}; got shape {np.shape(side)}."
        )
    return np.broadcast_to(side, (size,))
