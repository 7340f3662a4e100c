"""Whether fitted paths follow their data: what they explain, and what they leave, against noise."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from ._data import Trajectory
from ._names import given_channels, which
from ._noise import noise_levels, not_wild, relative_weights, structured
from ._verification import rms


# A path is poor where it leaves more of the variance than this, and residuals that are so many
# times the noise, or autocorrelated at this significance and no smaller than noise. Where the
# noise is not known, it is poor where it leaves half.
_UNEXPLAINED, _LOUD, _CHANCE, _QUIET = 0.01, 2.0, 1e-3, 0.8
_UNKNOWN = 0.5
# So many of the samples may be wild where the loss takes these into account; where it does not, so
# many are looked for, to be told.
_WILD, _TOLD = 0.2, 0.05
# A trajectory's own variance counts down to this share of that of all, a constant channel's level
# to this share.
_OWN_VARIANCE, _LEVEL = 0.01, 1e-2
# A trajectory with fewer samples than this is judged together with the others only.
_FEW = 8
# Residuals of at most so many times the noise are the noise.
_TO_NOISE = 1.25


class Residuals(NamedTuple):
    """Of one trajectory: for each channel what its path misses, the samples, roots of weights.

    In the order of time, of samples that count; the weights are those within the channel.
    """

    misses: tuple[Float[np.ndarray, " _"], ...]
    samples: tuple[Float[np.ndarray, " _"], ...]
    roots: tuple[Float[np.ndarray, " _"], ...]

    @classmethod
    def of(cls, item: Trajectory, seen: Float[np.ndarray, "time obs"]) -> "Residuals":
        """Of data whose path is `seen` like this."""
        every = relative_weights(item)
        there = every > 0
        misses, samples, roots = (
            tuple(part[:, c][there[:, c]] for c in range(item.num_channels))
            for part in (seen - item.ys, item.ys, every)
        )
        return cls(misses, samples, roots)

    def explained(self, robust: bool) -> Float[np.ndarray, " obs"]:
        """The share of the variance that the path explains; NaN where there is none.

        Where the loss is `robust`, without wild samples.
        """
        shares = []
        for miss, sample in zip(self.misses, self.samples, strict=True):
            if not np.all(np.isfinite(miss)):
                shares.append(-np.inf)
                continue
            kept = not_wild(miss, _WILD) if robust else np.ones(len(miss), bool)
            spread = float(np.std(sample[kept])) if kept.any() else 0.0
            # A constant channel up to rounding has no variance to be explained.
            varies = spread > 1e-12 * np.max(np.abs(sample), initial=0.0)
            shares.append(1 - (rms(miss[kept]) / spread) ** 2 if varies else np.nan)
        return np.array(shares)


class Poor(NamedTuple):
    """A channel, of one trajectory or of all (None), whose samples the path does not follow.

    It is `structured` where only autocorrelation tells it; `wild` samples make most of what is
    left under the squared error.
    """

    trajectory: int | None
    channel: int
    explained: float
    residual: float
    noise: float
    structured: bool = False
    wild: int = 0

    def said(self, trajectories: Sequence[Trajectory]) -> str:
        """What was found, as a sentence, by the names of the data."""
        where = f"channel {(given_channels(trajectories) or range(1 + self.channel))[self.channel]}"
        if self.trajectory is not None:
            where += f" of {which(trajectories[self.trajectory], self.trajectory)}"
        kind = "autocorrelated residuals" if self.structured else "residuals"
        against = "" if np.isnan(self.noise) else f", the noise is about {self.noise:.2g}"
        share = f"{100 * self.explained:.3g}%" if self.explained > 0 else "none"
        advice = ""
        if self.wild:
            some = "sample is" if self.wild == 1 else "samples are"
            advice = (
                f" {self.wild} {some} far off all others: with a robust loss, such as "
                "`jc.PseudoHuber`, they count less."
            )
        return (
            f"In {where} the path explains {share} of the variance and leaves {kind} of "
            f"{self.residual:.2g}{against}.{advice}"
        )


def poor_channels(
    found: Sequence[Residuals],
    trajectories: Sequence[Trajectory],
    robust: bool,
    noise: Float[np.ndarray, " obs"] | None = None,
) -> list[Poor]:
    """Where paths do not follow their data, the worst first; `noise`, if known, is the data's.

    Judged with the samples as they are and, where weights within a channel differ, by these.
    """
    noise = noise_levels(trajectories) if noise is None else noise
    poor = _poor_channels(found, noise, False, robust)
    if any(np.ptp(root) > 0 for item in found for root in item.roots if len(root)):
        poor += _poor_channels(found, noise_levels(trajectories, weighted=True), True, robust)
    return sorted(poor, key=lambda item: item.explained)


def explains_to_noise(found: Sequence[Residuals], noise: Float[np.ndarray, " obs"]) -> bool:
    """Whether the paths leave no more than the noise in any channel."""
    for channel, level in enumerate(noise):
        misses = np.concatenate([item.misses[channel] for item in found])
        if len(misses) and not rms(misses) <= _TO_NOISE * level:
            return False
    return True


def _poor_channels(
    found: Sequence[Residuals], noise: np.ndarray, weighted: bool, robust: bool
) -> list[Poor]:
    poor = []
    for channel, level in enumerate(noise.tolist()):
        series = []
        for item in found:
            root = item.roots[channel] if weighted else np.ones(len(item.roots[channel]))
            sample = item.samples[channel]
            center = float(np.mean(sample)) if len(sample) else 0.0
            series.append((root * item.misses[channel], root * (sample - center)))
        size = max(np.max(np.abs(item.samples[channel]), initial=0.0) for item in found)
        every = np.concatenate([sample for _, sample in series])
        common = float(np.mean(every**2)) if len(every) else 0.0
        least = _OWN_VARIANCE * common if common > 0 else (_LEVEL * float(size)) ** 2
        first: int | None = None if len(found) > 1 else 0
        parts = [(first, series)]
        if len(found) > 1:
            alone = [k for k, (miss, _) in enumerate(series) if len(miss) >= _FEW]
            parts += [(k, [series[k]]) for k in alone]
        for where, chosen in parts:
            result = _judged(chosen, least, level, robust, _CHANCE / len(parts))
            if result is not None:
                poor.append(Poor(where, channel, **result))
    return poor


def _judged(
    series: list[tuple[np.ndarray, np.ndarray]],
    least: float,
    noise: float,
    robust: bool,
    significance: float,
) -> dict[str, Any] | None:
    """What `Poor` says of some series; None where they are not poor."""
    share = _WILD if robust else _TOLD
    tame = [(miss[kept], ys[kept]) for miss, ys in series for kept in [not_wild(miss, share)]]
    left, residual = _left(tame if robust else series, least)
    found = {"explained": 1 - left, "residual": residual, "noise": noise}
    if np.isnan(noise):
        return found if left > _UNKNOWN else None
    if not left > _UNEXPLAINED:
        return None
    if residual > _LOUD * noise:
        wild = sum(len(miss) for miss, _ in series) - sum(len(miss) for miss, _ in tame)
        most = not robust and _left(tame, least)[1] < 0.5 * residual
        return found | {"wild": wild if most else 0}
    if residual > _QUIET * noise and structured([miss for miss, _ in tame], significance):
        return found | {"structured": True}
    return None


def _left(series: list[tuple[np.ndarray, np.ndarray]], least: float) -> tuple[float, float]:
    """The share of the variance that is left, and the residuals' root mean square."""
    misses = np.concatenate([miss for miss, _ in series])
    samples = np.concatenate([ys for _, ys in series])
    if not len(misses):
        return 0.0, 0.0
    variance = max(float(np.mean(samples**2)), least)
    return (rms(misses) ** 2 / variance if variance > 0 else 0.0), rms(misses)
