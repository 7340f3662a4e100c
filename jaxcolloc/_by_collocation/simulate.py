"""simulate_by: what `jc.simulate` does where it is told a grid or a scheme."""

from typing import Any

import numpy as np
from jaxtyping import Float

from .._check import describe, real_numbers
from .._grid import Grid
from .._inputs import knots
from .._integrate import start_sizes
from .._points import Field
from .._scheme import AbstractScheme
from .boundary import solve_boundary
from .conditions import Conditions
from .course import Course, Tolerance
from .march import march


# Sizes that turn out this much smaller than assumed are corrected, so often.
_SMALLER, _TRIES = 1e-3, 4
_ATOL, _LEAST_START = 1e-10, 1e-8
# Boundary values begin on so many intervals, or on one of a scheme with more nodes.
_INTERVALS, _FEW_NODES = 8, 20
_MOST = 20_000


def simulate_by(
    by: Any,
    model: Any,
    ts: Float[np.ndarray, " time"],
    start: Float[np.ndarray, " state"],
    args: Any,
    *,
    rtol: float,
    atol: float | None,
    max_steps: int | None,
    throw: bool,
    constraints: Any,
    guess: Any,
) -> Float[np.ndarray, "time state"]:
    """The states at `ts`: by marching from a known start, else from conditions at both ends.

    **Errors:** `ValueError` for a `by` that is no scheme and no grid over `ts`, and for conditions
    that are too many or too few; `RuntimeError` where the tolerances are not reached.
    """
    scheme, stops = _stops(by, ts, knots((model, args)))
    most = _MOST if max_steps is None else max_steps
    given = isinstance(by, Grid)
    if np.any(np.isnan(start)) or not _none(constraints):
        conditions = Conditions(model, args, start, constraints, stops[[0, -1]])
        first = _guess(guess, ts, len(start))
        field = Field(model, args)
        with np.errstate(all="ignore"):
            course = _from_both_ends(
                field, scheme, stops, conditions, first, (rtol, atol), most, given
            )
    elif guess is not None:
        raise ValueError("`guess` is for boundary values; `y0` is known, so pass none.")
    elif ts[-1] > ts[0]:
        # What comes behind the last time is of no concern.
        stops = stops[: np.searchsorted(stops, ts[-1]) + 1]
        field = Field(model, args, _few_points(scheme))
        with np.errstate(all="ignore"):
            course = _from_start(field, scheme, stops, start, (rtol, atol), most, given)
    else:
        return np.broadcast_to(start, (len(ts), len(start)))
    if course.failure and throw:
        raise RuntimeError(
            f"The simulation by {scheme!r} failed: {course.failure}. With `throw=False` the states "
            "that were not reached are NaN."
        )
    states = course.at(ts)
    known = ~np.isnan(start)
    states[np.ix_(ts <= ts[0], known)] = start[known]
    return states


def _few_points(scheme: AbstractScheme) -> int:
    """A number of points that one interval's nodes fit into; one of few different numbers."""
    return int(max(8, 2 ** np.ceil(np.log2(scheme.num_nodes))))


def _none(constraints: Any) -> bool:
    return isinstance(constraints, (list, tuple)) and len(constraints) == 0


def _stops(
    by: Any, ts: np.ndarray, jumps: np.ndarray
) -> tuple[AbstractScheme, Float[np.ndarray, " stop"]]:
    """The scheme, and times at which intervals end: boundaries and samples of inputs."""
    if isinstance(by, AbstractScheme):
        scheme, stops = by, np.unique(ts[[0, -1]])
    elif isinstance(by, Grid):
        scheme, stops = by.scheme, by.boundaries
        if not (by.begins_at(float(ts[0])) and by.covers(ts)):
            raise ValueError(
                f"`by` must be a grid that begins at the first time and covers all, from {ts[0]:g} "
                f"to {ts[-1]:g}; got {by!r}."
            )
    else:
        raise ValueError(
            f"`by` must be a scheme such as jc.Radau(5), a jc.Grid, or None; got {describe(by)}."
        )
    inside = jumps[(jumps > stops[0]) & (jumps < stops[-1])]
    return scheme, np.union1d(stops, inside)


def _guess(value: Any, ts: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray] | None:
    if value is None:
        return None
    wanted = f"finite numbers of shape (time, state) = ({len(ts)}, {size}): states at `ts`"
    states = real_numbers("guess", value, wanted)
    if states.shape != (len(ts), size) or not np.all(np.isfinite(states)):
        raise ValueError(f"`guess` must be {wanted}; got {describe(value)}.")
    times, first = np.unique(ts, return_index=True)
    return times, states[first]


def _from_start(
    field: Field,
    scheme: AbstractScheme,
    stops: np.ndarray,
    start: np.ndarray,
    tolerances: tuple[float, float | None],
    most: int,
    given: bool,
) -> Course:
    """Solved by marching; again where a state turns out to be much smaller than assumed."""
    rtol, atol = tolerances
    if atol is not None:
        tolerance = Tolerance(rtol, atol, np.ones_like(start))
        return march(field, scheme, stops, start, tolerance, given=given, max_steps=most)
    unit = start_sizes(start, _LEAST_START)
    for _ in range(_TRIES):
        tolerance = Tolerance(rtol, _ATOL, unit)
        course = march(field, scheme, stops, start, tolerance, given=given, max_steps=most)
        sizes = np.abs(course.left[:, None] + course.change)
        peak = np.maximum(np.abs(start), sizes.max(axis=(0, 1), initial=0.0))
        small = (peak > 0) & (peak < _SMALLER * unit)
        if not small.any():
            break
        unit = np.where(small, peak, unit)
    return course


def _from_both_ends(
    field: Field,
    scheme: AbstractScheme,
    stops: np.ndarray,
    conditions: Conditions,
    guess: tuple[np.ndarray, np.ndarray] | None,
    tolerances: tuple[float, float | None],
    most: int,
    given: bool,
) -> Course:
    if not given:
        count = _INTERVALS if scheme.num_nodes <= _FEW_NODES else 1
        stops = np.union1d(stops, np.linspace(stops[0], stops[-1], count + 1))
    if guess is None:
        guess = stops, conditions.line(stops)
    rtol, atol = tolerances
    allowed = rtol, _ATOL if atol is None else atol, atol is None
    return solve_boundary(field, scheme, stops, conditions, guess, allowed, most)
