"""OnNets: a ridge penalty on the weights of nets, and not on physical constants."""

from typing import Any

import equinox as eqx
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Bool

from ._check import positive


class OnNets(eqx.Module):
    r"""A factor $\lambda$ of the ridge penalty for the weights of nets alone: `l2=jc.OnNets(1e-4)`.

    Weights of nets are all leaves of the layers of `equinox.nn`, and elsewhere arrays of two and
    more axes (matrices). Scalars and vectors of other modules, and whatever is on a scale of
    positive values ("log", "softplus"), are taken for physical constants: drawing these to zero
    would bias them, in some units more than in others.

    **Arguments:** `factor`: at least zero.
    """

    factor: float = eqx.field(static=True)

    def __init__(self, factor: float):
        self.factor = positive("factor", factor, allow_zero=True)


def net_leaves(model: Any) -> list[bool]:
    """For each leaf of `model` whether it belongs to a net."""
    chosen: list[bool] = []
    for node in jtu.tree_leaves(model, is_leaf=_is_layer):
        if _is_layer(node):
            chosen += [True] * len(jtu.tree_leaves(node))
        else:
            chosen.append(np.ndim(node) >= 2)
    return chosen


def _is_layer(node: object) -> bool:
    return isinstance(node, eqx.Module) and any(
        base.__module__.startswith("equinox.nn") for base in type(node).__mro__
    )


def as_prefix(l2: Any, model: Any) -> Any:
    """The factor of the ridge penalty as a PyTree prefix of the model."""
    if not isinstance(l2, OnNets):
        return l2
    treedef: Any = jtu.tree_structure(model)
    return jtu.tree_unflatten(treedef, [l2.factor * chosen for chosen in net_leaves(model)])


def net_weights(weighted: Any, model: Any) -> Bool[np.ndarray, " weight"]:
    """Which of the weights, those of `model` taken apart by `weighted`, belong to nets."""
    ones = weighted.per_weight("l2", as_prefix(OnNets(1.0), model), model)
    return np.asarray((ones > 0) & ~weighted.positive)


def ridge_factors(weighted: Any, l2: Any, model: Any) -> np.ndarray:
    """The factor of the ridge penalty of every weight."""
    factors: np.ndarray = weighted.per_weight("l2", as_prefix(l2, model), model)
    return np.where(weighted.positive, 0.0, factors) if isinstance(l2, OnNets) else factors
