"""The NLP's functions of `z`: pure, traced once per shape, independent of the data's values."""

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Float, Int

from ._layout import Layout, Vector
from ._precision import AnyArray, is_array, x64
from ._sparse import Assembly, Pattern
from ._terms import Continuity, DataLoss, Defects, Structure, ridge_structure


class Core(eqx.Module):
    """Layout and terms, with the assembly of their derivatives."""

    layout: Layout
    defects: tuple[Defects, ...]
    continuity: tuple[Continuity, ...]
    losses: tuple[DataLoss, ...]
    l2: Float[AnyArray, " weight"]
    penalised: Int[AnyArray, " penalised"]
    order: Int[AnyArray, " equation"]
    jacobian_assembly: Assembly
    hessian_assembly: Assembly
    gauss_newton_assembly: Assembly

    @classmethod
    def build(
        cls,
        layout: Layout,
        defects: tuple[Defects, ...],
        continuity: tuple[Continuity, ...],
        losses: tuple[DataLoss, ...],
        l2: np.ndarray,
        num_equations: int,
    ) -> tuple["Core", Pattern, Pattern, Pattern]:
        """The core and its patterns: Jacobian, exact Hessian, Gauss-Newton Hessian."""
        variables = layout.num_variables
        first: Structure = []
        for term in defects:
            first += term.jacobian_structure(layout)
        for gap in continuity:
            first += gap.jacobian_structure(layout)
        jacobian, jacobian_assembly = Assembly.build(first, (num_equations, variables))
        curved: Structure = []
        for term in defects:
            curved += term.hessian_structure(layout)
        flat: Structure = []
        for loss in losses:
            curved += loss.hessian_structure(layout, gauss_newton=False)
            flat += loss.hessian_structure(layout, gauss_newton=True)
        ridge = ridge_structure(l2)
        hessian, hessian_assembly = Assembly.build(curved + ridge, (variables, variables))
        gauss_newton, gn_assembly = Assembly.build(flat + ridge, (variables, variables))
        core = cls(
            layout=layout,
            defects=defects,
            continuity=continuity,
            losses=losses,
            l2=l2,
            penalised=np.flatnonzero(l2),
            order=_order((*defects, *continuity), layout.num_states, num_equations),
            jacobian_assembly=jacobian_assembly,
            hessian_assembly=hessian_assembly,
            gauss_newton_assembly=gn_assembly,
        )
        return core, jacobian, hessian, gauss_newton

    def objective(self, z: Vector) -> Float[Array, ""]:
        """The data's losses plus the ridge penalty."""
        w, states = self.layout.weights(z), self.layout.states(z)
        losses = [loss.value(w, states) for loss in self.losses]
        return sum(losses, start=jnp.sum(self.l2 * w**2))

    def gradient(self, z: Vector) -> Vector:
        """The objective's gradient."""
        return jax.grad(self.objective)(z)

    def constraints(self, z: Vector) -> Float[Array, " equation"]:
        """The defects and the continuity equations."""
        w, states = self.layout.weights(z), self.layout.states(z)
        values = [term.values(w, states) for term in self.defects]
        values += [term.values(states) for term in self.continuity]
        return self._ordered(values)

    def point(self, z: Vector) -> tuple[Array, Vector, Array, Array]:
        """Objective, gradient, constraints and Jacobian: what one iterate needs, in one call."""
        w, states = self.layout.weights(z), self.layout.states(z)
        objective, gradient = jax.value_and_grad(self.objective)(z)
        values: list[Array] = []
        entries: list[Array] = []
        for defects in self.defects:
            value, contributions = defects.first_order(w, states)
            values.append(value)
            entries += contributions
        for continuity in self.continuity:
            value, contributions = continuity.first_order(states)
            values.append(value)
            entries += contributions
        jacobian = self.jacobian_assembly.values(entries)
        return objective, gradient, self._ordered(values), jacobian

    def jacobian(self, z: Vector) -> Array:
        """The Jacobian's non-zeros."""
        return self.point(z)[3]

    def hessian(self, z: Vector, multipliers: Array, factor: Array) -> Array:
        """The non-zeros of the lower triangle of the Lagrangian's Hessian."""
        w, states = self.layout.weights(z), self.layout.states(z)
        entries: list[Array] = []
        for defects in self.defects:
            entries += defects.second_order(w, states, multipliers)
        for loss in self.losses:
            entries += loss.second_order(w, states, factor, gauss_newton=False)
        entries.append(2 * factor * self.l2[self.penalised])
        return self.hessian_assembly.values(entries)

    def gauss_newton(self, z: Vector, factor: Array) -> Array:
        """The same without the curvature of equations and observations."""
        w, states = self.layout.weights(z), self.layout.states(z)
        entries: list[Array] = []
        for loss in self.losses:
            entries += loss.second_order(w, states, factor, gauss_newton=True)
        entries.append(2 * factor * self.l2[self.penalised])
        return self.gauss_newton_assembly.values(entries)

    def _ordered(self, values: list[Array]) -> Array:
        flat = jnp.concatenate([jnp.ravel(value) for value in values])
        return flat[self.order]


def _order(
    terms: tuple[Defects | Continuity, ...], num_states: int, num_equations: int
) -> np.ndarray:
    """Where each equation stands among the terms' values."""
    state = np.arange(num_states)
    rows = [np.where(term.rows >= 0, term.rows, -num_states).ravel() for term in terms]
    flat = (np.concatenate(rows)[:, None] + state).ravel()
    order = np.empty(num_equations, np.int32)
    real = flat >= 0
    order[flat[real]] = np.flatnonzero(real)
    return order


class _Static:
    """Everything of a PyTree but its arrays, hashed once, as a static argument of `jit`."""

    def __init__(self, arrays: Any, rest: Any):
        self.rest = rest
        self.treedef = jtu.tree_structure(arrays)
        leaves, treedef = jtu.tree_flatten(rest)
        self.key: tuple[Any, ...] = (self.treedef, treedef, tuple(leaves))
        try:
            self._hash = hash(self.key)
        except TypeError:
            self.key = (id(self),)
            self._hash = hash(self.key)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, _Static) and self.key == other.key)


class Compiled:
    """A core taken apart into arrays and the rest, ready to be called.

    The arrays are arguments of the jitted functions, not constants in them: compilation does
    not depend on their size, and NLPs of the same shapes share one compilation. A plain class
    with a flat tuple, because modules cost more to access than a small problem to evaluate.
    """

    def __init__(self, core: Core):
        arrays, rest = eqx.partition(core, is_array)
        self.static = _Static(arrays, rest)
        with x64():
            self.arrays = tuple(jnp.asarray(leaf) for leaf in jtu.tree_leaves(arrays))

    @property
    def core(self) -> Core:
        """The core, with its arrays on the device."""
        return _rebuild(self.static, self.arrays)

    def function(self, name: str) -> Callable[..., Any]:
        """One of the core's functions, jitted, to be called inside `x64()`."""
        return functools.partial(_call, self.static, name, self.arrays)


def _rebuild(static: _Static, arrays: tuple[Array, ...]) -> Core:
    return eqx.combine(jtu.tree_unflatten(static.treedef, arrays), static.rest)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _call(static: _Static, name: str, arrays: tuple[Array, ...], *inputs: Any) -> Any:
    return getattr(_rebuild(static, arrays), name)(*inputs)
