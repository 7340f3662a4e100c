# %% [markdown]
# # From CasADi or Pyomo
#
# You write collocation by hand in CasADi, or with Pyomo's `pyomo.dae`: variables at nodes,
# equations for each, a loss, IPOPT. Here the model is a function of JAX, and the rest one call.
#
# | CasADi, Pyomo | jaxcolloc |
# |---|---|
# | `x = opti.variable(...)` at nodes; `DerivativeVar`, `ContinuousSet` | the grid: `jc.Grid.uniform(0, 10, 40, jc.Radau(3))` |
# | `collocation_points(3, "radau")`; `TransformationFactory("dae.collocation")` | `jc.transcribe(model, data, grid)` |
# | parameters to be estimated | leaves of the model |
# | constants of one experiment | `jc.Unknown` in its `args` |
# | `opti.subject_to(lower <= (x <= upper))` | `state_bounds=(lower, upper)` |
# | path constraints | `jc.Constraint(function, lower=..., upper=...)` |
# | parameters with sigmoid or log transforms | `weight_scale="log"` |
# | `opti.set_initial(...)` | `jc.guess(nlp)`, or your own states: `jc.guess(nlp, states=[...])` |
# | `nlpsol("solver", "ipopt", ..., {"ipopt": {...}})` | `jc.Ipopt(options={...})`, same IPOPT |
# | `sol.stats()`, `opti.debug.value` | `sol.stats`, `sol.trace`, `sol.paths` |
# | `parmest`, `sIPOPT`, k_aug | `jc.uncertainty(sol)`, `jc.sensitivity(sol, ...)` |
# | parameters `opti.parameter()`, re-solved | `nlp.with_data(...)`, `nlp.with_bounds(...)` |
#
# A parameter estimation of two rate constants in a chain of reactions A to B to C, as one writes
# it in CasADi with three Radau points in each of 20 intervals:

# %%
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import jaxcolloc as jc


class Chain(eqx.Module):
    k: jax.Array

    def __call__(self, t, y, args):
        a, b = y
        return jnp.stack([-self.k[0] * a, self.k[0] * a - self.k[1] * b])


ts = np.linspace(0.0, 10.0, 31)
clean = jc.simulate(Chain(jnp.array([0.7, 0.3])), ts, [1.0, 0.0])
ys = np.asarray(clean) + 0.01 * np.random.default_rng(0).normal(size=(31, 2))

grid = jc.Grid.uniform(0.0, 10.0, 20, jc.Radau(3))
nlp = jc.transcribe(
    Chain(jnp.array([1.0, 1.0])),
    jc.Trajectory(ts, ys, y0=[1.0, 0.0]),
    grid,
    l2=0.0,
    weight_bounds=(0.01, 10.0),
    state_bounds=(0.0, 2.0),
)
sol = jc.solve(nlp, jc.Ipopt(options={"max_iter": 100}), jc.guess(nlp))
print(sol.result, sol.stats["num_steps"], "iterations", np.round(sol.model.k, 3))

# %% [markdown]
# The nodes are those of CasADi's `collocation_points(3, "radau")`, so that both solve the same
# problem to the last digits. What you had to write for it, you may still have: functions,
# derivatives and their patterns are there.

# %%
z = sol.z
print(nlp.num_variables, nlp.num_constraints, float(nlp.objective(z)))
rows, columns = nlp.jacobian_structure
print(len(rows), "non-zeros in the Jacobian;", nlp.jacobian(z).shape)
rows, columns = nlp.hessian_structure
print(len(rows), "in the lower triangle of the Hessian")

# %% [test]
assert sol.result.ok
assert np.allclose(sol.model.k, [0.7, 0.3], rtol=0.05)
assert np.abs(np.asarray(nlp.constraints(z))).max() < 1e-6

# %% [markdown]
# `bench/peers.py` times both on equal problems; the tables are in the project's
# `bench/README.md`.
