"""Initial weights: Xavier's draw and gradient matching."""

import warnings
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Float, PRNGKeyArray

from ._blocks import Points, over_points
from ._check import describe
from ._layout import Weights


with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message="JAXopt is no longer maintained")
    import jaxopt


def xavier(model: Any, key: PRNGKeyArray) -> Any:
    r"""`model` with every `equinox.nn.Linear` drawn anew after Glorot and Bengio (2010).

    $$W_{ij} \sim U[-a, a], \qquad a = \sqrt{\tfrac{6}{n_{in} + n_{out}}}, \qquad b = 0.$$

    Other leaves, such as the constants of a physical model, stay as they are.

    **Errors:** `ValueError` if `key` is not a PRNG key.
    """
    if not _is_key(key):
        raise ValueError(
            f"`key` must be a PRNG key, as from jax.random.key(0); got {describe(key)}."
        )

    def is_linear(node: Any) -> bool:
        return isinstance(node, eqx.nn.Linear)

    nodes, treedef = jtu.tree_flatten(model, is_leaf=is_linear)
    keys = jax.random.split(key, max(len(nodes), 1))
    drawn = [
        _draw(node, key) if is_linear(node) else node
        for node, key in zip(nodes, keys, strict=False)
    ]
    return jtu.tree_unflatten(treedef, drawn)


def _is_key(key: Any) -> bool:
    try:
        jax.random.key_data(key) if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else key
    except (AttributeError, TypeError):
        return False
    is_new = jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.shape == ()
    return is_new or (key.dtype == jnp.uint32 and key.shape == (2,))


def _draw(linear: eqx.nn.Linear, key: PRNGKeyArray) -> eqx.nn.Linear:
    out, into = linear.weight.shape
    limit = (6.0 / (into + out)) ** 0.5
    dtype = linear.weight.dtype
    weight = jax.random.uniform(key, (out, into), dtype, -limit, limit)
    linear = eqx.tree_at(lambda item: item.weight, linear, weight)
    if linear.bias is not None:
        linear = eqx.tree_at(lambda item: item.bias, linear, jnp.zeros_like(linear.bias))
    return linear


class Slopes(eqx.Module):
    """Smoothed states and slopes of a group of trajectories."""

    points: Points
    y: Float[Array, "traj point state"]
    slope: Float[Array, "traj point state"]


def match_gradients(
    field: Callable[..., Array], w: Weights, data: tuple[Slopes, ...], l2: float, max_steps: int
) -> Weights:
    r"""Fit the vector field to the slopes $\dot y_m$ at $M$ points:

    $$\min_w \; \frac1M \sum_m \Big\| \frac{f(t_m, y_m; w) - \dot y_m}{s} \Big\|^2
      + l_2 \|w\|^2.$$

    $s$ is the root mean square of each component's slope. Solved by Levenberg-Marquardt.
    Varah, "A spline least squares method for numerical parameter estimation in differential
    equations" (SIAM J. Sci. Stat. Comput. 3, 1982).
    """
    square = sum(jnp.sum(item.slope**2, axis=(0, 1)) for item in data)
    count = sum(item.slope.shape[0] * item.slope.shape[1] for item in data)
    scale = jnp.sqrt(jnp.asarray(square) / count)
    scale = jnp.where(scale > 0, scale, 1.0)
    return _fit(field, w, data, scale, jnp.asarray(l2), max_steps)


@eqx.filter_jit
def _fit(
    field: Callable[..., Array],
    w: Weights,
    data: tuple[Slopes, ...],
    scale: Array,
    l2: Array,
    max_steps: int,
) -> Weights:
    count = sum(item.slope.shape[0] * item.slope.shape[1] for item in data)

    def residual(w: Weights, data: tuple[Slopes, ...], scale: Array, l2: Array) -> Array:
        parts = [jnp.sqrt(l2) * w]
        for item in data:
            value = over_points(field, w, item.points, item.y)
            parts.append(jnp.ravel((value - item.slope) / scale) / count**0.5)
        return jnp.concatenate(parts)

    solver = jaxopt.LevenbergMarquardt(
        residual_fun=residual,
        maxiter=max_steps,
        tol=1e-6,
        xtol=1e-8,
        gtol=1e-8,
        solver="cholesky",
        materialize_jac=True,
    )
    return solver.run(w, data, scale, l2).params
