"""Are the library's verdicts right? 202 fits, good and bad, each judged by SciPy.

Every fit is judged by integrating the trained model from its path's first state with SciPy, in
float64 (`_verdict_judge.py`). It is right if in every channel the rollout's root mean square error
against the noise-free truth, at the times of the samples, is at most the noise or 10% of the
channel's spread, whichever is more; the solve ended well, stated constraints hold on the path, and
there is something to train. The library told of a problem if the verdict is not `ok`, it warned, or
it raised.

    right, not told: confirmed      wrong, told: found out
    right, told: false alarm        wrong, not told: SILENT

    python bench/verdicts.py                     # all, table and rows in bench/results
    python bench/verdicts.py --list
    python bench/verdicts.py --only units,stiff  # classes
    python bench/verdicts.py --one "rotation"    # fits whose name holds it
"""

import argparse
import json
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from _report import machine, table, versions
from _verdict_good import GOOD
from _verdict_judge import Judgement, judge
from _verdict_laws import Problem
from _verdict_mistakes import MISTAKES
from _verdict_traps import TRAPS

import jaxcolloc as jc


RESULTS = Path(__file__).parent / "results"
CLASSES = GOOD | TRAPS | MISTAKES
OUTCOMES = ("confirmed", "found out", "SILENT", "false alarm")
# Compiled code of some thirty fits fills a process.
CLEARED = 12
SECONDS = 120.0


def fits(only: str, one: str) -> Iterator[tuple[str, str, Callable[[], Problem]]]:
    """The class, the name and the maker of each fit that was asked for."""
    wanted = [part.strip().lower() for part in only.split(",")]
    for kind, cases in CLASSES.items():
        if only and kind.lower() not in wanted:
            continue
        for name, make in cases():
            if one.lower() in name.lower():
                yield kind, name, make


def solved(problem: Problem) -> jc.Solution:
    """The fit, verified."""
    solver = jc.Ipopt(max_steps=problem.steps, max_seconds=SECONDS)
    if problem.grid is None:
        options = {"starts": 1, "refinements": 3} | problem.options
        return jc.fit(problem.model, problem.data, key=jax.random.key(0), solver=solver, **options)
    nlp = jc.transcribe(problem.model, problem.data, problem.grid, **problem.options)
    sol = jc.solve(nlp, solver, jc.guess(nlp, key=jax.random.key(0)), throw=False)
    return jc.refine(sol, rounds=0)


def ours(record: warnings.WarningMessage) -> bool:
    """Whether a warning tells the user of the fit, rather than of JAX or of NumPy."""
    text = str(record.message)
    return issubclass(record.category, UserWarning) and "Explicitly requested dtype" not in text


def run(kind: str, name: str, make: Callable[[], Problem]) -> dict[str, Any]:
    """One fit, what the library says of it and what the judge does."""
    row: dict[str, Any] = {"class": kind, "fit": name}
    problem = make()
    begin = time.perf_counter()
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            sol = solved(problem)
    except Exception as error:
        row |= {"verdict": type(error).__name__, "told": True, "says": str(error)[:200]}
        row |= {"right": False, "why": ["it raised"], "outcome": "found out"}
        return row | {"seconds": time.perf_counter() - begin}
    row["seconds"] = time.perf_counter() - begin
    assert sol.verification is not None
    said = [str(item.message) for item in caught if ours(item)]
    verdict = sol.verification.verdict
    found = judge(problem, sol)
    told = not verdict.ok or bool(said)
    row |= {
        "verdict": verdict.name,
        "causes": [item.name for item in getattr(sol.verification, "causes", ())],
        "told": told,
        "says": said[0][:200] if said and verdict.ok else "",
        "right": found.right,
        "why": found.why,
        "outcome": outcome(found, told),
        "error": found.error,
        "between": found.between,
        "r2": found.r2,
        "departure": found.departure,
        "distance": float(np.max(sol.verification.distance)),
        "growth": float(np.max(sol.verification.growth)),
        "misfit": float(np.nanmax(getattr(sol.verification, "misfit", [np.nan]))),
        "explained": float(np.nanmin(getattr(sol.verification, "path_explained", [np.nan]))),
        "result": sol.result.name,
        "intervals": sum(path.grid.num_intervals for path in sol.paths),
        "judge_seconds": time.perf_counter() - begin - row["seconds"],
    }
    return row


