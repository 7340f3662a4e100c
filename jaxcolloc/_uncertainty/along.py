"""Along: states as linear functions of what is uncertain; and what a factorised optimum offers."""

from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Float

from .gaussian import Gaussian, Variance


class Along(NamedTuple):
    """States in independent coordinates of variance one, axes (..., coordinate).

    `kept`, `free`: the share of the head's directions, as in `Gaussian`. `own`, `own_free`: what
    the initial states add for a given head. In the optimizer's units.
    """

    kept: Float[np.ndarray, "*state direction"]
    free: Float[np.ndarray, "*state free"]
    own: Float[np.ndarray, "*state own"]
    own_free: Float[np.ndarray, "*state own"]

    def times(self, unit: np.ndarray) -> "Along":
        """In other units, of the axis of states."""
        return Along(*(part * unit[:, None] for part in self))

    def variance(self) -> Variance:
        """The variance of each state."""
        kept, free, own, own_free = ((part**2).sum(axis=-1) for part in self)
        return Variance(kept + own, free + own_free)


class Factorised(Protocol):
    """A factorised optimum.

    `head`: the Gaussian of the head. `num_kept`: how many numbers the data determine.
    """

    head: Gaussian
    num_kept: int

    def along(self, trajectory: int, ts: Float[np.ndarray, " time"]) -> Along:
        """The states of one trajectory at times of its grid, axes (time, state, coordinate)."""
        ...

    def starts(self) -> Along:
        """All initial states, axes (traj * state, coordinate)."""
        ...
