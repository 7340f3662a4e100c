"""Guesses: Xavier weights, gradient matching, states."""

import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import SPIRAL, Linear, Net, spiral

import jaxcolloc as jc
from jaxcolloc._guess.gradient_matching import _Misfit, points_each
from jaxcolloc._guess.guess import _curve_slopes
from jaxcolloc._guess.states import smooth_curves
from jaxcolloc._precision import x64
from jaxcolloc._transcription.blocks import over_points
from jaxcolloc._transcription.point_functions import VectorField


TS = np.linspace(0.0, 4.0, 60)
GRID = jc.Grid.uniform(0.0, 4.0, 10, jc.Radau(3))


def nlp_of(model, **options):
    return jc.transcribe(model, jc.Trajectory(TS, spiral(TS)), GRID, **options)


def test_xavier_draws_within_its_limits_and_leaves_the_rest():
    class Hybrid(Net):
        rate: jax.Array = None

        def __init__(self):
            super().__init__(2, 30)
            self.rate = jnp.asarray([3.5])

    model = Hybrid()
    drawn = jc.xavier(model, jax.random.key(0))
    limit = np.sqrt(6 / 32)
    first = np.asarray(drawn.mlp.layers[0].weight)
    assert np.abs(first).max() <= limit
    assert np.std(first) == pytest.approx(limit / np.sqrt(3), rel=0.2)
    np.testing.assert_array_equal(drawn.mlp.layers[0].bias, 0.0)
    np.testing.assert_array_equal(drawn.rate, [3.5])
    assert not np.array_equal(first, jc.xavier(model, jax.random.key(1)).mlp.layers[0].weight)
    np.testing.assert_array_equal(first, jc.xavier(model, jax.random.key(0)).mlp.layers[0].weight)


@pytest.mark.parametrize("key", [0, None, np.zeros(2), "key"])
def test_xavier_refuses_what_is_no_key(key):
    with pytest.raises(ValueError, match="`key` must be a PRNG key"):
        jc.xavier(Net(2, 3), key)


def test_old_style_keys_work():
    jc.xavier(Net(2, 3), jax.random.PRNGKey(0))


def test_gradient_matching_finds_a_linear_field():
    guess = jc.guess(nlp_of(Linear(jnp.zeros((2, 2)))))
    np.testing.assert_allclose(np.asarray(guess.model.matrix), SPIRAL, atol=0.15)


def test_gradient_matching_from_given_states_is_exact():
    nlp = nlp_of(Linear(jnp.zeros((2, 2))))
    guess = jc.guess(nlp, states=[spiral(GRID.times)])
    np.testing.assert_allclose(np.asarray(guess.model.matrix), SPIRAL, atol=1e-2)
    np.testing.assert_array_equal(guess.states[0], spiral(GRID.times))


def test_gradient_matching_works_alone(caller_x64):
    rng = np.random.default_rng(0)
    data = [
        jc.Trajectory(ts, spiral(ts) + 0.01 * rng.normal(size=(len(ts), 2)), args)
        for ts, args in ((TS, np.float64(1.0)), (TS[:30], np.float64(2.0)), (TS, (1.0, 2.0)))
    ]
    model = Linear(jnp.zeros((2, 2)))
    matched = jc.match_gradients(model, data)
    assert matched.matrix.dtype == model.matrix.dtype
    np.testing.assert_allclose(np.asarray(matched.matrix), SPIRAL, atol=0.3)
    with pytest.raises(ValueError, match="`l2`"):
        jc.match_gradients(model, data, l2=-1)
    with pytest.raises(ValueError, match="`data`"):
        jc.match_gradients(model, 3)


class Scaled(Linear):
    """y' = args * matrix y + bias."""

    bias: jax.Array

    def __call__(self, t, y, args):
        return args[0] * self.matrix @ y + args[1] * self.bias


@pytest.mark.slow
def test_gradient_matching_knows_its_derivatives():
    known, found = jnp.ones(2), jc.Unknown(np.array([1.0, 2.0]))
    data = [jc.Trajectory(TS, spiral(TS) * size, args)
            for size, args in ((1, known), (2, found), (3, found))]  # fmt: skip
    nlp = jc.transcribe(Scaled(jnp.eye(2), jnp.ones(2)), data, GRID)
    slopes = _curve_slopes(nlp, smooth_curves(nlp, 3.0))
    nets = np.arange(nlp.num_weights) < 4
    rng = np.random.default_rng(0)
    misfit = _Misfit(rng.normal(size=nlp.layout.num_head), slopes, nets, 0.3)
    head = rng.normal(size=nlp.layout.num_head)

    def along(step):
        """The value along a direction, a polynomial of the fourth degree: weights times args."""
        ts = np.linspace(-1.0, 1.0, 9)
        values = [misfit.value(head + t * step) for t in ts]
        return np.polynomial.Polynomial.fit(ts, values, 4).convert().coef

    for _ in range(3):
        step = rng.normal(size=len(head))
        assert along(step)[1] == pytest.approx(misfit.gradient(head) @ step, rel=1e-8)
    # The Hessian is that of residuals without curvature, as those are in the weights alone.
    step = np.append(rng.normal(size=nlp.num_weights - 2), np.zeros(2 + 2 * 2))
    assert along(step)[2] == pytest.approx(step @ misfit.hessian(head) @ step / 2, rel=1e-8)


