"""Line: the problem along one of its variables, everything else re-optimised."""

from typing import NamedTuple

import numpy as np

from .._guess import Guess
from .._solution import Solution
from .._solve import solve
from .._trace import Multipliers


# A start is extrapolated from two points by at most so many times their distance.
_FARTHEST = 2.0


class Point(NamedTuple):
    """The optimum with the variable held at `x`, and its deviance from the solution's."""

    x: float
    deviance: float
    z: np.ndarray
    multipliers: Multipliers | None

    @property
    def root(self) -> float:
        """The root of the deviance: of a quadratic, the distance in standard deviations."""
        return float(np.sqrt(max(self.deviance, 0.0)))


class Line:
    """The problem along the variable at one position of `z`.

    `factor` makes a deviance of a difference of objectives. `points` are those that were solved,
    in order; `better` is the one with the lowest objective, if that is below the solution's.
    """

    def __init__(self, sol: Solution, at: int, factor: float):
        self.sol, self.at, self.factor = sol, at, factor
        z = np.asarray(sol.z, np.float64)
        self.start = Point(float(z[at]), 0.0, z, sol.multipliers)
        self.points = [self.start]
        self.better: Solution | None = None
        self.num_solves = self.num_failed = 0

    def solved(self, x: float, near: Point, other: Point | None) -> Point | None:
        """The point at `x`, from that at `near` and along the way from `other`, if there is one.

        None where the solver fails.
        """
        nlp = self.sol.nlp.with_held(np.array([self.at]), np.array([x]))
        z = near.z
        if other is not None and other.x != near.x:
            share = np.clip((x - near.x) / (near.x - other.x), -_FARTHEST, _FARTHEST)
            z = z + share * (near.z - other.z)
        start = Guess.at(nlp, z, self.sol.key, near.multipliers)
        self.num_solves += 1
        found = solve(nlp, self.sol.solver, start, throw=False)
        if not (found.result.ok and np.isfinite(found.objective)):
            self.num_failed += 1
            return None
        deviance = self.factor * (found.objective - self.sol.objective)
        point = Point(x, float(deviance), np.asarray(found.z, np.float64), found.multipliers)
        self.points.append(point)
        if found.objective < min(self.sol.objective, self._lowest):
            self.better = found
        return point

    @property
    def _lowest(self) -> float:
        return np.inf if self.better is None else self.better.objective
