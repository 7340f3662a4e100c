r"""The iterations of `jc.InteriorPoint`, as one jitted loop.

Waechter and Biegler, "On the implementation of an interior-point filter line-search algorithm for
large-scale nonlinear programming" (Mathematical Programming 106, 2006). Where theirs restores
feasibility by another optimization problem, ours takes Newton steps on the equations, the
shortest ones in the metric of the bounds: given weights and initial states, as many equations as
unknown states are to be met.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from . import kkt
from .barrier import Point, Problem, Values, longest_dual
from .filter import Filter, Search


RUNNING, SOLVED, ACCEPTABLE, LIMIT, TINY, NO_RESTORATION, NOT_FINITE, DIVERGING = range(8)

_FIRST_DELTA, _LEAST_DELTA, _MOST_DELTA, _NEAR_NONE = 1e-4, 1e-20, 1e20, 1e-3
_DELTA_UP_FIRST, _DELTA_UP, _DELTA_DOWN = 100.0, 4.0, 1 / 3
_TAU = 0.99
_MU_FACTOR, _MU_POWER, _MU_ERROR = 0.2, 1.5, 10.0
_ACCEPTABLE, _ACCEPTABLE_STEPS = 100.0, 15
_TINY = 10 * 2.2e-16
_FEASIBLE = 1e-4
_LARGEST_MULTIPLIER = 1e3
_RESTORED = 0.9
_MOST_TRIALS = 60
_REFINEMENTS, _REFINED = 2, 1e-9
_WITHOUT_CURVATURE, _INSTEAD, _CUT = 100.0, 0.1, 0.3
_CORRECTIONS, _CORRECTED = 4, 0.5
_LARGEST = 1e20


class Options(NamedTuple):
    """Numbers that may change without compiling anew."""

    tol: Array
    max_steps: Array


class Record(NamedTuple):
    """One row of the trace."""

    objective: Array
    primal: Array
    dual: Array
    mu: Array
    step_norm: Array
    step_size: Array
    delta: Array
    trials: Array
    restoration: Array


class State(NamedTuple):
    """Between two iterations."""

    point: Point
    values: Values
    force: Array
    mu: Array
    kept: Filter
    delta: Array
    instead: Array
    eager: Array
    iteration: Array
    status: Array
    acceptable: Array
    tiny: Array
    starting: Array
    restoring: Array
    restore_from: Array
    best: Array
    best_key: Array
    record: Record


class _Step(NamedTuple):
    z: Array
    s: Array
    multipliers: Array
    low: Array
    high: Array
    s_low: Array
    s_high: Array


def begin(
    problem: Problem,
    z: Array,
    multipliers: Array | None,
    low: Array | None,
    high: Array | None,
    mu: Array,
) -> State:
    """The first iterate, inside the bounds; multipliers that are not given are found later."""
    warm = multipliers is not None
    push = 1e-9 if warm else 1e-2
    z = jnp.where(problem.fixed, z, problem.box.inside(z, push))
    constraints = problem.core.constraints(z) * problem.row_scale
    s = jnp.where(problem.inequality, problem.slack_box.inside(constraints, push), 0.0)
    values = problem.evaluate(z, s)
    path = problem.box.first_multipliers(mu, z)
    low = path[0] if low is None else jnp.where(path[0] > 0, jnp.maximum(low, mu * 1e-3), 0.0)
    high = path[1] if high is None else jnp.where(path[1] > 0, jnp.maximum(high, mu * 1e-3), 0.0)
    s_low, s_high = problem.slack_box.first_multipliers(mu, s)
    zeros = jnp.zeros(len(problem.target))
    point = Point(z, s, zeros, low, high, s_low, s_high)
    found = zeros if multipliers is None else multipliers
    if warm:
        # Slacks' multipliers are those of their rows.
        s_low = jnp.where(s_low > 0, jnp.maximum(jnp.maximum(-found, 0.0), mu * 1e-3), 0.0)
        s_high = jnp.where(s_high > 0, jnp.maximum(jnp.maximum(found, 0.0), mu * 1e-3), 0.0)
    point = point._replace(multipliers=found, s_low=s_low, s_high=s_high)
    force = problem.force(values, found)
    _, dual, primal = problem.error(jnp.asarray(0.0), values, point, force)
    zero = jnp.asarray(0.0)
    record = Record(
        values.objective / problem.scale, primal, dual, mu, zero, zero, zero,
        jnp.asarray(0), jnp.asarray(False),
    )  # fmt: skip
    state = State(
        point=point,
        values=values,
        force=force,
        mu=mu,
        kept=Filter.start(jnp.sum(jnp.abs(values.residual))),
        delta=zero,
        instead=jnp.asarray(_INSTEAD),
        eager=jnp.asarray(True),
        iteration=jnp.asarray(0),
        status=jnp.where(values.finite, RUNNING, NOT_FINITE),
        acceptable=jnp.asarray(0),
        tiny=jnp.asarray(0),
        starting=jnp.asarray(not warm),
        restoring=jnp.asarray(False),
        restore_from=zero,
        best=z,
        best_key=jnp.stack([jnp.maximum(primal, _FEASIBLE), values.objective]),
        record=record,
    )
    return _strong(state)


def iterate(problem: Problem, options: Options, exact: bool, state: State) -> State:
    """One iteration; or, where multipliers are wanted, the search for them.

    These leave the least gradient of the Lagrangian (Eq. 36), by the same linear system with
    the metric for a Hessian: they cost no compilation of their own.
    """
    state = _next_barrier(problem, options, state)
    structure = problem.structure
    mu, point, values, restoring = state.mu, state.point, state.values, state.restoring
    starting = state.starting
    tau = jnp.maximum(_TAU, 1 - mu)
    multipliers = jnp.where(restoring, 0.0, point.multipliers)

    def curvature(without: Array) -> kkt.Curvature:
        return problem.curvature(point.z, jnp.where(without, 0.0, multipliers), exact)

    flat = restoring | starting
    sigma = jnp.where(starting, 0.0, problem.box.sigma(point.z, point.low, point.high))
    sigma_s = jnp.where(
        problem.inequality & ~starting,
        problem.slack_box.sigma(point.s, point.s_low, point.s_high),
        1.0,
    )
    in_z = jnp.where(restoring, 0.0, state.force) + problem.box.push(mu, point.z)
    in_z = jnp.where(problem.fixed, 0.0, in_z)
    in_s = -multipliers + problem.slack_box.push(mu, point.s)
    in_s = jnp.where(problem.inequality, in_s, 0.0)
    weight = jnp.where(problem.inequality, sigma_s, 1 / kkt.LOOSE)
    tried = _factorised(problem, values, curvature, sigma, weight, flat, state)
    factor, hessian, delta = tried.factor, tried.hessian, tried.delta
    state = state._replace(eager=tried.tries == 1)

    def solve(dual: Array, primal: Array) -> tuple[Array, Array]:
        return kkt.solve(structure, values.slopes, factor, dual, primal, problem.fixed)

    def left_over(dual: Array, primal: Array, dz: Array, dl: Array) -> tuple[Array, Array]:
        """What steps leave of both equations, without the loose rows' regularisation."""
        left = dual - kkt.curved(structure, hessian, dz) - (sigma + delta * problem.metric) * dz
        left = left - kkt.transposed(structure, values.slopes, dl)
        missing = primal - kkt.times(structure, values.slopes, dz)
        missing = missing + jnp.where(problem.inequality, dl / sigma_s, 0.0)
        return jnp.where(problem.fixed, 0.0, left), missing

    dual = -in_z
    primal = -jnp.where(starting, 0.0, values.residual)
    primal = primal - jnp.where(problem.inequality, in_s / sigma_s, 0.0)
    dz, dl = _refined(solve, left_over, dual, primal)
    ds = jnp.where(problem.inequality, (dl - in_s) / sigma_s, 0.0)
    low = problem.box.multiplier_steps(mu, point.z, dz, point.low, point.high)
    s_low = problem.slack_box.multiplier_steps(mu, point.s, ds, point.s_low, point.s_high)
    # Without a step the search has nothing to look for.
    dz, ds = jnp.where(starting, 0.0, dz), jnp.where(starting, 0.0, ds)
    step = _Step(dz, ds, dl, *low, *s_low)

    def correction(residual: Array) -> tuple[Array, Array]:
        dz, dl = solve(jnp.zeros(len(point.z)), -residual)
        return dz, jnp.where(problem.inequality, dl / sigma_s, 0.0)

    found = _line_search(problem, state, step, correction, tau)
    after = _accepted(problem, options, state, step, found, tau, tried)
    # The values are the same; named so, they are not copied.
    started = state._replace(
        point=point._replace(multipliers=after.point.multipliers),
        values=after.values,
        force=after.force,
        eager=jnp.asarray(True),
        starting=jnp.asarray(False),
    )
    return jax.tree.map(lambda a, b: jnp.where(starting, a, b), started, after)


