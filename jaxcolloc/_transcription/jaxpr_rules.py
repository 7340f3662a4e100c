"""How single JAX operations carry dependence from their operands to their results.

The dependence of an array on `n` input elements is a packed bitset: a `uint8` array with one axis
more than the array, of length ceil(n / 8). A rule takes an equation's parameters and the bits of
its operands, and yields those of its result. What only moves elements is done by the same function
for bits and for values that are known, which have a last axis of length one.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np


Bits = np.ndarray
Shape = tuple[int, ...]

# Above so many bytes of work the zeros of a constant matrix are not looked at one by one.
_MOST_WORK = 10**9


class Value(NamedTuple):
    """What is known of an array: on which inputs its elements depend, and its value.

    `bits` is None where it depends on none, `known` where the value is not known.
    """

    bits: Bits | None = None
    known: np.ndarray | None = None


class Operation(NamedTuple):
    """One equation of a jaxpr: its operation's name and parameters, the shapes of the arrays."""

    name: str
    params: dict[str, Any]
    inputs: list[Shape]
    outputs: list[Shape]


# The stubs of some NumPy versions do not know its `reduce` for all arrays.
_OR: Any = np.bitwise_or


def union(bits: Bits, axes: Sequence[int]) -> Bits:
    """The union over some axes of the array."""
    found: Bits = _OR.reduce(bits, axis=tuple(axes))
    return found


def union_of_all(values: Sequence[Value]) -> Bits | None:
    """The union over all elements of all operands: right for any operation whatsoever."""
    parts = [union(v.bits, range(v.bits.ndim - 1)) for v in values if v.bits is not None]
    return _OR.reduce(np.stack(parts)) if parts else None


def join(first: Bits | None, second: Bits | None) -> Bits | None:
    """The union of two arrays' bits, element by element."""
    if first is None or second is None:
        return second if first is None else first
    return first | second


def _spread(bits: Bits, shape: Shape) -> Bits:
    return np.broadcast_to(bits, (*shape, bits.shape[-1]))


def _filled(value: Value, shape: Shape, like: Sequence[Value]) -> Bits:
    """The bits of an operand, zeros where it has none."""
    if value.bits is not None:
        return value.bits
    width = next(v.bits.shape[-1] for v in like if v.bits is not None)
    return np.zeros((*shape, width), np.uint8)


# Element by element. What is not here and depends on an input falls to `union_of_all`; in a
# derivative only linear operations carry a tangent.


def elementwise(operation: Operation, operands: list[Value]) -> list[Bits]:
    """The union of the operands, of which scalars are spread."""
    shape = operation.outputs[0]
    parts = [_spread(v.bits, shape) for v in operands if v.bits is not None]
    return [_OR.reduce(parts) if len(parts) > 1 else parts[0]]


def _mul(operation: Operation, operands: list[Value]) -> list[Bits]:
    shape = operation.outputs[0]
    result: Bits | None = None
    for value, other in (operands, operands[::-1]):
        if value.bits is None:
            continue
        bits = _spread(value.bits, shape)
        if other.known is not None and np.any(other.known == 0):
            bits = bits * np.broadcast_to(other.known != 0, shape)[..., None]
        result = join(result, bits)
    assert result is not None
    return [result]


def _select(operation: Operation, operands: list[Value]) -> list[Bits]:
    which, *cases = operands
    if which.known is None:
        return elementwise(operation, operands)
    shape = operation.outputs[0]
    stacked = np.stack([_spread(_filled(case, shape, cases), shape) for case in cases])
    chosen = np.broadcast_to(which.known.astype(int), shape)[None, ..., None]
    return [np.take_along_axis(stacked, chosen, axis=0)[0]]


def _each(operation: Operation, operands: list[Value]) -> list[Bits | None]:
    return [value.bits for value in operands]


# Elements that only move. The arrays have one axis behind those that the operation knows.


def _broadcast_in_dim(p: dict[str, Any], shape: Shape, x: np.ndarray) -> np.ndarray:
    inner = [1] * len(shape)
    for axis, size in zip(p["broadcast_dimensions"], x.shape[:-1], strict=True):
        inner[axis] = size
    return np.broadcast_to(x.reshape(*inner, x.shape[-1]), (*shape, x.shape[-1]))


