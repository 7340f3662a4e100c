"""The NLP's functions of `z`: pure; one text, evaluated in NumPy on the host or traced by JAX."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Float, Int

from .._arrays import driver, module, on_host
from .._plain import plain
from .._precision import AnyArray, Number, is_array, x64
from .layout import Layout
from .objective_terms import Quadratic
from .pieces import Static, host_blocks
from .prior_terms import PriorTerm
from .sparse import Assembly, Pattern
from .terms import Defects, Equations, Penalty, Pointwise, Structure


Patterns = tuple[Pattern, Pattern, Pattern]
Vector = Float[AnyArray, " variable"]


@plain
class Scaling:
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


@plain
class Core:
    """Layout and terms, with the assembly of their derivatives."""

    layout: Layout
    equations: tuple[Equations, ...]
    penalties: tuple[Penalty, ...]
    quadratics: tuple[Quadratic, ...]
    priors: tuple[PriorTerm, ...]
    order: Int[AnyArray, " constraint"]
    jacobian_assembly: Assembly
    hessian_assembly: Assembly
    gauss_newton_assembly: Assembly
    scaling: Scaling | None
    num_head: int = eqx.field(static=True)

    @classmethod
    def build(
        cls,
        layout: Layout,
        equations: tuple[Equations, ...],
        penalties: tuple[Penalty, ...],
        quadratics: tuple[Quadratic, ...],
        priors: tuple[PriorTerm, ...],
        scales: tuple[np.ndarray, np.ndarray],
        like: "Core | None" = None,
    ) -> tuple["Core", Patterns | None]:
        """The core and its patterns: Jacobian, exact Hessian, Gauss-Newton Hessian.

        `scales` are the factors of the variables and of the constraints. Where `like`, another
        core, has terms of the same structure, its assembly serves, and there are no new patterns.
        """
        if like is not None:
            same = dataclasses.replace(
                like, equations=equations, penalties=penalties, quadratics=quadratics,
                priors=priors,
            )  # fmt: skip
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
        for small in (*quadratics, *priors):
            curved += small.hessian_structure()
            flat += small.hessian_structure()
        jacobian, jacobian_assembly = Assembly.build(first, (num_constraints, variables))
        hessian, hessian_assembly = Assembly.build(curved, (variables, variables))
        gauss_newton, gn_assembly = Assembly.build(flat, (variables, variables))
        patterns = (jacobian, hessian, gauss_newton)
        core = cls(
            layout=layout,
            equations=equations,
            penalties=penalties,
            quadratics=quadratics,
            priors=priors,
            order=_order(equations, num_constraints),
            jacobian_assembly=jacobian_assembly,
            hessian_assembly=hessian_assembly,
            gauss_newton_assembly=gn_assembly,
            scaling=Scaling.of(*scales, patterns),
            num_head=layout.num_head,
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

    def on_host(self, other: "tuple[Core, Core] | None" = None) -> "Core":
        """The same functions for NumPy, with terms that compile no more than their pieces.

        `other` is another core and what this made of it: terms that they share are shared again.
        """
        known = {}
        if other is not None:
            known = {
                id(old): new
                for kind in ("equations", "penalties")
                for old, new in zip(*(getattr(core, kind) for core in other), strict=True)
            }

        def converted(terms: tuple[Any, ...]) -> tuple[Any, ...]:
            return tuple(known.get(id(term)) or term.with_blocks(host_blocks) for term in terms)

        return dataclasses.replace(
            self, equations=converted(self.equations), penalties=converted(self.penalties)
        )

    def compilations(self, gauss_newton: bool) -> list[Callable[[], Any]]:
        """What remains to be compiled for a solve on the host, each as a function that does so.

        `gauss_newton` is whether it takes that approximation of the Hessian.
        """
        jobs: list[Callable[[], Any]] = []
        for term in self.equations:
            term = term.field if isinstance(term, Defects) else term
            if isinstance(term, Pointwise):
                second = () if gauss_newton else ("second",)
                jobs += term.blocks.compilations("value", "first", *second)
        for penalty in self.penalties:
            jobs += penalty.blocks.compilations("value", "gradient")
            curved = penalty.gauss_newton if gauss_newton else penalty.blocks
            jobs += curved.compilations("second")
        return jobs

    def objective(self, z: Vector) -> Number:
        """The data's losses plus the penalties."""
        head, states = self._parts(z)
        values: list[Any] = [penalty.value(head, states) for penalty in self.penalties]
        values += [term.value(self._caller(z)) for term in self._small]
        return sum(values, start=module(z).zeros(()))

    def gradient(self, z: Vector) -> Vector:
        """The objective's gradient."""
        return self._first_order(z)[1]

    def _first_order(self, z: Vector) -> tuple[Number, Vector]:
        """The objective and its gradient."""
        xp = module(z)
        head, states = self._parts(z)
        total, in_head, in_states = xp.zeros(()), xp.zeros(head.shape), xp.zeros(states.shape)
        for penalty in self.penalties:
            value, of_head, of_states = penalty.first_order(head, states)
            total, in_head, in_states = total + value, in_head + of_head, in_states + of_states
        gradient = xp.concatenate([in_head, in_states.ravel()])
        for term in self._small:
            value, entries = term.first_order(self._caller(z))
            total, gradient = total + value, driver(z).add_to(gradient, term.at, entries)
        return total, gradient if self.scaling is None else gradient * self.scaling.variables

    def constraints(self, z: Vector) -> Float[AnyArray, " constraint"]:
        """The defects, the continuity equations and the path constraints."""
        head, states = self._parts(z)
        return self._ordered([term.values(head, states) for term in self.equations])

    def point(self, z: Vector) -> tuple[Number, Vector, AnyArray, AnyArray]:
        """Objective, gradient, constraints and Jacobian: what one iterate needs, in one call."""
        objective, gradient = self._first_order(z)
        head, states = self._parts(z)
        values: list[AnyArray] = []
        entries: list[AnyArray] = []
        for term in self.equations:
            value, contributions = term.first_order(head, states)
            values.append(value)
            entries += contributions
        jacobian = self.jacobian_assembly.values(driver(z), entries)
        if self.scaling is not None:
            jacobian = jacobian * self.scaling.jacobian
        return objective, gradient, self._ordered(values), jacobian

    def jacobian(self, z: Vector) -> AnyArray:
        """The Jacobian's non-zeros."""
        return self.point(z)[3]

    def hessian(self, z: Vector, multipliers: AnyArray, factor: Number) -> AnyArray:
        """The non-zeros of the lower triangle of the Lagrangian's Hessian."""
        head, states = self._parts(z)
        if self.scaling is not None:
            multipliers = multipliers * self.scaling.rows
        entries: list[AnyArray] = []
        for term in self.equations:
            entries += term.second_order(head, states, multipliers)
        for penalty in self.penalties:
            entries += penalty.second_order(head, states, factor, gauss_newton=False)
        for small in self._small:
            entries += small.second_order(self._caller(z), factor, gauss_newton=False)
        values = self.hessian_assembly.values(driver(z), entries)
        return values if self.scaling is None else values * self.scaling.hessian

    def gauss_newton(self, z: Vector, factor: Number) -> AnyArray:
        """The same without the curvature of equations and observations."""
        head, states = self._parts(z)
        entries: list[AnyArray] = []
        for penalty in self.penalties:
            entries += penalty.second_order(head, states, factor, gauss_newton=True)
        for small in self._small:
            entries += small.second_order(self._caller(z), factor, gauss_newton=True)
        values = self.gauss_newton_assembly.values(driver(z), entries)
        return values if self.scaling is None else values * self.scaling.gauss_newton

    @property
    def _small(self) -> tuple[PriorTerm, ...]:
        """The terms that concern single variables and no model."""
        return (*self.quadratics, *self.priors)

    def _parts(self, z: Vector) -> tuple[AnyArray, AnyArray]:
        """Head and states, in the caller's units."""
        z = self._caller(z)
        return z[: self.num_head], z[self.num_head :].reshape(-1, self.layout.num_states)

    def _caller(self, z: Vector) -> Vector:
        """All variables in the caller's units."""
        return z if self.scaling is None else z * self.scaling.variables

    def _ordered(self, values: list[AnyArray]) -> AnyArray:
        flat = module(values[0]).concatenate([item.ravel() for item in values])[self.order]
        return flat if self.scaling is None else flat * self.scaling.rows


