"""Every interval of a path integrated for itself: its error, its sensitivity, their growth."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ._advance import WELL, Method, Standing, Stretches, advance, in_units
from ._args import as_arrays, opened, sealed
from ._dormand_prince import Field, Step, dormand_prince
from ._grid import Grid
from ._in_chunks import in_chunks
from ._inputs import knots
from ._integrate import most_steps
from ._path import Path
from ._precision import AnyArray, to_float64, x64
from ._rosenbrock import rosenbrock


_MAX_STEPS = 2_000
# Intervals that are integrated together, always so many: one compilation serves all grids.
_LANES = 64
# Pieces of each and steps that one call of the compiled loop takes at most.
_AHEAD, _PAUSE = 16, 256
# The first step that is tried, as a share of the first piece.
_FIRST = 0.1


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
    pieces = _Pieces.of(grid.boundaries, knots((model, args)))
    with x64():
        inputs = to_float64((model, sealed(as_arrays(args)), spread))
        ends, sensitivity = _Bundle(inputs, pieces).integrate(begin / spread)
        residuals = _residuals(model, args, grid, path.states) / spread
    # Where an interval's integration fails its error is infinite.
    gap = np.linalg.norm(ends - end / spread, axis=1)
    return IntervalErrors(
        errors=np.where(np.isfinite(gap), gap, np.inf),
        residuals=np.max(np.abs(residuals), axis=(1, 2)) * grid.widths,
        growth=growth(sensitivity),
    )


class _Pieces(NamedTuple):
    """Intervals, cut at the samples of inputs: interval `i` ends at `last[i]`.

    Inside of it are `times[low[i] : high[i]]`.
    """

    first: Float[np.ndarray, " interval"]
    last: Float[np.ndarray, " interval"]
    low: Int[np.ndarray, " interval"]
    high: Int[np.ndarray, " interval"]
    times: Float[np.ndarray, " knot"]

    @classmethod
    def of(cls, boundaries: np.ndarray, times: np.ndarray) -> "_Pieces":
        """Intervals between boundaries, of inputs with samples at `times`."""
        first, last = boundaries[:-1], boundaries[1:]
        low = np.searchsorted(times, first, side="right")
        return cls(first, last, low, np.searchsorted(times, last, side="left"), times)

    @property
    def counts(self) -> Int[np.ndarray, " interval"]:
        """The number of pieces of each interval."""
        return self.high - self.low + 1

    def ahead(self, which: np.ndarray, done: np.ndarray) -> Stretches:
        """The next pieces of some intervals, of which so many are done."""
        at = (self.low[which] + done)[:, None] + np.arange(_AHEAD)
        inside = np.append(self.times, np.inf)[np.minimum(at, len(self.times))]
        ends = np.where(at < self.high[which, None], inside, self.last[which, None])
        return Stretches.of(ends, np.minimum(self.counts[which] - done, _AHEAD))


class _Bundle:
    """Intervals that are integrated side by side, each for itself."""

    def __init__(self, inputs: Any, pieces: _Pieces):
        self.inputs = inputs
        self.pieces = pieces
        self.limit = most_steps(_MAX_STEPS, int(pieces.counts.max()))

    def integrate(self, begin: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """States in units at the end of every interval and their sensitivity to those at its begin.

        Infinite where the integration fails. By the explicit method; by the stiff one where that
        fails or is about to; and by the rest of the explicit one's steps where it had been given up
        and the stiff one fails.
        """
        pieces, every = self.pieces, np.arange(len(begin))
        unit = np.broadcast_to(np.eye(begin.shape[1]), (len(begin), *2 * begin.shape[1:]))
        length = pieces.ahead(every, np.zeros_like(every)).ends[:, 0] - pieces.first
        standing = Standing.at(
            pieces.first, np.concatenate([begin[:, None], unit], axis=1), _FIRST * length
        )
        standing = self._run(dormand_prince, standing, every, watch=True)
        failed = every[standing.stretch < pieces.counts]
        if len(failed):
            hopeless = standing.hopeless(pieces.last, self.limit)
            standing = self._run(rosenbrock, standing.with_another_method(), failed)
            failed = failed[(standing.stretch < pieces.counts)[failed] & hopeless[failed]]
            standing = self._run(dormand_prince, standing.with_another_method(), failed)
        done = standing.stretch == pieces.counts
        found = np.where(done[:, None, None], standing.u, np.inf)
        return found[:, 0], found[:, 1:].transpose(0, 2, 1)

    def _run(
        self, method: Method, standing: Standing, which: np.ndarray, watch: bool = False
    ) -> Standing:
        """Where one method comes to in some intervals; `watch` ends it where that is hopeless."""
        standing = Standing(*(np.array(part) for part in standing))
        while len(which):
            chosen = which[:_LANES]
            lanes = np.pad(chosen, (0, _LANES - len(chosen)), mode="edge")
            part = Standing(*(item[lanes] for item in standing))
            until = np.minimum(part.steps + _PAUSE, self.limit)
            ahead = self.pieces.ahead(lanes, part.stretch)
            relative = part._replace(stretch=np.zeros_like(part.stretch))
            reached = Standing(*_advanced(method, *self.inputs, relative, ahead, until))
            reached = reached._replace(stretch=part.stretch + np.asarray(reached.stretch))
            for item, found in zip(standing, reached, strict=True):
                item[chosen] = np.asarray(found)[: len(chosen)]
            on = (standing.status == WELL) & (standing.steps < self.limit)
            on &= standing.stretch < self.pieces.counts
            if watch:
                on &= ~standing.hopeless(self.pieces.last, self.limit)
            which = which[on[which]]
        return standing


@eqx.filter_jit
def _advanced(
    method: Method,
    model: Any,
    args: Any,
    unit: Any,
    standing: Standing,
    ahead: Stretches,
    until: Any,
) -> Standing:
    field = in_units(model, args, unit)

    def lane(standing: Standing, ahead: Stretches, until: Any) -> Standing:
        return advance(_with_sensitivity(method), field, standing, ahead, until)[0]

    return jax.vmap(lane)(standing, ahead, until)


def _with_sensitivity(method: Method) -> Method:
    """The method for a state and, below it, its derivatives by what it began with."""

    def step(field: Field, t: Any, u: Array, h: Any, slope: Array, fresh: Any) -> Step:
        # The state may have changed from outside of the step, so that its slope is not reused.
        def plain(state: Array) -> Step:
            return method(field, t, state, h, jnp.zeros_like(state), True)

        def along(change: Array) -> tuple[Step, Step]:
            return jax.jvp(plain, (u[0],), (change,))

        value, change = jax.vmap(along, out_axes=(None, 0))(u[1:])
        return Step(
            end=jnp.concatenate([value.end[None], change.end]),
            error=jnp.concatenate([value.error[None], change.error]),
            slope=slope,
            powers=value.powers,
            rigidity=value.rigidity,
        )

    return step


def _residuals(model: Any, args: Any, grid: Grid, states: np.ndarray) -> np.ndarray:
    """The polynomial's slope minus the field, halfway between neighbouring nodes."""
    nodes = np.append(grid.scheme.nodes, [] if grid.scheme.includes_end else 1.0)
    middle = (nodes[1:] + nodes[:-1]) / 2
    times = grid.boundaries[:-1, None] + grid.widths[:, None] * middle
    y, slope = (
        part(states, times.ravel()).reshape(*times.shape, -1)
        for part in (grid.interpolate, grid.slope)
    )
    return slope - field_at(model, args, times, y)


def field_at(model: Any, args: Any, times: np.ndarray, states: np.ndarray) -> np.ndarray:
    """The field at times of shape `(a, b)` and states of shape `(a, b, state)`."""
    with x64():
        inputs = to_float64((model, sealed(as_arrays(args))))
        flat = times.ravel(), states.reshape(times.size, -1)
        return in_chunks(lambda t, y: _field(*inputs, t, y), *flat).reshape(states.shape)


@eqx.filter_jit
def _field(model: Any, args: Any, times: AnyArray, states: AnyArray) -> Array:
    known = opened(args)
    return jax.vmap(lambda t, y: model(t, y, known))(times, states)


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
