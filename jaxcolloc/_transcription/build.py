"""build: model, data, grids and settings to all that a nonlinear program consists of."""

from typing import Any, NamedTuple

import equinox as eqx
import numpy as np
from jaxtyping import Float

from .._algebraic import Algebraic
from .._args import Unknowns, restore
from .._callables import OfModel, explained, of_model
from .._check import function, integer, refuse_traced
from .._constraints import as_constraints
from .._dae import DAE
from .._data import Trajectory, as_trajectories
from .._grid import Grid, as_grids
from .._likelihoods import check_data, loss_form
from .._names import text_names
from .._precision import x64
from .._priors import check_noise_known, prior_factor
from .._ridge import ridge_factors
from .._settings import Settings
from .blocks import Points
from .bounds import Sides, check_freedom, variable_bounds
from .constraint_terms import Terms, constraint_terms
from .core import Compiled, Core
from .equations import check_index, equations
from .groups import Group, make_groups, same_inputs
from .layout import Layout
from .objective_terms import Quadratic, data_losses, residual_penalties
from .parameters import Weighted
from .point_functions import NodeField, PointLoss, Sensor, node_of
from .prior_terms import prior_terms
from .sparse import Pattern
from .steady_terms import check_rest, steady_terms
from .terms import Equations, Penalty
from .units import Units, with_weights


# Samples of a trajectory at which algebraic equations are tried for their units.
_TRIED = 32
# Values below this share of where Newton's method starts are rounding.
_ROUNDING = 1e3 * float(np.finfo(np.float64).eps)


class Parts(eqx.Module):
    """What a nonlinear program consists of.

    `bounds` and `constraint_bounds` are in the optimizer's units, those of `units`. `compiled` has
    the functions, the patterns are those of their sparse derivatives. The first `num_equations`
    constraints are the model's equations.
    """

    layout: Layout
    model: Any
    observe: OfModel | None
    trajectories: tuple[Trajectory, ...]
    grids: tuple[Grid, ...]
    groups: tuple[Group, ...]
    compiled: Compiled
    bounds: Sides
    constraint_bounds: Sides
    scale: Units
    settings: Settings
    jacobian_pattern: Pattern
    hessian_pattern: Pattern
    gauss_newton_pattern: Pattern
    num_equations: int = eqx.field(static=True)


def build(model: Any, data: Any, grid: Any, settings: Settings, like: Parts | None = None) -> Parts:
    """The parts of the problem that `jc.transcribe` documents.

    With `like`, parts of a problem of the same model and grids, its units are kept, and where the
    structure is the same too, its patterns and compiled functions.
    """
    function("model", model, "f(t, y, args)")
    refuse_traced("model", model)
    trajectories = as_trajectories(data)
    check_noise_known(settings.loss, settings.priors, trajectories)
    trajectories = with_weights(trajectories, settings.loss)
    check_data(settings.loss, trajectories)
    if like is not None:
        _check_channels(trajectories, like)
    grids = as_grids(grid, trajectories)
    if settings.collocate_start and any(item.steady is not None for item in trajectories):
        raise ValueError(
            "`collocate_start` must be False with `y0=jc.SteadyState(...)`: both determine the "
            "initial state."
        )
    observe = None
    if settings.observe is not None:
        observe = of_model("observe", settings.observe, model)
    d = _num_states(settings.num_states, trajectories, observe)
    for name in ("algebraic_bounds", "algebraic_scale"):
        if settings[name] is not None and not isinstance(model, DAE):
            raise ValueError(f"`{name}` must be None where `model` is no jc.DAE.")
    if settings.state_names is not None:
        text_names("state_names", settings.state_names, d, "state")
    with x64():
        weighted = Weighted.split("model", model, settings.trainable, settings.weight_scale)
        layout = _layout(weighted, d, model, trajectories, grids)
        groups = make_groups(layout, trajectories, grids)
        new = like is None or not same_inputs(groups, like.groups)
        if new:
            _check_shapes(layout, observe, groups, trajectories, grids)
        if like is None:
            units = _units(layout, observe, trajectories, grids, settings, model)
        else:
            units = like.scale
        rows = _rows(layout, groups, trajectories, grids, units, settings, model)
        if new:
            starts = [Unknowns.of(item.constants).start for item in trajectories]
            head = np.concatenate([weighted.flatten("model", model), *starts])
            check_rest(rows.steady, layout, groups, trajectories, head, units.state)
        bounds = variable_bounds(
            layout, model, trajectories, settings.weight_bounds, settings.state_bounds,
            as_constraints(settings.constraints, len(trajectories)), settings.algebraic_bounds,
        )  # fmt: skip
        check_freedom(bounds, (rows.lower, rows.upper))
        penalties = _penalties(layout, observe, groups, trajectories, grids, units, settings, model)
        ridge = _ridge(layout, model, trajectories, settings.l2)
        factor = prior_factor(settings.loss, trajectories)
        priors = prior_terms(layout, model, settings.priors, trajectories, factor)
        variables = units.variables(layout)
        core, patterns = Core.build(
            layout, rows.terms, penalties, (ridge,), priors, (variables, rows.factors),
            None if like is None else like.compiled.host,
        )  # fmt: skip
        if like is not None and patterns is None:
            patterns = (like.jacobian_pattern, like.hessian_pattern, like.gauss_newton_pattern)
        assert patterns is not None
        return Parts(
            layout=layout,
            model=model,
            observe=observe,
            trajectories=trajectories,
            grids=grids,
            groups=groups,
            compiled=Compiled(core, None if like is None else like.compiled),
            bounds=(bounds[0] / variables, bounds[1] / variables),
            constraint_bounds=(rows.lower * rows.factors, rows.upper * rows.factors),
            scale=units,
            settings=settings,
            jacobian_pattern=patterns[0],
            hessian_pattern=patterns[1],
            gauss_newton_pattern=patterns[2],
            num_equations=rows.num_equations,
        )


