# %% [markdown]
# # Simulation by collocation
#
# `jc.simulate(..., by=scheme)` solves the model's equations by collocation in the place of a
# Diffrax solver, without data. From a known start, intervals are solved one after another by
# Newton's method, an implicit Runge-Kutta method with widths chosen by the tolerances; `jc.Radau`
# takes stiff models. With NaN in `y0` and as many equations at the end, it is a boundary value
# problem, and all intervals are solved together:

# %%
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import jaxcolloc as jc


def stiff(t, y, args):  # Van der Pol, mu = 1000
    return jnp.stack([y[1], 1000 * (1 - y[0] ** 2) * y[1] - y[0]])


late = jc.simulate(stiff, np.linspace(0, 2000, 50), [2.0, 0.0], by=jc.Radau(5))
print(late[-1])

net = eqx.nn.MLP(2, 2, 16, 1, activation=jnp.tanh, key=jax.random.key(0))
ys = jc.simulate(lambda t, y, args: net(y), np.linspace(0, 5, 20), [1.0, 0.0], by=jc.Chebyshev(40))


def heated(t, y, args):  # y'' = -exp(y) with y(0) = y(1) = 0
    return jnp.stack([y[1], -jnp.exp(y[0])])


cold = jc.StateBounds(0, 0.0, 0.0, at="end")  # or any jc.Constraint with lower == upper
ys = jc.simulate(
    heated, np.linspace(0, 1, 21), [0.0, np.nan], by=jc.GaussLegendre(4), constraints=cold
)
print(ys[10])

# %% [markdown]
# A `jc.Grid` as `by` gives the intervals that are tried first. Every polynomial is compared with
# what a scheme of higher order makes of it, and intervals are split until `rtol` and `atol` hold;
# for boundary values that is the estimated error of the solution, for initial values, as in any
# integration, that of each interval. Where they cannot be reached an error says where and why.
# For boundary values, symmetric schemes (`jc.GaussLegendre`) suit solutions with layers at both
# ends.

# %% [test]
from scipy.integrate import solve_ivp


found = solve_ivp(
    lambda t, y: stiff(t, y, None), (0, 2000), [2.0, 0.0], "Radau", [2000.0], rtol=1e-9
)
assert np.abs(late[-1, 0] - found.y[0, -1]) < 1e-4
# Its lower solution has a maximum of 0.1405.
assert np.abs(ys[[0, -1], 0]).max() < 1e-8
assert abs(ys[10, 0] - 0.140539) < 1e-5
