"""A point function on the host: jitted for a fixed number of points, called chunk by chunk.

Nothing that is compiled here knows how many points there are: a model is compiled once, for
whatever grid and data. `HostBlocks` has the methods of `Blocks`, for NumPy and for the points that
it was made for. A squared loss of the states themselves needs no compilation at all.
"""

import functools
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Float, Int

from .._likelihoods import Gaussian
from .._precision import AnyArray, Number, is_array, x64
from .blocks import Blocks, Points
from .point_functions import PointLoss
from .sparse import Entries


# Points that are evaluated together, of which there are three numbers only: a single or a few, and
# those of short and of long series.
_FEW, _SOME, _MANY = 8, 128, 1024
# Points of one trajectory in a chunk that holds several.
_SHORT = 32


class Static:
    """Everything of a PyTree but its arrays, hashed once, as a static argument of `jit`."""

    def __init__(self, arrays: Any, rest: Any):
        self.rest = rest
        self.treedef = jtu.tree_structure(arrays)
        leaves, treedef = jtu.tree_flatten(rest)
        # With their types: 1, 1.0 and True are equal, and not the same to a model.
        self.key: tuple[Any, ...] = (
            self.treedef,
            treedef,
            tuple((type(leaf), leaf) for leaf in leaves),
        )
        try:
            self._hash = hash(self.key)
        except TypeError:
            # One of its own.
            self.key = (object(),)
            self._hash = hash(self.key)

    @classmethod
    def of(cls, arrays: Any, rest: Any) -> "Static":
        """The one that is known already, if it is equal: quicker to be told from others."""
        new = cls(arrays, rest)
        return _known.setdefault(new.key, new)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Static) and self.key == other.key)


_known: "weakref.WeakValueDictionary[tuple[Any, ...], Static]" = weakref.WeakValueDictionary()


# Which methods have been compiled for a solve, for chunks of which shape.
_compiled: "weakref.WeakKeyDictionary[Static, set[Any]]" = weakref.WeakKeyDictionary()


class _Chunk(NamedTuple):
    """Points that are evaluated together.

    `points`: their times, args and data on the device, and where their unknowns stand in the
    chunk's own head. `where`: which of all points they are. `real`: one for those that are no
    repetition. `rows`: the trajectories, `part` the points of each. `head`: where the chunk's head
    stands in the whole one; None for its front.
    """

    points: Points
    where: Int[np.ndarray, "traj point"]
    real: Float[np.ndarray, "traj point"]
    rows: slice
    part: slice
    head: Int[np.ndarray, " head"] | None


class _OnHost:
    """What terms ask of a point function beside its values."""

    def __init__(self, blocks: Blocks):
        self.num_outputs, self.num_states = blocks.num_outputs, blocks.num_states
        self.blocks, self.num_shared = blocks, blocks.num_shared
        self.jac_y, self.jac_w = blocks.jac_y, blocks.jac_w
        self.hess_yy, self.hess_wy, self.hess_ww = blocks.hess_yy, blocks.hess_wy, blocks.hess_ww

    def ww_structure(self, points: Points) -> list[tuple[np.ndarray, np.ndarray]]:
        return self.blocks.ww_structure(points)


