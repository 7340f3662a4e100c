"""fit: one call from data to a verified model; what it chooses, what it says, how it goes on."""

import importlib
import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import ALIASED_GRID, SPIRAL, Aliased, Linear, Net, aliased_data, spiral

import jaxcolloc as jc
from jaxcolloc import datasets
from jaxcolloc._choose_grid import at_jumps, choose_grid
from jaxcolloc._fit import starts as _starts
from jaxcolloc._fit.holdout import hold_out
from jaxcolloc._run import Interrupt


TS = np.linspace(0.0, 6.0, 61)
NOISE = 0.05
DATA = jc.Trajectory(TS, spiral(TS) + NOISE * np.random.default_rng(0).normal(size=(61, 2)))
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def sol():
    return jc.fit(Net(2, 8), DATA, key=KEY)


def test_data_to_a_verified_model_in_one_call(sol):
    assert sol.result is jc.RESULTS.successful
    assert sol.verification.verdict is jc.VERDICT.good
    # No fit is worse than the truth by much, nor are 122 samples interpolated.
    assert 0.5 * NOISE < sol.verification.path_rmse[0] < 1.2 * NOISE
    assert sol.verification.distance[0] <= 0.01
    # Between the samples, where every good optimum is close to the truth.
    ts = np.linspace(0.0, 6.0, 91)
    rollout = np.asarray(jc.simulate(sol.model, ts, sol.paths[0].evaluate(0.0)))
    assert np.sqrt(np.mean((rollout - spiral(ts)) ** 2)) < NOISE
    assert sol.key is KEY


def test_what_was_chosen_is_told(sol):
    stats = sol.stats
    tried = stats["selection"]
    variance = float(np.mean(np.sum((DATA.ys - DATA.ys.mean(axis=0)) ** 2, axis=1)))
    factors = np.array([row["l2"] for row in tried]) / variance
    assert factors[0] >= 0.99e-3
    # Down to the weakest, or to one that clearly predicts worse than another.
    least = min(row["held_out_error"] for row in tried)
    assert factors[-1] < 1.01e-6 or tried[-1]["held_out_error"] > 2 * least
    np.testing.assert_allclose(factors[1:] / factors[:-1], 0.1)
    assert isinstance(sol.nlp.settings["l2"], jc.OnNets)
    chosen = sol.nlp.settings["l2"].factor
    errors = {row["l2"]: row["held_out_error"] for row in tried}
    assert errors[chosen] <= min(errors.values()) / 0.9
    assert 1 <= len(stats["starts"]) <= 12
    assert {"objective", "verified", "result", "num_steps", "seconds"} <= set(stats["starts"][0])
    assert stats["refinement"][-1]["intervals"] == sol.paths[0].grid.num_intervals
    assert stats["refinement_end"] == "the rollout follows the path"
    assert stats["fit_seconds"] > stats["solve_seconds"]


def test_the_gradient_of_the_held_out_error_chooses_the_penalty(sol):
    found = jc.fit(Net(2, 8), DATA, key=KEY, l2="gradient")
    assert found.verification.verdict is jc.VERDICT.good
    tried, ladder = found.stats["selection"], sol.stats["selection"]
    assert 1 <= len(tried) <= 3
    assert all(row["num_steps"] > 0 for row in tried)
    errors = {row["l2"]: row["held_out_error"] for row in tried}
    assert errors[found.nlp.settings["l2"].factor] == min(errors.values())
    # It is led to where the ladder ends as well.
    assert min(errors.values()) < 1.3 * min(row["held_out_error"] for row in ladder)


def test_a_law_without_nets_has_no_penalty_to_choose():
    with pytest.warns(UserWarning, match="not verified: poor_fit"):
        sol = jc.fit(Constant(jnp.zeros(2)), DATA, l2="gradient", starts=1, refinements=0)
    assert "selection" not in sol.stats
    assert sol.nlp.settings["l2"] == 0.0


