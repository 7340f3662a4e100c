"""Selection: of models and penalties, those that predict held-out data best."""

import warnings
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from .._check import describe, positive
from .._comparison import path_residuals, poor_paths
from .._data import Trajectory
from .._guess import Guess, guess
from .._likelihoods import is_likelihood
from .._loss import Loss, squared_error
from .._nlp import NLP
from .._noise import noise_levels
from .._ridge import OnNets, net_weights
from .._smooth import channel_means, channel_spread
from .._solution import Solution
from .._transcription.units import with_weights
from .holdout import Holdout, Score, hold_out
from .starts import Search, title
from .trial import solve_while


# Factors of the data's variance that are tried as `l2`, the strongest first, and how far beyond
# them where the best is the last.
_LADDER = (1e-3, 1e-4, 1e-5, 1e-6)
_WEAKEST, _STRONGEST, _RUNG = 1e-10, 1.0, 10.0
# A weaker penalty must predict held-out data better by this much.
_BETTER = 0.9
# The error of one whose own path does not follow its data counts as so much larger.
_POOR = 1.3
# The steps of a trial, and after which of them it is given up if it predicts worse and worse: one
# that overfits takes many steps to get there.
_STEPS, _LOOKS = 400, (64, 100, 200)
# Weaker penalties are not tried where one predicts worse by this factor than another that predicts
# this well.
_HOPELESS, _PREDICTS = 2.0, 0.5
# What part of the data's spread their noise is taken to be, at least and at most.
_NOISE = (0.01, 0.5)


class Penalties(NamedTuple):
    """Factors of the ridge penalty to choose from, the strongest first; `of_data` if by default.

    `variance` is that of the data in the units of the loss.
    """

    values: list[Any]
    of_data: bool
    variance: float

    @property
    def middle(self) -> Any:
        """One of them."""
        return self.values[0 if len(self.values) == 1 else len(self.values) // 2]

    def for_model(self, nlp: NLP) -> "Penalties":
        """Those for a model: none by default where it has no nets."""
        if self.of_data and not net_weights(nlp.layout.model, nlp.model).any():
            return self._replace(values=[0.0], of_data=False)
        return self

    def beyond(self, weaker: bool) -> OnNets | None:
        """One more at the end of the default ladder; None where it ends."""
        if not self.of_data:
            return None
        last = self.values[-1 if weaker else 0].factor / self.variance
        factor = last / _RUNG if weaker else last * _RUNG
        inside = 0.9 * _WEAKEST < factor < 1.1 * _STRONGEST
        return OnNets(factor * self.variance) if inside else None


def penalties_of(
    l2: Any, trajectories: tuple[Trajectory, ...], loss: Loss = squared_error
) -> Penalties:
    """The factors that an argument `l2` of `jc.fit` means."""
    if isinstance(l2, (list, tuple)) or (isinstance(l2, np.ndarray) and l2.ndim == 1):
        values = [
            item if isinstance(item, OnNets) else positive("l2", item, allow_zero=True)
            for item in l2
        ]
        if not values:
            raise ValueError("`l2` must be a number or a list of at least one; got none.")
        return Penalties(sorted(values, key=_factor, reverse=True), False, 1.0)
    if l2 is not None:
        return Penalties([l2], False, 1.0)
    # As the loss has it: weighted by the units of channels where these are extreme.
    weighted = with_weights(trajectories, loss)
    means = channel_means(weighted)
    unit = 2 * _likely_noise(weighted) ** 2 if is_likelihood(loss) else 1.0
    total = sum(float(np.nansum(item.weights * (item.ys - means) ** 2 / unit)) for item in weighted)
    variance = total / sum(len(item.ts) for item in weighted)
    variance = variance if variance > 0 else 1.0
    return Penalties([OnNets(factor * variance) for factor in _LADDER], True, variance)


def _likely_noise(trajectories: tuple[Trajectory, ...]) -> Float[np.ndarray, " obs"]:
    """The noise of each channel as a likelihood will find it, roughly: it may not be told yet."""
    spread = channel_spread(trajectories)
    least, most = (share * spread for share in _NOISE)
    return np.clip(np.nan_to_num(noise_levels(trajectories)), least, most)


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
        tried, best = _tried(nlp, penalties, holdout, search)
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
        useful = best.sol.result.ok and best.score.error < 1
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
        "l2": _factor(item.penalty),
        "held_out_error": item.score.error,
        "objective": item.sol.objective,
        "result": item.sol.result.name,
        "num_steps": item.sol.stats["num_steps"],
    }


def _say_if_poor(rows: list[dict[str, Any]]) -> bool:
    """Whether held-out data say nothing for any of the candidates, with a warning."""
    least = min(row["held_out_error"] for row in rows)
    if least >= 1:
        warnings.warn(
            "No penalty or model predicts the held-out data better than their mean does (the "
            f"least error is {least:.2g} of their spread), so the choice between them means "
            "little. Pass `l2`, more data, or a `horizon` over which prediction is possible.",
            stacklevel=5,
        )
    return bool(least >= 1)


def _factor(penalty: Any) -> Any:
    return penalty.factor if isinstance(penalty, OnNets) else penalty


def _text(penalty: Any) -> str:
    factor = _factor(penalty)
    return f"{factor:.2g}" if isinstance(factor, float) else describe(factor)
