"""run_through: a simulation by collocation from jump to jump."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from .._grid import Grid
from .._jumps import Change


# From a scheme or grid, times and the state at the first of them to the states at all.
Run = Callable[[Any, np.ndarray, np.ndarray], np.ndarray]


def run_through(
    changes: Sequence[Change],
    run: Run,
    by: Any,
    ts: Float[np.ndarray, " time"],
    start: Float[np.ndarray, " state"],
) -> Float[np.ndarray, "time state"]:
    """The states at `ts`, those at a jump before it; all jumps are from the first time on.

    Where a piece fails, the states behind it are NaN.
    """
    states = np.full((len(ts), len(start)), np.nan)
    begin, done = float(ts[0]), 0
    ends = [*(change.t for change in changes), float(ts[-1])]
    for number, end in enumerate(ends):
        last = number == len(changes)
        stop = len(ts) if last else int(np.searchsorted(ts, end, side="right"))
        times = np.concatenate([[begin], ts[done:stop], [end]])
        found = run(_part(by, begin, end), times, start)
        states[done:stop] = found[1:-1]
        if last or not np.all(np.isfinite(found[-1])):
            break
        begin, done, start = end, stop, changes[number].after(found[-1])
    return states


def _part(by: Any, begin: float, end: float) -> Any:
    """A grid's intervals between two times, or its scheme where there are none."""
    if not isinstance(by, Grid):
        return by
    inside = by.boundaries[(by.boundaries > begin) & (by.boundaries < end)]
    return Grid(np.concatenate([[begin], inside, [end]]), by.scheme) if end > begin else by.scheme
