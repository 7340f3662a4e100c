"""compare: several fits side by side."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import numpy as np

from .._check import describe
from .._data import Trajectory, as_trajectories, counts
from .._fingerprint import fingerprint
from .._names import channel_names
from .._solution import Solution, check_solution
from .._tables import seen_in_rollouts
from .criteria import Criteria, criteria
from .scores import Scores, pooled
from .validate import validate
from .validation import Validation, table


class Judged(NamedTuple):
    """One fit in a comparison.

    `scores` are those of all samples together, of shape `(obs,)`; `validation` is that on other
    data, None where there are none.
    """

    name: str
    solution: Solution
    verdict: str
    criteria: Criteria
    scores: Scores
    validation: Validation | None


class Compared(eqx.Module):
    """Several fits side by side, the best first.

    - `rows`: for each `name`, `solution`, `verdict`, `criteria` (`num_values`, `num_parameters`,
      `deviance`, `aic`, `aicc`, `bic`, and the `reason` where there are none), `scores` (`fit`,
      `rmse`, `r2`, `number`, of shape `(obs,)`) and `validation`.
    - `unseen`: whether the scores are those of data that the fits have not seen; else they are
      those of the rollouts over the data that were fitted.
    - `notes`: what failed, and what does not compare.
    """

    rows: tuple[Judged, ...]
    unseen: bool
    notes: tuple[str, ...]

    @property
    def best(self) -> Solution:
        """The first solution."""
        return self.rows[0].solution

    def to_frame(self) -> Any:
        """A table (pandas): a row for each fit, with RMSE and fit of every channel."""
        import pandas as pd

        rows = []
        for item in self.rows:
            names = channel_names(item.solution.nlp.trajectories)
            row: dict[str, Any] = {"name": item.name, "verdict": item.verdict}
            row |= {"fit": item.scores.average("fit"), "r2": item.scores.average("r2")}
            row |= {key: getattr(item.criteria, key) for key in _CRITERIA}
            row |= {f"fit {name}": item.scores.fit[c] for c, name in enumerate(names)}
            row |= {f"rmse {name}": item.scores.rmse[c] for c, name in enumerate(names)}
            rows.append(row)
        return pd.DataFrame(rows)

    def __str__(self) -> str:
        where = "unseen data" if self.unseen else "the data that were fitted"
        cells = [["", "verdict", "fit %", "R2", "AIC", "AICc", "BIC", "parameters", "values"]]
        for item in self.rows:
            found = item.criteria
            numbers = [f"{value:.2f}" for value in (found.aic, found.aicc, found.bic)]
            cells.append(
                [item.name, item.verdict, f"{item.scores.average('fit'):.2f}",
                 f"{item.scores.average('r2'):.4f}", *numbers, f"{found.num_parameters:.4g}",
                 str(found.num_values)]
            )  # fmt: skip
        by = "fit" if self.unseen else "AICc"
        lines = [f"Comparison of {len(self.rows)} fits by {by}; fit and R2 of rollouts on {where}"]
        return "\n".join([*lines, *table(cells), *(f"  note       {note}" for note in self.notes)])

    def __repr__(self) -> str:
        return f"Compared({', '.join(item.name for item in self.rows)})"


_CRITERIA = ("aic", "aicc", "bic", "num_parameters", "num_values")


def compare(
    solutions: Sequence[Solution] | Mapping[str, Solution],
    data: Trajectory | Sequence[Trajectory] | None = None,
    **options: Any,
) -> Compared:
    r"""Put several fits side by side: how well they predict, and information criteria.

        print(jc.compare({"Monod": first, "net": second}, unseen))

    $$\mathrm{AIC} = -2 \log L + 2 p, \quad
      \mathrm{AICc} = \mathrm{AIC} + \frac{2 p (p + 1)}{n - p - 1}, \quad
      \mathrm{BIC} = -2 \log L + p \log n$$

    are those of the data that were fitted, with $n$ measured values and $p$ effective parameters as
    `jc.uncertainty` counts them (of weights, unknowns and initial states; a ridge lowers it), and
    one for the noise where it is estimated. They compare fits of the same data only.

    **Arguments:**

    - `solutions`: from `jc.fit` or `jc.solve`, a list of them, or a mapping of names to them.
    - `data`: series that none of them has seen, as in `jc.validate`. If not given, the rollouts
      over the fitted data are scored, which favours the model with most freedom.
    - `options`: those of `jc.validate`.

    Sorted by the mean fit on unseen data, or else by AICc; what failed comes last. What is not
    known (the criteria of a solution that is no optimum, or whose loss is no likelihood) is NaN,
    and `notes` say why.
    **Errors:** `ValueError` for what are no solutions.
    """
    named = _named(solutions)
    items = None if data is None else as_trajectories(data)
    if items is None and options:
        raise ValueError(f"`data` must be given with {', '.join(sorted(options))}.")
    allowed = list(inspect.signature(validate).parameters)[2:]
    if not set(options) <= set(allowed):
        wrong = ", ".join(sorted(set(options) - set(allowed)))
        raise ValueError(f"`options` must be those of jc.validate, {allowed}; got {wrong}.")
    rows, notes = [], []
    for name, sol in named.items():
        row = _judged(name, sol, items, options)
        rows.append(row)
        if row.criteria.reason:
            notes.append(f"{name}: no criteria, since {row.criteria.reason}.")
        if row.validation is not None:
            notes += [f"{name}: {note}" for note in row.validation.notes]
        elif np.isnan(row.scores.rmse[row.scores.number > 0]).any():
            notes.append(f"{name}: a rollout over the fitted data fails.")
    seen = {fingerprint([(item.ts, item.ys) for item in sol.nlp.trajectories])
            for sol in named.values()}  # fmt: skip
    if len(seen) > 1:
        notes.append("The fits are of different data: their criteria do not compare.")
    key = _by_fit if items is not None else _by_aicc
    return Compared(tuple(sorted(rows, key=key)), items is not None, tuple(notes))


def _named(solutions: Any) -> dict[str, Solution]:
    if isinstance(solutions, Mapping):
        named = {str(name): sol for name, sol in solutions.items()}
    elif isinstance(solutions, (list, tuple)):
        named = {f"fit {k}": sol for k, sol in enumerate(solutions)}
    else:
        named = {}
    if not named:
        raise ValueError(
            "`solutions` must be a list of at least one Solution, or a mapping of names to them; "
            f"got {describe(solutions)}."
        )
    for sol in named.values():
        check_solution("solutions", sol)
    return named


def _judged(
    name: str, sol: Solution, data: tuple[Trajectory, ...] | None, options: dict[str, Any]
) -> Judged:
    verdict = "not verified" if sol.verification is None else sol.verification.verdict.name
    found = None if data is None else validate(sol, data, **options)
    if found is not None:
        return Judged(name, sol, verdict, criteria(sol), found.overall, found)
    items = sol.nlp.trajectories
    scores = pooled(items, seen_in_rollouts(sol), [counts(item) for item in items])
    return Judged(name, sol, verdict, criteria(sol), scores, None)


def _by_fit(row: Judged) -> float:
    return _last(-row.scores.average("fit"))


def _by_aicc(row: Judged) -> float:
    return _last(row.criteria.aicc)


def _last(value: float) -> float:
    return np.inf if np.isnan(value) else value
