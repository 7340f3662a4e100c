"""Jump: a state that is changed at a known time, by amounts or by a function."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from ._args import Unknown, Unknowns, opened, restore
from ._callables import as_floats, num_required
from ._check import describe, finite, function, integer, real_numbers
from ._points import known
from ._precision import is_array, x64


class Jump(eqx.Module):
    r"""At the time `t` the state is changed, $y(t^+) = y(t^-) + \mathtt{add}$ or $J(y(t^-))$.

        jc.Trajectory(ts, ys, jumps=[jc.Jump(12.0, add=[100.0, 0.0])])  # a dose into state 0
        jc.Trajectory(ts, ys, jumps=[jc.Jump(3.0, to=lambda y, args: 0.5 * y)])  # a dilution

    A sample, and the path, at the very time of a jump see the state before it; of several jumps at
    one time each begins from what the one before has left.

    **Arguments:**

    - `t`: the time.
    - `add`: the amounts that are added, shape `(state,)`; 0 or NaN where nothing is. Entries, or
      the whole, may be a `jc.Unknown`: `sol.jumps[k]` holds what was found for trajectory `k`.
    - `to`: a function `fn(y, args)` or `fn(y, args, model)` of the state before, shape `(state,)`,
      that returns the state after; or a method of the model with the former arguments. Weights that
      it uses are trained.

    **Errors:** `ValueError` for both or neither of `add` and `to`, and for amounts that are not
    finite.
    """

    t: float
    add: Any
    to: Callable[..., Any] | None

    def __init__(self, t: float, *, add: Any = None, to: Callable[..., Any] | None = None):
        self.t = finite("t", as_written(t))
        if (add is None) == (to is None):
            raise ValueError(
                f"`add` or `to` must be given, one of the two; got {describe(add)} and "
                f"{describe(to)}."
            )
        self.add = None if add is None else _amounts(add)
        self.to = None if to is None else function("to", to, "fn(y, args) or fn(y, args, model)")

    @property
    def has_unknown(self) -> bool:
        """Whether an amount is to be found."""
        return self.add is not None and not isinstance(self.add, np.ndarray)

    @property
    def size(self) -> int | None:
        """For how many states it has amounts; None with a function."""
        if self.add is None:
            return None
        return self.add.value.size if isinstance(self.add, Unknown) else len(self.add)

    @property
    def at_start(self) -> "Jump":
        """The same with the starts of its unknown amounts."""
        return self.filled(Unknowns.of(self.add).start)

    def __repr__(self) -> str:
        what = f"to={self.to}" if self.add is None else f"add={self.add}"
        return f"Jump({self.t:g}, {what})"

    def filled(self, unknowns: Float[np.ndarray, " unknown"]) -> "Jump":
        """The same with values in the place of its own unknowns, of which these are the first."""
        if not self.has_unknown:
            return self
        values = restore(self.add, unknowns)
        return Jump(self.t, add=np.array([float(item) for item in np.ravel(values)]))


def _amounts(value: Any) -> Any:
    """Amounts without NaN: an array, a vector `Unknown`, or a tuple of numbers and scalar ones."""
    wanted = "amounts of shape (state,), some of them or all jc.Unknown"
    if isinstance(value, Unknown):
        if value.value.ndim > 1 or value.value.size == 0:
            raise ValueError(f"`add` must be {wanted}; got {describe(value)}.")
        return value if value.value.ndim else (value,)
    entries: Any = np.asarray(value, object).ravel() if isinstance(value, (list, tuple)) else []
    if any(isinstance(item, Unknown) for item in entries):
        return tuple(_entry(item, wanted) for item in value)
    amounts = np.atleast_1d(real_numbers("add", value, wanted, missing=True))
    if amounts.ndim > 1 or len(amounts) == 0 or np.any(np.isinf(amounts)):
        raise ValueError(f"`add` must be finite {wanted}; got {describe(value)}.")
    return np.nan_to_num(amounts)


def _entry(value: Any, wanted: str) -> Any:
    """One amount, a number or an unknown one."""
    if isinstance(value, Unknown):
        if value.value.ndim:
            raise ValueError(f"`add` must be {wanted}; got {describe(value)} as one amount.")
        return value
    amount = real_numbers("add", value, wanted, missing=True)
    if amount.ndim or np.isinf(amount):
        raise ValueError(f"`add` must be finite {wanted}; got {describe(value)} as one amount.")
    return float(np.nan_to_num(amount))


def as_jumps(value: Any) -> tuple[Jump, ...]:
    """What a caller passes as `jumps`, in the order of time; those at one time as they came."""
    jumps = (value,) if isinstance(value, Jump) else value
    if not isinstance(jumps, (list, tuple)) or not all(isinstance(item, Jump) for item in jumps):
        raise ValueError(f"`jumps` must be jc.Jump objects in a list; got {describe(value)}.")
    return tuple(sorted(jumps, key=lambda item: item.t))


def known_jumps(jumps: Any) -> tuple[Jump, ...]:
    """What a caller passes as `jumps`, all amounts of which are known."""
    found = as_jumps(jumps)
    if any(jump.has_unknown for jump in found):
        raise ValueError(
            "`jumps` must have amounts that are known, not jc.Unknown objects: pass "
            "`sol.jumps[k]`, where the fitted values stand in their place."
        )
    return found


def snapped(
    ts: Float[np.ndarray, " time"], given: Any, jumps: Sequence[Jump]
) -> Float[np.ndarray, " time"]:
    """Times that were `given` in single precision, those at a jump up to rounding moved to it."""
    if not jumps or getattr(given, "dtype", None) not in (np.float32, jnp.float32):
        return ts
    times = np.unique([jump.t for jump in jumps])
    at = np.searchsorted((times[1:] + times[:-1]) / 2, ts)
    slack = 4 * np.finfo(np.float32).eps * np.abs(ts)
    return np.where(np.abs(times[at] - ts) <= slack, times[at], ts)


def as_written(times: Any) -> Any:
    """Times in single precision as the decimals that they were written as; others as they are.

    0.7 in single precision is before a sample at 0.7.
    """
    if getattr(times, "dtype", None) not in (np.float32, jnp.float32):
        return times
    single = np.asarray(times, np.float32)
    return np.array([float(str(item)) for item in single.ravel()]).reshape(single.shape)


def doses(times: ArrayLike, amounts: Any, *, state: int = 0, num_states: int) -> list[Jump]:
    """A `jc.Jump` for each of some times, which adds an amount to one component of the state.

        jc.Trajectory(ts, ys, jumps=jc.doses(np.arange(0, 72, 12), 100.0, state=0, num_states=2))

    **Arguments:**

    - `times`: shape `(dose,)`.
    - `amounts`: one number for all or one for each time; a `jc.Unknown`, alone or in a list, is an
      amount of its own for each dose.
    - `state`: the component that the dose goes into, of `num_states`.

    **Errors:** `ValueError` for numbers of amounts and times that differ.
    """
    num_states = integer("num_states", num_states, 1)
    state = integer("state", state, 0)
    if state >= num_states:
        raise ValueError(f"`state` must be below `num_states` = {num_states}; got {state}.")
    when = np.atleast_1d(
        real_numbers("times", as_written(times), "finite numbers of shape (dose,)")
    )
    if when.ndim > 1 or not np.all(np.isfinite(when)):
        raise ValueError(f"`times` must be finite numbers of shape (dose,); got {describe(times)}.")
    one = isinstance(amounts, Unknown) or (
        not isinstance(amounts, (list, tuple)) and np.ndim(amounts) == 0
    )
    each = [amounts] * len(when) if one else _each_amount(amounts, len(when))
    none = [0.0] * num_states
    return [
        Jump(float(t), add=[*none[:state], _amount(item), *none[state + 1 :]])
        for t, item in zip(when, each, strict=True)
    ]


def _each_amount(amounts: Any, count: int) -> list[Any]:
    """As many amounts as there are times."""
    several = isinstance(amounts, (list, tuple))
    each = list(amounts) if several else real_numbers("amounts", amounts, "numbers").tolist()
    if len(each) != count:
        raise ValueError(
            f"`amounts` must be one number, or one for each of the {count} times; got {len(each)}."
        )
    return each


def _amount(value: Any) -> Any:
    """The amount of one dose: a finite number, or an unknown one."""
    if isinstance(value, Unknown) and not value.value.ndim:
        return value
    wanted = "finite numbers or jc.Unknown, one for all doses or one for each"
    amount = real_numbers("amounts", value, wanted)
    if amount.ndim or not np.isfinite(amount):
        raise ValueError(f"`amounts` must be {wanted}; got {describe(value)}.")
    return float(amount)


class JumpFunction(eqx.Module):
    """A caller's `to`, called as `function(y, args, model)` whatever its own form is."""

    function: Callable[..., Any]
    form: str = eqx.field(static=True)

    @classmethod
    def of(cls, to: Any, model: Any) -> "JumpFunction":
        """A method of a model of this class is called on the model that is being trained.

        And so is one of the system of a `jc.DAE`.
        """
        own = getattr(to, "__self__", None)
        if own is not None and hasattr(to, "__func__") and type(own) is type(model):
            return cls(to.__func__, "method")
        system = getattr(model, "system", None)
        if own is not None and hasattr(to, "__func__") and type(own) is type(system):
            return cls(to.__func__, "system")
        if own is not None and _shares_arrays(own, model):
            raise ValueError(
                "`to` must be a method of the model itself: the weights of a part of it would not "
                f"be trained; got {describe(to)}. Pass fn(y, args, model)."
            )
        return cls(to, "model" if num_required(to, 2) >= 3 else "plain")

    @property
    def shown(self) -> str:
        """How it is called, for errors."""
        return "fn(y, args, model)" if self.form == "model" else "fn(y, args)"

    def __call__(self, y: Array, args: Any, model: Any) -> Array:
        if self.form == "method":
            found = self.function(model, y, args)
        elif self.form == "system":
            found = self.function(model.system, y, args)
        elif self.form == "model":
            found = self.function(y, args, model)
        else:
            found = self.function(y, args)
        wanted = f"an array of shape (state,) = {y.shape}"
        after = as_floats("to", found, wanted, y.dtype)
        if after.shape != y.shape:
            raise ValueError(f"`to` must return {wanted}; got shape {after.shape}.")
        return after


