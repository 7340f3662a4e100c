"""JAX's operations on whole arrays as CasADi expressions.

A rule takes the operation and its operands, and yields its results. What only moves elements is
done to their positions, by the functions that move bits and known values elsewhere.
"""

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import casadi as ca
import numpy as np

from .._transcription.jaxpr_indexing import positions
from .._transcription.jaxpr_rules import MOVES
from .arrays import Array, Shape, Unsupported, column, full, matrix, of_numbers, taken
from .elementwise import FLOATS, INTEGERS, TRUTHS, converted, elementwise, selected, where


# A position that is known only later is looked for among at most so many.
_MOST_PLACES = 20_000


class Operation(NamedTuple):
    """One equation of a jaxpr: name, parameters, types of the operands, shapes of the results."""

    name: str
    params: dict[str, Any]
    types: list[np.dtype]
    outputs: list[Shape]


Rule = Callable[..., Sequence[Array]]


def _elementwise(operation: Operation, *operands: Array) -> list[Array]:
    shape = operation.outputs[0]
    kind = operation.types[0].kind
    columns = [_column(operand, shape) for operand in operands]
    result = Array(elementwise(operation.name, operation.params, kind, columns), shape)
    if kind in "iu":
        _refuse_overflow(result, operation.types[0])
    return [result]


def _column(operand: Array, shape: Shape) -> Any:
    # CasADi spreads scalars itself.
    return operand.flat if operand.shape == () else operand.spread(shape).flat


def _refuse_overflow(result: Array, dtype: np.dtype) -> None:
    values, limits = result.known(), np.iinfo(dtype)
    if values is not None and np.any((values < limits.min) | (values > limits.max)):
        raise Unsupported(f"the result does not fit in {dtype}")


def _convert(operation: Operation, operand: Array) -> list[Array]:
    after = np.dtype(operation.params["new_dtype"])
    return [Array(converted(operand.flat, operation.types[0], after), operand.shape)]


def _select(operation: Operation, which: Array, *cases: Array) -> list[Array]:
    shape = operation.outputs[0]
    columns = [case.spread(shape).flat for case in cases]
    known = which.spread(shape).known()
    if known is None:
        return [Array(selected(which.spread(shape).flat, columns), shape)]
    size = int(np.prod(shape))
    chosen = known.ravel().astype(int) * size + np.arange(size)
    return [Array(taken(ca.vertcat(*columns), chosen), shape)]


def _iota(operation: Operation) -> list[Array]:
    shape, axis = operation.outputs[0], operation.params["dimension"]
    along = [-1 if k == axis else 1 for k in range(len(shape))]
    return [of_numbers(np.broadcast_to(np.arange(shape[axis]).reshape(along), shape))]


def _moved(operation: Operation, *operands: Array) -> list[Array]:
    elements, where_they_are = column(operands)
    move = MOVES[operation.name]
    moved = move(operation.params, operation.outputs[0], *(p[..., None] for p in where_they_are))
    return [Array(elements, ()).take(moved[..., 0])]


def _split(operation: Operation, operand: Array) -> list[Array]:
    cuts, axis = np.cumsum(operation.params["sizes"])[:-1], operation.params["axis"]
    return [operand.take(part) for part in np.split(operand.positions(), cuts, axis=axis)]


def _unstack(operation: Operation, operand: Array) -> list[Array]:
    parts = np.moveaxis(operand.positions(), operation.params["axis"], 0)
    return [operand.take(part) for part in parts]


# Sums of many kinds.

_BINARY = {
    "sum": FLOATS["add"],
    "prod": FLOATS["mul"],
    "max": FLOATS["max"],
    "min": FLOATS["min"],
    "and": TRUTHS["and"],
    "or": TRUTHS["or"],
}


def _reduce(operation: Operation, operand: Array) -> list[Array]:
    name, shape, axes = operation.name[7:], operation.outputs[0], operation.params["axes"]
    if name in TRUTHS and operation.types[0].kind != "b":
        raise Unsupported("single bits have no counterpart")
    front = np.moveaxis(operand.positions(), axes, range(len(axes)))
    front = front.reshape(-1, int(np.prod(shape)))
    if not len(front):
        if name not in ("sum", "prod"):
            raise Unsupported("it has no elements")
        return [full(float(name == "prod"), shape)]
    parts = [taken(operand.flat, each) for each in front]
    return [Array(functools.reduce(_BINARY[name], parts), shape)]


