# %% [markdown]
# # Long series, many starts, large nets, accelerators
#
# ## What costs what
#
# A step of the solver is one sparse linear system. `jc.InteriorPoint` eliminates intervals one by
# one, and what is left is dense in the weights, so that a step costs about (nodes) x (states) x
# (weights)^2 + (weights)^3 / 3 operations: linear in the length of the data. 100,000 nodes with a
# small net are fine; thousands of weights are where `jc.Ipopt` becomes the better choice, and
# beyond some ten thousand it is [sequential training](from_sequential.html).

# %%
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import jaxcolloc as jc


class Model(eqx.Module):
    net: eqx.nn.MLP

    def __call__(self, t, y, args):
        return self.net(y)


net = eqx.nn.MLP(2, 2, 8, 1, activation=jnp.tanh, key=jax.random.key(1))
ts = np.linspace(0.0, 200.0, 2001)
data = jc.datasets.van_der_pol(amplitude=0.0).sample(ts, noise=0.1, key=jax.random.key(0))
nlp = jc.transcribe(Model(net), data, jc.Grid.uniform(0.0, 200.0, 600, jc.Radau(3)), l2=1e-4)
sol = jc.solve(nlp, jc.InteriorPoint(), jc.guess(nlp, key=jax.random.key(2)))
seconds = sol.stats["solve_seconds"] / sol.stats["num_steps"]
print(nlp.num_variables, "variables,", sol.stats["num_steps"], f"steps of {1e3 * seconds:.0f} ms")

# %% [markdown]
# Nothing is compiled for the size of a problem on a CPU: the model is, once, for chunks of
# points. The next fit of the same model, on other data or another grid, compiles nothing.
#
# ## From many starts
#
# Nonconvex problems have several optima. `jc.fit` tries starts on a coarse grid; `jc.solve_batch`
# solves from as many as you like:

# %%
small = jc.transcribe(
    Model(net), jc.datasets.van_der_pol(amplitude=0.0).sample(
        ts[:150], noise=0.1, key=jax.random.key(0)
    ),
    jc.Grid.uniform(0.0, 14.9, 40, jc.Radau(3)), l2=1e-4,
)  # fmt: skip
starts = [jc.guess(small, key=key) for key in jax.random.split(jax.random.key(4), 4)]
found = jc.solve_batch(small, jc.InteriorPoint(), starts)
print([round(item.objective, 5) for item in found])

# %% [test]
assert sol.result.ok
assert all(item.result.ok for item in found)

# %% [markdown]
# On an accelerator all of them go through one vectorised loop; on a CPU they are solved one after
# another, or on all cores where they are long.
#
# ## Larger nets
#
# - `hessian="gauss_newton"` leaves out second derivatives of equations and observations: cheaper
#   steps, more of them.
# - `jc.Ipopt(hessian="lbfgs")` needs no second derivatives at all.
# - Scale a pure net by the data (`jc.normalized`), and give it what is known ([hybrid
#   models](hybrid.html)): a net of 8 that knows the balance does better than one of 64 that does
#   not.
# - Train half: `trainable=jc.leafwise(...)` freezes layers.
#
# ## On a GPU
#
# The same script runs on a GPU without a change: there each function of the problem is one traced
# program, and `jc.InteriorPoint` a compiled loop. It pays for batches of starts and for series of
# tens of thousands of nodes; single small solves are faster on the CPU. float64 is used inside,
# so a card with fast float64 is what counts. Compilation takes some ten seconds for every shape,
# so keep the grid the same: `nlp.with_data(...)`.
