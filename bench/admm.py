"""Consensus ADMM: convergence on the paper's case, what the start does, executors, many data.

- "paper": the case study's trajectory, 300 samples on [0, 15], in two segments of 150, against one
  solve of both (net 2-32-2, l2 1e-3, 60 x Radau 4), from penalties rho over two decades. All begin
  with the weights of one joint fit on every other sample, which neither of them has seen the rest
  of. Figure 5.
- "starts": Lotka-Volterra from 8 initial states in 2 batches: the common starts that
  `jc.fit_admm` offers, and batches that start apart.
- "batches": 16 longer trajectories in 1, 2, 4 and 8 batches: seconds per round, the first not
  counted, in this process, whose array operations use all cores, in one and two processes of one
  core each, and on a local Dask cluster of two.
- "large": 400 trajectories of 200 samples in 40 batches.

    python bench/admm.py                   # writes results/admm.json, admm.md, figure_5.png
    python bench/admm.py --only starts
    python bench/admm.py --quick --output DIR
"""

import argparse
import contextlib
import json
import resource
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from _report import machine, table, versions

import jaxcolloc as jc
from jaxcolloc import datasets


RESULTS = Path(__file__).parent / "results"
TARGET_ROUNDS = 40
EXECUTORS = ("this process", "1 process", "2 processes", "2 Dask workers")
Rows = list[dict[str, Any]]


class Autonomous(eqx.Module):
    """y' = net(y)."""

    net: eqx.nn.MLP

    def __call__(self, t: Any, y: Any, args: Any) -> Any:
        return self.net(y)


def net(width: int) -> Autonomous:
    return Autonomous(eqx.nn.MLP(2, 2, width, 1, jnp.tanh, key=jax.random.key(0)))


