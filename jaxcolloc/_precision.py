"""float64 inside the library, whatever precision the caller has chosen."""

import contextlib
from collections.abc import Iterator
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np


Tree = TypeVar("Tree")
# What is NumPy while an NLP is built and JAX while it is evaluated.
AnyArray = np.ndarray | jax.Array
# One value: an array without axes, or a number of NumPy.
Number = np.ndarray | np.generic | jax.Array


@contextlib.contextmanager
def x64() -> Iterator[None]:
    """Compute in float64 inside the `with` block; the caller's setting is untouched."""
    with jax.enable_x64(True):
        yield


def scope(*inputs: object) -> contextlib.AbstractContextManager[None]:
    """`x64()`, or nothing where an input is being traced.

    What is traced belongs to the caller's program: its derivative is taken outside of our block,
    in the caller's precision, and would not match.
    """
    traced = any(isinstance(leaf, jax.core.Tracer) for leaf in jtu.tree_leaves(inputs))
    return contextlib.nullcontext() if traced else x64()


def caller_float() -> np.dtype:
    """The default float of the caller: float64 where x64 is enabled, else float32."""
    return np.dtype(jnp.zeros(()).dtype)


def is_array(leaf: object) -> bool:
    """Whether a leaf is data: a NumPy or a JAX array."""
    return isinstance(leaf, (np.ndarray, np.generic, jax.Array))


def is_inexact(leaf: object) -> bool:
    """Whether a leaf is an array of floats (or complex numbers)."""
    return is_array(leaf) and jnp.issubdtype(leaf.dtype, jnp.inexact)  # type: ignore[attr-defined]


def to_float64(tree: Tree) -> Tree:
    """Copy `tree` with its float arrays as float64 JAX arrays, others as they are.

    Complex arrays become complex128. Call it inside `x64()`; outside it JAX would cut the leaves
    down again.
    """
    return jtu.tree_map(lambda leaf: _widened(leaf) if is_inexact(leaf) else leaf, tree)


def _widened(leaf: Any) -> Any:
    if isinstance(leaf, jax.core.Tracer):
        return jnp.asarray(leaf, wide(leaf))
    if isinstance(leaf, jax.Array) and leaf.dtype == wide(leaf):
        return leaf
    # Put there as it is: a conversion would compile a program for every shape.
    return jax.device_put(np.asarray(leaf, wide(leaf)))


def wide(array: Any) -> Any:
    """The type that an inexact array has in float64: complex128 for a complex one."""
    return np.complex128 if jnp.issubdtype(array.dtype, jnp.complexfloating) else np.float64
