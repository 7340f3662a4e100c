"""What a first and a next call take: CPU seconds, wall seconds, compilations.

    python bench/latency.py                      # medians of five processes, some ten minutes
    python bench/latency.py --quick              # one process each
    python bench/latency.py --against ../before  # beside another checkout of jaxcolloc
    python bench/latency.py --programs fit       # what is compiled, and who calls for it

A two-state oscillator, 200 samples with noise, a net 2-32-2. Every row is measured in fresh
processes pinned to one core, with BLAS on one thread: without and with a filled persistent
compilation cache of JAX, and, with `--against`, in turn with the other checkout. "Compilations" are
calls of XLA's compiler, those that the persistent cache answers among them. CasADi, where it is
installed, builds and solves the same NLP with its own IPOPT.
"""

import argparse
import collections
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from _report import machine, table, versions


Rows = list[dict[str, Any]]

HERE = Path(__file__).parent
ROOT, RESULTS = HERE.parent, HERE / "results"
# With the number of first steps that lead from nothing to a solution.
PARTS = {"fit": 3, "Ipopt": 5, "InteriorPoint": 5, "CasADi": 3}
CPU, WALL, COUNT, FROM_CACHE = "cpu", "wall", "compilations", "from_cache"


def apart(part: str, checkout: Path = ROOT, cache: str | None = None) -> Rows:
    """The rows of one part, in a process of its own that imports jaxcolloc from `checkout`."""
    dropped = ("JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS")
    environment = {name: value for name, value in os.environ.items() if name not in dropped}
    paths = (str(checkout), environment.get("PYTHONPATH", ""))
    environment |= {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "LATENCY_OF": str(checkout)}
    if cache is not None:
        environment |= {dropped[0]: cache, dropped[1]: "0"}
    command = [sys.executable, str(HERE / "_latency_steps.py"), part]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise RuntimeError(f"{part} of {checkout} failed:\n{done.stderr[-3000:]}")
    rows: Rows = json.loads(done.stdout.splitlines()[-1])
    return rows


def with_sum(rows: Rows, count: int) -> Rows:
    """The rows, with one behind the first few that adds them up."""
    added = {key: sum(row[key] for row in rows[:count]) for key in (CPU, WALL, COUNT, FROM_CACHE)}
    return [*rows[:count], {"step": "all of these", **added}, *rows[count:]]


def medians(part: str, runs: list[Rows]) -> Rows:
    """One row per step: the medians of its numbers over processes."""
    found = []
    for steps in zip(*(with_sum(rows, PARTS[part]) for rows in runs), strict=True):
        row = {key: item for key, item in steps[0].items() if key != "programs"}
        row |= {key: statistics.median([step[key] for step in steps]) for key in (CPU, WALL, COUNT)}
        row["cpu_range"] = [func(step[CPU] for step in steps) for func in (min, max)]
        found.append(row)
    return found


def compared(part: str, checkouts: dict[str, Path], rounds: int) -> dict[str, Any]:
    """The rows of one part by checkout, without and with a filled cache; checkouts take turns."""
    if part == "CasADi":
        # The same for all checkouts, and XLA compiles nothing for it.
        return {"here": {"plain": medians(part, [apart(part) for _ in range(rounds)])}}
    runs: dict[str, dict[str, list[Rows]]] = {
        name: {"plain": [], "filled": []} for name in checkouts
    }
    with tempfile.TemporaryDirectory() as folder:
        for name, checkout in checkouts.items():
            apart(part, checkout, os.path.join(folder, name))
        for _ in range(rounds):
            for name, checkout in checkouts.items():
                runs[name]["plain"].append(apart(part, checkout))
                runs[name]["filled"].append(apart(part, checkout, os.path.join(folder, name)))
                shown = (f"{row['step']} {row[CPU]:.2f} s" for row in runs[name]["plain"][-1])
                print(f"# {part}, {name}: {'; '.join(shown)}", file=sys.stderr, flush=True)
    return {
        name: {kind: medians(part, item) for kind, item in kinds.items()}
        for name, kinds in runs.items()
    }


