"""`jc.InteriorPoint` beside IPOPT: time, iterations, optima, growth with the number of nodes.

Forced Van der Pol oscillator, noise 0.1, l2 1e-3, states within +-5, weights within +-100, the
start of `jc.guess`, tolerance 1e-6, one process; pinned to one core where the system can, but for
"batch", which uses all. Ratios are IPOPT's time over ours, from one run; compilation is not in them
and is shown apart.

- "seeds": ten seeds of the paper's problem on its global grid (200 Chebyshev points) and on
  50 x Radau 4, with 200 samples on the nodes, where each gives but a diagonal block to the Hessian,
  and evenly spaced, nets 2-32-2 and 2-8-2; CasADi's IPOPT as well for the small net with samples on
  the nodes of the local grid.
- "nodes": net 2-32-2 on 1,000 to 100,000 nodes of Radau 4, as many samples, an interval for every
  0.3 of time, without the forcing, which no such net could follow for so long, in one series or in
  series of 2,000 nodes; IPOPT on 1,000 nodes, and for a minute on 10,000.
- "batch": 32 starts of both nets in one `jc.solve_batch`, on all cores and vectorised, beside 32
  single solves, up to 200 iterations each.
- "drivers": the problems of "seeds" by both drivers of `InteriorPoint`, NumPy on the host and one
  compiled loop: do they end at the same point?
- "cache": seconds of compilation in a process that fills JAX's persistent compilation cache, and in
  one that finds it filled.

    python bench/solvers.py                    # writes results/solvers.json and solvers.md
    python bench/solvers.py --only seeds --seeds 2
    python bench/solvers.py --quick --output DIR
"""

import argparse
import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from _report import cores, machine, table, versions

import jaxcolloc as jc
from jaxcolloc import datasets


RESULTS = Path(__file__).parent / "results"
STEPS = 500
Rows = list[dict[str, Any]]


class Traced(jc.InteriorPoint):
    """`InteriorPoint` as one compiled loop, whatever the device."""

    def _on_host(self, nlp: jc.NLP) -> bool:
        return False


class Autonomous(eqx.Module):
    """y' = net(y)."""

    net: eqx.nn.MLP

    def __call__(self, t: Any, y: Any, args: Any) -> Any:
        return self.net(y)


def problem(
    grid: jc.Grid, ts: np.ndarray, width: int, seed: int, forcing: float = 1.0, copies: int = 1
) -> tuple[jc.NLP, Any]:
    """The NLP and its start; `copies` of the data with other noise."""
    noise, weights, key = jax.random.split(jax.random.key(seed), 3)
    system = datasets.van_der_pol(amplitude=forcing)
    keys = [noise] if copies == 1 else list(jax.random.split(noise, copies))
    data = [system.sample(ts, noise=0.1, key=each) for each in keys]
    model = Autonomous(eqx.nn.MLP(2, 2, width, 1, jnp.tanh, key=weights))
    nlp = jc.transcribe(model, data, grid, l2=1e-3, state_bounds=(-5, 5), weight_bounds=(-100, 100))
    return nlp, jc.guess(nlp, key=key)


def solved(nlp: jc.NLP, solver: Any, start: Any) -> dict[str, Any]:
    """One solve, in numbers."""
    sol = jc.solve(nlp, solver, start, throw=False)
    return {
        "result": sol.result.name,
        "ok": sol.result.ok,
        "objective": sol.objective,
        "iterations": sol.stats["num_steps"],
        "seconds": sol.stats["solve_seconds"],
        "compile": sol.stats["compile_seconds"],
        "defect": sol.stats["max_defect"],
    }


def casadi(nlp: jc.NLP, z: np.ndarray, width: int) -> dict[str, Any]:
    """The same NLP in CasADi with its IPOPT."""
    import casadi_nlp

    options = {
        "ipopt": {"tol": 1e-6, "max_iter": STEPS, "mu_strategy": "adaptive", "print_level": 0,
                  "sb": "yes"},
        "print_time": False,
    }  # fmt: skip
    peer = casadi_nlp.build(nlp, (2, width, 2), 1e-3, options)
    begin = time.perf_counter()
    found = peer(x0=z, lbx=nlp.bounds[0], ubx=nlp.bounds[1], lbg=0, ubg=0)
    seconds = time.perf_counter() - begin
    return {"seconds": seconds, "iterations": peer.stats()["iter_count"],
            "objective": float(found["f"])}  # fmt: skip


