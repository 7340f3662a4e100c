"""The `args` of trajectories: any PyTree, stacked along the trajectories where shapes agree."""

from collections.abc import Hashable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

from ._precision import is_array, to_float64


def as_arrays(args: Any) -> Any:
    """Numbers in `args` become arrays, so that trajectories may differ in them."""

    def convert(leaf: Any) -> Any:
        if isinstance(leaf, (bool, int)) or not isinstance(leaf, (float, np.generic)):
            return leaf
        return np.asarray(leaf)

    return to_float64(jtu.tree_map(convert, args))


def signature(args: Any) -> Hashable:
    """What the `args` of trajectories that are evaluated together have in common."""
    arrays, rest = eqx.partition(args, is_array)
    leaves, treedef = jtu.tree_flatten(arrays)
    shapes = tuple((leaf.shape, str(leaf.dtype)) for leaf in leaves)
    static, static_treedef = jtu.tree_flatten(rest)
    return treedef, shapes, tuple(map(_hashable, static)), static_treedef


def _hashable(leaf: Any) -> Hashable:
    try:
        hash(leaf)
    except TypeError:
        return id(leaf)
    return leaf


def stack(args: list[Any]) -> Any:
    """The `args` of several trajectories of one signature, arrays with the axis `traj` first."""
    arrays = [eqx.filter(item, is_array) for item in args]
    stacked = jtu.tree_map(lambda *leaves: jnp.stack(leaves), *arrays)
    return eqx.combine(stacked, eqx.filter(args[0], is_array, inverse=True))
