"""Weighted: a model taken apart into the vector of its weights and the rest."""

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float

from .._args import fill
from .._arrays import module
from .._callables import explained
from .._check import describe
from .._inputs import Input
from .._leafwise import broadcast, is_numbers, is_pair
from .._precision import AnyArray, is_inexact, to_float64
from .._transform import Scale, as_scale, is_scale


Weights = Float[Array, " weight"]


class Weighted(eqx.Module):
    """A PyTree taken apart into a flat float64 vector of weights and the rest.

    A weight is the leaf's value, or what `scales` makes of it. Leaves that are not trained are
    in `rest`.
    """

    rest: Any
    treedef: Any = eqx.field(static=True)
    mask: Any = eqx.field(static=True)
    shapes: tuple[tuple[int, ...], ...] = eqx.field(static=True)
    dtypes: tuple[str, ...] = eqx.field(static=True)
    scales: tuple[Scale, ...] = eqx.field(static=True)

    @classmethod
    def split(cls, name: str, tree: Any, trainable: Any = True, scale: Any = None) -> "Weighted":
        """Take `tree` apart; `name` is what errors call it."""
        mask = _mask(tree, trainable)
        scales = broadcast(
            "weight_scale", scale, tree, is_scale,
            '"linear", "log", "softplus", "reciprocal" or a number',
        )  # fmt: skip
        weights, rest = _partition(tree, mask)
        leaves, treedef = jtu.tree_flatten(weights)
        for leaf in leaves:
            if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
                raise ValueError(
                    f"`{name}` must have real weights; got a leaf of type {leaf.dtype}. "
                    "Keep real and imaginary part as two leaves, or hold it by `trainable`."
                )
            if not np.all(np.isfinite(np.asarray(leaf, np.float64))):
                raise ValueError(f"`{name}` must have finite weights; got {describe(leaf)}.")
        shapes = tuple(tuple(leaf.shape) for leaf in leaves)
        dtypes = tuple(str(leaf.dtype) for leaf in leaves)
        chosen = [as_scale(item) for item, used in zip(scales, mask, strict=True) if used]
        for leaf, item in zip(leaves, chosen, strict=True):
            item.check("weight_scale", np.asarray(leaf, np.float64))
        return cls(rest, treedef, mask, shapes, dtypes, tuple(chosen))

    @property
    def sizes(self) -> tuple[int, ...]:
        """The number of weights in each leaf."""
        return tuple(math.prod(shape) for shape in self.shapes)

    @property
    def size(self) -> int:
        """The number of weights."""
        return sum(self.sizes)

    @property
    def positive(self) -> Bool[np.ndarray, " weight"]:
        """Which weights are seen on a scale of positive values only."""
        chosen = [
            np.full(n, scale.positive) for n, scale in zip(self.sizes, self.scales, strict=True)
        ]
        return np.concatenate([np.zeros(0, bool), *chosen])

    def flatten(self, name: str, tree: Any) -> Float[np.ndarray, " weight"]:
        """The weights of `tree`, which must have the structure of the one taken apart."""
        every = jtu.tree_leaves(tree)
        chosen = zip(every, self.mask, strict=False) if len(every) == len(self.mask) else ()
        leaves = [leaf for leaf, used in chosen if used and is_numbers(leaf)]
        shapes = tuple(tuple(np.shape(leaf)) for leaf in leaves)
        if shapes != self.shapes:
            raise ValueError(
                f"`{name}` must have weights of the shapes {self.shapes}, as the one that was "
                f"transcribed; got {shapes}."
            )
        flat = [
            np.ravel(scale.inward(np.asarray(leaf, np.float64)))
            for leaf, scale in zip(leaves, self.scales, strict=True)
        ]
        return np.concatenate(flat) if flat else np.zeros(0)

    def values(self, w: AnyArray) -> AnyArray:
        """What the weights are in the model, flat."""
        flat = [leaf.ravel() for leaf in self._leaves(w)]
        return module(w).concatenate(flat) if flat else module(w).zeros(0)

    def rates(self, w: Float[np.ndarray, " weight"]) -> Float[np.ndarray, " weight"]:
        """The derivative of each weight's value in the model by the weight."""
        offsets = np.cumsum((0, *self.sizes))
        parts = [
            scale.rate(w[start : start + size])
            for start, size, scale in zip(offsets, self.sizes, self.scales, strict=False)
        ]
        return np.concatenate([np.zeros(0), *parts])

    def join(self, w: Weights) -> Any:
        """The PyTree with the weights `w`, in float64."""
        return eqx.combine(jtu.tree_unflatten(self.treedef, self._leaves(w)), to_float64(self.rest))

    def apply(self, w: Array, args: Any) -> tuple[Any, Any]:
        """Model and `args` from the weights and, behind them, a trajectory's unknowns."""
        return self.join(w[: self.size]), fill(args, w[self.size :])

    def restore(self, w: ArrayLike) -> Any:
        """The PyTree with the weights `w`, in the dtypes that it came with."""
        leaves = self._leaves(w if isinstance(w, jax.Array) else np.asarray(w, np.float64))
        cast = [leaf.astype(dtype) for leaf, dtype in zip(leaves, self.dtypes, strict=True)]
        # Those of NumPy all at once: a conversion would compile a program for every shape.
        leaves = cast if isinstance(w, jax.Array) else jax.device_put(cast)
        return eqx.combine(jtu.tree_unflatten(self.treedef, leaves), self.rest)

    def per_weight(self, name: str, prefix: Any, tree: Any) -> Float[np.ndarray, " weight"]:
        """A non-negative number per weight, from a prefix of the tree."""

        def number(value: Any, shape: tuple[int, ...]) -> np.ndarray:
            array = np.asarray(0.0 if value is None else value, np.float64)
            if not np.all(np.isfinite(array)) or np.any(array < 0):
                raise ValueError(
                    f"`{name}` must be a finite number at least zero; got {describe(value)}."
                )
            return self._per_entry(name, array, shape)

        wanted = "a finite number at least zero"
        values = self._values(name, prefix, tree, is_numbers, wanted)
        flat = [np.ravel(number(*item)) for item in zip(values, self.shapes, strict=True)]
        return np.concatenate(flat) if flat else np.zeros(0)

    def limits(
        self, name: str, prefix: Any, tree: Any
    ) -> tuple[Float[np.ndarray, " weight"], Float[np.ndarray, " weight"]]:
        """Lower and upper bounds of the weights, from a prefix of pairs in the leaves' units."""
        values = self._values(name, prefix, tree, is_pair, "(lower, upper)")
        sides: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
        for value, shape, scale in zip(values, self.shapes, self.scales, strict=True):
            for side, given, missing in zip(
                sides, value or (None, None), (-np.inf, np.inf), strict=True
            ):
                limit = np.asarray(missing if given is None else given, np.float64)
                if np.any(np.isnan(limit)):
                    raise ValueError(f"`{name}` must not be NaN; got {describe(value)}.")
                side.append(np.ravel(scale.limit(self._per_entry(name, limit, shape))))
            if np.any(sides[0][-1] >= sides[1][-1]):
                raise ValueError(f"`{name}` must have lower < upper; got {describe(value)}.")
        if not sides[0]:
            return np.zeros(0), np.zeros(0)
        return np.concatenate(sides[0]), np.concatenate(sides[1])

    def _values(
        self, name: str, prefix: Any, tree: Any, is_value: Callable[[Any], bool], wanted: str
    ) -> list[Any]:
        values = broadcast(name, prefix, tree, is_value, wanted)
        return [value for value, used in zip(values, self.mask, strict=True) if used]

    @staticmethod
    def _per_entry(name: str, value: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        try:
            return np.broadcast_to(value, shape)
        except ValueError as error:
            raise ValueError(
                f"`{name}` must be numbers or arrays that fit the leaf's shape {shape}; "
                f"got shape {value.shape}."
            ) from error

    def _leaves(self, w: AnyArray) -> list[Any]:
        offsets = np.cumsum((0, *self.sizes))
        return [
            scale.outward(w[start : start + size]).reshape(shape)
            for start, size, shape, scale in zip(
                offsets[:-1], self.sizes, self.shapes, self.scales, strict=True
            )
        ]


def _mask(tree: Any, trainable: Any) -> tuple[bool, ...]:
    """Which leaves of `tree` are weights."""
    if callable(trainable) and jtu.all_leaves([trainable]):
        with explained("trainable", "trainable(leaf)"):
            chosen = [bool(trainable(leaf)) for leaf in jtu.tree_leaves(tree)]
    else:
        wanted = "a bool or a function of a leaf"
        values = broadcast("trainable", trainable, tree, _is_bool, wanted)
        chosen = [bool(value) for value in values]
    # Samples of an input are data.
    nodes = jtu.tree_leaves(tree, is_leaf=_is_input)
    sampled = [_is_input(node) for node in nodes for _ in jtu.tree_leaves(node)]
    return tuple(
        used and is_inexact(leaf) and not of_input
        for used, leaf, of_input in zip(chosen, jtu.tree_leaves(tree), sampled, strict=True)
    )


def _is_input(node: Any) -> bool:
    return isinstance(node, Input)


def _is_bool(value: Any) -> bool:
    return isinstance(value, (bool, np.bool_))


def _partition(tree: Any, mask: tuple[bool, ...]) -> tuple[Any, Any]:
    return eqx.partition(tree, jtu.tree_unflatten(jtu.tree_structure(tree), mask))
