"""What the interior-point method knows between two iterations, and with what it begins."""

from typing import NamedTuple

from .._arrays import Array, driver, module
from .barrier import Errors, Point, Problem, Values
from .filter import Filter
from .inertia import Memory
from .options import (
    BEST_POINT_TOL,
    BOUND_PUSH,
    WARM_START_BOUND_PUSH,
    WARM_START_MULT_FRACTION,
)


# How a solve stands: it goes on, is at an optimum, at a point that is nearly one, out of steps, its
# steps are too small to change anything, restoration has failed, values are not finite, variables
# grow without bounds.
RUNNING, SOLVED, ACCEPTABLE, LIMIT, TINY, NO_RESTORATION, NOT_FINITE, DIVERGING = range(8)


class Options(NamedTuple):
    """Numbers that may change without compiling anew: tolerance and most iterations."""

    tol: Array
    max_steps: Array


class Record(NamedTuple):
    """One row of the trace.

    `objective` is not scaled; `primal` and `dual` are the infeasibilities; `step_norm` is the
    largest step of a variable before it was cut to `step_size` of it; `delta` was added to the
    Hessian, after `trials` points the search ended; `restoration`: whether it lowered the
    violation alone, or has to from now on.
    """

    objective: Array
    primal: Array
    dual: Array
    mu: Array
    step_norm: Array
    step_size: Array
    delta: Array
    trials: Array
    restoration: Array


class Streaks(NamedTuple):
    """For how many iterations in a row the point has been acceptable, and the step tiny."""

    acceptable: Array
    tiny: Array


class State(NamedTuple):
    """All that one iteration hands to the next.

    - `point`, `values`, `force`: where it stands; functions there; the gradient of the Lagrangian
      without the bounds' multipliers.
    - `mu`, `filter`: the barrier parameter, and the filter of its problem.
    - `memory`: what has been added to the Hessian.
    - `iteration`, `status`, `streaks`: how far it has come.
    - `starting`: whether the constraints' multipliers are still to be found.
    - `restoring`, `restore_from`: whether it lowers the violation alone, and the violation at which
      that began.
    - `best`, `best_key`: the variables of the best point so far, and by what it is the best.
    - `record`: the last row of the trace.
    """

    point: Point
    values: Values
    force: Array
    mu: Array
    filter: Filter
    memory: Memory
    iteration: Array
    status: Array
    streaks: Streaks
    starting: Array
    restoring: Array
    restore_from: Array
    best: Array
    best_key: Array
    record: Record


def begin(
    problem: Problem,
    z: Array,
    multipliers: Array | None,
    low: Array | None,
    high: Array | None,
    mu: Array,
) -> State:
    """The state at the first point, which is moved inside the bounds.

    **Arguments:**

    - `problem`: the scaled problem.
    - `z`: the variables.
    - `multipliers`: those of the constraints in the scaled problem; None for a cold start, whose
      first iteration finds them.
    - `low`, `high`: those of the variables' bounds; None for the central path's.
    - `mu`: the first barrier parameter.
    """
    on = driver(z)
    warm = multipliers is not None
    point = _first_point(problem, z, multipliers, low, high, mu)
    values = problem.evaluate(point.z, point.s)
    force = problem.force(values, point.multipliers)
    zero, no, none = on.value(0.0), on.value(False), on.value(0)
    errors = problem.errors(zero, values, point, force)
    record = Record(
        values.objective / problem.scale, errors.primal, errors.dual, mu, zero, zero, zero,
        none, no,
    )  # fmt: skip
    return State(
        point=point,
        values=values,
        force=force,
        mu=mu,
        filter=Filter.start(values.theta),
        memory=Memory.start(values.objective),
        iteration=none,
        status=on.select(values.finite, RUNNING, NOT_FINITE),
        streaks=Streaks(none, none),
        starting=on.value(not warm),
        restoring=no,
        restore_from=zero,
        best=point.z,
        best_key=rank(errors, values),
        record=record,
    )


def _first_point(
    problem: Problem,
    z: Array,
    multipliers: Array | None,
    low: Array | None,
    high: Array | None,
    mu: Array,
) -> Point:
    """The first point, inside the bounds (section 3.6); arguments as of `begin`."""
    push = BOUND_PUSH if multipliers is None else WARM_START_BOUND_PUSH
    least = mu * WARM_START_MULT_FRACTION
    xp = module(z)
    z = xp.where(problem.fixed, z, problem.box.inside(z, push))
    constraints = problem.core.constraints(z) * problem.row_scale
    s = xp.where(problem.inequality, problem.slack_box.inside(constraints, push), 0.0)

    def at_least(path: Array, given: Array | None) -> Array:
        return path if given is None else xp.where(path > 0, xp.maximum(given, least), 0.0)

    path_low, path_high = problem.box.first_multipliers(mu, z)
    s_low, s_high = problem.slack_box.first_multipliers(mu, s)
    if multipliers is None:
        found = xp.zeros(len(problem.target))
    else:
        found = multipliers
        # Slacks' multipliers are those of their rows.
        s_low = at_least(s_low, xp.maximum(-found, 0.0))
        s_high = at_least(s_high, xp.maximum(found, 0.0))
    return Point(z, s, found, at_least(path_low, low), at_least(path_high, high), s_low, s_high)


def rank(errors: Errors, values: Values) -> Array:
    """By what points are compared: first the violation, as far as it matters, then the objective.

    The smaller is the better.
    """
    xp = module(values.objective)
    return xp.asarray([xp.maximum(errors.primal, BEST_POINT_TOL), values.objective])
