"""simulate: the trained model integrated by Diffrax."""

from collections.abc import Sequence
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from ._args import check_leaf, check_values, number_to_array, opened, sealed
from ._by_collocation import run_through, simulate_by
from ._callables import explained
from ._check import (
    describe,
    flag,
    float_array,
    function,
    instance,
    integer,
    positive,
    within_jit,
)
from ._constraints import Constraint, StateBounds
from ._grid import Grid
from ._inputs import knots
from ._integrate import (
    Stepping,
    integrate_through,
    most_steps,
    powers_of_two,
    start_sizes,
)
from ._jump_tables import JumpTable
from ._jumps import Jump, changes, known_jumps, snapped
from ._precision import AnyArray, caller_float, scope, to_float64, x64
from ._scheme import AbstractScheme


_FLOAT32_RTOL, _FLOAT32_ATOL = 1e-5, 1e-7
# Tolerances are relative to each state's magnitude, which is known better after every try.
_ATOL, _TRIES, _SMALLER = 1e-10, 4, 1e-3
# A state that starts smaller than this share of the largest is not told from zero.
_LEAST_START = 1e-8
_MAX_STEPS = 100_000


def simulate(
    model: Any,
    ts: ArrayLike,
    y0: ArrayLike,
    args: Any = None,
    *,
    jumps: Jump | Sequence[Jump] = (),
    solver: diffrax.AbstractSolver[Any] | None = None,
    rtol: float = 1e-8,
    atol: float | None = None,
    max_steps: int | None = None,
    throw: bool = True,
    by: AbstractScheme | Grid | None = None,
    constraints: Constraint | StateBounds | Sequence[Constraint | StateBounds] = (),
    guess: ArrayLike | None = None,
) -> Float[Array, "time state"]:
    r"""Integrate $\dot y = f(t, y, args)$ from $y(t_0) = y_0$ and return $y(ts)$.

    In float64, and returned in the caller's default float. Inside the caller's own `jit` or
    `grad` of a float32 program it runs in float32, with tolerances of at least 1e-5 and 1e-7.

    **Arguments:**

    - `model`: the vector field, for instance `sol.model`.
    - `ts`: times, shape `(time,)`, never decreasing; the first is that of `y0`.
    - `y0`: the initial state, shape `(state,)`.
    - `args`: passed on to the model. Steps end at the samples of every `jc.Input` and Diffrax path
      in it (or in the model), so that no pulse is stepped over.
    - `jumps`: `jc.Jump` objects whose amounts are known, such as `sol.jumps[k]`. At the time of a
      jump the state before it is returned; `y0` is the state before a jump at the first time, and
      jumps before that do not count.
    - `solver`: a Diffrax solver, `diffrax.Tsit5()` if not given; `diffrax.Kvaerno5()` for stiff
      models.
    - `rtol`, `atol`: tolerances of the adaptive stepping. `atol` is absolute; if not given it is
      1e-10 times each state's magnitude: its initial value, or the largest one on the way where
      that is smaller (in the caller's own `jit` or `vmap`, 1e-10).
    - `max_steps`: the limit of steps; if not given about 100,000, and eight more for each sample of
      an input.
    - `throw`: raise if the integration fails; with False, the values after the failure are
      infinite or NaN.
    - `by`: a scheme such as `jc.Radau(5)`, or a `jc.Grid` from the first time on: solve the
      equations by collocation, in the place of a Diffrax solver. Intervals are solved one after
      another by Newton's method, which is an implicit Runge-Kutta method: `jc.Radau` does for stiff
      models. Their widths are such that no polynomial errs by more than `rtol` and `atol` allow,
      measured by a scheme of higher order. A grid's intervals are those that are tried first,
      and split where they do not suffice. `max_steps` limits their number, 20,000 if not given.
      Not to be differentiated, or called inside `jit`.
    - `constraints`: boundary values, with `by`: `jc.Constraint` or `jc.StateBounds` equations
      with `at="end"` (or "start"), as many as there are NaN in `y0`. The end is that of `ts`, or of
      the grid. All intervals are then solved together, and the tolerances are those of the
      solution's estimated error.
    - `guess`: for boundary values, states at `ts`, shape `(time, state)`, to start from; a line
      between the values that are known at the ends if not given. It decides which one is found of
      several solutions.

    **Errors:** `ValueError` for wrong shapes; Diffrax's own if the integration fails; with `by`, a
    `RuntimeError` that says where and why the tolerances were not reached.
    """
    known = known_jumps(jumps)
    leaves = jtu.tree_leaves((model, ts, y0, args))
    traced = within_jit() or any(isinstance(leaf, jax.core.Tracer) for leaf in leaves)
    _check(model, ts, y0, args, traced, missing=by is not None)
    positive("rtol", rtol)
    if atol is not None:
        positive("atol", atol)
    if by is not None:
        return _by(
            by, model, ts, y0, args, known, traced, solver, rtol=rtol, atol=atol,
            max_steps=max_steps, throw=throw, constraints=constraints, guess=guess,
        )  # fmt: skip
    if guess is not None or not (isinstance(constraints, (list, tuple)) and not constraints):
        raise ValueError(
            "`constraints` and `guess` are for boundary values, which need `by`: pass a scheme "
            "such as by=jc.Radau(5)."
        )
    solver = instance("solver", solver, diffrax.AbstractSolver, diffrax.Tsit5())
    throw = flag("throw", throw)
    if max_steps is None:
        max_steps = _MAX_STEPS if traced else most_steps(_MAX_STEPS, len(knots((model, args))))
    else:
        max_steps = integer("max_steps", max_steps, 1)
    if not traced:
        ts = snapped(np.asarray(ts, np.float64), ts, known)
    with scope(model, ts, y0, args):
        args = sealed(jtu.tree_map(number_to_array, args))
        single = caller_float() == np.float32
        inputs = (model, jnp.asarray(ts, float), jnp.asarray(y0, float), args)
        _check_result(*inputs)
        table = _table(known, model, inputs[2], args)
        stepping = Stepping(
            solver,
            max(rtol, _FLOAT32_RTOL) if single else rtol,
            max(_ATOL if atol is None else atol, _FLOAT32_ATOL if single else 0.0),
            max_steps,
        )
        if traced or atol is not None:
            inputs = inputs if single else to_float64(inputs)
            ys, _ = _integrate(*inputs, table, stepping, throw=throw)
        else:
            ys = _scaled(*to_float64(inputs), table, stepping, throw)
    return jnp.asarray(ys, caller_float())


