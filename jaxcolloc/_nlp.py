"""NLP: the nonlinear program as functions of one vector, usable without the rest."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

from ._args import Unknowns, restore
from ._callables import OfModel
from ._data import Trajectory
from ._grid import Grid
from ._precision import AnyArray, is_array, x64
from ._transcription.core import Compiled, Core
from ._transcription.layout import Layout
from ._transcription.sparse import Pattern


Bounds = tuple[Float[np.ndarray, " variable"], Float[np.ndarray, " variable"]]
RowBounds = tuple[Float[np.ndarray, " constraint"], Float[np.ndarray, " constraint"]]


class Group(eqx.Module):
    """Trajectories evaluated together: one scheme, `args` of one shape, similar lengths."""

    members: tuple[int, ...] = eqx.field(static=True)
    args: Any
    unknowns: Int[AnyArray, "traj unknown"]

    def select(self, positions: Sequence[int]) -> "Group":
        """Some of its trajectories, by their positions within it."""
        if len(positions) == len(self.members):
            return self
        index = np.array(positions)
        args = jtu.tree_map(lambda leaf: leaf[index] if is_array(leaf) else leaf, self.args)
        members = tuple(self.members[position] for position in positions)
        return Group(members, args, self.unknowns[index])


class NLP(eqx.Module):
    r"""Minimise `objective(z)` subject to bounds on `constraints(z)` and on `z`.

    $z$ holds the model's weights, each trajectory's unknowns, then the states of every node of
    every trajectory, all in units that bring them near one (`units`; `pack`, `unpack` and `args`
    translate). The constraints are the model's equations, which are zero, and then those that
    the caller has stated. All functions are pure, jitted and in float64; sparse
    matrices come as values at fixed positions, each position once:

    - `jacobian(z)` at `jacobian_structure` = (rows, columns);
    - `hessian(z, multipliers, objective_factor)` at `hessian_structure`: the lower triangle of
      the Hessian of `objective_factor * objective + multipliers @ constraints`;
    - `gauss_newton(z, objective_factor)` at `gauss_newton_structure`: the same without the
      curvature of equations and observations, positive semidefinite for convex losses.

    They can be passed on to `jax.jit` and `jax.vmap` as they are, and to `jax.grad` and its kin
    within `jax.enable_x64(True)`: a float32 program cannot differentiate a float64 function.

    Made by `jc.transcribe`, whose options are in `settings`. `print(nlp)` shows sizes and the
    block structure. Two NLPs are equal if they are the same object.
    """

    layout: Layout
    model: Any
    observe: OfModel | None
    trajectories: tuple[Trajectory, ...]
    grids: tuple[Grid, ...]
    groups: tuple[Group, ...]
    compiled: Compiled
    bounds: Bounds
    constraint_bounds: RowBounds
    units: Float[np.ndarray, " variable"]
    settings: dict[str, Any]
    jacobian_pattern: Pattern
    hessian_pattern: Pattern
    gauss_newton_pattern: Pattern

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other

    @property
    def num_variables(self) -> int:
        """The length of `z`."""
        return self.layout.num_variables

    @property
    def num_constraints(self) -> int:
        """The number of constraints."""
        return self.jacobian_pattern.shape[0]

    @property
    def row_factors(self) -> Float[np.ndarray, " constraint"]:
        """What the constraints are multiplied by to bring them near one."""
        scaling = self.compiled.core.scaling
        return np.ones(self.num_constraints) if scaling is None else np.asarray(scaling.rows)

    @property
    def num_weights(self) -> int:
        """The number of the model's weights, the first entries of `z`."""
        return self.layout.num_weights

    @property
    def num_states(self) -> int:
        """The number of components of the state."""
        return self.layout.num_states

    @property
    def jacobian_structure(self) -> tuple[Int[np.ndarray, " entry"], Int[np.ndarray, " entry"]]:
        """Rows and columns of the Jacobian's non-zeros."""
        return self.jacobian_pattern.rows, self.jacobian_pattern.columns

    @property
    def hessian_structure(self) -> tuple[Int[np.ndarray, " entry"], Int[np.ndarray, " entry"]]:
        """Rows and columns of the Hessian's non-zeros, lower triangle."""
        return self.hessian_pattern.rows, self.hessian_pattern.columns

    @property
    def gauss_newton_structure(
        self,
    ) -> tuple[Int[np.ndarray, " entry"], Int[np.ndarray, " entry"]]:
        """Rows and columns of the Gauss-Newton Hessian's non-zeros, lower triangle."""
        return self.gauss_newton_pattern.rows, self.gauss_newton_pattern.columns

    def objective(self, z: ArrayLike) -> Float[Array, ""]:
        """The losses of the data plus the ridge penalty (Eq. 11)."""
        return self._call("objective", z)

    def gradient(self, z: ArrayLike) -> Float[Array, " variable"]:
        """The gradient of the objective."""
        return self._call("gradient", z)

    def constraints(self, z: ArrayLike) -> Float[Array, " constraint"]:
        """The collocation and continuity equations, zero where they hold, then what was stated."""
        return self._call("constraints", z)

    def jacobian(self, z: ArrayLike) -> Float[Array, " entry"]:
        """The values of the constraints' Jacobian at `jacobian_structure`."""
        return self._call("jacobian", z)

    def hessian(
        self, z: ArrayLike, multipliers: ArrayLike, objective_factor: ArrayLike = 1.0
    ) -> Float[Array, " entry"]:
        """The values of the Lagrangian's Hessian at `hessian_structure`."""
        return self._call("hessian", z, multipliers, objective_factor)

    def gauss_newton(
        self, z: ArrayLike, objective_factor: ArrayLike = 1.0
    ) -> Float[Array, " entry"]:
        """The values of the Gauss-Newton Hessian at `gauss_newton_structure`."""
        return self._call("gauss_newton", z, objective_factor)

    def pack(self, model: Any, states: Sequence[ArrayLike]) -> Float[Array, " variable"]:
        """`z` from a model and one array of shape `(node, state)` per trajectory.

        Unknowns have their starts.

        **Errors:** `ValueError` where the model's weights or the states have other shapes.
        """
        z = self.pack_head(self.layout.model.flatten("model", model), states)
        with x64():
            return jnp.asarray(z)

    def pack_head(
        self, head: Float[np.ndarray, " _"], states: Sequence[ArrayLike]
    ) -> Float[np.ndarray, " variable"]:
        """`z` from weights and unknowns in the caller's units, as `head(z)` gives them.

        Unknowns have their starts if `head` holds the weights only.
        """
        flat = self.layout.check_states(states)
        if len(head) == self.num_weights:
            starts = [Unknowns.of(item.args).start for item in self.trajectories]
            head = np.concatenate([head, *starts])
        return self.layout.join(head, flat) / self.units

    def head(self, z: ArrayLike) -> Float[np.ndarray, " head"]:
        """The weights and unknowns in `z`, in the caller's units."""
        return np.asarray(self.layout.head(np.asarray(self._checked(z)) * self.units))

    def unpack(self, z: ArrayLike) -> tuple[Any, list[Float[np.ndarray, "node state"]]]:
        """The model, in the dtypes it came with, and the states of each trajectory."""
        flat = np.asarray(self._checked(z)) * self.units
        with x64():
            model = self.layout.model.restore(self.layout.weights(flat))
        return model, self.layout.split(flat)

    def args(self, z: ArrayLike) -> tuple[Any, ...]:
        """The `args` of each trajectory, with values in the place of its unknowns."""
        flat = np.asarray(self._checked(z)) * self.units
        with x64():
            return tuple(
                restore(item.args, flat[self.layout.unknowns(position)])
                for position, item in enumerate(self.trajectories)
            )

    def _call(self, name: str, z: ArrayLike, *inputs: ArrayLike) -> Any:
        with x64():
            others = [jnp.asarray(item, jnp.float64) for item in inputs]
            return self.compiled.function(name)(self._vector(z), *others)

    def _vector(self, z: ArrayLike) -> Float[Array, " variable"]:
        return jnp.asarray(self._checked(z), jnp.float64)

    def _checked(self, z: ArrayLike) -> Any:
        if np.shape(z) != (self.num_variables,):
            raise ValueError(
                f"`z` must have shape ({self.num_variables},), weights, unknowns, states; "
                f"got shape {np.shape(z)}."
            )
        return z

    def __str__(self) -> str:
        return _screen(self)

    def __repr__(self) -> str:
        return (
            f"NLP({self.num_variables} variables, {self.num_constraints} constraints, "
            f"{len(self.trajectories)} trajectories)"
        )


