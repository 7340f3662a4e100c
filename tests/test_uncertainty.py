"""What the data say of a fit, against textbooks: least squares, smoothers, dense linear algebra."""

import dataclasses
import importlib
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import Affine, Law, Linear, Lorenz, lorenz_data
from scipy.stats import norm, t

import jaxcolloc as jc
from jaxcolloc._uncertainty.optimum import Optimum
from jaxcolloc._uncertainty.sparse import Sparse
from jaxcolloc._uncertainty.structured import Structured


GRID = jc.Grid.uniform(0.0, 2.0, 4, jc.Radau(3))
TS = np.linspace(0.0, 2.0, 9)


def affine_data(seed=0, noise=0.1, gain=1.0, ts=TS):
    clean = np.stack([1 + 0.5 * gain * ts, 0.2 + 0.3 * gain * ts**2 / 2], axis=1)
    return clean + noise * np.random.default_rng(seed).normal(size=clean.shape)


def decay_data(noise=0.02, seed=1, count=30):
    ts = np.linspace(0.0, 4.0, count)
    ys = np.exp(-0.7 * ts)[:, None]
    return jc.Trajectory(ts, ys + noise * np.random.default_rng(seed).normal(size=ys.shape))


def solved(model, data, grid=GRID, solver=None, tol=1e-9, **options):
    nlp = jc.transcribe(model, data, grid, **({"l2": 0.0} | options))
    guess = jc.guess(nlp, key=jax.random.key(0), weights="as_given")
    return jc.solve(nlp, solver or jc.InteriorPoint(tol=tol), guess)


def affine(ys=None, l2=0.0, solver=None, **options):
    data = jc.Trajectory(TS, affine_data() if ys is None else ys, 1.0)
    return solved(Affine(jnp.array([0.4, 0.4])), data, solver=solver, l2=l2, **options)


def least_squares(design, ys, weights=None, prior=None):
    """Estimates, their covariance and the degrees of freedom, by dense linear algebra."""
    weights = np.ones(len(ys)) if weights is None else weights
    prior = np.zeros((design.shape[1],) * 2) if prior is None else prior
    normal = design.T @ (weights[:, None] * design)
    inverse = np.linalg.inv(normal + prior)
    estimate = inverse @ design.T @ (weights * ys)
    freedom = len(ys) - np.trace(inverse @ normal)
    square = weights @ (ys - design @ estimate) ** 2
    return estimate, inverse * square / freedom, freedom


def affine_design(ts=TS):
    """Rows of both channels, columns w[0], w[1], y0[0], y0[1]."""
    zero, one = np.zeros_like(ts), np.ones_like(ts)
    first = np.stack([ts, zero, one, zero], axis=1)
    second = np.stack([zero, ts**2 / 2, zero, one], axis=1)
    return np.concatenate([first, second])


def both(sol, gauss_newton=False):
    """The two factorisations of a solution under the squared error."""
    count = sum(int(item.observed.sum()) for item in sol.nlp.trajectories)
    optimum = Optimum.of(sol, count / 2)
    return Structured(optimum, gauss_newton), Sparse(optimum, gauss_newton)


@pytest.fixture(params=["structured", "sparse"])
def sparse(request, monkeypatch):
    """Every uncertainty by the one factorisation, then by the other."""
    if request.param == "sparse":
        module = importlib.import_module("jaxcolloc._uncertainty.structured")
        monkeypatch.setattr(module, "takes", lambda optimum: False)


@pytest.mark.parametrize("solver", [jc.Ipopt(), jc.InteriorPoint()])
@pytest.mark.parametrize("curvature", ["exact", "gauss_newton"])
def test_a_linear_model_has_the_textbooks_covariance(solver, curvature):
    sol = affine(solver=solver)
    u = jc.uncertainty(sol, curvature=curvature)
    ys = affine_data().T.ravel()
    estimate, covariance, freedom = least_squares(affine_design(), ys)
    found = u.covariance(lambda m: m.w, "y0[0]")
    np.testing.assert_allclose(found, covariance, atol=1e-8 * covariance.max())
    deviation = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose(u.stderr(lambda m: m.w), deviation[:2], rtol=1e-8)
    np.testing.assert_allclose(u.stderr("y0[0]"), deviation[2:], rtol=1e-8)
    assert u.noise.freedom == pytest.approx(freedom)
    lower, upper = u.interval(lambda m: m.w, level=0.9)
    half = t.ppf(0.95, freedom) * deviation[:2]
    np.testing.assert_allclose((upper - lower) / 2, half, rtol=1e-8)
    np.testing.assert_allclose((upper + lower) / 2, estimate[:2], atol=1e-6)


def test_bands_are_those_of_least_squares():
    u = jc.uncertainty(affine())
    covariance = least_squares(affine_design(), affine_data().T.ravel())[1]
    times = np.linspace(0.0, 2.0, 23)
    rows = affine_design(times).reshape(2, 23, 4)
    deviation = np.sqrt(np.einsum("cti,ij,ctj->tc", rows, covariance, rows))
    band = u.bands(times, level=0.9)
    np.testing.assert_allclose(band.stderr, deviation, rtol=1e-8)
    quantile = t.ppf(0.95, u.noise.freedom)
    np.testing.assert_allclose(band.upper - band.value, quantile * deviation, rtol=1e-8)
    new = u.bands(times, of="observations", noise=True)
    np.testing.assert_allclose(new.stderr**2, deviation**2 + u.noise.sigma**2, rtol=1e-8)


