"""The same NLP through jaxcolloc, CasADi and Pyomo; and discopt's scale case.

    python bench/peers.py                # all cases
    python bench/peers.py --quick        # the smallest only
    python bench/peers.py --only "200 Radau"

Each tool solves each case in a process of its own, from the same start, at the same tolerance and
with the same options of IPOPT. jaxcolloc uses the IPOPT of its wheel, CasADi its own; Pyomo brings
none: its model is written to a file and solved by CasADi's. What CasADi needs to read that file
and to differentiate it is an artefact of this route and shown apart. jaxcolloc's own solver,
`jc.InteriorPoint`, solves each case too.

The case study is the forced Van der Pol oscillator on [0, 15]. The largest grid is that of the
unforced oscillator on [0, 75]; on "5000 Radau, forced", IPOPT's factorisations fill up.
"""

import os


os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from _report import machine, table, versions


NETS = {"2-8-2": (2, 8, 2), "2-32-2": (2, 32, 2), "2-32-32-2": (2, 32, 32, 2)}
# Scheme, nodes of an interval, intervals, amplitude of the force, end of time.
GRIDS = {
    "200 Chebyshev": ("Chebyshev", 200, 1, 1.0, 15.0),
    "200 Radau": ("Radau", 4, 50, 1.0, 15.0),
    "1000 Radau": ("Radau", 4, 250, 1.0, 15.0),
    "5000 Radau": ("Radau", 4, 1250, 0.0, 75.0),
    "5000 Radau, forced": ("Radau", 4, 1250, 1.0, 15.0),
}
CASES = [
    ("200 Radau", "2-8-2"),
    ("200 Radau", "2-32-2"),
    ("200 Chebyshev", "2-8-2"),
    ("200 Chebyshev", "2-32-2"),
    ("1000 Radau", "2-8-2"),
    ("1000 Radau", "2-32-2"),
    ("5000 Radau", "2-8-2"),
    ("5000 Radau", "2-32-2"),
    ("200 Radau", "2-32-32-2"),
    ("5000 Radau, forced", "2-8-2"),
]
OURS, REFERENCE = ("InteriorPoint", "jaxcolloc"), "jaxcolloc"
TOOLS = (*OURS, "CasADi", "Pyomo")
L2, TOL = 1e-3, 1e-6
# A solve from a poor start may take very many; its iterations can still be compared.
MAX_STEPS = 150
IPOPT = {
    "tol": TOL,
    "max_iter": MAX_STEPS,
    "mu_strategy": "adaptive",
    "print_level": 0,
    "sb": "yes",
}


def problem(case: tuple[str, str]) -> tuple[Any, float]:
    """The Van der Pol case study on this grid with this net, data on the nodes; and the seconds."""
    import equinox as eqx
    import jax
    import jax.numpy as jnp

    import jaxcolloc as jc
    from jaxcolloc import datasets

    class Autonomous(eqx.Module):
        net: eqx.nn.MLP

        def __call__(self, t: Any, y: Any, args: Any) -> Any:
            return self.net(y)

    kind, nodes, intervals, amplitude, end = GRIDS[case[0]]
    sizes = NETS[case[1]]
    grid = jc.Grid.uniform(0.0, end, intervals, getattr(jc, kind)(nodes))
    system = datasets.van_der_pol(amplitude=amplitude)
    data = system.sample(grid.times, noise=0.1, key=jax.random.key(0))
    net = eqx.nn.MLP(2, 2, sizes[1], len(sizes) - 2, activation=jnp.tanh, key=jax.random.key(0))
    begin = time.perf_counter()
    nlp = jc.transcribe(
        Autonomous(net), data, grid, l2=L2, state_bounds=(-5, 5), weight_bounds=(-100, 100)
    )
    return nlp, time.perf_counter() - begin


