"""The noise of data, estimated without any model, and whether residuals look like it."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from ._data import Trajectory


# A sample is predicted from so many neighbours on either side; from more only where that makes the
# errors this much smaller.
_NEIGHBOURS = (1, 2)
_CLEARLY = 0.8
_FEWEST = 5
# Errors beyond so many standard deviations are wild.
_WILD, _ROUNDS = 3.5, 10
# Errors smaller than this share of a channel's size are none.
_ZERO = 1e-13
# A normal distribution's standard deviation over its median absolute deviation.
_NORMAL = 1.4826
# Lags of the test for autocorrelation, and the fewest residuals it is made with.
_MOST_LAGS, _FEWEST_TESTED = 10, 20


def noise_levels(
    trajectories: Sequence[Trajectory], weighted: bool = False
) -> Float[np.ndarray, " obs"]:
    r"""The standard deviation of each channel's noise; NaN where samples are too few to tell.

    Every sample is predicted from its two, and from its four, neighbours in time by the polynomial
    through them; with weights $w_j$ of the neighbours the error, divided by
    $\sqrt{1 + \sum_j w_j^2}$, has the noise's standard deviation where the signal is smooth, and a
    larger one where it is not; samples that a jump separates are no neighbours. The estimate is
    their root mean square over all trajectories, but for errors beyond 3.5 standard deviations, so
    that wild samples do not count; that with four neighbours is taken where it is clearly lower.
    Samples at one time are compared with each other. `weighted`: of the samples times the roots of
    their weights, relative within each channel.

    Gasser, Sroka and Jennen-Steinmetz, "Residual variance and residual pattern in nonlinear
    regression" (Biometrika 73, 1986).
    """
    levels = []
    for channel in range(trajectories[0].num_channels):
        series = [_series(item, channel, weighted) for item in trajectories]
        jumps = [np.array([jump.t for jump in item.jumps]) for item in trajectories]
        between = [part for each in zip(series, jumps, strict=True) for part in _between(*each)]
        level = np.nan
        for count in _NEIGHBOURS:
            # What a jump separates predicts nothing, unless there is nothing else.
            for parts in (between, series):
                errors = np.concatenate([_errors(ts, ys, count) for ts, ys in parts])
                if len(errors) >= _FEWEST:
                    break
            if len(errors) >= _FEWEST:
                size = max(float(np.max(np.abs(ys), initial=0.0)) for _, ys in series)
                found = _robust_deviation(np.where(np.abs(errors) > _ZERO * size, errors, 0))
                level = found if not found > _CLEARLY * level else level
        levels.append(level)
    return np.array(levels)


def _robust_deviation(errors: Float[np.ndarray, " _"]) -> float:
    """The root mean square of the errors that are not wild."""
    size = np.abs(errors)
    if np.median(size) == 0:
        # Rounded or repeated samples: of those that differ.
        size = size[size > 0] if np.any(size > 0) else size
    deviation = _NORMAL * float(np.median(size))
    for _ in range(_ROUNDS):
        kept = size[size <= _WILD * deviation]
        deviation = float(np.sqrt(np.mean(kept**2))) if len(kept) else 0.0
    return deviation


def relative_weights(item: Trajectory) -> Float[np.ndarray, "time obs"]:
    """Roots of the weights within each channel, their mean square over measured samples one."""
    weights = np.where(item.measured, item.weights, 0.0)
    count = np.maximum(np.sum(weights > 0, axis=0), 1)
    mean = weights.sum(axis=0) / count
    return np.asarray(np.sqrt(weights / np.where(mean > 0, mean, 1.0)))


def _series(item: Trajectory, channel: int, weighted: bool) -> tuple[np.ndarray, np.ndarray]:
    """Times and values of one channel that count; `weighted` by the roots of its weights."""
    root = relative_weights(item)[:, channel]
    there = root > 0
    ys = item.ys[there, channel]
    center = ys.mean() if len(ys) else 0.0
    return item.ts[there], (root[there] if weighted else 1.0) * (ys - center)


def _between(
    series: tuple[np.ndarray, np.ndarray], jumps: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray]]:
    """The parts of a series between jumps; a sample at one belongs to the part before it."""
    ts, ys = series
    at = np.searchsorted(ts, jumps, side="right")
    return list(zip(np.split(ts, at), np.split(ys, at), strict=True))


def _errors(ts: np.ndarray, ys: np.ndarray, count: int) -> np.ndarray:
    """Errors of the predictions from `count` neighbours on either side, in the noise's unit."""
    same = np.diff(ts) <= 0
    pairs = np.diff(ys)[same] / np.sqrt(2.0)
    first = np.append(True, ~same) if len(ts) else np.zeros(0, bool)
    ts, ys = ts[first], ys[first]
    if len(ts) < 2 * count + 1:
        return pairs
    offsets = np.array([step for step in range(-count, count + 1) if step])
    center = np.arange(count, len(ts) - count)
    at = center[:, None] + offsets
    x = ts[at] - ts[center][:, None]
    # The polynomial through the neighbours, at the sample's own time zero.
    weights = np.ones_like(x)
    for j in range(len(offsets)):
        for i in range(len(offsets)):
            if i != j:
                weights[:, j] *= -x[:, i] / (x[:, j] - x[:, i])
    predicted = np.sum(weights * ys[at], axis=1)
    errors = (ys[center] - predicted) / np.sqrt(1 + np.sum(weights**2, axis=1))
    return np.append(errors, pairs)


def autocorrelation(
    residuals: Sequence[Float[np.ndarray, " _"]],
) -> tuple[float, int]:
    r"""The statistic of Ljung and Box and its degrees of freedom, summed over series.

    $n (n + 2) \sum_j \rho_j^2 / (n - j)$ over up to ten lags. Series of fewer than 20 do not count.
    The mean is not subtracted, since a constant offset is structure.

    Ljung and Box, "On a measure of lack of fit in time series models" (Biometrika 65, 1978).
    """
    total, freedom = 0.0, 0
    for series in residuals:
        count = len(series)
        square = float(np.sum(series**2))
        if count < _FEWEST_TESTED or square == 0:
            continue
        lags = min(_MOST_LAGS, count // 5)
        for lag in range(1, lags + 1):
            rho = float(np.sum(series[lag:] * series[:-lag])) / square
            total += count * (count + 2) * rho**2 / (count - lag)
        freedom += lags
    return total, freedom


def structured(residuals: Sequence[Float[np.ndarray, " _"]], significance: float) -> bool:
    """Whether residuals in the order of time are autocorrelated beyond chance."""
    from scipy.stats import chi2

    total, freedom = autocorrelation(residuals)
    return freedom > 0 and float(chi2.sf(total, freedom)) < significance


def not_wild(residuals: Float[np.ndarray, " _"], share: float) -> Bool[np.ndarray, " _"]:
    """Which residuals are no outliers: within five robust standard deviations.

    At most that share of them is taken for outliers.
    """
    size = np.abs(residuals - np.median(residuals)) if len(residuals) else residuals
    if not len(size):
        return np.ones(0, bool)
    limit = max(5 * _NORMAL * float(np.median(size)), float(np.quantile(size, 1 - share)))
    return np.asarray(size <= limit)
