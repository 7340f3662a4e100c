"""follow: along one side of a line until the deviance crosses its threshold.

The root of the deviance is linear in the variable where the objective is quadratic, so that the
secant method on it needs hardly more than one step.
"""

import enum
from typing import NamedTuple

import numpy as np

from .line import Line, Point


# The most solves on one side, and failures of which one ends it.
_MOST, _MOST_FAILURES = 12, 4
# The root of the deviance is to be known to this share; a bracket is no narrower than this one.
_CLOSE, _NARROW = 2e-3, 1e-6
# How many times as far the next point may lie as the last one.
_GROWTH, _FREE_GROWTH = 3.0, 10.0
# An objective that is lower than the solution's by this share of the threshold is another optimum.
_LOWER = 0.01


class END(enum.Enum):
    """How one side ended."""

    crossed = "the deviance crosses its threshold"
    bound = "it is still below its threshold at the parameter's bound"
    far = "it stays below its threshold as far as was looked"
    failed = "the solves beyond failed"
    lower = "an objective lower than the solution's was found"


class Side(NamedTuple):
    """Where one side ended, and how."""

    x: float
    end: END


class Reach(NamedTuple):
    """How far a side goes: to a bound, or as far as is looked; `step`: to the first point."""

    step: float
    limit: float
    bounded: bool


def follow(line: Line, sign: int, reach: Reach, threshold: float) -> Side:
    """One side, up or down by `sign`; distances in `reach` are positive."""
    start, target = line.start, float(np.sqrt(threshold))
    inside, failed, failures = [start], np.inf, 0
    outside: list[Point] = []
    if not reach.limit > 0:
        return Side(start.x, END.bound)
    for _ in range(_MOST):
        far = _next(start.x, inside, outside, target, reach)
        if failed <= far:
            far = (abs(inside[-1].x - start.x) + failed) / 2
        near, other = _neighbours(inside, outside, target)
        point = line.solved(start.x + sign * far, near, other)
        if point is None:
            failed, failures = far, failures + 1
            if failures == _MOST_FAILURES:
                break
            continue
        if point.deviance < -_LOWER * threshold:
            return Side(point.x, END.lower)
        (outside if point.root >= target else inside).append(point)
        close = abs(point.root - target) <= _CLOSE * target
        if close or (outside and abs(outside[-1].x - inside[-1].x) < _NARROW * far):
            crossing = _crossing(start.x, inside, outside, target)
            return Side(start.x + sign * crossing, END.crossed)
        if not outside and far >= reach.limit:
            return Side(point.x, END.bound if reach.bounded else END.far)
    if outside:
        return Side(start.x + sign * _crossing(start.x, inside, outside, target), END.crossed)
    return Side(inside[-1].x, END.failed if failures else END.far)


def _neighbours(
    inside: list[Point], outside: list[Point], target: float
) -> tuple[Point, Point | None]:
    """The point that the next one is reached from, and another one in line with both."""
    low = inside[-1]
    if not outside:
        return low, inside[-2] if len(inside) > 1 else None
    high = outside[-1]
    nearer = target - low.root <= high.root - target
    return (low, high) if nearer else (high, low)


def _next(
    origin: float, inside: list[Point], outside: list[Point], target: float, reach: Reach
) -> float:
    """The distance of the next point."""
    last = abs(inside[-1].x - origin)
    if outside:
        beyond = abs(outside[-1].x - origin)
        margin = 0.02 * (beyond - last)
        crossing = _crossing(origin, inside, outside, target)
        return float(np.clip(crossing, last + margin, beyond - margin))
    if len(inside) == 1:
        return min(reach.step, reach.limit)
    before = abs(inside[-2].x - origin)
    slope = (inside[-1].root - inside[-2].root) / (last - before)
    wanted = last + (target - inside[-1].root) / slope if slope > 0 else np.inf
    # Where the deviance hardly rises, much farther is where it might.
    most = _FREE_GROWTH if inside[-1].root < 0.3 * target else _GROWTH
    return min(max(wanted, 1.05 * last), most * last, reach.limit)


def _crossing(origin: float, inside: list[Point], outside: list[Point], target: float) -> float:
    """The distance at which the root of the deviance is `target`.

    The distance is taken for a polynomial in the root, through the three points nearest to it; or
    for a line, where that leaves the interval that is known to hold it.
    """
    low, high = (inside[-1], outside[-1]) if outside else inside[-2:]
    below, above = abs(low.x - origin), abs(high.x - origin)
    slope = (above - below) / (high.root - low.root)
    line = below + slope * (target - low.root)
    others = [point for point in (*inside, *outside) if point.root not in (low.root, high.root)]
    if not others:
        return line
    third = min(others, key=lambda point: abs(point.root - target))
    beyond = (abs(third.x - origin) - above) / (third.root - high.root)
    bend = (beyond - slope) / (third.root - low.root)
    curve = line + bend * (target - low.root) * (target - high.root)
    return curve if not outside or below <= curve <= above else line
