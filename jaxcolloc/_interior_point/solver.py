"""InteriorPoint: a structured interior-point method, on the host or as one compiled loop."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from .._arrays import on_host
from .._check import choice, integer, positive
from .._nlp import NLP, check_nlp
from .._precision import x64
from .._solver import AbstractSolver, Outcome, StepCallback
from .._trace import Multipliers
from .batch import are_few, run_in_threads, run_vectorised, vectorizes
from .driver import HostIteration, Numbers, TracedIteration
from .problem import fits, held_at_bounds, host_problem_of, problem_of


# States times weights up to which the host serves: what each has of the other is held in arrays of
# this size. Larger ones are new memory for NumPy every time, and iterations take a third longer
# than compiled ones: a second at ten times as much, for which ten seconds of compilation are soon
# made up.
LARGEST_ON_HOST = 10_000_000


class InteriorPoint(AbstractSolver):
    r"""A primal-dual interior-point method that uses the structure of collocation.

    The algorithm is IPOPT's (filter line search, second-order correction, corrected inertia); the
    linear systems are solved interval by interval, with the weights as a border (`kkt.py`). It is
    written once for two drivers (`_arrays.py`): on a CPU single solves run on the host, with
    NumPy and LAPACK, and compile nothing but the model's functions; on a GPU, for very long series,
    and where many are solved together, a loop of iterations is one compiled program, which takes
    some ten seconds for every shape of NLP. It takes the same NLPs as `jc.Ipopt`, but for ties
    between trajectories, constraints over several intervals and states fixed elsewhere than at a
    start. The larger the problem, the more it gains; `bench/solvers.py` compares the two on 60
    problems of 200 nodes, all of which both solve, and on up to 100,000 nodes. `jc.fit` uses it
    wherever it takes the problem (`InteriorPoint.takes(nlp)`), and `jc.Ipopt` elsewhere.

    **Arguments:**

    - `tol`: the tolerance on the scaled optimality conditions.
    - `max_steps`, `max_seconds`: limits; reaching one returns the best point found.
    - `hessian`: "exact", or "gauss_newton", which leaves out the curvature of equations and
      observations and damps the steps in its place: some four times as many, and no help where the
      model cannot fit the data.
    - `mu`: the first barrier parameter of a cold start, times the number of nodes: a barrier is a
      sum over nodes where a loss is a mean over samples, and a strong one leads away from the data.
    - `look`: after how many iterations of a compiled loop limits of time, Ctrl-C and callbacks are
      looked at: callbacks see every step, but the iterate and the model are those of the last one.
      On the host all of them are looked at after every iteration.

    **Errors:** `ValueError` for an unknown `hessian` and for NLPs of another structure.
    """

    tol: float
    max_steps: int
    max_seconds: float | None
    hessian: str
    mu: float
    look: int

    def __init__(
        self,
        tol: float = 1e-6,
        max_steps: int = 3000,
        max_seconds: float | None = None,
        hessian: str = "exact",
        mu: float = 10.0,
        look: int = 10,
    ):
        self.tol = positive("tol", tol)
        self.max_steps = integer("max_steps", max_steps, 0)
        self.max_seconds = None if max_seconds is None else positive("max_seconds", max_seconds)
        self.hessian = choice("hessian", hessian, ("exact", "gauss_newton"))
        self.mu = positive("mu", mu)
        self.look = integer("look", look, 1)

    @property
    def step_limit(self) -> int:
        return self.max_steps

    @property
    def time_limit(self) -> float | None:
        return self.max_seconds

    def run(
        self,
        nlp: NLP,
        z: np.ndarray,
        multipliers: Multipliers | None,
        callback: StepCallback,
    ) -> Outcome:
        on_host = self._on_host(nlp)
        scaled = host_problem_of if on_host else problem_of
        kind: Any = HostIteration if on_host else TracedIteration
        with x64():
            begin = time.perf_counter()
            z = held_at_bounds(nlp, z)
            numbers = self._numbers(nlp)
            problem = scaled(nlp, z, numbers.gauss_newton)
            return kind(numbers, problem, z, multipliers, begin).outcome(callback)

    def run_many(
        self,
        nlps: Sequence[NLP],
        starts: Sequence[np.ndarray],
        multipliers: Sequence[Multipliers | None],
        *,
        vectorize: bool | None = None,
    ) -> list[Outcome]:
        if vectorize is None:
            vectorize = vectorizes()
        if not vectorize and self._on_host(nlps[0]) and are_few(nlps):
            return super().run_many(nlps, starts, multipliers, vectorize=vectorize)
        starts = [held_at_bounds(*pair) for pair in zip(nlps, starts, strict=True)]
        run = run_vectorised if vectorize else run_in_threads
        return run(self._numbers(nlps[0]), self.max_seconds, nlps, starts, multipliers)

    def together(self, most: int) -> int:
        # On a CPU a single solve compiles nothing, and threads would wait for the interpreter.
        return most if vectorizes() else 1

    @staticmethod
    def takes(nlp: NLP) -> bool:
        """Whether `nlp` has the structure that the method needs.

        It has not with ties, with constraints that join intervals, or with states that are fixed
        elsewhere than at a start.
        """
        check_nlp("nlp", nlp)
        return fits(nlp)

    def _on_host(self, nlp: NLP) -> bool:
        """Whether a single solve is driven from the host, which compiles nothing of its own."""
        layout = nlp.layout
        size = layout.num_nodes * layout.num_states * layout.num_head
        return on_host() and size <= LARGEST_ON_HOST

    def _numbers(self, nlp: NLP) -> Numbers:
        first = self.mu / nlp.layout.num_nodes
        gauss_newton = self.hessian == "gauss_newton"
        return Numbers(self.tol, self.max_steps, gauss_newton, first, self.look)
