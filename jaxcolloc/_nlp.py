"""NLP: the nonlinear program as functions of one vector, usable without the rest."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

from ._algebraic import Algebraic
from ._args import Unknowns, restore
from ._callables import OfModel
from ._check import describe, real_numbers, refuse_traced, within_jit
from ._constraints import as_constraints
from ._data import Trajectory
from ._grid import Grid
from ._jumps import Jump
from ._likelihoods import has_information
from ._precision import x64
from ._ridge import ridge_factors
from ._settings import Settings
from ._transcription import Parts, build
from ._transcription.bounds import check_freedom, variable_bounds
from ._transcription.core import Compiled, Core
from ._transcription.groups import Group
from ._transcription.layout import Layout
from ._transcription.objective_terms import Quadratic
from ._transcription.printing import screen


Bounds = tuple[Float[np.ndarray, " variable"], Float[np.ndarray, " variable"]]
RowBounds = tuple[Float[np.ndarray, " constraint"], Float[np.ndarray, " constraint"]]


def check_nlp(name: str, value: Any) -> None:
    """Refuse what is no NLP, and one that is being traced; `name` is the caller's argument."""
    if not isinstance(value, NLP):
        raise ValueError(f"`{name}` must come from jc.transcribe; got {describe(value)}.")
    refuse_traced(name, value)