def _screen(nlp: NLP) -> str:
    nodes = sum(grid.num_nodes for grid in nlp.grids)
    samples = sum(int(item.observed.sum()) for item in nlp.trajectories)
    lower, upper = nlp.bounds
    fixed = int(np.sum(lower == upper))
    bounded = int(np.sum((np.isfinite(lower) | np.isfinite(upper)) & (lower < upper)))
    row_lower, row_upper = nlp.constraint_bounds
    equal = int(np.sum(row_lower == row_upper))
    more = "" if equal == nlp.num_constraints else f", {nlp.num_constraints - equal} inequalities"
    own = nlp.layout.num_head - nlp.num_weights
    lines = [
        f"NLP: {nlp.num_variables} variables, {equal} equality constraints{more}",
        f"  weights       {nlp.num_weights}" + (f", unknowns {own}" if own else ""),
        f"  states        {nodes * nlp.num_states} = {nodes} nodes x {nlp.num_states}",
        f"  bounded       {bounded}, fixed {fixed}",
        f"  trajectories  {len(nlp.trajectories)} with {samples} observation times",
    ]
    lines += [f"  grid          {text}" for text in _grid_lines(nlp.grids)]
    for name, pattern in (("Jacobian", nlp.jacobian_pattern), ("Hessian", nlp.hessian_pattern)):
        size = pattern.shape[0] * pattern.shape[1]
        if name == "Hessian":
            size = pattern.shape[0] * (pattern.shape[0] + 1) // 2
        share = 100 * pattern.num_entries / max(size, 1)
        lines.append(f"  {name:<12}  {pattern.num_entries} non-zeros ({share:.2g}%)")
    left = _picture(nlp.jacobian_pattern, "Jacobian", nlp.layout.num_head)
    right = _picture(nlp.hessian_pattern, "Hessian", nlp.layout.num_head)
    height = max(len(left), len(right))
    width = max(len(line) for line in left)
    left += [""] * (height - len(left))
    right += [""] * (height - len(right))
    lines.append("")
    lines += [f"  {a:<{width}}    {b}".rstrip() for a, b in zip(left, right, strict=True)]
    return "\n".join(lines)


