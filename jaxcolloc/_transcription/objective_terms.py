"""What is minimised: losses of the observations, and the residual between the nodes."""

import dataclasses

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from .._data import Trajectory
from .._grid import Grid
from .._loss import Observed, PointLoss, PointResidual, VectorField
from .._nlp import Group
from .._scheme import GaussLegendre
from .blocks import Blocks, Points
from .intervals import Intervals
from .layout import Layout
from .terms import Penalty


_FEW_NODES = 8


class _Slots(eqx.Module):
    """The observations of one trajectory, grouped by the nodes they interpolate from."""

    nodes: np.ndarray
    basis: np.ndarray
    sample: np.ndarray


def data_losses(
    function: PointLoss,
    layout: Layout,
    groups: list[Group],
    trajectories: tuple[Trajectory, ...],
    grids: tuple[Grid, ...],
) -> tuple[Penalty, ...]:
    """The loss terms: for each group, the observations on nodes and those between them."""
    num_times = sum(int(item.observed.sum()) for item in trajectories)
    losses: list[Penalty] = []
    for group in groups:
        located = [grids[k].locate(trajectories[k].ts) for k in group.members]
        seen = [trajectories[k].observed for k in group.members]
        few_nodes = grids[group.members[0]].scheme.num_nodes <= _FEW_NODES
        if few_nodes and any(
            np.any(use & (hit < 0)) for (_, _, hit), use in zip(located, seen, strict=True)
        ):
            # One term for all observations compiles in half the time of two.
            located = [(interval, rows, np.full_like(hit, -1)) for interval, rows, hit in located]
        on_node = [_node_slots(hit, use) for (_, _, hit), use in zip(located, seen, strict=True)]
        between = _interval_slots(located, seen, [grids[k] for k in group.members])
        losses += [
            _data_loss(function, layout, group, trajectories, slots, num_times)
            for slots in (on_node, between)
            if any(len(item.nodes) for item in slots)
        ]
    return tuple(losses)


def _node_slots(hit: np.ndarray, use: np.ndarray) -> _Slots:
    sample = np.flatnonzero(use & (hit >= 0))
    return _Slots(hit[sample][:, None], np.ones((len(sample), 1, 1)), sample[:, None])


def _interval_slots(
    located: list[tuple[np.ndarray, np.ndarray, np.ndarray]],
    seen: list[np.ndarray],
    grids: list[Grid],
) -> list[_Slots]:
    """Observations between nodes, in slots of the mean number per interval.

    A crowded interval gets several slots, so that padding wastes at most as much as it saves.
    """
    chosen = [
        np.flatnonzero(use & (hit < 0)) for (_, _, hit), use in zip(located, seen, strict=True)
    ]
    counts = [
        np.unique(interval[sample], return_counts=True)[1]
        for (interval, _, _), sample in zip(located, chosen, strict=True)
    ]
    occupied = sum(len(count) for count in counts)
    size = int(np.ceil(sum(count.sum() for count in counts) / max(occupied, 1))) or 1
    result = []
    for (interval, rows, _), sample, grid in zip(located, chosen, grids, strict=True):
        order = sample[np.argsort(interval[sample], kind="stable")]
        where = interval[order]
        rank = np.arange(len(order)) - np.searchsorted(where, where)
        _, slot = np.unique(np.stack([where, rank // size]), axis=1, return_inverse=True)
        num_slots = int(slot.max(initial=-1)) + 1
        nodes = np.zeros((num_slots, grid.scheme.num_nodes), int)
        nodes[slot] = grid.interval_nodes[where]
        basis = np.zeros((num_slots, size, grid.scheme.num_nodes))
        basis[slot, rank % size] = rows[order]
        samples = np.full((num_slots, size), -1)
        samples[slot, rank % size] = order
        result.append(_Slots(nodes, basis, samples))
    return result


def _data_loss(
    function: PointLoss,
    layout: Layout,
    group: Group,
    trajectories: tuple[Trajectory, ...],
    slots: list[_Slots],
    num_times: int,
) -> Penalty:
    most = max(len(item.nodes) for item in slots)
    nodes, basis, times, ys, weights, measured, factor = [], [], [], [], [], [], []
    for position, item in zip(group.members, slots, strict=True):
        trajectory = trajectories[position]
        pad = most - len(item.nodes)
        first = layout.first_nodes[position]
        nodes.append(np.pad(item.nodes + first, [(0, pad), (0, 0)], constant_values=first))
        basis.append(np.pad(item.basis, [(0, pad), (0, 0), (0, 0)]))
        sample = np.pad(item.sample, [(0, pad), (0, 0)], constant_values=-1).ravel()
        real = sample >= 0
        there = trajectory.measured[sample] & real[:, None]
        times.append(trajectory.ts[sample])
        ys.append(np.where(there, trajectory.ys[sample], 0.0))
        weights.append(np.where(there, trajectory.weights[sample], 0.0))
        measured.append(there)
        factor.append(real / num_times)
    data = Observed(
        ys=jnp.asarray(np.stack(ys)),
        weights=jnp.asarray(np.stack(weights)),
        measured=jnp.asarray(np.stack(measured)),
        factor=jnp.asarray(np.stack(factor)),
    )
    points = Points.at(np.stack(times), group.args, group.unknowns, data)
    size = (layout.num_states, layout.num_weights)
    blocks = Blocks.detect(function, points, *size)
    gauss_newton = blocks
    if function.observe is not None:
        gauss_newton = Blocks.detect(_linearised(function), points, *size)
    return Penalty(
        blocks=blocks,
        gauss_newton=gauss_newton,
        points=points,
        nodes=np.stack(nodes).astype(np.int32),
        basis=np.stack(basis)[:, :, :, None],
    )


def residual_penalties(
    field: VectorField,
    layout: Layout,
    groups: list[Group],
    grids: tuple[Grid, ...],
    factor: float,
    scale: np.ndarray,
) -> tuple[Penalty, ...]:
    r"""The integrated squared residual of the model's equation along the interpolants.

    By Gauss-Legendre quadrature with one point more than the residual has zeros, which is where
    the interval's collocation nodes are. `scale` is that of each equation.
    """
    duration = sum(grid.boundaries[-1] - grid.boundaries[0] for grid in grids)
    penalties = []
    for group in groups:
        scheme = grids[group.members[0]].scheme
        rule = GaussLegendre(scheme.num_nodes)
        # The first node of a GaussLegendre scheme is the interval's start, with weight zero.
        positions, quadrature = rule.nodes[1:], rule.quadrature[1:]
        value = scheme.interpolation(positions)
        slope = value @ scheme.differentiation
        intervals = Intervals.of(layout, group, grids)
        widths = intervals.widths[..., None]
        both = np.broadcast_arrays(value, slope / widths[..., None])
        times = intervals.times[:, :, :1] + widths * positions
        weight = factor / duration * intervals.real[..., None] * widths * quadrature
        weight = weight.reshape(len(weight), -1)
        data = (jnp.asarray(weight), jnp.broadcast_to(scale, (*weight.shape, len(scale))))
        points = Points.at(times, group.args, group.unknowns, data)
        size = (2 * layout.num_states, layout.num_weights)
        function = PointResidual(field)
        penalties.append(
            Penalty(
                blocks=Blocks.detect(function, points, *size),
                gauss_newton=Blocks.detect(_linearised(function), points, *size),
                points=points,
                nodes=intervals.nodes,
                basis=np.stack(both, axis=3),
            )
        )
    return tuple(penalties)


def _linearised(function: PointLoss | PointResidual) -> PointLoss | PointResidual:
    return dataclasses.replace(function, linearise=True)
