"""Smoothing of noisy, irregular data: values and slopes for the initial guess."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from ._check import choice, describe, float_array, integer
from ._data import Trajectory, changed, counted
from ._fingerprint import fingerprint


Samples = Float[np.ndarray, " sample"]
Queries = Float[np.ndarray, " query"]
Times = Float[np.ndarray, " jump"]

_FOLDS = 5
_FEWEST = 6
_MOST_CHOSEN_FROM = 1500
_MOST_IN_WINDOW = 100


class Smooth:
    """A cubic spline through a smoothed channel; constant outside the data."""

    def __init__(self, knots: Samples, values: Samples):
        from scipy.interpolate import CubicSpline

        self._first, self._last = knots[0], knots[-1]
        if len(knots) == 1:
            knots, values = knots[0] + np.array([0.0, 1.0]), np.repeat(values, 2)
            self._last = self._first
        self._spline = CubicSpline(knots, values)

    def value(self, ts: Queries) -> Queries:
        """The smoothed channel at `ts`."""
        return self._spline(np.clip(ts, self._first, self._last))

    def slope(self, ts: Queries, order: int = 1) -> Queries:
        """Its time derivative at `ts`, of the given order."""
        inside = (ts >= self._first) & (ts <= self._last) & (self._first < self._last)
        return np.where(inside, self._spline(np.clip(ts, self._first, self._last), order), 0.0)


def smooth(ts: Samples, ys: Samples, neighbours: int | None = None) -> Smooth:
    """LOWESS smoothing of one channel, as a spline through the smoothed values.

    Cleveland, "Robust Locally Weighted Regression and Smoothing Scatterplots" (1979), through
    statsmodels. The spline's knots are a quarter of a window apart, so that its slope does not
    follow the noise from sample to sample.

    **Arguments:**

    - `ts`, `ys`: times, never decreasing, and values, both of shape `(sample,)`.
    - `neighbours`: how many samples a window holds; chosen by five-fold cross-validation if
      not given. Up to five samples are interpolated instead.
    """
    ts, ys = float_array("ts", ts, 1, "(sample,)"), float_array("ys", ys, 1, "(sample,)")
    if len(ts) == 0 or not np.all(np.isfinite(ts)) or np.any(np.diff(ts) < 0):
        raise ValueError(
            f"`ts` must hold at least one time, finite and never decreasing; got {describe(ts)}."
        )
    if ys.shape != ts.shape or not np.all(np.isfinite(ys)):
        raise ValueError(
            f"`ys` must be finite and have one value for each of the {len(ts)} times in `ts`; "
            f"got {describe(ys)}."
        )
    times = np.unique(ts)
    if len(times) < _FEWEST:
        means = np.array([ys[ts == time].mean() for time in times])
        return Smooth(times, means)
    if neighbours is None:
        neighbours = choose_neighbours(ts, ys)
    neighbours = min(integer("neighbours", neighbours, 3), len(ts))
    step = max(neighbours // 4, 1)
    knots = np.unique(np.append(times[::step], times[-1]))
    if len(knots) > 3 and knots[-1] - knots[-2] < 0.5 * np.median(np.diff(knots)):
        knots = np.delete(knots, -2)
    # LOWESS fits a line at every sample: dense ones are averaged first, well within a window.
    bin_size = max(neighbours // _MOST_IN_WINDOW, 1)
    first = np.arange(0, len(ts), bin_size)
    counts = np.diff(np.append(first, len(ts)))
    ts, ys = (np.add.reduceat(side, first) / counts for side in (ts, ys))
    values = _lowess(ts, ys, neighbours // bin_size, knots, robust=True)
    return Smooth(knots, values)


def choose_neighbours(ts: Samples, ys: Samples) -> int:
    """The window that predicts left-out samples best (five-fold cross-validation)."""
    return _common_window([(ts, ys)])


# Windows that were chosen before, by the samples' fingerprint.
_windows: dict[str, int] = {}
_MOST_KEPT = 1000


def _common_window(samples: list[tuple[np.ndarray, np.ndarray]]) -> int:
    """One window for several channels; the same samples are cross-validated once."""
    known = fingerprint(samples)
    if known not in _windows:
        if len(_windows) >= _MOST_KEPT:
            _windows.clear()
        _windows[known] = _best_window(samples)
    return _windows[known]


def _best_window(samples: list[tuple[np.ndarray, np.ndarray]]) -> int:
    """The window with the least sum of the channels' cross-validation errors."""
    usable = [_stretch(ts, ys) for ts, ys in samples if len(np.unique(ts)) >= _FEWEST]
    if not usable:
        return _FEWEST - 1
    most = min(len(ts) for ts, _ in usable)
    candidates = np.unique(np.geomspace(4, max(most // 2, 5), 16).astype(int))
    total = np.zeros(len(candidates))
    for ts, ys in usable:
        errors = np.array([_cross_validation(ts, ys, int(count)) for count in candidates])
        total += errors / max(errors.min(), np.finfo(float).tiny)
    return int(candidates[np.argmin(total)])


def _stretch(ts: Samples, ys: Samples) -> tuple[np.ndarray, np.ndarray]:
    # A contiguous stretch keeps the sampling density, on which the window depends.
    begin = max((len(ts) - _MOST_CHOSEN_FROM) // 2, 0)
    return ts[begin : begin + _MOST_CHOSEN_FROM], ys[begin : begin + _MOST_CHOSEN_FROM]


def _cross_validation(ts: Samples, ys: Samples, neighbours: int) -> float:
    fold = np.arange(len(ts)) % _FOLDS
    total = 0.0
    for index in range(_FOLDS):
        kept = fold != index
        fewer = max(round(neighbours * (1 - 1 / _FOLDS)), 3)
        predicted = _lowess(ts[kept], ys[kept], fewer, ts[~kept], robust=False)
        total += float(np.sum((predicted - ys[~kept]) ** 2))
    return total


def _lowess(ts: Samples, ys: Samples, neighbours: int, at: Queries, *, robust: bool) -> Queries:
    # It brings pandas: most of what importing this library would take.
    from statsmodels.nonparametric.smoothers_lowess import lowess

    share = min(neighbours / len(ts), 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        values = lowess(ys, ts, frac=share, it=2 if robust else 0, xvals=at, is_sorted=True)
    # A window whose samples share one time has no slope and comes back as NaN.
    missing: Bool[np.ndarray, " sample"] = ~np.isfinite(values)
    if missing.any():
        values = np.where(missing, np.interp(at, ts, ys), values)
    return values


def channel_means(trajectories: Sequence[Trajectory]) -> Float[np.ndarray, " obs"]:
    """The mean of each channel over all trajectories, for those that lack it."""
    return np.asarray(np.nanmean(np.concatenate([counted(item) for item in trajectories]), axis=0))


def channel_spread(trajectories: Sequence[Trajectory]) -> Float[np.ndarray, " obs"]:
    """The standard deviation of each channel over all trajectories, one where it is constant."""
    spread = np.nanstd(np.concatenate([counted(item) for item in trajectories]), axis=0)
    return np.where(spread > 0, spread, 1.0)


class SmoothPieces:
    """A channel smoothed apart between jumps; at a jump it is the piece before.

    A piece without samples is what all samples make.
    """

    def __init__(self, ts: Samples, ys: Samples, jumps: Times, neighbours: int | None = None):
        self._jumps = jumps
        piece = np.searchsorted(jumps, ts)
        whole = None
        self._pieces = []
        for number in range(len(jumps) + 1):
            own = piece == number
            if not own.any():
                whole = smooth(ts, ys, neighbours) if whole is None else whole
            self._pieces.append(smooth(ts[own], ys[own], neighbours) if own.any() else whole)

    def value(self, ts: Queries) -> Queries:
        """The smoothed channel at `ts`."""
        return self._each(ts, lambda item, ts: item.value(ts))

    def slope(self, ts: Queries, order: int = 1) -> Queries:
        """Its time derivative at `ts`, of the given order."""
        return self._each(ts, lambda item, ts: item.slope(ts, order))

    def _each(self, ts: Queries, function: Callable[[Any, Queries], Queries]) -> Queries:
        piece, result = np.searchsorted(self._jumps, ts), np.zeros(len(ts))
        for number in np.unique(piece):
            inside = piece == number
            result[inside] = function(self._pieces[number], ts[inside])
        return result


def jumps_of_channels(item: Trajectory, observed: bool) -> list[Float[np.ndarray, " jump"]]:
    """The times at which each channel may jump.

    Where the channels are `observed` all may; else they are states, and amounts say which do.
    """
    found: list[list[float]] = [[] for _ in range(item.num_channels)]
    for jump in item.jumps:
        moved = np.ones(len(found), bool)
        if not observed and isinstance(jump.add, np.ndarray):
            moved = np.resize(jump.add != 0, len(found))
        elif not observed and isinstance(jump.add, tuple):
            moved = np.resize([amount != 0 for amount in jump.add], len(found))
        for times, moves in zip(found, moved, strict=True):
            if moves:
                times.append(jump.t)
    return [np.unique(times) for times in found]


class SmoothTrajectory:
    """The channels of a trajectory, smoothed so that their slopes are smooth.

    The window that predicts values best follows the noise too closely to be differentiated; this
    one is `width` times as wide. All channels share it, so that they are flattened alike
    and a vector field through them is consistent: it minimises the sum of their cross-validation
    errors, each relative to its smallest. `fallback` is a constant per channel for those without
    samples; `start` a time and values (or NaN) of channels that are known besides the samples.
    Between jumps channels are smoothed apart; `observed` is whether they are other than states.
    """

    def __init__(
        self,
        trajectory: Trajectory,
        fallback: Float[np.ndarray, " obs"],
        start: tuple[float, Float[np.ndarray, " obs"]] | None = None,
        width: float = 3.0,
        observed: bool = False,
    ):
        ts, ys = trajectory.ts, counted(trajectory)
        if start is not None and start[0] < ts[0]:
            ts, ys = np.append(start[0], ts), np.concatenate([start[1][None], ys])
        samples = [(ts[there], ys[there, c]) for c, there in enumerate(~np.isnan(ys).T)]
        window = int(np.ceil(width * _common_window(samples)))
        jumps = jumps_of_channels(trajectory, observed)
        self._channels: list[Smooth | SmoothPieces] = [
            _channel(ts, ys, own, window)
            if len(ts)
            else Smooth(trajectory.ts[:1], np.array([constant]))
            for (ts, ys), own, constant in zip(samples, jumps, fallback, strict=True)
        ]

    def values(self, ts: Queries) -> Float[np.ndarray, "query obs"]:
        """The smoothed channels at `ts`."""
        return np.stack([channel.value(ts) for channel in self._channels], axis=1)

    def slopes(self, ts: Queries, order: int = 1) -> Float[np.ndarray, "query obs"]:
        """Their time derivatives at `ts`, of the given order."""
        return np.stack([channel.slope(ts, order) for channel in self._channels], axis=1)


def _channel(ts: Samples, ys: Samples, jumps: Times, window: int) -> Smooth | SmoothPieces:
    return SmoothPieces(ts, ys, jumps, window) if len(jumps) else smooth(ts, ys, window)


def resample(
    trajectory: Trajectory, ts: Float[np.ndarray, " time"], *, method: str = "linear"
) -> Trajectory:
    """The trajectory with its observations moved to the times `ts`.

    The paper's preprocessing: data sampled anywhere are interpolated to the collocation nodes,
    `jc.resample(data, grid.times)`, so that the loss (Eq. 11) needs no interpolation. Fitting
    the data where they are, which is the default of `jc.transcribe`, keeps their noise
    independent; use this to reproduce the paper.

    **Arguments:**

    - `trajectory`: the data, without jumps; each channel is interpolated over its measured samples.
    - `ts`: the new times, within the range of the measured ones.
    - `method`: "linear", "cubic" (a spline through the data) or "lowess" (a smoothed one).

    A trajectory with a known state still begins where it did, which becomes its `t0` if the new
    times begin later.
    """
    choice("method", method, ("linear", "cubic", "lowess"))
    if not isinstance(trajectory, Trajectory):
        raise ValueError(f"`trajectory` must be a jc.Trajectory; got {describe(trajectory)}.")
    if trajectory.jumps:
        raise ValueError(
            "`trajectory` must have no jumps, since samples before and after one are not to be "
            f"interpolated between; got {len(trajectory.jumps)}. Fit the samples where they are."
        )
    ts = float_array("ts", ts, 1, "(time,)")
    if len(ts) == 0 or not np.all(np.isfinite(ts)):
        raise ValueError(f"`ts` must hold at least one time, all finite; got {describe(ts)}.")
    columns = []
    weights = []
    for channel in range(trajectory.num_channels):
        there = trajectory.measured[:, channel]
        times, values = trajectory.ts[there], trajectory.ys[there, channel]
        slack = 1e-9 * max(np.ptp(times), 1e-300) if len(times) else 0.0
        if len(times) < 2 or ts.min() < times[0] - slack or ts.max() > times[-1] + slack:
            raise ValueError(
                f"`ts` must lie within the measured times of channel {channel}; "
                f"got [{ts.min():g}, {ts.max():g}]."
            )
        if method == "linear":
            columns.append(np.interp(ts, times, values))
        elif method == "cubic":
            from scipy.interpolate import CubicSpline

            unique, first = np.unique(times, return_index=True)
            columns.append(CubicSpline(unique, values[first])(np.clip(ts, times[0], times[-1])))
        else:
            columns.append(smooth(times, values).value(ts))
        weights.append(np.interp(ts, times, trajectory.weights[there, channel]))
    return changed(
        trajectory,
        ts=ts,
        ys=np.stack(columns, axis=1),
        weights=np.stack(weights, axis=1) if trajectory.weighted else None,
        t0=_begin_before(trajectory, ts[0]),
    )


def _begin_before(trajectory: Trajectory, first: float) -> float | None:
    """The `t0` of the trajectory once its first sample is at the time `first`."""
    if trajectory.t0 is not None:
        return min(trajectory.t0, first)
    known = trajectory.start is not None or trajectory.y0_prior is not None
    later = known and first > trajectory.begin
    return trajectory.begin if later else None
