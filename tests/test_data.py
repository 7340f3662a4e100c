"""Trajectory: what it accepts and what it refuses."""

import numpy as np
import pytest

import jaxcolloc as jc
from jaxcolloc._data import as_trajectories


TS = np.array([0.0, 0.5, 1.5])
YS = np.ones((3, 2))


@pytest.mark.parametrize(
    ("ts", "message"),
    [
        ([], "at least one observation time"),
        ([0.0, np.nan, 1.0], "must be finite; got nan at position 1"),
        ([0.0, 2.0, 1.0], "must never decrease; got 2.0 followed by 1.0 at position 1"),
        ([[0.0, 1.0, 2.0]], r"must have shape \(time,\); got shape \(1, 3\)"),
        (["a", "b", "c"], "must be an array of real numbers"),
    ],
)
def test_refuses_wrong_times(ts, message):
    with pytest.raises(ValueError, match=f"`ts`.*{message}"):
        jc.Trajectory(ts, YS)


@pytest.mark.parametrize(
    ("ys", "message"),
    [
        (np.ones(3), r"must have shape \(time, obs\); got shape \(3,\)"),
        (np.ones((2, 2)), r"time = 3 as in `ts` and obs >= 1; got shape \(2, 2\)"),
        (np.ones((3, 0)), "obs >= 1"),
        (np.array([[1.0], [np.inf], [0.0]]), r"got inf at position \(1, 0\)"),
        (np.ones((3, 1)) * 1j, "must be an array of real numbers"),
    ],
)
def test_refuses_wrong_observations(ys, message):
    with pytest.raises(ValueError, match=f"`ys`.*{message}"):
        jc.Trajectory(TS, ys)


@pytest.mark.parametrize("weights", [-1.0, [1.0, np.nan], np.ones(3), "big"])
def test_refuses_wrong_weights(weights):
    with pytest.raises(ValueError, match="`weights` must be"):
        jc.Trajectory(TS, YS, weights=weights)


def test_spreads_weights_over_samples():
    assert np.all(jc.Trajectory(TS, YS, weights=2.0).weights == 2.0)
    np.testing.assert_array_equal(jc.Trajectory(TS, YS, weights=[1.0, 3.0]).weights[:, 1], 3.0)


def test_refuses_a_wrong_start():
    with pytest.raises(ValueError, match="`y0` must be finite, or NaN"):
        jc.Trajectory(TS, YS, y0=[np.inf, 0.0])
    with pytest.raises(ValueError, match=r"`y0` must have shape \(state,\)"):
        jc.Trajectory(TS, YS, y0=0.0)


@pytest.mark.parametrize(
    ("t0", "message"),
    [
        (0.1, "at or before the first sample's, 0; got 0.1"),
        (np.nan, "a finite time at or before .* got nan"),
        (-np.inf, "a finite time at or before .* got -inf"),
        ([0.0], r"must have shape \(\); got shape \(1,\)"),
        ("noon", "must be an array of real numbers"),
    ],
)
def test_refuses_a_wrong_time_of_the_start(t0, message):
    with pytest.raises(ValueError, match=f"`t0`.*{message}"):
        jc.Trajectory(TS, YS, t0=t0)


def test_keeps_missing_values_and_repeated_times():
    ys = YS.copy()
    ys[1, 0] = np.nan
    item = jc.Trajectory([0.0, 0.0, 1.0], ys)
    assert item.measured.sum() == 5


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "non-empty list"),
        (np.ones(3), "must be a Trajectory or a non-empty list"),
        ([jc.Trajectory(TS, YS), 3], "got int at position 1"),
        ([jc.Trajectory(TS, YS), jc.Trajectory(TS, YS[:, :1])], r"got \[2, 1\] channels"),
        (jc.Trajectory(TS, np.full((3, 1), np.nan)), r"channels \[0\] are all NaN"),
    ],
)
def test_refuses_what_are_no_trajectories(data, message):
    with pytest.raises(ValueError, match=f"`data`.*{message}"):
        as_trajectories(data)
