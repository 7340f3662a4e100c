"""Scaling: units far from one, and which problems are left as they are."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import Linear, Net, spiral

import jaxcolloc as jc


UNITS = np.array([1e-6, 1e6])


class Coupled(eqx.Module):
    """A spiral in units of 1e-6 and 1e6, with four rates."""

    rates: jax.Array

    def __call__(self, t, y, args):
        a, b, c, d = self.rates
        first = -a * y[0] + b * (y[1] * 1e-12)
        second = -c * (y[0] * 1e12) - d * y[1]
        return jnp.stack([first, second])


RATES = np.array([0.1, 2.0, 2.0, 0.1])
TS = np.linspace(0.0, 4.0, 80)
GRID = jc.Grid.uniform(0.0, 4.0, 20, jc.Radau(3))


@pytest.mark.parametrize("weights", [None, 1 / UNITS**2])
def test_units_of_very_different_size_work(weights):
    ys = spiral(TS) + 0.01 * np.random.default_rng(0).normal(size=(80, 2))
    data = jc.Trajectory(TS, ys * UNITS, weights=weights)
    nlp = jc.transcribe(Coupled(jnp.ones(4)), data, GRID, l2=0.0)
    guess = jc.guess(nlp)
    sol = jc.solve(nlp, jc.Ipopt(), guess)
    np.testing.assert_allclose(np.asarray(sol.model.rates), RATES, rtol=0.1, atol=0.02)
    assert sol.stats["num_steps"] < 40
    path = np.asarray(sol.paths[0].evaluate(TS))
    np.testing.assert_allclose(path / UNITS, spiral(TS), atol=0.02)
    np.testing.assert_allclose(nlp.pack(sol.model, [sol.paths[0].states]), sol.z, rtol=1e-6)


@pytest.mark.slow
def test_the_unit_of_time_does_not_matter():
    """Seconds or days: the same optimum, in about as many iterations."""
    ys = spiral(TS) + 0.05 * np.random.default_rng(0).normal(size=(80, 2))
    found = []
    for unit in (1.0, 86400.0):
        grid = jc.Grid(GRID.boundaries * unit, GRID.scheme)

        class Slow(Linear):
            def __call__(self, t, y, args, unit=unit):
                return super().__call__(t, y, args) / unit

        nlp = jc.transcribe(Slow(jnp.zeros((2, 2))), jc.Trajectory(TS * unit, ys), grid)
        found.append(jc.solve(nlp, jc.Ipopt(), jc.guess(nlp)))
    one, other = found
    assert other.objective == pytest.approx(one.objective, rel=1e-5)
    np.testing.assert_allclose(other.model.matrix, one.model.matrix, atol=1e-3)
    assert other.stats["num_steps"] <= 2 * one.stats["num_steps"]


def test_the_chosen_units():
    ys = spiral(TS) * [3e-6, 200.0]
    nlp = jc.transcribe(Net(3, 3), jc.Trajectory(TS, ys), GRID, num_states=3)
    states = nlp.units[nlp.num_weights :].reshape(-1, 3)
    np.testing.assert_allclose(states, np.tile([1e-6, 1e3, 1.0], (GRID.num_nodes, 1)))
    assert np.all(nlp.units[: nlp.num_weights] == 1)


def test_problems_of_ordinary_size_are_left_alone():
    nlp = jc.transcribe(Net(2, 3), jc.Trajectory(TS, spiral(TS)), GRID)
    assert nlp.compiled.core.scaling is None


def test_weights_are_chosen_for_extreme_data_only():
    ordinary = jc.transcribe(Net(2, 3), jc.Trajectory(TS, 50 * spiral(TS)), GRID)
    np.testing.assert_array_equal(ordinary.trajectories[0].weights, 1.0)
    ys = spiral(TS) * UNITS
    extreme = jc.transcribe(Net(2, 3), [jc.Trajectory(TS, ys)] * 2, GRID)
    expected = np.broadcast_to(1 / ys.std(axis=0) ** 2, ys.shape)
    np.testing.assert_allclose(extreme.trajectories[1].weights, expected)
    given = jc.transcribe(Net(2, 3), jc.Trajectory(TS, ys, weights=[1.0, 2.0]), GRID)
    np.testing.assert_array_equal(given.trajectories[0].weights[0], [1.0, 2.0])


def test_a_constant_channel_has_the_unit_of_its_level():
    ys = np.stack([np.full(80, 4e5), np.zeros(80)], axis=1)
    nlp = jc.transcribe(Net(2, 3), jc.Trajectory(TS, ys), GRID)
    np.testing.assert_allclose(nlp.units[nlp.num_weights :][:2], [1e6, 1.0])


@pytest.mark.parametrize("scale", [0.0, -1.0, [1.0, np.nan], [1.0, 1.0, 1.0], "big"])
def test_refuses_bad_units(scale):
    with pytest.raises(ValueError, match="`state_scale` must be"):
        jc.transcribe(Net(2, 3), jc.Trajectory(TS, spiral(TS)), GRID, state_scale=scale)
