"""Schedule: which trajectories each step of sequential training sees, and how much of them."""

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._check import describe, float_array, integer
from .loss import Part


class Task(NamedTuple):
    """What one step minimises.

    The losses of `parts` until that share of each trajectory's time, times `factor`; `opens` tells
    that a window begins.
    """

    parts: tuple[Part, ...]
    until: float
    factor: float
    opens: bool


class Schedule:
    """The steps of a training: growing windows of time, and batches of trajectories.

    `trained` is the share of each trajectory's time that is not held out, `key` shuffles the
    batches.
    """

    def __init__(
        self,
        parts: tuple[Part, ...],
        steps: tuple[int, ...],
        windows: tuple[float, ...],
        batch: int | None,
        trained: float,
        key: Any,
    ):
        self.parts, self.steps, self.windows = parts, steps, windows
        self.batch, self.trained, self.key = batch, trained, key

    def tasks(self) -> Iterator[Task]:
        """One for every step, and one more for the value of what the last step led to."""
        last = len(self.steps) - 1
        for position, (count, window) in enumerate(zip(self.steps, self.windows, strict=True)):
            until = window * self.trained
            scale = 1 / max(self.count(-1.0, until), 1)
            more = count + (position == last)
            for number, (parts, factor) in enumerate(itertools.islice(self._batches(), more)):
                yield Task(parts, until, factor * scale, number == 0)

    def count(self, after: float, until: float) -> int:
        """How many observation times lie between those shares of the time."""
        return sum(series.counts(after, until) for series, _ in self.parts)

    def _batches(self) -> Iterator[tuple[tuple[Part, ...], float]]:
        """Batches without end, each with the share of the data it stands for, inverted."""
        size = self.batch
        if size is None:
            yield from itertools.repeat((self.parts, 1.0))
            return
        rng = np.random.default_rng(int(jax.random.bits(self.key)))
        while True:
            chunks: list[tuple[Part, ...]] = []
            for series, every in self.parts:
                order = rng.permutation(len(every))
                each = min(size, len(order))
                for first in range(0, len(order), each):
                    # The last batch is filled up from the first.
                    chunk = order[np.arange(first, first + each) % len(order)]
                    chunks.append(((series, jnp.asarray(chunk)),))
            for position in rng.permutation(len(chunks)):
                yield chunks[position], float(len(chunks))


def as_schedule(steps: Any, windows: Any) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """The number of steps of each window, and the windows, once they are checked."""
    shares = float_array("windows", windows, 1, "(window,)")
    if len(shares) == 0 or shares[-1] != 1 or shares[0] <= 0 or np.any(np.diff(shares) <= 0):
        raise ValueError(
            f"`windows` must be growing shares above 0 that end in 1; got {describe(windows)}."
        )
    if isinstance(steps, (list, tuple)):
        counts = tuple(integer("steps", item, 1) for item in steps)
        if len(counts) != len(shares):
            raise ValueError(
                f"`steps` must be a number or {len(shares)} of them, as `windows`; got {steps}."
            )
    else:
        total = integer("steps", steps, len(shares))
        edges = np.round(np.linspace(0, total, len(shares) + 1)).astype(int)
        counts = tuple(int(item) for item in np.diff(edges))
    return counts, tuple(float(item) for item in shares)
