"""validate: a fitted model on series that it has not seen."""

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from .._check import integer, positive
from .._comparison import observed
from .._data import Trajectory, as_trajectories, changed, counts
from .._default_solver import default_solver
from .._fit.forecasts import Forecasts
from .._grid import Grid, Grids, as_grids
from .._jumps import Jump, changes
from .._names import experiment, given_channels
from .._nlp import NLP
from .._rollout import END, rollout
from .._smooth import channel_spread
from .._solution import Solution, check_solution
from .._solver import AbstractSolver, check_solver
from .._verification import rms
from .estimate import Estimate, estimated, far_from, problem_of, weighted_alike
from .scores import Scores, pooled
from .validation import Forecast, Validation


# How far a simulation may be from the path whose start it has, as a share of a channel's spread.
_AWAY = 0.1
# Times, besides those of the samples, at which a simulation is kept for pictures.
_DENSE = 300


def validate(
    sol: Solution,
    data: Trajectory | Sequence[Trajectory],
    *,
    samples: int | None = None,
    horizons: float | Sequence[float] = (),
    grid: Grids | None = None,
    solver: AbstractSolver | None = None,
) -> Validation:
    r"""Judge a fitted model on series that it has not seen, by free-running simulation.

        found = jc.validate(sol, unseen, horizons=[1.0, 5.0])
        print(found)
        found.fit, found.to_frame()

    The model is left as it is. For every series the initial state (and what is a `jc.Unknown` in
    its `args` or `jumps`) is found by the same nonlinear program with the weights held; the model
    is then integrated from there over the whole series, without another look at the data, and
    compared with them channel by channel:

    $$\mathrm{fit} = 100 \Big(1 - \frac{\|y - \hat y\|}{\|y - \bar y\|}\Big), \qquad
      R^2 = 1 - \frac{\|y - \hat y\|^2}{\|y - \bar y\|^2},$$

    and the root mean square of $y - \hat y$ in the channel's unit. A fit of 100 is perfect, 0 is
    that of the mean, and it may be negative.

    **Arguments:**

    - `sol`: from `jc.fit` or `jc.solve`.
    - `data`: the unseen series, one `jc.Trajectory` or a list of them, of the same channels. A
      `y0` is taken as known.
    - `samples`: how many observation times at the beginning of each series the initial state is
      found from; these are then not scored. All if not given: then the start has seen the data, as
      is usual in system identification, but nothing else has. Hidden states need as many samples as
      tell them.
    - `horizons`: times over which forecasts are scored as well. Each series is cut into windows of
      that length; the state at the end of a window is found from the samples in it, and those of
      the next window are predicted from there.
    - `grid`: of the search for initial states; as fine as that of the fit if not given.
    - `solver`: of that search; that of the fit if not given.

    Where a rollout fails, its figures are NaN and `notes` say why.
    **Errors:** `ValueError` for bad arguments and for data of other channels.

    Ljung, "System Identification" (1999), section 16.6, for simulation on fresh data; the fit
    percentage is that of MATLAB's `compare`.
    """
    check_solution("sol", sol)
    nlp = sol.nlp
    items = _checked(nlp, data)
    if samples is not None:
        samples = integer("samples", samples, 1)
    spans = _horizons(horizons)
    solver = _solver(nlp, sol, solver)
    parts = items if samples is None else [_first(item, samples) for item in items]
    grids = None if grid is None else as_grids(grid, tuple(parts))
    start = estimated(sol, parts, grids, solver)
    places = zip(items, start.states, start.args, start.jumps, start.begins, strict=True)
    series = [_simulated(sol, item, *where) for item, *where in places]
    seen = [part.seen for part in series]
    there = [_scored(item, samples) for item in items]
    _check_left(there, samples)
    rows = [
        Scores.of(item.ys, values, use)
        for item, values, use in zip(items, seen, there, strict=True)
    ]
    forecasts, notes = _forecasts(sol, items, start, spans, solver)
    return Validation(
        trajectories=tuple(items),
        samples=samples,
        predicted=tuple(seen),
        times=tuple(part.times for part in series),
        simulated=tuple(part.curve for part in series),
        scored=tuple(there),
        starts=tuple(start.states),
        args=tuple(start.args),
        by_series=Scores.stacked(rows),
        overall=pooled(items, seen, there),
        forecasts=tuple(forecasts),
        notes=(
            *start.notes,
            *_failures(items, [part.end for part in series]),
            *_departures(sol, items, start, series),
            *notes,
        ),
        estimate=start.sol,
    )


def _checked(nlp: NLP, data: Any) -> list[Trajectory]:
    items = weighted_alike(nlp, as_trajectories(data))
    channels, wanted = items[0].num_channels, nlp.trajectories[0].num_channels
    if channels != wanted:
        raise ValueError(f"`data` must have the fit's {wanted} channels; got {channels}.")
    names, known = given_channels(items), given_channels(nlp.trajectories)
    if names is not None and known is not None and names != known:
        raise ValueError(f"`data` must have the fit's channels {known}; got {names}.")
    units = nlp.trajectories[0].units
    return [
        changed(item, channels=item.channels or known, units=item.units or units) for item in items
    ]


def _horizons(value: Any) -> list[float]:
    listed = isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.ndim == 1)
    return [positive("horizons", item) for item in (value if listed else [value])]


def _solver(nlp: NLP, sol: Solution, solver: Any) -> AbstractSolver:
    if solver is None:
        solver = sol.solver
    if solver is None:
        return default_solver(nlp)
    check_solver(solver)
    return solver


