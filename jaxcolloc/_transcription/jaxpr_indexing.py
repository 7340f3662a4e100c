"""How gather, scatter and slices at computed positions carry dependence.

Where the positions are known constants the rules are exact. Otherwise an element may come from,
or go to, every place along the indexed axes.
"""

from collections.abc import Sequence

import numpy as np

from .jaxpr_rules import Bits, Operation, Rule, Shape, Value, join, union


def _anywhere(bits: Bits, axes: Sequence[int]) -> Bits:
    """Each element takes the union along some axes."""
    along = np.expand_dims(union(bits, axes), tuple(axes)) if len(axes) else bits
    return np.broadcast_to(along, bits.shape)


def _blank(shape: Shape, width: int) -> Bits:
    return np.zeros((*shape, width), np.uint8)


def positions(
    shape: Shape,
    sizes: Sequence[int],
    indices: np.ndarray,
    indexed: Sequence[int],
    batching: tuple[Sequence[int], Sequence[int]],
) -> tuple[np.ndarray, bool]:
    """The flat positions of windows, `(*batch, *sizes)`, and whether all lie inside.

    `indices` `(*batch, index)` holds where the windows start along the axes `indexed`. `batching`
    pairs axes of the array with axes of the batch that they run along with. Windows outside are
    moved inside.
    """
    batch, rank = indices.shape[:-1], len(shape)
    starts = np.zeros((*batch, rank), np.int64)
    starts[..., list(indexed)] = indices
    for axis, along in zip(*batching, strict=True):
        starts[..., axis] = np.moveaxis(
            np.broadcast_to(np.arange(shape[axis]), (*np.delete(batch, along), shape[axis])),
            -1,
            along,
        )
    most = np.subtract(shape, sizes)
    inside = bool(np.all((starts >= 0) & (starts <= most)))
    starts = np.clip(starts, 0, most)
    flat = np.zeros((*batch, *(1,) * rank), np.int64)
    for axis, size in enumerate(sizes):
        offset = np.arange(size).reshape(-1, *(1,) * (rank - axis - 1))
        start = starts[..., axis].reshape(*batch, *(1,) * rank)
        flat = flat + (start + offset) * int(np.prod(shape[axis + 1 :]))
    return flat, inside


def _gather(operation: Operation, operands: list[Value]) -> list[Bits]:
    p, bits = operation.params, operands[0].bits
    if bits is None or operands[1].bits is not None:
        raise NotImplementedError
    numbers = p["dimension_numbers"]
    indices = operands[1].known
    if indices is None:
        bits = _anywhere(bits, numbers.start_index_map)
        indices = np.zeros(operation.inputs[1], np.int64)
    batching = (numbers.operand_batching_dims, numbers.start_indices_batching_dims)
    flat, _ = positions(
        operation.inputs[0], p["slice_sizes"], indices, numbers.start_index_map, batching
    )
    dropped = (*numbers.collapsed_slice_dims, *numbers.operand_batching_dims)
    window = [size for axis, size in enumerate(p["slice_sizes"]) if axis not in dropped]
    batch = indices.shape[:-1]
    flat = flat.reshape((*batch, *window))
    flat = np.moveaxis(flat, range(len(batch), flat.ndim), numbers.offset_dims)
    return [bits.reshape(-1, bits.shape[-1])[flat]]


def _scatter(operation: Operation, operands: list[Value]) -> list[Bits]:
    operand, updates = operands[0].bits, operands[2].bits
    if operands[1].bits is not None:
        raise NotImplementedError
    numbers = operation.params["dimension_numbers"]
    indexed = numbers.scatter_dims_to_operand_dims
    known = operands[1].known
    indices = np.zeros(operation.inputs[1], np.int64) if known is None else known
    single = (*numbers.inserted_window_dims, *numbers.operand_batching_dims)
    window = iter([operation.inputs[2][axis] for axis in numbers.update_window_dims])
    sizes = [1 if axis in single else next(window) for axis in range(len(operation.inputs[0]))]
    batching = (numbers.operand_batching_dims, numbers.scatter_indices_batching_dims)
    flat, inside = positions(operation.inputs[0], sizes, indices, indexed, batching)
    target = flat.ravel()
    if operand is not None and operation.name == "scatter" and known is not None and inside:
        operand = operand.copy()
        operand.reshape(-1, operand.shape[-1])[target] = 0
    if updates is None:
        assert operand is not None
        return [operand]
    behind = range(
        len(operation.inputs[2]) - len(numbers.update_window_dims), len(operation.inputs[2])
    )
    moved = np.moveaxis(updates, numbers.update_window_dims, behind)
    width = updates.shape[-1]
    landed = _landed(moved.reshape(-1, width), target, int(np.prod(operation.inputs[0])))
    landed = landed.reshape(*operation.inputs[0], width)
    if known is None:
        landed = _anywhere(landed, indexed)
    result = join(operand, landed)
    assert result is not None
    return [result]


def _landed(updates: Bits, target: np.ndarray, size: int) -> Bits:
    """The union of the updates that go to each of `size` places."""
    result = _blank((size,), updates.shape[-1])
    if len(target):
        order = np.argsort(target, kind="stable")
        places, first = np.unique(target[order], return_index=True)
        result[places] = np.bitwise_or.reduceat(updates[order], first, axis=0)
    return result


def _starts(
    values: list[Value], shape: Shape, sizes: Sequence[int]
) -> tuple[tuple[slice, ...], list[int]]:
    """The slice along each axis, and the axes along which it may start anywhere."""
    slices, free = [], []
    for axis, (value, length, size) in enumerate(zip(values, shape, sizes, strict=True)):
        start = 0
        if value.bits is not None:
            raise NotImplementedError
        if value.known is not None:
            start = int(np.clip(value.known, 0, length - size))
        elif length != size:
            free.append(axis)
        slices.append(slice(start, start + size))
    return tuple(slices), free


def _dynamic_slice(operation: Operation, operands: list[Value]) -> list[Bits]:
    bits = operands[0].bits
    if bits is None:
        raise NotImplementedError
    where, free = _starts(operands[1:], operation.inputs[0], operation.params["slice_sizes"])
    return [_anywhere(bits, free)[where]]


def _dynamic_update_slice(operation: Operation, operands: list[Value]) -> list[Bits]:
    bits, update = operands[0].bits, operands[1].bits
    where, free = _starts(operands[2:], operation.inputs[0], operation.inputs[1])
    width = next(item.shape[-1] for item in (bits, update) if item is not None)
    result = _blank(operation.inputs[0], width) if bits is None else bits.copy()
    if update is None:
        update = _blank(operation.inputs[1], width)
    if not free:
        result[where] = update
        return [result]
    placed = _blank(operation.inputs[0], width)
    placed[where] = update
    return [result | _anywhere(placed, free)]


INDEXING_RULES: dict[str, Rule] = {
    "dynamic_slice": _dynamic_slice,
    "dynamic_update_slice": _dynamic_update_slice,
    "gather": _gather,
    **dict.fromkeys(
        ("scatter", "scatter-add", "scatter-sub", "scatter-mul", "scatter-min", "scatter-max"),
        _scatter,
    ),
}
