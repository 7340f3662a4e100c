"""rollout: a trajectory integrated from its start, with what ended it."""

import enum
from collections.abc import Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ._advance import Method, Stretches, Taken, advance, in_units
from ._grid import Grid
from ._inputs import knots
from ._integrate import most_steps, powers_of_two, start_sizes
from ._jumps import Change, Jump, changes
from ._points import known
from ._precision import x64
from ._rosenbrock import rosenbrock
from ._step_control import FAR, WELL, Standing
from ._tsitouras import tsitouras


_MAX_STEPS = 20_000
# A state that starts small is resolved down to this share of its spread.
_LEAST = 1e-4
# The first step that is tried, as a share of the first stretch.
_FIRST = 1e-3
# Stretches and steps that one call of the compiled loop takes at most: whatever the length of the
# integration, one compilation serves.
_CHUNK = 1024


class END(enum.Enum):
    """How an integration ended."""

    complete = "complete"
    out_of_steps = "out of steps"
    infinite = "infinite"


class Rollout(NamedTuple):
    """States at the times asked for, not finite behind a failure; how the integration ended.

    At a jump `states` has the state before it, `after` those after each jump.
    """

    states: Float[np.ndarray, "time state"]
    end: END
    after: Float[np.ndarray, "jump state"]


def rollout(
    model: Any,
    times: Float[np.ndarray, " time"],
    start: Float[np.ndarray, " state"],
    args: Any,
    spread: Float[np.ndarray, " state"] | None = None,
    stops: Float[np.ndarray, " stop"] | None = None,
    far: Float[np.ndarray, " state"] | None = None,
    jumps: Sequence[Change] = (),
) -> Rollout:
    """States at `times`, integrated from `start`; by a stiff method where the explicit one fails.

    Tolerances are relative to each state's `spread` (its size at the start, if not given). Steps
    end at the samples of inputs and at `stops`. Beyond `far` a state has left for infinity. At
    `jumps` between the first and the last time it is stopped and begun anew.
    """
    stops = np.zeros(0) if stops is None else stops
    jumps = [item for item in jumps if times[0] <= item.t <= times[-1]]
    states = np.full((len(times), len(start)), np.nan)
    after = np.full((len(jumps), len(start)), np.nan)
    begin, end = times[0], END.complete
    for number in range(len(jumps) + 1):
        last = jumps[number].t if number < len(jumps) else times[-1]
        # A state at the time of a jump is the one before it: it is known already at `begin`.
        inside = ((times > begin) | (number == 0)) & (times <= last)
        own = np.concatenate([[begin], times[inside], [last]])
        part = _stretch(model, own, start, args, spread, stops, far)
        states[inside] = part.states[1:-1]
        end = part.end
        if end is not END.complete or number == len(jumps):
            break
        begin, start = last, np.asarray(jumps[number].after(part.states[-1]))
        after[number] = start
    return Rollout(states, end, after)


def rollout_at_nodes(
    model: Any,
    grid: Grid,
    start: Float[np.ndarray, " state"],
    args: Any,
    jumps: Sequence[Jump],
    far: Float[np.ndarray, " state"] | None = None,
) -> Float[np.ndarray, "node state"]:
    """The states of a rollout at the nodes of a grid, on which those `jumps` are that it reaches.

    Their amounts are known. Not finite behind a failure.
    """
    own = changes(jumps, model, args, grid.jump_times.tolist())
    found = rollout(model, grid.times, start, args, far=far, jumps=own)
    return grid.with_jumps(found.states, found.after)


def _stretch(
    model: Any,
    times: Float[np.ndarray, " time"],
    start: Float[np.ndarray, " state"],
    args: Any,
    spread: Float[np.ndarray, " state"] | None,
    stops: Float[np.ndarray, " stop"],
    far: Float[np.ndarray, " state"] | None,
) -> Rollout:
    """A rollout without jumps, with steps that end at `stops`."""
    none = np.zeros((0, len(start)))
    if not np.all(np.isfinite(start)):
        states = np.full((len(times), len(start)), np.nan)
        states[times <= times[0]] = start
        return Rollout(states, END.infinite, none)
    if spread is None:
        spread = start_sizes(start, _LEAST)
    far = np.full(len(start), np.inf) if far is None else far
    unit = powers_of_two(np.clip(np.abs(start), _LEAST * spread, spread))
    begin, last = times[0], times[-1]
    ends = np.union1d(knots((model, args)), np.append(stops, last))
    ends = ends[(ends > begin) & (ends <= last)]
    if not len(ends):
        states = np.broadcast_to(start, (len(times), len(start))).copy()
        return Rollout(states, END.complete, none)
    course = _Course((*known(model, args), unit, far / unit), ends, np.maximum(times, begin))
    end = course.integrate(Standing.at(begin, start / unit, _FIRST * (ends[0] - begin)))
    states = unit * _at(course.times, course.steps, end is END.complete)
    states[times <= begin] = start
    return Rollout(states, end, none)