def _check_channels(trajectories: tuple[Trajectory, ...], like: Parts) -> None:
    channels, found = like.trajectories[0].num_channels, trajectories[0].num_channels
    if found != channels:
        raise ValueError(f"`data` must have {channels} channels, as before; got {found}.")


def _num_states(
    num_states: int | None, trajectories: tuple[Trajectory, ...], observe: OfModel | None
) -> int:
    channels = trajectories[0].num_channels
    if num_states is None:
        return channels
    least = 1 if observe is not None else channels
    return integer("num_states", num_states, least)


def _layout(
    weighted: Weighted,
    d: int,
    model: Any,
    trajectories: tuple[Trajectory, ...],
    grids: tuple[Grid, ...],
) -> Layout:
    counts = tuple(len(Unknowns.of(item.constants).start) for item in trajectories)
    more = model.num_algebraic if isinstance(model, DAE) else 0
    return Layout(weighted, d + more, counts, tuple(item.num_nodes for item in grids), more)


def _units(
    layout: Layout,
    observe: OfModel | None,
    trajectories: tuple[Trajectory, ...],
    grids: tuple[Grid, ...],
    settings: Settings,
    model: Any,
) -> Units:
    given, seen = settings.state_scale, observe is not None
    units = Units.of(given, trajectories, grids, seen, layout.num_differential)
    if layout.num_algebraic == 0:
        return units
    values, slopes = [], []
    for item in trajectories:
        states = np.tile(units.state, (len(item.ts), 1))
        if not seen:
            shown = slice(item.num_channels)
            states[:, shown] = np.where(item.measured, item.ys, states[:, shown])
        some = np.unique(np.linspace(0, len(item.ts) - 1, _TRIED).astype(int))
        args = restore(item.args, Unknowns.of(item.args).start)
        found = Algebraic(model, args).solve(item.ts[some], states[some])
        values.append(np.where(found.good[:, None], _without_rounding(found.a, model), np.nan))
        slopes.append(np.concatenate([found.in_state, found.in_algebraic], axis=2))
    return units.with_algebraic(
        settings.algebraic_scale, np.concatenate(values), np.concatenate(slopes)
    )


def _without_rounding(a: Float[np.ndarray, "point algebraic"], model: DAE) -> np.ndarray:
    """The values, those that are zero up to the rounding of Newton's method as zero."""
    start: Any = 0.0 if callable(model.start) else np.abs(np.asarray(model.start, float))
    return np.where(np.abs(a) > _ROUNDING * np.where(start == 0, 1.0, start), a, 0.0)


