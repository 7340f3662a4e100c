"""Pages of the guide: scripts in cells, run with what they print and draw kept.

A page is a Python file in the percent format, which editors and Jupytext open as a notebook:

    # %% [markdown]
    # Text, with formulas between dollar signs.

    # %%
    code, whose last expression is shown as in a notebook

    # %% [test]
    code that is run and not shown

`python examples/guide/_pages.py PAGE FILE` runs one and writes its cells, with their output, as
JSON to FILE.
"""

import argparse
import ast
import base64
import contextlib
import hashlib
import io
import json
import re
import tempfile
import warnings
from pathlib import Path
from typing import Any

import matplotlib


HERE = Path(__file__).resolve().parent


def names() -> list[str]:
    """All pages, without their endings."""
    return sorted(path.stem for path in HERE.glob("*.py") if not path.stem.startswith("_"))


def cells(path: Path) -> list[dict[str, Any]]:
    """The cells of a page: their kind ("markdown", "code" or "test"), first line and source."""
    found: list[dict[str, Any]] = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        head = re.fullmatch(r"# %%(?: \[(markdown|test)\])?", line)
        if head:
            found.append({"kind": head[1] or "code", "line": number + 1, "source": ""})
        elif found:
            text = re.sub("^# ?", "", line) if found[-1]["kind"] == "markdown" else line
            found[-1]["source"] += text + "\n"
        elif line.strip():
            raise ValueError(f"{path.name} must begin with a line `# %%`; got {line!r}.")
    return found


def digest(path: Path) -> str:
    """A fingerprint of a page's text."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def title(path: Path) -> str:
    """The page's first heading."""
    heading = re.search(r"^# # (.+)$", path.read_text(), re.MULTILINE)
    if heading is None:
        raise ValueError(f"{path.name} must have a heading, `# # Title`.")
    return heading[1]


def run(path: Path) -> dict[str, Any]:
    """The page's cells with what they print (`text`) and draw (`pictures`, PNG in base64)."""
    names: dict[str, Any] = {"__name__": "__main__"}
    done = []
    for cell in cells(path):
        if cell["kind"] != "markdown":
            text, pictures = _run_cell(cell, path, names)
            cell |= {"text": text, "pictures": pictures}
        done.append(cell)
    return {"digest": digest(path), "title": title(path), "cells": done}


def _run_cell(cell: dict[str, Any], path: Path, names: dict[str, Any]) -> tuple[str, list[str]]:
    tree = ast.parse("\n" * (cell["line"] - 1) + cell["source"], path.name)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    printed = io.StringIO()
    value = None
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        exec(compile(tree, str(path), "exec"), names)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), str(path), "eval"), names)
    figures = [value] if hasattr(value, "savefig") else []
    if value is not None and not figures:
        print(repr(value), file=printed)
    return printed.getvalue(), [_png(figure) for figure in figures]


def _png(figure: Any) -> str:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=100)
    return base64.b64encode(file.getvalue()).decode()


def main() -> None:
    """Run one page."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("page", choices=names())
    parser.add_argument("file", type=Path)
    arguments = parser.parse_args()
    matplotlib.use("Agg")
    warnings.formatwarning = lambda message, kind, *_: f"{kind.__name__}: {message}\n"
    file = arguments.file.resolve()
    # Pages may write files.
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        result = run(HERE / f"{arguments.page}.py")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