def _grid_lines(grids: tuple[Grid, ...]) -> list[str]:
    texts: dict[str, int] = {}
    for grid in grids:
        texts[repr(grid)] = texts.get(repr(grid), 0) + 1
    shown = [f"{text}" + (f" x {count}" if count > 1 else "") for text, count in texts.items()]
    return shown if len(shown) <= 3 else [*shown[:2], f"and {len(shown) - 2} others"]


def _picture(pattern: Pattern, name: str, num_weights: int, cells: int = 24) -> list[str]:
    """The pattern on a small raster, weights apart from states."""
    rows = _cells(pattern.rows, pattern.shape[0], num_weights if name == "Hessian" else 0, cells)
    columns = _cells(pattern.columns, pattern.shape[1], num_weights, cells)
    row_of, row_split, num_rows = rows
    column_of, column_split, num_columns = columns
    raster = np.zeros((num_rows, num_columns), int)
    np.add.at(raster, (row_of, column_of), 1)
    lines = [f"{name} (weights | states)"]
    for index, row in enumerate(raster):
        if index == row_split and index:
            lines.append("-" * (num_columns + 1))
        marks = ["#" if count else "." for count in row]
        lines.append("".join(marks[:column_split]) + "|" + "".join(marks[column_split:]))
    return lines


def _cells(
    index: np.ndarray, size: int, num_weights: int, cells: int
) -> tuple[np.ndarray, int, int]:
    """Which raster cell each index falls in, where the states begin, how many cells."""
    head = min(num_weights, 6)
    tail = min(size - num_weights, cells - 6)
    in_weights = index < num_weights
    first = index * head // max(num_weights, 1)
    second = head + (index - num_weights) * tail // max(size - num_weights, 1)
    return np.where(in_weights, first, second), head, head + tail


def make_nlp(core: Core, patterns: tuple[Pattern, Pattern, Pattern], **fields: Any) -> NLP:
    """Put an NLP together."""
    return NLP(
        layout=core.layout,
        compiled=Compiled(core),
        jacobian_pattern=patterns[0],
        hessian_pattern=patterns[1],
        gauss_newton_pattern=patterns[2],
        **fields,
    )
