# %% [markdown]
# # Inputs
#
# What acts on a system from outside goes into `args`, any PyTree: sampled inputs as `jc.Input`,
# functions of time, constants. The model calls them: `args["feed"](t)`.

# %%
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import jaxcolloc as jc


class Tank(eqx.Module):
    gain: jax.Array
    leak: jax.Array

    def __call__(self, t, y, args):
        return self.gain * args["feed"](t) - self.leak * y


rng = np.random.default_rng(0)
hours = np.linspace(0.0, 24.0, 13)
feed = jc.Input(hours, rng.uniform(0.0, 2.0, 13), kind="hold")  # changed every two hours
ts = np.linspace(0.0, 24.0, 97)
truth = Tank(jnp.array(0.8), jnp.array(0.3))
levels = np.asarray(jc.simulate(truth, ts, [1.0], {"feed": feed}))
data = jc.Trajectory(ts, levels + 0.02 * rng.normal(size=levels.shape), {"feed": feed})

# %% [markdown]
# `kind` is how the input goes between its samples: "hold" (a valve, a setting), "linear" (a slow
# measurement) or "cubic" (a smooth signal that was sampled). A held input makes the state kink,
# which no polynomial follows, so let boundaries of the grid stand where it changes:

# %%
grid = jc.Grid.aligned(hours, jc.Radau(3))
sol = jc.fit(Tank(jnp.array(0.1), jnp.array(0.1)), data, key=jax.random.key(0), grid=grid)
print(float(sol.model.gain), float(sol.model.leak))

# %% [markdown]
# ## Before the first sample
#
# A trajectory begins at its first sample, or at `t0` if that is earlier. With a known start and
# inputs that act before the first measurement, say so: `jc.Trajectory(ts, ys, args, y0=[0.0],
# t0=0.0)`. An input that changes before the trajectory begins, beside a `y0` without a `t0`, is
# warned of.
#
# ## An unknown delay
#
# An input that reaches the system late is `args["feed"](t - delay)`, and the delay is a weight
# like any other, as long as the input is not held: a held one has no slope for the delay to
# follow.


# %%
class Delayed(eqx.Module):
    gain: jax.Array
    leak: jax.Array
    delay: jax.Array

    def __call__(self, t, y, args):
        return self.gain * args["feed"](t - self.delay) - self.leak * y


grown = np.linspace(-4.0, 24.0, 57)
smooth = jc.Input(grown, 1 + np.sin(0.9 * grown) * np.cos(0.2 * grown), kind="cubic")
late = Delayed(jnp.array(0.8), jnp.array(0.3), jnp.array(1.7))
levels = np.asarray(jc.simulate(late, ts, [1.0], {"feed": smooth}))
data = jc.Trajectory(ts, levels + 0.02 * rng.normal(size=levels.shape), {"feed": smooth})
begin = Delayed(jnp.array(0.5), jnp.array(0.5), jnp.array(0.5))
bounds = jc.leafwise(begin, None, (lambda m: m.delay, (0.0, 4.0)))
delayed = jc.fit(begin, data, key=jax.random.key(0), weight_bounds=bounds)
print(float(delayed.model.delay))

# %% [test]
assert abs(float(sol.model.gain) - 0.8) < 0.05
assert abs(float(sol.model.leak) - 0.3) < 0.03
assert abs(float(delayed.model.delay) - 1.7) < 0.15

# %% [markdown]
# `examples/cascaded_tanks.py` and `examples/silverbox.py` fit measured systems with inputs.
