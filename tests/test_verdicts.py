"""Verdicts: what is not right is not called good, what is right is; on problems with known answers.

Most models have their true parameters, not trained, so that nothing depends on where a solve ends.
"""

import dataclasses
import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import ALIASED_GRID, Aliased, Linear, aliased_data

import jaxcolloc as jc


TS = np.linspace(0.0, 6.0, 61)
GRID = jc.Grid.uniform(0.0, 6.0, 20, jc.Radau(3))
NOISE = np.random.default_rng(0).normal(size=(61, 2))


class Drift(eqx.Module):
    """y' = rate."""

    rate: jax.Array

    def __call__(self, t, y, args):
        return jnp.broadcast_to(self.rate, y.shape)


class Lag(eqx.Module):
    """y' = gain * u(t) - y."""

    gain: jax.Array

    def __call__(self, t, y, args):
        return self.gain * args(t) - y


class BesideAliased(eqx.Module):
    """Channel 0 is constant; channel 1 moves as `Aliased` between the nodes of its coarse grid."""

    inner: Aliased

    def __call__(self, t, y, args):
        return jnp.concatenate([jnp.zeros(1), self.inner(t, y[1:], args)])


def solved(model, data, grid=GRID, solver=None, **options):
    nlp = jc.transcribe(model, data, grid, **{"l2": 0.0, **options})
    solver = jc.Ipopt(max_steps=200) if solver is None else solver
    return jc.solve(nlp, solver, jc.guess(nlp, weights="as_given"), throw=False)


def verified(*args, **options):
    return jc.verify(solved(*args, **options))


def test_a_path_that_misses_its_data_is_a_poor_fit():
    """The best line through a sine; the model of one state is told that it cannot do more."""
    ys = np.sin(2 * TS)[:, None]
    report = verified(Drift(jnp.asarray(0.1)), jc.Trajectory(TS, ys + 0.01 * NOISE[:, :1]))
    assert report.causes == (jc.VERDICT.poor_fit,)
    assert not report.verdict.ok
    line = np.polynomial.Polynomial.fit(TS, ys[:, 0], 1)(TS)
    share = 1 - np.mean((ys[:, 0] - line) ** 2) / ys.var()
    np.testing.assert_allclose(report.path_explained, share, atol=0.02)
    np.testing.assert_allclose(report.rollout_explained, report.path_explained, atol=1e-3)
    assert report.misfit[0, 0] > 20
    assert report.noise[0] == pytest.approx(0.01, rel=0.5)
    assert np.all(report.follows)
    text = str(report)
    assert "can only rise or only" in text
    assert "channel 0" in text
    assert f"{np.floor(1000 * report.path_explained[0, 0]) / 10:.1f}% of the variance" in text


def test_noise_is_not_held_against_a_fit():
    """A constant measured with noise: the model explains nothing of the variance, rightly."""
    report = verified(Drift(jnp.asarray(0.0)), jc.Trajectory(TS, 5.0 + NOISE[:, :1]))
    assert abs(report.path_explained[0, 0]) < 0.1
    assert report.verdict is jc.VERDICT.good
    assert report.misfit[0, 0] == pytest.approx(1.0, abs=0.3)


def test_structure_within_the_noise_is_seen():
    """A slow wave no larger than the noise that the model has no term for."""
    ts = np.linspace(0.0, 6.0, 400)
    noise = np.random.default_rng(3).normal(size=(400, 1))
    data = jc.Trajectory(ts, np.sin(4 * ts)[:, None] + noise)
    report = verified(Drift(jnp.asarray(0.0)), data)
    assert report.misfit[0, 0] < 2
    assert report.causes == (jc.VERDICT.poor_fit,)
    assert "autocorrelated" in str(report)


class Fixed(eqx.Module):
    """A rate that is a Python number: no weight."""

    rate: float

    def __call__(self, t, y, args):
        return -self.rate * y


def test_a_model_without_weights_is_told():
    data = jc.Trajectory(TS, np.exp(-0.7 * TS)[:, None])
    report = verified(Fixed(0.7), data)
    assert report.causes == (jc.VERDICT.no_weights,)
    assert "jnp.asarray" in str(report)
    # Nothing trained on purpose, and an unknown of the experiment, are something else.
    model = Linear(jnp.asarray([[-0.7]]))
    assert verified(model, data, trainable=False).verdict is jc.VERDICT.good

    class OfArgs(Fixed):
        def __call__(self, t, y, args):
            return -args * y

    of_args = jc.Trajectory(TS, np.exp(-0.7 * TS)[:, None], jc.Unknown(0.5))
    assert verified(OfArgs(0.0), of_args).verdict is jc.VERDICT.good


