"""Forecasts: held-out data predicted over a horizon, from states that fit what came before."""

import warnings
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Float

from .._data import Trajectory, changed, measured_channels
from .._grid import Grid
from .._guess import guess
from .._jumps import changes
from .._nlp import NLP
from .._rollout import rollout
from .._solution import Solution
from .._solve import solve
from .._solver import AbstractSolver
from .._transcribe import transcribe_again


# Windows are spread evenly where there would be more.
_MOST_WINDOWS = 40


class Forecasts(eqx.Module):
    """Windows of held-out data, in each of which a state is found that the next is predicted from.

    `test` is the NLP of all windows, each a trajectory of its own, and `start` states for it;
    window `i` is of trajectory `members[i]`.
    """

    test: NLP
    start: list[np.ndarray]
    members: tuple[int, ...] = eqx.field(static=True)
    horizon: float = eqx.field(static=True)

    @classmethod
    def of(cls, nlp: NLP, held_out: list[tuple[int, float]], horizon: float) -> "Forecasts | None":
        """Of trajectories of `nlp` from the times on at which their held-out parts begin.

        None where no window has data behind it.
        """
        places = []
        for k, begin in held_out:
            last = nlp.trajectories[k].ts[-1]
            count = int(np.ceil((last - begin) / horizon - 1e-9))
            places += [(k, begin + (i + 1) * horizon) for i in range(count - 1)]
        if len(places) > _MOST_WINDOWS:
            chosen = np.linspace(0, len(places) - 1, _MOST_WINDOWS).round().astype(int)
            places = [places[i] for i in chosen]
        windows, grids, members = [], [], []
        for k, end in places:
            item, grid = nlp.trajectories[k], nlp.grids[k]
            part = _between(item, end - horizon, end)
            if part is None:
                continue
            count = max(2, round(horizon / float(np.median(grid.widths))))
            windows.append(part)
            grids.append(Grid.uniform(end - horizon, end, min(count, 100), grid.scheme))
            members.append(k)
        if not windows or not measured_channels(windows).all():
            warnings.warn(
                f"`horizon` is too long for what is held out, or no data lie behind a window "
                f"({horizon:g}): all of it is predicted at once.",
                stacklevel=2,
            )
            return None
        test = transcribe_again(nlp, grids, data=windows, constraints=())
        return cls(test, guess(test, weights="as_given").states, tuple(members), horizon)

    def predicted(
        self, nlp: NLP, weights: Float[np.ndarray, " weight"], solver: AbstractSolver
    ) -> list[tuple[int, np.ndarray, np.ndarray, Any, Any]]:
        """For each window: trajectory, which of its times are predicted, states, model, `args`."""
        held = self.test.with_weights_held(weights)
        z = self.test.pack_head(weights, self.start)
        sol: Solution = solve(held, solver, z, throw=False)
        result = []
        for path, args, k in zip(sol.paths, sol.args, self.members, strict=True):
            end, ts = float(path.grid.boundaries[-1]), nlp.trajectories[k].ts
            # What lies behind a jump of unknown amounts cannot be predicted.
            unknown = [item.t for item in nlp.trajectories[k].jumps if item.has_unknown]
            until = min([end + self.horizon, *(t for t in unknown if t >= end)])
            ahead = (ts > end) & (ts <= until)
            later = [item.at_start for item in nlp.trajectories[k].jumps if item.t >= end]
            jumps = changes(later, sol.model, args)
            times = np.append(end, ts[ahead])
            states = rollout(sol.model, times, path.states[-1], args, jumps=jumps).states
            result.append((k, ahead, states[1:], sol.model, args))
        return result


def _between(item: Trajectory, begin: float, end: float) -> Trajectory | None:
    """The samples of a part of the time, with a start of their own; None where there are none."""
    there = (item.ts >= begin) & (item.ts <= end)
    if not item.observed[there].any():
        return None
    return changed(
        item, ts=item.ts[there], ys=item.ys[there], weights=item.weights[there], y0=None,
        y0_prior=None, t0=None, jumps=[jump for jump in item.jumps if begin <= jump.t < end],
    )  # fmt: skip
