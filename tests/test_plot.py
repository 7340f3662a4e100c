"""plot, plot_trace, to_pandas: what they show."""

import builtins
from types import SimpleNamespace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import Linear, spiral

import jaxcolloc as jc
from jaxcolloc._plot.panels import draw_jumps


TS = np.linspace(0.0, 4.0, 25)


@pytest.fixture(scope="module")
def sol():
    ys = spiral(TS)
    ys[3] = np.nan
    data = [jc.Trajectory(TS, ys), jc.Trajectory(TS[:20] + 0.01, spiral(TS[:20]))]
    grids = [jc.Grid.uniform(0.0, 4.0, 6, jc.Radau(3)), jc.Grid.uniform(0.0, 3.2, 4, jc.Radau(3))]
    return jc.fit(Linear(jnp.zeros((2, 2))), data, grid=grids, l2=1e-4, starts=1)


@pytest.fixture(autouse=True)
def pyplot():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    yield plt
    plt.close("all")


def lines(axis):
    return {line.get_label(): line.get_xydata() for line in axis.get_lines()}


@pytest.mark.slow
def test_a_plot_shows_data_path_rollout_and_errors(sol, tmp_path):
    figure = jc.plot(sol, trajectory=1)
    assert len(figure.axes) == 3
    shown = lines(figure.axes[1])
    np.testing.assert_array_equal(shown["data"][:, 1], sol.nlp.trajectories[1].ys[:, 1])
    nodes = np.isin(shown["rollout"][:, 0], sol.paths[1].grid.times)
    wanted = sol.verification.rollouts[1][:, 1]
    np.testing.assert_allclose(shown["rollout"][nodes, 1], wanted, rtol=1e-6, atol=1e-9)
    middle = shown["path"][500]
    assert middle[1] == pytest.approx(float(sol.paths[1].evaluate(middle[0])[1]), abs=1e-5)
    assert "good" in figure.get_suptitle()
    assert figure.axes[2].get_yscale() == "log"
    stairs = figure.axes[2].patches[0].get_data()
    np.testing.assert_allclose(stairs.values, sol.verification.interval_errors[1])
    figure.savefig(tmp_path / "fit.png")
    with pytest.raises(ValueError, match="`trajectory` must be below 2"):
        jc.plot(sol, trajectory=2)


def shaded(axis):
    """The lowest and the highest values of each band, by its label."""
    paths = {item.get_label(): item.get_paths()[0].vertices for item in axis.collections}
    return {label: (rows[:, 1].min(), rows[:, 1].max()) for label, rows in paths.items()}


def test_a_plot_shows_bands(sol, tmp_path):
    u = jc.uncertainty(sol)
    figure = jc.plot(sol, 1, uncertainty=u)
    dense = lines(figure.axes[1])["path"][:, 0]
    path, new = (
        u.bands(dense, 1, of="observations", noise=noise) for noise in (False, True)
    )  # fmt: skip
    for state in range(2):
        found = shaded(figure.axes[state])
        for label, band in (("95% of the path", path), ("95% of new data", new)):
            ends = band.lower[:, state].min(), band.upper[:, state].max()
            np.testing.assert_allclose(found[label], ends, rtol=1e-9)
    figure.savefig(tmp_path / "bands.png")
    with pytest.raises(ValueError, match="`uncertainty` must be what"):
        jc.plot(sol, uncertainty=path)
    with pytest.raises(ValueError, match="`uncertainty` must be that of `sol`"):
        jc.plot(eqx.tree_at(lambda s: s.z, sol, sol.z + 1.0), uncertainty=u)


class Sensed(eqx.Module):
    """A spiral that is seen through a gain that nothing tells from the states."""

    matrix: jax.Array
    gain: jax.Array

    def __call__(self, t, y, args):
        return self.matrix @ y

    def observe(self, t, y, args):
        return self.gain * y


def test_a_band_without_end_fills_its_panel():
    model = Sensed(jnp.asarray([[-0.1, 1.0], [-1.0, -0.1]]), jnp.asarray(1.0))
    noise = 0.05 * np.random.default_rng(0).normal(size=(25, 2))
    nlp = jc.transcribe(
        model, jc.Trajectory(TS, spiral(TS) + noise), jc.Grid.uniform(0.0, 4.0, 6, jc.Radau(3)),
        observe=model.observe, num_states=2, l2=0.0,
    )  # fmt: skip
    sol = jc.solve(nlp, jc.InteriorPoint(), jc.guess(nlp, weights="as_given"))
    figure = jc.plot(sol, uncertainty=jc.uncertainty(sol))
    states, seen = figure.axes[:2], figure.axes[2:4]
    for axis in states:
        bottom, top = axis.get_ylim()
        low, high = shaded(axis)["95% of the path"]
        assert low < bottom
        assert high > top
        assert "95% of new data" not in shaded(axis)
    for axis in seen:
        bottom, top = axis.get_ylim()
        low, high = shaded(axis)["95% of the path"]
        assert bottom < low < high < top


