"""What the examples on real series share: where the files are, reading, scores, pictures."""

import argparse
import csv
import os
from pathlib import Path
from typing import Any

import numpy as np


OUTPUT = Path("examples/output")


def options(description: str | None, *, data: bool = True) -> argparse.ArgumentParser:
    """The options that these scripts have in common."""
    parser = argparse.ArgumentParser(description=(description or "").split("\n")[0])
    if data:
        parser.add_argument(
            "--data",
            type=Path,
            default=os.environ.get("JAXCOLLOC_DATA"),
            help="the folder with the series; the variable JAXCOLLOC_DATA if not given",
        )
    parser.add_argument("--quick", action="store_true", help="a small version")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="where the picture goes")
    return parser


def read(folder: Path | None, name: str) -> list[dict[str, str]]:
    """The rows of a CSV file in the data folder."""
    if folder is None:
        raise SystemExit(f"Where is {name}? Pass --data DIR or set JAXCOLLOC_DATA.")
    path = Path(folder) / name
    if not path.exists():
        raise SystemExit(f"{path} does not exist.")
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def columns(rows: list[dict[str, str]], *names: str) -> list[np.ndarray]:
    """Some columns as arrays of numbers."""
    return [np.array([float(row[name]) for row in rows]) for name in names]


def rmse(one: Any, other: Any) -> float:
    """The root mean square of the difference."""
    return float(np.sqrt(np.mean((np.asarray(one) - np.asarray(other)) ** 2)))


def pyplot() -> Any:
    """Matplotlib without a screen."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt


def save(figure: Any, path: Path) -> None:
    """Write a picture and say where."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    print(f"picture: {path}")
