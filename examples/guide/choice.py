# %% [markdown]
# # Choosing a model
#
# How wide a net, how strong a penalty, which of two laws: data that the fit has not seen decide.
# `jc.fit` holds some out, and predicts them.

# %%
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import jaxcolloc as jc


class Net(eqx.Module):
    net: eqx.nn.MLP

    def __call__(self, t, y, args):
        return self.net(y)


class Logistic(eqx.Module):
    rate: jax.Array
    capacity: jax.Array

    def __call__(self, t, y, args):
        return self.rate * y * (1 - y / self.capacity)


class Exponential(eqx.Module):
    rate: jax.Array

    def __call__(self, t, y, args):
        return self.rate * y


def net(width):
    key = jax.random.key(width)
    return Net(eqx.nn.MLP(1, 1, width, 1, activation=jnp.tanh, key=key))


ts = np.linspace(0.0, 8.0, 41)
truth = Logistic(jnp.array(0.9), jnp.array(3.0))
rng, data = np.random.default_rng(0), []
for start in (0.2, 0.5, 1.0, 4.0):
    ys = np.asarray(jc.simulate(truth, ts, [start]))
    data.append(jc.Trajectory(ts, ys + 0.05 * rng.normal(size=ys.shape)))

# %% [markdown]
# ## One of several models
#
# A list of models is tried in turn, and the one kept that predicts held-out data best; a later
# one must do so by a tenth, so begin with the simplest. With four trajectories or more whole ones
# are held out, else the end of each:

# %%
candidates = [Logistic(jnp.array(0.5), jnp.array(1.0)), net(2), net(6)]
sol = jc.fit(candidates, data, key=jax.random.key(0))
print(type(sol.model).__name__)

# %% [markdown]
# ## The penalty
#
# Without `l2`, a ladder of penalties on the nets' weights is gone down until held-out data are
# predicted worse, or no better. Physical constants are not penalised. What was tried stands in
# `stats`:

# %%
sol = jc.fit(net(6), data, key=jax.random.key(0))
for row in sol.stats["selection"]:
    print(f"{row['l2']:.1e}: {row['held_out_error']:.4f}")

# %% [markdown]
# `held_out` is the share that is held out, and `horizon` how far ahead it is to be predicted: for
# chaotic series and noisy cycles, which no model predicts for long, give one of a period or less.
#
# ## What a poor law looks like
#
# A model that cannot follow the data is told from one that does by its verdict, not by its error
# alone:

# %%
poor = jc.fit(Exponential(jnp.array(0.5)), data, key=jax.random.key(0))
print(poor.verification)

# %% [test]
assert sol.verification.verdict.ok
assert not poor.verification.verdict.ok
