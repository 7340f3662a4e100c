"""Batches: many predator-prey experiments, trained apart and agreed on one model.

Lotka-Volterra's equations from 12 initial states, noise 0.05, an autonomous net. The experiments
are put in 4 batches, each solved for itself; consensus ADMM pulls their weights together, from the
start that a joint fit of every other experiment gives. Where the batches are solved is a choice of
one argument:

    python examples/batches.py                          # in this process
    python examples/batches.py --executor processes     # two processes
    python examples/batches.py --executor dask          # a local Dask cluster of two workers
    mpiexec -n 3 python -m mpi4py.futures examples/batches.py --executor mpi

The last two need the extra `cluster`. On a real cluster give `distributed.Client` the address of
its scheduler and put the model's class in a module that its workers can import; give mpiexec hosts.
"""

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from _series import options, pyplot, save

import jaxcolloc as jc
from jaxcolloc import datasets


class Neural(eqx.Module):
    """y' = net(y)."""

    net: eqx.nn.MLP

    def __call__(self, t: Any, y: Any, args: Any) -> Any:
        return self.net(y)


@contextlib.contextmanager
def executors(name: str) -> Iterator[Any]:
    """What `jc.fit_admm` takes as `executor`."""
    if name == "here":
        yield None
    elif name == "processes":
        yield 2
    elif name == "dask":
        from distributed import Client, LocalCluster

        with (
            LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
            Client(cluster) as client,
        ):
            yield client.get_executor()
    else:
        from mpi4py.futures import MPIPoolExecutor

        with MPIPoolExecutor() as pool:
            yield pool


def experiments(count: int, samples: int) -> list[jc.Trajectory]:
    """The same system from several initial states."""
    rng, system = np.random.default_rng(0), datasets.lotka_volterra()
    ts = np.linspace(0.0, 5.0, samples)
    starts = np.asarray(system.y0) * rng.uniform(0.5, 1.5, (count, 2))
    return [
        system.sample(ts, noise=0.05, key=jax.random.key(k), y0=y0) for k, y0 in enumerate(starts)
    ]


def main() -> None:
    parser = options(__doc__, data=False)
    names = ("here", "processes", "dask", "mpi")
    parser.add_argument("--executor", choices=names, default="here", help="where batches run")
    parser.add_argument("--batches", type=int, default=4, help="how many")
    chosen = parser.parse_args()
    count, samples, width = (4, 20, 6) if chosen.quick else (12, 120, 16)
    data = experiments(count, samples)
    model = Neural(eqx.nn.MLP(2, 2, width, 1, activation=jnp.tanh, key=jax.random.key(0)))
    grid = jc.Grid.uniform(0.0, 5.0, 20, jc.Radau(3))
    begin = time.perf_counter()
    with executors(chosen.executor) as executor:
        sol = jc.fit_admm(
            model, data, batches=min(chosen.batches, count // 2), grid=grid, l2=1e-4,
            key=jax.random.key(1), weight_bounds=(-100, 100), executor=executor,
        )  # fmt: skip
    rounds = sol.stats["rounds"]
    print(sol)
    print(
        f"{len(sol.stats['members'])} batches, executor {chosen.executor}: {len(rounds['rho'])} "
        f"rounds, {time.perf_counter() - begin:.1f} s with start and verification"
    )
    plt = pyplot()
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), constrained_layout=True)
    for position, (item, path) in enumerate(zip(data, sol.paths, strict=True)):
        batch = next(k for k, members in enumerate(sol.stats["members"]) if position in members)
        ys = jc.simulate(sol.model, np.linspace(0.0, 5.0, 201), path.states[0])
        left.plot(*np.asarray(ys).T, color=f"C{batch}", lw=1)
        left.plot(*item.ys.T, ".", color=f"C{batch}", ms=3)
    left.set(xlabel="prey", ylabel="predators", title="data and rollouts of the one model")
    steps = np.arange(1, len(rounds["rho"]) + 1)
    for name, label in (("primal", r"$\sum_i \|w_i - \bar w\|$"), ("dual", "dual residual")):
        (line,) = right.semilogy(steps, rounds[name], "o-", ms=3, label=label)
        right.semilogy(steps, rounds[f"{name}_tolerance"], ":", color=line.get_color())
    right.set(xlabel="round", title="residuals, their tolerances dotted")
    right.legend()
    save(figure, chosen.output / "batches.png")


if __name__ == "__main__":
    main()
