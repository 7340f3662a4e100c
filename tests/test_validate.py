"""validate and compare: figures that can be computed by hand, and failures that are said."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import SPIRAL, Linear, spiral

import jaxcolloc as jc


TS = np.linspace(0.0, 4.0, 25)
GRID = jc.Grid.uniform(0.0, 4.0, 12, jc.Radau(3))


def solved(model, data, grid=GRID, **options):
    nlp = jc.transcribe(model, data, grid, **({"l2": 0.0} | options))
    return jc.solve(nlp, jc.InteriorPoint(), jc.guess(nlp, weights="as_given"))


@pytest.fixture(scope="module")
def sol():
    named = {"name": "run 1", "channels": ["x", "v"], "units": {"time": "s"}}
    return solved(Linear(0.9 * jnp.asarray(SPIRAL)), jc.Trajectory(TS, spiral(TS), **named))


def unseen(noise=0.0):
    """Another start of the same system, seen at other times, over longer."""
    ts = np.linspace(0.5, 7.0, 40)
    rng = np.random.default_rng(0)
    return [jc.Trajectory(ts, 2 * spiral(ts) + noise * rng.normal(size=(40, 2)), name="run 2")]


def test_a_true_model_predicts_what_it_has_not_seen(sol):
    found = jc.validate(sol, unseen(), horizons=[1.0])
    assert np.all(found.fit > 99.5)
    assert not found.notes
    np.testing.assert_allclose(found.starts[0], 2 * spiral(np.array([0.5]))[0], atol=5e-3)
    assert np.all(found.forecasts[0].scores.fit > 99.5)
    # The model is the same, and so are its weights.
    np.testing.assert_array_equal(found.estimate.model.matrix, sol.model.matrix)


def test_figures_are_those_of_their_formulas(sol):
    found = jc.validate(sol, unseen(0.2))
    (item,), (seen,) = found.trajectories, found.predicted
    errors, around = item.ys - seen, item.ys - item.ys.mean(axis=0)
    ratio = np.linalg.norm(errors, axis=0) / np.linalg.norm(around, axis=0)
    np.testing.assert_allclose(found.fit[0], 100 * (1 - ratio))
    np.testing.assert_allclose(found.r2[0], 1 - ratio**2)
    np.testing.assert_allclose(found.rmse[0], np.sqrt(np.mean(errors**2, axis=0)))
    np.testing.assert_allclose(found.overall.fit, found.fit[0])
    assert np.all(np.abs(found.rmse - 0.2) < 0.05)


def test_a_few_first_samples(sol):
    """The start does not see what comes later, and they do not count."""
    data = unseen(0.05)[0]
    later = jc.Trajectory(data.ts, np.where(np.arange(40)[:, None] < 6, data.ys, data.ys + 1.0))
    one, other = (jc.validate(sol, item, samples=6) for item in (data, later))
    np.testing.assert_array_equal(one.starts[0], other.starts[0])
    np.testing.assert_array_equal(one.overall.number, 34)
    assert one.overall.average("fit") > 80 > other.overall.average("fit")
    assert "the first 6 times" in str(one)


def test_a_known_start_is_simulated_from(sol):
    ts = np.linspace(0.0, 2.0, 11)
    found = jc.validate(sol, jc.Trajectory(ts, spiral(ts), y0=[1.0, 0.0]))
    assert found.estimate is None
    rolled = jc.simulate(sol.model, ts, [1.0, 0.0])
    np.testing.assert_allclose(found.predicted[0], rolled, atol=1e-5)


class Sensed(eqx.Module):
    """Decay to a level of the experiment, seen through a square; a state that nobody sees."""

    rate: jax.Array

    def __call__(self, t, y, args):
        return jnp.stack([self.rate * (args["level"] - y[0]), y[0] - y[1]])

    def observe(self, t, y, args):
        return y[1:] ** 2


def sensed(level, start, known=False):
    ys = np.asarray(jc.simulate(Sensed(jnp.asarray(0.7)), TS, start, {"level": level}))
    given = level if known else jc.Unknown(1.0, bounds=(0.1, 9.0))
    return jc.Trajectory(TS, ys[:, 1:] ** 2, {"level": given})


def test_hidden_states_and_unknowns_are_found():
    model = Sensed(jnp.asarray(0.5))
    fitted = solved(
        model, [sensed(2.0, [0.5, 1.0], True)], observe=model.observe, num_states=2,
        state_bounds=(0.0, 10.0),
    )  # fmt: skip
    found = jc.validate(fitted, [sensed(3.0, [1.0, 0.5])], horizons=2.0)
    assert found.fit[0, 0] > 99
    assert float(found.args[0]["level"]) == pytest.approx(3.0, rel=2e-2)
    np.testing.assert_allclose(found.starts[0], [1.0, 0.5], atol=5e-2)
    assert found.forecasts[0].scores.fit[0] > 95


def test_failures_are_said(sol):
    blown = eqx.tree_at(lambda s: s.z, sol, np.where(np.arange(len(sol.z)) < 4, 40.0, sol.z))
    data = unseen()[0]
    found = jc.validate(blown, jc.Trajectory(data.ts, data.ys, y0=data.ys[0]))
    assert np.isnan(found.fit).all()
    assert np.isnan(found.overall.average("fit"))
    assert "The rollout of trajectory 0 ends in infinity." in str(found)
    assert "no fit percentage" in str(found)
    long = jc.validate(sol, unseen(), horizons=[50.0])
    assert not long.forecasts
    assert "No forecast over 50" in str(long)


def test_a_grid_that_is_too_coarse_is_said(sol):
    coarse = jc.validate(sol, unseen(), grid=jc.Grid.uniform(0.5, 7.0, 3, jc.Radau(1)))
    assert "leaves the path that its start was found with" in str(coarse)
    assert not jc.validate(sol, unseen()).notes


def test_tables_have_names(sol):
    found = jc.validate(sol, [*unseen(0.1), *unseen(0.1)], horizons=[1.0])
    table = found.to_frame()
    assert set(table.experiment) == {"run 2", "all"}
    assert set(table.channel) == {"x", "v"}
    assert len(table) == 2 * (2 + 1 + 1)
    rows = found.to_frame("observations")
    assert len(rows) == 160
    np.testing.assert_allclose(rows.residual, rows.observed - rows.predicted)
    assert "over 1 s" in str(found)
    assert "run 2" in str(found)
    many = jc.validate(sol, 12 * unseen(0.1))
    assert "worst: run 2" in str(many)
    assert len(str(many).splitlines()) < 10


def test_a_picture_has_data_and_simulation(sol):
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.switch_backend("Agg")
    found = jc.validate(sol, unseen(0.1) * 2, samples=6)
    figure = found.plot()
    assert len(figure.axes) == 4
    for axis, channel in zip(figure.axes, (0, 1, 0, 1), strict=True):
        shown = {line.get_label(): line.get_xydata() for line in axis.get_lines()}
        item = found.trajectories[0]
        assert len(shown["data that are not scored"]) == 6
        np.testing.assert_array_equal(shown["data"][:, 1], item.ys[6:, channel])
        curve = np.interp(item.ts, *shown["simulation"].T)
        np.testing.assert_allclose(curve, found.predicted[0][:, channel], atol=1e-12)
    assert "Validation: fit" in figure.get_suptitle()
    plt.close("all")


def test_after_a_fit_nothing_is_compiled(compilations):
    data = jc.Trajectory(TS, spiral(TS))
    fitted = jc.fit(Linear(0.9 * jnp.asarray(SPIRAL)), data, l2=0.0, starts=1)
    before = compilations.count
    jc.validate(fitted, unseen(0.1))
    fitted.to_frame()
    assert compilations.count == before
    # Windows are many short series, whose points go in chunks of a shape of their own.
    jc.validate(fitted, unseen(), horizons=[1.0])
    before = compilations.count
    jc.validate(fitted, unseen(0.1), horizons=[1.0])
    assert compilations.count == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data": 3}, "`data` must be a Trajectory"),
        ({"data": jc.Trajectory(TS, TS[:, None])}, "`data` must have the fit's 2 channels; got 1"),
        ({"data": jc.Trajectory(TS, spiral(TS), channels=["v", "x"])}, "`data` must have the fit'"),
        ({"samples": 0}, "`samples` must be an integer of at least 1"),
        ({"samples": 40}, "`samples` must leave some to be scored; 40"),
        ({"samples": 1}, "`samples` must span some time"),
        ({"horizons": -1.0}, "`horizons` must be a finite number above zero"),
        ({"horizons": "long"}, "`horizons` must be a finite number"),
        ({"solver": 3}, "`solver` must be a solver"),
        ({"grid": 3}, "`grid` must be a Grid"),
        ({"sol": 3}, "`sol` must be a Solution"),
    ],
)
def test_says_what_cannot_be_judged(sol, options, message):
    given = {"sol": sol, "data": unseen()} | options
    with pytest.raises(ValueError, match=message):
        jc.validate(given.pop("sol"), given.pop("data"), **given)


class Line(eqx.Module):
    """y' = w, so that the fit is a regression line."""

    w: jax.Array

    def __call__(self, t, y, args):
        return self.w * jnp.ones(1)


