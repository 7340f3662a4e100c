"""Guesses of states that are not observed, or only through a function."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import Linear, Net, spiral

import jaxcolloc as jc


TS = np.linspace(0.0, 4.0, 80)
GRID = jc.Grid.uniform(0.0, 4.0, 20, jc.Radau(3))


def first_channel(**options):
    model = Net(2, 6, seed=1)
    return jc.transcribe(model, jc.Trajectory(TS, spiral(TS)[:, :1]), GRID, **options)


class Oscillator(eqx.Module):
    """x' = v, v' = -stiffness x - friction v: the second state is the first one's slope."""

    stiffness: jax.Array
    friction: jax.Array

    def __call__(self, t, y, args):
        return jnp.stack([y[1], -self.stiffness * y[0] - self.friction * y[1]])


def test_finds_a_hidden_velocity_and_the_constants_with_gaps(caller_x64):
    """Only the position is measured, with gaps and noise; the stiffness is 4 + 0.01."""
    rng = np.random.default_rng(0)
    ys = spiral(TS)[:, :1] + 0.01 * rng.normal(size=(80, 1))
    ys[20:40:3] = np.nan
    ys[55:62] = np.nan
    model = Oscillator(jnp.asarray(1.0), jnp.asarray(0.0))
    nlp = jc.transcribe(model, jc.Trajectory(TS, ys), GRID, num_states=2, l2=0.0)
    guess = jc.guess(nlp)
    truth = spiral(GRID.times) @ np.array([[1.0, -0.1], [0.0, 2.0]])
    assert np.sqrt(np.mean((guess.states[0] - truth) ** 2)) < 0.25
    sol = jc.solve(nlp, jc.Ipopt(), guess)
    assert float(sol.model.stiffness) == pytest.approx(4.01, abs=0.05)
    assert float(sol.model.friction) == pytest.approx(0.2, abs=0.03)
    np.testing.assert_allclose(sol.paths[0].states, truth, atol=0.05)


@pytest.mark.slow
def test_a_black_box_with_a_hidden_state_fits():
    nlp = first_channel(num_states=2, l2=1e-5)
    sol = jc.solve(nlp, jc.Ipopt(), jc.guess(nlp, key=jax.random.key(0)))
    ys = jc.simulate(sol.model, TS, sol.paths[0].evaluate(0.0))[:, 0]
    assert np.sqrt(np.mean((np.asarray(ys) - spiral(TS)[:, 0]) ** 2)) < 0.02


def test_the_observation_is_inverted_where_it_determines_the_state():
    mix = jnp.asarray([[1.0, 0.5], [0.3, -1.0]])

    def observe(t, y, args):
        return jnp.sinh(mix @ y) * args["gain"]

    args = {"gain": np.float64(2.0)}
    seen = np.sinh(spiral(TS) @ np.asarray(mix).T) * 2.0
    nlp = jc.transcribe(Net(2, 3), jc.Trajectory(TS, seen, args), GRID, observe=observe)
    guess = jc.guess(nlp, key=jax.random.key(0), weights="xavier")
    assert np.abs(guess.states[0] - spiral(GRID.times)).max() < 0.15


def test_an_observed_component_keeps_its_place():
    nlp = first_channel(num_states=2, observe=lambda t, y, args: y[1:] - 3.0)
    guess = jc.guess(nlp, key=jax.random.key(0))
    assert np.abs(guess.states[0][:, 1] - 3.0 - spiral(GRID.times)[:, 0]).max() < 0.1
    assert guess.states[0][:, 0].std() > 0.1


def test_a_sum_leaves_a_direction_open():
    """What the data do not show is filled in without changing what they do."""

    def observe(t, y, args):
        return y[:1] + 2 * y[1:2] + y[2:]

    data = jc.Trajectory(TS, spiral(TS)[:, :1])
    nlp = jc.transcribe(Net(3, 4), data, GRID, num_states=3, observe=observe)
    guess = jc.guess(nlp, key=jax.random.key(0))
    total = guess.states[0] @ np.array([1.0, 2.0, 1.0])
    assert np.abs(total - spiral(GRID.times)[:, 0]).max() < 0.1
    assert np.linalg.matrix_rank(guess.states[0], tol=1e-6) >= 2


def test_a_trained_observation_finds_its_gain():
    class Sensor(Linear):
        gain: jax.Array

        def observe(self, t, y, args):
            return self.gain * y

    truth = jnp.asarray([[-0.1, 2.0], [-2.0, -0.1]])
    model = Sensor(truth, jnp.asarray(1.0))
    start = jc.StateBounds([0, 1], [0.5, 0.0], [0.5, 0.0], at="start")
    nlp = jc.transcribe(
        model,
        jc.Trajectory(TS, spiral(TS)),
        GRID,
        observe=model.observe,
        l2=0.0,
        constraints=start,
    )
    sol = jc.solve(nlp, jc.Ipopt(), jc.guess(nlp))
    assert float(sol.model.gain) == pytest.approx(2.0, abs=1e-3)
    separate = lambda t, y, args, model: model.gain * y  # noqa: E731
    again = jc.transcribe(
        model, jc.Trajectory(TS, spiral(TS)), GRID, observe=separate, l2=0.0, constraints=start
    )
    assert float(again.objective(sol.z)) == pytest.approx(sol.objective, abs=1e-12)


def test_states_from_a_function():
    def states(ts, ys, slopes):
        assert ts.shape == (GRID.num_nodes,)
        return np.concatenate([ys, slopes / 2], axis=1)

    nlp = first_channel(num_states=2)
    guess = jc.guess(nlp, key=jax.random.key(0), states=states)
    np.testing.assert_allclose(guess.states[0][2:-2, 1], spiral(GRID.times)[2:-2, 1], atol=0.2)
    with pytest.raises(ValueError, match=r"`states` must be a function .* shape \(node, state\)"):
        jc.guess(nlp, key=jax.random.key(0), states=lambda ts, ys, slopes: ys)


def _squared(t, y, args):
    return y[:1] ** 2


@pytest.mark.parametrize("observe", [None, _squared])
def test_guesses_for_hidden_states_are_finite_and_bounded(observe):
    data = jc.Trajectory(TS, spiral(TS)[:, :1] ** 2)
    nlp = jc.transcribe(
        Net(3, 3), data, GRID, num_states=3, observe=observe, state_bounds=(-0.4, 0.4)
    )
    guess = jc.guess(nlp, key=jax.random.key(0))
    assert np.all(np.abs(guess.states[0]) <= 0.4)
    assert np.all(np.isfinite(guess.z))