@pytest.mark.slow
def test_gradient_matching_ends_as_low_as_another_least_squares_solver():
    """JAXopt's Levenberg-Marquardt method on the same residuals, from the same start."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="JAXopt is no longer maintained")
        import jaxopt

    nlp = nlp_of(Net(2, 8))
    slopes = _curve_slopes(nlp, smooth_curves(nlp, 3.0))
    start = nlp.layout.model.flatten("model", jc.xavier(nlp.model, jax.random.key(0)))
    misfit = _Misfit(start, slopes, np.ones(len(start), bool), 1e-4)
    (item,) = slopes
    unit = np.sqrt(np.mean(item.slope[0] ** 2, axis=0) * item.num_points)
    with x64():
        field = VectorField(nlp.layout.model)

        def residual(w):
            values = over_points(field, w, item.points, item.y, nlp.num_weights)
            return jnp.concatenate([((values - item.slope) / unit).ravel(), 1e-2 * w])

        other = jaxopt.LevenbergMarquardt(residual, maxiter=300, materialize_jac=True)
        reached = float(jnp.sum(residual(other.run(jnp.asarray(start)).params) ** 2)) / 2
    assert misfit.value(start) > 3 * reached
    assert misfit.value(misfit.lowered(300)) < 1.2 * reached


@pytest.mark.parametrize(("samples", "num", "each"), [(2, 1, 8), (16, 3, 60), (500, 4, 250)])
def test_slopes_are_matched_at_as_many_times_as_the_samples_tell_apart(samples, num, each):
    ts = np.linspace(0.0, 1.0, samples)
    long, short = (jc.Trajectory(item, spiral(item)) for item in (ts, ts[:2]))
    assert points_each([short] * (num - 1) + [long]) == each


def test_gradient_matching_lowers_the_defects():
    nlp = nlp_of(Net(2, 8))
    key = jax.random.key(0)
    drawn = jc.guess(nlp, key=key, weights="xavier")
    matched = jc.guess(nlp, key=key)
    np.testing.assert_array_equal(drawn.states[0], matched.states[0])

    def size(guess):
        return np.sqrt(np.mean(np.asarray(nlp.constraints(guess.z)) ** 2))

    assert size(matched) < 0.3 * size(drawn)


def test_as_given_keeps_the_models_weights():
    model = Net(2, 4, seed=5)
    guess = jc.guess(nlp_of(model), weights="as_given", key=jax.random.key(0))
    np.testing.assert_array_equal(guess.model.mlp.layers[0].weight, model.mlp.layers[0].weight)


def test_the_same_key_gives_the_same_guess():
    nlp = nlp_of(Net(2, 4))
    one, other = (jc.guess(nlp, key=jax.random.key(3)) for _ in range(2))
    np.testing.assert_array_equal(one.z, other.z)


def test_stays_within_bounds_and_keeps_known_starts():
    data = jc.Trajectory(TS, spiral(TS), y0=[0.25, np.nan])
    nlp = jc.transcribe(Net(2, 4), data, GRID, state_bounds=(-0.3, 0.3), weight_bounds=(-0.1, 0.1))
    guess = jc.guess(nlp, key=jax.random.key(0))
    lower, upper = nlp.bounds
    assert np.all((guess.z >= lower) & (guess.z <= upper))
    assert guess.states[0][0, 0] == 0.25


def test_works_with_several_trajectories_of_other_lengths():
    rng = np.random.default_rng(0)
    data = [
        jc.Trajectory(ts, spiral(ts) + 0.02 * rng.normal(size=(len(ts), 2)))
        for ts in (np.linspace(0, 4, 50), np.array([0.0, 1.0]), np.sort(rng.uniform(0, 3, 20)))
    ]
    nlp = jc.transcribe(Linear(jnp.zeros((2, 2))), data, GRID)
    guess = jc.guess(nlp)
    assert np.all(np.isfinite(guess.z))
    assert len(guess.states) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": "random"}, '`weights` must be one of "gradient_matching"'),
        ({"states": "spline"}, '`states` must be one of "smooth"'),
        ({"weights": "xavier"}, '`key` must be a PRNG key with weights="xavier"'),
        ({"states": [np.zeros((3, 2))]}, r"`states\[0\]` must have shape"),
        ({"key": 7}, "`key` must be a PRNG key"),
    ],
)
def test_refuses_bad_input(options, message):
    with pytest.raises(ValueError, match=message):
        jc.guess(nlp_of(Net(2, 3)), **options)


def test_a_known_start_is_a_sample_of_the_smoothed_data():
    data = jc.Trajectory([4.0], [[2.0, -4.0]], y0=[0.0, np.nan])
    nlp = jc.transcribe(Net(2, 3), data, GRID)
    guess = jc.guess(nlp, key=jax.random.key(0), weights="xavier")
    np.testing.assert_allclose(guess.states[0][:, 0], GRID.times / 2, atol=1e-12)
    np.testing.assert_allclose(guess.states[0][:, 1], -4.0)


class Rooted(eqx.Module):
    """A field that has values everywhere and, where its second weight is zero, no derivative."""

    rate: jax.Array
    push: jax.Array

    def __call__(self, t, y, args):
        root = jnp.where(self.push > 0, jnp.sqrt(self.push), 0.0)
        return jnp.stack([(y[1] - 1.5) * self.rate, -(y[0] - 1.5) + root])


@pytest.mark.parametrize("push", [0.01, 1.0, 4.0])
def test_gradient_matching_stays_where_there_are_derivatives(push):
    start = Rooted(jnp.asarray(1.3), jnp.asarray(push))
    ys = 1.5 + np.stack([np.cos(TS), -np.sin(TS)], axis=1)
    found = jc.match_gradients(start, jc.Trajectory(TS, ys))
    assert np.isfinite(found.rate)
    assert np.isfinite(found.push)
