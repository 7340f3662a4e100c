"""The terms and rows that are made of the caller's constraints."""

from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Float

from .._callables import explained, of_model
from .._constraints import AnyConstraint, Constraint, Tie
from .._grid import Grid
from .blocks import Blocks, Points
from .bounds import fitting
from .groups import Group, not_padding, padded
from .layout import Layout
from .point_functions import PathFunction, node_of
from .terms import Continuity, Pointwise


class Terms(eqx.Module):
    """The constraints' terms, the bounds of their rows, and how these are to be scaled."""

    terms: tuple[Pointwise | Continuity, ...]
    lower: Float[np.ndarray, " constraint"]
    upper: Float[np.ndarray, " constraint"]
    scale: Float[np.ndarray, " constraint"]


def constraint_terms(
    constraints: tuple[AnyConstraint, ...],
    model: Any,
    layout: Layout,
    groups: tuple[Group, ...],
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
            function = PathFunction(
                layout.model, of_model("function", item.function, model), node_of(layout)
            )
            for group in groups:
                members = _members(item.trajectories, group)
                if not members:
                    continue
                term, size = _pointwise(function, item.at, layout, group, members, grids, row)
                sides = [fitting(side, size, item) for side in (item.lower, item.upper)]
                count = int(np.sum(np.asarray(term.rows) >= 0))
                terms.append(term)
                lower.append(np.tile(sides[0], count))
                upper.append(np.tile(sides[1], count))
                factor.append(np.ones(count * size))
                row += count * size
        elif isinstance(item, Tie):
            d = layout.num_differential
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
    each = [layout.nodes_at(place, k) for k in selected.members]
    times = [grids[k].times[at - layout.first_nodes[k]]
             for k, at in zip(selected.members, each, strict=True)]  # fmt: skip
    points = Points.at(padded(times, None), selected.args, selected.unknowns, None)
    with explained("function", function.function.shown, selected.args):
        shape = points.output_shape(function, layout.num_states, layout.num_weights)
    if shape is None or len(shape) != 1:
        raise ValueError(
            "`function` must return a scalar or an array of shape (value,), in a jc.Constraint; "
            f"got shape {shape}."
        )
    there = not_padding([len(at) for at in each])
    rows = np.where(there, first_row + shape[0] * (np.cumsum(there).reshape(there.shape) - 1), -1)
    term = Pointwise(
        blocks=Blocks.detect(function, points, layout.num_states, layout.num_weights),
        points=points,
        nodes=padded(each, None).astype(np.int32),
        rows=rows.astype(np.int32),
    )
    return term, shape[0]


def _members(chosen: tuple[int, ...] | None, group: Group) -> list[int]:
    """The positions within the group of the trajectories chosen."""
    return [i for i, k in enumerate(group.members) if chosen is None or k in chosen]
