"""The explicit method of the integrations that judge a fit: Dormand and Prince, order 5(4)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float


Field = Callable[[Any, Array], Array]


class Step(NamedTuple):
    """One step of a method from `u` at `t` to `t + h`.

    `end` is the new state and `error` the estimate of its error; `slope` the field there. At
    `t + x h` the solution is `u` plus the sum of `powers[j] * x**(j + 1)`. `rigidity` is `h` times
    the size of the Jacobian, where a method tells it.
    """

    end: Float[Array, " state"]
    error: Float[Array, " state"]
    slope: Float[Array, " state"]
    powers: Float[Array, "power state"]
    rigidity: Float[Array, ""]


# Dormand and Prince, "A family of embedded Runge-Kutta formulae" (Journal of Computational and
# Applied Mathematics 6, 1980); the continuous extension of Shampine, "Some practical Runge-Kutta
# formulas" (Mathematics of Computation 46, 1986). The last stage is the first of the next step.
_STAGES = 7
_C = np.array([0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1, 1])
_A = np.zeros((_STAGES, _STAGES))
_A[1, :1] = 1 / 5
_A[2, :2] = 3 / 40, 9 / 40
_A[3, :3] = 44 / 45, -56 / 15, 32 / 9
_A[4, :4] = 19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729
_A[5, :5] = 9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656
_A[6, :6] = 35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84
_E = np.array([71 / 57600, 0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40])
_P = np.zeros((4, _STAGES))
_P[0, 0] = 1
_P[1:, 0] = (
    -8048581381 / 2820520608,
    8663915743 / 2820520608,
    -12715105075 / 11282082432,
)
_P[1:, 2] = (
    131558114200 / 32700410799,
    -68118460800 / 10900136933,
    87487479700 / 32700410799,
)
_P[1:, 3] = (
    -1754552775 / 470086768,
    14199869525 / 1410260304,
    -10690763975 / 1880347072,
)
_P[1:, 4] = (
    127303824393 / 49829197408,
    -318862633887 / 49829197408,
    701980252875 / 199316789632,
)
_P[1:, 5] = -282668133 / 205662961, 2019193451 / 616988883, -1453857185 / 822651844
_P[1:, 6] = 40617522 / 29380423, -110615467 / 29380423, 69997945 / 29380423


def dormand_prince(field: Field, t: Any, u: Array, h: Any, slope: Array, fresh: Any) -> Step:
    """A step; the field at its start is `slope`, or found anew where the step is `fresh`."""

    def stage(i: Any, k: Array) -> Array:
        row = lax.dynamic_index_in_dim(jnp.asarray(_A), i, keepdims=False)
        value = field(t + jnp.asarray(_C)[i] * h, u + h * _combined(row, k))
        return lax.dynamic_update_index_in_dim(k, value, i, 0)

    k = jnp.zeros((_STAGES, *u.shape), u.dtype).at[0].set(slope)
    # A loop, so that the model is compiled once and not for each stage.
    k = lax.fori_loop(0 if fresh is True else jnp.where(fresh, 0, 1), _STAGES, stage, k)
    end = u + h * _combined(_A[6], k)
    # Both last stages are at the end of the step, at different states (Hairer and Wanner, "Solving
    # Ordinary Differential Equations II", section IV.2).
    apart = end - (u + h * _combined(_A[5], k))
    return Step(
        end=end,
        error=h * _combined(_E, k),
        slope=k[6],
        powers=h * jnp.stack([_combined(row, k) for row in _P]),
        rigidity=jnp.abs(h) * _norm(k[6] - k[5]) / jnp.maximum(_norm(apart), 1e-300),
    )


def _combined(weights: Any, k: Array) -> Array:
    return jnp.sum(jnp.reshape(weights, (-1,) + (1,) * (k.ndim - 1)) * k, axis=0)


def _norm(x: Array) -> Array:
    # The largest size, whose derivative is finite at zero too.
    return jnp.max(jnp.abs(x))
