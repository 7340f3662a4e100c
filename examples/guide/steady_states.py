# %% [markdown]
# # Steady states
#
# Many experiments begin after the system was left alone: a culture at its feed, a cell before the
# dose. `y0=jc.SteadyState(...)` says so, and nothing else of the initial state need be measured.
# What acted before may differ from what acts in the experiment; an unknown constant is the same
# in both:

# %%
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import jaxcolloc as jc


class Gene(eqx.Module):
    rate: jax.Array
    decay: jax.Array

    def __call__(self, t, y, args):  # messenger and protein; the protein represses its messenger
        made = args["dose"] + 0.2 + self.rate / (1 + (y[1] / 1.5) ** 2)
        return jnp.stack([made - self.decay * y[0], args["gain"] * y[0] - y[1] / 2])

    def observe(self, t, y, args):
        return y[1:]


ts, gain, data = np.linspace(0, 8, 33), jc.Unknown(1.0, scale="log"), []
truth = Gene(jnp.array(2.0), jnp.array(1.0))
for dose in (1.0, 3.0):
    start = jc.steady_state(truth, [1.0, 1.0], {"dose": 0.0, "gain": 0.8})
    ys = jc.simulate(truth, ts, start, {"dose": dose, "gain": 0.8})[:, 1:]
    before = jc.SteadyState({"dose": 0.0, "gain": gain})  # f(t0, y0, before) = 0
    data.append(jc.Trajectory(ts, ys, {"dose": dose, "gain": gain}, y0=before))

gene = Gene(jnp.array(1.5), jnp.array(0.7))
nlp = jc.transcribe(
    gene,
    data,
    jc.Grid.uniform(0, 8, 16, jc.Radau(3)),
    observe=gene.observe,
    num_states=2,
    l2=0.0,
    weight_scale="log",
)
sol = jc.solve(nlp, jc.InteriorPoint(), jc.guess(nlp, weights="as_given"))
print(float(sol.model.rate), float(sol.model.decay))
jc.steady_state(sol.model, [1.0, 1.0], {"dose": 5.0, "gain": 0.8})  # under any other dose

# %% [markdown]
# The equations $f = 0$ stand at the first node, with the weights that are being found. Where a
# model conserves something, they do not determine the state: `jc.transcribe` refuses and names
# the sum, `invariants=` states it, and its value is fitted, or given by a `jc.Constraint` with
# `at="start"`. `known=` holds single components. A solution of $f = 0$ need not be stable;
# whether the rollout stays with the path is what `jc.verify` says. `fine_tune` solves for the
# state in every step.

# %% [test]
assert abs(float(sol.model.rate) - 2.0) < 1e-2
assert abs(float(sol.model.decay) - 1.0) < 1e-2
