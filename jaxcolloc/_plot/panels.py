"""Panels of one trajectory: what was measured, path, rollout, bands, inputs, jumps, errors."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from .._comparison import observed
from .._data import Trajectory
from .._names import channel_names, state_names, with_unit
from .._solution import Solution
from .._tables import finite
from .._uncertainty import Band, Uncertainty
from .._verification import Verification
from .inputs import curves
from .style import DATA, FLOOR, GRID, INPUT, JUMP, PATH, ROLLOUT, label


Bands = tuple[Band | None, Band | None]
# The level of bands, and how far they may widen a panel, as a share of it.
_LEVEL, _ROOM = 0.95, 0.3
_DENSE = 1000


class Curves(NamedTuple):
    """States or channels of one trajectory: names with units, and their curves.

    Path and rollout at the times `dense`, samples `ys` at `ts`: None for states that are not
    measured as they are. Bands are those of the path and of new measurements.
    """

    names: tuple[str, ...]
    dense: Float[np.ndarray, " point"]
    path: Float[np.ndarray, "point column"]
    rollout: Float[np.ndarray, "point column"]
    ts: Float[np.ndarray, " time"]
    ys: Float[np.ndarray, "time obs"] | None
    bands: Bands

    @classmethod
    def of_states(
        cls, sol: Solution, k: int, rolled: Float[np.ndarray, "point state"], u: Uncertainty | None
    ) -> "Curves":
        """The states, with the samples of those that are measured as they are.

        `rolled` are those of the rollout at the `dense_times`.
        """
        path, item, nlp = sol.paths[k], sol.nlp.trajectories[k], sol.nlp
        dense = dense_times(sol, k)
        names = tuple(with_unit(name, item) for name in state_names(nlp))
        states = path.grid.interpolate(path.states, dense)
        new = None if nlp.observe is not None else _band(u, k, dense, "observations", True)
        bands = _band(u, k, dense, "states", False), new
        ys = item.ys if nlp.observe is None else None
        return cls(names, dense, states, rolled, item.ts, ys, bands)

    @classmethod
    def of_channels(
        cls, sol: Solution, k: int, rolled: Float[np.ndarray, "point state"], u: Uncertainty | None
    ) -> "Curves":
        """What would be measured on path and rollout, with the samples."""
        item, nlp = sol.nlp.trajectories[k], sol.nlp
        if nlp.observe is None:
            states, count = cls.of_states(sol, k, rolled, u), item.num_channels
            return states._replace(
                names=states.names[:count], path=states.path[:, :count],
                rollout=states.rollout[:, :count],
            )  # fmt: skip
        path, dense = sol.paths[k], dense_times(sol, k)
        states_there = path.grid.interpolate(path.states, dense)
        names = tuple(with_unit(name, item) for name in channel_names(nlp.trajectories))
        seen, later = (
            observed(nlp, sol.model, sol.args[k], dense, states)
            for states in (states_there, rolled)
        )
        bands = tuple(_band(u, k, dense, "observations", noise) for noise in (False, True))
        return cls(names, dense, seen, finite(later), item.ts, item.ys, (bands[0], bands[1]))

    def draw(self, axis: Any, column: int, name: bool = True) -> None:
        """One of them, with its name if that is wanted."""
        ys = None if self.ys is None or column >= self.ys.shape[1] else self.ys[:, column]
        if ys is not None:
            axis.plot(self.ts, ys, ".", color=DATA, ms=5, label="data", zorder=3)
        axis.plot(self.dense, self.path[:, column], color=PATH, lw=2.0, label="path")
        axis.plot(self.dense, self.rollout[:, column], "--", color=ROLLOUT, lw=1.3, label="rollout")
        if name:
            axis.set_ylabel(label(self.names[column]))
        limit(axis, [self.path[:, column], *([] if ys is None else [ys])])
        _draw_bands(axis, (self.bands[0], None if ys is None else self.bands[1]), column)


def dense_times(sol: Solution, k: int) -> Float[np.ndarray, " point"]:
    """Times at which a path is drawn: the nodes, and many others."""
    grid = sol.paths[k].grid
    edges = grid.boundaries
    return np.unique(np.concatenate([grid.times, np.linspace(edges[0], edges[-1], _DENSE)]))


def _band(u: Uncertainty | None, k: int, dense: np.ndarray, of: str, noise: bool) -> Band | None:
    return None if u is None else u.bands(dense, k, of=of, noise=noise, level=_LEVEL)


def _draw_bands(axis: Any, bands: Bands, column: int) -> None:
    """Bands behind the curves, and more room for them; what is infinite fills the panel."""
    labels = (f"{_LEVEL:.0%} of the path", f"{_LEVEL:.0%} of new data")
    bottom, top = axis.get_ylim()
    far = top - bottom
    for band, name, alpha in zip(bands, labels, (0.3, 0.12), strict=True):
        if band is None:
            continue
        lower, upper = (
            np.clip(side[:, column], bottom - far, top + far) for side in (band.lower, band.upper)
        )
        axis.fill_between(
            band.at, lower, upper, color=PATH, alpha=alpha, lw=0, zorder=1, label=name
        )
        low, high = axis.get_ylim()
        room = _ROOM * far
        axis.set_ylim(
            min(low, max(float(np.nanmin(lower, initial=low)), bottom - room)),
            max(high, min(float(np.nanmax(upper, initial=high)), top + room)),
        )


def limit(axis: Any, curves: Sequence[np.ndarray]) -> None:
    """Room for path and data; a rollout that leaves them is cut off."""
    values = np.concatenate(curves)
    values = values[np.isfinite(values)]
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    margin = 0.15 * (high - low) if high > low else max(abs(high), 1.0)
    axis.set_ylim(low - margin, high + margin)


def draw_grid(axis: Any, edges: np.ndarray) -> None:
    """The boundaries of intervals, where they are not too many."""
    if len(edges) <= 200:
        for edge in edges:
            axis.axvline(edge, color=GRID, lw=0.6, zorder=0)


def draw_jumps(axis: Any, item: Trajectory) -> None:
    """The times at which the state is changed."""
    times = sorted({float(jump.t) for jump in item.jumps})
    for position, time in enumerate(times):
        name = "jump of the state" if position == 0 else None
        axis.axvline(time, color=JUMP, lw=1.0, ls=":", zorder=1, label=name)


def draw_inputs(axes: Sequence[Any], sol: Solution, k: int) -> None:
    """One sampled input on each axis."""
    item = sol.nlp.trajectories[k]
    found = curves(item.args, dense_times(sol, k))
    for axis, curve in zip(axes, found, strict=False):
        for column in curve.values.T:
            axis.plot(curve.times, column, color=INPUT, lw=1.5, label="input")
        axis.set_ylabel(label(with_unit(curve.name, item)))
        limit(axis, [curve.values.ravel()])


def draw_errors(axis: Any, edges: np.ndarray, report: Verification, k: int) -> None:
    """Each interval's error and the residual between its nodes."""
    errors = (
        ("error of an interval", report.interval_errors[k]),
        ("residual between nodes", report.residuals[k]),
    )
    # Jumps are intervals without width, and without errors.
    wide = np.diff(edges) > 0
    edges = np.append(edges[:-1][wide], edges[-1])
    for (name, values), color in zip(errors, (ROLLOUT, PATH), strict=True):
        shown = np.maximum(np.where(np.isfinite(values), values, np.nan), FLOOR)
        axis.stairs(shown[wide], edges, color=color, lw=1.4, label=name, baseline=None)
    axis.set_yscale("log")
    axis.set_ylabel("intervals")
