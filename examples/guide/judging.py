# %% [markdown]
# # Judging on other data
#
# A verdict says whether a model can be trusted where it was fitted. Whether it holds elsewhere is
# seen on series that it has not seen: `jc.validate` leaves the model as it is, finds the initial
# state of each series, integrates from there without another look at the data, and compares.

# %%
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import jaxcolloc as jc


class Growth(eqx.Module):
    rates: jax.Array

    def __call__(self, t, y, args):
        cells, food = y
        eaten = self.rates[0] * cells * food
        return jnp.stack([0.5 * eaten, -eaten])


class Saturated(Growth):
    def __call__(self, t, y, args):
        cells, food = y
        eaten = self.rates[0] * cells * food / (1 + self.rates[1] * food)
        return jnp.stack([0.5 * eaten, -eaten])


rng, ts, data = np.random.default_rng(0), np.linspace(0, 8, 25), []
truth = Saturated(jnp.array([0.5, 0.4]))
for k, start in enumerate(([0.3, 4.0], [0.6, 3.0], [0.2, 6.0])):
    ys = np.asarray(jc.simulate(truth, ts, start)) + 0.03 * rng.normal(size=(25, 2))
    data.append(jc.Trajectory(ts, ys, name=f"run {k}", channels=["cells", "food"]))

known, unseen = data[:2], data[2:]
saturated = jc.fit(Saturated(jnp.array([0.3, 0.1])), known, l2=0.0)
found = jc.validate(saturated, unseen, samples=5, horizons=[1.0])
print(found)

# %% [test]
assert found.overall.average("fit") > 90
assert not found.notes

# %% [markdown]
# The fit percentage is that of system identification,
# $100 \, (1 - \|y - \hat y\| / \|y - \bar y\|)$: 100 is perfect, 0 as good as the mean. With
# `samples=5` the initial state is found from the first five times alone, and these are not scored;
# without it, from all of them. `horizons` adds forecasts that begin again and again, each from the
# state that fits the window before. A `jc.Unknown` in `args` is found with the initial state. A
# rollout that fails has no figures, and `notes` say why.

# %%
figure = found.plot()

# %% [markdown]
# ## Several fits side by side
#
# By their figures on unseen data, and by information criteria of the data that were fitted, with
# as many parameters as the data determine (see `jc.uncertainty`). The second law is too simple.

# %%
nlp = jc.transcribe(Growth(jnp.array([0.3])), known, saturated.nlp.grids, l2=0.0)
simple = jc.solve(nlp, jc.InteriorPoint(), jc.guess(nlp))
compared = jc.compare({"saturated": saturated, "simple": simple}, unseen)
print(compared)

# %% [test]
assert [row.name for row in compared.rows] == ["saturated", "simple"]
assert compared.rows[0].criteria.aicc < compared.rows[1].criteria.aicc
