"""What a verification found: VERDICT, Verification."""

import enum

import equinox as eqx
import numpy as np
from jaxtyping import Float


PerTrajectory = Float[np.ndarray, " traj"]


class VERDICT(enum.Enum):
    """What a verification found; the value says what it means and what to do."""

    good = "The rollout of the trained model follows the fitted path and the data."
    not_converged = (
        "The solve did not end in an optimum, and the rollout leaves the fitted path. Give it more "
        "steps, or start from another guess."
    )
    too_coarse = (
        "The grid is too coarse for the trained model: its solution leaves the collocation "
        "polynomials within intervals. Use more intervals or nodes where `interval_errors` are "
        "large, or raise `l2`."
    )
    unstable = (
        "The equation holds in every interval, but small errors grow along the trajectory until "
        "the rollout leaves the path, as they do for chaotic dynamics and would on any grid. "
        "Judge the model over shorter times."
    )
    blows_up = (
        "The rollout ends in infinity: where it leaves the data the model drives it away. Raise "
        "`l2`, bound the states' range in the model, or use a hybrid model."
    )
    at_bounds = (
        "The rollout follows the path, but weights lie at their bounds. Widen `weight_bounds`, "
        "or accept them as a regularisation."
    )

    @property
    def ok(self) -> bool:
        """Whether the rollout follows path and data."""
        return self in (VERDICT.good, VERDICT.at_bounds)

    def __repr__(self) -> str:
        return f"VERDICT.{self.name}"


class Verification(eqx.Module):
    r"""What `jc.verify` measured, one entry per trajectory.

    - `verdict`: a member of `jc.VERDICT`; `verdict.ok` tells whether the model can be trusted
      where it was fitted.
    - `rollouts`: states at the nodes from an integration by Diffrax, started in the path's first
      state; shape `(node, state)`, not finite behind a failure.
    - `path_rmse`, `rollout_rmse`: root mean square of the observations' residuals, each times the
      root of its weight, on the collocation path and on the rollout.
    - `distance`: root mean square of rollout minus path over the nodes, each state divided by its
      spread on the paths.
    - `interval_errors`: shape `(interval,)`; how far the model's exact solution, started on the
      path at the beginning of an interval, is from it at its end, in the same unit.
    - `residuals`: shape `(interval,)`; the largest $|\dot y - f|$ of the polynomial between its
      nodes, in the same unit times the interval's width.
    - `growth`: the factor by which a small perturbation grows along the trajectory at most.
    """

    verdict: VERDICT = eqx.field(static=True)
    rollouts: tuple[Float[np.ndarray, "_ state"], ...]
    path_rmse: PerTrajectory
    rollout_rmse: PerTrajectory
    distance: PerTrajectory
    interval_errors: tuple[Float[np.ndarray, " _"], ...]
    residuals: tuple[Float[np.ndarray, " _"], ...]
    growth: PerTrajectory

    @property
    def worst_interval(self) -> float:
        """The largest of all `interval_errors`."""
        return float(max(np.max(item) for item in self.interval_errors))

    def __str__(self) -> str:
        worst = int(np.argmax(np.where(np.isfinite(self.distance), self.distance, np.inf)))
        return "\n".join(
            [
                f"Verification: {self.verdict.name}. {self.verdict.value}",
                f"  data       RMSE {rms(self.path_rmse):.4g} on the path, "
                f"{rms(self.rollout_rmse):.4g} in the rollout",
                f"  distance   {self.distance[worst]:.3g} of a state's spread at most "
                f"(trajectory {worst})",
                f"  intervals  error {self.worst_interval:.2g} at most, residual between nodes "
                f"{max(np.max(item) for item in self.residuals):.2g}",
                f"  growth     perturbations grow by {np.max(self.growth):.3g} at most",
            ]
        )

    def __repr__(self) -> str:
        return f"Verification({self.verdict!r})"


def rms(values: np.ndarray) -> float:
    """The root mean square; infinite where it is not finite."""
    with np.errstate(over="ignore", invalid="ignore"):
        result = float(np.sqrt(np.mean(np.square(values))))
    return result if np.isfinite(result) else np.inf
