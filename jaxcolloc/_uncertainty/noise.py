r"""The noise that a fit has left: what turns the objective's curvature into a precision.

The objective is $F = \frac1N \sum_i \ell_i + \dots$ over $N$ observation times. Where the loss
$\ell$ is a negative log-likelihood, the precision is $N F''$. Under the squared error the noise of
a measurement with weight $w$ has the variance $\sigma^2 / w$, and the precision is
$N F'' / (2 \sigma^2)$ with $\sigma^2 = \sum w r^2 / (n - p)$, $n$ measured values and $p$ effective
parameters. Under other losses of residuals the influence $\psi$, half the loss's derivative, takes
the place of $w r$: the precision is divided by $v = \sum \psi^2 / w / (n - p) / m$ in the place of
$\sigma^2$, where $m$ is the mean of $\psi' / w$, and $\sigma^2 = v / m$ (Huber, "Robust
Statistics", section 7.6). Where priors say that `weights` are those of the noise, $\sigma$ is one.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float

from .._comparison import seen_on_paths
from .._data import counts
from .._likelihoods import is_likelihood
from .._loss import squared_error
from .._nlp import NLP
from .._points import in_chunks
from .._precision import AnyArray
from .._solution import Solution


class Noise(NamedTuple):
    """What is known of the noise.

    `sigma`: the standard deviation of a measurement of weight one; None where the loss is a
    likelihood. `variance`: what covariances for a noise of one are multiplied by, under the squared
    error the square of `sigma`. `freedom`: the degrees of freedom that they have, infinite where
    they are not estimated from the residuals. `levels`: the root mean square of each channel's
    weighted residuals.
    """

    sigma: float | None
    variance: float
    freedom: float
    num_values: int
    num_parameters: float
    levels: Float[np.ndarray, " obs"]

    @property
    def estimated(self) -> bool:
        """Whether it was estimated from the residuals."""
        return self.sigma is not None and bool(np.isfinite(self.freedom))

    def quantile(self, level: float) -> float:
        """Half the width of an interval of this level, in standard deviations."""
        from scipy.stats import norm, t

        upper = (1 + level) / 2
        if not self.estimated or not self.freedom > 0:
            return float(norm.ppf(upper))
        return float(t.ppf(upper, self.freedom))


def is_profiled(nlp: NLP) -> bool:
    """Whether the noise is estimated from the residuals: neither loss nor priors say it."""
    return not (is_likelihood(nlp.settings.loss) or nlp.compiled.host.priors)


def precision_factor(nlp: NLP) -> float:
    """What the objective's Hessian is multiplied by, for a noise of one."""
    count = sum(int(item.observed.sum()) for item in nlp.trajectories)
    return float(count) if is_likelihood(nlp.settings.loss) else count / 2


def influence(
    loss: Any, miss: Float[np.ndarray, "time obs"], weights: Float[np.ndarray, "time obs"]
) -> tuple[Float[np.ndarray, "time obs"], Float[np.ndarray, "time obs"]]:
    r"""Half the derivative of a loss by each residual, $\psi$, and the derivative of that."""
    if loss is squared_error:
        return weights * miss, weights
    slope, curvature = in_chunks(lambda r, w: _influence(loss, r, w), miss, weights)
    return slope, curvature


@eqx.filter_jit
def _influence(loss: Any, miss: AnyArray, weights: AnyArray) -> tuple[Array, Array]:
    def point(r: Any, w: Any) -> tuple[Array, Array]:
        slope = jax.grad(lambda r: loss(r, w) / 2)
        return slope(r), jax.numpy.diagonal(jax.jacfwd(slope)(r))

    return jax.vmap(point)(miss, weights)


def noise_of(sol: Solution, num_parameters: float) -> Noise:
    """The noise of a solution whose data determine so many parameters."""
    nlp = sol.nlp
    misses, weights = [], []
    for item, seen in zip(nlp.trajectories, seen_on_paths(sol), strict=True):
        there = counts(item)
        misses.append(np.where(there, seen - item.ys, 0.0))
        weights.append(np.where(there, item.weights, 0.0))
    miss, weight = np.concatenate(misses), np.concatenate(weights)
    number = np.sum(weight > 0, axis=0)
    count = int(number.sum())
    with np.errstate(all="ignore"):
        levels = np.sqrt(np.sum(weight * miss**2, axis=0) / np.maximum(number, 1))
    if is_likelihood(nlp.settings.loss):
        return Noise(None, 1.0, np.inf, count, num_parameters, levels)
    if not is_profiled(nlp):
        return Noise(1.0, 1.0, np.inf, count, num_parameters, levels)
    freedom = count - num_parameters
    if not freedom > 1e-6 * max(count, 1):
        return Noise(np.inf, np.inf, 0.0, count, num_parameters, levels)
    slope, curvature = influence(nlp.settings.loss, miss, weight)
    own = weight[weight > 0]
    mean = float(np.mean(curvature[weight > 0] / own))
    variance = float(np.sum(slope[weight > 0] ** 2 / own)) / freedom / mean
    return Noise(float(np.sqrt(variance / mean)), variance, freedom, count, num_parameters, levels)
