"""Importing the library."""

import subprocess
import sys


# Imports may register settings that JAX has not known before; none that it has may change.
CODE = """
import jax
import numpy as np

settings, errors = dict(jax.config.values), np.geterr()
shown = np.get_printoptions()
import jaxcolloc

changed = {
    name: (value, jax.config.values[name])
    for name, value in settings.items()
    if jax.config.values[name] != value
}
assert not changed, changed
assert {"jax_enable_x64", "jax_platforms", "jax_default_matmul_precision"} <= set(settings)
assert {"jax_debug_nans", "jax_disable_jit", "jax_numpy_dtype_promotion"} <= set(settings)
assert np.geterr() == errors
assert np.get_printoptions() == shown
wide = settings["jax_enable_x64"]
assert jax.numpy.zeros(()).dtype == (np.float64 if wide else np.float32)
"""

# What takes long to import and most calls do without; JAX may bring some of it itself.
LATER = """
import sys

import diffrax

before = set(sys.modules)
import jaxcolloc

heavy = {"cyipopt", "jaxopt", "matplotlib", "multiprocessing", "numba", "optax", "pandas", "scipy"}
heavy |= {"statsmodels", "tqdm"}
found = heavy & (set(sys.modules) - before)
assert not found, found
"""


def test_importing_warns_of_nothing_and_changes_no_setting():
    command = [sys.executable, "-W", "error", "-c", CODE]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_importing_leaves_what_takes_long_for_later():
    run = subprocess.run([sys.executable, "-c", LATER], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