def _reshape(p: dict[str, Any], shape: Shape, x: np.ndarray) -> np.ndarray:
    return x.reshape(*shape, x.shape[-1])


def _transpose(p: dict[str, Any], shape: Shape, x: np.ndarray) -> np.ndarray:
    return x.transpose(*p["permutation"], x.ndim - 1)


def _rev(p: dict[str, Any], shape: Shape, x: np.ndarray) -> np.ndarray:
    return np.flip(x, p["dimensions"])


def _slice(p: dict[str, Any], shape: Shape, x: np.ndarray) -> np.ndarray:
    steps = p["strides"] or (1,) * len(shape)
    limits = zip(p["start_indices"], p["limit_indices"], steps, strict=True)
    return x[tuple(slice(*limit) for limit in limits)]


def _concatenate(p: dict[str, Any], shape: Shape, *parts: np.ndarray) -> np.ndarray:
    return np.concatenate(parts, axis=p["dimension"])


def _stack(p: dict[str, Any], shape: Shape, *parts: np.ndarray) -> np.ndarray:
    return np.stack(parts, axis=p["axis"])


def _tile(p: dict[str, Any], shape: Shape, x: np.ndarray) -> np.ndarray:
    return np.tile(x, (*p["reps"], 1))


def _pad(p: dict[str, Any], shape: Shape, x: np.ndarray, value: np.ndarray) -> np.ndarray:
    result = np.array(np.broadcast_to(value, (*shape, x.shape[-1])))
    target, source = [], []
    for size, length, (low, _, inner) in zip(shape, x.shape, p["padding_config"], strict=False):
        position = low + (inner + 1) * np.arange(length)
        inside = (position >= 0) & (position < size)
        target.append(position[inside])
        source.append(np.flatnonzero(inside))
    if shape:
        result[np.ix_(*target)] = x[np.ix_(*source)]
    else:
        result[...] = x
    return result


Move = Callable[..., np.ndarray]

MOVES: dict[str, Move] = {
    "broadcast_in_dim": _broadcast_in_dim,
    "concatenate": _concatenate,
    "expand_dims": _reshape,
    "pad": _pad,
    "reshape": _reshape,
    "rev": _rev,
    "slice": _slice,
    "squeeze": _reshape,
    "stack": _stack,
    "tile": _tile,
    "transpose": _transpose,
}


def _moved(operation: Operation, operands: list[Value]) -> list[Bits]:
    parts = [
        _filled(v, shape, operands) for v, shape in zip(operands, operation.inputs, strict=True)
    ]
    return [MOVES[operation.name](operation.params, operation.outputs[0], *parts)]


def _split(operation: Operation, operands: list[Value]) -> list[Bits]:
    bits, axis = operands[0].bits, operation.params["axis"]
    assert bits is not None
    return np.split(bits, np.cumsum(operation.params["sizes"])[:-1], axis=axis)


def _unstack(operation: Operation, operands: list[Value]) -> list[Bits]:
    bits = operands[0].bits
    assert bits is not None
    return list(np.moveaxis(bits, operation.params["axis"], 0))


# Sums of many kinds.


def _reduce(operation: Operation, operands: list[Value]) -> list[Bits]:
    bits = operands[0].bits
    assert bits is not None
    return [union(bits, operation.params["axes"])]


def _cumulative(operation: Operation, operands: list[Value]) -> list[Bits]:
    bits, axis = operands[0].bits, operation.params["axis"]
    assert bits is not None
    if operation.params["reverse"]:
        return [np.flip(np.bitwise_or.accumulate(np.flip(bits, axis), axis=axis), axis)]
    return [np.bitwise_or.accumulate(bits, axis=axis)]


