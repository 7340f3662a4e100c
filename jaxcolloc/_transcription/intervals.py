"""The intervals of a group's trajectories as arrays, shorter trajectories padded."""

import equinox as eqx
import numpy as np
from jaxtyping import Bool, Float, Int

from .._grid import Grid
from .._nlp import Group
from .layout import Layout


class Intervals(eqx.Module):
    """Nodes (among those of all trajectories), times, widths; `real` marks what is no padding."""

    nodes: Int[np.ndarray, "traj interval node"]
    times: Float[np.ndarray, "traj interval node"]
    widths: Float[np.ndarray, "traj interval"]
    real: Bool[np.ndarray, "traj interval"]

    @classmethod
    def of(cls, layout: Layout, group: Group, grids: tuple[Grid, ...]) -> "Intervals":
        """Those of the trajectories in `group`; padding repeats the last interval."""
        longest = max(grids[position].num_intervals for position in group.members)
        nodes, times, widths, real = [], [], [], []
        for position in group.members:
            grid = grids[position]
            pad = (0, longest - grid.num_intervals)
            inside = np.pad(grid.interval_nodes, [pad, (0, 0)], mode="edge")
            nodes.append(inside + layout.first_nodes[position])
            times.append(grid.times[inside])
            widths.append(np.pad(grid.widths, pad, mode="edge"))
            real.append(np.arange(longest) < grid.num_intervals)
        return cls(
            np.stack(nodes).astype(np.int32), np.stack(times), np.stack(widths), np.stack(real)
        )