LONG = "a run with a name that is much longer than any picture is wide, " * 3


class Fed(eqx.Module):
    """A level that is fed by a held input, seen through a gain; its rate is another input."""

    rate: jax.Array

    def __call__(self, t, y, args):
        return self.rate * (args["feed"](t) - y) * args["warm"](t)

    def observe(self, t, y, args):
        return 2.0 * y


@pytest.fixture(scope="module")
def fed():
    feed = jc.Input([0.0, 2.0], [0.0, 1.0], "hold")
    warm = jc.Input([0.0, 1.0, 3.0, 4.0], [1.0, 2.0, 1.0, 1.0], "cubic")
    args = {"feed": feed, "warm": warm}
    model = Fed(jnp.asarray(0.7))
    ys = 2 * np.asarray(jc.simulate(model, TS, [0.5], args))
    data = [
        jc.Trajectory(
            TS, ys, args, name=name, channels=["level $h$"],
            units={"time": "min", "level $h$": "m", "feed": "L/min"},
        )
        for name in ("first", LONG)
    ]  # fmt: skip
    nlp = jc.transcribe(
        model, data, jc.Grid.aligned(TS, jc.Radau(3), 2), observe=model.observe,
        state_names=["height"],
    )  # fmt: skip
    return jc.solve(nlp, jc.InteriorPoint(), jc.guess(nlp, weights="as_given"))


def fits(figure):
    """Whether titles, axes' names and legends lie within the figure, legends outside of panels."""
    figure.canvas.draw()
    whole = figure.bbox
    texts = [figure._suptitle, *(axis.yaxis.label for axis in figure.axes), *figure.legends]
    texts += [axis.xaxis.label for axis in figure.axes]
    boxes = [item.get_window_extent() for item in texts]
    inside = all(
        box.x0 >= whole.x0 - 1
        and box.x1 <= whole.x1 + 1
        and box.y0 >= -1
        and box.y1 <= whole.y1 + 1
        for box in boxes
    )
    panels = [axis.get_window_extent() for axis in figure.axes]
    covers = [item.get_window_extent() for item in (figure._suptitle, *figure.legends)]
    apart = not any(
        box.overlaps(panel) and min(box.y1, panel.y1) - max(box.y0, panel.y0) > 1
        for box in covers
        for panel in panels
    )
    return inside and apart


def test_names_units_and_inputs_are_shown(fed):
    figure = jc.plot(fed, "first")
    names = [" ".join(axis.get_ylabel().split()) for axis in figure.axes]
    assert names == ["height", r"level \$h\$ (m)", "feed (L/min)", "warm", "intervals"]
    assert figure.axes[-1].get_xlabel() == "time (min)"
    assert figure.get_suptitle().startswith("first: ")
    seen = lines(figure.axes[1])
    np.testing.assert_array_equal(seen["data"][:, 1], fed.nlp.trajectories[0].ys[:, 0])
    np.testing.assert_allclose(seen["path"][:, 1], 2 * lines(figure.axes[0])["path"][:, 1])
    for axis, name in ((figure.axes[2], "feed"), (figure.axes[3], "warm")):
        path = fed.nlp.trajectories[0].args[name]
        shown = lines(axis)["input"]
        middle = np.linspace(0.05, 3.95, 14)
        expected = [float(path.evaluate(t)) for t in middle]
        np.testing.assert_allclose(np.interp(middle, *shown.T), expected, atol=1e-4)
    # The jump is a vertical line.
    feed = lines(figure.axes[2])["input"]
    np.testing.assert_array_equal(feed[feed[:, 0] == 2.0, 1][[0, -1]], [0.0, 1.0])
    assert fits(figure)
    assert fits(jc.plot(fed, 1))


def test_several_trajectories_in_one_figure(sol, fed):
    figure = jc.plot(sol, "all")
    assert len(figure.axes) == 4
    assert [axis.get_title() for axis in figure.axes[::2]] == ["trajectory 0", "trajectory 1"]
    for axis, k, channel in zip(figure.axes, (0, 0, 1, 1), (0, 1, 0, 1), strict=True):
        shown = lines(axis)["data"]
        np.testing.assert_array_equal(shown[:, 1], sol.nlp.trajectories[k].ys[:, channel])
    assert "2 of 2 trajectories" in figure.get_suptitle()
    assert fits(figure)
    assert fits(jc.plot(fed, ["first", LONG], uncertainty=jc.uncertainty(fed)))
    assert len(jc.plot(sol, [1]).axes) == 2


@pytest.mark.parametrize(
    ("trajectory", "message"),
    [
        ("third", "`trajectory` must be the name of a trajectory .*\"first\".*got 'third'"),
        ([], "`trajectory` must name at least one"),
        ([0, [1]], "`trajectory` must be a list of positions or names"),
        ([0, 7], "`trajectory` must be below 2; got 7"),
        (1.5, "`trajectory` must be an integer"),
    ],
)
def test_says_which_trajectory_there_is_not(fed, trajectory, message):
    with pytest.raises(ValueError, match=message):
        jc.plot(fed, trajectory)


