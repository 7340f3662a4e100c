"""Initial states: smoothed data, the observation inverted, candidates for what is not observed."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from jaxtyping import Float

from .._callables import explained
from .._nlp import NLP
from .._smooth import SmoothTrajectory, channel_means
from .sensors import AtTimes


States = list[Float[np.ndarray, "_ state"]]
Head = Float[np.ndarray, " head"]
StateFunction = Callable[[np.ndarray, np.ndarray, np.ndarray], Any]

_INVERSION_STEPS = 12
_SINGULAR = 1e-6


def smooth_curves(nlp: NLP, width: float) -> list[SmoothTrajectory]:
    """The smoothed channels of each trajectory, through a known start where these are states."""
    means = channel_means(nlp.trajectories)
    curves = []
    for item, grid in zip(nlp.trajectories, nlp.grids, strict=True):
        start = None
        if item.y0 is not None and nlp.observe is None:
            start = (grid.boundaries[0], item.y0[: len(means)])
        curves.append(SmoothTrajectory(item, means, start, width, nlp.observe is not None))
    return curves


def called_states(nlp: NLP, curves: list[SmoothTrajectory], function: StateFunction) -> States:
    """The states that the caller's function makes of times, smoothed channels and slopes."""
    result = []
    for curve, grid in zip(curves, nlp.grids, strict=True):
        values, slopes = curve.values(grid.sides), curve.slopes(grid.sides)
        with explained("states", "states(ts, ys, slopes)"):
            states = np.array(function(grid.times, values, slopes), np.float64)
        if states.shape != (grid.num_nodes, nlp.num_states):
            raise ValueError(
                "`states` must be a function (ts, ys, slopes) -> array of shape (node, state) = "
                f"({grid.num_nodes}, {nlp.num_states}); got shape {states.shape}."
            )
        result.append(states)
    return result


def candidate_states(nlp: NLP, curves: list[SmoothTrajectory], head: Head) -> list[States]:
    """States at the nodes that agree with the smoothed data, one set after another.

    What the observation determines is the same in all, for the weights and unknowns in `head`.
    Components that it leaves open are tried as derivatives of the channels, first in the channel's
    unit per time, then stretched to the channel's spread and added to it or to its mean.
    """
    known = [_observed_part(nlp, position, head, curves) for position in range(len(curves))]
    hidden_axes = open_axes(nlp, known, head)
    if hidden_axes.shape[1] == 0:
        return [known]
    return [
        [part + signal @ hidden_axes.T for part, signal in zip(known, hidden, strict=True)]
        for hidden in _signals(nlp, curves, hidden_axes.shape[1])
    ]


def _observed_part(
    nlp: NLP, position: int, head: Head, curves: list[SmoothTrajectory]
) -> Float[np.ndarray, "node state"]:
    """States of least norm whose observation is the smoothed data, by Gauss-Newton steps."""
    grid = nlp.grids[position]
    seen = curves[position].values(grid.sides)
    if nlp.observe is None:
        return np.pad(seen, [(0, 0), (0, nlp.num_states - seen.shape[1])])
    sensor = AtTimes.sensor(nlp, position, grid.times)
    y = np.zeros((grid.num_nodes, nlp.num_states))
    # From zero the answer has the least norm; an observation without slope there needs another
    # start.
    flat = np.all(sensor(head, y).in_state == 0, axis=(1, 2))
    y[flat] = 1.0
    best, least = y, np.full(len(y), np.inf)
    for _ in range(_INVERSION_STEPS + 1):
        there = sensor(head, y)
        miss = seen - there.value
        error = np.sum(miss**2, axis=1)
        better = error < least
        best = np.where(better[:, None], y, best)
        least = np.where(better, error, least)
        finite = np.all(np.isfinite(there.in_state), axis=(1, 2)) & np.isfinite(error)
        slope = np.where(finite[:, None, None], there.in_state, 0.0)
        step = (
            np.linalg.pinv(slope, rcond=_SINGULAR) @ np.where(finite[:, None], miss, 0.0)[..., None]
        )
        y = y + step[..., 0]
    return best


def open_axes(nlp: NLP, known: States, head: Head) -> Float[np.ndarray, "state open"]:
    """Directions of the state that the observation does not see, as columns."""
    d = nlp.num_states
    if nlp.observe is None:
        return np.eye(d)[:, nlp.trajectories[0].num_channels :]
    grid = nlp.grids[0]
    middle = [grid.num_nodes // 2]
    slope = AtTimes.sensor(nlp, 0, grid.times[middle])(head, known[0][middle]).in_state[0]
    unused = np.flatnonzero(np.all(slope == 0, axis=0))
    _, singular, axes = np.linalg.svd(slope)
    rank = int(np.sum(singular > _SINGULAR * max(singular.max(initial=0.0), 1e-300)))
    if len(unused) == d - rank:
        return np.eye(d)[:, unused]
    return axes[rank:].T


def _signals(
    nlp: NLP, curves: list[SmoothTrajectory], count: int
) -> Iterator[list[Float[np.ndarray, "_ open"]]]:
    """Candidates for `count` components, at the nodes of every trajectory."""
    channels = nlp.trajectories[0].num_channels
    times = [grid.sides for grid in nlp.grids]
    base, slope = [], []
    for curve, ts in zip(curves, times, strict=True):
        values = curve.values(ts)
        columns = [(i % channels, i // channels + 1) for i in range(count)]
        base.append(np.stack([values[:, channel] for channel, _ in columns], axis=1))
        slope.append(np.stack([curve.slopes(ts, order)[:, c] for c, order in columns], axis=1))
    every_base, every_slope = np.concatenate(base), np.concatenate(slope)
    spread = every_slope.std(axis=0)
    ratio = np.where(spread > 0, every_base.std(axis=0) / np.where(spread > 0, spread, 1.0), 0.0)
    mean = every_base.mean(axis=0)
    yield slope
    for share in (0.3, 1.0):
        yield [b + share * ratio * s for b, s in zip(base, slope, strict=True)]
    for sign in (1.0, -1.0):
        yield [mean + sign * ratio * s for s in slope]
