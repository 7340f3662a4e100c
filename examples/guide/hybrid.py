# %% [markdown]
# # Laws that are half known
#
# Where part of the law is known, write it down, and let a net be the rest: it needs less data,
# extrapolates further, and its constants mean something. All leaves of the module are weights,
# whether a net's or a rate constant.
#
# A reactor with a known heat balance and an unknown reaction rate, of which the concentration and
# the temperature are measured in three runs:

# %%
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import jaxcolloc as jc


class Reactor(eqx.Module):
    rate: eqx.nn.MLP  # of concentration and temperature, in units near one
    heat: jax.Array  # of reaction, per heat capacity
    cooling: jax.Array

    def __call__(self, t, y, args):
        c, temperature = y
        rate = c * jnp.exp(self.rate(jnp.stack([c, temperature]))[0])
        cooled = self.cooling * (temperature - args["jacket"])
        return jnp.stack([-rate, self.heat * rate - cooled])


def truth(t, y, args):
    rate = 0.8 * y[0] ** 1.5 * jnp.exp(y[1] - 1.0)
    return jnp.stack([-rate, 0.6 * rate - 0.4 * (y[1] - args["jacket"])])


rng, ts, data = np.random.default_rng(0), np.linspace(0.0, 4.0, 33), []
for c, jacket in ((1.0, 0.9), (1.5, 0.7), (0.7, 1.2)):
    ys = np.asarray(jc.simulate(truth, ts, [c, 1.0], {"jacket": jacket}))
    data.append(jc.Trajectory(ts, ys + 0.01 * rng.normal(size=ys.shape), {"jacket": jacket}))

net = eqx.nn.MLP(2, 1, 6, 1, activation=jnp.tanh, key=jax.random.key(0))
reactor = Reactor(net, jnp.array(1.0), jnp.array(1.0))
constants = lambda m: (m.heat, m.cooling)  # noqa: E731
sol = jc.fit(
    reactor,
    data,
    key=jax.random.key(1),
    l2=jc.OnNets(1e-4),  # drawn to zero: the net alone
    weight_scale=jc.leafwise(reactor, None, (constants, "log")),  # positive, of unknown magnitude
    weight_bounds=jc.leafwise(reactor, None, (lambda m: m.cooling, (0.01, 5.0))),
    constraints=jc.nonnegative(0),  # concentrations
)
print(float(sol.model.heat), float(sol.model.cooling))

# %% [markdown]
# 0.6 and 0.4 were used. The net has learned the rate where the runs have been:

# %%
for c, temperature in ((1.0, 1.0), (0.5, 1.1), (0.3, 1.2)):
    found = c * np.exp(sol.model.rate(jnp.array([c, temperature]))[0])
    print(
        f"{c:.1f} {temperature:.1f}: {found:.3f}", f"{0.8 * c**1.5 * np.exp(temperature - 1):.3f}"
    )

# %% [test]
assert sol.verification.verdict.ok
assert abs(float(sol.model.heat) - 0.6) < 0.05
assert abs(float(sol.model.cooling) - 0.4) < 0.05

# %% [markdown]
# - `weight_scale="log"` varies the logarithm, for rates whose magnitude is unknown; `"softplus"`
#   keeps a weight positive; a number is its unit. `jc.leafwise(model, default, (where, value),
#   ...)` says which leaves.
# - `trainable=jc.leafwise(...)` freezes leaves; so does the first stage of a fit in two.
# - `jc.Conserving(model, [1, 1, 1])` makes sums of states invariant, in the rollout as well;
#   `jc.Constraint` states what else must hold on the path; `jc.StateBounds(0, 1.0, 1.0,
#   at="end")` a known end.
# - A net that multiplies a known law (`c * exp(net)`) does better than one that is added to it.
# - `jc.normalized(net_model, data)` scales states and slopes of a pure net by the data's.
#
# How well the data determine the constants beside the net is told by
# [jc.uncertainty](uncertainty.html).
