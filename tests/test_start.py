"""Where a trajectory begins: a known state and inputs before the first sample."""

import json

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import Linear, spiral

import jaxcolloc as jc
from jaxcolloc import _storage
from jaxcolloc._choose_grid import choose_grid


RADAU = jc.Radau(4)
PULSE = jc.Input([0.0, 0.4], [3.0, 0.0], kind="hold")
TS = np.linspace(0.6, 3.0, 13)


class Tank(eqx.Module):
    """A tank that leaks and is filled by its input."""

    k: jax.Array
    gain: jax.Array

    def __call__(self, t, y, args):
        return self.gain * args.evaluate(t) - self.k * y


TRUTH, FIRST = (Tank(jnp.array(k), jnp.array(gain)) for k, gain in ((0.5, 1.2), (1.0, 0.5)))


def level(ts):
    """The tank's level after the pulse, from nothing at time 0."""
    return (1.2 * 3.0 / 0.5 * (1 - np.exp(-0.5 * 0.4)) * np.exp(-0.5 * (ts - 0.4)))[:, None]


EARLY = jc.Trajectory(TS, level(TS), PULSE, y0=[0.0], t0=0.0)
GRID = jc.Grid(np.unique(np.append(np.linspace(0.0, 3.0, 16), 0.4)), RADAU)


def fitted(model, data, grid):
    nlp = jc.transcribe(model, data, grid, l2=0.0)
    return jc.solve(nlp, jc.Ipopt(), jc.guess(nlp))


def test_a_known_state_holds_at_the_start():
    """y' = -y from y(0) = 2; one sample, at time 1, shows the rate."""
    rate = 1.0
    data = jc.Trajectory([1.0], [[2 * np.exp(-rate)]], y0=[2.0], t0=0.0)
    sol = fitted(Linear(jnp.array([[-0.3]])), data, jc.Grid.uniform(0.0, 1.0, 4, RADAU))
    assert float(sol.model.matrix[0, 0]) == pytest.approx(-rate, abs=1e-6)
    ts = np.linspace(0.0, 1.0, 7)
    np.testing.assert_allclose(sol.paths[0].evaluate(ts)[:, 0], 2 * np.exp(-rate * ts), atol=1e-6)


def test_an_input_before_the_first_sample_is_used():
    sol = fitted(FIRST, EARLY, GRID)
    assert float(sol.model.k) == pytest.approx(0.5, abs=1e-5)
    assert float(sol.model.gain) == pytest.approx(1.2, abs=1e-5)
    assert sol.paths[0].evaluate(0.0) == pytest.approx(0.0, abs=1e-9)
    assert list(sol.to_pandas().loc[0].index[[0, -1]]) == [0.0, 3.0]


@pytest.mark.slow
def test_fit_begins_at_the_start():
    rng = np.random.default_rng(0)
    noisy = EARLY.ys + 0.005 * rng.normal(size=EARLY.ys.shape)
    data = jc.Trajectory(TS, noisy, PULSE, y0=[0.0], t0=0.0)
    sol = jc.fit(FIRST, data, key=jax.random.key(0), l2=0.0, starts=1)
    assert float(sol.model.k) == pytest.approx(0.5, abs=0.05)
    assert float(sol.model.gain) == pytest.approx(1.2, abs=0.05)
    assert sol.verification.verdict.ok


def test_a_chosen_grid_begins_at_the_start():
    grid = choose_grid(EARLY, jc.Radau(3))
    assert grid.boundaries[0] == 0.0
    assert grid.boundaries[-1] == 3.0
    assert 0.4 in grid.boundaries
    alone = choose_grid(jc.Trajectory([1.0], [[1.0]], t0=0.0), jc.Radau(3))
    np.testing.assert_array_equal(alone.boundaries[[0, -1]], [0.0, 1.0])


def test_the_grid_must_begin_at_the_start():
    for first in (-0.5, 0.3):
        grid = jc.Grid.uniform(first, 3.0, 4, RADAU)
        with pytest.raises(ValueError, match=r"`grid` must begin .* `t0` = 0, its grid begins at"):
            jc.transcribe(FIRST, EARLY, grid)
    rounded = jc.Grid.uniform(1e-13, 3.0, 4, RADAU)
    assert jc.transcribe(FIRST, EARLY, rounded).num_states == 1


# The warning


def warned(recwarn, args, *, y0=(0.0,), t0=None, grid=None):
    data = jc.Trajectory(TS, level(TS), args, y0=y0, t0=t0)
    jc.transcribe(TRUTH, [EARLY, data], [GRID, grid or jc.Grid.uniform(0.6, 3.0, 4, RADAU)])
    return [str(item.message) for item in recwarn]


