"""save, load, checkpoints: what comes back, what is refused, a killed process that goes on."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import Linear, Net, spiral

import jaxcolloc as jc
from jaxcolloc import _storage


TS = np.linspace(0.0, 4.0, 25)
DATA = jc.Trajectory(TS, spiral(TS) + 0.05 * np.random.default_rng(0).normal(size=(25, 2)))
GRID = jc.Grid.uniform(0.0, 4.0, 8, jc.Radau(3))


def solved(model, data=DATA, key=0, **options):
    nlp = jc.transcribe(model, data, GRID, **({"l2": 1e-3} | options))
    return jc.solve(nlp, jc.Ipopt(tol=1e-9), jc.guess(nlp, key=jax.random.key(key)))


@pytest.fixture(scope="module")
def sol():
    return solved(Net(2, 4), weight_bounds=(-0.6, 0.6))


@pytest.mark.slow
def test_everything_comes_back(sol, tmp_path):
    path = tmp_path / "run.jcs"
    sol.save(path)
    back = jc.load(path, like=Net(2, 4, seed=9))
    assert back.result is sol.result
    assert back.objective == sol.objective
    np.testing.assert_array_equal(back.z, sol.z)
    for name in ("constraints", "lower", "upper"):
        np.testing.assert_array_equal(
            getattr(back.multipliers, name), getattr(sol.multipliers, name)
        )
    assert np.max(back.multipliers.upper) > 1e-5, "a bound of a weight is active"
    np.testing.assert_array_equal(back.paths[0].states, sol.paths[0].states)
    assert repr(back.paths[0].grid) == repr(GRID)
    assert back.stats == sol.stats
    np.testing.assert_array_equal(back.trace.objective, sol.trace.objective)
    assert back.solver == sol.solver
    assert jnp.array_equal(jax.random.key_data(back.key), jax.random.key_data(sol.key))
    assert eqx.tree_equal(back.model, sol.model)
    y = jnp.asarray([0.3, -0.2])
    np.testing.assert_array_equal(back.model(0.0, y, None), sol.model(0.0, y, None))
    assert float(back.nlp.objective(back.z)) == sol.objective


def test_a_loaded_solution_is_a_warm_start(sol, tmp_path):
    sol.save(tmp_path / "run.jcs")
    back = jc.load(tmp_path / "run.jcs", like=Net(2, 4))
    again = jc.solve(back.nlp, back.solver, back)
    assert again.stats["num_steps"] <= 2
    assert again.objective == pytest.approx(sol.objective, rel=1e-8)
    from_nlp = jc.load(tmp_path / "run.jcs", like=sol.nlp)
    assert from_nlp.nlp is sol.nlp
    assert jc.load(tmp_path / "run.jcs", like=sol).nlp is sol.nlp


@pytest.mark.slow
def test_verification_and_inputs_come_back(tmp_path):
    class Driven(eqx.Module):
        rate: jax.Array

        def __call__(self, t, y, args):
            return -self.rate * y + args["u"](t) * args["gain"]

    u = jc.Input(TS, np.sin(TS), kind="linear")
    args = {"u": u, "gain": jc.Unknown(0.5, scale="log", bounds=(0.1, 2.0))}
    model = Driven(jnp.asarray(0.8))
    ys = np.asarray(jc.simulate(model, TS, [0.3], {"u": u, "gain": 0.7}))
    ys = ys + 1e-3 * np.random.default_rng(0).normal(size=ys.shape)
    sol = jc.fit(model, jc.Trajectory(TS, ys, args), grid=GRID, l2=1e-6, refinements=0)
    sol.save(tmp_path / "run.jcs")
    back = jc.load(tmp_path / "run.jcs", like=model)
    assert back.verification.verdict is sol.verification.verdict
    assert back.args[0]["gain"] == pytest.approx(0.7, abs=0.02)
    assert back.args[0]["u"].kind == "linear"
    assert str(back) == str(sol)


def test_functions_need_the_nlp(tmp_path):
    def observe(t, y, args):
        return 2.0 * y

    sol = solved(Linear(jnp.zeros((2, 2))), observe=observe, num_states=2)
    sol.save(tmp_path / "run.jcs")
    model = Linear(jnp.ones((2, 2)))
    alone = jc.load(tmp_path / "run.jcs", like=model)
    np.testing.assert_array_equal(alone.model.matrix, sol.model.matrix)
    np.testing.assert_array_equal(alone.paths[0].states, sol.paths[0].states)
    with pytest.raises(ValueError, match=r"like=nlp"):
        _ = alone.nlp
    again = jc.solve(sol.nlp, jc.Ipopt(), alone)
    assert again.stats["num_steps"] <= 2
    assert jc.load(tmp_path / "run.jcs", like=sol.nlp).nlp is sol.nlp


def test_dtypes_of_the_model_stay(tmp_path, caller_x64):
    sol = solved(Linear(jnp.zeros((2, 2))))
    sol.save(tmp_path / "run.jcs")
    back = jc.load(tmp_path / "run.jcs", like=Linear(jnp.zeros((2, 2))))
    assert back.model.matrix.dtype == sol.model.matrix.dtype == jnp.zeros(()).dtype


def test_what_is_refused(sol, tmp_path):
    path = tmp_path / "run.jcs"
    sol.save(path)
    with pytest.raises(ValueError, match="`like` must be a model whose arrays have the stored"):
        jc.load(path, like=Net(2, 5))
    other = jc.transcribe(Net(2, 4), DATA, jc.Grid.uniform(0.0, 4.0, 9, jc.Radau(3)))
    with pytest.raises(ValueError, match="`like` must have the stored solution's 72 variables"):
        jc.load(path, like=other)
    moved = jc.Grid(np.append(0.0, np.linspace(0.6, 4.0, 8)), jc.Radau(3))
    with pytest.raises(ValueError, match="`like` must have the stored solution's grids"):
        jc.load(path, like=jc.transcribe(Net(2, 4), DATA, moved))
    with pytest.raises(FileNotFoundError):
        jc.load(tmp_path / "none", like=Net(2, 4))
    (tmp_path / "text").write_text("not ours")
    with pytest.raises(ValueError, match="`path` must be a file written by jaxcolloc"):
        jc.load(tmp_path / "text", like=Net(2, 4))
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(ValueError, match="`path` must be a file written by jaxcolloc"):
        jc.load(tmp_path / "other.npz", like=Net(2, 4))
    _storage.write(tmp_path / "tree", {"a": 1})
    with pytest.raises(ValueError, match=r"`path` must be a file that Solution\.save"):
        jc.load(tmp_path / "tree", like=Net(2, 4))


def test_checkpoints_hold_the_iterate(tmp_path):
    """Written every few steps, at the iterate of that step, and complete at the end."""
    nlp = jc.transcribe(Net(2, 4), DATA, GRID, l2=1e-3)
    path = tmp_path / "run.jcs"
    seen = {}

    def look(step):
        if path.exists():
            seen[step.iteration] = jc.load(path, like=nlp)

    guess = jc.guess(nlp, key=jax.random.key(0))
    sol = jc.solve(nlp, jc.Ipopt(tol=1e-9), guess, callback=look, checkpoint=path, every=4)
    assert min(seen) == 4
    part = seen[8]
    assert part.result is jc.RESULTS.interrupted
    assert part.stats["num_steps"] == 8
    assert part.objective == pytest.approx(sol.trace.objective[8], rel=1e-12)
    assert np.any(part.multipliers.constraints != 0)
    again = jc.solve(nlp, jc.Ipopt(tol=1e-9), part)
    assert again.objective == pytest.approx(sol.objective, rel=1e-8)
    assert jc.load(path, like=nlp).result is jc.RESULTS.successful


RUN = """
import sys, time
import jax, numpy as np
sys.path.insert(0, {tests!r})
from test_load import DATA, GRID, jc, Net