class HostBlocks(_OnHost):
    """The blocks of a point function at given points, in NumPy; the methods are those of `Blocks`.

    What `Blocks` takes for points must be those that it was made for.
    """

    def __init__(self, blocks: Blocks, points: Points):
        super().__init__(blocks)
        self._shape = points.t.shape
        self._unknowns = np.asarray(points.unknowns)
        self._head_size = int(np.max(self._unknowns, initial=blocks.num_shared - 1)) + 1
        arrays, rest = eqx.partition(blocks, is_array)
        self._static = Static.of(arrays, rest)
        with x64(), jax.ensure_compile_time_eval():
            self._leaves = tuple(jax.device_put(jtu.tree_leaves(arrays)))
            self._chunks = list(_chunks(points, blocks.num_shared))

    def compilations(self, *names: str) -> list[Callable[[], Any]]:
        """What remains to be compiled of these methods, each as a function that does so.

        It evaluates the points of one chunk, for weights and states that are zero.
        """
        chunk, shape = self._chunks[0], self._chunks[0].where.shape
        done = _compiled.setdefault(self._static, set())
        head, y = np.zeros(self._head_size), np.zeros((*self._shape, self.num_states))
        more = {"gradient": np.ones(shape), "second": np.ones((*shape, self.num_outputs))}

        def compiling(name: str) -> None:
            with x64(), np.errstate(all="ignore"):
                self._run(name, chunk, head, y, *([more[name]] if name in more else []))
            done.add((name, shape))

        return [functools.partial(compiling, name) for name in names if (name, shape) not in done]

    def value(self, head: AnyArray, points: Points, y: AnyArray) -> AnyArray:
        out = np.empty((*self._shape, self.num_outputs))
        for chunk in self._chunks:
            self._put(out, chunk, self._run("value", chunk, head, y))
        return out

    def first(
        self, head: AnyArray, points: Points, y: AnyArray
    ) -> tuple[AnyArray, AnyArray, AnyArray]:
        sizes = self.num_outputs, len(self.jac_y.rows), len(self.jac_w.rows)
        out = tuple(np.empty((*self._shape, size)) for size in sizes)
        for chunk in self._chunks:
            for all_of_them, part in zip(out, self._run("first", chunk, head, y), strict=True):
                self._put(all_of_them, chunk, part)
        return out[0], out[1], out[2]

    def gradient(
        self, head: AnyArray, points: Points, y: AnyArray, weight: AnyArray
    ) -> tuple[Number, AnyArray, AnyArray]:
        total, in_head, in_y = np.zeros(()), np.zeros(len(head)), np.empty(y.shape)
        for chunk in self._chunks:
            own = _taken(weight, chunk) * chunk.real
            value, of_head, of_y = self._run("gradient", chunk, head, y, own)
            total = total + np.asarray(value)
            if chunk.head is None:
                in_head[: self.num_shared] += np.asarray(of_head)
            else:
                np.add.at(in_head, chunk.head, np.asarray(of_head))
            self._put(in_y, chunk, of_y)
        return total, in_head, in_y

    def second(
        self, head: AnyArray, points: Points, y: AnyArray, multipliers: AnyArray
    ) -> tuple[AnyArray, AnyArray, list[AnyArray]]:
        yy = np.empty((*self._shape, len(self.hess_yy.rows)))
        wy = np.empty((*self._shape, len(self.hess_wy.rows)))
        shared = self.hess_ww.rows < self.num_shared
        ww: list[AnyArray] = [
            np.zeros(int(shared.sum())),
            np.zeros((self._shape[0], int((~shared).sum()))),
        ]
        for chunk in self._chunks:
            own = _taken(multipliers, chunk) * chunk.real[..., None]
            of_yy, of_wy, of_ww = self._run("second", chunk, head, y, own)
            self._put(yy, chunk, of_yy)
            self._put(wy, chunk, of_wy)
            ww[0] += np.asarray(of_ww[0])
            if len(of_ww) > 1:
                ww[1][chunk.rows] += np.asarray(of_ww[1])[: chunk.rows.stop - chunk.rows.start]
        return yy, wy, ww if self._unknowns.shape[1] else ww[:1]

    def _run(self, name: str, chunk: _Chunk, head: AnyArray, y: AnyArray, *more: Any) -> Any:
        own = head[: self.num_shared] if chunk.head is None else head[chunk.head]
        return _piece(self._static, name, self._leaves, own, chunk.points, _taken(y, chunk), *more)

    @staticmethod
    def _put(out: np.ndarray, chunk: _Chunk, values: Array) -> None:
        """Write a chunk's results where its points stand."""
        rows, part = chunk.rows, chunk.part
        out[rows, part] = np.asarray(values)[: rows.stop - rows.start, : part.stop - part.start]


def _taken(values: AnyArray, chunk: _Chunk) -> AnyArray:
    """The chunk's entries of `values`, whose first axes are (traj, point)."""
    return values.reshape(-1, *values.shape[2:])[chunk.where]


def _chunks(points: Points, num_shared: int) -> Any:
    """All points in chunks; those that fill the last ones up repeat the last point."""
    count, length = points.t.shape
    rows, size = _chunk_shape(count, length)
    unknowns = np.asarray(points.unknowns)
    for first in range(0, count, rows):
        which = np.minimum(np.arange(first, first + rows), count - 1)
        args = jtu.tree_map(lambda leaf, which=which: leaf[which], points.args)
        head: Any = None
        local: Any = np.zeros((rows, 0), np.int32)
        if points.num_unknowns:
            head = np.concatenate([np.arange(num_shared), unknowns[which].ravel()])
            local = (num_shared + np.arange(unknowns[which].size)).reshape(rows, -1)
        args, local = jax.device_put((args, local))
        for begin in range(0, length, size):
            at = np.minimum(np.arange(begin, begin + size), length - 1)
            index = which[:, None] * length + at
            real = (np.arange(first, first + rows) < count)[:, None]
            real = real & (np.arange(begin, begin + size) < length)
            t, data = jtu.tree_map(
                lambda leaf, index=index: np.asarray(leaf).reshape(-1, *leaf.shape[2:])[index],
                (points.t, points.data),
            )
            yield _Chunk(
                Points(jax.device_put(t), args, local, jax.device_put(data)),
                index,
                real.astype(float),
                slice(first, min(first + rows, count)),
                slice(begin, min(begin + size, length)),
                head,
            )


