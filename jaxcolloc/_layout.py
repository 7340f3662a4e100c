"""Layout: the only place that knows the order of the variables.

    z = [ weights (P) | trajectory 0: node 0 states, node 1 states, ... | trajectory 1: ... ]

The weights are the model's inexact-array leaves, flattened in PyTree order.
"""

import math
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

from ._check import describe
from ._precision import AnyArray, is_inexact, to_float64


Vector = Float[Array, " variable"]
Weights = Float[Array, " weight"]


class Weighted(eqx.Module):
    """A PyTree taken apart into a flat float64 vector of weights and the rest."""

    rest: Any
    treedef: Any = eqx.field(static=True)
    shapes: tuple[tuple[int, ...], ...] = eqx.field(static=True)
    dtypes: tuple[str, ...] = eqx.field(static=True)

    @classmethod
    def split(cls, name: str, tree: Any) -> "Weighted":
        """Take `tree` apart; `name` is what errors call it."""
        weights, rest = eqx.partition(tree, is_inexact)
        leaves, treedef = jtu.tree_flatten(weights)
        for leaf in leaves:
            if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
                raise ValueError(
                    f"`{name}` must have real weights; got a leaf of type {leaf.dtype}. "
                    "Keep real and imaginary part as two leaves."
                )
            if not np.all(np.isfinite(np.asarray(leaf, np.float64))):
                raise ValueError(f"`{name}` must have finite weights; got {describe(leaf)}.")
        shapes = tuple(tuple(leaf.shape) for leaf in leaves)
        dtypes = tuple(str(leaf.dtype) for leaf in leaves)
        return cls(rest, treedef, shapes, dtypes)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The number of weights in each leaf."""
        return tuple(math.prod(shape) for shape in self.shapes)

    @property
    def size(self) -> int:
        """The number of weights."""
        return sum(self.sizes)

    def flatten(self, name: str, tree: Any) -> Float[np.ndarray, " weight"]:
        """The weights of `tree`, which must have the structure of the one taken apart."""
        leaves = jtu.tree_leaves(eqx.filter(tree, is_inexact))
        shapes = tuple(tuple(leaf.shape) for leaf in leaves)
        if shapes != self.shapes:
            raise ValueError(
                f"`{name}` must have weights of the shapes {self.shapes}, as the one that was "
                f"transcribed; got {shapes}."
            )
        flat = [np.ravel(np.asarray(leaf, np.float64)) for leaf in leaves]
        return np.concatenate(flat) if flat else np.zeros(0)

    def join(self, w: Weights) -> Any:
        """The PyTree with the weights `w`, in float64."""
        return eqx.combine(jtu.tree_unflatten(self.treedef, self._leaves(w)), to_float64(self.rest))

    def restore(self, w: ArrayLike) -> Any:
        """The PyTree with the weights `w`, in the dtypes that it came with."""
        leaves = [
            jnp.asarray(leaf, dtype)
            for leaf, dtype in zip(self._leaves(np.asarray(w)), self.dtypes, strict=True)
        ]
        return eqx.combine(jtu.tree_unflatten(self.treedef, leaves), self.rest)

    def _leaves(self, w: AnyArray) -> list[AnyArray]:
        offsets = np.cumsum((0, *self.sizes))
        return [
            w[start : start + size].reshape(shape)
            for start, size, shape in zip(offsets[:-1], self.sizes, self.shapes, strict=True)
        ]


class Layout(eqx.Module):
    """The order of the variables: model and states to `z` and back."""

    model: Weighted
    num_states: int = eqx.field(static=True)
    node_counts: tuple[int, ...] = eqx.field(static=True)

    @property
    def num_weights(self) -> int:
        """The number of weights."""
        return self.model.size

    @property
    def num_nodes(self) -> int:
        """The number of nodes of all trajectories."""
        return sum(self.node_counts)

    @property
    def num_variables(self) -> int:
        """The length of `z`."""
        return self.num_weights + self.num_nodes * self.num_states

    @property
    def first_nodes(self) -> Int[np.ndarray, " traj"]:
        """The position of each trajectory's first node among all nodes."""
        return np.cumsum((0, *self.node_counts))[:-1]

    def weights(self, z: Any) -> Any:
        """The weights in `z`."""
        return z[: self.num_weights]

    def states(self, z: Vector) -> Float[Array, "node state"]:
        """The states in `z`, the nodes of all trajectories one after another."""
        return z[self.num_weights :].reshape(self.num_nodes, self.num_states)

    def columns(self, nodes: ArrayLike) -> Any:
        """The position in `z` of the first state component at the given nodes."""
        return self.num_weights + np.asarray(nodes) * self.num_states

    def join(
        self, w: Float[np.ndarray, " weight"], states: Float[np.ndarray, "node state"]
    ) -> Float[np.ndarray, " variable"]:
        """`z` from its two parts."""
        return np.concatenate([w, states.ravel()])

    def split(self, z: ArrayLike) -> list[np.ndarray]:
        """The states in `z` as one array of shape `(node, state)` per trajectory."""
        flat = np.asarray(z)[self.num_weights :].reshape(self.num_nodes, self.num_states)
        return np.split(flat, self.first_nodes[1:])

    def check_states(self, states: Sequence[ArrayLike]) -> np.ndarray:
        """The states of all trajectories in one array, once their shapes are checked."""
        if not isinstance(states, (list, tuple)) or len(states) != len(self.node_counts):
            raise ValueError(
                f"`states` must be a list of {len(self.node_counts)} arrays, one per trajectory; "
                f"got {describe(states)}."
            )
        for position, (item, count) in enumerate(zip(states, self.node_counts, strict=True)):
            shape = np.shape(item)
            if shape != (count, self.num_states):
                raise ValueError(
                    f"`states[{position}]` must have shape (node, state) = "
                    f"({count}, {self.num_states}); got {shape}."
                )
        flat = np.concatenate([np.asarray(item, np.float64) for item in states])
        if not np.all(np.isfinite(flat)):
            raise ValueError("`states` must be finite; got NaN or infinity.")
        return flat
