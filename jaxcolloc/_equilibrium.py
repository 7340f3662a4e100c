"""steady_state: a state at which a model rests, and its derivatives by weights and `args`."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jax import lax
from jaxtyping import Array, ArrayLike, Float, Int

from ._args import check_leaf, check_values, number_to_array, opened, sealed
from ._callables import as_floats, explained
from ._check import describe, finite, flag, float_array, function, within_jit
from ._precision import caller_float, scope, to_float64
from ._steady import SteadyState, null_vector


# Steps at most; the change in a step, as a share of a state's size, at which they end; and how much
# longer than the first one a step must be by then.
_MOST, _TOL, _LONG = 300, 1e-9, 1e12
# A step grows as the field falls, by these factors at least and at most, and a little more.
_LEAST, _LARGEST, _MORE = 1 / 3, 4.0, 1.5
_REFUSED = 0.25
# A component smaller than this share of the largest is not told from zero.
_SMALL = 1e-8


def steady_state(
    model: Callable[[Any, Any, Any], Any],
    guess: ArrayLike,
    args: Any = None,
    *,
    t: float = 0.0,
    known: ArrayLike | None = None,
    invariants: ArrayLike | None = None,
    throw: bool = True,
) -> Float[Array, " state"]:
    r"""The state at which $f(t, y, args) = 0$ and to which the model comes from a guess.

        y0 = jc.steady_state(sol.model, [1.0, 1.0], {"dose": 0.0})
        ys = jc.simulate(sol.model, ts, y0, {"dose": 2.0})

    Implicit Euler steps that grow as the field falls (pseudo-transient continuation, Kelley and
    Keyes, SIAM J. Numer. Anal. 35, 1998) follow the model in the beginning and are Newton's in the
    end. In float64, returned in the
    caller's default float. Within JAX's transformations it has derivatives by the model's weights
    and `args`, from the implicit function theorem.

    **Arguments:**

    - `model`: the vector field, for instance `sol.model`.
    - `guess`: where the search starts, shape `(state,)`.
    - `args`: passed on to the model.
    - `t`: the time that is passed on to the model.
    - `known`: components that stay at these values, NaN for the others, as for `jc.SteadyState`.
    - `invariants`: $C$ with $C \dot y = 0$ whatever the state; $C y$ is that of the guess.
      Without them a model that conserves something has no steady state of its own.
    - `throw`: raise where no steady state is found; with False, or in the caller's own `jit`, the
      values are NaN.

    **Errors:** `ValueError` for wrong shapes; `RuntimeError` where no steady state is found, or
    where the equations do not determine it.
    """
    flag("throw", throw)
    function("model", model, "f(t, y, args)")
    check_values(args)
    jtu.tree_map(check_leaf, args)
    leaves = jtu.tree_leaves((model, guess, args, t))
    traced = within_jit() or any(isinstance(leaf, jax.core.Tracer) for leaf in leaves)
    if not traced:
        finite("t", t)
    stated = SteadyState(known=known, invariants=invariants)
    with scope(model, guess, args, t):
        start = _start(guess, traced)
        size = len(start)
        held = stated.held(size)
        if stated.known is not None:
            xp = jnp if isinstance(start, jax.Array) else np
            start = xp.where(np.isnan(stated.known), start, np.nan_to_num(stated.known))
        rows = () if stated.invariants is None else stated.invariants
        fixed = _Stated(stated.equations(size), held, tuple(map(tuple, np.asarray(rows).tolist())))
        single = traced and caller_float() == np.float32
        time = jnp.asarray(t, float) if traced else np.asarray(t, np.float64)
        inputs: Any = (model, time, start, sealed(jtu.tree_map(number_to_array, args)))
        found, matrix = _found(fixed, *(inputs if single else to_float64(inputs)))
        if traced:
            return found
    values = np.asarray(found)
    failure = _failure(values, np.asarray(matrix))
    if failure and throw:
        raise RuntimeError(
            f"No steady state was found from the `guess` {describe(guess)}: {failure}"
        )
    return jax.device_put(np.asarray(np.nan * values if failure else values, caller_float()))


def _failure(found: np.ndarray, matrix: np.ndarray) -> str:
    """What is wrong with a steady state and its equations' derivatives; empty if nothing."""
    if not np.all(np.isfinite(found)):
        return "the model may have none, or none that it comes to from there. Try another guess."
    if null_vector(matrix) is None:
        return ""
    return (
        "its equations leave others as well. If the model conserves something, such as the sum of "
        "two species that turn into each other, pass `invariants`, or `known` components."
    )


class _Stated(eqx.Module):
    """The components that rest, those that are known, and what is conserved."""

    equations: tuple[int, ...] = eqx.field(static=True)
    held: tuple[int, ...] = eqx.field(static=True)
    invariants: tuple[tuple[float, ...], ...] = eqx.field(static=True)


def _start(guess: Any, traced: bool) -> Any:
    """The guess as an array: of NumPy, but where it is traced."""
    if traced and isinstance(guess, jax.core.Tracer):
        start = jnp.asarray(guess, float)
        if start.ndim != 1:
            raise ValueError(f"`guess` must have shape (state,); got shape {start.shape}.")
        return start
    array = float_array("guess", guess, 1, "(state,)")
    if len(array) == 0 or not np.all(np.isfinite(array)):
        raise ValueError(f"`guess` must be finite, of shape (state,); got {describe(guess)}.")
    return array