class _Solving(NamedTuple):
    dz: Array
    dl: Array
    left: Array
    missing: Array
    rounds: Array


def _refined(solve: Any, left_over: Any, dual: Array, primal: Array) -> tuple[Array, Array]:
    """The solution, refined where its residuals ask for it."""

    def another(carry: _Solving) -> _Solving:
        # The first is the solution itself: so it is compiled once.
        more_z, more_l = solve(carry.left, carry.missing)
        dz, dl = carry.dz + more_z, carry.dl + more_l
        left, missing = left_over(dual, primal, dz, dl)
        return _Solving(dz, dl, left, missing, carry.rounds + 1)

    def largest(item: Array) -> Array:
        return jnp.max(jnp.abs(item), initial=0.0)

    def going(carry: _Solving) -> Array:
        rough = largest(carry.left) > _REFINED * largest(dual)
        rough = rough | (largest(carry.missing) > _REFINED * largest(primal))
        return (carry.rounds == 0) | (rough & (carry.rounds <= _REFINEMENTS))

    none_z, none_l = jnp.zeros(len(dual)), jnp.zeros(len(primal))
    solved = jax.lax.while_loop(
        going, another, _Solving(none_z, none_l, dual, primal, jnp.asarray(0))
    )
    return solved.dz, solved.dl


