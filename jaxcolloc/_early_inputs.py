"""Inputs that act before a path begins: a known initial state may have been meant for then."""

import warnings
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

from ._args import Unknowns, restore
from ._data import Trajectory
from ._grid import Grid
from ._inputs import sampled
from ._names import which
from ._precision import x64


# Values of an input that differ by less than this share of their size are the same.
_SAME = 1e-9


def warn_of_early_inputs(trajectories: Sequence[Trajectory], grids: Sequence[Grid]) -> None:
    """Warn where `y0` is given, `t0` is not, and an input changes before the grid begins.

    One warning, of the first such trajectory; the caller's caller is the line it shows.
    """
    for position, (item, grid) in enumerate(zip(trajectories, grids, strict=True)):
        known = item.y0 is not None and np.isfinite(item.y0).any()
        if item.t0 is not None or not (known or item.steady is not None):
            continue
        first, last = grid.boundaries[[0, -1]]
        if _changes_before(item.args, float(first), 1e-9 * float(last - first)):
            warnings.warn(
                f"The `y0` of {which(item, position)} is taken to hold at the first time of its "
                f"grid, {first:g}; what its input did before is not seen. Pass `t0=` to "
                "`jc.Trajectory` to begin earlier, or `t0=ts[0]` to say that this is meant.",
                stacklevel=3,
            )
            return


def _changes_before(args: Any, start: float, slack: float) -> bool:
    """Whether a sampled input in `args` changes its value before the time `start`."""
    with x64():
        known = restore(args, Unknowns.of(args).start)
        return any(_moves(item, start, slack) for item in sampled(known))


def _moves(path: Any, start: float, slack: float) -> bool:
    """Whether the path's values at its knots before `start` and at `start` are not all the same."""
    knots = np.asarray(path.ts, np.float64)
    early = knots[knots < start - slack]
    if len(early) == 0:
        return False
    # After a jump at a knot its own value holds; at the start, the value up to it counts.
    before = jax.vmap(lambda t: path.evaluate(t, left=False))(jnp.asarray(early))
    there = path.evaluate(jnp.asarray(start))
    pairs = zip(jtu.tree_leaves(before), jtu.tree_leaves(there), strict=True)
    return any(_differ(np.asarray(values), np.asarray(value)) for values, value in pairs)


def _differ(values: np.ndarray, value: np.ndarray) -> bool:
    size = max(float(np.abs(values).max(initial=0.0)), float(np.abs(value).max(initial=0.0)))
    return bool(np.any(np.abs(values - value) > _SAME * size))
