r"""The noise that a fit has left: what turns the objective's curvature into a precision.

The objective is $F = \frac1N \sum_i \ell_i + \dots$ over $N$ observation times. Where the loss
$\ell$ is a negative log-likelihood, the precision is $N F''$. Under the squared error the noise of
a measurement with weight $w$ has the variance $\sigma^2 / w$, and the precision is
$N F'' / (2 \sigma^2)$ with $\sigma^2 = \sum w r^2 / (n - p)$, $n$ measured values and $p$ effective
parameters. Under `jc.PseudoHuber` the influence $\psi = r / \sqrt{1 + (r / \delta)^2}$ takes the
residual's place, and the sum is divided by the mean of $\psi'$ (Huber, "Robust Statistics",
section 7.6).
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from .._comparison import seen_on_paths
from .._loss import PseudoHuber, squared_error
from .._nlp import NLP
from .._solution import Solution


class Noise(NamedTuple):
    """What is known of the noise.

    `sigma`: the standard deviation of a measurement of weight one, estimated from the residuals;
    None where the loss is a likelihood. `freedom`: the degrees of freedom that it has. `levels`:
    the root mean square of each channel's weighted residuals.
    """

    sigma: float | None
    freedom: float
    num_values: int
    num_parameters: float
    levels: Float[np.ndarray, " obs"]

    @property
    def variance(self) -> float:
        """What covariances for a noise of one are multiplied by."""
        return 1.0 if self.sigma is None else self.sigma**2

    def quantile(self, level: float) -> float:
        """Half the width of an interval of this level, in standard deviations."""
        from scipy.stats import norm, t

        upper = (1 + level) / 2
        if self.sigma is None or not self.freedom > 0:
            return float(norm.ppf(upper))
        return float(t.ppf(upper, self.freedom))


def is_profiled(nlp: NLP) -> bool:
    """Whether the noise is estimated from the residuals, and not by the loss."""
    loss = nlp.settings.loss
    return loss is squared_error or isinstance(loss, PseudoHuber)


def precision_factor(nlp: NLP) -> float:
    """What the objective's Hessian is multiplied by, for a noise of one."""
    count = sum(int(item.observed.sum()) for item in nlp.trajectories)
    return count / 2 if is_profiled(nlp) else float(count)


def noise_of(sol: Solution, num_parameters: float) -> Noise:
    """The noise of a solution whose data determine so many parameters."""
    nlp = sol.nlp
    misses, weights = [], []
    for item, seen in zip(nlp.trajectories, seen_on_paths(sol), strict=True):
        there = item.measured & (item.weights > 0)
        misses.append(np.where(there, seen - item.ys, np.nan))
        weights.append(np.where(there, item.weights, np.nan))
    miss, weight = np.concatenate(misses), np.concatenate(weights)
    count = int(np.sum(np.isfinite(miss)))
    squares = weight * miss**2
    with np.errstate(all="ignore"):
        number = np.maximum(np.sum(np.isfinite(squares), axis=0), 1)
        levels = np.sqrt(np.nansum(squares, axis=0) / number)
    if not is_profiled(nlp):
        return Noise(None, np.inf, count, num_parameters, levels)
    freedom = count - num_parameters
    if isinstance(nlp.settings.loss, PseudoHuber):
        root = np.sqrt(1 + (miss / nlp.settings.loss.delta) ** 2)
        squares = squares / root**2 / np.nanmean(root**-3)
    if not freedom > 1e-6 * max(count, 1):
        return Noise(np.inf, 0.0, count, num_parameters, levels)
    sigma = float(np.sqrt(np.nansum(squares) / freedom))
    return Noise(sigma, freedom, count, num_parameters, levels)
