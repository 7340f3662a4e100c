"""Selection: of models and penalties, those that predict held-out data best."""

from typing import Any

import numpy as np

from .._check import describe, positive
from .._data import Trajectory
from .._guess import Guess, guess
from .._nlp import NLP
from .._solution import Solution
from .._solve import solve
from .holdout import Holdout, Score, hold_out
from .starts import TRIAL_STEPS, Search, title


# Factors of the data's variance that are tried as `l2`, the strongest first.
_LADDER = (1e-3, 1e-4, 1e-5, 1e-6)
# A weaker penalty must predict held-out data better by this much.
_BETTER = 0.95


def penalties_of(l2: Any, trajectories: tuple[Trajectory, ...]) -> list[Any]:
    """The factors of the ridge penalty to choose from, the strongest first."""
    if isinstance(l2, (list, tuple)) or (isinstance(l2, np.ndarray) and l2.ndim == 1):
        values = sorted((positive("l2", item) for item in l2), reverse=True)
        if not values:
            raise ValueError("`l2` must be a number or a list of at least one; got none.")
        return list(values)
    if l2 is not None:
        return [l2]
    total = sum(
        float(np.nansum(item.weights * (item.ys - np.nanmean(item.ys, axis=0)) ** 2))
        if item.measured.any() else 0.0
        for item in trajectories
    )  # fmt: skip
    variance = total / sum(len(item.ts) for item in trajectories)
    return [factor * (variance if variance > 0 else 1.0) for factor in _LADDER]


def select(
    nlps: list[NLP], penalties: list[Any], holdout: Holdout, share: float, search: Search
) -> tuple[NLP, Guess, list[dict[str, Any]], list[dict[str, Any]]]:
    """The NLP of the model and penalty that predict held-out data best, with a start."""
    rows: list[dict[str, Any]] = []
    # Weak penalties hardly move the solution within a loose tolerance.
    trial = search.solver.loosened(0.0, TRIAL_STEPS)
    chosen: tuple[NLP, Holdout, Any, Solution, Score, list[dict[str, Any]]] | None = None
    best = np.inf
    for number, nlp in enumerate(nlps):
        if number:
            other = hold_out(search.coarse(nlp), share)
            assert other is not None
            holdout = other
        start: Any = None
        log: list[dict[str, Any]] = []
        for penalty in penalties:
            train = holdout.train.with_l2(penalty)
            if start is None:
                search.whole, search.holdout = nlp, holdout
                start, log = search.best(train)
            shown = title(search.progress, f"l2 {_text(penalty)}")
            sol = solve(train, trial, start, throw=False, progress=shown)
            search.check()
            score = holdout.score(sol, search.solver)
            rows.append(
                {
                    "model": number,
                    "l2": penalty,
                    "held_out_error": score.error,
                    "objective": sol.objective,
                    "result": sol.result.name,
                    "num_steps": sol.stats["num_steps"],
                }
            )
            if sol.result.ok:
                start = sol.z
            if chosen is None or score.error < _BETTER * best:
                chosen, best = (nlp, holdout, penalty, sol, score, log), score.error
    assert chosen is not None
    nlp, holdout, penalty, sol, score, log = chosen
    first = guess(nlp, states=search.states, weights="as_given")
    start = holdout.whole_start(nlp, sol, score.estimate, first)
    return nlp.with_l2(penalty), start, rows, log


def _text(penalty: Any) -> str:
    return f"{penalty:.2g}" if isinstance(penalty, float) else describe(penalty)