def _next_barrier(problem: Problem, options: Options, state: State) -> State:
    """A smaller mu where its problem is solved well enough (Eq. 7)."""

    def solved(state: State) -> Array:
        error, _, _ = problem.error(state.mu, state.values, state.point, state.force)
        return (error <= _MU_ERROR * state.mu) & (state.mu > options.tol / 10)

    def smaller(state: State) -> State:
        mu = jnp.minimum(_MU_FACTOR * state.mu, state.mu**_MU_POWER)
        return state._replace(mu=jnp.maximum(mu, options.tol / 10), kept=state.kept.emptied())

    return jax.lax.while_loop(lambda state: ~state.restoring & solved(state), smaller, state)


class _Attempt(NamedTuple):
    """A factorisation, the Hessian and what was added to it, and whether equations were left out.

    `tries` counts the attempts up to this one.
    """

    factor: Any
    hessian: kkt.Curvature
    delta: Array
    tries: Array
    without: Array


def _factorised(
    problem: Problem,
    values: Values,
    curvature: Any,
    sigma: Array,
    weight: Array,
    flat: Array,
    state: State,
) -> _Attempt:
    """With as much added to the Hessian as its curvature asks for (algorithm IC).

    That nothing is needed is tried only if little was, and enough at once. Where very much
    would be needed the equations' curvature is left out instead, and `state.instead` added:
    multipliers that have grown on the way to feasibility would make it worse with every step.
    """
    last = state.delta

    def enlarged(delta: Array) -> Array:
        first = jnp.where(last > 0, jnp.maximum(_LEAST_DELTA, _DELTA_DOWN * last), _FIRST_DELTA)
        up = jnp.where(last > 0, _DELTA_UP, _DELTA_UP_FIRST)
        return jnp.where(delta > 0, up * delta, first)

    hopeful = (state.eager & (last < _NEAR_NONE)) | (last == 0)
    least = jnp.where(hopeful, 0.0, enlarged(jnp.asarray(0.0)))
    least = jnp.where(flat, 1.0, least)

    def another(tried: _Attempt) -> _Attempt:
        # The first factorisation is one of the loop, so that it is compiled once.
        delta = jnp.where(tried.tries == 0, least, enlarged(tried.delta))
        without = tried.without | (delta > _WITHOUT_CURVATURE)
        delta = jnp.where(without & ~tried.without & ~flat, state.instead, delta)
        changed = (tried.tries == 0) | (without & ~tried.without)
        hessian = jax.lax.cond(
            changed & ~flat,
            lambda _: curvature(without),
            lambda _: tried.hessian,
            jnp.zeros(()),
        )
        factor = kkt.factorise(
            problem.structure,
            values.slopes,
            hessian,
            sigma + delta * problem.metric,
            weight,
            problem.fixed,
        )
        return _Attempt(factor, hessian, delta, tried.tries + 1, without)

    def bad(tried: _Attempt) -> Array:
        return ~tried.factor.good & (tried.delta < _MOST_DELTA)

    def empty(tree: Any) -> Any:
        return jax.tree.map(lambda item: jnp.zeros(item.shape, item.dtype), tree)

    none = empty(jax.eval_shape(curvature, jnp.asarray(False)))
    start = _Attempt(None, none, jnp.asarray(0.0), jnp.asarray(0), jnp.asarray(False))
    start = start._replace(factor=empty(jax.eval_shape(another, start).factor))
    return jax.lax.while_loop(bad, another, start)


