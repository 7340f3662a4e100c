"""What must hold beyond the model's equations, as the caller states it."""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike

from ._check import choice, describe, integer, real_numbers
from ._check import function as callable_as
from ._steady import as_invariants


_PLACES = ("nodes", "start", "end")


class Constraint(eqx.Module):
    r"""$\mathtt{lower} \le g(t, y, args, model) \le \mathtt{upper}$ along trajectories.

        jc.Constraint(lambda t, y, args: y[0] * y[1], upper=2.0)
        jc.Constraint(lambda t, y, args: jnp.sum(y), 1.0, 1.0, at="start")

    It holds at the nodes of the grid; between them the collocation polynomial may exceed it a
    little, and a rollout too. An equality at all nodes takes as many degrees of freedom as there
    are nodes, which only a model with as many weights has: for an invariant of the model itself
    use `jc.Conserving`. What bounds single components is cheaper as `jc.StateBounds`.

    **Arguments:**

    - `function`: $g$, called as `g(t, y, args)` or, if it takes four arguments,
      `g(t, y, args, model)`, with the algebraic variables of a `jc.DAE` for a parameter
      `algebraic`; returns a scalar or an array of shape `(value,)`.
    - `lower`, `upper`: numbers or arrays of shape `(value,)`; equal for an equation.
    - `at`: "nodes" for all of them, "start" or "end" for the first or last node.
    - `trajectories`: the positions of those it applies to; None for all.
    """

    function: Callable[..., Any]
    lower: Any
    upper: Any
    at: str = eqx.field(static=True)
    trajectories: tuple[int, ...] | None = eqx.field(static=True)

    def __init__(
        self,
        function: Callable[..., Any],
        lower: ArrayLike = -np.inf,
        upper: ArrayLike = np.inf,
        *,
        at: str = "nodes",
        trajectories: Sequence[int] | None = None,
    ):
        self.function = callable_as("function", function, "g(t, y, args) or g(t, y, args, model)")
        self.lower, self.upper = _sides(lower, upper)
        self.at = choice("at", at, _PLACES)
        self.trajectories = _positions(trajectories)


class StateBounds(eqx.Module):
    r"""$\mathtt{lower} \le y_c \le \mathtt{upper}$ for some components of the state.

    Bounds on the variables themselves: they cost no equation. With `lower` equal to `upper` and
    `at="end"` it is a terminal condition.

    **Arguments:**

    - `components`: their positions; None for all.
    - `lower`, `upper`: numbers or arrays of shape `(component,)`.
    - `at`, `trajectories`: as for `jc.Constraint`.
    """

    components: tuple[int, ...] | None = eqx.field(static=True)
    lower: Any
    upper: Any
    at: str = eqx.field(static=True)
    trajectories: tuple[int, ...] | None = eqx.field(static=True)

    def __init__(
        self,
        components: int | Sequence[int] | None = None,
        lower: ArrayLike = -np.inf,
        upper: ArrayLike = np.inf,
        *,
        at: str = "nodes",
        trajectories: Sequence[int] | None = None,
    ):
        if isinstance(components, (int, np.integer)):
            components = [components]
        self.components = _positions(components, "components")
        self.lower, self.upper = _sides(lower, upper)
        self.at = choice("at", at, _PLACES)
        self.trajectories = _positions(trajectories)


class Tie(eqx.Module):
    """The state at the end of trajectory `first` is that at the start of trajectory `second`."""

    first: int = eqx.field(static=True)
    second: int = eqx.field(static=True)

    def __init__(self, first: int, second: int):
        self.first = integer("first", first, 0)
        self.second = integer("second", second, 0)


def nonnegative(components: int | Sequence[int] | None = None) -> StateBounds:
    """$y_c \\ge 0$ at all nodes, for the given components or all of them."""
    return StateBounds(components, lower=0.0)


class Conserving(eqx.Module):
    r"""A model whose invariants $C y$ stay constant, in the NLP and in a rollout alike.

    $$\dot y = f - C^T (C C^T)^{-1} C f$$

    is the closest field to $f$ with $C \dot y = 0$. The value that is conserved is that at the
    start: known from `y0`, fitted, or fixed by a `jc.Constraint` with `at="start"`.

    **Arguments:**

    - `model`: the vector field $f(t, y, args)$.
    - `invariants`: $C$, shape `(state,)` or `(invariant, state)` of full row rank; for instance
      `[1, 1, 1]` for the sum of three fractions.
    """

    model: Callable[[Any, Any, Any], Any]
    projection: tuple[tuple[float, ...], ...] = eqx.field(static=True)

    def __init__(self, model: Callable[[Any, Any, Any], Any], invariants: ArrayLike):
        rows = as_invariants(invariants)
        kept = np.eye(rows.shape[1]) - np.linalg.pinv(rows) @ rows
        self.model = callable_as("model", model, "f(t, y, args)")
        self.projection = tuple(map(tuple, kept.tolist()))

    def __call__(self, t: Any, y: Array, args: Any) -> Array:
        return jnp.asarray(self.projection) @ self.model(t, y, args)


AnyConstraint = Constraint | StateBounds | Tie


def as_constraints(constraints: Any, num_trajectories: int) -> tuple[AnyConstraint, ...]:
    """`constraints` as a tuple; one alone may stand for itself."""
    kinds = (Constraint, StateBounds, Tie)
    items = (constraints,) if isinstance(constraints, kinds) else constraints
    single = not isinstance(items, (list, tuple))
    for item in (items,) if single else items:
        if single or not isinstance(item, kinds):
            raise ValueError(
                "`constraints` must hold jc.Constraint, jc.StateBounds or jc.Tie objects; "
                f"got {describe(item)}."
            )
        named = (item.first, item.second) if isinstance(item, Tie) else item.trajectories
        if named is not None and max(named, default=0) >= num_trajectories:
            raise ValueError(
                f"`constraints` must name trajectories below {num_trajectories}; got {named}."
            )
    return tuple(items)


def _sides(lower: Any, upper: Any) -> tuple[np.ndarray, np.ndarray]:
    wanted = "a number or an array of shape (value,)"
    sides = real_numbers("lower", lower, wanted), real_numbers("upper", upper, wanted)
    alike = sides[0].shape == sides[1].shape or () in (sides[0].shape, sides[1].shape)
    flat = max(side.ndim for side in sides) <= 1
    if not (alike and flat and np.all(sides[0] <= sides[1])):
        raise ValueError(
            "`lower` and `upper` must be numbers or arrays of shape (value,) with "
            f"lower <= upper; got {describe(lower)} and {describe(upper)}."
        )
    return sides


def _positions(value: Sequence[int] | None, name: str = "trajectories") -> tuple[int, ...] | None:
    if value is None:
        return None
    if not isinstance(value, (list, tuple, range)) and getattr(value, "ndim", 0) != 1:
        raise ValueError(f"`{name}` must be a list of positions; got {describe(value)}.")
    return tuple(integer(name, item, 0) for item in value)
