"""Likelihoods: their values and derivatives, and noise levels that are trained with the rest."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import Affine, Linear
from scipy import stats

import jaxcolloc as jc
from jaxcolloc._fit.penalties import penalties_of
from jaxcolloc._likelihoods import is_likelihood
from jaxcolloc._not_finite import where_not_finite
from jaxcolloc._precision import x64
from jaxcolloc._transcription.pieces import HostBlocks, SquaredError


TS = np.linspace(0.0, 3.0, 13)
GRID = jc.Grid.uniform(0.0, 3.0, 3, jc.Radau(3))


class Noisy(eqx.Module):
    """A linear system that knows its sensors: their gain and their noise."""

    matrix: jax.Array
    gain: jax.Array
    noise: jax.Array

    def __init__(self, noise=(0.3, 0.2)):
        self.matrix = jnp.asarray([[-0.3, 0.2], [0.1, -0.2]])
        self.gain = jnp.asarray([1.2, 0.8])
        self.noise = jnp.asarray(noise)

    def __call__(self, t, y, args):
        return self.matrix @ y

    def observe(self, t, y, args):
        return self.gain * y

    def spread(self, t, y, args):
        return self.noise * (1 + 0.1 * t)

    def likelihood(self, t, y, observed, args):
        missing = jnp.isnan(observed)
        sample = jnp.where(missing, 0.0, observed)
        error = jnp.where(missing, 0.0, self.observe(t, y, args) - sample) / self.noise
        each = 0.5 * error**2 + jnp.log(self.noise) + 0.5 * jnp.log(2 * jnp.pi)
        return jnp.sum(jnp.where(missing, 0.0, each))


def seen(seed=0, times=TS):
    """Positive samples, some of which are missing."""
    ys = np.exp(0.3 * np.random.default_rng(seed).normal(size=(len(times), 2)))
    ys[2, 0] = ys[5] = np.nan
    return ys


def transcribe(loss, data=None, model=None, **options):
    data = jc.Trajectory(TS, seen()) if data is None else data
    model = Noisy() if model is None else model
    return jc.transcribe(model, data, GRID, loss=loss, l2=0.0, **options)


def point(nlp, seed=1):
    """Somewhere with states above zero, which logarithms need."""
    rng = np.random.default_rng(seed)
    z = np.exp(0.3 * rng.normal(size=nlp.num_variables))
    return z


def predicted(nlp, z):
    """What the likelihoods predict of the only trajectory."""
    model, (states,) = nlp.unpack(z)
    at_data = nlp.grids[0].interpolate(states, nlp.trajectories[0].ts)
    return np.asarray(at_data) * np.asarray(model.gain), model


DENSITIES = {
    "normal": (jc.Gaussian([0.3, 0.2]), lambda x, mean: stats.norm.logpdf(x, mean, [0.3, 0.2])),
    "one std": (jc.Gaussian(0.3), lambda x, mean: stats.norm.logpdf(x, mean, 0.3)),
    "floor": (
        jc.Gaussian(0.3, min_std=0.4),
        lambda x, mean: stats.norm.logpdf(x, mean, 0.5),
    ),
    "log-normal": (
        jc.Gaussian([0.3, 0.2], scale="log"),
        lambda x, mean: stats.lognorm.logpdf(x, [0.3, 0.2], scale=mean),
    ),
    "t": (
        jc.StudentT([0.3, 0.2], 4),
        lambda x, mean: stats.t.logpdf(x, 4, loc=mean, scale=[0.3, 0.2]),
    ),
    "log t": (
        jc.StudentT(0.3, 2.5, scale="log"),
        lambda x, mean: stats.t.logpdf(np.log(x), 2.5, loc=np.log(mean), scale=0.3) - np.log(x),
    ),
}


@pytest.mark.parametrize("name", DENSITIES)
def test_the_objective_is_the_mean_of_negative_log_densities(name):
    loss, density = DENSITIES[name]
    model = Noisy()
    nlp = transcribe(loss, observe=model.observe, model=model)
    z = point(nlp)
    mean, _ = predicted(nlp, z)
    expected = -np.nansum(density(seen(), mean)) / (len(TS) - 1)
    assert float(nlp.objective(z)) == pytest.approx(expected, rel=1e-6)
    y, sample = np.array([0.7, 1.4]), seen()[2]
    alone = loss(0.0, y, sample, None, None)
    assert float(alone) == pytest.approx(-np.nansum(density(sample, y)), rel=1e-5)


LOSSES = {
    **{name: lambda model, loss=loss: loss for name, (loss, _) in DENSITIES.items()},
    "trained": lambda model: jc.Gaussian(lambda model: model.noise),
    "method": lambda model: jc.Gaussian(model.spread, min_std=0.1),
    "proportional": lambda model: jc.StudentT(lambda t, y, args, model: model.noise * y[:2], 5),
    "trained logarithms": lambda model: jc.Gaussian(lambda model: model.noise, scale="log"),
    "of one's own": lambda model: model.likelihood,
}


QUICK = ("log-normal", "trained", "of one's own")


def some_slow(names):
    return [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in names]


def two_trajectories(name, observed):
    """Of different lengths, with weights, one sample of which has none."""
    model = Noisy()
    weights = np.linspace(0.0, 2.0, 7)[:, None] * [1, 1]
    other = jc.Trajectory(TS[:7], seen(1, TS[:7]), weights=weights)
    options = {"observe": model.observe} if observed else {}
    return transcribe(LOSSES[name](model), [jc.Trajectory(TS, seen()), other], model, **options)


@pytest.mark.parametrize("observed", [pytest.param(False, marks=pytest.mark.slow), True])
@pytest.mark.parametrize("name", some_slow(LOSSES))
def test_derivatives_are_those_of_the_objective(name, observed):
    nlp = two_trajectories(name, observed)
    z, step = point(nlp), 1e-5
    dense = np.zeros((nlp.num_variables,) * 2)
    with x64():
        at = {which: nlp.compiled.function(which) for which in ("objective", "gradient", "hessian")}
        sides = (
            [z + step * unit for unit in np.eye(len(z))],
            [z - step * unit for unit in np.eye(len(z))],
        )
        slopes, columns = (
            np.array([at[which](a) - at[which](b) for a, b in zip(*sides, strict=True)])
            / (2 * step)
            for which in ("objective", "gradient")
        )
        np.testing.assert_allclose(at["gradient"](z), slopes, rtol=1e-6, atol=1e-7)
        dense[nlp.hessian_structure] = at["hessian"](z, np.zeros(nlp.num_constraints), 1.0)
    np.testing.assert_allclose(dense + np.tril(dense, -1).T, columns, rtol=1e-6, atol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["normal", "trained logarithms", "of one's own"])
def test_host_and_program_agree(name):
    nlp = two_trajectories(name, observed=name != "normal")
    z = point(nlp)
    with x64():
        given = {"gradient": (z,), "hessian": (z, np.zeros(nlp.num_constraints), 1.0)}
        if name != "of one's own":
            given["gauss_newton"] = (z, 1.0)
        for which, inputs in given.items():
            host, program = nlp.compiled.function(which), nlp.compiled.traced(which)
            np.testing.assert_allclose(host(*inputs), program(*inputs), rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("name", some_slow(name for name in LOSSES if name != "of one's own"))
def test_gauss_newton_is_fishers_information(name):
    """Positive semidefinite, and the mean of the exact Hessian over data from the model."""
    model = Noisy()
    loss = LOSSES[name](model)
    ys = np.abs(seen()) + 0.1
    nlp = transcribe(loss, jc.Trajectory(TS, ys), model, observe=model.observe)
    z = point(nlp)
    dense = np.zeros((nlp.num_variables,) * 2)
    dense[nlp.gauss_newton_structure] = nlp.gauss_newton(z)
    dense += np.tril(dense, -1).T
    eigenvalues = np.linalg.eigvalsh(dense)
    assert eigenvalues.min() > -1e-9 * eigenvalues.max()
    mean, at = predicted(nlp, z)
    spread = _std(loss, at, mean / np.asarray(at.gain), nlp)
    draws = stats.norm if isinstance(loss, jc.Gaussian) else functools.partial(stats.t, loss.df)
    # Quantiles in the place of draws, in another order for each channel and time.
    count = 100
    shares = (np.arange(count) + 0.5) / count
    errors = draws().ppf(shares)
    rng = np.random.default_rng(0)
    exact = np.zeros_like(dense)
    every = np.stack([[rng.permutation(errors) for _ in range(2)] for _ in TS])
    total = np.zeros(len(nlp.hessian_structure[0]))
    dual = np.zeros(nlp.num_constraints)
    for k in range(count):
        error = every[:, :, k]
        drawn = mean * np.exp(spread * error) if loss.scale == "log" else mean + spread * error
        drawn = np.where(np.isnan(ys), np.nan, drawn)
        total += np.asarray(nlp.with_data(jc.Trajectory(TS, drawn)).hessian(z, dual)) / count
    exact[nlp.hessian_structure] = total
    exact += np.tril(exact, -1).T
    size = np.sqrt(np.outer(np.diag(dense), np.diag(dense)))
    np.testing.assert_array_less(np.abs(exact - dense), 0.05 * size + 1e-12)


def _std(loss, model, states, nlp):
    """The standard deviations of a loss at the observations."""
    if isinstance(loss.std, np.ndarray):
        std = np.broadcast_to(loss.std, states.shape)
    else:
        bound = loss.of_model(nlp.model)
        std = np.stack(
            [
                np.broadcast_to(bound.std(t, y, None, model), (2,))
                for t, y in zip(TS, states, strict=True)
            ]
        )
    return np.sqrt(std**2 + loss.min_std**2)


def test_gauss_newton_of_a_likelihood_of_ones_own_is_refused():
    model = Noisy()
    nlp = transcribe(model.likelihood, model=model)
    with pytest.raises(ValueError, match="`loss` must not be a likelihood of your own"):
        nlp.gauss_newton(point(nlp))
    for solver in (jc.Ipopt(hessian="gauss_newton"), jc.InteriorPoint(hessian="gauss_newton")):
        with pytest.raises(ValueError, match='`solver` must have hessian="exact"'):
            jc.solve(nlp, solver, point(nlp))
        with pytest.raises(ValueError, match='`solver` must have hessian="exact"'):
            jc.solve_batch(nlp, solver, [point(nlp)])


def test_known_noise_is_not_compiled_for():
    def kinds(loss):
        return {type(item.blocks) for item in transcribe(loss).compiled.pieces.penalties}

    assert kinds(jc.Gaussian(0.3)) == kinds(jc.Gaussian([0.3, 2.0])) == {SquaredError}
    assert kinds(jc.Gaussian(0.3, scale="log")) == kinds(jc.StudentT(0.3, 4)) == {HostBlocks}


def solved(nlp, **options):
    start = jc.guess(nlp, weights="as_given")
    sol = jc.solve(nlp, jc.InteriorPoint(tol=1e-10, **options), start)
    assert sol.result.ok
    return sol


def affine_data(std, count=60, seed=0):
    """Samples of two lines and parabolas with noise of these standard deviations."""
    ts = np.linspace(0.0, 3.0, count)
    truth = np.stack([1 + 0.5 * ts, 2 - 0.2 * ts**2], axis=1)
    return jc.Trajectory(ts, truth + np.random.default_rng(seed).normal(size=(count, 2)) * std, 1.0)


class NoisyAffine(Affine):
    """A model that is linear in weights and states, with noise levels of its own."""

    noise: jax.Array


def noisy_affine():
    return NoisyAffine(jnp.zeros(2), jnp.ones(2))


def reciprocal(model):
    return jc.leafwise(model, None, (lambda m: m.noise, "reciprocal"))


@pytest.mark.parametrize("kind", [jc.Gaussian, functools.partial(jc.StudentT, df=1e7)])
def test_equal_known_noise_has_the_optimum_of_the_squared_error(kind):
    data = affine_data(0.1)
    model = Affine(jnp.zeros(2))
    plain = solved(jc.transcribe(model, data, GRID, l2=0.0))
    sol = solved(jc.transcribe(model, data, GRID, l2=0.0, loss=kind(0.3)))
    np.testing.assert_allclose(sol.z, plain.z, atol=1e-6)
    constant = 2 * np.log(0.3 * np.sqrt(2 * np.pi))
    expected = plain.objective / (2 * 0.09) + constant
    assert sol.objective == pytest.approx(expected, rel=1e-5)


def test_trained_noise_is_that_of_the_residuals():
    """In a linear problem the noise can be profiled out: its mean square, channel by channel."""
    data = affine_data([0.02, 0.3])
    model = noisy_affine()
    nlp = jc.transcribe(
        model, data, GRID, l2=0.0, loss=jc.Gaussian(lambda model: model.noise),
        weight_scale=reciprocal(model),
    )  # fmt: skip
    sol = solved(nlp)
    # Every channel is a least-squares problem of its own.
    powers = ((0, 1), (0, 2))
    for channel, exponents in enumerate(powers):
        design = np.stack([data.ts**power for power in exponents], axis=1)
        _, square, _, _ = np.linalg.lstsq(design, data.ys[:, channel], rcond=None)
        expected = np.sqrt(square[0] / len(data.ts))
        assert float(sol.model.noise[channel]) == pytest.approx(expected, rel=1e-5)
        assert expected == pytest.approx([0.02, 0.3][channel], rel=0.3)


def test_a_floor_keeps_the_likelihood_of_a_model_that_fits_exactly_finite():
    ts = np.linspace(0.0, 3.0, 10)
    data = jc.Trajectory(ts, np.stack([1 + 0.5 * ts, 2 - 0.2 * ts**2], axis=1), 1.0)
    model = noisy_affine()
    nlp = jc.transcribe(
        model, data, GRID, l2=0.0, weight_scale=reciprocal(model),
        weight_bounds=jc.leafwise(model, None, (lambda m: m.noise, (1e-4, None))),
        loss=jc.Gaussian(lambda model: model.noise, min_std=0.01),
    )  # fmt: skip
    sol = jc.solve(nlp, jc.InteriorPoint(), jc.guess(nlp, weights="as_given"))
    assert sol.result.ok
    least = 2 * np.log(np.sqrt(0.01**2 + 1e-8) * np.sqrt(2 * np.pi))
    assert sol.objective == pytest.approx(least, abs=1e-2)


def test_fit_finds_proportional_noise():
    model = Noisy(noise=(0.5, 0.5))
    ts = np.linspace(0.0, 3.0, 300)
    states = np.asarray(jc.simulate(model, ts, [2.0, 1.0])) * np.asarray(model.gain)
    share = np.array([0.05, 0.02])
    noise = np.random.default_rng(0).normal(size=states.shape)
    data = jc.Trajectory(ts, states * (1 + share * noise))

    def spread(t, y, args, model):
        return model.noise * model.observe(t, y, args)

    start = eqx.tree_at(lambda m: m.matrix, model, 0.5 * model.matrix)
    sol = jc.fit(
        start, data, observe=model.observe, loss=jc.Gaussian(spread), starts=2,
        weight_scale=reciprocal(model),
        trainable=jc.leafwise(model, True, (lambda m: m.gain, False)),
    )  # fmt: skip
    assert sol.verification.verdict is jc.VERDICT.good
    # The standard error is that of a standard deviation of 300 samples.
    np.testing.assert_allclose(sol.model.noise, share, rtol=4 / np.sqrt(600))


def test_a_weight_of_two_counts_a_sample_twice():
    loss = jc.StudentT(0.3, 4)
    ys = seen()
    once = jc.Trajectory(TS, ys, weights=np.where(TS > 1, 2.0, 1.0)[:, None] * [1, 1])
    rows = np.sort(np.append(np.arange(len(TS)), np.flatnonzero(TS > 1)))
    twice = jc.Trajectory(TS[rows], ys[rows])
    one, other = transcribe(loss, once), transcribe(loss, twice)
    z = point(one)
    counts = [item.observed.sum() for item in (once, twice)]
    values = [float(nlp.objective(z)) * n for nlp, n in zip((one, other), counts, strict=True)]
    assert values[0] == pytest.approx(values[1], rel=1e-12)


def test_data_of_extreme_magnitude_are_not_weighted():
    data = jc.Trajectory(TS, 1e6 * seen())
    assert np.all(transcribe(jc.Gaussian(1e5), data).trajectories[0].weights == 1)
    assert np.all(transcribe(jc.squared_error, data).trajectories[0].weights != 1)


def test_likelihoods_are_told_from_losses():
    model = Noisy()
    for loss in (jc.Gaussian(1.0), jc.StudentT(1.0, 3), model.likelihood):
        assert is_likelihood(loss)
    assert is_likelihood(lambda t, y, observed, args, model: 0.0)
    for loss in (jc.squared_error, jc.PseudoHuber(1.0), lambda residual, weights: 0.0):
        assert not is_likelihood(loss)


def test_the_ladder_of_penalties_is_that_of_the_squared_error_in_units_of_the_noise():
    ts = np.linspace(0.0, 6.0, 200)
    noise = 0.1 * np.random.default_rng(0).normal(size=(200, 1))
    data = (jc.Trajectory(ts, np.sin(ts)[:, None] + noise),)
    plain, likely = penalties_of(None, data), penalties_of(None, data, jc.Gaussian(0.1))
    assert likely.variance == pytest.approx(plain.variance / (2 * 0.1**2), rel=0.2)
    scaled = (jc.Trajectory(ts, 1e5 * data[0].ys),)
    assert penalties_of(None, scaled, jc.Gaussian(0.1)).variance == pytest.approx(likely.variance)


@pytest.mark.slow
def test_fit_chooses_a_penalty_by_held_out_data():
    ts = np.linspace(0.0, 6.0, 80)
    ys = np.stack([np.cos(2 * ts), -np.sin(2 * ts)], axis=1)
    ys += np.random.default_rng(0).normal(size=ys.shape) * [0.03, 0.1]
    matrix = jnp.asarray([[0.0, 1.5], [-1.5, 0.0]])
    start = NoisyLinear(matrix, jnp.ones(2))
    sol = jc.fit(
        start, jc.Trajectory(ts, ys), loss=jc.Gaussian(lambda m: m.noise, min_std=1e-3),
        weight_scale=reciprocal(start), starts=3,
    )  # fmt: skip
    assert sol.verification.verdict.ok
    assert len(sol.stats["selection"]) > 1
    np.testing.assert_allclose(sol.model.noise, [0.03, 0.1], rtol=0.3)


class NoisyLinear(Linear):
    """y' = A y, with noise levels of its own."""

    noise: jax.Array


