r"""Jumps as terms: an interval without width, whose nodes after the first have the state after it.

The first of these is $J(y)$ of the interval's left node, the others are equal to it. So a jump has
as many equations as any interval, in the place of its defects, and at the same rows.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from .._args import Fixed, Unknowns, as_arrays, fill, signature, stack
from .._callables import explained
from .._data import Trajectory
from .._grid import Grid
from .._jumps import Jump, JumpFunction
from .blocks import Blocks, Points
from .groups import Group, alike, not_padding, padded
from .layout import Layout, Rows
from .parameters import Weighted
from .point_functions import AlgebraicEquations
from .terms import Continuity, Defects, Equations, Pointwise


class AddAmounts(eqx.Module):
    """A jump by amounts, `args`, of which some are unknown, as a point function."""

    model: Weighted
    num_states: int = eqx.field(static=True)

    def __call__(self, w: Array, t: Array, y: Array, args: Any, data: Any) -> Array:
        amounts = fill(args, w[self.model.size :])
        if isinstance(amounts, tuple):
            amounts = jnp.stack([jnp.asarray(item, y.dtype) for item in amounts])
        return y[: self.num_states] + amounts


class JumpMap(eqx.Module):
    """A jump by the caller's function as a point function: $J(y, args; w)$."""

    model: Weighted
    function: JumpFunction
    num_states: int = eqx.field(static=True)

    def __call__(self, w: Array, t: Array, y: Array, args: Any, data: Any) -> Array:
        model, args = self.model.apply(w, args)
        return self.function(y[: self.num_states], args, model)


class _Place(NamedTuple):
    """A jump, its trajectory's place in the group, its nodes among all and its first row.

    `unknowns` are the positions in the head of its own unknown amounts.
    """

    jump: Jump
    member: int
    nodes: np.ndarray
    row: int
    unknowns: np.ndarray


def jump_terms(
    layout: Layout,
    group: Group,
    trajectories: tuple[Trajectory, ...],
    grids: tuple[Grid, ...],
    rows: Rows,
    weighted: Weighted,
    model: Any,
) -> list[Equations]:
    """The terms of all jumps of a group's trajectories: known amounts, unknown ones, functions."""
    places = [
        place
        for member, k in enumerate(group.members)
        for place in _places(layout, member, k, trajectories[k], grids[k], rows)
    ]
    if not places:
        return []
    terms: list[Equations] = []
    known = [item for item in places if item.jump.to is None and not item.jump.has_unknown]
    if known:
        terms.append(_by_known(known, layout))
    open_ones = [item for item in places if item.jump.has_unknown]
    of_amounts = [signature(as_arrays(item.jump.add)) for item in open_ones]
    terms += [
        _by_unknown([open_ones[i] for i in members], layout, weighted)
        for members in alike(of_amounts)
    ]
    by_function = [item for item in places if item.jump.to is not None]
    functions = [JumpFunction.of(item.jump.to, model) for item in by_function]
    keys = [(Fixed(item.function), item.form) for item in functions]
    for members in alike(keys):
        function = JumpMap(weighted, functions[members[0]], layout.num_differential)
        terms.append(_by_function([by_function[i] for i in members], layout, group, function))
    terms += _copies(layout, group, grids, rows)
    if layout.num_algebraic:
        terms.append(_algebraic(layout, group, grids, rows, weighted))
    return terms


def _places(
    layout: Layout, member: int, k: int, item: Trajectory, grid: Grid, rows: Rows
) -> list[_Place]:
    """The jumps of trajectory `k`, which is that of place `member` in its group."""
    d, inside = layout.num_states, grid.scheme.num_nodes - 1
    at = np.flatnonzero(grid.is_jump)
    own = layout.first_nodes[k] + grid.interval_nodes[at]
    unknowns = layout.unknowns(k)
    first = len(Unknowns.of(item.args).start)
    found = []
    for jump, interval, nodes in zip(item.jumps, at, own, strict=False):
        if jump.size not in (None, layout.num_differential):
            raise ValueError(
                f"`add` must have shape (state,) = ({layout.num_differential},); got "
                f"({jump.size},) in the jump of trajectory {k} at {jump.t:g}."
            )
        count = len(Unknowns.of(jump.add).start)
        row = rows.defects[k] + d * inside * int(interval)
        found.append(_Place(jump, member, nodes, row, unknowns[first : first + count]))
        first += count
    return found


def _by_known(places: list[_Place], layout: Layout) -> Continuity:
    """Jumps by known amounts."""
    return Continuity(
        nodes=np.stack([item.nodes[:1] for item in places]).astype(np.int32),
        ends=np.array([item.nodes[1] for item in places], np.int32),
        extrapolation=np.ones(1),
        rows=np.array([item.row for item in places], np.int32),
        num_states=layout.num_differential,
        shift=np.stack([item.jump.add for item in places]),
    )


