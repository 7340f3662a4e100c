"""Trajectory: what was measured in one experiment."""

from collections.abc import Mapping, Sequence
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Bool, Float

from ._check import describe, float_array, real_numbers, refuse_traced
from ._jumps import Jump, as_jumps, snapped
from ._names import Labels, which
from ._steady import SteadyState


class Trajectory(eqx.Module):
    """One experiment: its observation times, observations and inputs.

    **Arguments:**

    - `ts`: observation times, shape `(time,)`, in the caller's unit of time, never
      decreasing. They may be irregular, and they need not lie on a grid.
    - `ys`: observations, shape `(time, obs)`. NaN means not measured, and so does a NumPy mask.
    - `args`: the third argument of the model for this trajectory: any PyTree of inputs
      and constants, functions and texts among them, or None. Sampled inputs are a `jc.Input` or
      a Diffrax path; a `jc.Unknown` is a constant to be found.
    - `weights`: factors of the squared residuals: a scalar, shape `(obs,)` (one per
      channel) or `(time, obs)` (one per sample). With measurement noise of standard deviation
      `s`, `weights = 1 / s**2` makes the loss a log-likelihood. 1 if not given; but where no
      trajectory has any and some channel's standard deviation lies outside 1e-3 to 1e3,
      `jc.transcribe` divides by each channel's variance.
    - `y0`: the known state where the trajectory begins, shape `(state,)`; NaN marks components
      that are not known. None: the initial state is fitted. A `jc.SteadyState`: it is one at which
      the model rests.
    - `y0_prior`: (mean, std) of a Gaussian prior on the state where the trajectory begins, both of
      shape `(state,)`, with NaN for components without; or (mean, covariance), of shape
      `(state, state)`. In moving horizon estimation it is the arrival cost. It enters the objective
      as a `jc.Prior` does, and needs `weights` or a likelihood as that does.
    - `t0`: the time at which the trajectory begins, at or before the first sample: the path and
      its grid start there, `y0` holds there, and inputs act from there on. If not given, that is
      the first time of the grid; for a grid that is chosen the first sample's, or the first jump's
      where that is earlier.
    - `jumps`: `jc.Jump` objects, or `jc.doses(...)`: times at which the state is changed. A sample
      at the time of a jump sees the state before it, and so does a `y0` at a jump where the
      trajectory begins. A jump behind the end of the grid acts on predictions beyond it only.
    - `name`: what the experiment is called in prints, errors, tables and pictures.
    - `channels`: the names of the channels, one for each column of `ys`.
    - `units`: texts by name, of "time", of channels, states and inputs: `{"time": "h"}`.

    **Errors:** `ValueError` for wrong shapes, unsorted or non-finite times, infinite
    observations, negative weights, a `t0` after the first sample or jump; for dates, texts and
    truth values; within `jax.jit` and its kin.
    """

    ts: Float[np.ndarray, " time"]
    ys: Float[np.ndarray, "time obs"]
    args: Any
    weights: Float[np.ndarray, "time obs"]
    weighted: bool = eqx.field(static=True)
    y0: Float[np.ndarray, " state"] | None
    t0: float | None
    y0_prior: tuple[Float[np.ndarray, " state"], Float[np.ndarray, "..."]] | None
    steady: SteadyState | None
    jumps: tuple[Jump, ...]
    labels: Labels = eqx.field(static=True)

    def __init__(
        self,
        ts: Any,
        ys: Any,
        args: Any = None,
        *,
        weights: Any = None,
        y0: Any = None,
        t0: Any = None,
        y0_prior: Any = None,
        jumps: Jump | Sequence[Jump] = (),
        name: str | None = None,
        channels: Sequence[str] | None = None,
        units: Mapping[str, str] | None = None,
    ):
        self.ts = _times(ts)
        self.ys = _observations(ys, len(self.ts))
        self.args = args
        self.weights = _weights(weights, self.ys)
        self.weighted = weights is not None
        self.steady = y0.of(args) if isinstance(y0, SteadyState) else None
        y0 = y0 if self.steady is None else self.steady.known
        self.y0 = None if y0 is None else _start(y0)
        self.jumps = as_jumps(jumps)
        self.ts = snapped(self.ts, ts, self.jumps)
        self.t0 = None if t0 is None else _begin(t0, self.ts[0], self.jumps)
        self.y0_prior = None if y0_prior is None else _start_prior(y0_prior, self.y0)
        self.labels = Labels.of(name, channels, units, self.ys.shape[1])

    @property
    def name(self) -> str | None:
        """What the experiment is called; None if it has no name."""
        return self.labels.name

    @property
    def channels(self) -> tuple[str, ...] | None:
        """The names of the channels; None if they have none."""
        return self.labels.channels

    @property
    def units(self) -> dict[str, str]:
        """Units by name."""
        return dict(self.labels.units)

    @property
    def start(self) -> Any:
        """What is stated of the initial state, as `y0` takes it."""
        return self.y0 if self.steady is None else self.steady

    @property
    def begin(self) -> float:
        """The time at which the trajectory begins: `t0`, or the first sample's or jump's."""
        if self.t0 is not None:
            return self.t0
        return min([float(self.ts[0]), *(jump.t for jump in self.jumps[:1])])

    @property
    def constants(self) -> Any:
        """What may hold a `jc.Unknown`, in the order of the optimizer's variables."""
        return self.args, tuple(jump.add for jump in self.jumps)

    @property
    def measured(self) -> Bool[np.ndarray, "time obs"]:
        """Which samples were measured, shape `(time, obs)`."""
        return ~np.isnan(self.ys)

    @property
    def observed(self) -> Bool[np.ndarray, " time"]:
        """The times at which anything was measured."""
        return np.asarray(self.measured.any(axis=1))

    @property
    def num_channels(self) -> int:
        """The number of observed channels."""
        return self.ys.shape[1]