def test_one_screen_shows_it_all(sol):
    lines = str(sol).split("\n")
    assert len(lines) <= 14
    assert max(map(len, lines)) <= 100
    assert "Solution: successful." in lines[0]
    assert any(line.startswith("Verification: good.") for line in lines)


@pytest.mark.slow
def test_choices_can_be_made_by_hand():
    grid = jc.Grid.uniform(0.0, 6.0, 10, jc.Lobatto(4))
    sol = jc.fit(
        Linear(jnp.zeros((2, 2))), DATA, grid=grid, l2=0.0, starts=1, refinements=0,
        solver=jc.Ipopt(tol=1e-9), state_bounds=(-3, 3),
    )  # fmt: skip
    assert sol.paths[0].grid == grid
    assert sol.solver.tol == 1e-9
    assert "selection" not in sol.stats
    assert sol.stats["starts"] == []
    nlp = jc.transcribe(Linear(jnp.zeros((2, 2))), DATA, grid, l2=0.0, state_bounds=(-3, 3))
    plain = jc.solve(nlp, jc.Ipopt(tol=1e-9), jc.guess(nlp))
    assert sol.objective == pytest.approx(plain.objective, rel=1e-9)
    np.testing.assert_allclose(sol.model.matrix, SPIRAL, atol=0.1)
    other = jc.fit(
        Linear(jnp.zeros((2, 2))), DATA, scheme=jc.Radau(4), l2=0.0, starts=1, refinements=0
    )
    assert repr(other.paths[0].grid.scheme) == "Radau(4)"


class Constant(eqx.Module):
    """A model that cannot turn."""

    slope: jax.Array

    def __call__(self, t, y, args):
        return self.slope


