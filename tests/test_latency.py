"""What is compiled: a model's functions once, whatever grid, data or start follow."""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.slow


@functools.cache
def compiled(part: str) -> dict[str, list[list[str]]]:
    """What a fresh process compiles in each step of that part, and who calls for it."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench" / "_latency_steps.py"), part],
        capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return {row["step"]: row["programs"] for row in json.loads(done.stdout.splitlines()[-1])}


def test_a_first_fit_compiles_little():
    first = compiled("fit")["first fit"]
    assert 0 < len(first) <= 20, first


@pytest.mark.parametrize("change", ["other noise", "250 samples", "other start time"])
def test_a_next_fit_compiles_nothing(change):
    assert not compiled("fit")[f"next fit: {change}"]


@pytest.mark.parametrize("solver", ["Ipopt", "InteriorPoint"])
def test_a_solve_with_new_data_compiles_nothing(solver):
    assert compiled(solver)["solve"]
    assert not compiled(solver)["with_data and solve"]


@pytest.mark.parametrize("solver", ["Ipopt", "InteriorPoint"])
@pytest.mark.parametrize("step", ["transcribe", "guess", "solve", "verify"])
def test_another_grid_compiles_nothing(solver, step):
    assert not compiled(solver)[f"{step}, other grid"]
