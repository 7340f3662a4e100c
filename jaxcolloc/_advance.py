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
from jaxtyping import Array, Bool, Float, Int

from ._args import opened
from ._dormand_prince import Field, Step
from ._precision import AnyArray


RTOL, ATOL = 1e-8, 1e-10
Method = Callable[..., Step]
# Step control, as usual: safety, limits of the change, order.
_SAFETY, _SHRINK, _GROW, _ORDER = 0.9, 0.2, 10.0, 5
# The last step of a stretch may be longer by this share, so that none is left that is tiny.
_LONGER = 1.01
# The stiffness test of Hairer and Wanner's DOPRI5: the limit of stability, how many steps at it
# convince, and how many in a row below it speak against.
_RIGID, _CONVINCED, _CALM = 3.25, 15, 6
# A step below this share of the time, some units in its last place, has no effect.
_SMALLEST = 1e-15
# Why an integration cannot go on: a state has left for infinity, no step is small enough.
WELL, FAR, STUCK = 0, 1, 2


class Standing(NamedTuple):
    """Where an integration stands, or where several do, with an axis for them in front.

    `u`: the state at `t` in its units; `h`: the next step; `slope`: the field at `t`, unknown where
    that is `fresh`, behind the end of a stretch; `stretch`: how many of these are done; `steps`:
    how many were tried; `rigid` and `calm`: how many of the last ones speak for and against
    stiffness; `status`: `WELL`, `FAR` or `STUCK`.
    """

    t: Float[AnyArray, "*run"]
    u: Float[AnyArray, "*run state"]
    h: Float[AnyArray, "*run"]
    slope: Float[AnyArray, "*run state"]
    fresh: Bool[AnyArray, "*run"]
    stretch: Int[AnyArray, "*run"]
    steps: Int[AnyArray, "*run"]
    rigid: Int[AnyArray, "*run"]
    calm: Int[AnyArray, "*run"]
    status: Int[AnyArray, "*run"]

    @classmethod
    def at(cls, t: np.ndarray, u: np.ndarray, h: np.ndarray) -> "Standing":
        """At the beginning."""
        none = np.zeros(np.shape(t), np.int64)
        fresh = np.ones(np.shape(t), bool)
        return cls(behind(t), u, h, np.zeros_like(u), fresh, none, none, none, none, none)

    def with_another_method(self) -> "Standing":
        """The same place for a method that has taken no step yet."""
        none = np.zeros_like(self.steps)
        return self._replace(
            fresh=np.ones_like(self.fresh), steps=none, rigid=none, calm=none, status=none
        )

    def hopeless(self, last: np.ndarray, limit: Any) -> Bool[np.ndarray, "*run"]:
        """Where a model is stiff and the limit of steps would be reached before the `last` time."""
        pace = (last - self.t) > np.asarray(self.h) * (limit - np.asarray(self.steps))
        return (np.asarray(self.rigid) >= _CONVINCED) & pace


class Stretches(NamedTuple):
    """The next stretches of time: their ends, the last numbers before and the first behind these.

    The first `count` count. The field is never evaluated at an end itself, where it may jump.
    """

    ends: Float[AnyArray, "*run stretch"]
    before: Float[AnyArray, "*run stretch"]
    behind: Float[AnyArray, "*run stretch"]
    count: Int[AnyArray, "*run"]

    @classmethod
    def of(cls, ends: np.ndarray, count: np.ndarray) -> "Stretches":
        """Those that end at these times."""
        return cls(ends, -behind(-ends), behind(ends), count)


class Taken(NamedTuple):
    """Steps that were taken: from which time and state, how far, and their `Step.powers`."""

    t: Float[AnyArray, " step"]
    h: Float[AnyArray, " step"]
    u: Float[AnyArray, "step state"]
    powers: Float[AnyArray, "step power state"]


def behind(times: np.ndarray) -> np.ndarray:
    """The first numbers behind times, none so small that a machine may take it for zero."""
    tiny = np.finfo(np.float64).tiny
    return np.where(np.abs(times) < tiny, tiny, np.nextafter(times, np.inf))


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

    Returns where that leads to, the number of steps in `taken`, and that. A state is `FAR` where
    it is larger than `far`.
    """

    def running(loop: tuple[Standing, Any, Any]) -> Array:
        standing, number, _ = loop
        on = (standing.status == WELL) & (standing.steps < until)
        on &= standing.stretch < ahead.count
        return on if taken is None else on & (number < len(taken.t))

    def step(loop: tuple[Standing, Any, Any]) -> tuple[Standing, Any, Any]:
        old, number, taken = loop
        new, done, accepted = _tried(method, field, old, ahead, far)
        if taken is not None:
            # What is refused or leads too far is overwritten, or not counted.
            values = Taken(old.t, done.h, old.u, done.step.powers)
            taken = Taken(
                *(
                    lax.dynamic_update_index_in_dim(part, value, number, 0)
                    for part, value in zip(taken, values, strict=True)
                )
            )
        kept = accepted & (new.status == WELL)
        return new, number + kept, taken

    return lax.while_loop(running, step, (start, jnp.zeros((), int), taken))


class _Done(NamedTuple):
    h: Any
    step: Step


def _tried(
    method: Method, field: Field, old: Standing, ahead: Stretches, far: Any
) -> tuple[Standing, _Done, Array]:
    """One step, taken or refused by its error; and whether it is taken."""
    end, before, beyond = (part[old.stretch] for part in ahead[:3])
    left = end - old.t
    last = _LONGER * old.h >= left
    h = jnp.where(last, left, old.h)
    step = method(
        lambda t, u: field(jnp.minimum(t, before), u), old.t, old.u, h, old.slope, old.fresh
    )
    size = jnp.maximum(jnp.abs(old.u), jnp.abs(step.end))
    error = jnp.sqrt(jnp.mean((step.error / (ATOL + RTOL * size)) ** 2))
    finite = jnp.isfinite(error) & jnp.all(jnp.isfinite(step.end))
    accepted = finite & (error <= 1)
    change = jnp.clip(_SAFETY * jnp.maximum(error, 1e-30) ** (-1 / _ORDER), _SHRINK, _GROW)
    following = h * jnp.where(finite, change, _SHRINK)
    arrived = accepted & last
    # A step that was cut short says nothing against the next.
    following = jnp.where(arrived, jnp.maximum(following, old.h), following)
    stuck = ~accepted & (following <= _SMALLEST * jnp.maximum(jnp.abs(old.t), jnp.abs(end)))
    gone = accepted & jnp.any(jnp.abs(step.end) > far)
    rigid = step.rigidity > _RIGID
    calm = jnp.where(rigid, 0, old.calm + 1)
    new = Standing(
        t=jnp.where(arrived, beyond, jnp.where(accepted, old.t + h, old.t)),
        u=jnp.where(accepted, step.end, old.u),
        h=following,
        slope=jnp.where(accepted, step.slope, old.slope),
        fresh=jnp.where(accepted, arrived, old.fresh),
        stretch=old.stretch + arrived,
        steps=old.steps + 1,
        rigid=jnp.where(accepted, jnp.where(calm >= _CALM, 0, old.rigid + rigid), old.rigid),
        calm=jnp.where(accepted, calm, old.calm),
        status=jnp.where(gone, FAR, jnp.where(stuck, STUCK, WELL)),
    )
    return new, _Done(h, step), accepted
