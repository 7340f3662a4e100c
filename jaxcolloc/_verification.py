"""What a verification found: VERDICT, Verification."""

import enum
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Float


PerTrajectory = Float[np.ndarray, " traj"]
PerChannel = Float[np.ndarray, "traj obs"]


class VERDICT(enum.Enum):
    """What a verification found; the value says what it means and what to do.

    Where several hold, all are in `Verification.causes`, in this order.
    """

    not_converged = (
        "The solve did not end in an optimum, so nothing holds that rests on one. Give it more "
        "steps, start from another guess, or see what `result` says."
    )
    no_weights = (
        "Nothing was trained: the model has no weights. Weights are the model's leaves that are "
        "arrays of floats; write `jnp.asarray(0.5)` for 0.5."
    )
    violated = (
        "The path violates bounds or constraints that were stated. Look whether they can be met."
    )
    singular = (
        "The algebraic equations do not determine their variables everywhere on the path: the "
        "index is above 1 there. Differentiate such equations in time until the variables come "
        "in, or leave out what nothing determines."
    )
    poor_fit = (
        "The fitted path itself does not follow the data: what is left is far above their noise, "
        "or has structure. Lower `l2`, try more `starts`, or change the model: more states, "
        "inputs, a wider net. A finer grid alone will hardly help."
    )
    too_coarse = (
        "The grid is too coarse for the trained model: its solution leaves the collocation "
        "polynomials within intervals. Use more intervals or nodes where `interval_errors` are "
        "large, or raise `l2`."
    )
    blows_up = (
        "The rollout ends in infinity: where it leaves the data the model drives it away. Raise "
        "`l2`, bound the states' range in the model, or use a hybrid model."
    )
    out_of_steps = (
        "The integration of the rollout ran out of steps, so that most of it could not be judged: "
        "the model moves much faster than the data. Raise `l2`, or fit in units near one."
    )
    unstable = (
        "The equation holds in every interval, but small errors grow along the trajectory until "
        "the rollout leaves the path, as they do for chaotic dynamics and would on any grid. "
        "Judge the model over shorter times."
    )
    at_bounds = (
        "The rollout follows path and data, but weights or unknowns lie at their bounds. Widen "
        "`weight_bounds` or the unknown's `bounds`, or accept them as a regularisation."
    )
    good = "In every channel the path follows the data, and the model's rollout the path."

    @property
    def ok(self) -> bool:
        """Whether the path follows the data, and the rollout the path."""
        return self in (VERDICT.good, VERDICT.at_bounds)

    def __repr__(self) -> str:
        return f"VERDICT.{self.name}"


