"""Checks of what the caller passes; every message says what was expected and what came."""

import datetime
from collections.abc import Callable
from typing import Any

import jax
import jax.tree_util as jtu
import numpy as np


# What conversions of foreign objects to arrays and numbers raise.
_NO_NUMBERS = (TypeError, ValueError, OverflowError, AttributeError)
# Python's objects by the letters of NumPy's types.
_KINDS: dict[str, tuple[type, ...]] = {
    "M": (datetime.date, np.datetime64),
    "m": (datetime.timedelta, np.timedelta64),
    "b": (bool, np.bool_),
    "U": (str, bytes),
    "c": (complex, np.complexfloating),
}
# More than any array can have.
_MOST = 2**53


def describe(value: object) -> str:
    """A few words on a value for an error message."""
    shape = getattr(value, "shape", None)
    if isinstance(value, (np.ndarray, jax.Array)) or (isinstance(shape, tuple) and shape):
        noun = "an array" if isinstance(value, (np.ndarray, jax.Array)) else _kind(value)
        return f"{noun} of shape {shape}" if shape else f"an array without axes, {value}"
    try:
        text = repr(value)
    except Exception:
        # A foreign `__repr__`; Python itself refuses to write out integers of many digits.
        return _kind(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _kind(value: object) -> str:
    return f"an object of type {type(value).__name__}"


def refuse_traced(name: str, *trees: Any) -> None:
    """Refuse what is being traced, and a call within a traced program.

    What the library does between arrays is NumPy and foreign code, which JAX cannot trace.
    """
    leaves = jtu.tree_leaves(trees)
    if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves) or within_jit():
        raise ValueError(
            f"`{name}` is being traced: this function cannot run within jax.jit, jax.vmap, "
            "jax.grad and their kin; call it outside of them."
        )


def within_jit() -> bool:
    """Whether what JAX computes here becomes part of a program of the caller's."""
    return isinstance(jax.device_put(0), jax.core.Tracer)


def real_numbers(name: str, value: Any, wanted: str, *, missing: bool = False) -> np.ndarray:
    """`value` as a float64 NumPy array (a copy), whatever its shape.

    **Arguments:**

    - `name`: the caller's argument.
    - `value`: numbers of any kind but complex ones; no dates, texts or truth values.
    - `wanted`: what the argument must be, for the error.
    - `missing`: entries that a NumPy mask hides, or pandas calls NA, become NaN; else they are
      refused.
    """
    if isinstance(value, jax.core.Tracer):
        refuse_traced(name, value)
    try:
        # A copy as objects first would be slow, and as floats would read dates as counts.
        raw = np.asarray(value)
        raw = _without_na(raw) if missing and raw.dtype == object else raw
        foreign = _foreign(name, raw)
        array = np.zeros(0) if foreign else np.array(raw, dtype=np.float64)
    except _NO_NUMBERS as error:
        raise ValueError(f"`{name}` must be {wanted}; got {describe(value)}.") from error
    if foreign:
        raise ValueError(f"`{name}` must be {wanted}; got {foreign}")
    hidden = np.ma.getmaskarray(value) if isinstance(value, np.ma.MaskedArray) else np.array(False)
    if hidden.any() and not missing:
        raise ValueError(f"`{name}` must be {wanted}; got an array with masked entries.")
    return np.where(hidden, np.nan, array) if hidden.any() else array


def _foreign(name: str, raw: np.ndarray) -> str:
    """What the entries are, and how to turn them into real numbers; empty for real numbers."""
    kind: str = raw.dtype.kind
    if kind == "O":
        kind = _kind_of_objects(raw)
    if kind == "M":
        way = f'`({name} - {name}[0]) / np.timedelta64(1, "s")`' if raw.ndim else "a number"
        return f"dates. Pass numbers, such as seconds: {way}."
    if kind == "m":
        way = f'`{name} / np.timedelta64(1, "s")`' if raw.ndim else "a number"
        return f"time differences. Pass numbers, such as seconds: {way}."
    if kind == "b":
        return f"truth values. Pass numbers: `{name}.astype(float)`."
    if kind in "UST":
        return f"text. Pass numbers: `np.asarray({name}, dtype=float)`."
    if kind == "c":
        return "complex numbers. Pass real and imaginary part as two real numbers."
    return "a structured array. Pass its fields as columns." if raw.dtype.names else ""


