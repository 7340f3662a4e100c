# %% [markdown]
# # Tables, names and reports
#
# `jc.from_frame` makes trajectories of a table of pandas, Polars or another kind: a wide one,
# with a column for each channel, or a long one, with a row for each value. Experiments, channels,
# states and units have names, which are shown in prints, errors, tables and pictures, and which
# nothing that is computed depends on.

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
print(sol.to_frame().head())  # a row for every measured value
jc.report(sol, "fit.html")  # all of it on one page, which needs no network
jc.plot(sol, "all")  # the channels of all runs; jc.plot(sol, "Monday") for one

# %%
jc.plot_residuals(sol)

# %% [markdown]
# `inputs=` makes columns sampled inputs and `constants=` numbers of each experiment; both stand
# by name in `args`. Dates and durations as times become numbers in the unit that `units` says.
# `jc.Trajectory(..., name=, channels=, units=)` gives the same names by hand, and `state_names=`
# those of states.

# %% [test]
from pathlib import Path


assert set(sol.to_frame().experiment) == {"Monday", "Tuesday"}
assert np.allclose(sol.model.rates, [1.0, 0.3], rtol=0.05)
assert "Tuesday" in Path("fit.html").read_text()
