"""plot_simulated: unseen series and what a model simulates of them."""

from collections.abc import Sequence
from typing import Any

from .._names import channel_names, with_unit
from .panels import draw_jumps
from .side_by_side import Panels
from .style import DATA, ROLLOUT, label


# The most channels and series.
_MOST, _MOST_SERIES = 8, 24


def plot_simulated(found: Any, called: Sequence[str], title: str) -> Any:
    """A picture of a `jc.Validation` whose series are called like this."""
    items = found.trajectories
    names = channel_names(items)
    channels, count = min(len(names), _MOST), min(len(items), _MOST_SERIES)
    panels = Panels(count, channels)
    for place in range(count):
        item, scored = items[place], found.scored[place]
        for channel in range(channels):
            axis = panels.add(place, channel)
            there = scored[:, channel]
            ys = item.ys[:, channel]
            axis.plot(item.ts[there], ys[there], ".", color=DATA, ms=5, label="data", zorder=3)
            if (item.measured[:, channel] & ~there).any():
                axis.plot(
                    item.ts[~there], ys[~there], "o", mfc="none", color=DATA, ms=4, zorder=3,
                    label="data that are not scored",
                )  # fmt: skip
            curve = found.simulated[place][:, channel]
            axis.plot(found.times[place], curve, color=ROLLOUT, lw=1.5, label="simulation")
            if panels.is_first(place):
                axis.set_ylabel(label(with_unit(names[channel], item)))
            draw_jumps(axis, item)
            panels.make_room(place, channel, [ys])
        panels.name(place, called[place], "", with_unit("time", item))
    lines = [title]
    if count < len(items) or channels < len(names):
        lines.append(
            f"Shown are {count} of {len(items)} series and {channels} of {len(names)} channels."
        )
    return panels.finished(lines)
