"""Selection: of models and penalties, those that predict held-out data best."""

import warnings
from typing import Any, NamedTuple

from .._check import describe
from .._comparison import path_residuals, poor_paths
from .._guess import Guess, guess
from .._nlp import NLP
from .._optimum import held_out_gradient
from .._solution import Solution
from .holdout import Holdout, Score, hold_out
from .penalties import Penalties, factor_of
from .starts import Search, title
from .trial import solve_while


# A weaker penalty must predict held-out data better by this much.
_BETTER = 0.9
# The error of one whose own path does not follow its data counts as so much larger.
_POOR = 1.3
# An error as large as this predicts no better than the mean does.
_USELESS = 1.0
# The steps of a trial, and after which of them it is given up if it predicts worse and worse: one
# that overfits takes many steps to get there.
_STEPS, _LOOKS = 400, (64, 100, 200)
# Weaker penalties are not tried where one predicts worse by this factor than another that predicts
# this well.
_HOPELESS, _PREDICTS = 2.0, 0.5


class _Candidate(NamedTuple):
    """A model and penalty that were tried, and what came of it."""

    nlp: NLP
    holdout: Holdout
    penalty: Any
    sol: Solution
    score: Score
    log: list[dict[str, Any]]
    poor: bool

    @property
    def error(self) -> float:
        """The error of the prediction, that of a poor fit counting more."""
        return self.score.error * (_POOR if self.poor else 1.0)

    @property
    def rank(self) -> tuple[bool, float]:
        """Solved ones first, then those that predict better."""
        return not self.sol.result.ok, self.error


