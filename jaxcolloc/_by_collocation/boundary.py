"""solve_boundary: boundary values, all intervals together.

Newton's method on a grid, damped by the natural monotonicity test (Deuflhard, "Newton Methods for
Nonlinear Problems", section 3.3). The states within an interval are eliminated; what is left are
those at the boundaries. The error is the step that a rule of higher order would take from there, in
the whole problem: that of the solution, not of single intervals. Where it is too large, those
intervals are split that contribute to it.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from .._grid import divided
from .._integrate import start_sizes
from .._points import Field
from .._scheme import AbstractScheme
from .conditions import Conditions
from .course import Course, Tolerance
from .rule import Linear, Rule, finer, linearised, residual


# Newton's method ends where its step is this share of what is allowed, or this share of the sizes
# of states, below which rounding may be all there is; it is given up after so many steps, or where
# it is damped beyond this.
_SOLVED, _ROUNDING, _MOST, _LEAST_DAMPING = 0.03, 1e-10, 50, 1e-4
# So many grids are tried; on the first ones Newton's method may fail.
_ROUNDS, _FAILURES = 20, 5
# An interval is split into at most so many, aiming for errors smaller by this factor than allowed.
_MOST_PARTS, _SAFE = 4, 2.0
# So many numbers in the matrices of all intervals are too many.
_NUMBERS = 50_000_000
# A component smaller than this share of the largest is not told from zero.
_LEAST = 1e-8


class _Point(NamedTuple):
    """States at the boundaries, and changes at the collocated nodes of the intervals."""

    x: Float[np.ndarray, "boundary state"]
    change: Float[np.ndarray, "interval node state"]

    def moved(self, step: "_Point", share: float = 1.0) -> "_Point":
        return _Point(self.x + share * step.x, self.change + share * step.change)


def solve_boundary(
    field: Field,
    scheme: AbstractScheme,
    boundaries: Float[np.ndarray, " boundary"],
    conditions: Conditions,
    guess: tuple[np.ndarray, np.ndarray],
    tolerances: tuple[float, float, bool],
    most: int,
) -> Course:
    """The solution, on the grid with these boundaries or a finer one of at most `most` intervals.

    `guess` are times and states there. `tolerances` are `rtol`, `atol` and whether the latter is
    relative to the sizes of the states.
    """
    problem = _Problem(field, scheme, conditions, tolerances)
    point, failures, failure = problem.interpolated(boundaries, *guess), 0, ""
    course: Course | None = None
    for _ in range(_ROUNDS):
        count, size = len(boundaries) - 1, point.change[0].size
        if count > most or count * size**2 > _NUMBERS:
            also = f"a grid of {count} intervals is not tried (`max_steps`)"
            failure = f"{failure}, and {also}" if failure else also
            break
        found = problem.solved(boundaries, point)
        if found is None:
            failures += 1
            failure = "Newton's method does not converge: try another `guess` or scheme"
            if failures == _FAILURES:
                break
            parts = np.full(count, 2)
        else:
            worst, own = problem.errors(boundaries, found)
            course = Course(scheme, boundaries, found.x[:-1], found.change)
            if worst <= 1:
                return course
            failure = f"on {count} intervals the error is {worst:.2g} times what is allowed"
            parts = problem.parts(worst, own)
        boundaries = divided(boundaries, parts)
        if course is None:
            point = problem.interpolated(boundaries, *guess)
        else:
            point = problem.on(boundaries, course)
    none = np.zeros((0, point.x.shape[1]))
    return Course(scheme, boundaries[:1], none, point.change[:0], failure)


class _Problem:
    """The equations of all intervals and the conditions at the ends."""

    def __init__(
        self,
        field: Field,
        scheme: AbstractScheme,
        conditions: Conditions,
        tolerances: tuple[float, float, bool],
    ):
        self.field, self.scheme, self.conditions = field, scheme, conditions
        self.rule = Rule.of(scheme)
        self.finer = finer(len(self.rule.nodes), symmetric=True)
        self.rtol, self.atol, self.relative = tolerances

    def interpolated(self, boundaries: np.ndarray, times: np.ndarray, states: np.ndarray) -> _Point:
        """The point of given states, with straight lines between them."""

        def at(ts: np.ndarray) -> np.ndarray:
            columns = [np.interp(ts, times, column) for column in states.T]
            return np.stack(columns, axis=-1)

        return self._point(boundaries, at)

    def on(self, boundaries: np.ndarray, course: Course) -> _Point:
        """The point of a solution on another grid."""
        return self._point(
            boundaries, lambda ts: course.at(ts.ravel()).reshape(*ts.shape, course.left.shape[1])
        )

    def _point(self, boundaries: np.ndarray, at: Any) -> _Point:
        width = np.diff(boundaries)[:, None]
        x = at(boundaries)
        inside = at(boundaries[:-1, None] + width * self.rule.nodes)
        return _Point(x, inside - x[:-1, None])

    def tolerance(self, point: _Point) -> Tolerance:
        """What is allowed near a point."""
        unit = np.ones(point.x.shape[1])
        if self.relative:
            unit = start_sizes(np.abs(point.x).max(axis=0), _LEAST)
        return Tolerance(self.rtol, self.atol, unit)

    def solved(self, boundaries: np.ndarray, point: _Point) -> _Point | None:
        """The solution on a grid from a point; None where Newton's method fails."""
        damping = 1.0
        for _ in range(_MOST):
            system = _System.of(self, self.rule, boundaries, point)
            step = None if system is None else system.step(*self.missed(boundaries, point))
            if system is None or step is None:
                return None
            unit = start_sizes(np.abs(point.x).max(axis=0), _LEAST)
            size, damping = _norm(step, unit), min(1.0, 2 * damping)
            while True:
                trial = point.moved(step, damping)
                again = system.step(*self.missed(boundaries, trial))
                if again is not None and _norm(again, unit) <= (1 - damping / 4) * size:
                    break
                if damping == 1.0 and (size <= _ROUNDING or self._small(step, trial)):
                    break
                damping /= 2
                if damping < _LEAST_DAMPING:
                    return None
            point = trial
            if damping == 1.0 and (size <= _ROUNDING or self._small(step, point)):
                return point
        return None

    def _small(self, step: _Point, point: _Point) -> bool:
        return bool(np.all(self._shares(step, point) <= _SOLVED))

    def _shares(self, step: _Point, point: _Point) -> np.ndarray:
        errors = step.x[:-1, None] + step.change
        return self.tolerance(point).share(errors, point.x[:-1], point.change)

    def missed(
        self, boundaries: np.ndarray, point: _Point, rule: Rule | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What the equations, the continuity and the conditions miss at a point."""
        rule = self.rule if rule is None else rule
        pair = boundaries[:-1], boundaries[1:]
        inside = residual(self.field, rule, pair, point.x[:-1], point.change)
        gaps = np.diff(point.x, axis=0) - np.einsum("n,ens->es", rule.end, point.change)
        return inside, gaps, self.conditions.linearised(point.x[0], point.x[-1])[0]

    def errors(self, boundaries: np.ndarray, point: _Point) -> tuple[float, np.ndarray]:
        """The largest error, and what each interval errs of its own, as shares of the allowed."""
        rows = self.scheme.interpolation(self.finer.nodes)[:, 1:]
        between = _Point(point.x, rows @ point.change)
        system = _System.of(self, self.finer, boundaries, between)
        missed = self.missed(boundaries, between, self.finer)
        step = None if system is None else system.step(*missed)
        if system is None or step is None:
            return np.inf, np.full(len(boundaries) - 1, np.inf)
        own = _Point(np.zeros_like(point.x), system.inside(missed[0]).reshape(between.change.shape))
        return float(self._shares(step, between).max()), self._shares(own, between)

    def parts(self, worst: float, own: np.ndarray) -> np.ndarray:
        """How many parts each interval is to have."""
        largest = own.max()
        if not np.isfinite(worst) or not np.isfinite(largest) or largest == 0:
            return np.full(len(own), 2)
        order = len(self.rule.nodes) + 1
        aim = own * max(1.0, worst / largest)
        parts = np.ceil((_SAFE * aim) ** (1 / order))
        parts = np.where((parts == 1) & (own > largest / 2), 2, parts)
        return np.clip(parts, 1, _MOST_PARTS).astype(int)


class _System(NamedTuple):
    """The linearised equations, factorised: what steps of Newton's method are made with."""

    inverse: Float[np.ndarray, "interval equation equation"]
    into: Float[np.ndarray, "interval equation state"]
    end: Float[np.ndarray, " node"]
    boundaries: Any

    @classmethod
    def of(
        cls, problem: _Problem, rule: Rule, boundaries: np.ndarray, point: _Point
    ) -> "_System | None":
        """At a point; None where it is singular or not finite."""
        from scipy.sparse.linalg import splu

        pair = boundaries[:-1], boundaries[1:]
        linear: Linear = linearised(problem.field, rule, pair, point.x[:-1], point.change)
        try:
            inverse = np.linalg.inv(linear.matrix)
        except np.linalg.LinAlgError:
            return None
        into = inverse @ linear.into
        count, n, d = point.change.shape
        across = np.eye(d) + np.einsum("n,enij->eij", rule.end, into.reshape(count, n, d, d))
        _, by_first, by_last = problem.conditions.linearised(point.x[0], point.x[-1])
        if not all(np.all(np.isfinite(item)) for item in (across, by_first, by_last)):
            return None
        try:
            factors = splu(_matrix(across, by_first, by_last))
        except RuntimeError:
            return None
        return cls(inverse, into, rule.end, factors)

    def inside(self, missed: np.ndarray) -> np.ndarray:
        """The steps within intervals whose left ends stay."""
        return -np.einsum("eij,ej->ei", self.inverse, missed)

    def step(self, inside: np.ndarray, gaps: np.ndarray, conditions: np.ndarray) -> _Point | None:
        """The step that removes what is missed; None where it is not finite."""
        own = self.inside(inside)
        n, d = len(self.end), gaps.shape[1]
        over = np.einsum("n,ens->es", self.end, own.reshape(-1, n, d))
        right = np.concatenate([-conditions, (over - gaps).ravel()])
        if not np.all(np.isfinite(right)):
            return None
        x = self.boundaries.solve(right).reshape(-1, d)
        change = own + np.einsum("eij,ej->ei", self.into, x[:-1])
        if not np.all(np.isfinite(change)):
            return None
        return _Point(x, change.reshape(-1, n, d))


def _matrix(across: np.ndarray, by_first: np.ndarray, by_last: np.ndarray) -> Any:
    """Of the states at the boundaries: conditions, then `x[e + 1] - across[e] @ x[e]`."""
    from scipy.sparse import coo_array

    count, d = len(across), across.shape[1]
    blocks = np.concatenate([by_first[None], by_last[None], -across])
    blocks = np.concatenate([blocks, np.broadcast_to(np.eye(d), (count, d, d))])
    every = np.arange(count)
    rows = np.concatenate([[0, 0], every + 1, every + 1])
    columns = np.concatenate([[0, count], every, every + 1])
    each = np.arange(d)
    shape = (len(rows), d, d)
    i = np.broadcast_to(d * rows[:, None, None] + each[:, None], shape)
    j = np.broadcast_to(d * columns[:, None, None] + each, shape)
    size = (count + 1) * d
    return coo_array((blocks.ravel(), (i.ravel(), j.ravel())), shape=(size, size)).tocsc()


def _norm(step: _Point, unit: np.ndarray) -> float:
    inside = np.abs(step.x[:-1, None] + step.change) / unit
    return float(max(inside.max(), np.max(np.abs(step.x) / unit)))