def cases(quick: bool) -> list[tuple[str, jc.Grid, np.ndarray, int]]:
    """Six problems: name, grid, sample times, width of the net."""
    single = jc.Grid.single(0.0, 15.0, jc.Chebyshev(200))
    local = jc.Grid.uniform(0.0, 15.0, 50, jc.Radau(4))
    even = np.linspace(0.0, 15.0, 200)
    grids = [
        ("200 Chebyshev", single, single.times),
        ("50 x Radau 4, even samples", local, even),
        ("50 x Radau 4", local, local.times),
    ]
    widths = (8,) if quick else (32, 8)
    return [(*item, width) for item in (grids[2:] if quick else grids) for width in widths]


def seeds(count: int, quick: bool) -> Rows:
    """Seeds of six problems."""
    rows: Rows = []
    for name, grid, ts, width in cases(quick):
        for seed in range(count):
            nlp, start = problem(grid, ts, width, seed)
            row: dict[str, Any] = {"case": name, "width": width, "seed": seed}
            row["ipopt"] = solved(nlp, jc.Ipopt(max_steps=STEPS), start)
            row["ours"] = solved(nlp, jc.InteriorPoint(max_steps=STEPS), start)
            if name == "50 x Radau 4" and width == 8:
                row["casadi"] = casadi(nlp, start.z, width)
            rows.append(row)
            print("#", name, width, seed, *(
                f"{row[who]['result']} {row[who]['iterations']} {row[who]['objective']:.6f} "
                f"{row[who]['seconds']:.3f} s" for who in ("ipopt", "ours")
            ), flush=True)  # fmt: skip
    return rows


def drivers(count: int, quick: bool) -> Rows:
    """The same problems on the host and as a compiled loop."""
    rows: Rows = []
    for name, grid, ts, width in cases(quick):
        for seed in range(count):
            nlp, start = problem(grid, ts, width, seed)
            kinds = (jc.InteriorPoint(max_steps=STEPS), Traced(max_steps=STEPS))
            host, loop = (jc.solve(nlp, kind, start, throw=False) for kind in kinds)
            rows.append({
                "case": name,
                "width": width,
                "seed": seed,
                "iterations": [sol.stats["num_steps"] for sol in (host, loop)],
                "seconds": [sol.stats["solve_seconds"] for sol in (host, loop)],
                "compile": [sol.stats["compile_seconds"] for sol in (host, loop)],
                "apart": float(np.max(np.abs(host.z - loop.z) / (1 + np.abs(loop.z)))),
                "objective": abs(host.objective / loop.objective - 1),
                "versions": versions(),
            })  # fmt: skip
            print("#", json.dumps(rows[-1]), flush=True)
    return rows


