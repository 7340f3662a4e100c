"""Scores on real series by their published protocols, and one NLP of many trajectories.

    python bench/real_data.py --data DIR
    python bench/real_data.py --data DIR --quick    # small versions, no scores to compare

Runs the examples as they are. All scores are of rollouts on data that no fit has seen.
"""

import os


# A solve of these sizes gains nothing from BLAS threads, and loses much where cores are few.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import resource
import sys
import time
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from _report import machine, table, versions


sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
import cascaded_tanks
import catechol
import lynx_hare
import silverbox

import jaxcolloc as jc


class Reactor(eqx.Module):
    """A net 7-16-7 beside a decay that is known."""

    net: eqx.nn.MLP

    def __call__(self, t: Any, y: Any, args: Any) -> Any:
        return self.net(y) - 0.5 * y


def memory() -> float:
    """The process's peak memory in GiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform != "darwin" else peak / 2**30


def many_trajectories(count: int, intervals: int) -> dict[str, Any]:
    """One NLP of `count` trajectories of 30 points with 7 states, from a known net plus noise."""
    truth = Reactor(eqx.nn.MLP(7, 7, 16, 1, jnp.tanh, key=jax.random.key(7)))
    rng = np.random.default_rng(0)
    ts = np.linspace(0.0, 6.0, 30)
    clean = [np.asarray(jc.simulate(truth, ts, rng.normal(size=7))) for _ in range(count)]
    data = [jc.Trajectory(ts, ys + 0.02 * rng.normal(size=ys.shape)) for ys in clean]
    model = Reactor(eqx.nn.MLP(7, 7, 16, 1, jnp.tanh, key=jax.random.key(1)))
    before, begin = memory(), time.perf_counter()
    grid = jc.Grid.uniform(0.0, 6.0, intervals, jc.Radau(3))
    nlp = jc.transcribe(model, data, grid, l2=1e-5)
    guess = jc.guess(nlp, key=jax.random.key(2))
    sol = jc.solve(nlp, jc.Ipopt(max_steps=200), guess, throw=False)
    seconds = time.perf_counter() - begin
    fitted = [
        np.asarray(jc.simulate(sol.model, ts, path.evaluate(0.0))) - ys
        for path, ys in zip(sol.paths, clean, strict=True)
    ]
    return {
        "nlp": nlp,
        "solution": sol,
        "seconds": seconds,
        "ms": 1e3 * sol.stats["solve_seconds"] / max(sol.stats["num_steps"], 1),
        "memory": (before, memory()),
        "error": float(np.sqrt(np.mean(np.square(fitted)))),
    }


def scores(folder: Path | None, quick: bool) -> list[list[str]]:
    """A row for each series and model: reached, aimed at, published, seconds."""
    rows = []
    tanks = cascaded_tanks.run(folder, quick)
    known = {"black box": "0.40 (SCI, 271 s); 0.306", "hybrid": "0.18"}
    for name, found in tanks.items():
        score = f"{found['test_V']:.3f} V ({found['test_after_50_V']:.3f})"
        rows.append([f"cascaded tanks, {name}", score, known[name], f"{found['seconds']:.0f}"])
    box = silverbox.run(folder, quick)
    duffing = "2.27 (neural ODE, 1068 s); 0.95"
    rows.append(
        ["Silverbox, excerpt", f"{box['test_mV']:.2f} mV", duffing, f"{box['seconds']:.0f}"]
    )
    folds = catechol.run(folder, quick)
    published = "0.0624 (neural ODE); 0.0106"
    name = f"catechol, {len(folds['scores'])} folds"
    rows.append([name, f"{folds['mse']:.5f}", published, f"{folds['seconds']:.0f}"])
    for name, found in lynx_hare.run(quick).items():
        score = f"{found['first_ahead']:.1f} thousand"
        rows.append([f"lynx and hare, {name}", score, "", f"{found['seconds']:.0f}"])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("JAXCOLLOC_DATA"))
    parser.add_argument("--quick", action="store_true", help="small versions")
    chosen = parser.parse_args()
    many = many_trajectories(5 if chosen.quick else 50, 4 if chosen.quick else 10)
    rows = scores(chosen.data, chosen.quick)
    print(f"\n{machine()}\n{versions()}\n")
    header = ["series", "rollout error, unseen data", "published: same kind; best", "seconds"]
    print(table(header, rows))
    sol, nlp = many["solution"], many["nlp"]
    print(
        f"\n{len(nlp.trajectories)} trajectories x 30 points, 7 states, net 7-16-7: "
        f"{nlp.num_variables} variables, {sol.result.name}, {sol.stats['num_steps']} steps, "
        f"{many['ms']:.0f} ms per iteration ({sol.stats['evaluation_seconds']:.1f} of "
        f"{sol.stats['solve_seconds']:.1f} s in functions), {many['seconds']:.0f} s in all, peak "
        f"memory {many['memory'][0]:.1f} GiB before and {many['memory'][1]:.1f} GiB after; "
        f"rollouts {many['error']:.4f} from the noise-free truth (noise 0.02)"
    )


if __name__ == "__main__":
    main()