class Parabola(eqx.Module):
    """y' = w + v t."""

    w: jax.Array
    v: jax.Array

    def __call__(self, t, y, args):
        return (self.w + self.v * t) * jnp.ones(1)


def points(count=20, curve=0.0):
    ts = np.linspace(0.0, 2.0, count)
    noise = 0.1 * np.random.default_rng(1).normal(size=count)
    return jc.Trajectory(ts, (1 + 2 * ts + curve * ts**2 + noise)[:, None], name="a")


SHORT = jc.Grid.uniform(0.0, 2.0, 3, jc.Radau(3))


def test_criteria_are_those_of_a_regression():
    data = points()
    fits = {
        "line": solved(Line(jnp.asarray(1.0)), data, SHORT),
        "parabola": solved(Parabola(jnp.asarray(1.0), jnp.asarray(0.1)), data, SHORT),
    }
    found = jc.compare(fits)
    assert not found.notes
    for row in found.rows:
        degree = {"line": 1, "parabola": 2}[row.name]
        values = data.ys[:, 0]
        errors = values - np.polyval(np.polyfit(data.ts, values, degree), data.ts)
        n, p = 20, degree + 2
        deviance = n * np.log(2 * np.pi * np.mean(errors**2)) + n
        wanted = [deviance + 2 * p, deviance + 2 * p * n / (n - p - 1), deviance + p * np.log(n)]
        got = [row.criteria.aic, row.criteria.aicc, row.criteria.bic]
        np.testing.assert_allclose(got, wanted, rtol=1e-4)
        assert row.criteria.num_parameters == pytest.approx(p)
    order = [row.criteria.aicc for row in found.rows]
    assert order == sorted(order)


