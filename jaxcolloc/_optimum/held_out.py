r"""held_out_gradient: the ridge penalty by the derivative of the held-out error.

With $\rho = \log \lambda$ the optimum moves as $\dot z = \partial z / \partial \rho$ (`jc.optimum`
says how that is found), and the error on held-out data changes with it. Each solve so tells the
error and whether a weaker or a stronger penalty predicts better: two such solves a decade apart
enclose the best, and the third is made there.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .._nlp import NLP
from .._precision import x64
from .._ridge import OnNets
from .._solution import Solution
from .._solve import start_of
from .._solver import AbstractSolver
from .host import Host
from .parameters import current, flatten


# Steps in decades of the penalty: where nothing encloses the best, and the least between two tried.
_OUTWARD, _LEAST = 1.0, 0.1
# Where between two tried penalties the next may be, as shares of their distance from the better.
_INNERMOST, _OUTERMOST = 0.1, 0.6
# The search ends where a decade promises less than this of the error.
_PROMISE = 0.01
# The difference of errors along the optimum's derivative, in decades.
_DIFFERENCE = 1e-2


class Tried(NamedTuple):
    """A penalty that was solved for.

    `l2`: as `jc.transcribe` takes it; `decades`: its common logarithm, relative to the first one.
    `slope`: the derivative of the error's natural logarithm by `decades`; NaN where the optimum has
    none.
    """

    l2: Any
    decades: float
    error: float
    slope: float
    solution: Solution


def held_out_gradient(
    nlp: NLP,
    error: Callable[[Solution], float],
    solver: AbstractSolver,
    guess: Any,
    *,
    solves: int = 3,
    useless: float = np.inf,
) -> list[Tried]:
    """Lower a held-out error by the ridge penalty of `nlp`, in a few solves; all that were tried.

    The penalty, which must be above zero, is changed by a common factor. The search ends after
    `solves` solves, where the derivative promises less than a hundredth of the error, or between
    penalties that hardly differ.

    **Arguments:**

    - `nlp`: of the data that are not held out, with the penalty to begin with.
    - `error`: the error on held-out data of a solution of `nlp`.
    - `solver`, `guess`: as for `jc.solve`; every later solve starts at the nearest optimum found.
    - `solves`: how many solves at the most.
    - `useless`: errors from this on point nowhere. There, and where the first solve fails, a
      stronger penalty is tried, with which problems are easier to solve.
    """
    form, leaves = flatten(nlp, {"l2": current(nlp, "l2")})
    first = np.concatenate([np.zeros(0), *map(np.ravel, leaves)])
    host = Host(nlp, solver, start_of(nlp, guess), form)
    tried: list[Tried] = []
    place: float | None = 0.0
    while place is not None and len(tried) < solves:
        if tried:
            distances = [abs(item.decades - place) for item in tried]
            near = tried[int(np.argmin(distances))].solution
            host.start = near.z, near.multipliers
        tried.append(_solved(host, first, place, error))
        place = _next(tried, useless)
    return tried


def _solved(
    host: Host, first: np.ndarray, decades: float, error: Callable[[Solution], float]
) -> Tried:
    """One solve, and how the error changes along the optimum's derivative."""
    p = first * 10.0**decades
    found = host.at(p)
    outcome = host.outcome(p)
    assert outcome is not None
    value = host.form.tree("l2", p)
    if isinstance(host.nlp.settings.l2, OnNets) and np.ndim(value) == 0:
        value = OnNets(float(value))
    sol = outcome.solution(host.nlp.with_l2(value), host.solver, None)
    here, slope = error(sol), np.nan
    if found.linearised is not None:
        with x64():
            along, _ = found.linearised.forward(np.log(10.0) * p)
        ends = [error(_moved(sol, sign * _DIFFERENCE * along)) for sign in (1, -1)]
        slope = (ends[0] - ends[1]) / (2 * _DIFFERENCE * here) if here > 0 else 0.0
    return Tried(value, decades, here, slope, sol)


def _moved(sol: Solution, step: np.ndarray) -> Solution:
    """A point near a solution as a solution of the same problem."""
    return dataclasses.replace(sol, z=sol.nlp.inside(sol.z + step))


def _next(tried: list[Tried], useless: float) -> float | None:
    """The penalty to try next, in decades; None where there is nothing to be gained."""
    best = min(tried, key=lambda item: (not item.solution.result.ok, item.error))
    others = [item for item in tried if item is not best]
    slope = best.slope
    if best.error >= useless or not (others or np.isfinite(slope)):
        return max(item.decades for item in tried) + _OUTWARD
    if not np.isfinite(slope):
        # Away from the one that is worse.
        other = min(others, key=lambda item: abs(item.decades - best.decades))
        slope = np.log(other.error / best.error) / (other.decades - best.decades)
    if abs(slope) < _PROMISE:
        return None
    way = -float(np.sign(slope))
    ahead = [item for item in tried if way * (item.decades - best.decades) > 0]
    if not ahead:
        return best.decades + way * _OUTWARD
    other = min(ahead, key=lambda item: abs(item.decades - best.decades))
    distance = abs(other.decades - best.decades)
    # The least of a parabola through both errors with the slope at the better one.
    rise = np.log(other.error / best.error) + abs(slope) * distance
    share = np.clip(abs(slope) * distance / (2 * rise), _INNERMOST, _OUTERMOST)
    return best.decades + way * float(share) * distance if share * distance > _LEAST else None
