"""guess: initial states and weights for the NLP."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import ArrayLike, Float, PRNGKeyArray

from .._args import Unknowns
from .._check import choice, describe, float_array, positive
from .._nlp import NLP, check_nlp
from .._precision import x64
from .._ridge import net_weights
from .._smooth import SmoothTrajectory
from .._trace import Multipliers
from .._transcription.point_functions import VectorField
from .gradient_matching import MATCHING_STEPS, Slopes, fit_slopes, points_each, xavier
from .states import StateFunction, States, called_states, candidate_states, smooth_curves


Head = Float[np.ndarray, " head"]


class Guess(eqx.Module):
    """A start for `jc.solve`: a point of an NLP.

    `key` is the PRNG key it was drawn with; `multipliers`, where there are any, make it a warm
    start. `model`, `args` and `states` are what `z` says.
    """

    nlp: NLP
    z: Float[np.ndarray, " variable"]
    key: PRNGKeyArray | None = None
    multipliers: Multipliers | None = None

    @classmethod
    def at(
        cls, nlp: NLP, z: ArrayLike, key: Any = None, multipliers: Multipliers | None = None
    ) -> "Guess":
        """The point closest to `z` within the bounds of `nlp`."""
        return cls(nlp, nlp.inside(z), key, multipliers)

    @property
    def model(self) -> Any:
        """The model with the weights in `z`."""
        return self.nlp.model_at(self.z)

    @property
    def args(self) -> tuple[Any, ...]:
        """The `args` of each trajectory, with values in the place of its unknowns."""
        return self.nlp.args(self.z)

    @property
    def states(self) -> list[Float[np.ndarray, "_ state"]]:
        """The states of each trajectory."""
        return self.nlp.states_at(self.z)


def guess(
    nlp: NLP,
    *,
    key: PRNGKeyArray | None = None,
    states: str | StateFunction | Sequence[ArrayLike] = "smooth",
    weights: str = "gradient_matching",
    smoothing: float = 3.0,
    algebraic: Sequence[ArrayLike] | None = None,
) -> Guess:
    """Initial states and weights.

    **Arguments:**

    - `nlp`: from `jc.transcribe`.
    - `key`: a PRNG key for the draw of the weights. Without one, the model's own weights are
      the start of gradient matching.
    - `states`: "smooth", LOWESS-smoothed data at the grid's nodes; a function of a trajectory's
      node times, shape `(node,)`, and its smoothed channels and their slopes, both of shape
      `(node, obs)`, that returns the states, shape `(node, state)`; or one such array per
      trajectory.
    - `weights`: "gradient_matching", a least-squares fit of the model to the slopes of the
      smoothed data, from Xavier's draw; "xavier", that draw alone; "as_given", the model's own.
    - `smoothing`: the width of the smoothing window, as a multiple of the one that predicts
      values best. Wider ones give smoother slopes and flatten peaks.
    - `algebraic`: the algebraic variables of a `jc.DAE` at the nodes, one array of shape
      `(node, algebraic)` per trajectory; if not given, what solves their equations there.

    With "smooth", `observe` is inverted by Gauss-Newton. Components that the data do not show are
    set to each of five combinations of the channels and their derivatives in turn, and the one
    that the model can follow best, after a short fit to its slopes, is kept. Where a model gives
    such a state a meaning, a function of your own may do better.

    States and weights are moved into their bounds; known initial states are set.

    **Errors:** `ValueError` for an unknown method, a missing key, states of another shape.
    """
    check_nlp("nlp", nlp)
    choice("weights", weights, ("gradient_matching", "xavier", "as_given"))
    if weights == "xavier" and key is None:
        raise ValueError('`key` must be a PRNG key with weights="xavier"; got None.')
    if positive("smoothing", smoothing) < 1:
        raise ValueError(f"`smoothing` must be at least one; got {smoothing}.")
    if isinstance(states, str):
        choice("states", states, ("smooth",))
    head = start_head(nlp)
    if key is not None and weights != "as_given":
        head[: nlp.num_weights] = nlp.layout.model.flatten("model", xavier(nlp.model, key))
    steps = MATCHING_STEPS if weights == "gradient_matching" else 0
    z = matched_start(nlp, head, states, smoothing, steps)
    return Guess(nlp, z if algebraic is None else _with_algebraic(nlp, z, algebraic), key)


def _with_algebraic(nlp: NLP, z: np.ndarray, given: Any) -> np.ndarray:
    """The point with these algebraic variables."""
    m, counts = nlp.num_algebraic, nlp.layout.node_counts
    wanted = f"a list of {len(counts)} arrays of shape (node, algebraic), one per trajectory"
    if m == 0:
        raise ValueError("`algebraic` must be None where the model of `nlp` is no jc.DAE.")
    if not isinstance(given, (list, tuple)) or len(given) != len(counts):
        raise ValueError(f"`algebraic` must be {wanted}; got {describe(given)}.")
    arrays = [float_array("algebraic", item, 2, "(node, algebraic)") for item in given]
    for item, count in zip(arrays, counts, strict=True):
        if item.shape != (count, m) or not np.all(np.isfinite(item)):
            raise ValueError(
                f"`algebraic` must be {wanted}, here ({count}, {m}), all finite; got "
                f"{describe(item)}."
            )
    states = [np.hstack(pair) for pair in zip(nlp.states_at(z), arrays, strict=True)]
    return nlp.inside(nlp.pack_head(nlp.head(z), states))


def start_head(nlp: NLP) -> Head:
    """The model's own weights and the starts of all unknowns."""
    starts = [Unknowns.of(item.constants).start for item in nlp.trajectories]
    return np.concatenate([nlp.layout.model.flatten("model", nlp.model), *starts])


