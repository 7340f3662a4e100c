"""verify: measured numbers against known ones, and the right verdict on the right cause."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import (
    ALIASED_GRID,
    SPIRAL,
    Aliased,
    Linear,
    Lorenz,
    Net,
    aliased_data,
    lorenz_data,
    spiral,
)

import jaxcolloc as jc
from jaxcolloc._intervals import growth


TS = np.linspace(0.0, 4.0, 41)
DATA = jc.Trajectory(TS, spiral(TS) + 0.02 * np.random.default_rng(0).normal(size=(41, 2)))


def fitted(model, data, grid, key=None, **options):
    nlp = jc.transcribe(model, data, grid, **options)
    return jc.solve(nlp, jc.Ipopt(max_steps=300), jc.guess(nlp, key=key), throw=False)


@pytest.fixture(scope="module")
def fine():
    grid = jc.Grid.uniform(0.0, 4.0, 12, jc.Radau(4))
    return fitted(Linear(jnp.zeros((2, 2))), [DATA, DATA], grid, l2=0.0)


def test_a_resolved_fit_is_good(fine):
    report = jc.verify(fine)
    assert report.verdict is jc.VERDICT.good
    assert report.verdict.ok
    np.testing.assert_allclose(report.rollout_rmse, report.path_rmse, rtol=1e-3)
    np.testing.assert_allclose(report.path_rmse, 0.02, rtol=0.3)
    for rollout, path in zip(report.rollouts, fine.paths, strict=True):
        np.testing.assert_allclose(rollout, path.states, atol=1e-4)
    assert max(np.max(errors) for errors in report.interval_errors) < 1e-4
    text = str(report)
    assert text.startswith("Verification: good.")
    assert len(text.split("\n")) == 7
    assert max(map(len, text.split("\n"))) < 100


def test_the_growth_of_a_linear_system_is_known(fine):
    """The norm of exp(A t) decays from 1: nothing grows, but for the scaling of the states."""
    report = jc.verify(fine)
    spread = np.concatenate([path.states for path in fine.paths]).std(axis=0)
    most = max(spread) / min(spread)
    assert np.all((report.growth >= 1) & (report.growth <= most + 1e-6))
    ts = np.linspace(0.0, 4.0, 400)
    grown = fitted(
        Linear(jnp.asarray([[0.0, 0.0], [0.0, 1.5]])),
        jc.Trajectory(ts, np.stack([np.cos(ts), np.exp(1.5 * ts)], axis=1)),
        jc.Grid.uniform(0.0, 4.0, 12, jc.Radau(4)),
        trainable=False,
    )
    np.testing.assert_allclose(jc.verify(grown).growth, np.exp(6.0), rtol=1e-3)


def test_growth_is_the_largest_on_the_way():
    steps = np.array([[[2.0]], [[5.0]], [[0.01]]])
    assert growth(steps) == pytest.approx(10.0)
    assert growth(np.array([[[0.5]]])) == 1.0
    assert growth(np.array([[[np.nan]]])) == np.inf


def test_a_field_that_the_grid_does_not_resolve_is_found_out():
    """The collocation states follow the line of the data; the model returns to its start."""
    sol = fitted(Aliased(jnp.asarray(0.0)), aliased_data(), ALIASED_GRID, l2=0.0)
    assert float(sol.model.rate) == pytest.approx(0.5, abs=0.01)
    report = jc.verify(sol)
    assert report.verdict is jc.VERDICT.too_coarse
    assert report.path_rmse[0] < 0.02
    # A line of slope 1/2 over six units of time is that far from a constant.
    assert report.rollout_rmse[0] > 0.5 * 6 / np.sqrt(12)
    # Every interval's end is missed by its whole rise, here in spreads of the states.
    rise = float(sol.model.rate) / sol.paths[0].states.std()
    np.testing.assert_allclose(report.interval_errors[0], rise, rtol=1e-3)
    assert report.residuals[0].shape == (6,)
    assert report.growth[0] == pytest.approx(1.0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_the_verdict_on_a_net_is_that_of_its_rollout(seed):
    """A large net, few nodes, hardly a penalty, noise: wherever the solve may end."""
    rng = np.random.default_rng(seed)
    ts = np.linspace(0.0, 12.0, 13)
    data = jc.Trajectory(ts, spiral(ts) + 0.2 * rng.normal(size=(13, 2)))
    grid = jc.Grid.uniform(0.0, 12.0, 6, jc.Radau(2))
    sol = fitted(Net(2, 40), data, grid, key=jax.random.key(0), l2=1e-8)
    report, path = jc.verify(sol), sol.paths[0]
    with jax.enable_x64(True):
        ys = np.asarray(jc.simulate(sol.model, ts, path.states[0], throw=False))
    ys = np.clip(np.nan_to_num(ys, nan=1e9), -1e9, 1e9)
    loss, least = (
        np.sqrt(np.mean((states - data.ys) ** 2))
        for states in (ys, path.grid.interpolate(path.states, ts))
    )
    if loss > 1.6 * least and report.distance[0] > 1e-3:
        causes = {jc.VERDICT.too_coarse, jc.VERDICT.blows_up, jc.VERDICT.unstable}
        assert report.verdict in (causes if sol.result.ok else {jc.VERDICT.not_converged})
    elif loss < 1.4 * least:
        assert report.verdict.ok


@pytest.mark.slow
def test_chaos_is_told_from_a_coarse_grid():
    ts = np.linspace(0.0, 20.0, 401)
    model = Lorenz(jnp.asarray(10.0))
    data = lorenz_data(ts, noise=0.5)
    grid = jc.Grid.uniform(0.0, 20.0, 400, jc.Radau(3))
    nlp = jc.transcribe(model, data, grid, trainable=False)
    sol = jc.solve(nlp, jc.Ipopt(), jc.guess(nlp))
    report = jc.verify(sol)
    assert report.growth[0] > 1e4
    assert np.max(report.interval_errors[0]) < 1e-2
    assert report.distance[0] > 0.1
    assert jc.VERDICT.unstable in report.causes
    assert jc.VERDICT.too_coarse not in report.causes


@pytest.mark.slow
def test_a_rollout_that_ends_in_infinity(fine):
    class Exploding(Linear):
        def __call__(self, t, y, args):
            away = jnp.maximum(jnp.sum(y**2) - 1.2, 0.0)
            return self.matrix @ y + 1e3 * away**2 * y + jnp.where(t > 3.9, 1e4 * y**3, 0.0)

    model = Exploding(jnp.asarray(SPIRAL))
    # The same point of a problem with that model.
    nlp = jc.transcribe(model, fine.nlp.trajectories, fine.nlp.grids, l2=0.0)
    bad = dataclasses.replace(fine, source=nlp)
    report = jc.verify(bad)
    assert not np.all(np.isfinite(report.rollouts[0]))
    assert not report.verdict.ok


def test_weights_at_their_bounds_are_named():
    grid = jc.Grid.uniform(0.0, 4.0, 12, jc.Radau(3))
    sol = fitted(Linear(jnp.zeros((2, 2))), DATA, grid, l2=0.0, weight_bounds=(-1.97, 1.97))
    report = jc.verify(sol)
    np.testing.assert_allclose(np.abs(sol.z[1:3]).max(), 1.97, atol=1e-5)
    assert report.verdict is jc.VERDICT.at_bounds
    assert report.verdict.ok


@pytest.mark.slow
def test_a_solve_that_was_stopped_is_named():
    grid = jc.Grid.uniform(0.0, 4.0, 12, jc.Radau(3))
    nlp = jc.transcribe(Net(2, 4), DATA, grid)
    guess = jc.guess(nlp, key=jax.random.key(0), weights="xavier")
    sol = jc.solve(nlp, jc.Ipopt(max_steps=1), guess, throw=False)
    assert jc.verify(sol).verdict is jc.VERDICT.not_converged


@pytest.mark.slow
def test_the_data_are_seen_through_the_observation(caller_x64):
    """Inputs, an observation function, gaps and weights enter the errors."""
    ts = np.linspace(0.0, 3.0, 31)
    us = np.sin(3 * ts)

    class Driven(eqx.Module):
        rate: jax.Array

        def __call__(self, t, y, args):
            return -self.rate * y + args["u"](t)

    model = Driven(jnp.asarray(0.8))
    u = jc.Input(ts, us)
    truth = np.asarray(jc.simulate(model, ts, [0.3], {"u": u}))
    seen = 2.0 * truth + 1.0
    seen[5:9] = np.nan
    data = jc.Trajectory(ts, seen + 0.1, {"u": u}, weights=4.0, y0=[0.3])
    grid = jc.Grid.aligned(ts, jc.Radau(3), every=2)
    nlp = jc.transcribe(
        model, data, grid, observe=lambda t, y, args: 2 * y + 1, num_states=1, trainable=False
    )
    sol = jc.solve(nlp, jc.Ipopt(), jc.guess(nlp))
    report = jc.verify(sol)
    # The start is known and no weight is free: the offset of 0.1 stays, times the root of 4.
    np.testing.assert_allclose(report.rollout_rmse, 0.2, atol=2e-3)
    np.testing.assert_allclose(report.path_rmse, 0.2, atol=2e-3)
    # It is there in every sample, which noise would not be.
    assert report.causes == (jc.VERDICT.poor_fit,)
