"""The NLP's functions of `z`: pure, traced once per shape, independent of the data's values."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Float, Int

from .._precision import AnyArray, is_array, x64
from .layout import Layout, Vector
from .objective_terms import Quadratic
from .sparse import Assembly, Pattern
from .terms import Equations, Penalty, Structure


Patterns = tuple[Pattern, Pattern, Pattern]


class Scaling(eqx.Module):
    """Factors that bring variables and constraints to magnitudes near one.

    With $z$ the optimizer's variables, the terms see `variables * z` and their constraints are
    multiplied by `rows`. The other factors are those of the sparse matrices' entries.
    """

    variables: Float[AnyArray, " variable"]
    rows: Float[AnyArray, " constraint"]
    jacobian: Float[AnyArray, " _"]
    hessian: Float[AnyArray, " _"]
    gauss_newton: Float[AnyArray, " _"]

    @classmethod
    def of(
        cls, variables: np.ndarray, rows: np.ndarray, patterns: tuple[Pattern, Pattern, Pattern]
    ) -> "Scaling | None":
        """None where all factors are one."""
        if np.all(variables == 1) and np.all(rows == 1):
            return None
        jacobian, hessian, gauss_newton = patterns
        return cls(
            variables,
            rows,
            rows[jacobian.rows] * variables[jacobian.columns],
            variables[hessian.rows] * variables[hessian.columns],
            variables[gauss_newton.rows] * variables[gauss_newton.columns],
        )


class Core(eqx.Module):
    """Layout and terms, with the assembly of their derivatives."""

    layout: Layout
    equations: tuple[Equations, ...]
    penalties: tuple[Penalty, ...]
    quadratics: tuple[Quadratic, ...]
    order: Int[AnyArray, " constraint"]
    jacobian_assembly: Assembly
    hessian_assembly: Assembly
    gauss_newton_assembly: Assembly
    scaling: Scaling | None

    @classmethod
    def build(
        cls,
        layout: Layout,
        equations: tuple[Equations, ...],
        penalties: tuple[Penalty, ...],
        quadratics: tuple[Quadratic, ...],
        scales: tuple[np.ndarray, np.ndarray],
        like: "Core | None" = None,
    ) -> tuple["Core", Patterns | None]:
        """The core and its patterns: Jacobian, exact Hessian, Gauss-Newton Hessian.

        `scales` are the factors of the variables and of the constraints. Where `like`, another
        core, has terms of the same structure, its assembly serves, and there are no new patterns.
        """
        if like is not None:
            same = dataclasses.replace(
                like, equations=equations, penalties=penalties, quadratics=quadratics
            )
            if layout == like.layout and same.has_structure_of(like):
                return same, None
        variables, num_constraints = layout.num_variables, len(scales[1])
        first: Structure = []
        curved: Structure = []
        flat: Structure = []
        for term in equations:
            first += term.jacobian_structure(layout)
            curved += term.hessian_structure(layout)
        for penalty in penalties:
            curved += penalty.hessian_structure(layout, gauss_newton=False)
            flat += penalty.hessian_structure(layout, gauss_newton=True)
        for quadratic in quadratics:
            curved += quadratic.hessian_structure()
            flat += quadratic.hessian_structure()
        jacobian, jacobian_assembly = Assembly.build(first, (num_constraints, variables))
        hessian, hessian_assembly = Assembly.build(curved, (variables, variables))
        gauss_newton, gn_assembly = Assembly.build(flat, (variables, variables))
        patterns = (jacobian, hessian, gauss_newton)
        core = cls(
            layout=layout,
            equations=equations,
            penalties=penalties,
            quadratics=quadratics,
            order=_order(equations, num_constraints),
            jacobian_assembly=jacobian_assembly,
            hessian_assembly=hessian_assembly,
            gauss_newton_assembly=gn_assembly,
            scaling=Scaling.of(*scales, patterns),
        )
        return core, patterns

    def has_structure_of(self, other: "Core") -> bool:
        """Whether the terms differ in numbers only, so that all non-zeros are where they are."""
        (mine, mine_def), (theirs, theirs_def) = (
            jtu.tree_flatten(_terms(core)) for core in (self, other)
        )
        if mine_def != theirs_def:  # type: ignore[operator]
            return False
        for a, b in zip(mine, theirs, strict=True):
            if is_array(a) != is_array(b) or (is_array(a) and a.shape != b.shape):
                return False
            if not is_array(a) and a is not b and a != b:
                return False
        return all(
            np.array_equal(a, b) for a, b in zip(_positions(self), _positions(other), strict=True)
        )

    def objective(self, z: Vector) -> Float[Array, ""]:
        """The data's losses plus the penalties."""
        head, states = self._parts(z)
        values = [penalty.value(head, states) for penalty in self.penalties]
        values += [quadratic.value(self._caller(z)) for quadratic in self.quadratics]
        return sum(values, start=jnp.zeros(()))

    def gradient(self, z: Vector) -> Vector:
        """The objective's gradient."""
        return jax.grad(self.objective)(z)

    def constraints(self, z: Vector) -> Float[Array, " constraint"]:
        """The defects, the continuity equations and the path constraints."""
        head, states = self._parts(z)
        return self._ordered([term.values(head, states) for term in self.equations])

    def point(self, z: Vector) -> tuple[Array, Vector, Array, Array]:
        """Objective, gradient, constraints and Jacobian: what one iterate needs, in one call."""
        head, states = self._parts(z)
        objective, gradient = jax.value_and_grad(self.objective)(z)
        values: list[Array] = []
        entries: list[Array] = []
        for term in self.equations:
            value, contributions = term.first_order(head, states)
            values.append(value)
            entries += contributions
        jacobian = self.jacobian_assembly.values(entries)
        if self.scaling is not None:
            jacobian = jacobian * self.scaling.jacobian
        return objective, gradient, self._ordered(values), jacobian

    def jacobian(self, z: Vector) -> Array:
        """The Jacobian's non-zeros."""
        return self.point(z)[3]

    def hessian(self, z: Vector, multipliers: Array, factor: Array) -> Array:
        """The non-zeros of the lower triangle of the Lagrangian's Hessian."""
        head, states = self._parts(z)
        if self.scaling is not None:
            multipliers = multipliers * self.scaling.rows
        entries: list[Array] = []
        for term in self.equations:
            entries += term.second_order(head, states, multipliers)
        for penalty in self.penalties:
            entries += penalty.second_order(head, states, factor, gauss_newton=False)
        for quadratic in self.quadratics:
            entries += quadratic.second_order(factor)
        values = self.hessian_assembly.values(entries)
        return values if self.scaling is None else values * self.scaling.hessian

    def gauss_newton(self, z: Vector, factor: Array) -> Array:
        """The same without the curvature of equations and observations."""
        head, states = self._parts(z)
        entries: list[Array] = []
        for penalty in self.penalties:
            entries += penalty.second_order(head, states, factor, gauss_newton=True)
        for quadratic in self.quadratics:
            entries += quadratic.second_order(factor)
        values = self.gauss_newton_assembly.values(entries)
        return values if self.scaling is None else values * self.scaling.gauss_newton

    def _parts(self, z: Vector) -> tuple[Array, Array]:
        """Head and states, in the caller's units."""
        z = self._caller(z)
        return self.layout.head(z), self.layout.states(z)

    def _caller(self, z: Vector) -> Vector:
        """All variables in the caller's units."""
        return z if self.scaling is None else z * self.scaling.variables

    def _ordered(self, values: list[Array]) -> Array:
        flat = jnp.concatenate([jnp.ravel(value) for value in values])[self.order]
        return flat if self.scaling is None else flat * self.scaling.rows