def test_a_known_law_has_the_bands_of_a_smoother():
    """With the matrix held, the path is what a smoother makes of a system without process noise."""
    matrix = np.array([[-0.1, 2.0], [-2.0, -0.1]])
    ts = np.linspace(0.0, 3.0, 16)
    ys = np.random.default_rng(0).normal(size=(16, 2))
    grid = jc.Grid.uniform(0.0, 3.0, 60, jc.Radau(5))
    # What is measured is the first state; the second one is measured twice.
    ys[:, 1] = np.where(np.isin(np.arange(16), (4, 9)), ys[:, 1], np.nan)
    data = jc.Trajectory(ts, ys, weights=1.0)
    sol = solved(Linear(jnp.asarray(matrix)), data, grid, trainable=False)
    band = jc.uncertainty(sol).bands(ts)
    means, covariances = smoothed(matrix, ts, ys)
    seen = np.isfinite(ys)
    sigma = np.sqrt(np.sum((means - ys)[seen] ** 2) / (seen.sum() - 2))
    np.testing.assert_allclose(band.value, means, atol=1e-7)
    deviation = sigma * np.sqrt(np.einsum("tii->ti", covariances))
    np.testing.assert_allclose(band.stderr, deviation, rtol=1e-8)


def smoothed(matrix, ts, ys):
    """Kalman filter and Rauch-Tung-Striebel smoother for a noise of one and a diffuse start."""
    from scipy.linalg import expm

    mean, inverse = np.zeros(2), np.zeros((2, 2))
    filtered = []
    for k, y in enumerate(ys):
        if k:
            # In information form, since the start is diffuse.
            back = expm(-matrix * (ts[k] - ts[k - 1]))
            inverse, mean = back.T @ inverse @ back, back.T @ mean
        there = np.isfinite(y).astype(float)
        inverse, mean = inverse + np.diag(there), mean + np.nan_to_num(y)
        filtered.append((inverse, mean))
    # Without process noise the smoother carries the last covariance back.
    last = np.linalg.inv(inverse)
    state, covariance = last @ mean, last
    means, covariances = [state], [covariance]
    for k in range(len(ts) - 1, 0, -1):
        back = expm(-matrix * (ts[k] - ts[k - 1]))
        state, covariance = back @ state, back @ covariance @ back.T
        means.append(state)
        covariances.append(covariance)
    return np.stack(means[::-1]), np.stack(covariances[::-1])


def test_a_ridge_is_a_gaussian_prior():
    l2 = 0.3
    u = jc.uncertainty(affine(l2=l2))
    prior = np.diag([len(TS) * l2] * 2 + [0.0, 0.0])
    ys = affine_data().T.ravel()
    _, covariance, freedom = least_squares(affine_design(), ys, prior=prior)
    found = u.covariance(lambda m: m.w, "y0[0]")
    np.testing.assert_allclose(found, covariance, atol=1e-8 * covariance.max())
    assert u.noise.freedom == pytest.approx(freedom)


def test_units_and_weights_change_no_covariance():
    plain = jc.uncertainty(affine())
    factor = np.array([1e3, 1e-2])
    data = jc.Trajectory(TS, affine_data() * factor, factor, weights=1 / factor**2)
    sol = solved(Affine(jnp.array([0.4, 0.4])), data, weight_scale=7.0, state_scale=factor)
    other = jc.uncertainty(sol)
    np.testing.assert_allclose(other.stderr(lambda m: m.w), plain.stderr(lambda m: m.w), rtol=1e-7)
    np.testing.assert_allclose(other.stderr("y0[0]"), factor * plain.stderr("y0[0]"), rtol=1e-7)
    np.testing.assert_allclose(other.bands().stderr, factor * plain.bands().stderr, rtol=1e-7)


def nonlinear(**options):
    """Two experiments of a saturating law with an unknown of their own, at a nonlinear optimum."""

    class Uptake(eqx.Module):
        rate: jax.Array
        half: jax.Array

        def __call__(self, t, y, args):
            return -args["activity"] * self.rate * y / (self.half + y) * jnp.array([1.0, -0.5])

    rng = np.random.default_rng(3)
    ts = np.linspace(0.0, 3.0, 12)
    data = []
    for activity in (1.0, 1.6):
        law = Uptake(jnp.asarray(1.0), jnp.asarray(0.6))
        clean = np.asarray(jc.simulate(law, ts, [2.0, 0.3], {"activity": jnp.asarray(activity)}))
        noisy = clean + 0.03 * rng.normal(size=clean.shape)
        known = 1.0 if activity == 1.0 else jc.Unknown(1.2)
        data.append(jc.Trajectory(ts, noisy, {"activity": known}, y0=[2.0, np.nan]))
    grid = jc.Grid.uniform(0.0, 3.0, 8, jc.Radau(3))
    return solved(Uptake(jnp.asarray(0.9), jnp.asarray(0.5)), data, grid, **options)


