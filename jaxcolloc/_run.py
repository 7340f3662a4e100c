"""Run: what all iterations have in common, whatever it is that iterates.

A run records its steps, shows them to the caller's callback and a progress bar, writes checkpoints,
and says when to end: by the callback's wish, at a limit of time, or after Ctrl-C.
"""

import contextlib
import dataclasses
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Generic, TypeVar

import numpy as np

from . import _atomic_file, _storage
from ._check import describe, function, integer
from ._trace import RESULTS, Row


Callback = Callable[[Any], Any]
Point = TypeVar("Point")

# Constraint violations below this count as feasible when points are compared.
FEASIBLE = 1e-4


class Interrupt:
    """Whether Ctrl-C was pressed since the outermost of some nested scopes began."""

    def __init__(self) -> None:
        self.pressed = False


class _Scopes(threading.local):
    """The scope that this thread is in, if any: a solve in another thread is not part of it."""

    interrupt: Interrupt | None = None


_scopes = _Scopes()


@contextlib.contextmanager
def interruptible() -> Iterator[Interrupt]:
    """A scope in which the first Ctrl-C asks every run to end; the second raises at once.

    Scopes inside share what the outermost one is told, so that one Ctrl-C ends all that a call
    would still have done. Signals reach the main thread only; where Python's own handler is not
    the one in place, it is left alone.
    """
    if _scopes.interrupt is not None:
        yield _scopes.interrupt
        return
    interrupt = Interrupt()

    def handle(number: int, frame: FrameType | None) -> None:
        if interrupt.pressed:
            raise KeyboardInterrupt
        interrupt.pressed = True

    own = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    try:
        _scopes.interrupt = interrupt
        if own:
            signal.signal(signal.SIGINT, handle)
        yield interrupt
    finally:
        _scopes.interrupt = None
        if own:
            signal.signal(signal.SIGINT, signal.default_int_handler)


class Checkpoint:
    """A file that a run writes every so many steps and at its end, always in one piece.

    `request` tells for what problem it is written, as fingerprints by name; a run may go on from
    the file only if it asks for the same.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        every: int = 1,
        request: dict[str, str] | None = None,
    ):
        # A folder, or a missing one, is refused before any work is done.
        _atomic_file.destination(path, "checkpoint")
        self.path, self.every, self.request = path, integer("every", every, 1), request

    @classmethod
    def of(cls, checkpoint: Any, every: int) -> "Checkpoint | None":
        """From a caller's argument: a path, one of these, or None for no file."""
        if checkpoint is None or isinstance(checkpoint, Checkpoint):
            return checkpoint
        return cls(checkpoint, every)

    def exists(self) -> bool:
        """Whether there is a file to go on from."""
        return Path(self.path).exists()

    def write(self, content: dict[str, Any]) -> None:
        """Write what the run is to go on from."""
        _storage.write(self.path, content | {"request": self.request}, "checkpoint")

    def check(self, found: Any) -> None:
        """Refuse to go on from a file that was written for another problem.

        **Errors:** `ValueError` naming what has changed.
        """
        wanted = self.request or {}
        if not isinstance(found, dict):
            raise ValueError(
                f"`checkpoint` must be a file of the same kind of run; got {self.path}, which does "
                "not say what it was written for."
            )
        names = [name for name in {**found, **wanted} if found.get(name) != wanted.get(name)]
        if names:
            listed = ", ".join(f"`{name}`" for name in names)
            raise ValueError(
                f"`checkpoint` holds a fit of another problem: {listed} differ from what is asked "
                f"for now. Remove {self.path} or give another file."
            )


class Best(Generic[Point]):
    """The best point so far: less violated first, then of lower objective."""

    def __init__(self) -> None:
        self.point: Point | None = None
        self._rank = (math.inf, math.inf)

    def offer(self, violation: float, objective: float, point: Point) -> bool:
        """Keep the point if it is better; whether it is. One without a finite objective is not."""
        rank = (max(violation, FEASIBLE), objective)
        if not (objective < math.inf and rank < self._rank):
            return False
        self._rank, self.point = rank, point
        return True


class Run:
    """One run: to be called after every step, it tells whether the run is to end.

    **Arguments:**

    - `callback`, `update`: the caller's function and the progress bar's, called with each row.
    - `max_seconds`: the limit of time, counted from `begin` or else from the first step.
    - `model`: makes the model of what a solver calls its current point, for the callback.
    - `checkpoint`: where to write; `content` makes what is written of the current point.
    """

    def __init__(
        self,
        *,
        callback: Callback | None = None,
        update: Callable[[Row], None] | None = None,
        max_seconds: float | None = None,
        begin: float | None = None,
        model: Callable[[Any], Any] = lambda current: None,
        checkpoint: Checkpoint | None = None,
        content: Callable[[Any, "Run"], dict[str, Any] | None] = lambda current, run: None,
    ):
        self.callback, self.update, self.max_seconds = callback, update, max_seconds
        self.model, self.checkpoint, self.content = model, checkpoint, content
        self.rows: list[Any] = []
        self.result: RESULTS | None = None
        self._begin = begin
        self._interrupt = _scopes.interrupt or Interrupt()

    def __call__(self, row: Row, current: Callable[[], Any]) -> bool:
        """Record a step; `current()` is the point it led to. True if the run is to end."""
        if self._begin is None:
            self._begin = time.perf_counter() - row.seconds
        self.rows.append(row)
        if self.update is not None:
            self.update(row)
        due = self.checkpoint is not None and row.iteration % self.checkpoint.every == 0
        if self.checkpoint is not None and due and row.iteration:
            content = self.content(current(), self)
            if content is not None:
                self.checkpoint.write(content)
        if self._asked_to_stop(row, current):
            self.result = self.result or RESULTS.stopped
        return self.over()

    def over(self) -> bool:
        """Whether the run is to end, for whatever reason; `result` says which."""
        if self.result is None and self._interrupt.pressed:
            self.result = RESULTS.interrupted
        if self.result is None and self.late():
            self.result = RESULTS.max_seconds_reached
        return self.result is not None

    def late(self) -> bool:
        """Whether the limit of time is reached."""
        if self.max_seconds is None or self._begin is None:
            return False
        return time.perf_counter() - self._begin > self.max_seconds

    def interrupt(self) -> None:
        """End it as Ctrl-C does, and all other runs of the same call."""
        self._interrupt.pressed = True

    def _asked_to_stop(self, row: Row, current: Callable[[], Any]) -> bool:
        """Show a step to the caller's callback; whether it wants the run to end."""
        if self.callback is None:
            return False
        shown = dataclasses.replace(row, model=lambda: self.model(current()))
        try:
            return self.callback(shown) is True
        except StopIteration:
            return True


def check_shown(progress: Any, callback: Any) -> None:
    """Refuse what is no choice of a progress bar, and a callback that cannot be called."""
    if not isinstance(progress, (bool, np.bool_, str)):
        raise ValueError(
            f"`progress` must be True, False or a bar's title; got {describe(progress)}."
        )
    if callback is not None:
        function("callback", callback, "callback(step)")


@contextlib.contextmanager
def progress_bar(show: bool | str, total: int) -> Iterator[Callable[[Row], None]]:
    """A function to call after each step; it draws nothing unless `show`, which may be a title."""
    if not show:
        yield lambda row: None
        return
    from tqdm.auto import tqdm

    title = show if isinstance(show, str) else "collocation"
    with tqdm(total=total, unit=" steps", desc=title) as bar:

        def update(row: Row) -> None:
            bar.n = row.iteration
            bar.set_postfix_str(row.summary())

        yield update
