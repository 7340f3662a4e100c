"""Trajectories that are evaluated together: which they are, and how their arrays become one.

Arrays of several trajectories are stacked with the axis `traj` first, shorter ones filled up to the
longest. Lengths within a factor of two go together, so that the number of groups, and with it the
time to compile, grows at most with the logarithm of the lengths' spread.
"""

import dataclasses
from collections.abc import Hashable, Sequence
from typing import Any

import equinox as eqx
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Bool, Float, Int

from .._args import Slot, as_arrays, signature, stack
from .._data import Trajectory
from .._grid import Grid
from .._precision import AnyArray, is_array
from .._steady import SharedUnknown
from .layout import Layout


# A scheme of at most so many nodes has one term for all observations, on nodes or between them.
_FEW_NODES = 8


class Group(eqx.Module):
    """Trajectories evaluated together: one scheme, `args` of one shape, similar lengths.

    `args` are those of all its members, stacked; `unknowns[k]` are the positions in the head of
    `z` of the unknowns of its k-th member. `rest` is there where they begin in a steady state.
    """

    members: tuple[int, ...] = eqx.field(static=True)
    args: Any
    unknowns: Int[AnyArray, "traj unknown"]
    rest: "Rest | None" = None

    def select(self, positions: Sequence[int]) -> "Group":
        """Some of its trajectories, by their positions within it."""
        if len(positions) == len(self.members):
            return self
        index = np.array(positions)
        args, rest = jtu.tree_map(
            lambda leaf: leaf[index] if is_array(leaf) else leaf, (self.args, self.rest)
        )
        members = tuple(self.members[position] for position in positions)
        return Group(members, args, self.unknowns[index], rest)


class Rest(eqx.Module):
    """What is stated of the steady states in which a group's trajectories begin.

    `args` are those before the experiment, of all members. The model rests in the components
    `equations`; those in `held` are known, and `invariants` are conserved.
    """

    args: Any
    equations: tuple[int, ...] = eqx.field(static=True)
    held: tuple[int, ...] = eqx.field(static=True)
    invariants: tuple[tuple[float, ...], ...] = eqx.field(static=True)

    @classmethod
    def of(cls, item: Trajectory, args: Any, num_states: int) -> "Rest | None":
        """Of one trajectory with these converted `args`; its own are not stacked yet."""
        steady = item.steady
        if steady is None:
            return None
        if steady.args is not None:
            slots = [leaf for leaf in jtu.tree_leaves(args, is_leaf=_is_slot) if _is_slot(leaf)]
            args = jtu.tree_map(
                lambda leaf: slots[leaf.position] if isinstance(leaf, SharedUnknown) else leaf,
                as_arrays(steady.args),
            )
        rows = () if steady.invariants is None else steady.invariants.tolist()
        return cls(
            args, steady.equations(num_states), steady.held(num_states), tuple(map(tuple, rows))
        )

    @property
    def key(self) -> Hashable:
        """What those that are evaluated together have in common."""
        return signature(self.args), self.equations, self.held, self.invariants


def _is_slot(leaf: Any) -> bool:
    return isinstance(leaf, Slot)


def make_groups(
    layout: Layout, trajectories: tuple[Trajectory, ...], grids: tuple[Grid, ...]
) -> tuple[Group, ...]:
    """All trajectories in groups, in the order in which each group's first member comes."""
    converted = [as_arrays(item.args) for item in trajectories]
    rests = [
        Rest.of(item, args, layout.num_differential)
        for item, args in zip(trajectories, converted, strict=True)
    ]
    keys = [
        (repr(grid.scheme), length_class(grid), signature(args), count, rest and rest.key)
        for grid, args, count, rest in zip(
            grids, converted, layout.unknown_counts, rests, strict=True
        )
    ]
    groups = []
    for members in alike(keys):
        args = stack([converted[k] for k in members])
        unknowns = np.stack([layout.unknowns(k) for k in members]).astype(np.int32)
        rest = rests[members[0]]
        if rest is not None:
            at_rest = stack([rests[k].args for k in members])  # type: ignore[union-attr]
            rest = dataclasses.replace(rest, args=at_rest)
        groups.append(Group(tuple(members), args, unknowns, rest))
    return tuple(groups)


def same_inputs(groups: Sequence[Group], others: Sequence[Group]) -> bool:
    """Whether the groups have the same members, with `args` that differ in numbers only."""
    return list(map(_inputs, groups)) == list(map(_inputs, others))


def _inputs(group: Group) -> Hashable:
    return group.members, signature(group.args), group.rest and group.rest.key


def alike(keys: Sequence[Hashable]) -> list[list[int]]:
    """The positions of equal keys, in the order in which each key comes first."""
    members: dict[Hashable, list[int]] = {}
    for position, key in enumerate(keys):
        members.setdefault(key, []).append(position)
    return list(members.values())


def length_class(grid: Grid) -> int:
    """A number that grids have in common whose numbers of intervals are within a factor of two."""
    return int(np.ceil(np.log2(grid.num_intervals)))


def padded(arrays: Sequence[np.ndarray], fill: float | None = 0.0) -> np.ndarray:
    """Arrays of different lengths as one, shape `(array, longest, ...)`.

    The shorter ones are filled up with `fill`, or with copies of their last entry if it is None.
    """
    longest = max(len(item) for item in arrays)
    rows = []
    for item in arrays:
        pad = [(0, longest - len(item))] + [(0, 0)] * (item.ndim - 1)
        if fill is None:
            rows.append(np.pad(item, pad, mode="edge"))
        else:
            rows.append(np.pad(item, pad, constant_values=fill))
    return np.stack(rows)