def changed(item: Trajectory, **changes: Any) -> Trajectory:
    """The same trajectory with some of the arguments it was made of changed."""
    kept = {
        "ts": item.ts,
        "ys": item.ys,
        "args": item.args,
        "weights": item.weights if item.weighted else None,
        "y0": item.start,
        "t0": item.t0,
        "y0_prior": item.y0_prior,
        "jumps": item.jumps,
        "name": item.name,
        "channels": item.channels,
        "units": item.units,
    }
    return Trajectory(**(kept | changes))


def _times(value: Any) -> np.ndarray:
    ts = float_array("ts", value, 1, "(time,)")
    if len(ts) == 0:
        raise ValueError("`ts` must hold at least one observation time; got none.")
    if not np.all(np.isfinite(ts)):
        at = int(np.flatnonzero(~np.isfinite(ts))[0])
        raise ValueError(f"`ts` must be finite; got {ts[at]} at position {at}.")
    if np.any(np.diff(ts) < 0):
        at = int(np.flatnonzero(np.diff(ts) < 0)[0])
        raise ValueError(
            f"`ts` must never decrease; got {ts[at]} followed by {ts[at + 1]} at position {at}. "
            "Sort the samples by time first."
        )
    return ts


def _observations(value: Any, num_times: int) -> np.ndarray:
    ys = real_numbers("ys", value, "an array of real numbers of shape (time, obs)", missing=True)
    if ys.ndim != 2:
        way = (
            f" For one channel pass `ys[:, None]`, of shape ({len(ys)}, 1)." if ys.ndim == 1 else ""
        )
        raise ValueError(f"`ys` must have shape (time, obs); got shape {ys.shape}.{way}")
    if ys.shape[0] != num_times or ys.shape[1] == 0:
        raise ValueError(
            f"`ys` must have shape (time, obs) with time = {num_times} as in `ts` "
            f"and obs >= 1; got shape {ys.shape}."
        )
    if np.any(np.isinf(ys)):
        row, column = np.argwhere(np.isinf(ys))[0]
        raise ValueError(
            f"`ys` must be finite, or NaN where nothing was measured; "
            f"got {ys[row, column]} at position ({row}, {column})."
        )
    return ys


def _weights(value: Any, ys: np.ndarray) -> np.ndarray:
    shape = ys.shape
    if value is None:
        return np.ones(shape)
    wanted = f"a scalar, shape ({shape[1]},) or shape {shape}"
    weights = real_numbers("weights", value, f"numbers: {wanted}", missing=True)
    if weights.shape not in ((), shape[1:], shape):
        raise ValueError(f"`weights` must be {wanted}; got shape {weights.shape}.")
    # What was not measured may have no weight either.
    weights = np.where(np.isnan(ys) & np.isnan(weights), 0.0, weights)
    wrong = ~(np.isfinite(weights) & (weights >= 0))
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise ValueError(
            "`weights` must be finite and at least zero; "
            f"got {weights[row, column]} at position ({row}, {column})."
        )
    return weights


def _start(value: Any) -> np.ndarray:
    y0 = float_array("y0", value, 1, "(state,)", missing=True)
    if np.any(np.isinf(y0)):
        raise ValueError(f"`y0` must be finite, or NaN where it is not known; got {y0}.")
    return y0