LINEAR = diffrax.LinearInterpolation(ts=jnp.array([0.0, 1.0]), ys=jnp.array([0.0, 1.0]))


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("args", [PULSE, LINEAR, jc.Input([0.0, 0.6, 1.0], [0.0, 1.0, 2.0])])
def test_inputs_that_are_not_seen_are_told(args, recwarn):
    (message,) = warned(recwarn, args)
    assert "The `y0` of trajectory 1 is taken to hold at the first time of its grid, 0.6" in message


@pytest.mark.parametrize(
    ("args", "options"),
    [
        (PULSE, {"y0": None}),
        (PULSE, {"y0": [np.nan]}),
        (PULSE, {"t0": 0.6}),
        (PULSE, {"grid": jc.Grid.uniform(0.0, 3.0, 4, RADAU)}),
        (jc.Input([0.6, 1.0], [3.0, 0.0], kind="hold"), {}),
        # Constant up to the start, where it jumps.
        (jc.Input([0.0, 0.3, 0.6], [1.0, 1.0, 2.0], kind="hold"), {}),
        (jc.Input([0.0, 0.3, 0.7], [1.0, 1.0, 1.0], kind="cubic"), {}),
    ],
)
def test_nothing_is_told_where_nothing_is_lost(args, options, recwarn):
    assert warned(recwarn, args, **options) == []


def test_one_warning_for_many_trajectories():
    data = [jc.Trajectory(TS, level(TS), {"u": PULSE}, y0=[0.0])] * 2
    model = Linear(jnp.eye(1))
    with pytest.warns(UserWarning, match="trajectory 0") as caught:
        jc.transcribe(model, data, jc.Grid.uniform(0.5, 3.0, 4, RADAU))
    assert len(caught) == 1


# What else meets it


def test_files_keep_it(tmp_path):
    path = tmp_path / "tank.jcs"
    sol = fitted(FIRST, EARLY, GRID)
    sol.save(path)
    back = jc.load(path, like=FIRST)
    assert back.nlp.trajectories[0].t0 == 0.0
    np.testing.assert_array_equal(back.z, sol.z)


def test_files_from_before_it_still_load(tmp_path):
    """They lack the field; nothing else is changed."""
    path = tmp_path / "old.jcs"
    _storage.write(path, jc.Trajectory(TS, level(TS), y0=[0.0]))
    with np.load(path) as file:
        members = dict(file)
    content = json.loads(members.pop("text").tobytes().decode())
    del content["tree"]["fields"]["t0"]
    with path.open("wb") as file:
        np.savez(file, text=np.frombuffer(json.dumps(content).encode(), np.uint8), **members)
    back = _storage.read(path)
    assert back.t0 is None
    np.testing.assert_array_equal(back.y0, [0.0])


def test_resampled_data_begin_where_they_did():
    later = np.linspace(1.0, 3.0, 5)
    assert jc.resample(EARLY, later).t0 == 0.0
    known = jc.Trajectory(TS, level(TS), y0=level(TS[:1])[0])
    assert jc.resample(known, later).t0 == TS[0]
    assert jc.resample(known, TS[:3]).t0 is None
    assert jc.resample(jc.Trajectory(TS, level(TS)), later).t0 is None


def test_growing_windows_begin_at_it():
    nlp = jc.transcribe(FIRST, EARLY, GRID, l2=0.0)
    sol = jc.solve_growing(nlp, jc.Ipopt(), jc.guess(nlp), windows=2)
    assert float(sol.model.k) == pytest.approx(0.5, abs=1e-5)


@pytest.mark.slow
def test_fine_tuning_and_simulation_begin_at_it():
    sol = fitted(FIRST, EARLY, GRID)
    ys = jc.simulate(sol.model, np.append(EARLY.begin, TS), [0.0], PULSE)
    np.testing.assert_allclose(np.asarray(ys)[1:], level(TS), atol=1e-4)
    tuned = jc.fine_tune(TRUTH, EARLY, optax.sgd(1e-6), steps=2)
    assert tuned.trace.objective[0] == pytest.approx(0.0, abs=1e-6)
    assert tuned.paths[0].grid.boundaries[0] == 0.0


@pytest.mark.slow
def test_batches_in_time_begin_at_it():
    ts = np.linspace(0.5, 4.0, 24)
    data = jc.Trajectory(ts, spiral(ts), y0=[1.0, 0.0], t0=0.0)
    model = Linear(jnp.asarray([[0.0, 1.9], [-1.9, 0.0]]))
    grid = jc.Grid.uniform(0.0, 4.0, 16, RADAU)
    sol = jc.fit_admm(
        model, data, batches=2, start="guess", l2=0.0, grid=grid, key=jax.random.key(0)
    )
    np.testing.assert_allclose(sol.model.matrix, [[-0.1, 2.0], [-2.0, -0.1]], atol=0.02)
    np.testing.assert_allclose(sol.paths[0].evaluate(0.0), [1.0, 0.0], atol=1e-9)
