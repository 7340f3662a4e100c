"""plain: frozen dataclasses that are PyTrees, as equinox modules are, with methods of plain speed.

A call of a module's method costs more than evaluating a small problem's term.
"""

import dataclasses
from typing import Any, TypeVar, dataclass_transform

import equinox as eqx
import jax.tree_util as jtu


Class = TypeVar("Class", bound=type)


@dataclass_transform(
    frozen_default=True, eq_default=False, field_specifiers=(dataclasses.field, eqx.field)
)
def plain(cls: Class) -> Class:
    """A frozen dataclass, registered as a PyTree; static fields are those of `eqx.field`."""
    made: Any = dataclasses.dataclass(frozen=True, eq=False)(cls)
    fields = dataclasses.fields(made)
    static = [item.name for item in fields if item.metadata.get("static", False)]
    data = [item.name for item in fields if item.name not in static]
    keys = [jtu.GetAttrKey(name) for name in data]

    def flatten(item: Any) -> tuple[list[Any], tuple[Any, ...]]:
        own = item.__dict__
        return [own[name] for name in data], tuple(own[name] for name in static)

    def flatten_with_keys(item: Any) -> tuple[list[Any], tuple[Any, ...]]:
        children, rest = flatten(item)
        return list(zip(keys, children, strict=True)), rest

    def unflatten(rest: tuple[Any, ...], children: Any) -> Any:
        # Not through `__init__`: JAX puts other things than arrays into trees.
        item = object.__new__(made)
        item.__dict__.update(zip(data, children, strict=True))
        item.__dict__.update(zip(static, rest, strict=True))
        return item

    jtu.register_pytree_with_keys(made, flatten_with_keys, unflatten, flatten)
    return made
