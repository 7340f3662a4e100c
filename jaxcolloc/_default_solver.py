"""default_solver: the one that is used where a caller names none."""

from ._arrays import on_host
from ._interior_point import InteriorPoint
from ._ipopt import Ipopt
from ._nlp import NLP
from ._solver import AbstractSolver


def default_solver(nlp: NLP, max_steps: int = 3000) -> AbstractSolver:
    """`jc.InteriorPoint` where it takes the problem, `jc.Ipopt` elsewhere.

    On an accelerator it is `jc.Ipopt`: the other would be compiled for every grid of a fit.
    """
    if on_host() and InteriorPoint.takes(nlp):
        return InteriorPoint(max_steps=max_steps)
    return Ipopt(max_steps=max_steps)
