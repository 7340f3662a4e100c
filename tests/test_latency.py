"""What is compiled: a model's functions once, whatever grid, data or start follow."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.slow


def compiled(part: str) -> dict[str, list[list[str]]]:
    """What a fresh process compiles in each step of that part, and who calls for it."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench" / "_latency_steps.py"), part],
        capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return {row["step"]: row["programs"] for row in json.loads(done.stdout.splitlines()[-1])}


def test_a_first_fit_compiles_little_and_the_next_ones_nothing():
    steps = compiled("fit")
    first = steps["first fit"]
    assert 0 < len(first) <= 20, first
    following = {name: found for name, found in steps.items() if name.startswith("next fit")}
    assert len(following) == 3
    assert not any(following.values()), following


@pytest.mark.parametrize("solver", ["Ipopt", "InteriorPoint"])
def test_new_data_and_another_grid_compile_nothing(solver):
    steps = compiled(solver)
    assert steps["solve"]
    again = {name: steps[name] for name in steps if "with_data" in name or "other grid" in name}
    assert len(again) == 5
    assert not any(again.values()), again
