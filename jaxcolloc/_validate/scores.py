"""Figures of merit of predictions, channel by channel."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from .._data import Trajectory


class Scores(NamedTuple):
    r"""How well samples are predicted, one entry for each channel.

    With the errors $e$ of the samples $y$: `rmse` the root of the mean of $e^2$, in the channel's
    unit; `r2` $= 1 - \sum e^2 / \sum (y - \bar y)^2$; `fit` the percentage of system
    identification, $100 \, (1 - \|e\| / \|y - \bar y\|)$; `number` that of samples. NaN where there
    are none, where a prediction failed, and, but for the RMSE, where samples do not vary.
    """

    fit: Float[np.ndarray, "*any obs"]
    rmse: Float[np.ndarray, "*any obs"]
    r2: Float[np.ndarray, "*any obs"]
    number: Int[np.ndarray, "*any obs"]

    @classmethod
    def of(
        cls,
        ys: Float[np.ndarray, "time obs"],
        predicted: Float[np.ndarray, "time obs"],
        there: Bool[np.ndarray, "time obs"],
    ) -> "Scores":
        """Of the samples that are `there`."""
        columns = [
            _channel(ys[use, c], predicted[use, c]) for c, use in enumerate(there.T)
        ]  # fmt: skip
        fit, rmse, r2, number = zip(*columns, strict=True)
        return cls(np.array(fit), np.array(rmse), np.array(r2), np.array(number))

    def average(self, name: str) -> float:
        """The mean of a figure over the channels that vary; NaN where a prediction failed."""
        if np.any(np.isnan(self.rmse) & (self.number > 0)):
            return np.nan
        known = getattr(self, name)[self.number > 0]
        known = known[~np.isnan(known)]
        return float(known.mean()) if len(known) else np.nan

    def at(self, k: int) -> "Scores":
        """Those at position `k` of the first axis."""
        return Scores(*(part[k] for part in self))

    @classmethod
    def stacked(cls, rows: Sequence["Scores"]) -> "Scores":
        """Several of them, one behind another along a first axis."""
        return cls(*(np.stack(part) for part in zip(*rows, strict=True)))


def _channel(ys: np.ndarray, predicted: np.ndarray) -> tuple[float, float, float, int]:
    if not len(ys) or not np.all(np.isfinite(predicted)):
        return np.nan, np.nan, np.nan, len(ys)
    with np.errstate(over="ignore"):
        errors = float(np.sum((predicted - ys) ** 2))
    around = float(np.sum((ys - ys.mean()) ** 2))
    # A constant channel up to rounding does not vary.
    varies = np.sqrt(around / len(ys)) > 1e-12 * np.max(np.abs(ys))
    left = errors / around if varies else np.nan
    return 100 * (1 - np.sqrt(left)), np.sqrt(errors / len(ys)), 1 - left, len(ys)


def pooled(
    items: Sequence[Trajectory],
    predicted: Sequence[np.ndarray],
    there: Sequence[np.ndarray],
) -> Scores:
    """Of the samples of all trajectories together."""
    ys = np.concatenate([item.ys for item in items])
    return Scores.of(ys, np.concatenate(predicted), np.concatenate(there))
