"""The judge of `verdicts.py`: SciPy integrates the trained model, and numbers decide.

Nothing of the library's own verification is used: the field is called in float64 from
`scipy.integrate.solve_ivp`, between all boundaries of the grid and samples of inputs one by one, so
that no step passes over any of them.
"""

import dataclasses
import itertools
import warnings
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from scipy.integrate import solve_ivp

import jaxcolloc as jc


RTOL, ATOL = 1e-9, 1e-12
# Calls of the field that one piece of a rollout may take, by method.
CALLS = {"DOP853": 20_000, "LSODA": 100_000, "Radau": 100_000}
# A rollout this many times as large as the path has left for good.
GONE = 1e6
# What a rollout may be off: this share of a channel's spread, or the noise, if that is more.
SHARE = 0.1
# What a constraint may be off, as a share of its scale.
HOLDS = 1e-3


class Stopped(Exception):
    """An integration that takes too many steps or leaves for infinity."""


def integrate(
    model: Any,
    args: Any,
    times: np.ndarray,
    start: np.ndarray,
    cuts: np.ndarray,
    size: np.ndarray,
    gone: float = GONE,
) -> np.ndarray:
    """States at `times` (increasing, the first is that of `start`), NaN behind a failure.

    `cuts` are the times where one integration ends and the next begins, `size` the magnitude of
    each state, for the absolute tolerance; a state beyond `gone` times that has failed.
    """
    with jax.enable_x64(True):
        model, args = jtu.tree_map(_as_float64, (model, args))
        field = jax.jit(lambda t, y: model(t, y, args))
        slope = jax.jit(jax.jacfwd(lambda y, t: model(t, y, args)))
        states = np.full((len(times), len(start)), np.nan)
        states[0] = start
        inner = cuts[(cuts > times[0]) & (cuts < times[-1])]
        edges = np.unique(np.concatenate([times[[0, -1]], inner]))
        share = 1.0 / np.clip(2000 // len(edges), 1, 8)
        methods = list(CALLS)
        for first, last in itertools.pairwise(edges):
            inside = (times > first) & (times <= last)
            at = np.unique(np.append(times[inside], last))
            found = None
            while methods:
                rest = (start, at, size, gone, (last - first) * share)
                found = _piece(field, slope, methods[0], first, last, *rest)
                if found is not None:
                    break
                # A field that is stiff here is stiff behind it.
                methods.pop(0)
            if found is None:
                break
            states[inside], start = found[: np.sum(inside)], found[-1]
    return states


def _piece(
    field: Callable[..., Any],
    slope: Callable[..., Any],
    method: str,
    first: float,
    last: float,
    start: np.ndarray,
    at: np.ndarray,
    size: np.ndarray,
    gone: float,
    step: float,
) -> np.ndarray | None:
    """States at the times `at` between `first` and `last`; None where `method` fails."""
    # A held input has its new value only behind the jump.
    after = np.nextafter(first, np.inf)
    calls = 0

    def called(t: float, y: np.ndarray) -> np.ndarray:
        nonlocal calls
        calls += 1
        if calls > CALLS[method] or not np.all(np.abs(y) < gone * size):
            raise Stopped
        return np.asarray(field(max(t, after), y))

    implicit: dict[str, Any] = {}
    if method != "DOP853":
        implicit["jac"] = lambda t, y: np.asarray(slope(y, max(t, after)))
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            found = solve_ivp(
                called, (first, last), start, method, at, max_step=step,
                rtol=RTOL, atol=ATOL * size, **implicit,
            )  # fmt: skip
    except (Stopped, ValueError, np.linalg.LinAlgError):
        return None
    whole = found.success and found.y.shape[1] == len(at) and bool(np.all(np.isfinite(found.y)))
    return found.y.T if whole else None


def _as_float64(leaf: Any) -> Any:
    return jnp.asarray(leaf, jnp.float64) if eqx.is_inexact_array_like(leaf) else leaf


def input_times(args: Any) -> np.ndarray:
    """The sample times of all inputs in `args`."""
    leaves = jtu.tree_leaves(args, is_leaf=lambda leaf: isinstance(leaf, jc.Input))
    found = [np.asarray(leaf.ts) for leaf in leaves if isinstance(leaf, jc.Input)]
    return np.concatenate([*found, np.zeros(0)])


def observed(
    seen: Callable[..., Any], model: Any, args: Any, ts: np.ndarray, ys: np.ndarray
) -> np.ndarray:
    """What `seen(model, t, y, args)` makes of the states `ys` at the times `ts`."""
    with jax.enable_x64(True):
        model, args = jtu.tree_map(_as_float64, (model, args))
        each = jax.vmap(lambda t, y: seen(model, t, y, args))
        return np.asarray(jax.jit(each)(jnp.asarray(ts), jnp.asarray(ys)))


def rms(values: np.ndarray) -> float:
    """The root mean square; infinite where a value is not finite, 0 without values."""
    if values.size == 0:
        return 0.0
    with np.errstate(all="ignore"):
        value = float(np.sqrt(np.mean(np.square(values))))
    return value if np.isfinite(value) else np.inf


@dataclasses.dataclass
class Judgement:
    """What the judge finds: whether the fit is right, and the numbers.

    - `why`: each reason for which the fit is not right.
    - `error`, `between`: the rollout's root mean square error against the noise-free truth, over
      what the rule allows, at the samples and everywhere; the worst channel.
    - `r2`: the rollout's coefficient of determination on the data, the worst channel.
    - `departure`: the largest distance of rollout and path, in the path's spreads.
    """

    why: list[str]
    error: float
    between: float
    r2: float
    departure: float

    @property
    def right(self) -> bool:
        """Whether nothing speaks against the fit."""
        return not self.why


def judge(problem: Any, sol: jc.Solution) -> Judgement:
    """The judgement on a solution of one problem of `_verdict_cases`."""
    rows = [_trajectory(problem, sol, k) for k in range(len(sol.paths))]
    error = _error(problem, [row["samples"] for row in rows])
    why = [] if sol.result.ok else [f"the solve ended with {sol.result.name}"]
    if error > 1:
        why.append(f"the rollout is off by {error:.3g} times what it may")
    why += violations(problem, sol)
    if not problem.trains:
        why.append("there is nothing to train")
    return Judgement(
        why=why,
        error=error,
        between=_error(problem, [row["everywhere"] for row in rows]),
        r2=_determination([row["residuals"] for row in rows], problem.experiment.noisy),
        departure=max(row["departure"] for row in rows),
    )


def _trajectory(problem: Any, sol: jc.Solution, k: int) -> dict[str, Any]:
    """One trajectory integrated: its errors at the samples and everywhere, and its departure."""
    path, args, truth = sol.paths[k], sol.args[k], problem.experiment
    grid, ts = path.grid, truth.ts[k]
    dense = np.clip(truth.dense[k], *grid.boundaries[[0, -1]])
    ts = np.clip(ts, *grid.boundaries[[0, -1]])
    times = np.unique(np.concatenate([grid.times, ts, dense]))
    size = np.max(np.abs(path.states), axis=0)
    size = np.where(size > 0, size, 1.0)
    cuts = np.concatenate([grid.boundaries, input_times(args)])
    states = integrate(sol.model, args, times, np.asarray(path.states[0]), cuts, size)
    seen = observed(problem.seen, sol.model, args, times, states)
    at, everywhere = np.searchsorted(times, ts), np.searchsorted(times, dense)
    spread = path.states.std(axis=0)
    away = states[np.searchsorted(times, grid.times)] - path.states
    with np.errstate(all="ignore"):
        departure = np.max(np.abs(away) / np.where(spread > 0, spread, size))
    there = ~np.isnan(truth.noisy[k])
    error = seen[at] - truth.clean[k]
    return {
        "samples": np.where(there, error, 0.0),
        "everywhere": seen[everywhere] - truth.dense_clean[k],
        "residuals": np.where(there, seen[at] - truth.noisy[k], np.nan * there),
        "departure": float(departure) if np.isfinite(departure) else np.inf,
    }


def _error(problem: Any, errors: list[np.ndarray]) -> float:
    """The worst channel's error over what the rule allows, all trajectories together."""
    truth = problem.experiment
    allowed = np.maximum(truth.sigma, SHARE * truth.spread)
    columns = np.concatenate(errors).T
    return max(rms(column) / one for column, one in zip(columns, allowed, strict=True))


def _determination(residuals: list[np.ndarray], noisy: list[np.ndarray]) -> float:
    """The worst channel's coefficient of determination; minus infinity behind a failure."""
    worst = 1.0
    for rest, data in zip(np.concatenate(residuals).T, np.concatenate(noisy).T, strict=True):
        there = ~np.isnan(data)
        total = np.sum((data[there] - data[there].mean()) ** 2)
        with np.errstate(all="ignore"):
            value = 1 - np.sum(rest[there] ** 2) / total if total > 0 else 1.0
        worst = min(worst, float(value) if np.isfinite(value) else -np.inf)
    return worst


def violations(problem: Any, sol: jc.Solution) -> list[str]:
    """Which of the stated constraints and known starts the paths break."""
    found = []
    spread = np.concatenate([path.states for path in sol.paths]).std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    stated = list(problem.options.get("constraints", ()))
    if problem.options.get("state_bounds") is not None:
        lower, upper = problem.options["state_bounds"]
        stated.append(jc.StateBounds(None, lower, upper))
    for item in stated:
        off = max((_off(item, sol, k, spread) for k in range(len(sol.paths))), default=0.0)
        if off > HOLDS:
            found.append(f"{type(item).__name__} is broken by {off:.2g} of its scale")
    for path, data in zip(sol.paths, problem.data, strict=True):
        if data.y0 is not None:
            gap = np.abs(path.states[0] - data.y0) / spread
            if np.nanmax(gap) > HOLDS:
                found.append(f"a known start is missed by {np.nanmax(gap):.2g} of its spread")
    return found


def _off(item: Any, sol: jc.Solution, k: int, spread: np.ndarray) -> float:
    """By what share of its scale one trajectory breaks a constraint."""
    path = sol.paths[k]
    if isinstance(item, jc.Tie):
        if k != item.first:
            return 0.0
        return float(np.max(np.abs(path.states[-1] - sol.paths[item.second].states[0]) / spread))
    if item.trajectories is not None and k not in item.trajectories:
        return 0.0
    where = {"nodes": slice(None), "start": slice(0, 1), "end": slice(-1, None)}[item.at]
    times, states = path.grid.times[where], path.states[where]
    if isinstance(item, jc.StateBounds):
        components = range(states.shape[1]) if item.components is None else item.components
        values, scale = states[:, list(components)], spread[list(components)]
    else:
        args = sol.args[k]
        values = observed(lambda m, t, y, a: jnp.atleast_1d(item.function(t, y, a)), sol.model,
                          args, times, states)  # fmt: skip
        scale = np.maximum(values.std(axis=0), _side_size(item))
    scale = np.where(scale > 0, scale, 1.0)
    off = np.maximum(item.lower - values, values - item.upper) / scale
    return float(np.max(off))


def _side_size(item: Any) -> np.ndarray:
    """The magnitude of a constraint's finite sides."""
    lower, upper = (np.where(np.isfinite(side), side, 0.0) for side in (item.lower, item.upper))
    return np.maximum(np.abs(lower), np.abs(upper))
