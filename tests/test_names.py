"""Names of experiments, channels and states: kept, shown, and no part of what is computed."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcolloc as jc
from jaxcolloc._fingerprint import fingerprint


TS = np.linspace(0.0, 2.0, 11)
GRID = jc.Grid.uniform(0.0, 2.0, 2, jc.Radau(2))


class Decay(eqx.Module):
    rate: jax.Array

    def __call__(self, t, y, args):
        return -self.rate * y


def data(named=True, channels=("A", "B")):
    found = []
    for k, start in enumerate((1.0, 2.0)):
        ys = start * np.exp(-TS[:, None] * [1.0, 0.5])
        names = {"name": f"batch {k + 7}", "channels": channels, "units": {"time": "h", "A": "g"}}
        found.append(jc.Trajectory(TS, ys, **(names if named else {})))
    return found


def solved(**options):
    nlp = jc.transcribe(Decay(jnp.asarray([0.9, 0.6])), data(), GRID, l2=0.0, **options)
    return jc.solve(nlp, jc.InteriorPoint(), jc.guess(nlp, weights="as_given"))


def test_names_survive_solve_and_file(tmp_path):
    sol = solved(state_names=["first", "second"])
    sol.save(tmp_path / "a.jcs")
    for item in (sol, jc.load(tmp_path / "a.jcs", like=Decay(jnp.ones(2)))):
        assert [part.name for part in item.nlp.trajectories] == ["batch 7", "batch 8"]
        assert item.nlp.trajectories[1].channels == ("A", "B")
        assert item.nlp.trajectories[1].units == {"time": "h", "A": "g"}
        assert item.nlp.settings.state_names == ("first", "second")
        assert "batch 7, batch 8; channels A, B" in str(item)
        assert "batch 7, batch 8; channels A, B" in str(item.nlp)


def test_names_survive_a_file_without_the_problem(tmp_path):
    solved(observe=lambda t, y, args: 1.0 * y).save(tmp_path / "a.jcs")
    sol = jc.load(tmp_path / "a.jcs", like=Decay(jnp.ones(2)))
    assert sol.problem is None
    assert "batch 7, batch 8; channels A, B" in str(sol)


def test_names_are_no_part_of_what_is_compiled(compilations):
    traced = eqx.filter_jit(lambda item: jnp.sum(jnp.asarray(item.ys)))
    traced(data()[0])
    before = compilations.count
    traced(data(False)[0])
    traced(data(channels=("x", "y"))[1])
    assert compilations.count == before
    assert fingerprint(data()) == fingerprint(data(False))
    assert fingerprint(data()[0]) != fingerprint(data()[1])
    one, other = jc.Settings(state_names=("a", "b")), jc.Settings()
    assert one == other
    assert hash(one) == hash(other)


def test_numbers_do_not_depend_on_names():
    nlp = solved(state_names=("x", "y")).nlp
    other = jc.transcribe(nlp.model, data(False), GRID, l2=0.0)
    z = np.random.default_rng(0).uniform(0.5, 1.5, nlp.num_variables)
    np.testing.assert_array_equal(nlp.objective(z), other.objective(z))


def test_windows_are_numbered():
    parts = jc.windows(data(), 6)
    assert [item.name for item in parts[:2]] == ["batch 7, window 1", "batch 7, window 2"]
    assert {item.channels for item in parts} == {("A", "B")}
    assert all(item.name is None for item in jc.windows(data(False), 6))
    assert jc.windows(data()[0], 11)[0].name == "batch 7"


def test_names_are_in_errors_and_verdicts():
    short = jc.Grid.uniform(0.0, 1.0, 2, jc.Radau(2))
    with pytest.raises(ValueError, match=r'trajectory 1 \("batch 8"\) spans'):
        jc.transcribe(Decay(jnp.ones(2)), data(), [GRID, short])
    noisy = data()
    ys = noisy[1].ys + np.where(np.arange(11)[:, None] % 4 < 2, [0.0, 0.9], [0.0, 0.0])
    noisy[1] = jc.Trajectory(TS, ys, name="batch 8", channels=("A", "B"))
    nlp = jc.transcribe(Decay(jnp.ones(2)), noisy, GRID, l2=0.0)
    sol = jc.solve(nlp, jc.InteriorPoint(), jc.guess(nlp, weights="as_given"))
    text = str(jc.verify(sol))
    assert "In channel B" in text
    assert '"batch ' in text


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": 3}, "`name` must be a text.*got 3"),
        ({"name": ""}, "`name` must be a text that is not empty"),
        ({"channels": "AB"}, "`channels` must be a list of different texts.*got 'AB'"),
        ({"channels": ["A"]}, "`channels` must be .* one for each of 2"),
        ({"channels": ["A", "A"]}, "`channels` must be a list of different texts"),
        ({"units": ["h"]}, "`units` must be texts by name"),
        ({"units": {"time": 3}}, "`units` must be texts by name"),
    ],
)
def test_says_what_is_wrong_with_names(given, message):
    with pytest.raises(ValueError, match=message):
        jc.Trajectory(TS, np.ones((11, 2)), **given)


def test_says_which_names_do_not_agree():
    mixed = [data()[0], data(channels=("B", "A"))[1]]
    with pytest.raises(ValueError, match=r"same `channels`, .*\('B', 'A'\) in trajectory 1"):
        jc.transcribe(Decay(jnp.ones(2)), mixed, GRID)
    with pytest.raises(ValueError, match=r"`state_names` must be .* one for each of 2"):
        jc.transcribe(Decay(jnp.ones(2)), data(), GRID, state_names=["x"])
    with pytest.raises(ValueError, match="`state_names` must be a list"):
        jc.Settings(state_names="xy")


def test_tables_have_names():
    sol = solved()
    table = sol.to_frame()
    assert set(table.experiment) == {"batch 7", "batch 8"}
    assert set(table.channel) == {"A", "B"}
    assert set(sol.to_frame("states").state) == {"A", "B"}
    assert set(solved(state_names=("x", "z")).to_frame("states").state) == {"x", "z"}
    wide = sol.to_pandas()
    assert list(wide) == ["path_A", "path_B", "data_A", "data_B"]
    assert list(wide.index.levels[0]) == ["batch 7", "batch 8"]


def test_estimates_have_names():
    text = str(jc.uncertainty(solved(state_names=("x", "z"))))
    assert "start of x, batch 7" in text
    assert "start of z, batch 8" in text
    plain = jc.transcribe(Decay(jnp.asarray([0.9, 0.6])), data(False), GRID, l2=0.0)
    sol = jc.solve(plain, jc.InteriorPoint(), jc.guess(plain, weights="as_given"))
    assert "start of" not in str(jc.uncertainty(sol))


def test_a_table_of_a_file_without_the_problem(tmp_path):
    sol = solved(observe=lambda t, y, args: 1.0 * y)
    sol.save(tmp_path / "a.jcs")
    back = jc.load(tmp_path / "a.jcs", like=Decay(jnp.ones(2)))
    np.testing.assert_array_equal(back.to_frame("states").path, sol.to_frame("states").path)
    assert set(back.to_frame("states").experiment) == {"batch 7", "batch 8"}
    with pytest.raises(ValueError, match="`like=nlp`"):
        back.to_frame()
