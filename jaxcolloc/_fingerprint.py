"""Fingerprints: short texts that are equal where two trees of anything are equal.

They are the same in every process that runs the same code, so that a file can tell whether it was
written for the same problem. Arrays and numbers count by their values, functions by their code and
what they have closed over, other objects by their class and their attributes. What a function
finds in global variables does not count, nor what stands in the methods of a class, nor how data
are called.
"""

import enum
import functools
import hashlib
import types
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ._names import Labels


def fingerprint(tree: Any) -> str:
    """The fingerprint of `tree`: 16 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=8)
    _add(digest, tree, ())
    return digest.hexdigest()


def _add(digest: Any, item: Any, above: tuple[int, ...]) -> None:
    """Put `item` into the digest; `above` are the objects that it is part of, by their `id`."""
    if id(item) in above:
        digest.update(b"cycle")
        return
    above = (*above, id(item))
    if isinstance(item, np.generic):
        item = item.item()
    if isinstance(item, Labels):
        item = None
    if isinstance(item, int) and not isinstance(item, (bool, enum.Enum)) and abs(item) < 2**53:
        item = float(item)
    if item is None or isinstance(item, (bool, int, float, complex, str, bytes)):
        digest.update(f"{type(item).__name__}:{item!r};".encode())
    elif isinstance(item, enum.Enum):
        digest.update(f"{_name(type(item))}.{item.name};".encode())
    elif isinstance(item, jax.Array) and jnp.issubdtype(item.dtype, jax.dtypes.prng_key):
        _add(digest, np.asarray(jax.random.key_data(item)), above)
    elif isinstance(item, (np.ndarray, jax.Array)):
        array = np.asarray(item)
        digest.update(f"array:{array.dtype}:{array.shape};".encode())
        digest.update(repr(array.tolist()).encode() if array.dtype == object else array.tobytes())
    elif isinstance(item, Mapping):
        pairs = sorted(item.items(), key=lambda pair: fingerprint(pair[0]))
        _add_parts(digest, "map", [part for pair in pairs for part in pair], above)
    elif isinstance(item, (set, frozenset)):
        _add_parts(digest, "set", sorted(map(fingerprint, item)), above)
    elif isinstance(item, (list, tuple)):
        _add_parts(digest, "sequence", item, above)
    elif isinstance(item, type):
        digest.update(f"class:{_name(item)};".encode())
    else:
        _add_object(digest, item, above)


def _add_parts(digest: Any, kind: str, parts: Any, above: tuple[int, ...]) -> None:
    digest.update(f"{kind}:{len(parts)}(".encode())
    for part in parts:
        _add(digest, part, above)
    digest.update(b")")


def _add_object(digest: Any, item: Any, above: tuple[int, ...]) -> None:
    """A function or an object of a class."""
    if isinstance(item, functools.partial):
        _add_parts(digest, "partial", [item.func, item.args, item.keywords], above)
    elif isinstance(item, types.MethodType):
        _add_parts(digest, "method", [item.__func__, item.__self__], above)
    elif isinstance(item, types.FunctionType):
        cells = [cell.cell_contents for cell in item.__closure__ or () if _filled(cell)]
        parts = [item.__defaults__, item.__kwdefaults__, cells]
        _add_code(digest, item.__code__)
        _add_parts(digest, "function", parts, above)
    elif hasattr(item, "__wrapped__"):
        _add_parts(digest, "wrapped", [item.__wrapped__], above)
    else:
        digest.update(f"object:{_name(type(item))};".encode())
        seen: list[Any] = [getattr(item, "__qualname__", None), getattr(item, "__dict__", None)]
        if seen[1] is None and " at 0x" not in repr(item):
            seen.append(repr(item))
        _add_parts(digest, "attributes", seen, above)


def _add_code(digest: Any, code: types.CodeType) -> None:
    """A function's instructions, names and constants, those of functions inside it among them."""
    digest.update(f"code:{code.co_names}{code.co_varnames}{code.co_freevars};".encode())
    digest.update(code.co_code)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            _add_code(digest, constant)
        else:
            _add(digest, constant, ())


def _filled(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
