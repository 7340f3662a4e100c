"""simulate: the trained model integrated by Diffrax."""

from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from ._args import Unknown, number_to_array
from ._check import describe
from ._inputs import held_times
from ._precision import caller_float, scope, to_float64


_FLOAT32_RTOL, _FLOAT32_ATOL = 1e-5, 1e-7


def simulate(
    model: Any,
    ts: ArrayLike,
    y0: ArrayLike,
    args: Any = None,
    *,
    solver: diffrax.AbstractSolver[Any] | None = None,
    rtol: float = 1e-8,
    atol: float = 1e-10,
    max_steps: int = 100_000,
    throw: bool = True,
) -> Float[Array, "time state"]:
    r"""Integrate $\dot y = f(t, y, args)$ from $y(t_0) = y_0$ and return $y(ts)$.

    In float64, and returned in the caller's default float. Inside the caller's own `jit` or
    `grad` of a float32 program it runs in float32, with tolerances of at least 1e-5 and 1e-7.

    **Arguments:**

    - `model`: the vector field, for instance `sol.model`.
    - `ts`: times, shape `(time,)`, never decreasing; the first is that of `y0`.
    - `y0`: the initial state, shape `(state,)`.
    - `args`: passed on to the model. Steps end at the jumps of a `jc.Input` of kind "hold" in it.
    - `solver`: a Diffrax solver, `diffrax.Tsit5()` if not given; `diffrax.Kvaerno5()` for stiff
      models.
    - `rtol`, `atol`, `max_steps`: tolerances and limit of the adaptive steps.
    - `throw`: raise if the integration fails; with False, the values after the failure are
      infinite or NaN.

    **Errors:** `ValueError` for wrong shapes; Diffrax's own if the integration fails.
    """
    if np.ndim(ts) != 1 or np.size(ts) == 0:
        raise ValueError(f"`ts` must have shape (time,) with time >= 1; got shape {np.shape(ts)}.")
    if np.ndim(y0) != 1:
        raise ValueError(f"`y0` must have shape (state,); got shape {np.shape(y0)}.")
    if not callable(model):
        raise ValueError(f"`model` must be callable as f(t, y, args); got {describe(model)}.")
    if any(isinstance(leaf, Unknown) for leaf in jtu.tree_leaves(args)):
        raise ValueError(
            "`args` must hold values, not jc.Unknown objects: pass `sol.args[k]`, where the fitted "
            "values stand in their place."
        )
    concrete = not isinstance(ts, jax.core.Tracer)
    if concrete and np.any(np.diff(np.asarray(ts)) < 0):
        raise ValueError("`ts` must never decrease.")
    with scope(model, ts, y0, args):
        args = jtu.tree_map(number_to_array, args)
        single = caller_float() == np.float32
        inputs = (model, jnp.asarray(ts, float), jnp.asarray(y0, float), args)
        ys = _integrate(
            *(inputs if single else to_float64(inputs)),
            diffrax.Tsit5() if solver is None else solver,
            max(rtol, _FLOAT32_RTOL) if single else rtol,
            max(atol, _FLOAT32_ATOL) if single else atol,
            max_steps,
            throw,
        )
    return jnp.asarray(ys, caller_float())


def integrate(
    model: Any,
    ts: Array,
    y0: Array,
    args: Any,
    solver: diffrax.AbstractSolver[Any],
    rtol: float,
    atol: float,
    max_steps: int,
    throw: bool,
    adjoint: diffrax.AbstractAdjoint | None = None,
) -> Float[Array, "time state"]:
    """The states at `ts` by adaptive steps, which end where held inputs jump."""
    controller: Any = diffrax.PIDController(rtol=rtol, atol=atol)
    jumps = held_times(args)
    if jumps:
        controller = diffrax.ClipStepSizeController(controller, jump_ts=jnp.concatenate(jumps))
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(model),
        solver,
        ts[0],
        ts[-1],
        None,
        y0,
        args,
        saveat=diffrax.SaveAt(ts=ts),
        stepsize_controller=controller,
        max_steps=max_steps,
        throw=throw,
        adjoint=diffrax.RecursiveCheckpointAdjoint() if adjoint is None else adjoint,
    )
    assert solution.ys is not None
    return solution.ys


_integrate = eqx.filter_jit(integrate)
