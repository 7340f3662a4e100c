"""Priors: the posterior's mode in linear problems, arrival costs, derivatives on every scale."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import Affine, Linear

import jaxcolloc as jc
from jaxcolloc._precision import x64


GRID = jc.Grid.uniform(0.0, 3.0, 3, jc.Radau(3))
TS = np.linspace(0.0, 3.0, 31)
NOISE = np.array([0.1, 0.4])
MEAN, STD = np.array([0.3, -0.1]), np.array([0.05, 0.2])
START, SPREAD = np.array([1.2, 1.7]), np.array([0.05, 0.3])


def sampled(seed=0, **options):
    truth = np.stack([1 + 0.5 * TS, 2 - 0.2 * TS**2], axis=1)
    ys = truth + NOISE * np.random.default_rng(seed).normal(size=truth.shape)
    return jc.Trajectory(TS, ys, 1.0, **options)


def solved(nlp):
    sol = jc.solve(nlp, jc.InteriorPoint(tol=1e-11), jc.guess(nlp, weights="as_given"))
    assert sol.result.ok
    return sol


def posterior(ys):
    """Mean and covariance of (start, weight) of each channel: a linear model with a prior."""
    found = []
    for channel, power in enumerate((1, 2)):
        design = np.stack([np.ones_like(TS), TS**power / power], axis=1)
        before = np.diag([1 / SPREAD[channel] ** 2, 1 / STD[channel] ** 2])
        precision = design.T @ design / NOISE[channel] ** 2 + before
        side = design.T @ ys[:, channel] / NOISE[channel] ** 2
        side += before @ [START[channel], MEAN[channel]]
        found.append((np.linalg.solve(precision, side), np.linalg.inv(precision)))
    return found


PRIOR = jc.Prior(lambda model: model.w, MEAN, STD)


@pytest.mark.parametrize("likely", [False, True])
def test_the_optimum_is_the_posterior_mean_of_a_linear_problem(likely):
    prior = (START, SPREAD)
    options = {"weights": None if likely else 1 / NOISE**2, "y0_prior": prior}
    data = sampled(**options)
    loss = jc.Gaussian(NOISE) if likely else jc.squared_error
    nlp = jc.transcribe(Affine(jnp.zeros(2)), data, GRID, l2=0.0, loss=loss, priors=PRIOR)
    sol = solved(nlp)
    rates = np.asarray(sol.nlp.head(sol.z))
    for channel, (mean, _) in enumerate(posterior(data.ys)):
        found = [sol.paths[0].states[0, channel], rates[channel]]
        np.testing.assert_allclose(found, mean, rtol=1e-7)


def test_the_objective_is_the_negative_logarithm_of_the_posterior():
    """N times the objective, up to a constant: half of that under a squared error."""
    data = [sampled(seed, weights=1 / NOISE**2, y0_prior=(START, SPREAD)) for seed in (0, 1)]
    model = Affine(jnp.zeros(2))
    plain = [jc.Trajectory(item.ts, item.ys, item.args, weights=item.weights) for item in data]
    bare = jc.transcribe(model, plain, GRID, l2=0.0)
    full = jc.transcribe(model, data, GRID, l2=0.0, priors=[PRIOR])
    likely = jc.transcribe(model, data, GRID, l2=0.0, priors=[PRIOR], loss=jc.Gaussian(1.0))
    bare_likely = jc.transcribe(model, plain, GRID, l2=0.0, loss=jc.Gaussian(1.0))
    z = np.random.default_rng(0).normal(size=bare.num_variables)
    states = bare.states_at(z)
    expected = np.sum(((bare.head(z) - MEAN) / STD) ** 2)
    expected += sum(np.sum(((item[0] - START) / SPREAD) ** 2) for item in states)
    count = 2 * len(TS)
    more = float(full.objective(z)) - float(bare.objective(z))
    assert more * count == pytest.approx(expected, rel=1e-9)
    more = float(likely.objective(z)) - float(bare_likely.objective(z))
    assert more * count == pytest.approx(expected / 2, rel=1e-9)


def test_the_arrival_cost_is_a_kalman_update():
    """Two windows, the second with the first one's filtered state, are one window."""
    matrix = np.array([[-0.2, 0.7], [-0.6, -0.1]])
    model = Linear(jnp.asarray(matrix))
    ts = np.linspace(0.0, 4.0, 41)
    ys = np.asarray(jc.simulate(model, ts, [1.0, 0.5]))
    ys = ys + NOISE * np.random.default_rng(0).normal(size=ys.shape)
    mean, covariance = START, np.diag(SPREAD**2)
    step = _transition(np.asarray(model.matrix, float), ts[1] - ts[0])
    filtered = []
    for k, sample in enumerate(ys):
        if k:
            mean, covariance = step @ mean, step @ covariance @ step.T
        gain = covariance @ np.linalg.inv(covariance + np.diag(NOISE**2))
        filtered.append((step @ mean, step @ covariance @ step.T))
        mean, covariance = mean + gain @ (sample - mean), covariance - gain @ covariance
        filtered[-1] = (step @ mean, step @ covariance @ step.T)

    def problem(first, last, prior):
        data = jc.Trajectory(ts[first:last], ys[first:last], weights=1 / NOISE**2, y0_prior=prior)
        grid = jc.Grid.uniform(ts[first], ts[last - 1], 10, jc.Radau(5))
        return jc.transcribe(model, data, grid, trainable=False)

    whole = solved(problem(0, 41, (START, SPREAD)))
    np.testing.assert_allclose(whole.paths[0].states[-1], mean, rtol=1e-6)
    late = solved(problem(21, 41, filtered[20]))
    np.testing.assert_allclose(late.paths[0].states[-1], mean, rtol=1e-6)
    # The other one is the wrong answer.
    diagonal = (filtered[20][0], np.sqrt(np.diag(filtered[20][1])))
    assert not np.allclose(solved(problem(21, 41, diagonal)).paths[0].states[-1], mean, rtol=1e-6)


