"""Grid: the intervals of one trajectory and the nodes inside them."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Float, Int

from ._check import describe, finite, float_array, integer
from ._data import Trajectory
from ._names import which
from ._scheme import AbstractScheme


class Grid(eqx.Module):
    """Interval boundaries plus a scheme.

    Neighbouring intervals share the node on their common boundary. Where a scheme does not
    contain its interval's end (Gauss-Legendre), the end of the last interval is an extra
    node, and a continuity equation per interval ties its interpolant to the next boundary.

    **Arguments:**

    - `boundaries`: shape `(interval + 1,)`, strictly increasing, in the unit of time.
    - `scheme`: for instance `jc.Radau(3)`; the same in every interval.
    """

    boundaries: Float[np.ndarray, " boundary"]
    scheme: AbstractScheme

    def __init__(self, boundaries: Any, scheme: AbstractScheme):
        edges = float_array("boundaries", boundaries, 1, "(interval + 1,)")
        if len(edges) < 2 or not np.all(np.isfinite(edges)) or np.any(np.diff(edges) <= 0):
            raise ValueError(
                "`boundaries` must hold at least two finite, strictly increasing times; "
                f"got {edges if len(edges) <= 8 else edges[:8]}."
            )
        if not isinstance(scheme, AbstractScheme):
            raise ValueError(
                "`scheme` must be a Chebyshev, GaussLegendre, Radau or Lobatto object; "
                f"got {describe(scheme)}."
            )
        self.boundaries = edges
        self.scheme = scheme

    @classmethod
    def single(cls, t0: float, t1: float, scheme: AbstractScheme) -> "Grid":
        """One interval from `t0` to `t1`: global collocation, as in the paper."""
        return cls(_span(t0, t1), scheme)

    @classmethod
    def uniform(cls, t0: float, t1: float, intervals: int, scheme: AbstractScheme) -> "Grid":
        """`intervals` intervals of equal width from `t0` to `t1`."""
        intervals = integer("intervals", intervals, 1)
        return cls(np.linspace(*_span(t0, t1), intervals + 1), scheme)

    @classmethod
    def aligned(cls, ts: Any, scheme: AbstractScheme, every: int = 1) -> "Grid":
        """Boundaries at every `every`-th of the times `ts` and at the last, as jumps of inputs.

        `ts` has shape `(time,)` and may hold repeated times.
        """
        every = integer("every", every, 1)
        times = np.unique(float_array("ts", ts, 1, "(time,)"))
        if len(times) < 2 or not np.all(np.isfinite(times)):
            raise ValueError(
                f"`ts` must hold at least two different times, all finite; got {describe(ts)}."
            )
        edges = times[::every]
        return cls(edges if edges[-1] == times[-1] else np.append(edges, times[-1]), scheme)

    @property
    def num_intervals(self) -> int:
        """The number of intervals."""
        return len(self.boundaries) - 1

    @property
    def num_nodes(self) -> int:
        """The number of nodes, those on boundaries counted once."""
        return self.num_intervals * self.stride + 1

    @property
    def stride(self) -> int:
        """The number of nodes from one boundary to the next."""
        return self.scheme.num_nodes - int(self.scheme.includes_end)

    @property
    def widths(self) -> Float[np.ndarray, " interval"]:
        """The intervals' widths."""
        return np.diff(self.boundaries)

    @property
    def interval_nodes(self) -> Int[np.ndarray, "interval node"]:
        """Which nodes of the grid are the interpolation nodes of each interval."""
        start = np.arange(self.num_intervals)[:, None] * self.stride
        return start + np.arange(self.scheme.num_nodes)

    @property
    def interval_ends(self) -> Int[np.ndarray, " interval"]:
        """Which node of the grid is the end of each interval."""
        return (np.arange(self.num_intervals) + 1) * self.stride

    @property
    def times(self) -> Float[np.ndarray, " node"]:
        """The nodes' times."""
        times = np.empty(self.num_nodes)
        inner = self.boundaries[:-1, None] + self.widths[:, None] * self.scheme.nodes
        times[self.interval_nodes] = inner
        times[:: self.stride] = self.boundaries
        return times

    def covers(self, ts: Float[np.ndarray, " time"]) -> bool:
        """Whether all times lie on the grid, up to rounding."""
        slack = 1e-9 * (self.boundaries[-1] - self.boundaries[0])
        first, last = self.boundaries[0] - slack, self.boundaries[-1] + slack
        return bool(np.all((ts >= first) & (ts <= last)))

    def begins_at(self, t0: float) -> bool:
        """Whether `t0` is the first boundary, up to rounding."""
        first, last = self.boundaries[[0, -1]]
        return bool(abs(t0 - first) <= 1e-9 * (last - first))

    def locate(
        self, ts: Float[np.ndarray, " time"]
    ) -> tuple[Int[np.ndarray, " time"], Float[np.ndarray, "time node"], Int[np.ndarray, " time"]]:
        """Where the times lie: their interval, the rows that interpolate, the node they hit.

        With `interval, rows, hit = grid.locate(ts)` the interpolant at `ts[i]` is
        `rows[i] @ states[grid.interval_nodes[interval[i]]]`. `hit[i]` is the node of the grid
        that `ts[i]` falls on up to rounding, or -1.
        """
        ts = np.asarray(ts, dtype=np.float64)
        interval = np.searchsorted(self.boundaries, ts, side="right") - 1
        interval = np.clip(interval, 0, self.num_intervals - 1)
        width = self.widths[interval]
        position = np.clip((ts - self.boundaries[interval]) / width, 0.0, 1.0)
        times = self.times
        right = np.clip(np.searchsorted(times, ts), 1, self.num_nodes - 1)
        nearest = np.where(ts - times[right - 1] < times[right] - ts, right - 1, right)
        tolerance = 1e-12 * width + 4 * np.finfo(np.float64).eps * np.abs(ts)
        hit = np.where(np.abs(ts - times[nearest]) <= tolerance, nearest, -1)
        return interval, self.scheme.interpolation(position), hit

    def interpolate(
        self, states: Float[np.ndarray, "node state"], ts: Float[np.ndarray, " time"]
    ) -> Float[np.ndarray, "time state"]:
        """The collocation polynomials through `states` at the times `ts`."""
        interval, rows, hit = self.locate(ts)
        values = np.einsum("tn,tns->ts", rows, states[self.interval_nodes[interval]])
        on_node = hit >= 0
        values[on_node] = states[hit[on_node]]
        return values

    def slope(
        self, states: Float[np.ndarray, "node state"], ts: Float[np.ndarray, " time"]
    ) -> Float[np.ndarray, "time state"]:
        """The time derivatives of the collocation polynomials at the times `ts`."""
        interval, rows, _ = self.locate(ts)
        at_nodes = np.einsum(
            "ij,ejs->eis", self.scheme.differentiation, states[self.interval_nodes]
        )
        at_nodes /= self.widths[:, None, None]
        return np.einsum("tn,tns->ts", rows, at_nodes[interval])

    def __repr__(self) -> str:
        first, last = self.boundaries[0], self.boundaries[-1]
        noun = "interval" if self.num_intervals == 1 else "intervals"
        return (
            f"Grid({self.num_intervals} {noun} on [{first:g}, {last:g}], {self.scheme!r}, "
            f"{self.num_nodes} nodes)"
        )