def nodes(count: int, quick: bool) -> Rows:
    """Growing numbers of nodes."""
    del count
    rows: Rows = []
    sizes = ((1000, 1), (10_000, 1), (10_000, 5), (50_000, 25), (100_000, 50))
    for number, copies in ((100, 1), (200, 2)) if quick else sizes:
        intervals = number // (4 * copies)
        span = 15.0 * intervals / 50
        grid = jc.Grid.uniform(0.0, span, intervals, jc.Radau(4))
        nlp, start = problem(grid, np.linspace(0.0, span, 4 * intervals),
                             8 if quick else 32, 0, 0.0, copies)  # fmt: skip
        row: dict[str, Any] = {"nodes": number, "series": copies, "variables": nlp.num_variables}
        ours = solved(nlp, jc.InteriorPoint(max_steps=STEPS), start)
        row["ours"] = ours
        row["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        if number <= 10_000 and copies < 5:
            limits = {"max_steps": STEPS} if number <= 1000 else {"max_seconds": 60.0}
            row["ipopt"] = solved(nlp, jc.Ipopt(**limits), start)
        rows.append(row)
        print("#", json.dumps(row), flush=True)
    return rows


def batch(count: int, quick: bool) -> Rows:
    """Many starts at once, and one after another."""
    del count
    grid = jc.Grid.uniform(0.0, 15.0, 50, jc.Radau(4))
    solver, rows = jc.InteriorPoint(max_steps=200), []
    for width in (8,) if quick else (8, 32):
        nlp, _ = problem(grid, grid.times, width, 0)
        keys = jax.random.split(jax.random.key(1), 4 if quick else 32)
        starts = [jc.guess(nlp, key=key) for key in keys]
        together = jc.solve_batch(nlp, solver, starts, throw=False)
        lanes = jc.solve_batch(nlp, solver, starts, throw=False, vectorize=True)
        each = [jc.solve(nlp, solver, start, throw=False) for start in starts]
        rows.append({
            "starts": len(starts),
            "cores": cores(),
            "width": width,
            "batch": together[0].stats["solve_seconds"],
            "vectorised": lanes[0].stats["solve_seconds"],
            "batch_compile": together[0].stats["compile_seconds"],
            "singles": sum(sol.stats["solve_seconds"] for sol in each),
            "longest": max(sol.stats["num_steps"] for sol in each),
            "mean": float(np.mean([sol.stats["num_steps"] for sol in each])),
            "ok": [sum(sol.result.ok for sol in sols) for sols in (together, each)],
        })  # fmt: skip
        print("#", json.dumps(rows[-1]), flush=True)
    return rows


def cache(count: int, quick: bool) -> Rows:
    """Two processes that share JAX's persistent compilation cache."""
    del count
    command = [sys.executable, __file__, "--compile", *(["--quick"] if quick else [])]
    found: list[Rows] = []
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": folder}
        for _ in range(2):
            done = subprocess.run(
                command, check=True, capture_output=True, text=True, env=environment
            )
            found.append(json.loads(done.stdout.splitlines()[-1]))
    return [
        {**row, "again": again["first"], "machine": machine()}
        for row, again in zip(*found, strict=True)
    ]


def compile_seconds(quick: bool) -> Rows:
    """What each solver takes to compile, in this process."""
    grids = {"50 x Radau 4": jc.Grid.uniform(0.0, 15.0, 50, jc.Radau(4)),
             "200 Chebyshev": jc.Grid.single(0.0, 15.0, jc.Chebyshev(200))}  # fmt: skip
    rows: Rows = []
    for name, grid in list(grids.items())[: 1 if quick else None]:
        nlp, start = problem(grid, grid.times, 8 if quick else 32, 0)
        for solver in (jc.Ipopt(max_steps=0), jc.InteriorPoint(max_steps=0)):
            row = {"case": name, "solver": type(solver).__name__}
            rows.append(row | {"first": solved(nlp, solver, start)["compile"]})
    return rows


PARTS: dict[str, Callable[[int, bool], Rows]] = {
    "nodes": nodes, "seeds": seeds, "drivers": drivers, "batch": batch, "cache": cache,
}  # fmt: skip


def per_iteration(row: dict[str, Any]) -> float:
    return float(1e3 * row["seconds"] / max(row["iterations"], 1))


def casadi_cells(group: Rows) -> tuple[str, str]:
    """CasADi's time per iteration, and its time over ours, where it was run."""
    if "casadi" not in group[0]:
        return "", ""
    each = np.median([per_iteration(row["casadi"]) for row in group])
    ratio = np.median([row["casadi"]["seconds"] / row["ours"]["seconds"] for row in group])
    return f"{each:.1f}", f"{ratio:.1f}"


def report(found: dict[str, Any]) -> str:
    """The tables."""
    lines = ["# InteriorPoint and IPOPT", "", found.get("machine", machine()), "",
             found["versions"], ""]  # fmt: skip
    if "seeds" in found:
        groups: dict[tuple[str, int], Rows] = {}
        for row in found["seeds"]:
            groups.setdefault((row["case"], row["width"]), []).append(row)
        rows = []
        for (case, width), group in groups.items():
            ratio = [row["ipopt"]["seconds"] / row["ours"]["seconds"] for row in group]
            each = [per_iteration(row["ipopt"]) / per_iteration(row["ours"]) for row in group]
            both = [row for row in group if row["ipopt"]["ok"] and row["ours"]["ok"]]
            gap = [row["ours"]["objective"] / row["ipopt"]["objective"] - 1 for row in both]
            rows.append([
                case, f"2-{width}-2", f"{np.median(ratio):.1f} ({min(ratio):.1f}-{max(ratio):.1f})",
                f"{np.median(each):.1f}",
                f"{np.median([per_iteration(row['ipopt']) for row in group]):.1f}",
                *casadi_cells(group),
                f"{np.median([per_iteration(row['ours']) for row in group]):.2f}",
                f"{np.median([row['ipopt']['iterations'] for row in group]):.0f}",
                f"{np.median([row['ours']['iterations'] for row in group]):.0f}",
                f"{sum(row['ipopt']['ok'] for row in group)}, "
                f"{sum(row['ours']['ok'] for row in group)} of {len(group)}",
                f"{sum(abs(item) < 1e-6 for item in gap)}, {sum(item < -1e-6 for item in gap)}, "
                f"{sum(item > 1e-6 for item in gap)}",
                f"{max(row['ours']['compile'] for row in group):.1f}",
            ])  # fmt: skip
        header = (
            "case", "net", "ratio of solve (range)", "per iteration", "IPOPT's ms",
            "CasADi's ms", "its ratio of solve", "our ms", "IPOPT's iterations", "ours", "solved",
            "same, lower, higher optimum", "compile, s",
        )  # fmt: skip
        lines += [table(header, rows), ""]
    if "drivers" in found:
        groups = {}
        for row in found["drivers"]:
            groups.setdefault((row["case"], row["width"]), []).append(row)
        rows = []
        for (case, width), group in groups.items():
            seconds, steps = (
                np.array([row[of] for row in group]) for of in ("seconds", "iterations")
            )
            each = np.median(1e3 * seconds / np.maximum(steps, 1), axis=0)
            rows.append([
                case, f"2-{width}-2", len(group),
                sum(row["apart"] < 1e-9 for row in group),
                sum(row["apart"] >= 1e-9 and row["objective"] < 1e-8 for row in group),
                sum(row["objective"] >= 1e-8 for row in group),
                f"{max(row['apart'] for row in group if row['objective'] < 1e-8):.1e}",
                sum(len(set(row["iterations"])) == 1 for row in group),
                f"{each[0]:.2f}", f"{each[1]:.2f}",
                f"{max(row['compile'][0] for row in group):.1f}",
                f"{max(row['compile'][1] for row in group):.1f}",
            ])  # fmt: skip
        header = (
            "case", "net", "problems", "same to 1e-9", "same optimum", "another",
            "largest distance", "same iterations", "host's ms", "loop's ms",
            "host's compile, s", "loop's",
        )  # fmt: skip
        heading = f"Both drivers ({found['drivers'][0]['versions']}):"
        lines += [heading, "", table(header, rows), ""]
    if "nodes" in found:
        rows = []
        for row in found["nodes"]:
            ours, ipopt = row["ours"], row.get("ipopt")
            rows.append([
                row["nodes"], row["series"], row["variables"], ours["result"], ours["iterations"],
                f"{ours['seconds']:.1f}", f"{per_iteration(ours):.1f}",
                "" if ipopt is None else f"{per_iteration(ipopt):.0f}",
                "" if ipopt is None else f"{per_iteration(ipopt) / per_iteration(ours):.1f}",
                "" if ipopt is None else f"{ipopt['result']}, {ipopt['iterations']}",
                "" if ipopt is None else f"{ipopt['seconds'] / ours['seconds']:.1f}",
                f"{ours['compile']:.1f}", f"{row['peak_mib']:.0f}",
            ])  # fmt: skip
        header = (
            "nodes", "series", "variables", "result", "iterations", "s", "ms per iteration",
            "IPOPT's ms", "ratio", "IPOPT's end", "ratio of solve", "compile, s", "peak MiB so far",
        )  # fmt: skip
        lines += [table(header, rows), ""]
        size = np.log([row["nodes"] for row in found["nodes"]])
        cost = np.log([per_iteration(row["ours"]) for row in found["nodes"]])
        lines += [f"Time per iteration grows like nodes^{np.polyfit(size, cost, 1)[0]:.2f}.", ""]
    if "batch" in found:
        header = (
            "starts", "net", "cores", "together, s", "one by one, s", "ratio", "vectorised, s",
            "iterations, mean", "longest", "solved together, singly", "compile, s",
        )  # fmt: skip
        rows = [
            [
                row["starts"], f"2-{row['width']}-2", row["cores"], f"{row['batch']:.1f}",
                f"{row['singles']:.1f}", f"{row['singles'] / row['batch']:.2f}",
                f"{row['vectorised']:.1f}", f"{row['mean']:.0f}", row["longest"],
                f"{row['ok'][0]}, {row['ok'][1]}",
                f"{row['batch_compile']:.1f}",
            ]
            for row in found["batch"]
        ]  # fmt: skip
        lines += [table(header, rows), ""]
    if "cache" in found:
        rows = [
            [row["case"], row["solver"], f"{row['first']:.1f}", f"{row['again']:.1f}"]
            for row in found["cache"]
        ]
        header = ("case", "solver", "compile, s", "with the cache filled")
        heading = f"JAX's persistent cache, {found['cache'][0]['machine']}:"
        lines += [heading, "", table(header, rows), ""]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", choices=tuple(PARTS), help="else all, each in its own process")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--quick", action="store_true", help="a small version, one minute")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--compile", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.compile:
        print(json.dumps(compile_seconds(chosen.quick)))
        return
    if chosen.only is None:
        for name in PARTS:
            subprocess.run([sys.executable, *sys.argv, "--only", name], check=True)
        return
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if chosen.only != "batch":
        with contextlib.suppress(AttributeError, OSError):
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
    target = chosen.output / "solvers.json"
    found = json.loads(target.read_text()) if target.exists() else {}
    begin = time.perf_counter()
    rows = PARTS[chosen.only](1 if chosen.quick else chosen.seeds, chosen.quick)
    found |= {chosen.only: rows, "versions": versions()}
    if chosen.only not in ("batch", "cache"):
        found["machine"] = machine()
    chosen.output.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(found))
    text = report(found)
    (chosen.output / "solvers.md").write_text(text)
    print(f"{text}\n{time.perf_counter() - begin:.0f} s")


if __name__ == "__main__":
    main()
