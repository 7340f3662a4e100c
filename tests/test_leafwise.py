"""Options per leaf: prefixes, scales, bounds, frozen leaves."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import Plant

import jaxcolloc as jc
from jaxcolloc._transform import as_scale


GRID = jc.Grid.uniform(0.0, 1.0, 2, jc.Radau(2))
TS = np.array([0.0, 0.4, 1.0])


class Rates(eqx.Module):
    """y' = (gain - rate) * y, with a matrix that plays no part."""

    rate: jax.Array
    gain: jax.Array
    matrix: jax.Array

    def __call__(self, t, y, args):
        return (self.gain - self.rate) * y + 0 * jnp.sum(self.matrix)


MODEL = Rates(jnp.asarray(0.5), jnp.asarray(2.0), jnp.asarray([[1.0, 2.0]]))


def nlp_of(model=MODEL, **options):
    return jc.transcribe(model, jc.Trajectory(TS, np.ones((3, 1))), GRID, **options)


def test_leafwise_has_the_models_structure():
    model = Plant()
    tree = jc.leafwise(model, 1.0, (lambda m: m.net, 2.0), (lambda m: m.net.layers[0].bias, 3.0))
    assert isinstance(tree, Plant)
    assert tree.net.layers[0].weight == 2.0
    assert tree.net.layers[0].bias == 3.0
    assert tree.rate == 1.0
    pair = jc.leafwise(model, None, (lambda m: (m.rate, m.gain), (0.0, 1.0)))
    assert pair.rate == (0.0, 1.0)
    assert pair.gain == (0.0, 1.0)
    assert pair.exponent is None


@pytest.mark.parametrize("pair", [3, (lambda m: m.net,), (lambda m: 3.5, 1.0)])
def test_leafwise_refuses_what_picks_nothing(pair):
    with pytest.raises(ValueError, match="`pairs` must"):
        jc.leafwise(Plant(), None, pair)


def test_bounds_stand_at_their_leaves_on_their_scales():
    bounds = jc.leafwise(
        MODEL, (-9, 9), (lambda m: m.rate, (0.1, 2.0)), (lambda m: m.matrix, ([[0, -1]], 4.0))
    )
    bounds = eqx.tree_at(lambda m: m.matrix, bounds, (np.array([0.0, -1.0]), 4.0))
    scale = jc.leafwise(MODEL, None, (lambda m: m.rate, "log"), (lambda m: m.gain, 10.0))
    nlp = nlp_of(weight_bounds=bounds, weight_scale=scale)
    lower, upper = nlp.bounds
    np.testing.assert_allclose(lower[:4], [np.log(0.1), -0.9, 0.0, -1.0])
    np.testing.assert_allclose(upper[:4], [np.log(2.0), 0.9, 4.0, 4.0])


def test_a_positive_scale_turns_a_bound_at_zero_into_none():
    scale = jc.leafwise(MODEL, None, (lambda m: m.rate, "softplus"))
    nlp = nlp_of(weight_bounds=(0.0, None), weight_scale=scale)
    lower, upper = nlp.bounds
    np.testing.assert_array_equal(lower[:2], [-np.inf, 0.0])
    assert np.all(np.isinf(upper[:4]))


def test_bounds_of_a_reciprocal_are_those_of_the_weight():
    limits = (np.array([0.5, 0.0, 0.0]), np.array([2.0, 4.0, np.inf]))
    lower, upper = (as_scale("reciprocal").limit(side) for side in limits)
    np.testing.assert_array_equal(lower, [-2.0, -np.inf, -np.inf])
    np.testing.assert_array_equal(upper, [-0.5, -0.25, 0.0])
    variable = np.array([-0.5, -2.0])
    step = 1e-6
    values = [as_scale("reciprocal").outward(variable + side) for side in (step, -step)]
    slope = (values[0] - values[1]) / (2 * step)
    np.testing.assert_allclose(as_scale("reciprocal").rate(variable), slope, rtol=1e-6)