def _span(t0: Any, t1: Any) -> tuple[float, float]:
    """The start and the end of a grid as floats."""
    first, last = finite("t0", t0), finite("t1", t1)
    if first >= last or not np.isfinite(last - first):
        raise ValueError(f"`t0` must be below `t1`; got {first:g} and {last:g}.")
    return first, last


Grids = Grid | Sequence[Grid]


def as_grids(grid: Any, trajectories: tuple[Trajectory, ...]) -> tuple[Grid, ...]:
    """One grid for each trajectory, once it is checked that they cover the data.

    The grid of a trajectory with a `t0` must begin at it, others at or before the first sample.
    """
    if isinstance(grid, Grid):
        grids: tuple[Any, ...] = (grid,) * len(trajectories)
    else:
        grids = tuple(grid) if isinstance(grid, (list, tuple)) else ()
    if len(grids) != len(trajectories) or not all(isinstance(item, Grid) for item in grids):
        raise ValueError(
            f"`grid` must be a Grid or a list of {len(trajectories)} of them, one per trajectory; "
            f"got {describe(grid)}."
        )
    for position, (item, where) in enumerate(zip(trajectories, grids, strict=True)):
        if not where.covers(item.ts):
            raise ValueError(
                f"`grid` must cover the observation times; {which(item, position)} spans "
                f"[{item.ts[0]:g}, {item.ts[-1]:g}], its grid "
                f"[{where.boundaries[0]:g}, {where.boundaries[-1]:g}]."
            )
        if item.t0 is not None and not where.begins_at(item.t0):
            raise ValueError(
                f"`grid` must begin where its trajectory does; {which(item, position)} has "
                f"`t0` = {item.t0:g}, its grid begins at {where.boundaries[0]:g}."
            )
    return grids
