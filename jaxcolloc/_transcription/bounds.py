"""Bounds of all variables, from those of weights, unknowns and states and from known starts."""

from typing import Any

import numpy as np
from jaxtyping import ArrayLike, Float

from .._args import Unknowns
from .._check import describe, float_array
from .._constraints import AnyConstraint, StateBounds
from .._data import Trajectory
from .._names import which
from .layout import Layout


Sides = tuple[np.ndarray, np.ndarray]
Limits = tuple[ArrayLike | None, ArrayLike | None] | None


def variable_bounds(
    layout: Layout,
    model: Any,
    trajectories: tuple[Trajectory, ...],
    weights: Any,
    states: Limits,
    stated: tuple[AnyConstraint, ...],
    algebraic: Limits = None,
) -> Sides:
    """Lower and upper bounds of all variables in the caller's units.

    `weights`, `states` and `algebraic` are the options `weight_bounds`, `state_bounds` and
    `algebraic_bounds`; what a trajectory's `y0` knows is held by equal bounds.
    """
    unknowns = [Unknowns.of(item.constants) for item in trajectories]
    head = [layout.model.limits("weight_bounds", weights, model)]
    head += [(item.lower, item.upper) for item in unknowns]
    lower_y, upper_y = _limits("state_bounds", "state", states, layout.num_differential)
    lower_a, upper_a = _limits("algebraic_bounds", "algebraic", algebraic, layout.num_algebraic)
    limits = (np.append(lower_y, lower_a), np.append(upper_y, upper_a))
    lower, upper = (
        layout.join(np.concatenate(sides), np.tile(limit, (layout.num_nodes, 1)))
        for sides, limit in zip(zip(*head, strict=True), limits, strict=True)
    )
    _hold_starts(layout, trajectories, limits, lower, upper)
    _tighten(stated, layout, lower, upper)
    return lower, upper


def check_freedom(bounds: Sides, row_bounds: Sides) -> None:
    """Refuse a problem with more equations than free variables."""
    lower, upper = bounds
    free = int(np.sum(lower < upper))
    num_equations = int(np.sum(row_bounds[0] == row_bounds[1]))
    if num_equations > free:
        raise ValueError(
            f"The problem has more equations ({num_equations}) than free variables ({free}). "
            "`collocate_start=True`, known `y0` and equations in `constraints` take freedom away; "
            "so does a model with few weights."
        )


def fitting(side: Any, size: int, item: AnyConstraint) -> Float[np.ndarray, " value"]:
    """A constraint's `lower` or `upper` for each of its `size` values."""
    if np.shape(side) not in ((), (1,), (size,)):
        raise ValueError(
            f"`lower` and `upper` must be numbers or have one entry for each of {size} values of "
            f"the {type(item).__name__}; got shape {np.shape(side)}."
        )
    return np.broadcast_to(side, (size,))


def _hold_starts(
    layout: Layout,
    trajectories: tuple[Trajectory, ...],
    limits: Sides,
    lower: np.ndarray,
    upper: np.ndarray,
) -> None:
    """Equal bounds, in place, for the components of initial states that are known."""
    d = layout.num_differential
    for position, item in enumerate(trajectories):
        if item.y0 is None:
            continue
        if item.y0.shape != (d,):
            raise ValueError(
                f"`y0` must have shape (state,) = ({d},); got shape {item.y0.shape} "
                f"in {which(item, position)}."
            )
        known = np.flatnonzero(~np.isnan(item.y0))
        value = item.y0[known]
        if np.any((value < limits[0][known]) | (value > limits[1][known])):
            raise ValueError(
                f"`y0` must lie within `state_bounds`; got {item.y0} in {which(item, position)}."
            )
        at = layout.columns(layout.first_nodes[position]) + known
        lower[at] = upper[at] = value


def _tighten(
    stated: tuple[AnyConstraint, ...], layout: Layout, lower: np.ndarray, upper: np.ndarray
) -> None:
    """Tighten the bounds, in place, by those constraints that are bounds."""
    d = layout.num_differential
    for item in stated:
        if not isinstance(item, StateBounds):
            continue
        components = tuple(range(d)) if item.components is None else item.components
        if max(components, default=0) >= d:
            raise ValueError(f"`components` must be below {d}; got {components}.")
        sides = [fitting(side, len(components), item) for side in (item.lower, item.upper)]
        for k in range(len(layout.node_counts)):
            if item.trajectories is not None and k not in item.trajectories:
                continue
            at = layout.columns(layout.nodes_at(item.at, k))[:, None] + np.array(components, int)
            lower[at] = np.maximum(lower[at], sides[0])
            upper[at] = np.minimum(upper[at], sides[1])
            if np.any(lower[at] > upper[at]):
                raise ValueError(
                    f"`constraints` leave no value to components {components} of trajectory {k}: "
                    "they contradict `state_bounds`, `y0` or each other."
                )


def _limits(name: str, axis: str, value: Limits, d: int) -> Sides:
    """Lower and upper bounds of a node's state, or of its algebraic variables.

    `name` is the option's, `axis` what it has an entry for.
    """
    if value is None:
        value = (-np.inf, np.inf)
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise ValueError(f"`{name}` must be (lower, upper) or None; got {describe(value)}.")
    sides = []
    for side, missing in zip(value, (-np.inf, np.inf), strict=True):
        side = missing if side is None else side
        array = float_array(name, side, min(np.ndim(side), 1), f"() or ({axis},) = ({d},)")
        if array.shape not in ((), (d,)):
            raise ValueError(
                f"`{name}` must hold scalars or arrays of shape ({axis},) = ({d},); "
                f"got shape {array.shape}."
            )
        sides.append(np.broadcast_to(array, (d,)))
    lower, upper = sides
    if np.any(np.isnan(lower)) or np.any(np.isnan(upper)) or np.any(lower >= upper):
        raise ValueError(f"`{name}` must have lower < upper; got {value}.")
    return lower, upper
