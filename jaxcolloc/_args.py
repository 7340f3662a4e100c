"""The `args` of trajectories: any PyTree, stacked along the trajectories where shapes agree."""

import math
from collections.abc import Hashable, Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from ._check import describe
from ._inputs import Input
from ._precision import is_array, is_inexact
from ._transform import Scale, as_scale


class Unknown:
    r"""A constant of one experiment that is to be found, as a leaf of a trajectory's `args`.

        jc.Trajectory(ts, ys, {"feed": 2.0, "activity": jc.Unknown(1.0, bounds=(0, 5))})

    The model meets its value in the place of this object; `sol.args[k]` holds the fitted `args`
    of trajectory `k`. The objective gets the term $\mathtt{l2} \, \|x - x_0\|^2$.

    **Arguments:**

    - `value`: the start $x_0$, a number or an array.
    - `bounds`: (lower, upper), numbers or arrays of the same shape; None for none.
    - `scale`: "linear", "log", "softplus" or a factor, as `weight_scale` of `jc.transcribe`. With
      another scale than "linear", `l2` measures the distance on that scale.
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
        try:
            self.value = np.array(value, np.float64)
            lower, upper = (None, None) if bounds is None else bounds
            lower = np.asarray(-np.inf if lower is None else lower, np.float64)
            upper = np.asarray(np.inf if upper is None else upper, np.float64)
            self.lower = np.broadcast_to(lower, self.value.shape)
            self.upper = np.broadcast_to(upper, self.value.shape)
        except (TypeError, ValueError) as error:
            raise ValueError(
                "`Unknown` takes a number or an array and bounds=(lower, upper) that fit it; "
                f"got {describe(value)} and {describe(bounds)}."
            ) from error
        if not np.all(np.isfinite(self.value)):
            raise ValueError(f"`value` must be finite; got {describe(self.value)}.")
        if not np.all((self.lower < self.upper) & (self.lower <= self.value)) or np.any(
            self.value > self.upper
        ):
            raise ValueError(
                f"`bounds` must have lower < upper with the value between; got {bounds} "
                f"and {describe(self.value)}."
            )
        self.scale = as_scale(scale)
        self.scale.check("scale", self.value)
        if not np.isfinite(l2) or l2 < 0:
            raise ValueError(f"`l2` must be a finite number at least zero; got {describe(l2)}.")
        self.l2 = float(l2)

    def __repr__(self) -> str:
        return f"Unknown({self.value})"


class Slot(eqx.Module):
    """Where a group's `args` take a trajectory's unknown from."""

    first: int = eqx.field(static=True)
    shape: tuple[int, ...] = eqx.field(static=True)
    scale: Scale = eqx.field(static=True)

    def take(self, unknowns: Array) -> Array:
        """The value in the model."""
        part = unknowns[self.first : self.first + math.prod(self.shape)]
        return jnp.reshape(self.scale.outward(part), self.shape)


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


def _is_slot(leaf: Any) -> bool:
    return isinstance(leaf, Slot)


def as_arrays(args: Any) -> Any:
    """`args` as terms use it: numbers are arrays, unknowns slots, inputs of rounded lengths."""
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
    return np.asarray(leaf, np.float64) if is_inexact(leaf) and leaf.dtype.kind != "c" else leaf


def number_to_array(leaf: Any) -> Any:
    """A float as an array, so that functions are not compiled anew for each value."""
    if isinstance(leaf, (bool, int)) or not isinstance(leaf, (float, np.generic)):
        return leaf
    return np.asarray(leaf)


def fill(args: Any, unknowns: Array) -> Any:
    """`args` with the unknowns in their slots."""
    return jtu.tree_map(
        lambda leaf: leaf.take(unknowns) if isinstance(leaf, Slot) else leaf, args, is_leaf=_is_slot
    )


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
    return treedef, shapes, tuple(map(_hashable, static)), static_treedef


def _hashable(leaf: Any) -> Hashable:
    try:
        hash(leaf)
    except TypeError:
        return id(leaf)
    return leaf


def stack(args: Sequence[Any]) -> Any:
    """The `args` of several trajectories of one signature, arrays with the axis `traj` first."""
    arrays = [eqx.filter(item, is_array) for item in args]
    stacked = jtu.tree_map(lambda *leaves: np.stack(leaves), *arrays)
    return eqx.combine(stacked, eqx.filter(args[0], is_array, inverse=True))
