"""The examples at small size, and the README's code as it stands."""

import re
import subprocess
import sys
from pathlib import Path


ROOT = Path(__file__).parents[1]


def test_van_der_pol(tmp_path):
    command = [sys.executable, ROOT / "examples/van_der_pol.py", "--output", tmp_path]
    small = ["--nodes", "40", "--until", "5", "--width", "6", "--seeds", "2"]
    run = subprocess.run([*command, *small], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "NLP: 112 variables, 78 equality constraints" in run.stdout
    assert "mean over 2 seeds" in run.stdout
    assert "2 of 2 solved" in run.stdout
    assert (tmp_path / "van_der_pol.png").stat().st_size > 10_000


def test_the_readmes_example_runs():
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    names = {}
    exec(blocks[0], names)
    assert names["sol"].result.ok
    assert names["ys"].shape == (200, 2)