def test_the_unknown_noise_of_data_of_one_experiment():
    """Arguments and unknowns reach a likelihood."""
    data = affine_data(0.3)
    unknown = jc.Trajectory(data.ts, data.ys, {"w": 1.0, "noise": jc.Unknown(1.0, scale="log")})

    class Model(eqx.Module):
        w: jax.Array

        def __call__(self, t, y, args):
            return args["w"] * self.w * jnp.stack([jnp.ones_like(t), t])

    loss = jc.Gaussian(lambda t, y, args: args["noise"])
    sol = solved(jc.transcribe(Model(jnp.zeros(2)), unknown, GRID, l2=0.0, loss=loss))
    plain = solved(jc.transcribe(Affine(jnp.zeros(2)), data, GRID, l2=0.0))
    expected = np.sqrt(plain.objective / 2)
    assert float(sol.args[0]["noise"]) == pytest.approx(expected, rel=1e-5)


def test_a_float32_program_trains_noise(caller_x64):
    data = affine_data([0.02, 0.3])
    model = noisy_affine()
    nlp = jc.transcribe(
        model, data, GRID, l2=0.0, loss=jc.StudentT(lambda model: model.noise, 30),
        weight_scale=reciprocal(model),
    )  # fmt: skip
    sol = solved(nlp)
    assert sol.model.noise.dtype == model.noise.dtype
    assert sol.z.dtype == np.float64


