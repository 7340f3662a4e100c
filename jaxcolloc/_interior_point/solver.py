"""InteriorPoint: a structured interior-point method, all of it JAX."""

from collections.abc import Sequence

import jax
import numpy as np

from .._check import choice, integer, positive
from .._nlp import NLP
from .._precision import x64
from .._solver import AbstractSolver, Outcome, StepCallback
from .._trace import Multipliers
from .batch import cores, run_in_threads, run_vectorised, vectorizes
from .driver import HostIteration, Numbers, TracedIteration
from .problem import host_problem_of, problem_of


class InteriorPoint(AbstractSolver):
    r"""A primal-dual interior-point method that uses the structure of collocation.

    The algorithm is IPOPT's (filter line search, second-order correction, corrected inertia); the
    linear systems are solved interval by interval, with the weights as a border (`kkt.py`), and
    all of an iteration is one compiled program, so that it runs on a GPU as well. It takes
    the same NLPs as `jc.Ipopt`, but for ties between trajectories, constraints over several
    intervals and states fixed elsewhere than at a start. The larger the problem, the more it gains;
    `bench/solvers.py` compares the two on 60 problems of 200 nodes, all of which both solve, and on
    up to 100,000 nodes, and `bench/systems.py --interior-point` fits twelve systems with it. Still
    `jc.fit` stays with `jc.Ipopt` unless it is given another `solver`: that takes every NLP, and
    compiles in a second or two where this takes about ten, anew for every grid that a fit tries.
    JAX's persistent cache, `jax.config.update("jax_compilation_cache_dir", folder)`, takes most of
    that away from the next process that solves an NLP of the same shape.

    **Arguments:**

    - `tol`: the tolerance on the scaled optimality conditions.
    - `max_steps`, `max_seconds`: limits; reaching one returns the best point found.
    - `hessian`: "exact", or "gauss_newton", which leaves out the curvature of equations and
      observations and damps the steps in its place: some four times as many, and no help where the
      model cannot fit the data.
    - `mu`: the first barrier parameter of a cold start, times the number of nodes: a barrier is a
      sum over nodes where a loss is a mean over samples, and a strong one leads away from the data.
    - `look`: after how many iterations limits of time, Ctrl-C and callbacks are looked at.
      Callbacks see every step, but the iterate and the model are those of the last one.

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
        with x64():
            numbers = self._numbers(nlp)
            if self._on_host(nlp):
                problem = host_problem_of(nlp, z, numbers.gauss_newton)
                return HostIteration(numbers, problem, z, multipliers).outcome(callback)
            problem = problem_of(nlp, z, numbers.gauss_newton)
            return TracedIteration(numbers, problem, z, multipliers).outcome(callback)

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
        run = run_vectorised if vectorize else run_in_threads
        return run(self._numbers(nlps[0]), self.max_seconds, nlps, starts, multipliers)

    def together(self, most: int) -> int:
        return most if vectorizes() else min(most, cores())

    def _on_host(self, nlp: NLP) -> bool:
        """Whether a single solve is driven from the host, which compiles nothing of its own."""
        return jax.default_backend() == "cpu"

    def _numbers(self, nlp: NLP) -> Numbers:
        first = self.mu / nlp.layout.num_nodes
        gauss_newton = self.hessian == "gauss_newton"
        return Numbers(self.tol, self.max_steps, gauss_newton, first, self.look)