def dense_covariance(sol, factor, gauss_newton=False):
    """The inverse of the KKT matrix, what is fixed being left out."""
    nlp = sol.nlp
    count = nlp.num_variables
    jacobian, hessian = np.zeros((nlp.num_constraints, count)), np.zeros((count, count))
    jacobian[nlp.jacobian_structure] = np.asarray(nlp.jacobian(sol.z))
    structure = nlp.gauss_newton_structure if gauss_newton else nlp.hessian_structure
    values = nlp.gauss_newton(sol.z) if gauss_newton else nlp.hessian(
        sol.z, sol.multipliers.constraints
    )  # fmt: skip
    hessian[structure] = factor * np.asarray(values)
    hessian = np.tril(hessian) + np.tril(hessian, -1).T
    free = np.flatnonzero(nlp.bounds[0] < nlp.bounds[1])
    kkt = np.block(
        [
            [hessian[np.ix_(free, free)], jacobian[:, free].T],
            [jacobian[:, free], np.zeros((nlp.num_constraints,) * 2)],
        ]
    )
    found = np.zeros((count, count))
    found[np.ix_(free, free)] = np.linalg.inv(kkt)[: len(free), : len(free)]
    return found


@pytest.mark.parametrize("gauss_newton", [False, True])
@pytest.mark.parametrize("scale", ["linear", "log"])
def test_both_factorisations_invert_the_kkt_matrix(gauss_newton, scale):
    sol = nonlinear(weight_scale=scale)
    covariance = dense_covariance(sol, 12.0, gauss_newton)
    head, d = sol.nlp.layout.num_head, 2
    times = sol.nlp.grids[1].times
    first = sol.nlp.layout.columns(sol.nlp.layout.first_nodes[1])
    variances = np.diag(covariance)[first:].reshape(-1, d)
    for found in both(sol, gauss_newton):
        np.testing.assert_allclose(
            found.head.kept @ found.head.kept.T,
            covariance[:head, :head],
            atol=1e-8 * covariance[:head, :head].max(),
        )
        along = found.along(1, times)
        np.testing.assert_allclose(along.variance().value(), variances, atol=1e-8 * variances.max())
        assert found.num_kept == 5


def test_tables_and_names_agree():
    sol = nonlinear(weight_scale="log")
    u = jc.uncertainty(sol)
    table = u.to_pandas().set_index("name")
    assert list(table.index) == [
        ".rate", ".half", "args[1]['activity']", "y0[0][0]", "y0[0][1]", "y0[1][0]", "y0[1][1]"
    ]  # fmt: skip
    rate, half = u.stderr(lambda m: (m.rate, m.half))
    assert table.loc[".rate", "stderr"] == pytest.approx(float(rate))
    assert float(u.stderr(".half")) == pytest.approx(float(half))
    own = u.stderr(lambda args: args["activity"], trajectory=1)
    assert table.loc["args[1]['activity']", "stderr"] == pytest.approx(float(own))
    assert table.loc["args[1]['activity']", "value"] == pytest.approx(
        float(sol.args[1]["activity"])
    )
    # A known initial state has no error; the other one has.
    assert table.loc["y0[0][0]", "stderr"] == 0
    assert table.loc["y0[0][1]", "stderr"] > 0
    assert ".rate" in str(u)
    # On a log scale the ends are the value times and over the same factor.
    lower, upper = u.interval(lambda m: m.rate)
    assert float(lower * upper) == pytest.approx(float(sol.model.rate) ** 2, rel=1e-5)


def test_a_stored_solution_says_the_same(tmp_path):
    sol = affine()
    sol.save(tmp_path / "fit.jcs")
    back = jc.load(tmp_path / "fit.jcs", like=sol.model)
    table, other = jc.uncertainty(sol).to_pandas(), jc.uncertainty(back).to_pandas()
    assert list(table.columns) == ["name", "value", "stderr", "lower", "upper", "note"]
    assert list(table.name) == [".w[0]", ".w[1]", "y0[0][0]", "y0[0][1]"]
    assert table.equals(other)


def test_predictions_are_those_of_finite_differences():
    sol = nonlinear()
    u = jc.uncertainty(sol)
    ts = np.linspace(0.0, 5.0, 6)
    args = {"activity": 0.7}
    start = np.array([1.5, 0.1])
    band = u.predict(ts, start, args)

    def rolled(rate, half):
        model = eqx.tree_at(lambda m: (m.rate, m.half), sol.model, (rate, half))
        with jax.enable_x64(True):
            return np.asarray(jc.simulate(model, ts, start, args))

    values = [float(sol.model.rate), float(sol.model.half)]
    step = 1e-3
    with jax.enable_x64(True):
        slopes = np.stack(
            [
                (rolled(*(values + np.eye(2)[k] * step)) - rolled(*(values - np.eye(2)[k] * step)))
                / (2 * step)
                for k in range(2)
            ]
        )
    covariance = u.covariance(lambda m: (m.rate, m.half))
    variance = np.einsum("its,ij,jts->ts", slopes, covariance, slopes)
    np.testing.assert_allclose(band.stderr, np.sqrt(variance), rtol=1e-3, atol=1e-9)
    drawn = u.predict(ts, start, args, samples=300, key=jax.random.key(0))
    np.testing.assert_allclose(drawn.stderr, band.stderr, rtol=0.25, atol=1e-9)
    spread = u.predict(ts, start, args, y0_std=0.1)
    np.testing.assert_allclose(spread.stderr[0], 0.1, rtol=1e-9)


def test_a_prediction_goes_on_where_the_path_ends():
    u = jc.uncertainty(affine())
    covariance = least_squares(affine_design(), affine_data().T.ravel())[1]
    times = np.linspace(2.0, 4.0, 5)
    rows = affine_design(times).reshape(2, 5, 4)
    deviation = np.sqrt(np.einsum("cti,ij,ctj->tc", rows, covariance, rows))
    np.testing.assert_allclose(u.predict(times).stderr, deviation, rtol=1e-6)


