"""rollout: a trajectory integrated from its start, with what ended it."""

import enum
from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import numpy as np
from jaxtyping import Float

from ._args import as_arrays, sealed
from ._inputs import knots, padding
from ._integrate import Stepping, integrate, most_steps, powers_of_two, start_sizes
from ._precision import to_float64, x64


RTOL, ATOL = 1e-8, 1e-10
_MAX_STEPS = 20_000
# A state that starts small is resolved down to this share of its spread.
_LEAST = 1e-4


class END(enum.Enum):
    """How an integration ended."""

    complete = "complete"
    out_of_steps = "out of steps"
    infinite = "infinite"


class Rollout(NamedTuple):
    """States at the times asked for, not finite behind a failure; how the integration ended."""

    states: Float[np.ndarray, "time state"]
    end: END


def rollout(
    model: Any,
    times: Float[np.ndarray, " time"],
    start: Float[np.ndarray, " state"],
    args: Any,
    spread: Float[np.ndarray, " state"] | None = None,
    stops: Float[np.ndarray, " stop"] | None = None,
    far: Float[np.ndarray, " state"] | None = None,
) -> Rollout:
    """States at `times`, integrated from `start`; by a stiff solver where that fails.

    Tolerances are relative to each state's `spread` (its size at the start, if not given). Steps
    end at the samples of inputs and at `stops`. Beyond `far` a state has left for infinity.
    """
    if spread is None:
        spread = start_sizes(start, _LEAST)
    far = np.full(len(start), np.inf) if far is None else far
    unit = powers_of_two(np.clip(np.abs(start), _LEAST * spread, spread))
    padded = np.pad(times, (0, padding(len(times))), mode="edge")
    count = len(knots((model, args))) + (0 if stops is None else len(stops))
    if stops is not None:
        stops = np.pad(stops, (0, padding(len(stops))), constant_values=np.inf)
    limit = most_steps(_MAX_STEPS, count)
    best = None
    for solver in (diffrax.Tsit5(), diffrax.Kvaerno5()):
        stepping = Stepping(solver, RTOL, ATOL, limit, unit, stops, far=far)
        with x64():
            inputs = to_float64((model, padded, start, sealed(as_arrays(args))))
            ys, limited = _integrate(*inputs, stepping)
            states = np.asarray(ys)[: len(times)]
        finite = np.all(np.isfinite(states), axis=1)
        if finite.all():
            return Rollout(states, END.complete)
        if best is None or finite.sum() > np.isfinite(best.states).all(axis=1).sum():
            best = Rollout(states, END.out_of_steps if bool(limited) else END.infinite)
    assert best is not None
    return best


@eqx.filter_jit
def _integrate(model: Any, ts: Any, y0: Any, args: Any, stepping: Stepping) -> Any:
    return integrate(model, ts, y0, args, stepping, throw=False)
