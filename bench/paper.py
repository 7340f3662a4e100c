"""The paper's evaluation: its table 1 and its figures 1 to 4, with this library's training beside.

    python bench/paper.py                # 10 seeds, two nets, two processes: about 40 minutes
    python bench/paper.py --quick        # one seed, a small net, short budgets
    python bench/paper.py --resume       # only what the JSON of a run lacks
    python bench/paper.py --report       # tables and pictures anew from the JSON of a run

Shapovalova and Tsay (arXiv 2502.15642), section 4: a forced Van der Pol oscillator, 200 Chebyshev
points on [0, 15], noise 0.1, autonomous nets 2-32-2 and 2-8-2. Rollouts are judged against the
noise-free truth: train from the true start, test from the true state at 15 to 30.

- collocation: a solve by IPOPT from gradient matching; another from another draw of the weights if
  its rollout from the fitted start does not follow the data (`jc.verify`), five at most;
- collocation, 6 starts: six solves by `jc.InteriorPoint`, of which the rollout is kept that is
  closest to the data among those that `jc.verify` accepts;
- JAX[no]: `jc.fine_tune` from random weights, on all of the time at once;
- JAX[JAX]: the same, on the first fifth of the time first;
- JAX[collocation]: the same from the weights of the best of six starts, their time counted;
- PyTorch[PyTorch], PyTorch[collocation]: the same with torchdiffeq and torch.optim.

Sequential training knows the true initial state, collocation does not. Each run takes the long
budget; the short one is what it has by then. Compilation is not counted, and shown apart. The
ridge penalty, and the learning rate from collocated weights, were chosen on seeds 10 to 13, which
are not in the table.
"""

import os


os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import concurrent.futures
import dataclasses
import functools
import json
import multiprocessing
import sys
import time
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from _report import machine, table, versions


sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
from van_der_pol import Autonomous, picture

import jaxcolloc as jc
from jaxcolloc import datasets


