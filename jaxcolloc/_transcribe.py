"""transcribe: model, data and grid to an NLP."""

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike

from ._blocks import Blocks, Points
from ._check import describe, float_array, integer, positive
from ._core import Core
from ._data import Trajectory, as_trajectories
from ._grid import Grid
from ._inputs import as_arrays, signature, stack
from ._layout import Layout, Weighted
from ._loss import Loss, PointLoss, VectorField, squared_error
from ._nlp import NLP, Bounds, Group, make_nlp
from ._observations import data_losses
from ._precision import x64
from ._terms import Continuity, Defects


Grids = Grid | Sequence[Grid]
Limits = tuple[ArrayLike, ArrayLike] | None


def transcribe(
    model: Callable[[Any, Any, Any], Any],
    data: Trajectory | Sequence[Trajectory],
    grid: Grids,
    *,
    observe: Callable[[Any, Any, Any], Any] | None = None,
    num_states: int | None = None,
    loss: Loss = squared_error,
    l2: float = 1e-3,
    state_bounds: Limits = None,
    weight_bounds: Limits = None,
    collocate_start: bool = False,
) -> NLP:
    r"""Turn the training of `model` on `data` into a nonlinear program.

    $$\min_{w, Y} \; \frac{1}{N} \sum_k \sum_i
      \ell\big(h(t_{ki}, y_k(t_{ki})) - \mathrm{obs}_{ki}\big) + \mathtt{l2} \, \|w\|^2$$
    $$\text{subject to} \quad
      \frac{1}{h_e} \sum_j D_{ij} y_{ej} = f(t_{ei}, y_{ei}, args_k; w)$$

    for every trajectory $k$, interval $e$ of width $h_e$ and collocation node $i$; $N$ counts
    the observation times and $y_k(t)$ is the collocation polynomial. With one trajectory, one
    interval of Chebyshev points and data on its nodes this is problem (11) of
    Shapovalova and Tsay (arXiv 2502.15642).

    **Arguments:**

    - `model`: the vector field `f(t, y, args)`, any callable PyTree; `t` is a scalar, `y` and
      the result have shape `(state,)`. Its inexact-array leaves are the weights.
    - `data`: one `jc.Trajectory` or a list of them. The weights are shared.
    - `grid`: one `jc.Grid` for all trajectories or one for each; it must cover the data.
    - `observe`: what is measured, `h(t, y, args)` of shape `(obs,)`; the first `obs` components
      of the state if not given.
    - `num_states`: the number of components of the state, if larger than that of channels.
    - `loss`: `loss(residual, weights)` of one observation time, both of shape `(obs,)`.
    - `l2`: the factor $\lambda$ of the ridge penalty on the weights.
    - `state_bounds`, `weight_bounds`: (lower, upper), scalars or, for states, shape `(state,)`;
      None for no bounds.
    - `collocate_start`: also collocate at each trajectory's first node, as equation (8) prints
      it. This leaves no freedom for the initial state: `y' = a y` then has the solution 0 only.

    **Errors:** `ValueError` naming the argument, for data outside the grid, a model whose
    result has another shape than the state, inconsistent bounds, more equations than variables.
    """
    trajectories = as_trajectories(data)
    grids = _grids(grid, trajectories)
    d = _num_states(num_states, trajectories, observe)
    if not callable(model):
        raise ValueError(f"`model` must be callable as f(t, y, args); got {describe(model)}.")
    l2 = positive("l2", l2, allow_zero=True)
    with x64():
        weighted = Weighted.split("model", model)
        layout = Layout(weighted, d, tuple(item.num_nodes for item in grids))
        groups = _groups(trajectories, grids)
        _check_shapes(weighted, observe, groups, trajectories, grids, d)
        rows, num_equations = _equation_rows(grids, d, collocate_start)
        field = VectorField(weighted)
        defects, continuity = _equations(field, layout, groups, grids, rows, collocate_start)
        losses = data_losses(PointLoss(observe, loss), layout, groups, trajectories, grids)
        bounds = _bounds(layout, trajectories, state_bounds, weight_bounds)
        _check_freedom(bounds, num_equations)
        penalty = np.full(layout.num_weights, l2)
        core = Core.build(layout, defects, continuity, losses, penalty, num_equations)
        return make_nlp(
            model, observe is not None, core, trajectories, grids, tuple(groups), bounds
        )


