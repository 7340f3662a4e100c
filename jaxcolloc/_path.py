"""Path: the collocated trajectory as a function of time."""

from collections.abc import Callable
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from ._check import describe, real_numbers
from ._grid import Grid
from ._precision import caller_float, scope
from ._scheme import AbstractScheme


class Path(diffrax.AbstractPath[Any]):
    r"""The collocation polynomials of one trajectory, $y(t)$ for any $t$ of its grid.

    A Diffrax path: it can be evaluated, differentiated in time and handed on as an input. The
    states at the grid's nodes are in `states`, their times in `grid.times`; the algebraic variables
    of a `jc.DAE` are in `algebraic_states`. It is evaluated in float64 and returns the caller's
    default float; where it is traced, all is in that float. At the very time of a jump it is the
    state before it, with `left=False` the state after it.
    """

    grid: Grid
    states: Float[np.ndarray, "node state"]
    algebraic_states: Float[np.ndarray, "node algebraic"] | None = None

    @property
    def t0(self) -> Any:  # type: ignore[override]
        """The start of the grid."""
        return self.grid.boundaries[0]

    @property
    def t1(self) -> Any:  # type: ignore[override]
        """The end of the grid."""
        return self.grid.boundaries[-1]

    def evaluate(self, t0: Any, t1: Any = None, left: bool = True) -> Float[Array, "*time state"]:
        """The state at `t0` (any shape), or its increment from `t0` to `t1`.

        **Errors:** `ValueError` for a time outside the grid; NaN if the time is traced.
        """
        value = self._evaluate(t0, left)
        return value if t1 is None else self._evaluate(t1, left) - value

    def derivative(self, t: Any, left: bool = True) -> Float[Array, "*time state"]:
        """The time derivative at `t` (any shape)."""
        with scope(self, t):
            slope = _derivative(self, self._times(t), left, _rounding(t))
        return jnp.asarray(slope, caller_float())

    def algebraic(self, t: Any) -> Float[Array, "*time algebraic"]:
        """The algebraic variables at `t` (any shape), of the path of a `jc.DAE`.

        By the polynomial through an interval's collocated nodes: where an input jumps at its start,
        so may they. At a boundary the value is that before it.

        **Errors:** `ValueError` for a path without any, and for a time outside the grid.
        """
        if self.algebraic_states is None:
            raise ValueError("`path` has no algebraic variables: its model is no jc.DAE.")
        with scope(self, t):
            value = _algebraic(self, self._times(t))
        return jnp.asarray(value, caller_float())

    @property
    def ts(self) -> Any:
        """The grid's boundaries: as an input, its polynomials change there."""
        return self.grid.boundaries

    def _evaluate(self, t: ArrayLike, left: bool) -> Array:
        with scope(self, t):
            value = _interpolate(self, self._times(t), left, _rounding(t))
        return jnp.asarray(value, caller_float())

    def _times(self, t: Any) -> Array:
        if not (isinstance(t, jax.Array) and jnp.issubdtype(t.dtype, jnp.number)):
            t = real_numbers("t", t, "a time or an array of them")
        times = jnp.asarray(t, caller_float())
        if isinstance(times, jax.core.Tracer) or isinstance(self.t0, jax.core.Tracer):
            return times
        if not self.grid.covers(np.ravel(np.asarray(times))):
            raise ValueError(
                f"`t` must lie on the path's grid [{self.t0:g}, {self.t1:g}]; "
                f"got {describe(np.asarray(t))}."
            )
        return times

    def _interval(self, t: Array, left: bool, rounding: float) -> Array:
        """The interval that holds `t`; of those at a jump that before it, or after it."""
        grid = self.grid
        boundaries = jnp.asarray(grid.boundaries)
        later = jnp.searchsorted(boundaries, t, side="right") - 1
        slack = 1e-12 * (self.t1 - self.t0) + rounding * jnp.abs(t)
        right = jnp.clip(later + 1, 1, len(grid.boundaries) - 1)
        before, behind = boundaries[right - 1], boundaries[right]
        nearest = jnp.where(t - before <= behind - t, before, behind)
        first = jnp.searchsorted(boundaries, nearest)
        last = jnp.searchsorted(boundaries, nearest, side="right") - 1
        at_jump = (last > first) & (jnp.abs(nearest - t) <= slack)
        interval = jnp.where(at_jump, first - 1 if left else last, later)
        return jnp.clip(interval, 0, grid.num_intervals - 1)

    def _at_time(self, t: Array, interval: Array, left: bool) -> Array:
        grid, scheme = self.grid, self.grid.scheme
        boundaries = jnp.asarray(grid.boundaries)
        width = jnp.diff(boundaries)[interval]
        x = (t - boundaries[interval]) / jnp.where(width > 0, width, 1.0)
        # In a jump that begins or ends the trajectory: its first node or any other.
        x = jnp.where(width > 0, x, scheme.nodes[0 if left else 1])
        inside = jnp.asarray(self.states)[jnp.asarray(grid.interval_nodes)[interval]]
        nearest = jnp.argmin(jnp.abs(x - scheme.nodes))
        # Close to a node the quotient of sums loses all digits, and its derivative even more:
        # expand p(x) = y_m + (x - x_m) q(x) about the nearest node, with q from divided
        # differences, which stays exact and smooth there.
        value = _about_node(x, scheme, inside, nearest)
        return self._inside(t, value)

    def _algebraic_at(self, t: Array) -> Array:
        grid, scheme = self.grid, self.grid.scheme
        boundaries = jnp.asarray(grid.boundaries)
        # On a boundary, up to rounding, the interval that it ends.
        slack = 1e-9 * (self.t1 - self.t0)
        interval = jnp.searchsorted(boundaries, t - slack, side="right") - 1
        interval = jnp.clip(interval, 0, grid.num_intervals - 1)
        width = jnp.diff(boundaries)[interval]
        x = (t - boundaries[interval]) / jnp.where(width > 0, width, 1.0)
        every = jnp.asarray(self.algebraic_states)
        inside = every[jnp.asarray(grid.interval_nodes)[interval]]
        nodes = jnp.asarray(scheme.nodes[1:])
        weights = scheme.barycentric[1:] * (scheme.nodes[1:] - scheme.nodes[0])
        gap = jnp.where(x == nodes, 1.0, x - nodes)
        terms = jnp.where(x == nodes, 0.0, jnp.asarray(weights) / gap)
        between = terms @ inside[1:] / jnp.where(jnp.any(x == nodes), 1.0, jnp.sum(terms))
        hit = (x == nodes).astype(between.dtype) @ inside[1:]
        value = jnp.where(jnp.any(x == nodes), hit, between)
        # An end that is no collocated node is a node of its own.
        end = every[jnp.asarray(grid.interval_ends)[interval]]
        value = jnp.where(jnp.abs(t - boundaries[interval + 1]) <= slack, end, value)
        # Only a trajectory's first node is a start that no interval ends in.
        return self._inside(t, jnp.where(t <= self.t0 + slack, every[0], value))

    def _inside(self, t: Array, value: Array) -> Array:
        """`value`, or NaN where `t` is outside the grid."""
        slack = 1e-9 * (self.t1 - self.t0)
        return jnp.where((t >= self.t0 - slack) & (t <= self.t1 + slack), value, jnp.nan)


