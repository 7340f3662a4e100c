"""choose_grid: intervals from the sampling and from how fast the smoothed data move."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from ._data import Trajectory
from ._grid import Grid
from ._inputs import held_times
from ._scheme import AbstractScheme, Radau
from ._smooth import Smooth, smooth


Times = Float[np.ndarray, " _"]

# As many nodes as samples, within these numbers of intervals; fewer only if samples are.
_FEWEST, _MOST = 12, 100
# An interval is halved, up to so often, while its polynomial misses the smoothed data by more
# than this share of a channel's spread.
_ACCURACY = 1e-2
_HALVINGS = 4
_CHECKED = np.linspace(0.0, 1.0, 12)


def choose_grids(
    trajectories: Sequence[Trajectory],
    grid: Grid | Sequence[Grid] | None,
    scheme: AbstractScheme | None = None,
) -> Grid | Sequence[Grid]:
    """The grid that was given, or one chosen for each trajectory, of Radau(3) if not told."""
    if grid is None:
        scheme = Radau(3) if scheme is None else scheme
        if not isinstance(scheme, AbstractScheme):
            raise ValueError(f"`scheme` must be a scheme such as jc.Radau(3); got {scheme!r}.")
        return [choose_grid(item, scheme) for item in trajectories]
    if scheme is not None:
        raise ValueError("`scheme` is that of a chosen grid; `grid` has one already.")
    return grid


def choose_grid(trajectory: Trajectory, scheme: AbstractScheme) -> Grid:
    """A grid for one trajectory, from where it begins to its last sample.

    It starts with as many nodes as samples, spread like them, in 12 to 100 intervals, and halves
    those in which the scheme's polynomial does not follow the smoothed data. Boundaries are put
    where inputs jump.
    """
    ts = np.unique(np.append(trajectory.begin, trajectory.ts))
    if len(ts) == 1:
        raise ValueError("`data` must span some time in every trajectory, or `grid` be given.")
    stages = scheme.num_nodes - 1
    wanted = int(np.clip(len(ts) // stages, _FEWEST, _MOST))
    edges = _spread_like(ts, min(wanted, len(ts) - 1))
    edges = _halved(edges, _channels(trajectory), scheme)
    return Grid(at_jumps(edges, input_jumps(trajectory.args)), scheme)


def input_jumps(args: object) -> Times:
    """Where held inputs jump."""
    return np.unique(np.concatenate([*held_times(args), np.zeros(0)]))


def at_jumps(edges: Times, jumps: Times) -> Times:
    """Boundaries that hold the jumps of inputs: all of them, or as many as there are boundaries.

    Jumps that are fewer than the boundaries are added to them; where they are more, each inner
    boundary moves to the nearest jump.
    """
    inside = jumps[(jumps > edges[0]) & (jumps < edges[-1])]
    if len(inside) == 0:
        return edges
    if len(inside) < len(edges):
        # A boundary close to a jump gives way to it.
        least = 0.25 * np.interp(edges[1:-1], (edges[1:] + edges[:-1]) / 2, np.diff(edges))
        far = np.min(np.abs(edges[1:-1, None] - inside), axis=1) > least
        return np.unique(np.concatenate([edges[[0, -1]], edges[1:-1][far], inside]))
    nearest = inside[np.argmin(np.abs(edges[1:-1, None] - inside), axis=1)]
    return np.unique(np.concatenate([edges[[0, -1]], nearest]))


def _spread_like(ts: Times, intervals: int) -> Times:
    """Boundaries at quantiles of the times, mixed with equal ones so that no gap stays wide."""
    share = np.linspace(0.0, 1.0, intervals + 1)
    quantiles = np.interp(share * (len(ts) - 1), np.arange(len(ts)), ts)
    equal = ts[0] + share * (ts[-1] - ts[0])
    edges = (quantiles + equal) / 2
    edges[[0, -1]] = ts[[0, -1]]
    return edges


def _channels(trajectory: Trajectory) -> list[tuple[Smooth, float]]:
    """Each channel smoothed, with its spread."""
    channels = []
    for channel, there in enumerate(trajectory.measured.T):
        ts, ys = trajectory.ts[there], trajectory.ys[there, channel]
        if len(np.unique(ts)) > 3 and np.ptp(ys) > 0:
            channels.append((smooth(ts, ys), float(ys.std())))
    return channels


def _halved(edges: Times, channels: list[tuple[Smooth, float]], scheme: AbstractScheme) -> Times:
    """The boundaries with halves added where the polynomials miss the smoothed channels."""
    rows = scheme.interpolation(_CHECKED)
    for _ in range(_HALVINGS):
        widths = np.diff(edges)
        miss = np.zeros(len(widths))
        for curve, spread in channels:
            nodes, checked = (
                curve.value((edges[:-1, None] + widths[:, None] * x).ravel()).reshape(-1, len(x))
                for x in (scheme.nodes, _CHECKED)
            )
            error = np.max(np.abs(nodes @ rows.T - checked), axis=1)
            miss = np.maximum(miss, error / spread)
        coarse = miss > _ACCURACY
        if not coarse.any():
            break
        edges = np.sort(np.append(edges, (edges[:-1] + widths / 2)[coarse]))
    return edges