@pytest.mark.slow
def test_fine_tune_and_consensus_have_the_same_optimum():
    data = [affine_data([0.1, 0.3], 30, seed) for seed in range(4)]
    model = noisy_affine()
    loss = jc.Gaussian(lambda model: model.noise)
    options = {"loss": loss, "weight_scale": reciprocal(model)}
    nlp = jc.transcribe(model, data, GRID, l2=0.0, **options)
    sol = solved(nlp)
    joint = jc.fit_admm(
        model, data, batches=2, grid=GRID, l2=0.0, max_rounds=60, rtol=1e-6, atol=1e-8, **options
    )
    np.testing.assert_allclose(joint.model.noise, sol.model.noise, rtol=1e-3)
    tuned = jc.fine_tune(sol.model, data, optax.sgd(0.0), steps=1, start=sol, l2=0.0, **options)
    assert tuned.objective == pytest.approx(sol.objective, rel=1e-5)


def test_files_hold_known_noise_and_ask_for_functions(tmp_path):
    model = Noisy()
    for loss in (jc.Gaussian([0.3, 0.2], min_std=0.1), jc.StudentT(0.3, 4, scale="log")):
        sol = solved(transcribe(loss, model=model), max_steps=200)
        sol.save(tmp_path / "run.jcs")
        back = jc.load(tmp_path / "run.jcs", like=model)
        assert back.nlp.settings == sol.nlp.settings
        assert float(back.nlp.objective(sol.z)) == pytest.approx(sol.objective, rel=1e-12)
    nlp = transcribe(jc.Gaussian(lambda model: model.noise, min_std=0.1), model=model)
    sol = jc.solve(nlp, jc.InteriorPoint(max_steps=2), point(nlp), throw=False)
    sol.save(tmp_path / "run.jcs")
    assert jc.load(tmp_path / "run.jcs", like=nlp).nlp is nlp


