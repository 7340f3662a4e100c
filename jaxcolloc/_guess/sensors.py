"""What is measured of a trajectory's states, with derivatives, evaluated on the host."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from .._nlp import NLP
from .._precision import x64
from .._transcription.blocks import Blocks, PointFunction, Points
from .._transcription.pieces import HostBlocks
from .._transcription.point_functions import Sensor, VectorField


class Linearised(NamedTuple):
    """A point function's values at some times, and its derivatives in states and in the head.

    The head's entries are the weights and, behind them, the trajectory's own unknowns.
    """

    value: Float[np.ndarray, "time output"]
    in_state: Float[np.ndarray, "time output state"]
    in_head: Float[np.ndarray, "time output entry"]


class AtTimes:
    """A point function of one trajectory of an NLP, at given times."""

    def __init__(self, nlp: NLP, function: PointFunction, position: int, times: np.ndarray):
        own = nlp.group_of(position)
        self._points = Points.at(times[None], own.args, own.unknowns, None)
        with x64():
            blocks = Blocks.detect(function, self._points, nlp.num_states, nlp.num_weights)
            self._blocks, self._size = HostBlocks(blocks, self._points), blocks.num_weights

    @classmethod
    def sensor(cls, nlp: NLP, position: int, times: np.ndarray) -> "AtTimes":
        """What is measured of a trajectory of an NLP that has an `observe`."""
        assert nlp.observe is not None
        return cls(nlp, Sensor(nlp.layout.model, nlp.observe), position, times)

    @classmethod
    def field(cls, nlp: NLP, position: int, times: np.ndarray) -> "AtTimes":
        """The model along a trajectory of an NLP."""
        return cls(nlp, VectorField(nlp.layout.model), position, times)

    def __call__(
        self, head: Float[np.ndarray, " head"], states: Float[np.ndarray, "time state"]
    ) -> Linearised:
        """Values and derivatives at `states`, for weights and unknowns of the whole NLP."""
        with x64(), np.errstate(all="ignore"):
            value, in_y, in_w = self._blocks.first(head, self._points, states[None])
        shape = np.shape(value)[1:]
        of_states = np.zeros((*shape, states.shape[1]))
        of_states[:, self._blocks.jac_y.rows, self._blocks.jac_y.columns] = in_y[0]
        of_head = np.zeros((*shape, self._size))
        of_head[:, self._blocks.jac_w.rows, self._blocks.jac_w.columns] = in_w[0]
        return Linearised(np.asarray(value[0]), of_states, of_head)
