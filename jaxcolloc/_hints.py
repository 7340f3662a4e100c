"""hints: what may be behind a fit that is not good, from the look of data and model."""

from typing import Any

import jax.tree_util as jtu
import numpy as np

from ._comparison import state_spreads
from ._data import counted
from ._intervals import field_at
from ._normalized import Normalized
from ._ridge import net_weights
from ._solution import Solution


# Spreads of states, and rates in spreads per unit of time, that are further from one than this.
_EXTREME = 1e3


def hints(sol: Solution) -> list[str]:
    """What may be behind a fit that is not good, besides its verdict."""
    found = []
    if sol.nlp.num_states == 1 and _rises_and_falls(sol) and _autonomous(sol):
        found.append(
            "A model of one state that depends on neither time nor inputs can only rise or only "
            "fall, but the data do both: give it more states (`num_states`) or inputs."
        )
    if np.any(net_weights(sol.nlp.layout.model, sol.nlp.model)) and not _normalized(sol.nlp.model):
        found += _hints_on_units(sol)
    return found


def _normalized(model: Any) -> bool:
    """Whether a part of the model sees normalised states."""
    nodes = jtu.tree_leaves(model, is_leaf=lambda node: isinstance(node, Normalized))
    return any(isinstance(node, Normalized) for node in nodes)


def _hints_on_units(sol: Solution) -> list[str]:
    """What to do where a net has to have very large or small weights for the units of its data."""
    far = []
    rate = _fastest(sol)
    if not 1 / _EXTREME < rate < _EXTREME:
        far.append(f"in the unit of `ts` states move by their spread in {1 / rate:.1g}")
    spread = np.array(state_spreads(sol))
    widest = spread.flat[np.argmax(np.abs(np.log(spread)))]
    if not 1 / _EXTREME < widest < _EXTREME:
        far.append(f"a state has a spread of {widest:.1g}")
    if not far:
        return []
    return [
        f"A net has to undo the units: {' and '.join(far)}. Wrap the model in jc.normalized, or "
        "pass data in units near one."
    ]


def _rises_and_falls(sol: Solution) -> bool:
    """Whether the data of any trajectory go up and down by more than a third of their range."""
    for item in sol.nlp.trajectories:
        for ys in counted(item).T:
            values = ys[~np.isnan(ys)]
            if len(values) < 3 or np.ptp(values) == 0:
                continue
            rise = np.max(values - np.minimum.accumulate(values))
            fall = np.max(np.maximum.accumulate(values) - values)
            if min(rise, fall) > np.ptp(values) / 3:
                return True
    return False


def _autonomous(sol: Solution) -> bool:
    """Whether the field of the first trajectory is the same at all times."""
    path = sol.paths[0]
    times = np.linspace(path.grid.boundaries[0], path.grid.boundaries[-1], 7)
    states = path.states[np.linspace(0, len(path.states) - 1, 5).astype(int)]
    where = np.broadcast_to(times[:, None], (7, 5)), np.broadcast_to(states, (7, *states.shape))
    field = field_at(sol.model, sol.args[0], *where)
    return bool(np.ptp(field, axis=0).max() <= 1e-9 * np.abs(field).max())


def _fastest(sol: Solution) -> float:
    """The largest rate among states, root mean square, in spreads per unit of time."""
    rates = [0.0]
    for path, spread in zip(sol.paths, state_spreads(sol), strict=True):
        # A jump is no rate.
        later = np.diff(path.grid.times) > 0
        change = np.diff(path.states, axis=0)[later] / spread
        steps = np.diff(path.grid.times)[later, None]
        rates.append(float(np.max(np.sqrt(np.mean((change / steps) ** 2, axis=0)))))
    return max(rates) or 1.0
