# %% [markdown]
# # What it does
#
# - **Any model**: `f(t, y, args)`, any callable PyTree. Its inexact-array leaves are the weights:
#   nets, physical constants on a log scale within bounds, or a mixture; any leaf can be frozen.
# - **Any data**: several trajectories with their own times, inputs and weights; irregular times;
#   NaN where nothing was measured; known or free initial states; constants to be found for each
#   experiment; states that nobody measured, with guesses for them; a sensor that is trained too.
# - **Tables in, names kept, a report out**: long or wide data frames of any kind become
#   experiments with names and units; predictions come back as tables, and a fit as one HTML page.
# - **Judged on other data**: simulation and forecasts of unseen series, several fits side by side
#   with information criteria.
# - **What must hold**: bounds, path inequalities and equations, initial and terminal conditions,
#   steady states before the experiment, conservation. Units of 1e-6 and 1e6 in one model are
#   scaled inside.
# - **Doses, resets, algebraic equations**: states that are changed at known times, by amounts or
#   by a function; variables that equations determine, as variables of the problem, with the index
#   checked.
# - **Schemes**: `Chebyshev` (one interval, as in the paper), `Radau`, `GaussLegendre`, `Lobatto`
#   on any grid; the grid need not match the data.
# - **Exact derivatives, only where they are not zero**: blocks per node from `jax.vmap`, patterns
#   from the model's own structure.
# - **Compiled once**: on a CPU the model, and what else you pass as a function, is compiled for a
#   fixed number of points, in a second or two; the rest is NumPy and LAPACK. Another grid, more
#   data or the next fit of the same model compile nothing (`tests/test_latency.py` counts).
# - **Fits that prove themselves**: `fit` chooses grid, penalty and start, solves, compares the
#   path with the data and their noise, channel by channel, integrates the trained model and
#   refines the grid until the rollout follows the path. Where something does not hold, it says
#   what and why: a path that misses the data, a grid too coarse, unstable dynamics, a model that
#   blows up.
# - **Sequential training as well**: `fine_tune` trains the same model on the same data through
#   Diffrax and Optax, with minibatches, growing windows and early stopping, to polish what
#   collocation has found, or as a baseline.
# - **Models solved without data**: `simulate` integrates by Diffrax, or on a grid by collocation:
#   stiff models, nets on Chebyshev points, boundary values. `steady_state` finds where a model
#   rests.
# - **A solver of its own**: `InteriorPoint` eliminates interval by interval what a general solver
#   sees as one sparse matrix. `fit` uses it wherever it takes the problem, and `Ipopt` elsewhere;
#   `solve_batch` runs it from many starts at once, on all cores or vectorised on an accelerator.
# - **What the data say**: standard errors, intervals and bands of constants, states, forecasts
#   and nets as functions; what the data leave free is named. The optimum is itself a
#   differentiable function of data, inputs, penalties and bounds.
# - **The same problem again**: `nlp.with_data(data)`, `nlp.with_l2(...)` and
#   `nlp.with_bounds(...)` change numbers and nothing else; a warm re-solve with new measurements,
#   as in moving horizon estimation, detects and compiles nothing (`tests/test_renumbered.py`).
# - **Data for more than one solve**: `fit_admm` trains batches apart, in processes or on a Dask
#   or MPI cluster, and pulls them to one model by consensus ADMM.
# - **Nothing is lost**: a result with advice, the trace of all iterations, the best point found
#   when a limit, a callback or Ctrl-C ends the solve; one file for a warm restart, checkpoints
#   during the solve that survive a kill.
# - **Models that go on**: into Diffrax as they are, by `to_casadi` into CasADi, and into ONNX.
# - **float64 inside** whatever your program uses; your x64 setting stays as it is and the model
#   comes back in its own dtypes.
