"""Importing the library."""

import subprocess
import sys


def test_importing_warns_of_nothing_and_changes_no_setting():
    code = (
        "import jax; before = dict(jax.config.values); import jaxcolloc; "
        "assert dict(jax.config.values) == before"
    )
    command = [sys.executable, "-W", "error", "-c", code]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