@pytest.mark.parametrize("scale", ["log", "softplus", "reciprocal", 1e-4, "linear"])
def test_pack_and_unpack_are_inverse_on_every_scale(scale):
    nlp = nlp_of(weight_scale=scale)
    states = [np.ones((GRID.num_nodes, 1))]
    model, _ = nlp.unpack(nlp.pack(MODEL, states))
    for one, other in zip(jax.tree.leaves(MODEL), jax.tree.leaves(model), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)
        assert one.dtype == other.dtype


@pytest.mark.parametrize("name", ["log", "softplus", "reciprocal"])
def test_scales_survive_extreme_values(name):
    scale = as_scale(name)
    values = np.array([1e-9, 1e-3, 1.0, 30.0, 700.0])
    with jax.enable_x64(True):
        again = np.asarray(scale.outward(jnp.asarray(scale.inward(values))))
    np.testing.assert_allclose(again, values, rtol=1e-7)


def test_the_ridge_acts_per_leaf_on_the_optimizers_variable():
    scale = jc.leafwise(MODEL, None, (lambda m: m.rate, "log"))
    l2 = jc.leafwise(MODEL, 0.0, (lambda m: m.rate, 3.0), (lambda m: m.gain, 0.5))
    states = [np.ones((GRID.num_nodes, 1))]
    with_ridge, without = nlp_of(weight_scale=scale, l2=l2), nlp_of(weight_scale=scale, l2=0.0)
    z = with_ridge.pack(MODEL, states)
    difference = float(with_ridge.objective(z)) - float(without.objective(z))
    assert difference == pytest.approx(3.0 * np.log(0.5) ** 2 + 0.5 * 4.0, rel=1e-6)


@pytest.mark.parametrize(
    "trainable",
    [
        jc.leafwise(MODEL, False, (lambda m: m.gain, True)),
        lambda leaf: eqx.is_array(leaf) and leaf.shape == () and float(leaf) == 2.0,
    ],
)
def test_frozen_leaves_are_no_weights_and_keep_their_values(trainable):
    ts = np.linspace(0.0, 1.0, 9)
    data = jc.Trajectory(ts, np.exp(0.8 * ts)[:, None])
    nlp = jc.transcribe(MODEL, data, GRID, l2=0.0, trainable=trainable)
    assert nlp.num_weights == 1
    sol = jc.solve(nlp, jc.Ipopt(), jc.guess(nlp))
    assert float(sol.model.gain) == pytest.approx(1.3, abs=1e-3)
    assert float(sol.model.rate) == 0.5
    np.testing.assert_array_equal(sol.model.matrix, MODEL.matrix)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight_bounds": 3}, r"`weight_bounds` must be \(lower, upper\)"),
        ({"weight_bounds": (2, 1)}, "`weight_bounds` must have lower < upper"),
        ({"weight_bounds": (np.nan, 1)}, "`weight_bounds` must not be NaN"),
        ({"weight_bounds": (np.zeros(7), 1)}, "`weight_bounds` must be .* fit the leaf's shape"),
        ({"weight_scale": "cubic"}, '`weight_scale` must be "linear"'),
        ({"weight_scale": -1.0}, '`weight_scale` must be "linear"'),
        ({"trainable": 3}, "`trainable` must be a bool"),
        ({"l2": "much"}, "`l2` must be a finite number at least zero"),
        ({"l2": {"rate": 1.0}}, "`l2` must be a finite number at least zero"),
    ],
)
def test_refuses_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        nlp_of(**options)


def test_refuses_a_log_scale_below_zero():
    model = eqx.tree_at(lambda m: m.rate, MODEL, jnp.asarray(-0.5))
    with pytest.raises(ValueError, match=r'`weight_scale` can be "log" only where .* above zero'):
        nlp_of(model, weight_scale=jc.leafwise(model, None, (lambda m: m.rate, "log")))