def run(tool: str, case: tuple[str, str], folder: Path) -> dict[str, Any]:
    """Build, compile and solve by one tool; the first also makes the start."""
    import jax

    import jaxcolloc as jc

    start = folder / "start.npy"
    nlp, build = problem(case)
    if tool in OURS:
        guess = jc.guess(nlp, key=jax.random.key(0))
        np.save(start, guess.z)
        solver = jc.Ipopt if tool == REFERENCE else jc.InteriorPoint
        sol = jc.solve(nlp, solver(tol=TOL, max_steps=MAX_STEPS), guess, throw=False)
        return {
            "build": build,
            "compile": sol.stats["compile_seconds"],
            "apart": 0.0,
            "solve": sol.stats["solve_seconds"],
            "iterations": sol.stats["num_steps"],
            "objective": sol.objective,
            "ok": sol.result.ok,
        }
    import casadi

    z, (lower, upper) = np.load(start), nlp.bounds
    options = {"ipopt": IPOPT, "print_time": False}
    apart = 0.0
    begin = time.perf_counter()
    if tool == "CasADi":
        import casadi_nlp

        solver = casadi_nlp.build(nlp, NETS[case[1]], L2, options)
        build, compiling = 0.0, time.perf_counter() - begin
        inputs = {"x0": z, "lbx": lower, "ubx": upper, "lbg": 0, "ubg": 0}
    else:
        import pyomo_nlp

        path = folder / "model.nl"
        begin = time.perf_counter()
        pyomo_nlp.write(nlp, NETS[case[1]], L2, z, path)
        build, compiling = time.perf_counter() - begin, 0.0
        begin = time.perf_counter()
        builder, content = pyomo_nlp.read(path)
        solver = casadi.nlpsol("solver", "ipopt", content, options)
        apart = time.perf_counter() - begin
        inputs = {
            "x0": builder.x_init,
            "lbx": builder.x_lb,
            "ubx": builder.x_ub,
            "lbg": builder.g_lb,
            "ubg": builder.g_ub,
        }
    begin = time.perf_counter()
    found = solver(**inputs)
    seconds = time.perf_counter() - begin
    stats = solver.stats()
    return {
        "build": build,
        "compile": compiling,
        "apart": apart,
        "solve": seconds,
        "iterations": stats["iter_count"],
        "objective": float(found["f"]),
        "ok": bool(stats["success"]),
    }


def discopt_case(tool: str) -> dict[str, Any]:
    """A batch reactor A -> B with the rate 1.5 c^2 / (0.3 + c): three runs, a net 1-30-30-1.

    The size of discopt's own scale probe (scripts/hybrid_ml/exp_c_paper_scale.py of its
    repository): softplus units, weights within 8, ridge penalty 1e-4, 20 x Radau 2, tolerance 1e-8.
    """
    rng = np.random.default_rng(0)
    ts, starts = np.linspace(0.05, 2.0, 15), (1.0, 0.8, 0.6)

    def truth(c0: float) -> np.ndarray:
        from scipy.integrate import solve_ivp

        def slope(t: float, y: np.ndarray) -> list[float]:
            rate = 1.5 * y[0] ** 2 / (0.3 + y[0])
            return [-rate, rate]

        found = solve_ivp(slope, (0.0, 2.0), [c0, 0.0], t_eval=ts, rtol=1e-10, atol=1e-12)
        return found.y.T

    data = [truth(c0) + 0.01 * rng.standard_normal((15, 2)) for c0 in starts]
    if tool == "discopt":
        return _discopt(ts, starts, data)
    return _ours(tool, ts, starts, data)


