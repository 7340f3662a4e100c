"""The model's equations as terms: defects of every trajectory, jumps and continuity."""

from typing import Any

import numpy as np
from jaxtyping import Float, Int

from .._data import Trajectory
from .._grid import Grid
from .blocks import Blocks, Points
from .groups import Group, Intervals
from .jump_terms import jump_terms
from .layout import Layout, Rows
from .point_functions import VectorField
from .terms import Continuity, Defects, Pointwise


def equations(
    field: VectorField,
    layout: Layout,
    groups: tuple[Group, ...],
    trajectories: tuple[Trajectory, ...],
    grids: tuple[Grid, ...],
    scale: Float[np.ndarray, " state"],
    time: float,
    collocate_start: bool,
    model: Any,
) -> tuple[tuple[Defects | Continuity, ...], Float[np.ndarray, " equation"]]:
    """The terms, and the factor of each of their rows; trajectories stand in their order."""
    rows = Rows(grids, layout.num_states, collocate_start)
    if collocate_start and any(grid.is_jump[0] for grid in grids):
        raise ValueError(
            "`collocate_start` must be False where a trajectory begins with a jump: its first "
            "state is the one before."
        )
    terms: list[Defects | Continuity] = []
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
            terms.append(Defects(start, nodes[:, :1], widths[:, :1], matrix))
        inside = nodes[:, :, 1:].reshape(len(nodes), -1)
        equation = _defect_rows(
            group, intervals.real, scheme.num_nodes - 1, layout.num_states, rows.defects
        )
        collocated = Pointwise(blocks, points, inside, equation)
        terms.append(Defects(collocated, nodes, widths, scheme.differentiation[1:]))
        terms += jump_terms(layout, group, trajectories, grids, rows, field.model, model)
        if not scheme.includes_end:
            terms.append(_continuity(layout, group, grids, rows.continuity))
    return tuple(terms), rows.factors(scale, time)


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
        num_states=layout.num_states,
    )