def test_the_band_of_a_function_is_the_delta_method():
    u = jc.uncertainty(affine())
    points = np.linspace(-1.0, 1.0, 5)
    band = u.function_band(lambda m, x: m.w[0] * x + m.w[1], points)
    covariance = u.covariance(lambda m: m.w)
    rows = np.stack([points, np.ones(5)], axis=1)
    np.testing.assert_allclose(
        band.stderr, np.sqrt(np.einsum("ti,ij,tj->t", rows, covariance, rows)), rtol=1e-9
    )


def test_what_is_measured_is_uncertain_by_the_sensor_too():
    """The path of gain times state is seen, though neither of them is."""
    model = Law(lambda p, y: -p["k"] * y, gain=1.3, k=0.5)
    data = decay_data()
    grid = jc.Grid.uniform(0.0, 4.0, 10, jc.Radau(3))
    u = jc.uncertainty(solved(model, data, grid, observe=model.observe, num_states=1))
    plain = jc.uncertainty(solved(Law(lambda p, y: -p["k"] * y, k=0.5), data, grid))
    seen = u.bands(of="observations")
    np.testing.assert_allclose(seen.stderr, plain.bands().stderr, rtol=1e-4)
    assert np.all(np.isinf(u.bands().stderr))
    assert np.isinf(u.stderr(lambda m: m.p["gain"]))
    assert np.isinf(u.stderr("y0[0]")).all()
    np.testing.assert_allclose(
        u.stderr(lambda m: m.p["k"]), plain.stderr(lambda m: m.p["k"]), rtol=1e-4
    )
    assert ".p['gain'] and y0[0][0] change together: only .p['gain'] * y0[0][0]" in str(u)


@pytest.mark.parametrize(
    ("law", "p", "said"),
    [
        (
            lambda p, y: -(p["a"] - p["b"]) * y,
            {"a": 1.5, "b": 0.6},
            ".p['a'] and .p['b'] change together: only .p['a'] - .p['b'] is seen.",
        ),
        (
            lambda p, y: -(p["a"] - p["b"] - p["c"]) * y,
            {"a": 1.5, "b": 0.6, "c": 0.3},
            "only .p['a'] - .p['b'] - .p['c'] is seen.",
        ),
        (
            lambda p, y: -p["a"] * p["b"] * y,
            {"a": 1.5, "b": 0.6},
            "only .p['a'] * .p['b'] is seen.",
        ),
        (
            lambda p, y: -p["a"] * y + 0 * p["b"],
            {"a": 0.6, "b": 1.0},
            "The data do not say what .p['b'] is.",
        ),
    ],
)
def test_free_directions_are_infinite_and_named(law, p, said):
    grid = jc.Grid.uniform(0.0, 4.0, 10, jc.Radau(3))
    sol = solved(Law(law, **p), decay_data(), grid)
    known = solved(Law(lambda p, y: -p["k"] * y, k=0.5), decay_data(), grid)
    u, plain = jc.uncertainty(sol), jc.uncertainty(known)
    assert said in str(u)
    free = [name for name in p if f".p['{name}']" in said]
    for name in free:
        assert np.isinf(u.stderr(f".p['{name}']"))
        assert np.isinf(u.interval(f".p['{name}']")[1])
    # What the data see is as well known as without the surplus, and so is the noise.
    np.testing.assert_allclose(u.bands().stderr, plain.bands().stderr, rtol=1e-4)
    total = u.function_band(lambda m, x: -m.f(m.p, x)[0], np.ones((1, 1)))
    np.testing.assert_allclose(total.stderr, plain.stderr(".p['k']"), rtol=1e-4)
    assert np.sum(u.spectrum == 0) == len(free) - (0 if len(free) == 1 else 1)
    for found in both(sol):
        assert found.num_kept == 2
        assert found.head.num_free >= 1


def test_free_directions_of_a_callers_likelihood_are_infinite():
    """At a tolerance at which the exact Hessian's curvature along them is not zero."""

    def law(p, y):
        return -p["a"] * p["b"] * y

    def likelihood(t, y, observed, args):
        return 0.5 * jnp.sum(((y - observed) / 0.02) ** 2)

    grid = jc.Grid.uniform(0.0, 4.0, 10, jc.Radau(3))
    sol = solved(Law(law, a=1.5, b=0.6), decay_data(), grid, loss=likelihood, tol=1e-6)
    u = jc.uncertainty(sol)
    assert np.isinf(u.stderr(".p['a']"))
    assert np.isinf(u.stderr(".p['b']"))
    assert "only .p['a'] * .p['b'] is seen" in str(u)
    known = solved(Law(lambda p, y: -p["k"] * y, k=0.5), decay_data(), grid, loss=jc.Gaussian(0.02))
    np.testing.assert_allclose(u.bands().stderr, jc.uncertainty(known).bands().stderr, rtol=1e-4)


def misjudged(sol, factor):
    """The solution with multipliers that are far off, as after a loose solve of a hard problem."""
    constraints = factor * sol.multipliers.constraints
    wrong = dataclasses.replace(sol.multipliers, constraints=constraints)
    return dataclasses.replace(sol, multipliers=wrong)


