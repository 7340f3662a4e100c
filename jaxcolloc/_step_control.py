"""Steps of an integration: how long the next one is, and whether it is taken.

One text for NumPy, many integrations at once on the host, and for JAX, in a compiled loop.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int


RTOL, ATOL = 1e-8, 1e-10
# As usual: safety, limits of a step's change, order.
_SAFETY, _SHRINK, _GROW, _ORDER = 0.9, 0.2, 10.0, 5
# The last step of a stretch may be longer by this share, so that none is left that is tiny.
_LONGER = 1.01
# The stiffness test of Hairer and Wanner's DOPRI5: the limit of stability, how many steps at it
# convince, and how many in a row below it speak against.
_RIGID, _CONVINCED, _CALM = 3.25, 15, 6
# A step below this share of the time, some units in its last place, has no effect.
_SMALLEST = 1e-15
# Whether an integration can go on: a state may have left for infinity, or no step be small enough.
WELL, FAR, STUCK = 0, 1, 2


class Step(NamedTuple):
    """What a method makes of a step from `u` at `t` to `t + h`.

    `end`: the new state; `error`: the estimate of its error; `slope`: the field there. At `t + x h`
    the solution is `u` plus the sum of `powers[j] * x**(j + 1)`. `rigidity`: `h` times the size of
    the Jacobian, where a method tells it.
    """

    end: Float[Any, "*run state"]
    error: Float[Any, "*run state"]
    slope: Float[Any, "*run state"]
    powers: Float[Any, "power *run state"]
    rigidity: Float[Any, "*run"]


class Standing(NamedTuple):
    """Where an integration stands, or where several do, with an axis for them in front.

    `u`: the state at `t` in its units; `h`: the next step; `slope`: the field at `t`, unknown where
    that is `fresh`, behind the end of a stretch; `stretch`: how many of these are done; `steps`:
    how many were tried; `rigid` and `calm`: how many of the last ones speak for and against
    stiffness; `status`: `WELL`, `FAR` or `STUCK`.
    """

    t: Float[Any, "*run"]
    u: Float[Any, "*run state"]
    h: Float[Any, "*run"]
    slope: Float[Any, "*run state"]
    fresh: Bool[Any, "*run"]
    stretch: Int[Any, "*run"]
    steps: Int[Any, "*run"]
    rigid: Int[Any, "*run"]
    calm: Int[Any, "*run"]
    status: Int[Any, "*run"]

    @classmethod
    def at(cls, t: Any, u: np.ndarray, h: Any) -> "Standing":
        """At the beginning."""
        none = np.zeros(np.shape(t), np.int64)
        fresh = np.ones(np.shape(t), bool)
        return cls(
            behind(np.asarray(t)),
            u,
            np.asarray(h),
            np.zeros_like(u),
            fresh,
            none,
            none,
            none,
            none,
            none,
        )

    def with_another_method(self) -> "Standing":
        """The same place for a method that has taken no step yet."""
        none = np.zeros_like(self.steps)
        return self._replace(
            fresh=np.ones_like(self.fresh), steps=none, rigid=none, calm=none, status=none
        )

    def hopeless(self, last: Any, limit: int) -> Any:
        """Where a model is stiff and the limit of steps would be reached before the `last` time."""
        pace = (last - self.t) > self.h * (limit - self.steps)
        return (self.rigid >= _CONVINCED) & pace


def behind(times: Any) -> Any:
    """The first numbers behind times, none so small that a machine may take it for zero."""
    tiny = np.finfo(np.float64).tiny
    return np.where(np.abs(times) < tiny, tiny, np.nextafter(times, np.inf))


def before(times: Any) -> Any:
    """The last numbers before times, likewise."""
    return -behind(-times)


def proposed(xp: Any, old: Standing, end: Any) -> tuple[Any, Any]:
    """The length of the next step, and whether it comes to the end of the stretch."""
    left = end - old.t
    last = _LONGER * old.h >= left
    return xp.where(last, left, old.h), last


def judged(
    xp: Any, old: Standing, step: Step, h: Any, last: Any, end: Any, beyond: Any, far: Any
) -> tuple[Standing, Any]:
    """Where a step leads to, and whether it is taken, which its error decides.

    `xp` is NumPy or JAX's; `end` is that of the stretch and `beyond` the first number behind it;
    states larger than `far` have left for infinity.
    """
    axes = tuple(range(np.ndim(old.t), np.ndim(old.u)))
    wide = np.shape(old.t) + (1,) * len(axes)
    size = xp.maximum(xp.abs(old.u), xp.abs(step.end))
    error = xp.sqrt(xp.mean((step.error / (ATOL + RTOL * size)) ** 2, axis=axes))
    finite = xp.isfinite(error) & xp.all(xp.isfinite(step.end), axis=axes)
    accepted = finite & (error <= 1)
    change = xp.clip(_SAFETY * xp.maximum(error, 1e-30) ** (-1 / _ORDER), _SHRINK, _GROW)
    following = h * xp.where(finite, change, _SHRINK)
    arrived = accepted & last
    # A step that was cut short says nothing against the next.
    following = xp.where(arrived, xp.maximum(following, old.h), following)
    stuck = ~accepted & (following <= _SMALLEST * xp.maximum(xp.abs(old.t), xp.abs(end)))
    gone = accepted & xp.any(xp.abs(step.end) > far, axis=axes)
    rigid = step.rigidity > _RIGID
    calm = xp.where(rigid, 0, old.calm + 1)
    taken = xp.reshape(accepted, wide)
    new = Standing(
        t=xp.where(arrived, beyond, xp.where(accepted, old.t + h, old.t)),
        u=xp.where(taken, step.end, old.u),
        h=following,
        slope=xp.where(taken, step.slope, old.slope),
        fresh=xp.where(accepted, arrived, old.fresh),
        stretch=old.stretch + arrived,
        steps=old.steps + 1,
        rigid=xp.where(accepted, xp.where(calm >= _CALM, 0, old.rigid + rigid), old.rigid),
        calm=xp.where(accepted, calm, old.calm),
        status=xp.where(gone, FAR, xp.where(stuck, STUCK, WELL)),
    )
    return new, accepted & ~gone