UNTIL, NOISE = 15.0, 0.1
TS = np.linspace(0.0, 2 * UNTIL, 401)
HALVES = slice(0, 201), slice(200, 401)
L2 = 2e-4


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Learning rate and steps in which it halves; steps on the first fifth; ridge penalty."""

    rates: tuple[float, float]
    pre_training: int = 0
    l2: float = 0.0


SCRATCH, PRE_TRAINED = Schedule((2e-2, 4000.0)), Schedule((2e-2, 4000.0), 1500)
TORCH_PRE_TRAINED = Schedule((2e-2, 400.0), 200)
# From collocated weights, with the ridge penalty that these were found with.
POLISH, TORCH_POLISH = Schedule((2e-4, 2000.0), l2=L2), Schedule((2e-4, 200.0), l2=L2)
# How many starts IPOPT may need, and how many the other solver takes.
MOST_STARTS, STARTS = 5, 6
SEVERAL = f"collocation, {STARTS} starts"
METHODS = ("collocation", SEVERAL, "JAX[no]", "JAX[JAX]", "JAX[collocation]", "PyTorch[PyTorch]",
           "PyTorch[collocation]")  # fmt: skip
# What the paper prints for its own runs, as far as it is compared here: train and test MSE.
PRINTED = {
    (32, "collocation"): "0.0225 / 0.6139",
    (8, "collocation"): "0.0374 / 0.9792",
    (32, "JAX[collocation]"): "0.0098 / 0.4891",
    (32, "PyTorch[collocation]"): "0.0111 / 0.4204",
}


@dataclasses.dataclass
class Attempt:
    """A solve from one start, the seconds until its end, and its iterates."""

    sol: jc.Solution
    verification: jc.Verification
    spent: float
    compile_seconds: float
    iterates: list[tuple[float, Any]]

    def rank(self) -> tuple[bool, float]:
        """Verified ones first, then by the error of the rollout."""
        error = float(self.verification.rollout_rmse[0])
        return not self.verification.verdict.ok, error if np.isfinite(error) else np.inf


class Experiment:
    """One net and seed: data, and every method on them with its curve over time."""

    def __init__(self, width: int, seed: int, nodes: int, seconds: float):
        self.width, self.seed, self.seconds = width, seed, seconds
        self.every = max(seconds / 60, 0.1)
        keys = jax.random.split(jax.random.key(seed), 3)
        self.guess_key = keys[2]
        self.grid = jc.Grid.single(0.0, UNTIL, jc.Chebyshev(nodes))
        self.data = datasets.van_der_pol().sample(self.grid.times, noise=NOISE, key=keys[0])
        self.truth = datasets.van_der_pol().solve(TS)
        self.known = jc.Trajectory(self.data.ts, self.data.ys, y0=self.truth[0])
        net = eqx.nn.MLP(2, 2, width, 1, activation=jnp.tanh, key=keys[1])
        self.model = jc.xavier(Autonomous(net), keys[1])

    def errors(self, rollout: Any) -> list[float]:
        """Mean squared errors on the train and the test range."""
        runs = [np.asarray(rollout(TS[part], self.truth[part][0])) for part in HALVES]
        with np.errstate(all="ignore"):
            found = [
                float(np.mean((run - self.truth[part]) ** 2))
                for run, part in zip(runs, HALVES, strict=True)
            ]
        return [item if np.isfinite(item) else float("inf") for item in found]

    def judged(self, model: Any) -> list[float]:
        """The errors of a JAX model."""
        return self.errors(lambda ts, y0: jc.simulate(model, ts, y0, throw=False))

    def nlp(self) -> jc.NLP:
        """The case study's NLP."""
        return jc.transcribe(
            self.model, self.data, self.grid, l2=L2, state_bounds=(-5, 5), weight_bounds=(-100, 100)
        )

    def attempt(self, nlp: jc.NLP, solver: Any, start: int, spent: float) -> "Attempt":
        """One start; its curve are the iterates that are models."""
        key = jax.random.fold_in(self.guess_key, start) if start else self.guess_key
        guess, seconds, again = twice(lambda: jc.guess(nlp, key=key))
        spent, compiling = spent + again, max(seconds - again, 0.0)
        iterates: list[tuple[float, Any]] = [(spent, guess.model)]

        def callback(step: jc.Step) -> None:
            model = step.model() if step.model is not None else None
            if model is not None:
                iterates.append((spent + step.seconds, model))

        followed = callback if isinstance(solver, jc.Ipopt) else None
        sol = jc.solve(nlp, solver, guess, throw=False, callback=followed)
        verification, seconds, again = twice(lambda: jc.verify(sol))
        compiling += sol.stats["compile_seconds"] + max(seconds - again, 0.0)
        spent += sol.stats["solve_seconds"] + again
        iterates.append((spent, sol.model))
        return Attempt(sol, verification, spent, compiling, iterates)

    def collocation(self) -> dict[str, Any]:
        """Solves by IPOPT until one is verified."""
        nlp, attempts = self.nlp(), []
        for start in range(MOST_STARTS):
            spent = attempts[-1].spent if attempts else 0.0
            attempts.append(self.attempt(nlp, jc.Ipopt(), start, spent))
            if attempts[-1].verification.verdict.ok:
                break
        iterates = [pair for item in attempts for pair in item.iterates]
        return self.collocated(attempts, attempts[-1], iterates)

    def several(self) -> tuple[dict[str, Any], Any]:
        """The best of several solves; its curve is that of the best so far. And its model."""
        nlp, attempts, kept = self.nlp(), [], []
        for start in range(STARTS):
            spent = attempts[-1].spent if attempts else 0.0
            attempts.append(self.attempt(nlp, jc.InteriorPoint(), start, spent))
            best = min(attempts, key=Attempt.rank)
            kept.append((attempts[-1].spent, best.sol.model))
        return self.collocated(attempts, best, kept), best.sol.model

    def collocated(
        self, attempts: "list[Attempt]", best: "Attempt", kept: list[tuple[float, Any]]
    ) -> dict[str, Any]:
        """What came of these starts."""
        return {
            "seconds": attempts[-1].spent,
            "compile_seconds": sum(item.compile_seconds for item in attempts),
            "result": best.sol.result.name,
            "verdict": best.verification.verdict.name,
            "starts": len(attempts),
            "steps": [item.sol.stats["num_steps"] for item in attempts],
            "curve": [[at, *self.judged(model)] for at, model in kept],
        }

    def sequential(self, model: Any, schedule: Schedule, spent: float = 0.0) -> dict[str, Any]:
        """Training by Diffrax and Optax; the curve is that of the least loss so far."""
        best = [np.inf, None, 0.0]
        kept: list[tuple[float, Any]] = []

        def callback(step: jc.Step) -> None:
            if step.iteration == schedule.pre_training:
                best[0] = np.inf
            if step.objective < best[0]:
                best[:2] = step.objective, step.model
            if step.seconds >= best[2]:
                kept.append((spent + step.seconds, best[1]()))
                best[2] = step.seconds + self.every

        steps, windows = 10**6, (1.0,)
        if schedule.pre_training:
            steps, windows = (schedule.pre_training, 10**6), (0.2, 1.0)
        sol = jc.fine_tune(
            model, self.known, _adam(*schedule.rates), steps=steps, windows=windows, clip=1.0,
            l2=schedule.l2, grid=self.grid, max_seconds=self.seconds - spent, throw=False,
            callback=callback,
        )  # fmt: skip
        kept.append((spent + sol.stats["solve_seconds"], sol.model))
        return {
            "seconds": kept[-1][0],
            "compile_seconds": sol.stats["compile_seconds"],
            "result": sol.result.name,
            "steps": sol.stats["num_steps"],
            "curve": [[at, *self.judged(item)] for at, item in kept],
        }

    def torch(self, model: Any, schedule: Schedule, spent: float = 0.0) -> dict[str, Any]:
        """Training by torchdiffeq from the same weights."""
        import torch
        import torch_baseline

        torch.set_num_threads(1)
        kept: list[tuple[float, Any]] = []
        torch_baseline.train(
            torch_baseline.from_equinox(model.net), self.data.ts, self.data.ys, self.truth[0],
            schedule.rates, schedule.l2, schedule.pre_training, self.seconds - spent, self.every,
            lambda at, field: kept.append((spent + at, field)),
        )  # fmt: skip
        curve = [
            [at, *self.errors(lambda ts, y0, f=field: torch_baseline.rollout(f, ts, y0))]
            for at, field in kept
        ]
        return {"seconds": curve[-1][0], "compile_seconds": 0.0, "curve": curve}

    def run(self) -> dict[str, Any]:
        """All methods."""
        # Compilation must not be counted where it cannot be told apart.
        self.judged(self.model)
        rows: dict[str, Any] = {}
        rows["collocation"] = self.collocation()
        rows[SEVERAL], trained = self.several()
        spent = rows[SEVERAL]["seconds"]
        rows["JAX[no]"] = self.sequential(self.model, SCRATCH)
        rows["JAX[JAX]"] = self.sequential(self.model, PRE_TRAINED)
        rows["JAX[collocation]"] = self.sequential(trained, POLISH, spent)
        rows["PyTorch[PyTorch]"] = self.torch(self.model, TORCH_PRE_TRAINED)
        rows["PyTorch[collocation]"] = self.torch(trained, TORCH_POLISH, spent)
        result = {"width": self.width, "seed": self.seed, "methods": rows}
        if self.seed == 0:
            runs = [np.asarray(jc.simulate(trained, TS[p], self.truth[p][0])) for p in HALVES]
            result["picture"] = {
                "ts": TS.tolist(),
                "truth": self.truth.tolist(),
                "data": [self.data.ts.tolist(), self.data.ys.tolist()],
                "runs": [run.tolist() for run in runs],
            }
        return result


