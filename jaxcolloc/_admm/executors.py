"""Executors: where subproblems run, and what happens when a worker dies."""

import contextlib
import os
import uuid
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future
from typing import TYPE_CHECKING, Any

from .._check import describe, integer
from .pickling import pack
from .subproblem import Job, Local, Recipe, work


if TYPE_CHECKING:
    from concurrent.futures import ProcessPoolExecutor


# For the workers of a pool: they share the machine, one core each.
_ONE_CORE = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
}


class InProcess(Executor):
    """Runs what is submitted at once, in this process."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run it; the future returned is done."""
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def process_pool(workers: int) -> "ProcessPoolExecutor":
    """A pool of spawned processes with one BLAS thread each.

    Started at once, since processes take over the environment as it is when they start.
    """
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    workers = integer("workers", workers, 1)
    old = {name: os.environ.get(name) for name in _ONE_CORE}
    for name, value in _ONE_CORE.items():
        flags = f"{old[name] or ''} {value}".strip()
        os.environ[name] = flags if name == "XLA_FLAGS" else value
    try:
        pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
        # A process is started for each submission while none is idle.
        for future in [pool.submit(os.getpid) for _ in range(workers)]:
            future.result()
    finally:
        for name, before in old.items():
            if before is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = before
    return pool


class Workers:
    """The subproblems of one run, on an executor.

    A recipe goes to a process that does not know it; then arrays only.
    """

    def __init__(self, executor: Executor | int | None, recipes: Sequence[Recipe], retries: int):
        # A process of its own gets them packed.
        self.recipes: list[Recipe | bytes] = list(recipes)
        self.retries = retries
        self.run = uuid.uuid4().hex
        self._owned: int | None = None
        self._executor: Executor
        if executor is None:
            self._executor = InProcess()
            return
        self.recipes = [pack(item) for item in recipes]
        if isinstance(executor, int) and not isinstance(executor, bool):
            self._owned = integer("executor", executor, 1)
            self._executor = process_pool(self._owned)
        elif not isinstance(executor, int) and callable(getattr(executor, "submit", None)):
            self._executor = executor
        else:
            raise ValueError(
                "`executor` must be a number of processes or have a `submit` like "
                f"concurrent.futures.Executor; got {describe(executor)}."
            )

    @contextlib.contextmanager
    def open(self) -> Iterator["Workers"]:
        """Close what was opened here."""
        try:
            yield self
        finally:
            if self._owned is not None:
                self._executor.shutdown(cancel_futures=True)

    def answers(
        self,
        jobs: Sequence[Job],
        retry: Callable[[int, Job], Job],
        over: Callable[[], bool] = lambda: False,
    ) -> tuple[list[Local | None], list[str]]:
        """The answer to each batch's job, or None and why.

        What fails, or dies with its worker, is tried again with the job that `retry` makes, unless
        the run is `over`.
        """
        found: list[Local | None] = [None] * len(jobs)
        left, reasons = dict(enumerate(jobs)), {}
        for attempt in range(self.retries + 1):
            if attempt and over():
                break
            if attempt:
                left = {batch: retry(batch, job) for batch, job in left.items()}
            reasons = self._round(left, found, over)
            left = {batch: left[batch] for batch in reasons}
            if not left:
                break
        return found, [f"batch {batch}: {reason}" for batch, reason in reasons.items()]

    def _round(
        self, jobs: dict[int, Job], found: list[Local | None], over: Callable[[], bool]
    ) -> dict[int, str]:
        """One try of some jobs; which failed and why."""
        reasons: dict[int, str] = {}
        told: dict[int, Recipe | bytes | None] = dict.fromkeys(jobs)
        while told:
            futures, broken = {}, False
            for batch, recipe in told.items():
                try:
                    future = self._executor.submit(work, self.run, batch, jobs[batch], recipe)
                except BrokenExecutor as error:
                    reasons[batch], broken = _reason(error), True
                else:
                    futures[batch] = future
            told = {}
            for batch, future in futures.items():
                try:
                    answer = future.result()
                except Exception as error:
                    reasons[batch] = _reason(error)
                    broken = broken or isinstance(error, BrokenExecutor)
                    continue
                if answer is None:
                    told[batch] = self.recipes[batch]
                elif answer.ok:
                    found[batch] = answer
                else:
                    reasons[batch] = answer.text
            if over():
                break
            if broken:
                self._mend()
        return reasons

    def _mend(self) -> None:
        """A pool whose worker has died takes no more work."""
        if self._owned is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)
            self._executor = process_pool(self._owned)
            return
        warnings.warn(
            "The executor is broken, as a pool is whose worker died. The batches are now solved "
            "in this process.",
            stacklevel=2,
        )
        self._executor = InProcess()


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