def outcome(found: Judgement, told: bool) -> str:
    """The two opinions in one word."""
    if found.right:
        return "false alarm" if told else "confirmed"
    return "found out" if told else "SILENT"


def by_class(rows: list[dict[str, Any]]) -> str:
    """How many fits of each class ended how."""
    lines = []
    for kind in [*dict.fromkeys(row["class"] for row in rows), "all"]:
        own = [row for row in rows if kind in (row["class"], "all")]
        counts = [sum(row["outcome"] == item for row in own) for item in OUTCOMES]
        raised = sum("error" not in row for row in own)
        apart = sum(row["right"] and row["between"] > 1 for row in own)
        seconds = sum(row["seconds"] for row in own)
        lines.append([kind, len(own), *counts, raised, apart, f"{seconds:.0f}"])
    header = ("class", "fits", *OUTCOMES, "raised", "right at samples alone", "seconds")
    return table(header, lines)


def disagreements(rows: list[dict[str, Any]]) -> str:
    """Every fit on which library and judge disagree, and those that raised, with numbers."""
    lines = []
    for row in rows:
        if row["outcome"] in OUTCOMES[:2] and "error" in row:
            continue
        numbers = [
            f"{row[item]:.3g}" if item in row else ""
            for item in ("error", "between", "r2", "departure", "distance", "growth")
        ]
        word = row["outcome"] if "error" in row else "raised"
        if row["right"] or "error" not in row:
            text = row["says"] or ", ".join(row.get("causes", []))
        else:
            text = "; ".join(row["why"])
        text = text.replace("|", "/").replace("\n", " ")[:160]
        name = f"{row['class']}: {row['fit']}"
        lines.append([word, name, row["verdict"], row.get("result", ""), *numbers, text])
    lines.sort(key=lambda line: line[0])
    header = (
        "outcome", "fit", "verdict", "result", "error", "between", "R2", "departure", "distance",
        "growth", "why",
    )  # fmt: skip
    return table(header, lines) if lines else "None."


def report(rows: list[dict[str, Any]], where: str) -> str:
    """The whole report in Markdown."""
    return "\n".join(
        [
            "# Verdicts",
            "",
            where,
            "",
            by_class(rows),
            "",
            "Where library and judge disagree. `error` and `between`: the rollout's error against "
            "the truth over what",
            "the rule allows, at the samples and everywhere; `departure`: the largest distance of "
            "rollout and path in",
            "spreads; `distance` and `growth`: the library's own.",
            "",
            disagreements(rows),
            "",
        ]
    )


def main() -> None:
    """Run what was asked for and write the report."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", default="", help="classes, with commas")
    parser.add_argument("--one", default="", help="a part of a fit's name")
    parser.add_argument("--list", action="store_true", help="list the fits and run none")
    parser.add_argument("--output", type=Path, help="where to write, without its ending")
    options = parser.parse_args()
    where = f"{machine()}  \n{versions()}"
    rows: list[dict[str, Any]] = []
    for number, (kind, name, make) in enumerate(fits(options.only, options.one)):
        if options.list:
            print(f"{kind}: {name}")
            continue
        if number % CLEARED == 0:
            jax.clear_caches()
        rows.append(run(kind, name, make))
        print(f"# {json.dumps(rows[-1])}", flush=True)
    if not rows:
        return
    text = report(rows, where)
    print("\n" + text)
    whole = not options.only and not options.one
    output = RESULTS / "verdicts" if whole and options.output is None else options.output
    if output is not None:
        output.with_suffix(".md").write_text(text)
        content = json.dumps({"machine": where, "rows": rows}, indent=1)
        output.with_suffix(".json").write_text(content + "\n")


if __name__ == "__main__":
    main()
