"""Validation: what `jc.validate` returns."""

from typing import Any, NamedTuple

import equinox as eqx
import numpy as np
from jaxtyping import Bool, Float

from .._check import choice
from .._data import Trajectory
from .._names import channel_names, experiment, experiments, with_unit
from .._solution import Solution
from .scores import Scores


_MOST_ROWS = 20


class Forecast(NamedTuple):
    """The scores of forecasts over one horizon, of all series together."""

    horizon: float
    num_windows: int
    scores: Scores


class Validation(eqx.Module):
    """How well a model simulates series that it has not seen.

    - `trajectories`: the series; `predicted`: what the rollouts predict, one array of shape
      `(time, obs)` for each, NaN where a rollout has failed; `scored`: which samples count.
    - `times`, `simulated`: the same at many times, of shapes `(point,)` and `(point, obs)`.
    - `by_series`, `overall`: figures with the attributes `fit` (percent), `rmse`, `r2` and
      `number`, of shape `(traj, obs)`, and of all samples together, of shape `(obs,)`.
    - `fit`, `rmse`, `r2`: those of `by_series`.
    - `forecasts`: for each horizon `horizon`, `num_windows` and `scores`, of shape `(obs,)`.
    - `starts`: the initial states; `args`: with values in the place of unknowns; `samples`: how
      many observation times they were found from, None for all; `estimate`: the `jc.Solution` for
      them, None where all was known.
    - `notes`: what failed, as sentences.

    `print(v)` shows them; `to_frame()` has them as tables, `plot()` as a picture.
    """

    trajectories: tuple[Trajectory, ...]
    samples: int | None
    predicted: tuple[Float[np.ndarray, "_ obs"], ...]
    times: tuple[Float[np.ndarray, " _"], ...]
    simulated: tuple[Float[np.ndarray, "_ obs"], ...]
    scored: tuple[Bool[np.ndarray, "_ obs"], ...]
    starts: tuple[Float[np.ndarray, " state"], ...]
    args: tuple[Any, ...]
    by_series: Scores
    overall: Scores
    forecasts: tuple[Forecast, ...]
    notes: tuple[str, ...]
    estimate: Solution | None

    @property
    def fit(self) -> Float[np.ndarray, "traj obs"]:
        """The fit percentage of each series and channel."""
        return self.by_series.fit

    @property
    def rmse(self) -> Float[np.ndarray, "traj obs"]:
        """The root mean square error of each series and channel."""
        return self.by_series.rmse

    @property
    def r2(self) -> Float[np.ndarray, "traj obs"]:
        """The coefficient of determination of each series and channel."""
        return self.by_series.r2

    def to_frame(self, of: str = "scores") -> Any:
        """A table (pandas).

        **Arguments:**

        - `of`: "scores" for a row of each series and channel, and of all series ("all"):
          experiment, channel, horizon (NaN: the whole series), fit, rmse, r2, number; then those of
          the forecasts. "observations" for a row of each measured value: experiment, time, channel,
          observed, predicted, residual (observed minus predicted), scored.
        """
        import pandas as pd

        choice("of", of, ("scores", "observations"))
        return pd.DataFrame(self._scores() if of == "scores" else self._observations())

    def plot(self) -> Any:
        """Draw every series and channel: samples, hollow where they do not count, and simulation.

        Returns the matplotlib `Figure`. **Errors:** `ImportError` without matplotlib.
        """
        from .._plot.simulated import plot_simulated

        names = [
            f"{experiment(item, k)}: {_percent(self.by_series.at(k))}"
            for k, item in enumerate(self.trajectories)
        ]
        return plot_simulated(self, names, str(self).splitlines()[0])

    def _scores(self) -> list[dict[str, Any]]:
        names = channel_names(self.trajectories)
        rows = []
        series = [
            (called, np.nan, list(self.by_series.at(k)))
            for k, called in enumerate(experiments(self.trajectories))
        ]
        series.append(("all", np.nan, list(self.overall)))
        series += [("all", item.horizon, list(item.scores)) for item in self.forecasts]
        for called, horizon, parts in series:
            for c, name in enumerate(names):
                row = {"experiment": called, "channel": name, "horizon": horizon}
                rows.append(row | {key: part[c] for key, part in zip(_KEYS, parts, strict=True)})
        return rows

    def _observations(self) -> list[dict[str, Any]]:
        names = channel_names(self.trajectories)
        rows = []
        for k, called in enumerate(experiments(self.trajectories)):
            item, seen, there = self.trajectories[k], self.predicted[k], self.scored[k]
            for row, c in np.argwhere(item.measured):
                y, value = float(item.ys[row, c]), float(seen[row, c])
                rows.append(
                    {
                        "experiment": called,
                        "time": float(item.ts[row]),
                        "channel": names[c],
                        "observed": y,
                        "predicted": value,
                        "residual": y - value,
                        "scored": bool(there[row, c]),
                    }
                )
        return rows

    def __str__(self) -> str:
        count = len(self.trajectories)
        noun = "series" if count > 1 else "one series"
        found = "known" if self.estimate is None else "found from "
        if self.estimate is not None:
            found += "all samples" if self.samples is None else f"the first {self.samples} times"
        number = int(self.overall.number.sum())
        lines = [
            f"Validation: {_percent(self.overall)} of {number} samples of "
            f"{f'{count} ' if count > 1 else ''}{noun} (100 is perfect, 0 the mean)",
            f"  starts     {found}; the model is simulated from there",
        ]
        lines += table(self._rows())
        lines += [f"  note       {note}" for note in self.notes]
        return "\n".join(lines)

    def _rows(self) -> list[list[str]]:
        """The cells of the printed table."""
        first = self.trajectories[0]
        rows = [["", "channel", "fit %", "RMSE", "R2", "samples"]]
        names = [with_unit(name, first) for name in channel_names(self.trajectories)]
        called = [experiment(item, k) for k, item in enumerate(self.trajectories)]
        shown = called if len(called) * len(names) <= _MOST_ROWS else []
        for k, name in enumerate(shown):
            rows += _cells(name, names, list(self.by_series.at(k)))
        if len(called) > 1 or not shown:
            rows += _cells("all", names, list(self.overall))
        if not shown:
            fits = [self.by_series.at(k).average("fit") for k in range(len(called))]
            worst = int(np.argmin(np.where(np.isnan(fits), -np.inf, fits)))
            rows += _cells(f"worst: {called[worst]}", names, list(self.by_series.at(worst)))
        unit = first.units.get("time", "")
        for item in self.forecasts:
            rows += _cells(f"over {item.horizon:g} {unit}".rstrip(), names, list(item.scores))
        return rows

    def __repr__(self) -> str:
        return f"Validation({len(self.trajectories)} series, {_percent(self.overall)})"


def _percent(scores: Scores) -> str:
    """The mean fit as text."""
    value = scores.average("fit")
    return "no fit percentage" if np.isnan(value) else f"fit {value:.4g}%"


_KEYS = ("fit", "rmse", "r2", "number")


def _cells(label: str, names: list[str], parts: list[np.ndarray]) -> list[list[str]]:
    fit, rmse, r2, number = parts
    return [
        [
            label if c == 0 else "",
            name,
            f"{fit[c]:.2f}",
            f"{rmse[c]:.4g}",
            f"{r2[c]:.4f}",
            str(int(number[c])),
        ]
        for c, name in enumerate(names)
    ]


def table(rows: list[list[str]]) -> list[str]:
    """Lines of a table: two columns of text, then numbers."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  "
        + "  ".join(
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
