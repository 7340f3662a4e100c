"""advance: a state integrated from stretch to stretch of time, in one small compiled loop.

Neither the length of what is integrated nor the number of times that are asked for is a part of
what is compiled: a chunk of stretches of fixed length goes in with where the integration stands,
and comes out with where it stands then; Python does the rest.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from ._args import opened
from ._step_control import WELL, Standing, Step, before, behind, judged, proposed


Field = Callable[[Any, Array], Array]
# A method makes a step of a field from a time and a state, of a length; it gets the slope there
# and whether that is to be found anew.
Method = Callable[[Field, Any, Array, Any, Array, Any], Step]


class Stretches(NamedTuple):
    """The next stretches of time: their ends, the last numbers before and the first behind these.

    The first `count` count. The field is never evaluated at an end itself, where it may jump.
    """

    ends: Float[Any, "*run stretch"]
    before: Float[Any, "*run stretch"]
    behind: Float[Any, "*run stretch"]
    count: Int[Any, "*run"]

    @classmethod
    def of(cls, ends: np.ndarray, count: np.ndarray) -> "Stretches":
        """Those that end at these times."""
        return cls(ends, before(ends), behind(ends), count)


class Taken(NamedTuple):
    """Steps that were taken: from which time and state, how far, and their `Step.powers`."""

    t: Float[Any, " step"]
    h: Float[Any, " step"]
    u: Float[Any, "step state"]
    powers: Float[Any, "step power state"]


def in_units(model: Any, args: Any, unit: Any) -> Field:
    """The model as a field of states in units; `args` are sealed."""
    known = opened(args)
    return lambda t, u: jnp.asarray(model(t, u * unit, known) / unit, u.dtype)


def advance(
    method: Method,
    field: Field,
    start: Standing,
    ahead: Stretches,
    until: Any,
    far: Any = np.inf,
    taken: Taken | None = None,
) -> tuple[Standing, Any, Taken | None]:
    """Integrate on until the stretches are done, `until` steps tried or `taken` is full.

    Returns where that leads to, the number of steps in `taken`, and that.
    """

    def running(loop: tuple[Standing, Any, Any]) -> Array:
        standing, number, _ = loop
        on = (standing.status == WELL) & (standing.steps < until)
        on &= standing.stretch < ahead.count
        return on if taken is None else on & (number < len(taken.t))

    def step(loop: tuple[Standing, Any, Any]) -> tuple[Standing, Any, Any]:
        old, number, taken = loop
        end, before, beyond = (part[old.stretch] for part in ahead[:3])
        h, last = proposed(jnp, old, end)
        done = method(
            lambda t, u: field(jnp.minimum(t, before), u), old.t, old.u, h, old.slope, old.fresh
        )
        new, counts = judged(jnp, old, done, h, last, end, beyond, far)
        if taken is not None:
            # What does not count is overwritten by the next step, or left out at the end.
            values = Taken(old.t, h, old.u, done.powers)
            pairs = zip(taken, values, strict=True)
            taken = Taken(
                *(lax.dynamic_update_index_in_dim(part, item, number, 0) for part, item in pairs)
            )
        return new, number + counts, taken

    return lax.while_loop(running, step, (start, jnp.zeros((), int), taken))
