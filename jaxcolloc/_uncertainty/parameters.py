"""Parameters: all that is estimated but states within trajectories, with sizes and names."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from .._nlp import NLP
from .names import Named, theta_values


class Parameters(NamedTuple):
    """All that is estimated but states within trajectories: the head, then initial states.

    `value`: in the caller's units, and `rate` its derivative by the optimizer's variable, of which
    `size` is the size; `positive`: whether that is on a scale of positive values; `of_net`: whether
    it is a weight of a net.
    """

    names: list[str]
    value: Float[np.ndarray, " parameter"]
    rate: Float[np.ndarray, " parameter"]
    positive: Bool[np.ndarray, " parameter"]
    of_net: Bool[np.ndarray, " parameter"]
    size: Float[np.ndarray, " parameter"]


def parameters_of(nlp: NLP, leaves: list[Named], z: np.ndarray) -> Parameters:
    """All parameters with their names and sizes."""
    raw = theta_values(nlp, z)
    head = nlp.layout.num_head
    units = np.concatenate([np.ones(head), np.tile(nlp.parts.scale.state, len(nlp.grids))])
    value, rate, size = np.zeros(len(raw)), np.ones(len(raw)), np.ones(len(raw))
    positive, of_net = np.zeros(len(raw), bool), np.zeros(len(raw), bool)
    names = [""] * len(raw)
    for leaf in leaves:
        at = leaf.at
        value[at] = leaf.outward(raw[at], units[at]).ravel()
        rate[at] = units[at] if leaf.scale is None else leaf.scale.rate(raw[at])
        own = np.abs(value[at] / rate[at])
        if leaf.of_net.all() and len(at):
            own = np.maximum(own, np.sqrt(np.mean(own**2)))
        if leaf.scale is not None:
            positive[at] = leaf.scale.positive
        size[at], of_net[at] = np.where(own > 0, own, 1.0), leaf.of_net
        for place, name in zip(at, leaf.entries, strict=True):
            names[place] = name
    for k, states in enumerate(nlp.states_at(z)):
        at = head + k * nlp.num_states + np.arange(nlp.num_states)
        size[at] = np.maximum(size[at], states.std(axis=0) / rate[at])
    return Parameters(names, value, rate, positive, of_net, size)
