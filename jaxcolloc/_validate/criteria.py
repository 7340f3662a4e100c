"""Information criteria of a fit."""

from typing import NamedTuple

import numpy as np

from .._comparison import seen_on_paths
from .._data import counts
from .._likelihoods import is_likelihood
from .._loss import squared_error
from .._solution import Solution
from .._uncertainty import Uncertainty, uncertainty


class Criteria(NamedTuple):
    r"""Of a fit to `num_values` values with `num_parameters` effective parameters.

    `deviance` is $-2 \log L$ at the optimum. NaN where they cannot be had; `reason` then says why.
    """

    num_values: int
    num_parameters: float
    deviance: float
    reason: str = ""

    @property
    def aic(self) -> float:
        """Akaike's criterion."""
        return self.deviance + 2 * self.num_parameters

    @property
    def aicc(self) -> float:
        """The same, corrected for few samples; NaN where these are no more than parameters."""
        left = self.num_values - self.num_parameters - 1
        if not left > 0:
            return np.nan
        return self.aic + 2 * self.num_parameters * (self.num_parameters + 1) / left

    @property
    def bic(self) -> float:
        """Schwarz's criterion."""
        return self.deviance + self.num_parameters * float(np.log(max(self.num_values, 1)))


def criteria(sol: Solution) -> Criteria:
    """Those of a solution at an optimum.

    Parameters are counted as the data determine them: weights, unknowns and initial states, less
    what a ridge or bounds hold, and the noise where it is estimated.
    """
    count = sum(int(counts(item).sum()) for item in sol.nlp.trajectories)
    loss = sol.nlp.settings.loss
    if not (is_likelihood(loss) or loss is squared_error):
        return Criteria(count, np.nan, np.nan, "the loss is no likelihood")
    try:
        u = uncertainty(sol)
    except ValueError as error:
        return Criteria(count, np.nan, np.nan, str(error).split(":")[0].rstrip("."))
    parameters = u.noise.num_parameters + (1 if u.noise.estimated else 0)
    if u.noise.sigma is not None and not np.isfinite(u.noise.sigma):
        return Criteria(count, parameters, np.nan, "there are no more values than parameters")
    if is_likelihood(loss) and sol.nlp.settings.residual_penalty:
        return Criteria(count, parameters, np.nan, "`residual_penalty` is part of the objective")
    return Criteria(count, parameters, _deviance(sol, u))


def _deviance(sol: Solution, u: Uncertainty) -> float:
    r"""$-2 \log L$: under the squared error with the noise that maximises it."""
    nlp = sol.nlp
    if is_likelihood(nlp.settings.loss):
        times = sum(int(item.observed.sum()) for item in nlp.trajectories)
        z = np.asarray(sol.z, np.float64)
        terms = (*nlp.compiled.host.quadratics, *nlp.compiled.host.priors)
        penalties = sum(float(np.asarray(term.value(z * nlp.units))) for term in terms)
        return 2 * times * (float(nlp.objective(z)) - penalties)
    total, logarithms, count = 0.0, 0.0, 0
    for item, seen in zip(nlp.trajectories, seen_on_paths(sol), strict=True):
        there = counts(item)
        weights = item.weights[there]
        total += float(np.sum(weights * (seen - item.ys)[there] ** 2))
        logarithms += float(np.sum(np.log(weights)))
        count += len(weights)
    if not u.noise.estimated:
        return total + count * float(np.log(2 * np.pi)) - logarithms
    with np.errstate(divide="ignore"):
        return count * float(np.log(2 * np.pi * total / count)) + count - logarithms