def _terms(core: Core) -> tuple[Any, ...]:
    return core.equations, core.penalties, core.quadratics


def _positions(core: Core) -> list[AnyArray]:
    """The arrays that tell where the terms' derivatives stand."""
    found = [quadratic.at for quadratic in core.quadratics]
    for term in core.equations:
        found += term.positions
    for penalty in core.penalties:
        found += penalty.positions
    return found


def _order(terms: tuple[Equations, ...], num_constraints: int) -> np.ndarray:
    """Where each constraint stands among the terms' values."""
    flat = np.concatenate([np.ravel(term.equations) for term in terms])
    order = np.empty(num_constraints, np.int32)
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
    not depend on their size, and NLPs of the same shapes share one compilation. `host` is the core
    with its arrays in NumPy; those that `like`, another one, has already put on the device are
    not put there again. A plain class with a flat tuple, because modules cost more to access than
    a small problem to evaluate.
    """

    def __init__(self, core: Core, like: "Compiled | None" = None):
        arrays, rest = eqx.partition(core, is_array)
        self.host = core
        self.leaves: list[Any] = jtu.tree_leaves(arrays)
        self.arrays: tuple[Array, ...]
        self.static = _Static(arrays, rest)
        there: dict[int, Array] = {}
        if like is not None:
            if like.static == self.static:
                # Keeps the key that is known to the compilation cache.
                self.static = like.static
            there = {id(leaf): item for leaf, item in zip(like.leaves, like.arrays, strict=True)}
        new = [leaf for leaf in self.leaves if id(leaf) not in there]
        with x64():
            # `jnp.asarray` would compile a program for every shape.
            there |= zip(map(id, new), jax.device_put(new), strict=True)
        self.arrays = tuple(there[id(leaf)] for leaf in self.leaves)

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
