# %% [markdown]
# # From sequential training
#
# You train Neural ODEs with Diffrax, or with torchdiffeq: a rollout, a loss, its gradient through
# the integration, a step of Adam, and so thousands of times. Here is the same model trained by
# collocation, and when to do which.

# %%
import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxcolloc as jc


class Func(eqx.Module):
    net: eqx.nn.MLP

    def __call__(self, t, y, args):
        return self.net(y)


ts = np.linspace(0.0, 12.0, 120)
data = jc.datasets.van_der_pol(amplitude=0.0).sample(ts, noise=0.1, key=jax.random.key(0))
func = Func(eqx.nn.MLP(2, 2, 16, 1, activation=jnp.tanh, key=jax.random.key(1)))

# %% [markdown]
# The loop that you have, with Diffrax:


# %%
def loss(func, y0):
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(func), diffrax.Tsit5(), 0.0, 12.0, 0.1, y0,
        saveat=diffrax.SaveAt(ts=jnp.asarray(ts)),
        stepsize_controller=diffrax.PIDController(rtol=1e-4, atol=1e-6),
    )  # fmt: skip
    return jnp.mean((solution.ys - jnp.asarray(data.ys, jnp.float32)) ** 2)


@eqx.filter_jit
def step(func, state, y0):
    value, grads = eqx.filter_value_and_grad(loss)(func, y0)
    updates, state = optimizer.update(grads, state)
    return eqx.apply_updates(func, updates), state, value


optimizer = optax.adam(3e-3)
state, trained = optimizer.init(eqx.filter(func, eqx.is_array)), func
for _ in range(200):
    trained, state, value = step(trained, state, jnp.asarray(data.ys[0], jnp.float32))
print(f"after 200 steps: {float(value):.3f}")

# %% [markdown]
# And the same `Func`, as it is:

# %%
sol = jc.fit(func, data, key=jax.random.key(2), l2=1e-4)
y0 = jnp.asarray(sol.paths[0].evaluate(0.0), jnp.float32)
print(f"after {sol.stats['num_steps']} steps: {float(loss(sol.model, y0)):.3f}")

# %% [markdown]
# 0.01 is the noise. The trained module goes back into your loop, for instance to polish:
# `jc.fine_tune` is that loop, with minibatches, growing windows and early stopping.

# %%
tuned = jc.fine_tune(sol.model, data, optax.adam(1e-3), steps=50, start=sol)
print(type(tuned.model).__name__)

# %% [test]
assert float(loss(sol.model, y0)) < 0.02 < float(value)

# %% [markdown]
# ## When to do which
#
# Sequential training integrates the model from an initial state in each step and follows the
# gradient of the rollout's error through the integration. Simultaneous training lets the states
# depart from every rollout until, at the optimum, the equations hold.
#
# | | sequential | simultaneous |
# |---|---|---|
# | a step costs | an integration and its gradient | a sparse linear system in states and weights |
# | steps taken | thousands, first order | tens, second order |
# | starts far from the data | gradients vanish or explode on long series | states begin on the data |
# | unstable or stiff models | the integration fails or crawls | an equation like any other |
# | constraints on states | by penalties | as constraints |
# | weights | up to millions, minibatches | up to some thousands |
# | what holds at the end | the integrator's tolerance | the grid's: verify, refine |
#
# Train simultaneously where the model has up to a few thousand weights and the data are few or
# costly: it is faster, and rarely ends in the flat or diverging fits in which sequential training
# of long oscillating series gets stuck. Train sequentially where nets are large, where data come
# in a stream, or where a model cannot be differentiated twice. From torch, move the weights by
# hand: an `equinox.nn.Linear` has `weight` and `bias` of the same shapes as torch's.