def _discopt(ts: Any, starts: Any, data: Any) -> dict[str, Any]:
    import discopt
    from discopt import nn
    from discopt.dae.fit import Trajectory, fit_trajectories

    begin = time.perf_counter()
    model = discopt.Model()
    net = nn.trainable.TrainableNetwork(model, [1, 30, 30, 1], activation="softplus", name="rate")
    fit = fit_trajectories(
        model,
        trajectories=[
            Trajectory(ts, {"A": ys[:, 0], "B": ys[:, 1]}, {"A": c0, "B": 0.0})
            for c0, ys in zip(starts, data, strict=True)
        ],
        states=[("A", {"bounds": (0.0, 1.5)}), ("B", {"bounds": (0.0, 1.5)})],
        rhs=lambda t, s, a, u: {"A": -net(s["A"]), "B": net(s["A"])},
        t_span=(0.0, 2.0),
        nfe=20,
        ncp=2,
    )
    model.minimize(fit.least_squares() + 1e-4 * net.l2_penalty())
    initial = fit.warm_start() | net.initial_values(0)
    build = time.perf_counter() - begin
    begin = time.perf_counter()
    found = nn.trainable.train(
        model, initial_solution=initial, options={"max_iter": 3000, "tol": 1e-8}
    )
    return {
        "build": build,
        "compile": 0.0,
        "solve": time.perf_counter() - begin,
        "iterations": int(found.iterations),
        "objective": float(found.objective),
        "ok": found.status.name,
    }


def _ours(tool: str, ts: Any, starts: Any, data: Any) -> dict[str, Any]:
    import equinox as eqx
    import jax
    import jax.numpy as jnp

    import jaxcolloc as jc

    class Reactor(eqx.Module):
        rate: eqx.nn.MLP

        def __call__(self, t: Any, y: Any, args: Any) -> Any:
            rate = self.rate(y[:1])[0]
            return jnp.stack([-rate, rate])

    begin = time.perf_counter()
    net = eqx.nn.MLP(1, 1, 30, 2, activation=jax.nn.softplus, key=jax.random.key(0))
    trajectories = [
        jc.Trajectory(ts, ys, y0=[c0, 0.0]) for c0, ys in zip(starts, data, strict=True)
    ]
    # Its objective is a sum over the observation times, ours a mean.
    nlp = jc.transcribe(
        Reactor(net), trajectories, jc.Grid.uniform(0.0, 2.0, 20, jc.Radau(2)), l2=1e-4 / 45,
        state_bounds=(0.0, 1.5), weight_bounds=(-8, 8),
    )  # fmt: skip
    build = time.perf_counter() - begin
    begin = time.perf_counter()
    guess = jc.guess(nlp, key=jax.random.key(0))
    guessing = time.perf_counter() - begin
    solver = jc.Ipopt if tool == REFERENCE else jc.InteriorPoint
    sol = jc.solve(nlp, solver(tol=1e-8), guess, throw=False)
    return {
        "build": build + guessing,
        "compile": sol.stats["compile_seconds"],
        "solve": sol.stats["solve_seconds"],
        "iterations": sol.stats["num_steps"],
        "objective": 45 * sol.objective,
        "ok": sol.result.name,
    }


