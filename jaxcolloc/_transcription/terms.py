"""The terms of the NLP: equations and constraints at nodes, continuity, what is minimised.

Each term knows which entries of the Jacobian and of the Lagrangian's Hessian it touches
(`*_structure`, NumPy, once) and yields their values, as a list of contributions in the same order:
in NumPy where it is given NumPy and its blocks are those of `pieces.py`, else in JAX. Terms hold
several trajectories of the same shape; padding of shorter ones is marked by negative row numbers.
`head` is the front of `z`: weights and unknowns.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Float, Int

from .._arrays import driver, module
from .._plain import plain
from .._precision import AnyArray, Number
from .blocks import PointBlocks, Points
from .layout import Layout


Structure = list[tuple[np.ndarray, np.ndarray]]
States = Float[AnyArray, "node state"]
# What makes of blocks and their points something with the same methods.
OfBlocks = Callable[[Any, Points], Any]
# The front of `z`.
Head = Float[AnyArray, " head"]

_FEW_NODES = 24


@plain
class Pointwise:
    """A point function at nodes, of which each output is (part of) a constraint.

    `rows[k, i]` is the first constraint of point `i` of trajectory `k`, negative where there is
    none.
    """

    blocks: PointBlocks
    points: Points
    nodes: Int[AnyArray, "traj point"]
    rows: Int[AnyArray, "traj point"]

    def with_blocks(self, of: OfBlocks) -> "Pointwise":
        """The same term with what `of` makes of its blocks."""
        return dataclasses.replace(self, blocks=of(self.blocks, self.points))

    @property
    def positions(self) -> list[AnyArray]:
        """The arrays that tell where the derivatives stand."""
        return [self.nodes, self.rows, self.points.unknowns]

    @property
    def equations(self) -> np.ndarray:
        """The row of each output, in the order of `values`."""
        return _with_offsets(self.rows[..., None], np.arange(self.blocks.num_outputs))

    def jacobian_structure(self, layout: Layout) -> Structure:
        """Rows and columns of the blocks $F_y$ and $F_w$."""
        rows, at = self.rows[..., None], layout.columns(self.nodes)[..., None]
        f_y, f_w = self.blocks.jac_y, self.blocks.jac_w
        weights = self.points.positions(f_w.columns, self.blocks.num_shared)[:, None]
        return [
            _both(_with_offsets(rows, f_y.rows), at + f_y.columns),
            _both(_with_offsets(rows, f_w.rows), weights),
        ]

    def hessian_structure(self, layout: Layout) -> Structure:
        """Rows and columns of $\\lambda F$: state-state, state-weight, weight-weight."""
        at = layout.columns(self.nodes)[..., None]
        real = self.rows[..., None] >= 0
        yy, wy = self.blocks.hess_yy, self.blocks.hess_wy
        lower = real & (yy.rows >= yy.columns)
        weights = self.points.positions(wy.rows, self.blocks.num_shared)[:, None]
        return [
            _both(np.where(lower, at + yy.rows, -1), at + yy.columns),
            _both(np.where(real, at + wy.columns, -1), weights),
            *self.blocks.ww_structure(self.points),
        ]

    def values(self, head: Head, states: States) -> Float[AnyArray, "traj point output"]:
        """The function's values."""
        return self.blocks.value(head, self.points, states[self.nodes])

    def first_order(self, head: Head, states: States) -> tuple[AnyArray, list[AnyArray]]:
        """The values and those of the Jacobian's contributions."""
        value, f_y, f_w = self.blocks.first(head, self.points, states[self.nodes])
        return value, [f_y, f_w]

    def second_order(self, head: Head, states: States, multipliers: AnyArray) -> list[AnyArray]:
        """The values of the Hessian's contributions."""
        rows = self.rows[..., None] + np.arange(self.blocks.num_outputs)
        inside = module(states).where(self.rows[..., None] >= 0, multipliers[rows], 0.0)
        yy, wy, ww = self.blocks.second(head, self.points, states[self.nodes], inside)
        return [yy, wy, *ww]


