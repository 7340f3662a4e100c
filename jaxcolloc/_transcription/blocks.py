r"""Derivative blocks of one point function, mapped over many points.

A point function is $F(w, t, y, \mathtt{args}, \mathtt{data}) \in \mathbb{R}^q$: the vector field
at a collocation node, the loss of an observation, a path constraint. Behind the weights that all
trajectories share, $w$ holds the unknowns of the point's trajectory. At every point we need

$$F, \quad F_y, \quad F_w, \qquad \text{and of } \phi = \lambda \cdot F: \quad
  \phi_{yy}, \quad \phi_{wy}, \quad \sum_{\text{points}} \phi_{ww},$$

each as its structural non-zeros. Points are laid out as `(traj, point)`; `args` has one entry per
trajectory. What belongs to unknowns is summed over the points of one trajectory only.
$\phi_{yy}$ and $\phi_{wy}$ cost one Hessian-vector product per state;
the sum of $\phi_{ww}$ is one Hessian of a scalar function of the weights, compressed by colour.
"""

from collections.abc import Callable
from typing import Any, Protocol

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Float, Int

from .._plain import plain
from .._precision import AnyArray, Number, is_array
from .pattern import block_patterns, shape_of
from .sparse import Entries


PointFunction = Callable[[Array, Array, Array, Any, Any], Array]

# Colours that go through one batched Hessian-vector product; more would fill the memory.
_COLOR_BATCH = 16


@plain
class Points:
    """Where a point function is evaluated; the states `y` are passed beside it.

    `unknowns[k]` are the positions in the head of `z` of trajectory `k`'s unknowns.
    """

    t: Float[AnyArray, "traj point"]
    args: Any
    unknowns: Int[AnyArray, "traj unknown"]
    data: Any

    @classmethod
    def at(cls, times: np.ndarray, args: Any, unknowns: AnyArray, data: Any) -> "Points":
        """From times of any number of axes, the first of them the trajectories."""
        return cls(times.reshape(len(times), -1), args, unknowns, data)

    @property
    def num_unknowns(self) -> int:
        """The number of unknowns of each trajectory."""
        return self.unknowns.shape[1]

    def positions(self, index: np.ndarray, num_weights: int) -> Int[np.ndarray, "traj entry"]:
        """The positions in the head of `z` of a point function's weights and unknowns."""
        shared = np.arange(num_weights)
        every = np.broadcast_to(shared, (len(self.unknowns), num_weights))
        return np.concatenate([every, np.asarray(self.unknowns)], axis=1)[:, index]

    def output_shape(
        self, function: PointFunction, num_states: int, num_shared: int
    ) -> tuple[int, ...] | None:
        """The shape of what `function` returns at one point; None where it is no array.

        Its derivative is taken as well, so that one that has none raises here.
        """
        w = np.zeros(num_shared + self.num_unknowns)

        def value(w: Array, y: Array, t: Array, args: Any, data: Any) -> Array:
            found, pullback = jax.vjp(lambda w, y: function(w, t, y, args, data), w, y)
            pullback(found)
            return found

        t, args, data = self.shapes()
        found = eqx.filter_eval_shape(value, w, np.ones(num_states), t, args, data)
        return getattr(found, "shape", None)

    def shapes(self) -> tuple[Any, Any, Any]:
        """Time, `args` and data of one point, shapes in the place of arrays."""
        args = jtu.tree_map(lambda leaf: shape_of(leaf, 1) if is_array(leaf) else leaf, self.args)
        data = jtu.tree_map(lambda leaf: shape_of(leaf, 2), self.data)
        return shape_of(self.t, 2), args, data


