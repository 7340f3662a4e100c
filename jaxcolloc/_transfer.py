r"""Transfer: a solution moved to another grid, states and multipliers, for a warm start.

States are interpolated by the collocation polynomials. The multiplier $\lambda_{ei}$ of the defect
at node $i$ of interval $e$ is a sample of the costate $\mu(t)$ times a quadrature weight,

$$\sum_{e, i} \lambda_{ei}^T c_{ei} \approx \int \mu(t)^T (\dot y - f) \, dt
  \quad \Rightarrow \quad \lambda_{ei} \approx h_e \, b_i \, \mu(t_{ei}),$$

so $\mu$ is what is interpolated, by one polynomial through the collocated nodes of each interval.
"""

import numpy as np
from jaxtyping import Float

from ._grid import Grid, moved
from ._guess import Guess
from ._nlp import NLP
from ._scheme import AbstractScheme
from ._solution import Solution
from ._trace import Multipliers
from ._transcription.layout import Rows


Nodal = Float[np.ndarray, "node state"]

# The barrier parameter of the first iterate: the moved point is near the optimum, not at it.
_MU = 1e-5


def transfer(sol: Solution, nlp: NLP) -> Guess:
    """The start for `nlp` that `sol` gives, which was found on other grids of the same data."""
    old = sol.nlp
    states = [
        moved(before, values, after)
        for before, after, values in zip(old.grids, nlp.grids, old.node_values(sol.z), strict=True)
    ]
    multipliers = None if sol.multipliers is None else _multipliers(sol.multipliers, old, nlp)
    return Guess.at(nlp, nlp.pack_head(old.head(sol.z), states), sol.key, multipliers)


def _multipliers(dual: Multipliers, old: NLP, new: NLP) -> Multipliers:
    lower, upper = (_bound_multipliers(side, old, new) for side in (dual.lower, dual.upper))
    constraints = _constraint_multipliers(dual.constraints, old, new)
    return Multipliers(constraints, lower, upper, _MU)


def _constraint_multipliers(dual: np.ndarray, old: NLP, new: NLP) -> np.ndarray:
    """Of the equations; those of the caller's constraints if there are as many of them."""
    d, collocate_start = old.layout.num_states, old.settings.collocate_start
    rows, to_rows = (Rows(nlp.grids, d, collocate_start, nlp.num_algebraic) for nlp in (old, new))
    dual = dual * old.row_factors
    result = np.zeros(new.num_constraints)
    for k, (before, after) in enumerate(zip(old.grids, new.grids, strict=True)):
        start, defects, continuity = rows.slices(k)
        to_start, to_defects, to_continuity = to_rows.slices(k)
        result[to_start] = dual[start]
        result[to_defects] = _defects(dual[defects].reshape(-1, d), before, after).ravel()
        if rows.gaps[k] and to_rows.gaps[k]:
            at, to = before.boundaries[1:], after.boundaries[1:]
            result[to_continuity] = _linear(to, at, dual[continuity].reshape(-1, d)).ravel()
    stated, to_stated = dual[rows.count :], result[to_rows.count :]
    if len(stated) == len(to_stated):
        to_stated[:] = stated
    return result / new.row_factors


def _defects(dual: Nodal, before: Grid, after: Grid) -> Float[np.ndarray, "new_node state"]:
    """The multipliers of defects and jumps on the new grid."""
    found = _costate(dual, before, after)
    old, new = (part.reshape(grid.num_intervals, -1, dual.shape[1])
                for part, grid in ((dual, before), (found, after)))  # fmt: skip
    new[after.is_jump] = 0.0
    each = min(old.shape[1], new.shape[1])
    for to, at in zip(np.flatnonzero(after.is_jump), np.flatnonzero(before.is_jump), strict=False):
        new[to, :each] = old[at, :each]
    return found


def _costate(dual: Nodal, before: Grid, after: Grid) -> Float[np.ndarray, "new_node state"]:
    """The defects' multipliers on the new grid."""
    inside = before.scheme.num_nodes - 1
    widths = np.where(before.is_jump, 1.0, before.widths)
    scale = widths[:, None] * _collocated_quadrature(before.scheme)
    costate = dual.reshape(before.num_intervals, inside, -1) / scale[:, :, None]
    times = after.boundaries[:-1, None] + after.widths[:, None] * after.scheme.nodes[1:]
    # A node on a boundary belongs to the interval that it ends.
    interval = np.searchsorted(before.boundaries, times.ravel() - 1e-12 * np.ptp(times)) - 1
    interval = np.clip(interval, 0, before.num_intervals - 1)
    position = (times.ravel() - before.boundaries[interval]) / widths[interval]
    rows = before.scheme.collocated_interpolation(np.clip(position, 0.0, 1.0))
    values = np.einsum("tn,tns->ts", rows, costate[interval])
    weight = (after.widths[:, None] * _collocated_quadrature(after.scheme)).ravel()
    return values * weight[:, None]


def _collocated_quadrature(scheme: AbstractScheme) -> Float[np.ndarray, " node"]:
    """Weights on the nodes but the first, kept away from zero, for they are divided by."""
    weights = scheme.quadrature[1:]
    if scheme.quadrature[0] == 0:
        return weights
    moved = weights + scheme.quadrature[0] * scheme.collocated_interpolation(np.zeros(1))[0]
    return np.where(moved > 0.3 * weights, moved, weights)


def _bound_multipliers(dual: np.ndarray, old: NLP, new: NLP) -> np.ndarray:
    """Weights' and unknowns' as they are, states' as densities along time."""
    dual = dual / old.units
    parts = []
    for before, after, values in zip(old.grids, new.grids, old.layout.split(dual), strict=True):
        # Of the nodes at a jump those in the middle stand for no time.
        shares = _shares(before.times)[:, None]
        density = np.where(shares > 0, values / np.where(shares > 0, shares, 1.0), 0.0)
        moved = _linear(after.times, before.times, density)
        parts.append(moved * _shares(after.times)[:, None])
    return new.layout.join(old.layout.head(dual), np.concatenate(parts)) * new.units


def _linear(to: np.ndarray, at: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Each column of `values`, given at the times `at`, interpolated to the times `to`."""
    return np.stack([np.interp(to, at, column) for column in values.T], axis=1)


def _shares(times: Float[np.ndarray, " node"]) -> Float[np.ndarray, " node"]:
    """The span that each node stands for."""
    edges = np.concatenate([times[:1], (times[1:] + times[:-1]) / 2, times[-1:]])
    return np.diff(edges)