def _cumulative(operation: Operation, operand: Array) -> list[Array]:
    binary, axis = _BINARY[operation.name[3:]], operation.params["axis"]
    rows = np.moveaxis(operand.positions(), axis, 0)
    if operation.params["reverse"]:
        rows = rows[::-1]
    parts = list(itertools.accumulate((taken(operand.flat, row) for row in rows), binary))
    if operation.params["reverse"]:
        parts = parts[::-1]
    behind = np.moveaxis(np.arange(rows.size).reshape(rows.shape), 0, axis)
    return [Array(ca.vertcat(*parts), ()).take(behind)]


def _position_of_best(operation: Operation, operand: Array) -> list[Array]:
    """The first place of the largest, or smallest, along one axis."""
    [axis] = operation.params["axes"]
    rows = np.moveaxis(operand.positions(), axis, 0)
    best, place = taken(operand.flat, rows[0]), full(0.0, operation.outputs[0]).flat
    for k, row in enumerate(rows[1:], 1):
        other = taken(operand.flat, row)
        better = other > best if operation.name == "argmax" else other < best
        best, place = where(better, other, best), where(better, k, place)
    return [Array(place, operation.outputs[0])]


def _dot_general(operation: Operation, one: Array, other: Array) -> list[Array]:
    contract, batch = operation.params["dimension_numbers"]
    flat = []
    # As (batch, free, contracted), each axis flattened.
    for side, operand in enumerate((one, other)):
        rank = range(len(operand.shape))
        free = [axis for axis in rank if axis not in (*contract[side], *batch[side])]
        groups = (batch[side], free, contract[side])
        order = [axis for group in groups for axis in group]
        sizes = [int(np.prod([operand.shape[axis] for axis in group])) for group in groups]
        flat.append(operand.positions().transpose(order).reshape(sizes))
    if not flat[0].size or not flat[1].size:
        return [full(0.0, operation.outputs[0])]
    products = [
        ca.vec(ca.mtimes(matrix(other.flat, right), matrix(one.flat, left).T))
        for left, right in zip(*flat, strict=True)
    ]
    return [Array(ca.densify(ca.vertcat(*products)), operation.outputs[0])]


# Elements at positions.


def _gather(operation: Operation, operand: Array, indices: Array) -> list[Array]:
    p = operation.params
    numbers, sizes = p["dimension_numbers"], p["slice_sizes"]
    batching = (numbers.operand_batching_dims, numbers.start_indices_batching_dims)
    dropped = (*numbers.collapsed_slice_dims, *numbers.operand_batching_dims)
    window = [size for axis, size in enumerate(sizes) if axis not in dropped]
    batch = indices.shape[:-1]

    def in_place(windows: np.ndarray) -> np.ndarray:
        """`(*batch, *window)` as the result has it."""
        windows = windows.reshape((*batch, *window))
        return np.moveaxis(windows, range(len(batch), windows.ndim), numbers.offset_dims)

    def picked(where_to: np.ndarray) -> tuple[Array, bool]:
        flat, inside = positions(operand.shape, sizes, where_to, numbers.start_index_map, batching)
        return operand.take(in_place(flat)), inside

    mode = str(p["mode"]).upper()
    known = indices.known()
    if known is not None:
        result, inside = picked(known.astype(int))
        if not inside and "CLIP" not in mode:
            raise Unsupported("an index lies outside of the array")
        return [result]
    most = [operand.shape[axis] - sizes[axis] for axis in numbers.start_index_map]
    depth = len(most)
    columns = []
    for k in range(depth):
        each = indices.positions()[..., k].reshape(*batch, *(1,) * len(window))
        each = np.broadcast_to(each, (*batch, *window))
        columns.append(taken(indices.flat, in_place(each)))
    places = (
        (place, picked(np.broadcast_to(np.array(place, int), indices.shape))[0].flat)
        for place in _places(most)
    )
    return [Array(_looked_up(columns, most, places, "FILL" in mode), operation.outputs[0])]


