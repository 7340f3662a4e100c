"""solve: one driver for every solver."""

import os
import warnings
from typing import Any

import numpy as np

from ._check import flag, integer, real_numbers
from ._guess import Guess
from ._index import check_index, regularity
from ._likelihoods import has_information
from ._nlp import NLP, check_nlp
from ._not_finite import where_not_finite
from ._run import Callback, Checkpoint, Run, check_shown, interruptible, progress_bar
from ._solution import Solution, SolveError
from ._solver import AbstractSolver, Iterate, Outcome, check_solver
from ._trace import RESULTS, Multipliers


_LIMITS = (RESULTS.max_steps_reached, RESULTS.max_seconds_reached)
_STOPS = (RESULTS.stopped, RESULTS.interrupted)


def solve(
    nlp: NLP,
    solver: AbstractSolver,
    guess: Guess | Solution | Any,
    *,
    throw: bool = True,
    progress: bool | str = False,
    callback: Callback | None = None,
    checkpoint: str | os.PathLike[str] | Checkpoint | None = None,
    every: int = 20,
) -> Solution:
    """Solve `nlp` from `guess`.

    **Arguments:**

    - `nlp`: from `jc.transcribe`.
    - `solver`: for instance `jc.Ipopt()`.
    - `guess`: from `jc.guess`, or a vector `z`, or a `Solution` of an NLP of the same shape,
      whose multipliers then make it a warm start.
    - `throw`: raise `jc.SolveError` if the solver fails; the exception carries the best point
      found. With False, that point is returned with `result` saying what happened.
    - `progress`: show a progress bar; a string is its title.
    - `callback`: called with a `jc.Step` after every iteration; returning True, or raising
      `StopIteration`, stops the solve. `step.model()` is the model so far.
    - `checkpoint`: a file that is written every `every` iterations and at the end, always in one
      piece. A run that was killed goes on from there with
      `jc.solve(nlp, solver, jc.load(checkpoint, like=nlp))`.

    Where the model, the loss or a constraint is not finite, `stats["not_finite"]` and the error say
    which one, in which trajectory and at what time.

    A limit of steps or time, a callback's stop and Ctrl-C are no failures: the best point found
    is returned (with a warning for a limit, unless `throw=False`). Iterates count as better by
    lower constraint violation, and by objective once that is below 1e-4.
    """
    check_nlp("nlp", nlp)
    check_solver(solver)
    flag("throw", throw)
    check_shown(progress, callback)
    file = Checkpoint.of(checkpoint, integer("every", every, 1))
    check_curvature(nlp, solver)
    z, multipliers = start_of(nlp, guess)
    key = getattr(guess, "key", None)

    def content(current: Iterate, run: Run) -> dict[str, Any] | None:
        if current is None:
            return None
        return unfinished(current, run).solution(nlp, solver, key).content()

    with interruptible(), progress_bar(progress, solver.step_limit) as update:
        run = Run(
            callback=callback,
            update=update,
            max_seconds=solver.time_limit,
            model=lambda current: None if current is None else nlp.model_at(current[0]),
            checkpoint=file,
            content=content,
        )
        outcome = solver.run(nlp, z, multipliers, run).ended_by(run)
    solution = outcome.solution(nlp, solver, key)
    explain(solution, z)
    if file is not None:
        file.write(solution.content())
    report(solution, throw)
    return solution


def unfinished(iterate: tuple[np.ndarray, Multipliers], run: Run) -> Outcome:
    """The iterate of a solve that still runs, as a checkpoint holds it."""
    return Outcome(
        z=iterate[0],
        multipliers=iterate[1],
        result=RESULTS.interrupted,
        status=5,
        status_text="checkpoint",
        steps=run.rows,
        solve_seconds=run.rows[-1].seconds,
    )


def check_curvature(nlp: NLP, solver: AbstractSolver) -> None:
    """Refuse a solver that asks for a Gauss-Newton Hessian that the problem does not have."""
    asked = getattr(solver, "hessian", None) == "gauss_newton"
    if asked and not has_information(nlp.settings.loss):
        raise ValueError(
            '`solver` must have hessian="exact" where `loss` is a likelihood of your own, whose '
            "Gauss-Newton Hessian is not known; `jc.Gaussian` and `jc.StudentT` have one."
        )


def start_of(nlp: NLP, guess: Any, name: str = "guess") -> tuple[np.ndarray, Multipliers | None]:
    """Variables and multipliers of a guess, once they are checked; `name` is the argument's."""
    multipliers = guess.multipliers if isinstance(guess, (Solution, Guess)) else None
    z = guess.z if isinstance(guess, (Guess, Solution)) else guess
    wanted = "what jc.guess returns, a jc.Solution or a vector of all variables"
    z = real_numbers(name, z, wanted)
    if z.shape != (nlp.num_variables,):
        raise ValueError(
            f"`{name}` must hold {nlp.num_variables} variables, as `nlp` has; got shape {z.shape}."
        )
    if not np.all(np.isfinite(z)):
        raise ValueError(f"`{name}` must be finite; got NaN or infinity.")
    check_index(nlp, z)
    if multipliers is not None and len(multipliers.constraints) != nlp.num_constraints:
        multipliers = None
    return z, multipliers


def explain(solution: Solution, start: np.ndarray) -> None:
    """Say in `stats` what a solve has met.

    Where it ended with NaN, which function yields it, and where; how regular algebraic equations
    are, and what is wrong if they are singular.
    """
    if solution.nlp.num_algebraic and np.all(np.isfinite(solution.z)):
        index = regularity(solution.nlp, solution.z)
        solution.stats["regularity"] = index.least
        if index.sentence:
            solution.stats["singular"] = index.sentence
    if solution.result is not RESULTS.not_finite:
        return
    found = where_not_finite(solution.nlp, solution.z) or where_not_finite(solution.nlp, start)
    if found:
        solution.stats["not_finite"] = found


def report(solution: Solution, throw: bool) -> None:
    """Warn of a limit and of singular equations, raise for a failure."""
    result = solution.result
    if throw and "singular" in solution.stats:
        warnings.warn(solution.stats["singular"], stacklevel=3)
    if not throw or result.ok or result in _STOPS:
        return
    if result in _LIMITS:
        warnings.warn(f"{result.value} The best point found is returned.", stacklevel=3)
        return
    raise SolveError(solution)
