"""Grid: the intervals of one trajectory and the nodes inside them."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Bool, Float, Int

from ._check import describe, finite, float_array, integer
from ._data import Trajectory
from ._names import which
from ._scheme import AbstractScheme


class Grid(eqx.Module):
    """Interval boundaries plus a scheme.

    Neighbouring intervals share the node on their common boundary. Where a scheme does not
    contain its interval's end (Gauss-Legendre), the end of the last interval is an extra
    node, and a continuity equation per interval ties its interpolant to the next boundary.

    A jump of the state (`jc.Jump`) is an interval without width: the boundary at its time stands
    there twice. Its first node has the state before the jump, the others the state after it. Give
    a grid without: `jc.transcribe` puts a boundary at each jump, and doubles it.

    **Arguments:**

    - `boundaries`: shape `(interval + 1,)`, increasing, in the unit of time.
    - `scheme`: for instance `jc.Radau(3)`; the same in every interval.
    """

    boundaries: Float[np.ndarray, " boundary"]
    scheme: AbstractScheme

    def __init__(self, boundaries: Any, scheme: AbstractScheme):
        edges = float_array("boundaries", boundaries, 1, "(interval + 1,)")
        sound = len(edges) > 1 and np.all(np.isfinite(edges)) and edges[0] < edges[-1]
        if not sound or np.any(np.diff(edges) < 0):
            raise ValueError(
                "`boundaries` must hold at least two different times, all finite and increasing; "
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
    def is_jump(self) -> Bool[np.ndarray, " interval"]:
        """Which intervals have no width: those of jumps."""
        return self.widths == 0

    @property
    def jump_times(self) -> Float[np.ndarray, " jump"]:
        """The times of the jumps, each as often as there are some at it."""
        return self.boundaries[:-1][self.is_jump]

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

    @property
    def sides(self) -> Float[np.ndarray, " node"]:
        """The nodes' times, those behind a jump the next number later than it."""
        times = self.times
        behind = self._behind_jumps
        times[behind] = np.nextafter(times[behind], np.inf)
        return times

    @property
    def _behind_jumps(self) -> Int[np.ndarray, "jump node"]:
        """The nodes of each jump that have the state after it."""
        first = self.interval_nodes[self.is_jump, :1]
        return first + 1 + np.arange(self.stride)

    def after_jumps(
        self, states: Float[np.ndarray, "node state"]
    ) -> Float[np.ndarray, "jump state"]:
        """The states after the jumps."""
        return np.asarray(states[self.interval_nodes[self.is_jump, 1]])

    def with_jumps(
        self, states: Float[np.ndarray, "node state"], after: Float[np.ndarray, "jump state"]
    ) -> Float[np.ndarray, "node state"]:
        """States at the nodes with those after the first jumps, one by one, replaced."""
        states = np.array(states)
        for nodes, value in zip(self._behind_jumps, after, strict=False):
            states[nodes] = value
        return states

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
        that `ts[i]` falls on up to rounding, or -1. At a jump it is the state before.
        """
        ts, at_jump = self._snapped(np.asarray(ts, dtype=np.float64))
        interval = np.searchsorted(self.boundaries, ts, side="right") - 1
        interval = np.where(at_jump, np.searchsorted(self.boundaries, ts) - 1, interval)
        interval = np.clip(interval, 0, self.num_intervals - 1)
        width = self.widths[interval]
        width = np.where(width > 0, width, 1.0)
        position = np.clip((ts - self.boundaries[interval]) / width, 0.0, 1.0)
        times = self.times
        right = np.clip(np.searchsorted(times, ts), 1, self.num_nodes - 1)
        nearest = np.where(ts - times[right - 1] < times[right] - ts, right - 1, right)
        # Of those at the time of a jump the first, unless the time is later.
        nearest = np.where(at_jump, np.searchsorted(times, ts), nearest)
        tolerance = 1e-12 * width + 4 * np.finfo(np.float64).eps * np.abs(ts)
        hit = np.where(np.abs(ts - times[nearest]) <= tolerance, nearest, -1)
        return interval, self.scheme.interpolation(position), hit

    def _snapped(
        self, ts: Float[np.ndarray, " time"]
    ) -> tuple[Float[np.ndarray, " time"], Bool[np.ndarray, " time"]]:
        """The times, those at a jump up to rounding moved to it, and which these are."""
        jumps = self.jump_times
        if len(jumps) == 0:
            return ts, np.zeros(ts.shape, bool)
        right = np.clip(np.searchsorted(jumps, ts), 1, max(len(jumps) - 1, 1))
        choices = jumps[np.minimum([right - 1, right], len(jumps) - 1)]
        nearest = np.where(
            np.abs(ts - choices[0]) <= np.abs(ts - choices[1]), choices[0], choices[1]
        )
        span = self.boundaries[-1] - self.boundaries[0]
        slack = 1e-12 * span + 4 * np.finfo(np.float64).eps * np.abs(ts)
        at_jump = np.abs(ts - nearest) <= slack
        return np.where(at_jump, nearest, ts), at_jump

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
        at_nodes /= np.where(self.is_jump, 1.0, self.widths)[:, None, None]
        # At a jump that begins the trajectory, the slope is that after it.
        first = int(np.argmin(self.is_jump))
        early = interval < first
        interval = np.maximum(interval, first)
        rows = np.where(early[:, None], self.scheme.interpolation(np.zeros(1)), rows)
        return np.einsum("tn,tns->ts", rows, at_nodes[interval])

    def __repr__(self) -> str:
        first, last = self.boundaries[0], self.boundaries[-1]
        jumps = int(self.is_jump.sum())
        intervals = self.num_intervals - jumps
        noun = "interval" if intervals == 1 else "intervals"
        more = f" and {jumps} jump{'s' if jumps > 1 else ''}" if jumps else ""
        return (
            f"Grid({intervals} {noun}{more} on [{first:g}, {last:g}], {self.scheme!r}, "
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

    The grid of a trajectory with a `t0` must begin at it, others at or before the first sample and
    jump. Jumps that a grid does not have yet are put into it.
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
    return tuple(
        _with_jumps(where, item, position)
        for position, (item, where) in enumerate(zip(trajectories, grids, strict=True))
    )


def divided(
    edges: Float[np.ndarray, " boundary"], parts: Int[np.ndarray, " interval"]
) -> Float[np.ndarray, " finer_boundary"]:
    """Boundaries with each interval in so many equal parts."""
    pieces = [
        np.linspace(first, last, count, endpoint=False)
        for first, last, count in zip(edges[:-1], edges[1:], parts, strict=True)
    ]
    return np.append(np.concatenate(pieces), edges[-1])


def doubled(
    edges: Float[np.ndarray, " boundary"], jumps: Float[np.ndarray, " jump"]
) -> Float[np.ndarray, " doubled"]:
    """Boundaries at `edges` and at jumps, those once more for each jump."""
    return np.sort(np.concatenate([np.union1d(edges, jumps), jumps]))


def moved(
    before: Grid, states: Float[np.ndarray, "node state"], after: Grid
) -> Float[np.ndarray, "new_node state"]:
    """States at the nodes of another grid, with the states after its first jumps as they were."""
    return after.with_jumps(before.interpolate(states, after.times), before.after_jumps(states))


def _with_jumps(grid: Grid, item: Trajectory, position: int) -> Grid:
    """The grid with an interval without width for each of the trajectory's jumps on it."""
    first, last = grid.boundaries[[0, -1]]
    slack = 1e-9 * (last - first)
    jumps = np.array([jump.t for jump in item.jumps])
    if len(jumps) and jumps[0] < first - slack:
        raise ValueError(
            f"`grid` must begin at or before the first jump; trajectory {position} has one at "
            f"{jumps[0]:g}, its grid begins at {first:g}."
        )
    own, jumps = grid.jump_times, jumps[jumps <= last + slack]
    if any(jump.has_unknown for jump in item.jumps[len(jumps) :]):
        raise ValueError(
            f"`grid` must reach jumps whose amounts are jc.Unknown; that of trajectory {position} "
            f"ends at {last:g}."
        )
    if len(own) == len(jumps) and np.all(np.abs(own - jumps) <= slack):
        return grid
    if len(own):
        raise ValueError(
            f"`grid` must hold a boundary twice only where its trajectory jumps; that of "
            f"trajectory {position} does so at {own.tolist()}, its jumps are at {jumps.tolist()}. "
            "Data with jumps at other times need a problem of their own, by jc.transcribe."
        )
    # Times that differ by rounding are one.
    jumps = np.clip(jumps, first, last)
    again = np.append(False, np.diff(jumps) <= slack)
    jumps = jumps[~again][np.cumsum(~again) - 1]
    edges = grid.boundaries.copy()
    at = np.searchsorted((edges[1:] + edges[:-1]) / 2, jumps)
    near = np.abs(edges[at] - jumps) <= slack
    edges[at[near]] = jumps[near]
    return Grid(doubled(edges, jumps), grid.scheme)
