"""plot: one trajectory in detail, or several in one figure."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .._check import describe, integer
from .._comparison import state_spreads
from .._names import experiment, with_unit
from .._solution import Solution, check_solution
from .._tables import rollout_at
from .._uncertainty import Uncertainty
from .._verification import Verification
from .._verify import verify
from .inputs import curves
from .panels import (
    Curves,
    dense_times,
    draw_errors,
    draw_grid,
    draw_inputs,
    draw_jumps,
)
from .side_by_side import Panels
from .style import headline, legend, plain, pyplot


# The most panels of states, of channels and of inputs, and of panels in one column.
_MOST, _MOST_INPUTS, _MOST_ROWS = 8, 4, 6


def plot(
    sol: Solution,
    trajectory: int | str | Sequence[int | str] = 0,
    *,
    uncertainty: Uncertainty | None = None,
) -> Any:
    """Draw data, path and rollout of one trajectory or several, with the verdict.

        u = jc.uncertainty(sol)
        jc.plot(sol, uncertainty=u).savefig("fit.png")
        jc.plot(sol, "all").savefig("all.png")

    Of one trajectory there is a panel for each state (the first eight), with the data where they
    are states; with `observe` one for each channel as well, of the data and of what would be
    measured on path and rollout; one for each sampled input (the first four); and one with each
    interval's error and the residual between its nodes. Boundaries of the grid and jumps of the
    state are marked. Of several trajectories there is a panel for each and every channel.

    **Arguments:**

    - `sol`: from `jc.fit` or `jc.solve`; it is verified if it was not.
    - `trajectory`: its position or its name; a list of these, or "all", for several.
    - `uncertainty`: of `sol`, from `jc.uncertainty`: with it, the 95% bands of the path and, paler,
      of new measurements are drawn.

    Returns the matplotlib `Figure`. **Errors:** `ImportError` without matplotlib; `ValueError` for
    a trajectory that is not there, and for the uncertainty of another solution.
    """
    check_solution("sol", sol)
    check_uncertainty(uncertainty, sol)
    several = positions(sol, trajectory)
    pyplot()
    report = verify(sol) if sol.verification is None else sol.verification
    if isinstance(several, int):
        return _one(sol, report, several, uncertainty)
    return _several(sol, report, several, uncertainty)


def positions(sol: Solution, trajectory: Any) -> int | list[int]:
    """The position of one trajectory, or of several."""
    count = len(sol.paths)
    names = [item.name for item in sol.nlp.trajectories]
    if isinstance(trajectory, str):
        if trajectory == "all" and "all" not in names:
            return list(range(count))
        if trajectory not in names:
            known = ", ".join(f'"{name}"' for name in names if name is not None)
            raise ValueError(
                f"`trajectory` must be the name of a trajectory{f' ({known})' if known else ''}, "
                f'a position below {count}, "all" or a list; got {trajectory!r}.'
            )
        return names.index(trajectory)
    if isinstance(trajectory, (list, tuple, range)):
        if not trajectory:
            raise ValueError("`trajectory` must name at least one; got none.")
        found = [positions(sol, item) for item in trajectory]
        if not all(isinstance(item, int) for item in found):
            raise ValueError(
                f"`trajectory` must be a list of positions or names; got {describe(trajectory)}."
            )
        return [item for item in found if isinstance(item, int)]
    k = integer("trajectory", trajectory, 0)
    if k >= count:
        raise ValueError(f"`trajectory` must be below {count}; got {k}.")
    return k


def check_uncertainty(value: Any, sol: Solution) -> None:
    """Refuse what is no uncertainty of this solution."""
    if value is None:
        return
    if not isinstance(value, Uncertainty):
        raise ValueError(
            f"`uncertainty` must be what jc.uncertainty(sol) returns; got {describe(value)}."
        )
    if not np.array_equal(value.solution.z, sol.z):
        raise ValueError("`uncertainty` must be that of `sol`; it is that of another solution.")


def _one(sol: Solution, report: Verification, k: int, u: Uncertainty | None) -> Any:
    """One trajectory: states, channels, inputs, errors of the intervals."""
    item, edges = sol.nlp.trajectories[k], sol.paths[k].grid.boundaries
    rolled = rollout_at(sol, k, dense_times(sol, k), state_spreads(sol)[k])
    parts = [Curves.of_states(sol, k, rolled, u)]
    if sol.nlp.observe is not None:
        parts.append(Curves.of_channels(sol, k, rolled, u))
    shown = [(part, c) for part in parts for c in range(min(len(part.names), _MOST))]
    every = len(curves(item.args, dense_times(sol, k)))
    inputs = min(every, _MOST_INPUTS)
    count = len(shown) + inputs + 1
    columns = 1 if count <= _MOST_ROWS else 2
    rows = -(-count // columns)
    figure = pyplot().figure(
        figsize=(9.0 if columns == 1 else 13.0, 1.7 * rows + 1.2), layout="constrained"
    )
    axes: list[Any] = []
    # Down the first column, then down the second.
    grid = figure.add_gridspec(rows, columns)
    for panel in range(count):
        where = grid[panel % rows, panel // rows]
        axes.append(figure.add_subplot(where, sharex=axes[0] if axes else None))
    for axis, (part, column) in zip(axes, shown, strict=False):
        draw_grid(axis, edges)
        part.draw(axis, column)
        draw_jumps(axis, item)
    draw_inputs(axes[len(shown) : len(shown) + inputs], sol, k)
    draw_errors(axes[-1], edges, report, k)
    for panel, axis in enumerate(axes):
        last = panel == count - 1 or panel % rows == rows - 1
        axis.tick_params(labelbottom=last)
        if last:
            axis.set_xlabel(plain(with_unit("time", item)))
    figure.align_ylabels(axes)
    headline(figure, _headline(sol, report, k, [len(part.names) for part in parts], every))
    legend(figure, axes)
    return figure


def _headline(
    sol: Solution, report: Verification, k: int, counts: list[int], inputs: int
) -> list[str]:
    item = sol.nlp.trajectories[k]
    causes = ", ".join(cause.name for cause in report.causes)
    first = f"{item.name}: {causes}" if item.name else causes
    second = (
        f"RMSE {report.path_rmse[k]:.3g} on the path, {report.rollout_rmse[k]:.3g} in the rollout; "
        f"{sol.paths[k].grid!r}"
    )
    left = [f"the first {_MOST} of {count} states or channels" for count in counts if count > _MOST]
    left += [f"the first {_MOST_INPUTS} of {inputs} inputs"] if inputs > _MOST_INPUTS else []
    return [first, second, *([f"Shown are {' and '.join(left)}."] if left else [])]


def _several(sol: Solution, report: Verification, chosen: list[int], u: Uncertainty | None) -> Any:
    """Several trajectories side by side, the channels of each one below another."""
    spreads = state_spreads(sol)
    rolled = [rollout_at(sol, k, dense_times(sol, k), spreads[k]) for k in chosen]
    pairs = zip(chosen, rolled, strict=True)
    parts = [Curves.of_channels(sol, k, states, u) for k, states in pairs]
    channels = min(len(parts[0].names), _MOST)
    panels = Panels(len(chosen), channels)
    for place, (k, part) in enumerate(zip(chosen, parts, strict=True)):
        item = sol.nlp.trajectories[k]
        for channel in range(channels):
            axis = panels.add(place, channel)
            part.draw(axis, channel, name=panels.is_first(place))
            draw_jumps(axis, item)
            ys = [] if part.ys is None else [part.ys[:, channel]]
            panels.make_room(place, channel, [part.path[:, channel], *ys])
        verdict = "" if report.follows[k] else " (the rollout leaves the path)"
        panels.name(place, experiment(item, k), verdict, with_unit("time", item))
    causes = ", ".join(cause.name for cause in report.causes)
    lines = [f"{causes}: {len(chosen)} of {len(sol.paths)} trajectories"]
    if len(parts[0].names) > _MOST:
        lines.append(f"Shown are the first {_MOST} of {len(parts[0].names)} channels.")
    return panels.finished(lines)