def test_what_a_loose_solve_leaves_in_doubt_is_solved_more_closely(sparse):
    """A law near its linear limit: the wrong multipliers make its curvature negative."""
    grid, data = jc.Grid.uniform(0.0, 4.0, 6, jc.Radau(3)), decay_data()

    def law(p, y):
        return -p["most"] * y / (p["half"] + y)

    sol = solved(Law(law, most=8.0, half=10.0), data, grid, weight_scale="log")
    assert all(item.head.bent == 1 for item in both(misjudged(sol, 100.0)))
    expected = jc.uncertainty(sol)
    # With the second the curvature is negative in the initial state as well.
    for wrong in (misjudged(sol, 100.0), misjudged(sol, 1e6)):
        u = jc.uncertainty(wrong)
        for name in ("most", "half"):
            wanted = expected.stderr(lambda m, name=name: m.p[name])
            np.testing.assert_allclose(u.stderr(lambda m, name=name: m.p[name]), wanted, 1e-4)
        assert u.solution is not wrong
        np.testing.assert_allclose(u.solution.z, sol.z, atol=1e-4)


def test_what_is_free_stays_free_however_closely_it_is_solved(sparse):
    grid, data = jc.Grid.uniform(0.0, 4.0, 6, jc.Radau(3)), decay_data()

    def law(p, y):
        return -(p["a"] + p["b"]) * y / (1 + p["c"] * y)

    sol = solved(Law(law, a=0.3, b=0.2, c=0.1), data, grid)
    for factor in (1.0, -100.0, 100.0):
        u = jc.uncertainty(misjudged(sol, factor))
        assert np.isinf(u.stderr(lambda m: (m.p["a"], m.p["b"]))).all()


def test_a_saddle_point_is_no_estimate(sparse):
    """The direction opposite to that of the data: stationary, but the worst there is."""

    def law(p, y):
        return jnp.stack([jnp.cos(p["angle"]), jnp.sin(p["angle"])])

    ys = np.stack([TS, 0 * TS], axis=1) + 0.01 * np.random.default_rng(0).normal(size=(9, 2))
    data = jc.Trajectory(TS, ys, y0=[0.0, 0.0])
    nlp = jc.transcribe(Law(law, angle=np.pi), data, GRID, l2=0.0)
    states = np.outer(GRID.times, [-1.0, 0.0])
    sol = jc.solve(nlp, jc.InteriorPoint(), nlp.pack(nlp.model, [states]))
    # By its rounding a processor may lead away from there.
    worst = np.cos(float(sol.model.p["angle"])) < 0
    u = jc.uncertainty(sol)
    error = u.stderr(lambda m: m.p["angle"])
    assert np.isinf(error) if worst else error < 0.01
    assert worst == ("the curvature is not positive" in str(u))


def test_an_unseen_state_is_free():
    def law(p, y):
        return jnp.stack([-p["a"] * y[0], -0.3 * y[1]])

    grid = jc.Grid.uniform(0.0, 4.0, 10, jc.Radau(3))
    sol = solved(Law(law, a=0.5), decay_data(), grid, num_states=2)
    u = jc.uncertainty(sol)
    assert np.isfinite(u.stderr("y0[0][0]"))
    assert np.isinf(u.stderr("y0[0][1]"))
    band = u.bands()
    assert np.isfinite(band.stderr[:, 0]).all()
    assert np.isinf(band.stderr[:, 1]).all()
    assert "The data do not say what y0[0][1] is." in u.sentences


def test_a_sloppy_model_is_told():
    def law(p, y):
        return -p["a"] * y - 1e-5 * p["b"] * y**2

    ts = np.linspace(0.0, 4.0, 30)
    truth = np.asarray(jc.simulate(Law(law, a=0.7, b=1.0), ts, [1.0]))
    ys = truth + 1e-6 * np.random.default_rng(0).normal(size=truth.shape)
    sol = solved(
        Law(law, a=0.5, b=0.8), jc.Trajectory(ts, ys), jc.Grid.uniform(0, 4, 20, jc.Radau(4))
    )
    u = jc.uncertainty(sol)
    assert any("Sloppy" in text and ".p['b']" in text for text in u.sentences)
    assert np.log10(u.spectrum[-1] / u.spectrum[0]) > 6
    assert np.isfinite(u.stderr(".p['b']"))


def test_strong_correlations_are_told():
    def law(p, y):
        return -p["a"] * y + p["b"]

    ts = np.linspace(0.0, 0.2, 20)
    ys = 1 - 0.1 * ts[:, None] + 1e-3 * np.random.default_rng(0).normal(size=(20, 1))
    sol = solved(
        Law(law, a=0.3, b=0.2), jc.Trajectory(ts, ys), jc.Grid.uniform(0, 0.2, 4, jc.Radau(3))
    )
    u = jc.uncertainty(sol)
    first, second, number = u.correlations[0]
    assert {first, second} == {".p['a']", ".p['b']"}
    covariance = u.covariance(lambda m: (m.p["a"], m.p["b"]))
    assert number == pytest.approx(covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1]))


def test_variables_at_active_bounds_are_held():
    def law(p, y):
        return -p["a"] * y - p["b"] * y**2

    ts = np.linspace(0.0, 4.0, 30)
    ys = np.asarray(jc.simulate(Law(law, a=0.9, b=-0.3), ts, [1.0]))
    ys = ys + 0.01 * np.random.default_rng(0).normal(size=ys.shape)
    grid, data = jc.Grid.uniform(0.0, 4.0, 10, jc.Radau(3)), jc.Trajectory(ts, ys)
    bounds = {"weight_bounds": (0.0, 5.0)}
    alone = jc.uncertainty(solved(Law(lambda p, y: -p["a"] * y, a=0.5), data, grid))
    for solver in (jc.InteriorPoint(), jc.Ipopt()):
        sol = solved(Law(law, a=0.6, b=0.3), data, grid, solver, **bounds)
        u = jc.uncertainty(sol)
        assert float(u.stderr(".p['b']")) == 0
        assert "bound" in u.to_pandas().set_index("name").loc[".p['b']", "note"]
        np.testing.assert_allclose(u.stderr(".p['a']"), alone.stderr(".p['a']"), rtol=1e-3)