class _Trial(NamedTuple):
    """A point that the line search looks at, `corrections` after a step of length alpha."""

    alpha: Array
    z: Array
    s: Array
    corrections: Array
    theta: Array
    phi: Array
    accepted: Array
    trials: Array


class _Found(NamedTuple):
    """What a line search ends with."""

    alpha: Array
    z: Array
    s: Array
    accepted: Array
    trials: Array
    search: Search
    objective_decided: Array


def _line_search(
    problem: Problem, state: State, step: _Step, correction: Any, tau: Array
) -> _Found:
    """Halve the step until the filter accepts it.

    Where a trial misses the constraints, it is first moved towards them, which follows the curved
    valleys of these problems further than a straight step can: for a full step that is
    Waechter and Biegler's second-order correction (section 2.4).
    """
    mu, point, values, restoring = state.mu, state.point, state.values, state.restoring
    theta = jnp.sum(jnp.abs(values.residual))
    phi = problem.barrier(mu, values.objective, point.z, point.s)
    slope = (values.gradient + problem.box.push(mu, point.z)) @ step.z
    slope = slope + problem.slack_box.push(mu, point.s) @ step.s
    search = Search(theta, phi, slope)

    def longest(dz: Array, ds: Array) -> Array:
        in_z = problem.box.longest(tau, point.z, dz)
        return jnp.minimum(in_z, problem.slack_box.longest(tau, point.s, ds))

    full = longest(step.z, step.s)
    size = jnp.max(jnp.abs(step.z) / (1 + jnp.abs(point.z)))
    shortest = jnp.where(restoring, 1e-8, search.shortest(state.kept))

    def look(trial: _Trial) -> _Trial:
        objective, residual = problem.trial(trial.z, trial.s)
        new_theta = jnp.sum(jnp.abs(residual))
        new_phi = problem.barrier(mu, objective, trial.z, trial.s)
        by_filter = search.accepts(state.kept, trial.alpha, new_theta, new_phi)
        lower = (new_theta <= (1 - 1e-4 * trial.alpha) * theta) & jnp.isfinite(new_theta + new_phi)
        accepted = jnp.where(restoring, lower, by_filter) | (size < _TINY)
        helps = (trial.corrections == 0) | (new_theta <= _CORRECTED * trial.theta)
        correct = (new_theta > theta) & helps & (trial.corrections < _CORRECTIONS)
        correct = correct & jnp.isfinite(new_theta) & ~accepted

        def corrected(_: Array) -> tuple[Array, Array]:
            dz, ds = correction(residual)
            dz, ds = trial.z + dz - point.z, trial.s + ds - point.s
            length = longest(dz, ds)
            return point.z + length * dz, point.s + length * ds

        def halved(_: Array) -> tuple[Array, Array]:
            half = trial.alpha / 2
            return point.z + half * step.z, point.s + half * step.s

        z, s = jax.lax.cond(correct, corrected, halved, jnp.zeros(()))
        return _Trial(
            alpha=jnp.where(accepted | correct, trial.alpha, trial.alpha / 2),
            z=jnp.where(accepted, trial.z, z),
            s=jnp.where(accepted, trial.s, s),
            corrections=jnp.where(correct, trial.corrections + 1, 0),
            theta=new_theta,
            phi=new_phi,
            accepted=accepted,
            trials=trial.trials + 1,
        )

    def going(trial: _Trial) -> Array:
        enough = (trial.alpha >= shortest) | (trial.alpha == full)
        return ~trial.accepted & enough & (trial.trials < _MOST_TRIALS)

    none = jnp.asarray(0)
    start = _Trial(
        full, point.z + full * step.z, point.s + full * step.s, none, theta, phi,
        jnp.asarray(False), none,
    )  # fmt: skip
    found = jax.lax.while_loop(going, look, start)
    decided = search.switches(found.alpha) & search.descends(found.alpha, found.phi)
    return _Found(found.alpha, found.z, found.s, found.accepted, found.trials, search, decided)