def _dot_general(operation: Operation, operands: list[Value]) -> list[Bits]:
    contract, batch = operation.params["dimension_numbers"]
    shape = operation.outputs[0]
    # As (batch, free, contracted), each axis flattened.
    orders, sizes = [], []
    for side in (0, 1):
        rank = range(len(operation.inputs[side]))
        free = [axis for axis in rank if axis not in (*contract[side], *batch[side])]
        groups = (batch[side], free, contract[side])
        orders.append([axis for group in groups for axis in group])
        sizes.append(
            [int(np.prod([operation.inputs[side][axis] for axis in group])) for group in groups]
        )
    result: Bits | None = None
    for side in (0, 1):
        bits, factor = operands[side].bits, operands[1 - side].known
        if bits is None:
            continue
        flat = bits.transpose(*orders[side], bits.ndim - 1).reshape(*sizes[side], -1)
        known = None
        if factor is not None and np.any(factor == 0):
            known = factor.transpose(orders[1 - side]).reshape(sizes[1 - side]) != 0
        part = _contracted(flat, known, sizes[1 - side][1])
        if side == 1:
            part = part.swapaxes(1, 2)
        result = join(result, part.reshape(*shape, -1))
    assert result is not None
    return [result]


def _contracted(bits: Bits, factor: np.ndarray | None, count: int) -> Bits:
    """Bits `(batch, free, contracted)` times another matrix's `count` columns.

    `factor` `(batch, count, contracted)` says which elements of the other are not zero.
    """
    batch, free, contracted, width = bits.shape
    if factor is None or batch * free * count * contracted * width > _MOST_WORK:
        return np.broadcast_to(union(bits, [2])[:, :, None], (batch, free, count, width))
    result = np.zeros((batch, free, count, width), np.uint8)
    for k in range(contracted):
        result |= bits[:, :, None, k] * factor[:, None, :, k, None]
    return result


def _conv(operation: Operation, operands: list[Value]) -> list[Bits]:
    p, shape = operation.params, operation.outputs[0]
    if p["feature_group_count"] != 1 or p["batch_group_count"] != 1:
        raise NotImplementedError
    lhs_spec, rhs_spec, out_spec = p["dimension_numbers"]
    out = [shape[axis] for axis in out_spec]
    result: Bits | None = None
    if operands[0].bits is not None:
        bits = union(operands[0].bits.transpose(*lhs_spec, len(lhs_spec)), [1])
        kernel = [operation.inputs[1][axis] for axis in rhs_spec[2:]]
        result = _windows(bits, kernel, out[2:], p)[:, None]
    if operands[1].bits is not None:
        bits = operands[1].bits.transpose(*rhs_spec, len(rhs_spec))
        per_feature = union(bits, range(1, bits.ndim - 1))
        result = join(result, per_feature.reshape(1, -1, *(1,) * (len(out) - 2), bits.shape[-1]))
    assert result is not None
    return [_spread(result, tuple(out)).transpose(*np.argsort(out_spec), len(out_spec))]


def _windows(bits: Bits, kernel: list[int], out: list[int], p: dict[str, Any]) -> Bits:
    """The union over the window of a convolution, along each axis behind the first."""
    for axis, (size, length) in enumerate(zip(kernel, out, strict=True)):
        low = p["padding"][axis][0]
        stride, dilation = p["window_strides"][axis], p["rhs_dilation"][axis]
        start = stride * np.arange(length)[:, None] + dilation * np.arange(size) - low
        source, between = np.divmod(start, p["lhs_dilation"][axis])
        inside = (between == 0) & (source >= 0) & (source < bits.shape[axis + 1])
        taken = np.take(bits, np.where(inside, source, 0), axis=axis + 1)
        mask = inside.reshape(*(1,) * (axis + 1), *inside.shape, *(1,) * (bits.ndim - axis - 2))
        bits = union(taken * mask, [axis + 2])
    return bits


Rule = Callable[[Operation, list[Value]], Sequence[Bits | None]]

RULES: dict[str, Rule] = {
    **dict.fromkeys(
        (
            "add", "add_any", "sub", "div", "neg", "copy", "copy_p", "real", "imag", "complex",
            "conj", "convert_element_type", "reduce_precision", "stop_gradient", "max", "min",
            "clamp",
        ),
        elementwise,
    ),
    **dict.fromkeys(
        ("reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "reduce_and", "reduce_or"),
        _reduce,
    ),
    **dict.fromkeys(("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp"), _cumulative),
    **dict.fromkeys(MOVES, _moved),
    "conv_general_dilated": _conv,
    "dot_general": _dot_general,
    "mul": _mul,
    "optimization_barrier": _each,
    "select_n": _select,
    "split": _split,
    "unstack": _unstack,
}  # fmt: skip
