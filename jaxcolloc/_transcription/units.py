"""The units in which the optimizer sees states and equations, chosen from the data."""

from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Float

from .._check import describe, real_numbers
from .._data import Trajectory, changed, counted
from .._grid import Grid
from .._likelihoods import is_likelihood
from .layout import Layout


# Data of a larger or smaller magnitude than this, with no weights given, are weighted by it.
_EXTREME = 1e3


class Units(eqx.Module):
    """The units in which the optimizer sees states, algebraic variables and equations, and time.

    Weights and unknowns are seen as they are: their units are the scales of `weight_scale` and of
    `jc.Unknown`.
    """

    state: Float[np.ndarray, " state"]
    time: float
    algebraic: Float[np.ndarray, " algebraic"]
    equation: Float[np.ndarray, " algebraic"]

    @property
    def options(self) -> dict[str, Any]:
        """The options of `jc.transcribe` that keep these units, whatever the data."""
        more = self.algebraic if len(self.algebraic) else None
        return {"state_scale": self.state, "algebraic_scale": more}

    @classmethod
    def of(
        cls,
        given: Any,
        trajectories: tuple[Trajectory, ...],
        grids: tuple[Grid, ...],
        observed: bool,
        num_states: int,
    ) -> "Units":
        """The given units of states, or those chosen from the data; that of time from the grids."""
        state = _state_units(given, trajectories, observed, num_states)
        return cls(state, _time_unit(grids), np.ones(0), np.ones(0))

    def with_algebraic(
        self,
        given: Any,
        values: Float[np.ndarray, "point algebraic"],
        slopes: Float[np.ndarray, "point algebraic node_state"],
    ) -> "Units":
        """The same with units of algebraic variables and equations, powers of a thousand.

        Those of variables are `given`, or near the size of their `values` at some points; those of
        equations near what a unit of any variable adds to them: `slopes` are their derivatives.
        """
        count = values.shape[1]
        if given is None:
            algebraic = _thousands(_typical(np.abs(values)))
        else:
            algebraic = _given("algebraic_scale", "algebraic", given, count)
        own = np.abs(slopes) * np.append(self.state, algebraic)
        equation = _thousands(_typical(np.max(own, axis=2)))
        return Units(self.state, self.time, algebraic, equation)

    @property
    def node(self) -> Float[np.ndarray, " node_state"]:
        """The unit of each variable of a node."""
        return np.append(self.state, self.algebraic)

    def variables(self, layout: Layout) -> Float[np.ndarray, " variable"]:
        """The unit of every variable."""
        states = np.tile(self.node, (layout.num_nodes, 1))
        return layout.join(np.ones(layout.num_head), states)


def with_weights(trajectories: tuple[Trajectory, ...], loss: Any) -> tuple[Trajectory, ...]:
    """The trajectories, weighted by their channels' magnitudes if these are extreme.

    Only where no weights are given at all: a channel in units of 1e6 beside one of 1e-6 would be
    all that is fitted. A likelihood knows its own units.
    """
    if is_likelihood(loss) or any(item.weighted for item in trajectories):
        return trajectories
    magnitude = _magnitudes(trajectories)
    if np.all((magnitude >= 1 / _EXTREME) & (magnitude <= _EXTREME)):
        return trajectories
    return tuple(changed(item, weights=1 / magnitude**2) for item in trajectories)


def _magnitudes(trajectories: tuple[Trajectory, ...]) -> Float[np.ndarray, " obs"]:
    """The standard deviation of each channel; its mean's size if it is constant, or one."""
    ys = np.concatenate([counted(item) for item in trajectories])
    spread, level = np.nanstd(ys, axis=0), np.abs(np.nanmean(ys, axis=0))
    constant = spread <= 1e-12 * level
    magnitude = np.where(constant, level, spread)
    return np.where(magnitude > 0, magnitude, 1.0)


def _typical(sizes: Float[np.ndarray, "point entry"]) -> Float[np.ndarray, " entry"]:
    """The largest of each entry's sizes, of points where all are finite; 1 for zero and none."""
    finite = sizes[np.all(np.isfinite(sizes), axis=1)]
    largest = finite.max(axis=0, initial=0.0)
    return np.where(largest > 0, largest, 1.0)


def _thousands(value: Any) -> np.ndarray:
    return 10.0 ** (3 * np.round(np.log10(value) / 3))


def _state_units(
    given: Any, trajectories: tuple[Trajectory, ...], observed: bool, num_states: int
) -> Float[np.ndarray, " state"]:
    """The unit of each state: a power of a thousand near its channel's standard deviation.

    A state that is not a channel has unit one, unless `given` says otherwise.
    """
    if given is not None:
        return _given("state_scale", "state", given, num_states)
    scale = np.ones(num_states)
    if not observed:
        magnitude = _thousands(_magnitudes(trajectories))
        scale[: len(magnitude)] = magnitude
    return scale


def _given(name: str, axis: str, given: Any, count: int) -> Float[np.ndarray, " entry"]:
    """The units that the caller has chosen."""
    wanted = f"numbers above zero, a scalar or shape ({axis},) = ({count},)"
    scale = real_numbers(name, given, wanted)
    sound = np.all(np.isfinite(scale) & (scale > 0))
    if not sound or scale.shape not in ((), (1,), (count,)):
        raise ValueError(f"`{name}` must be {wanted}; got {describe(given)}.")
    return np.broadcast_to(scale, (count,))


def _time_unit(grids: tuple[Grid, ...]) -> float:
    """The unit of time: a power of a thousand near a third of the mean span."""
    span = np.mean([grid.boundaries[-1] - grid.boundaries[0] for grid in grids])
    return float(_thousands(span / 3))
