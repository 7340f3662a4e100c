"""Storage: a tree of numbers, arrays and the library's own objects in one file, written at once.

The file is a NumPy archive (.npz, no pickle): arrays, and one JSON text that says where in the
tree they belong. It is written beside its destination and then renamed, so that a process that
is killed while writing leaves the old file whole.
"""

import enum
import importlib
import json
import os
import types
import zipfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ._check import describe


_FORMAT = 1
_PACKAGE = __package__ or "jaxcolloc"


class NotStorable(ValueError):
    """An object that a file without pickle cannot hold, such as a function."""


class Opaque:
    """What stands in a loaded tree for something that could not be stored."""

    def __init__(self, text: str):
        self.text = text

    def __repr__(self) -> str:
        return f"Opaque({self.text})"


def write(path: str | os.PathLike[str], tree: Any) -> None:
    """Write `tree` to `path` in one step: either all of it is there or the old file."""
    target = Path(path)
    arrays: dict[str, np.ndarray] = {}
    text = json.dumps({"format": _FORMAT, "tree": _encode(tree, arrays)})
    beside = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with open(beside, "wb") as file:
            np.savez(file, text=np.frombuffer(text.encode(), np.uint8), **arrays)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, target)
    finally:
        beside.unlink(missing_ok=True)


def read(path: str | os.PathLike[str]) -> Any:
    """The tree in `path`.

    **Errors:** `ValueError` if it is no file of ours; `FileNotFoundError`.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        content = json.loads(arrays.pop("text").tobytes().decode())
        found = content["format"]
    except (zipfile.BadZipFile, KeyError, ValueError, EOFError) as error:
        raise ValueError(f"`path` must be a file written by jaxcolloc; got {path}.") from error
    if found != _FORMAT:
        raise ValueError(f"`path` has format {found}, this version reads {_FORMAT}; got {path}.")
    return _decode(content["tree"], arrays)


def storable(tree: Any) -> Any:
    """`tree`, or an `Opaque` with its description where it cannot be stored."""
    try:
        _encode(tree, {})
    except NotStorable:
        return Opaque(describe(tree))
    return tree


def _encode(tree: Any, arrays: dict[str, np.ndarray]) -> Any:
    if tree is None or isinstance(tree, (bool, int, str)):
        return tree
    if isinstance(tree, (float, np.floating)):
        # JSON has no infinity or NaN, and repr keeps every digit.
        return {"float": repr(float(tree))}
    if isinstance(tree, enum.Enum):
        return {"class": _name(type(tree)), "member": tree.name}
    if isinstance(tree, (list, tuple)) and type(tree) in (list, tuple):
        return {type(tree).__name__: [_encode(item, arrays) for item in tree]}
    if isinstance(tree, dict) and all(isinstance(key, str) for key in tree):
        return {"dict": {key: _encode(item, arrays) for key, item in tree.items()}}
    if isinstance(tree, Opaque):
        return {"opaque": tree.text}
    if isinstance(tree, jax.Array) and jnp.issubdtype(tree.dtype, jax.dtypes.prng_key):
        data = _encode(np.asarray(jax.random.key_data(tree)), arrays)
        return {"key": data, "impl": str(jax.random.key_impl(tree))}
    if isinstance(tree, (np.ndarray, np.generic, jax.Array)) and tree.dtype.kind in "biufc":
        label = f"a{len(arrays)}"
        arrays[label] = np.asarray(tree)
        return {"array": label}
    if isinstance(tree, types.FunctionType):
        return {"function": _name(tree)}
    if type(tree).__module__.startswith(f"{_PACKAGE}._"):
        fields = {key: _encode(item, arrays) for key, item in vars(tree).items()}
        return {"class": _name(type(tree)), "fields": fields}
    raise NotStorable(f"cannot be stored without pickle: {describe(tree)}")


def _decode(item: Any, arrays: dict[str, np.ndarray]) -> Any:
    if not isinstance(item, dict):
        return item
    if "float" in item:
        return float(item["float"])
    if "array" in item:
        return arrays[item["array"]]
    if "list" in item:
        return [_decode(part, arrays) for part in item["list"]]
    if "tuple" in item:
        return tuple(_decode(part, arrays) for part in item["tuple"])
    if "dict" in item:
        return {key: _decode(part, arrays) for key, part in item["dict"].items()}
    if "opaque" in item:
        return Opaque(item["opaque"])
    if "key" in item:
        return jax.random.wrap_key_data(_decode(item["key"], arrays), impl=item["impl"])
    if "function" in item:
        return _named(item["function"], types.FunctionType)
    kind: Any = _named(item["class"], type)
    if "member" in item:
        return kind[item["member"]]
    result = object.__new__(kind)
    for key, part in item["fields"].items():
        object.__setattr__(result, key, _decode(part, arrays))
    return result


def _name(item: Any) -> str:
    """Where a class or a function of this package is found; nothing else can be stored."""
    if not item.__module__.startswith(f"{_PACKAGE}._") or not item.__qualname__.isidentifier():
        raise NotStorable(f"cannot be stored without pickle: {describe(item)}")
    return f"{item.__module__.removeprefix(_PACKAGE + '.')}:{item.__qualname__}"


def _named(name: str, kind: type) -> Any:
    """The class or function of that name in this package; a file cannot call for any other."""
    module, _, label = name.partition(":")
    where = f"{_PACKAGE}.{module}"
    found = getattr(importlib.import_module(where), label, None)
    if not isinstance(found, kind) or getattr(found, "__module__", None) != where:
        raise ValueError(f"the file holds an object that this version does not know: {name}")
    return found