def test_states_at_bounds_and_constraints_are_held():
    """An active bound on the path is an equation: compared with the dense inverse."""
    ys = affine_data()
    data = jc.Trajectory(TS, ys, 1.0)
    top = float(ys[:, 0].max()) - 0.2
    model = Affine(jnp.array([0.4, 0.4]))
    bound = solved(model, data, state_bounds=(None, [top, np.inf]), solver=jc.Ipopt(tol=1e-9))
    equation = jc.Constraint(lambda t, y, args: y[:1], top, top, at="end")
    same = solved(model, data, constraints=(equation,), solver=jc.Ipopt(tol=1e-9))
    u, v = jc.uncertainty(bound), jc.uncertainty(same)
    assert isinstance(u.factorised, Sparse)
    np.testing.assert_allclose(u.stderr(lambda m: m.w), v.stderr(lambda m: m.w), rtol=1e-6)
    # Least squares with the end on the bound: y0[0] = top - 2 w[0].
    design = affine_design() @ np.array([[1, 0, 0], [0, 1, 0], [-2, 0, 0], [0, 0, 1.0]])
    shifted = ys.T.ravel() - np.concatenate([np.full(9, top), np.zeros(9)])
    covariance = least_squares(design, shifted)[1]
    np.testing.assert_allclose(u.stderr(lambda m: m.w), np.sqrt(np.diag(covariance))[:2], rtol=1e-7)
    assert u.bands().stderr[-1, 0] == pytest.approx(0.0, abs=1e-9)


def test_unstable_dynamics_keep_their_bands():
    """In a chaotic system sensitivities grow beyond all bounds; the bands must not."""
    ts = np.linspace(0.0, 6.0, 150)
    grid = jc.Grid.uniform(0.0, 6.0, 90, jc.Radau(3))
    sol = solved(Lorenz(jnp.asarray(9.5)), lorenz_data(ts, 0.5), grid)
    structured, sparse = both(sol)
    a = structured.along(0, grid.times).variance().value()
    b = sparse.along(0, grid.times).variance().value()
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-9 * b.max())


class Hybrid(eqx.Module):
    """A spring with a rate beside a net of its friction."""

    rate: jax.Array
    net: eqx.nn.MLP

    def __call__(self, t: Any, y: Any, args: Any) -> Any:
        return jnp.stack([y[1], -self.rate * y[0] - self.net(y[1:])[0]])


def hybrid(l2, width=6):
    ts = np.linspace(0.0, 8.0, 80)
    truth = np.exp(-0.15 * ts)[:, None] * np.stack([np.cos(1.2 * ts), -np.sin(1.2 * ts)], axis=1)
    ys = truth + 0.02 * np.random.default_rng(0).normal(size=truth.shape)
    net = eqx.nn.MLP(1, 1, width, 1, jnp.tanh, key=jax.random.key(0))
    grid = jc.Grid.uniform(0.0, 8.0, 40, jc.Radau(3))
    nlp = jc.transcribe(Hybrid(jnp.asarray(1.3), net), jc.Trajectory(ts, ys), grid, l2=l2)
    return jc.solve(nlp, jc.InteriorPoint(), jc.guess(nlp, key=jax.random.key(1)))


def test_a_net_is_known_where_data_are():
    u = jc.uncertainty(hybrid(jc.OnNets(1e-4)))
    points = np.array([[0.0], [0.5], [5.0]])
    band = u.function_band(lambda m, v: m.net(v)[0], points)
    assert band.value.shape == (3,)
    assert band.stderr[2] > 3 * band.stderr[1] > 0
    assert "not known one by one" in str(u)
    assert "prior" in str(u)
    assert 4 < u.noise.num_parameters < u.parameters.of_net.sum()
    assert float(u.stderr(lambda m: m.rate)) < 0.1
    structured, sparse = both(u.solution)
    rows = np.zeros(len(structured.head.kept))
    rows[0] = 1.0
    for item in (structured, sparse):
        assert (rows @ item.head.kept).shape == (item.head.kept.shape[1],)
    times = np.linspace(0.0, 8.0, 50)
    exact = structured.along(0, times).variance().value()
    np.testing.assert_allclose(exact, sparse.along(0, times).variance().value(), rtol=1e-3)


def test_surplus_weights_without_a_ridge_are_free():
    """Two matrices in a row: only their product is seen."""

    class Deep(eqx.Module):
        first: jax.Array
        second: jax.Array

        def __call__(self, t, y, args):
            return self.second @ (self.first @ y)

    ts = np.linspace(0.0, 4.0, 40)
    decay = np.exp(-0.2 * ts)[:, None]
    truth = decay * np.stack([np.cos(ts), -np.sin(ts)], axis=1)
    ys = truth + 0.01 * np.random.default_rng(0).normal(size=truth.shape)
    data, grid = jc.Trajectory(ts, ys), jc.Grid.uniform(0.0, 4.0, 15, jc.Radau(3))
    product = np.array([[-0.2, 1.0], [-1.0, -0.2]])
    deep = solved(Deep(jnp.eye(2), jnp.asarray(product)), data, grid)
    plain = solved(Linear(jnp.asarray(product)), data, grid)
    u, v = jc.uncertainty(deep), jc.uncertainty(plain)
    assert u.factorised.head.num_free == 4
    assert np.isinf(u.stderr(lambda m: m.first)).all()
    assert "4 directions of the nets' 8 weights free" in str(u)
    np.testing.assert_allclose(u.bands().stderr, v.bands().stderr, rtol=1e-3)
    points = np.array([[1.0, 0.0], [0.3, -0.8]])
    one = u.function_band(lambda m, y: m.second @ (m.first @ y), points)
    two = v.function_band(lambda m, y: m.matrix @ y, points)
    np.testing.assert_allclose(one.stderr, two.stderr, rtol=1e-3)


