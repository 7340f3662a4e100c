"""Checks of what the caller passes; every message says what was expected and what came."""

from typing import Any

import numpy as np


def describe(value: object) -> str:
    """A few words on a value for an error message."""
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def float_array(name: str, value: Any, ndim: int, axes: str) -> np.ndarray:
    """`value` as a float64 NumPy array (a copy) of `ndim` axes, which `axes` describes."""
    try:
        raw = np.asarray(value)
        if np.iscomplexobj(raw):
            raise TypeError("complex")
        array = np.array(raw, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"`{name}` must be an array of real numbers of shape {axes}; got {describe(value)}."
        ) from error
    if array.ndim != ndim:
        raise ValueError(f"`{name}` must have shape {axes}; got shape {array.shape}.")
    return array


def integer(name: str, value: Any, least: int) -> int:
    """`value` as an int that is at least `least`."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise ValueError(f"`{name}` must be an integer of at least {least}; got {describe(value)}.")
    return int(value)


def positive(name: str, value: Any, *, allow_zero: bool = False) -> float:
    """`value` as a finite float above zero (or at zero, if allowed)."""
    wanted = "at least zero" if allow_zero else "above zero"
    number = value if isinstance(value, (int, float, np.number)) else np.nan
    if isinstance(value, bool) or not np.isfinite(number) or number < 0:
        raise ValueError(f"`{name}` must be a finite number {wanted}; got {describe(value)}.")
    if number == 0 and not allow_zero:
        raise ValueError(f"`{name}` must be a finite number {wanted}; got {describe(value)}.")
    return float(number)


def share(name: str, value: Any, *, below: float, allow_zero: bool = False) -> float:
    """`value` as a share above zero (or at zero, if allowed) and below `below`."""
    number = positive(name, value, allow_zero=allow_zero)
    if number >= below:
        raise ValueError(f"`{name}` must be a share below {below}; got {number}.")
    return number


def choice(name: str, value: Any, options: tuple[str, ...]) -> str:
    """`value` if it is one of `options`."""
    if value not in options:
        listed = ", ".join(f'"{option}"' for option in options)
        raise ValueError(f"`{name}` must be one of {listed}; got {describe(value)}.")
    return value
