"""Data drawn again: the spread of estimates against textbooks."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import Affine

import jaxcolloc as jc


GRID = jc.Grid.uniform(0.0, 2.0, 3, jc.Radau(2))
TS = np.linspace(0.0, 2.0, 9)
KEY = jax.random.key(0)


def solved(data, model=None, **options):
    model = Affine(jnp.array([0.4, 0.4])) if model is None else model
    nlp = jc.transcribe(model, data, GRID, **({"l2": 0.0} | options))
    guess = jc.guess(nlp, key=KEY, weights="as_given")
    return jc.solve(nlp, jc.InteriorPoint(tol=1e-9), guess)


def lines(seed=0, noise=0.1, slope=0.5):
    clean = np.stack([1 + slope * TS, 0.2 + 0.3 * TS**2 / 2], axis=1)
    return clean + noise * np.random.default_rng(seed).normal(size=clean.shape)


class Noisy(eqx.Module):
    """y' = rate, with the standard deviation of the noise among the weights."""

    rate: jax.Array
    noise: jax.Array

    def __call__(self, t: Any, y: Any, args: Any) -> Any:
        return jnp.stack([self.rate])


def test_the_spread_of_a_linear_problem_is_the_textbooks():
    ys = lines()
    ys[4, 1] = np.nan
    weights = np.where(TS < 1, 1.0, 4.0)[:, None] * np.ones(2)
    sol = solved(jc.Trajectory(TS, ys, 1.0, weights=weights))
    b = jc.bootstrap(sol, 100, key=KEY)
    u = jc.uncertainty(sol)
    # The standard deviation of 100 draws is known to 7%.
    for where in (lambda m: m.w, "y0[0]"):
        np.testing.assert_allclose(b.stderr(where), u.stderr(where), rtol=0.25)
    values = b.values(lambda m: m.w)
    assert values.shape == (100, 2)
    error = u.stderr(lambda m: m.w) / np.sqrt(100)
    assert np.all(np.abs(values.mean(axis=0) - sol.model.w) < 4 * error)
    lower, upper = b.interval(lambda m: m.w, level=0.5)
    assert np.mean((values > lower) & (values < upper)) == pytest.approx(0.5, abs=0.01)
    np.testing.assert_array_equal(b.model(3).w, values[3].astype(np.float32))
    assert b.num_failed == 0
    assert "100 draws, parametric" in str(b)
    assert ".w[1]" in str(b)


def test_a_key_fixes_the_draws():
    sol = solved(jc.Trajectory(TS, lines(), 1.0))
    one, same, other = (jc.bootstrap(sol, 3, key=key) for key in (KEY, KEY, jax.random.key(1)))
    np.testing.assert_array_equal(one.zs, same.zs)
    assert np.all(one.zs[:, 0] != other.zs[:, 0])


def test_trajectories_are_drawn_with_all_that_differs_between_them():
    """Slopes that differ between experiments: the spread of their mean, not that of the noise."""
    rng = np.random.default_rng(0)
    slopes = 0.5 + 0.2 * rng.normal(size=6)
    data = [jc.Trajectory(TS, lines(k, 0.01, slope), 1.0) for k, slope in enumerate(slopes)]
    sol = solved(data)
    b = jc.bootstrap(sol, 40, key=KEY, kind="trajectories")
    values = b.values(lambda m: m.w[0])
    expected = slopes.std() / np.sqrt(len(slopes))
    assert np.std(values) == pytest.approx(expected, rel=0.35)
    assert b.stderr(lambda m: m.w[0]) == pytest.approx(np.std(values, ddof=1))
    parametric = jc.bootstrap(sol, 10, key=KEY)
    assert parametric.stderr(lambda m: m.w[0]) < 0.7 * expected