def test_a_solve_that_did_not_end_well_is_first():
    """Whatever the rollout does; and a constraint that cannot hold is named beside it."""
    data = jc.Trajectory(TS, np.exp(-0.5 * TS)[:, None])
    sol = solved(Linear(jnp.asarray([[-0.5]])), data, trainable=False)
    assert jc.verify(sol).verdict is jc.VERDICT.good
    stopped = dataclasses.replace(sol, result=jc.RESULTS.max_steps_reached)
    report = jc.verify(stopped)
    assert report.causes == (jc.VERDICT.not_converged,)
    assert np.all(report.follows)
    assert "max_steps_reached" in report.summary
    impossible = jc.Constraint(lambda t, y, args: y[0] ** 2, upper=-1.0)
    report = verified(Linear(jnp.asarray([[-0.5]])), data, constraints=impossible)
    assert report.causes[:2] == (jc.VERDICT.not_converged, jc.VERDICT.violated)
    assert "where its bound is -1" in str(report)


def test_constraints_are_checked_after_training_that_knows_none():
    """The point of another problem, put into one with a constraint that it violates."""
    data = jc.Trajectory(TS, np.exp(-0.5 * TS)[:, None])
    model = Linear(jnp.asarray([[-0.5]]))
    sol = solved(model, data, trainable=False)
    limit = jc.Constraint(lambda t, y, args: y[0], upper=0.5)
    nlp = jc.transcribe(model, data, GRID, l2=0.0, constraints=limit, trainable=False)
    assert jc.verify(dataclasses.replace(sol, source=nlp)).causes == (jc.VERDICT.violated,)
    loose = jc.Constraint(lambda t, y, args: y[0], upper=1.2)
    nlp = jc.transcribe(model, data, GRID, l2=0.0, constraints=loose, trainable=False)
    assert jc.verify(dataclasses.replace(sol, source=nlp)).verdict is jc.VERDICT.good


def beside_aliased(first, **options):
    """A solve whose second channel leaves its path; the first is as given, shape (13,)."""
    line = aliased_data()
    data = jc.Trajectory(
        line.ts, np.stack([first, line.ys[:, 0]], axis=1), **options.pop("data", {})
    )
    model = BesideAliased(Aliased(jnp.asarray(0.0)))
    return verified(model, data, ALIASED_GRID, **options)


def test_no_channel_hides_the_departure_of_another():
    rng = np.random.default_rng(0)
    loud = 1e3 * rng.normal(size=13)
    report = beside_aliased(loud)
    assert jc.VERDICT.too_coarse in report.causes
    assert report.departure[0, 1] > 0.5
    assert report.rollout_rmse[0] < 1.5 * report.path_rmse[0]
    report = beside_aliased(rng.normal(size=13), data={"weights": [1e6, 1.0]})
    assert jc.VERDICT.too_coarse in report.causes


def test_wild_samples_hide_nothing():
    first = np.zeros(13)
    first[4] = 500.0
    report = beside_aliased(first, loss=jc.PseudoHuber(0.1))
    assert report.rollout_rmse[0] < 1.5 * report.path_rmse[0]
    assert report.causes == (jc.VERDICT.too_coarse,)
    wild = np.where(TS[9] == TS, 80.0, 0.1 * NOISE[:, 0])[:, None]
    report = verified(Drift(jnp.asarray(0.0)), jc.Trajectory(TS, wild), loss=jc.PseudoHuber(0.1))
    assert report.verdict is jc.VERDICT.good


def lagged(ts, u, knots):
    """The solution of `Lag(1)` from zero, exactly, for an input linear between its samples."""
    y = [0.0]
    for a, b, first, last in zip(knots[:-1], knots[1:], u[:-1], u[1:], strict=True):
        slope, width = (last - first) / (b - a), b - a
        y.append(first - slope + slope * width + (y[-1] - first + slope) * np.exp(-width))
    return np.interp(ts, knots, y)[:, None]


