r"""Derivative blocks of one point function, mapped over many points.

A point function is $F(w, t, y, \mathtt{args}, \mathtt{data}) \in \mathbb{R}^q$: the vector field
at a collocation node, the loss of an observation. At every point we need

$$F, \quad F_y, \quad F_w, \qquad \text{and of } \phi = \lambda \cdot F: \quad
  \phi_{yy}, \quad \phi_{wy}, \quad \sum_{\text{points}} \phi_{ww},$$

each as its structural non-zeros. Points are laid out as `(traj, point)`; `args` has one entry per
trajectory. $\phi_{yy}$ and $\phi_{wy}$ cost one Hessian-vector product per state;
the sum of $\phi_{ww}$ is one Hessian of a scalar function of the weights, compressed by colour.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Float, Int

from ._pattern import color_columns, hessian_mask, jacobian_mask, read_off
from ._precision import AnyArray, is_array
from ._sparse import Entries


PointFunction = Callable[[Array, Array, Array, Any, Any], Array]

# Colours that go through one batched Hessian-vector product; more would fill the memory.
_COLOR_BATCH = 16


class Points(eqx.Module):
    """Where a point function is evaluated; the states `y` are passed beside it."""

    t: Float[Array, "traj point"]
    args: Any
    data: Any

    @classmethod
    def at(cls, times: np.ndarray, args: Any, data: Any) -> "Points":
        """From times of any number of axes, the first of them the trajectories."""
        return cls(jnp.asarray(times.reshape(len(times), -1)), args, data)

    def example(self, y: Array) -> tuple[Array, Array, Any, Any]:
        """The first point, for shapes."""
        args = jtu.tree_map(lambda leaf: leaf[0] if is_array(leaf) else leaf, self.args)
        data = jtu.tree_map(lambda leaf: leaf[0, 0], self.data)
        return self.t[0, 0], y, args, data


class Blocks(eqx.Module):
    """A point function and the patterns of its derivatives.

    `jac_y`, `jac_w`: (row, column) of the non-zeros of $F_y$ and $F_w$. `hess_yy`: those of
    $\\phi_{yy}$, both triangles. `hess_wy`: (weight, state). `hess_ww`: lower triangle.
    """

    function: PointFunction
    num_outputs: int = eqx.field(static=True)
    num_states: int = eqx.field(static=True)
    num_weights: int = eqx.field(static=True)
    num_colors: int = eqx.field(static=True)
    jac_y: Entries = eqx.field(static=True)
    jac_w: Entries = eqx.field(static=True)
    hess_yy: Entries = eqx.field(static=True)
    hess_wy: Entries = eqx.field(static=True)
    hess_ww: Entries = eqx.field(static=True)
    seeds: Float[AnyArray, "color weight"]
    ww_source: Int[AnyArray, " entry"]

    @classmethod
    def detect(
        cls, function: PointFunction, points: Points, num_states: int, num_weights: int
    ) -> "Blocks":
        """Find the patterns of `function` by looking at one point."""
        x = jnp.ones(num_states + num_weights)
        t, _, args, data = points.example(x[:num_states])

        def stacked(x: Array, t: Array, args: Any, data: Any) -> Array:
            return function(x[num_states:], t, x[:num_states], args, data)

        num_outputs = jax.eval_shape(stacked, x, t, args, data).shape[0]

        def lagrangian(x: Array, multiplier: Array, t: Array, args: Any, data: Any) -> Array:
            return multiplier @ stacked(x, t, args, data)

        first = jacobian_mask(stacked, x, t, args, data)
        second = hessian_mask(lagrangian, x, jnp.ones(num_outputs), t, args, data)
        ww = second[num_states:, num_states:]
        color, num_colors = color_columns(ww)
        rows, columns, ww_color, position = read_off(ww, color)
        return cls(
            function=function,
            num_outputs=num_outputs,
            num_states=num_states,
            num_weights=num_weights,
            num_colors=num_colors,
            jac_y=Entries(*np.nonzero(first[:, :num_states])),
            jac_w=Entries(*np.nonzero(first[:, num_states:])),
            hess_yy=Entries(*np.nonzero(second[:num_states, :num_states])),
            hess_wy=Entries(*np.nonzero(second[num_states:, :num_states])),
            hess_ww=Entries(rows, columns),
            seeds=(color == np.arange(num_colors)[:, None]).astype(np.float64),
            ww_source=(ww_color * num_weights + position).astype(np.int32),
        )

    def value(self, w: Array, points: Points, y: Array) -> Float[Array, "traj point output"]:
        """$F$ at every point."""
        return over_points(self.function, w, points, y)

    def first(
        self, w: Array, points: Points, y: Array
    ) -> tuple[
        Float[Array, "traj point output"],
        Float[Array, "traj point entry_y"],
        Float[Array, "traj point entry_w"],
    ]:
        """$F$ and the non-zeros of $F_y$ and $F_w$ at every point."""

        def at_point(w: Array, t: Array, y: Array, args: Any, data: Any) -> tuple[Array, ...]:
            value, pullback = jax.vjp(lambda w, y: self.function(w, t, y, args, data), w, y)
            f_w, f_y = jax.vmap(pullback)(jnp.eye(self.num_outputs))
            return value, self.jac_y.take(f_y), self.jac_w.take(f_w)

        return over_points(at_point, w, points, y)

    def second(
        self, w: Array, points: Points, y: Array, multipliers: Float[Array, "traj point output"]
    ) -> tuple[
        Float[Array, "traj point entry_yy"],
        Float[Array, "traj point entry_wy"],
        Float[Array, " entry_ww"],
    ]:
        """The non-zeros of $\\phi_{yy}$, $\\phi_{wy}$ at every point and of $\\sum \\phi_{ww}$."""

        def phi(w: Array, t: Array, y: Array, args: Any, data: Any) -> Array:
            inner, multiplier = data
            return multiplier @ self.function(w, t, y, args, inner)

        def at_point(w: Array, t: Array, y: Array, args: Any, data: Any) -> tuple[Array, ...]:
            gradient = jax.grad(lambda w, y: phi(w, t, y, args, data), argnums=(0, 1))
            _, along = jax.linearize(lambda y: gradient(w, y), y)
            yw, yy = jax.vmap(along)(jnp.eye(self.num_states))
            return self.hess_yy.take(yy), self.hess_wy.take(yw.T)

        weighted = Points(points.t, points.args, (points.data, multipliers))
        yy, wy = over_points(at_point, w, weighted, y)
        return yy, wy, self._second_ww(phi, w, weighted, y)

    def _second_ww(self, phi: PointFunction, w: Array, points: Points, y: Array) -> Array:
        if self.num_colors == 0:
            return jnp.zeros(0)
        gradient = jax.grad(lambda w: jnp.sum(over_points(phi, w, points, y)))
        _, along = jax.linearize(gradient, w)
        seeds = jnp.asarray(self.seeds)
        if self.num_colors <= _COLOR_BATCH:
            compressed = jax.vmap(along)(seeds)
        else:
            compressed = jax.lax.map(along, seeds, batch_size=_COLOR_BATCH)
        return jnp.ravel(compressed)[self.ww_source]


def over_points(function: Callable[..., Any], w: Array, points: Points, y: Array) -> Any:
    """`function` at every point."""
    each_point = eqx.filter_vmap(function, in_axes=(None, 0, 0, None, 0))
    each = eqx.if_array(0)
    each_trajectory = eqx.filter_vmap(each_point, in_axes=(None, 0, 0, each, 0))
    return each_trajectory(w, points.t, y, points.args, points.data)
