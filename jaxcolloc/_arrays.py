"""One text, two drivers: NumPy on the host, JAX where a program is traced.

An algorithm that is written against this file runs in both: it asks `driver(x)` for the driver of
the values it is given, and takes from it the array module and whatever differs between the two,
such as loops and additions to some entries. On the host a loop is Python's, a choice is made
before what is not chosen has been computed, and nothing is compiled.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike


Carry = TypeVar("Carry")
# An array or a number of either driver, for which mypy has no type.
if TYPE_CHECKING:
    Array = Any
else:
    Array = ArrayLike


class Host:
    """NumPy and Python's control flow, for concrete values."""

    xp: Any = np
    traced = False

    @staticmethod
    def loop(going: Callable[[Carry], Any], step: Callable[[Carry], Carry], first: Carry) -> Carry:
        """`step` applied to `first` again and again, while `going`."""
        carry = first
        while going(carry):
            carry = step(carry)
        return carry

    @staticmethod
    def either(condition: Any, yes: Callable[[], Any], no: Callable[[], Any]) -> Any:
        """What one of two functions returns; the other one is not called."""
        return yes() if condition else no()

    @staticmethod
    def select(condition: Any, yes: Any, no: Any) -> Any:
        """One of two trees of the same structure."""
        return yes if condition else no

    @staticmethod
    def value(x: Any) -> Any:
        """A number: floats become NumPy's, whose arithmetic knows infinity."""
        return np.float64(x) if isinstance(x, float) else x

    @staticmethod
    def negate(condition: Any) -> Any:
        """Whether a condition does not hold; `~` would take Python's truth values for numbers."""
        return not condition

    @staticmethod
    def zero_if(condition: Any, x: np.ndarray) -> Any:
        """`x`, or as many zeros."""
        return np.zeros_like(x) if condition else x

    @staticmethod
    def nothing(shape: tuple[int, ...]) -> Any:
        """Zeros of this shape, to be read only; they take no memory."""
        return np.broadcast_to(np.float64(0.0), shape)

    @staticmethod
    def blank(function: Callable[..., Any], *inputs: Any) -> Any:
        """What stands where a loop will put what `function` returns: nothing."""
        return None

    @staticmethod
    def add_at(x: np.ndarray, index: Any, values: Any) -> Any:
        """`x` with `values` added at `index`, as often as a position occurs in it."""
        if x.ndim == 1 and isinstance(index, np.ndarray):
            # Faster than `np.add.at` by far.
            return x + np.bincount(index.ravel(), np.ravel(values), minlength=len(x))
        x = x.copy()
        np.add.at(x, index, values)
        return x

    @staticmethod
    def add_to(x: np.ndarray, index: Any, values: Any) -> Any:
        """`x` with `values` added at `index`, in which no position occurs twice."""
        x = x.copy()
        x[index] += values
        return x

    @staticmethod
    def add_into(x: np.ndarray, index: Any, values: Any) -> Any:
        """As `add_to`, in an `x` that nobody else holds: its memory is used again."""
        x[index] += values
        return x

    @staticmethod
    def put_into(x: np.ndarray, index: Any, values: Any) -> Any:
        """`x`, which nobody else holds, with `values` at `index`: its memory is used again."""
        x[index] = values
        return x


class Traced:
    """`jax.numpy` and the control flow of `jax.lax`."""

    xp: Any = jnp
    traced = True

    @staticmethod
    def loop(going: Callable[[Carry], Any], step: Callable[[Carry], Carry], first: Carry) -> Carry:
        return jax.lax.while_loop(going, step, first)

    @staticmethod
    def either(condition: Any, yes: Callable[[], Any], no: Callable[[], Any]) -> Any:
        return jax.lax.cond(condition, yes, no)

    @staticmethod
    def select(condition: Any, yes: Any, no: Any) -> Any:
        return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)

    @staticmethod
    def value(x: Any) -> Any:
        return jnp.asarray(x)

    @staticmethod
    def negate(condition: Any) -> Any:
        return jnp.logical_not(condition)

    @staticmethod
    def zero_if(condition: Any, x: jax.Array) -> Any:
        return jnp.where(condition, 0.0, x)

    @staticmethod
    def nothing(shape: tuple[int, ...]) -> Any:
        return jnp.zeros(shape)

    @staticmethod
    def blank(function: Callable[..., Any], *inputs: Any) -> Any:
        """Zeros: a compiled loop needs arrays there, of the right shapes."""
        shapes = jax.eval_shape(function, *inputs)
        return jax.tree.map(lambda item: jnp.zeros(item.shape, item.dtype), shapes)

    @staticmethod
    def add_at(x: jax.Array, index: Any, values: Any) -> Any:
        return x.at[index].add(values)

    add_to = add_into = add_at

    @staticmethod
    def put_into(x: jax.Array, index: Any, values: Any) -> Any:
        return x.at[index].set(values)


Driver = type[Host] | type[Traced]
# Asked first: whether something is a JAX array takes a microsecond to find out.
_NUMPY = np.ndarray, np.generic, float, int


def on_host() -> bool:
    """Whether concrete values are computed on the host: where JAX has nothing but a CPU."""
    return jax.default_backend() == "cpu"


def driver(x: Any) -> Driver:
    """The one for a value: `Traced` for JAX arrays, `Host` for those of NumPy and for numbers."""
    if isinstance(x, _NUMPY) or not isinstance(x, jax.Array):
        return Host
    return Traced


def module(x: Any) -> Any:
    """The array module for a value."""
    return driver(x).xp