def _by(
    by: Any,
    model: Any,
    ts: Any,
    y0: Any,
    args: Any,
    jumps: tuple[Jump, ...],
    traced: bool,
    solver: Any,
    **options: Any,
) -> Float[Array, "time state"]:
    """Simulated by collocation; once the arguments are checked."""
    if traced:
        raise ValueError("`by` must be None inside jax.jit, jax.grad and their kin.")
    if solver is not None:
        raise ValueError("`by` and `solver` are two ways to solve the equations: pass one of them.")
    flag("throw", options["throw"])
    if options["max_steps"] is not None:
        integer("max_steps", options["max_steps"], 1)
    times, start = snapped(np.asarray(ts, np.float64), ts, jumps), np.asarray(y0, np.float64)
    with x64():
        known = sealed(jtu.tree_map(number_to_array, args))
        _check_result(model, times, start, known)
        _table(jumps, model, jnp.asarray(start), known)
    own = [change for change in changes(jumps, model, args) if times[0] <= change.t < times[-1]]
    if own and np.any(np.isnan(start)):
        raise ValueError("`jumps` need a `y0` that is known; boundary values cannot have any.")

    def run(
        by: Any, times: Float[np.ndarray, " time"], start: Float[np.ndarray, " state"]
    ) -> Float[np.ndarray, "time state"]:
        return simulate_by(by, model, times, start, args, **options)

    states = run_through(own, run, by, times, start) if own else run(by, times, start)
    return jax.device_put(np.asarray(states, caller_float()))


