"""The algebraic equations of a model at many points, on the host: solved, and how regular."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ._args import opened
from ._dae import DAE, newton
from ._points import in_chunks, known
from ._precision import AnyArray


class Solved(NamedTuple):
    """Algebraic variables at some points, and the equations' derivatives there.

    `good`: where the equations hold; elsewhere `a` is as far as Newton's method came.
    """

    a: Float[np.ndarray, "point algebraic"]
    good: Bool[np.ndarray, " point"]
    in_state: Float[np.ndarray, "point algebraic state"]
    in_algebraic: Float[np.ndarray, "point algebraic algebraic"]


class Algebraic:
    """The algebraic equations of a model with one trajectory's `args`.

    What is compiled serves any number of points, and any trajectory with `args` of one structure.
    """

    def __init__(self, model: DAE, args: Any):
        self.known = known(model, args)

    def solve(
        self, times: Float[np.ndarray, " point"], states: Float[np.ndarray, "point state"]
    ) -> Solved:
        """The variables that solve the equations, from the model's own start."""
        return self._called(times, states, None)

    def at(
        self,
        times: Float[np.ndarray, " point"],
        states: Float[np.ndarray, "point state"],
        a: Float[np.ndarray, "point algebraic"],
    ) -> Solved:
        """The derivatives for given variables, which stay as they are."""
        return self._called(times, states, a)

    def _called(self, times: np.ndarray, states: np.ndarray, a: np.ndarray | None) -> Solved:
        search = np.full(len(times), a is None)
        count = self.known[0].num_algebraic
        given = np.zeros((len(times), count)) if a is None else a
        return Solved(
            *in_chunks(lambda *point: _solved(*self.known, *point), times, states, given, search)
        )


@eqx.filter_jit
def _solved(
    model: DAE, args: Any, times: AnyArray, states: AnyArray, given: AnyArray, search: AnyArray
) -> tuple[Array, Array, Array, Array]:
    inner = opened(args)

    def point(t: Any, y: Any, a: Any, search: Any) -> tuple[Array, Array, Array, Array]:
        # A start that solves the equation leaves Newton's method nothing to do.
        start = jnp.where(search, model.first(t, y, inner), a)
        found, good = newton(
            lambda other: jnp.where(search, model.residual(t, y, other, inner), other - a), start
        )
        slopes = jax.jacfwd(lambda y, a: model.residual(t, y, a, inner), argnums=(0, 1))(y, found)
        return found, good, *slopes

    return jax.vmap(point)(times, states, given, search)