class NLP(eqx.Module):
    r"""Minimise `objective(z)` subject to bounds on `constraints(z)` and on `z`.

    $z$ holds the model's weights, each trajectory's unknowns, then the states of every node of
    every trajectory (with its algebraic variables, of a `jc.DAE`), all in units that bring them
    near one (`units`; `pack`, `unpack` and `args` translate). The constraints are the model's
    equations, which are zero, and then those that the caller has stated. All functions are pure
    and in float64; sparse matrices come as values at fixed positions, each position once:

    - `jacobian(z)` at `jacobian_structure` = (rows, columns);
    - `hessian(z, multipliers, objective_factor)` at `hessian_structure`: the lower triangle of
      the Hessian of `objective_factor * objective + multipliers @ constraints`;
    - `gauss_newton(z, objective_factor)` at `gauss_newton_structure`: the same without the
      curvature of equations and observations, positive semidefinite for convex losses.

    They can be passed on to `jax.jit` and `jax.vmap` as they are, and to `jax.grad` and its kin
    within `jax.enable_x64(True)`: a float32 program cannot differentiate a float64 function. Called
    with numbers on a CPU they compile the model for a fixed number of points only, and sum and sort
    on the host, so that another grid or other data compile nothing.

    Made by `jc.transcribe`, whose options are in `settings`. `print(nlp)` shows sizes and the
    block structure. Two NLPs are equal if they are the same object.
    """

    parts: Parts

    @classmethod
    def of(cls, parts: Parts) -> "NLP":
        """From what `build` has made."""
        return cls(parts)

    @property
    def layout(self) -> Layout:
        """The order of the variables."""
        return self.parts.layout

    @property
    def model(self) -> Any:
        """The model that was transcribed."""
        return self.parts.model

    @property
    def observe(self) -> OfModel | None:
        """What is measured; None for the first components of the state."""
        return self.parts.observe

    @property
    def trajectories(self) -> tuple[Trajectory, ...]:
        """The data, with the weights that they have in the objective."""
        return self.parts.trajectories

    @property
    def grids(self) -> tuple[Grid, ...]:
        """The grid of each trajectory."""
        return self.parts.grids

    @property
    def groups(self) -> tuple[Group, ...]:
        """The trajectories that are evaluated together."""
        return self.parts.groups

    def group_of(self, trajectory: int) -> Group:
        """A group of this trajectory alone."""
        group = next(item for item in self.groups if trajectory in item.members)
        return group.select([group.members.index(trajectory)])

    @property
    def compiled(self) -> Compiled:
        """The functions, to be called inside `x64()`."""
        return self.parts.compiled

    @property
    def bounds(self) -> Bounds:
        """Lower and upper bounds of `z`."""
        return self.parts.bounds

    @property
    def constraint_bounds(self) -> RowBounds:
        """Lower and upper bounds of `constraints(z)`."""
        return self.parts.constraint_bounds

    @property
    def settings(self) -> Settings:
        """The options of `jc.transcribe`."""
        return self.parts.settings

    @property
    def units(self) -> Float[np.ndarray, " variable"]:
        """What `z` is multiplied by to be in the caller's units: one for weights and unknowns."""
        return self.parts.scale.variables(self.layout)

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
        return self.parts.jacobian_pattern.shape[0]

    @property
    def row_factors(self) -> Float[np.ndarray, " constraint"]:
        """What the constraints are multiplied by to bring them near one."""
        scaling = self.compiled.host.scaling
        return np.ones(self.num_constraints) if scaling is None else np.asarray(scaling.rows)

    @property
    def num_weights(self) -> int:
        """The number of the model's weights, the first entries of `z`."""
        return self.layout.num_weights

    @property
    def num_states(self) -> int:
        """The number of components of the state."""
        return self.layout.num_differential

    @property
    def num_algebraic(self) -> int:
        """The number of algebraic variables at every node, of a `jc.DAE`."""
        return self.layout.num_algebraic

    @property
    def jacobian_structure(self) -> tuple[Int[np.ndarray, " entry"], Int[np.ndarray, " entry"]]:
        """Rows and columns of the Jacobian's non-zeros."""
        return self.parts.jacobian_pattern.rows, self.parts.jacobian_pattern.columns

    @property
    def hessian_structure(self) -> tuple[Int[np.ndarray, " entry"], Int[np.ndarray, " entry"]]:
        """Rows and columns of the Hessian's non-zeros, lower triangle."""
        return self.parts.hessian_pattern.rows, self.parts.hessian_pattern.columns

    @property
    def gauss_newton_structure(
        self,
    ) -> tuple[Int[np.ndarray, " entry"], Int[np.ndarray, " entry"]]:
        """Rows and columns of the Gauss-Newton Hessian's non-zeros, lower triangle."""
        return self.parts.gauss_newton_pattern.rows, self.parts.gauss_newton_pattern.columns

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
        """The values of the Gauss-Newton Hessian at `gauss_newton_structure`.

        **Errors:** `ValueError` where the loss is a likelihood of the caller's own.
        """
        if not has_information(self.settings.loss):
            raise ValueError(
                "`loss` must not be a likelihood of your own for a Gauss-Newton Hessian, which "
                "is not known; `jc.Gaussian` and `jc.StudentT` have one."
            )
        return self._call("gauss_newton", z, objective_factor)

    def pack(self, model: Any, states: Sequence[ArrayLike]) -> Float[Array, " variable"]:
        """`z` from a model and one array of shape `(node, state)` per trajectory.

        Unknowns have their starts, algebraic variables the values that solve their equations; or
        those that stand behind the states: the arrays may have their columns as well.

        **Errors:** `ValueError` where the model's weights or the states have other shapes.
        """
        z = self.pack_head(self.layout.model.flatten("model", model), states)
        with x64():
            return jax.device_put(z)

    def pack_head(
        self, head: Float[np.ndarray, " _"], states: Sequence[ArrayLike]
    ) -> Float[np.ndarray, " variable"]:
        """`z` from weights and unknowns, as `head(z)` gives them, and states.

        Unknowns have their starts if `head` holds the weights only. Algebraic variables that the
        states come without solve their equations, or are where Newton's method ends.
        """
        flat = self.layout.check_states(states)
        if len(head) == self.num_weights:
            starts = [Unknowns.of(item.constants).start for item in self.trajectories]
            head = np.concatenate([head, *starts])
        if flat.shape[1] < self.layout.num_states:
            flat = np.concatenate([flat, self._solved(head, flat)], axis=1)
        return self.layout.join(head, flat / self.parts.scale.node)

    def _solved(
        self, head: Float[np.ndarray, " head"], states: Float[np.ndarray, "node state"]
    ) -> Float[np.ndarray, "node algebraic"]:
        """Algebraic variables at all nodes; units where Newton's method leaves no numbers."""
        z = np.concatenate([head, np.zeros(self.num_variables - len(head))])
        model, found = self.model_at(z), []
        parts = np.split(states, self.layout.first_nodes[1:])
        for grid, args, own in zip(self.grids, self.args(z), parts, strict=True):
            found.append(Algebraic(model, args).solve(grid.times, own).a)
        a = np.concatenate(found)
        return np.where(np.isfinite(a), a, self.parts.scale.algebraic)

    def head(self, z: ArrayLike) -> Float[np.ndarray, " head"]:
        """The weights and unknowns in `z`, on the optimizer's scale."""
        return np.asarray(self.layout.head(np.asarray(self._checked(z))))

    def unpack(self, z: ArrayLike) -> tuple[Any, list[Float[np.ndarray, "node state"]]]:
        """The model, in the dtypes it came with, and the states of each trajectory."""
        return self.model_at(z), self.states_at(z)

    def model_at(self, z: ArrayLike) -> Any:
        """The model with the weights in `z`, in the dtypes it came with."""
        with x64():
            return self.layout.model.restore(self.layout.weights(np.asarray(self._checked(z))))

    def states_at(self, z: ArrayLike) -> list[Float[np.ndarray, "node state"]]:
        """The states of each trajectory in `z`, in the caller's units."""
        return [item[:, : self.num_states] for item in self.node_values(z)]

    def algebraic_at(self, z: ArrayLike) -> list[Float[np.ndarray, "node algebraic"]]:
        """The algebraic variables of each trajectory in `z`, in the caller's units."""
        return [item[:, self.num_states :] for item in self.node_values(z)]

    def node_values(self, z: ArrayLike) -> list[Float[np.ndarray, "node node_state"]]:
        """States and, behind them, algebraic variables of each trajectory in `z`."""
        return self.layout.split(np.asarray(self._checked(z)) * self.units)

    def args(self, z: ArrayLike) -> tuple[Any, ...]:
        """The `args` of each trajectory, with values in the place of its unknowns."""
        flat = np.asarray(self._checked(z))
        with x64():
            return tuple(
                restore(item.args, flat[self.layout.unknowns(position)])
                for position, item in enumerate(self.trajectories)
            )

    def jumps(self, z: ArrayLike) -> tuple[tuple[Jump, ...], ...]:
        """The jumps of each trajectory, with values in the place of unknown amounts."""
        return self.jumps_of(self.head(z))

    def jumps_of(self, head: Float[np.ndarray, " head"]) -> tuple[tuple[Jump, ...], ...]:
        """The same from weights and unknowns, as `head(z)` gives them."""
        found = []
        with x64():
            for position, item in enumerate(self.trajectories):
                own = head[self.layout.unknowns(position)][len(Unknowns.of(item.args).start) :]
                filled = []
                for jump in item.jumps:
                    filled.append(jump.filled(own))
                    own = own[len(Unknowns.of(jump.add).start) :]
                found.append(tuple(filled))
        return tuple(found)

    def inside(self, z: ArrayLike) -> Float[np.ndarray, " variable"]:
        """`z` with every variable moved into its bounds; known initial states are set."""
        return np.clip(np.array(self._checked(z), np.float64), *self.bounds)

    def with_data(self, data: Trajectory | Sequence[Trajectory]) -> "NLP":
        """The same problem with other data: other samples, weights, inputs, known starts.

        As many trajectories, on the same grids, in the same units. Where as many samples lie in
        the same intervals, and `args` have the same structure, nothing is detected or compiled
        anew, as in moving horizon estimation.

        **Errors:** `ValueError` for other numbers of trajectories or channels, and for data that
        the grids do not cover.
        """
        # The units stay, whatever the magnitude of the new data.
        settings = self.settings.changed(**self.parts.scale.options)
        return NLP.of(build(self.model, data, self.grids, settings, self.parts))

    def with_l2(self, l2: Any) -> "NLP":
        """The same problem with another ridge penalty on the weights, as in `jc.transcribe`.

        Nothing is detected or compiled anew, unless other weights are penalised than before.
        """
        settings = self.settings.changed(l2=l2)
        factor = np.zeros(self.layout.num_head)
        ridge, *others = self.compiled.host.quadratics
        factor[ridge.at] = ridge.factor
        factor[: self.num_weights] = ridge_factors(self.layout.model, l2, self.model)
        if not np.array_equal(np.flatnonzero(factor), ridge.at):
            return NLP.of(build(self.model, self.trajectories, self.grids, settings, self.parts))
        other = dataclasses.replace(ridge, factor=factor[ridge.at])
        return self._with_quadratics((other, *others), settings)

    def with_bounds(self, *, state_bounds: Any = None, weight_bounds: Any = None) -> "NLP":
        """The same problem with other bounds, as in `jc.transcribe`; None for none."""
        settings = self.settings.changed(state_bounds=state_bounds, weight_bounds=weight_bounds)
        stated = as_constraints(settings.constraints, len(self.grids))
        bounds = variable_bounds(
            self.layout, self.model, self.trajectories, weight_bounds, state_bounds, stated,
            settings.algebraic_bounds,
        )  # fmt: skip
        check_freedom(bounds, self.constraint_bounds)
        lower, upper = (side / self.units for side in bounds)
        return self._with(bounds=(lower, upper), settings=settings)

    def with_weights_held(self, weights: Float[np.ndarray, " weight"]) -> "NLP":
        """The same problem with the weights held at these values, or at the nearest bound.

        To be applied last: other bounds and other data free them again.
        """
        return self.with_held(np.arange(self.num_weights), weights)

    def with_held(
        self, at: Int[np.ndarray, " entry"], values: Float[np.ndarray, " entry"]
    ) -> "NLP":
        """The same problem with the variables at these positions held, or at the nearest bound.

        Values are in the optimizer's units. Nothing is compiled anew. To be applied last: other
        bounds and other data free them again.
        """
        lower, upper = (side.copy() for side in self.bounds)
        # A solver takes a variable between equal bounds out of the problem.
        lower[at] = upper[at] = np.clip(values, lower[at], upper[at])
        return self._with(bounds=(lower, upper))

    def with_ridge_shared(
        self, of_weights: float, of_unknowns: float, of_priors: float = 1.0
    ) -> "NLP":
        """The same problem with the ridge penalty's factors multiplied by these.

        And those of the weights' priors by `of_priors`. To be applied last: another penalty and
        other data have their own.
        """
        ridge, *others = self.compiled.host.quadratics
        share = np.where(ridge.at < self.num_weights, of_weights, of_unknowns)
        other = ridge.scaled(share)
        priors = tuple(
            term.scaled(np.where(np.asarray(term.at) < self.num_weights, of_priors, 1.0))
            for term in self.compiled.host.priors
        )
        core = dataclasses.replace(self.compiled.host, quadratics=(other, *others), priors=priors)
        return self._with(compiled=Compiled(core, self.compiled))

    def with_pull(
        self,
        at: Int[np.ndarray, " entry"],
        factor: Float[np.ndarray, " entry"],
        center: Float[np.ndarray, " entry"],
    ) -> "NLP":
        r"""The same problem with $\sum_i \mathtt{factor}_i (x_i - c_i)^2$ added to its objective.

        $x$ are the variables at the positions `at`, in the caller's units. It replaces the pull
        that the problem has already; one at the same positions changes numbers only. To be applied
        last: other data come without it.
        """
        core = self.compiled.host
        pull = Quadratic(np.asarray(at, np.int32), factor, center)
        quadratics = (core.quadratics[0], pull)
        if len(core.quadratics) == 2 and np.array_equal(core.quadratics[1].at, at):
            return self._with_quadratics(quadratics, self.settings)
        more, patterns = Core.build(
            self.layout, core.equations, core.penalties, quadratics, core.priors,
            (self.units, self.row_factors),
        )  # fmt: skip
        assert patterns is not None
        return self._with(
            compiled=Compiled(more, self.compiled),
            jacobian_pattern=patterns[0],
            hessian_pattern=patterns[1],
            gauss_newton_pattern=patterns[2],
        )

    def _with_quadratics(self, quadratics: tuple[Quadratic, ...], settings: Settings) -> "NLP":
        core = dataclasses.replace(self.compiled.host, quadratics=quadratics)
        return self._with(compiled=Compiled(core, self.compiled), settings=settings)

    def _with(self, **changes: Any) -> "NLP":
        """The same problem with some of its parts replaced."""
        return NLP(dataclasses.replace(self.parts, **changes))

    def _call(self, name: str, z: ArrayLike, *inputs: ArrayLike) -> Any:
        values = (self._checked(z), *inputs)
        with x64():
            if within_jit() or any(isinstance(item, jax.core.Tracer) for item in values):
                wide = [jnp.asarray(item, jnp.float64) for item in values]
                return self.compiled.traced(name)(*wide)
            numbers = [np.asarray(item, np.float64) for item in values]
            return jax.device_put(self.compiled.function(name)(*numbers))

    def _checked(self, z: ArrayLike) -> Any:
        wanted = f"numbers of shape ({self.num_variables},): weights, unknowns, states"
        if not isinstance(z, jax.Array):
            z = real_numbers("z", z, wanted)
        if z.shape != (self.num_variables,) or not jnp.issubdtype(z.dtype, jnp.floating):
            raise ValueError(f"`z` must be {wanted}; got {describe(z)}.")
        return z

    def __str__(self) -> str:
        return screen(self.parts)

    def __repr__(self) -> str:
        return (
            f"NLP({self.num_variables} variables, {self.num_constraints} constraints, "
            f"{len(self.trajectories)} trajectories)"
        )
