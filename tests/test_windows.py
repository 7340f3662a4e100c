"""Windows of a long series: what they hold, and that they take up what disturbs the system."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from helpers import SPIRAL, Linear, spiral

import jaxcolloc as jc


RADAU = jc.Radau(3)
START = Linear(jnp.asarray([[0.0, 1.5], [-1.5, 0.0]]))


def series(count, **options):
    ts = np.linspace(0.0, 1.0, count)
    return jc.Trajectory(ts, np.stack([ts, np.arange(count)], axis=1), **options)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 9, 10, 23])
@pytest.mark.parametrize(("samples", "overlap"), [(2, 0), (2, 1), (4, 0), (4, 1), (4, 3), (9, 2)])
def test_windows_cover_all_samples_and_share_some(count, samples, overlap):
    parts = jc.windows(series(count), samples, overlap=overlap)
    rows = [part.ys[:, 1].astype(int) for part in parts]
    assert set(np.concatenate(rows).tolist()) == set(range(count))
    for row in rows:
        np.testing.assert_array_equal(row, row[0] + np.arange(len(row)))
    for row, following in itertools.pairwise(rows):
        assert len(set(row.tolist()) & set(following.tolist())) == overlap
    assert all(len(row) == samples for row in rows[:-2])
    assert min(len(row) for row in rows) >= min(count, 2)
    # One more in the last window is what would have been left over.
    assert max(len(row) for row in rows) <= samples + (overlap == 0)


def test_what_windows_keep():
    control = jc.Input([0.0, 1.0], [1.0, 2.0])
    weights = np.arange(20.0).reshape(10, 2)
    item = series(10, args={"u": control}, weights=weights, y0=[1.0, np.nan], t0=-0.5)
    parts = jc.windows([item, series(4)], 4)
    assert [len(part.ts) for part in parts] == [4, 4, 4, 4]
    for k, part in enumerate(parts[:3]):
        assert part.args is item.args
        np.testing.assert_array_equal(part.weights, weights[3 * k : 3 * k + 4])
    assert [part.t0 for part in parts] == [-0.5, None, None, None]
    assert [part.y0 is None for part in parts] == [False, True, True, True]
    assert not parts[3].weighted


def test_samples_at_one_time_stay_together():
    ts = np.repeat([0.0, 1.0, 2.0], [2, 3, 1])
    first, second = jc.windows(jc.Trajectory(ts, np.arange(6.0)[:, None]), 2)
    np.testing.assert_array_equal(first.ys[:, 0], np.arange(5))
    np.testing.assert_array_equal(second.ys[:, 0], [2, 3, 4, 5])


def test_windows_without_measurements_are_left_out():
    ys = np.ones((9, 2))
    ys[3:6], ys[:3, 0] = np.nan, np.nan
    first, last = jc.windows(jc.Trajectory(np.arange(9.0), ys), 3, overlap=0)
    np.testing.assert_array_equal(first.ts, [0, 1, 2])
    np.testing.assert_array_equal(last.ts, [6, 7, 8])
    model = Linear(jnp.eye(2))
    grids = [jc.Grid.single(0.0, 2.0, RADAU), jc.Grid.single(6.0, 8.0, RADAU)]
    assert jc.transcribe(model, [first, last], grids).num_states == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"samples": 1}, "`samples` must be an integer of at least 2; got 1"),
        ({"samples": 2.5}, "`samples` must be an integer of at least 2; got 2.5"),
        ({"overlap": -1}, "`overlap` must be an integer of at least 0; got -1"),
        ({"overlap": 4}, "`overlap` must be less than `samples`, 4; got 4"),
        ({"data": 3}, "`data` must be a Trajectory or a non-empty list"),
        (
            {"data": [series(5), series(5, args={"a": jc.Unknown(1.0)})]},
            "`data` must have no jc.Unknown in `args`.* trajectory 1 has one",
        ),
    ],
)
def test_refuses_bad_input(change, message):
    arguments = {"data": series(9), "samples": 4} | change
    with pytest.raises(ValueError, match=message):
        jc.windows(**arguments)


def error(data):
    """How far the field that is fitted to the data is from the one they were made with."""
    items = data if isinstance(data, list) else [data]
    grids = [jc.Grid.aligned(item.ts, RADAU, every=3) for item in items]
    nlp = jc.transcribe(START, items, grids, l2=0.0)
    sol = jc.solve(nlp, jc.Ipopt(), jc.guess(nlp), throw=False)
    return float(np.linalg.norm(sol.model.matrix - SPIRAL))


def test_kicks_between_windows_do_no_harm():
    """A system that is pushed every sixth sample: windows recover it exactly, a path cannot."""
    ts = np.arange(6) * 0.2
    kicks = np.random.default_rng(0).normal(size=(8, 2))
    runs = [spiral(ts) * size + np.flip(spiral(ts), 1) * [-turn, turn] for size, turn in kicks]
    data = jc.Trajectory(np.arange(48) * 0.2, np.concatenate(runs))
    assert error(jc.windows(data, 6, overlap=0)) < 2e-3
    assert error(data) > 0.1


def test_process_noise():
    """A spiral kept alive by noise: windows find its field better than one path through all."""
    plain, cut = [], []
    for seed in range(3):
        rng, y, states = np.random.default_rng(seed), np.array([1.0, 0.0]), []
        for _ in range(250):
            states.append(y)
            for _ in range(20):
                y = y + 0.01 * SPIRAL @ y + 0.4 * 0.1 * rng.normal(size=2)
        data = jc.Trajectory(0.2 * np.arange(250), np.array(states))
        plain.append(error(data))
        cut.append(error(jc.windows(data, 4)))
    assert np.mean(cut) < 0.6 * np.mean(plain)