def matched_start(
    nlp: NLP, head: Head, states: Any, smoothing: float, steps: int
) -> Float[np.ndarray, " variable"]:
    """The point that `guess` documents, from given weights and unknowns.

    `steps` is the largest number of steps of gradient matching, 0 for none.
    """
    slopes = None
    if isinstance(states, str):
        curves = smooth_curves(nlp, smoothing)
        starts = candidate_states(nlp, curves, head)
        if nlp.observe is None and nlp.num_states == nlp.trajectories[0].num_channels:
            slopes = _curve_slopes(nlp, curves)
    elif callable(states):
        starts = [called_states(nlp, smooth_curves(nlp, smoothing), states)]
    else:
        starts = [states]
    if slopes is None:
        # The slopes are those of guessed states, which takes longer to match.
        steps = 2 * steps
    points = [nlp.inside(nlp.pack_head(head, item)) for item in starts]
    return _best(nlp, points, slopes, steps)


def _best(
    nlp: NLP, starts: list[np.ndarray], slopes: tuple[Slopes, ...] | None, steps: int
) -> np.ndarray:
    """The start whose slopes the model matches best, matched if that takes any steps."""
    if len(starts) == 1 and not (steps and nlp.layout.num_head):
        return starts[0]
    fits = [_matched(nlp, z, slopes, steps) for z in starts]
    errors = [error if np.isfinite(error) else np.inf for _, error in fits]
    return fits[int(np.argmin(errors))][0]


def _matched(
    nlp: NLP, z: np.ndarray, slopes: tuple[Slopes, ...] | None, steps: int
) -> tuple[np.ndarray, float]:
    """`z` with weights and unknowns fitted to slopes, those of its own states if not given."""
    with x64():
        data = _node_slopes(nlp, nlp.states_at(z)) if slopes is None else slopes
        nets = net_weights(nlp.layout.model, nlp.model)
        found, error = fit_slopes(nlp.head(z), data, nets, max_steps=steps)
        fitted = z.copy()
        fitted[: len(found)] = found
    if nlp.num_algebraic and len(found):
        # Other weights, other algebraic variables.
        fitted = nlp.pack_head(found, nlp.states_at(z))
    return nlp.inside(fitted), error


def _curve_slopes(nlp: NLP, curves: list[SmoothTrajectory]) -> tuple[Slopes, ...]:
    """Values and slopes of the smoothed data, from the first that is known of each trajectory."""
    begins = [
        grid.boundaries[0] if item.y0 is not None else item.ts[0]
        for item, grid in zip(nlp.trajectories, nlp.grids, strict=True)
    ]
    return _slopes(nlp, lambda k, ts: (curves[k].values(ts), curves[k].slopes(ts)), begins)


def _node_slopes(nlp: NLP, states: States) -> tuple[Slopes, ...]:
    """Values and slopes of the collocation polynomials."""
    return _slopes(
        nlp,
        lambda k, ts: (
            nlp.grids[k].interpolate(states[k], ts),
            nlp.grids[k].slope(states[k], ts),
        ),
        [grid.boundaries[0] for grid in nlp.grids],
    )


def _slopes(nlp: NLP, values_and_slopes: Any, begins: Sequence[float]) -> tuple[Slopes, ...]:
    """Of each group, at times spread evenly from where `begins` says to the grid's end."""
    each = points_each(nlp.trajectories)
    field = VectorField(nlp.layout.model)
    data = []
    with x64():
        for group in nlp.groups:
            ends = [nlp.grids[k].boundaries[-1] for k in group.members]
            starts = [begins[k] for k in group.members]
            times = [np.linspace(*pair, each) for pair in zip(starts, ends, strict=True)]
            pairs = [values_and_slopes(k, ts) for k, ts in zip(group.members, times, strict=True)]
            values, slopes = zip(*pairs, strict=True)
            data.append(Slopes.stack(field, group.args, group.unknowns, times, values, slopes))
    return tuple(data)
