"""Input: a sampled input as a function of time."""

from typing import Any

import diffrax
import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Float

from ._check import choice, describe, float_array, real_numbers
from ._precision import AnyArray


_KINDS = ("hold", "linear", "cubic")


class Input(diffrax.AbstractPath[Any]):
    r"""A sampled input $u(t)$, to be passed in a trajectory's `args`.

        jc.Trajectory(ts, ys, args=jc.Input(ts, us, kind="hold"))

        def __call__(self, t, y, args):
            u = args(t)

    Constant before the first and after the last sample. It is a Diffrax path: `u.evaluate(t)` is
    `u(t)`, and `jc.simulate` steps to the jumps of a "hold". At a jump the value is that before
    it, as a collocation node at the end of its interval needs it; with
    `jc.Grid.aligned(ts, scheme)` the jumps fall on boundaries.

    **Arguments:**

    - `ts`: sample times, shape `(sample,)`, strictly increasing.
    - `us`: samples, shape `(sample,)` for a scalar input or `(sample, input)`.
    - `kind`: "hold" (zero-order: `us[i]` from `ts[i]` to `ts[i + 1]`), "linear" or "cubic" (a
      not-a-knot spline).

    **Errors:** `ValueError` for times that do not increase or samples that are not finite.
    """

    ts: Float[AnyArray, " sample"]
    coefficients: Float[AnyArray, "power sample *input"]
    kind: str = eqx.field(static=True)

    def __init__(self, ts: Any, us: Any, kind: str = "linear"):
        self.kind = choice("kind", kind, _KINDS)
        self.ts = float_array("ts", ts, 1, "(sample,)")
        axes = "(sample,) or (sample, input)"
        us = real_numbers("us", us, f"an array of real numbers of shape {axes}")
        if us.ndim not in (1, 2):
            raise ValueError(f"`us` must have shape {axes}; got shape {us.shape}.")
        if len(self.ts) == 0 or np.any(np.diff(self.ts) <= 0) or not np.all(np.isfinite(self.ts)):
            raise ValueError(
                "`ts` must hold at least one time, finite and strictly increasing; "
                f"got {describe(self.ts)}."
            )
        if len(us) != len(self.ts):
            raise ValueError(
                f"`us` must have one sample for each of the {len(self.ts)} times in `ts`; "
                f"got shape {us.shape}."
            )
        if not np.all(np.isfinite(us)):
            raise ValueError("`us` must be finite; fill gaps in an input before passing it.")
        self.coefficients = _coefficients(self.ts, us, kind)

    @property
    def t0(self) -> Any:  # type: ignore[override]
        """The first sample's time."""
        return self.ts[0]

    @property
    def t1(self) -> Any:  # type: ignore[override]
        """The last sample's time."""
        return self.ts[-1]

    def __call__(self, t: Any) -> Array:
        """The input at the time `t`, a scalar."""
        return self._at(t, left=True)

    def evaluate(self, t0: Any, t1: Any = None, left: bool = True) -> Array:
        """The input at `t0`, or its increment from `t0` to `t1`."""
        value = self._at(t0, left)
        return value if t1 is None else self._at(t1, left) - value

    def derivative(self, t: Any, left: bool = True) -> Array:
        """The time derivative at `t`."""
        offset, coefficients = self._local(t, left)
        slope = jnp.zeros_like(coefficients[0])
        for power in range(1, len(coefficients)):
            slope = slope + power * coefficients[power] * offset ** (power - 1)
        return slope

    def padded(self, length: int | None = None) -> "Input":
        """The same input with a length that is a power of two, so that lengths agree.

        Or of a `length` that is at least its own.
        """
        pad = padding(len(self.ts)) if length is None else length - len(self.ts)
        if pad == 0:
            return self
        # The last piece is constant and starts at the last sample; copies of it at infinite
        # times are never reached.
        ts = np.pad(self.ts, (0, pad), constant_values=np.inf)
        width = [(0, 0), (0, pad)] + [(0, 0)] * (np.ndim(self.coefficients) - 2)
        coefficients = np.pad(self.coefficients, width, mode="edge")
        longer = eqx.tree_at(lambda item: item.ts, self, ts)
        return eqx.tree_at(lambda item: item.coefficients, longer, coefficients)

    def _at(self, t: Any, left: bool) -> Array:
        offset, coefficients = self._local(t, left)
        value = coefficients[-1]
        for power in range(len(coefficients) - 2, -1, -1):
            value = coefficients[power] + offset * value
        return value

    def _local(self, t: Any, left: bool) -> tuple[Array, Array]:
        """The time since the start of the piece that holds `t`, and that piece's polynomial."""
        ts, coefficients = jnp.asarray(self.ts), jnp.asarray(self.coefficients)
        index = jnp.searchsorted(ts, t, side="left" if left else "right") - 1
        index = jnp.clip(index, 0, len(ts) - 1)
        return jnp.maximum(t - ts[index], 0.0), coefficients[:, index]


def padding(length: int) -> int:
    """What is missing to a power of two: lengths that agree share a compilation."""
    return int(2 ** np.ceil(np.log2(max(length, 1)))) - length


def sample_times(
    tree: object,
) -> tuple[list[Float[AnyArray, " _"]], list[Float[AnyArray, " _"]]]:
    """The sample times of held inputs in `tree`, where they jump, and those of all other inputs.

    Inputs are `Input` objects and Diffrax paths with samples, their times in `ts`.
    """
    held: list[Any] = []
    others: list[Any] = []
    for path in sampled(tree):
        jumps = isinstance(path, Input) and path.kind == "hold"
        (held if jumps else others).append(path.ts)
    return held, others


def sampled(tree: object) -> list[Any]:
    """The inputs in `tree` that have samples, their times in `ts`."""
    return list(filter(is_sampled, jtu.tree_leaves(tree, is_leaf=is_sampled)))


def is_sampled(leaf: object) -> bool:
    """Whether this is an input that has samples."""
    return isinstance(leaf, diffrax.AbstractPath) and np.ndim(getattr(leaf, "ts", 0.0)) == 1


def knots(tree: object) -> Float[np.ndarray, " knot"]:
    """All sample times of the inputs in `tree`, each once."""
    times = [np.asarray(item, np.float64) for part in sample_times(tree) for item in part]
    merged = np.unique(np.concatenate([*times, np.zeros(0)]))
    return merged[np.isfinite(merged)]


def _coefficients(ts: np.ndarray, us: np.ndarray, kind: str) -> np.ndarray:
    """Powers of the time since each sample; the piece after the last sample is constant."""
    if kind == "hold" or len(ts) == 1:
        return us[None]
    if kind == "linear" or len(ts) == 2:
        shape = (-1,) + (1,) * (us.ndim - 1)
        slopes = np.diff(us, axis=0) / np.diff(ts).reshape(shape)
        return np.stack([us, np.concatenate([slopes, np.zeros_like(us[:1])])])
    from scipy.interpolate import CubicSpline

    pieces = CubicSpline(ts, us).c[::-1]
    last = np.zeros_like(pieces[:, :1])
    last[0] = us[-1]
    return np.concatenate([pieces, last], axis=1)
