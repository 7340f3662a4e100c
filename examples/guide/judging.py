# %% [markdown]
# # Judging on other data
#
# A verdict says whether a fit is good for its own data. What it is worth elsewhere, other data
# say. The runs are those of [the tables](tables.html):

# %%
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

import jaxcolloc as jc


class Chain(eqx.Module):
    rates: jax.Array  # of A -> B -> C

    def __call__(self, t, y, args):
        first, second = self.rates * y
        return jnp.stack([-first, first - second])


rng, ts, rows = np.random.default_rng(0), np.linspace(0, 6, 15), []
for run, start in (("Monday", 5.0), ("Tuesday", 3.0), ("Friday", 8.0)):
    levels = np.asarray(jc.simulate(Chain(jnp.array([1.0, 0.3])), ts, [start, 1.0]))
    levels = levels + 0.05 * rng.normal(size=levels.shape)
    rows += [(run, t, *pair) for t, pair in zip(ts, levels, strict=True)]
table = pd.DataFrame(rows, columns=["run", "hours", "A", "B"])  # or pd.read_csv("runs.csv")

runs = jc.from_frame(
    table,
    time="hours",
    by="run",
    channels=["A", "B"],
    units={"hours": "h", "A": "g/L", "B": "g/L"},
)
sol = jc.fit(Chain(jnp.array([0.5, 0.5])), runs[:2], l2=0.0)

# %%
found = jc.validate(sol, runs[2:], samples=5, horizons=[1.5])
print(found)  # fit percentage, RMSE, R2: of the simulation, and of forecasts over the horizon


class Saturated(Chain):
    def __call__(self, t, y, args):
        first, second = self.rates[0] * y[0] / (1 + self.rates[2] * y[0]), self.rates[1] * y[1]
        return jnp.stack([-first, first - second])


other = jc.fit(Saturated(jnp.array([0.5, 0.5, 0.1])), runs[:2], l2=0.0)
print(jc.compare({"linear": sol, "saturated": other}, runs[2:]))

# %% [markdown]
# `validate` leaves the model as it is, finds the initial state of each unseen series (from its
# first `samples`, which are then not scored, or from all), and integrates from there without
# another look at the data. The fit percentage is that of system identification: 100 is perfect, 0
# as good as the mean. `compare` puts several fits side by side, with AIC, AICc and BIC of the
# data that were fitted. A rollout that fails has no figures, and the notes say why.

# %% [test]
assert found.overall.average("fit") > 80
assert found.forecasts[0].num_windows > 1
