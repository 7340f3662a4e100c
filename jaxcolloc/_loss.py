r"""Losses of one observation.

A loss takes the residual $r = h(t, y, \mathtt{args}) - \mathrm{obs}$ of one observation time and
the weights of its channels, both of shape `(obs,)`, and returns a scalar. Missing channels come
with residual 0 and weight 0. A loss with more arguments is a likelihood (see `_likelihoods`).
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ._check import positive


Loss = Callable[..., Any]


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
