r"""One iteration of the interior-point method, which reads as a table of its contents.

Its parts: the barrier parameter (`barrier.py`), the factorised KKT system (`inertia.py`, `kkt.py`),
the Newton step (`newton.py`), the line search (`line_search.py`, `filter.py`), restoration
(`restoration.py`), and the status (`termination.py`). `options.py` names the source of the
algorithm and all its constants. An iteration knows functions and blocks of matrices, but neither
what they come from nor who asks for iterations, nor whether it is traced or runs on NumPy's arrays
(`_arrays.py`).
"""

from .._arrays import Array, driver
from . import blocks, inertia, kkt, newton, restoration, termination
from .barrier import Errors, Point, Problem, Values
from .blocks import Curvature
from .line_search import Found, line_search
from .newton import Step
from .options import CONSTR_MULT_INIT_MAX, TAU_MIN
from .restoration import Transition
from .state import Options, Record, State, rank


def iterate(problem: Problem, options: Options, exact: bool, state: State) -> State:
    """The state after one iteration.

    The first iteration of a cold start finds the constraints' multipliers and moves nothing else.
    `exact` is whether the Hessian is, or the Gauss-Newton approximation.
    """
    state = _with_next_mu(problem, options, state)
    on = driver(state.mu)
    tau = on.xp.maximum(TAU_MIN, 1 - state.mu)
    equations = newton.equations(problem, state)

    def curvature(flattened: Array) -> Curvature:
        multipliers = on.zero_if(flattened, equations.multipliers)
        return problem.curvature(state.point.z, multipliers, exact)

    slopes = state.values.slopes
    eliminated = kkt.eliminate(problem.structure, slopes)
    attempt = inertia.factorised(
        problem, slopes, eliminated, curvature, equations.sigma, equations.weight(problem),
        equations.metric_only, state.memory, exact,
    )  # fmt: skip
    system = newton.System(problem, slopes, eliminated, equations, attempt)
    step = system.step(state.mu, state.point, state.starting)
    found = line_search(problem, state, step, system.correction, tau)
    after = _after(problem, options, state, step, found, attempt, tau)
    if not exact:
        after = _learned(problem, state, attempt, after)
    return on.select(state.starting, _with_multipliers(state, after), after)


def _learned(problem: Problem, state: State, attempt: inertia.Attempt, after: State) -> State:
    """The state after a step, with what that has shown of the curvature that its Hessian lacks."""
    step = after.point.z - state.point.z
    force = problem.force(state.values, after.point.multipliers)
    expected = blocks.hessian_product(problem.structure, attempt.hessian, step)
    on = driver(step)
    missing = step @ (after.force - force - expected) / on.xp.sum(problem.metric * step**2)
    missing = on.select(state.restoring, on.xp.nan, missing)
    memory = after.memory.learned(missing, after.record.step_size, after.values.objective)
    return after._replace(memory=memory)


def _with_next_mu(problem: Problem, options: Options, state: State) -> State:
    """The state with a smaller barrier parameter where its problem is solved well enough.

    The filter begins anew then. Restoration keeps the parameter.
    """
    mu = problem.next_mu(state.mu, options.tol, state.values, state.point, state.force)
    on = driver(mu)
    mu = on.select(state.restoring, state.mu, mu)
    empty = state.filter.emptied()
    pairs = on.select(mu < state.mu, empty.pairs, state.filter.pairs)
    return state._replace(mu=mu, filter=state.filter._replace(pairs=pairs))


def _with_multipliers(state: State, after: State) -> State:
    """The state before a cold start's first iteration, with the multipliers that it has found."""
    # The values of both are the same; so named they are not copied.
    return state._replace(
        point=state.point._replace(multipliers=after.point.multipliers),
        values=after.values,
        force=after.force,
        memory=state.memory._replace(at_once=driver(state.mu).value(True)),
        starting=after.starting,
    )