@pytest.mark.slow
def test_the_better_model_is_chosen_by_held_out_trajectories():
    """Whole trajectories are held out where there are enough, with starts of their own."""
    rng = np.random.default_rng(0)
    data = []
    for scale in (1.0, 0.8, 1.2, 0.6, 1.4):
        ys = scale * spiral(TS[:31])
        data.append(jc.Trajectory(TS[:31], ys + NOISE * rng.normal(size=ys.shape)))
    models = [Constant(jnp.zeros(2)), Linear(jnp.zeros((2, 2)))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sol = jc.fit(models, data, l2=[1e-4, 1e-6], starts=1)
    rows = sol.stats["selection"]
    assert [(row["model"], row["l2"]) for row in rows] == [
        (0, 1e-4), (0, 1e-6), (1, 1e-4), (1, 1e-6),
    ]  # fmt: skip
    errors = [row["held_out_error"] for row in rows]
    assert max(errors[2:]) < 0.5 * min(errors[:2])
    assert isinstance(sol.model, Linear)
    assert sol.verification.verdict is jc.VERDICT.good
    np.testing.assert_allclose(sol.model.matrix, SPIRAL, atol=0.1)
    # The state's spread is about 0.7: the noise of 0.05 is what is left.
    assert min(errors) < 0.12


def test_what_is_held_out():
    grid = jc.Grid.uniform(0.0, 6.0, 10, jc.Radau(2))
    one = hold_out(jc.transcribe(Net(2, 3), DATA, grid), 0.2)
    assert one.text == "the end of every trajectory"
    assert one.train.grids[0].boundaries[-1] == pytest.approx(4.8)
    assert one.train.trajectories[0].ts[-1] == pytest.approx(4.8)
    many = hold_out(jc.transcribe(Net(2, 3), [DATA] * 10, grid), 0.2)
    assert many.members == (2, 7)
    assert len(many.train.trajectories) == 8
    short = jc.Trajectory(TS[:2], DATA.ys[:2])
    assert hold_out(jc.transcribe(Net(2, 3), short, grid), 0.2) is None


def interpolating(seed):
    """The pattern that fails: a large net, few nodes, hardly a penalty, much noise."""
    rng = np.random.default_rng(seed)
    ts = np.linspace(0.0, 12.0, 13)
    return jc.Trajectory(ts, spiral(ts) + 0.2 * rng.normal(size=(13, 2)))


def test_a_fit_that_does_not_hold_is_never_called_good():
    """A convex problem whose only solution no rollout follows."""
    with pytest.warns(UserWarning, match=r"The fit is not verified: too_coarse\."):
        sol = jc.fit(
            Aliased(jnp.asarray(0.0)), aliased_data(), grid=ALIASED_GRID, l2=0.0, starts=1,
            refinements=0,
        )  # fmt: skip
    report = sol.verification
    assert report.rollout_rmse[0] > 2 * report.path_rmse[0]
    assert not report.verdict.ok
    assert report.verdict.value in str(sol)


@pytest.mark.slow
def test_a_warning_tells_what_the_verdict_says():
    """Wherever the solve ends: after few steps, in one optimum or in another."""
    grid = jc.Grid.uniform(0.0, 12.0, 6, jc.Radau(2))
    for steps in (5, 150):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            sol = jc.fit(
                Net(2, 40), interpolating(1), grid=grid, l2=1e-8, starts=1, refinements=0,
                key=KEY, solver=jc.Ipopt(max_steps=steps), continuation=False,
            )  # fmt: skip
        verdict = sol.verification.verdict
        told = [str(item.message) for item in caught if "not verified" in str(item.message)]
        expected = [] if verdict.ok else [f"The fit is not verified: {verdict.name}."]
        assert [text[: len(start)] for text, start in zip(told, expected, strict=True)] == expected
        assert verdict.value in str(sol)


@pytest.mark.slow
def test_refinement_and_penalty_mend_it():
    """The same data with the choices left to fit: whatever it returns, its verdict is right."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sol = jc.fit(
            Net(2, 40), interpolating(1), key=KEY, l2=[1e-2, 1e-3], starts=1, refinements=2
        )
    report = sol.verification
    if report.verdict.ok:
        assert report.rollout_rmse[0] <= 2 * report.path_rmse[0]
    assert sol.stats["refinement_end"]


def test_the_best_verified_start_wins(monkeypatch):
    """A lower objective that does not hold in a rollout loses."""
    grid = jc.Grid.uniform(0.0, 6.0, 10, jc.Radau(3))
    nlp = jc.transcribe(Net(2, 4), DATA, grid)
    guess = jc.guess(nlp, key=KEY)
    found = jc.solve(nlp, jc.Ipopt(), guess)
    objectives, holds = [0.5, 0.1, 0.3, 0.4], [True, False, True, True]
    tried = []

    def fake_solve(nlp, solver, start, **options):
        tried.append(solver.max_steps)
        objective = objectives[len(tried) - 1]
        return eqx.tree_at(lambda item: item.objective, found, objective)

    def fake_outcome(sol):
        own = {"verified": holds[len(tried) - 1], "poor": False, "to_noise": False}
        return outcome_of(sol) | own

    outcome_of = _starts.outcome_of
    monkeypatch.setattr(_starts, "solve", fake_solve)
    monkeypatch.setattr(_starts, "outcome_of", fake_outcome)
    search = _starts.Search(KEY, 4, "smooth", "as_given", jc.Ipopt(), False, Interrupt())
    best, log = search.best(nlp)
    assert search.found.objective == 0.3
    assert isinstance(best, jc.Guess)
    assert [row["verified"] for row in log] == holds
    assert tried == [100] * 4
    assert not _starts.settled(log)
    assert _starts.settled([log[0], {**log[0], "objective": 0.501}])
    assert not _starts.settled([log[0], {**log[0], "objective": 0.501}, log[1]])
    assert _starts.settled([{**log[0], "to_noise": True}])
    assert not _starts.settled([{**log[1], "to_noise": True}])
    poor = {**log[0], "poor": True}
    assert not _starts.settled([poor] * 4)
    assert _starts.settled([poor] * 5)


@pytest.mark.slow
def test_a_failed_solve_goes_through_windows(monkeypatch):
    """The oscillator of test_continuation, from flat states and a wrong frequency.

    One step, which is never enough here, fails the plain solve; the windows have no such limit.
    """

    def unlimited(nlp, solver, start, **options):
        return jc.solve_growing(nlp, jc.Ipopt(), start, **options)

    # The package has the function `fit` in the place of its module's name.
    module = importlib.import_module("jaxcolloc._fit.fit")
    monkeypatch.setattr(module, "solve_growing", unlimited)

    class Oscillator(eqx.Module):
        omega: jax.Array

        def __call__(self, t, y, args):
            return jnp.stack([y[1], -(self.omega**2) * y[0]])

    ts = np.linspace(0.0, 24.0, 97)
    data = jc.Trajectory(ts, np.cos(2 * ts)[:, None] + 0.1 * np.sin(37 * ts)[:, None])
    grid = jc.Grid.uniform(0.0, 24.0, 48, jc.Radau(3))
    options = {
        "grid": grid, "num_states": 2, "l2": 0.0, "weights": "as_given", "refinements": 0,
        "states": [np.zeros((grid.num_nodes, 2))], "solver": jc.Ipopt(max_steps=1),
    }  # fmt: skip
    model = Oscillator(jnp.asarray(1.8))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = jc.fit(model, data, continuation=False, **options)
        grown = jc.fit(model, data, **options)
    assert not plain.result.ok
    assert "window_steps" not in plain.stats
    assert grown.result.ok
    assert len(grown.stats["window_steps"]) == 3
    assert abs(float(grown.model.omega)) == pytest.approx(2.0, abs=0.01)


@pytest.mark.slow
def test_a_checkpoint_is_continued(tmp_path):
    path = tmp_path / "fit.jcs"
    options = {
        "grid": jc.Grid.uniform(0.0, 6.0, 10, jc.Radau(3)), "l2": 1e-3, "key": KEY, "starts": 1,
        "refinements": 0, "checkpoint": path,
    }  # fmt: skip
    first = jc.fit(Net(2, 4), DATA, **options)
    stored = jc.load(path, like=Net(2, 4))
    assert stored.verification.verdict is first.verification.verdict
    again = jc.fit(Net(2, 4), DATA, **options)
    assert again.stats["num_steps"] <= 2
    assert "starts" not in again.stats
    assert again.objective == pytest.approx(first.objective, rel=1e-6)
    other = jc.Trajectory(TS, DATA.ys + 1.0)
    with pytest.raises(ValueError, match=r"`checkpoint` holds a fit of another .*`data`"):
        jc.fit(Net(2, 4), other, **options)
    with pytest.raises(ValueError, match="`checkpoint` holds a fit of another"):
        jc.fit(Net(2, 5), DATA, **options)


@pytest.mark.slow
def test_a_checkpoint_with_functions_is_continued_too(tmp_path):
    """A file cannot hold `observe`; the penalty that was chosen comes from it all the same."""
    path = tmp_path / "fit.jcs"
    options = {
        "grid": jc.Grid.uniform(0.0, 6.0, 10, jc.Radau(3)), "starts": 1, "refinements": 0,
        "observe": lambda t, y, args: y, "num_states": 2, "checkpoint": path,
    }  # fmt: skip
    model = Linear(jnp.zeros((2, 2)))
    first = jc.fit(model, DATA, l2=[1e-3, 1e-5], **options)
    again = jc.fit(model, DATA, l2=[1e-3, 1e-5], **options)
    assert again.nlp.settings["l2"] == first.nlp.settings["l2"]
    assert again.stats["num_steps"] <= 2
    assert "selection" not in again.stats


def test_the_grid_follows_the_data():
    """More intervals where the data move, none shorter than needed where they rest."""
    ts = np.linspace(0.0, 10.0, 401)
    step = np.tanh(30 * (ts - 7.0))
    grid = choose_grid(jc.Trajectory(ts, step[:, None]), jc.Radau(3))
    assert grid.covers(ts)
    middle = (grid.boundaries[1:] + grid.boundaries[:-1]) / 2
    inside = np.abs(middle - 7.0) < 0.1
    assert grid.widths[inside].mean() < 0.6 * grid.widths[middle < 5].mean()
    few = choose_grid(jc.Trajectory(np.arange(5.0), np.arange(5.0)[:, None]), jc.Radau(3))
    assert few.num_intervals == 4
    dense = choose_grid(jc.Trajectory(np.linspace(0, 1, 9999), np.ones((9999, 1))), jc.Radau(3))
    assert dense.num_intervals == 100
    with pytest.raises(ValueError, match="`data` must span some time"):
        choose_grid(jc.Trajectory([1.0], [[1.0]]), jc.Radau(3))


def test_boundaries_at_jumps_of_inputs():
    edges = np.linspace(0.0, 10.0, 11)
    few = at_jumps(edges, np.array([0.0, 2.05, 5.5, 12.0]))
    assert {0.0, 2.05, 5.5, 10.0} <= set(few)
    assert np.min(np.diff(few)) > 0.2
    many = at_jumps(edges, np.arange(0.0, 10.0, 0.3))
    assert np.all(np.isin(many[1:-1], np.arange(0.0, 10.0, 0.3)))
    held = jc.Input([0.0, 3.3], [1.0, 2.0], kind="hold")
    grid = choose_grid(jc.Trajectory(TS, DATA.ys, {"u": held}), jc.Radau(3))
    assert 3.3 in grid.boundaries


def test_a_normalised_field_has_states_and_slopes_of_size_one():
    data = jc.Trajectory(60 * TS, 1e3 * DATA.ys + 5e3)

    class Slopes(eqx.Module):
        gain: jax.Array

        def __call__(self, t, x, args):
            return self.gain * x

    model = jc.normalized(Slopes(jnp.ones(())), data)
    np.testing.assert_allclose(model.center, data.ys.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(model.scale, data.ys.std(axis=0), rtol=1e-12)
    # The spiral turns by 2 rad per unit of time, here of 60.
    assert model.time == pytest.approx(30.0, rel=0.35)
    y = jnp.asarray(data.ys[3])
    expected = (y - jnp.asarray(model.center)) / model.time
    np.testing.assert_allclose(model(0.0, y, None), expected, rtol=1e-5)
    assert len(jax.tree.leaves(eqx.filter(model, eqx.is_inexact_array))) == 1
    assert jc.normalized(Slopes(jnp.ones(())), data, num_states=3).scale[2] == 1.0
    with pytest.raises(ValueError, match="`model` must be callable"):
        jc.normalized(3, data)


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"`options` must be those of jc\.transcribe; got lambda_"):
        jc.fit(Net(2, 3), DATA, lambda_=1.0)
    with pytest.raises(ValueError, match="`starts` must be an integer of at least 1"):
        jc.fit(Net(2, 3), DATA, starts=0)
    with pytest.raises(ValueError, match="`held_out` must be a share below 0"):
        jc.fit(Net(2, 3), DATA, held_out=0.95)
    with pytest.raises(ValueError, match="`model` must be a model or a list of at least one"):
        jc.fit([], DATA)
    with pytest.raises(ValueError, match="`scheme` is that of a chosen grid"):
        jc.fit(Net(2, 3), DATA, grid=jc.Grid.uniform(0, 6, 4, jc.Radau(2)), scheme=jc.Radau(3))
    with pytest.raises(ValueError, match='`l2` must be a number, a list of them, or "gradient"'):
        jc.fit(Net(2, 3), DATA, l2="hyper")
    with pytest.raises(ValueError, match="`l2` must be a number or a list of at least one"):
        jc.fit(Net(2, 3), DATA, l2=[])
    with pytest.raises(ValueError, match="`data` must be a Trajectory"):
        jc.fit(Net(2, 3), TS)


def test_the_samples_of_a_system_have_the_noise_asked_for():
    system = datasets.lotka_volterra()
    data = system.sample(np.linspace(0, 10, 4001), noise=[0.1, 0.3], key=KEY)
    error = data.ys - system.solve(data.ts)
    np.testing.assert_allclose(error.std(axis=0), [0.1, 0.3], rtol=0.05)
