"""The functions of one point that equations, losses and constraints are made of.

A point function takes the weights (behind them the unknowns of the point's trajectory), the time,
the state, the trajectory's `args` and data of the point, and returns an array of outputs.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .._callables import OfModel, as_floats
from .._loss import Loss
from .._precision import AnyArray
from .parameters import Weighted


class VectorField(eqx.Module):
    """The model as a point function: $f(t, y, args; w)$."""

    model: Weighted

    def __call__(self, w: Array, t: Array, y: Array, args: Any, data: Any) -> Array:
        model, args = self.model.apply(w, args)
        wanted = f"an array of shape (state,) = {y.shape}"
        slope = as_floats("model", model(t, y, args), wanted, y.dtype)
        if slope.shape != y.shape:
            raise ValueError(
                f"`model` must return {wanted} when called as f(t, y, args); got {slope.shape}. "
                "If the state has more components than the data, pass `num_states`."
            )
        return slope


class Sensor(eqx.Module):
    """What is measured of a state: $h(t, y, args; w)$."""

    model: Weighted
    function: OfModel

    def __call__(self, w: Array, t: Array, y: Array, args: Any, data: Any) -> Array:
        model, args = self.model.apply(w, args)
        return _seen(self.function, t, y, args, model)


class PathFunction(eqx.Module):
    """A constraint's function $g(t, y, args; w)$, its value as an array of one axis."""

    model: Weighted
    function: OfModel

    def __call__(self, w: Array, t: Array, y: Array, args: Any, data: Any) -> Array:
        model, args = self.model.apply(w, args)
        value = self.function(t, y, args, model)
        if isinstance(value, (tuple, list)) and value:
            value = jnp.stack(value)
        wanted = "a scalar or an array of shape (value,)"
        return jnp.atleast_1d(as_floats("function", value, wanted, y.dtype))


def _seen(observe: OfModel, t: Array, y: Array, args: Any, model: Any) -> Array:
    """What is measured of a state, as floats."""
    return as_floats("observe", observe(t, y, args, model), "an array of shape (obs,)", y.dtype)


class Observed(eqx.Module):
    """The observations of one point as data of a point function."""

    ys: Float[AnyArray, "traj point obs"]
    weights: Float[AnyArray, "traj point obs"]
    measured: Bool[AnyArray, "traj point obs"]
    factor: Float[AnyArray, "traj point"]


class PointLoss(eqx.Module):
    """The loss of one observation time as a point function of one output.

    With `linearise`, the residual is replaced by its first-order expansion at the point, which
    leaves value and gradient as they are and makes the Hessian the Gauss-Newton one.
    """

    model: Weighted
    observe: OfModel | None
    loss: Loss
    linearise: bool = eqx.field(static=True, default=False)

    def __call__(self, w: Array, t: Array, y: Array, args: Any, data: Observed) -> Array:
        def residual(w: Array, y: Array) -> Array:
            if self.observe is None:
                predicted = y[: data.ys.shape[-1]]
            else:
                model, known = self.model.apply(w, args)
                predicted = _seen(self.observe, t, y, known, model)
            return jnp.where(data.measured, predicted - data.ys, 0.0)

        difference = _expanded(residual, w, y) if self.linearise else residual(w, y)
        loss = self.loss(difference, jnp.asarray(data.weights))
        value = as_floats("loss", loss, "a scalar", y.dtype)
        if value.shape != ():
            raise ValueError(
                f"`loss` must return a scalar, the sum over channels; got shape {value.shape}."
            )
        return (jnp.asarray(data.factor) * value)[None]


class PointResidual(eqx.Module):
    r"""$q \sum_c ((\dot y_c - f_c(t, y, args; w)) / s_c)^2$ at one point between the nodes.

    Its state is $y$ and the interpolant's slope $\dot y$, one behind the other; `data` holds the
    quadrature weight $q$ and the scale $s$ of each equation.
    """

    field: VectorField
    linearise: bool = eqx.field(static=True, default=False)

    def __call__(self, w: Array, t: Array, y: Array, args: Any, data: tuple[Array, Array]) -> Array:
        weight, scale = data

        def residual(w: Array, y: Array) -> Array:
            state, slope = jnp.split(y, 2)
            return (slope - self.field(w, t, state, args, None)) / scale

        difference = _expanded(residual, w, y) if self.linearise else residual(w, y)
        return (weight * jnp.sum(difference**2))[None]


def linearised(function: PointLoss | PointResidual) -> PointLoss | PointResidual:
    """The same function, with the Gauss-Newton Hessian in the place of the exact one."""
    return dataclasses.replace(function, linearise=True)


def _expanded(residual: Callable[[Array, Array], Array], w: Array, y: Array) -> Array:
    """The residual expanded to first order about where it is."""
    here = jax.lax.stop_gradient((w, y))
    value, change = jax.jvp(residual, here, (w - here[0], y - here[1]))
    return value + change
