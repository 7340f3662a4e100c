"""The `args` of trajectories: any PyTree, stacked along the trajectories where shapes agree."""

import math
from collections.abc import Hashable, Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from ._check import describe, positive, real_numbers
from ._inputs import Input
from ._precision import is_array, is_inexact, wide
from ._transform import Scale, as_scale


class Unknown:
    r"""A constant of one experiment that is to be found, as a leaf of a trajectory's `args`.

        jc.Trajectory(ts, ys, {"feed": 2.0, "activity": jc.Unknown(1.0, bounds=(0, 5))})

    The model meets its value in the place of this object; `sol.args[k]` holds the fitted `args`
    of trajectory `k`. The objective gets the term $\mathtt{l2} \, \|x - x_0\|^2$.

    **Arguments:**

    - `value`: the start $x_0$, a number or an array.
    - `bounds`: (lower, upper), numbers or arrays of the same shape; None for none.
    - `scale`: "linear", "log", "softplus", "reciprocal" or a factor, as `weight_scale` of
      `jc.transcribe`. With another scale than "linear", `l2` measures the distance on that scale.
    - `l2`: how strongly it is drawn to its start.
    """

    def __init__(
        self,
        value: ArrayLike,
        *,
        bounds: tuple[Any, Any] | None = None,
        scale: str | float = "linear",
        l2: float = 0.0,
    ):
        self.value = real_numbers("value", value, "a number or an array of them")
        if not np.all(np.isfinite(self.value)):
            raise ValueError(f"`value` must be finite; got {describe(self.value)}.")
        self.lower, self.upper = _limits(bounds, self.value)
        self.scale = as_scale(scale, "scale")
        if self.scale.positive and np.any(self.value <= 0):
            raise ValueError(
                f"`value` must be above zero with the `scale` {self.scale!r}; "
                f"got {describe(self.value)}."
            )
        self.l2 = positive("l2", l2, allow_zero=True)

    def __repr__(self) -> str:
        return f"Unknown({self.value})"


