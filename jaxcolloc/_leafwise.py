"""Options that may differ from leaf to leaf of the model, as PyTree prefixes."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

from ._callables import explained
from ._check import describe


def leafwise(model: Any, default: Any, *pairs: tuple[Callable[[Any], Any], Any]) -> Any:
    r"""An option for every leaf of `model`: `default`, except where said otherwise.

        l2 = jc.leafwise(model, 1e-3, (lambda m: m.rate, 0.0))
        bounds = jc.leafwise(model, None, (lambda m: m.rate, (0.0, 5.0)))

    It has the model's structure with a value at each leaf, for the arguments `l2`,
    `weight_bounds`, `weight_scale` and `trainable` of `jc.transcribe`. These also take any other
    PyTree prefix of the model.

    **Arguments:**

    - `model`: the model.
    - `default`: the value for leaves that no pair picks.
    - `pairs`: `(where, value)`; `where(model)` returns a leaf, a part of the model, or a tuple
      or list of these, as in `equinox.tree_at`. Later pairs win.

    **Errors:** `ValueError` for a pair that is none, or whose `where` finds nothing.
    """
    leaves, treedef = jtu.tree_flatten(model)
    numbered = jtu.tree_unflatten(treedef, range(len(leaves)))
    values = [default] * len(leaves)
    for pair in pairs:
        if not isinstance(pair, tuple) or len(pair) != 2 or not callable(pair[0]):
            raise ValueError(f"`pairs` must be tuples (where, value); got {describe(pair)}.")
        where, value = pair
        with explained("pairs", "where(model)"):
            picked = jtu.tree_leaves(where(numbered))
        if not picked or not all(type(leaf) is int for leaf in picked):
            raise ValueError(
                "`pairs` must have a `where` that picks leaves or parts of the model; "
                f"got {describe(where(model))}."
            )
        for position in picked:
            values[position] = value
    return jtu.tree_unflatten(treedef, values)


def broadcast(
    name: str, prefix: Any, model: Any, is_value: Callable[[Any], bool], wanted: str
) -> list[Any]:
    """The value of `prefix` for each leaf of `model`, in the order of its leaves."""
    try:
        full = jax.tree.broadcast(prefix, model, is_leaf=lambda x: x is None or is_value(x))
        structure: Any = jtu.tree_structure(model)
        values = structure.flatten_up_to(full)
    except ValueError as error:
        raise ValueError(
            f"`{name}` must be {wanted}, or a PyTree prefix of the model with that at its leaves "
            f"(see jc.leafwise); got {describe(prefix)}."
        ) from error
    for value in values:
        if value is not None and not is_value(value):
            raise ValueError(f"`{name}` must be {wanted}; got {describe(value)}.")
    return list(values)


def is_pair(value: Any) -> bool:
    """Whether `value` is (lower, upper) with numbers or arrays inside."""
    return (
        isinstance(value, (tuple, list))
        and len(value) == 2
        and all(item is None or is_numbers(item) for item in value)
    )


def is_numbers(value: Any) -> bool:
    """Whether `value` is a real number or an array of them."""
    if isinstance(value, (list, tuple, str, bool)):
        return False
    if isinstance(value, (np.ndarray, np.generic, jax.Array)):
        real = jnp.issubdtype(value.dtype, jnp.integer) or jnp.issubdtype(value.dtype, jnp.floating)
        return bool(real) and not isinstance(value, np.timedelta64)
    # A larger integer is none of float64's.
    return isinstance(value, float) or (isinstance(value, int) and abs(value) < 2**1023)
