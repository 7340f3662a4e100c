"""Layout: the only place that knows the order of the variables.

    z = [ weights (P) | unknowns of each trajectory | trajectory 0: node 0 states, ... | ... ]

The weights are the trained leaves of the model, flattened in PyTree order; an unknown is a
constant of one trajectory (`jc.Unknown`). Both together are the head of `z`. Behind the state's
components a node has its algebraic variables, if the model is a `jc.DAE`: both together are what
a `state` is here.
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
    """The order of the variables: model, unknowns and states to `z` and back.

    The last `num_algebraic` of a node's `num_states` variables are algebraic ones.
    """

    model: Weighted
    num_states: int = eqx.field(static=True)
    unknown_counts: tuple[int, ...] = eqx.field(static=True)
    node_counts: tuple[int, ...] = eqx.field(static=True)
    num_algebraic: int = eqx.field(static=True, default=0)

    @property
    def num_differential(self) -> int:
        """The number of components that have a derivative, those of the model's own state."""
        return self.num_states - self.num_algebraic

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
        """The positions in `z` of each trajectory's initial state, without algebraic variables."""
        return self.first_columns[:, : self.num_differential]

    @property
    def first_columns(self) -> Int[np.ndarray, "traj state"]:
        """The positions in `z` of all variables of each trajectory's first node."""
        return np.asarray(self.columns(self.first_nodes)[:, None] + np.arange(self.num_states))

    @property
    def inner(self) -> Bool[np.ndarray, " variable"]:
        """Which variables are states, but not initial ones."""
        inner = np.arange(self.num_variables) >= self.num_head
        inner[self.first_columns] = False
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
        """The states of all trajectories in one array, once their shapes are checked.

        With or without algebraic variables.
        """
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
            if shape not in ((count, self.num_differential), (count, self.num_states)):
                raise ValueError(
                    f"`states[{position}]` must have shape (node, state) = "
                    f"({count}, {self.num_differential}); got {shape}."
                )
            if shape[1] != arrays[0].shape[1]:
                raise ValueError(
                    "`states` must have as many columns in every trajectory; got "
                    f"{arrays[0].shape[1]} and {shape[1]}."
                )
        flat = np.concatenate(arrays)
        if not np.all(np.isfinite(flat)):
            raise ValueError("`states` must be finite; got NaN or infinity.")
        return flat


class Rows:
    """Where each trajectory's equations stand among the constraints.

    First those of its start (the algebraic ones; all with `collocate_start`), then the defects,
    interval by interval and node by node, then the continuity equations; `count` of them in all
    trajectories. Those of a jump stand in the place of defects: they are equations between states.
    A node's algebraic equations stand behind its others, and in the place of the continuity of
    algebraic variables.
    """

    def __init__(
        self,
        grids: tuple[Grid, ...],
        num_states: int,
        collocate_start: bool,
        num_algebraic: int = 0,
    ):
        d = num_states
        at_start = d if collocate_start else num_algebraic
        self.start, self.defects, self.continuity = [], [], []
        self.gaps = []
        self._jumps: list[np.ndarray] = []
        row = 0
        for grid in grids:
            inside = grid.num_intervals * (grid.scheme.num_nodes - 1)
            self._jumps.append(np.repeat(grid.is_jump, grid.scheme.num_nodes - 1))
            self.gaps.append(0 if grid.scheme.includes_end else grid.num_intervals)
            self.start.append(row)
            self.defects.append(row + at_start)
            self.continuity.append(self.defects[-1] + d * inside)
            row = self.continuity[-1] + d * self.gaps[-1]
        self.count = row
        self._num_states, self._at_start = d, at_start

    def slices(self, trajectory: int) -> tuple[slice, slice, slice]:
        """The rows of one trajectory's start, defects and continuity."""
        start, defects = self.start[trajectory], self.defects[trajectory]
        continuity = self.continuity[trajectory]
        end = continuity + self._num_states * self.gaps[trajectory]
        return slice(start, defects), slice(defects, continuity), slice(continuity, end)

    def factors(
        self,
        scale: Float[np.ndarray, " differential"],
        time: float,
        algebraic: Float[np.ndarray, " algebraic"],
    ) -> Float[np.ndarray, " equation"]:
        """What the rows are multiplied by: defects have the unit of state per time.

        `algebraic` are the units of the algebraic equations.
        """
        defect, gap = (np.append(part, 1 / algebraic) for part in (time / scale, 1 / scale))
        parts = [np.zeros(0)]
        for at_jump, gaps in zip(self._jumps, self.gaps, strict=True):
            # Behind one another, those of the start are a node's last ones.
            start = defect[len(defect) - self._at_start :]
            inside = np.where(at_jump[:, None], gap, defect)
            parts += [start, np.ravel(inside), np.tile(gap, gaps)]
        return np.concatenate(parts)