def _after(
    problem: Problem,
    options: Options,
    state: State,
    step: Step,
    found: Found,
    attempt: inertia.Attempt,
    tau: Array,
) -> State:
    """The state after a step.

    One that is not accepted leads into restoration, or ends the solve.
    """
    on = driver(state.mu)
    trial, search, restoring = found.trial, found.search, state.restoring
    usable = trial.accepted & attempt.good & on.xp.isfinite(step.multipliers).all()
    point = _next_point(problem, state, step, found, usable, tau)
    values = problem.evaluate(point.z, point.s)
    force = problem.force(values, point.multipliers)
    errors = problem.errors(on.value(0.0), values, point, force)
    phi = problem.barrier(state.mu, values.objective, point.z, point.s)
    filter = restoration.augmented(
        state.filter, search, restoring, usable & found.objective_decided
    )
    phase = restoration.transition(
        restoring, state.restore_from, usable, search.theta <= options.tol,
        values.theta, filter.allows(values.theta, phi),
    )  # fmt: skip
    near = termination.is_near(options, errors.total)
    size = step.relative_size(state.point.z)
    streaks = termination.longer(state.streaks, near, size, restoring)
    iteration = state.iteration + 1
    status = termination.status(
        options, iteration, point.z, values.finite, errors.total, streaks, phase, restoring
    )
    best, best_key = _best(state, point, errors, values)
    return State(
        point=point,
        values=values,
        force=force,
        mu=state.mu,
        filter=filter,
        memory=state.memory.after(attempt, trial.alpha, restoring),
        iteration=iteration,
        status=status,
        streaks=streaks,
        starting=on.value(False),
        restoring=phase.goes_on,
        restore_from=on.select(phase.starts, search.theta, state.restore_from),
        best=best,
        best_key=best_key,
        record=_record(problem, state, step, found, usable, attempt, values, errors, phase),
    )


def _next_point(
    problem: Problem, state: State, step: Step, found: Found, usable: Array, tau: Array
) -> Point:
    """The accepted point with its multipliers (Eq. 14 and 16), or the old one if none is usable."""
    point, trial = state.point, found.trial
    on = driver(trial.z)
    dual = step.longest_dual(problem, tau, point)
    z, s = on.select(usable, (trial.z, trial.s), (point.z, point.s))
    low, high = problem.box.kept_near(
        state.mu, z, point.low + dual * step.low, point.high + dual * step.high
    )
    s_low, s_high = problem.slack_box.kept_near(
        state.mu, s, point.s_low + dual * step.s_low, point.s_high + dual * step.s_high
    )
    multipliers = point.multipliers + trial.alpha * step.multipliers
    multipliers = on.zero_if(state.restoring, multipliers)
    # Those of a cold start are no help where they are large.
    largest = abs(step.multipliers).max(initial=0.0)
    first = on.zero_if(on.negate(largest < CONSTR_MULT_INIT_MAX), step.multipliers)
    multipliers = on.select(state.starting, first, multipliers)
    return on.select(usable, Point(z, s, multipliers, low, high, s_low, s_high), point)


def _best(state: State, point: Point, errors: Errors, values: Values) -> tuple[Array, Array]:
    """The variables of the best point so far, and by what it is the best."""
    key, old = rank(errors, values), state.best_key
    better = (key[0] < old[0]) | ((key[0] == old[0]) & (key[1] < old[1]))
    return driver(key).select(better, (point.z, key), (state.best, old))


def _record(
    problem: Problem,
    state: State,
    step: Step,
    found: Found,
    usable: Array,
    attempt: inertia.Attempt,
    values: Values,
    errors: Errors,
    phase: Transition,
) -> Record:
    """The row of the trace for a step."""
    on = driver(step.z)
    return Record(
        objective=values.objective / problem.scale,
        primal=errors.primal,
        dual=errors.dual,
        mu=state.mu,
        step_norm=abs(step.z).max(),
        step_size=on.select(usable, found.trial.alpha, 0.0),
        delta=attempt.delta,
        trials=found.trial.trials,
        restoration=state.restoring | phase.starts,
    )
