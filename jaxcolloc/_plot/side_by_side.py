"""Panels of several trajectories side by side, the channels of each one below another."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .panels import limit
from .style import headline, label, legend, plain, pyplot, short


# The most trajectories in a row.
_COLUMNS = 4


class Panels:
    """A figure with a panel for each of `count` trajectories and `channels` channels.

    A channel has the same range in all trajectories of a row.
    """

    def __init__(self, count: int, channels: int):
        self.columns, self.channels = _num_columns(count), channels
        rows = -(-count // self.columns)
        self.figure = pyplot().figure(
            figsize=(3.1 * self.columns + 1.0, (1.9 * channels + 0.25) * rows + 1.0),
            layout="constrained",
        )
        self._grid = self.figure.add_gridspec(rows * channels, self.columns)
        self._axes: dict[tuple[int, int], Any] = {}
        self._values: dict[tuple[int, int], list[np.ndarray]] = {}

    def add(self, place: int, channel: int) -> Any:
        """The axis of a trajectory's channel."""
        row = place // self.columns
        where = self._grid[row * self.channels + channel, place % self.columns]
        share = self._axes.get((row * self.columns, channel))
        axis = self.figure.add_subplot(where, sharex=self._axes.get((place, 0)), sharey=share)
        axis.tick_params(labelbottom=channel == self.channels - 1, labelleft=share is None)
        self._axes[place, channel] = axis
        return axis

    def is_first(self, place: int) -> bool:
        """Whether a trajectory is the first of its row, where axes have names."""
        return place % self.columns == 0

    def make_room(self, place: int, channel: int, values: list[np.ndarray]) -> None:
        """Values that must be seen on the axis of a channel, whose row then has room for them."""
        key = place // self.columns * self.columns, channel
        self._values.setdefault(key, []).extend(values)
        limit(self._axes[key], self._values[key])

    def name(self, place: int, called: str, more: str, time: str) -> None:
        """A trajectory's title and the name of its axis of time."""
        title = label(short(called) + more, 36)
        self._axes[place, 0].set_title(title, fontsize="small")
        self._axes[place, self.channels - 1].set_xlabel(plain(time), fontsize="small")

    def finished(self, lines: Sequence[str]) -> Any:
        """The figure, with its title and legend."""
        headline(self.figure, lines)
        legend(self.figure, list(self._axes.values()))
        return self.figure


def _num_columns(count: int) -> int:
    """How many trajectories stand side by side: as many as leave few places empty."""
    if count <= _COLUMNS:
        return count
    return min((_COLUMNS, _COLUMNS - 1), key=lambda columns: -count % columns)
