"""Penalties: which factors of the ridge penalty `jc.fit` chooses from, and how."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from .._check import describe, positive
from .._data import Trajectory
from .._likelihoods import is_likelihood
from .._loss import Loss, squared_error
from .._nlp import NLP
from .._noise import noise_levels
from .._ridge import OnNets, net_weights
from .._smooth import channel_means, channel_spread
from .._transcription.units import with_weights


# Factors of the data's variance that are tried as `l2`, the strongest first, and how far beyond
# them where the best is the last.
_LADDER = (1e-3, 1e-4, 1e-5, 1e-6)
_WEAKEST, _STRONGEST, _RUNG = 1e-10, 1.0, 10.0
# The argument `l2` that asks for the derivative of the held-out error, and where that begins.
_GRADIENT, _FIRST = "gradient", 1e-4
# What part of the data's spread their noise is taken to be, at least and at most.
_NOISE = (0.01, 0.5)


class Penalties(NamedTuple):
    """Factors of the ridge penalty to choose from, the strongest first; `of_data` if by default.

    `variance` is that of the data in the units of the loss. `by_gradient`: the value is where to
    begin, and the derivative of the held-out error leads on.
    """

    values: list[Any]
    of_data: bool
    variance: float
    by_gradient: bool = False

    @property
    def middle(self) -> Any:
        """One of them."""
        return self.values[0 if len(self.values) == 1 else len(self.values) // 2]

    @property
    def is_choice(self) -> bool:
        """Whether there is anything to choose."""
        return self.by_gradient or len(self.values) > 1

    def for_model(self, nlp: NLP) -> "Penalties":
        """Those for a model: none by default where it has no nets."""
        if self.of_data and not net_weights(nlp.layout.model, nlp.model).any():
            return self._replace(values=[0.0], of_data=False, by_gradient=False)
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
        return Penalties(sorted(values, key=factor_of, reverse=True), False, 1.0)
    if isinstance(l2, str):
        if l2 != _GRADIENT:
            raise ValueError(
                f'`l2` must be a number, a list of them, or "{_GRADIENT}"; got {describe(l2)}.'
            )
    elif l2 is not None:
        return Penalties([l2], False, 1.0)
    # As the loss has it: weighted by the units of channels where these are extreme.
    weighted = with_weights(trajectories, loss)
    means = channel_means(weighted)
    unit = 2 * _likely_noise(weighted) ** 2 if is_likelihood(loss) else 1.0
    total = sum(float(np.nansum(item.weights * (item.ys - means) ** 2 / unit)) for item in weighted)
    variance = total / sum(len(item.ts) for item in weighted)
    variance = variance if variance > 0 else 1.0
    by_gradient = l2 is not None
    factors = (_FIRST,) if by_gradient else _LADDER
    return Penalties([OnNets(factor * variance) for factor in factors], True, variance, by_gradient)


def _likely_noise(trajectories: tuple[Trajectory, ...]) -> Float[np.ndarray, " obs"]:
    """The noise of each channel as a likelihood will find it, roughly: it may not be told yet."""
    spread = channel_spread(trajectories)
    least, most = (share * spread for share in _NOISE)
    return np.clip(np.nan_to_num(noise_levels(trajectories)), least, most)


def factor_of(penalty: Any) -> Any:
    """The factor of a penalty as `jc.transcribe` takes it."""
    return penalty.factor if isinstance(penalty, OnNets) else penalty
