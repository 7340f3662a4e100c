"""Initial weights: Xavier's draw and gradient matching."""

from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Bool, Float, PRNGKeyArray

from .._args import Unknowns, as_arrays, restore, signature, stack
from .._callables import explained
from .._check import describe, function, integer, positive
from .._data import Trajectory, as_trajectories
from .._precision import AnyArray, x64
from .._ridge import net_weights
from .._smooth import SmoothTrajectory, channel_means
from .._transcription.blocks import Blocks, PointBlocks, Points
from .._transcription.parameters import Weighted
from .._transcription.pieces import HostBlocks
from .._transcription.point_functions import VectorField


Head = Float[np.ndarray, " head"]

MATCHING_STEPS = 30
MATCHING_L2 = 1e-4
_MATCHING_POINTS = 1000
_POINTS_PER_GAP = 4
# The fit ends where this many steps win less than this share of the sum of squares.
_PATIENCE, _LEAST_GAIN = 10, 0.01
# It ends where the gradient is this small; the first step is not longer than this.
_TOL, _FIRST_RADIUS = 1e-6, 10.0
# A value that no step leads to.
_NO_STEP = 1e300


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
        bias = jax.device_put(np.zeros(linear.bias.shape, linear.bias.dtype))
        linear = eqx.tree_at(lambda item: item.bias, linear, bias)
    return linear


class Slopes(NamedTuple):
    """Smoothed states and slopes of a group of trajectories, and the field where they are."""

    field: PointBlocks
    points: Points
    y: Float[np.ndarray, "traj point state"]
    slope: Float[np.ndarray, "traj point state"]

    @classmethod
    def stack(
        cls,
        field: VectorField,
        args: Any,
        unknowns: AnyArray,
        times: Sequence[np.ndarray],
        values: Sequence[np.ndarray],
        slopes: Sequence[np.ndarray],
    ) -> "Slopes":
        """From one array per trajectory."""
        points = Points.at(np.stack(times), args, unknowns, None)
        y = np.stack(values)
        blocks = Blocks.detect(field, points, y.shape[2], field.model.size)
        return cls(HostBlocks(blocks, points), points, y, np.stack(slopes))

    @property
    def num_points(self) -> int:
        """The number of points."""
        return self.slope.shape[0] * self.slope.shape[1]


def fit_slopes(
    head: Head,
    data: tuple[Slopes, ...],
    nets: Bool[np.ndarray, " weight"],
    *,
    l2: float = MATCHING_L2,
    max_steps: int = MATCHING_STEPS,
) -> tuple[Head, float]:
    """Weights and unknowns that match the slopes, by a trust-region Gauss-Newton method.

    With them the mean squared error, relative to the slopes' mean square. `head` itself where the
    fit fails. The ridge acts on the weights of `nets`, and on the distance of all others, and of
    unknowns, from their start, as a share of its size where that is above one.
    """
    fit = _Misfit(head, data, nets, l2)
    fitted = fit.lowered(max_steps) if max_steps and len(head) else head
    return fitted, 2 * fit.value(fitted, ridge=False)


