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
    takes_algebraic: bool = eqx.field(static=True, default=False)

    @property
    def shown(self) -> str:
        """How it is called, for errors."""
        more = ", model" if self.form == "model" else ""
        return f"f(t, y, args{more}{', algebraic' if self.takes_algebraic else ''})"

    def __call__(self, t: Any, y: Any, args: Any, model: Any, algebraic: Any = None) -> Any:
        """Where it wants algebraic variables that are not given, the model is asked for them."""
        more = {}
        if self.takes_algebraic:
            known = model.algebraic(t, y, args) if algebraic is None else algebraic
            more = {"algebraic": known}
        if self.form == "method":
            return self.function(model, t, y, args, **more)
        if self.form == "system":
            return self.function(model.system, t, y, args, **more)
        if self.form == "model":
            return self.function(t, y, args, model, **more)
        return self.function(t, y, args, **more)


def of_model(name: str, function: Any, model: Any) -> OfModel:
    """`function(t, y, args)`, `function(t, y, args, model)` or a method of `model`.

    A method of the model is called on the model being trained, so that weights used only there
    are trained as well; so is a method of the module of which a `jc.DAE` is made. A function with a
    parameter `algebraic` gets the algebraic variables of a `jc.DAE` by that name.
    """
    callable_as(name, function, "f(t, y, args) or f(t, y, args, model)")
    algebraic = _has_parameter(function, "algebraic")
    if algebraic and not hasattr(model, "algebraic"):
        raise ValueError(
            f"`{name}` must have no parameter `algebraic` where `model` has no algebraic "
            "variables, as a jc.DAE does."
        )
    owner = getattr(function, "__self__", None)
    if owner is not None and hasattr(function, "__func__"):
        if owner is model:
            return OfModel(function.__func__, "method", algebraic)
        if owner is getattr(model, "system", None):
            return OfModel(function.__func__, "system", algebraic)
    required = num_required(function) - _required(function, "algebraic")
    return OfModel(function, "model" if required >= 4 else "plain", algebraic)


def _has_parameter(function: Callable[..., Any], name: str) -> bool:
    """Whether a function has a parameter of this name."""
    try:
        return name in inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False


def _required(function: Callable[..., Any], name: str) -> bool:
    """Whether it is one of the positional ones that `num_required` counts."""
    try:
        parameter = inspect.signature(function).parameters.get(name)
    except (TypeError, ValueError):
        return False
    if parameter is None or parameter.default is not parameter.empty:
        return False
    return parameter.kind is not inspect.Parameter.KEYWORD_ONLY


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