def _grids(grid: Grids, trajectories: tuple[Trajectory, ...]) -> tuple[Grid, ...]:
    grids = (grid,) * len(trajectories) if isinstance(grid, Grid) else tuple(grid)
    if len(grids) != len(trajectories) or not all(isinstance(item, Grid) for item in grids):
        raise ValueError(
            f"`grid` must be a Grid or a list of {len(trajectories)} of them, one per trajectory; "
            f"got {describe(grid)}."
        )
    for position, (item, where) in enumerate(zip(trajectories, grids, strict=True)):
        if not where.covers(item.ts):
            raise ValueError(
                f"`grid` must cover the observation times; trajectory {position} spans "
                f"[{item.ts[0]:g}, {item.ts[-1]:g}], its grid "
                f"[{where.boundaries[0]:g}, {where.boundaries[-1]:g}]."
            )
    return grids


def _num_states(num_states: int | None, trajectories: tuple[Trajectory, ...], observe: Any) -> int:
    channels = trajectories[0].num_channels
    if observe is not None and not callable(observe):
        raise ValueError(f"`observe` must be callable as h(t, y, args); got {describe(observe)}.")
    if num_states is None:
        return channels
    least = 1 if observe is not None else channels
    return integer("num_states", num_states, least)


def _check_shapes(
    model: Weighted,
    observe: Callable[[Any, Any, Any], Any] | None,
    groups: list[Group],
    trajectories: tuple[Trajectory, ...],
    grids: tuple[Grid, ...],
    d: int,
) -> None:
    """Call model and observation once, abstractly, for each group of trajectories."""
    call = eqx.filter_eval_shape
    for first in (group.members[0] for group in groups):
        item, grid = trajectories[first], grids[first]
        args = as_arrays(item.args)
        t, y = jnp.asarray(grid.boundaries[0]), jnp.ones(d)
        w = jnp.zeros(model.size)
        slope = call(lambda w, t, y, args: model.join(w)(t, y, args), w, t, y, args)
        if getattr(slope, "shape", None) != (d,):
            raise ValueError(
                f"`model` must return an array of shape (state,) = ({d},); got {slope}. "
                "If the state has more components than the data, pass `num_states`."
            )
        if observe is None:
            continue
        seen_shape = getattr(call(observe, t, y, args), "shape", None)
        if seen_shape != (item.num_channels,):
            raise ValueError(
                f"`observe` must return an array of shape (obs,) = ({item.num_channels},), "
                f"as the channels of `ys`; got shape {seen_shape}."
            )


def _groups(trajectories: tuple[Trajectory, ...], grids: tuple[Grid, ...]) -> list[Group]:
    """Trajectories whose terms are evaluated together.

    Lengths within a factor of two go together and the shorter are padded: the number of groups,
    and with it compile time, grows with the logarithm of the lengths' spread at most.
    """
    members: dict[Hashable, list[int]] = {}
    converted = [as_arrays(item.args) for item in trajectories]
    for position, grid in enumerate(grids):
        size = int(np.ceil(np.log2(grid.num_intervals)))
        key = (repr(grid.scheme), size, signature(converted[position]))
        members.setdefault(key, []).append(position)
    groups = []
    for positions in members.values():
        args = stack([converted[position] for position in positions])
        groups.append(Group(tuple(positions), args))
    return groups


def _equation_rows(
    grids: tuple[Grid, ...], d: int, collocate_start: bool
) -> tuple[list[tuple[int, int, int]], int]:
    """The first equation of each trajectory's start, defects and continuity; and the total."""
    rows, row = [], 0
    for grid in grids:
        start = row
        defects = start + (d if collocate_start else 0)
        continuity = defects + grid.num_intervals * (grid.scheme.num_nodes - 1) * d
        rows.append((start, defects, continuity))
        row = continuity + (0 if grid.scheme.includes_end else grid.num_intervals * d)
    return rows, row


def _equations(
    field: VectorField,
    layout: Layout,
    groups: list[Group],
    grids: tuple[Grid, ...],
    rows: list[tuple[int, int, int]],
    collocate_start: bool,
) -> tuple[tuple[Defects, ...], tuple[Continuity, ...]]:
    defects, continuity = [], []
    for group in groups:
        scheme = grids[group.members[0]].scheme
        nodes, widths, times, equation = _interval_arrays(layout, group, grids, rows)
        points = Points.at(times[:, :, 1:], group.args, None)
        blocks = Blocks.detect(field, points, layout.num_states, layout.num_weights)
        if collocate_start:
            first = np.array([[[rows[position][0]]] for position in group.members])
            at_start = Points.at(times[:, :1, :1], group.args, None)
            matrix = scheme.differentiation[:1]
            start = Defects(blocks, at_start, nodes[:, :1], widths[:, :1], matrix, first, first=0)
            defects.append(start)
        matrix = scheme.differentiation[1:]
        defects.append(Defects(blocks, points, nodes, widths, matrix, equation, first=1))
        if not scheme.includes_end:
            continuity.append(_continuity(layout, group, grids, rows))
    return tuple(defects), tuple(continuity)


