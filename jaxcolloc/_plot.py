"""plot, plot_trace: pictures of a solution; they need matplotlib (the extra `plot`)."""

from typing import Any

import numpy as np

from ._check import describe, integer
from ._comparison import observed
from ._solution import Solution, check_solution
from ._uncertainty import Band, Uncertainty
from ._verification import Verification
from ._verify import verify


_MOST_STATES = 8
_PATH, _ROLLOUT, _DATA, _GRID = "C0", "C3", "0.35", "0.85"
# Nothing on a logarithmic axis lies below this.
_FLOOR = 1e-16
# The level of bands, and how far they may widen a panel, as a share of it.
_LEVEL, _ROOM = 0.95, 0.3

_Bands = tuple[Band | None, Band | None]


def _pyplot() -> Any:
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            "jc.plot needs matplotlib, which could not be imported: pip install matplotlib"
        ) from error
    return plt


def plot(sol: Solution, trajectory: int = 0, *, uncertainty: Uncertainty | None = None) -> Any:
    """Draw one trajectory: data, path, rollout, the grid, errors of the intervals, the verdict.

        u = jc.uncertainty(sol)
        jc.plot(sol, uncertainty=u).savefig("fit.png")

    One panel per state (the first eight), with the data where they are states; with `observe` one
    per channel as well, of the data and of what would be measured on path and rollout; and one with
    each interval's error and the residual between its nodes.

    **Arguments:**

    - `sol`: from `jc.fit` or `jc.solve`; it is verified if it was not.
    - `trajectory`: its position.
    - `uncertainty`: of `sol`, from `jc.uncertainty`: with it, the 95% bands of the path and, paler,
      of new measurements are drawn.

    Returns the matplotlib `Figure`. **Errors:** `ImportError` without matplotlib; `ValueError` for
    a trajectory that is not there, and for the uncertainty of another solution.
    """
    check_solution("sol", sol)
    _check_uncertainty(uncertainty, sol)
    k = integer("trajectory", trajectory, 0)
    if k >= len(sol.paths):
        raise ValueError(f"`trajectory` must be below {len(sol.paths)}; got {k}.")
    plt = _pyplot()
    report = verify(sol) if sol.verification is None else sol.verification
    path, data = sol.paths[k], sol.nlp.trajectories[k]
    times, edges = path.grid.times, path.grid.boundaries
    count = min(path.states.shape[1], _MOST_STATES)
    channels = 0 if sol.nlp.observe is None else min(data.num_channels, _MOST_STATES)
    figure, axes = plt.subplots(
        count + channels + 1, 1, figsize=(9, 1.9 * (count + channels) + 2.6), sharex=True,
        constrained_layout=True,
    )  # fmt: skip
    dense = np.unique(np.concatenate([times, np.linspace(edges[0], edges[-1], 1000)]))
    curve = path.grid.interpolate(path.states, dense)
    known, new = _bands(uncertainty, k, dense, "states")
    for state in range(count):
        axis = axes[state]
        _draw_grid(axis, edges)
        if sol.nlp.observe is None and state < data.num_channels:
            axis.plot(data.ts, data.ys[:, state], ".", color=_DATA, ms=4, label="data")
        axis.plot(dense, curve[:, state], color=_PATH, lw=2.2, label="path")
        rolled = report.rollouts[k][:, state]
        rolled = np.where(np.isfinite(rolled), rolled, np.nan)
        axis.plot(times, rolled, "--", color=_ROLLOUT, lw=1.4, label="rollout")
        axis.set_ylabel(f"state {state}")
        measured = sol.nlp.observe is None and state < data.num_channels
        _limit(axis, curve[:, state], data.ys[:, state] if measured else None)
        _draw_bands(axis, (known, new if measured else None), state)
    bands = _bands(uncertainty, k, dense, "observations") if channels else (None, None)
    _draw_channels(axes[count : count + channels], sol, report, k, dense, curve, bands)
    axes[0].legend(loc="best", ncols=3, frameon=False)
    _draw_errors(axes[-1], edges, report, k)
    axes[-1].set_xlabel("time")
    figure.suptitle(_headline(sol, report, k), x=0.02, ha="left")
    return figure


def _draw_channels(
    axes: Any,
    sol: Solution,
    report: Verification,
    k: int,
    dense: np.ndarray,
    curve: np.ndarray,
    bands: _Bands,
) -> None:
    """What would be measured on the path, at the times `dense`, and on the rollout; the data."""
    if not len(axes):
        return
    path, data = sol.paths[k], sol.nlp.trajectories[k]
    states = report.rollouts[k]
    seen = observed(sol.nlp, sol.model, sol.args[k], dense, curve)
    rolled = observed(sol.nlp, sol.model, sol.args[k], path.grid.times, states)
    rolled = np.where(np.isfinite(rolled), rolled, np.nan)
    for channel, axis in enumerate(axes):
        _draw_grid(axis, path.grid.boundaries)
        axis.plot(data.ts, data.ys[:, channel], ".", color=_DATA, ms=4, label="data")
        axis.plot(dense, seen[:, channel], color=_PATH, lw=2.2, label="path")
        axis.plot(path.grid.times, rolled[:, channel], "--", color=_ROLLOUT, lw=1.4,
                  label="rollout")  # fmt: skip
        axis.set_ylabel(f"channel {channel}")
        _limit(axis, seen[:, channel], data.ys[:, channel])
        _draw_bands(axis, bands, channel)
    axes[0].legend(loc="best", ncols=3, frameon=False)