def test_many_states_stand_in_two_columns():
    matrix = -0.3 * jnp.eye(7) + 0.2 * jnp.eye(7, k=1)
    ys = np.asarray(jc.simulate(Linear(matrix), TS, np.ones(7)))
    nlp = jc.transcribe(
        Linear(matrix), jc.Trajectory(TS, ys), jc.Grid.uniform(0, 4, 3, jc.Radau(2))
    )
    figure = jc.plot(jc.solve(nlp, jc.InteriorPoint(), jc.guess(nlp, weights="as_given")))
    assert [axis.get_ylabel() for axis in figure.axes] == [
        *(f"state {k}" for k in range(7)), "intervals",
    ]  # fmt: skip
    assert len({round(axis.get_position().x0, 2) for axis in figure.axes}) == 2
    assert fits(figure)


def test_residuals(sol):
    figure = jc.plot_residuals(sol)
    assert len(figure.axes) == 4
    table = sol.to_frame()
    for channel in range(2):
        left, right = figure.axes[2 * channel : 2 * channel + 2]
        for k in range(2):
            rows = table[(table.experiment == k) & (table.channel == f"channel {channel}")]
            np.testing.assert_array_equal(lines(left)[f"trajectory {k}"][:, 1], rows.residual)
            shown = lines(right)[f"trajectory {k}"]
            np.testing.assert_array_equal(shown, rows[["predicted", "observed"]])
    assert fits(figure)
    assert len(jc.plot_residuals(sol, 1, parity=False).axes) == 2


def test_jumps_are_marked():
    _, axis = pytest.importorskip("matplotlib.pyplot").subplots()
    item = SimpleNamespace(jumps=[SimpleNamespace(t=3.0), SimpleNamespace(t=1.0)])
    draw_jumps(axis, item)
    assert [line.get_xdata()[0] for line in axis.get_lines()] == [1.0, 3.0]
    assert len(axis.get_legend_handles_labels()[1]) == 1


def test_a_trace_shows_the_iterations(sol, tmp_path):
    figure = jc.plot_trace(sol)
    objective = figure.axes[0].get_lines()[0].get_ydata()
    np.testing.assert_array_equal(objective, sol.trace.objective)
    assert f"{sol.stats['num_steps']} steps" in figure.get_suptitle()
    figure.savefig(tmp_path / "trace.png")


def test_a_table_has_everything(sol):
    table = sol.to_pandas()
    assert table.index.names == ["trajectory", "time"]
    assert list(table) == ["path_0", "path_1", "rollout_0", "rollout_1", "data_0", "data_1"]
    first = table.loc[0]
    assert first.loc[TS[2], "data_0"] == sol.nlp.trajectories[0].ys[2, 0]
    assert np.isnan(first.loc[TS[3], "data_0"])
    np.testing.assert_array_equal(first["rollout_1"].dropna(), sol.verification.rollouts[0][:, 1])
    assert not first[["path_0", "path_1"]].isna().any(axis=None)
    assert len(table.loc[1].dropna(subset=["data_0"])) == 20


def test_a_long_table_is_a_row_for_each_value(sol):
    table = sol.to_frame()
    measured = [item.measured for item in sol.nlp.trajectories]
    assert len(table) == sum(map(np.sum, measured))
    assert not table.isna().any(axis=None)
    second = table[(table.experiment == 1) & (table.channel == "channel 1")]
    item = sol.nlp.trajectories[1]
    np.testing.assert_array_equal(second.time, item.ts)
    np.testing.assert_array_equal(second.observed, item.ys[:, 1])
    expected = [sol.paths[1].evaluate(t)[1] for t in item.ts]
    np.testing.assert_allclose(second.predicted, expected, atol=1e-5)
    np.testing.assert_array_equal(second.residual, second.observed - second.predicted)
    rolled = jc.simulate(
        sol.model, np.append(0.0, item.ts), sol.paths[1].states[0], rtol=1e-6, atol=1e-8
    )
    np.testing.assert_allclose(second.rollout, np.asarray(rolled)[1:, 1], atol=1e-3)
    states = sol.to_frame("states")
    assert list(states) == ["experiment", "time", "state", "path", "rollout"]
    wide = states[states.experiment == 0].pivot(index="time", columns="state", values="path")
    np.testing.assert_array_equal(wide.to_numpy(), sol.paths[0].states)
    with pytest.raises(ValueError, match="`of` must be one of"):
        sol.to_frame("weights")


def test_without_matplotlib(sol, monkeypatch):
    real = builtins.__import__

    def no_matplotlib(name, *args, **options):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", no_matplotlib)
    with pytest.raises(ImportError, match="pip install matplotlib"):
        jc.plot(sol)
    assert len(sol.to_pandas()) > 0
