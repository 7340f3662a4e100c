"""Restoration: the violation of the constraints is lowered alone, when no step is accepted.

Newton steps on the equations, the shortest ones in the metric of the bounds, take the place of
the optimization problem that Waechter and Biegler solve for it (section 3.3). `newton.equations`
has the steps' equations; here is when it starts, which steps it takes, and when it ends.
"""

from typing import NamedTuple

from .._arrays import Array, driver, module
from .filter import Filter, Search
from .options import REQUIRED_INFEASIBILITY_REDUCTION, RESTORATION_ARMIJO


class Transition(NamedTuple):
    """What a step means for restoration.

    `starts`: it must begin, as the step was not accepted. `pointless`: it would have to begin at a
    feasible point. `ends`: it has lowered the violation enough. `fails`: its own step was not
    accepted. `goes_on`: the next step is one of restoration.
    """

    starts: Array
    pointless: Array
    ends: Array
    fails: Array
    goes_on: Array


def accepts(search: Search, alpha: Array, theta: Array, phi: Array) -> Array:
    """Whether a trial of restoration lowers the violation enough; `phi` must only be finite."""
    lower = theta <= (1 - RESTORATION_ARMIJO * alpha) * search.theta
    return lower & module(phi).isfinite(theta + phi)


def transition(
    restoring: Array,
    restore_from: Array,
    accepted: Array,
    feasible: Array,
    theta: Array,
    acceptable_to_filter: Array,
) -> Transition:
    """What a step means for restoration.

    **Arguments:**

    - `restoring`, `restore_from`: whether it was one of restoration, and the violation at which
      that began.
    - `accepted`: whether the step was taken.
    - `feasible`: whether the point before the step violates nothing.
    - `theta`, `acceptable_to_filter`: the violation after the step, and what the filter says.
    """
    on = driver(theta)
    rejected = on.negate(accepted)
    starts = on.negate(restoring) & rejected
    lower = theta <= REQUIRED_INFEASIBILITY_REDUCTION * restore_from
    ends = restoring & accepted & lower & acceptable_to_filter
    return Transition(
        starts=starts,
        pointless=starts & feasible,
        ends=ends,
        fails=restoring & rejected,
        goes_on=(restoring & on.negate(ends)) | starts,
    )


def augmented(filter: Filter, search: Search, restoring: Array, objective_decided: Array) -> Filter:
    """The filter with one pair more for the point that is left, where it needs one (Eq. 22).

    That is for every step that the objective has not decided, and where restoration begins.
    """
    on = driver(filter.pairs)
    with_pair = filter.with_pair(search.theta, search.phi)
    augment = on.negate(restoring) & on.negate(objective_decided)
    return filter._replace(pairs=on.select(augment, with_pair.pairs, filter.pairs))