def _check_shapes(
    layout: Layout,
    observe: OfModel | None,
    groups: tuple[Group, ...],
    trajectories: tuple[Trajectory, ...],
    grids: tuple[Grid, ...],
) -> None:
    """Call model and observation once, abstractly, for each group of trajectories."""
    d, size = layout.num_states, layout.num_weights
    for group in groups:
        times = np.stack([grids[k].times[:1] for k in group.members])
        points = Points.at(times, group.args, group.unknowns, None)
        with explained("model", "f(t, y, args)", group.args):
            points.output_shape(NodeField(layout.model, layout.num_algebraic), d, size)
        if observe is None:
            continue
        channels = trajectories[0].num_channels
        with explained("observe", observe.shown, group.args):
            seen = points.output_shape(Sensor(layout.model, observe, node_of(layout)), d, size)
        if seen != (channels,):
            raise ValueError(
                f"`observe` must return an array of shape (obs,) = ({channels},), "
                f"as the channels of `ys`; got shape {seen}."
            )


class _Rows(NamedTuple):
    """All equations and constraints: terms, bounds in the caller's units, factors of the rows.

    The model's equations come first, so many of them; those of steady states last.
    """

    terms: tuple[Equations, ...]
    lower: Float[np.ndarray, " constraint"]
    upper: Float[np.ndarray, " constraint"]
    factors: Float[np.ndarray, " constraint"]
    num_equations: int
    steady: Terms


def _rows(
    layout: Layout,
    groups: tuple[Group, ...],
    trajectories: tuple[Trajectory, ...],
    grids: tuple[Grid, ...],
    units: Units,
    settings: Settings,
    model: Any,
) -> _Rows:
    """The model's equations, then what the caller has stated."""
    stated = as_constraints(settings.constraints, len(grids))
    field = NodeField(layout.model, layout.num_algebraic)
    with explained("model", "f(t, y, args)"):
        terms, factors = equations(
            field, layout, groups, trajectories, grids, units, settings.collocate_start, model
        )
    check_index(layout, terms)
    more = constraint_terms(stated, model, layout, groups, grids, len(factors), units.state)
    count = len(factors) + len(more.scale)
    steady = steady_terms(layout, groups, grids, count, units.state, units.time)
    zeros = np.zeros(len(factors))
    return _Rows(
        (*terms, *more.terms, *steady.terms),
        np.concatenate([zeros, more.lower, steady.lower]),
        np.concatenate([zeros, more.upper, steady.upper]),
        np.concatenate([factors, more.scale, steady.scale]),
        len(factors),
        steady,
    )


def _penalties(
    layout: Layout,
    observe: OfModel | None,
    groups: tuple[Group, ...],
    trajectories: tuple[Trajectory, ...],
    grids: tuple[Grid, ...],
    units: Units,
    settings: Settings,
    model: Any,
) -> tuple[Penalty, ...]:
    """The losses of the data, and the residual between the nodes if it is asked for."""
    loss = PointLoss.of(layout.model, observe, settings.loss, model, node_of(layout))
    with explained("loss", loss_form(settings.loss)):
        penalties = data_losses(loss, layout, groups, trajectories, grids)
    if settings.residual_penalty:
        penalties += residual_penalties(
            NodeField(layout.model, layout.num_algebraic), layout, groups, grids,
            float(settings.residual_penalty), np.append(units.state / units.time, units.equation),
        )  # fmt: skip
    return penalties


def _ridge(layout: Layout, model: Any, trajectories: tuple[Trajectory, ...], l2: Any) -> Quadratic:
    """The ridge penalty: weights are drawn to zero, unknowns to their start."""
    unknowns = [Unknowns.of(item.constants) for item in trajectories]
    factor = [ridge_factors(layout.model, l2, model), *(item.l2 for item in unknowns)]
    center = [np.zeros(layout.num_weights), *(item.start for item in unknowns)]
    return Quadratic.ridge(np.concatenate(factor), np.concatenate(center))
