"""Which options of IPOPT a loaded solver keeps."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcolloc as jc
from jaxcolloc import _storage
from jaxcolloc._ipopt.options import harmless


class Decay(eqx.Module):
    rate: jax.Array

    def __call__(self, t, y, args):
        return -self.rate * y


HARMFUL = {
    "output_file": "victim.txt",
    "option_file_name": "options.opt",
    "hsllib": "/tmp/evil.so",
    "pardisolib": "evil.so",
    "linear_solver": "./evil",
    "file_print_level": 5,
    "file_append": True,
    "print_options_documentation": "yes",
    "ma97_dump_matrix": "yes",
    "not_an_option": 1,
    "tol": "1e-3/../x",
    "mu_init": [1.0],
    "resto.output_file": "x",
}
HARMLESS = {
    "acceptable_tol": 1e-3,
    "max_iter": 50,
    "mu_strategy": "monotone",
    "mu_oracle": "quality-function",
    "limited_memory_max_history": np.int64(12),
    "derivative_test": "first-order",
    "linear_solver": "ma57",
    "print_level": 5,
    "warm_start_same_structure": False,
}


def test_harmless_options_are_told_apart():
    assert harmless(HARMLESS) == (HARMLESS, {})
    assert harmless(HARMFUL) == ({}, HARMFUL)
    assert harmless({"linear_solver": "ma77"}) == ({}, {"linear_solver": "ma77"})


def test_loading_leaves_harmful_options_out(tmp_path):
    """Wherever in the tree the solver stands."""
    solver = jc.Ipopt(tol=1e-5, options=HARMLESS | HARMFUL)
    _storage.write(tmp_path / "file", {"inside": (solver,)})
    with pytest.warns(UserWarning, match=r"left out: file_append, .*output_file, "):
        back = _storage.read(tmp_path / "file")["inside"][0]
    kept = {name: value for name, value in HARMLESS.items() if name not in HARMFUL}
    assert back.options == kept
    assert back.tol == 1e-5


def test_ipopt_knows_the_options_that_stay():
    """The numbers and words of `HARMLESS` are IPOPT's own."""
    quiet = {"print_level": 0, "linear_solver": "mumps", "derivative_test": "none"}
    ts = np.linspace(0.0, 1.0, 4)
    grid = jc.Grid.uniform(0.0, 1.0, 2, jc.Radau(2))
    nlp = jc.transcribe(Decay(jnp.array(1.0)), jc.Trajectory(ts, np.exp(-ts)[:, None]), grid)
    sol = jc.solve(nlp, jc.Ipopt(options=HARMLESS | quiet), jc.guess(nlp, weights="as_given"))
    assert sol.result.ok
