"""Draws: other starts for physical constants, hidden states and what follows from both."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PRNGKeyArray

from .._args import Unknown
from .._data import counted
from .._equilibrium import steady_state
from .._nlp import NLP
from .._precision import x64
from .._ridge import net_weights
from .._rollout import rollout_at_nodes
from .._transform import Reciprocal, Scale
from .projection import project
from .states import States, open_axes


Head = Float[np.ndarray, " head"]

# Constants are drawn within so many decades of their start.
_DECADES_POSITIVE, _DECADES = 2.0, 1.0
_LN10 = float(np.log(10.0))
# A rollout further than this many times the data's size from zero is no start.
_FAR = 1e3


def drawn_constants(nlp: NLP, head: Head, key: PRNGKeyArray) -> Head:
    """`head` with its constants (weights that belong to no net, unknowns) drawn over decades.

    Within their bounds; those on a logarithmic scale or as reciprocals within two decades of their
    start (on a softplus scale by as much of its variable), others within one and with their sign,
    or around zero from a normal distribution if that is where they start.
    """
    lower, upper = (nlp.layout.head(side) for side in nlp.bounds)
    positive = positive_entries(nlp)
    nets = net_weights(nlp.layout.model, nlp.model)
    constant = ~np.append(nets, np.zeros(len(head) - len(nets), bool))
    with jax.enable_x64(True):
        first, second = jax.random.split(key)
        share = np.asarray(jax.random.uniform(first, head.shape, jnp.float64, -1.0, 1.0))
        normal = np.asarray(jax.random.normal(second, head.shape, jnp.float64))
    moved = np.where(head != 0, head * 10 ** (_DECADES * share), normal)
    moved = np.where(positive, head + _LN10 * _DECADES_POSITIVE * share, moved)
    inverse = scaled_entries(nlp, lambda scale: isinstance(scale, Reciprocal))
    moved = np.where(inverse, head * 10 ** (_DECADES_POSITIVE * share), moved)
    # Between bounds on both sides of zero: anywhere.
    near = np.isfinite(lower) & np.isfinite(upper) & (lower <= 0) & (upper >= 0) & ~positive
    low, high = np.where(near, lower, 0.0), np.where(near, upper, 0.0)
    moved = np.where(near, (high + low) / 2 + share * (high - low) / 2, moved)
    return np.where(constant, np.clip(moved, lower, upper), head)


def positive_entries(nlp: NLP) -> np.ndarray:
    """Which entries of the head are seen on a scale of positive values."""
    return scaled_entries(nlp, lambda scale: scale.positive)


def scaled_entries(nlp: NLP, chosen: Callable[[Scale], bool]) -> np.ndarray:
    """Which entries of the head are seen on a scale of which `chosen` is true."""
    weighted = nlp.layout.model
    scales = list(zip(weighted.scales, weighted.sizes, strict=True))
    for item in nlp.trajectories:
        leaves = [leaf for leaf in jax.tree.leaves(item.constants) if isinstance(leaf, Unknown)]
        scales += [(leaf.scale, leaf.value.size) for leaf in leaves]
    parts = [np.full(size, chosen(scale)) for scale, size in scales]
    return np.concatenate([np.zeros(0, bool), *parts])


def rolled_start(
    nlp: NLP, head: Head, states: States, key: PRNGKeyArray
) -> Float[np.ndarray, " variable"] | None:
    """The point of rollouts of the model with `head`; None where they go astray.

    They start in the known initial states or the first of `states`; components that the data do
    not show start at a size drawn within a decade of the channels'. Constants that only the
    observation uses, and that it is linear in, are fitted to the data.
    """
    z = nlp.pack_head(head, states)
    model, args, jumps = nlp.model_at(z), nlp.args(z), nlp.jumps(z)
    hidden = open_axes(nlp, states, head)
    every = np.concatenate([counted(item) for item in nlp.trajectories])
    size = float(np.sqrt(np.nanmean(every**2))) or 1.0
    rolled = []
    for k, (grid, item) in enumerate(zip(nlp.grids, nlp.trajectories, strict=True)):
        start = states[k][0].copy()
        if hidden.shape[1]:
            with jax.enable_x64(True):
                drawn = jax.random.uniform(
                    jax.random.fold_in(key, k), (hidden.shape[1],), jnp.float64, -1.0, 1.0
                )
            start = start - hidden @ (hidden.T @ start) + hidden @ (size * 10 ** np.asarray(drawn))
        if item.y0 is not None:
            start = np.where(np.isnan(item.y0), start, item.y0)
        start = resting_start(nlp, k, model, args[k], start)
        start = np.clip(start, *_state_limits(nlp, k))
        found = rollout_at_nodes(model, grid, start, args[k], jumps[k])
        limit = _FAR * max(size, float(np.abs(start).max()))
        if not np.all(np.abs(found) < limit):
            return None
        rolled.append(found)
    z = nlp.inside(nlp.pack_head(project(nlp, head, rolled), rolled))
    return z if np.all(np.isfinite(z)) else None


def resting_start(
    nlp: NLP, k: int, model: Any, args: Any, start: Float[np.ndarray, " state"]
) -> Float[np.ndarray, " state"]:
    """The steady state of a trajectory that begins in one; else, or where none is found, `start`.

    `args` are those of the trajectory, with values in the place of unknowns.
    """
    item = nlp.trajectories[k]
    if item.steady is None:
        return start
    with x64():
        found = steady_state(
            model, start, item.steady.before(item.args, args), t=float(nlp.grids[k].boundaries[0]),
            known=item.steady.known, invariants=item.steady.invariants, throw=False,
        )  # fmt: skip
    return np.asarray(found) if np.all(np.isfinite(found)) else start


def _state_limits(nlp: NLP, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The bounds of a trajectory's first state, in the caller's units."""
    sides = (nlp.layout.split(side * nlp.units)[k][0] for side in nlp.bounds)
    lower, upper = (side[: nlp.num_states] for side in sides)
    return lower, upper