def _limits(bounds: Any, value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both sides of an unknown's bounds, in the shape of its value, which lies between them."""
    pair = (None, None) if bounds is None else bounds
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise ValueError(f"`bounds` must be (lower, upper) or None; got {describe(bounds)}.")
    wanted = "(lower, upper), numbers or arrays of the value's shape"
    sides = []
    for side, missing in zip(pair, (-np.inf, np.inf), strict=True):
        limit = real_numbers("bounds", missing if side is None else side, wanted)
        if limit.shape not in ((), value.shape):
            raise ValueError(f"`bounds` must be {wanted} {value.shape}; got shape {limit.shape}.")
        sides.append(np.broadcast_to(limit, value.shape))
    lower, upper = sides
    if not np.all((lower < upper) & (lower <= value) & (value <= upper)):
        raise ValueError(
            "`bounds` must have lower < upper with the `value` between; "
            f"got {describe(bounds)} and {describe(value)}."
        )
    return lower, upper


class Slot(eqx.Module):
    """Where a group's `args` take a trajectory's unknown from."""

    first: int = eqx.field(static=True)
    shape: tuple[int, ...] = eqx.field(static=True)
    scale: Scale = eqx.field(static=True)

    def take(self, unknowns: Array) -> Array:
        """The value in the model."""
        part = unknowns[self.first : self.first + math.prod(self.shape)]
        return jnp.reshape(self.scale.outward(part), self.shape)


@jtu.register_static
class Fixed:
    """A leaf of a group's `args` that is no array, such as a function or a text.

    JAX takes it for a part of the tree's structure. Two are equal if what they hold is.
    """

    def __init__(self, value: Any):
        self.value = value
        self._key = type(value), _hashable(value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fixed) and bool(self._key == other._key)

    def __hash__(self) -> int:
        return hash(self._key)


class Unknowns(eqx.Module):
    """The unknowns of one trajectory as flat arrays, on the optimizer's scale."""

    start: Float[np.ndarray, " unknown"]
    lower: Float[np.ndarray, " unknown"]
    upper: Float[np.ndarray, " unknown"]
    l2: Float[np.ndarray, " unknown"]

    @classmethod
    def of(cls, args: Any) -> "Unknowns":
        """Those in `args`, in the order of its leaves."""
        columns: list[list[np.ndarray]] = [[np.zeros(0)] for _ in range(4)]
        for item in filter(_is_unknown, jtu.tree_leaves(args)):
            columns[0].append(item.scale.inward(item.value).ravel())
            columns[1].append(item.scale.limit(item.lower).ravel())
            columns[2].append(item.scale.limit(item.upper).ravel())
            columns[3].append(np.full(item.value.size, item.l2))
        return cls(*(np.concatenate(column) for column in columns))


def _is_unknown(leaf: Any) -> bool:
    return isinstance(leaf, Unknown)


def as_arrays(args: Any) -> Any:
    """`args` as models use it: numbers are arrays, unknowns slots, inputs of rounded lengths.

    **Errors:** `ValueError` for arrays of anything but numbers and truth values.
    """
    position = 0

    def convert(leaf: Any) -> Any:
        nonlocal position
        if isinstance(leaf, Input):
            return leaf.padded()
        if isinstance(leaf, Unknown):
            slot = Slot(position, leaf.value.shape, leaf.scale)
            position += leaf.value.size
            return slot
        return number_to_array(leaf)

    converted = jtu.tree_map(convert, args, is_leaf=lambda leaf: isinstance(leaf, Input))
    return jtu.tree_map(_on_host, converted)


def _on_host(leaf: Any) -> Any:
    """A float array as one of NumPy in float64: JAX would compile a program for every shape."""
    check_leaf(leaf)
    return np.asarray(leaf, wide(leaf)) if is_inexact(leaf) else leaf


def check_values(args: Any) -> None:
    """Refuse `args` that hold unknowns, where a model is to be evaluated."""
    if any(isinstance(leaf, Unknown) for leaf in jtu.tree_leaves(args)):
        raise ValueError(
            "`args` must hold values, not jc.Unknown objects: pass `sol.args[k]`, where the fitted "
            "values stand in their place."
        )


def check_leaf(leaf: Any) -> None:
    """Refuse arrays in `args` that do not hold numbers, or not all of them."""
    if isinstance(leaf, np.ma.MaskedArray):
        raise ValueError("`args` must hold arrays without a mask: fill it, `array.filled(value)`.")
    if not is_array(leaf):
        return
    if not (leaf.dtype == bool or jnp.issubdtype(leaf.dtype, jnp.number)):
        raise ValueError(
            f"`args` must hold arrays of numbers; got one of type {leaf.dtype}. What is no number "
            "can be a leaf of its own: a text, a function, an object."
        )


def number_to_array(leaf: Any) -> Any:
    """A float as an array, so that functions are not compiled anew for each value."""
    if isinstance(leaf, np.str_):
        return str(leaf)
    if isinstance(leaf, (bool, int)) or not isinstance(leaf, (float, complex, np.generic)):
        return leaf
    return np.asarray(leaf)


def fill(args: Any, unknowns: Array) -> Any:
    """Sealed `args` as the model sees them, with the unknowns in their slots."""

    def value(leaf: Any) -> Any:
        if isinstance(leaf, Slot):
            return leaf.take(unknowns)
        return leaf.value if isinstance(leaf, Fixed) else leaf

    return jtu.tree_map(value, args, is_leaf=lambda leaf: isinstance(leaf, (Slot, Fixed)))


def restore(args: Any, unknowns: np.ndarray) -> Any:
    """The caller's `args` with fitted values in the place of the unknowns."""
    first = 0

    def value(leaf: Any) -> Any:
        nonlocal first
        if not isinstance(leaf, Unknown):
            return leaf
        part = unknowns[first : first + leaf.value.size]
        first += leaf.value.size
        return np.asarray(leaf.scale.outward(part)).reshape(leaf.value.shape)

    return jtu.tree_map(value, args)


def signature(args: Any) -> Hashable:
    """What the `args` of trajectories that are evaluated together have in common."""
    arrays, rest = eqx.partition(args, is_array)
    leaves, treedef = jtu.tree_flatten(arrays)
    shapes = tuple((leaf.shape, str(leaf.dtype)) for leaf in leaves)
    static, static_treedef = jtu.tree_flatten(rest)
    return treedef, shapes, tuple(map(Fixed, static)), static_treedef


def _hashable(leaf: Any) -> Hashable:
    try:
        hash(leaf)
    except TypeError:
        return id(leaf)
    return leaf


def sealed(args: Any) -> Any:
    """`args` as a program that JAX compiles takes them: what is no array is `Fixed`."""
    return jtu.tree_map(lambda leaf: leaf if is_array(leaf) else Fixed(leaf), args)


def opened(args: Any) -> Any:
    """Sealed `args` without unknowns as the model sees them."""
    return fill(args, jnp.zeros(0))


def stack(args: Sequence[Any]) -> Any:
    """The `args` of several trajectories of one signature, sealed, with the axis `traj` first."""
    return jtu.tree_map(lambda *leaves: np.stack(leaves), *map(sealed, args))