nlp = jc.transcribe(Net(2, 4), DATA, GRID, l2=1e-3)
guess = jc.guess(nlp, key=jax.random.key(0), weights="xavier")

def slow(step):
    print(step.iteration, flush=True)
    time.sleep(0.05)

jc.solve(nlp, jc.Ipopt(tol=1e-9), guess, callback=slow, checkpoint=sys.argv[1], every=1)
"""


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_optimum(tmp_path):
    """SIGKILL while checkpoints are written at every step."""
    path = tmp_path / "run.jcs"
    command = [sys.executable, "-c", RUN.format(tests=str(Path(__file__).parent)), str(path)]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= 6:
                break
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    nlp = jc.transcribe(Net(2, 4), DATA, GRID, l2=1e-3)
    part = jc.load(path, like=nlp)
    assert part.result is jc.RESULTS.interrupted
    assert part.stats["num_steps"] >= 5
    guess = jc.guess(nlp, key=jax.random.key(0), weights="xavier")
    whole = jc.solve(nlp, jc.Ipopt(tol=1e-9), guess)
    rest = jc.solve(nlp, jc.Ipopt(tol=1e-9), part)
    assert rest.objective == pytest.approx(whole.objective, rel=1e-8)


def test_a_damaged_tree_is_refused_with_the_name_of_an_argument(tmp_path):
    """A well-formed archive whose tree has something else in one place, drawn at random."""
    model = Linear(jnp.zeros((1, 1)))
    data = jc.Trajectory([0.0, 1.0], [[1.0], [2.0]])
    nlp = jc.transcribe(model, data, jc.Grid.uniform(0.0, 1.0, 1, jc.Radau(1)))
    file = tmp_path / "run.jcs"
    jc.solve(nlp, jc.Ipopt(max_steps=1), jc.guess(nlp), throw=False).save(file)
    with np.load(file) as archive:
        arrays = {name: archive[name] for name in archive.files}
    tree = arrays.pop("text").tobytes().decode()
    odd = [None, True, -1, 10**30, "x", [], {}, {"float": "nan"}, {"array": "a0"}, {"dict": {}},
           {"tuple": [{"array": "a1"}]}, {"function": "squared_error"},
           {"enum": "RESULTS", "member": "failed"}]  # fmt: skip
    rng = np.random.default_rng(0)
    for _ in range(150):
        content = json.loads(tree)
        places = list(_places(content))
        node, key = places[rng.integers(len(places))]
        node[key] = odd[rng.integers(len(odd))]
        text = np.frombuffer(json.dumps(content).encode(), np.uint8)
        with open(file, "wb") as stream:
            np.savez(stream, text=text, **arrays)
        said = _refusal(file, model)
        assert not said or said.startswith(("`path`", "`like`"))


def _refusal(file, like):
    try:
        jc.load(file, like=like)
    except ValueError as error:
        return str(error)
    return ""


def _places(tree):
    """Every place in a tree of dicts and lists, as what holds it and its key there."""
    keys = list(tree) if isinstance(tree, dict) else range(len(tree))
    for key in keys:
        yield tree, key
        if isinstance(tree[key], (dict, list)):
            yield from _places(tree[key])
