"""Reference systems against what is known of them."""

import jax
import numpy as np
import pytest

from jaxcolloc import datasets


def test_harmonic_oscillator():
    ts = np.linspace(0, 7, 9)
    ys = datasets.harmonic_oscillator(omega=2.0).solve(ts)
    np.testing.assert_allclose(ys, np.stack([np.cos(2 * ts), -2 * np.sin(2 * ts)], 1), atol=1e-8)


def test_damped_oscillator():
    ts = np.linspace(0, 7, 9)
    ys = datasets.damped_oscillator(omega=1.5, damping=0.2).solve(ts)
    ring = 1.5 * np.sqrt(1 - 0.2**2)
    x = np.exp(-0.3 * ts) * (np.cos(ring * ts) + 0.3 / ring * np.sin(ring * ts))
    np.testing.assert_allclose(ys[:, 0], x, atol=1e-8)


def test_van_der_pol_satisfies_its_equation():
    ts = np.linspace(0, 15, 3001)
    ys = datasets.van_der_pol().solve(ts)
    np.testing.assert_array_equal(ys[0], [0.0, 1.0])
    x, v = ys.T
    slope = np.gradient(v, ts, edge_order=2)
    np.testing.assert_allclose(slope, (1 - x**2) * v - x + np.cos(ts), atol=1e-3)
    np.testing.assert_allclose(np.gradient(x, ts, edge_order=2), v, atol=1e-3)


def test_solves_from_a_given_state_on_later_times():
    system = datasets.van_der_pol()
    ts = np.linspace(0, 15, 31)
    ys = system.solve(ts)
    np.testing.assert_allclose(system.solve(ts[10:], ys[10]), ys[10:], atol=1e-7)


def test_noise_is_keyed_and_of_the_size_asked_for(caller_x64):
    system, ts = datasets.harmonic_oscillator(), np.linspace(0, 10, 2000)
    one = system.sample(ts, noise=0.1, key=jax.random.key(1))
    other = system.sample(ts, noise=0.1, key=jax.random.key(1))
    np.testing.assert_array_equal(one.ys, other.ys)
    assert np.std(one.ys - system.solve(ts)) == pytest.approx(0.1, rel=0.05)
    with pytest.raises(ValueError, match="`noise` must be a finite number"):
        system.sample(ts, noise=-1, key=jax.random.key(0))


def test_lynx_follows_hare():
    data = datasets.lynx_hare()
    assert data.ys.shape == (21, 2)
    hare, lynx = data.ys.T
    assert (hare.max(), lynx.max()) == (77.4, 59.4)
    np.testing.assert_allclose(data.ys.mean(axis=0), [34.08, 20.17], atol=0.01)
    delays = [np.corrcoef(hare[: 21 - k], lynx[k:])[0, 1] for k in range(4)]
    assert np.argmax(delays) in (1, 2)
