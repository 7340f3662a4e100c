"""Tables of a solution: long ones of its samples or states, and a wide one."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from ._comparison import observed, rolled_out, seen_on_paths, state_spreads
from ._names import channel_names, experiments, state_names
from ._solution import Solution


def samples_table(sol: Solution) -> Any:
    """A row for every measured value."""
    names = channel_names(sol.nlp.trajectories)
    columns: dict[str, list[Any]] = {}
    called = experiments(sol.labels)
    pairs = zip(seen_on_paths(sol), seen_in_rollouts(sol), strict=True)
    for k, (seen, rolled) in enumerate(pairs):
        item = sol.nlp.trajectories[k]
        row, channel = np.nonzero(item.measured)
        ys = item.ys[row, channel]
        part = {
            "experiment": [called[k]] * len(row),
            "time": item.ts[row],
            "channel": [names[c] for c in channel],
            "observed": ys,
            "predicted": seen[row, channel],
            "residual": ys - seen[row, channel],
            "rollout": finite(rolled[row, channel]),
            "weight": item.weights[row, channel],
        }
        for name, values in part.items():
            columns.setdefault(name, []).extend(values)
    return _frame(columns)


def states_table(sol: Solution) -> Any:
    """A row for every state at every node."""
    names = _states(sol)
    columns: dict[str, list[Any]] = {}
    for k, called in enumerate(experiments(sol.labels)):
        path = sol.paths[k]
        # Of the nodes at a jump the one before it and one after it.
        _, own = np.unique(path.grid.sides, return_index=True)
        values = path.states[own]
        nodes, states = values.shape
        rolled = np.full(values.shape, np.nan)
        if sol.verification is not None:
            rolled = finite(sol.verification.rollouts[k][own])
        part = {
            "experiment": [called] * values.size,
            "time": np.repeat(path.grid.times[own], states),
            "state": list(names) * nodes,
            "path": values.ravel(),
            "rollout": rolled.ravel(),
        }
        for name, column in part.items():
            columns.setdefault(name, []).extend(column)
    return _frame(columns)


def wide_table(sol: Solution) -> Any:
    """A row for every node and observation time, indexed by trajectory and time."""
    import pandas as pd

    states = [name.removeprefix("state ") for name in _states(sol)]
    frames = []
    for k, path in enumerate(sol.paths):
        data = sol.nlp.trajectories[k] if sol.problem is not None else None
        ts = path.grid.times if data is None else np.append(path.grid.times, data.ts)
        times = np.unique(np.clip(ts, *path.grid.boundaries[[0, -1]]))
        parts = [_columns("path", states, times, path.grid.interpolate(path.states, times))]
        if path.algebraic_states is not None:
            more = np.asarray(path.algebraic(times))
            parts.append(_columns("algebraic", [str(i) for i in range(more.shape[1])], times, more))
        if sol.verification is not None:
            # At a jump the state before it, as on the path.
            nodes, first = np.unique(path.grid.times, return_index=True)
            parts.append(_columns("rollout", states, nodes, sol.verification.rollouts[k][first]))
        if data is not None:
            _, first = np.unique(data.ts, return_index=True)
            names = [name.removeprefix("channel ") for name in channel_names([data])]
            parts.append(_columns("data", names, data.ts[first], data.ys[first]))
        frames.append(pd.concat(parts, axis=1))
    return pd.concat(frames, keys=experiments(sol.labels), names=["trajectory", "time"])


def seen_in_rollouts(sol: Solution) -> list[Float[np.ndarray, "time obs"]]:
    """What would be measured of each rollout at the observation times."""
    spreads, seen = state_spreads(sol), []
    for k, item in enumerate(sol.nlp.trajectories):
        states = rollout_at(sol, k, item.ts, spreads[k])
        seen.append(observed(sol.nlp, sol.model, sol.args[k], item.ts, states))
    return seen


def rollout_at(
    sol: Solution,
    k: int,
    ts: Float[np.ndarray, " time"],
    spread: Float[np.ndarray, " state"],
) -> Float[np.ndarray, "time state"]:
    """The states of trajectory `k` rolled out from its path's start; NaN behind a failure.

    `spread` is the scale of its states.
    """
    edges = sol.paths[k].grid.boundaries
    inside = np.clip(ts, edges[0], edges[-1])
    times = np.unique(np.append(edges[0], inside))
    states = rolled_out(sol, k, times, spread).states
    return finite(states[np.searchsorted(times, inside)])


def finite(values: np.ndarray) -> np.ndarray:
    """The values, NaN in the place of what is infinite."""
    return np.where(np.isfinite(values), values, np.nan)


def _states(sol: Solution) -> Sequence[str]:
    if sol.problem is not None:
        return state_names(sol.problem)
    return [f"state {s}" for s in range(sol.paths[0].states.shape[1])]


def _frame(columns: dict[str, list[Any]]) -> Any:
    import pandas as pd

    return pd.DataFrame(columns)


def _columns(kind: str, names: Sequence[str], times: np.ndarray, values: np.ndarray) -> Any:
    import pandas as pd

    return pd.DataFrame(values, index=times, columns=[f"{kind}_{name}" for name in names])
