"""The ridge penalty by the gradient of the held-out error, and by the ladder of `jc.fit`.

Each of the systems of `systems.py` is fitted twice, by `jc.fit` with its default `l2` and with
`l2="gradient"`, from the same data and key. Compared are the error on held-out data with the
penalty that was taken and the number of penalties solved for (`stats["selection"]`), then what
comes of the whole fit: the verdict, and the error of a rollout on what was not seen, in units of
the noise.

    python bench/ridge.py                       # the table, one seed
    python bench/ridge.py --only lorenz --seeds 3
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from _report import machine, named, table, versions
from systems import CASES, run


WAYS = {"ladder": None, "gradient": "gradient"}
# An error so much larger than the ladder's counts as the same.
SAME = 1.05
MOST_SOLVES = 3


def chosen(row: dict[str, Any]) -> float:
    """The held-out error of the penalty that was taken."""
    return float(
        next(each["held_out_error"] for each in row["selection"] if each["l2"] == row["l2"])
    )


def compared(name: str, seed: int) -> dict[str, Any]:
    """Both fits of one system."""
    found: dict[str, Any] = {"system": name, "seed": seed}
    for way, l2 in WAYS.items():
        row = run(name, seed, None, l2)
        found[way] = row if "error" in row else row | {"held_out_error": chosen(row)}
    both = [found[way] for way in WAYS]
    if not any("error" in row for row in both):
        found["ratio"] = both[1]["held_out_error"] / both[0]["held_out_error"]
        found["reached"] = bool(found["ratio"] <= SAME and both[1]["tried"] <= MOST_SOLVES)
    return found


def summary(rows: list[dict[str, Any]]) -> str:
    """The table: one line per system and seed."""

    def pair(row: dict[str, Any], key: str, form: str = "") -> str:
        return " / ".join(format(row[way].get(key, "error"), form) for way in WAYS)

    header = (
        "system", "seed", "held-out error", "ratio", "reached", "solves", "verdicts",
        "rollout error / noise", "seconds",
    )  # fmt: skip
    lines = [
        [
            row["system"], row["seed"], pair(row, "held_out_error", ".3g"),
            f"{row.get('ratio', np.nan):.2f}", "yes" if row.get("reached") else "no",
            pair(row, "tried"), pair(row, "verdict"), pair(row, "rollout_error", ".2g"),
            pair(row, "seconds", ".0f"),
        ]
        for row in rows
    ]  # fmt: skip
    reached = sum(bool(row.get("reached")) for row in rows)
    return f"{table(header, lines)}\n\n{reached} of {len(rows)} reach the ladder's error."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", default="", help="parts of systems' names, with commas")
    parser.add_argument("--output", type=Path, help="a JSON file for the rows")
    options = parser.parse_args()
    print(f"{machine()}\n{versions()}\n")
    rows = []
    for name in named(CASES, options.only):
        for seed in range(options.seeds):
            rows.append(compared(name, seed))
            print(f"# {json.dumps(rows[-1])}", flush=True)
    print("\n" + summary(rows))
    if options.output:
        options.output.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