def _start_prior(value: Any, y0: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviations, or covariance; NaN for what has no prior."""
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise ValueError(f"`y0_prior` must be (mean, std) or None; got {describe(value)}.")
    mean = float_array("y0_prior", value[0], 1, "(state,)", missing=True)
    wanted = "numbers of shape (state,), or of shape (state, state) for a covariance"
    spread = real_numbers("y0_prior", value[1], wanted, missing=True)
    if spread.ndim == 0:
        spread = np.broadcast_to(spread, mean.shape)
    d = len(mean)
    if spread.shape not in ((d,), (d, d)) or np.any(np.isinf(mean)):
        raise ValueError(
            f"`y0_prior` must be a finite mean and {wanted}; got shapes {mean.shape} and "
            f"{spread.shape}."
        )
    missing = np.isnan(mean) | np.isnan(spread if spread.ndim == 1 else np.diag(spread))
    mean = np.where(missing, np.nan, mean)
    inside = spread[~missing] if spread.ndim == 1 else spread[np.ix_(~missing, ~missing)]
    if not np.all(np.isfinite(inside)) or not _positive_definite(inside):
        raise ValueError(
            "`y0_prior` must have standard deviations above zero, or a covariance that is "
            f"symmetric and positive definite; got {describe(value[1])}."
        )
    if y0 is not None and y0.shape == mean.shape and np.any(~missing & ~np.isnan(y0)):
        raise ValueError("`y0_prior` must be NaN for components that `y0` knows.")
    return mean, spread


def _positive_definite(spread: np.ndarray) -> bool:
    """Whether these are standard deviations, or a covariance."""
    if spread.ndim == 1:
        return bool(np.all(spread > 0))
    symmetric = np.allclose(spread, spread.T, rtol=1e-8, atol=0.0)
    return symmetric and bool(np.all(np.linalg.eigvalsh(spread) > 0))


def _begin(value: Any, first: float, jumps: tuple[Jump, ...]) -> float:
    t0 = float(float_array("t0", value, 0, "()"))
    if jumps and jumps[0].t < t0:
        raise ValueError(
            f"`jumps` must not be before `t0` = {t0:g}; got one at {jumps[0].t:g}. What it has "
            "left there is the initial state."
        )
    if not t0 <= first or np.isinf(t0):
        raise ValueError(
            f"`t0` must be a finite time at or before the first sample's, {first:g}; got {t0:g}."
        )
    return t0


def counts(item: Trajectory) -> Bool[np.ndarray, "time obs"]:
    """Which samples were measured and have a weight."""
    return np.asarray(item.measured & (item.weights > 0))


def counted(item: Trajectory) -> Float[np.ndarray, "time obs"]:
    """The observations that count: NaN where not measured, or where their weight is zero.

    A channel without any weight keeps its observations.
    """
    kept = (item.weights > 0) | ~np.any(counts(item), axis=0)
    return np.where(kept, item.ys, np.nan)


def measured_channels(trajectories: Sequence[Trajectory]) -> Bool[np.ndarray, " obs"]:
    """Which channels any of the trajectories has measured."""
    return np.asarray(np.any([item.measured.any(axis=0) for item in trajectories], axis=0))


def as_trajectories(data: Any) -> tuple[Trajectory, ...]:
    """`data` as a tuple of trajectories that observe the same channels."""
    trajectories = (data,) if isinstance(data, Trajectory) else data
    if not isinstance(trajectories, (list, tuple)) or not trajectories:
        raise ValueError(
            f"`data` must be a Trajectory or a non-empty list of them; got {describe(data)}."
        )
    for position, item in enumerate(trajectories):
        if not isinstance(item, Trajectory):
            raise ValueError(
                f"`data` must hold Trajectory objects; got {describe(item)} at position {position}."
            )
    refuse_traced("data", trajectories)
    channels = [item.num_channels for item in trajectories]
    if len(set(channels)) > 1:
        raise ValueError(
            "`data` must observe the same channels in every trajectory (NaN for a channel that "
            f"was not measured); got {channels} channels."
        )
    _check_names(trajectories)
    measured = measured_channels(trajectories)
    if not measured.all():
        empty = np.flatnonzero(~measured).tolist()
        way = "Leave them out of `ys` and pass `num_states` and `observe` instead."
        if not measured.any():
            way = "To solve a model without data, use jc.simulate(..., by=jc.Radau(5))."
        raise ValueError(
            f"`data` must measure every channel at least once; channels {empty} are all NaN. {way}"
        )
    return tuple(trajectories)


def _check_names(trajectories: Sequence[Trajectory]) -> None:
    """Refuse channels that are called otherwise in one trajectory than in another."""
    named = [(k, item) for k, item in enumerate(trajectories) if item.channels is not None]
    for k, item in named[1:]:
        first, wanted = named[0]
        if item.channels != wanted.channels:
            raise ValueError(
                "`data` must have the same `channels`, in the same order, in every trajectory; got "
                f"{item.channels} in {which(item, k)} and {wanted.channels} in "
                f"{which(wanted, first)}."
            )