def _first(item: Trajectory, samples: int) -> Trajectory:
    """The first observation times of a series."""
    times = np.unique(item.ts[item.observed])
    last = times[min(samples, len(times)) - 1] if len(times) else item.ts[0]
    there = item.ts <= last
    late = [jump.t for jump in item.jumps if jump.has_unknown and jump.t >= last]
    if late:
        raise ValueError(
            "`samples` must reach beyond the jumps whose amounts are jc.Unknown; that at "
            f"{late[0]:g} is not before the last of the first {samples} times, {last:g}."
        )
    return changed(
        item, ts=item.ts[there], ys=item.ys[there],
        weights=item.weights[there] if item.weighted else None,
    )  # fmt: skip


def _scored(item: Trajectory, samples: int | None) -> Bool[np.ndarray, "time obs"]:
    there = counts(item)
    if samples is None:
        return there
    return there & (item.ts > _first(item, samples).ts[-1])[:, None]


def _check_left(there: list[np.ndarray], samples: int | None) -> None:
    if not any(part.any() for part in there):
        raise ValueError(
            f"`samples` must leave some to be scored; {samples} of each series are all."
        )


class _Simulated(NamedTuple):
    """What the model predicts of a series from its start, NaN behind a failure.

    `curve` at the many `times`, `seen` at those of the samples; how the rollout ended.
    """

    times: Float[np.ndarray, " point"]
    curve: Float[np.ndarray, "point obs"]
    seen: Float[np.ndarray, "time obs"]
    end: END


def _simulated(
    sol: Solution,
    item: Trajectory,
    state: np.ndarray,
    args: Any,
    jumps: Sequence[Jump],
    begin: float,
) -> _Simulated:
    """One series, simulated from this state at the time `begin`."""
    times = np.linspace(begin, float(item.ts[-1]), _DENSE)
    times = np.unique(np.concatenate([[begin], times, item.ts]))
    far = far_from(sol.nlp, state)
    own = changes(jumps, sol.model, args)
    found = rollout(sol.model, times, state, args, far=far, jumps=own)
    values = observed(sol.nlp, sol.model, args, times, found.states)
    failed = ~np.isfinite(found.states).all(axis=1)
    curve = np.where(failed[:, None] | ~np.isfinite(values), np.nan, values)
    return _Simulated(times, curve, curve[np.searchsorted(times, item.ts)], found.end)


def _failures(items: list[Trajectory], ends: list[END]) -> list[str]:
    words = {
        END.infinite: "ends in infinity",
        END.out_of_steps: "ran out of steps: the model moves much faster than the data",
    }
    return [
        f"The rollout of {experiment(item, k)} {words[end]}."
        for k, (item, end) in enumerate(zip(items, ends, strict=True))
        if end is not END.complete
    ]


def _departures(
    sol: Solution, items: list[Trajectory], start: Estimate, series: list[_Simulated]
) -> list[str]:
    """Where a simulation leaves the path whose start it has, so that another may be better."""
    if start.sol is None:
        return []
    found = []
    spread = channel_spread(items)
    for k, (item, path, part) in enumerate(zip(items, start.sol.paths, series, strict=True)):
        ts = item.ts[(item.ts >= path.grid.boundaries[0]) & (item.ts <= path.grid.boundaries[-1])]
        states = path.grid.interpolate(path.states, ts)
        seen = observed(sol.nlp, sol.model, start.args[k], ts, states)
        rolled = part.curve[np.searchsorted(part.times, ts)]
        away = np.array([rms(column) for column in (rolled - seen).T])
        if np.all(np.isfinite(rolled)) and np.any(away > _AWAY * spread):
            found.append(
                f"The simulation of {experiment(item, k)} leaves the path that its start was "
                "found with: errors grow along it, or a finer `grid` is needed."
            )
    return found


def _forecasts(
    sol: Solution,
    items: list[Trajectory],
    start: Estimate,
    horizons: list[float],
    solver: AbstractSolver,
) -> tuple[list[Forecast], list[str]]:
    """The scores over each horizon, and what went wrong."""
    if not horizons:
        return [], []
    fixed = [
        changed(item, args=args, jumps=jumps, t0=None, y0=None, y0_prior=None)
        for item, args, jumps in zip(items, start.args, start.jumps, strict=True)
    ]
    grids = None if start.sol is None else _covering(start.sol.nlp.grids, fixed)
    nlp = problem_of(sol, fixed, grids)
    found, notes = [], []
    for horizon in horizons:
        parts = list(enumerate(start.begins))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            windows = Forecasts.of(nlp, parts, horizon)
        if windows is None:
            notes.append(
                f"No forecast over {horizon:g}: too long for the series, or a channel was not "
                "measured in any window."
            )
            continue
        rows = windows.predicted(nlp, sol.weights, solver)
        ys, seen, there = [], [], []
        for k, which, states, model, args in rows:
            item = fixed[k]
            ys.append(item.ys[which])
            seen.append(observed(nlp, model, args, item.ts[which], states))
            there.append(counts(item)[which])
        values = np.concatenate(seen)
        scores = Scores.of(np.concatenate(ys), values, np.concatenate(there))
        failed = sum(bool(np.any(~np.isfinite(part))) for part in seen)
        if failed:
            notes.append(f"{failed} of {len(rows)} forecasts over {horizon:g} are not finite.")
        found.append(Forecast(horizon, len(rows), scores))
    return found, notes


def _covering(grids: Sequence[Grid], items: list[Trajectory]) -> list[Grid] | None:
    """These grids, if they cover the whole series."""
    good = all(grid.covers(item.ts) for grid, item in zip(grids, items, strict=True))
    return list(grids) if good else None
