"""Form: which numbers of a problem are parameters, as trees and as one flat vector."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

from .._args import number_to_array
from .._check import describe
from .._names import which
from .._nlp import NLP
from .._precision import is_array, is_inexact
from .._ridge import OnNets


NAMES = ("ys", "weights", "args", "y0", "l2", "center", "state_bounds", "weight_bounds")
_PER_TRAJECTORY = ("ys", "weights", "args", "y0")


class Part(NamedTuple):
    """One parameter: the structure of its tree, the shapes of its leaves, where they begin."""

    name: str
    treedef: Any
    shapes: tuple[tuple[int, ...], ...]
    first: int

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return sum(map(math.prod, self.shapes))

    def leaves(self, p: Any) -> list[Any]:
        """Its leaves, read from the flat vector of all parameters."""
        leaves, first = [], self.first
        for shape in self.shapes:
            size = math.prod(shape)
            leaves.append(p[first : first + size].reshape(shape))
            first += size
        return leaves


class Form(NamedTuple):
    """All parameters of a call, in the order of the flat vector."""

    parts: tuple[Part, ...]

    @property
    def size(self) -> int:
        """The length of the flat vector."""
        return sum(part.size for part in self.parts)

    def part(self, name: str) -> Part | None:
        """The parameter of this name; None where it is none."""
        return next((part for part in self.parts if part.name == name), None)

    def leaves(self, name: str, p: Any) -> list[Any]:
        """The leaves of one parameter."""
        part = self.part(name)
        assert part is not None
        return part.leaves(p)

    def tree(self, name: str, p: Any) -> Any:
        """One parameter as the tree that it came as."""
        part = self.part(name)
        assert part is not None
        return jtu.tree_unflatten(part.treedef, part.leaves(p))


def flatten(nlp: NLP, given: dict[str, Any]) -> tuple[Form, list[Any]]:
    """The form of a call's parameters and their leaves, in the shapes of the form."""
    parts: list[Part] = []
    every: list[Any] = []
    first = 0
    for name in NAMES:
        if name not in given:
            continue
        leaves, shapes, treedef = _READ[name](nlp, name, given[name])
        leaves = [_fitting(name, leaf, shape) for leaf, shape in zip(leaves, shapes, strict=True)]
        part = Part(name, treedef, tuple(shapes), first)
        parts.append(part)
        every += leaves
        first += part.size
    return Form(tuple(parts)), every


def current(nlp: NLP, name: str) -> Any:
    """A parameter as the problem has it."""
    if name == "center":
        ridge = nlp.compiled.host.quadratics[0]
        center = np.zeros(nlp.layout.num_head)
        center[ridge.at] = ridge.center
        return center
    if name in _PER_TRAJECTORY:
        return [getattr(item, name) for item in nlp.trajectories]
    value = nlp.settings[name]
    if isinstance(value, OnNets):
        return value.factor
    if value is None:
        raise ValueError(f"`{name}` must be set in the NLP to be a parameter; it is None.")
    return value


def flattened(tree: Any) -> tuple[list[Any], Any]:
    """The leaves of a tree and its structure, for which mypy has no type."""
    leaves, treedef = jtu.tree_flatten(tree)
    return leaves, treedef


def differentiable(leaf: Any) -> bool:
    """Whether a leaf of `args` is a real number or an array of them."""
    leaf = number_to_array(leaf)
    return is_inexact(leaf) and not jnp.issubdtype(leaf.dtype, jnp.complexfloating)


_Leaves = tuple[list[Any], list[tuple[int, ...]], Any]


def _listed(nlp: NLP, name: str, value: Any) -> list[Any]:
    """One value for each trajectory; of a single one it may stand for itself."""
    count = len(nlp.trajectories)
    single = count == 1 and (name == "args" or is_array(value))
    if single and not (isinstance(value, (list, tuple)) and len(value) == 1):
        value = [value]
    if not isinstance(value, (list, tuple)) or len(value) != count:
        raise ValueError(
            f"`{name}` must be a list with one entry for each of {count} trajectories; "
            f"got {describe(value)}."
        )
    return list(value)


def _samples(nlp: NLP, name: str, value: Any) -> _Leaves:
    values = _listed(nlp, name, value)
    shapes = [item.ys.shape for item in nlp.trajectories]
    return values, shapes, jtu.tree_structure([0] * len(values))


def _starts(nlp: NLP, name: str, value: Any) -> _Leaves:
    values = _listed(nlp, name, value)
    for k, (item, trajectory) in enumerate(zip(values, nlp.trajectories, strict=True)):
        if item is not None and trajectory.y0 is None:
            raise ValueError(
                f"`y0` must be None for {which(trajectory, k)}, whose start is not known but "
                "fitted."
            )
    leaves, treedef = jtu.tree_flatten(values)
    return leaves, [(nlp.num_states,)] * len(leaves), treedef


def _inputs(nlp: NLP, name: str, value: Any) -> _Leaves:
    values = _listed(nlp, name, value)
    own, own_treedef = flattened([item.args for item in nlp.trajectories])
    found, treedef = flattened(values)
    if treedef != own_treedef:
        raise ValueError(
            "`args` must have the structure of those in the NLP: change leaves of "
            "`nlp.trajectories[k].args` by `equinox.tree_at`."
        )
    chosen = [differentiable(leaf) for leaf in own]
    shapes = [np.shape(leaf) for leaf, used in zip(own, chosen, strict=True) if used]
    leaves = [leaf for leaf, used in zip(found, chosen, strict=True) if used]
    # The tree of the chosen leaves; None stands for the others.
    kept = jtu.tree_unflatten(own_treedef, [0 if used else None for used in chosen])
    return leaves, shapes, jtu.tree_structure(kept)


def _center(nlp: NLP, name: str, value: Any) -> _Leaves:
    return [value], [(nlp.layout.num_head,)], jtu.tree_structure(0)


def _as_given(nlp: NLP, name: str, value: Any) -> _Leaves:
    if value is None:
        raise ValueError(f"`{name}` must hold numbers; leave it out to keep that of the NLP.")
    leaves, treedef = jtu.tree_flatten(value)
    return leaves, [np.shape(leaf) for leaf in leaves], treedef


_READ: dict[str, Callable[[NLP, str, Any], _Leaves]] = {
    "ys": _samples,
    "weights": _samples,
    "args": _inputs,
    "y0": _starts,
    "l2": _as_given,
    "center": _center,
    "state_bounds": _as_given,
    "weight_bounds": _as_given,
}


def _fitting(name: str, leaf: Any, shape: tuple[int, ...]) -> Any:
    """A leaf in the shape that it is to have."""
    traced = isinstance(leaf, jax.core.Tracer)
    if not traced:
        try:
            leaf = np.asarray(leaf, np.float64)
        except (TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"`{name}` must hold real numbers; got {describe(leaf)}.") from error
    try:
        return (jnp if traced else np).broadcast_to(leaf, shape)
    except ValueError as error:
        raise ValueError(
            f"`{name}` must hold arrays of shape {shape} here; got shape {np.shape(leaf)}."
        ) from error
