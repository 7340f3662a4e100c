"""Names: what weights, unknowns and initial states are called, and how they are chosen."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax.tree_util as jtu
import numpy as np
from jaxtyping import Bool, Float, Int

from .._args import Unknown
from .._callables import explained
from .._check import describe
from .._nlp import NLP
from .._precision import AnyArray
from .._ridge import net_weights
from .._transform import Scale


class Named(NamedTuple):
    """One leaf: its name, the positions of its entries in the head, its shape and scale.

    Initial states have positions behind the head, and scale None.
    """

    name: str
    at: Int[np.ndarray, " entry"]
    shape: tuple[int, ...]
    scale: Scale | None
    of_net: Bool[np.ndarray, " entry"]

    @property
    def entries(self) -> list[str]:
        """The name of each entry."""
        if not self.shape:
            return [self.name]
        return [f"{self.name}[{', '.join(map(str, at))}]" for at in np.ndindex(self.shape)]

    def outward(self, variable: AnyArray, unit: np.ndarray) -> np.ndarray:
        """Values in the caller's units, in the leaf's shape."""
        value = unit * variable if self.scale is None else self.scale.outward(variable)
        return np.asarray(value).reshape(self.shape)


def named_leaves(nlp: NLP) -> list[Named]:
    """All leaves of the model that are trained, all unknowns, all initial states."""
    layout = nlp.layout
    weighted = layout.model
    of_net = net_weights(weighted, nlp.model)
    paths = [jtu.keystr(path) for path, _ in jtu.tree_flatten_with_path(nlp.model)[0]]
    trained = [path for path, used in zip(paths, weighted.mask, strict=True) if used]
    found, first = [], 0
    for name, shape, size, scale in zip(
        trained, weighted.shapes, weighted.sizes, weighted.scales, strict=True
    ):
        at = np.arange(first, first + size)
        found.append(Named(name or "model", at, shape, scale, of_net[at]))
        first += size
    for k, item in enumerate(nlp.trajectories):
        first = int(layout.num_weights + sum(layout.unknown_counts[:k]))
        parts = [(f"args[{k}]", item.args)]
        parts += [(f"jumps[{k}][{i}].add", jump.add) for i, jump in enumerate(item.jumps)]
        for prefix, path, leaf in _unknowns(parts):
            size = leaf.value.size
            at = np.arange(first, first + size)
            none = np.zeros(size, bool)
            name = prefix + jtu.keystr(path)
            found.append(Named(name, at, leaf.value.shape, leaf.scale, none))
            first += size
    d = layout.num_differential
    for k in range(len(nlp.trajectories)):
        at = layout.num_head + k * d + np.arange(d)
        found.append(Named(f"y0[{k}]", at, (d,), None, np.zeros(d, bool)))
    return found


def _unknowns(parts: list[tuple[str, Any]]) -> Iterator[tuple[str, Any, Unknown]]:
    """Each unknown in some trees, with its tree's name and the path to it."""
    for prefix, tree in parts:
        for path, leaf in jtu.tree_flatten_with_path(tree)[0]:
            if isinstance(leaf, Unknown):
                yield prefix, path, leaf


class _Places:
    """A leaf while it is looked for: it can be indexed, and nothing else."""

    def __init__(self, leaf: Named, at: np.ndarray):
        self.leaf, self.at = leaf, at

    def __getitem__(self, key: Any) -> "_Places":
        return _Places(self.leaf, self.at[key])


Where = Callable[[Any], Any] | str


def chosen(
    nlp: NLP, leaves: list[Named], where: Where, trajectory: int | None
) -> tuple[list[Named], Any]:
    """The leaves, or parts of them, that `where` selects, and how the caller's tree holds them."""
    if isinstance(where, str):
        return [_by_name(leaves, where)], jtu.tree_structure(0)
    if not callable(where):
        raise ValueError(
            "`where` must be a function of the model, such as `lambda m: m.rate`, or a name such "
            f"as '.rate' or 'y0[0]'; got {describe(where)}."
        )
    if trajectory is None:
        tree, prefix = nlp.model, ""
    else:
        count = len(nlp.trajectories)
        if not isinstance(trajectory, (int, np.integer)) or not 0 <= trajectory < count:
            raise ValueError(f"`trajectory` must be below {count}; got {describe(trajectory)}.")
        tree, prefix = nlp.trajectories[trajectory].args, f"args[{trajectory}]"
    known = {leaf.name: leaf for leaf in leaves}

    def place(path: Any, value: Any) -> Any:
        leaf = known.get(prefix + jtu.keystr(path) or "model")
        return value if leaf is None else _Places(leaf, leaf.at.reshape(leaf.shape))

    placed = jtu.tree_map_with_path(place, tree)
    with explained("where", "where(model)" if trajectory is None else "where(args)"):
        selected = where(placed)
    treedef: Any
    found, treedef = jtu.tree_flatten(selected, is_leaf=lambda leaf: isinstance(leaf, _Places))
    found = [item for item in found if isinstance(item, _Places)]
    if len(found) != treedef.num_leaves:
        # What is not trained has no uncertainty.
        treedef = jtu.tree_structure([0] * len(found))
    if not found:
        raise ValueError(
            "`where` must select leaves that are trained: weights of the model, or with "
            "`trajectory` unknowns of its args. For a function of the model use `function_band`."
        )
    return [_part(item) for item in found], treedef


def _part(item: _Places) -> Named:
    at = np.asarray(item.at)
    leaf = item.leaf
    of_net = leaf.of_net[at.ravel() - leaf.at[0]]
    return Named(leaf.name, at.ravel(), at.shape, leaf.scale, of_net)


def _by_name(leaves: list[Named], name: str) -> Named:
    for leaf in leaves:
        if leaf.name == name:
            return leaf
        if leaf.shape and name in leaf.entries:
            place = leaf.entries.index(name)
            one = slice(place, place + 1)
            return Named(name, leaf.at[one], (), leaf.scale, leaf.of_net[one])
    some = ", ".join(leaf.name for leaf in leaves[:8])
    raise ValueError(f"`where` must name a trained leaf, such as {some}; got {name!r}.")


def theta_values(nlp: NLP, z: Float[np.ndarray, " variable"]) -> Float[np.ndarray, " parameter"]:
    """The head and all initial states, on the optimizer's scale."""
    layout = nlp.layout
    return np.concatenate([z[: layout.num_head], z[layout.start_columns.ravel()]])
