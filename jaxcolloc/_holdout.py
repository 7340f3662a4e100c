"""Held-out data: what a fit has not seen, and how well its model predicts it."""

from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Float

from ._args import as_arrays
from ._continuation import first_window
from ._data import Trajectory
from ._guess import guess
from ._nlp import NLP
from ._solution import Solution
from ._solve import solve
from ._solver import AbstractSolver
from ._transcribe import transcribe, transcribe_again
from ._verify import observed, rollout


# With so many trajectories whole ones are held out, with fewer the end of each.
_WHOLE = 4
# An error of more than this many spreads of a channel counts as that.
_WORST = 2.0


class Holdout(eqx.Module):
    """An NLP of a part of the data, and the rest.

    `members` are the trajectories held out; None where it is the end of every one.
    """

    nlp: NLP
    train: NLP
    members: tuple[int, ...] | None = eqx.field(static=True)

    @property
    def text(self) -> str:
        """What is held out, in words."""
        if self.members is not None:
            return f"trajectories {', '.join(map(str, self.members))}"
        return "the end of every trajectory"

    def score(self, sol: Solution, solver: AbstractSolver) -> float:
        """Root mean square of the rollouts' errors on held-out samples, in channels' spreads."""
        spread = channel_spread(self.nlp.trajectories)
        parts = []
        if self.members is None:
            for k, item in enumerate(self.nlp.trajectories):
                path = sol.paths[k]
                end = path.grid.boundaries[-1]
                unseen = item.ts > end
                times = np.append(end, item.ts[unseen])
                states = rollout(sol.model, times, path.states[-1], sol.args[k])[1:]
                parts.append(self._errors(sol.model, sol.args[k], item, unseen, states, spread))
        else:
            estimate = self._estimate(sol, solver)
            for path, args, k in zip(estimate.paths, estimate.args, self.members, strict=True):
                item = self.nlp.trajectories[k]
                times = np.append(path.grid.boundaries[0], item.ts)
                states = rollout(sol.model, times, path.states[0], args)[1:]
                every = np.ones(len(item.ts), bool)
                parts.append(self._errors(sol.model, args, item, every, states, spread))
        errors = np.concatenate([np.zeros(0), *parts])
        return float(np.sqrt(np.mean(errors**2))) if len(errors) else np.inf

    def _errors(
        self,
        model: Any,
        args: Any,
        item: Trajectory,
        which: np.ndarray,
        states: np.ndarray,
        spread: np.ndarray,
    ) -> np.ndarray:
        seen = observed(self.nlp, model, as_arrays(args), item.ts[which], states)
        there = item.measured[which]
        with np.errstate(invalid="ignore", over="ignore"):
            errors = (np.abs(seen - item.ys[which]) / spread)[there]
        return np.where(np.isfinite(errors), np.minimum(errors, _WORST), _WORST)

    def _estimate(self, sol: Solution, solver: AbstractSolver) -> Solution:
        """States (and unknowns) of the held-out trajectories for the model as it is."""
        assert self.members is not None
        fixed = {"trainable": False, "l2": 0.0, "weight_bounds": None, "weight_scale": None}
        settings = self.nlp.settings | fixed | {"constraints": ()}
        if self.nlp.observe is not None and self.nlp.observe.form == "method":
            settings["observe"] = self.nlp.observe.function.__get__(sol.model)
        data = [self.nlp.trajectories[k] for k in self.members]
        grids = [self.nlp.grids[k] for k in self.members]
        nlp = transcribe(sol.model, data, grids, **settings)
        return solve(nlp, solver, guess(nlp, weights="as_given"), throw=False)


def hold_out(nlp: NLP, share: float) -> Holdout | None:
    """Part of the NLP's data held out; None where there is not enough for that."""
    count = len(nlp.trajectories)
    if count >= _WHOLE and nlp.settings["constraints"] == ():
        step = max(2, round(1 / share))
        members = tuple(range(step // 2, count, step))
        kept = [k for k in range(count) if k not in members]
        data = [nlp.trajectories[k] for k in kept]
        if np.concatenate([item.measured for item in data]).any(axis=0).all():
            train = transcribe_again(nlp, [nlp.grids[k] for k in kept], data=data)
            return Holdout(nlp, train, members)
    window = first_window(nlp, 1 - share)
    if window is None:
        return None
    ends = [grid.boundaries[-1] for grid in window.grids]
    unseen = [
        item.observed[item.ts > end].sum() for item, end in zip(nlp.trajectories, ends, strict=True)
    ]
    return Holdout(nlp, window, None) if sum(unseen) >= 3 else None


def channel_spread(trajectories: tuple[Trajectory, ...]) -> Float[np.ndarray, " obs"]:
    """The standard deviation of each channel, one where it is constant."""
    spread = np.nanstd(np.concatenate([item.ys for item in trajectories]), axis=0)
    return np.where(spread > 0, spread, 1.0)