def twice(function: Any) -> tuple[Any, float, float]:
    """Its result, and the seconds of a first call, which compiles, and of a second."""
    seconds = []
    for _ in range(2):
        begin = time.perf_counter()
        result = function()
        seconds.append(time.perf_counter() - begin)
    return result, *seconds


@functools.cache
def _adam(rate: float, halving: float) -> Any:
    """One object for each schedule, so that it is compiled once."""
    return optax.adam(optax.exponential_decay(rate, halving, 0.5))


def work(width: int, seed: int, nodes: int, seconds: float) -> dict[str, Any]:
    """One experiment, in a process of its own with a core of its own."""
    return Experiment(width, seed, nodes, seconds).run()


def at_budget(method: dict[str, Any], seconds: float) -> list[float]:
    """Train and test error when the time was over; the first point if none is earlier."""
    before = [row for row in method["curve"] if row[0] <= seconds + 1e-9]
    return (before[-1] if before else method["curve"][0])[1:]


def pin(queue: Any) -> None:
    """Give this worker a core of its own."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {queue.get()})


def report(content: dict[str, Any], folder: Path) -> None:
    """The table in Markdown and the figures."""
    budgets = content["budgets"]
    text = [
        "# Table 1",
        "",
        f"`{content['command']}`, {content['date']}. {content['machine']}; {content['versions']}.",
        "",
        "Mean squared errors of rollouts, train / test: means over "
        f"{content['seeds']} seed(s) with standard deviations, then medians. Seconds are of "
        "training, compilation apart.",
    ]
    for width in sorted({row["width"] for row in content["rows"]}, reverse=True):
        found = [row["methods"] for row in content["rows"] if row["width"] == width]
        lines = []
        for name in METHODS:
            if name not in found[0]:
                continue
            each = [item[name] for item in found]
            if name in ("collocation", SEVERAL):
                # Its last point, whenever that was.
                scores = [[item["curve"][-1][1:] for item in each]]
                names = [f"its own {np.mean([item['seconds'] for item in each]):.1f}"]
            else:
                scores = [[at_budget(item, limit) for item in each] for limit in budgets]
                names = [f"{limit:g}" for limit in budgets]
            # Methods of one kind share what the first of them has compiled.
            kind = name.split("[")[0]
            compiling = max(
                item[other]["compile_seconds"]
                for item in found
                for other in item
                if other.split("[")[0] == kind
            )
            for label, score in zip(names, scores, strict=True):
                mean, spread = np.mean(score, axis=0), np.std(score, axis=0)
                middle = np.median(score, axis=0)
                lines.append(
                    [
                        name,
                        label,
                        f"{mean[0]:.4f} ({spread[0]:.4f}), {middle[0]:.4f}",
                        f"{mean[1]:.3f} ({spread[1]:.3f}), {middle[1]:.3f}",
                        f"{compiling:.1f}",
                        PRINTED.get((width, name), ""),
                    ]
                )
        header = ("method", "seconds", "train MSE", "test MSE", "compile, s", "the paper prints")
        text += ["", f"## Net 2-{width}-2", "", table(header, lines)]
    (folder / "paper.md").write_text("\n".join(text) + "\n")
    pictures(content, folder)


def pictures(content: dict[str, Any], folder: Path) -> None:
    """Figure 1: predictions; 2 and 3: errors over time; 4: collocation, then fine-tuning."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    width = max(row["width"] for row in content["rows"])
    rows = [row for row in content["rows"] if row["width"] == width]
    shown = next((row["picture"] for row in rows if "picture" in row), None)
    if shown is not None:
        curves = {
            "ts": np.array(shown["ts"]),
            "truth": np.array(shown["truth"]),
            "runs": [np.array(run) for run in shown["runs"]],
            "halves": HALVES,
        }
        picture(folder / "figure_1.png", curves, jc.Trajectory(*shown["data"]))
    grid = np.geomspace(0.1, max(content["budgets"]), 200)
    for number, (column, label) in enumerate(((0, "train"), (1, "test")), start=2):
        figure, axis = plt.subplots(figsize=(7, 4.2), constrained_layout=True)
        for name in ("collocation", SEVERAL, "JAX[JAX]", "PyTorch[PyTorch]"):
            draw(axis, rows, name, grid, column)
        finish(axis, f"{label} MSE, net 2-{width}-2")
        figure.savefig(folder / f"figure_{number}.png", dpi=120)
        plt.close(figure)
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.2), constrained_layout=True)
    for column, (axis, label) in enumerate(zip(axes, ("train", "test"), strict=True)):
        for name in (SEVERAL, "JAX[collocation]", "PyTorch[collocation]"):
            draw(axis, rows, name, grid, column)
        finish(axis, f"{label} MSE, collocation and what follows")
    figure.savefig(folder / "figure_4.png", dpi=120)
    plt.close(figure)


