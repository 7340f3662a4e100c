"""Every interval of a path integrated for itself: its error, its sensitivity, their growth."""

from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ._args import as_arrays, opened, sealed
from ._grid import Grid
from ._inputs import knots
from ._integrate import complex_constants, most_steps
from ._path import Path
from ._precision import AnyArray, to_float64, x64
from ._rollout import ATOL, RTOL


_MAX_STEPS = 2_000
# Intervals that are integrated together, always so many: one compilation serves all grids.
_BATCH = 64


class IntervalErrors(NamedTuple):
    """What the intervals of one trajectory show, in states' spreads.

    `errors`: how far the model's solution, started on the path at the beginning of an interval, is
    from it at its end; `residuals`: the largest slope that misses the field between nodes, times
    the interval's width; `growth`: by how much a perturbation grows along the trajectory at most.
    """

    errors: Float[np.ndarray, " interval"]
    residuals: Float[np.ndarray, " interval"]
    growth: float


def interval_errors(
    model: Any, path: Path, args: Any, spread: Float[np.ndarray, " state"]
) -> IntervalErrors:
    """Integrate every interval of a path, and compare slopes with the field between the nodes."""
    grid = path.grid
    begin = path.states[grid.interval_ends - grid.interval_ends[0]]
    end = path.states[grid.interval_ends]
    spans = _spans(grid.boundaries, knots((model, args)))
    with x64():
        inputs = to_float64((model, sealed(as_arrays(args))))
        ends, sensitivity = _each_interval(*inputs, spans, begin, spread)
        residuals = _residuals(*inputs, grid, path.states) / spread
    # Where an interval's integration fails its error is infinite.
    gap = np.linalg.norm((ends - end) / spread, axis=1)
    return IntervalErrors(
        errors=np.where(np.isfinite(gap), gap, np.inf),
        residuals=np.max(np.abs(residuals), axis=(1, 2)) * grid.widths,
        growth=growth(sensitivity),
    )


class _Spans(NamedTuple):
    """Where intervals begin and end, and the samples of inputs in between, filled with infinity."""

    first: Float[AnyArray, " interval"]
    last: Float[AnyArray, " interval"]
    knots: Float[AnyArray, "interval knot"]


def _spans(boundaries: np.ndarray, times: np.ndarray) -> _Spans:
    first, last = boundaries[:-1], boundaries[1:]
    low = np.searchsorted(times, first, side="right")
    high = np.searchsorted(times, last, side="left")
    most = max(int(np.max(high - low)), 2)
    # Of few different widths, since each is compiled for.
    width = 16 ** int(np.ceil(np.log2(most) / 4)) if len(times) else 0
    at = low[:, None] + np.arange(width)
    padded = np.append(times, np.inf)
    inside = np.where(at < high[:, None], padded[np.minimum(at, len(times))], np.inf)
    # A held input has its old value at the jump itself.
    return _Spans(np.where(np.isin(first, times), np.nextafter(first, np.inf), first), last, inside)


def _each_interval(
    model: Any, args: Any, spans: _Spans, begin: np.ndarray, spread: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The model's solution at the end of every interval and its sensitivity, in spreads.

    By a stiff solver in those intervals where the explicit one fails.
    """
    limit = most_steps(_MAX_STEPS, spans.knots.shape[1])

    def run(solver: diffrax.AbstractSolver[Any], which: np.ndarray) -> tuple[np.ndarray, ...]:
        batches = []
        for first in range(0, len(which), _BATCH):
            part = which[first : first + _BATCH]
            index = np.pad(part, (0, _BATCH - len(part)), mode="edge")
            chosen = _Spans(*(item[index] for item in spans))
            found = _intervals(model, args, solver, limit, chosen, begin[index], spread)
            batches.append([np.asarray(item)[: len(part)] for item in found])
        return tuple(np.concatenate(parts) for parts in zip(*batches, strict=True))

    ends, sensitivity = run(diffrax.Tsit5(), np.arange(len(begin)))
    failed = np.flatnonzero(~np.all(np.isfinite(ends), axis=1))
    if len(failed):
        ends[failed], sensitivity[failed] = run(diffrax.Kvaerno5(), failed)
    return ends, sensitivity


@eqx.filter_jit
def _intervals(
    model: Any,
    args: Any,
    solver: diffrax.AbstractSolver[Any],
    max_steps: int,
    spans: _Spans,
    begin: AnyArray,
    spread: AnyArray,
) -> tuple[Array, Array]:
    def field(t: Any, carry: tuple[Array, Array], args: Any) -> tuple[Array, Array]:
        u, sensitivity = carry
        slope, along = jax.linearize(lambda u: model(t, u * spread, opened(args)) / spread, u)
        return slope, jax.vmap(along, in_axes=1, out_axes=1)(sensitivity)

    def interval(t0: Any, t1: Any, inside: Any, y0: Any) -> tuple[Array, Array]:
        controller: Any = diffrax.PIDController(rtol=RTOL, atol=ATOL)
        if len(inside):
            controller = diffrax.ClipStepSizeController(controller, jump_ts=inside)
        with complex_constants():
            solution = diffrax.diffeqsolve(
                diffrax.ODETerm(field),
                solver,
                t0,
                t1,
                None,
                (y0 / spread, jnp.eye(len(y0))),
                args,
                stepsize_controller=controller,
                max_steps=max_steps,
                throw=False,
            )
        assert solution.ys is not None
        u, sensitivity = solution.ys
        return u[0] * spread, sensitivity[0]

    return jax.vmap(interval)(*spans, begin)


def _residuals(model: Any, args: Any, grid: Grid, states: np.ndarray) -> np.ndarray:
    """The polynomial's slope minus the field, halfway between neighbouring nodes."""
    nodes = np.append(grid.scheme.nodes, [] if grid.scheme.includes_end else 1.0)
    middle = (nodes[1:] + nodes[:-1]) / 2
    times = grid.boundaries[:-1, None] + grid.widths[:, None] * middle
    y, slope = (
        part(states, times.ravel()).reshape(*times.shape, -1)
        for part in (grid.interpolate, grid.slope)
    )
    return slope - np.asarray(_field(model, args, times, y))


def field_at(model: Any, args: Any, times: np.ndarray, states: np.ndarray) -> np.ndarray:
    """The field at times of shape `(a, b)` and states of shape `(a, b, state)`."""
    with x64():
        inputs = to_float64((model, sealed(as_arrays(args)), times, states))
        return np.asarray(_field(*inputs))


@eqx.filter_jit
def _field(model: Any, args: Any, times: AnyArray, states: AnyArray) -> Array:
    known = opened(args)
    return jax.vmap(jax.vmap(lambda t, y: model(t, y, known)))(times, states)


def growth(sensitivity: Float[np.ndarray, "interval state state"]) -> float:
    """The largest norm among the products of the sensitivities from the start on."""
    largest, product = 1.0, np.eye(sensitivity.shape[1])
    for item in sensitivity:
        product = item @ product
        size = np.linalg.norm(product, 2) if np.all(np.isfinite(product)) else np.inf
        largest = max(largest, float(size))
        if not np.isfinite(size) or size > 1e12:
            return max(largest, float(size))
    return largest
