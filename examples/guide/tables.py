# %% [markdown]
# # Tables, names and reports
#
# `jc.from_frame` makes trajectories of a table of pandas, Polars or another kind: a wide one, with
# a column for each channel, or a long one, with a row for each value. Experiments, channels, states
# and units have names, which are shown in prints, errors, tables and pictures, and which nothing
# that is computed depends on.

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
        first, second = args["activity"] * self.rates * y
        return jnp.stack([-first, first - second])


rng, ts, rows = np.random.default_rng(0), np.linspace(0, 6, 15), []
for run, start, activity in (("Monday", 5.0, 1.0), ("Tuesday", 3.0, 1.2), ("Friday", 8.0, 0.9)):
    truth = Chain(jnp.array([1.0, 0.3]))
    levels = np.asarray(jc.simulate(truth, ts, [start, 1.0], {"activity": activity}))
    levels = levels + 0.05 * rng.normal(size=levels.shape)
    rows += [(run, t, activity, *pair) for t, pair in zip(ts, levels, strict=True)]
table = pd.DataFrame(rows, columns=["run", "hours", "activity", "A", "B"])  # or pd.read_csv(...)

data = jc.from_frame(
    table,
    time="hours",
    by="run",
    channels=["A", "B"],
    constants=["activity"],
    units={"hours": "h", "A": "g/L", "B": "g/L"},
)
sol = jc.fit(Chain(jnp.array([0.5, 0.5])), data, l2=0.0)
print(sol)

# %% [markdown]
# - `constants` are columns that do not vary within an experiment: numbers in its `args`, by name.
# - `inputs` are columns that become a `jc.Input`, also by name; `kind` says how they go on between
#   samples.
# - In a long table `variable` is the column that says what a value is of, and `value` that of the
#   numbers. Inputs may be among them.
# - Dates and durations as times become numbers in the unit that `units` says for their column.
# - `y0=["dose", 0.0]` takes a known start from a column; `jumps={"Monday": jc.doses(...)}` gives
#   doses to experiments by their names.
#
# `jc.Trajectory(..., name=, channels=, units=)` gives the same names by hand, and the option
# `state_names=` those of states.
#
# ## Tables out
#
# One row for each measured value, or with `of="states"` for each state at each node:

# %%
frame = sol.to_frame()
frame.groupby(["experiment", "channel"])["residual"].std()

# %% [test]
assert set(frame.experiment) == {"Monday", "Tuesday", "Friday"}
assert np.allclose(sol.model.rates, [1.0, 0.3], rtol=0.05)
assert np.allclose(frame.residual.std(), 0.05, rtol=0.2)

# %% [markdown]
# ## Pictures
#
# `jc.plot(sol, "Monday")` shows one experiment in detail, `"all"` the channels of all side by side.
# What is left should have no pattern, neither over time nor against the prediction:

# %%
figure = jc.plot(sol, "all")
figure = jc.plot_residuals(sol)

# %% [markdown]
# ## A report
#
# One HTML file, with all pictures in it, that needs no network: summary, verdict, figures of every
# experiment, estimates with 95% intervals, pictures, iterations, settings, versions.

# %%
text = jc.report(sol, "report.html", title="Runs of May")

# %% [test]
assert "Friday" in text
assert "<img" in text
