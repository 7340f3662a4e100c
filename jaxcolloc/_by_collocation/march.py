"""march: initial values, one interval after the other; collocation as an implicit method.

Each interval is solved by Newton's method. Its error is the step of Newton's method that a rule of
higher order would take from there: zero where the polynomial satisfies the equations between its
nodes as well. Intervals that err too much, or are not solved, are made shorter.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from .._points import Field
from .._scheme import AbstractScheme
from .course import Course, Tolerance
from .rule import Rule, finer, linearised


# Newton's method ends where its step is this share of what is allowed, and is given up after so
# many steps.
_SOLVED, _MOST = 0.03, 12
_SAFETY, _SHRINK, _HALF, _GROW = 0.9, 0.1, 0.5, 5.0
# An extrapolation is the better start of Newton's method up to this ratio of the widths, of
# polynomials with so many nodes.
_EXTRAPOLATED, _FEW_NODES = 2.0, 20
# Errors of high orders do not fall with more than about this power of the width at once.
_HIGHEST = 10
# The last part of a stretch may be longer by this share, so that none is left that is tiny.
_LONGER = 1.01
# An interval below this share of the time, some units in its last place, has no effect; nor has one
# below that share of the whole, where the time is zero.
_SMALLEST, _TINIEST = 1e-14, 1e-30
# The first width that is tried, as a share of the time in which a state changes by its size; and
# where that is not known, as a share of the whole.
_FIRST, _UNKNOWN = 0.01, 1e-6


def march(
    field: Field,
    scheme: AbstractScheme,
    stops: Float[np.ndarray, " stop"],
    start: Float[np.ndarray, " state"],
    tolerance: Tolerance,
    *,
    given: bool,
    max_steps: int,
) -> Course:
    """The solution from `start` at the first of `stops`, all of which are boundaries, to the last.

    With `given`, intervals are what lies between the stops wherever that suffices; without, their
    widths follow from the tolerance alone. At most `max_steps` intervals are tried.
    """
    return _March(field, scheme, tolerance).run(stops, start, given, max_steps)


class _Done(NamedTuple):
    """The intervals so far: boundaries, states at the left ends, changes at the nodes."""

    boundaries: list[float]
    left: list[np.ndarray]
    change: list[np.ndarray]

    def add(self, end: float, left: np.ndarray, change: np.ndarray) -> None:
        """One interval more."""
        self.boundaries.append(end)
        self.left.append(left)
        self.change.append(change)

    def course(self, scheme: AbstractScheme, size: int, failure: str) -> Course:
        """All of them, of states with so many components."""
        left = np.reshape(self.left, (-1, size))
        change = np.reshape(self.change, (-1, scheme.num_nodes - 1, size))
        return Course(scheme, np.array(self.boundaries), left, change, failure)


class _March:
    """Steps of a scheme for one field."""

    def __init__(self, field: Field, scheme: AbstractScheme, tolerance: Tolerance):
        self.field, self.scheme, self.tolerance = field, scheme, tolerance
        self.rule = Rule.of(scheme)
        self.finer = finer(len(self.rule.nodes), symmetric=False)
        # From changes at the nodes to those at the finer rule's.
        self.rows = scheme.interpolation(self.finer.nodes)[:, 1:]
        self.order = min(len(self.rule.nodes) + 1, _HIGHEST)

    def run(self, stops: np.ndarray, start: np.ndarray, given: bool, max_steps: int) -> Course:
        """The solution."""
        done = _Done([stops[0]], [], [])
        left, width, failure, tried = start, self._first_width(stops, start), "", 0
        for stop in stops[1:]:
            # What an input does behind a stop may have nothing to do with what it did before.
            known: tuple[float, np.ndarray] | None = None
            t = done.boundaries[-1]
            width = stop - t if given else width
            while t < stop and not failure:
                last = _LONGER * width >= stop - t
                end = stop if last else t + width
                change, error = self._interval(t, end, left, known)
                factor, tried = self._factor(error), tried + 1
                if error <= 1:
                    done.add(end, left, change)
                    left, known = left + self.rule.end @ change, (end - t, change)
                    # A width that was cut short says nothing against the next.
                    width = max(width, factor * (end - t)) if last else factor * (end - t)
                    t = end
                else:
                    width = min(factor, _HALF) * (end - t)
                    if width <= max(_SMALLEST * abs(t), _TINIEST * (stops[-1] - stops[0])):
                        failure = f"at t = {t:.6g} no interval is short enough"
                if tried == max_steps and t < stops[-1]:
                    failure = f"at t = {t:.6g} {max_steps} intervals did not suffice (`max_steps`)"
            if failure:
                break
        return done.course(self.scheme, len(start), failure)

    def _first_width(self, stops: np.ndarray, start: np.ndarray) -> float:
        """The time in which the state would change by a small share of its size."""
        span = stops[-1] - stops[0]
        time = stops[0] + _SMALLEST * span
        # Together with its derivative, which is needed anyhow: nothing else is to be compiled.
        slope = self.field.first(np.array([time]), start[None])[0][0]
        allowed = self.tolerance.atol * self.tolerance.unit
        allowed = allowed + self.tolerance.rtol * np.abs(start)
        with np.errstate(all="ignore"):
            size, pace = np.max(np.abs(start) / allowed), np.max(np.abs(slope) / allowed)
            width = _FIRST * size / pace
        if not np.isfinite(width) or width <= 0:
            width = _UNKNOWN * span
        return float(np.clip(width, _TINIEST * span, span))

    def _factor(self, error: float) -> float:
        """By what the width is to be changed."""
        factor = _SAFETY * max(error, 1e-30) ** (-1 / self.order) if np.isfinite(error) else 0.0
        return float(np.clip(factor, _SHRINK, _GROW))

    def _interval(
        self,
        begin: float,
        end: float,
        left: np.ndarray,
        known: tuple[float, np.ndarray] | None,
    ) -> tuple[np.ndarray, float]:
        """The changes at the nodes of an interval, and their error as a share of the allowed."""
        boundaries = np.array([begin]), np.array([end])
        starts = [np.zeros((len(self.rule.nodes), len(left)))]
        few = len(self.rule.nodes) <= _FEW_NODES
        if few and known is not None and end - begin <= _EXTRAPOLATED * known[0]:
            x = 1 + self.rule.nodes * (end - begin) / known[0]
            rows = self.scheme.interpolation(x)[:, 1:] - self.rule.end
            starts.insert(0, rows @ known[1])
        for start in starts:
            change = self._solved(boundaries, left[None], start[None])
            if change is not None:
                return change[0], self._error(boundaries, left[None], change)
        return starts[-1], np.inf

    def _solved(
        self, boundaries: tuple[np.ndarray, np.ndarray], left: np.ndarray, change: np.ndarray
    ) -> np.ndarray | None:
        """The changes by Newton's method; None where it does not converge."""
        before = np.inf
        for _ in range(_MOST):
            step = self._step(self.rule, boundaries, left, change)
            if step is None:
                return None
            change = change + step
            size = self.tolerance.share(step, left, change)[0]
            if size <= _SOLVED:
                return change
            if size > 2 * before:
                return None
            before = size
        return None

    def _error(
        self, boundaries: tuple[np.ndarray, np.ndarray], left: np.ndarray, change: np.ndarray
    ) -> float:
        between = self.rows @ change
        step = self._step(self.finer, boundaries, left, between)
        return np.inf if step is None else float(self.tolerance.share(step, left, between)[0])

    def _step(
        self,
        rule: Rule,
        boundaries: tuple[np.ndarray, np.ndarray],
        left: np.ndarray,
        change: np.ndarray,
    ) -> np.ndarray | None:
        """A step of Newton's method; None where there is none."""
        linear = linearised(self.field, rule, boundaries, left, change)
        try:
            step = np.linalg.solve(linear.matrix, -linear.residual[..., None])
        except np.linalg.LinAlgError:
            return None
        return step.reshape(change.shape) if np.all(np.isfinite(step)) else None
