"""Functions of points, compiled for chunks of a fixed number of points whatever their number."""

from collections.abc import Callable

import numpy as np

from ._precision import AnyArray


_CHUNK = 256


def in_chunks(function: Callable[..., AnyArray], *arrays: np.ndarray) -> np.ndarray:
    """`function(*arrays)` of arrays with an axis of points in front, called for a chunk at a time.

    The last chunk is filled with the last point.
    """
    length = len(arrays[0])
    results = []
    for first in range(0, length, _CHUNK):
        index = np.minimum(np.arange(first, first + _CHUNK), length - 1)
        found = np.asarray(function(*(item[index] for item in arrays)))
        results.append(found[: length - first])
    return np.concatenate(results)