@pytest.mark.parametrize("count", [1000, 20_000])
def test_a_rough_input_of_many_samples(count):
    """Steps end at the samples: the integration is exact to its tolerance, and runs to its end."""
    knots = np.arange(count) * 0.1
    u = np.random.default_rng(0).normal(size=count)
    ts = knots[:: count // 100]
    truth = lagged(ts, u, knots)
    rolled = jc.simulate(Lag(jnp.asarray(1.0)), ts, [0.0], jc.Input(knots, u))
    np.testing.assert_allclose(rolled, truth, atol=1e-5)
    if count <= 1000:
        grid = jc.Grid.aligned(knots[knots <= ts[-1]], jc.Radau(3))
        data = jc.Trajectory(ts, truth, jc.Input(knots, u))
        report = verified(Lag(jnp.asarray(1.0)), data, grid, trainable=False)
        assert report.verdict is jc.VERDICT.good


@pytest.mark.parametrize("kind", ["linear", "hold"])
def test_a_short_pulse_is_not_stepped_over(kind):
    knots, us = np.array([0.0, 60.0, 60.02, 60.04, 100.0]), np.array([0.0, 0.0, 50.0, 0.0, 0.0])
    u = jc.Input(knots, us, kind=kind)
    ts = np.linspace(0.0, 100.0, 101)
    rolled = np.asarray(jc.simulate(Lag(jnp.asarray(1.0)), ts, [0.0], u))[:, 0]
    # The pulse's area is 1 either way, and its middle 60.02 or 60.03.
    middle = 60.02 if kind == "linear" else 60.03
    np.testing.assert_allclose(rolled, np.where(ts > 60.5, np.exp(middle - ts), 0.0), atol=1e-4)


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_units_of_states_change_nothing(scale):
    ys = scale * np.stack([np.cos(2 * TS), -2 * np.sin(2 * TS)], axis=1)
    model = Linear(jnp.asarray([[0.0, 1.0], [-4.0, 0.0]]))
    data = jc.Trajectory(TS, ys + 0.01 * scale * NOISE)
    grid = jc.Grid.uniform(0.0, 6.0, 60, jc.Radau(3))
    report = verified(model, data, grid, trainable=False)
    assert report.verdict is jc.VERDICT.good
    assert report.distance[0] < 1e-3
    rolled = np.asarray(jc.simulate(model, TS, ys[0]))
    np.testing.assert_allclose(rolled / scale, ys / scale, atol=1e-5)


def test_a_state_that_starts_at_zero_and_stays_small():
    """The integration learns the state's size from its first try."""
    with jax.enable_x64(True):
        rolled = jc.simulate(lambda t, y, args: 1e-12 * jnp.cos(t) + 0 * y, TS, [0.0])
    np.testing.assert_allclose(np.asarray(rolled)[:, 0], 1e-12 * np.sin(TS), atol=1e-18)


class Whirl(eqx.Module):
    """A rotation far faster than any grid; then nothing more can be integrated in time."""

    speed: jax.Array

    def __call__(self, t, y, args):
        return 1e8 * jnp.sin(1e8 * t) * jnp.ones_like(y) + 0 * self.speed


@pytest.mark.slow
def test_running_out_of_steps_is_said_to_be_that():
    sol = solved(Drift(jnp.asarray(0.0)), jc.Trajectory(TS, 1 + 0.1 * NOISE[:, :1]))
    nlp = jc.transcribe(Whirl(jnp.asarray(0.0)), sol.nlp.trajectories, GRID, l2=0.0)
    report = jc.verify(dataclasses.replace(sol, source=nlp))
    assert jc.VERDICT.out_of_steps in report.causes
    assert jc.VERDICT.blows_up not in report.causes


class Escape(eqx.Module):
    """y' = y^2: infinite at t = 1 / y(0)."""

    rate: jax.Array

    def __call__(self, t, y, args):
        return self.rate * y**2


@pytest.mark.slow
def test_infinity_in_finite_time_is_told_from_many_steps():
    sol = solved(Drift(jnp.asarray(0.0)), jc.Trajectory(TS, 1 + 0.1 * NOISE[:, :1]))
    nlp = jc.transcribe(Escape(jnp.asarray(1.0)), sol.nlp.trajectories, GRID, l2=0.0)
    states = [path.states for path in sol.paths]
    report = jc.verify(
        dataclasses.replace(sol, source=nlp, z=np.asarray(nlp.pack(nlp.model, states)))
    )
    assert jc.VERDICT.blows_up in report.causes
    assert jc.VERDICT.out_of_steps not in report.causes
    text = str(report)
    assert text.count("also") == len(report.causes) - 1


def test_a_bound_on_a_logarithmic_scale_is_seen():
    data = jc.Trajectory(TS, np.exp(-0.5 * TS)[:, None] + 0.01 * NOISE[:, :1])

    class Decay(eqx.Module):
        rate: jax.Array

        def __call__(self, t, y, args):
            return -self.rate * y

    report = verified(Decay(jnp.asarray(0.1)), data, weight_scale="log", weight_bounds=(1e-3, 0.48))
    assert report.verdict is jc.VERDICT.at_bounds
    # Narrow bounds that are not reached are none, on a scale of their own size.
    tiny = jc.Trajectory(1e6 * TS, np.exp(-0.5 * TS)[:, None] + 0.01 * NOISE[:, :1])
    grid = jc.Grid.uniform(0.0, 6e6, 20, jc.Radau(3))
    report = verified(Decay(jnp.asarray(4e-7)), tiny, grid, weight_bounds=(1e-7, 1e-6))
    assert report.verdict is jc.VERDICT.good


def test_a_fit_says_every_verdict_that_is_not_good():
    with pytest.warns(UserWarning, match="not verified: no_weights"):
        jc.fit(Fixed(2.0), jc.Trajectory(TS, np.exp(-2 * TS)[:, None]), starts=1, refinements=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        good = jc.Trajectory(TS, np.exp(-0.5 * TS)[:, None] + 0.01 * NOISE[:, :1])
        jc.fit(Linear(jnp.asarray([[-0.1]])), good, l2=0.0, starts=1, refinements=0)


def test_a_constraint_is_checked_in_its_own_size():
    """In tiny units, and beside another of large ones."""
    data = jc.Trajectory(TS, 1e-12 * np.exp(-0.5 * TS)[:, None])
    model = Linear(jnp.asarray([[-0.5]]))
    sol = solved(model, data, trainable=False)
    for constraints in (
        jc.Constraint(lambda t, y, args: y, lower=0.5e-12),
        [
            jc.Constraint(lambda t, y, args: 1e18 * y, lower=0.0),
            jc.Constraint(lambda t, y, args: y, lower=0.5e-12),
        ],
    ):
        nlp = jc.transcribe(model, data, GRID, l2=0.0, constraints=constraints, trainable=False)
        assert jc.VERDICT.violated in jc.verify(dataclasses.replace(sol, source=nlp)).causes


def test_an_unknown_at_its_bound_is_seen_and_told_beside_other_causes():
    class Scaled(eqx.Module):
        rate: jax.Array

        def __call__(self, t, y, args):
            return -self.rate * args * jnp.ones_like(y)

    rising = jc.Trajectory(TS, 0.5 * TS[:, None], jc.Unknown(0.5, bounds=(0.0, 1.0)))
    report = verified(Scaled(jnp.asarray(1.0)), rising, trainable=False)
    assert report.verdict is jc.VERDICT.poor_fit
    assert "lie at their bounds" in report.summary
    falling = jc.Trajectory(TS, -TS[:, None], jc.Unknown(0.5, bounds=(0.0, 0.97)))
    assert verified(Scaled(jnp.asarray(1.0)), falling, trainable=False).verdict is (
        jc.VERDICT.at_bounds
    )


def test_samples_without_weight_count_nowhere():
    ys = np.exp(-0.5 * TS)[:, None] + 0.01 * NOISE[:, :1]
    garbage, weights = ys.copy(), np.ones_like(ys)
    garbage[7], weights[7] = 1e6, 0.0
    gone = ys.copy()
    gone[7] = np.nan
    model = Linear(jnp.asarray([[-0.5]]))
    found, expected = (
        verified(model, item, trainable=False)
        for item in (jc.Trajectory(TS, garbage, weights=weights), jc.Trajectory(TS, gone))
    )
    assert found.verdict is expected.verdict is jc.VERDICT.good
    np.testing.assert_allclose(found.misfit, expected.misfit, rtol=1e-3)
    np.testing.assert_allclose(found.noise, expected.noise)


def test_rounded_samples_are_no_poor_fit():
    """A sensor of few steps: more than half of the samples repeat their neighbours."""
    truth = 3 * np.exp(-TS)[:, None]
    report = verified(Linear(jnp.asarray([[-1.0]])), jc.Trajectory(TS, np.round(truth)))
    assert report.noise[0] > 0.1
    assert jc.VERDICT.too_coarse not in report.causes


def test_wild_samples_under_squares_are_told():
    """They draw the path; a robust loss is the way out."""
    wild = np.exp(-0.5 * TS)[:, None] + 0.01 * NOISE[:, :1]
    wild[20] += 2.0
    model = Linear(jnp.asarray([[-0.5]]))
    report = verified(model, jc.Trajectory(TS, wild))
    assert jc.VERDICT.poor_fit in report.causes
    assert "1 sample is far off" in report.summary
    robust = verified(model, jc.Trajectory(TS, wild), loss=jc.PseudoHuber(0.02))
    assert robust.verdict is jc.VERDICT.good
