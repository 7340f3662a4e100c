"""Conditions: what holds at the two ends of a solution."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._args import opened
from .._callables import OfModel, as_floats, explained, of_model
from .._constraints import Constraint, StateBounds, as_constraints
from .._points import known
from .._precision import x64


class _Linear(NamedTuple):
    """Some components of the state at an end have these values."""

    at_start: bool
    components: np.ndarray
    values: np.ndarray

    def linearised(self, t: float, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return y[self.components] - self.values, np.eye(len(y))[self.components]


class _Function(NamedTuple):
    """A function of the caller has these values at an end."""

    at_start: bool
    function: OfModel
    inputs: tuple[Any, Any]
    values: np.ndarray

    def linearised(self, t: float, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with x64():
            value, jacobian = _first(self.function, *self.inputs, np.asarray(t), y)
        return np.asarray(value) - self.values, np.asarray(jacobian)


class Conditions:
    """As many conditions at the two ends as the state has components.

    `start` are the values at the begin, NaN where they are not known; `constraints` may add
    equations at the start and the end.

    **Errors:** `ValueError` for constraints that are no such equations, and for another number.
    """

    def __init__(self, model: Any, args: Any, start: np.ndarray, constraints: Any, times: Any):
        if not times[1] > times[0]:
            raise ValueError("`ts` must hold different times where `y0` is not known; got one.")
        self.times, self.size = times, len(start)
        components = np.flatnonzero(~np.isnan(start))
        self._items: list[_Linear | _Function] = [_Linear(True, components, start[components])]
        for item in as_constraints(constraints, 1):
            self._items.append(_condition(item, model, args, start, times))
        count = sum(len(item.values) for item in self._items)
        if count != len(start):
            raise ValueError(
                "`y0` and `constraints` must state as many conditions as the state has "
                f"components, {len(start)}; got {count}: {len(components)} by `y0` and "
                f"{count - len(components)} by `constraints`."
            )

    def linearised(
        self, first: Float[np.ndarray, " state"], last: Float[np.ndarray, " state"]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What the conditions miss, and its derivatives by the first and by the last state."""
        missed, by_first, by_last = [], [], []
        for item in self._items:
            t, y = (self.times[0], first) if item.at_start else (self.times[1], last)
            value, jacobian = item.linearised(t, y)
            none = np.zeros_like(jacobian)
            missed.append(value)
            by_first.append(jacobian if item.at_start else none)
            by_last.append(none if item.at_start else jacobian)
        return np.concatenate(missed), np.concatenate(by_first), np.concatenate(by_last)

    def line(self, times: np.ndarray) -> Float[np.ndarray, "time state"]:
        """A line between the values that are known at the ends, or through the one that is."""
        ends = np.full((2, self.size), np.nan)
        for item in self._items:
            if isinstance(item, _Linear):
                ends[int(not item.at_start), item.components] = item.values
        ends = np.where(np.isnan(ends), ends[::-1], ends)
        ends = np.where(np.isnan(ends), 0.0, ends)
        x = (times - self.times[0]) / (self.times[1] - self.times[0])
        return ends[0] + x[:, None] * (ends[1] - ends[0])


def _condition(item: Any, model: Any, args: Any, start: np.ndarray, times: Any) -> Any:
    """What a constraint states about one end."""
    wanted = (
        "`constraints` must be equations at the start or the end, jc.Constraint or jc.StateBounds "
        "objects with lower == upper, since the model's equations leave nothing else to choose"
    )
    if not isinstance(item, (Constraint, StateBounds)) or item.at == "nodes":
        where = f' at="{item.at}"' if hasattr(item, "at") else ""
        raise ValueError(f"{wanted}; got a jc.{type(item).__name__}{where}.")
    if not np.all(np.equal(item.lower, item.upper)):
        raise ValueError(f"{wanted}; got {item.lower} and {item.upper}.")
    at_start = item.at == "start"
    if isinstance(item, StateBounds):
        size = len(start)
        components = np.arange(size) if item.components is None else np.array(item.components, int)
        if max(components, default=0) >= size:
            raise ValueError(f"`components` must be below {size}; got {item.components}.")
        return _Linear(at_start, components, _values(item.lower, len(components)))
    inputs, function = known(model, args), of_model("function", item.function, model)
    with explained("function", function.shown, args), x64():
        t = np.asarray(times[int(not at_start)])
        shape = eqx.filter_eval_shape(_value, function, *inputs, t, np.ones(len(start))).shape
    if len(shape) != 1:
        raise ValueError(
            "`function` must return a scalar or an array of shape (value,), in a jc.Constraint; "
            f"got shape {shape}."
        )
    return _Function(at_start, function, inputs, _values(item.lower, shape[0]))


def _values(value: Any, size: int) -> np.ndarray:
    if np.shape(value) not in ((), (1,), (size,)):
        raise ValueError(
            f"`lower` and `upper` must be numbers or have one entry for each of {size} values; "
            f"got shape {np.shape(value)}."
        )
    return np.broadcast_to(value, (size,))


def _value(function: OfModel, model: Any, args: Any, t: Any, y: Any) -> Array:
    value = function(t, y, opened(args), model)
    if isinstance(value, (tuple, list)) and value:
        value = jnp.stack(value)
    wanted = "a scalar or an array of shape (value,)"
    return jnp.atleast_1d(as_floats("function", value, wanted, y.dtype))


@eqx.filter_jit
def _first(function: OfModel, model: Any, args: Any, t: Any, y: Any) -> tuple[Array, Array]:
    def twice(y: Array) -> tuple[Array, Array]:
        value = _value(function, model, args, t, y)
        return value, value

    jacobian, value = jax.jacfwd(twice, has_aux=True)(y)
    return value, jacobian
