"""Functions of (t, y, args) that the caller passes and that may also see the model."""

import inspect
from collections.abc import Callable
from typing import Any

import equinox as eqx

from ._check import describe


class OfModel(eqx.Module):
    """A caller's function, called as `function(t, y, args, model)` whatever its own form is."""

    function: Callable[..., Any]
    form: str = eqx.field(static=True)

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
    if not callable(function):
        raise ValueError(
            f"`{name}` must be callable as f(t, y, args) or f(t, y, args, model); "
            f"got {describe(function)}."
        )
    if getattr(function, "__self__", None) is model and hasattr(function, "__func__"):
        return OfModel(function.__func__, "method")
    return OfModel(function, "model" if _num_required(function) >= 4 else "plain")


def _num_required(function: Callable[..., Any]) -> int:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 3
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(item.kind in kinds and item.default is item.empty for item in parameters)
