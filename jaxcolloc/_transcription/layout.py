"""Layout: the only place that knows the order of the variables.

    z = [ weights (P) | unknowns of each trajectory | trajectory 0: node 0 states, ... | ... ]

The weights are the trained leaves of the model, flattened in PyTree order; an unknown is a
constant of one trajectory (`jc.Unknown`). Both together are the head of `z`.
"""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from .._check import describe, real_numbers
from .._grid import Grid
from .parameters import Weighted


Head = Float[Array, " head"]


class Layout(eqx.Module):
    """The order of the variables: model, unknowns and states to `z` and back."""

    model: Weighted
    num_states: int = eqx.field(static=True)
    unknown_counts: tuple[int, ...] = eqx.field(static=True)
    node_counts: tuple[int, ...] = eqx.field(static=True)

    @property
    def num_weights(self) -> int:
        """The number of weights."""
        return self.model.size

    @property
    def num_head(self) -> int:
        """The number of weights and unknowns."""
        return self.num_weights + sum(self.unknown_counts)

    @property
    def num_nodes(self) -> int:
        """The number of nodes of all trajectories."""
        return sum(self.node_counts)

    @property
    def num_variables(self) -> int:
        """The length of `z`."""
        return self.num_head + self.num_nodes * self.num_states

    @property
    def first_nodes(self) -> Int[np.ndarray, " traj"]:
        """The position of each trajectory's first node among all nodes."""
        return np.cumsum((0, *self.node_counts))[:-1]

    @property
    def last_nodes(self) -> Int[np.ndarray, " traj"]:
        """The position of each trajectory's last node among all nodes."""
        return np.cumsum(self.node_counts) - 1

    @property
    def start_columns(self) -> Int[np.ndarray, "traj state"]:
        """The positions in `z` of each trajectory's initial state."""
        return np.asarray(self.columns(self.first_nodes)[:, None] + np.arange(self.num_states))

    @property
    def inner(self) -> Bool[np.ndarray, " variable"]:
        """Which variables are states, but not initial ones."""
        inner = np.arange(self.num_variables) >= self.num_head
        inner[self.start_columns] = False
        return inner

    def nodes_at(self, place: str, trajectory: int) -> Int[np.ndarray, " node"]:
        """The positions among all nodes of one trajectory's "nodes", its "start" or its "end"."""
        first, last = self.first_nodes[trajectory], self.last_nodes[trajectory]
        ends = {"nodes": (first, last), "start": (first, first), "end": (last, last)}
        return np.arange(ends[place][0], ends[place][1] + 1)

    def unknowns(self, trajectory: int) -> Int[np.ndarray, " unknown"]:
        """The positions in `z` of the unknowns of one trajectory."""
        first = self.num_weights + sum(self.unknown_counts[:trajectory])
        return first + np.arange(self.unknown_counts[trajectory])

    def weights(self, z: Any) -> Any:
        """The weights in `z`."""
        return z[: self.num_weights]

    def head(self, z: Any) -> Any:
        """The weights and unknowns in `z`."""
        return z[: self.num_head]

    def columns(self, nodes: ArrayLike) -> Any:
        """The position in `z` of the first state component at the given nodes."""
        return self.num_head + np.asarray(nodes) * self.num_states

    def join(
        self, head: Float[np.ndarray, " head"], states: Float[np.ndarray, "node state"]
    ) -> Float[np.ndarray, " variable"]:
        """`z` from its two parts."""
        return np.concatenate([head, states.ravel()])

    def split(self, z: ArrayLike) -> list[np.ndarray]:
        """The states in `z` as one array of shape `(node, state)` per trajectory."""
        flat = np.asarray(z)[self.num_head :].reshape(self.num_nodes, self.num_states)
        return np.split(flat, self.first_nodes[1:])

    def check_states(self, states: Sequence[ArrayLike]) -> np.ndarray:
        """The states of all trajectories in one array, once their shapes are checked."""
        if not isinstance(states, (list, tuple)) or len(states) != len(self.node_counts):
            raise ValueError(
                f"`states` must be a list of {len(self.node_counts)} arrays, one per trajectory; "
                f"got {describe(states)}."
            )
        arrays = []
        for position, (item, count) in enumerate(zip(states, self.node_counts, strict=True)):
            array = real_numbers(f"states[{position}]", item, "an array of real numbers")
            arrays.append(array)
            shape = array.shape
            if shape != (count, self.num_states):
                raise ValueError(
                    f"`states[{position}]` must have shape (node, state) = "
                    f"({count}, {self.num_states}); got {shape}."
                )
        flat = np.concatenate(arrays)
        if not np.all(np.isfinite(flat)):
            raise ValueError("`states` must be finite; got NaN or infinity.")
        return flat


class Rows:
    """Where each trajectory's equations stand among the constraints.

    First those of its start (with `collocate_start`), then the defects, interval by interval and
    node by node, then the continuity equations; `count` of them in all trajectories. Those of a
    jump stand in the place of defects: they are equations between states.
    """

    def __init__(self, grids: tuple[Grid, ...], num_states: int, collocate_start: bool):
        d = num_states
        self.start, self.defects, self.continuity = [], [], []
        self.collocated, self.gaps = [], []
        self._jumps: list[np.ndarray] = []
        row = 0
        for grid in grids:
            inside = grid.num_intervals * (grid.scheme.num_nodes - 1)
            self.collocated.append(inside + int(collocate_start))
            at_jump = np.repeat(grid.is_jump, grid.scheme.num_nodes - 1)
            self._jumps.append(np.append(np.zeros(int(collocate_start), bool), at_jump))
            self.gaps.append(0 if grid.scheme.includes_end else grid.num_intervals)
            self.start.append(row)
            self.defects.append(row + d * int(collocate_start))
            self.continuity.append(row + d * self.collocated[-1])
            row += d * (self.collocated[-1] + self.gaps[-1])
        self.count = row
        self._num_states = d

    def slices(self, trajectory: int) -> tuple[slice, slice, slice]:
        """The rows of one trajectory's start, defects and continuity."""
        start, defects = self.start[trajectory], self.defects[trajectory]
        continuity = self.continuity[trajectory]
        end = continuity + self._num_states * self.gaps[trajectory]
        return slice(start, defects), slice(defects, continuity), slice(continuity, end)

    def factors(
        self, scale: Float[np.ndarray, " state"], time: float
    ) -> Float[np.ndarray, " equation"]:
        """What the rows are multiplied by: defects have the unit of state per time."""
        parts = [np.zeros(0)]
        for at_jump, gaps in zip(self._jumps, self.gaps, strict=True):
            unit = np.where(at_jump, 1.0, time)[:, None]
            parts += [np.ravel(unit / scale), np.tile(1 / scale, gaps)]
        return np.concatenate(parts)
