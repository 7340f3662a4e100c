"""An NLP as the barrier problem that is iterated on: scaled, with slacks and a structure."""

import weakref
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._nlp import NLP
from .barrier import Problem
from .blocks import Structure
from .box import Box
from .options import NLP_SCALING_MAX_GRADIENT, NODE_METRIC
from .structure import structure_of


def problem_of(nlp: NLP, z: np.ndarray, gauss_newton: bool = False) -> Problem:
    """The scaled problem of `nlp` at the start `z`."""
    return make_problem(nlp, z, _structure(nlp, gauss_newton))


# Where the blocks stand is the same for all NLPs that share a pattern, as re-solves do.
_structures: "weakref.WeakKeyDictionary[Any, Structure]" = weakref.WeakKeyDictionary()


def _structure(nlp: NLP, gauss_newton: bool) -> Structure:
    """The structure of the KKT system, on the device; built once for each pattern."""
    pattern = nlp.parts.gauss_newton_pattern if gauss_newton else nlp.parts.hessian_pattern
    found = _structures.get(pattern)
    if found is None:
        found = jax.tree.map(jax.device_put, structure_of(nlp, gauss_newton))
        _structures[pattern] = found
    return found


def make_problem(nlp: NLP, z: np.ndarray, structure: Structure) -> Problem:
    """The scaled problem with slacks, whose KKT system has that structure."""
    lower, upper = nlp.bounds
    row_lower, row_upper = nlp.constraint_bounds
    fixed, equal = lower == upper, row_lower == row_upper
    inner = np.ones(nlp.num_variables, bool)
    inner[: nlp.layout.num_head] = False
    for first in nlp.layout.first_nodes:
        at = nlp.layout.columns(first)
        inner[at : at + nlp.num_states] = False
    if np.any(fixed & inner):
        raise ValueError(
            "`nlp` must have no fixed states but initial ones for jc.InteriorPoint; got "
            f"{int(np.sum(fixed & inner))} of them. Use jc.Ipopt."
        )
    rows, _ = nlp.jacobian_structure
    _, gradient, _, jacobian = nlp.compiled.function("point")(jnp.asarray(z))
    largest = np.zeros(nlp.num_constraints)
    with np.errstate(invalid="ignore"):
        # Where the start has no values all is scaled by NaN, and replaced.
        np.maximum.at(largest, rows, np.abs(np.asarray(jacobian)))
        most = float(np.max(np.abs(np.where(fixed, 0.0, gradient)), initial=0.0))
    row_scale = np.minimum(1.0, NLP_SCALING_MAX_GRADIENT / np.maximum(largest, 1e-300))
    scale = min(1.0, NLP_SCALING_MAX_GRADIENT / max(most, 1e-300))
    if not np.all(np.isfinite(row_scale)) or not np.isfinite(scale):
        row_scale, scale = np.ones(len(row_scale)), 1.0

    metric = np.ones(nlp.num_variables)
    metric[nlp.layout.num_head :] = min(1.0, NODE_METRIC / nlp.layout.num_nodes)

    def box(low: np.ndarray, high: np.ndarray, free: np.ndarray) -> Box:
        return Box(jnp.where(free, low, -jnp.inf), jnp.where(free, high, jnp.inf))

    return Problem(
        core=nlp.compiled.core,
        structure=structure,
        box=box(lower, upper, ~fixed),
        slack_box=box(row_lower * row_scale, row_upper * row_scale, ~equal),
        target=jnp.asarray(np.where(equal, row_lower * row_scale, 0.0)),
        inequality=jnp.asarray(~equal),
        fixed=jnp.asarray(fixed),
        metric=jnp.asarray(metric),
        scale=jnp.asarray(scale),
        row_scale=jnp.asarray(row_scale),
    )
