"""Storage: a tree of numbers, arrays and the library's own objects in one file, written at once.

The file is a NumPy archive (.npz, no pickle): arrays, and one JSON text that says where in the
tree they belong. Objects are named there by the names under which their classes are registered
here, never by the modules that define them, so that a file stays readable when code moves.
"""

import dataclasses
import enum
import errno
import importlib.metadata
import io
import json
import math
import os
import struct
import types
import zipfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any, BinaryIO, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from . import _atomic_file
from ._atomic_file import PathLike, as_path
from ._check import describe


_FORMAT = 2
_VERSION = importlib.metadata.version("jaxcolloc")
# What a damaged or foreign file makes zipfile, json, NumPy and the decoding below raise.
DAMAGE = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    zipfile.BadZipFile,
)

Item = TypeVar("Item")
Kinds = Mapping[str, type | tuple[type, ...]]


class NotStorable(ValueError):
    """An object that a file without pickle cannot hold, such as a function."""


class Opaque:
    """What stands in a loaded tree for something that could not be stored."""

    def __init__(self, text: str):
        self.text = text

    def __repr__(self) -> str:
        return f"Opaque({self.text})"


class _OtherVersion(ValueError):
    """A well-formed file that names what this version does not have."""


class _Entry(NamedTuple):
    """A registered class or function.

    For a class its fields, values of those that a file may lack, and what mends them on loading.
    """

    item: Any
    fields: tuple[str, ...]
    defaults: Mapping[str, Any]
    on_load: Callable[[dict[str, Any]], dict[str, Any]] | None


_ENTRIES: dict[str, _Entry] = {}
_NAMES: dict[Any, str] = {}


def stored(
    name: str,
    *,
    fields: Sequence[str] | None = None,
    defaults: Mapping[str, Any] | None = None,
    on_load: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
) -> Callable[[Item], Item]:
    """A decorator: files may hold objects of this class, or this function, under `name`.

        @stored("Consensus")
        class Consensus(eqx.Module): ...

    **Arguments:**

    - `name`: what stands in files; it must stay when the class is renamed or moved.
    - `fields`: the names of all attributes, for a class that is neither an enumeration nor a
      dataclass (an `eqx.Module` is one).
    - `defaults`: values of fields that files of older versions lack.
    - `on_load`: takes the fields of a loaded object and returns those it is to have.

    **Errors:** `ValueError` for a name that is taken and for a class whose fields are not known.
    """

    def add(item: Item) -> Item:
        known: Any = item
        if name in _ENTRIES and _ENTRIES[name].item is not item:
            raise ValueError(f"`name` must not be taken in files; got {name!r} twice.")
        names = tuple(fields or ())
        if fields is None and isinstance(item, type) and not issubclass(item, enum.Enum):
            if not dataclasses.is_dataclass(item):
                raise ValueError(f"`fields` must name the attributes of {describe(item)}.")
            names = tuple(field.name for field in dataclasses.fields(item))
        _ENTRIES[name] = _Entry(item, names, defaults or {}, on_load)
        _NAMES[known] = name
        return item

    return add


def register(*items: Any) -> None:
    """Files may hold objects of these classes, and these functions, under their public names."""
    for item in items:
        stored(item.__name__)(item)


def write(path: PathLike, tree: Any, name: str = "path") -> None:
    """Write `tree` to `path` in one step: either all of it is there or the old file.

    **Errors:** `NotStorable`; as `_atomic_file.replace`, `name` being the caller's argument.
    """
    arrays: dict[str, np.ndarray] = {}
    content = {"format": _FORMAT, "version": _VERSION, "tree": _encode(tree, arrays)}
    text = np.frombuffer(json.dumps(content).encode(), np.uint8)

    def fill(file: BinaryIO) -> None:
        np.savez(file, text=text, **arrays)  # type: ignore[arg-type]

    _atomic_file.replace(path, fill, name)


def read(
    path: PathLike,
    name: str = "path",
    *,
    entries: Kinds | None = None,
    writer: str = "jaxcolloc",
) -> Any:
    """The tree in `path`.

    **Arguments:**

    - `path`: the file.
    - `name`: what the caller's argument is called.
    - `entries`: the keys of the tree, which must be a dict, with the types of their values;
      None for any tree. `writer` says in an error who writes such trees.

    **Errors:** `ValueError` naming the argument for a file that is not ours, is damaged, or was
    written by another version with another format or other objects; `FileNotFoundError`.
    """
    where, wanted = as_path(path, name), f"`{name}` must be a file written by jaxcolloc"
    if not where.exists():
        raise FileNotFoundError(errno.ENOENT, f"`{name}` names no file", os.fspath(path))
    if not where.is_file():
        raise ValueError(f"{wanted}; got {path}, which is no regular file.")
    with open(where, "rb") as file:
        try:
            arrays = _members(file)
            content = json.loads(arrays.pop("text").tobytes().decode())
            found, version = int(content["format"]), str(content.get("version", "0.1"))
        except DAMAGE as error:
            raise ValueError(f"{wanted}; got {path}.") from error
    _check_format(path, name, found, version)
    try:
        tree = _decode(content["tree"], arrays)
    except _OtherVersion as error:
        raise ValueError(
            f"`{name}` was written by another version of jaxcolloc ({version}; this is {_VERSION}) "
            f"and cannot be read: {error}; got {path}."
        ) from error
    except DAMAGE as error:
        raise ValueError(f"{wanted}; got {path}, which is damaged.") from error
    if entries is not None and not _has(tree, entries):
        raise ValueError(f"`{name}` must be a file that {writer} has written; got {path}.")
    return tree