def _rounding(t: Any) -> float:
    """The rounding of times in the precision that they were given in, as a share of them."""
    dtype = getattr(t, "dtype", None)
    single = dtype is not None and dtype in (np.float32, jnp.float32)
    return 4 * float(np.finfo(np.float32 if single else np.float64).eps)


@eqx.filter_jit
def _interpolate(path: Path, t: Array, left: bool, rounding: float) -> Array:
    def interpolate(t: Array) -> Array:
        return path._at_time(t, path._interval(t, left, rounding), left)

    return _over_axes(interpolate, t)


@eqx.filter_jit
def _derivative(path: Path, t: Array, left: bool, rounding: float) -> Array:
    def slope(t: Array) -> Array:
        interval = path._interval(t, left, rounding)
        # Where a jump begins the trajectory there is no slope but that after it.
        interval = jnp.maximum(interval, jnp.argmax(jnp.diff(jnp.asarray(path.ts)) > 0))
        return jax.jvp(lambda t: path._at_time(t, interval, left), (t,), (jnp.ones_like(t),))[1]

    return _over_axes(slope, t)


def _over_axes(function: Callable[[Array], Array], t: Array) -> Array:
    for _ in range(t.ndim):
        function = jax.vmap(function)
    return function(t)


@eqx.filter_jit
def _algebraic(path: Path, t: Array) -> Array:
    return _over_axes(path._algebraic_at, t)


def _about_node(x: Array, scheme: AbstractScheme, y: Array, m: Array) -> Array:
    r"""$p(x) = y_m + (x - x_m)\, q(x)$, where $q$ interpolates $(y_j - y_m) / (x_j - x_m)$.

    $q$ takes the value $p'(x_m)$ at $x_m$ itself.
    """
    nodes, barycentric = jnp.asarray(scheme.nodes), jnp.asarray(scheme.barycentric)
    differentiation = jnp.asarray(scheme.differentiation)
    here = jnp.arange(scheme.num_nodes) == m
    gap = jnp.where(here, 1.0, nodes - nodes[m])
    slopes = (y - y[m]) / gap[:, None]
    slopes = jnp.where(here[:, None], (differentiation[m] @ y)[None], slopes)
    # In barycentric form around x_m:
    # q(x) = [b_m q_m + (x - x_m) sum_{j != m} b_j q_j / (x - x_j)] / [b_m + (x - x_m) sum ...]
    distance = jnp.where(here, 1.0, x - nodes)
    terms = jnp.where(here, barycentric, (x - nodes[m]) * barycentric / distance)
    quotient = terms @ slopes / jnp.sum(terms)
    return y[m] + (x - nodes[m]) * quotient
