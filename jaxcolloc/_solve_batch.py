"""solve_batch: many NLPs of one shape, solved together."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ._check import describe, flag
from ._nlp import NLP, check_nlp
from ._run import interruptible
from ._solution import Solution
from ._solve import check_curvature, explain, report, start_of
from ._solver import AbstractSolver, check_solver


def solve_batch(
    nlp: NLP | Sequence[NLP],
    solver: AbstractSolver,
    guesses: Sequence[Any],
    *,
    throw: bool = True,
    vectorize: bool | None = None,
) -> list[Solution]:
    """Solve from many starts, or many NLPs of one shape, at once.

    How many at a time is up to the solver. `jc.InteriorPoint` takes all of them in one vectorised
    loop (`jax.vmap`) on an accelerator, which ends when the last of them does; on a CPU one after
    another, which compiles least, or, from 10,000 nodes in all on, as many as there are cores.
    Others take one after another.

        starts = [jc.guess(nlp, key=key) for key in jax.random.split(key, 32)]
        best = min(jc.solve_batch(nlp, jc.InteriorPoint(), starts), key=lambda sol: sol.objective)

    **Arguments:**

    - `nlp`: one NLP for all starts, or one for each: other noise, other values of `l2`, other
      bounds, but the same model, grids and sampling.
    - `solver`, `throw`: as in `jc.solve`.
    - `guesses`: as in `jc.solve`, one for each NLP.
    - `vectorize`: whether to take the vectorised loop; None leaves it to the device. On a CPU it
      costs more than it saves (`bench/solvers.py`): every step waits for the slowest line search.

    Returns one `jc.Solution` for each start. Where they are solved together,
    `stats["solve_seconds"]` is the time of them all, and so is the solver's `max_seconds`; else
    each has its own.

    **Errors:** `ValueError` for NLPs of different shapes; `jc.SolveError` as `jc.solve`, for the
    first that failed.
    """
    check_solver(solver)
    if not isinstance(guesses, (list, tuple)) or not guesses:
        raise ValueError(f"`guesses` must be a list of at least one; got {describe(guesses)}.")
    flag("throw", throw)
    if vectorize is not None:
        flag("vectorize", vectorize)
    nlps: list[Any] = list(nlp) if isinstance(nlp, (list, tuple)) else [nlp] * len(guesses)
    if len(nlps) != len(guesses):
        raise ValueError(
            f"`guesses` must be as many as there are in `nlp`, {len(nlps)}; got {len(guesses)}."
        )
    for item in nlps:
        check_nlp("nlp", item)
        check_curvature(item, solver)
    _check_alike(nlps)
    starts = [start_of(item, guess, "guesses") for item, guess in zip(nlps, guesses, strict=True)]
    with interruptible():
        outcomes = solver.run_many(
            nlps, [z for z, _ in starts], [dual for _, dual in starts], vectorize=vectorize
        )
    solutions = [
        outcome.solution(item, solver, getattr(guess, "key", None))
        for outcome, item, guess in zip(outcomes, nlps, guesses, strict=True)
    ]
    for solution, (z, _) in zip(solutions, starts, strict=True):
        explain(solution, z)
    for solution in solutions:
        report(solution, throw)
    return solutions


def _check_alike(nlps: list[NLP]) -> None:
    first = nlps[0]
    for position, item in enumerate(nlps):
        same = item is first or (
            item.compiled.static == first.compiled.static
            and [leaf.shape for leaf in item.compiled.arrays]
            == [leaf.shape for leaf in first.compiled.arrays]
            and all(
                np.array_equal(one, other)
                for one, other in zip(
                    (*item.jacobian_structure, *item.hessian_structure),
                    (*first.jacobian_structure, *first.hessian_structure),
                    strict=True,
                )
            )
        )
        if not same:
            raise ValueError(
                "`nlp` must be NLPs of one shape: the same model, grids and sampling; "
                f"got another one at position {position}."
            )