def _transition(matrix, step):
    from scipy.linalg import expm

    return expm(matrix * step)


def test_another_arrival_cost_compiles_nothing(compilations):
    model = Linear(jnp.asarray([[-0.2, 0.7], [-0.6, -0.1]]))

    def window(seed, covariance):
        prior = (np.random.default_rng(seed).normal(size=2), covariance)
        return sampled(seed, weights=1 / NOISE**2, y0_prior=prior)

    nlp = jc.transcribe(model, window(0, [[2.0, 0.5], [0.5, 1.0]]), GRID, priors=())
    first = jc.solve(nlp, jc.InteriorPoint(), jc.guess(nlp, weights="as_given"))
    before = compilations.count
    other = nlp.with_data(window(1, [[0.1, 0.0], [0.0, 0.3]]))
    sol = jc.solve(other, jc.InteriorPoint(), first)
    assert sol.result.ok
    assert compilations.count == before
    assert other.parts.hessian_pattern is nlp.parts.hessian_pattern
    again = jc.transcribe(model, window(1, [[0.1, 0.0], [0.0, 0.3]]), GRID)
    assert sol.objective == pytest.approx(float(again.objective(sol.z)), rel=1e-12)


class Constants(eqx.Module):
    """Four positive constants, of which the optimizer sees something else each."""

    linear: jax.Array
    log: jax.Array
    softplus: jax.Array
    reciprocal: jax.Array

    def __call__(self, t, y, args):
        return jnp.stack([self.log[0] - self.softplus * y[0], self.linear + self.reciprocal * y[1]])


def constants(*priors, **options):
    model = Constants(*(jnp.asarray(value) for value in (0.4, [0.7, 2.0], 1.3, 0.6)))
    scales = (lambda m: m.log, "log"), (lambda m: m.softplus, "softplus")
    scale = jc.leafwise(
        model, None, (lambda m: m.linear, 2.5), (lambda m: m.reciprocal, "reciprocal"), *scales
    )
    data = sampled(weights=1 / NOISE**2, **options)
    return jc.transcribe(model, data, GRID, l2=0.0, weight_scale=scale, priors=priors)


PRIORS = [
    jc.Prior(lambda m: m.linear, 0.7, 0.3),
    jc.Prior(lambda m: m.log, [0.2, 0.4], [0.3, 0.5]),
    jc.Prior(lambda m: (m.softplus, m.reciprocal), 0.9, 0.2),
    jc.Prior(lambda m: m.log, 0.1, 0.4, scale="log"),
    jc.Prior(lambda m: [m.softplus, m.reciprocal], -0.5, 0.7, scale="log"),
]


