"""The optimum as a function that JAX transforms: values and derivatives come from the host.

A derivative is a linear map that JAX must be able to turn around, and to apply to many vectors at
a time. None of its ways to call the host can do both, so the map is a primitive of its own. (The
`implicit_diff` of jaxopt would ask for the optimality conditions as a program of the caller's, in
the caller's precision, and for a solver that knows their matrix by products only.)
"""

from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array


# What mypy has no types for.
_shape: Any = jax.ShapeDtypeStruct
_zeros: Any = ad


class Differentiable(Protocol):
    """What the host offers; arrays may have axes in front, of length one for what is the same."""

    @property
    def sizes(self) -> tuple[int, int]: ...
    def values(self, p: Any) -> tuple[Any, Any]: ...
    def forward(self, p: Any, dp: Any) -> tuple[Any, Any]: ...
    def backward(self, p: Any, z: Any, multipliers: Any) -> tuple[Any]: ...


def implicit(host: Differentiable) -> Callable[[Any], tuple[Array, Array]]:
    """Variables and multipliers as a function of the flat parameters."""

    def values(p: Any) -> tuple[Array, Array]:
        shapes = tuple(_shape((size,), p.dtype) for size in host.sizes)
        z, multipliers = jax.pure_callback(host.values, shapes, p, vmap_method="expand_dims")
        return z, multipliers

    call = jax.custom_jvp(values)

    @call.defjvp
    def rule(primals: Any, tangents: Any) -> Any:
        (p,), (dp,) = primals, tangents
        # By way of `call`, so that it is the derivative that says it has none.
        return call(p), tuple(_derivative.bind(p, dp, host=host, forward=True))

    return call


# Takes `(p, dp)` to changes of variables and multipliers, or `(p, z, multipliers)` to the cotangent
# of the parameters. All axes but the last are batches; those of `p` may have length one.
_derivative: Any = Primitive("derivative_of_optimum")
_derivative.multiple_results = True


def _shapes(p: Any, *vectors: Any, host: Differentiable, forward: bool) -> list[Any]:
    batch = vectors[0].shape[:-1]
    sizes = host.sizes if forward else (p.shape[-1],)
    return [_shape((*batch, size), p.dtype) for size in sizes]


def _abstract(p: Any, *vectors: Any, **way: Any) -> list[Any]:
    return [jax.core.ShapedArray(item.shape, item.dtype) for item in _shapes(p, *vectors, **way)]


def _evaluate(p: Any, *vectors: Any, host: Differentiable, forward: bool) -> list[Any]:
    found = (host.forward if forward else host.backward)(p, *vectors)
    return [jax.device_put(item) for item in found]


def _called(p: Any, *vectors: Any, host: Differentiable, forward: bool) -> list[Any]:
    """The same within a compiled program."""
    shapes = _shapes(p, *vectors, host=host, forward=forward)
    function = host.forward if forward else host.backward
    return list(jax.pure_callback(function, tuple(shapes), p, *vectors))


def _batched(inputs: Any, axes: Any, **way: Any) -> tuple[list[Any], list[int]]:
    size = next(x.shape[axis] for x, axis in zip(inputs, axes, strict=True) if axis is not None)
    p, *vectors = (
        x[None] if axis is None else jnp.moveaxis(x, axis, 0)
        for x, axis in zip(inputs, axes, strict=True)
    )
    vectors = [jnp.broadcast_to(x, (size, *x.shape[1:])) for x in vectors]
    found = _derivative.bind(p, *vectors, **way)
    return found, [0] * len(found)


def _jvp(primals: Any, tangents: Any, **way: Any) -> tuple[list[Any], list[Any]]:
    if type(tangents[0]) is not ad.Zero:
        raise NotImplementedError(
            "The optimum of an NLP can be differentiated once only: its second derivatives would "
            "need third ones of the model."
        )
    found = _derivative.bind(*primals, **way)
    along = [_zeros.instantiate_zeros(item) for item in tangents[1:]]
    return found, _derivative.bind(primals[0], *along, **way)


def _transposed(cotangents: Any, p: Any, *vectors: Any, host: Any, forward: bool) -> list[Any]:
    given = [_zeros.instantiate_zeros(item) for item in cotangents]
    return [None, *_derivative.bind(p, *given, host=host, forward=not forward)]


_derivative.def_abstract_eval(_abstract)
_derivative.def_impl(_evaluate)
ad.primitive_jvps[_derivative] = _jvp
ad.primitive_transposes[_derivative] = _transposed
batching.primitive_batchers[_derivative] = _batched
mlir.register_lowering(_derivative, mlir.lower_fun(_called, multiple_results=True))