def draw(axis: Any, rows: list[Any], name: str, grid: np.ndarray, column: int) -> None:
    """Median over the seeds, and the range of half of them, over time."""
    values = []
    for row in rows:
        if name not in row["methods"]:
            return
        curve = np.array(row["methods"][name]["curve"])
        if name.endswith("[collocation]"):
            curve = np.concatenate([row["methods"][SEVERAL]["curve"], curve])
        where = np.searchsorted(curve[:, 0], grid, side="right") - 1
        values.append(np.where(where >= 0, curve[np.maximum(where, 0), 1 + column], np.nan))
    there = np.all(np.isfinite(values), axis=0)
    low, middle, high = np.quantile(np.array(values)[:, there], (0.25, 0.5, 0.75), axis=0)
    (line,) = axis.plot(grid[there], middle, label=name)
    axis.fill_between(grid[there], low, high, color=line.get_color(), alpha=0.2, lw=0)


def finish(axis: Any, title: str) -> None:
    """Scales and labels."""
    import matplotlib.ticker

    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.xaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.xaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
    axis.set_xlabel("seconds, compilation not counted")
    axis.set_title(title, fontsize=10)
    axis.legend(frameon=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--budgets", type=float, nargs=2, default=(8.0, 20.0), help="seconds")
    parser.add_argument("--jobs", type=int, default=2, help="processes, each with one core")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    target = options.output / "paper.json"
    if options.report:
        report(json.loads(target.read_text()), options.output)
        return
    widths, nodes = (32, 8), 200
    if options.quick:
        widths, nodes, options.seeds, options.budgets = (8,), 60, 1, (3.0, 6.0)
        options.output = options.output / "quick"
        target = options.output / "paper.json"
    options.output.mkdir(parents=True, exist_ok=True)
    content = {
        "command": " ".join(
            ["python bench/paper.py", *(item for item in sys.argv[1:] if item != "--resume")]
        ),
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "versions": versions(VERSIONS),
        "seeds": options.seeds,
        "budgets": list(options.budgets),
        "rows": [],
    }
    if options.resume and target.exists():
        content = json.loads(target.read_text())
    there = {(row["width"], row["seed"]) for row in content["rows"]}
    print(content["machine"], content["versions"], sep="\n", flush=True)
    context = multiprocessing.get_context("spawn")
    cores = context.Queue()
    for core in sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else range(99):
        cores.put(core)
    with concurrent.futures.ProcessPoolExecutor(options.jobs, context, pin, (cores,)) as pool:
        tasks = [
            pool.submit(work, width, seed, nodes, max(options.budgets))
            for seed in range(options.seeds)
            for width in widths
            if (width, seed) not in there
        ]
        for done in concurrent.futures.as_completed(tasks):
            row = done.result()
            content["rows"].append(row)
            content["rows"].sort(key=lambda item: (-item["width"], item["seed"]))
            target.write_text(json.dumps(content) + "\n")
            line = ", ".join(
                f"{name} {item['curve'][-1][1]:.4f}/{item['curve'][-1][2]:.3f}"
                for name, item in row["methods"].items()
            )
            print(f"2-{row['width']}-2, seed {row['seed']}: {line}", flush=True)
    report(content, options.output)
    print((options.output / "paper.md").read_text())


VERSIONS = ("jaxcolloc", "jax", "diffrax", "equinox", "optax", "cyipopt-wheels", "torch",
            "torchdiffeq", "numpy")  # fmt: skip


if __name__ == "__main__":
    main()
