"""Pickling: objects on their way to another process, jitted functions and lambdas among them."""

import importlib
import io
import operator
import pickle
import types
from typing import Any

import cloudpickle
import jax


_Jitted = type(jax.jit(lambda: None))


def pack(tree: Any) -> bytes:
    """`tree` in bytes, for `unpack` in a process that can import the same modules.

    Functions go by name where they have one, even `jnp.tanh`, which as an object of `jax.jit`
    cannot be pickled; others by value. Classes go by name: one of Equinox that is sent by value
    arrives without its fields.

    **Errors:** `ValueError` for what cannot travel.
    """
    file = io.BytesIO()
    try:
        _Pickler(file, pickle.HIGHEST_PROTOCOL).dump(tree)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise ValueError(
            f"`model`, `data` and options must be such that they can be sent to another process: "
            f"{error}. Define classes at the top of a module."
        ) from error
    return file.getvalue()


def unpack(parcel: bytes) -> Any:
    """What was packed."""
    return pickle.loads(parcel)


class _Pickler(pickle.Pickler):
    def reducer_override(self, obj: Any) -> Any:
        """Functions by name if it leads back to them, else by value."""
        if not isinstance(obj, (types.FunctionType, _Jitted)):
            return NotImplemented
        module, name = obj.__module__, getattr(obj, "__qualname__", "")
        if _found(module, name) is obj:
            return (_named, (module, name)) if isinstance(obj, _Jitted) else NotImplemented
        return pickle.loads, (cloudpickle.dumps(obj),)


def _found(module: str, name: str) -> Any:
    try:
        return _named(module, name)
    except (ImportError, AttributeError):
        return None


def _named(module: str, name: str) -> Any:
    return operator.attrgetter(name)(importlib.import_module(module))
