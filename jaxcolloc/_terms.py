"""The terms of the NLP: collocation equations, continuity, losses.

Each term knows which entries of the Jacobian and of the Lagrangian's Hessian it touches
(`*_structure`, NumPy, once) and yields their values (JAX), as a list of contributions in the same
order. Terms hold several trajectories of the same shape; padding of shorter ones is marked by
negative row numbers.
"""

from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ._blocks import Blocks, Points
from ._layout import Layout
from ._precision import AnyArray


Structure = list[tuple[np.ndarray, np.ndarray]]
States = Float[Array, "node state"]

_FEW_NODES = 24


class Defects(eqx.Module):
    r"""Equations $\frac{1}{h_e} \sum_j D_{ij} y_{ej} - f(t_{ei}, y_{ei}, args_k; w) = 0$.

    `rows[k, e, i]` is the first of the equations of node `i` in interval `e` of trajectory `k`,
    negative where there is none. The collocated nodes of an interval are those from `first` on.
    """

    blocks: Blocks
    points: Points
    nodes: Int[AnyArray, "traj interval node"]
    widths: Float[AnyArray, "traj interval"]
    matrix: Float[AnyArray, "collocation node"]
    rows: Int[AnyArray, "traj interval collocation"]
    first: int = eqx.field(static=True)

    @property
    def collocated(self) -> Int[AnyArray, "traj interval collocation"]:
        """The collocated nodes."""
        stop = self.first + self.matrix.shape[0]
        return self.nodes[:, :, self.first : stop]

    def jacobian_structure(self, layout: Layout) -> Structure:
        """Rows and columns of the derivative matrix, the blocks $-f_y$ and the blocks $-f_w$."""
        d = layout.num_states
        state = np.arange(d)
        rows, at = self.rows[..., None], layout.columns(self.collocated)[..., None]
        linear_rows = _spread(self.rows[:, :, :, None, None], state)
        linear_columns = layout.columns(self.nodes)[:, :, None, :, None] + state
        f_y, f_w = self.blocks.jac_y, self.blocks.jac_w
        return [
            _both(linear_rows, linear_columns),
            _both(_spread(rows, f_y.rows), at + f_y.columns),
            _both(_spread(rows, f_w.rows), f_w.columns),
        ]

    def hessian_structure(self, layout: Layout) -> Structure:
        """Rows and columns of $-\\lambda f$: state-state, state-weight, weight-weight."""
        at = layout.columns(self.collocated)[..., None]
        real = self.rows[..., None] >= 0
        yy, wy, ww = self.blocks.hess_yy, self.blocks.hess_wy, self.blocks.hess_ww
        lower = real & (yy.rows >= yy.columns)
        return [
            _both(np.where(lower, at + yy.rows, -1), at + yy.columns),
            _both(np.where(real, at + wy.columns, -1), wy.rows),
            (ww.rows, ww.columns),
        ]

    def linear(self, states: States) -> Float[Array, "traj interval collocation state"]:
        """The left sides: the interpolant's derivative."""
        slope = _contract(self.matrix, states[self.nodes])
        return slope / self.widths[:, :, None, None]

    def linear_jacobian(self, num_states: int) -> Array:
        """The constant entries of the Jacobian, in the order of their structure."""
        matrix = self.matrix / self.widths[:, :, None, None]
        return jnp.broadcast_to(matrix[..., None], (*matrix.shape, num_states))

    def values(self, w: Array, states: States) -> Array:
        """The defects."""
        left = self.linear(states)
        return left - self.blocks.value(w, self.points, self._at(states)).reshape(left.shape)

    def first_order(self, w: Array, states: States) -> tuple[Array, list[Array]]:
        """The defects and the values of the Jacobian's contributions."""
        left = self.linear(states)
        f, f_y, f_w = self.blocks.first(w, self.points, self._at(states))
        constant = self.linear_jacobian(states.shape[1])
        return left - f.reshape(left.shape), [constant, -f_y, -f_w]

    def second_order(self, w: Array, states: States, multipliers: Array) -> list[Array]:
        """The values of the Hessian's contributions."""
        d = states.shape[1]
        rows = self.rows[..., None] + np.arange(d)
        inside = jnp.where(self.rows[..., None] >= 0, multipliers[rows], 0.0)
        inside = -inside.reshape(*self.points.t.shape, d)
        return list(self.blocks.second(w, self.points, self._at(states), inside))

    def _at(self, states: States) -> Array:
        return states[self.collocated].reshape(*self.points.t.shape, states.shape[1])