def fitted(*arguments: Any, **options: Any) -> jc.Solution:
    """`jc.fit_admm`, whose limits and verdicts are in the tables; a batch left out ends the run."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message="The limit of rounds|The fit is not verified")
        return jc.fit_admm(*arguments, **options)


def rollout_rmse(sol: jc.Solution) -> float:
    report = sol.verification if sol.verification is not None else jc.verify(sol)
    return float(np.sqrt(np.mean(report.rollout_rmse**2)))


def summary(sol: jc.Solution) -> dict[str, Any]:
    rounds = sol.stats["rounds"]
    assert sol.verification is not None
    return {
        "rounds": len(rounds["rho"]),
        "result": sol.result.name,
        "objective": sol.objective,
        "primal": rounds["primal"],
        "dual": rounds["dual"],
        "primal_tolerance": rounds["primal_tolerance"],
        "dual_tolerance": rounds["dual_tolerance"],
        "rho": rounds["rho"],
        "rejected": rounds["rejected"],
        "rollout_rmse": rollout_rmse(sol),
        "verdict": sol.verification.verdict.name,
        "seconds": rounds["seconds"][-1],
    }


def paper(quick: bool) -> dict[str, Any]:
    """Two halves of one trajectory against a single model."""
    ts = np.linspace(0.0, 15.0, 300)
    system = datasets.van_der_pol()
    data = system.sample(ts, noise=0.1, key=jax.random.key(0))
    options: dict[str, Any] = {
        "l2": 1e-3, "state_bounds": (-5, 5), "weight_bounds": (-100, 100)
    }  # fmt: skip
    grid = jc.Grid.uniform(0.0, 15.0, 60, jc.Radau(4))
    every_other = jc.Trajectory(ts[::2], data.ys[::2])
    half_grid = jc.Grid.uniform(0.0, ts[::2][-1], 60, jc.Radau(4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        start = jc.fit(net(8 if quick else 32), every_other, key=jax.random.key(1), grid=half_grid,
                       refinements=0, **options)  # fmt: skip
    rows = []
    sols = {}
    for rho in (1.0,) if quick else (0.1, 1.0, 10.0):
        sol = fitted(start.model, data, batches=2, grid=grid, start="as_given", rho=rho,
                     max_rounds=TARGET_ROUNDS, **options)  # fmt: skip
        rows.append({"start_rho": rho} | summary(sol))
        sols[rho] = sol
        print(f"# paper, rho {rho}: {len(sol.trace)} rounds, {sol.objective:.6f}", flush=True)
    # The same two segments, one model, from the same weights.
    segments = sols[1.0].nlp
    begin = jc.guess(segments, weights="as_given")
    single = jc.solve(segments, jc.Ipopt(), begin, throw=False)
    again = jc.solve(segments, jc.Ipopt(), sols[1.0], throw=False)
    fine = np.linspace(0.0, 15.0, 301)
    curves = {"data": [ts.tolist(), data.ys.tolist()], "times": fine.tolist()}
    for name, sol in (("single model", single), ("consensus", sols[1.0])):
        ys = jc.simulate(sol.model, fine, sol.paths[0].states[0])
        curves[name] = np.asarray(ys).tolist()
    return {
        "rows": rows,
        "single": {"objective": single.objective, "rollout_rmse": rollout_rmse(single),
                   "result": single.result.name, "iterations": single.stats["num_steps"]},
        "single_from_consensus": {"objective": again.objective, "rollout_rmse": rollout_rmse(again),
                                  "result": again.result.name},
        "curves": curves,
    }  # fmt: skip


def predators(count: int, samples: int, until: float, noise: float = 0.05) -> list[jc.Trajectory]:
    """Lotka-Volterra from several initial states."""
    rng, system = np.random.default_rng(0), datasets.lotka_volterra()
    ts = np.linspace(0.0, until, samples)
    starts = np.asarray(system.y0) * rng.uniform(0.5, 1.5, (count, 2))
    return [
        system.sample(ts, noise=noise, key=jax.random.key(k), y0=y0) for k, y0 in enumerate(starts)
    ]


def starts(quick: bool) -> Rows:
    """What the common start is worth."""
    data = predators(8, 40, 5.0)
    grid = jc.Grid.uniform(0.0, 5.0, 20, jc.Radau(4))
    model = net(8 if quick else 16)
    apart = [jc.xavier(model, jax.random.key(k)) for k in range(2)]
    rows = []
    for name in ("fit", "batch", "guess", "apart"):
        chosen: Any = apart if name == "apart" else name
        sol = fitted(model, data, batches=2, grid=grid, l2=1e-4, start=chosen,
                     key=jax.random.key(1), max_rounds=10 if quick else 60,
                     weight_bounds=(-100, 100))  # fmt: skip
        joint = jc.solve(sol.nlp, jc.Ipopt(), sol, throw=False)
        rows.append({"start": name} | summary(sol) | {"joint_from_here": joint.objective})
        print(f"# start {name}: {len(sol.trace)} rounds, {sol.objective:.6f}", flush=True)
    return rows


@contextlib.contextmanager
def executors(name: str) -> Iterator[Any]:
    """An executor by its name in the table."""
    if name == "this process":
        yield None
    elif name.endswith(("process", "processes")):
        yield int(name.split()[0])
    else:
        import distributed

        with (
            distributed.LocalCluster(
                n_workers=2, threads_per_worker=1, dashboard_address=None
            ) as cluster,
            distributed.Client(cluster) as client,
        ):
            yield client.get_executor()


def batches(quick: bool) -> Rows:
    """Seconds per round."""
    count = 4 if quick else 16
    data = predators(count, 40 if quick else 200, 5.0 if quick else 20.0)
    until = data[0].ts[-1]
    grid = jc.Grid.uniform(0.0, until, int(4 * until), jc.Radau(4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        start = jc.fit(net(16), data[0], key=jax.random.key(1), grid=grid, l2=1e-4, refinements=0,
                       weight_bounds=(-100, 100)).model  # fmt: skip
    rows: Rows = []
    for number in (2,) if quick else (1, 2, 4, 8):
        for name in EXECUTORS:
            with executors(name) as executor:
                sol = fitted(start, data, batches=number, grid=grid, l2=1e-4, start="as_given",
                             rtol=0.0, atol=1e-12, max_rounds=4 if quick else 10, rho=1.0,
                             weight_bounds=(-100, 100), executor=executor,
                             rollouts=False)  # fmt: skip
            seconds = np.diff(sol.stats["rounds"]["seconds"])
            rows.append(
                {
                    "batches": number,
                    "executor": name,
                    "seconds_per_round": float(np.median(seconds)),
                    "iterations_per_round": float(np.median(sol.stats["rounds"]["num_steps"][1:])),
                    "objective": sol.objective,
                }
            )
            print("#", *rows[-1].values(), flush=True)
    return rows


def large(quick: bool) -> dict[str, Any]:
    """More data than one solve is comfortable with."""
    count, number = (8, 2) if quick else (400, 40)
    data = predators(count, 40 if quick else 200, 5.0 if quick else 20.0)
    until = data[0].ts[-1]
    grid = jc.Grid.uniform(0.0, until, int(4 * until), jc.Radau(4))
    begin = time.perf_counter()
    sol = fitted(net(16), data, batches=number, grid=grid, l2=1e-4, key=jax.random.key(1),
                 weight_bounds=(-100, 100), max_rounds=4 if quick else 40, executor=2,
                 rollouts=False)  # fmt: skip
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    workers = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return {
        "trajectories": count,
        "observations": sum(len(item.ts) for item in data),
        "variables": sol.nlp.num_variables,
        "batches": number,
        "total_seconds": time.perf_counter() - begin,
        "peak_mib": peak,
        "worker_peak_mib": workers,
    } | summary(sol)


PARTS: dict[str, Callable[[bool], Any]] = {
    "paper": paper, "starts": starts, "batches": batches, "large": large,
}  # fmt: skip


def residuals(row: dict[str, Any]) -> str:
    return (
        f"{row['primal'][-1]:.1g} ({row['primal_tolerance'][-1]:.1g}), "
        f"{row['dual'][-1]:.1g} ({row['dual_tolerance'][-1]:.1g})"
    )


def report(found: dict[str, Any]) -> str:
    """The tables."""
    lines = ["# Consensus ADMM", "", found["machine"], "", found["versions"], ""]
    if "paper" in found:
        one, again = found["paper"]["single"], found["paper"]["single_from_consensus"]
        rows = [
            [
                f"ADMM from rho {row['start_rho']:g}", row["result"], row["rounds"],
                sum(row["rejected"]), f"{row['rho'][-1]:g}", residuals(row),
                f"{row['objective']:.6f}", f"{row['objective'] / again['objective']:.4f}",
                f"{row['rollout_rmse']:.4f}", f"{row['seconds']:.1f}",
            ]
            for row in found["paper"]["rows"]
        ]  # fmt: skip
        for name, row in (("one model", one), ("one model, from the consensus", again)):
            rows.append([name, row["result"], "", "", "", "", f"{row['objective']:.6f}",
                         f"{row['objective'] / again['objective']:.4f}",
                         f"{row['rollout_rmse']:.4f}", ""])  # fmt: skip
        header = ("paper's case, 150 + 150", "result", "rounds", "rejected", "last rho",
                  "residuals (tolerances)", "objective", "ratio", "rollout RMSE", "s")  # fmt: skip
        lines += [table(header, rows), ""]
    if "starts" in found:
        rows = [
            [
                row["start"], row["result"], row["rounds"], residuals(row),
                f"{row['objective']:.6f}", f"{row['joint_from_here']:.6f}",
                f"{row['rollout_rmse']:.4f}", row["verdict"], f"{row['seconds']:.1f}",
            ]
            for row in found["starts"]
        ]  # fmt: skip
        header = ("start", "result", "rounds", "residuals (tolerances)", "objective",
                  "one solve from here", "rollout RMSE", "verdict", "s")  # fmt: skip
        lines += [table(header, rows), ""]
    if "batches" in found:
        alone = {
            row["batches"]: row["seconds_per_round"]
            for row in found["batches"]
            if row["executor"] == "1 process"
        }
        rows = [
            [
                row["batches"], row["executor"], f"{row['seconds_per_round']:.3f}",
                f"{alone[row['batches']] / row['seconds_per_round']:.2f}",
                f"{row['iterations_per_round']:.0f}",
            ]
            for row in found["batches"]
        ]  # fmt: skip
        header = ("batches", "executor", "s per round", "speed-up", "iterations per round")
        lines += [table(header, rows), ""]
    if "large" in found:
        row = found["large"]
        lines += [
            f"{row['trajectories']} trajectories, {row['observations']} observation times, "
            f"{row['variables']} variables, {row['batches']} batches on two processes: "
            f"{row['result']} after {row['rounds']} rounds, {row['seconds']:.0f} s in rounds, "
            f"{row['total_seconds']:.0f} s with start and verification; objective "
            f"{row['objective']:.6f}, rollout RMSE {row['rollout_rmse']:.4f} ({row['verdict']}); "
            f"peak memory {row['peak_mib']:.0f} MiB here, {row['worker_peak_mib']:.0f} MiB in a "
            "worker.",
            "",
        ]
    return "\n".join(lines)


def draw(found: dict[str, Any], path: Path) -> None:
    """Figure 5: rollouts of both models, and the residuals."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    curves = found["curves"]
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), constrained_layout=True)
    ts, ys = (np.array(item) for item in curves["data"])
    left.plot(ts, ys[:, 0], ".", color="0.7", ms=4, label="data")
    for name, color in (("single model", "C0"), ("consensus", "C3")):
        style = "--" if name == "consensus" else "-"
        left.plot(curves["times"], np.array(curves[name])[:, 0], style, color=color, label=name)
    left.axvline(7.5, color="0.3", lw=0.8, ls=":")
    left.set(xlabel="time", ylabel="first state", title="rollouts")
    left.legend()
    for number, row in enumerate(found["rows"]):
        kept = ~np.array(row["rejected"], bool)
        rounds = np.arange(1, len(kept) + 1)[kept]
        label = f"from rho {row['start_rho']:g}"
        for name, style in (("primal", "-"), ("dual", "--")):
            share = (np.array(row[name]) / np.array(row[f"{name}_tolerance"]))[kept]
            right.semilogy(rounds, share, style, color=f"C{number}",
                           label=f"{name}, {label}")  # fmt: skip
    right.axhline(1.0, color="0.3", lw=0.8, ls=":")
    right.set(xlabel="round", ylabel="residual / tolerance", title="residuals")
    right.legend(fontsize=8)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", choices=tuple(PARTS), action="append")
    parser.add_argument("--quick", action="store_true", help="a small version, one minute")
    parser.add_argument("--output", type=Path, default=RESULTS)
    chosen = parser.parse_args()
    target = chosen.output / "admm.json"
    found = json.loads(target.read_text()) if chosen.only and target.exists() else {}
    found |= {"machine": machine(), "versions": versions()}
    for name, part in PARTS.items():
        if chosen.only is None or name in chosen.only:
            found[name] = part(chosen.quick)
            chosen.output.mkdir(parents=True, exist_ok=True)
            target.write_text(json.dumps(found))
    text = report(found)
    (chosen.output / "admm.md").write_text(text)
    if "paper" in found:
        draw(found["paper"], chosen.output / "figure_5.png")
    print(text)


if __name__ == "__main__":
    main()
