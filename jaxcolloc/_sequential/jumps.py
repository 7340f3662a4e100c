"""The jumps of several trajectories that are rolled out together, as arrays of one shape."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Float, Int

from .._args import Unknown, Unknowns
from .._data import Trajectory
from .._integrate import JumpTable
from .._jumps import Jump, JumpFunction
from .._precision import AnyArray
from .._transform import Scale


class SeriesJumps(eqx.Module):
    """Jumps of a group's trajectories, shorter lists filled up with ones that never come.

    `which` are those of `functions`, -1 for amounts. Unknown amounts stand at `unknown` among their
    trajectory's unknowns, -1 for known ones; `scale` are theirs among `scales`.
    """

    times: Float[AnyArray, "traj jump"]
    amounts: Float[AnyArray, "traj jump state"]
    which: Int[AnyArray, "traj jump"]
    unknown: Int[AnyArray, "traj jump state"]
    scale: Int[AnyArray, "traj jump state"]
    functions: tuple[JumpFunction, ...]
    scales: tuple[Scale, ...] = eqx.field(static=True)

    @classmethod
    def of(
        cls, trajectories: Sequence[Trajectory], num_states: int, model: Any
    ) -> "SeriesJumps | None":
        """Those of some trajectories; None where there are none."""
        longest = max(len(item.jumps) for item in trajectories)
        if longest == 0:
            return None
        shape = (len(trajectories), longest)
        times, amounts = np.full(shape, np.inf), np.zeros((*shape, num_states))
        which = np.full(shape, -1)
        unknown, scale = np.full(amounts.shape, -1), np.zeros(amounts.shape, int)
        functions: list[JumpFunction] = []
        scales: list[Scale] = []
        for k, item in enumerate(trajectories):
            first = len(Unknowns.of(item.args).start)
            for i, jump in enumerate(item.jumps):
                times[k, i] = jump.t
                if jump.to is not None:
                    which[k, i] = _place(functions, JumpFunction.of(jump.to, model))
                    continue
                amounts[k, i] = jump.at_start.add
                for at, own in _unknown_entries(jump):
                    unknown[k, i, at], first = first, first + 1
                    scale[k, i, at] = _place(scales, own)
        return cls(times, amounts, which, unknown, scale, tuple(functions), tuple(scales))

    def table(self, unknowns: Array) -> JumpTable:
        """The jumps of one trajectory, whose axis is mapped over, for its unknowns."""
        amounts, at = jnp.asarray(self.amounts), jnp.asarray(self.unknown)
        for place, scale in enumerate(self.scales):
            value = scale.outward(unknowns[jnp.maximum(at, 0)])
            amounts = jnp.where((at >= 0) & (self.scale == place), value, amounts)
        return JumpTable(self.times, amounts, self.which, self.functions)


def _place(known: list[Any], item: Any) -> int:
    """Where an item stands in a list, into which it is put if it is not there."""
    for place, other in enumerate(known):
        if _same(item, other):
            return place
    known.append(item)
    return len(known) - 1


def _same(item: Any, other: Any) -> bool:
    if isinstance(item, JumpFunction):
        same = item.function is other.function or _equal(item.function, other.function)
        return same and item.form == other.form
    return bool(item == other)


def _equal(a: Any, b: Any) -> bool:
    return isinstance(a, type(b)) and not jtu.tree_leaves(eqx.filter(a, eqx.is_array)) and a == b


def _unknown_entries(jump: Jump) -> list[tuple[int, Scale]]:
    """The states whose amounts are unknown, in order, with their scales."""
    if isinstance(jump.add, Unknown):
        return [(at, jump.add.scale) for at in range(jump.add.value.size)]
    return [(at, item.scale) for at, item in enumerate(jump.add) if isinstance(item, Unknown)]
