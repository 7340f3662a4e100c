r"""DAE: a model with algebraic equations, solved for what they determine wherever it is called."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from ._callables import as_floats, explained
from ._check import describe, function, integer, real_numbers
from ._precision import is_array


_FORM = "f(t, y, a, args)"
# What to do where the index is higher than 1.
REDUCE = (
    "Differentiate such an equation in time, with `field` in the place of the state's derivatives, "
    "until the algebraic variables come in, and pass the result; or leave out what nothing "
    "determines."
)
_MAX_STEPS, _HALVINGS = 50, 12
# The share of a step by which its successor must be shorter (Deuflhard's natural monotonicity).
_DESCENT = 0.25


class DAE(eqx.Module):
    r"""A model with algebraic variables $a$, a differential-algebraic equation of index 1:

    $$\dot y = f(t, y, a, \mathtt{args}), \qquad 0 = g(t, y, a, \mathtt{args}).$$

        class Manifold(eqx.Module):
            valve: eqx.nn.MLP

            def levels(self, t, y, a, args):
                return jnp.stack([args(t) - a[0], a[0] - 0.3 * y[1]])

            def flow(self, t, y, a, args):
                return a - self.valve(y[:1] - y[1:])

        manifold = Manifold(net)
        model = jc.DAE(manifold.levels, manifold.flow, 1)

    In `jc.transcribe` and all that uses it, the $a$ are variables at every node, and $g = 0$ are
    constraints. Called as `model(t, y, args)`, by Diffrax or by `jc.simulate`, it solves $g = 0$ by
    a damped Newton method from `start`, with exact derivatives of any order, and returns $f$; where
    that fails, NaN. `model.algebraic(t, y, args)` is $a$. Weights may be anywhere in `field` and
    `equations`. A function that has a parameter `algebraic` (`observe`, that of a `jc.Constraint`)
    gets $a$ by that name.

    $\partial g / \partial a$ must be regular: index 1. An equation of $y$ alone, such as the length
    of a pendulum, has to be differentiated in time, and $\dot y$ replaced by $f$, until $a$ comes
    in.

    **Arguments:**

    - `field`: $f$, which returns an array of shape `(state,)`.
    - `equations`: $g$, which returns one of shape `(algebraic,)`. Where both use the same weights,
      pass two methods of one `eqx.Module`, which is then `model.system`.
    - `num_algebraic`: the number of algebraic variables.
    - `start`: where the Newton method starts: a number, an array of shape `(algebraic,)`, or a
      function of `(t, y, args)` that returns it (or a method of the same module). Its size tells
      in which unit each $a$ is seen.

    **Errors:** `ValueError` for what cannot be called, weights that are in both parts, a `start` of
    another shape.
    """

    field: Callable[..., Any]
    equations: Callable[..., Any]
    system: Any
    num_algebraic: int = eqx.field(static=True)
    start: Any = eqx.field(static=True)

    def __init__(
        self,
        field: Callable[..., Any],
        equations: Callable[..., Any],
        num_algebraic: int,
        start: Any = 1.0,
    ):
        function("field", field, _FORM)
        function("equations", equations, _FORM)
        self.num_algebraic = integer("num_algebraic", num_algebraic, 1)
        owner = _owner(equations)
        shared = owner is not None and _owner(field) is owner
        self.system = owner if shared else None
        self.field = field.__func__ if shared else field  # type: ignore[attr-defined]
        self.equations = equations.__func__ if shared else equations  # type: ignore[attr-defined]
        if not shared:
            _refuse_common(field, equations)
        self.start = _as_start(start, self.num_algebraic, self.system)

    def __call__(self, t: Any, y: Array, args: Any) -> Array:
        """$f$ with the $a$ that solve the equations; NaN where Newton's method fails."""
        return self.rate(t, y, self.algebraic(t, y, args), args)

    def algebraic(self, t: Any, y: Array, args: Any) -> Float[Array, " algebraic"]:
        """The $a$ that solve the equations; NaN where Newton's method fails."""

        def residual(a: Array) -> Array:
            return self.residual(t, y, a, args)

        def solved(residual: Any, start: Array) -> Array:
            found, good = newton(residual, start)
            return jnp.where(good, found, jnp.nan)

        start = self.first(t, y, args)
        return lax.custom_root(residual, start, solved, _linear_solve)

    def rate(self, t: Any, y: Array, a: Array, args: Any) -> Array:
        """$f(t, y, a, args)$."""
        wanted = f"an array of shape (state,) = {y.shape}"
        found = self._called("field", self.field, t, y, a, args)
        value = as_floats("field", found, wanted, y.dtype)
        if value.shape != y.shape:
            raise ValueError(
                f"`field` must return {wanted} when called as {_FORM}; got {value.shape}. "
                "If the state has more components than the data, pass `num_states`."
            )
        return value

    def residual(self, t: Any, y: Array, a: Array, args: Any) -> Float[Array, " algebraic"]:
        """$g(t, y, a, args)$."""
        wanted = f"an array of shape (algebraic,) = ({self.num_algebraic},)"
        found = self._called("equations", self.equations, t, y, a, args)
        value = as_floats("equations", found, wanted, a.dtype)
        if value.shape != (self.num_algebraic,):
            raise ValueError(
                f"`equations` must return {wanted} when called as {_FORM}; got {value.shape}."
            )
        return value

    def first(self, t: Any, y: Array, args: Any) -> Float[Array, " algebraic"]:
        """Where Newton's method starts."""
        dtype = jnp.result_type(y.dtype, jnp.float32)
        shape = (self.num_algebraic,)
        if not callable(self.start):
            return jnp.asarray(np.asarray(self.start), dtype)
        value = self._called("start", self.start, t, y, args)
        wanted = f"a number or an array of shape (algebraic,) = {shape}"
        array = as_floats("start", value, wanted, dtype)
        if array.shape not in ((), shape):
            raise ValueError(f"`start` must return {wanted}; got shape {array.shape}.")
        return lax.stop_gradient(jnp.broadcast_to(array, shape))

    def _called(self, name: str, part: Callable[..., Any], *inputs: Any) -> Any:
        with explained(name, "f(t, y, args)" if name == "start" else _FORM, inputs[-1]):
            return part(*inputs) if self.system is None else part(self.system, *inputs)


