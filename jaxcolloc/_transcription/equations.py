"""The model's equations as terms: defects of every trajectory, jumps and continuity."""

from typing import Any

import numpy as np
from jaxtyping import Float, Int

from .._dae import REDUCE
from .._data import Trajectory
from .._grid import Grid
from .blocks import Blocks, Points
from .groups import Group, Intervals, padded
from .jump_terms import jump_terms
from .layout import Layout, Rows
from .point_functions import AlgebraicEquations, NodeField
from .terms import Continuity, Defects, Equations, Pointwise
from .units import Units


def equations(
    field: NodeField,
    layout: Layout,
    groups: tuple[Group, ...],
    trajectories: tuple[Trajectory, ...],
    grids: tuple[Grid, ...],
    units: Units,
    collocate_start: bool,
    model: Any,
) -> tuple[tuple[Equations, ...], Float[np.ndarray, " equation"]]:
    """The terms, and the factor of each of their rows; trajectories stand in their order."""
    rows = Rows(grids, layout.num_states, collocate_start, layout.num_algebraic)
    if collocate_start and any(grid.is_jump[0] for grid in grids):
        raise ValueError(
            "`collocate_start` must be False where a trajectory begins with a jump: its first "
            "state is the one before."
        )
    terms: list[Equations] = []
    for group in groups:
        scheme = grids[group.members[0]].scheme
        intervals = Intervals.of(layout, group, grids)
        nodes, widths, times = intervals.nodes, intervals.widths, intervals.times
        points = Points.at(times[:, :, 1:], group.args, group.unknowns, None)
        blocks = Blocks.detect(field, points, layout.num_states, layout.num_weights)
        if collocate_start:
            first = np.array([rows.start[position] for position in group.members])
            at_start = Points.at(times[:, :1, :1], group.args, group.unknowns, None)
            start = Pointwise(blocks, at_start, nodes[:, 0, :1], first[:, None])
            matrix = scheme.differentiation[:1]
            terms.append(Defects(start, nodes[:, :1], widths[:, :1], matrix, layout.num_algebraic))
        inside = nodes[:, :, 1:].reshape(len(nodes), -1)
        equation = _defect_rows(
            group, intervals.real, scheme.num_nodes - 1, layout.num_states, rows.defects
        )
        collocated = Pointwise(blocks, points, inside, equation)
        matrix = scheme.differentiation[1:]
        terms.append(Defects(collocated, nodes, widths, matrix, layout.num_algebraic))
        terms += jump_terms(layout, group, trajectories, grids, rows, field.model, model)
        if not scheme.includes_end:
            terms.append(_continuity(layout, group, grids, rows.continuity))
        if layout.num_algebraic and not (collocate_start and scheme.includes_end):
            terms.append(_algebraic(layout, group, grids, rows, collocate_start))
    return tuple(terms), rows.factors(units.state, units.time, units.equation)


def check_index(layout: Layout, terms: tuple[Equations, ...]) -> None:
    """Refuse algebraic equations that do not determine their variables, whatever the numbers."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_bipartite_matching

    m, d = layout.num_algebraic, layout.num_differential
    blocks = next((term.field.blocks for term in terms if isinstance(term, Defects)), None)
    if m == 0 or blocks is None:
        return
    rows, columns = blocks.jac_y.rows - d, blocks.jac_y.columns - d
    own = (rows >= 0) & (columns >= 0)
    pattern = csr_array((np.ones(own.sum()), (rows[own], columns[own])), shape=(m, m))
    left = np.flatnonzero(maximum_bipartite_matching(pattern, perm_type="column") < 0)
    if len(left):
        empty = np.setdiff1d(np.arange(m), rows[own])
        which = (
            f"equation {empty[0]} contains none of the algebraic variables"
            if len(empty)
            else f"no choice of variables, one for each equation, is left for equation {left[0]}"
        )
        raise ValueError(
            f"`equations` must determine the algebraic variables (index 1); {which}. {REDUCE}"
        )


def _defect_rows(
    group: Group, real: np.ndarray, collocated: int, d: int, first_rows: list[int]
) -> Int[np.ndarray, "traj point"]:
    """The first equation of each collocated node, negative in padding."""
    count = real.shape[1] * collocated
    first = np.array([first_rows[position] for position in group.members])
    rows = first[:, None] + d * np.arange(count)
    return np.where(np.repeat(real, collocated, axis=1), rows, -1).astype(np.int32)


def _continuity(
    layout: Layout, group: Group, grids: tuple[Grid, ...], first_rows: list[int]
) -> Continuity:
    nodes, ends, rows = [], [], []
    for position in group.members:
        grid, smooth = grids[position], ~grids[position].is_jump
        nodes.append(grid.interval_nodes[smooth] + layout.first_nodes[position])
        ends.append(grid.interval_ends[smooth] + layout.first_nodes[position])
        rows.append(first_rows[position] + layout.num_states * np.flatnonzero(smooth))
    return Continuity(
        nodes=np.concatenate(nodes).astype(np.int32),
        ends=np.concatenate(ends).astype(np.int32),
        extrapolation=grids[group.members[0]].scheme.interpolation(np.ones(1))[0],
        rows=np.concatenate(rows).astype(np.int32),
        num_states=layout.num_differential,
    )


def _algebraic(
    layout: Layout, group: Group, grids: tuple[Grid, ...], rows: Rows, collocate_start: bool
) -> Pointwise:
    """The algebraic equations at nodes that are not collocated: starts, ends without a node."""
    nodes, times, first_rows = [], [], []
    for position in group.members:
        grid, first = grids[position], layout.first_nodes[position]
        at, row = [], []
        if not collocate_start:
            at.append(np.zeros(1, int))
            row.append(np.array([rows.start[position]]))
        if not grid.scheme.includes_end:
            at.append(grid.interval_ends)
            gap = rows.continuity[position] + layout.num_differential
            row.append(gap + layout.num_states * np.arange(grid.num_intervals))
        own = np.concatenate(at)
        nodes.append(own + first)
        times.append(grid.times[own])
        first_rows.append(np.concatenate(row))
    points = Points.at(padded(times, None), group.args, group.unknowns, None)
    function = AlgebraicEquations(layout.model, layout.num_differential)
    return Pointwise(
        blocks=Blocks.detect(function, points, layout.num_states, layout.num_weights),
        points=points,
        nodes=padded(nodes, None).astype(np.int32),
        rows=padded(first_rows, -1.0).astype(np.int32),
    )
