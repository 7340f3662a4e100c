"""transcribe: model, data and grid to an NLP."""

import dataclasses
import inspect
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike

from ._args import Unknowns, as_arrays, signature, stack
from ._callables import OfModel, of_model
from ._check import describe, float_array, integer, positive
from ._constraints import AnyConstraint, as_constraints
from ._data import Trajectory, as_trajectories
from ._grid import Grid
from ._loss import Loss, PointLoss, VectorField, squared_error
from ._nlp import NLP, Group, make_nlp
from ._precision import x64
from ._transcription.constraint_terms import apply_state_bounds, constraint_terms
from ._transcription.core import Compiled, Core, Ridge
from ._transcription.equations import equations
from ._transcription.layout import Layout
from ._transcription.objective_terms import data_losses, residual_penalties
from ._transcription.parameters import Weighted
from ._transcription.units import state_scales, time_scale, with_weights


Grids = Grid | Sequence[Grid]
Limits = tuple[ArrayLike, ArrayLike] | None
Sides = tuple[np.ndarray, np.ndarray]


def transcribe(
    model: Callable[[Any, Any, Any], Any],
    data: Trajectory | Sequence[Trajectory],
    grid: Grids,
    *,
    observe: Callable[..., Any] | None = None,
    num_states: int | None = None,
    loss: Loss = squared_error,
    l2: Any = 1e-3,
    residual_penalty: float = 0.0,
    state_bounds: Limits = None,
    weight_bounds: Any = None,
    weight_scale: Any = None,
    trainable: Any = True,
    constraints: AnyConstraint | Sequence[AnyConstraint] = (),
    state_scale: ArrayLike | None = None,
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
    - `data`: one `jc.Trajectory` or a list of them. The weights are shared; a `jc.Unknown` in
      the `args` of a trajectory is a constant of its own.
    - `grid`: one `jc.Grid` for all trajectories or one for each; it must cover the data.
    - `observe`: what is measured, `h(t, y, args)` or `h(t, y, args, model)` of shape `(obs,)`; the
      first `obs` components of the state if not given. A method, `observe=model.observe`, is
      called on the model being trained, so that the weights it uses are trained too.
    - `num_states`: the number of components of the state, if larger than that of channels.
    - `loss`: `loss(residual, weights)` of one observation time, both of shape `(obs,)`.
    - `l2`: the factor $\lambda$ of the ridge penalty on the weights.
    - `residual_penalty`: the factor $\rho$ of
      $\frac{1}{\sum_k T_k} \sum_k \int \sum_c ((\dot y_c - f_c) \tau / s_c)^2 \, dt$ in
      the objective, the squared residual of the equation along the polynomials, between
      the nodes as well (Nie and Kerrigan, integrated residuals, arXiv 2503.09123); $s_c$
      and $\tau$ are the units of state and time that are described below.
    - `state_bounds`: (lower, upper), scalars or shape `(state,)`; None for no bounds.
    - `weight_bounds`: the same for the weights.
    - `weight_scale`: "linear", "log" or "softplus": what the optimizer varies in the place of the
      weight (then positive), for rates and gains whose magnitude is unknown; or a factor, the
      weight's unit. The ridge penalty acts on that variable, bounds on the weight.
    - `trainable`: which of the model's inexact-array leaves are weights; True or False, or a
      function of a leaf. The others keep their values.
    - `constraints`: `jc.Constraint`, `jc.StateBounds`, `jc.nonnegative(...)` or `jc.Tie` objects.
    - `state_scale`: the units in which the optimizer sees the states, scalar or shape `(state,)`.
      If not given: powers of a thousand near each channel's standard deviation, which is 1
      between 0.03 and 30. Time is scaled alike by its span.
    - `collocate_start`: also collocate at each trajectory's first node, as equation (8) prints
      it. This leaves no freedom for the initial state: `y' = a y` then has the solution 0 only.

    `l2`, `weight_bounds`, `weight_scale` and `trainable` may differ from leaf to leaf: each takes
    a PyTree prefix of the model, which `jc.leafwise` helps to write.

    **Errors:** `ValueError` naming the argument, for data outside the grid, a model whose
    result has another shape than the state, inconsistent bounds, more equations than variables.
    """
    settings = {
        "observe": observe,
        "num_states": num_states,
        "loss": loss,
        "l2": l2,
        "residual_penalty": residual_penalty,
        "state_bounds": state_bounds,
        "weight_bounds": weight_bounds,
        "weight_scale": weight_scale,
        "trainable": trainable,
        "constraints": constraints,
        "state_scale": state_scale,
        "collocate_start": collocate_start,
    }
    trajectories = with_weights(as_trajectories(data))
    grids = as_grids(grid, trajectories)
    if not callable(model):
        raise ValueError(f"`model` must be callable as f(t, y, args); got {describe(model)}.")
    seen = None if observe is None else of_model("observe", observe, model)
    d = _num_states(num_states, trajectories, seen)
    residual_penalty = positive("residual_penalty", residual_penalty, allow_zero=True)
    stated = as_constraints(constraints, len(trajectories))
    with x64():
        weighted = Weighted.split("model", model, trainable, weight_scale)
        unknowns = [Unknowns.of(item.args) for item in trajectories]
        layout = Layout(
            weighted,
            d,
            tuple(len(item.start) for item in unknowns),
            tuple(item.num_nodes for item in grids),
        )
        groups = _groups(layout, trajectories, grids)
        _check_shapes(weighted, seen, groups, trajectories, grids, d)
        scale, time = (
            state_scales(state_scale, trajectories, seen is not None, d),
            time_scale(grids),
        )
        field = VectorField(weighted)
        terms, factors = equations(field, layout, groups, grids, scale, time, collocate_start)
        more = constraint_terms(stated, model, weighted, layout, groups, grids, len(factors), scale)
        zeros = np.zeros(len(factors))
        row_bounds = (np.append(zeros, more.lower), np.append(zeros, more.upper))
        penalties = data_losses(
            PointLoss(weighted, seen, loss), layout, groups, trajectories, grids
        )
        if residual_penalty:
            penalties += residual_penalties(
                field, layout, groups, grids, residual_penalty, scale / time
            )
        head = [weighted.limits("weight_bounds", weight_bounds, model)]
        head += [(item.lower, item.upper) for item in unknowns]
        bounds = _bounds(layout, trajectories, head, state_bounds)
        apply_state_bounds(stated, layout, *bounds)
        _check_freedom(bounds, row_bounds)
        factor = [weighted.per_weight("l2", l2, model), *(item.l2 for item in unknowns)]
        center = [np.zeros(layout.num_weights), *(item.start for item in unknowns)]
        ridge = Ridge.of(np.concatenate(factor), np.concatenate(center))
        units = layout.join(np.ones(layout.num_head), np.tile(scale, (layout.num_nodes, 1)))
        rows = np.concatenate([factors, more.scale])
        core, patterns = Core.build(layout, (*terms, *more.terms), penalties, ridge, (units, rows))
        return make_nlp(
            core,
            patterns,
            model=model,
            observe=seen,
            trajectories=trajectories,
            grids=grids,
            groups=tuple(groups),
            bounds=(bounds[0] / units, bounds[1] / units),
            constraint_bounds=(row_bounds[0] * rows, row_bounds[1] * rows),
            units=units,
            settings=settings,
        )


# The options but `l2` by name, for those who pass them on.
OPTIONS = tuple(
    name
    for name, parameter in inspect.signature(transcribe).parameters.items()
    if parameter.kind is parameter.KEYWORD_ONLY and name != "l2"
)


def check_options(options: Mapping[str, Any], without: tuple[str, ...] = ()) -> None:
    """Refuse what `transcribe` does not know, and those of its options that have no meaning."""
    unknown = sorted(set(options) - set(OPTIONS) | set(options) & set(without))
    if unknown:
        but = f", but for {' and '.join(without)}" if without else ""
        raise ValueError(
            f"`options` must be those of jc.transcribe{but}; got {', '.join(unknown)}."
        )


def transcribe_again(
    nlp: NLP, grid: Grids, *, data: Sequence[Trajectory] | None = None, **changes: Any
) -> NLP:
    """The same model and options on another grid, with other data or changed options."""
    data = nlp.trajectories if data is None else data
    return transcribe(nlp.model, data, grid, **(nlp.settings | changes))


def with_l2(nlp: NLP, l2: Any) -> NLP:
    """The same NLP with another ridge penalty, which compiles nothing anew."""
    with x64():
        core = nlp.compiled.core
        size = nlp.num_weights
        factor = nlp.layout.model.per_weight("l2", l2, nlp.model)
        old = np.asarray(core.ridge.l2)
        if not np.array_equal(factor > 0, old[:size] > 0):
            return transcribe_again(nlp, nlp.grids, l2=l2)
        ridge = Ridge.of(np.concatenate([factor, old[size:]]), np.asarray(core.ridge.center))
        compiled = Compiled(eqx.tree_at(lambda item: item.ridge, core, ridge))
        return dataclasses.replace(nlp, compiled=compiled, settings=nlp.settings | {"l2": l2})


def as_grids(grid: Grids, trajectories: tuple[Trajectory, ...]) -> tuple[Grid, ...]:
    """One grid for each trajectory, once it is checked that they cover the data."""
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


def _num_states(
    num_states: int | None, trajectories: tuple[Trajectory, ...], observe: OfModel | None
) -> int:
    channels = trajectories[0].num_channels
    if num_states is None:
        return channels
    least = 1 if observe is not None else channels
    return integer("num_states", num_states, least)


def _check_shapes(
    model: Weighted,
    observe: OfModel | None,
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
        w = jnp.zeros(model.size + len(Unknowns.of(item.args).start))
        slope = call(VectorField(model), w, t, y, args, None)
        if getattr(slope, "shape", None) != (d,):
            raise ValueError(
                f"`model` must return an array of shape (state,) = ({d},); got {slope}. "
                "If the state has more components than the data, pass `num_states`."
            )
        if observe is None:
            continue

        def seen(w: Any, t: Any, y: Any, args: Any, observe: OfModel = observe) -> Any:
            trained, args = model.apply(w, args)
            return observe(t, y, args, trained)

        seen_shape = getattr(call(seen, w, t, y, args), "shape", None)
        if seen_shape != (item.num_channels,):
            raise ValueError(
                f"`observe` must return an array of shape (obs,) = ({item.num_channels},), "
                f"as the channels of `ys`; got shape {seen_shape}."
            )


def _groups(
    layout: Layout, trajectories: tuple[Trajectory, ...], grids: tuple[Grid, ...]
) -> list[Group]:
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
        unknowns = np.stack([layout.unknowns(position) for position in positions])
        groups.append(Group(tuple(positions), args, unknowns.astype(np.int32)))
    return groups


def _bounds(
    layout: Layout, trajectories: tuple[Trajectory, ...], head: list[Sides], states: Limits
) -> Sides:
    """Bounds of all variables in the caller's units."""
    d = layout.num_states
    state_lower, state_upper = _state_limits(states, d)
    lower, upper = (
        layout.join(np.concatenate(sides), np.tile(limit, (layout.num_nodes, 1)))
        for sides, limit in zip(zip(*head, strict=True), (state_lower, state_upper), strict=True)
    )
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


def _state_limits(value: Limits, d: int) -> Sides:
    if value is None:
        value = (-np.inf, np.inf)
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise ValueError(f"`state_bounds` must be (lower, upper) or None; got {describe(value)}.")
    sides = []
    for side, missing in zip(value, (-np.inf, np.inf), strict=True):
        side = missing if side is None else side
        array = float_array("state_bounds", side, min(np.ndim(side), 1), f"() or (state,) = ({d},)")
        if array.shape not in ((), (d,)):
            raise ValueError(
                f"`state_bounds` must hold scalars or arrays of shape (state,) = ({d},); "
                f"got shape {array.shape}."
            )
        sides.append(np.broadcast_to(array, (d,)))
    lower, upper = sides
    if np.any(np.isnan(lower)) or np.any(np.isnan(upper)) or np.any(lower >= upper):
        raise ValueError(f"`state_bounds` must have lower < upper; got {value}.")
    return lower, upper


def _check_freedom(bounds: Sides, row_bounds: Sides) -> None:
    lower, upper = bounds
    free = int(np.sum(lower < upper))
    num_equations = int(np.sum(row_bounds[0] == row_bounds[1]))
    if num_equations > free:
        raise ValueError(
            f"The problem has more equations ({num_equations}) than free variables ({free}). "
            "`collocate_start=True`, known `y0` and equations in `constraints` take freedom away; "
            "so does a model with few weights."
        )
