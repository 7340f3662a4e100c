"""Batches: data split into whole trajectories, or into segments of time."""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .._args import Unknowns
from .._check import describe, integer
from .._data import Trajectory, changed
from .._grid import Grid


class Batches(NamedTuple):
    """Trajectories, or segments of them, with their grids, and which belong to each batch.

    `cuts` are pairs of neighbouring segments, the earlier first.
    """

    trajectories: tuple[Trajectory, ...]
    grids: tuple[Grid, ...]
    members: tuple[tuple[int, ...], ...]
    cuts: tuple[tuple[int, int], ...]

    def counts(self) -> list[int]:
        """The number of observation times in each batch."""
        each = [int(item.observed.sum()) for item in self.trajectories]
        return [sum(each[k] for k in members) for members in self.members]


def make_batches(
    trajectories: tuple[Trajectory, ...], grids: tuple[Grid, ...], batches: Any
) -> Batches:
    """As many batches as asked for, or the lists of trajectories that were given."""
    if isinstance(batches, (list, tuple)):
        members = _given(batches, len(trajectories))
        return Batches(trajectories, grids, members, ())
    count = integer("batches", batches, 1)
    if count <= len(trajectories):
        return Batches(trajectories, grids, _shared_out(trajectories, count), ())
    return _cut(trajectories, grids, count)


def _given(batches: Sequence[Any], count: int) -> tuple[tuple[int, ...], ...]:
    wanted = f"`batches` must be a number or lists that hold each of 0 to {count - 1} once"
    try:
        members = tuple(tuple(integer("batches", k, 0) for k in item) for item in batches)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{wanted}; got {describe(batches)}.") from error
    if sorted(k for item in members for k in item) != list(range(count)) or not all(members):
        raise ValueError(f"{wanted}; got {describe(batches)}.")
    return members


def _shared_out(trajectories: tuple[Trajectory, ...], count: int) -> tuple[tuple[int, ...], ...]:
    """The longest first, each to the batch that has least so far."""
    sizes = [int(item.observed.sum()) for item in trajectories]
    members: list[list[int]] = [[] for _ in range(count)]
    loads = [0] * count
    for k in sorted(range(len(sizes)), key=lambda k: -sizes[k]):
        # Batches without any come first, whatever the sizes.
        least = min(range(count), key=lambda batch: (len(members[batch]) > 0, loads[batch]))
        members[least].append(k)
        loads[least] += sizes[k]
    return tuple(tuple(sorted(item)) for item in members)


def _cut(trajectories: tuple[Trajectory, ...], grids: tuple[Grid, ...], count: int) -> Batches:
    """Every trajectory in as many segments as its share of the data asks for."""
    sizes = np.array([max(int(item.observed.sum()), 1) for item in trajectories])
    pieces = np.ones(len(sizes), int)
    for _ in range(count - len(sizes)):
        pieces[int(np.argmax(sizes / pieces))] += 1
    parts: list[tuple[Trajectory, Grid]] = []
    cuts: list[tuple[int, int]] = []
    for k, (item, grid) in enumerate(zip(trajectories, grids, strict=True)):
        if pieces[k] > 1 and len(Unknowns.of(item.constants).start):
            raise ValueError(
                "`batches` must not be more than there are trajectories where `args` or `jumps` "
                f"hold a jc.Unknown, which is one constant of a whole trajectory; got {count}."
            )
        first = len(parts)
        parts += _segments(item, grid, int(pieces[k]))
        cuts += [(position - 1, position) for position in range(first + 1, len(parts))]
    cut, cut_grids = zip(*parts, strict=True)
    return Batches(cut, cut_grids, tuple((k,) for k in range(len(parts))), tuple(cuts))


def _segments(item: Trajectory, grid: Grid, count: int) -> list[tuple[Trajectory, Grid]]:
    """Cut at boundaries of the grid, with observations shared out evenly."""
    if count == 1:
        return [(item, grid)]
    # Never before a jump: the segment in front of it has the state after it.
    able = np.flatnonzero(~grid.is_jump[1:] & (grid.boundaries[1:-1] > grid.boundaries[0]))
    inner = grid.boundaries[1:-1][able]
    if len(inner) + 1 < count:
        raise ValueError(
            f"`batches` asks for {count} segments of a trajectory whose grid has "
            f"{len(inner) + 1} intervals to cut between."
        )
    before = np.searchsorted(item.ts[item.observed], inner, side="right")
    total = int(item.observed.sum())
    at: list[int] = []
    for number in range(1, count):
        # Enough boundaries must be left on both sides.
        lowest = at[-1] + 1 if at else 0
        choices = np.arange(lowest, len(inner) - (count - 1 - number))
        at.append(int(choices[np.argmin(np.abs(before[choices] - total * number / count))]))
    edges = [0, *(able[at] + 1).tolist(), grid.num_intervals]
    jumps = np.append(0, np.cumsum(grid.is_jump))
    parts = []
    for first, last in itertools.pairwise(edges):
        begin, end = grid.boundaries[[first, last]]
        inside = (item.ts > begin) | (first == 0)
        inside &= (item.ts <= end) | (last == grid.num_intervals)
        if not item.observed[inside].any():
            raise ValueError(
                f"`batches` asks for {count} segments of a trajectory with observations at "
                f"{len(item.ts)} times; one would be empty."
            )
        segment = changed(
            item,
            ts=item.ts[inside],
            ys=item.ys[inside],
            weights=item.weights[inside] if item.weighted else None,
            y0=item.start if first == 0 else None,
            t0=item.t0 if first == 0 else None,
            y0_prior=item.y0_prior if first == 0 else None,
            jumps=item.jumps[jumps[first] : jumps[last] if last < grid.num_intervals else None],
        )
        parts.append((segment, Grid(grid.boundaries[first : last + 1], grid.scheme)))
    return parts
