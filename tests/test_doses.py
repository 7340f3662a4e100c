"""Jumps in fits and all that is done with data and solutions."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxcolloc as jc
from jaxcolloc._continuation import first_window
from jaxcolloc._noise import noise_levels
from jaxcolloc._transfer import transfer


class Oral(eqx.Module):
    """Amounts in gut and body, the concentration seen; absorption is faster than elimination.

    With both rates free they can change places, with another volume, and nothing shows it.
    """

    faster: jax.Array
    elimination: jax.Array
    volume: jax.Array

    @property
    def absorption(self):
        return self.elimination + self.faster

    def __call__(self, t, y, args):
        absorbed = self.absorption * y[0]
        return jnp.stack([-absorbed, absorbed - self.elimination * y[1]])

    def observe(self, t, y, args):
        return y[1:] / self.volume


def _concentration(ts, doses, ka=1.2, ke=0.25, v=10.0):
    """The closed form for doses of 100."""
    since = np.maximum(ts[:, None] - doses, 0.0)
    each = 100 * ka / (v * (ka - ke)) * (np.exp(-ke * since) - np.exp(-ka * since))
    return each.sum(axis=1, keepdims=True)


def test_oral_doses_whose_first_sample_comes_later():
    """ka, ke and V within 3% of (1.2, 0.25, 10) from a start that is wrong by factors of four."""
    doses = np.arange(0.0, 72.0, 12.0)
    ts = np.sort(np.add.outer(doses, [0.5, 1.0, 2.0, 4.0, 8.0, 11.5]).ravel())
    noise = 1 + 0.03 * np.random.default_rng(0).normal(size=(len(ts), 1))
    data = jc.Trajectory(
        ts,
        _concentration(ts, doses) * noise,
        y0=[0.0, 0.0],
        jumps=jc.doses(doses, 100.0, state=0, num_states=2),
    )
    assert data.begin == 0.0
    start = Oral(jnp.asarray(0.3), jnp.asarray(1.0), jnp.asarray(40.0))
    sol = jc.fit(
        start,
        data,
        num_states=2,
        observe=start.observe,
        weight_scale="log",
        key=jax.random.key(0),
    )
    assert sol.verification.verdict is jc.VERDICT.good
    found = [sol.model.absorption, sol.model.elimination, sol.model.volume]
    np.testing.assert_allclose(found, [1.2, 0.25, 10.0], rtol=0.03)
    assert ", 6 jumps" in str(sol)
    assert "and 6 jumps on [0, 71.5]" in str(sol.nlp)
    assert list(sol.to_pandas().columns)[:2] == ["path_0", "path_1"]


class Cooling(eqx.Module):
    """y' = -rate y; a jump keeps a share, a weight, and `args` of what is above a level."""

    rate: jax.Array
    share: jax.Array

    def __init__(self, rate=0.5, share=0.6):
        self.rate, self.share = jnp.asarray(rate), jnp.asarray(share)

    def __call__(self, t, y, args):
        return -self.rate * y

    def quenched(self, y, args):
        return self.share * y


class Rated(eqx.Module):
    """y' = -rate y."""

    rate: jax.Array

    def __call__(self, t, y, args):
        return -self.rate * y


TRUE = Cooling(0.5, 0.6)


def _data(number, start, ends=6.0):
    """Samples without noise of trajectory `number`, which has 0, 2 or 3 jumps."""
    jumps = [
        [],
        [jc.Jump(1.0, add=[1.0 + number]), jc.Jump(3.0, to=start.quenched)],
        [jc.Jump(t, to=start.quenched) for t in (0.0, 2.5)] + [jc.Jump(4.0, add=[2.0])],
    ][number % 3]
    ts = np.linspace(0.0, ends, 25)
    with jax.enable_x64(True):
        ys = jc.simulate(TRUE, ts, [2.0], jumps=jumps)
    return jc.Trajectory(ts, ys, jumps=jumps)


@pytest.fixture(scope="module")
def solved():
    """A solution for three trajectories of different numbers of jumps."""
    start = Cooling(0.2, 0.9)
    data = [_data(number, start) for number in range(3)]
    nlp = jc.transcribe(start, data, jc.Grid.uniform(0, 6, 6, jc.Radau(3)), l2=0.0)
    return jc.solve(nlp, jc.InteriorPoint(), jc.guess(nlp))