def _shares_arrays(part: Any, model: Any) -> bool:
    known = {id(leaf) for leaf in jtu.tree_leaves(model) if is_array(leaf)}
    return any(id(leaf) in known for leaf in jtu.tree_leaves(part))


class Change(NamedTuple):
    """A jump on the host: when it is, the state after it, and the derivative of that."""

    t: float
    after: Callable[[np.ndarray], np.ndarray]
    slope: Callable[[np.ndarray], np.ndarray]


def changes(
    jumps: Sequence[Jump], model: Any, args: Any, times: Sequence[float] | None = None
) -> list[Change]:
    """Jumps whose amounts are known, for one trajectory's model and `args`.

    `times` are those of a grid, where they differ by rounding; jumps behind these are left out.
    """
    own = [jump.t for jump in jumps] if times is None else times
    # Functions alone need the model.
    inner: Any = known(model, args) if any(jump.to is not None for jump in jumps) else ()
    return [_change(float(t), jump, model, inner) for t, jump in zip(own, jumps, strict=False)]


def _change(t: float, jump: Jump, model: Any, inner: Any) -> Change:
    if jump.to is None:
        return Change(t, lambda y: y + jump.add, lambda y: np.eye(len(y)))
    to = JumpFunction.of(jump.to, model)
    prepared, given = inner

    def after(y: np.ndarray) -> np.ndarray:
        with x64():
            return np.asarray(_after(to, prepared, given, np.asarray(y)))

    def slope(y: np.ndarray) -> np.ndarray:
        with x64():
            return np.asarray(_slope(to, prepared, given, np.asarray(y)))

    return Change(t, after, slope)


@eqx.filter_jit
def _after(to: JumpFunction, model: Any, args: Any, y: Any) -> Array:
    return to(y, opened(args), model)


@eqx.filter_jit
def _slope(to: JumpFunction, model: Any, args: Any, y: Any) -> Array:
    return jax.jacfwd(lambda y: to(y, opened(args), model))(y)
