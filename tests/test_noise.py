"""Noise estimated from samples alone, and residuals told from noise."""

import numpy as np
import pytest

import jaxcolloc as jc
from jaxcolloc._noise import noise_levels, not_wild, structured


def series(count, noise, seed=0, spacing="even"):
    rng = np.random.default_rng(seed)
    ts = np.linspace(0.0, 10.0, count) if spacing == "even" else np.sort(rng.uniform(0, 10, count))
    return ts, np.sin(ts) + noise * rng.normal(size=count)


@pytest.mark.parametrize("spacing", ["even", "random"])
@pytest.mark.parametrize("count", [40, 400])
def test_the_noise_of_a_smooth_signal_is_found(spacing, count):
    found = []
    for seed in range(20):
        ts, ys = series(count, 0.1, seed, spacing)
        found.append(noise_levels([jc.Trajectory(ts, ys[:, None])])[0])
    assert np.mean(found) == pytest.approx(0.1, rel=0.1)
    assert np.max(np.abs(found)) < 0.2


def test_a_signal_without_noise_has_hardly_any():
    ts, ys = series(60, 0.0)
    assert noise_levels([jc.Trajectory(ts, ys[:, None])])[0] < 1e-3


def test_wild_samples_do_not_count_and_units_carry_over():
    ts, ys = series(200, 0.1)
    wild = ys.copy()
    wild[[20, 90, 150]] += 60
    both = jc.Trajectory(ts, np.stack([wild, 1e9 * ys], axis=1))
    level = noise_levels([jc.Trajectory(ts, ys[:, None])])[0]
    found = noise_levels([both])
    assert found[0] == pytest.approx(level, rel=0.1)
    assert found[1] == pytest.approx(1e9 * level, rel=1e-9)


def test_samples_at_one_time_are_compared_with_each_other():
    """Of a signal too rough for its neighbours to tell anything."""
    rng = np.random.default_rng(0)
    level = np.repeat(rng.normal(size=200), 2)
    ts = np.repeat(np.arange(200.0), 2)
    data = jc.Trajectory(ts, (level + 1e-3 * rng.normal(size=400))[:, None])
    assert noise_levels([data])[0] < 0.7
    short = jc.Trajectory(np.repeat([0.0, 1.0], 50), 1e-3 * rng.normal(size=(100, 1)))
    assert noise_levels([short])[0] == pytest.approx(1e-3, rel=0.3)


def test_trajectories_are_taken_together_and_few_samples_tell_nothing():
    rng = np.random.default_rng(0)
    windows = [
        jc.Trajectory(np.arange(4.0), (k + 0.1 * rng.normal(size=4))[:, None]) for k in range(100)
    ]
    assert noise_levels(windows)[0] == pytest.approx(0.1, rel=0.2)
    assert np.isnan(noise_levels(windows[:1])[0])


def test_samples_of_known_relative_accuracy_are_weighed():
    """Noise that grows with time, with weights that say so: the estimate is the common factor's."""
    rng = np.random.default_rng(1)
    ts = np.linspace(0.0, 10.0, 400)
    sigma = np.linspace(0.01, 1.0, 400)
    ys = (np.sin(ts) + sigma * rng.normal(size=400))[:, None]
    data = jc.Trajectory(ts, ys, weights=1 / sigma[:, None] ** 2)
    mean = np.mean(1 / sigma**2) ** -0.5
    assert noise_levels([data])[0] == pytest.approx(mean, rel=0.2)


def test_residuals_with_structure_are_told_from_noise():
    rng = np.random.default_rng(0)
    ts = np.linspace(0.0, 10.0, 100)
    told = [structured([rng.normal(size=100)], 1e-3) for _ in range(100)]
    assert np.mean(told) < 0.03
    assert structured([np.sin(ts) + 0.3 * rng.normal(size=100)], 1e-3)
    # Each of many short series tells little, all together enough.
    short = [0.5 * np.sin(ts[k : k + 25]) + 0.4 * rng.normal(size=25) for k in range(0, 75, 5)]
    assert structured(short, 1e-3)
    assert not structured([np.sin(ts[:10])], 1e-3)


def test_wild_residuals_are_at_most_a_share():
    residuals = np.append(np.random.default_rng(0).normal(size=95), np.full(5, 100.0))
    assert np.array_equal(np.flatnonzero(~not_wild(residuals, 0.2)), np.arange(95, 100))
    assert not_wild(residuals, 0.02).sum() >= 98
    assert len(not_wild(np.zeros(0), 0.2)) == 0
