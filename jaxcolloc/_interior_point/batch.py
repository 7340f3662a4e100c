"""Many solves of `jc.InteriorPoint` at once: in threads, or as one vectorised loop.

Both take the compiled loop.
"""

import concurrent.futures
import dataclasses
import functools
import os
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._nlp import NLP
from .._precision import x64
from .._run import Run
from .._solver import Outcome
from .._trace import RESULTS, Multipliers, Step
from . import loop
from .barrier import Problem
from .driver import (
    Numbers,
    TracedIteration,
    first_inputs,
    options_of,
    outcome_of,
    rows_of,
    steps_of,
)
from .problem import make_problem, problem_of
from .state import RUNNING


def cores() -> int:
    """How many solves this machine can do at a time."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def vectorizes() -> bool:
    """Whether this device solves many better in one loop than side by side."""
    return jax.default_backend() != "cpu"


# Up to so many nodes in all, solving one after another on the host is done before the loop for
# threads is compiled, which takes some 12 s: 0.2 ms a node saved in 100 iterations take 10,000.
FEW_NODES = 10_000


def are_few(nlps: Sequence[NLP]) -> bool:
    """Whether these are solved sooner one after another on the host than by threads."""
    return sum(nlp.layout.num_nodes for nlp in nlps) <= FEW_NODES


def run_in_threads(
    numbers: Numbers,
    max_seconds: float | None,
    nlps: Sequence[NLP],
    starts: Sequence[np.ndarray],
    warm: Sequence[Multipliers | None],
) -> list[Outcome]:
    """Many NLPs of one shape, as many at a time as there are cores; the result of each."""
    with x64():
        begin = time.perf_counter()
        problems = _problems(numbers, nlps, starts)
        # Compiles for all of them.
        first = TracedIteration(numbers, problems[0], starts[0], warm[0], begin)
    # The limit of time is that of them all.
    begin = time.perf_counter()
    runs = [Run(max_seconds=max_seconds, begin=begin) for _ in nlps]

    def one(k: int) -> Outcome:
        with x64():
            new = (numbers, problems[k], starts[k], warm[k], begin)
            own = TracedIteration(*new) if k else first
            return own.outcome(runs[k]).ended_by(runs[k])

    with concurrent.futures.ThreadPoolExecutor(min(cores(), len(nlps))) as pool:
        futures = [pool.submit(one, k) for k in range(len(nlps))]
        try:
            concurrent.futures.wait(futures)
        except KeyboardInterrupt:
            for run in runs:
                run.interrupt()
    seconds = time.perf_counter() - begin
    return [
        dataclasses.replace(
            future.result(), compile_seconds=first.compile_seconds, solve_seconds=seconds
        )
        for future in futures
    ]


def _problems(numbers: Numbers, nlps: Sequence[NLP], starts: Sequence[np.ndarray]) -> list[Problem]:
    """Their scaled problems, which share one structure."""
    first = problem_of(nlps[0], starts[0], numbers.gauss_newton)
    others = zip(nlps[1:], starts[1:], strict=True)
    return [first, *(make_problem(*pair, first.structure) for pair in others)]


def run_vectorised(
    numbers: Numbers,
    max_seconds: float | None,
    nlps: Sequence[NLP],
    starts: Sequence[np.ndarray],
    warm: Sequence[Multipliers | None],
) -> list[Outcome]:
    """Many NLPs of one shape in one vectorised loop; the result of each."""
    count = len(nlps)
    if any(item is None for item in warm):
        warm = [None] * count
    with x64():
        problems = _problems(numbers, nlps, starts)
        inputs = [first_inputs(numbers, *item) for item in zip(problems, starts, warm, strict=True)]
        problem, axes = _stacked(problems)
        begin = time.perf_counter()
        state = loop.first_of_batch(problem, axes, *_stacked(inputs, every=True))
        several = functools.partial(
            loop.several_of_batch, problem, axes, options_of(numbers),
            not numbers.gauss_newton, room=numbers.look,
        )  # fmt: skip
        several(state, jnp.asarray(0))
        np.asarray(state.point.z)
        compile_seconds = time.perf_counter() - begin
        begin = time.perf_counter()
        steps: list[list[Step]] = [[] for _ in range(count)]
        begun = jax.tree.map(lambda item: np.asarray(item)[:, None], state.record)
        _collect(steps, begun, np.ones(count, int), np.zeros(count, int), 0.0)
        run = Run(max_seconds=max_seconds, begin=begin)
        result: RESULTS | None = None if numbers.max_steps else RESULTS.max_steps_reached
        try:
            while result is None and np.any(np.asarray(state.status) == RUNNING):
                before = np.asarray(state.iteration)
                state, records = several(state, jnp.asarray(numbers.look))
                taken = np.asarray(state.iteration) - before
                seconds = time.perf_counter() - begin
                _collect(steps, jax.tree.map(np.asarray, records), taken, before + 1, seconds)
                result = run.result if run.over() else None
        except KeyboardInterrupt:
            result = RESULTS.interrupted
        seconds = time.perf_counter() - begin
        state = jax.tree.map(np.asarray, state)
        each = [jax.tree.map(lambda item, k=k: item[k], state) for k in range(count)]
        return [
            outcome_of(*item, compile_seconds, seconds)
            for item in zip(problems, each, [result] * count, steps, strict=True)
        ]


def _collect(
    steps: list[list[Step]], records: Any, taken: np.ndarray, number: np.ndarray, seconds: float
) -> None:
    for k, known in enumerate(steps):
        own = jax.tree.map(lambda item, k=k: item[k], records)
        known += steps_of(rows_of(own, int(taken[k])), int(number[k]), seconds)


def _stacked(trees: Sequence[Any], every: bool = False) -> tuple[Any, Any]:
    """One tree, in which arrays that differ, or every one, are stacked, and the axes to map."""

    def axis(*leaves: Any) -> int | None:
        first = leaves[0]
        if every:
            return 0
        if all(leaf is first for leaf in leaves):
            return None
        return None if all(np.array_equal(leaf, first) for leaf in leaves) else 0

    axes = jax.tree.map(lambda *leaves: _Axis(axis(*leaves)), *trees)
    stacked = jax.tree.map(
        lambda axis, *leaves: leaves[0] if axis.number is None else jnp.stack(leaves), axes, *trees
    )
    return stacked, jax.tree.map(lambda item: item.number, axes)


@dataclasses.dataclass(frozen=True)
class _Axis:
    """The axis along which a leaf is mapped; None where all problems share the leaf.

    An object, since JAX takes a bare None in a tree for no leaf at all.
    """

    number: int | None