def apart(arguments: list[str], timeout: float) -> dict[str, Any]:
    """One measurement in a process of its own."""
    command = [sys.executable, __file__, *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        return {"error": f"over {timeout:g} s"}
    if done.returncode < 0:
        return {"error": f"killed by signal {-done.returncode}"}
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        return {"error": (done.stderr.strip().splitlines() or ["no output"])[-1][:200]}
    return json.loads(lines[-1])


def total(row: dict[str, Any]) -> float:
    """Seconds from the data to the solution."""
    return row["build"] + row["compile"] + row["solve"]


def lines(case: tuple[str, str], rows: dict[str, dict[str, Any]]) -> list[list[str]]:
    """The lines of one case; ratios are to jaxcolloc with IPOPT, with its own where that fails."""
    solved = [tool for tool in (REFERENCE, *OURS) if rows[tool].get("ok")]
    if not solved:
        return [[*case, tool, row.get("error", ""), *[""] * 9] for tool, row in rows.items()]
    mine, found = rows[solved[0]], []
    for tool, row in rows.items():
        if "error" in row:
            found.append([*case, tool, row["error"], *[""] * 9])
            continue
        each = row["solve"] / max(row["iterations"], 1)
        my_each = mine["solve"] / max(mine["iterations"], 1)
        found.append(
            [
                *case,
                tool,
                f"{row['build']:.1f}",
                f"{row['compile']:.1f}",
                f"{row['apart']:.1f}",
                f"{row['solve']:.2f}",
                str(row["iterations"]),
                f"{1e3 * each:.1f}",
                f"{each / my_each:.2f}",
                f"{total(row) / total(mine):.2f}",
                f"{row['objective']:.8f}" + ("" if row["ok"] else " (not solved)"),
                f"{row['memory']:.0f}",
            ]
        )
    return found


HEADER = ("grid", "net", "tool", "build, s", "compile, s", "import, s", "solve, s", "iterations",
          "ms each", "ratio", "ratio of all", "objective", "peak MiB")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", default="", help="a part of the cases' names")
    parser.add_argument("--timeout", type=float, default=1200.0, help="seconds for one tool")
    parser.add_argument("--resume", action="store_true", help="only what the JSON there lacks")
    parser.add_argument("--output", type=Path, help="a folder for JSON and Markdown")
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        tool, grid, net, folder = options.one
        done = discopt_case(tool) if grid == "discopt" else run(tool, (grid, net), Path(folder))
        done["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps(done))
        return
    heading = f"{machine()}. {versions(VERSIONS)}."
    print(heading, flush=True)
    wanted = [item for item in CASES if options.only in " ".join(item)]
    target = None if options.output is None else options.output / "peers.json"
    content: dict[str, Any] = {"heading": heading, "cases": {}}
    if options.resume and target is not None and target.exists():
        content = json.loads(target.read_text())
    for case in wanted[: 1 if options.quick else None]:
        name = ", ".join(case)
        if name in content["cases"]:
            continue
        with tempfile.TemporaryDirectory() as folder:
            rows = {tool: apart(["--one", tool, *case, folder], options.timeout) for tool in TOOLS}
        content["cases"][name] = rows
        print("\n".join("  ".join(line) for line in lines(case, rows)), flush=True)
        check(rows)
        write(content, target)
    if not options.only and not options.quick and "discopt" not in content:
        content["discopt"] = {
            tool: apart(["--one", tool, "discopt", "-", "-"], options.timeout)
            for tool in ("discopt", *OURS)
        }
        write(content, target)
    print("\n" + report(content))


def write(content: dict[str, Any], target: Path | None) -> None:
    """What is there so far, as JSON and Markdown."""
    if target is not None:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(content, indent=1) + "\n")
        target.with_suffix(".md").write_text(report(content))


def report(content: dict[str, Any]) -> str:
    """The tables."""
    found: list[list[str]] = []
    for case in CASES:
        rows = content["cases"].get(", ".join(case))
        if rows is not None:
            found += lines(case, rows)
    text = ["# Peers", "", content["heading"], "", table(HEADER, found)]
    if "discopt" in content:
        header = ("tool", "build and guess, s", "compile, s", "solve, s", "iterations", "objective",
                  "status")  # fmt: skip
        cells = [
            [tool, row["error"], *[""] * 5]
            if "error" in row
            else [tool, f"{row['build']:.1f}", f"{row['compile']:.1f}", f"{row['solve']:.1f}",
                  str(row["iterations"]), f"{row['objective']:.7f}", str(row["ok"])]
            for tool, row in content["discopt"].items()
        ]  # fmt: skip
        text += ["", table(header, cells)]
    return "\n".join(text) + "\n"


def check(rows: dict[str, dict[str, Any]]) -> None:
    """Tools that take the same path must end in the same objective."""
    mine = rows[REFERENCE]
    for tool, row in rows.items():
        if (
            tool == "InteriorPoint"
            or "error" in row
            or "error" in mine
            or not (row["ok"] and mine["ok"])
        ):
            continue
        if abs(row["iterations"] - mine["iterations"]) <= 2:
            difference = abs(row["objective"] / mine["objective"] - 1)
            assert difference < 1e-6, f"{tool}: the objective differs by {difference:.1e}"


VERSIONS = ("jaxcolloc", "jax", "casadi", "pyomo", "discopt", "cyipopt-wheels", "numpy")


if __name__ == "__main__":
    main()