def test_settings_differ_where_likelihoods_do():
    def settings(loss):
        return jc.Settings(loss=loss)

    assert settings(jc.Gaussian(0.1)) == settings(jc.Gaussian(0.1))
    others = [
        jc.Gaussian(0.2), jc.Gaussian(0.1, scale="log"), jc.Gaussian(0.1, min_std=0.1),
        jc.StudentT(0.1, 4), jc.StudentT(0.1, 5), jc.Gaussian(lambda model: model.noise),
    ]  # fmt: skip
    for other in others:
        assert settings(jc.Gaussian(0.1)) != settings(other)


def test_other_data_and_known_noise_compile_nothing(compilations):
    def evaluated(std, seed):
        nlp = transcribe(jc.StudentT(std, 4), jc.Trajectory(TS, seen(seed)))
        nlp.gradient(point(nlp)), nlp.hessian(point(nlp), np.zeros(nlp.num_constraints))

    evaluated([0.3, 0.2], 0)
    before = compilations.count
    evaluated([0.1, 0.7], 1)
    assert compilations.count == before


def test_a_likelihood_that_uses_what_is_missing_is_found():
    def careless(t, y, observed, args):
        return jnp.nansum((y - observed) ** 2)

    nlp = transcribe(careless)
    found = where_not_finite(nlp, point(nlp))
    assert "`loss`" in found
    assert "jnp.where" in found


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: jc.Gaussian(0.0), "`std` must be numbers above zero"),
        (lambda: jc.Gaussian([1.0, -1.0]), "`std` must be numbers above zero"),
        (lambda: jc.Gaussian([[1.0]]), "`std` must be numbers above zero"),
        (lambda: jc.Gaussian(np.nan), "`std` must be numbers above zero"),
        (lambda: jc.Gaussian("log"), "`std` must"),
        (lambda: jc.Gaussian(jc.Gaussian), "`std` must be numbers or a function"),
        (lambda: jc.Gaussian(1.0, scale="ln"), '`scale` must be one of "linear", "log"'),
        (lambda: jc.Gaussian(1.0, min_std=-1.0), "`min_std` must be a finite number at least zero"),
        (lambda: jc.StudentT(1.0, 0), "`df` must be a finite number above zero"),
        (lambda: transcribe(jc.Gaussian([1.0, 1.0, 1.0])), r"`std` must .*\(obs,\) = \(2,\)"),
        (lambda: transcribe(jc.Gaussian(lambda m: m.noise[:1])), r"`std` must .*\(obs,\) ="),
        (lambda: transcribe(jc.Gaussian(lambda m: None)), "`std` must return a number or an array"),
        (lambda: transcribe(jc.Gaussian(lambda m: m.sigma)), "`std` cannot be .*AttributeError"),
        (lambda: transcribe(jc.Gaussian(lambda m, t: 1.0)), "`std` cannot be .*other arguments"),
        (
            lambda: transcribe(jc.Gaussian(1.0, scale="log"), jc.Trajectory(TS, -seen())),
            '`ys` must be above zero for errors on the scale "log"; .* in trajectory 0',
        ),
        (
            lambda: transcribe(lambda t, y, observed, args, model: y),
            "`loss` must return a scalar",
        ),
        (
            lambda: transcribe(lambda t, y, observed, args, model: model.sigma),
            r"`loss` cannot be evaluated as loss\(t, y, observed, args, model\)",
        ),
        (
            lambda: transcribe(
                lambda t, y, observed, args: 0.0, jc.Trajectory(TS, seen(), weights=[1.0, 2.0])
            ),
            "`weights` must be the same for all channels .* differ in trajectory 0",
        ),
        (lambda: transcribe(3.0), "`loss` must be callable as loss"),
    ],
)
def test_says_what_is_wrong(make, message):
    with pytest.raises(ValueError, match=message):
        make()