def test_the_deviance_of_a_likelihood():
    data = points()
    known = solved(Line(jnp.asarray(1.0)), data, SHORT, loss=jc.Gaussian(0.1))
    (row,) = jc.compare([known]).rows
    errors = data.ys[:, 0] - known.to_frame().predicted
    density = -0.5 * (errors / 0.1) ** 2 - np.log(0.1) - 0.5 * np.log(2 * np.pi)
    assert row.criteria.deviance == pytest.approx(-2 * density.sum(), rel=1e-6)
    assert row.criteria.num_parameters == 2


def test_unseen_data_sort_the_fits():
    curved = points(curve=1.0)
    fits = [
        solved(Line(jnp.asarray(1.0)), curved, SHORT),
        solved(Parabola(jnp.asarray(1.0), jnp.asarray(0.1)), curved, SHORT),
    ]
    found = jc.compare(fits, points(15, curve=1.0), samples=8)
    assert [row.name for row in found.rows] == ["fit 1", "fit 0"]
    assert found.best is fits[1]
    assert found.unseen
    table = found.to_frame()
    assert list(table.name) == ["fit 1", "fit 0"]
    assert table.fit[0] > table.fit[1]
    assert "unseen data" in str(found)


def test_what_has_no_criteria_is_said(sol):
    robust = solved(Line(jnp.asarray(1.0)), points(), SHORT, loss=jc.PseudoHuber(1.0))
    plain = solved(Line(jnp.asarray(1.0)), points(19), SHORT)
    found = jc.compare({"robust": robust, "plain": plain})
    assert [row.name for row in found.rows] == ["plain", "robust"]
    assert "robust: no criteria, since the loss is no likelihood." in str(found)
    assert "The fits are of different data" in str(found)
    assert np.isnan(found.rows[1].criteria.aic)
    for wrong in ([], 3, [3], {"a": None}):
        with pytest.raises(ValueError, match="`solutions` must"):
            jc.compare(wrong)
    with pytest.raises(ValueError, match="`data` must be given with samples"):
        jc.compare([plain], samples=3)


