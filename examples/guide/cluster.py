# %% [markdown]
# # Experiments on a cluster
#
# Data that do not fit one solve, or that lie on several machines, are trained in batches which
# agree on one model: consensus ADMM. Each round solves every batch with its weights pulled to the
# mean of all.

# %%
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import jaxcolloc as jc


class Predators(eqx.Module):
    rates: jax.Array

    def __call__(self, t, y, args):
        a, b, c, d = self.rates
        return jnp.stack([a * y[0] - b * y[0] * y[1], c * y[0] * y[1] - d * y[1]])


truth = Predators(jnp.array([1.0, 0.5, 0.4, 0.8]))
rng, ts, data = np.random.default_rng(0), np.linspace(0.0, 6.0, 31), []
for start in rng.uniform(1.0, 3.0, (4, 2)):
    ys = np.asarray(jc.simulate(truth, ts, start))
    data.append(jc.Trajectory(ts, ys + 0.05 * rng.normal(size=ys.shape)))

model = Predators(jnp.ones(4) * 0.6)
sol = jc.fit_admm(model, data, batches=2, key=jax.random.key(0), l2=0.0, start="guess")
print(sol.result, len(sol.trace), "rounds")
print(np.round(sol.model.rates, 3))

# %% [test]
assert np.allclose(sol.model.rates, truth.rates, rtol=0.05)

# %% [markdown]
# `executor` says where the batches run:
#
# - `executor=None`: in this process, one after another, as above.
# - `executor=4`: in so many processes of this machine. Scripts that start processes need `if
#   __name__ == "__main__":` around their own work.
# - `executor=distributed.Client("tcp://...").get_executor()`: on a Dask cluster.
# - `executor=mpi4py.futures.MPIPoolExecutor()`: under MPI, `mpiexec -n 9 python -m mpi4py.futures
#   script.py`.
#
# The workers need the model's class in a module that they can import; after the first call only
# arrays travel. A subproblem that fails, or whose worker dies, is tried again, and left out of
# the round if that fails too, with a warning. `checkpoint="run.jcs"` writes a file after every
# round, from which a killed run goes on.
#
# Where one solve of all data is possible, it is faster and more exact. `continuity=True` pulls
# the states together where one long trajectory was cut. `examples/batches.py` is this with
# processes, Dask or MPI.
