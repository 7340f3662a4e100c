"""default_solver: the one that is used where a caller names none."""

from ._interior_point import InteriorPoint
from ._ipopt import Ipopt
from ._nlp import NLP
from ._solver import AbstractSolver


def default_solver(nlp: NLP, max_steps: int = 3000) -> AbstractSolver:
    """`jc.InteriorPoint` where it takes the problem, `jc.Ipopt` elsewhere."""
    if InteriorPoint.takes(nlp):
        return InteriorPoint(max_steps=max_steps)
    return Ipopt(max_steps=max_steps)