def select(
    problems: list[tuple[NLP, Penalties]], holdout: Holdout, share: float, search: Search
) -> tuple[NLP, Guess, list[dict[str, Any]], list[dict[str, Any]]]:
    """The NLP of the model and penalty that predict held-out data best, with a start.

    Trials that were not solved count only where none was. A best factor at the end of the default
    ladder extends it. Where none predicts anything, it is the middle one of the first model.
    """
    rows: list[dict[str, Any]] = []
    chosen: _Candidate | None = None
    everything: list[list[_Candidate]] = []
    for number, (nlp, penalties) in enumerate(problems):
        if number:
            other = hold_out(search.coarse(nlp), share, search.horizon)
            assert other is not None
            holdout = other
        find = _led if penalties.by_gradient else _tried
        tried, best = find(nlp, penalties, holdout, search)
        rows += [_row(number, item) for item in tried]
        everything.append(tried)
        if chosen is None or _beats(best, chosen):
            chosen = best
    assert chosen is not None
    if _say_if_poor(rows):
        chosen = everything[0][len(everything[0]) // 2]
    first = guess(chosen.nlp, states=search.states, weights="as_given")
    start = chosen.holdout.whole_start(chosen.nlp, chosen.sol, chosen.score.estimate, first)
    return chosen.nlp.with_l2(chosen.penalty), start, rows, chosen.log


def _beats(item: _Candidate, best: _Candidate) -> bool:
    """Whether a candidate is clearly better than the best before it."""
    if item.rank[0] != best.rank[0]:
        return item.rank[0] < best.rank[0]
    return item.rank[1] < _BETTER * best.rank[1]


def _tried(
    nlp: NLP, penalties: Penalties, holdout: Holdout, search: Search
) -> tuple[list[_Candidate], _Candidate]:
    """All penalties of one model, each from the solution with the one before; and the best."""
    tried: list[_Candidate] = []
    best: _Candidate | None = None
    for penalty in penalties.values:
        item = _trial(nlp, penalty, holdout, search, tried[-1] if tried else None, best)
        tried.append(item)
        best = item if best is None or _beats(item, best) else best
        if _overfits(item, best):
            break
    assert best is not None
    while best is tried[-1] or best is tried[0]:
        weaker = best is tried[-1]
        # A best that predicts nothing points nowhere.
        useful = best.sol.result.ok and best.score.error < _USELESS
        more = penalties.beyond(weaker) if useful else None
        if more is None:
            break
        found = _trial(nlp, more, holdout, search, best, best)
        values = penalties.values
        penalties = penalties._replace(values=[*values, more] if weaker else [more, *values])
        tried = [*tried, found] if weaker else [found, *tried]
        if not _beats(found, best):
            break
        best = found
    return tried, best


def _led(
    nlp: NLP, penalties: Penalties, holdout: Holdout, search: Search
) -> tuple[list[_Candidate], _Candidate]:
    """The penalties of one model to which the held-out error's derivative leads; and the best."""
    train = holdout.train.with_l2(penalties.middle)
    search.whole, search.holdout = nlp, holdout
    start, log = search.best(train)
    scores: list[tuple[Solution, Score]] = []

    def error(sol: Solution) -> float:
        search.check()
        score = holdout.score(sol, search.solver)
        scores.append((sol, score))
        return score.error

    with warnings.catch_warnings():
        # It is a trial: the row tells.
        warnings.filterwarnings("ignore", "The solver has not converged", UserWarning)
        solver = search.solver.loosened(0.0, _STEPS)
        found = held_out_gradient(train, error, solver, start, useless=_USELESS)
    tried = []
    for item in found:
        score = next(score for sol, score in scores if sol is item.solution)
        poor = bool(poor_paths(train, path_residuals(item.solution)))
        tried.append(_Candidate(nlp, holdout, item.l2, item.solution, score, log, poor))
    return tried, min(tried, key=lambda item: item.rank)


def _overfits(item: _Candidate, best: _Candidate) -> bool:
    """Whether a penalty is so weak that no weaker one need be tried."""
    sound = best.sol.result.ok and not best.poor and best.score.error < _PREDICTS
    return sound and item.score.error > _HOPELESS * best.score.error


def _trial(
    nlp: NLP,
    penalty: Any,
    holdout: Holdout,
    search: Search,
    before: _Candidate | None,
    best: _Candidate | None,
) -> _Candidate:
    """One penalty, solved from the solution with another, or after a search of starts.

    It is given up where it takes long and predicts worse on the way, and worse than `best`.
    """
    train = holdout.train.with_l2(penalty)
    start: Any
    if before is None:
        search.whole, search.holdout = nlp, holdout
        start, log = search.best(train)
    else:
        start, log = before.sol.z, before.log
    shown = title(search.progress, f"l2 {_text(penalty)}")

    def candidate(sol: Solution) -> _Candidate:
        score = holdout.score(sol, search.solver)
        poor = bool(poor_paths(train, path_residuals(sol)))
        return _Candidate(nlp, holdout, penalty, sol, score, log, poor)

    def worth(sol: Solution) -> bool:
        # A best that does not follow its own data is to be beaten.
        if before is None or best is None or best.poor or not best.sol.result.ok:
            return True
        item = candidate(sol)
        return item.score.error <= before.score.error or item.error <= best.error

    # Weak penalties hardly move the solution within a loose tolerance.
    solver = search.solver.loosened(0.0, _STEPS)
    sol = solve_while(train, solver, start, worth, _LOOKS, shown)
    search.check()
    return candidate(sol)


def _row(number: int, item: _Candidate) -> dict[str, Any]:
    return {
        "model": number,
        "l2": factor_of(item.penalty),
        "held_out_error": item.score.error,
        "objective": item.sol.objective,
        "result": item.sol.result.name,
        "num_steps": item.sol.stats["num_steps"],
    }


def _say_if_poor(rows: list[dict[str, Any]]) -> bool:
    """Whether held-out data say nothing for any of the candidates, with a warning."""
    least = min(row["held_out_error"] for row in rows)
    if least >= _USELESS:
        warnings.warn(
            "No penalty or model predicts the held-out data better than their mean does (the "
            f"least error is {least:.2g} of their spread), so the choice between them means "
            "little. Pass `l2`, more data, or a `horizon` over which prediction is possible.",
            stacklevel=5,
        )
    return bool(least >= _USELESS)


def _text(penalty: Any) -> str:
    factor = factor_of(penalty)
    return f"{factor:.2g}" if isinstance(factor, float) else describe(factor)
