"""Smoothing and resampling."""

import numpy as np
import pytest

import jaxcolloc as jc
from jaxcolloc._smooth import SmoothTrajectory, choose_neighbours, smooth


def test_a_line_stays_a_line():
    ts = np.sort(np.random.default_rng(0).uniform(0, 3, 40))
    curve = smooth(ts, 2 * ts - 1)
    at = np.linspace(ts[0], ts[-1], 17)
    np.testing.assert_allclose(curve.value(at), 2 * at - 1, atol=1e-9)
    np.testing.assert_allclose(curve.slope(at), 2.0, atol=1e-8)


@pytest.mark.parametrize("spacing", ["even", "irregular"])
def test_noise_is_reduced(spacing):
    rng = np.random.default_rng(1)
    ts = np.linspace(0, 10, 150) if spacing == "even" else np.sort(rng.uniform(0, 10, 150))
    noisy = np.sin(ts) + 0.2 * rng.normal(size=150)
    curve = smooth(ts, noisy)
    error = np.sqrt(np.mean((curve.value(ts) - np.sin(ts)) ** 2))
    assert error < 0.5 * 0.2


def test_the_window_grows_with_the_noise():
    rng = np.random.default_rng(2)
    ts = np.linspace(0, 10, 200)
    noise = rng.normal(size=200)
    windows = [choose_neighbours(ts, np.sin(ts) + size * noise) for size in (0.01, 0.1, 1.0)]
    assert windows[0] < windows[1] < windows[2]


def test_dense_samples_are_averaged_to_the_same_curve():
    """A hundred thousand samples: smooth at once, and close to the truth."""
    rng = np.random.default_rng(4)
    ts = np.sort(rng.uniform(0, 20, 100_000))
    ys = np.sin(ts) + 0.3 * rng.normal(size=len(ts))
    curve = SmoothTrajectory(jc.Trajectory(ts, ys[:, None]), np.zeros(1))
    at = np.linspace(0.2, 19.8, 300)
    assert np.abs(curve.values(at)[:, 0] - np.sin(at)).max() < 0.1
    assert np.abs(curve.slopes(at)[:, 0] - np.cos(at)).max() < 0.5


@pytest.mark.parametrize("count", [1, 2, 5])
def test_few_samples_are_interpolated(count):
    ts = np.arange(count, dtype=float)
    ys = ts**2
    np.testing.assert_allclose(smooth(ts, ys).value(ts), ys, atol=1e-12)


def test_is_constant_outside_the_data():
    curve = smooth(np.arange(10.0), np.arange(10.0))
    np.testing.assert_allclose(curve.value(np.array([-5.0, 20.0])), [0.0, 9.0], atol=1e-9)
    np.testing.assert_array_equal(curve.slope(np.array([-5.0, 20.0])), 0.0)


def test_repeated_times_are_fine():
    ts = np.repeat(np.arange(8.0), 4)
    curve = smooth(ts, ts + np.tile([0.1, -0.1, 0.2, -0.2], 8))
    np.testing.assert_allclose(curve.value(np.arange(8.0)), np.arange(8.0), atol=0.15)


def test_slopes_of_noisy_data_are_usable():
    rng = np.random.default_rng(3)
    ts = np.linspace(0, 10, 200)
    ys = np.stack([np.sin(ts), np.cos(ts)], axis=1) + 0.1 * rng.normal(size=(200, 2))
    curve = SmoothTrajectory(jc.Trajectory(ts, ys), np.zeros(2))
    at = np.linspace(0.5, 9.5, 50)
    values, slopes = curve.values(at), curve.slopes(at)
    error = np.sqrt(np.mean((slopes - np.stack([np.cos(at), -np.sin(at)], axis=1)) ** 2))
    assert error < 0.2
    assert np.sqrt(np.mean((values - np.stack([np.sin(at), np.cos(at)], axis=1)) ** 2)) < 0.15


def test_channels_without_samples_get_the_fallback():
    ys = np.stack([np.arange(9.0), np.full(9, np.nan)], axis=1)
    curve = SmoothTrajectory(jc.Trajectory(np.arange(9.0), ys), np.array([0.0, 7.0]))
    np.testing.assert_array_equal(curve.values(np.arange(9.0))[:, 1], 7.0)


@pytest.mark.parametrize("method", ["linear", "cubic", "lowess"])
def test_resamples_onto_nodes(method):
    ts = np.linspace(0, 2, 41)
    weights = np.where(ts < 1, 1.0, 3.0)[:, None] * np.ones((1, 2))
    ys = np.stack([ts, 1 - ts], axis=1)
    ys[3, 0] = np.nan
    grid = jc.Grid.single(0.0, 2.0, jc.Chebyshev(9))
    moved = jc.resample(
        jc.Trajectory(ts, ys, "input", weights=weights, y0=[0.0, 1.0]), grid.times, method=method
    )
    np.testing.assert_allclose(moved.ys[:, 0], grid.times, atol=1e-8)
    assert moved.args == "input"
    np.testing.assert_array_equal(moved.y0, [0.0, 1.0])
    assert moved.weights[0, 0] == 1.0
    assert moved.weights[-1, 0] == 3.0


def test_resampling_refuses_to_extrapolate():
    data = jc.Trajectory([0.0, 1.0], [[0.0], [1.0]])
    with pytest.raises(ValueError, match="`ts` must lie within the measured times of channel 0"):
        jc.resample(data, np.array([0.0, 1.5]))
    with pytest.raises(ValueError, match="`method` must be one of"):
        jc.resample(data, np.array([0.0, 0.5]), method="spline")
