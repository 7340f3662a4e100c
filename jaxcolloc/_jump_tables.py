"""Jumps as arrays: of one trajectory, and of several that are rolled out together."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from ._args import Unknown, Unknowns
from ._jumps import Jump, JumpFunction
from ._precision import AnyArray
from ._transform import Scale


class JumpTable(eqx.Module):
    """Jumps as arrays, by their times: amounts, or which of `functions` of the state each is.

    `which` is -1 for amounts. Times that are infinite are no jumps.
    """

    times: Float[AnyArray, " jump"]
    amounts: Float[AnyArray, "jump state"]
    which: Int[AnyArray, " jump"]
    functions: tuple[JumpFunction, ...]

    @classmethod
    def of(cls, jumps: Sequence[Jump], model: Any, num_states: int) -> "JumpTable":
        """Of jumps whose amounts are known, at least one."""
        rows = SeriesJumps.of([((), jumps)], num_states, model)
        assert rows is not None
        return cls(rows.times[0], rows.amounts[0], rows.which[0], rows.functions)

    def after(self, number: Any, y: Array, args: Any, model: Any) -> Array:
        """The state after the jump of that number."""
        added = y + jnp.asarray(self.amounts)[number].astype(y.dtype)
        which = jnp.asarray(self.which)[number]
        for place, function in enumerate(self.functions):
            added = lax.cond(
                which == place,
                lambda y, added, function=function: function(y, args, model),
                lambda y, added: added,
                y,
                added,
            )
        return added


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
        cls, rows: Sequence[tuple[Any, Sequence[Jump]]], num_states: int, model: Any
    ) -> "SeriesJumps | None":
        """Those of some trajectories, each with its `args`; None where there are none."""
        longest = max(len(jumps) for _, jumps in rows)
        if longest == 0:
            return None
        shape = (len(rows), longest)
        times, amounts = np.full(shape, np.inf), np.zeros((*shape, num_states))
        which = np.full(shape, -1)
        unknown, scale = np.full(amounts.shape, -1), np.zeros(amounts.shape, int)
        functions: list[JumpFunction] = []
        scales: list[Scale] = []
        for k, (args, jumps) in enumerate(rows):
            first = len(Unknowns.of(args).start)
            for i, jump in enumerate(jumps):
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
