"""What every benchmark prints: the machine, the versions, tables in Markdown."""

import importlib.metadata
import os
import platform
from collections.abc import Iterable, Sequence
from pathlib import Path


PACKAGES = ("jaxcolloc", "jax", "diffrax", "equinox", "cyipopt-wheels", "casadi", "numpy")


def cores() -> int | None:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def machine() -> str:
    """One line on the processor, the cores in use, and Python."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        model = names[0].split(":", 1)[1].strip() if names else model
    return f"{model}, {cores()} core(s) in use, Python {platform.python_version()}"


def versions(packages: Sequence[str] = PACKAGES) -> str:
    """The installed versions of the packages that matter."""
    found = []
    for name in packages:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return ", ".join(found)


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table with aligned columns."""
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def named(names: Iterable[str], parts: str) -> list[str]:
    """The names that contain any of some parts, which have commas between them."""
    wanted = parts.lower().split(",")
    return [name for name in names if any(part in name.lower() for part in wanted)]