def _check(model: Any, ts: Any, y0: Any, args: Any, traced: bool, missing: bool) -> None:
    """Refuse what cannot be integrated; `missing` is whether `y0` may hold NaN."""
    function("model", model, "f(t, y, args)")
    check_values(args)
    jtu.tree_map(check_leaf, args)
    if traced:
        if np.ndim(ts) != 1 or np.size(ts) == 0:
            raise ValueError(f"`ts` must have shape (time,); got shape {np.shape(ts)}.")
        if np.ndim(y0) != 1:
            raise ValueError(f"`y0` must have shape (state,); got shape {np.shape(y0)}.")
        return
    times = float_array("ts", ts, 1, "(time,)")
    if len(times) == 0 or not np.all(np.isfinite(times)):
        raise ValueError(
            f"`ts` must have shape (time,) with time >= 1, all finite; got {describe(ts)}."
        )
    if np.any(np.diff(times) < 0):
        raise ValueError("`ts` must never decrease.")
    start = float_array("y0", y0, 1, "(state,)", missing=missing)
    if np.any(np.isinf(start)) or (missing and len(start) == 0):
        raise ValueError(f"`y0` must be finite, of shape (state,); got {start}.")
    if np.any(np.isnan(start)) and not missing:
        raise ValueError(f"`y0` must be finite: NaN needs `by` and boundary values; got {start}.")


def _table(jumps: tuple[Jump, ...], model: Any, y0: Array, args: Any) -> JumpTable | None:
    """The jumps as arrays, once they are known to fit the state."""
    if not jumps:
        return None
    for jump in jumps:
        if jump.size not in (None, len(y0)):
            raise ValueError(
                f"`jumps` must have amounts of the shape of `y0`, {y0.shape}; got ({jump.size},)."
            )
    table = JumpTable.of(jumps, model, len(y0))
    known = opened(args)
    for to in table.functions:
        with explained("to", to.shown, known):
            eqx.filter_eval_shape(to, y0, known, model)
    return table


def _check_result(model: Any, ts: AnyArray, y0: AnyArray, args: Any) -> None:
    """Refuse a model that takes or returns a state of another shape than `y0`."""
    known = opened(args)
    with explained("model", "f(t, y, args)", known):
        result = eqx.filter_eval_shape(model, ts[0], y0, known)
    if getattr(result, "shape", None) != y0.shape:
        raise ValueError(
            f"`y0` must have the shape of the model's state: the result of `model` has shape "
            f"{getattr(result, 'shape', None)}, `y0` {y0.shape}."
        )


def _scaled(
    model: Any,
    ts: Array,
    y0: Array,
    args: Any,
    table: JumpTable | None,
    stepping: Stepping,
    throw: bool,
) -> Array:
    """Integrated with tolerances relative to each state's magnitude.

    Where a state turns out to be much smaller than assumed, it is integrated again.
    """
    scale = start_sizes(np.asarray(y0), _LEAST_START)
    for _ in range(_TRIES):
        stepping = eqx.tree_at(
            lambda item: item.unit,
            stepping,
            powers_of_two(scale),
            is_leaf=lambda leaf: leaf is None,
        )
        ys, _ = _integrate(model, ts, y0, args, table, stepping, throw=throw)
        sizes = np.abs(np.asarray(ys))
        peak = np.max(sizes, axis=0, initial=0.0, where=np.isfinite(sizes))
        small = (peak > 0) & (peak < _SMALLER * scale)
        if not small.any():
            break
        scale = np.where(small, peak, scale)
    return ys


_integrate = eqx.filter_jit(integrate_through)
