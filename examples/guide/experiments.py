# %% [markdown]
# # Several experiments
#
# A list of trajectories shares the model's weights. Each has its own times, inputs, number of
# samples, known or unknown start, and constants of its own.
#
# Three decays in vessels of different size: the rate constant is the same, the amount at the
# start is not, and each sensor has a gain that only the first experiment knows.

# %%
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import jaxcolloc as jc


class Decay(eqx.Module):
    rate: jax.Array

    def __call__(self, t, y, args):
        return -self.rate * y

    def observe(self, t, y, args):
        return args["gain"] * y


rng, data = np.random.default_rng(0), []
for gain, start, samples in ((1.0, 4.0, 40), (1.3, 6.0, 25), (0.8, 2.0, 60)):
    ts = np.sort(rng.uniform(0.0, 5.0, samples))
    seen = gain * start * np.exp(-0.7 * ts)[:, None] + 0.02 * rng.normal(size=(samples, 1))
    known = gain if gain == 1.0 else jc.Unknown(1.0, bounds=(0.1, 5.0), scale="log")
    # All vessels were weighed: the starts are known, so that the gains can be.
    data.append(jc.Trajectory(ts, seen, {"gain": known}, y0=[start], t0=0.0))

decay = Decay(jnp.array(0.2))
sol = jc.fit(decay, data, key=jax.random.key(0), num_states=1, observe=decay.observe)
print(float(sol.model.rate), [float(args["gain"]) for args in sol.args])

# %% [test]
assert abs(float(sol.model.rate) - 0.7) < 0.02
assert np.allclose([float(args["gain"]) for args in sol.args], [1.0, 1.3, 0.8], atol=0.03)
assert sol.verification.verdict.ok

# %% [markdown]
# - `y0` is the known start, with NaN for components that are not known; without it the start is
#   fitted. `t0` says when the trajectory begins, where that is before the first sample.
# - `jc.Unknown` in `args` is a constant of one trajectory, found with the rest, with bounds and a
#   scale. Constants of all trajectories are fields of the model.
# - `weights` count samples by their certainty; `1 / s**2` of the standard deviations `s` makes
#   the loss a likelihood. NaN in `ys` is a sample that was not taken, and a channel may be NaN
#   throughout one experiment as long as another has it.
# - `grid` may be one for all or a list; `jc.fit` chooses one for each.
# - `jc.Tie(0, 1)` says that trajectory 1 begins where 0 ends, as after a change of the vessel.
#
# ## One long series
#
# One long series is fitted by one path from one start, which only a system without disturbances
# follows. Where noise acts on the system itself and not on the measurement alone, cut the series
# into windows with starts of their own; neighbours share one sample:


# %%
class Tank(eqx.Module):
    leak: jax.Array

    def __call__(self, t, y, args):
        return args(t) - self.leak * y


ts = np.linspace(0.0, 40.0, 161)
feed = jc.Input(ts[::8], rng.uniform(0.0, 2.0, 21), kind="hold")
level = [2.0]
for k in range(160):  # noise acts on the level itself: it is carried on
    step = jc.simulate(Tank(jnp.array(0.4)), ts[k : k + 2], [level[-1]], feed)
    level.append(float(step[-1, 0]) + 0.1 * rng.normal())
series = jc.Trajectory(ts, np.array(level)[:, None], feed)
pieces = jc.windows(series, 5)
print(len(pieces), "windows of", len(pieces[0].ts), "samples")
drift = jc.fit(Tank(jnp.array(1.0)), pieces, key=jax.random.key(1))
whole = jc.fit(Tank(jnp.array(1.0)), series, key=jax.random.key(1))
print(float(drift.model.leak), float(whole.model.leak), "where 0.4 was used")
print(whole.verification.verdict)

# %% [markdown]
# Windows of 2 samples give a model that predicts one step ahead. Experiments too many for one
# solve are trained in batches, [on a cluster if need be](cluster.html).