class Continuity(eqx.Module):
    r"""Equations $y_{e+1,0} - \sum_j c_j y_{ej} = 0$ where a scheme lacks its interval's end."""

    nodes: Int[AnyArray, "interval node"]
    ends: Int[AnyArray, " interval"]
    extrapolation: Float[AnyArray, " node"]
    rows: Int[AnyArray, " interval"]

    def jacobian_structure(self, layout: Layout) -> Structure:
        """Rows and columns: the interval's nodes, then its end."""
        state = np.arange(layout.num_states)
        rows = _spread(self.rows[:, None, None], state)
        inside = layout.columns(self.nodes)[:, :, None] + state
        return [
            _both(rows, inside),
            _both(self.rows[:, None] + state, layout.columns(self.ends)[:, None] + state),
        ]

    def values(self, states: States) -> Array:
        """The gaps between the intervals."""
        extrapolated = _contract(self.extrapolation[None], states[self.nodes])
        return states[self.ends] - extrapolated[:, 0]

    def first_order(self, states: States) -> tuple[Array, list[Array]]:
        """The gaps and the values of the Jacobian's contributions."""
        shape = (*self.nodes.shape, states.shape[1])
        inside = jnp.broadcast_to(-self.extrapolation[:, None], shape)
        return self.values(states), [inside, jnp.ones((len(self.ends), states.shape[1]))]


class DataLoss(eqx.Module):
    r"""$\sum_i \ell(h(y(t_i)) - \mathrm{obs}_i)$ with $y(t_i) = \sum_j B_{ij} y_j$ (Eq. 11).

    Observations come in slots, each of which shares the nodes it interpolates from: an
    observation that falls on a node has that node only, with $B = 1$.
    """

    blocks: Blocks
    gauss_newton: Blocks
    points: Points
    nodes: Int[AnyArray, "traj slot node"]
    basis: Float[AnyArray, "traj slot sample node"]

    def hessian_structure(self, layout: Layout, gauss_newton: bool) -> Structure:
        """Rows and columns: state-state of every pair of nodes in a slot."""
        yy = self._blocks(gauss_newton).hess_yy
        at = layout.columns(self.nodes)
        rows = at[:, :, :, None, None] + yy.rows
        columns = at[:, :, None, :, None] + yy.columns
        rows, columns = np.broadcast_arrays(rows, columns)
        used = np.abs(self.basis).max(axis=2) > 0
        pair = used[:, :, :, None] & used[:, :, None, :]
        keep = pair[..., None] & (rows >= columns)
        return [(np.where(keep, rows, -1), columns)]

    def value(self, w: Array, states: States) -> Array:
        """The sum of the losses."""
        return jnp.sum(self.blocks.value(w, self.points, self._at(states)))

    def second_order(
        self, w: Array, states: States, factor: Array, gauss_newton: bool
    ) -> list[Array]:
        """The values of the Hessian's contributions."""
        blocks = self._blocks(gauss_newton)
        weight = jnp.full((*self.points.t.shape, 1), factor)
        inner, _, _ = blocks.second(w, self.points, self._at(states), weight)
        inner = inner.reshape(*self.basis.shape[:3], -1)
        weighted = self.basis[..., None] * inner[..., None, :]
        if self.basis.shape[-1] <= _FEW_NODES:
            outer = self.basis[..., None, None] * weighted[..., None, :, :]
            return [jnp.sum(outer, axis=2)]
        return [jnp.einsum("ksca,kscbp->ksabp", self.basis, weighted)]

    def _at(self, states: States) -> Array:
        y = _contract(self.basis, states[self.nodes])
        return y.reshape(*self.points.t.shape, states.shape[1])

    def _blocks(self, gauss_newton: bool) -> Blocks:
        return self.gauss_newton if gauss_newton else self.blocks


def _contract(rows: AnyArray, states: Array) -> Array:
    """`rows @ states` over the last two axes: `(..., i, j)` times `(..., j, state)`."""
    # XLA calls a matrix product once per interval; for a few nodes fused sums are much faster.
    if rows.shape[-1] <= _FEW_NODES:
        return jnp.sum(rows[..., None] * states[..., None, :, :], axis=-2)
    return jnp.matmul(rows, states)


def _spread(rows: AnyArray, offsets: np.ndarray) -> np.ndarray:
    """Rows plus offsets, with the mark of a missing row kept."""
    return np.where(rows >= 0, rows + offsets, -1)


def _both(rows: AnyArray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = np.broadcast_arrays(rows, columns)
    return rows, columns


def ridge_structure(l2: Sequence[float] | np.ndarray) -> Structure:
    """The diagonal of the weights that are penalised."""
    penalised = np.flatnonzero(np.asarray(l2))
    return [(penalised, penalised)]