def _by_unknown(places: list[_Place], layout: Layout, weighted: Weighted) -> Defects:
    """Jumps by amounts of which some are unknown, each with unknowns of its own."""
    times = np.array([[item.jump.t] for item in places])
    amounts = stack([as_arrays(item.jump.add) for item in places])
    unknowns = np.stack([item.unknowns for item in places]).astype(np.int32)
    points = Points.at(times, amounts, unknowns, None)
    nodes, rows = (
        np.array([[part] for part in parts], np.int32)
        for parts in zip(*((item.nodes[:2], item.row) for item in places), strict=True)
    )
    return _mapped(AddAmounts(weighted, layout.num_differential), layout, points, nodes, rows)


def _by_function(places: list[_Place], layout: Layout, group: Group, function: JumpMap) -> Defects:
    """Jumps by one function, in a row for each trajectory that has any."""
    members = sorted({item.member for item in places})
    own = [[item for item in places if item.member == member] for member in members]
    chosen = group.select(members)
    times = padded([np.array([item.jump.t for item in part]) for part in own], None)
    nodes = padded([np.stack([item.nodes[:2] for item in part]) for part in own], None)
    rows = padded([np.array([item.row for item in part]) for part in own])
    rows = np.where(not_padding([len(part) for part in own]), rows, -1)
    points = Points.at(times, chosen.args, chosen.unknowns, None)
    with explained("to", function.function.shown, chosen.args):
        points.output_shape(function, layout.num_states, layout.num_weights)
    return _mapped(function, layout, points, nodes, rows)


def _mapped(
    function: AddAmounts | JumpMap,
    layout: Layout,
    points: Points,
    nodes: np.ndarray,
    rows: np.ndarray,
) -> Defects:
    """The equations that the second of two nodes is the function of the first."""
    nodes = nodes.astype(np.int32)
    blocks = Blocks.detect(function, points, layout.num_states, layout.num_weights)
    before = Pointwise(blocks, points, nodes[..., 0], rows.astype(np.int32))
    widths, matrix = np.ones(rows.shape), np.ones((1, 1))
    return Defects(before, nodes[..., 1:], widths, matrix, layout.num_algebraic)


def _copies(layout: Layout, group: Group, grids: tuple[Grid, ...], rows: Rows) -> list[Continuity]:
    """The equations that all nodes after a jump have the same state."""
    d = layout.num_states
    nodes: list[np.ndarray] = []
    ends: list[int] = []
    equations: list[int] = []
    for k in group.members:
        grid = grids[k]
        inside = grid.scheme.num_nodes - 1
        for interval in np.flatnonzero(grid.is_jump).tolist():
            own = layout.first_nodes[k] + grid.interval_nodes[interval]
            first = rows.defects[k] + d * inside * interval
            ends += own[2:].tolist()
            equations += (first + d * np.arange(1, inside)).tolist()
            if not grid.scheme.includes_end:
                ends.append(layout.first_nodes[k] + grid.interval_ends[interval])
                equations.append(rows.continuity[k] + d * interval)
            nodes += [own[1:2]] * (len(ends) - len(nodes))
    if not ends:
        return []
    copied = Continuity(
        nodes=np.stack(nodes).astype(np.int32),
        ends=np.array(ends, np.int32),
        extrapolation=np.ones(1),
        rows=np.array(equations, np.int32),
        num_states=layout.num_differential,
    )
    return [copied]


def _algebraic(
    layout: Layout, group: Group, grids: tuple[Grid, ...], rows: Rows, weighted: Weighted
) -> Pointwise:
    """The algebraic equations at the nodes after jumps, behind the others of each node."""
    chosen = [i for i, k in enumerate(group.members) if grids[k].is_jump.any()]
    nodes, times, first_rows = [], [], []
    for k in (group.members[i] for i in chosen):
        grid, at = grids[k], np.flatnonzero(grids[k].is_jump)
        inside = np.arange(grid.scheme.num_nodes - 1)
        own = grid.interval_nodes[at, 1:].ravel()
        nodes.append(own + layout.first_nodes[k])
        times.append(grid.times[own])
        number = (at[:, None] * len(inside) + inside).ravel()
        first_rows.append(rows.defects[k] + layout.num_states * number + layout.num_differential)
    part = group.select(chosen)
    points = Points.at(padded(times, None), part.args, part.unknowns, None)
    function = AlgebraicEquations(weighted, layout.num_differential)
    return Pointwise(
        Blocks.detect(function, points, layout.num_states, layout.num_weights),
        points,
        padded(nodes, None).astype(np.int32),
        padded(first_rows, -1.0).astype(np.int32),
    )