def storable(tree: Any) -> Any:
    """`tree`, or an `Opaque` with its description where it cannot be stored."""
    try:
        _encode(tree, {})
    except NotStorable:
        return Opaque(describe(tree))
    return tree


def _check_format(path: PathLike, name: str, found: int, version: str) -> None:
    if found == 1:
        raise ValueError(
            f"`{name}` was written by jaxcolloc 0.1 (format 1), which this version no longer "
            f"reads; it reads format {_FORMAT}. Solve again, or load it with the version that "
            f"wrote it; got {path}."
        )
    if found != _FORMAT:
        raise ValueError(
            f"`{name}` was written by jaxcolloc {version} (format {found}); this version, "
            f"{_VERSION}, reads format {_FORMAT}; got {path}."
        )


def _has(tree: Any, entries: Kinds) -> bool:
    return (
        isinstance(tree, dict)
        and tree.keys() == entries.keys()
        and all(isinstance(tree[key], kind) for key, kind in entries.items())
    )


def _members(file: BinaryIO) -> dict[str, np.ndarray]:
    """The arrays of an archive, by name.

    We write members without compression. Refusing any other, and sizes that exceed the file's,
    keeps a small file from filling the memory.
    """
    size = os.fstat(file.fileno()).st_size
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        plain = all(item.compress_type == zipfile.ZIP_STORED for item in members)
        if not plain or sum(item.file_size for item in members) > size:
            raise ValueError("the archive is compressed")
        return {item.filename.removesuffix(".npy"): _array(archive.read(item)) for item in members}


def _array(data: bytes) -> np.ndarray:
    """An array from the text of an .npy file, whose header must state the size that follows."""
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        header = np.lib.format.read_array_header_1_0
        if version != (1, 0):
            header = np.lib.format.read_array_header_2_0
        shape, _, dtype = header(stream)
    except MemoryError as error:
        # The header is an expression, and deep nesting exhausts the parser.
        raise ValueError("no header of an array") from error
    size = math.prod(shape) * dtype.itemsize
    if dtype.kind not in "biufc" or min(shape, default=0) < 0 or size != len(data) - stream.tell():
        raise ValueError("the header does not fit the array")
    stream.seek(0)
    return np.lib.format.read_array(stream, allow_pickle=False)


def _encode(tree: Any, arrays: dict[str, np.ndarray]) -> Any:
    if tree is None or isinstance(tree, (bool, int, str)):
        return tree
    if isinstance(tree, float):
        # JSON has no infinity or NaN, and repr keeps every digit.
        return {"float": repr(float(tree))}
    if isinstance(tree, enum.Enum):
        return {"enum": _name(type(tree), tree), "member": tree.name}
    if type(tree) in (list, tuple):
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
        return {"scalar" if isinstance(tree, np.generic) else "array": label}
    if isinstance(tree, types.FunctionType):
        return {"function": _name(tree, tree)}
    name = _name(type(tree), tree)
    fields = {key: _encode(getattr(tree, key), arrays) for key in _ENTRIES[name].fields}
    return {"object": name, "fields": fields}


def _name(item: Any, shown: Any) -> str:
    name = _NAMES.get(item)
    if name is None:
        raise NotStorable(f"cannot be stored without pickle: {describe(shown)}")
    return name


def _decode(item: Any, arrays: dict[str, np.ndarray]) -> Any:
    if item is None or isinstance(item, (bool, int, str)):
        return item
    match item:
        case {"float": str(text)}:
            return float(text)
        case {"array": str(label)}:
            return arrays[label]
        case {"scalar": str(label)}:
            return arrays[label][()]
        case {"list": list(parts)}:
            return [_decode(part, arrays) for part in parts]
        case {"tuple": list(parts)}:
            return tuple(_decode(part, arrays) for part in parts)
        case {"dict": dict(parts)}:
            return {key: _decode(part, arrays) for key, part in parts.items()}
        case {"opaque": str(text)}:
            return Opaque(text)
        case {"key": data, "impl": str(impl)}:
            return jax.random.wrap_key_data(_decode(data, arrays), impl=impl)
        case {"function": str(name)}:
            return _entry(name, types.FunctionType).item
        case {"enum": str(name), "member": str(member)}:
            return _member(name, member)
        case {"object": str(name), "fields": dict(fields)}:
            return _object(name, {key: _decode(part, arrays) for key, part in fields.items()})
    raise ValueError("a part of the tree is none of ours")


def _entry(name: str, kind: type) -> _Entry:
    """What is registered under that name; a file cannot call for anything else."""
    entry = _ENTRIES.get(name)
    if entry is None or not isinstance(entry.item, kind):
        raise _OtherVersion(f"it holds {name!r}, which this version does not know")
    return entry


def _member(name: str, member: str) -> Any:
    members = getattr(_entry(name, enum.EnumMeta).item, "__members__", {})
    if member not in members:
        raise _OtherVersion(f"it holds {name}.{member}, which this version does not know")
    return members[member]


def _object(name: str, given: dict[str, Any]) -> Any:
    entry = _entry(name, type)
    given = {**entry.defaults, **given}
    if issubclass(entry.item, enum.Enum):
        raise ValueError("an enumeration has no fields")
    missing, unknown = set(entry.fields) - given.keys(), given.keys() - set(entry.fields)
    if missing or unknown:
        listed = ", ".join(f"`{field}`" for field in sorted(missing or unknown))
        said = f"lacks the field {listed}" if missing else f"has the unknown field {listed}"
        raise _OtherVersion(f"its {name} {said}")
    if entry.on_load is not None:
        given = entry.on_load(given)
    result = object.__new__(entry.item)
    for key, part in given.items():
        object.__setattr__(result, key, part)
    return result