def _terms(core: Core) -> tuple[Any, ...]:
    return core.equations, core.penalties, core.quadratics, core.priors


def _positions(core: Core) -> list[AnyArray]:
    """The arrays that tell where the terms' derivatives stand."""
    found = [at for term in (*core.quadratics, *core.priors) for at in term.positions]
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


class Compiled:
    """A core ready to be called: on the host, piece by piece, or as one traced program.

    `host` is the core with its arrays in NumPy. For the traced program they are arguments, not
    constants in it: compilation does not depend on their size, and NLPs of the same shapes share
    one compilation. What `like`, another one, has put on the device or has prepared for the host
    is not done again. A plain class with a flat tuple, because modules cost more to access than
    a small problem to evaluate.
    """

    def __init__(self, core: Core, like: "Compiled | None" = None):
        arrays, rest = eqx.partition(core, is_array)
        self.host = core
        self.leaves: list[Any] = jtu.tree_leaves(arrays)
        self.static = Static.of(arrays, rest)
        self._arrays: tuple[Array, ...] | None = None
        self._pieces: Core | None = None
        # What others have made and this one can share: not they themselves, or all would live on.
        self._known_arrays: tuple[list[Any], tuple[Array, ...]] | None = None
        self._known_pieces: tuple[Core, Core] | None = None
        if like is not None:
            self._known_arrays, self._known_pieces = like._known_arrays, like._known_pieces
            if like._arrays is not None:
                self._known_arrays = like.leaves, like._arrays
            if like._pieces is not None:
                self._known_pieces = like.host, like._pieces

    @property
    def arrays(self) -> tuple[Array, ...]:
        """The core's arrays on the device."""
        if self._arrays is None:
            leaves, arrays = self._known_arrays or ([], ())
            there = {id(leaf): at for leaf, at in zip(leaves, arrays, strict=True)}
            new = [leaf for leaf in self.leaves if id(leaf) not in there]
            with x64(), jax.ensure_compile_time_eval():
                # `jnp.asarray` would compile a program for every shape.
                there |= zip(map(id, new), jax.device_put(new), strict=True)
            self._arrays = tuple(there[id(leaf)] for leaf in self.leaves)
            self._known_arrays = None
        return self._arrays

    @property
    def pieces(self) -> Core:
        """The core for the host."""
        if self._pieces is None:
            self._pieces = self.host.on_host(self._known_pieces)
            self._known_pieces = None
        return self._pieces

    def prepare(self, gauss_newton: bool = False) -> None:
        """Compile what a solve on the host will call, side by side where there are cores."""
        jobs = self.pieces.compilations(gauss_newton) if on_host() else []
        if len(jobs) > 1:
            from concurrent.futures import ThreadPoolExecutor

            with ThreadPoolExecutor() as pool:
                list(pool.map(lambda job: job(), jobs))

    @property
    def core(self) -> Core:
        """The core, with its arrays on the device."""
        return _rebuild(self.static, self.arrays)

    def function(self, name: str) -> Callable[..., Any]:
        """One of the core's functions for concrete inputs, to be called inside `x64()`.

        On a CPU it is evaluated on the host, in NumPy, elsewhere as `traced`.
        """
        if not on_host():
            return self.traced(name)
        function = getattr(self.pieces, name)

        def quiet(*inputs: np.ndarray) -> Any:
            with np.errstate(all="ignore"):
                return function(*inputs)

        return quiet

    def traced(self, name: str) -> Callable[..., Any]:
        """One of the core's functions as a jitted program, to be called inside `x64()`."""
        return functools.partial(_call, self.static, name, self.arrays)


def _rebuild(static: Static, arrays: tuple[Array, ...]) -> Core:
    return eqx.combine(jtu.tree_unflatten(static.treedef, arrays), static.rest)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _call(static: Static, name: str, arrays: tuple[Array, ...], *inputs: Any) -> Any:
    return getattr(_rebuild(static, arrays), name)(*inputs)
