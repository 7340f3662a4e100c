# %% [markdown]
# # A start in five minutes
#
# jaxcolloc fits differential equations with unknown parts to measured series. You write the
# right-hand side as an [Equinox](https://docs.kidger.site/equinox/) module of `(t, y, args)`,
# with nets where the law is not known, and pass the measurements; you get the trained module
# back, and a verdict on it.

# %%
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import jaxcolloc as jc


# %% [markdown]
# The data are an oscillator's two states at 200 times, with noise. A model that knows nothing of
# it is a net from state to slope:


# %%
class Model(eqx.Module):
    net: eqx.nn.MLP

    def __call__(self, t, y, args):
        return self.net(y)


ts = np.linspace(0.0, 15.0, 200)
data = jc.datasets.van_der_pol(amplitude=0.0).sample(ts, noise=0.1, key=jax.random.key(0))
model = Model(eqx.nn.MLP(2, 2, 16, 1, activation=jnp.tanh, key=jax.random.key(1)))

# %% [markdown]
# Your own measurements are `jc.Trajectory(ts, ys)`: times of shape `(time,)`, observations of
# shape `(time, channel)`, NaN where nothing was measured. One call does the rest:

# %%
sol = jc.fit(model, data, key=jax.random.key(2), l2=1e-4)
print(sol)

# %% [markdown]
# `jc.fit` has chosen a grid, guessed the states from the data and the weights from their slopes,
# and solved one nonlinear program for both. Then it has integrated the trained model and
# compared: the last lines are the verdict, and if it is not good, they say why and what to do.
# Without `l2`, the ridge penalty on the net's weights is chosen by held-out data.

# %%
jc.plot(sol)

# %% [markdown]
# The trained module is an ordinary one. Integrate it with Diffrax as it is
# (`diffrax.ODETerm(sol.model)`), or in one line, from any start and for any time:

# %%
later = np.linspace(15.0, 30.0, 100)
ys = jc.simulate(sol.model, later, sol.paths[0].evaluate(15.0))
print(ys.shape)

# %% [test]
assert sol.verification.verdict.ok
truth = jc.datasets.van_der_pol(amplitude=0.0).solve(np.linspace(0.0, 15.0, 200))
assert ys.shape == (100, 2)
assert np.all(np.isfinite(ys))

# %% [markdown]
# And keep it: `sol.save("run.jcs")` writes one file, from which `jc.load("run.jcs", like=model)`
# goes on.
#
# Where to go from here: [single steps](steps.html) in the place of the one call, [several
# experiments](experiments.html), [states that nobody measured](hidden_states.html), [laws that
# are half known](hybrid.html), [what the data say](uncertainty.html) about a fitted constant.
