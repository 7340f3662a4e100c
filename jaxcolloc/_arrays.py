"""One text, two drivers: NumPy on the host, JAX where a program is traced.

An algorithm that is written against this file runs in both: it asks `driver(x)` for the driver of
the values it is given, and takes from it the array module and whatever differs between the two,
such as loops and additions to some entries. On the host a loop is Python's, a choice is made
before what is not chosen has been computed, and nothing is compiled.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np


Carry = TypeVar("Carry")


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
    def add_at(x: np.ndarray, index: Any, values: Any) -> np.ndarray:
        """`x` with `values` added at `index`, as often as a position occurs in it."""
        if x.ndim == 1 and isinstance(index, np.ndarray):
            # Faster than `np.add.at` by far.
            return x + np.bincount(index.ravel(), np.ravel(values), minlength=len(x))
        x = x.copy()
        np.add.at(x, index, values)
        return x

    @staticmethod
    def add_to(x: np.ndarray, index: Any, values: Any) -> np.ndarray:
        """`x` with `values` added at `index`, in which no position occurs twice."""
        x = x.copy()
        x[index] += values
        return x

    @staticmethod
    def set_at(x: np.ndarray, index: Any, values: Any) -> np.ndarray:
        """`x` with `values` at `index`."""
        x = x.copy()
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
    def add_at(x: jax.Array, index: Any, values: Any) -> jax.Array:
        return x.at[index].add(values)

    add_to = add_at

    @staticmethod
    def set_at(x: jax.Array, index: Any, values: Any) -> jax.Array:
        return x.at[index].set(values)


Driver = type[Host] | type[Traced]


def driver(x: Any) -> Driver:
    """The one for a value: `Traced` for JAX arrays, `Host` for those of NumPy and for numbers."""
    return Traced if isinstance(x, jax.Array) else Host


def module(x: Any) -> Any:
    """The array module for a value."""
    return jnp if isinstance(x, jax.Array) else np