def test_a_robust_loss_has_the_same_errors_where_there_are_no_outliers():
    plain = jc.uncertainty(affine())
    robust = jc.uncertainty(affine(loss=jc.PseudoHuber(1e3)))
    np.testing.assert_allclose(robust.stderr(lambda m: m.w), plain.stderr(lambda m: m.w), rtol=1e-6)


@pytest.mark.parametrize("loss", [jc.squared_error, jc.PseudoHuber(0.05)])
def test_the_scale_of_a_loss_of_residuals_does_not_matter(loss):
    def scaled(residual, weights):
        return 3.0 * loss(residual, weights)

    plain, other = jc.uncertainty(affine(loss=loss)), jc.uncertainty(affine(loss=scaled))
    assert other.noise.sigma == pytest.approx(plain.noise.sigma)
    np.testing.assert_allclose(other.stderr(lambda m: m.w), plain.stderr(lambda m: m.w), rtol=1e-6)


def own_gaussian(t, y, observed, args):
    return 0.5 * jnp.sum(((y - observed) / jnp.array([0.1, 0.3])) ** 2)


@pytest.mark.parametrize("loss", [jc.Gaussian([0.1, 0.3]), own_gaussian])
def test_a_likelihood_knows_its_noise(loss):
    u = jc.uncertainty(affine(loss=loss))
    precision = np.repeat([0.1, 0.3], len(TS)) ** -2.0
    design = affine_design()
    covariance = np.linalg.inv(design.T @ (precision[:, None] * design))
    found = u.covariance(lambda m: m.w, "y0[0]")
    np.testing.assert_allclose(found, covariance, atol=1e-8 * covariance.max())
    lower, upper = u.interval(".w[0]")
    assert float(upper - lower) == pytest.approx(2 * norm.ppf(0.975) * float(u.stderr(".w[0]")))
    assert u.noise.sigma is None
    path, new = u.bands(), u.bands(of="observations", noise=True)
    own = np.array([0.1, 0.3])
    if loss is own_gaussian:
        seen = u.solution.paths[0].evaluate(TS)
        own = np.sqrt(np.mean((np.asarray(seen) - affine_data()) ** 2, axis=0))
        assert "mean square of the residuals" in str(u)
        with pytest.raises(ValueError, match='`curvature` must be "exact" where `loss`'):
            jc.uncertainty(u.solution, curvature="gauss_newton")
    np.testing.assert_allclose(new.stderr, np.sqrt(path.stderr**2 + own**2), rtol=1e-5)


def test_a_students_t_with_many_degrees_is_normal():
    normal = jc.uncertainty(affine(loss=jc.Gaussian(0.1)))
    near = jc.uncertainty(affine(loss=jc.StudentT(0.1, df=1e7)))
    np.testing.assert_allclose(near.stderr(lambda m: m.w), normal.stderr(lambda m: m.w), rtol=1e-5)
    heavy = jc.uncertainty(affine(loss=jc.StudentT(0.1, df=3.0)), curvature="gauss_newton")
    # Fisher's information is 4 / 6 of the normal one.
    np.testing.assert_allclose(
        heavy.stderr(lambda m: m.w), np.sqrt(1.5) * normal.stderr(lambda m: m.w), rtol=1e-6
    )
    path, new = heavy.bands(), heavy.bands(of="observations", noise=True, level=0.9)
    np.testing.assert_allclose(new.stderr**2, path.stderr**2 + 3 * 0.1**2, rtol=1e-9)
    half = np.hypot(norm.ppf(0.95) * path.stderr, t.ppf(0.95, 3.0) * 0.1)
    np.testing.assert_allclose(new.upper - new.value, half, rtol=1e-9)


@pytest.mark.parametrize("known", ["likelihood", "weights"])
def test_priors_and_data_make_the_posterior(known):
    options = {"priors": jc.Prior(lambda m: m.w, [0.6, 0.2], [0.05, 0.02])}
    ys, std = affine_data(), 0.1
    weights = None if known == "likelihood" else np.full(ys.shape, std**-2.0)
    data = jc.Trajectory(
        TS, ys, 1.0, weights=weights, y0_prior=([1.1, np.nan], [0.03, np.nan])
    )  # fmt: skip
    if known == "likelihood":
        options["loss"] = jc.Gaussian(std)
    u = jc.uncertainty(solved(Affine(jnp.array([0.4, 0.4])), data, **options))
    design = affine_design()
    prior = np.diag([0.05**-2, 0.02**-2, 0.03**-2, 0.0])
    covariance = np.linalg.inv(design.T @ design / std**2 + prior)
    found = u.covariance(lambda m: m.w, "y0[0]")
    np.testing.assert_allclose(found, covariance, atol=1e-8 * covariance.max())
    assert u.noise.quantile(0.95) == pytest.approx(norm.ppf(0.975))
    new = u.bands(of="observations", noise=True)
    np.testing.assert_allclose(new.stderr, np.hypot(u.bands().stderr, std), rtol=1e-8)