def _places(most: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """All starts of a window from zeros to `most`."""
    if np.prod([limit + 1 for limit in most]) > _MOST_PLACES:
        raise Unsupported("the index depends on symbols, and there are too many places to look")
    return itertools.product(*(range(limit + 1) for limit in most))


def _looked_up(columns: list[Any], most: Sequence[int], places: Any, fills: bool) -> Any:
    """What stands at positions that depend on symbols: that of all places whose number they are.

    Outside it is NaN if `fills`, else the nearest place.
    """
    inside = [FLOATS["clamp"](0, item, limit) for item, limit in zip(columns, most, strict=True)]
    result = 0
    for place, values in places:
        here = functools.reduce(
            ca.logic_and, (ca.eq(item, k) for item, k in zip(inside, place, strict=True))
        )
        result = result + ca.if_else(here, values, 0)
    if fills:
        for item, limit in zip(columns, most, strict=True):
            outside = ca.logic_or(item < 0, item > limit)
            result = where(outside, np.nan, result)
    return ca.densify(result)


def _dynamic_slice(operation: Operation, operand: Array, *starts: Array) -> list[Array]:
    sizes, shape = operation.params["slice_sizes"], operation.outputs[0]
    most = [length - size for length, size in zip(operand.shape, sizes, strict=True)]

    def window(place: Sequence[int]) -> Array:
        where_to = tuple(slice(k, k + size) for k, size in zip(place, sizes, strict=True))
        return operand.take(operand.positions()[where_to])

    known = [start.known() for start in starts]
    fixed = [
        0 if limit == 0 else None if value is None else int(np.clip(value, 0, limit))
        for value, limit in zip(known, most, strict=True)
    ]
    free = [axis for axis, value in enumerate(fixed) if value is None]
    if not free:
        return [window([value or 0 for value in fixed])]

    def place(found: Sequence[int]) -> list[int]:
        full_place = [value or 0 for value in fixed]
        for axis, value in zip(free, found, strict=True):
            full_place[axis] = value
        return full_place

    limits = [most[axis] for axis in free]
    places = ((found, window(place(found)).flat) for found in _places(limits))
    columns = [starts[axis].flat for axis in free]
    return [Array(_looked_up(columns, limits, places, False), shape)]


def _dynamic_update_slice(
    operation: Operation, operand: Array, update: Array, *starts: Array
) -> list[Array]:
    known = [start.known() for start in starts]
    place = []
    for value, length, size in zip(known, operand.shape, update.shape, strict=True):
        if value is None:
            raise Unsupported("the index of what is written depends on symbols")
        place.append(slice(first := int(np.clip(value, 0, length - size)), first + size))
    elements, (old, new) = column([operand, update])
    old[tuple(place)] = new
    return [Array(elements, ()).take(old)]


_SCATTERED: dict[str, Callable[[Any, Any], Any]] = {
    "scatter": lambda old, new: new,
    "scatter-add": FLOATS["add"],
    "scatter-max": FLOATS["max"],
    "scatter-min": FLOATS["min"],
    "scatter-mul": FLOATS["mul"],
    "scatter-sub": FLOATS["sub"],
}


def _scatter(operation: Operation, operand: Array, indices: Array, updates: Array) -> list[Array]:
    numbers = operation.params["dimension_numbers"]
    known = indices.known()
    if known is None:
        raise Unsupported("the index of what is written depends on symbols")
    single = (*numbers.inserted_window_dims, *numbers.operand_batching_dims)
    window = iter([updates.shape[axis] for axis in numbers.update_window_dims])
    sizes = [1 if axis in single else next(window) for axis in range(len(operand.shape))]
    batching = (numbers.operand_batching_dims, numbers.scatter_indices_batching_dims)
    indexed = numbers.scatter_dims_to_operand_dims
    target, inside = positions(operand.shape, sizes, known.astype(int), indexed, batching)
    if not inside:
        raise Unsupported("an index lies outside of the array")
    rank = len(updates.shape)
    behind = range(rank - len(numbers.update_window_dims), rank)
    order = np.moveaxis(updates.positions(), numbers.update_window_dims, behind)
    combine, result = _SCATTERED[operation.name], ca.SX(operand.flat)
    for place, source in zip(target.ravel().tolist(), order.ravel().tolist(), strict=True):
        result[place] = combine(result[place], updates.flat[source])
    return [Array(result, operand.shape)]


RULES: dict[str, Rule] = {
    **dict.fromkeys((*FLOATS, *INTEGERS, *TRUTHS, "integer_pow", "round"), _elementwise),
    **dict.fromkeys(MOVES, _moved),
    **dict.fromkeys([f"reduce_{name}" for name in _BINARY], _reduce),
    **dict.fromkeys(("cumsum", "cumprod", "cummax", "cummin"), _cumulative),
    **dict.fromkeys(_SCATTERED, _scatter),
    **dict.fromkeys(("argmax", "argmin"), _position_of_best),
    "convert_element_type": _convert,
    "dot_general": _dot_general,
    "dynamic_slice": _dynamic_slice,
    "dynamic_update_slice": _dynamic_update_slice,
    "gather": _gather,
    "iota": _iota,
    "optimization_barrier": lambda operation, *operands: operands,
    "reduce_precision": lambda operation, operand: [operand],
    "select_n": _select,
    "split": _split,
    "unstack": _unstack,
}
