"""closer: the same optimum found more closely, where its tolerance leaves the curvature in doubt.

A solver's end is some way from the optimum, and so are the multipliers: the exact curvature may
come out negative in directions that the data hardly see. Solving on tells such a point, which moves
by a small part of its standard errors, from a saddle point, from which the objective falls.
"""

from .._optimum.host import tightened
from .._solution import Solution
from .._solve import solve


# The tolerance that it is solved on to, and how many steps that may take.
_TOL, _STEPS = 1e-9, 100
# Twice the fall of the log-likelihood, in which a move by one standard error is one, that still is
# the same optimum.
_SAME = 1e-2


def closer(sol: Solution, factor: float, variance: float) -> Solution | None:
    """The same optimum to more digits; None where the solve fails or leads away from it.

    `factor` and `variance` turn the objective into a log-likelihood, as for `jc.uncertainty`.
    """
    if sol.solver is None:
        return None
    solver = tightened(sol.solver, _TOL).loosened(0.0, _STEPS)
    found = solve(sol.nlp, solver, sol, throw=False)
    if not found.result.ok:
        return None
    change = 2 * factor * abs(sol.objective - found.objective)
    return found if change <= _SAME * variance else None
