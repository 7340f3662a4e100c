"""Measurement: how a new measurement is distributed about what is measured."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._comparison import seen_on_paths
from .._data import counts
from .._likelihoods import LocationScale, StudentT, loss_of_model
from .._nlp import NLP
from .._points import in_chunks
from .._precision import AnyArray
from .._solution import Solution
from .._transcription.parameters import Weighted
from .bands import Band
from .noise import Noise
from .sensitivities import local_args, local_head


class Measurement(NamedTuple):
    """The errors of new measurements.

    `scale`: the standard deviations, or of Student's t the scales, in shapes that broadcast to
    `(time, obs)`; `df`: degrees of freedom, infinite for normal errors; `logged`: whether they are
    those of the logarithm.
    """

    scale: Float[np.ndarray, "..."]
    df: float = np.inf
    logged: bool = False

    def band(
        self,
        at: np.ndarray,
        value: np.ndarray,
        variance: np.ndarray,
        known: float,
        level: float,
    ) -> Band:
        """The band of new measurements of values with some variance.

        Half of its width is the root of the sum of squares of that of the values, of which `known`
        is the quantile, and that of the errors.
        """
        upper = (1 + level) / 2
        own = _quantile(upper, self.df) if np.isfinite(self.df) else known
        with np.errstate(all="ignore"):
            relative = variance / value**2 if self.logged else variance
            half = np.sqrt(known**2 * relative + own**2 * self.scale**2)
            excess = self.df / (self.df - 2) if 2 < self.df < np.inf else 1.0
            errors = excess * self.scale**2 if self.df > 2 else np.inf
            stderr = np.sqrt(relative + errors)
            if self.logged:
                return Band(at, value, value * stderr, value * np.exp(-half), value * np.exp(half),
                            level)  # fmt: skip
        return Band(at, value, stderr, value - half, value + half, level)

    def drawn(self, values: Float[np.ndarray, "sample time obs"], key: Any) -> np.ndarray:
        """Measurements of some values."""
        if np.isfinite(self.df):
            unit = jax.random.t(key, self.df, values.shape)
        else:
            unit = jax.random.normal(key, values.shape)
        errors = self.scale * np.asarray(unit, np.float64)
        return np.asarray(values * np.exp(errors) if self.logged else values + errors)


def _quantile(upper: float, df: float) -> float:
    from scipy.stats import t

    return float(t.ppf(upper, df))


def measurement(
    sol: Solution,
    noise: Noise,
    w: np.ndarray,
    args: Any,
    ts: np.ndarray,
    states: np.ndarray,
    predicted: np.ndarray,
) -> Measurement:
    """How a new measurement at each of some times is distributed, with `predicted` as its location.

    `w` are the weights and, behind them, unknowns.
    """
    nlp = sol.nlp
    loss = nlp.settings.loss
    if isinstance(loss, LocationScale):
        scale = _scales_at(nlp, loss, w, args, ts, states, predicted)
        df = loss.df if isinstance(loss, StudentT) else np.inf
        return Measurement(scale, df, loss.scale == "log")
    if noise.sigma is None:
        return Measurement(np.sqrt(_residual_variances(sol)))
    return Measurement(noise.sigma * np.sqrt(_mean_of_inverse(nlp)))


def path_scales(
    sol: Solution, trajectory: int, seen: Float[np.ndarray, "time obs"]
) -> Float[np.ndarray, "time obs"]:
    """The standard deviations that the loss, a `LocationScale`, has at one trajectory's data.

    `seen` is what would be measured on the fitted path.
    """
    nlp, path, ts = sol.nlp, sol.paths[trajectory], sol.nlp.trajectories[trajectory].ts
    w = nlp.head(sol.z)[local_head(nlp, trajectory)]
    states = path.grid.interpolate(path.states, ts)
    args = local_args(nlp, trajectory)
    return _scales_at(nlp, nlp.settings.loss, w, args, ts, states, seen)


def _scales_at(
    nlp: NLP,
    loss: Any,
    w: np.ndarray,
    args: Any,
    ts: np.ndarray,
    states: np.ndarray,
    predicted: np.ndarray,
) -> Float[np.ndarray, "time obs"]:
    own = loss_of_model(loss, nlp.model)
    (scale,) = in_chunks(
        lambda t, y, seen: (_scales(nlp.layout.model, own, w, args, t, y, seen),),
        ts, states, predicted,
    )  # fmt: skip
    return scale


@eqx.filter_jit
def _scales(
    weighted: Weighted,
    loss: LocationScale,
    w: AnyArray,
    args: Any,
    ts: AnyArray,
    states: AnyArray,
    predicted: AnyArray,
) -> Array:
    model, known = weighted.apply(jnp.asarray(w), args)

    def point(t: Any, y: Any, seen: Any) -> Array:
        there = jnp.ones(seen.shape, bool)
        return jnp.exp(loss.parameters(seen, there, t, y, known, model)[1])

    return jax.vmap(point)(ts, states, predicted)


def _mean_of_inverse(nlp: NLP) -> Float[np.ndarray, " obs"]:
    """One over the mean weight of each channel."""
    every = np.concatenate(
        [np.where(item.measured, item.weights, np.nan) for item in nlp.trajectories]
    )
    with np.errstate(all="ignore"):
        return np.asarray(1 / np.nanmean(np.where(every > 0, every, np.nan), axis=0))


def _residual_variances(sol: Solution) -> Float[np.ndarray, " obs"]:
    """The mean square of each channel's residuals."""
    misses = [
        np.where(counts(item), seen - item.ys, np.nan)
        for item, seen in zip(sol.nlp.trajectories, seen_on_paths(sol), strict=True)
    ]
    return np.asarray(np.nanmean(np.concatenate(misses) ** 2, axis=0))