@pytest.mark.parametrize("prior", PRIORS)
def test_priors_are_of_the_leaves_values_whatever_the_optimizer_sees(prior):
    nlp, bare = constants(prior), constants()
    z = np.array(nlp.pack(nlp.model, [np.full((10, 2), 0.3)]))
    rng = np.random.default_rng(0)
    z[: nlp.num_weights] *= 1 + 0.2 * rng.uniform(size=nlp.num_weights)
    values = jax.tree.leaves(prior.where(nlp.model_at(z)))
    flat = [np.log(value) if prior.scale == "log" else np.asarray(value) for value in values]
    expected = sum(np.sum(((value - prior.mean) / prior.std) ** 2) for value in flat) / len(TS)
    more = float(nlp.objective(z)) - float(bare.objective(z))
    assert more == pytest.approx(expected, rel=1e-5)
    # Derivatives, by central differences.
    dual, step = np.zeros(nlp.num_constraints), 1e-6
    with x64():
        gradient, hessian = (nlp.compiled.function(name) for name in ("gradient", "hessian"))
        dense = np.zeros((nlp.num_variables,) * 2)
        dense[nlp.hessian_structure] = hessian(z, dual, 1.0)
        traced = nlp.compiled.traced("hessian")(z, dual, 1.0)
        np.testing.assert_allclose(hessian(z, dual, 1.0), traced, rtol=1e-9, atol=1e-12)
        for k in range(nlp.num_weights):
            unit = step * np.eye(nlp.num_variables)[k]
            slope = (float(nlp.objective(z + unit)) - float(nlp.objective(z - unit))) / (2 * step)
            assert gradient(z)[k] == pytest.approx(slope, rel=1e-5, abs=1e-7)
            column = (gradient(z + unit) - gradient(z - unit)) / (2 * step)
            np.testing.assert_allclose(dense[k:, k], column[k:], rtol=1e-5, atol=1e-6)
        values = np.asarray(nlp.gauss_newton(z))
    rows, columns = nlp.gauss_newton_structure
    assert np.all(values[(rows == columns) & (rows < nlp.num_weights)] >= 0)


def test_a_covariance_is_a_quadratic_form_with_its_derivatives():
    covariance = np.array([[0.5, 0.2], [0.2, 0.3]])
    nlp, bare = constants(y0_prior=(START, covariance)), constants()
    z = 0.5 + 0.1 * np.random.default_rng(0).normal(size=nlp.num_variables)
    z[4] = -1.0
    away = nlp.states_at(z)[0][0] - START
    more = float(nlp.objective(z)) - float(bare.objective(z))
    expected = away @ np.linalg.solve(covariance, away) / len(TS)
    assert more == pytest.approx(expected, rel=1e-9)
    dense = []
    for item in (nlp, bare):
        matrix = np.zeros((nlp.num_variables,) * 2)
        matrix[item.gauss_newton_structure] = item.gauss_newton(z)
        dense.append(matrix)
        np.testing.assert_allclose(
            np.asarray(item.gradient(z)), jax_gradient(item, z), rtol=1e-8, atol=1e-10
        )
    first = nlp.num_weights + np.arange(2)
    added = (dense[0] - dense[1])[np.ix_(first, first)]
    expected = 2 * np.linalg.inv(covariance) / len(TS)
    np.testing.assert_allclose(added, np.tril(expected), rtol=1e-9)


def jax_gradient(nlp, z):
    with x64():
        return np.asarray(jax.grad(nlp.objective)(jnp.asarray(z)))


def test_components_without_a_prior_are_free():
    nan = np.nan
    bare = constants()
    z = 0.5 + 0.1 * np.random.default_rng(0).normal(size=bare.num_variables)
    z[4] = -1.0
    for prior in (([nan, 1.7], [0.1, 0.3]), ([1.2, 1.7], np.array([[nan, nan], [nan, 0.09]]))):
        more = float(constants(y0_prior=prior).objective(z)) - float(bare.objective(z))
        away = bare.states_at(z)[0][0, 1] - 1.7
        assert more == pytest.approx((away / 0.3) ** 2 / len(TS), rel=1e-9)


@pytest.mark.slow
def test_fine_tune_and_consensus_have_the_same_optimum():
    data = [sampled(seed, weights=1 / NOISE**2, y0_prior=(START, SPREAD)) for seed in range(4)]
    options = {"l2": 0.0, "priors": PRIOR}
    model = Affine(jnp.zeros(2))
    sol = solved(jc.transcribe(model, data, GRID, **options))
    joint = jc.fit_admm(
        model, data, batches=2, grid=GRID, max_rounds=60, rtol=1e-7, atol=1e-9, **options
    )
    np.testing.assert_allclose(joint.model.w, sol.model.w, rtol=1e-4)
    tuned = jc.fine_tune(sol.model, data, optax.sgd(0.0), steps=1, start=sol, **options)
    assert tuned.objective == pytest.approx(sol.objective, rel=1e-5)
    assert tuned.trace.objective[0] == pytest.approx(sol.objective, rel=1e-5)


def test_parts_of_a_trajectory_do_not_inherit_the_prior_of_its_start():
    parts = jc.windows(sampled(weights=1.0, y0_prior=(START, SPREAD)), 8)
    assert parts[0].y0_prior is not None
    assert all(item.y0_prior is None for item in parts[1:])