def test_noise_is_that_of_the_likelihood():
    """Log-normal errors of a level that is trained: positive data, the level and its spread."""
    rng = np.random.default_rng(1)
    ts = np.linspace(0.0, 2.0, 60)
    ys = (1 + 0.5 * ts)[:, None] * np.exp(0.1 * rng.normal(size=(60, 1)))
    model = Noisy(jnp.asarray(0.4), jnp.asarray(0.2))
    loss = jc.Gaussian(lambda m: m.noise, scale="log")
    scale = Noisy("linear", "reciprocal")
    sol = solved(jc.Trajectory(ts, ys), model, loss=loss, weight_scale=scale)
    b = jc.bootstrap(sol, 60, key=KEY)
    level = b.values(lambda m: m.noise)
    # Two parameters were fitted; the standard deviation of 60 samples is known to 9%.
    assert level.mean() == pytest.approx(float(sol.model.noise) * np.sqrt(58 / 60), rel=0.05)
    assert level.std() == pytest.approx(float(sol.model.noise) / np.sqrt(120), rel=0.35)
    u = jc.uncertainty(sol)
    assert b.stderr(lambda m: m.rate) == pytest.approx(u.stderr(lambda m: m.rate), rel=0.35)


def test_heavy_tails_are_drawn_from():
    ts = np.linspace(0.0, 2.0, 40)
    ys = (1 + 0.5 * ts)[:, None] + 0.1 * np.random.default_rng(2).standard_t(3, size=(40, 1))
    model = Noisy(jnp.asarray(0.4), jnp.asarray(0.1))
    trained = Noisy(True, False)
    sol = solved(jc.Trajectory(ts, ys), model, loss=jc.StudentT(0.1, 3), trainable=trained)
    b = jc.bootstrap(sol, 60, key=KEY)
    # Fisher's information of the location is (df + 1) / (df + 3) in units of the scale.
    expected = 0.1 * np.sqrt(6 / 4) / np.sqrt(np.sum((ts - ts.mean()) ** 2))
    assert b.stderr(lambda m: m.rate) == pytest.approx(expected, rel=0.35)


class Fragile(jc.InteriorPoint):
    """A solver that fails wherever the first weight becomes larger than this."""

    most: float

    def __init__(self, most: float):
        super().__init__(tol=1e-9)
        self.most = most

    def run(self, nlp, z, multipliers, callback):
        outcome = super().run(nlp, z, multipliers, callback)
        if outcome.z[0] <= self.most:
            return outcome
        return dataclasses.replace(outcome, result=jc.RESULTS.small_steps)


def test_failures_are_told_and_left_out():
    sol = solved(jc.Trajectory(TS, lines(), 1.0))
    fragile = dataclasses.replace(sol, solver=Fragile(float(sol.z[0])))
    with pytest.warns(UserWarning, match="failed and are left out"):
        b = jc.bootstrap(fragile, 12, key=KEY)
    assert 0 < b.num_failed < 12
    assert len(b.zs) == 12 - b.num_failed
    assert b.results.count(jc.RESULTS.small_steps) == b.num_failed
    assert b.values(lambda m: m.w[0]).max() <= sol.z[0]
    assert f"failed  {b.num_failed}, left out" in str(b)
    with pytest.raises(jc.SolveError):
        jc.bootstrap(dataclasses.replace(sol, solver=Fragile(-9.0)), 3, key=KEY)


def test_bad_input_is_told():
    sol = solved(jc.Trajectory(TS, lines(), 1.0))
    with pytest.raises(ValueError, match="at least two of them; got 1"):
        jc.bootstrap(sol, key=KEY, kind="trajectories")
    with pytest.raises(ValueError, match="`key` must be a PRNG key"):
        jc.bootstrap(sol, key=None)
    with pytest.raises(ValueError, match="`samples`"):
        jc.bootstrap(sol, 1, key=KEY)
    with pytest.raises(ValueError, match="`draw` must be below 2"):
        jc.bootstrap(sol, 2, key=KEY).model(2)
    few = solved(jc.Trajectory(TS[:2], lines()[:2], 1.0))
    with pytest.raises(ValueError, match="residuals to estimate the noise"):
        jc.bootstrap(few, key=KEY)
    robust = solved(jc.Trajectory(TS, lines(), 1.0), loss=jc.PseudoHuber(0.1))
    with pytest.raises(ValueError, match="no noise can be drawn"):
        jc.bootstrap(robust, key=KEY)
