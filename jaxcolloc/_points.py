"""Functions of points, compiled for chunks of a fixed number of points whatever their number."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float

from ._args import as_arrays, opened, sealed
from ._precision import AnyArray, to_float64, x64


_CHUNK = 256


class Field:
    """The field of a model with one trajectory's `args`, at many points at once, on the host."""

    def __init__(self, model: Any, args: Any):
        with x64():
            self.known = to_float64((model, sealed(as_arrays(args))))

    def value(
        self, times: Float[np.ndarray, " point"], states: Float[np.ndarray, "point state"]
    ) -> Float[np.ndarray, "point state"]:
        """The field at the points."""
        (value,) = in_chunks(lambda t, y: (_value(*self.known, t, y),), times, states)
        return value

    def first(
        self, times: Float[np.ndarray, " point"], states: Float[np.ndarray, "point state"]
    ) -> tuple[Float[np.ndarray, "point state"], Float[np.ndarray, "point state state"]]:
        """The field at the points and its derivative by the state."""
        value, jacobian = in_chunks(lambda t, y: _first(*self.known, t, y), times, states)
        return value, jacobian


def in_chunks(
    function: Callable[..., tuple[AnyArray, ...]], *arrays: np.ndarray
) -> tuple[np.ndarray, ...]:
    """`function(*arrays)` of arrays with an axis of points in front, called for a chunk at a time.

    The last chunk is filled with the last point.
    """
    length = len(arrays[0])
    results = []
    with x64():
        for first in range(0, length, _CHUNK):
            index = np.minimum(np.arange(first, first + _CHUNK), length - 1)
            found = function(*(item[index] for item in arrays))
            results.append([np.asarray(item)[: length - first] for item in found])
    return tuple(np.concatenate(parts) for parts in zip(*results, strict=True))


@eqx.filter_jit
def _value(model: Any, args: Any, times: AnyArray, states: AnyArray) -> Array:
    known = opened(args)
    return jax.vmap(lambda t, y: model(t, y, known))(times, states)


@eqx.filter_jit
def _first(model: Any, args: Any, times: AnyArray, states: AnyArray) -> tuple[Array, Array]:
    known = opened(args)

    def point(t: Any, y: Any) -> tuple[Array, Array]:
        def twice(y: Any) -> tuple[Array, Array]:
            value = model(t, y, known)
            return value, value

        jacobian, value = jax.jacfwd(twice, has_aux=True)(y)
        return value, jacobian

    return jax.vmap(point)(times, states)
