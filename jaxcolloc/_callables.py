"""The caller's functions: how they are called, and what went wrong inside them in plain words."""

import contextlib
import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from ._check import describe
from ._check import function as callable_as
from ._precision import is_array


class OfModel(eqx.Module):
    """A caller's function, called as `function(t, y, args, model)` whatever its own form is."""

    function: Callable[..., Any]
    form: str = eqx.field(static=True)

    @property
    def shown(self) -> str:
        """How it is called, for errors."""
        return "f(t, y, args, model)" if self.form == "model" else "f(t, y, args)"

    def __call__(self, t: Any, y: Any, args: Any, model: Any) -> Any:
        if self.form == "method":
            return self.function(model, t, y, args)
        if self.form == "model":
            return self.function(t, y, args, model)
        return self.function(t, y, args)


def of_model(name: str, function: Any, model: Any) -> OfModel:
    """`function(t, y, args)`, `function(t, y, args, model)` or a method of `model`.

    A method of the model is called on the model being trained, so that weights used only there
    are trained as well.
    """
    callable_as(name, function, "f(t, y, args) or f(t, y, args, model)")
    if getattr(function, "__self__", None) is model and hasattr(function, "__func__"):
        return OfModel(function.__func__, "method")
    return OfModel(function, "model" if num_required(function) >= 4 else "plain")


def num_required(function: Callable[..., Any], unknown: int = 3) -> int:
    """The number of positional arguments that a function must get; `unknown` if it does not say."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return unknown
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(item.kind in kinds and item.default is item.empty for item in parameters)


# What Python says where a function was called with another number of arguments than it takes.
_ARGUMENTS = re.compile(r"positional argument|unexpected keyword|not enough values to unpack")


@contextlib.contextmanager
def explained(name: str, form: str, args: Any = ()) -> Iterator[None]:
    """A block that calls the caller's function: what it raises becomes a `ValueError` naming it.

    The error says what to change where that can be told; its cause, with the caller's own lines,
    stays attached. A block may lie in another one, whose name then does not count.

    **Arguments:**

    - `name`: the argument that the function came as.
    - `form`: how it is called, such as `f(t, y, args)`.
    - `args`: the trajectory's, to be missed where they are None.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, ValueError) and str(error).startswith("`"):
            # One of our own, which names its argument.
            raise
        reason = _reason(error, args)
        raise ValueError(f"`{name}` cannot be evaluated as {form}. {reason}") from error


def _reason(error: Exception, args: Any) -> str:
    """What the error means and what to do about it."""
    said = f"{type(error).__name__}: {error}".split("\n")[0]
    if isinstance(error, jax.errors.TracerBoolConversionError):
        return (
            "It branches on a value that is known only later, by `if`, `while`, `and` or `max`: "
            "use jnp.where or jax.lax.cond instead."
        )
    if isinstance(error, jax.errors.TracerArrayConversionError):
        return "It passes a value to NumPy that is known only later: use jax.numpy instead."
    if isinstance(
        error, (jax.errors.ConcretizationTypeError, jax.errors.TracerIntegerConversionError)
    ):
        return (
            "It turns a value that is known only later into a Python number, as float(), int() and "
            f"the module math do: use jax.numpy instead ({said})."
        )
    if args is None and isinstance(error, (TypeError, AttributeError)) and "None" in str(error):
        return (
            "It uses `args`, of which the trajectory has none: pass them as "
            f"jc.Trajectory(ts, ys, args) ({said})."
        )
    if isinstance(error, TypeError) and _ARGUMENTS.search(str(error)):
        return f"It takes other arguments ({said})."
    return said


def as_floats(name: str, result: Any, wanted: str, dtype: Any) -> Array:
    """What a function of the caller's returned, as an array of the type `dtype`.

    `wanted` says what it must return. **Errors:** `ValueError` naming the function for anything but
    floats: for a tuple or None, for integers, whose derivative is zero, and for complex numbers.
    """
    if isinstance(result, (int, float)) and not isinstance(result, bool):
        return jnp.asarray(result, dtype)
    if isinstance(result, (tuple, list)):
        came = f"a {type(result).__name__}; make it an array by jnp.stack"
    elif not is_array(result):
        came = describe(result)
    elif jnp.issubdtype(result.dtype, jnp.floating):
        return jnp.asarray(result, dtype)
    else:
        came = f"an array of type {result.dtype}"
        if not jnp.issubdtype(result.dtype, jnp.complexfloating):
            came += "; convert it by .astype(float)"
    raise ValueError(f"`{name}` must return {wanted}; got {came}.")
