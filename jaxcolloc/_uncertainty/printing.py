"""How an uncertainty prints itself: a table of constants, the nets, and what is not known."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from .._likelihoods import has_information
from .._names import entry, summary
from . import identifiability


if TYPE_CHECKING:
    from .result import Uncertainty


_MOST_ROWS, _MOST_PAIRS, _LEVEL = 12, 4, 0.95
# Channels whose weighted residuals differ so many times are not of one noise.
_UNLIKE = 3.0

Row = tuple[str, float, float, float, float, str]


def rows(u: "Uncertainty", which: Iterable[int]) -> list[Row]:
    """The table's rows of some parameters."""
    quantile = u.noise.quantile(_LEVEL)
    found: dict[int, Row] = {}
    rate = np.abs(u.parameters.rate)
    for leaf in u.leaves:
        lower, upper = u._ends(leaf, quantile)
        for place, name, low, high in zip(
            leaf.at, leaf.entries, lower.ravel(), upper.ravel(), strict=True
        ):
            value = float(u.parameters.value[place])
            deviation = float(u._deviations[place] * rate[place])
            note = _note(u, int(place), deviation)
            found[int(place)] = (name, value, deviation, float(low), float(high), note)
    return [found[k] for k in which]


def _note(u: "Uncertainty", place: int, deviation: float) -> str:
    if u.held[place]:
        return "held: fixed, or at an active bound"
    if np.isinf(deviation):
        return "free: the data do not say"
    return "on a log scale" if u.parameters.positive[place] else ""


def _called(u: "Uncertainty", name: str, note: str) -> str:
    """The note of a row, behind what it is called where experiments or states have names."""
    nlp = u.solution.nlp
    named = nlp.settings.state_names or summary(nlp.trajectories)
    what, where = entry(nlp, name)
    said = f"{what}, {where}" if named and where else ""
    return "; ".join(filter(None, (said, note)))


def sentences(u: "Uncertainty") -> tuple[str, ...]:
    """What is not known, or not well."""
    found = []
    parameters, every, head = u.parameters, u._all, u.factorised.head
    directions = np.concatenate([every.free, every.own_free], axis=1)
    directions = directions[:, np.abs(directions).max(axis=0, initial=0.0) > 0]
    found += identifiability.free_sentences(parameters, directions)
    if head.bent:
        found.append(
            f"In {head.bent} directions the curvature is not positive: the point is a saddle, or "
            "not found closely enough. Solve on from it with a smaller `tol`, or from other "
            'starts; or ask for `curvature="gauss_newton"`.'
        )
    found += [
        f"{first} and {second} are correlated by {number:.4f}."
        for first, second, number in u.correlations[:_MOST_PAIRS]
    ]
    if len(u.correlations) > _MOST_PAIRS:
        found.append(f"So are {len(u.correlations) - _MOST_PAIRS} other pairs, above 0.99.")
    sloppy = _sloppy(u)
    found += [] if sloppy is None else [sloppy]
    if u.noise.sigma is not None and not np.isfinite(u.noise.sigma):
        found.append(
            f"{u.noise.num_values} measured values are no more than the "
            f"{u.noise.num_parameters:.4g} parameters: nothing is left to estimate the noise from."
        )
    levels = u.noise.levels[u.noise.levels > 0]
    if u.noise.estimated and len(levels) and levels.max() > _UNLIKE * levels.min():
        found.append(
            "Channels leave unlike residuals ("
            + ", ".join(f"{level:.2g}" for level in u.noise.levels)
            + "): one noise for all is assumed; pass `weights` of 1 / variance, or a likelihood."
        )
    return tuple(found)


def _sloppy(u: "Uncertainty") -> str | None:
    head = len(u.factorised.head.kept)
    at = u._constants[u._constants < head]
    at = at[np.isfinite(u._deviations[at]) & (u._deviations[at] > 0)]
    if not len(at):
        return None
    scaled = u._all.kept[at] / u.parameters.size[at][:, None]
    vectors, singular, _ = np.linalg.svd(scaled, full_matrices=False)
    with np.errstate(divide="ignore"):
        return identifiability.sloppy_sentence(
            u.parameters._replace(names=[u.parameters.names[k] for k in at]),
            1 / singular**2,
            vectors,
        )


def screen(u: "Uncertainty") -> str:
    """One screen."""
    noise, parameters = u.noise, u.parameters
    curvature = "Gauss-Newton" if u.curvature == "gauss_newton" else "exact"
    lines = [f"Uncertainty: Gaussian about the optimum, {curvature} curvature, 95% intervals"]
    if noise.sigma is None:
        lines.append("  noise       as the loss, a negative log-likelihood, says")
        if not has_information(u.solution.nlp.settings.loss):
            lines.append("              new measurements, by the mean square of the residuals")
    elif not noise.estimated and np.isfinite(noise.sigma):
        lines.append("  noise       as `weights` say, against which the priors count")
    else:
        lines.append(
            f"  noise       sigma {noise.sigma:.4g} at weight one, from {noise.num_values} values "
            f"and {noise.num_parameters:.4g} effective parameters"
        )
    constants = np.flatnonzero(~parameters.of_net)
    shown = rows(u, constants[:_MOST_ROWS])
    cells = [["", "value", "stderr", "lower", "upper", ""]]
    cells += [
        [name, *(f"{number:.5g}" for number in numbers), _called(u, name, note)]
        for name, *numbers, note in shown
    ]
    widths = [max(len(row[column]) for row in cells) for column in range(6)]
    for row in cells:
        numbers = "  ".join(
            cell.rjust(width) for cell, width in zip(row[1:5], widths[1:5], strict=True)
        )
        lines.append(f"  {row[0].ljust(widths[0])}  {numbers}  {row[5]}".rstrip())
    if len(constants) > _MOST_ROWS:
        lines.append(f"  and {len(constants) - _MOST_ROWS} others: `to_pandas()` has all")
    nets = int(parameters.of_net.sum())
    if nets:
        lines.append(
            f"  nets        {nets} weights, not known one by one: `bands`, `function_band`"
            + _ridge(u)
        )
    lines += [f"  {sentence}" for sentence in u.sentences]
    return "\n".join(lines)


def _ridge(u: "Uncertainty") -> str:
    """What the ridge says as a prior, of the weights that it penalises."""
    ridge = u.solution.nlp.compiled.host.quadratics[0]
    factor = np.asarray(ridge.factor)[np.asarray(ridge.at) < u.solution.nlp.num_weights]
    if not len(factor):
        return "; no ridge"
    count = sum(int(item.observed.sum()) for item in u.solution.nlp.trajectories)
    spread = np.sqrt(u.noise.variance / ((1 if u.noise.sigma is not None else 2) * count * factor))
    text = f"{spread.min():.3g}"
    text += "" if np.ptp(spread) <= 1e-9 * spread.max() else f" to {spread.max():.3g}"
    return f";\n              the ridge is a Gaussian prior about zero of standard deviation {text}"