class PointBlocks(Protocol):
    """What terms ask of a point function: `Blocks` has it in JAX, `HostBlocks` in NumPy.

    Attributes and methods are described in `Blocks`.
    """

    @property
    def num_outputs(self) -> int: ...
    @property
    def num_shared(self) -> int: ...
    @property
    def jac_y(self) -> Entries: ...
    @property
    def jac_w(self) -> Entries: ...
    @property
    def hess_yy(self) -> Entries: ...
    @property
    def hess_wy(self) -> Entries: ...

    def compilations(self, *names: str) -> list[Callable[[], Any]]: ...
    def ww_structure(self, points: Points) -> list[tuple[np.ndarray, np.ndarray]]: ...
    def value(self, head: AnyArray, points: Points, y: AnyArray) -> AnyArray: ...
    def first(
        self, head: AnyArray, points: Points, y: AnyArray
    ) -> tuple[AnyArray, AnyArray, AnyArray]: ...
    def gradient(
        self, head: AnyArray, points: Points, y: AnyArray, weight: AnyArray
    ) -> tuple[Number, AnyArray, AnyArray]: ...
    def second(
        self, head: AnyArray, points: Points, y: AnyArray, multipliers: AnyArray
    ) -> tuple[AnyArray, AnyArray, list[AnyArray]]: ...