@eqx.filter_jit
def _found(stated: _Stated, model: Any, t: Array, start: Array, args: Any) -> tuple[Array, Array]:
    """The state, and the derivatives of the equations there."""
    known = opened(args)
    with explained("model", "f(t, y, args)", known):
        shape = getattr(eqx.filter_eval_shape(model, t, start, known), "shape", None)
    if shape != start.shape:
        raise ValueError(
            f"`guess` must have the shape of the model's state: the result of `model` has shape "
            f"{shape}, `guess` {start.shape}."
        )
    wanted = f"an array of shape (state,) = {start.shape}"
    equations = _Equations(
        lambda y: as_floats("model", model(t, y, known), wanted, y.dtype),
        start, stated.equations, stated.held, stated.invariants,
    )  # fmt: skip
    found = equations.solved()
    return found, jax.jacfwd(equations.missed)(lax.stop_gradient(found))


def at_rest(
    field: Callable[[Array], Array],
    start: Array,
    equations: tuple[int, ...],
    held: tuple[int, ...],
    invariants: tuple[tuple[float, ...], ...],
) -> Float[Array, " state"]:
    """The steady state of a field reached from `start`; NaN where there is none.

    The components `held` stay, the others change until the field is zero. `equations`, `held` and
    `invariants` together are as many equations as there are components: its derivatives are those
    of their solution.
    """
    return _Equations(field, start, equations, held, invariants).solved()


class _Equations:
    """What `at_rest` solves."""

    def __init__(
        self,
        field: Callable[[Array], Array],
        start: Array,
        equations: tuple[int, ...],
        held: tuple[int, ...],
        invariants: tuple[tuple[float, ...], ...],
    ):
        self.field, self.start = field, start
        self.kept, self.held = np.array(equations, int), np.array(held, int)
        self.rows = np.reshape(np.array(invariants, float), (-1, len(start)))

    def missed(self, y: Array) -> Array:
        """The field of the components that rest; changes of what is known and of what stays."""
        change = y - self.start
        return jnp.concatenate([self.field(y)[self.kept], change[self.held], self.rows @ change])

    def solved(self) -> Array:
        """The solution, with derivatives."""

        def tangent(linear: Callable[[Array], Array], right: Array) -> Array:
            return jnp.linalg.solve(jax.jacfwd(linear)(jnp.zeros_like(right)), right)

        guess = lax.stop_gradient(self.start)
        found: Array = lax.custom_root(
            self.missed, guess, lambda missed, guess: _relaxed(missed, guess, self.kept), tangent
        )
        return found


def _relaxed(
    missed: Callable[[Array], Array], start: Array, kept: Int[np.ndarray, " equation"]
) -> Array:
    """Where implicit Euler steps of growing length come to rest; NaN where they do not.

    The first equations are those of the field in the components `kept`, the others hold at once.
    """
    tiny, eps = (float(getattr(np.finfo(start.dtype), name)) for name in ("tiny", "eps"))
    unit = np.zeros((len(start), len(start)))
    unit[np.arange(len(kept)), kept] = 1.0

    def size(y: Array) -> Array:
        largest = jnp.maximum(jnp.max(jnp.abs(y)), jnp.max(jnp.abs(start)))
        # Zero says nothing of sizes.
        largest = jnp.where(largest > 0, largest, 1.0)
        return jnp.maximum(jnp.abs(y), jnp.maximum(_SMALL * largest, tiny))

    def largest(value: Array, y: Array) -> Array:
        return jnp.max(jnp.abs(value[: len(kept)]) / size(y)[kept], initial=0.0)

    value = missed(start)
    sums = jnp.sum(jnp.abs(jax.jacfwd(missed)(start)), axis=1)
    pace = jnp.max(sums[: len(kept)], initial=0.0) + largest(value, start)
    first = 1 / jnp.where(pace > 0, pace, 1.0)

    def running(state: tuple[Array, Array, Array, Array, Array]) -> Array:
        return ~state[4] & (state[3] < _MOST)

    def step(
        state: tuple[Array, Array, Array, Array, Array],
    ) -> tuple[Array, Array, Array, Array, Array]:
        y, value, length, steps, _ = state
        change = -jnp.linalg.solve(jax.jacfwd(missed)(y) - unit / length, value)
        new = y + change
        after = missed(new)
        taken = jnp.all(jnp.isfinite(new)) & jnp.all(jnp.isfinite(after))
        before, behind = largest(value, y), largest(after, y)
        small = jnp.max(jnp.abs(change) / size(new)) <= max(_TOL, 100 * eps)
        # Where nothing changes any more, the field is rounding, and says nothing of the step.
        fall = jnp.where(behind > 0, before / jnp.where(behind > 0, behind, 1.0), _LARGEST)
        fall = jnp.where(small, _LARGEST, fall)
        grown = length * _MORE * jnp.clip(fall, _LEAST, _LARGEST)
        return (
            jnp.where(taken, new, y),
            jnp.where(taken, after, value),
            jnp.where(taken, grown, length * _REFUSED),
            steps + 1,
            taken & small & (length >= _LONG * first),
        )

    zero, no = jnp.zeros((), int), jnp.zeros((), bool)
    y, _, _, _, done = lax.while_loop(running, step, (start, value, first, zero, no))
    return jnp.where(done, y, jnp.nan)