def _is_right(model, rtol=1e-3):
    np.testing.assert_allclose([model.rate, model.share], [0.5, 0.6], rtol=rtol)


def test_trajectories_of_different_numbers_of_jumps(solved):
    _is_right(solved.model)
    assert [len(path.grid.jump_times) for path in solved.paths] == [0, 2, 3]
    report = jc.verify(solved)
    assert report.verdict is jc.VERDICT.good
    for path, rolled in zip(solved.paths, report.rollouts, strict=True):
        np.testing.assert_allclose(rolled, path.states, atol=1e-3)
    ipopt = jc.solve(solved.nlp, jc.Ipopt(), jc.guess(solved.nlp))
    np.testing.assert_allclose(ipopt.z, solved.z, atol=1e-5)


def test_saved_and_loaded(tmp_path, solved):
    data = [solved.nlp.trajectories[0]]
    unknown = jc.Jump(1.0, add=[jc.Unknown(0.5, bounds=(0, 9))])
    data.append(jc.Trajectory(data[0].ts, 2 * data[0].ys, jumps=unknown))
    nlp = jc.transcribe(Cooling(), data, jc.Grid.uniform(0, 6, 6, jc.Radau(3)))
    sol = jc.solve(nlp, jc.InteriorPoint(), jc.guess(nlp))
    sol.save(tmp_path / "amounts.jcs")
    again = jc.load(tmp_path / "amounts.jcs", like=Cooling())
    np.testing.assert_array_equal(again.jumps[1][0].add, sol.jumps[1][0].add)
    np.testing.assert_array_equal(again.nlp.constraints(again.z), sol.nlp.constraints(sol.z))
    # Functions come back with the problem alone.
    solved.save(tmp_path / "functions.jcs")
    assert jc.load(tmp_path / "functions.jcs", like=solved.model).problem is None
    whole = jc.load(tmp_path / "functions.jcs", like=solved.nlp)
    assert [len(jumps) for jumps in whole.jumps] == [0, 2, 3]


def test_refined_grids_keep_the_jumps_and_multipliers_move_with_them(solved):
    coarse = jc.transcribe(
        solved.nlp.model, solved.nlp.trajectories, jc.Grid.uniform(0, 6, 2, jc.Radau(2)), l2=0.0
    )
    sol = jc.solve(coarse, jc.InteriorPoint(), jc.guess(coarse))
    fine = jc.refine(sol, tol=1e-3)
    assert fine.verification.verdict is jc.VERDICT.good
    for old, new in zip(sol.paths, fine.paths, strict=True):
        np.testing.assert_array_equal(new.grid.jump_times, old.grid.jump_times)
        assert new.grid.num_nodes > old.grid.num_nodes
    higher = jc.refine(sol, tol=1e-3, how="p", rounds=1)
    np.testing.assert_array_equal(higher.paths[2].grid.jump_times, [0.0, 2.5, 4.0])
    # On the grid that it comes from, a moved solution is the same, multipliers and all.
    same = transfer(solved, solved.nlp)
    np.testing.assert_allclose(same.z, solved.z, atol=1e-12)
    old, new = solved.multipliers.constraints, same.multipliers.constraints
    np.testing.assert_allclose(new, old, atol=1e-9 * np.abs(old).max())


def test_growing_windows_end_before_a_jump_or_have_it(solved):
    for share in (0.2, 0.5, 0.7):
        part = first_window(solved.nlp, share)
        for item, grid in zip(part.trajectories, part.grids, strict=True):
            assert len(item.jumps) == len(grid.jump_times)
            assert not grid.is_jump[-1]
    start = jc.guess(solved.nlp, weights="as_given")
    _is_right(jc.solve_growing(solved.nlp, jc.InteriorPoint(), start).model)