@plain
class Blocks:
    """A point function and the patterns of its derivatives.

    `jac_y`, `jac_w`: (row, column) of the non-zeros of $F_y$ and $F_w$. `hess_yy`: those of
    $\\phi_{yy}$, both triangles. `hess_wy`: (weight, state). `hess_ww`: lower triangle. The first
    `num_shared` of `num_weights` weights are shared by all trajectories.
    """

    function: PointFunction
    num_outputs: int = eqx.field(static=True)
    num_states: int = eqx.field(static=True)
    num_weights: int = eqx.field(static=True)
    num_shared: int = eqx.field(static=True)
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
        cls, function: PointFunction, points: Points, num_states: int, num_shared: int
    ) -> "Blocks":
        """Find the patterns of `function` from the shapes of one point."""
        num_weights = num_shared + points.num_unknowns
        patterns = block_patterns(function, points.shapes(), num_states, num_weights)
        return cls(
            function=function,
            num_states=num_states,
            num_weights=num_weights,
            num_shared=num_shared,
            **patterns._asdict(),
        )

    def compilations(self, *names: str) -> list[Callable[[], Any]]:
        """None: they are part of a larger program."""
        return []

    @property
    def _shared(self) -> np.ndarray:
        """Which entries of `hess_ww` concern no unknown; the lower triangle's row is larger."""
        return self.hess_ww.rows < self.num_shared

    def ww_structure(self, points: Points) -> list[tuple[np.ndarray, np.ndarray]]:
        """Rows and columns in the head of `z`: shared entries, then those of each trajectory."""
        rows, columns = self.hess_ww.rows, self.hess_ww.columns
        structure = [(rows[self._shared], columns[self._shared])]
        if points.num_unknowns:
            own = ~self._shared
            sides = [points.positions(side[own], self.num_shared) for side in (rows, columns)]
            structure.append((sides[0], sides[1]))
        return structure

    def value(
        self, head: AnyArray, points: Points, y: AnyArray
    ) -> Float[Array, "traj point output"]:
        """$F$ at every point."""
        return over_points(self.function, head, points, y, self.num_shared)

    def first(
        self, head: AnyArray, points: Points, y: AnyArray
    ) -> tuple[
        Float[Array, "traj point output"],
        Float[Array, "traj point entry_y"],
        Float[Array, "traj point entry_w"],
    ]:
        """$F$ and the non-zeros of $F_y$ and $F_w$ at every point."""

        def at_point(w: Array, t: Array, y: Array, args: Any, data: Any) -> tuple[Any, ...]:
            value, pullback = jax.vjp(lambda w, y: self.function(w, t, y, args, data), w, y)
            f_w, f_y = jax.vmap(pullback)(jnp.eye(self.num_outputs))
            return value, self.jac_y.take(f_y), self.jac_w.take(f_w)

        return over_points(at_point, head, points, y, self.num_shared)

    def gradient(
        self, head: AnyArray, points: Points, y: AnyArray, weight: Float[AnyArray, "traj point"]
    ) -> tuple[Array, AnyArray, Float[AnyArray, "traj point state"]]:
        """The sum of the first output times `weight`, its gradient in the head and in `y`."""

        def total(head: Array, y: Array) -> Array:
            value = over_points(self.function, head, points, y, self.num_shared)
            return jnp.sum(weight * value[..., 0])

        value, (in_head, in_y) = jax.value_and_grad(total, argnums=(0, 1))(head, y)
        return value, in_head, in_y

    def second(
        self,
        head: AnyArray,
        points: Points,
        y: AnyArray,
        multipliers: Float[AnyArray, "traj point output"],
    ) -> tuple[
        Float[Array, "traj point entry_yy"],
        Float[Array, "traj point entry_wy"],
        list[AnyArray],
    ]:
        """The non-zeros of $\\phi_{yy}$, $\\phi_{wy}$ at every point and of $\\sum \\phi_{ww}$.

        The last come as `ww_structure` says.
        """

        def phi(w: Array, t: Array, y: Array, args: Any, data: Any) -> Array:
            inner, multiplier = data
            return multiplier @ self.function(w, t, y, args, inner)

        def at_point(w: Array, t: Array, y: Array, args: Any, data: Any) -> tuple[Any, ...]:
            gradient = jax.grad(lambda w, y: phi(w, t, y, args, data), argnums=(0, 1))
            _, along = jax.linearize(lambda y: gradient(w, y), y)
            yw, yy = jax.vmap(along)(jnp.eye(self.num_states))
            return self.hess_yy.take(yy), self.hess_wy.take(yw.T)

        weighted = Points(points.t, points.args, points.unknowns, (points.data, multipliers))
        yy, wy = over_points(at_point, head, weighted, y, self.num_shared)
        return yy, wy, self._second_ww(phi, head, weighted, y)

    def _second_ww(
        self, phi: PointFunction, head: Any, points: Points, y: AnyArray
    ) -> list[AnyArray]:
        if points.num_unknowns == 0:
            w = head[: self.num_shared]
            total = self._ww_entries(
                lambda w: jnp.sum(over_points(phi, w, points, y, self.num_shared)), w
            )
            return [total]

        def of_trajectory(w: Array, points: Points, y: Array) -> Array:
            each = eqx.filter_vmap(phi, in_axes=(None, 0, 0, None, 0))
            return self._ww_entries(
                lambda w: jnp.sum(each(w, points.t, y, points.args, points.data)), w
            )

        if self.num_colors == 0:
            entries = jnp.zeros((len(points.t), 0))
        else:
            each = eqx.if_array(0)
            mapped = eqx.filter_vmap(of_trajectory, in_axes=(0, each, 0))
            entries = mapped(_with_unknowns(head, points, self.num_shared), points, y)
        return [jnp.sum(entries[:, self._shared], axis=0), entries[:, ~self._shared]]

    def _ww_entries(self, total: Callable[[Array], Array], w: Array) -> Array:
        if self.num_colors == 0:
            return jnp.zeros(0)
        _, along = jax.linearize(jax.grad(total), w)
        seeds = jnp.asarray(self.seeds)
        if self.num_colors <= _COLOR_BATCH:
            compressed = jax.vmap(along)(seeds)
        else:
            compressed = jax.lax.map(along, seeds, batch_size=_COLOR_BATCH)
        return jnp.ravel(compressed)[self.ww_source]


def _with_unknowns(head: Any, points: Points, num_shared: int) -> Float[Array, "traj weight"]:
    """For each trajectory the shared weights and its unknowns."""
    shared = jnp.broadcast_to(head[:num_shared], (len(points.t), num_shared))
    return jnp.concatenate([shared, head[points.unknowns]], axis=1)


def over_points(
    function: Callable[..., Any], head: AnyArray, points: Points, y: AnyArray, num_shared: int
) -> Any:
    """`function` at every point."""
    each_point = eqx.filter_vmap(function, in_axes=(None, 0, 0, None, 0))
    each = eqx.if_array(0)
    w: Any
    if points.num_unknowns:
        w, axis = _with_unknowns(head, points, num_shared), 0
    else:
        w, axis = head[:num_shared], None
    each_trajectory = eqx.filter_vmap(each_point, in_axes=(axis, 0, 0, each, 0))
    return each_trajectory(w, points.t, y, points.args, points.data)
