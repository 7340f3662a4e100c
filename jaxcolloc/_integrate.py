"""integrate: a model integrated by Diffrax, with steps that end where its inputs have samples."""

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ._args import opened
from ._inputs import sample_times
from ._jump_tables import JumpTable
from ._precision import AnyArray


class Stepping(eqx.Module):
    """How an integration steps.

    `rtol` and `atol` are its tolerances, `atol` times each state's `unit`, or absolute where that
    is None; `max_steps` limits the number of steps, which end at the samples of inputs.
    """

    solver: diffrax.AbstractSolver[Any]
    rtol: Any
    atol: Any
    max_steps: int
    unit: Float[AnyArray, " state"] | None = None
    adjoint: diffrax.AbstractAdjoint | None = None


def integrate(
    model: Any, ts: Array, y0: Array, args: Any, stepping: Stepping, *, throw: bool
) -> tuple[Float[Array, "time state"], Bool[Array, ""]]:
    """The states at `ts`, and whether the limit of steps ended the integration.

    `args` may be sealed. Behind a failure the states are not finite; with `throw` it is raised.
    """
    unit = stepping.unit
    scale = 1.0 if unit is None else jnp.asarray(unit)
    field = _InUnits(model, scale)
    jumps, knots = sample_times((model, opened(args)))
    controller: Any = diffrax.PIDController(rtol=stepping.rtol, atol=stepping.atol)
    begin = ts[0]
    if jumps or knots:
        step_ts, jump_ts = (jnp.concatenate(item) if item else None for item in (knots, jumps))
        controller = diffrax.ClipStepSizeController(controller, step_ts, jump_ts)
        if jump_ts is not None:
            # A held input has its old value at the jump itself.
            at_jump = jnp.any(jump_ts == begin) & (ts[-1] > begin)
            after = jnp.nextafter(jax.lax.stop_gradient(begin), jnp.inf)
            begin = jnp.where(at_jump, after, begin)
    adjoint = diffrax.RecursiveCheckpointAdjoint() if stepping.adjoint is None else stepping.adjoint
    with complex_constants():
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(field),
            stepping.solver,
            begin,
            jnp.maximum(ts[-1], begin),
            None,
            y0 if unit is None else y0 / unit,
            args,
            saveat=diffrax.SaveAt(ts=jnp.maximum(ts, begin)),
            stepsize_controller=controller,
            max_steps=stepping.max_steps,
            throw=throw,
            adjoint=adjoint,
        )
    assert solution.ys is not None
    ys = solution.ys if unit is None else solution.ys * unit
    return ys, solution.result == diffrax.RESULTS.max_steps_reached


def integrate_through(
    model: Any,
    ts: Array,
    y0: Array,
    args: Any,
    jumps: JumpTable | None,
    stepping: Stepping,
    *,
    throw: bool,
) -> tuple[Float[Array, "time state"], Bool[Array, ""]]:
    """`integrate` from jump to jump; at the time of a jump the state is the one before it."""
    if jumps is None:
        return integrate(model, ts, y0, args, stepping, throw=throw)
    known = opened(args)
    times = jnp.asarray(jumps.times, ts.dtype)
    real = (times >= ts[0]) & (times <= ts[-1])
    inner = jnp.clip(times, ts[0], ts[-1])
    begins, ends = jnp.append(ts[0], inner), jnp.append(inner, ts[-1])

    def piece(before: Any, item: Any) -> Any:
        y, exhausted = before
        number, begin, end, is_jump = item
        own = jnp.concatenate([begin[None], jnp.clip(ts, begin, end), end[None]])
        ys, limit = integrate(model, own, y, args, stepping, throw=throw)
        last = ys[-1]
        after = jax.lax.cond(
            is_jump, lambda y: jumps.after(number, y, known, model), lambda y: y, last
        )
        return (after, exhausted | limit), ys[1:-1]

    # Behind the last piece there is none: the first jump stands there, and does not count.
    count = len(jumps.times)
    number = np.append(np.arange(count), 0)
    items = (number, begins, ends, jnp.append(real, False))
    (_, exhausted), pieces = jax.lax.scan(piece, (y0, jnp.zeros((), bool)), items)
    at = jnp.searchsorted(times, ts)
    return jnp.take_along_axis(pieces, at[None, :, None], axis=0)[0], exhausted


@contextlib.contextmanager
def complex_constants() -> Iterator[None]:
    """Diffrax warns of complex numbers, which is meant for states; ours are real."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Complex dtype support in Diffrax")
        yield


class _InUnits(eqx.Module):
    """The model as a field of states in units; a PyTree, as adjoints need it."""

    model: Any
    unit: Any

    def __call__(self, t: Any, u: Array, args: Any) -> Array:
        return self.model(t, u * self.unit, opened(args)) / self.unit


def powers_of_two(scale: Float[np.ndarray, " state"]) -> Float[np.ndarray, " state"]:
    """The powers of two nearest to positive numbers: units that cost no digit."""
    return np.exp2(np.round(np.log2(scale)))


def start_sizes(start: Float[np.ndarray, " state"], least: float) -> Float[np.ndarray, " state"]:
    """The states' sizes at the start, down to a share of the largest; one where all are zero."""
    size = np.abs(start)
    size = np.maximum(size, least * size.max(initial=0.0))
    return np.where(size > 0, size, 1.0)


def most_steps(least: int, stops: int) -> int:
    """A limit of steps for an integration with so many stops; one of few different numbers."""
    return int(2 ** np.ceil(np.log2(least + 8 * stops)))