class _Course:
    """One trajectory that is integrated, and the steps that were taken.

    `inputs` are the model, its `args`, units of the states and what is too far in these; steps end
    at `ends`, and the states at `times` are asked for.
    """

    def __init__(
        self,
        inputs: Any,
        ends: Float[np.ndarray, " stretch"],
        times: Float[np.ndarray, " time"],
    ):
        self.inputs = inputs
        self.ends = ends
        self.times = times
        self.limit = most_steps(_MAX_STEPS, len(ends))
        self._taken: list[Taken] = []

    @property
    def steps(self) -> Taken:
        """All steps that were taken."""
        return Taken(*(np.concatenate(parts) for parts in zip(*self._taken, strict=True)))

    def integrate(self, standing: Standing) -> END:
        """Integrate from where it stands to the end.

        By the explicit method; by the stiff one where that fails or is about to; and by the rest of
        the explicit one's steps where it had been given up and the stiff one fails.
        """
        explicit = self._run(tsitouras, standing, self.ends, self.limit, watch=True)
        if self._ended(explicit):
            return self._end(explicit)
        # The stiff method takes steps so long that its states in between are less exact.
        ends = np.union1d(self.ends, self.times)
        limit = int(explicit.steps) + most_steps(_MAX_STEPS, len(ends))
        stiff = self._run(rosenbrock, explicit.with_another_method(), ends, limit)
        if self._ended(stiff) or not self._hopeless(explicit):
            return self._end(stiff)
        limit = int(stiff.steps) + self.limit - int(explicit.steps)
        return self._end(self._run(tsitouras, stiff.with_another_method(), self.ends, limit))

    def _run(
        self,
        method: Method,
        standing: Standing,
        ends: np.ndarray,
        most: int,
        watch: bool = False,
    ) -> Standing:
        """Where one method comes to, chunk by chunk, in `most` steps of all methods so far.

        `watch` ends it where that is hopeless.
        """
        limit = np.asarray(most)
        while standing.status == WELL and standing.steps < limit:
            ahead = ends[np.searchsorted(ends, standing.t) :][:_CHUNK]
            if len(ahead) == 0 or (watch and self._hopeless(standing)):
                break
            filled = np.pad(ahead, (0, _CHUNK - len(ahead)), mode="edge")
            stretches = Stretches.of(filled, np.asarray(len(ahead)))
            standing = standing._replace(stretch=np.zeros_like(standing.stretch))
            with x64():
                reached, number, steps = _advanced(method, self.inputs, standing, stretches, limit)
            assert steps is not None
            standing = Standing(*map(np.asarray, reached))
            self._taken.append(Taken(*(np.asarray(part)[: int(number)] for part in steps)))
        return standing

    def _hopeless(self, standing: Standing) -> bool:
        return bool(standing.hopeless(self.ends[-1], self.limit))

    def _complete(self, standing: Standing) -> bool:
        return bool(standing.t > self.ends[-1])

    def _ended(self, standing: Standing) -> bool:
        return self._complete(standing) or bool(standing.status == FAR)

    def _end(self, standing: Standing) -> END:
        if standing.status == FAR:
            return END.infinite
        return END.complete if self._complete(standing) else END.out_of_steps


@eqx.filter_jit
def _advanced(
    method: Method, inputs: Any, standing: Standing, ahead: Stretches, until: Any
) -> tuple[Standing, Any, Taken | None]:
    model, args, unit, far = inputs
    room, size = jnp.zeros(_CHUNK), len(unit)
    taken = Taken(room, room, jnp.zeros((_CHUNK, size)), jnp.zeros((_CHUNK, 4, size)))
    return advance(method, in_units(model, args, unit), standing, ahead, until, far, taken)


def _at(
    times: Float[np.ndarray, " time"], steps: Taken, complete: bool
) -> Float[np.ndarray, "time state"]:
    """The states at times from the steps that were taken, infinite where these do not reach."""
    states = np.full((len(times), steps.u.shape[1]), np.inf)
    if len(steps.t) == 0:
        return states
    there = complete | (times <= steps.t[-1] + steps.h[-1])
    times = times[there]
    which = np.maximum(np.searchsorted(steps.t, times, side="right") - 1, 0)
    t, h, u, powers = (part[which] for part in steps)
    x = np.clip((times - t) / np.where(h > 0, h, 1.0), 0.0, 1.0)
    states[there] = u + np.einsum("tp,tps->ts", x[:, None] ** np.arange(1, 5), powers)
    return states
