"""Functions of points, compiled for chunks of a fixed number of points whatever their number."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Float

from ._args import as_arrays, opened, sealed
from ._inputs import Input
from ._precision import AnyArray, to_float64, x64


_CHUNK = 256
# Inputs have at least so many samples, or four times as many, and so on.
_SAMPLES = 256


def known(model: Any, args: Any) -> tuple[Any, Any]:
    """A model and one trajectory's `args` as compiled functions take them: wide, `args` sealed.

    Inputs get lengths of few different numbers, each of which is compiled for.
    """

    def roomy(leaf: Any) -> Any:
        if not isinstance(leaf, Input):
            return leaf
        times = max(len(leaf.ts) / _SAMPLES, 1.0)
        return leaf.padded(_SAMPLES * 4 ** int(np.ceil(np.log(times) / np.log(4.0))))

    model, args = jtu.tree_map(roomy, (model, args), is_leaf=lambda leaf: isinstance(leaf, Input))
    with x64():
        return to_float64((model, sealed(as_arrays(args))))


class Field:
    """The field of a model with one trajectory's `args`, at many points at once, on the host.

    It is compiled for `chunk` points: few, where it is asked for few at a time.
    """

    def __init__(self, model: Any, args: Any, chunk: int = _CHUNK):
        self.known = known(model, args)
        self.chunk = chunk

    def value(
        self, times: Float[np.ndarray, " point"], states: Float[np.ndarray, "point state"]
    ) -> Float[np.ndarray, "point state"]:
        """The field at the points."""
        (value,) = in_chunks(
            lambda t, y: (_value(*self.known, t, y),), times, states, chunk=self.chunk
        )
        return value

    def first(
        self, times: Float[np.ndarray, " point"], states: Float[np.ndarray, "point state"]
    ) -> tuple[Float[np.ndarray, "point state"], Float[np.ndarray, "point state state"]]:
        """The field at the points and its derivative by the state."""
        value, jacobian = in_chunks(
            lambda t, y: _first(*self.known, t, y), times, states, chunk=self.chunk
        )
        return value, jacobian


def in_chunks(
    function: Callable[..., tuple[AnyArray, ...]], *arrays: np.ndarray, chunk: int = _CHUNK
) -> tuple[np.ndarray, ...]:
    """`function(*arrays)` of arrays with an axis of points in front, called for a chunk at a time.

    The last chunk is filled with the last point.
    """
    length = len(arrays[0])
    results = []
    with x64():
        for first in range(0, length, chunk):
            index = np.minimum(np.arange(first, first + chunk), length - 1)
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