class Sensed(eqx.Module):
    """Two slopes, and the noise of what is measured."""

    w: jax.Array
    noise: jax.Array

    def __call__(self, t: Any, y: Any, args: Any) -> Any:
        return self.w

    def spread(self, t: Any, y: Any, args: Any) -> Any:
        return self.noise * (1 + t)


def sensed(scale="linear"):
    model = Sensed(jnp.array([0.4, 0.4]), jnp.array([0.2, 0.2]))
    clean = np.stack([3 + 0.5 * TS, 2 + 0.3 * TS], axis=1)
    errors = 0.05 * (1 + TS[:, None]) * np.random.default_rng(2).normal(size=clean.shape)
    ys = clean * np.exp(errors) if scale == "log" else clean + errors
    return solved(
        model,
        jc.Trajectory(TS, ys),
        loss=jc.Gaussian(model.spread, scale=scale),
        weight_scale=jc.leafwise(model, None, (lambda m: m.noise, "reciprocal")),
    )


def test_trained_noise_has_its_error_and_is_that_of_new_measurements():
    sol = sensed()
    u = jc.uncertainty(sol)
    noise = np.asarray(sol.model.noise, float)
    # Nine samples each say the logarithm of their noise to one over the root of 18.
    exact = jc.uncertainty(sol, curvature="gauss_newton").stderr(lambda m: m.noise)
    np.testing.assert_allclose(exact, noise / np.sqrt(2 * len(TS)), rtol=1e-4)
    np.testing.assert_allclose(u.stderr(lambda m: m.noise), exact, rtol=1e-2)
    lower, upper = u.interval(lambda m: m.noise)
    half = norm.ppf(0.975) * u.stderr(lambda m: m.noise) / noise
    np.testing.assert_allclose(np.log([lower / noise, upper / noise]), [-half, half], rtol=1e-6)
    times = np.linspace(0.0, 2.0, 5)
    path, new = u.bands(times), u.bands(times, of="observations", noise=True)
    own = noise * (1 + times[:, None])
    np.testing.assert_allclose(new.stderr, np.hypot(path.stderr, own), rtol=1e-6)
    rolled = u.predict(times, of="observations", noise=True)
    np.testing.assert_allclose(rolled.stderr, new.stderr, rtol=1e-5)
    drawn = u.predict(
        times, of="observations", noise=True, samples=400, key=jax.random.key(0)
    )  # fmt: skip
    np.testing.assert_allclose(drawn.stderr, new.stderr, rtol=0.25)


def test_the_band_of_log_normal_measurements_is_positive():
    sol = sensed("log")
    u = jc.uncertainty(sol)
    path, new = u.bands(TS), u.bands(TS, of="observations", noise=True)
    own = np.asarray(sol.model.noise, float) * (1 + TS[:, None])
    relative = np.hypot(path.stderr / path.value, own)
    np.testing.assert_allclose(new.stderr, relative * new.value, rtol=1e-6)
    np.testing.assert_allclose(np.log(new.upper / new.value), norm.ppf(0.975) * relative, rtol=1e-6)
    np.testing.assert_allclose(new.upper * new.lower, new.value**2, rtol=1e-9)


def test_more_parameters_than_data_leave_all_infinite():
    data = jc.Trajectory(TS[[0, -1]], affine_data()[[0, -1]], 1.0)
    u = jc.uncertainty(solved(Affine(jnp.array([0.4, 0.4])), data))
    assert np.isinf(u.stderr(lambda m: m.w)).all()
    assert "nothing is left to estimate the noise from" in str(u)


def test_bad_input_is_refused():
    sol = affine()
    u = jc.uncertainty(sol)
    with pytest.raises(ValueError, match="`sol` must be a Solution"):
        jc.uncertainty(sol.model)
    with pytest.raises(ValueError, match="`curvature` must be one of"):
        jc.uncertainty(sol, curvature="fisher")
    stopped = jc.solve(sol.nlp, jc.InteriorPoint(max_steps=0), sol, throw=False)
    with pytest.raises(ValueError, match="`sol` must be at an optimum"):
        jc.uncertainty(stopped)
    with pytest.raises(ValueError, match="must hold multipliers"):
        jc.uncertainty(eqx.tree_at(lambda s: s.multipliers, sol, None))
    with pytest.raises(ValueError, match="`where` must name a trained leaf"):
        u.stderr(".rate")
    with pytest.raises(ValueError, match="`where` must select leaves"):
        u.stderr(lambda m: ())
    with pytest.raises(ValueError, match="`where` cannot be evaluated"):
        u.stderr(lambda m: m.w - 1)
    with pytest.raises(ValueError, match="`where` must be a function"):
        u.stderr(3)
    with pytest.raises(ValueError, match="`trajectory` must be below 1"):
        u.bands(trajectory=1)
    with pytest.raises(ValueError, match="`ts` must lie on"):
        u.bands([5.0])
    with pytest.raises(ValueError, match="`level` must be a share"):
        u.interval(lambda m: m.w, level=95)
    with pytest.raises(ValueError, match="`y0` must be finite"):
        u.predict([0.0, 1.0], [1.0], 1.0)
    with pytest.raises(ValueError, match="`key` must be"):
        u.predict([0.0, 1.0], samples=3)
    with pytest.raises(ValueError, match="`f` cannot be evaluated"):
        u.function_band(lambda m, x: m.rate, np.ones(2))