def test_windows_of_samples_have_the_jumps_between_theirs(solved):
    parts = jc.windows(solved.nlp.trajectories, 7)
    assert [len(item.jumps) for item in parts] == [0, 0, 0, 0, 1, 0, 1, 0, 1, 1, 1, 0]
    sol = jc.fit(Cooling(0.3, 0.8), parts, l2=0.0)
    _is_right(sol.model)


def test_starts_that_are_tied(solved):
    """A segment that ends behind a jump goes on in the next one, whose start is tied to its end."""
    item = solved.nlp.trajectories[1]
    first, second = item.ts <= 3.0, item.ts > 3.0
    data = [
        jc.Trajectory(item.ts[first], item.ys[first], jumps=item.jumps),
        jc.Trajectory(item.ts[second], item.ys[second], t0=3.0),
    ]
    grids = [jc.Grid.uniform(0, 3, 4, jc.Radau(3)), jc.Grid.uniform(3, 6, 4, jc.Radau(3))]
    nlp = jc.transcribe(Cooling(0.3, 0.8), data, grids, constraints=jc.Tie(0, 1), l2=0.0)
    sol = jc.solve(nlp, jc.Ipopt(), jc.guess(nlp))
    _is_right(sol.model)
    end, begin = sol.paths[0].evaluate(3.0, left=False), sol.paths[1].evaluate(3.0)
    np.testing.assert_allclose(end, begin, rtol=1e-6)
    np.testing.assert_allclose(end, 0.6 * sol.paths[0].evaluate(3.0), rtol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("batches", [2, 5])
def test_consensus_of_batches_and_of_segments_of_time(solved, batches):
    """Five batches of three trajectories: these are cut in time, behind jumps or between."""
    nlp = solved.nlp
    sol = jc.fit_admm(
        nlp.model, nlp.trajectories, batches=batches, grid=nlp.grids, l2=0.0, max_rounds=60
    )
    _is_right(sol.model, 0.02)
    assert sum(len(path.grid.jump_times) for path in sol.paths) == 5
    assert sol.stats["rounds"]["rollout_mse"][-1] < 1e-3


@pytest.mark.slow
def test_fine_tuning_through_jumps(solved):
    data = list(solved.nlp.trajectories)
    unknown = jc.Jump(4.0, add=[jc.Unknown(1.0, scale="log")])
    data[2] = jc.Trajectory(data[2].ts, data[2].ys, jumps=[*data[2].jumps[:2], unknown])
    tuned = jc.fine_tune(Cooling(0.45, 0.65), data, optax.adam(0.02), steps=150, start=[[2.0]] * 3)
    _is_right(tuned.model, 0.02)
    np.testing.assert_allclose(tuned.jumps[2][2].add, 2.0, rtol=0.02)
    # The paths are rollouts, with the states behind jumps.
    np.testing.assert_allclose(tuned.nlp.constraints(tuned.z), 0.0, atol=1e-3)


def test_predictions_go_through_the_jumps(solved):
    """Of the third trajectory, also beyond its grid; and other jumps, on other starts."""
    found = jc.uncertainty(solved)
    ts = np.array([0.0, 1.0, 2.5, 4.0, 5.0, 8.0])
    band = found.predict(ts, trajectory=2)
    with jax.enable_x64(True):
        exact = jc.simulate(TRUE, ts, [2.0], jumps=solved.jumps[2])
        other = jc.simulate(TRUE, ts, [1.0], jumps=jc.Jump(2.0, add=[5.0]))
    np.testing.assert_allclose(band.value, exact, rtol=1e-3)
    on_path = found.bands(ts[:5], trajectory=2)
    np.testing.assert_allclose(band.value[:5], on_path.value, rtol=1e-3)
    np.testing.assert_allclose(band.stderr[:5], on_path.stderr, rtol=0.02, atol=1e-9)
    band = found.predict(ts, [1.0], jumps=jc.Jump(2.0, add=[5.0]))
    np.testing.assert_allclose(band.value, other, rtol=1e-3)


def test_jumps_behind_the_end_of_the_grid_act_on_predictions_only():
    item = _data(0, Cooling())
    later = jc.Trajectory(item.ts, item.ys, jumps=jc.Jump(7.0, add=[4.0]))
    grid = jc.Grid.uniform(0, 6, 6, jc.Radau(3))
    plain, more = (jc.transcribe(Cooling(), each, grid, l2=0.0) for each in (item, later))
    assert more.num_constraints == plain.num_constraints
    sol = jc.solve(more, jc.InteriorPoint(), jc.guess(more))
    band = jc.uncertainty(sol).predict(np.array([6.0, 7.0, 8.0]))
    before, after = 2 * np.exp(-3.5), (2 * np.exp(-3.5) + 4) * np.exp(-0.5)
    np.testing.assert_allclose(band.value[1:, 0], [before, after], rtol=1e-3)


@pytest.mark.parametrize("horizon", [None, 0.6])
def test_held_out_ends_are_predicted_through_jumps(horizon):
    """A penalty is chosen by what lies behind the last window, a jump among it."""
    start = Cooling(0.2, 0.9)
    data = _data(2, start)
    sol = jc.fit(start, data, l2=[1e-6, 1.0], key=jax.random.key(0), horizon=horizon, held_out=0.4)
    _is_right(sol.model, 0.02)
    errors = {row["l2"]: row["held_out_error"] for row in sol.stats["selection"]}
    assert errors[1e-6] < errors[1.0]


def test_held_out_trajectories_are_predicted_through_jumps():
    start = Cooling(0.2, 0.9)
    data = [_data(number, start) for number in (2, 1, 1, 2, 0)]
    sol = jc.fit(start, data, l2=[1e-6, 1.0], key=jax.random.key(0), starts=2)
    _is_right(sol.model, 0.02)
    errors = {row["l2"]: row["held_out_error"] for row in sol.stats["selection"]}
    assert errors[1e-6] < 0.1 * errors[1.0]


def test_noise_is_not_that_of_the_jumps():
    rng = np.random.default_rng(0)
    ts = np.arange(60.0)
    ys = 100.0 * (ts > 19.5) - 40.0 * (ts > 42.5) + 0.1 * rng.normal(size=60)
    jumps = [jc.Jump(19.5, add=[100.0]), jc.Jump(42.5, add=[-40.0])]
    (level,) = noise_levels([jc.Trajectory(ts, ys[:, None], jumps=jumps)])
    assert 0.07 < level < 0.13
    # A sample at a jump is one before it.
    at = [jc.Jump(19.0, add=[100.0]), jc.Jump(42.0, add=[-40.0])]
    assert noise_levels([jc.Trajectory(ts, ys[:, None], jumps=at)])[0] == pytest.approx(level)


def test_a_solution_moves_with_what_its_jumps_are_given():
    """The rate's derivative by `args` that only a jump uses, against another solve."""
    ts = np.linspace(0.0, 4.0, 17)
    rng = np.random.default_rng(0)
    ys = np.exp(-0.5 * ts) * np.where(ts > 2, 0.7, 1.0) + 0.02 * rng.normal(size=17)
    jump = jc.Jump(2.0, to=lambda y, args: args * y)

    def data(share):
        return jc.Trajectory(ts, ys[:, None], np.asarray(share), jumps=jump)

    start = Rated(jnp.asarray(0.4))
    nlp = jc.transcribe(start, data(0.7), jc.Grid.uniform(0, 4, 4, jc.Radau(3)), l2=0.0)
    solver = jc.InteriorPoint(tol=1e-10)
    sol = jc.solve(nlp, solver, jc.guess(nlp))
    (slope,) = jc.sensitivity(sol, "args", lambda m: m.rate)
    rates = []
    for share in (0.7 + 1e-4, 0.7 - 1e-4):
        other = nlp.with_data(data(share))
        z = jc.solve(other, solver, sol).z
        rates.append(z[0])
    np.testing.assert_allclose(slope, (rates[0] - rates[1]) / 2e-4, rtol=1e-4)


@pytest.mark.slow
def test_a_batch_of_starts_in_one_program(solved):
    """The traced form of the solver and of the equations ends where the host's does."""
    guesses = [solved.z, jc.guess(solved.nlp)]
    for sol in jc.solve_batch(solved.nlp, jc.InteriorPoint(), guesses, vectorize=True):
        np.testing.assert_allclose(sol.z, solved.z, atol=1e-5)
