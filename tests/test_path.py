"""Paths and simulation: the hand-off to Diffrax."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import SCHEMES, SPIRAL, Linear, spiral

import jaxcolloc as jc


def polynomial_path(scheme):
    grid = jc.Grid([-1.0, 0.5, 2.0], scheme)
    power = scheme.num_nodes - 1
    return jc.Path(grid, grid.times[:, None] ** power), power


@pytest.mark.slow
@pytest.mark.parametrize("scheme", SCHEMES, ids=repr)
def test_is_the_collocation_polynomial_everywhere(scheme):
    path, power = polynomial_path(scheme)
    close = path.grid.times[1:-1] + 1e-13
    with jax.enable_x64(True):
        ts = np.concatenate([np.linspace(-1, 2, 41), path.grid.times, close])
        np.testing.assert_allclose(path.evaluate(ts)[:, 0], ts**power, atol=1e-11)
        if power > 1:
            slope = power * ts ** (power - 1)
            np.testing.assert_allclose(path.derivative(ts)[:, 0], slope, atol=1e-9)


def test_evaluates_scalars_and_arrays_of_any_shape(caller_x64):
    path, _ = polynomial_path(jc.Radau(3))
    assert path.evaluate(0.1).shape == (1,)
    assert path.evaluate(np.zeros((2, 3))).shape == (2, 3, 1)
    assert path.evaluate(0.1).dtype == (np.float64 if caller_x64 else np.float32)
    change = path.evaluate(0.2) - path.evaluate(0.1)
    np.testing.assert_allclose(path.evaluate(0.1, 0.2), change, rtol=1e-5)


def test_refuses_times_outside_its_grid():
    path, _ = polynomial_path(jc.Radau(3))
    with pytest.raises(ValueError, match=r"`t` must lie on the path's grid \[-1, 2\]; got"):
        path.evaluate(2.5)
    traced = jax.jit(lambda t: path.evaluate(t))
    assert np.isnan(traced(2.5)).all()
    assert not np.isnan(traced(1.5)).any()


def test_is_a_diffrax_input():
    """x' = u(t) with u a path integrates to the path's integral."""
    grid = jc.Grid.uniform(0.0, 1.0, 3, jc.Radau(3))
    path = jc.Path(grid, grid.times[:, None] ** 2)
    assert isinstance(path, diffrax.AbstractPath)
    end = jc.simulate(lambda t, y, u: u.evaluate(t), np.array([0.0, 1.0]), np.zeros(1), path)
    assert float(end[-1, 0]) == pytest.approx(1 / 3, abs=1e-6)


def test_simulates_a_known_system(caller_x64):
    ts = np.linspace(0, 5, 11)
    ys = jc.simulate(Linear(jnp.asarray(SPIRAL)), ts, [1.0, 0.0])
    np.testing.assert_allclose(ys, spiral(ts), atol=1e-7 if caller_x64 else 2e-6)
    assert jax.config.jax_enable_x64 == caller_x64


def test_simulates_stiff_models_with_another_solver():
    def stiff(t, y, args):
        return -args * (y - jnp.cos(t))

    ts = np.array([0.0, 1.0])
    ys = jc.simulate(stiff, ts, [0.0], 1e5, solver=diffrax.Kvaerno5(), rtol=1e-6, atol=1e-8)
    assert float(ys[-1, 0]) == pytest.approx(np.cos(1.0), abs=1e-4)


@pytest.mark.slow
def test_simulation_can_be_differentiated(caller_x64):
    def end(rate):
        ys = jc.simulate(lambda t, y, args: args * y, np.array([0.0, 1.0]), np.ones(1), rate)
        return ys[-1, 0]

    tolerance = 1e-7 if caller_x64 else 1e-4
    assert float(jax.grad(end)(0.5)) == pytest.approx(np.exp(0.5), rel=tolerance)


@pytest.mark.parametrize(
    ("ts", "y0", "message"),
    [
        (0.0, [1.0], "`ts` must have shape"),
        ([], [1.0], "`ts` must have shape"),
        ([1.0, 0.0], [1.0], "`ts` must never decrease"),
        ([0.0, 1.0], 1.0, "`y0` must have shape"),
    ],
)
def test_simulation_refuses_bad_input(ts, y0, message):
    with pytest.raises(ValueError, match=message):
        jc.simulate(lambda t, y, args: y, ts, y0)
    with pytest.raises(ValueError, match="`model` must be callable"):
        jc.simulate(3, [0.0], [1.0])
