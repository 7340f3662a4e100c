"""What is minimised: losses of observations, residuals between the nodes, quadratic terms."""

from typing import Any

import numpy as np
from jaxtyping import Float, Int

from .._data import Trajectory
from .._grid import Grid
from .._plain import plain
from .._precision import AnyArray, Number
from .._scheme import AbstractScheme, GaussLegendre
from .blocks import Blocks, Points
from .groups import Group, Intervals, Slots, observation_slots, padded
from .layout import Layout
from .point_functions import NodeField, Observed, PointLoss, PointResidual, linearised
from .terms import Penalty, Structure


@plain
class Quadratic:
    r"""$\sum_i \mathtt{factor}_i (x_i - c_i)^2$ over some of the variables, in the caller's units.

    The ridge penalty on weights and unknowns is one, the pull of consensus training on a batch's
    weights another, and so are most priors. `at` are positions in $z$.
    """

    at: Int[AnyArray, " entry"]
    factor: Float[AnyArray, " entry"]
    center: Float[AnyArray, " entry"]

    @classmethod
    def ridge(cls, l2: np.ndarray, center: np.ndarray) -> "Quadratic":
        """Over the head of $z$, without those entries whose factor is zero."""
        at = np.flatnonzero(l2)
        return cls(at.astype(np.int32), l2[at], center[at])

    def value(self, x: AnyArray) -> Number:
        """The term at `x`, all variables or, if no other is penalised, the head of them."""
        return (self.factor * (x[self.at] - self.center) ** 2).sum()

    def first_order(self, x: AnyArray) -> tuple[Number, Float[AnyArray, " entry"]]:
        """The term and its derivatives by its entries."""
        away = x[self.at] - self.center
        return (self.factor * away**2).sum(), 2 * self.factor * away

    def hessian_structure(self) -> Structure:
        """Rows and columns: the diagonal of its entries."""
        return [(np.asarray(self.at), np.asarray(self.at))]

    def second_order(self, x: AnyArray, factor: Any, gauss_newton: bool) -> list[AnyArray]:
        """The values of the Hessian's contribution."""
        return [2 * factor * self.factor]

    @property
    def positions(self) -> list[AnyArray]:
        """The arrays that tell where its derivatives stand."""
        return [self.at]

    def scaled(self, factor: Float[np.ndarray, " entry"]) -> "Quadratic":
        """The same with its factors multiplied by these."""
        return Quadratic(self.at, self.factor * factor, self.center)


def data_losses(
    function: PointLoss,
    layout: Layout,
    groups: tuple[Group, ...],
    trajectories: tuple[Trajectory, ...],
    grids: tuple[Grid, ...],
) -> tuple[Penalty, ...]:
    """The loss terms: for each group, of the observations on nodes and of those between them."""
    num_times = sum(int(item.observed.sum()) for item in trajectories)
    return tuple(
        _data_loss(function, layout, group, trajectories, grids, slots, num_times)
        for group in groups
        for slots in observation_slots(group, trajectories, grids)
    )


def _data_loss(
    function: PointLoss,
    layout: Layout,
    group: Group,
    trajectories: tuple[Trajectory, ...],
    grids: tuple[Grid, ...],
    slots: list[Slots],
    num_times: int,
) -> Penalty:
    chosen = [trajectories[k] for k in group.members]
    first = layout.first_nodes[list(group.members)]
    # Missing slots repeat the last one.
    nodes = padded([item.nodes for item in slots], None) + first[:, None, None]
    sample = padded([item.sample for item in slots], None).reshape(len(slots), -1)
    real = padded([item.real for item in slots], False).reshape(len(slots), -1)
    own = [(item, at) for item, at in zip(chosen, sample, strict=True)]
    measured = np.stack([item.measured[at] for item, at in own]) & real[..., None]
    data = Observed(
        ys=np.where(measured, np.stack([item.ys[at] for item, at in own]), 0.0),
        weights=np.where(measured, np.stack([item.weights[at] for item, at in own]), 0.0),
        measured=measured,
        factor=real / num_times,
    ).for_loss(function)
    points = Points.at(
        np.stack([item.ts[at] for item, at in own]), group.args, group.unknowns, data
    )
    basis = padded([item.basis for item in slots], None)[:, :, :, None]
    if function.sees_algebraic and basis.shape[-1] > 1:
        scheme = grids[group.members[0]].scheme
        basis = np.concatenate([basis, _without_start(scheme, basis)], axis=3)
    return _penalty(
        function, points, basis.shape[3] * layout.num_states, layout,
        nodes=nodes.astype(np.int32), basis=basis, curved=function.curved,
    )  # fmt: skip


def _without_start(
    scheme: AbstractScheme, basis: Float[np.ndarray, "*point node"]
) -> Float[np.ndarray, "*point node"]:
    """Rows that interpolate through the collocated nodes, but on the first node take its value.

    Algebraic variables may jump at the start of an interval, where an input does.
    """
    start = scheme.collocated_interpolation(np.zeros(1))[0]
    first = basis[..., :1]
    rows = np.concatenate([np.zeros_like(first), basis[..., 1:] + first * start], axis=-1)
    return np.where(first == 1.0, basis, rows)


def residual_penalties(
    field: NodeField,
    layout: Layout,
    groups: tuple[Group, ...],
    grids: tuple[Grid, ...],
    factor: float,
    scale: np.ndarray,
) -> tuple[Penalty, ...]:
    r"""The integrated squared residual of the model's equation along the interpolants.

    By Gauss-Legendre quadrature with one point more than the residual has zeros, which is where
    the interval's collocation nodes are. `scale` is that of each equation.
    """
    duration = sum(grid.boundaries[-1] - grid.boundaries[0] for grid in grids)
    penalties = []
    for group in groups:
        scheme = grids[group.members[0]].scheme
        rule = GaussLegendre(scheme.num_nodes)
        # The first node of a GaussLegendre scheme is the interval's start, with weight zero.
        positions, quadrature = rule.nodes[1:], rule.quadrature[1:]
        value = scheme.interpolation(positions)
        slope = value @ scheme.differentiation
        intervals = Intervals.of(layout, group, grids, jumps=False)
        widths = intervals.widths[..., None]
        parts = [value, slope / widths[..., None]]
        if layout.num_algebraic:
            parts.append(_without_start(scheme, value))
        rows = np.stack(np.broadcast_arrays(*parts), axis=3)
        times = intervals.times[:, :, :1] + widths * positions
        weight = factor / duration * intervals.real[..., None] * widths * quadrature
        weight = weight.reshape(len(weight), -1)
        data = (weight, np.broadcast_to(scale, (*weight.shape, len(scale))))
        penalties.append(
            _penalty(
                PointResidual(field),
                Points.at(times, group.args, group.unknowns, data),
                rows.shape[3] * layout.num_states,
                layout,
                nodes=intervals.nodes,
                basis=rows,
                curved=True,
            )
        )
    return tuple(penalties)


def _penalty(
    function: Any,
    points: Points,
    num_inputs: int,
    layout: Layout,
    *,
    nodes: np.ndarray,
    basis: np.ndarray,
    curved: bool,
) -> Penalty:
    """A term whose Gauss-Newton Hessian is another than the exact one if it is `curved`."""
    blocks = Blocks.detect(function, points, num_inputs, layout.num_weights)
    gauss_newton = blocks
    if curved:
        gauss_newton = Blocks.detect(linearised(function), points, num_inputs, layout.num_weights)
    return Penalty(blocks, gauss_newton, points, nodes, basis)