@plain
class Defects:
    r"""Equations $\frac{1}{h_e} \sum_j D_{ij} y_{ej} - f(t_{ei}, y_{ei}, args_k; w) = 0$.

    `field` holds $f$ at the collocated nodes of all intervals, one interval after another. The last
    `num_algebraic` of a node's variables have no derivative on the left; what outputs of `field`
    are more than the others are algebraic equations.
    """

    field: Pointwise
    nodes: Int[AnyArray, "traj interval node"]
    widths: Float[AnyArray, "traj interval"]
    matrix: Float[AnyArray, "collocation node"]
    num_algebraic: int = eqx.field(static=True, default=0)

    def with_blocks(self, of: OfBlocks) -> "Defects":
        """The same term with what `of` makes of its blocks."""
        return dataclasses.replace(self, field=self.field.with_blocks(of))

    @property
    def positions(self) -> list[AnyArray]:
        """The arrays that tell where the derivatives stand."""
        return [self.nodes, *self.field.positions]

    @property
    def equations(self) -> np.ndarray:
        """The row of each equation, in the order of `values`."""
        return self.field.equations

    def jacobian_structure(self, layout: Layout) -> Structure:
        """Rows and columns of the derivative matrix, the blocks $-f_y$ and the blocks $-f_w$."""
        state = np.arange(layout.num_differential)
        rows = np.asarray(self.field.rows).reshape(*self.widths.shape, -1)
        linear_rows = _with_offsets(rows[:, :, :, None, None], state)
        linear_columns = layout.columns(self.nodes)[:, :, None, :, None] + state
        return [_both(linear_rows, linear_columns), *self.field.jacobian_structure(layout)]

    def hessian_structure(self, layout: Layout) -> Structure:
        """Rows and columns of $-\\lambda f$."""
        return self.field.hessian_structure(layout)

    def values(self, head: Head, states: States) -> AnyArray:
        """The defects."""
        left = self._linear(states)
        return left - self.field.values(head, states).reshape(left.shape)

    def first_order(self, head: Head, states: States) -> tuple[AnyArray, list[AnyArray]]:
        """The defects and the values of the Jacobian's contributions."""
        left = self._linear(states)
        f, (f_y, f_w) = self.field.first_order(head, states)
        return left - f.reshape(left.shape), [self._constant(states.shape[1]), -f_y, -f_w]

    def second_order(self, head: Head, states: States, multipliers: AnyArray) -> list[AnyArray]:
        """The values of the Hessian's contributions."""
        return self.field.second_order(head, states, -multipliers)

    def _linear(self, states: States) -> Float[AnyArray, "traj interval collocation output"]:
        """The left sides: the interpolant's derivative, zero for algebraic equations."""
        differential = states.shape[1] - self.num_algebraic
        slope = _contract(self.matrix, states[:, :differential][self.nodes])
        slope = slope / self.widths[:, :, None, None]
        more = self.field.blocks.num_outputs - differential
        return slope if more == 0 else module(slope).pad(slope, [(0, 0)] * 3 + [(0, more)])

    def _constant(self, num_states: int) -> AnyArray:
        """The constant entries of the Jacobian, in the order of their structure."""
        num_states -= self.num_algebraic
        matrix = self.matrix / self.widths[:, :, None, None]
        return module(matrix).broadcast_to(matrix[..., None], (*matrix.shape, num_states))


