"""The same NLP in jaxcolloc and in CasADi, and how compile time depends on the number of nodes.

    python bench/solve.py              # the table of the README
    python bench/solve.py --quick      # the small net only

Both solve the Van der Pol problem from the same start with their own IPOPT, at the same tolerance,
in one process pinned to one core; every case is timed several times in turn and the medians are
compared. CasADi gets scalar expressions, its fastest form. Its evaluation and IPOPT's time come
from its own statistics.
"""

import argparse
import os


# Before NumPy, JAX and CasADi start their threads.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

import time
from typing import Any

import casadi_nlp
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from _report import machine, table, versions

import jaxcolloc as jc
from jaxcolloc import datasets


CASES = {
    "2-32-2, 200 Chebyshev": (32, jc.Grid.single(0.0, 15.0, jc.Chebyshev(200))),
    "2-32-2, 50 x Radau 4": (32, jc.Grid.uniform(0.0, 15.0, 50, jc.Radau(4))),
    "2-8-2, 200 Chebyshev": (8, jc.Grid.single(0.0, 15.0, jc.Chebyshev(200))),
    "2-8-2, 50 x Radau 4": (8, jc.Grid.uniform(0.0, 15.0, 50, jc.Radau(4))),
}
L2, TOL = 1e-3, 1e-6


class Autonomous(eqx.Module):
    """y' = net(y)."""

    net: eqx.nn.MLP

    def __call__(self, t: Any, y: Any, args: Any) -> Any:
        return self.net(y)


def problem(width: int, grid: jc.Grid, ts: np.ndarray) -> jc.NLP:
    """Noisy samples of the Van der Pol oscillator at `ts`."""
    data = datasets.van_der_pol().sample(ts, noise=0.1, key=jax.random.key(0))
    net = eqx.nn.MLP(2, 2, width, 1, activation=jnp.tanh, key=jax.random.key(0))
    return jc.transcribe(
        Autonomous(net), data, grid, l2=L2, state_bounds=(-5, 5), weight_bounds=(-100, 100)
    )


def compare(name: str, rounds: int) -> list[object]:
    """One row: median milliseconds per iteration of both, and whether the optima agree."""
    width, grid = CASES[name]
    nlp = problem(width, grid, grid.times)
    guess = jc.guess(nlp, key=jax.random.key(0))
    options = {
        "ipopt": {
            "tol": TOL,
            "max_iter": 3000,
            "mu_strategy": "adaptive",
            "print_level": 0,
            "sb": "yes",
        },
        "print_time": False,
        "record_time": True,
    }
    begin = time.perf_counter()
    peer = casadi_nlp.build(nlp, (2, width, 2), L2, options)
    build = time.perf_counter() - begin
    lower, upper = nlp.bounds
    ours: list[tuple[float, float]] = []
    theirs: list[tuple[float, float]] = []
    compile_seconds = 0.0
    for round_ in range(rounds):
        sol = jc.solve(nlp, jc.Ipopt(tol=TOL), guess)
        begin = time.perf_counter()
        found = peer(x0=guess.z, lbx=lower, ubx=upper, lbg=0, ubg=0)
        seconds = time.perf_counter() - begin
        stats = peer.stats()
        if round_ == 0:
            compile_seconds = sol.stats["compile_seconds"]
        evaluation = sum(value for key, value in stats.items() if key.startswith("t_wall_nlp_"))
        steps, peer_steps = sol.stats["num_steps"], stats["iter_count"]
        ours.append((sol.stats["solve_seconds"] / steps, sol.stats["evaluation_seconds"] / steps))
        theirs.append((seconds / peer_steps, evaluation / peer_steps))
    mine, other = 1e3 * np.median(ours, axis=0), 1e3 * np.median(theirs, axis=0)
    difference = abs(float(found["f"]) / sol.objective - 1)
    return [
        name,
        f"{mine[0]:.2f}",
        f"{other[0]:.2f}",
        f"{other[0] / mine[0]:.2f}",
        f"{mine[1] / mine[0]:.0%}",
        f"{other[1] / other[0]:.0%}",
        f"{steps} / {peer_steps}",
        f"{sol.objective:.8f}",
        f"{difference:.0e}",
        f"{compile_seconds:.1f} / {build:.1f}",
    ]


def scaling(intervals: int, trajectories: int, scheme: jc.Radau) -> list[object]:
    """One row: seconds to build, compile and evaluate an NLP of this size."""
    grid = jc.Grid.uniform(0.0, 15.0, intervals, scheme)
    system = datasets.van_der_pol()
    ts = np.linspace(0.0, 15.0, 200)
    data = [system.sample(ts, noise=0.1, key=jax.random.key(seed)) for seed in range(trajectories)]
    net = eqx.nn.MLP(2, 2, 32, 1, activation=jnp.tanh, key=jax.random.key(0))
    begin = time.perf_counter()
    nlp = jc.transcribe(Autonomous(net), data, grid, l2=L2)
    build = time.perf_counter() - begin
    z, multipliers = np.zeros(nlp.num_variables), np.ones(nlp.num_constraints)
    seconds = {}
    for turn in ("compile", "evaluate"):
        begin = time.perf_counter()
        np.asarray(nlp.jacobian(z))
        np.asarray(nlp.hessian(z, multipliers))
        seconds[turn] = time.perf_counter() - begin
    return [
        sum(item.num_nodes - 1 for item in nlp.grids),
        trajectories,
        nlp.num_variables,
        len(nlp.jacobian_structure[0]) + len(nlp.hessian_structure[0]),
        f"{build:.2f}",
        f"{seconds['compile'] - seconds['evaluate']:.2f}",
        f"{1e3 * seconds['evaluate']:.1f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    print(machine(), versions(), sep="\n", end="\n\n")
    header = ["case", "ms per iteration", "CasADi's", "ratio", "in functions", "CasADi's",
              "iterations", "objective", "difference", "compile / CasADi's build, s"]  # fmt: skip
    names = [name for name in CASES if not options.quick or name.startswith("2-8-2, 50")]
    print(table(header, [compare(name, options.rounds) for name in names]), end="\n\n")
    header = ["nodes", "trajectories", "variables", "non-zeros", "build, s", "compile, s",
              "Jacobian and Hessian, ms"]  # fmt: skip
    sizes = [(50, 1, jc.Radau(4)), (50, 20, jc.Radau(4))]
    if not options.quick:
        sizes += [(5000, 1, jc.Radau(3)), (50, 100, jc.Radau(4))]
    print(table(header, [scaling(*size) for size in sizes]))


if __name__ == "__main__":
    main()
