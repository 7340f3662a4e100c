# %% [markdown]
# # States that nobody measured
#
# Most models have more states than sensors. `num_states` says how many there are, `observe` what
# is measured of them, `h(t, y, args)`; without `observe` the channels are the first states.
# States without data are variables like any other: the equations tie them to those that are
# measured.
#
# Three compartments in a row, of which only the last is measured, through a sensor with an
# unknown gain:

# %%
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import jaxcolloc as jc


class Compartments(eqx.Module):
    rates: jax.Array
    gain: jax.Array

    def __call__(self, t, y, args):
        a, b = self.rates
        return jnp.stack([-a * y[0], a * y[0] - b * y[1], b * y[1] - 0.1 * y[2]])

    def observe(self, t, y, args):
        return self.gain * y[2:]


truth = Compartments(jnp.array([1.0, 0.4]), jnp.array(2.0))
ts = np.linspace(0.0, 20.0, 60)
levels = np.asarray(jc.simulate(truth, ts, [5.0, 0.0, 0.0]))
noise = 0.05 * np.random.default_rng(0).normal(size=(60, 1))
data = jc.Trajectory(ts, 2.0 * levels[:, 2:] + noise, y0=[5.0, 0.0, 0.0])

start = Compartments(jnp.array([2.0, 0.2]), jnp.array(1.0))
sol = jc.fit(
    start,
    data,
    key=jax.random.key(0),
    num_states=3,
    observe=start.observe,  # a method of the model: its weights are trained too
    weight_scale=jc.leafwise(start, None, (lambda m: (m.rates, m.gain), "log")),
)
print(sol.model.rates, sol.model.gain)
jc.plot(sol)

# %% [test]
assert np.allclose(np.sort(sol.model.rates), [0.4, 1.0], rtol=0.15)
assert abs(float(sol.model.gain) - 2.0) < 0.1
assert np.abs(sol.paths[0].evaluate(ts)[:, 2] - levels[:, 2]).max() < 0.1

# %% [markdown]
# What to know:
#
# - The two rates of this model may change places: what comes out at the end of a chain does not
#   tell its links' order. The fit finds one of both. [What the data say](uncertainty.html) tells
#   such things of a solution.
# - A hidden state of a *net* has no meaning of its own: the net finds coordinates in which its
#   equations are simple. Give it physics where you can ([half-known laws](hybrid.html)), or fewer
#   hidden states.
# - `jc.guess(nlp, states=[...])` takes states that you know roughly, one array of shape `(node,
#   state)` for each trajectory; otherwise they are guessed from the model and the sensor.
# - Known starts, `y0=[5.0, nan, 0.0]`, help more than anything else.