def _chunk_shape(count: int, length: int) -> tuple[int, int]:
    """How many trajectories and points of each a chunk has, where there are so many."""
    total = count * length
    if total <= _FEW:
        return 1, _FEW
    size = _SOME if total <= _MANY else _MANY
    if count == 1:
        return 1, size
    if length <= 4 * _SHORT:
        return size // _SHORT, _SHORT
    return (size // _SOME, _SOME) if length <= 4 * _SOME else (1, size)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _piece(
    static: Static, name: str, leaves: tuple[Array, ...], head: Array, points: Points, *inputs: Any
) -> Any:
    """One of the methods of `Blocks` at the points of a chunk."""
    blocks = eqx.combine(jtu.tree_unflatten(static.treedef, leaves), static.rest)
    return getattr(blocks, name)(head, points, *inputs)


class SquaredError(_OnHost):
    r"""$\mathtt{factor} \sum_c \mathtt{weights}_c (y_c - \mathtt{ys}_c)^2$ in closed form.

    That of normal errors of known standard deviations as well, with its constant.
    """

    def __init__(self, blocks: Blocks, points: Points):
        super().__init__(blocks)
        self._num_unknowns = points.num_unknowns
        data = points.data
        self._ys, self._measured = np.asarray(data.ys), np.asarray(data.measured)
        self._factor = np.asarray(data.factor)[..., None] * np.asarray(data.weights)
        self._constant = np.zeros((*points.t.shape, 1))
        loss = blocks.function.loss  # type: ignore[attr-defined]
        if isinstance(loss, Gaussian):
            square = np.asarray(loss.std) ** 2 + loss.min_std**2
            logarithms = self._factor * (0.5 * np.log(2 * np.pi * square))
            self._constant = np.sum(logarithms * self._measured, axis=-1, keepdims=True)
            self._factor = self._factor / (2 * square)

    @staticmethod
    def fits(blocks: Blocks, points: Points) -> bool:
        """Whether the blocks' patterns are those of this loss."""
        channels = np.arange(points.data.ys.shape[-1])
        diagonal = blocks.hess_yy == Entries(channels, channels)
        return diagonal and len(blocks.hess_wy.rows) == len(blocks.hess_ww.rows) == 0

    def compilations(self, *names: str) -> list[Callable[[], Any]]:
        return []

    def _residual(self, y: AnyArray) -> np.ndarray:
        return np.where(self._measured, y[..., : self._ys.shape[-1]] - self._ys, 0.0)

    def value(self, head: AnyArray, points: Points, y: AnyArray) -> AnyArray:
        squares = np.sum(self._factor * self._residual(y) ** 2, axis=-1, keepdims=True)
        return self._constant + squares

    def gradient(
        self, head: AnyArray, points: Points, y: AnyArray, weight: AnyArray
    ) -> tuple[Number, AnyArray, AnyArray]:
        residual = self._residual(y)
        factor = weight[..., None] * self._factor
        in_y = np.zeros(y.shape)
        in_y[..., : residual.shape[-1]] = 2 * factor * residual
        constant = np.sum(weight[..., None] * self._constant)
        return constant + np.sum(factor * residual**2), np.zeros(len(head)), in_y

    def second(
        self, head: AnyArray, points: Points, y: AnyArray, multipliers: AnyArray
    ) -> tuple[AnyArray, AnyArray, list[AnyArray]]:
        yy = 2 * multipliers * self._factor * self._measured
        none = np.zeros((*y.shape[:2], 0))
        ww: list[Any] = [np.zeros(0)] + ([np.zeros((len(y), 0))] if self._num_unknowns else [])
        return yy, none, ww


def host_blocks(blocks: Blocks, points: Points) -> HostBlocks | SquaredError:
    """These blocks in NumPy: in closed form where they are those of a squared error."""
    function = blocks.function
    squared = isinstance(function, PointLoss) and function.squared
    if squared and SquaredError.fits(blocks, points):
        return SquaredError(blocks, points)
    return HostBlocks(blocks, points)
