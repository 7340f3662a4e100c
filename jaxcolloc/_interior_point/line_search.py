"""The line search: from a Newton step to the next point.

The step is halved until the filter accepts it. Where a trial misses the constraints, it is first
moved towards them, which follows the curved valleys of these problems further than a straight step
can: for a full step that is Waechter and Biegler's second-order correction (section 2.4).
"""

from collections.abc import Callable
from typing import NamedTuple

from .._arrays import Array, driver, module
from . import restoration
from .barrier import Problem
from .filter import Search
from .newton import Step
from .options import KAPPA_SOC, MAX_SOC, MAX_TRIALS, RESTORATION_MIN_STEP, ROUNDING
from .state import State


Correction = Callable[[Array], tuple[Array, Array]]


class Trial(NamedTuple):
    """A point to look at, or, where `accepted`, to keep.

    `alpha`: the length of the step to it. `corrections`: how many have been made since that step.
    `theta`, `phi`: violation and barrier objective of the point looked at last. `trials`: how many
    have been looked at.
    """

    alpha: Array
    z: Array
    s: Array
    corrections: Array
    theta: Array
    phi: Array
    accepted: Array
    trials: Array


class Found(NamedTuple):
    """What a line search ends with.

    `trial`: the last point, accepted or not. `search`: where the search started.
    `objective_decided`: whether the objective has accepted the point, not the filter.
    """

    trial: Trial
    search: Search
    objective_decided: Array


def line_search(
    problem: Problem, state: State, step: Step, correction: Correction, tau: Array
) -> Found:
    """The first trial that is accepted, or the last one.

    `correction` gives the steps of variables and slacks that take a residual away; trials keep
    1 - tau of the distances to the bounds. In restoration the violation decides alone.
    """
    search = _start(problem, state, step)
    full = _longest(problem, state, step.z, step.s, tau)
    tiny = step.relative_size(state.point.z) < ROUNDING
    on = driver(full)
    shortest = on.select(state.restoring, RESTORATION_MIN_STEP, search.shortest(state.filter))

    def look(trial: Trial) -> Trial:
        return _look(problem, state, step, correction, tau, search, tiny, trial)

    def going(trial: Trial) -> Array:
        enough = (trial.alpha >= shortest) | (trial.alpha == full)
        return on.negate(trial.accepted) & enough & (trial.trials < MAX_TRIALS)

    none = on.value(0)
    first = Trial(
        full, *_at(state, step, full), none, search.theta, search.phi, on.value(False), none
    )
    last = on.loop(going, look, first)
    decided = search.switches(last.alpha) & search.descends(last.alpha, last.phi)
    return Found(last, search, decided)


def _start(problem: Problem, state: State, step: Step) -> Search:
    """Violation and barrier objective at the point, and the latter's slope along the step."""
    mu, point, values = state.mu, state.point, state.values
    phi = problem.barrier(mu, values.objective, point.z, point.s)
    slope = (values.gradient + problem.box.push(mu, point.z)) @ step.z
    slope = slope + problem.slack_box.push(mu, point.s) @ step.s
    return Search(values.theta, phi, slope)


def _longest(problem: Problem, state: State, dz: Array, ds: Array, tau: Array) -> Array:
    """The largest share of steps of variables and slacks that keeps the bounds (Eq. 15a)."""
    in_z = problem.box.longest(tau, state.point.z, dz)
    return module(dz).minimum(in_z, problem.slack_box.longest(tau, state.point.s, ds))


def _at(state: State, step: Step, alpha: Array) -> tuple[Array, Array]:
    """Variables and slacks after a step of length alpha."""
    return state.point.z + alpha * step.z, state.point.s + alpha * step.s


def _look(
    problem: Problem,
    state: State,
    step: Step,
    correction: Correction,
    tau: Array,
    search: Search,
    tiny: Array,
    trial: Trial,
) -> Trial:
    """The trial, accepted; or else the next one: corrected if that helps, or half as far.

    A `tiny` step is accepted whatever it does (section 3.9).
    """
    objective, residual = problem.trial(trial.z, trial.s)
    on = driver(residual)
    theta = abs(residual).sum()
    phi = problem.barrier(state.mu, objective, trial.z, trial.s)
    by_filter = search.accepts(state.filter, trial.alpha, theta, phi)
    lower = restoration.accepts(search, trial.alpha, theta, phi)
    accepted = on.select(state.restoring, lower, by_filter) | tiny
    helps = (trial.corrections == 0) | (theta <= KAPPA_SOC * trial.theta)
    correct = (theta > search.theta) & helps & (trial.corrections < MAX_SOC)
    correct = correct & on.xp.isfinite(theta) & on.negate(accepted)

    def corrected() -> tuple[Array, Array]:
        dz, ds = correction(residual)
        dz, ds = trial.z + dz - state.point.z, trial.s + ds - state.point.s
        length = _longest(problem, state, dz, ds, tau)
        return state.point.z + length * dz, state.point.s + length * ds

    def halved() -> tuple[Array, Array]:
        return _at(state, step, trial.alpha / 2)

    further = on.either(correct, corrected, halved)
    z, s = on.select(accepted, (trial.z, trial.s), further)
    return Trial(
        alpha=on.select(accepted | correct, trial.alpha, trial.alpha / 2),
        z=z,
        s=s,
        corrections=on.select(correct, trial.corrections + 1, 0),
        theta=theta,
        phi=phi,
        accepted=accepted,
        trials=trial.trials + 1,
    )