@plain
class Continuity:
    r"""Equations $y_{end} - \sum_j c_j y_j = s$ that tie one node to an interpolant elsewhere.

    The interpolant is that of an interval whose scheme lacks its end, or the last node of
    another trajectory; at a jump it is a node, to which the amounts $s$ are added. They are those
    of the first `num_states` of a node's variables.
    """

    nodes: Int[AnyArray, "interval node"]
    ends: Int[AnyArray, " interval"]
    extrapolation: Float[AnyArray, " node"]
    rows: Int[AnyArray, " interval"]
    num_states: int = eqx.field(static=True)
    shift: Float[AnyArray, "interval state"] | float = 0.0

    def with_blocks(self, of: OfBlocks) -> "Continuity":
        """The same term: it has none."""
        return self

    @property
    def positions(self) -> list[AnyArray]:
        """The arrays that tell where the derivatives stand."""
        return [self.nodes, self.ends, self.rows]

    @property
    def equations(self) -> np.ndarray:
        """The row of each equation, in the order of `values`."""
        return np.asarray(self.rows)[:, None] + np.arange(self.num_states)

    def jacobian_structure(self, layout: Layout) -> Structure:
        """Rows and columns: the interval's nodes, then its end."""
        state = np.arange(self.num_states)
        rows = _with_offsets(self.rows[:, None, None], state)
        inside = layout.columns(self.nodes)[:, :, None] + state
        return [
            _both(rows, inside),
            _both(self.rows[:, None] + state, layout.columns(self.ends)[:, None] + state),
        ]

    def values(self, head: Head, states: States) -> AnyArray:
        """The gaps."""
        states = states[:, : self.num_states]
        extrapolated = _contract(self.extrapolation[None], states[self.nodes])
        return states[self.ends] - extrapolated[:, 0] - self.shift

    def first_order(self, head: Head, states: States) -> tuple[AnyArray, list[AnyArray]]:
        """The gaps and the values of the Jacobian's contributions."""
        shape = (*self.nodes.shape, self.num_states)
        xp = module(states)
        inside = xp.broadcast_to(-self.extrapolation[:, None], shape)
        gaps = self.values(head, states)
        return gaps, [inside, xp.ones((len(self.ends), self.num_states))]

    def hessian_structure(self, layout: Layout) -> Structure:
        """None: the equations are linear."""
        return []

    def second_order(self, head: Head, states: States, multipliers: AnyArray) -> list[AnyArray]:
        """None: the equations are linear."""
        return []


Equations = Defects | Continuity | Pointwise