def not_padding(lengths: Sequence[int]) -> Bool[np.ndarray, "array longest"]:
    """Which entries of `padded` arrays of these lengths are their own."""
    return np.arange(max(lengths)) < np.array(lengths)[:, None]


class Intervals(eqx.Module):
    """The intervals of a group's trajectories as arrays; padding repeats the last interval.

    `nodes` are positions among the nodes of all trajectories; `real` marks what is neither padding
    nor a jump, an interval without width, which has the width one here.
    """

    nodes: Int[np.ndarray, "traj interval node"]
    times: Float[np.ndarray, "traj interval node"]
    widths: Float[np.ndarray, "traj interval"]
    real: Bool[np.ndarray, "traj interval"]

    @classmethod
    def of(
        cls, layout: Layout, group: Group, grids: tuple[Grid, ...], jumps: bool = True
    ) -> "Intervals":
        """Those of the trajectories in `group`, with or without those of jumps."""
        own = [
            (grids[k], layout.first_nodes[k], slice(None) if jumps else ~grids[k].is_jump)
            for k in group.members
        ]
        nodes = [grid.interval_nodes[at] + first for grid, first, at in own]
        times = [grid.times[grid.interval_nodes[at]] for grid, _, at in own]
        widths = [np.where(grid.is_jump, 1.0, grid.widths)[at] for grid, _, at in own]
        return cls(
            nodes=padded(nodes, None).astype(np.int32),
            times=padded(times, None),
            widths=padded(widths, None),
            real=padded([~grid.is_jump[at] for grid, _, at in own], False).astype(bool),
        )


class Slots(eqx.Module):
    """Observations of one trajectory, those in a slot interpolated from the same nodes.

    `nodes` are nodes of its grid, `basis` the rows that interpolate; `sample` is the position among
    the trajectory's times. Where a slot is not full, and in the one slot of a trajectory without
    observations, an entry is repeated that is not `real`: the model is evaluated there too, and
    must not be at states that never occur.
    """

    nodes: Int[np.ndarray, "slot node"]
    basis: Float[np.ndarray, "slot sample node"]
    sample: Int[np.ndarray, "slot sample"]
    real: Bool[np.ndarray, "slot sample"]


def observation_slots(
    group: Group, trajectories: tuple[Trajectory, ...], grids: tuple[Grid, ...]
) -> list[list[Slots]]:
    """The slots of each member: first of observations on nodes, then of those between them.

    Kinds that no member has are left out. Where a scheme has few nodes and any observation is
    between them, all are taken to be: one term compiles in half the time of two.
    """
    chosen = [grids[k] for k in group.members]
    located = [
        grid.locate(trajectories[k].ts) for grid, k in zip(chosen, group.members, strict=True)
    ]
    use = [trajectories[k].observed for k in group.members]
    hits = [hit for _, _, hit in located]
    off_nodes = any(np.any(there & (hit < 0)) for hit, there in zip(hits, use, strict=True))
    if off_nodes and chosen[0].scheme.num_nodes <= _FEW_NODES:
        hits = [np.full_like(hit, -1) for hit in hits]
    on_nodes = [_on_nodes(hit, there) for hit, there in zip(hits, use, strict=True)]
    samples = [np.flatnonzero(there & (hit < 0)) for hit, there in zip(hits, use, strict=True)]
    rows = [(interval, row) for interval, row, _ in located]
    between = _between_nodes(rows, samples, chosen)
    kinds = (on_nodes, between)
    return [kind for kind in kinds if any(item.real.any() for item in kind)]


def _on_nodes(hit: np.ndarray, use: np.ndarray) -> Slots:
    """One slot for each observation on a node; where there is none, one at the first node."""
    sample = np.flatnonzero(use & (hit >= 0))
    nodes, real = hit[sample], len(sample) > 0
    if not real:
        sample, nodes = np.zeros(1, int), np.zeros(1, int)
    shape = (len(sample), 1)
    return Slots(nodes[:, None], np.ones((*shape, 1)), sample[:, None], np.full(shape, real))


def _between_nodes(
    located: Sequence[tuple[np.ndarray, np.ndarray]],
    samples: Sequence[np.ndarray],
    grids: Sequence[Grid],
) -> list[Slots]:
    """Slots that hold as many observations as an interval has in the mean.

    A crowded interval gets several slots, so that padding wastes at most as much as it saves.
    """
    counts = [
        np.unique(interval[sample], return_counts=True)[1]
        for (interval, _), sample in zip(located, samples, strict=True)
    ]
    occupied = sum(len(count) for count in counts)
    size = int(np.ceil(sum(count.sum() for count in counts) / max(occupied, 1))) or 1
    result = []
    for (interval, rows), own, grid in zip(located, samples, grids, strict=True):
        sample = own if len(own) else np.zeros(1, int)
        order = sample[np.argsort(interval[sample], kind="stable")]
        where = interval[order]
        rank = np.arange(len(order)) - np.searchsorted(where, where)
        each, slot = np.unique(np.stack([where, rank // size]), axis=1, return_inverse=True)
        num_slots = each.shape[1]
        nodes = np.zeros((num_slots, grid.scheme.num_nodes), int)
        nodes[slot] = grid.interval_nodes[where]
        # The first of each slot everywhere, then all where they belong.
        first = rank % size == 0
        of_sample = np.zeros((num_slots, size), int)
        of_sample[slot[first]] = order[first][:, None]
        of_sample[slot, rank % size] = order
        real = np.zeros((num_slots, size), bool)
        real[slot, rank % size] = len(own) > 0
        result.append(Slots(nodes, rows[of_sample], of_sample, real))
    return result
