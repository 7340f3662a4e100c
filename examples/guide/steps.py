# %% [markdown]
# # From one call to single steps
#
# `jc.fit` makes every choice. Each can be made by hand, and every step called for itself. The
# data and the model are those of [the first page](start.html).

# %%
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxcolloc as jc


class Model(eqx.Module):
    net: eqx.nn.MLP

    def __call__(self, t, y, args):
        return self.net(y)


ts = np.linspace(0.0, 15.0, 200)
data = jc.datasets.van_der_pol(amplitude=0.0).sample(ts, noise=0.1, key=jax.random.key(0))
model = Model(eqx.nn.MLP(2, 2, 16, 1, activation=jnp.tanh, key=jax.random.key(1)))

# %% [markdown]
# ## Transcribe
#
# A grid says where the states become variables: intervals, and a scheme of nodes in each. One
# interval of Chebyshev points is the paper's global collocation. `jc.transcribe` makes the
# nonlinear program:

# %%
grid = jc.Grid.single(0.0, 15.0, jc.Chebyshev(60))
nlp = jc.transcribe(model, data, grid, l2=1e-4, state_bounds=(-5, 5), weight_bounds=(-100, 100))
print(nlp)

# %% [markdown]
# A local grid is `jc.Grid.uniform(0.0, 15.0, intervals=50, scheme=jc.Radau(4))`; its derivatives
# are far sparser, which pays from a few hundred nodes on. The NLP is usable without the rest:
# `nlp.objective(z)`, `nlp.gradient(z)`, `nlp.jacobian(z)`, `nlp.hessian(z, multipliers, factor)`
# and their structures go into any solver.
#
# ## Guess and solve

# %%
guess = jc.guess(nlp, key=jax.random.key(2))  # smoothed data, gradient matching
sol = jc.solve(nlp, jc.Ipopt(), guess, checkpoint="run.jcs", every=20)
print(sol.result, sol.stats["num_steps"], "steps")

# %% [markdown]
# A result is one of `jc.RESULTS`, a sentence that says what to try next. A solve that fails
# raises `jc.SolveError`, with the best point in it; `throw=False` returns that point. Ctrl-C does
# so too. The checkpoint survives a kill of the process: `jc.load("run.jcs", like=model)`.
#
# ## Verify and refine
#
# A path that satisfies the equations at the nodes may be wrong between them. `jc.verify`
# integrates the model and says whether the rollout follows the path, and if not, why; `jc.refine`
# adds nodes where they are missing, from a warm start:

# %%
print(jc.verify(sol))

# %%
sol = jc.refine(sol, tol=1e-2)
print(sol.stats["refinement_end"])

# %% [markdown]
# ## The same problem with other numbers
#
# `nlp.with_data(data)`, `nlp.with_l2(...)` and `nlp.with_bounds(...)` change numbers and nothing
# else: a warm re-solve with new measurements, as in moving horizon estimation, detects and
# compiles nothing.

# %%
more = jc.datasets.van_der_pol(amplitude=0.0).sample(ts, noise=0.1, key=jax.random.key(5))
again = jc.solve(sol.nlp.with_data(more), jc.InteriorPoint(), sol)
print(again.result, again.stats["num_steps"], "steps")

# %% [markdown]
# ## Polish
#
# If the rollout from a known start is what counts in the end, `jc.fine_tune` trains the same
# model on the same data through Diffrax and Optax, and takes away what the grid has left:

# %%
tuned = jc.fine_tune(sol.model, data, optax.adam(1e-3), steps=50, start=sol)

# %% [test]
assert sol.result.ok
assert again.result.ok
assert jax.tree.structure(tuned.model) == jax.tree.structure(model)
back = jc.load("run.jcs", like=model)
assert back.model.net is not None

# %% [markdown]
# For long oscillatory data and poor guesses, `jc.solve_growing` solves windows of growing length;
# `jc.fit` does so where the plain solve fails. `sol.to_pandas()` gives the path as a table,
# `jc.plot_trace` the iterations.
