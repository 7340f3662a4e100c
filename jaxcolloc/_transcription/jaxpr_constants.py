"""Values of a jaxpr that are known without its inputs: positions, masks, zeros written in code.

Computed in NumPy, which compiles nothing. Only where it is exact: numbers that are not whole are
moved about and compared, but not added, since compiled code may round differently.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from .jaxpr_rules import MOVES, Operation


# Larger arrays are not followed.
_LARGEST = 10**6

_COMPARISONS: dict[str, Callable[..., Any]] = {
    "eq": np.equal,
    "ge": np.greater_equal,
    "gt": np.greater,
    "le": np.less_equal,
    "lt": np.less,
    "ne": np.not_equal,
    "max": np.maximum,
    "min": np.minimum,
    "neg": np.negative,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "not": np.bitwise_not,
    "clamp": lambda low, x, high: np.clip(x, low, high),
    "copy": np.copy,
    "copy_p": np.copy,
    "select_n": lambda which, *cases: np.choose(which.astype(int), cases),
}
_ARITHMETIC: dict[str, Callable[..., Any]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "rem": np.fmod,
}


def as_known(value: Any) -> np.ndarray | None:
    """A constant as a NumPy array; None for what is none or too large."""
    if isinstance(value, jax.core.Tracer):
        return None
    array = np.asarray(value) if isinstance(value, (bool, int, float, complex)) else value
    kind = getattr(getattr(array, "dtype", None), "kind", None)
    return np.asarray(array) if kind in tuple("biufc") and array.size <= _LARGEST else None


def evaluate(operation: Operation, operands: list[np.ndarray], dtype: Any) -> np.ndarray | None:
    """The result of an operation on known operands; None where it is not one of those we know."""
    name, params, shape = operation.name, operation.params, operation.outputs[0]
    if np.prod(shape) > _LARGEST:
        return None
    with np.errstate(all="ignore"):
        if name == "iota":
            along = [-1 if axis == params["dimension"] else 1 for axis in range(len(shape))]
            result = np.broadcast_to(np.arange(shape[params["dimension"]]).reshape(along), shape)
        elif name in MOVES:
            result = MOVES[name](params, shape, *(item[..., None] for item in operands))[..., 0]
        elif name == "convert_element_type":
            if not np.issubdtype(dtype, np.inexact) and not _whole(operands[0]):
                return None
            result = operands[0]
        elif name in _COMPARISONS:
            result = _COMPARISONS[name](*operands)
        elif name in _ARITHMETIC and all(map(_whole, operands)):
            result = _ARITHMETIC[name](*operands)
        else:
            return None
        return np.asarray(result).astype(dtype)


def _whole(array: np.ndarray) -> bool:
    """Whether all numbers are whole and small enough for exact arithmetic."""
    if not np.issubdtype(array.dtype, np.inexact):
        return True
    return bool(np.all((np.abs(array) < 2**20) & (array == np.round(array))))
