"""A solve that is looked at on its way, and given up where it is not worth its steps."""

from collections.abc import Callable, Container
from typing import Any

from .._nlp import NLP
from .._run import Run, interruptible, progress_bar
from .._solution import Solution
from .._solve import start_of, unfinished
from .._solver import AbstractSolver, Iterate
from .._trace import RESULTS, Step


def solve_while(
    nlp: NLP,
    solver: AbstractSolver,
    start: Any,
    worth: Callable[[Solution], bool],
    looks: Container[int],
    progress: bool | str,
) -> Solution:
    """`jc.solve` that ends early, as `stopped`, where `worth` says no of the point so far.

    It is asked after the iterations in `looks`.
    """
    z, multipliers = start_of(nlp, start)
    with interruptible(), progress_bar(progress, solver.step_limit) as update:
        run = Run(update=update, max_seconds=solver.time_limit)

        def told(step: Step, current: Callable[[], Iterate]) -> bool:
            if run(step, current):
                return True
            iterate = current() if step.iteration in looks else None
            if iterate is not None:
                point = unfinished(iterate, run).solution(nlp, solver, None)
                if not worth(point):
                    run.result = RESULTS.stopped
            return run.over()

        outcome = solver.run(nlp, z, multipliers, told).ended_by(run)
    return outcome.solution(nlp, solver, None)
