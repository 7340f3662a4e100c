"""Trajectory: what it accepts and what it refuses."""

from decimal import Decimal
from fractions import Fraction

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
        (
            np.ones(3),
            r"must have shape \(time, obs\); got shape \(3,\).*`ys\[:, None\]`.* \(3, 1\)",
        ),
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
        ([jc.Trajectory(TS, YS), 3], "got 3 at position 1"),
        ([jc.Trajectory(TS, YS), jc.Trajectory(TS, YS[:, :1])], r"got \[2, 1\] channels"),
        (jc.Trajectory(TS, np.full((3, 1), np.nan)), r"channels \[0\] are all NaN"),
    ],
)
def test_refuses_what_are_no_trajectories(data, message):
    with pytest.raises(ValueError, match=f"`data`.*{message}"):
        as_trajectories(data)


def test_what_a_mask_hides_was_not_measured():
    ys = np.ma.masked_equal([[1.0, -9.0], [2.0, 3.0], [-9.0, 4.0]], -9.0)
    y0 = np.ma.masked_equal([1.0, -9.0], -9.0)
    item = jc.Trajectory(TS, ys, weights=1 / ys, y0=y0)
    np.testing.assert_array_equal(item.measured, ~np.ma.getmaskarray(ys))
    np.testing.assert_array_equal(item.y0, [1.0, np.nan])
    assert np.all(item.weights[~item.measured] == 0)
    whole = np.ma.masked_equal(YS, -9.0)
    np.testing.assert_array_equal(jc.Trajectory(TS, whole).ys, YS)
    with pytest.raises(ValueError, match=r"`ts` must be .*masked entries"):
        jc.Trajectory(np.ma.masked_equal(TS, 0.5), YS)
    with pytest.raises(ValueError, match=r"`us` must be .*masked entries"):
        jc.Input(TS, np.ma.masked_equal(TS, 0.5))


DAYS = np.datetime64("2024-01-01") + np.arange(3)


@pytest.mark.parametrize(
    ("ts", "message"),
    [
        (DAYS, r'dates\. Pass numbers, .*`\(ts - ts\[0\]\) / np.timedelta64\(1, "s"\)`'),
        (np.append(DAYS[:2], np.datetime64("NaT", "D")), "dates"),
        (list(DAYS), "dates"),
        (DAYS.astype(object), "dates"),
        (DAYS - DAYS[0], r'time differences\. .*`ts / np.timedelta64\(1, "s"\)`'),
        (["0", "1", "2"], "text"),
        (np.array(["0", 1, 2], object), "text"),
        ([False, True, True], r"truth values\. Pass numbers: `ts.astype\(float\)`"),
        ([0, 1, 2j], "complex numbers"),
        (np.zeros(3, [("a", float)]), "a structured array"),
        ([10**400, 0, 0], r"\[1000"),
        ({1: 2}, r"\{1: 2\}"),
    ],
)
def test_refuses_what_are_no_real_numbers(ts, message):
    for act in (lambda: jc.Trajectory(ts, YS), lambda: jc.Input(ts, TS)):
        with pytest.raises(
            ValueError, match=f"`ts` must be an array of real numbers.* got {message}"
        ):
            act()


def test_takes_numbers_of_any_type():
    fractions = [Fraction(1, 2), 1, np.float32(2), Decimal("2.5"), None]
    ys = np.array(fractions, object)[:, None]
    np.testing.assert_array_equal(
        jc.Trajectory(np.arange(5), ys).ys[:, 0], [0.5, 1.0, 2.0, 2.5, np.nan]
    )
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"a": pd.array([1, None, 3], "Int64"), "b": [1.0, 2.0, np.nan]})
    item = jc.Trajectory(frame.index, frame)
    np.testing.assert_array_equal(item.ys, [[1, 1], [np.nan, 2], [3, np.nan]])