def test_fit_takes_priors():
    data = sampled(weights=1 / NOISE**2, y0_prior=(START, SPREAD))
    sol = jc.fit(Affine(jnp.zeros(2)), data, priors=PRIOR, starts=1)
    assert sol.verification.verdict.ok
    means = [mean for mean, _ in posterior(data.ys)]
    np.testing.assert_allclose(sol.model.w, [mean[1] for mean in means], rtol=1e-4)


def test_a_file_holds_the_prior_of_a_start(tmp_path):
    data = sampled(weights=1 / NOISE**2, y0_prior=(START, np.diag(SPREAD)))
    model = Affine(jnp.zeros(2))
    sol = solved(jc.transcribe(model, data, GRID, l2=0.0))
    sol.save(tmp_path / "run.jcs")
    back = jc.load(tmp_path / "run.jcs", like=model)
    assert float(back.nlp.objective(sol.z)) == pytest.approx(sol.objective, rel=1e-12)
    nlp = jc.transcribe(model, data, GRID, l2=0.0, priors=PRIOR)
    sol = solved(nlp)
    sol.save(tmp_path / "run.jcs")
    assert jc.load(tmp_path / "run.jcs", like=nlp).nlp is nlp


def test_settings_differ_where_priors_do():
    def settings(**options):
        return jc.Settings(priors=jc.Prior(lambda m: m.w, **options))

    one = settings(mean=0.0, std=1.0)
    assert one == settings(mean=0.0, std=1.0)
    assert one != settings(mean=0.0, std=2.0)
    assert one != settings(mean=0.0, std=1.0, scale="log")
    assert one != jc.Settings()


def transcribe(data=None, model=None, **options):
    data = sampled(weights=1.0) if data is None else data
    return jc.transcribe(Affine(jnp.ones(2)) if model is None else model, data, GRID, **options)


def start(value, **options):
    return sampled(weights=1.0, y0_prior=value, **options)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: jc.Prior("w", 0.0, 1.0), "`where` must be callable"),
        (lambda: jc.Prior(lambda m: m.w, np.nan, 1.0), "`mean` must be finite"),
        (lambda: jc.Prior(lambda m: m.w, 0.0, 0.0), "`std` must be finite numbers above zero"),
        (lambda: jc.Prior(lambda m: m.w, 0.0, 1.0, scale="ln"), '`scale` must be one of "linear"'),
        (lambda: transcribe(priors=[1.0]), "`priors` must be a jc.Prior or a list of them"),
        (lambda: transcribe(priors=jc.Prior(lambda m: m.v, 0.0, 1.0)), "`where` cannot be"),
        (lambda: transcribe(priors=jc.Prior(lambda m: 1.5, 0.0, 1.0)), "`priors` must have a `wh"),
        (lambda: transcribe(priors=PRIOR, trainable=False), "leaves that are trained"),
        (
            lambda: transcribe(priors=jc.Prior(lambda m: m.w, [1.0, 2.0, 3.0], 1.0)),
            r"`mean` of a prior must .* shape \(2,\)",
        ),
        (
            lambda: transcribe(priors=jc.Prior(lambda m: m.w, 0.0, 1.0, scale="log")),
            '`priors` on the scale "log" need leaves of which all values are positive',
        ),
        (lambda: transcribe(sampled(), priors=PRIOR), "`priors` counts against .* pass `weights`"),
        (lambda: transcribe(sampled(y0_prior=(START, 1.0))), "`y0_prior` counts against the data"),
        (
            lambda: jc.fit_admm(Affine(jnp.ones(2)), [sampled()], batches=1, priors=PRIOR),
            "`priors` counts against the data",
        ),
        (lambda: start(1.0), r"`y0_prior` must be \(mean, std\)"),
        (lambda: start((START, [1.0])), "`y0_prior` must be a finite mean and"),
        (lambda: start((START, [1.0, 0.0])), "`y0_prior` must have standard deviations above zero"),
        (lambda: start((START, [[1.0, 2.0], [2.0, 1.0]])), "`y0_prior` .* positive definite"),
        (lambda: start((START, [[1.0, 0.5], [0.0, 1.0]])), "`y0_prior` .* symmetric"),
        (lambda: start((START, 1.0), y0=[1.0, np.nan]), "`y0_prior` must be NaN .* `y0` knows"),
        (lambda: transcribe(start(([1.0], 1.0))), r"`y0_prior` must .* \(state,\) = \(2,\)"),
    ],
)
def test_says_what_is_wrong(make, message):
    with pytest.raises(ValueError, match=message):
        make()
