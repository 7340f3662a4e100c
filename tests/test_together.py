"""Algebraic equations, jumps and steady states in one problem."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import dense

import jaxcolloc as jc
from jaxcolloc._precision import x64


# At rest under a feed of FEED before, then without; the drain's flow is algebraic.
FEED, DRAIN, SLOW = 0.5, 1.3, 0.4


class Basin(eqx.Module):
    """A basin with a drain of flow a = drain * y0, and a second that the flow goes into."""

    drain: jax.Array

    def levels(self, t, y, a, args):
        return jnp.stack([args["feed"] - a[0], a[0] - SLOW * y[1]])

    def flow(self, t, y, a, args):
        return a - self.drain * y[:1] * (1.0 + 0.1 * args["feed"])


class Mixed(eqx.Module):
    """A decay by algebraic flow, a share of which is left at a jump."""

    rate: jax.Array
    share: jax.Array

    def level(self, t, y, a, args):
        return -a

    def flow(self, t, y, a, args):
        return a - self.rate * y

    def mix(self, y, args):
        return self.share * y


class Called(eqx.Module):
    """The same as a plain model."""

    dae: jc.DAE

    def __call__(self, t, y, args):
        return self.dae(t, y, args)


def basin(drain):
    system = Basin(jnp.asarray(drain))
    return jc.DAE(system.levels, system.flow, 1)


def truth(ts):
    """Levels before 1.0, after a dose of 2 into the first there, after a halving of all at 3.0."""
    drain = DRAIN * (1 + 0.1 * FEED)
    y, begin, ys = np.array([FEED / drain, FEED / SLOW]), 0.0, []

    def later(y, span):
        first = y[0] * np.exp(-DRAIN * span)
        gain = DRAIN * y[0] / (SLOW - DRAIN)
        second = gain * np.exp(-DRAIN * span) + (y[1] - gain) * np.exp(-SLOW * span)
        return np.array([first, second])

    ahead = [(1.0, lambda y: y + np.array([2.0, 0.0])), (3.0, lambda y: 0.5 * y)]
    for t in ts:
        while ahead and ahead[0][0] < t:
            at, jump = ahead.pop(0)
            y, begin = jump(later(y, at - begin)), at
        ys.append(later(y, t - begin))
    return np.array(ys)


JUMPS = (jc.Jump(1.0, add=[2.0, 0.0]), jc.Jump(3.0, to=lambda y, args: 0.5 * y))


def runs():
    """One run from rest with two jumps, a shorter one with a jump at its start."""
    ts = np.linspace(0.2, 5.0, 13)
    off = {"feed": 0.0}
    rest = jc.Trajectory(
        ts, truth(ts), off, y0=jc.SteadyState(args={"feed": FEED}), t0=0.0, jumps=JUMPS
    )
    short = np.linspace(0.1, 2.0, 6)
    drained = np.exp(-DRAIN * short)
    gain = DRAIN / (SLOW - DRAIN)
    ys = np.stack([drained, gain * (drained - np.exp(-SLOW * short))], axis=1)
    dose = jc.Jump(0.0, add=[1.0, 0.0])
    return [rest, jc.Trajectory(short, ys, off, y0=[0.0, 0.0], jumps=[dose])]


SCHEMES = [jc.Radau(4), jc.GaussLegendre(3), jc.Lobatto(5), jc.Chebyshev(12)]


def grids(scheme):
    intervals = 1 if isinstance(scheme, jc.Chebyshev) else 5
    return [jc.Grid.uniform(0.0, end, intervals, scheme) for end in (5.0, 2.0)]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("solver", [jc.InteriorPoint(tol=1e-9), jc.Ipopt(tol=1e-9)])
def test_the_drain_is_recovered(scheme, solver):
    nlp = jc.transcribe(basin(0.7), runs(), grids(scheme), l2=0.0)
    sol = jc.solve(nlp, solver, jc.guess(nlp))
    assert float(sol.model.system.drain) == pytest.approx(DRAIN, rel=1e-3)
    path, ts = sol.paths[0], np.array([0.0, 0.5, 1.0, 1.001, 2.9, 3.001, 5.0])
    np.testing.assert_allclose(path.evaluate(ts), truth(ts), atol=2e-3)
    ts = np.array([0.5, 1.0, 1.4, 2.9, 3.4, 5.0])
    np.testing.assert_allclose(path.algebraic(ts)[:, 0], DRAIN * truth(ts)[:, 0], atol=1e-2)
    assert jc.verify(sol).verdict.ok
    called = jc.transcribe(Called(basin(0.7)), runs(), grids(scheme), l2=0.0)
    twin = jc.solve(called, solver, jc.guess(called))
    assert float(twin.model.dae.system.drain) == pytest.approx(
        float(sol.model.system.drain), rel=1e-5
    )


@pytest.mark.parametrize("scheme", [jc.Radau(2), jc.GaussLegendre(2)])
def test_sparse_derivatives_match_dense_ones(scheme):
    nlp = jc.transcribe(basin(0.7), runs(), grids(scheme), state_scale=[0.1, 3.0])
    rng = np.random.default_rng(0)
    z = rng.uniform(0.5, 1.5, nlp.num_variables)
    multipliers = rng.normal(size=nlp.num_constraints)
    core = nlp.compiled.core
    with x64():
        jacobian = np.asarray(jax.jit(jax.jacobian(lambda z: core.constraints(z)))(z))

        def lagrangian(z):
            return 0.7 * core.objective(z) + multipliers @ core.constraints(z)

        hessian = np.asarray(jax.jit(jax.hessian(lagrangian))(z))
    sparse = dense(nlp.jacobian_structure, nlp.jacobian(z), jacobian.shape)
    np.testing.assert_allclose(sparse, jacobian, atol=1e-12 * np.abs(jacobian).max())
    lower = dense(nlp.hessian_structure, nlp.hessian(z, multipliers, 0.7), hessian.shape)
    np.testing.assert_allclose(lower, np.tril(hessian), atol=1e-11 * np.abs(hessian).max())
    assert np.linalg.matrix_rank(jacobian) == nlp.num_constraints


def test_a_fit_of_all_of_it_goes_into_files(tmp_path):
    sol = jc.fit(basin(0.7), runs(), key=jax.random.key(0))
    assert sol.verification.verdict.ok
    assert float(sol.model.system.drain) == pytest.approx(DRAIN, rel=1e-3)
    sol.save(tmp_path / "run.jcs")
    back = jc.load(tmp_path / "run.jcs", like=sol.nlp)
    np.testing.assert_array_equal(back.z, sol.z)
    again = jc.solve(back.nlp, jc.InteriorPoint(), back)
    assert again.stats["num_steps"] <= 3


def test_a_jump_by_a_method_of_a_daes_system_is_trained():
    ts = np.linspace(0.0, 6.0, 25)
    ys = np.exp(-0.5 * ts) * np.where(ts > 3, 0.4, 1.0)
    system = Mixed(jnp.asarray(0.4), jnp.asarray(0.8))
    data = jc.Trajectory(ts, ys[:, None], jumps=[jc.Jump(3.0, to=system.mix)])
    model = jc.DAE(system.level, system.flow, 1)
    nlp = jc.transcribe(model, data, jc.Grid.uniform(0, 6, 6, jc.Radau(3)), l2=0.0)
    sol = jc.solve(nlp, jc.InteriorPoint(), jc.guess(nlp, weights="as_given"))
    assert float(sol.model.system.share) == pytest.approx(0.4, abs=1e-4)
    assert float(sol.model.system.rate) == pytest.approx(0.5, abs=1e-4)


class Outer(eqx.Module):
    """A model whose jump is a method of one of its parts."""

    inner: Mixed

    def __call__(self, t, y, args):
        return -self.inner.rate * y


def test_a_jump_by_a_method_of_a_part_is_refused():
    model = Outer(Mixed(jnp.asarray(0.4), jnp.asarray(0.8)))
    data = jc.Trajectory([0.0, 1.0, 2.0], np.ones((3, 1)), jumps=[jc.Jump(1.0, to=model.inner.mix)])
    with pytest.raises(ValueError, match="`to` must be a method of the model itself"):
        jc.transcribe(model, data, jc.Grid.uniform(0, 2, 2, jc.Radau(2)))


def test_series_from_a_steady_state_with_a_shared_unknown_are_forecast():
    ts, gain = np.linspace(0.0, 4.0, 21), jc.Unknown(1.0, scale="log")

    def field(t, y, args):
        return args["gain"] * args["dose"] - 0.5 * y

    ys = 2 * (1.5 - 1.0 * np.exp(-0.5 * ts))[:, None]
    args = {"dose": 1.5, "gain": gain}
    rest = jc.SteadyState(args | {"dose": 0.5})
    nlp = jc.transcribe(
        field, jc.Trajectory(ts, ys, args, y0=rest), jc.Grid.uniform(0, 4, 8, jc.Radau(3))
    )
    sol = jc.solve(nlp, jc.InteriorPoint(), jc.guess(nlp))
    found = jc.validate(sol, [jc.Trajectory(ts, ys, args, y0=rest)], horizons=[1.0])
    assert found.overall.average("fit") > 99.9
    assert found.forecasts[0].scores.average("fit") > 99
