"""Course: a solution as polynomials, one in each interval, and what counts as an error of it."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from .._scheme import AbstractScheme


class Tolerance(NamedTuple):
    """Errors up to `atol * unit + rtol * size` are allowed, the size being a state's nearby."""

    rtol: float
    atol: float
    unit: Float[np.ndarray, " state"]

    def share(
        self,
        error: Float[np.ndarray, "interval node state"],
        left: Float[np.ndarray, "interval state"],
        change: Float[np.ndarray, "interval node state"],
    ) -> Float[np.ndarray, " interval"]:
        """The largest error of each interval as a share of what is allowed."""
        size = np.maximum(np.abs(left), np.abs(left[:, None] + change).max(axis=1))
        allowed = self.atol * self.unit + self.rtol * size
        with np.errstate(all="ignore"):
            found = np.max(np.abs(error) / allowed[:, None], axis=(1, 2))
        return np.where(np.isfinite(found), found, np.inf)


class Course(NamedTuple):
    """A solution: boundaries, the states at the left ends, the changes at the collocated nodes.

    `failure` says why it ends before it should; empty where it does not.
    """

    scheme: AbstractScheme
    boundaries: Float[np.ndarray, " boundary"]
    left: Float[np.ndarray, "interval state"]
    change: Float[np.ndarray, "interval node state"]
    failure: str = ""

    def at(self, ts: Float[np.ndarray, " time"]) -> Float[np.ndarray, "time state"]:
        """The states at the times, NaN behind the end."""
        states = np.full((len(ts), self.left.shape[1]), np.nan)
        if len(self.left) == 0:
            return states
        there = ts <= self.boundaries[-1] if self.failure else np.ones(len(ts), bool)
        times = ts[there]
        which = np.searchsorted(self.boundaries, times, side="right") - 1
        which = np.clip(which, 0, len(self.left) - 1)
        width = np.diff(self.boundaries)[which]
        x = np.clip((times - self.boundaries[which]) / width, 0.0, 1.0)
        rows = self.scheme.interpolation(x)[:, 1:]
        states[there] = self.left[which] + np.einsum("tn,tns->ts", rows, self.change[which])
        return states