def _accepted(
    problem: Problem,
    options: Options,
    state: State,
    step: _Step,
    found: _Found,
    tau: Array,
    tried: _Attempt,
) -> State:
    """The next state; a step that was not accepted leads into restoration, or ends it."""
    point, restoring = state.point, state.restoring
    usable = found.accepted & tried.factor.good
    delta = tried.delta
    multipliers_finite = jnp.all(jnp.isfinite(step.multipliers))
    usable = usable & multipliers_finite

    def chosen(new: Array, old: Array) -> Array:
        return jnp.where(usable, new, old)

    dual = longest_dual(tau, point.low, step.low)
    dual = jnp.minimum(dual, longest_dual(tau, point.high, step.high))
    dual = jnp.minimum(dual, longest_dual(tau, point.s_low, step.s_low))
    dual = jnp.minimum(dual, longest_dual(tau, point.s_high, step.s_high))
    z, s = chosen(found.z, point.z), chosen(found.s, point.s)
    low, high = problem.box.kept_near(
        state.mu, z, point.low + dual * step.low, point.high + dual * step.high
    )
    s_low, s_high = problem.slack_box.kept_near(
        state.mu, s, point.s_low + dual * step.s_low, point.s_high + dual * step.s_high
    )
    multipliers = point.multipliers + found.alpha * step.multipliers
    multipliers = jnp.where(restoring, 0.0, multipliers)
    # Those found anew are no help where they are large.
    largest = jnp.max(jnp.abs(step.multipliers), initial=0.0)
    found_anew = jnp.where(largest < _LARGEST_MULTIPLIER, step.multipliers, 0.0)
    multipliers = jnp.where(state.starting, found_anew, multipliers)
    new = Point(
        z, s, chosen(multipliers, point.multipliers), chosen(low, point.low),
        chosen(high, point.high), chosen(s_low, point.s_low), chosen(s_high, point.s_high),
    )  # fmt: skip
    values = problem.evaluate(z, s)
    theta = jnp.sum(jnp.abs(values.residual))
    phi = problem.barrier(state.mu, values.objective, z, s)
    force = problem.force(values, new.multipliers)
    error, dual_error, primal = problem.error(jnp.asarray(0.0), values, new, force)
    search = found.search
    # A pair for every step that the objective has not decided, and where restoration begins.
    with_pair = state.kept.with_pair(search.theta, search.phi)
    augment = ~restoring & ~(usable & found.objective_decided)
    kept = jax.tree.map(lambda a, b: jnp.where(augment, a, b), with_pair, state.kept)
    starts = ~restoring & ~usable
    restored = (
        restoring & usable & (theta <= _RESTORED * state.restore_from) & kept.allows(theta, phi)
    )
    feasible = search.theta <= options.tol
    stuck = (restoring & ~usable) | (starts & feasible)
    size = jnp.max(jnp.abs(step.z) / (1 + jnp.abs(point.z)))
    tiny = jnp.where((size < _TINY) & ~restoring, state.tiny + 1, 0)
    near = error <= _ACCEPTABLE * options.tol
    acceptable = jnp.where(near & ~restoring, state.acceptable + 1, 0)
    # As Levenberg and Marquardt do: more where the step had to be cut, less where it had not.
    damped = jnp.where(found.alpha < _CUT, _DELTA_UP, _DELTA_DOWN) * state.instead
    damped = jnp.clip(damped, _INSTEAD, _WITHOUT_CURVATURE)
    iteration = state.iteration + 1
    status = jnp.asarray(RUNNING)
    status = jnp.where(iteration >= options.max_steps, LIMIT, status)
    status = jnp.where(jnp.max(jnp.abs(z)) > _LARGEST, DIVERGING, status)
    status = jnp.where(stuck, jnp.where(near, ACCEPTABLE, NO_RESTORATION), status)
    status = jnp.where((starts & feasible) | (tiny >= 2), jnp.where(near, ACCEPTABLE, TINY), status)
    status = jnp.where(acceptable >= _ACCEPTABLE_STEPS, ACCEPTABLE, status)
    status = jnp.where(~values.finite, NOT_FINITE, status)
    status = jnp.where((error <= options.tol) & ~(restoring & ~restored), SOLVED, status)
    key = jnp.stack([jnp.maximum(primal, _FEASIBLE), values.objective])
    better = (key[0] < state.best_key[0]) | (
        (key[0] == state.best_key[0]) & (key[1] < state.best_key[1])
    )
    record = Record(
        values.objective / problem.scale, primal, dual_error, state.mu,
        jnp.max(jnp.abs(step.z)), jnp.where(usable, found.alpha, 0.0), delta, found.trials,
        restoring | starts,
    )  # fmt: skip
    return State(
        point=new,
        values=values,
        force=force,
        mu=state.mu,
        kept=kept,
        delta=jnp.where(restoring | (delta <= 0), state.delta, delta),
        instead=jnp.where(tried.without, damped, state.instead),
        eager=state.eager,
        iteration=iteration,
        status=status,
        acceptable=acceptable,
        tiny=tiny,
        starting=jnp.asarray(False),
        restoring=(restoring & ~restored) | starts,
        restore_from=jnp.where(starts, search.theta, state.restore_from),
        best=jnp.where(better, z, state.best),
        best_key=jnp.where(better, key, state.best_key),
        record=record,
    )