class _Apart(NamedTuple):
    """A function that is called with a module in front, which is none of its matters."""

    function: Callable[..., Any]

    def __call__(self, system: Any, *inputs: Any) -> Any:
        return self.function(*inputs)


def newton(residual: Callable[[Array], Array], start: Array) -> tuple[Array, Array]:
    """A root of `residual` from `start`, and whether it is one.

    Damped by the length of the simplified step. It has converged where a step is below the root of
    the precision, of each entry's size or of what the start's size says is small, or where steps
    have come down to rounding.
    """
    precision = float(np.finfo(start.dtype).eps)
    size = jnp.where(start == 0, 1.0, jnp.abs(start))

    def step(state: Any) -> Any:
        a, before, _, count = state
        inverse = _inverse(jax.jacfwd(residual)(a))
        change = -inverse @ residual(a)
        length = _length(change, size)
        here = jnp.abs(change) <= jnp.maximum(precision**0.5 * jnp.abs(a), 100 * precision * size)
        scale = jnp.max(jnp.abs(a)) + jnp.max(size)
        at_rest = (length >= 0.5 * before) & (jnp.max(jnp.abs(change)) <= precision**0.75 * scale)
        good = jnp.all(here) | at_rest

        def too_long(trial: Any) -> Any:
            share, halved = trial
            after = _length(inverse @ residual(a + share * change), size)
            short = ~jnp.isnan(after) & (good | (after <= (1 - _DESCENT * share) * length))
            return ~short & (halved < _HALVINGS)

        share, _ = lax.while_loop(
            too_long, lambda trial: (trial[0] / 2, trial[1] + 1), (jnp.ones((), a.dtype), 0)
        )
        return a + share * change, length, good, count + 1

    def going(state: Any) -> Any:
        a, _, good, count = state
        return ~good & (count < _MAX_STEPS) & jnp.all(jnp.isfinite(a))

    first = (start, jnp.full((), jnp.inf, start.dtype), jnp.asarray(False), 0)
    found, _, good, _ = lax.while_loop(going, step, first)
    return found, good & jnp.all(jnp.isfinite(found))


def _length(change: Array, size: Array) -> Array:
    return jnp.max(jnp.abs(change / size))


def _inverse(matrix: Array) -> Array:
    return 1 / matrix if matrix.shape == (1, 1) else jnp.linalg.inv(matrix)


def _linear_solve(function: Callable[[Array], Array], right: Array) -> Array:
    """The solution of a linear system that is given as a function."""
    return _inverse(jax.jacfwd(function)(jnp.zeros_like(right))) @ right


def _owner(part: Any) -> Any:
    """The module of which a function is a method; None if of none."""
    owner = getattr(part, "__self__", None)
    return owner if isinstance(owner, eqx.Module) and hasattr(part, "__func__") else None


def _refuse_common(field: Any, equations: Any) -> None:
    """Refuse weights that would be two, trained apart, though they are one array."""
    mine, others = (
        {id(leaf) for leaf in jtu.tree_leaves(part) if is_array(leaf)}
        for part in (field, equations)
    )
    if mine & others:
        raise ValueError(
            "`equations` must not hold arrays that `field` holds as well: they would be trained "
            "apart. Make both methods of one eqx.Module: jc.DAE(system.field, system.equations, "
            "...)."
        )


def _as_start(start: Any, count: int, system: Any) -> Any:
    """A tuple of numbers, or a function without arrays."""
    if callable(start) and not is_array(start):
        if isinstance(start, type):
            raise ValueError(f"`start` must be numbers or a function; got {describe(start)}.")
        if system is not None and _owner(start) is system:
            return start.__func__
        if any(is_array(leaf) for leaf in jtu.tree_leaves(start)):
            raise ValueError(
                "`start` must hold no arrays: it is no part of what is trained. Pass a method of "
                "the module whose methods `field` and `equations` are, or a function."
            )
        return start if system is None else _Apart(start)
    wanted = f"a number, an array of shape (algebraic,) = ({count},), or a function (t, y, args)"
    array = real_numbers("start", start, wanted)
    if array.shape not in ((), (1,), (count,)) or not np.all(np.isfinite(array)):
        raise ValueError(f"`start` must be {wanted}, finite; got {describe(start)}.")
    return tuple(np.broadcast_to(array, (count,)).tolist())