def _without_na(raw: np.ndarray) -> np.ndarray:
    """An array of objects with NaN in the place of what pandas calls NA."""
    missing = [type(item).__name__ == "NAType" for item in raw.ravel()]
    return np.where(np.reshape(missing, raw.shape), np.nan, raw)


def _kind_of_objects(raw: np.ndarray) -> str:
    """The kind of NumPy's types that the entries of an array of objects belong to, if any."""
    for item in raw.ravel():
        for kind, types in _KINDS.items():
            if isinstance(item, types):
                return kind
    return "O"


def float_array(
    name: str, value: Any, ndim: int, axes: str, *, missing: bool = False
) -> np.ndarray:
    """`value` as a float64 NumPy array (a copy) of `ndim` axes, which `axes` describes.

    With `missing`, masked entries become NaN.
    """
    wanted = f"an array of real numbers of shape {axes}"
    array = real_numbers(name, value, wanted, missing=missing)
    if array.ndim != ndim:
        raise ValueError(f"`{name}` must have shape {axes}; got shape {array.shape}.")
    return array


def integer(name: str, value: Any, least: int) -> int:
    """`value` as an int that is at least `least`."""
    wrong = not isinstance(value, (int, np.integer)) or isinstance(value, (bool, np.timedelta64))
    if wrong or not least <= value <= _MOST:
        raise ValueError(f"`{name}` must be an integer of at least {least}; got {describe(value)}.")
    return int(value)


def positive(name: str, value: Any, *, allow_zero: bool = False) -> float:
    """`value` as a finite float above zero (or at zero, if allowed)."""
    number = _float(value)
    if not np.isfinite(number) or number < 0 or (number == 0 and not allow_zero):
        wanted = "at least zero" if allow_zero else "above zero"
        raise ValueError(f"`{name}` must be a finite number {wanted}; got {describe(value)}.")
    return number


def finite(name: str, value: Any) -> float:
    """`value` as a finite float."""
    number = _float(value)
    if not np.isfinite(number):
        raise ValueError(f"`{name}` must be a finite number; got {describe(value)}.")
    return number


def _float(value: Any) -> float:
    """A real number, which may be an array without axes, as a float; NaN for anything else."""
    if isinstance(value, (np.ndarray, jax.Array)) and not isinstance(value, jax.core.Tracer):
        kind = getattr(value.dtype, "kind", "key")
        value = value.item() if value.shape == () and kind in ("i", "u", "f") else None
    if not isinstance(value, (int, float, np.number)) or isinstance(value, (bool, np.timedelta64)):
        return np.nan
    try:
        return np.nan if np.iscomplexobj(value) else float(value)
    except (OverflowError, TypeError):
        return np.nan


def share(name: str, value: Any, *, below: float, allow_zero: bool = False) -> float:
    """`value` as a share above zero (or at zero, if allowed) and below `below`."""
    number = positive(name, value, allow_zero=allow_zero)
    if number >= below:
        raise ValueError(f"`{name}` must be a share below {below}; got {number}.")
    return number


def choice(name: str, value: Any, options: tuple[str, ...]) -> str:
    """`value` if it is one of `options`."""
    if not isinstance(value, str) or value not in options:
        listed = ", ".join(f'"{option}"' for option in options)
        raise ValueError(f"`{name}` must be one of {listed}; got {describe(value)}.")
    return value


def flag(name: str, value: Any) -> bool:
    """`value` if it is True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"`{name}` must be True or False; got {describe(value)}.")
    return bool(value)


def function(name: str, value: Any, form: str) -> Callable[..., Any]:
    """`value` if it can be called; `form` says how it will be, such as `f(t, y, args)`."""
    if not callable(value) or isinstance(value, type):
        raise ValueError(f"`{name}` must be callable as {form}; got {describe(value)}.")
    return value


def instance(name: str, value: Any, kind: type, default: Any) -> Any:
    """`value` if it is a `kind`, `default` if it is None."""
    if value is None:
        return default
    if not isinstance(value, kind):
        home = kind.__module__.split(".")[0]
        raise ValueError(
            f"`{name}` must be a {home}.{kind.__name__}, such as {type(default).__name__}(); "
            f"got {describe(value)}."
        )
    return value
