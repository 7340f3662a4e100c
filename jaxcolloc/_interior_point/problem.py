"""An NLP as the barrier problem that is iterated on: scaled, with slacks and a structure."""

import weakref
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from .._nlp import NLP
from .barrier import Problem
from .blocks import Structure
from .box import AnyBox, Box, host_box
from .functions import HostFunctions
from .options import NLP_SCALING_MAX_GRADIENT, NODE_METRIC
from .structure import structure_of


def host_problem_of(nlp: NLP, z: np.ndarray, gauss_newton: bool = False) -> Problem:
    """The scaled problem of `nlp` at the start `z`, with slacks, for NumPy."""
    nlp.compiled.prepare(gauss_newton)
    functions = HostFunctions(nlp)
    return _scaled(nlp, z, functions, host_box)._replace(
        core=functions, structure=structure_on_host(nlp, gauss_newton)
    )


def problem_of(nlp: NLP, z: np.ndarray, gauss_newton: bool = False) -> Problem:
    """The same to be traced: with its arrays on the device."""
    return make_problem(nlp, z, structure_on_device(nlp, gauss_newton))


def make_problem(nlp: NLP, z: np.ndarray, structure: Structure) -> Problem:
    """The same with a `structure` on the device that many NLPs share."""
    arrays = jax.device_put(_scaled(nlp, z, HostFunctions(nlp), Box.of))
    found: Problem = arrays._replace(core=nlp.compiled.core, structure=structure)
    return found


# Where the blocks stand is the same for all NLPs that share a pattern, as re-solves do.
_on_host: "weakref.WeakKeyDictionary[Any, Structure]" = weakref.WeakKeyDictionary()
_on_device: "weakref.WeakKeyDictionary[Any, Structure]" = weakref.WeakKeyDictionary()
# NumPy reads with its own kind of integers in a third of the time; beyond so many positions in one
# array their size counts for more.
_MOST_WIDENED = 10_000_000


def _pattern(nlp: NLP, gauss_newton: bool) -> Any:
    return nlp.parts.gauss_newton_pattern if gauss_newton else nlp.parts.hessian_pattern


def structure_on_host(nlp: NLP, gauss_newton: bool) -> Structure:
    """The structure of the KKT system for NumPy; built once for each pattern."""

    def widened(item: np.ndarray) -> np.ndarray:
        index = item.dtype == np.int32 and item.size <= _MOST_WIDENED
        return item.astype(np.intp) if index else item

    pattern = _pattern(nlp, gauss_newton)
    found = _on_host.get(pattern)
    if found is None:
        found = _on_host[pattern] = jax.tree.map(widened, structure_of(nlp, gauss_newton))
    return found


def structure_on_device(nlp: NLP, gauss_newton: bool) -> Structure:
    """The same on the device."""
    pattern = _pattern(nlp, gauss_newton)
    found = _on_device.get(pattern)
    if found is None:
        found = jax.tree.map(jax.device_put, structure_of(nlp, gauss_newton))
        _on_device[pattern] = found
    return found


def _scaled(
    nlp: NLP, z: np.ndarray, functions: HostFunctions, box: Callable[..., AnyBox]
) -> Problem:
    """The scaled problem without its functions and structure; `box` makes a box of two bounds."""
    lower, upper = nlp.bounds
    row_lower, row_upper = nlp.constraint_bounds
    fixed, equal = lower == upper, row_lower == row_upper
    _refuse_fixed_states(nlp, fixed)
    row_scale, scale = _scales(nlp, fixed, functions.point(z))
    metric = np.ones(nlp.num_variables)
    metric[nlp.layout.num_head :] = min(1.0, NODE_METRIC / nlp.layout.num_nodes)

    def free(low: np.ndarray, high: np.ndarray, varied: np.ndarray) -> AnyBox:
        return box(np.where(varied, low, -np.inf), np.where(varied, high, np.inf))

    return Problem(
        core=None,
        structure=None,
        box=free(lower, upper, ~fixed),
        slack_box=free(row_lower * row_scale, row_upper * row_scale, ~equal),
        target=np.where(equal, row_lower * row_scale, 0.0),
        inequality=~equal,
        fixed=fixed,
        metric=metric,
        scale=np.float64(scale),
        row_scale=row_scale,
    )


def held_at_bounds(nlp: NLP, z: np.ndarray) -> np.ndarray:
    """`z` with what is fixed at its value: a start may have been made for another one."""
    lower, upper = nlp.bounds
    return np.where(lower == upper, lower, z)


def fits(nlp: NLP) -> bool:
    """Whether the method takes the problem."""
    try:
        lower, upper = nlp.bounds
        _refuse_fixed_states(nlp, lower == upper)
        structure_on_host(nlp, False)
    except ValueError:
        return False
    return True


def _refuse_fixed_states(nlp: NLP, fixed: np.ndarray) -> None:
    """Refuse fixed states, but for initial ones."""
    inner = fixed & nlp.layout.inner
    if np.any(inner):
        raise ValueError(
            "`nlp` must have no fixed states but initial ones for jc.InteriorPoint; got "
            f"{int(np.sum(inner))} of them. Use jc.Ipopt."
        )


def _scales(nlp: NLP, fixed: np.ndarray, point: tuple[Any, ...]) -> tuple[np.ndarray, float]:
    """The factors of the constraints and of the objective, from what `point` gives."""
    rows, _ = nlp.jacobian_structure
    _, gradient, _, jacobian = point
    largest = np.zeros(nlp.num_constraints)
    with np.errstate(invalid="ignore"):
        # Where the start has no values all is scaled by NaN, and replaced.
        np.maximum.at(largest, rows, np.abs(jacobian))
        most = float(np.max(np.abs(np.where(fixed, 0.0, gradient)), initial=0.0))
    row_scale = np.minimum(1.0, NLP_SCALING_MAX_GRADIENT / np.maximum(largest, 1e-300))
    scale = min(1.0, NLP_SCALING_MAX_GRADIENT / max(most, 1e-300))
    if not np.all(np.isfinite(row_scale)) or not np.isfinite(scale):
        return np.ones(len(row_scale)), 1.0
    return row_scale, scale
