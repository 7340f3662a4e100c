"""Which derivatives of a point function can be non-zero, found from its jaxpr.

A neural network's output row depends on one row of its last layer only, and hidden units of a
single layer do not interact: exact patterns make the Jacobian of a 2-8-2 net a fifth smaller and
its Hessian in the weights 90% smaller. The detection (asdex) is by abstract interpretation and
holds for all inputs; where it meets an operation it does not know, the pattern is dense.
"""

import warnings
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Bool, Int

from .._precision import is_array


Mask = Bool[np.ndarray, "row column"]


def jacobian_mask(function: Callable[..., Array], x: Array, *rest: Any) -> Mask:
    """Structural non-zeros of the Jacobian of `function(x, *rest)` in `x`."""
    from asdex import jacobian_sparsity  # costs half a second: not at import

    return _detect(jacobian_sparsity, function, x, *rest)


def hessian_mask(function: Callable[..., Array], x: Array, *rest: Any) -> Mask:
    """Structural non-zeros of the Hessian of the scalar `function(x, *rest)` in `x`."""
    from asdex import hessian_sparsity

    mask = _detect(hessian_sparsity, function, x, *rest)
    return mask | mask.T


def _detect(detector: Callable[..., Any], function: Callable[..., Array], *inputs: Any) -> Mask:
    # The other inputs go in as flat arrays, not constants, so that no value of theirs shapes
    # the pattern.
    x, *others = inputs
    arrays, rest = eqx.partition(others, is_array)
    leaves, treedef = jtu.tree_flatten(arrays)

    def flat(x: Array, *leaves: Array) -> Array:
        return function(x, *eqx.combine(jtu.tree_unflatten(treedef, leaves), rest))

    try:
        found = detector(flat, x, *leaves, argnums=0)
    except (NotImplementedError, ValueError, TypeError, KeyError, IndexError, AssertionError):
        rows = jax.eval_shape(flat, x, *leaves).size
        warnings.warn(
            "The sparsity of a function of the model could not be detected; its derivative "
            "blocks are taken to be dense, which is right but slower.",
            stacklevel=2,
        )
        return np.ones((rows if detector.__name__.startswith("jac") else x.size, x.size), bool)
    mask = np.zeros((found.m, found.n), bool)
    mask[np.asarray(found.rows), np.asarray(found.cols)] = True
    return mask


def color_columns(mask: Mask) -> tuple[Int[np.ndarray, " column"], int]:
    """Colour the columns of a symmetric mask so that every entry can be read off directly.

    Columns of one colour are summed into one Hessian-vector product. Hubs (columns with many
    entries) get a colour of their own, which yields their rows as well by symmetry; the rest
    is coloured so that no two columns of one colour meet in a row outside the hubs. The number
    of hubs is the one that needs the fewest colours. Columns without entries get colour -1.

    Coleman and More, "Estimation of sparse Hessian matrices and graph coloring problems"
    (Mathematical Programming 28, 1984).
    """
    degree = mask.sum(axis=0)
    best: tuple[int, np.ndarray] | None = None
    for least in np.unique(np.append(degree, degree.max(initial=0) + 1)):
        hubs = np.flatnonzero((degree >= least) & (degree > 0))
        if best is not None and len(hubs) >= best[0]:
            continue
        color, num = _color_rest(mask, hubs)
        if best is None or num < best[0]:
            best = (num, color)
    assert best is not None
    return best[1], best[0]


def _color_rest(mask: Mask, hubs: Int[np.ndarray, " hub"]) -> tuple[np.ndarray, int]:
    num = mask.shape[1]
    color = np.full(num, -1)
    color[hubs] = np.arange(len(hubs))
    inner = mask.copy()
    inner[hubs] = False
    inner[:, hubs] = False
    rest = np.flatnonzero(inner.any(axis=0))
    used = np.zeros((num, len(rest) + 1), bool)
    for column in rest[np.argsort(-inner[:, rest].sum(axis=0), kind="stable")]:
        rows = np.flatnonzero(inner[:, column])
        free = int(np.argmin(used[rows].any(axis=0)))
        used[rows, free] = True
        color[column] = len(hubs) + free
    return color, int(color.max(initial=-1)) + 1


def read_off(
    mask: Mask, color: Int[np.ndarray, " column"]
) -> tuple[Int[np.ndarray, " entry"], ...]:
    """Where the lower triangle's entries stand in the compressed product.

    Returns `rows, columns, color, position`: entry `(rows[e], columns[e])` is element
    `position[e]` of the Hessian times the sum of the unit vectors of colour `color[e]`.
    """
    rows, columns = np.nonzero(np.tril(mask))
    members = np.zeros((int(color.max(initial=-1)) + 1, mask.shape[1]), np.int64)
    coloured = np.flatnonzero(color >= 0)
    members[color[coloured], coloured] = 1
    clashes = members @ mask.astype(np.int64)  # colour c meets row i how often
    direct = (color[columns] >= 0) & (clashes[color[columns], rows] == 1)
    if not np.all(clashes[color[rows], columns][~direct] == 1):
        raise AssertionError("the colouring does not separate all entries")
    return (
        rows,
        columns,
        np.where(direct, color[columns], color[rows]),
        np.where(direct, rows, columns),
    )
