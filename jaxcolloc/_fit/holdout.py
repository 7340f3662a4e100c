"""Held-out data: what a fit has not seen, and how well its model predicts it."""

from typing import Any

import equinox as eqx
import numpy as np

from .._comparison import observed
from .._constraints import as_constraints
from .._continuation import extended, first_window
from .._data import Trajectory, counts, measured_channels
from .._grid import moved
from .._guess import Guess, guess
from .._jumps import changes
from .._names import experiment
from .._nlp import NLP
from .._rollout import rollout
from .._smooth import channel_spread
from .._solution import Solution
from .._solve import solve
from .._solver import AbstractSolver
from .._transcribe import transcribe_again
from .forecasts import Forecasts


# With so many trajectories whole ones are held out, with fewer the end of each.
_WHOLE = 4
# An error of more than this many spreads of a channel counts as that.
_WORST = 2.0


class Score(eqx.Module):
    """How well a model predicts what is held out.

    `error` is the root mean square of the rollouts' errors in channels' spreads; `estimate` the
    solution for the states of held-out trajectories, if whole ones are held out.
    """

    error: float
    estimate: Solution | None


class Holdout(eqx.Module):
    """An NLP of a part of the data, and the rest.

    `members` are the trajectories held out, `test` their NLP and `start` states for it; None
    where it is the end of every trajectory that is held out. `forecasts` are made where prediction
    is asked for over a horizon.
    """

    nlp: NLP
    train: NLP
    test: NLP | None = None
    start: list[np.ndarray] | None = None
    members: tuple[int, ...] = eqx.field(static=True, default=())
    forecasts: Forecasts | None = None

    @property
    def text(self) -> str:
        """What is held out, in words."""
        if self.test is not None:
            items = self.nlp.trajectories
            names = [str(k) if items[k].name is None else experiment(items[k], k)
                     for k in self.members]  # fmt: skip
            return f"trajectories {', '.join(names)}"
        return "the end of every trajectory"

    def score(self, sol: Solution, solver: AbstractSolver) -> Score:
        """The error of the rollouts of `sol`, a solution of `train`."""
        spread = channel_spread(self.nlp.trajectories)
        parts: list[np.ndarray] = []
        estimate = None if self.test is None else self._estimate(self.test, sol, solver)
        if self.forecasts is not None:
            for k, which, states, model, args in self.forecasts.predicted(
                self.nlp, sol.weights, solver
            ):
                item = self.nlp.trajectories[k]
                parts.append(self._errors(model, args, item, which, states, spread))
        elif self.test is None:
            parts = self._ends(sol, spread)
        elif estimate is not None:
            for i, k in enumerate(self.members):
                path, args, item = estimate.paths[i], estimate.args[i], self.nlp.trajectories[k]
                times = np.append(path.grid.boundaries[0], item.ts)
                jumps = changes(estimate.jumps[i], sol.model, args)
                states = rollout(sol.model, times, path.states[0], args, jumps=jumps).states[1:]
                every = np.ones(len(item.ts), bool)
                parts.append(self._errors(sol.model, args, item, every, states, spread))
        errors = np.concatenate([np.zeros(0), *parts])
        return Score(float(np.sqrt(np.mean(errors**2))) if len(errors) else np.inf, estimate)

    def _ends(self, sol: Solution, spread: np.ndarray) -> list[np.ndarray]:
        """The errors of each trajectory behind the end of what was fitted."""
        parts = []
        for k, item in enumerate(self.nlp.trajectories):
            path, args = sol.paths[k], sol.args[k]
            end = path.grid.boundaries[-1]
            unseen = item.ts > end
            times = np.append(end, item.ts[unseen])
            later = item.jumps[len(path.grid.jump_times) :]
            jumps = changes(later, sol.model, args)
            states = rollout(sol.model, times, path.states[-1], args, jumps=jumps).states[1:]
            parts.append(self._errors(sol.model, args, item, unseen, states, spread))
        return parts

    def whole_start(
        self, nlp: NLP, sol: Solution, estimate: Solution | None, first: Guess
    ) -> Guess:
        """A start for `nlp`, all of the data on any grid, from what a part has shown.

        `estimate` is the solution for the trajectories that were held out; where there is none,
        theirs are the states of `first`.
        """
        if self.test is None:
            return extended(nlp, nlp, first, sol)
        shown = first.states if estimate is None else None
        paths: dict[int, Any] = {}
        if estimate is not None:
            paths = dict(zip(self.members, estimate.paths, strict=True))
        rest = iter(sol.paths)
        states = []
        for k, grid in enumerate(nlp.grids):
            if shown is not None and k in self.members:
                states.append(shown[k])
                continue
            path = paths[k] if k in paths else next(rest)
            states.append(moved(path.grid, path.states, grid))
        return Guess.at(nlp, nlp.pack_head(sol.weights, states), first.key)

    def _errors(
        self,
        model: Any,
        args: Any,
        item: Trajectory,
        which: np.ndarray,
        states: np.ndarray,
        spread: np.ndarray,
    ) -> np.ndarray:
        seen = observed(self.nlp, model, args, item.ts[which], states)
        there = counts(item)[which]
        with np.errstate(invalid="ignore", over="ignore"):
            errors = (np.abs(seen - item.ys[which]) / spread)[there]
        return np.where(np.isfinite(errors), np.minimum(errors, _WORST), _WORST)

    def _estimate(self, test: NLP, sol: Solution, solver: AbstractSolver) -> Solution:
        """States (and unknowns) of the held-out trajectories for the model as it is."""
        assert self.start is not None
        weights = sol.weights
        z = test.pack_head(weights, self.start)
        return solve(test.with_weights_held(weights), solver, z, throw=False)


def hold_out(nlp: NLP, share: float, horizon: float | None = None) -> Holdout | None:
    """Part of the NLP's data held out; None where there is not enough for that.

    To be predicted over all of it, or over a horizon in windows.
    """
    count = len(nlp.trajectories)
    if count >= _WHOLE and not as_constraints(nlp.settings.constraints, count):
        step = max(2, round(1 / share))
        members = tuple(range(step // 2, count, step))
        kept = [k for k in range(count) if k not in members]
        data = [nlp.trajectories[k] for k in kept]
        if measured_channels(data).all():
            train = transcribe_again(nlp, [nlp.grids[k] for k in kept], data=data)
            unseen = [nlp.trajectories[k] for k in members]
            if not measured_channels(unseen).all():
                return None
            test = transcribe_again(nlp, [nlp.grids[k] for k in members], data=unseen)
            start = guess(test, weights="as_given").states
            parts = [(k, float(nlp.grids[k].boundaries[0])) for k in members]
            forecasts = None if horizon is None else Forecasts.of(nlp, parts, horizon)
            return Holdout(nlp, train, test, start, members, forecasts)
    window = first_window(nlp, 1 - share)
    if window is None:
        return None
    ends = [grid.boundaries[-1] for grid in window.grids]
    pairs = zip(nlp.trajectories, ends, strict=True)
    later = sum(int(np.sum(item.observed[item.ts > end])) for item, end in pairs)
    if later < 3:
        return None
    parts = [(k, float(end)) for k, end in enumerate(ends)]
    forecasts = None if horizon is None else Forecasts.of(nlp, parts, horizon)
    return Holdout(nlp, window, forecasts=forecasts)
