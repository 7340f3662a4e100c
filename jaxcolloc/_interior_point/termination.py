"""When a solve ends, and with which status."""

from .._arrays import Array, driver
from .options import (
    ACCEPTABLE_ITER,
    ACCEPTABLE_TOL_FACTOR,
    DIVERGING_ITERATES_TOL,
    MAX_TINY_STEPS,
    ROUNDING,
)
from .restoration import Transition
from .state import (
    ACCEPTABLE,
    DIVERGING,
    LIMIT,
    NO_RESTORATION,
    NOT_FINITE,
    RUNNING,
    SOLVED,
    TINY,
    Options,
    Streaks,
)


def is_near(options: Options, error: Array) -> Array:
    """Whether the optimality error is small enough for an acceptable point."""
    return error <= ACCEPTABLE_TOL_FACTOR * options.tol


def longer(streaks: Streaks, near: Array, size: Array, restoring: Array) -> Streaks:
    """The streaks after one more iteration, with a step of relative `size`."""
    on = driver(size)
    moving = on.negate(restoring)
    return Streaks(
        acceptable=on.select(near & moving, streaks.acceptable + 1, 0),
        tiny=on.select((size < ROUNDING) & moving, streaks.tiny + 1, 0),
    )


def status(
    options: Options,
    iteration: Array,
    z: Array,
    finite: Array,
    error: Array,
    streaks: Streaks,
    phase: Transition,
    restoring: Array,
) -> Array:
    """The status after an iteration; where several rules hold, the last one of these counts.

    **Arguments:**

    - `iteration`: its number.
    - `z`, `finite`, `error`: the variables, whether functions are finite there, and the
      optimality error.
    - `streaks`, `phase`: what the iteration means for the streaks and for restoration.
    - `restoring`: whether it was one of restoration.
    """
    on = driver(error)
    near = is_near(options, error)
    rules = (
        (iteration >= options.max_steps, LIMIT),
        (_diverges(z), DIVERGING),
        (phase.fails, on.select(near, ACCEPTABLE, NO_RESTORATION)),
        (_stands_still(streaks, phase), on.select(near, ACCEPTABLE, TINY)),
        (streaks.acceptable >= ACCEPTABLE_ITER, ACCEPTABLE),
        (on.negate(finite), NOT_FINITE),
        (_is_optimal(options, error, phase, restoring), SOLVED),
    )
    found = on.value(RUNNING)
    for holds, status in rules:
        found = on.select(holds, status, found)
    return found


def _diverges(z: Array) -> Array:
    """Whether a variable is too large to mean anything."""
    return abs(z).max() > DIVERGING_ITERATES_TOL


def _stands_still(streaks: Streaks, phase: Transition) -> Array:
    """Whether steps change nothing, or none is accepted at a point that violates nothing."""
    return phase.pointless | (streaks.tiny >= MAX_TINY_STEPS)


def _is_optimal(options: Options, error: Array, phase: Transition, restoring: Array) -> Array:
    """Whether the tolerance is met, by a point that restoration does not keep."""
    on = driver(error)
    return (error <= options.tol) & on.negate(restoring & on.negate(phase.ends))
