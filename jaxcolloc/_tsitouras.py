"""The explicit method of the integrations that judge a fit: Tsitouras, order 5(4)."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float
from numpy.polynomial import Polynomial

from ._advance import Field
from ._step_control import Step


# Tsitouras, "Runge-Kutta pairs of order 5(4) satisfying only the first column simplifying
# assumption" (Computers and Mathematics with Applications 62, 2011). The last stage is the first of
# the next step.
_STAGES = 7
_C = np.array([0, 0.161, 0.327, 0.9, 0.9800255409045097, 1, 1])
_A = np.zeros((_STAGES, _STAGES))
_A[1, :1] = 0.161
_A[2, :2] = -0.008480655492356989, 0.335480655492357
_A[3, :3] = 2.8971530571054935, -6.359448489975075, 4.3622954328695815
_A[4, :4] = 5.325864828439257, -11.748883564062828, 7.4955393428898365, -0.09249506636175525
_A[5, :5] = (
    5.86145544294642,
    -12.92096931784711,
    8.159367898576159,
    -0.071584973281401,
    -0.028269050394068383,
)
_A[6, :6] = (
    0.09646076681806523,
    0.01,
    0.4798896504144996,
    1.379008574103742,
    -3.290069515436081,
    2.324710524099774,
)
_ERROR = np.array(
    [
        0.001780011052225777,
        0.000816434459656747,
        -0.007880878010261995,
        0.144711007173262982,
        -0.582357165452555229,
        0.458082105929186947,
        -1 / 66,
    ]
)
# The weights of the stages in the continuous extension: a factor, and roots or a quadratic.
_x = Polynomial([0, 1])
_WEIGHTS = (
    -1.0530884977290216
    * _x
    * (_x - 1.3299890189751412)
    * (_x**2 - 1.4364028541716351 * _x + 0.7139816917074209),
    0.1017 * _x**2 * (_x**2 - 2.1966568338249754 * _x + 1.2949852507374631),
    2.490627285651252793 * _x**2 * (_x**2 - 2.38535645472061657 * _x + 1.57803468208092486),
    -16.54810288924490272 * _x**2 * (_x - 1.21712927295533244) * (_x - 0.61620406037800089),
    47.37952196281928122 * _x**2 * (_x - 1.203071208372362603) * (_x - 0.658047292653547382),
    -34.87065786149660974 * _x**2 * (_x - 1.2) * (_x - 0.666666666666666667),
    2.5 * _x**2 * (_x - 1) * (_x - 0.6),
)
# What steps are made of: the end, the error, the state of the last stage but one, and powers.
_RESULTS = np.concatenate(
    [_A[6:], _ERROR[None], _A[5:6], np.array([weight.coef[1:] for weight in _WEIGHTS]).T]
)


def tsitouras(field: Field, t: Any, u: Array, h: Any, slope: Array, fresh: Any) -> Step:
    """A step; the field at its start is `slope`, or found anew where the step is `fresh`."""

    def stage(i: Any, k: Array) -> Array:
        row = lax.dynamic_index_in_dim(jnp.asarray(_A), i, keepdims=False)
        value = field(t + jnp.asarray(_C)[i] * h, u + h * jnp.sum(row[:, None] * k, axis=0))
        return lax.dynamic_update_index_in_dim(k, value, i, 0)

    k = jnp.zeros((_STAGES, *u.shape), u.dtype).at[0].set(slope)
    # A loop, so that the model is compiled once and not for each stage.
    k = lax.fori_loop(jnp.where(fresh, 0, 1), _STAGES, stage, k)
    end, error, earlier, *powers = h * jnp.sum(_RESULTS[:, :, None] * k, axis=1)
    return Step(
        end=u + end,
        error=error,
        slope=k[6],
        powers=jnp.stack(powers),
        rigidity=_rigidity(jnp, h, k, end, earlier),
    )


def tsitouras_steps(
    field: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray],
    t: Float[np.ndarray, " run"],
    u: Float[np.ndarray, "run part state"],
    h: Float[np.ndarray, " run"],
    slope: Float[np.ndarray, "run part state"],
    fresh: np.ndarray,
) -> Step:
    """The same for many integrations at once on the host, whose states have several parts.

    `field(which, t, u)` is that of some of them. Rigidity is that of the first part.
    """
    k = np.empty((_STAGES, *u.shape))
    k[0] = slope
    every = np.arange(len(t))
    anew = every[fresh]
    if len(anew):
        k[0, anew] = field(anew, t[anew], u[anew])
    wide = h[:, None, None]
    for i in range(1, _STAGES):
        k[i] = field(every, t + _C[i] * h, u + wide * np.tensordot(_A[i, :i], k[:i], 1))
    end, error, earlier = (wide * np.tensordot(row, k, 1) for row in _RESULTS[:3])
    first = k[:, :, 0], end[:, 0], earlier[:, 0]
    return Step(u + end, error, k[6], None, _rigidity(np, h, *first))


def _rigidity(xp: Any, h: Any, k: Any, end: Any, earlier: Any) -> Any:
    """`h` times the size of the Jacobian: both last stages are at the same time.

    Hairer and Wanner, "Solving Ordinary Differential Equations II", section IV.2.
    """
    slopes, states = (xp.max(xp.abs(part), axis=-1) for part in (k[6] - k[5], end - earlier))
    return xp.abs(h) * slopes / xp.maximum(states, 1e-300)
