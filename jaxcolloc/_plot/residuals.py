"""plot_residuals: what a fit has left, over time and against what it predicts."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .._check import flag
from .._comparison import seen_on_paths
from .._data import counts
from .._names import channel_names, experiment, with_unit
from .._solution import Solution, check_solution
from .plot import positions
from .style import GRID, headline, label, plain, pyplot, short


# The most channels, and the most trajectories that have a colour of their own.
_MOST, _COLOURS = 8, 10


def plot_residuals(
    sol: Solution, trajectory: int | str | Sequence[int | str] = "all", *, parity: bool = True
) -> Any:
    """Draw the residuals of the path, and what it predicts against what was observed.

    A row for each channel (the first eight): residuals (observed minus predicted) over time with
    their root mean square, and beside them the parity plot, in which a perfect fit is the diagonal.
    What is left should have no pattern in either.

    **Arguments:**

    - `sol`: from `jc.fit` or `jc.solve`.
    - `trajectory`: as in `jc.plot`; all of them if not given.
    - `parity`: whether the parity plots are drawn.

    Returns the matplotlib `Figure`. **Errors:** as `jc.plot`.
    """
    check_solution("sol", sol)
    flag("parity", parity)
    chosen = positions(sol, trajectory)
    chosen = [chosen] if isinstance(chosen, int) else chosen
    plt = pyplot()
    items = sol.nlp.trajectories
    names = [with_unit(name, items[chosen[0]]) for name in channel_names(items)]
    rows, columns = min(len(names), _MOST), 2 if parity else 1
    figure, axes = plt.subplots(
        rows, columns, figsize=(5.0 * columns + 1.0, 2.1 * rows + 1.2), squeeze=False,
        layout="constrained",
        width_ratios=[1.6, 1.0] if parity else None,
    )  # fmt: skip
    seen = seen_on_paths(sol)
    for position, k in enumerate(chosen):
        color = f"C{position % 10}" if len(chosen) <= _COLOURS else "C0"
        for channel in range(rows):
            there = counts(items[k])[:, channel]
            ys, predicted = items[k].ys[there, channel], seen[k][there, channel]
            style = {"color": color, "ms": 4, "alpha": 0.8, "label": experiment(items[k], k)}
            axes[channel, 0].plot(items[k].ts[there], ys - predicted, "o", **style)
            if parity:
                axes[channel, 1].plot(predicted, ys, "o", **style)
    sizes = [_size(axis) for axis in axes[:, 0]]
    for channel, (axis, size) in enumerate(zip(axes[:, 0], sizes, strict=True)):
        axis.axhline(0.0, color="0.3", lw=1.0, zorder=0)
        axis.axhspan(-size, size, color=GRID, alpha=0.6, lw=0, zorder=0)
        axis.set_ylabel(label(f"residual of {names[channel]}"))
        if parity:
            _diagonal(axes[channel, 1], names[channel])
    axes[-1, 0].set_xlabel(plain(with_unit("time", items[chosen[0]])))
    figure.align_ylabels(axes[:, 0])
    lines = [f"Residuals on the path; grey: their root mean square ({_texts(names, sizes)})"]
    if len(names) > rows:
        lines.append(f"Shown are the first {rows} of {len(names)} channels.")
    headline(figure, lines)
    if 1 < len(chosen) <= _COLOURS:
        handles, called = axes[0, 0].get_legend_handles_labels()
        figure.legend(
            handles, [label(short(name), 30) for name in called], loc="outside right upper",
            frameon=False, fontsize="small",
        )  # fmt: skip
    return figure


def _size(axis: Any) -> float:
    """The root mean square of the residuals on an axis."""
    values = np.concatenate([np.zeros(0), *(line.get_ydata() for line in axis.get_lines())])
    return float(np.sqrt(np.mean(values**2))) if len(values) else 0.0


def _texts(names: list[str], sizes: list[float]) -> str:
    return ", ".join(f"{name} {size:.3g}" for name, size in zip(names, sizes, strict=False))


def _diagonal(axis: Any, name: str) -> None:
    """Equal axes with their diagonal."""
    values = [part for line in axis.get_lines() for part in line.get_data()]
    every = np.concatenate([np.zeros(0), *values])
    low, high = (float(every.min()), float(every.max())) if len(every) else (0.0, 1.0)
    margin = 0.05 * (high - low) if high > low else 1.0
    ends = [low - margin, high + margin]
    axis.plot(ends, ends, color="0.3", lw=1.0, zorder=0)
    axis.set(xlim=ends, ylim=ends, xlabel="predicted", ylabel=label(f"observed {name}"))