@plain
class Penalty:
    r"""$\sum_i \phi(w, x_i)$ with $x_i$ linear in node states: losses of data, residuals (Eq. 11).

    Points come in slots, each of which shares the nodes it interpolates from: an observation
    that falls on a node has that node only. The point's state has one part per row of `basis`,
    $x_{ip} = \sum_j B_{ipj} y_j$: the value, or the value and the slope.
    """

    blocks: PointBlocks
    gauss_newton: PointBlocks
    points: Points
    nodes: Int[AnyArray, "traj slot node"]
    basis: Float[AnyArray, "traj slot sample part node"]

    def with_blocks(self, of: OfBlocks) -> "Penalty":
        """The same term with what `of` makes of its blocks."""
        blocks = of(self.blocks, self.points)
        curved = self.gauss_newton is not self.blocks
        other = of(self.gauss_newton, self.points) if curved else blocks
        return dataclasses.replace(self, blocks=blocks, gauss_newton=other)

    @property
    def positions(self) -> list[AnyArray]:
        """The arrays that tell where the derivatives stand."""
        return [self.nodes, self._used, self.points.unknowns]

    @property
    def _used(self) -> np.ndarray:
        """Which nodes of a slot any of its points depends on."""
        return np.asarray(np.abs(np.asarray(self.basis)).max(axis=(2, 3)) > 0)

    def hessian_structure(self, layout: Layout, gauss_newton: bool) -> Structure:
        """Rows and columns: states of every pair of nodes in a slot, state-weight, weights."""
        blocks = self._blocks(gauss_newton)
        d = layout.num_states
        yy, wy = blocks.hess_yy, blocks.hess_wy
        at = layout.columns(self.nodes)
        rows = at[:, :, :, None, None] + yy.rows % d
        columns = at[:, :, None, :, None] + yy.columns % d
        rows, columns = np.broadcast_arrays(rows, columns)
        used = self._used
        pair = used[:, :, :, None] & used[:, :, None, :]
        keep = pair[..., None] & (rows >= columns)
        weights = self.points.positions(wy.rows, blocks.num_shared)[:, None, None]
        mixed = np.where(used[..., None], at[..., None] + wy.columns % d, -1)
        return [
            (np.where(keep, rows, -1), columns),
            _both(mixed, weights),
            *blocks.ww_structure(self.points),
        ]

    def value(self, head: Head, states: States) -> Number:
        """The sum over all points."""
        return self.blocks.value(head, self.points, self._at(states)).sum()

    def first_order(
        self, head: Head, states: States
    ) -> tuple[Number, AnyArray, Float[AnyArray, "node state"]]:
        """The sum over all points, its gradient in the head and in the states."""
        ones = module(states).ones(self.points.t.shape)
        value, in_head, in_x = self.blocks.gradient(head, self.points, self._at(states), ones)
        parts = in_x.reshape(*self.basis.shape[:4], states.shape[1])
        spread = module(states).einsum("kscpn,kscpd->ksnd", self.basis, parts)
        none = module(states).zeros(states.shape)
        return value, in_head, driver(states).add_at(none, self.nodes, spread)

    def second_order(
        self, head: Head, states: States, factor: Number, gauss_newton: bool
    ) -> list[AnyArray]:
        """The values of the Hessian's contributions."""
        xp = module(states)
        blocks = self._blocks(gauss_newton)
        weight = xp.full((*self.points.t.shape, 1), factor)
        yy, wy, ww = blocks.second(head, self.points, self._at(states), weight)
        shape, d = self.basis.shape[:3], states.shape[1]
        left = self._rows(blocks.hess_yy.rows // d)
        right = self._rows(blocks.hess_yy.columns // d)
        weighted = right * yy.reshape(*shape, yy.shape[-1], 1)
        if self.basis.shape[-1] <= _FEW_NODES:
            outer = left[..., :, None] * weighted[..., None, :]
            pairs = xp.moveaxis(xp.sum(outer, axis=2), 2, -1)
        else:
            each = xp.matmul(xp.moveaxis(left, 2, 4), xp.moveaxis(weighted, 2, 3))
            pairs = xp.moveaxis(each, 2, 4)
        mixed = self._rows(blocks.hess_wy.columns // d) * wy.reshape(*shape, wy.shape[-1], 1)
        return [pairs, xp.swapaxes(xp.sum(mixed, axis=2), 2, 3), *ww]

    def _rows(self, part: np.ndarray) -> Float[AnyArray, "traj slot sample entry node"]:
        """The row of `basis` that belongs to each entry."""
        return self.basis if self.basis.shape[3] == 1 else self.basis[:, :, :, part]

    def _at(self, states: States) -> AnyArray:
        inside = states[self.nodes]
        parts = self.basis.shape[3]
        rows = [_contract(self.basis[:, :, :, part], inside) for part in range(parts)]
        x = rows[0] if parts == 1 else module(states).concatenate(rows, axis=-1)
        return x.reshape(*self.points.t.shape, parts * states.shape[1])

    def _blocks(self, gauss_newton: bool) -> PointBlocks:
        return self.gauss_newton if gauss_newton else self.blocks


def _contract(rows: AnyArray, states: AnyArray) -> AnyArray:
    """`rows @ states` over the last two axes: `(..., i, j)` times `(..., j, state)`."""
    # XLA calls a matrix product once per interval; for a few nodes fused sums are much faster.
    if driver(states).traced and rows.shape[-1] <= _FEW_NODES:
        return (rows[..., None] * states[..., None, :, :]).sum(axis=-2)
    return module(states).matmul(rows, states)


def _with_offsets(rows: AnyArray, offsets: np.ndarray) -> np.ndarray:
    """Rows plus offsets, with the mark of a missing row kept."""
    return np.where(rows >= 0, rows + offsets, -1)


def _both(rows: AnyArray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = np.broadcast_arrays(rows, columns)
    return rows, columns