def test_series_with_doses_are_simulated_through_them():
    """The amounts of an unseen series are its own; one of them is found with the start."""

    def decay(rate):
        return Linear(jnp.asarray([[-rate]]))

    ts = np.linspace(0.5, 9.5, 19)

    def series(amounts, known):
        level = sum(a * np.exp(-0.4 * np.maximum(ts - t, 0)) * (ts > t) for t, a in amounts)
        jumps = [jc.Jump(t, add=[a]) for t, a in known]
        return jc.Trajectory(ts, level[:, None], y0=[0.0], t0=0.0, jumps=jumps)

    doses = [(0.0, 1.0), (4.0, 2.0)]
    nlp = jc.transcribe(decay(0.1), series(doses, doses), jc.Grid.uniform(0, 9.5, 10, jc.Radau(4)))
    sol = jc.solve(nlp.with_l2(0.0), jc.InteriorPoint(), jc.guess(nlp))
    other = [(0.0, 3.0), (2.0, 1.0), (6.0, 0.5)]
    found = jc.validate(sol, series(other, other))
    assert found.overall.average("fit") > 99.9
    unknown = [(0.0, 3.0), (2.0, jc.Unknown(0.5)), (6.0, 0.5)]
    found = jc.validate(sol, series(other, unknown))
    assert found.overall.average("fit") > 99.5


class Batch(eqx.Module):
    """Cells that eat what they are fed, by Monod's law."""

    most: float = 0.6

    def __call__(self, t, y, args):
        cells, food = y
        grown = self.most * cells * food / (1.0 + food)
        return jnp.stack([grown, args(t) - 2.0 * grown])


def test_sparse_samples_do_not_lead_to_a_poor_start():
    """The truth fits its own samples, however few they are and however the states move between."""
    ts = np.array([0.5, 6.0, 11.5, 17.0, 21.0, 24.0])
    feed = jc.Input([0.0, 8.0, 16.0], [0.0, 2.0, 0.5], "hold")
    whole = np.asarray(jc.simulate(Batch(), np.append(0.0, ts), [0.1, 8.0], feed))[1:]
    noise = 0.02 * np.random.default_rng(0).normal(size=whole.shape)
    data = jc.Trajectory(ts, whole + noise, feed, t0=0.0)
    known = jc.Trajectory(ts, whole, feed, t0=0.0, y0=[0.1, 8.0])
    sol = jc.solve(
        nlp := jc.transcribe(Batch(), known, jc.Grid.uniform(0.0, 24.0, 24, jc.Radau(3))),
        jc.Ipopt(),
        jc.guess(
            nlp, states=[np.asarray(jc.simulate(Batch(), nlp.grids[0].times, [0.1, 8.0], feed))]
        ),
    )
    found = jc.validate(sol, data)
    assert found.overall.average("fit") > 95
    assert not found.notes


def test_options_of_a_comparison_are_checked(sol):
    with pytest.raises(ValueError, match=r"`options` must be those of jc\.validate.*got sample"):
        jc.compare([sol], sol.nlp.trajectories[0], sample=3)
