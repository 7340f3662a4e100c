"""Sampled inputs by name, as curves."""

from typing import Any, NamedTuple

import jax.tree_util as jtu
import numpy as np
from jaxtyping import Float

from .._choose_grid import path_samples
from .._inputs import Input, is_sampled


class Curve(NamedTuple):
    """One input: its name, and values of shape `(point, column)` at times."""

    name: str
    times: Float[np.ndarray, " point"]
    values: Float[np.ndarray, "point column"]


def curves(args: Any, dense: Float[np.ndarray, " point"]) -> list[Curve]:
    """The sampled inputs in a trajectory's `args`, at the times `dense` and where they jump."""
    found = []
    for path, leaf in jtu.tree_flatten_with_path(args, is_leaf=is_sampled)[0]:
        if not is_sampled(leaf):
            continue
        name = " ".join(_key(key) for key in path) or "input"
        ts, us = path_samples(leaf)
        inside = ts[(ts > dense[0]) & (ts < dense[-1])]
        if not isinstance(leaf, Input):
            times = np.union1d(dense, inside)
            values = np.stack([np.interp(times, ts, column) for column in us.T], axis=1)
        else:
            # Both sides of a jump.
            times = np.sort(np.concatenate([dense, inside, inside]))
            second = np.append(False, times[1:] == times[:-1])
            values = np.where(second[:, None], _at(leaf, times, "right"), _at(leaf, times, "left"))
        found.append(Curve(name, times, values))
    return found


def _key(key: Any) -> str:
    for attribute in ("key", "name", "idx"):
        if hasattr(key, attribute):
            return str(getattr(key, attribute))
    return str(key)


def _at(item: Input, times: np.ndarray, side: Any) -> np.ndarray:
    """Values of an input, from the piece before a sample's time (left) or behind it."""
    ts = np.asarray(item.ts, np.float64)
    powers = np.asarray(item.coefficients, np.float64)
    powers = powers.reshape(len(powers), len(ts), -1)
    index = np.clip(np.searchsorted(ts, times, side=side) - 1, 0, len(ts) - 1)
    offset = np.maximum(times - ts[index], 0.0)[:, None]
    return np.asarray(sum(part[index] * offset**p for p, part in enumerate(powers)))