class _Misfit:
    """Half the sum of squares that is fitted, with its gradient and Gauss-Newton Hessian."""

    def __init__(
        self,
        head: Head,
        data: tuple[Slopes, ...],
        nets: Bool[np.ndarray, " weight"],
        l2: float,
    ):
        self._data, self._start = data, head
        count = sum(item.num_points for item in data)
        square = sum(np.sum(item.slope**2, axis=(0, 1)) for item in data)
        scale = np.sqrt(np.asarray(square) / count)
        self._unit = np.where(scale > 0, scale, 1.0) * count**0.5
        drawn_to_zero = np.append(nets, np.zeros(len(head) - len(nets), bool))
        self._ridge = l2 / np.where(drawn_to_zero, 1.0, np.maximum(np.abs(head), 1.0)) ** 2
        self._center = np.where(drawn_to_zero, 0.0, head)
        self._at: tuple[bytes, np.ndarray, np.ndarray] = (b"", head, head)

    def value(self, head: Head, ridge: bool = True) -> float:
        """Half the sum of squares, with or without the ridge's part."""
        with x64(), np.errstate(all="ignore"):
            total = 0.0
            for item in self._data:
                values = item.field.value(head, item.points, item.y)
                total += float(np.sum(((values - item.slope) / self._unit) ** 2))
        if ridge:
            total += float(np.sum(self._ridge * (head - self._center) ** 2))
        return total / 2

    def gradient(self, head: Head) -> np.ndarray:
        """The gradient; zero where there is none."""
        return self._linearised(head)[0] if self._is_smooth(head) else np.zeros(len(head))

    def hessian(self, head: Head) -> np.ndarray:
        """The Gauss-Newton approximation of the Hessian; the identity where there is none."""
        return self._linearised(head)[1] if self._is_smooth(head) else np.eye(len(head))

    def _is_smooth(self, head: Head) -> bool:
        """Whether there are derivatives."""
        gradient, hessian = self._linearised(head)
        return bool(np.all(np.isfinite(gradient)) and np.all(np.isfinite(hessian)))

    def _linearised(self, head: Head) -> tuple[np.ndarray, np.ndarray]:
        key = head.tobytes()
        if key != self._at[0]:
            gradient = self._ridge * (head - self._center)
            hessian = np.diag(self._ridge)
            with x64(), np.errstate(all="ignore"):
                for item in self._data:
                    residual, jacobian = self._rows(item, head)
                    gradient += jacobian.T @ residual
                    hessian += jacobian.T @ jacobian
            self._at = (key, gradient, hessian)
        return self._at[1:]

    def _rows(self, item: Slopes, head: Head) -> tuple[np.ndarray, np.ndarray]:
        """The residuals of a group and their derivatives by the head."""
        field = item.field
        values, _, entries = field.first(head, item.points, item.y)
        residual = np.asarray(values - item.slope) / self._unit
        columns = item.points.positions(field.jac_w.columns, field.num_shared)
        jacobian = np.zeros((*residual.shape, len(head)))
        for own, part, at in zip(jacobian, np.asarray(entries), columns, strict=True):
            own[:, field.jac_w.rows, at] = part / self._unit[field.jac_w.rows]
        return residual.ravel(), jacobian.reshape(-1, len(head))

    def lowered(self, max_steps: int) -> Head:
        """A point where it is lower than at the start, or the start itself."""
        from scipy.optimize import OptimizeResult, minimize

        values: list[float] = []
        best = self._start

        def look(intermediate_result: OptimizeResult) -> None:
            nonlocal best
            best = intermediate_result.x
            values.append(float(intermediate_result.fun))
            patient = len(values) > _PATIENCE and len(values) % _PATIENCE == 1
            if patient and values[-1] > (1 - _LEAST_GAIN) * values[-1 - _PATIENCE]:
                raise StopIteration

        first = self.value(self._start)
        if not np.isfinite(first) or not self._is_smooth(self._start):
            return self._start
        minimize(
            self._bounded, self._start, jac=self.gradient, hess=self.hessian,
            method="trust-exact", callback=look,
            options={"maxiter": max_steps, "gtol": _TOL, "initial_trust_radius": _FIRST_RADIUS},
        )  # fmt: skip
        return best if np.all(np.isfinite(best)) and self.value(best) <= first else self._start

    def _bounded(self, head: Head) -> float:
        """The value; a large number where there is none, or no derivative, which is no step."""
        value = self.value(head)
        return value if np.isfinite(value) and self._is_smooth(head) else _NO_STEP


def match_gradients(
    model: Any,
    data: Trajectory | Sequence[Trajectory],
    *,
    l2: float = MATCHING_L2,
    max_steps: int = MATCHING_STEPS,
) -> Any:
    r"""Fit `model` to the slopes of the smoothed data, without solving any equation.

    $$\min_w \; \frac1M \sum_m \Big\Vert \frac{f(t_m, y_m, args; w) - \dot y_m}{s} \Big\Vert^2 +
      \mathtt{l2} \, \|w\|^2,$$

    where $y_m$ and $\dot y_m$ are values and slopes of the LOWESS-smoothed data at $M$ times spread
    evenly, up to four in a gap between samples and a thousand in all, and $s$ is the root mean
    square of each component's slope. Solved by Gauss-Newton steps in a trust region
    (`scipy.optimize.minimize`) from the model's own weights, until ten steps lower the objective by
    less than 1%. It is the initial guess of `jc.guess`; alone it is quick and biased, since
    smoothing flattens what moves fast.

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
        field = VectorField(weighted)
        slopes = []
        for rows in kinds.values():
            args, times, values, slope = zip(*rows, strict=True)
            none = np.zeros((len(args), 0), np.int32)
            slopes.append(Slopes.stack(field, stack(args), none, times, values, slope))
        w = weighted.flatten("model", model)
        nets = net_weights(weighted, model)
        fitted, _ = fit_slopes(w, tuple(slopes), nets, l2=l2, max_steps=max_steps)
        return weighted.restore(fitted)


def _try(model: Any, item: Trajectory) -> None:
    """Call the model once, abstractly."""
    args = restore(item.args, Unknowns.of(item.args).start)
    eqx.filter_eval_shape(model, item.ts[0], np.zeros(item.num_channels), args)


def points_each(trajectories: Sequence[Trajectory]) -> int:
    """At how many times of each trajectory slopes are matched."""
    gaps = max(len(item.ts) for item in trajectories) - 1
    most = min(_MATCHING_POINTS // len(trajectories), _POINTS_PER_GAP * gaps)
    return int(np.clip(most, 8, 256))
