"""Every interval of a path integrated for itself: its error, its sensitivity, their growth."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ._advance import Method, Stretches, advance, in_units
from ._grid import Grid
from ._inputs import knots
from ._integrate import most_steps
from ._jumps import Change
from ._path import Path
from ._points import Field
from ._precision import to_float64, x64
from ._rosenbrock import rosenbrock
from ._step_control import WELL, Standing, Step, before, behind, judged, proposed
from ._tsitouras import tsitouras, tsitouras_steps


_MAX_STEPS = 2_000
# Up to so many steps are taken on the host, in intervals side by side whose states and stages are
# about so many numbers; more than that in a compiled loop for so many intervals, up to so many
# pieces of each and so many steps: whatever their number, one compilation serves.
_FEW, _NUMBERS = 200, 100_000
_LANES, _AHEAD, _PAUSE = 64, 16, 256
# Growth beyond this is not followed.
_HUGE = 1e12
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
    model: Any,
    path: Path,
    args: Any,
    spread: Float[np.ndarray, " state"],
    jumps: Sequence[Change] = (),
) -> IntervalErrors:
    """Integrate every interval of a path, and compare slopes with the field between the nodes.

    `jumps` are those on its grid.
    """
    grid = path.grid
    begin = path.states[grid.interval_ends - grid.interval_ends[0]]
    end = path.states[grid.interval_ends]
    smooth = ~grid.is_jump
    pieces = _Pieces.of(grid.boundaries, smooth, knots((model, args)))
    bundle = _Bundle(model, args, pieces, spread)
    ends, sensitivity = begin / spread, np.zeros((*begin.shape, begin.shape[1]))
    ends[smooth], sensitivity[smooth] = bundle.integrate(ends[smooth])
    for interval, jump in zip(np.flatnonzero(~smooth), jumps, strict=True):
        ends[interval] = jump.after(begin[interval]) / spread
        sensitivity[interval] = jump.slope(begin[interval]) * spread / spread[:, None]
    residuals = _residuals(model, args, grid, path.states) / spread
    residuals[~smooth] = 0.0
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
    def of(cls, boundaries: np.ndarray, chosen: np.ndarray, times: np.ndarray) -> "_Pieces":
        """The chosen ones of the intervals between boundaries, of inputs sampled at `times`."""
        first, last = boundaries[:-1][chosen], boundaries[1:][chosen]
        low = np.searchsorted(times, first, side="right")
        return cls(first, last, low, np.searchsorted(times, last, side="left"), times)

    @property
    def counts(self) -> Int[np.ndarray, " interval"]:
        """The number of pieces of each interval."""
        return self.high - self.low + 1

    def ends(self, which: np.ndarray, done: np.ndarray, ahead: int = 1) -> np.ndarray:
        """Where the next pieces of some intervals end, of which so many are done."""
        at = (self.low[which] + done)[:, None] + np.arange(ahead)
        inside = np.append(self.times, np.inf)[np.minimum(at, len(self.times))]
        return np.where(at < self.high[which, None], inside, self.last[which, None])


class _Bundle:
    """Intervals that are integrated side by side, each for itself.

    A state is `u[i, 0]`, in units of `spread`; `u[i, 1 + j]` is its derivative by component `j` of
    what it began with.
    """

    def __init__(self, model: Any, args: Any, pieces: _Pieces, spread: np.ndarray):
        self.field = Field(model, args)
        self.pieces = pieces
        self.spread = spread
        self.limit = most_steps(_MAX_STEPS, int(pieces.counts.max()))

    def integrate(self, begin: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """States in units at the end of every interval and their sensitivity to those at its begin.

        Infinite where the integration fails. By the explicit method; by the stiff one where that
        fails or is about to; and by the rest of the explicit one's steps where it had been given up
        and the stiff one fails.
        """
        pieces, every = self.pieces, np.arange(len(begin))
        unit = np.broadcast_to(np.eye(begin.shape[1]), (len(begin), *2 * begin.shape[1:]))
        length = pieces.ends(every, np.zeros_like(every))[:, 0] - pieces.first
        state = np.concatenate([begin[:, None], unit], axis=1)
        standing = Standing.at(pieces.first, state, _FIRST * length)
        standing = self._run(self._steps, standing, every, _FEW)
        standing = self._run(self._explicit, standing, every, self.limit, watch=True)
        failed = every[standing.stretch < pieces.counts]
        if len(failed):
            hopeless = standing.hopeless(pieces.last, self.limit)
            standing = self._run(self._stiff, standing.with_another_method(), failed, self.limit)
            rest = failed[hopeless[failed]]
            standing = standing.with_another_method()
            standing = self._run(self._explicit, standing, rest, self.limit)
        done = standing.stretch == pieces.counts
        found = np.where(done[:, None, None], standing.u, np.inf)
        return found[:, 0], found[:, 1:].transpose(0, 2, 1)

    def _run(
        self,
        advanced: Callable[[Standing, np.ndarray], Standing],
        standing: Standing,
        which: np.ndarray,
        until: int,
        watch: bool = False,
    ) -> Standing:
        """Where one method comes to in some intervals; `watch` ends it where that is hopeless."""
        standing = Standing(*(np.array(part) for part in standing))
        while True:
            on = (standing.status == WELL) & (standing.steps < until)
            on &= standing.stretch < self.pieces.counts
            if watch:
                on &= ~standing.hopeless(self.pieces.last, self.limit)
            which = which[on[which]]
            if len(which) == 0:
                return standing
            chosen = which[: self._most]
            reached = advanced(Standing(*(part[chosen] for part in standing)), chosen)
            for part, item in zip(standing, reached, strict=True):
                part[chosen] = item

    @property
    def _most(self) -> int:
        """Intervals that are integrated together at most, so that their stages fit in memory."""
        return max(_LANES, _NUMBERS // (len(self.spread) * (len(self.spread) + 1)))

    def _steps(self, old: Standing, which: np.ndarray) -> Standing:
        """One explicit step in each of some intervals, on the host."""
        end = self.pieces.ends(which, old.stretch)[:, 0]
        latest = before(end)

        def field(some: np.ndarray, t: np.ndarray, u: np.ndarray) -> np.ndarray:
            value, jacobian = self.field.first(np.minimum(t, latest[some]), u[:, 0] * self.spread)
            along = u[:, 1:] * self.spread @ jacobian.transpose(0, 2, 1)
            return np.concatenate([value[:, None], along], axis=1) / self.spread

        with np.errstate(all="ignore"):
            h, last = proposed(np, old, end)
            step = tsitouras_steps(field, old.t, old.u, h, old.slope, old.fresh)
            return judged(np, old, step, h, last, end, behind(end), np.inf)[0]

    def _explicit(self, old: Standing, which: np.ndarray) -> Standing:
        return self._compiled(tsitouras, old, which)

    def _stiff(self, old: Standing, which: np.ndarray) -> Standing:
        return self._compiled(rosenbrock, old, which)

    def _compiled(self, method: Method, old: Standing, which: np.ndarray) -> Standing:
        """Many steps in each of a few intervals, the others of which stay as they are."""
        chosen = np.minimum(np.arange(_LANES), len(which) - 1)
        part = Standing(*(item[chosen] for item in old))
        done = part.stretch
        ends = self.pieces.ends(which[chosen], done, _AHEAD)
        ahead = Stretches.of(ends, np.minimum(self.pieces.counts[which[chosen]] - done, _AHEAD))
        until = np.minimum(part.steps + _PAUSE, self.limit)
        with x64():
            known = *self.field.known, to_float64(self.spread)
            start = part._replace(stretch=np.zeros_like(done))
            reached = Standing(*_advanced(method, known, start, ahead, until))
        reached = reached._replace(stretch=done + np.asarray(reached.stretch))
        result = Standing(*(np.array(item) for item in old))
        for item, new in zip(result, reached, strict=True):
            item[chosen] = np.asarray(new)
        return result


@eqx.filter_jit
def _advanced(
    method: Method, known: tuple[Any, Any, Any], standing: Standing, ahead: Stretches, until: Any
) -> Standing:
    field = in_units(*known)

    def lane(standing: Standing, ahead: Stretches, until: Any) -> Standing:
        return advance(_with_sensitivity(method), field, standing, ahead, until)[0]

    return jax.vmap(lane)(standing, ahead, until)


def _with_sensitivity(method: Method) -> Method:
    """The method for a state and, below it, its derivatives by what it began with."""

    def step(field: Any, t: Any, u: Array, h: Any, slope: Array, fresh: Any) -> Step:
        def along(change: Array) -> tuple[Step, Step]:
            # The slope is found anew, since its derivatives are not known.
            return jax.jvp(lambda u: method(field, t, u, h, slope[0], True), (u[0],), (change,))

        value, change = jax.vmap(along, out_axes=(None, 0))(u[1:])
        return Step(
            end=jnp.concatenate([value.end[None], change.end]),
            error=jnp.concatenate([value.error[None], change.error]),
            slope=slope,
            powers=None,
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
    flat = states.reshape(times.size, -1)
    return Field(model, args).value(times.ravel(), flat).reshape(states.shape)


def growth(sensitivity: Float[np.ndarray, "interval state state"]) -> float:
    """The largest norm among the products of the sensitivities from the start on."""
    products = [np.eye(sensitivity.shape[1])]
    for item in sensitivity:
        with np.errstate(over="ignore", invalid="ignore"):
            product = item @ products[-1]
        if not np.all(np.isfinite(product)):
            return np.inf
        products.append(product)
        if np.max(np.abs(product)) > _HUGE:
            break
    return float(np.max(np.linalg.norm(products, 2, axis=(1, 2))))
