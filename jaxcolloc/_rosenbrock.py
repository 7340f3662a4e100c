"""The stiff method of the integrations that judge a fit: Rodas5P, order 5(4)."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

from ._advance import Field
from ._step_control import Step


# Steinebach, "Construction of Rosenbrock-Wanner method Rodas5P and numerical benchmarks within the
# Julia Differential Equations package" (BIT Numerical Mathematics 63, 2023): linearly implicit,
# L-stable and stiffly accurate. In the form without products by the Jacobian (Hairer and Wanner,
# "Solving Ordinary Differential Equations II", section IV.7).
_STAGES = 8
_GAMMA = 0.21193756319429014
_TIMES = np.array(
    [0.0, 0.6358126895828704, 0.4095798393397535, 0.9769306725060716, 0.4288403609558664, 1, 1, 1]
)
_TIME_SLOPE = np.zeros(_STAGES)
_TIME_SLOPE[:5] = (
    _GAMMA,
    -0.42387512638858027,
    -0.3384627126235924,
    1.8046452872882734,
    2.325825639765069,
)
# What stages make of the state at which the field is evaluated; the last row is the step's end.
_A = np.zeros((_STAGES + 1, _STAGES))
_A[1, :1] = 3.0
_A[2, :2] = 2.849394379747939, 0.45842242204463923
_A[3, :3] = -6.954028509809101, 2.489845061869568, -10.358996098473584
_A[4, :4] = 2.8029986275628964, 0.5072464736228206, -0.3988312541770524, -0.04721187230404641
_A[5:, :5] = (
    -7.502846399306121,
    2.561846144803919,
    -11.627539656261098,
    -0.18268767659942256,
    0.030198172008377946,
)
_A[6:, 5] = 1.0
_A[7:, 6] = 1.0
_A[8, 7] = 1.0
# What they add to the right side.
_C = np.zeros((_STAGES, _STAGES))
_C[1, :1] = -14.155112264123755
_C[2, :2] = -17.97296035885952, -2.859693295451294
_C[3, :3] = 147.12150275711716, -1.41221402718213, 71.68940251302358
_C[4, :4] = 165.43517024871676, -0.4592823456491126, 42.90938336958603, -5.961986721573306
_C[5, :5] = (
    24.854864614690072,
    -3.0009227002832186,
    47.4931110020768,
    5.5814197821558125,
    -0.6610691825249471,
)
_C[6, :6] = (
    30.91273214028599,
    -3.1208243349937974,
    77.79954646070892,
    34.28646028294783,
    -19.097331116725623,
    -28.087943162872662,
)
_C[7, :7] = (
    37.80277123390563,
    -3.2571969029072276,
    112.26918849496327,
    66.9347231244047,
    -40.06618937091002,
    -54.66780262877968,
    -9.48861652309627,
)
# The continuous extension.
_H = np.array(
    [
        [
            25.948786856663858,
            -2.5579724845846235,
            10.433815404888879,
            -2.3679251022685204,
            0.524948541321073,
            1.1241088310450404,
            0.4272876194431874,
            -0.17202221070155493,
        ],
        [
            -9.91568850695171,
            -0.9689944594115154,
            3.0438037242978453,
            -24.495224566215796,
            20.176138334709044,
            15.98066361424651,
            -6.789040303419874,
            -6.710236069923372,
        ],
        [
            11.419903575922262,
            2.8879645146136994,
            72.92137995996029,
            80.12511834622643,
            -52.072871366152654,
            -59.78993625266729,
            -0.15582684282751913,
            4.883087185713722,
        ],
    ]
)


def rosenbrock(field: Field, t: Any, u: Array, h: Any, slope: Array, fresh: Any) -> Step:
    """A step. The field at its start is always found anew; `rigidity` is none of its matters."""
    jacobian = jax.jacfwd(lambda u: field(t, u))(u)
    _, in_time = jax.jvp(lambda t: field(t, u), (t,), (jnp.ones_like(t),))
    inverse = jnp.linalg.inv(jnp.eye(len(u)) / (h * _GAMMA) - jacobian)

    def stage(i: Any, k: Array) -> Array:
        into, back = (jnp.asarray(table)[i] @ k for table in (_A, _C))
        value = field(t + jnp.asarray(_TIMES)[i] * h, u + into)
        right = value + h * jnp.asarray(_TIME_SLOPE)[i] * in_time + back / h
        return lax.dynamic_update_index_in_dim(k, inverse @ right, i, 0)

    k = lax.fori_loop(0, _STAGES, stage, jnp.zeros((_STAGES, len(u)), u.dtype))
    change = jnp.asarray(_A[-1]) @ k
    first, second, third = jnp.asarray(_H) @ k
    return Step(
        end=u + change,
        error=k[-1],
        slope=slope,
        powers=jnp.stack([change + first, second - first, third - second, -third]),
        rigidity=jnp.zeros(()),
    )
