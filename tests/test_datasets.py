"""Reference systems against what is known of them."""

import jax
import numpy as np
import pytest

import jaxcolloc as jc
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


def test_theophylline_of_twelve_subjects():
    """The numbers' sums, and what is known: a peak within hours, little left after a day."""
    data = datasets.theophylline({"feed": 1.0})
    assert len(data) == 12
    assert sum(len(item.ts) for item in data) == 132
    assert all(item.args == {"feed": 1.0} for item in data)
    ys, ts = (np.stack([getattr(item, name) for item in data]) for name in ("ys", "ts"))
    np.testing.assert_allclose([ys.mean(), ts.mean()], [4.9605, 5.8946], atol=1e-3)
    doses = np.array([item.jumps[0].add for item in data])
    np.testing.assert_allclose(doses.mean(axis=0), [0.0, 4.6258], atol=1e-3)
    peak = np.take_along_axis(ts, ys[:, :, 0].argmax(axis=1)[:, None], axis=1)
    assert np.all((peak > 0.5) & (peak < 4.0))
    assert np.all(ys[:, -1, 0] < 0.4 * ys[:, :, 0].max(axis=1))


def test_lotka_volterra_goes_round():
    ys = datasets.lotka_volterra().solve(np.linspace(0, 30, 61))
    prey, predator = ys.T
    level = 0.25 * prey - 0.6 * np.log(prey) + 0.5 * predator - np.log(predator)
    np.testing.assert_allclose(level, level[0], rtol=1e-7)


def test_sir_is_the_known_curve():
    ys = datasets.sir().solve(np.linspace(0, 20, 41))
    susceptible, infected = ys.T
    level = infected + susceptible - np.log(susceptible) / 3.0
    np.testing.assert_allclose(level, level[0], rtol=1e-7)
    assert infected.max() == pytest.approx(level[0] - (1 + np.log(3)) / 3, abs=2e-3)


@pytest.mark.slow
def test_robertson_at_the_published_time():
    """The values at t = 40 that test sets of stiff solvers list."""
    a, b, c = datasets.robertson().solve(np.array([0.0, 40.0]))[-1]
    np.testing.assert_allclose([a, 1e-4 * b, c], [0.7158270688, 9.185534765e-6, 0.2841637457], 1e-6)
    assert a + 1e-4 * b + c == pytest.approx(1.0, abs=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("system", "rest"),
    [
        (datasets.brusselator(), (1.0, 3.0)),
        (datasets.selkov(), (0.6, 0.6 / (0.08 + 0.36))),
        (datasets.lorenz(), (72**0.5, 72**0.5, 27.0)),
        (datasets.duffing(), (-1.0, 0.0)),
        (datasets.fitzhugh_nagumo(), (-0.8048, -0.1310)),
    ],
)
def test_what_rests_stays(system, rest):
    slope = system(0.0, np.array(rest), None)
    np.testing.assert_allclose(slope, 0.0, atol=2e-4)
    ys = system.solve(np.linspace(0, system.span, 5))
    assert np.all(np.ptp(ys, axis=0) > 0.1)


@pytest.mark.slow
def test_systems_with_an_input():
    ts = np.linspace(0, 12, 25)
    feed = jc.Input([0.0, 6.0], [0.02, 0.05], kind="hold")
    reactor = datasets.fed_batch()
    biomass, substrate, volume = reactor.solve(ts, args=feed).T
    fed = np.where(ts < 6, 0.02 * ts, 0.12 + 0.05 * (ts - 6))
    np.testing.assert_allclose(volume, 1 + fed, atol=1e-6)
    # What is eaten becomes biomass with the yield of a half.
    total = (biomass + 0.5 * substrate) * volume
    np.testing.assert_allclose(total, 0.5 + 0.5 * 2.0 + 0.5 * 10.0 * fed, atol=1e-5)
    tanks = datasets.two_tanks().solve(np.array([0.0, 200.0]), args=jc.Input([0.0], [0.4]))
    np.testing.assert_allclose(tanks[-1], (0.4 / 0.5) ** 2, rtol=1e-5)
    torque = jc.Input([0.0], [0.5])
    angle, speed = datasets.driven_pendulum().solve(np.array([0.0, 150.0]), args=torque)[-1]
    np.testing.assert_allclose([angle, speed], [np.pi / 6, 0.0], atol=1e-6)
    data = reactor.sample(ts, noise=0.0, key=jax.random.key(0), args=feed)
    assert data.args is feed
    np.testing.assert_allclose(data.ys[:, 2], volume)
    with pytest.raises(ValueError, match="`noise` must be a scalar or have shape"):
        reactor.sample(ts, noise=[0.1, 0.1], key=jax.random.key(0), args=feed)
