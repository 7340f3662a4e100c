"""JAX's operations on single elements as CasADi expressions.

Everything is a float: whole numbers are floats without a fraction, truth values are 0 and 1.
`max`, `min` and `abs` are written as choices whose derivative at a tie is that from one side, the
same side for all of them. What is smooth although it is composed of them, such as the stable form
of log(exp(a) + exp(b)), then has its true derivatives of every order at the tie as well.
"""

from collections.abc import Callable
from typing import Any

import casadi as ca
import numpy as np

from .arrays import Unsupported


def where(condition: Any, yes: Any, no: Any) -> Any:
    """`yes` where the condition holds, else `no`; values alone decide, also where one is NaN."""
    return ca.if_else(condition, yes, no)


def _max(a: Any, b: Any) -> Any:
    return where(a < b, b, a)


def _min(a: Any, b: Any) -> Any:
    return where(a < b, a, b)


def _abs(x: Any) -> Any:
    return where(x < 0, -x, x)


def _clamp(low: Any, x: Any, high: Any) -> Any:
    return _min(_max(x, low), high)


def _logistic(x: Any) -> Any:
    # Neither side overflows, in the value or in a derivative.
    below, above = where(x < 0, x, 0), where(x < 0, 0, x)
    return ca.exp(below) / (ca.exp(below) + ca.exp(-above))


def _cbrt(x: Any) -> Any:
    return where(x < 0, -(ca.fabs(x) ** (1 / 3)), ca.fabs(x) ** (1 / 3))


def truncated(x: Any) -> Any:
    """Rounded towards zero."""
    return where(x < 0, ca.ceil(x), ca.floor(x))


FLOATS: dict[str, Callable[..., Any]] = {
    "abs": _abs,
    "acos": ca.acos,
    "acosh": ca.acosh,
    "add": lambda a, b: a + b,
    "add_any": lambda a, b: a + b,
    "asin": ca.asin,
    "asinh": ca.asinh,
    "atan": ca.atan,
    "atan2": ca.atan2,
    "atanh": ca.atanh,
    "cbrt": _cbrt,
    "ceil": ca.ceil,
    "clamp": _clamp,
    "copy": lambda x: x,
    "copy_p": lambda x: x,
    "cos": ca.cos,
    "cosh": ca.cosh,
    "div": lambda a, b: a / b,
    "erf": ca.erf,
    "erf_inv": ca.erfinv,
    "erfc": lambda x: 1 - ca.erf(x),
    "exp": ca.exp,
    "exp2": lambda x: ca.power(2.0, x),
    "expm1": ca.expm1,
    "floor": ca.floor,
    # False for NaN too.
    "is_finite": lambda x: ca.fabs(x) < np.inf,
    "log": ca.log,
    "log1p": ca.log1p,
    "logistic": _logistic,
    "max": _max,
    "min": _min,
    "mul": lambda a, b: a * b,
    "neg": lambda x: -x,
    "pow": ca.power,
    "rem": ca.fmod,
    "rsqrt": lambda x: 1 / ca.sqrt(x),
    "sign": ca.sign,
    "sin": ca.sin,
    "sinh": ca.sinh,
    "sqrt": ca.sqrt,
    "square": lambda x: x * x,
    # The value, whose derivative CasADi takes as of any other.
    "stop_gradient": lambda x: x,
    "sub": lambda a, b: a - b,
    "tan": ca.tan,
    "tanh": ca.tanh,
    "eq": ca.eq,
    "ge": ca.ge,
    "gt": ca.gt,
    "le": ca.le,
    "lt": ca.lt,
    "ne": ca.ne,
    # In total order, where neither is NaN or a zero of another sign.
    "eq_to": ca.eq,
    "le_to": ca.le,
    "lt_to": ca.lt,
}
INTEGERS = {"div": lambda a, b: truncated(a / b)}
TRUTHS: dict[str, Callable[..., Any]] = {
    "and": ca.logic_and,
    "not": ca.logic_not,
    "or": ca.logic_or,
    "xor": ca.ne,
}


def elementwise(name: str, params: dict[str, Any], kind: str, columns: list[Any]) -> Any:
    """The result of an operation on columns, or scalars beside columns.

    `kind` is that of the first operand, as NumPy's types have it. **Errors:** `KeyError` for an
    operation that is none of these.
    """
    if name == "integer_pow":
        return columns[0] ** params["y"]
    if kind == "b" and name in TRUTHS:
        return TRUTHS[name](*columns)
    if kind in "iu" and name in INTEGERS:
        return INTEGERS[name](*columns)
    if name == "round":
        return _round(params, *columns)
    return FLOATS[name](*columns)


def _round(params: dict[str, Any], x: Any) -> Any:
    if int(params["rounding_method"]) == 0:
        return ca.sign(x) * ca.floor(ca.fabs(x) + 0.5)
    raise Unsupported("rounding halves to even has no counterpart")


def converted(column: Any, before: np.dtype, after: np.dtype) -> Any:
    """A column after a change of type: floats of any width are float64."""
    if after.kind == "b" and before.kind != "b":
        return ca.ne(column, 0)
    if after.kind in "iu" and before.kind not in "biu":
        return truncated(column)
    if after.kind == "c":
        raise Unsupported("complex numbers have no counterpart")
    return column


def selected(which: Any, cases: list[Any]) -> Any:
    """Element by element that case whose number `which` is."""
    if len(cases) == 2:
        return where(which, cases[1], cases[0])
    return sum((ca.if_else(ca.eq(which, k), case, 0) for k, case in enumerate(cases)), ca.SX(0))