class Verification(eqx.Module):
    r"""What `jc.verify` measured, one entry per trajectory and channel.

    - `verdict`: a member of `jc.VERDICT`, the first of `causes`: all that was found, that to be
      mended first on top, or good alone. `verdict.ok` tells whether the model can be trusted where
      it was fitted.
    - `notes`: sentences on where and how much.
    - `follows`: whether the rollout follows the path, shape `(traj,)`.
    - `rollouts`: states at the nodes from an integration that starts in the path's first
      state; shape `(node, state)`, not finite behind a failure.
    - `path_explained`, `rollout_explained`: the share of the variance that path and rollout
      explain, $1 - \sum r^2 / \sum (y - \bar y)^2$ over the samples of one trajectory and channel,
      NaN where these do not vary; shape `(traj, obs)`.
    - `noise`: the standard deviation of each channel's noise, estimated without the model from
      samples and their neighbours in time; NaN where they are too few; shape `(obs,)`.
    - `misfit`: the root mean square of the path's residuals in units of `noise`, about 1 for a good
      fit; noise below 0.1% of a channel's spread counts as that; shape `(traj, obs)`.
    - `path_rmse`, `rollout_rmse`: root mean square of the observations' residuals, each times the
      root of its weight, on the collocation path and on the rollout.
    - `departure`: root mean square of rollout minus path at the observation times, as observed and
      in the channel's unit; shape `(traj, obs)`.
    - `distance`: root mean square of rollout minus path over the nodes, of that state for which it
      is largest as a share of its spread on the paths.
    - `interval_errors`: shape `(interval,)`; how far the model's exact solution, started on the
      path at the beginning of an interval, is from it at its end, in states' spreads.
    - `residuals`: shape `(interval,)`; the largest $|\dot y - f|$ of the polynomial between its
      nodes, in the same unit times the interval's width.
    - `growth`: the factor by which a small perturbation grows along the trajectory at most.
    - `names`: what the trajectories are called.
    """

    causes: tuple[VERDICT, ...] = eqx.field(static=True)
    notes: tuple[str, ...] = eqx.field(static=True)
    follows: np.ndarray
    rollouts: tuple[Float[np.ndarray, "_ state"], ...]
    path_explained: PerChannel
    rollout_explained: PerChannel
    noise: Float[np.ndarray, " obs"]
    misfit: PerChannel
    path_rmse: PerTrajectory
    rollout_rmse: PerTrajectory
    departure: PerChannel
    distance: PerTrajectory
    interval_errors: tuple[Float[np.ndarray, " _"], ...]
    residuals: tuple[Float[np.ndarray, " _"], ...]
    growth: PerTrajectory
    names: tuple[str, ...] = eqx.field(static=True, default=())

    @property
    def verdict(self) -> VERDICT:
        """The first of `causes`."""
        return self.causes[0]

    @property
    def worst_interval(self) -> float:
        """The largest of all `interval_errors`."""
        return float(max(np.max(item) for item in self.interval_errors))

    @property
    def summary(self) -> str:
        """The causes with what they mean, and the notes."""
        first, *others = self.causes
        also = [f"Also {item.name}. {item.value}" for item in others]
        return " ".join([f"{first.name}. {first.value}", *also, *self.notes])

    def __str__(self) -> str:
        worst = int(np.argmax(np.where(np.isfinite(self.distance), self.distance, np.inf)))
        first, *others = self.causes
        return "\n".join(
            [
                f"Verification: {first.name}. {first.value}",
                *[f"  also       {item.name}. {item.value}" for item in others],
                *[f"  note       {item}" for item in self.notes],
                f"  data       RMSE {rms(self.path_rmse):.4g} on the path, "
                f"{rms(self.rollout_rmse):.4g} in the rollout",
                f"  explained  {_least(self.path_explained)} of the variance by the path at least, "
                f"{_least(self.rollout_explained)} by the rollout",
                "  noise      residuals on the path are "
                f"{_most(self.misfit)} times the data's noise at most",
                f"  distance   {self.distance[worst]:.3g} of a state's spread at most "
                f"({self.names[worst] if self.names else f'trajectory {worst}'})",
                f"  intervals  error {self.worst_interval:.2g} at most, residual between nodes "
                f"{max(np.max(item) for item in self.residuals):.2g}",
                f"  growth     perturbations grow by {np.max(self.growth):.3g} at most",
            ]
        )

    def __repr__(self) -> str:
        return f"Verification({self.verdict!r})"


# What verifications of older versions did not have, and what they had instead.
LATER = ("causes", "notes", "follows", "path_explained", "rollout_explained", "noise", "misfit",
         "departure", "names")  # fmt: skip


def of_loaded(given: dict[str, Any]) -> dict[str, Any]:
    """The fields of a verification from a file, whose `verdict` stands beside its causes.

    One of an older version has its verdict as the only cause, and NaN for what was not measured.
    """
    fields = dict(given)
    verdict = fields.pop("verdict")
    fields["names"] = fields["names"] or ()
    if fields["causes"] is None:
        count = len(fields["path_rmse"])
        unknown = np.full((count, 1), np.nan)
        fields |= dict.fromkeys(LATER, unknown)
        fields |= {"causes": (verdict,), "notes": (), "noise": unknown[0], "names": ()}
        fields["follows"] = np.full(count, verdict.ok)
    return fields


def _least(shares: np.ndarray) -> str:
    known = shares[~np.isnan(shares)]
    if not len(known):
        return "none"
    # Rounded down: only all of it is 100%.
    return f"{max(np.floor(1000 * known.min()) / 10, -999.9):.1f}%"


def _most(ratios: np.ndarray) -> str:
    known = ratios[~np.isnan(ratios)]
    return f"{known.max():.3g}" if len(known) else "an unknown number of"


def rms(values: np.ndarray) -> float:
    """The root mean square; infinite where it is not finite, NaN of nothing."""
    if not np.size(values):
        return np.nan
    with np.errstate(over="ignore", invalid="ignore"):
        result = float(np.sqrt(np.mean(np.square(values))))
    return result if np.isfinite(result) else np.inf
