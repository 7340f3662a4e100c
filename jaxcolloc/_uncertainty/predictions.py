"""Prediction: states or observations at times, as linear functions of what is uncertain."""

from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from .._jump_tables import SeriesJumps
from .._nlp import NLP
from . import sensitivities
from .along import Along
from .gaussian import Gaussian
from .sensitivities import Start, rolled, rolled_states, seen


class Prediction(NamedTuple):
    """Values, axes (time, state or obs), and their coordinates, in the caller's units."""

    value: Float[np.ndarray, "time entry"]
    along: Along

    def seen(
        self,
        nlp: NLP,
        head: Gaussian,
        raw: np.ndarray,
        local: np.ndarray,
        args: Any,
        ts: np.ndarray,
    ) -> "Prediction":
        """What is measured of states. `local` are the head's entries that `args` and model use."""
        if nlp.observe is None:
            count = nlp.trajectories[0].num_channels
            return Prediction(
                self.value[:, :count], Along(*(part[:, :count] for part in self.along))
            )
        value, by_state, by_weight = seen(nlp, raw[local], args, ts, self.value)
        kept, free, own, own_free = (by_state @ part for part in self.along)
        kept = kept + by_weight @ head.kept[local]
        free = free + by_weight @ head.free[local]
        return Prediction(value, Along(kept, free, own, own_free))

    @classmethod
    def rolled(
        cls,
        nlp: NLP,
        head: Gaussian,
        raw: np.ndarray,
        local: np.ndarray,
        args: Any,
        start: np.ndarray,
        along: Along,
        ts: np.ndarray,
        spread: np.ndarray,
        jumps: SeriesJumps | None,
    ) -> "Prediction":
        """A rollout from a start whose coordinates are `along`."""
        sizes = [part.shape[1] for part in along]
        none = np.zeros((len(local), sizes[2] + sizes[3]))
        columns = np.concatenate([head.kept[local], head.free[local], none], axis=1)
        at_start = np.concatenate(along, axis=1)
        used = np.asarray(columns.any(axis=0) | at_start.any(axis=0))
        states, slopes = rolled(
            nlp, raw[local], columns[:, used], Start(start, at_start[:, used]), args, ts, spread,
            jumps,
        )  # fmt: skip
        whole = np.zeros((*states.shape, len(used)))
        whole[..., used] = slopes
        return cls(states, Along(*np.split(whole, np.cumsum(sizes)[:-1], axis=2)))

    @staticmethod
    def drawn(
        nlp: NLP,
        head: Gaussian,
        raw: np.ndarray,
        local: np.ndarray,
        args: Any,
        start: np.ndarray,
        along: Along,
        ts: np.ndarray,
        spread: np.ndarray,
        jumps: SeriesJumps | None,
        samples: int,
        key: Any,
        sigma: float,
        observed: bool,
    ) -> Float[np.ndarray, "sample time entry"]:
        """Rollouts whose weights and starts are drawn, or what is measured of them."""
        count, own = head.kept.shape[1], along.own.shape[1]
        draws = sigma * np.asarray(jax.random.normal(key, (samples, count + own)), np.float64)
        found = []
        for draw in draws:
            w = raw[local] + head.kept[local] @ draw[:count]
            begin = start + along.kept @ draw[:count] + along.own @ draw[count:]
            states = rolled_states(nlp, w, begin, args, ts, spread, jumps)
            found.append(sensitivities.seen(nlp, w, args, ts, states)[0] if observed else states)
        return np.stack(found)