def iterations(
    problem: Problem,
    options: Options,
    exact: bool,
    state: State,
    count: Array,
    room: int,
) -> tuple[State, Record]:
    """At most `count` iterations, and their records, of which there is room for `room`."""
    records = jax.tree.map(lambda item: jnp.zeros((room, *item.shape), item.dtype), state.record)

    def one(carry: tuple[State, Record, Array]) -> tuple[State, Record, Array]:
        before, records, done = carry
        state = iterate(problem, options, exact, before)
        records = jax.tree.map(lambda all, new: all.at[done].set(new), records, state.record)
        return state, records, done + (state.iteration - before.iteration)

    def going(carry: tuple[State, Record, Array]) -> Array:
        return (carry[0].status == RUNNING) & (carry[2] < count)

    state, records, _ = jax.lax.while_loop(going, one, (state, records, jnp.asarray(0)))
    return _strong(state), records


first, several = eqx.filter_jit(begin), eqx.filter_jit(iterations)


@eqx.filter_jit
def first_of_batch(
    problem: Problem,
    axes: Any,
    inputs: tuple[Any, ...],
    input_axes: tuple[Any, ...],
) -> State:
    """`begin` for many problems; `axes` are those of the arrays in which they differ."""

    def one(problem: Problem, *inputs: Any) -> State:
        return begin(problem, *inputs)

    return eqx.filter_vmap(one, in_axes=(axes, *input_axes))(problem, *inputs)


@eqx.filter_jit
def several_of_batch(
    problem: Problem,
    axes: Any,
    options: Options,
    exact: bool,
    state: State,
    count: Array,
    room: int,
) -> tuple[State, Record]:
    """`iterations` for many problems."""

    def one(problem: Problem, state: State) -> tuple[State, Record]:
        return iterations(problem, options, exact, state, count, room)

    return eqx.filter_vmap(one, in_axes=(axes, 0))(problem, state)


def _strong(state: State) -> State:
    """With definite dtypes, so that what comes out can go in again without compiling anew."""
    return jax.tree.map(lambda item: jax.lax.convert_element_type(item, item.dtype), state)
