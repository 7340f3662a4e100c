"""choose_grid: intervals from the sampling and from how fast smoothed data and inputs move."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Float

from ._data import Trajectory, counted
from ._grid import Grid
from ._inputs import Input, sampled
from ._precision import x64
from ._scheme import AbstractScheme, Radau
from ._smooth import SmoothPieces, smooth


Times = Float[np.ndarray, " _"]
# A function of time, and how far a polynomial may be from it.
Curve = tuple[Callable[[Times], Times], float]

# As many nodes as samples, within these numbers of intervals; fewer only if samples are.
_FEWEST, _MOST = 12, 100
# An interval is halved, up to so often, while its polynomial misses the smoothed data, or an input,
# by more than this share of the spread.
_ACCURACY, _INPUT_ACCURACY = 1e-2, 5e-2
_HALVINGS = 4
# A boundary is put where an input turns or jumps by this share of its spread from one sample to the
# next, unless that would be more boundaries than this.
_KINK, _JUMP = 0.02, 0.1
_MOST_FROM_INPUTS = 6000
# Where the typical gap between samples is so much smaller than the mean one, boundaries lie as the
# samples do.
_GRADED = 20
# Times that are closer than this share of the whole are one.
_APART = 1e-9
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
    those in which the scheme's polynomial does not follow the smoothed data or an input. Boundaries
    are put where the state jumps and where inputs jump or turn.
    """
    ts = np.unique(np.append(trajectory.begin, trajectory.ts))
    if len(ts) == 1:
        raise ValueError("`data` must span some time in every trajectory, or `grid` be given.")
    stages = scheme.num_nodes - 1
    wanted = int(np.clip(len(ts) // stages, _FEWEST, _MOST))
    edges = _spread_like(ts, min(wanted, len(ts) - 1))
    curves = _channels(trajectory) + _inputs(trajectory.args)
    jumps = np.array([jump.t for jump in trajectory.jumps])
    edges = at_jumps(edges, np.union1d(input_edges(trajectory.args), jumps))
    edges = np.union1d(edges, jumps[(jumps > edges[0]) & (jumps < edges[-1])])
    return Grid(_halved(edges, curves, scheme, jumps), scheme)


def input_edges(args: object) -> Times:
    """Where a grid needs a boundary: where held inputs jump and others turn, if markedly."""
    found = [np.zeros(0)]
    for path in sampled(args):
        ts, us = path_samples(path)
        spread = us.std(axis=0)
        spread = np.where(spread > 0, spread, np.inf)
        change = np.diff(us, axis=0)
        if isinstance(path, Input) and path.kind == "hold":
            marked, at = np.abs(change) > _JUMP * spread, ts[1:]
        else:
            widths = np.diff(ts)[:, None]
            turn = np.diff(change / widths, axis=0) * np.minimum(widths[1:], widths[:-1])
            marked, at = np.abs(turn) > _KINK * spread, ts[1:-1]
        found.append(at[marked.any(axis=1)])
    return np.unique(np.concatenate(found))


def path_samples(path: Any) -> tuple[Times, np.ndarray]:
    """Times and values of a sampled input, shape `(sample, input)`."""
    ts = np.asarray(path.ts, np.float64)
    if isinstance(path, Input):
        return ts, np.asarray(path.coefficients[0]).reshape(len(ts), -1)
    ts = np.unique(ts[np.isfinite(ts)])
    with x64():
        values = jtu.tree_leaves(jax.vmap(path.evaluate)(ts))
    columns = [np.reshape(np.asarray(leaf), (len(ts), -1)) for leaf in values]
    return ts, np.concatenate([np.zeros((len(ts), 0)), *columns], axis=1)


def _inputs(args: object) -> list[Curve]:
    """Each sampled input as a function of times, held or linear, with its tolerance."""
    curves: list[Curve] = []
    for path in sampled(args):
        ts, us = path_samples(path)
        held = isinstance(path, Input) and path.kind == "hold"
        for column in us.T:
            if np.ptp(column) > 0:
                share = _JUMP if held else _INPUT_ACCURACY
                curve = partial(_held if held else _linear, ts=ts, us=column)
                curves.append((curve, share * float(column.std())))
    return curves


def _held(x: Times, ts: Times, us: np.ndarray) -> Times:
    return np.asarray(us[np.clip(np.searchsorted(ts, x) - 1, 0, None)])


def _linear(x: Times, ts: Times, us: np.ndarray) -> Times:
    return np.interp(x, ts, us)


def at_jumps(edges: Times, jumps: Times) -> Times:
    """Boundaries that hold the marked times of inputs.

    Up to a number that a grid can have they are added to the boundaries; where they are more, each
    inner boundary moves to the nearest of them.
    """
    # Times that differ by rounding are one.
    apart = _APART * (edges[-1] - edges[0])
    inside = jumps[(jumps > edges[0] + apart) & (jumps < edges[-1] - apart)]
    if len(inside) == 0:
        return edges
    inside = inside[np.append(True, np.diff(inside) > apart)]
    if len(inside) < max(len(edges), _MOST_FROM_INPUTS):
        # A boundary close to a jump gives way to it.
        least = 0.25 * np.interp(edges[1:-1], (edges[1:] + edges[:-1]) / 2, np.diff(edges))
        far = np.min(np.abs(edges[1:-1, None] - inside), axis=1) > least
        return np.unique(np.concatenate([edges[[0, -1]], edges[1:-1][far], inside]))
    nearest = inside[np.argmin(np.abs(edges[1:-1, None] - inside), axis=1)]
    return np.unique(np.concatenate([edges[[0, -1]], nearest]))


def _spread_like(ts: Times, intervals: int) -> Times:
    """Boundaries at quantiles of the times, mixed with equal ones so that no gap stays wide.

    Not mixed where samples are graded, such as those at equal steps of the logarithm of time.
    """
    share = np.linspace(0.0, 1.0, intervals + 1)
    quantiles = np.interp(share * (len(ts) - 1), np.arange(len(ts)), ts)
    gaps = np.diff(ts)
    if gaps.mean() > _GRADED * np.median(gaps):
        return quantiles
    equal = ts[0] + share * (ts[-1] - ts[0])
    edges = (quantiles + equal) / 2
    edges[[0, -1]] = ts[[0, -1]]
    return edges


def _channels(trajectory: Trajectory) -> list[Curve]:
    """Each channel smoothed, with its tolerance."""
    channels: list[Curve] = []
    jumps = np.unique([jump.t for jump in trajectory.jumps])
    for column in counted(trajectory).T:
        there = ~np.isnan(column)
        ts, ys = trajectory.ts[there], column[there]
        if len(np.unique(ts)) > 3 and np.ptp(ys) > 0:
            curve = SmoothPieces(ts, ys, jumps) if len(jumps) else smooth(ts, ys)
            channels.append((curve.value, _ACCURACY * float(ys.std())))
    return channels


def _halved(edges: Times, curves: list[Curve], scheme: AbstractScheme, jumps: Times) -> Times:
    """The boundaries with halves added where the polynomials miss a curve by its tolerance.

    An interval that begins with one of `jumps` begins behind it.
    """
    rows = scheme.interpolation(_CHECKED)
    for _ in range(_HALVINGS):
        widths = np.diff(edges)
        first = np.where(np.isin(edges, jumps), np.nextafter(edges, np.inf), edges)[:-1]
        coarse = np.zeros(len(widths), bool)
        for curve, tolerance in curves:
            nodes, checked = (
                curve((first[:, None] + widths[:, None] * x).ravel()).reshape(-1, len(x))
                for x in (scheme.nodes, _CHECKED)
            )
            coarse |= np.max(np.abs(nodes @ rows.T - checked), axis=1) > tolerance
        if not coarse.any() or len(edges) > _MOST_FROM_INPUTS:
            break
        edges = np.sort(np.append(edges, (edges[:-1] + widths / 2)[coarse]))
    return edges