def report(content: dict[str, Any]) -> str:
    """The table."""
    others = any("against" in rows for rows in content["parts"].values())
    header = ["", "step", "CPU s", "wall s", "compilations", "cache filled: CPU s", "from it"]
    if others:
        header += ["before: CPU s", "compilations", "cache filled: CPU s", "ratio", "cache filled"]
    header.append("ends")
    lines = []
    for part, rows in content["parts"].items():
        own = rows["here"]
        for k, row in enumerate(own["plain"]):
            hit = own["filled"][k] if "filled" in own else None
            line = [part, row["step"], *_cells(row, (CPU, WALL, COUNT)),
                    *_cells(hit, (CPU, FROM_CACHE))]  # fmt: skip
            if others:
                there = rows.get("against", {})
                was, was_hit = (there[kind][k] if there else None for kind in ("plain", "filled"))
                line += [*_cells(was, (CPU, COUNT)), *_cells(was_hit, (CPU,)),
                         _ratio(was, row), _ratio(was_hit, hit)]  # fmt: skip
            lines.append([*line, _end(row)])
    return "\n".join(["# Latency", "", content["heading"], "", table(header, lines)]) + "\n"


def _cells(row: dict[str, Any] | None, keys: tuple[str, ...]) -> list[str]:
    if row is None:
        return [""] * len(keys)
    return [f"{row[key]:.2f}" if key in (CPU, WALL) else f"{row[key]:.0f}" for key in keys]


def _ratio(before: dict[str, Any] | None, row: dict[str, Any] | None) -> str:
    if before is None or row is None:
        return ""
    return f"{before[CPU] / max(row[CPU], 1e-3):.1f}"


def _end(row: dict[str, Any]) -> str:
    """What a fit or a solve came to."""
    parts = [str(row[key]) for key in ("verdict", "result") if key in row]
    parts += [f"{row[key]} {key}" for key in ("iterations", "intervals") if key in row]
    parts += [f"objective {row['objective']:.6f}"] if "objective" in row else []
    return ", ".join(parts)


def programs(rows: Rows) -> str:
    """What each step compiles, and how often: by the file of ours that calls for it."""
    lines = []
    for row in rows:
        lines.append(f"{row['step']}: {row[COUNT]}")
        counts = collections.Counter((where, name) for name, where in row["programs"])
        lines += [
            f"  {where:45} {count:3} {name}" for (where, name), count in sorted(counts.items())
        ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one process each")
    parser.add_argument("--rounds", type=int, default=5, help="processes of each kind")
    parser.add_argument("--only", choices=tuple(PARTS), help="one part")
    parser.add_argument("--against", type=Path, help="another checkout of jaxcolloc")
    parser.add_argument("--output", type=Path, help="a folder for JSON and Markdown")
    parser.add_argument("--programs", choices=tuple(PARTS), help="list what is compiled")
    chosen = parser.parse_args()
    if chosen.programs:
        print(programs(apart(chosen.programs)))
        return
    checkouts = {"here": ROOT}
    if chosen.against is not None:
        checkouts["against"] = chosen.against.resolve()
    wanted = [chosen.only] if chosen.only else list(PARTS)
    if importlib.util.find_spec("casadi") is None:
        wanted = [part for part in wanted if part != "CasADi"]
    # A run of some parts leaves the others as they are.
    target = (chosen.output or RESULTS) / "latency.json"
    content: dict[str, Any] = {"heading": f"{machine()}. {versions()}.", "parts": {}}
    if chosen.only and target.exists():
        content["parts"] = json.loads(target.read_text())["parts"]
    for part in wanted:
        content["parts"][part] = compared(part, checkouts, 1 if chosen.quick else chosen.rounds)
    print(report(content))
    if not chosen.quick or chosen.output is not None:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(content, indent=1) + "\n")
        target.with_suffix(".md").write_text(report(content))


if __name__ == "__main__":
    main()
