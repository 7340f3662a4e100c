r"""Losses of one observation, and the point functions that the objective is made of.

A loss takes the residual $r = h(t, y, \mathtt{args}) - \mathrm{obs}$ of one observation time and
the weights of its channels, both of shape `(obs,)`, and returns a scalar. Missing channels come
with residual 0 and weight 0.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ._callables import OfModel
from ._check import positive
from ._transcription.parameters import Weighted


Loss = Callable[[Float[Array, " obs"], Float[Array, " obs"]], Float[Array, ""]]


def squared_error(
    residual: Float[Array, " obs"], weights: Float[Array, " obs"]
) -> Float[Array, ""]:
    r"""$\sum_c \mathtt{weights}_c\, r_c^2$: the loss of equation (11) of the paper."""
    return jnp.sum(weights * residual**2)


class PseudoHuber(eqx.Module):
    r"""$\sum_c 2\, \mathtt{weights}_c\, \delta^2 (\sqrt{1 + (r_c / \delta)^2} - 1)$: robust.

    Close to the squared error where $|r_c| \ll \delta$, linear with slope $2 \delta$ beyond, so
    that outliers count less.

    **Arguments:** `delta`: where the loss turns linear, in the observations' unit; above zero.
    """

    delta: float = eqx.field(static=True)

    def __init__(self, delta: float):
        self.delta = positive("delta", delta)

    def __call__(
        self, residual: Float[Array, " obs"], weights: Float[Array, " obs"]
    ) -> Float[Array, ""]:
        scaled = jnp.sqrt(1 + (residual / self.delta) ** 2) - 1
        return jnp.sum(2 * weights * self.delta**2 * scaled)


class VectorField(eqx.Module):
    """The model as a point function: $f(t, y, args; w)$."""

    model: Weighted

    def __call__(self, w: Array, t: Array, y: Array, args: Any, data: Any) -> Array:
        model, args = self.model.apply(w, args)
        return model(t, y, args)


class Observed(eqx.Module):
    """The observations of one point as data of a point function."""

    ys: Float[Array, "traj point obs"]
    weights: Float[Array, "traj point obs"]
    measured: Array
    factor: Float[Array, "traj point"]


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
                predicted = self.observe(t, y, known, model)
            return jnp.where(data.measured, predicted - data.ys, 0.0)

        difference = _expanded(residual, w, y) if self.linearise else residual(w, y)
        return (data.factor * self.loss(difference, data.weights))[None]


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


def _expanded(residual: Callable[[Array, Array], Array], w: Array, y: Array) -> Array:
    """The residual expanded to first order about where it is."""
    here = jax.lax.stop_gradient((w, y))
    value, change = jax.jvp(residual, here, (w - here[0], y - here[1]))
    return value + change
