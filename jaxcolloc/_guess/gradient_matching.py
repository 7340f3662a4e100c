"""Initial weights: Xavier's draw and gradient matching."""

import warnings
from collections.abc import Hashable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from .._args import Unknowns, as_arrays, restore, signature, stack
from .._callables import explained
from .._check import describe, function, integer, positive
from .._data import Trajectory, as_trajectories
from .._precision import AnyArray, x64
from .._ridge import net_weights
from .._smooth import SmoothTrajectory, channel_means
from .._transcription.blocks import Points, over_points
from .._transcription.layout import Head
from .._transcription.parameters import Weighted
from .._transcription.point_functions import VectorField


MATCHING_STEPS = 60
MATCHING_L2 = 1e-4
_MATCHING_POINTS = 1000
_POINTS_PER_GAP = 4
# The fit ends where this many steps win less than this share of the sum of squares.
_PATIENCE, _LEAST_GAIN = 10, 0.01


def _jaxopt() -> Any:
    """jaxopt, whose import takes long; the first one must not be within a trace."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="JAXopt is no longer maintained")
        import jaxopt
    return jaxopt


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
    if not hasattr(key, "dtype"):
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

    @classmethod
    def stack(
        cls,
        args: Any,
        unknowns: AnyArray,
        times: Sequence[np.ndarray],
        values: Sequence[np.ndarray],
        slopes: Sequence[np.ndarray],
    ) -> "Slopes":
        """From one array per trajectory."""
        points = Points.at(np.stack(times), args, unknowns, None)
        return cls(points, jnp.asarray(np.stack(values)), jnp.asarray(np.stack(slopes)))


def fit_slopes(
    field: VectorField,
    head: Head,
    data: tuple[Slopes, ...],
    nets: Bool[np.ndarray, " weight"],
    *,
    l2: float = MATCHING_L2,
    max_steps: int = MATCHING_STEPS,
) -> tuple[Head, float]:
    """Weights and unknowns that match the slopes, by Levenberg-Marquardt from `head`.

    With them the mean squared error, relative to the slopes' mean square. `head` itself where the
    fit fails. The ridge acts on the weights of `nets`, and on the distance of all others, and of
    unknowns, from their start, as a share of its size where that is above one.
    """
    square = sum(jnp.sum(item.slope**2, axis=(0, 1)) for item in data)
    count = _num_points(data)
    scale = jnp.sqrt(jnp.asarray(square) / count)
    scale = jnp.where(scale > 0, scale, 1.0)
    fitted = head
    if max_steps and len(head):
        start = np.asarray(head)
        drawn_to_zero = np.append(nets, np.zeros(len(start) - len(nets), bool))
        root = np.sqrt(l2) / np.where(drawn_to_zero, 1.0, np.maximum(np.abs(start), 1.0))
        center = np.where(drawn_to_zero, 0.0, start)
        _jaxopt()
        found = _fit(field, head, data, scale, jnp.asarray(root), jnp.asarray(center), max_steps)
        fitted = jnp.where(jnp.all(jnp.isfinite(found)), found, head)
    error = jnp.sum(_mismatch(field, fitted, data, scale) ** 2)
    return fitted, float(error)


def _num_points(data: tuple[Slopes, ...]) -> int:
    return sum(item.slope.shape[0] * item.slope.shape[1] for item in data)


def _differences(field: VectorField, head: Head, data: tuple[Slopes, ...], scale: Array) -> Array:
    count = _num_points(data)
    parts = []
    for item in data:
        value = over_points(field, head, item.points, item.y, field.model.size)
        parts.append(jnp.ravel((value - item.slope) / scale) / count**0.5)
    return jnp.concatenate(parts)


def _jacobian(field: VectorField, head: Head, data: tuple[Slopes, ...], scale: Array) -> Array:
    """Of the differences; backward at every point, which has far fewer states than weights."""

    def at_point(w: Array, t: Array, y: Array, args: Any, data: Any) -> Array:
        return jax.jacrev(lambda w: field(w, t, y, args, data))(w)

    num_shared = field.model.size
    count = _num_points(data)
    parts = []
    for item in data:
        slopes = over_points(at_point, head, item.points, item.y, num_shared)
        slopes = slopes / scale[:, None] / count**0.5
        slopes = slopes.reshape(len(slopes), -1, slopes.shape[-1])
        shared, own = slopes[..., :num_shared], slopes[..., num_shared:]
        rows = jnp.pad(shared, ((0, 0), (0, 0), (0, len(head) - num_shared)))
        if item.points.num_unknowns:
            rows = jax.vmap(_placed)(rows, own, item.points.unknowns)
        parts.append(rows.reshape(-1, len(head)))
    return jnp.concatenate(parts)


def _placed(rows: Array, entries: Array, columns: AnyArray) -> Array:
    return rows.at[:, columns].set(entries)


_mismatch = eqx.filter_jit(_differences)


@eqx.filter_jit
def _fit(
    field: VectorField,
    head: Head,
    data: tuple[Slopes, ...],
    scale: Array,
    root: Array,
    center: Array,
    max_steps: int,
) -> Head:
    def residual(head: Head, data: tuple[Slopes, ...], scale: Array, root: Array) -> Array:
        ridge = root * (head - center)
        return jnp.concatenate([ridge, _differences(field, head, data, scale)])

    def jacobian(head: Head, data: tuple[Slopes, ...], scale: Array, root: Array) -> Array:
        ridge = jnp.diag(root)
        return jnp.concatenate([ridge, _jacobian(field, head, data, scale)])

    solver = _jaxopt().LevenbergMarquardt(
        residual_fun=residual,
        maxiter=max_steps,
        tol=1e-6,
        xtol=1e-8,
        gtol=1e-8,
        solver="cholesky",
        materialize_jac=True,
    )
    # jaxopt 0.8.5 takes no notice of `jac_fun` where it materialises the Jacobian.
    solver._jac_fun = jacobian

    def going(carry: Any) -> Array:
        _, state, _, gain = carry
        return (state.iter_num < max_steps) & (state.error > solver.tol) & (gain > _LEAST_GAIN)

    def step(carry: Any) -> Any:
        head, state, before, gain = carry
        head, state = solver.update(head, state, data, scale, root)
        due = state.iter_num % _PATIENCE == 0
        gain = jnp.where(due, 1 - state.value / before, gain)
        return head, state, jnp.where(due, state.value, before), gain

    state = solver.init_state(head, data, scale, root)
    return jax.lax.while_loop(going, step, (head, state, state.value, 1.0))[0]


def match_gradients(
    model: Any,
    data: Trajectory | Sequence[Trajectory],
    *,
    l2: float = MATCHING_L2,
    max_steps: int = MATCHING_STEPS,
) -> Any:
    r"""Fit `model` to the slopes of the smoothed data, without solving any equation.

    $$\min_w \; \frac1M \sum_m \Big\| \frac{f(t_m, y_m, args; w) - \dot y_m}{s} \Big\|^2 +
      \mathtt{l2} \, \|w\|^2,$$

    where $y_m$ and $\dot y_m$ are values and slopes of the LOWESS-smoothed data at $M$ times spread
    evenly, up to four in a gap between samples and a thousand in all, and $s$ is the root mean
    square of each component's slope. Solved by Levenberg-Marquardt from the model's own weights,
    until ten steps lower the objective by less than 1%. It is the initial guess of `jc.guess`;
    alone it is quick and biased, since smoothing flattens what moves fast.

    Varah, "A spline least squares method for numerical parameter estimation in differential
    equations" (SIAM J. Sci. Stat. Comput. 3, 1982).

    **Arguments:**

    - `model`: the vector field `f(t, y, args)`; every component of its state must be measured.
    - `data`: one trajectory or a list of them; a `jc.Unknown` in `args` counts as its start.
    - `l2`: the factor of the ridge penalty on the weights of nets (constants, as `jc.OnNets` tells
      them, are drawn to their start); `max_steps`: the largest number of iterations.

    **Errors:** `ValueError` for what is no trajectory or a model without finite real weights.
    """
    function("model", model, "f(t, y, args)")
    trajectories = as_trajectories(data)
    l2 = positive("l2", l2, allow_zero=True)
    max_steps = integer("max_steps", max_steps, 1)
    means = channel_means(trajectories)
    each = points_each(trajectories)
    kinds: dict[Hashable, list[tuple[Any, ...]]] = {}
    with x64():
        weighted = Weighted.split("model", model)
        with explained("model", "f(t, y, args)"):
            _try(model, trajectories[0])
        for item in trajectories:
            known = None if item.y0 is None else (item.begin, item.y0[: len(means)])
            curve = SmoothTrajectory(item, means, known)
            ts = np.linspace(item.ts[0] if known is None else item.begin, item.ts[-1], each)
            args = as_arrays(restore(item.args, Unknowns.of(item.args).start))
            row = (args, ts, curve.values(ts), curve.slopes(ts))
            kinds.setdefault(signature(args), []).append(row)
        slopes = []
        for rows in kinds.values():
            args, times, values, slope = zip(*rows, strict=True)
            none = np.zeros((len(args), 0), np.int32)
            slopes.append(Slopes.stack(stack(args), none, times, values, slope))
        w = jnp.asarray(weighted.flatten("model", model))
        field = VectorField(weighted)
        nets = net_weights(weighted, model)
        fitted, _ = fit_slopes(field, w, tuple(slopes), nets, l2=l2, max_steps=max_steps)
        return weighted.restore(fitted)


def _try(model: Any, item: Trajectory) -> None:
    """Call the model once, abstractly."""
    args = restore(item.args, Unknowns.of(item.args).start)
    eqx.filter_eval_shape(model, item.ts[0], np.zeros(item.num_channels), args)


def points_each(trajectories: Sequence[Trajectory]) -> int:
    """At how many times of each trajectory slopes are matched."""
    gaps = max(len(item.ts) for item in trajectories) - 1
    most = min(_MATCHING_POINTS // len(trajectories), _POINTS_PER_GAP * gaps)
    return int(np.clip(most, 8, 400))