def _interval_arrays(
    layout: Layout,
    group: Group,
    grids: tuple[Grid, ...],
    rows: list[tuple[int, int, int]],
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Nodes, widths, times and equations of a group, shorter trajectories padded."""
    longest = max(grids[position].num_intervals for position in group.members)
    nodes, widths, times, equations = [], [], [], []
    for position in group.members:
        grid = grids[position]
        pad = [(0, longest - grid.num_intervals), (0, 0)]
        inside = grid.interval_nodes
        collocated = inside.shape[1] - 1
        equation = rows[position][1] + layout.num_states * np.arange(
            grid.num_intervals * collocated
        ).reshape(grid.num_intervals, collocated)
        nodes.append(np.pad(inside + layout.first_nodes[position], pad, mode="edge"))
        widths.append(np.pad(grid.widths, pad[0], mode="edge"))
        times.append(np.pad(grid.times[inside], pad, mode="edge"))
        equations.append(np.pad(equation, pad, constant_values=-1))
    return (
        np.stack(nodes).astype(np.int32),
        np.stack(widths),
        np.stack(times),
        np.stack(equations).astype(np.int32),
    )


def _continuity(
    layout: Layout, group: Group, grids: tuple[Grid, ...], rows: list[tuple[int, int, int]]
) -> Continuity:
    nodes, ends, equations = [], [], []
    for position in group.members:
        grid = grids[position]
        nodes.append(grid.interval_nodes + layout.first_nodes[position])
        ends.append(grid.interval_ends + layout.first_nodes[position])
        equations.append(rows[position][2] + layout.num_states * np.arange(grid.num_intervals))
    return Continuity(
        nodes=np.concatenate(nodes).astype(np.int32),
        ends=np.concatenate(ends).astype(np.int32),
        extrapolation=grids[group.members[0]].scheme.interpolation(np.ones(1))[0],
        rows=np.concatenate(equations).astype(np.int32),
    )


def _bounds(
    layout: Layout, trajectories: tuple[Trajectory, ...], states: Limits, weights: Limits
) -> Bounds:
    d = layout.num_states
    state_lower, state_upper = _limits("state_bounds", states, d)
    weight_lower, weight_upper = _limits("weight_bounds", weights, None)
    lower = np.full(layout.num_variables, weight_lower)
    upper = np.full(layout.num_variables, weight_upper)
    lower[layout.num_weights :] = np.tile(state_lower, layout.num_nodes)
    upper[layout.num_weights :] = np.tile(state_upper, layout.num_nodes)
    for position, item in enumerate(trajectories):
        if item.y0 is None:
            continue
        if item.y0.shape != (d,):
            raise ValueError(
                f"`y0` must have shape (state,) = ({d},); got shape {item.y0.shape} "
                f"in trajectory {position}."
            )
        known = np.flatnonzero(~np.isnan(item.y0))
        value = item.y0[known]
        if np.any((value < state_lower[known]) | (value > state_upper[known])):
            raise ValueError(
                f"`y0` must lie within `state_bounds`; got {item.y0} in trajectory {position}."
            )
        at = layout.columns(layout.first_nodes[position]) + known
        lower[at] = upper[at] = value
    return lower, upper


def _limits(name: str, value: Limits, d: int | None) -> tuple[Any, Any]:
    if value is None:
        value = (-np.inf, np.inf)
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise ValueError(f"`{name}` must be (lower, upper) or None; got {describe(value)}.")
    sides = []
    for side in value:
        ndim = 0 if d is None else min(np.ndim(side), 1)
        side = float_array(name, side, ndim, "()" if d is None else f"() or (state,) = ({d},)")
        if d is not None:
            if side.shape not in ((), (d,)):
                raise ValueError(
                    f"`{name}` must hold scalars or arrays of shape (state,) = ({d},); "
                    f"got shape {side.shape}."
                )
            side = np.broadcast_to(side, (d,))
        sides.append(side)
    lower, upper = sides
    if np.any(np.isnan(lower)) or np.any(np.isnan(upper)) or np.any(lower >= upper):
        raise ValueError(f"`{name}` must have lower < upper; got {value}.")
    return lower, upper


def _check_freedom(bounds: Bounds, num_equations: int) -> None:
    lower, upper = bounds
    free = int(np.sum(lower < upper))
    if num_equations > free:
        raise ValueError(
            f"The problem has more equations ({num_equations}) than free variables ({free}). "
            "`collocate_start=True` and known `y0` take freedom away; so does a model with few "
            "weights."
        )