def _check_uncertainty(value: Any, sol: Solution) -> None:
    if value is None:
        return
    if not isinstance(value, Uncertainty):
        raise ValueError(
            f"`uncertainty` must be what jc.uncertainty(sol) returns; got {describe(value)}."
        )
    if not np.array_equal(value.solution.z, sol.z):
        raise ValueError("`uncertainty` must be that of `sol`; it is that of another solution.")


def _bands(u: Uncertainty | None, k: int, dense: np.ndarray, of: str) -> _Bands:
    """The bands of states or observations at the times `dense`, and that of new measurements."""
    if u is None:
        return None, None
    new = u.bands(dense, k, of="observations", noise=True, level=_LEVEL)
    return u.bands(dense, k, of=of, level=_LEVEL), new


def _draw_bands(axis: Any, bands: _Bands, column: int) -> None:
    """Bands behind the curves, and more room for them; what is infinite fills the panel."""
    labels = (f"{_LEVEL:.0%} of the path", f"{_LEVEL:.0%} of new data")
    bottom, top = axis.get_ylim()
    far = top - bottom
    for band, label, alpha in zip(bands, labels, (0.3, 0.12), strict=True):
        if band is None:
            continue
        lower, upper = (
            np.clip(side[:, column], bottom - far, top + far) for side in (band.lower, band.upper)
        )
        axis.fill_between(
            band.at, lower, upper, color=_PATH, alpha=alpha, lw=0, zorder=1, label=label
        )
        low, high = axis.get_ylim()
        room = _ROOM * far
        axis.set_ylim(
            min(low, max(float(np.nanmin(lower, initial=low)), bottom - room)),
            max(high, min(float(np.nanmax(upper, initial=high)), top + room)),
        )


def _draw_grid(axis: Any, edges: np.ndarray) -> None:
    if len(edges) <= 200:
        for edge in edges:
            axis.axvline(edge, color=_GRID, lw=0.6, zorder=0)


def _limit(axis: Any, curve: np.ndarray, seen: np.ndarray | None) -> None:
    """Room for path and data; a rollout that leaves them is cut off."""
    values = curve if seen is None else np.concatenate([curve, seen[np.isfinite(seen)]])
    low, high = float(values.min()), float(values.max())
    margin = 0.15 * (high - low) if high > low else 1.0
    axis.set_ylim(low - margin, high + margin)


def _draw_errors(axis: Any, edges: np.ndarray, report: Verification, k: int) -> None:
    errors = (("error", report.interval_errors[k]), ("residual", report.residuals[k]))
    for (label, values), color in zip(errors, (_ROLLOUT, _PATH), strict=True):
        shown = np.maximum(np.where(np.isfinite(values), values, np.nan), _FLOOR)
        # A jump has no width to be drawn on.
        later = np.diff(edges) > 0
        axis.stairs(shown[later], np.unique(edges), color=color, lw=1.4, label=label, baseline=None)
    axis.set_yscale("log")
    axis.set_ylabel("intervals")
    axis.legend(loc="best", ncols=2, frameon=False)


def _headline(sol: Solution, report: Verification, k: int) -> str:
    return (
        f"{report.verdict.name}: RMSE {report.path_rmse[k]:.3g} on the path, "
        f"{report.rollout_rmse[k]:.3g} in the rollout; {sol.paths[k].grid!r}"
    )


# What each panel of `plot_trace` below the objective shows, by the columns of the trace.
_PANELS = {
    "infeasibility": {
        "primal_infeasibility": "constraint violation",
        "dual_infeasibility": "gradient of the Lagrangian",
        "mu": "barrier parameter",
        "gradient": "gradient",
        "primal": "primal residual",
        "dual": "dual residual",
    },
    "step": {
        "step_size": "accepted share of the step",
        "step_norm": "length of the step",
        "rho": "penalty",
    },
}


def plot_trace(sol: Solution) -> Any:
    """Draw the iterations: objective, infeasibilities or residuals, steps.

    Returns the matplotlib `Figure`. **Errors:** `ImportError` without matplotlib.
    """
    check_solution("sol", sol)
    plt = _pyplot()
    columns = sol.trace.columns
    number = columns["iteration"]
    regular = ~columns.get("restoration", np.zeros(len(number), bool))
    figure, axes = plt.subplots(3, 1, figsize=(9, 7), sharex=True, constrained_layout=True)
    objective = columns["objective"][regular]
    axes[0].plot(number[regular], objective, color=_PATH)
    axes[0].set_ylabel("objective")
    if len(objective) and np.all(objective > 0):
        axes[0].set_yscale("log")
    for axis, (title, lines) in zip(axes[1:], _PANELS.items(), strict=True):
        shown = {name: label for name, label in lines.items() if name in columns}
        if "step_size" in shown:
            shown.pop("step_norm", None)
        for name, label in shown.items():
            values = columns[name]
            axis.plot(
                number, values if title == "step" else np.maximum(values, _FLOOR), label=label
            )
        axis.set_ylabel(title)
        if title != "step":
            axis.set_yscale("log")
        if not regular.all() and "step_size" in shown:
            axis.plot(number[~regular], columns["step_size"][~regular], "x", color=_ROLLOUT,
                      label="restoration")  # fmt: skip
        axis.legend(frameon=False)
    axes[-1].set_xlabel("iteration")
    figure.suptitle(f"{sol.result.name} after {sol.stats['num_steps']} steps", x=0.02, ha="left")
    return figure
