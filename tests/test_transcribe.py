"""transcribe: bad input, bounds, known starts."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import Linear, Net

import jaxcolloc as jc


GRID = jc.Grid.uniform(0.0, 1.0, 2, jc.Radau(2))
DATA = jc.Trajectory([0.0, 0.4, 1.0], np.ones((3, 2)))
MODEL = Net(2, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"grid": jc.Grid.single(0.0, 0.9, jc.Radau(2))}, r"`grid` must cover.*spans \[0, 1\]"),
        ({"grid": [GRID, GRID]}, "`grid` must be a Grid or a list of 1"),
        ({"grid": "fine"}, "`grid` must be a Grid"),
        ({"model": 3}, "`model` must be callable"),
        ({"model": Net(3, 2)}, "Matmul input operand|dot_general|incompatible"),
        ({"model": lambda t, y, args: y[:1]}, r"`model` must return an array of shape \(state,\)"),
        ({"num_states": 1}, "`num_states` must be an integer of at least 2"),
        ({"num_states": 3}, "dot_general|incompatible"),
        ({"observe": 3}, "`observe` must be callable"),
        ({"observe": lambda t, y, args: y[0]}, r"`observe` must return an array of shape \(obs,\)"),
        ({"l2": -1.0}, "`l2` must be a finite number at least zero"),
        ({"l2": np.nan}, "`l2` must be a finite number at least zero"),
        ({"state_bounds": (1, -1)}, "`state_bounds` must have lower < upper"),
        ({"state_bounds": 5}, r"`state_bounds` must be \(lower, upper\)"),
        ({"state_bounds": (np.zeros(3), 1)}, r"shape \(state,\) = \(2,\)"),
        ({"weight_bounds": ("a", 1)}, "`weight_bounds`"),
        ({"weight_bounds": (np.zeros(2), 1)}, "`weight_bounds`"),
        ({"data": []}, "`data` must be a Trajectory or a non-empty list"),
        ({"data": jc.Trajectory([0.0], [[1.0, 1.0]], y0=[1.0])}, r"`y0` must have shape"),
    ],
)
def test_refuses_bad_input(change, message):
    arguments = {"model": MODEL, "data": DATA, "grid": GRID} | change
    with pytest.raises((ValueError, TypeError), match=message):
        jc.transcribe(**arguments)


def test_refuses_a_known_start_outside_the_bounds():
    data = jc.Trajectory([0.0], [[1.0, 1.0]], y0=[7.0, np.nan])
    with pytest.raises(ValueError, match="`y0` must lie within `state_bounds`"):
        jc.transcribe(MODEL, data, GRID, state_bounds=(-5, 5))


def test_refuses_more_equations_than_variables():
    def without_weights(t, y, args):
        return -y

    data = jc.Trajectory([0.0], [[1.0, 1.0]], y0=[1.0, 1.0])
    with pytest.raises(ValueError, match="more equations"):
        jc.transcribe(without_weights, data, GRID, collocate_start=True)


def test_refuses_complex_and_infinite_weights():
    with pytest.raises(ValueError, match="`model` must have real weights"):
        jc.transcribe(Linear(jnp.eye(2) * 1j), DATA, GRID)
    with pytest.raises(ValueError, match="`model` must have finite weights"):
        jc.transcribe(Linear(jnp.full((2, 2), jnp.nan)), DATA, GRID)


def test_bounds_go_where_they_belong():
    data = [
        jc.Trajectory([0.0], [[1.0, 1.0]], y0=[2.0, np.nan]),
        jc.Trajectory([0.0], [[1.0, 1.0]]),
    ]
    bounds = ([-3.0, -np.inf], 4.0)
    nlp = jc.transcribe(MODEL, data, GRID, state_bounds=bounds, weight_bounds=(-9, 8))
    lower, upper = nlp.bounds
    weights, states = nlp.num_weights, nlp.num_weights + 10
    assert np.all(lower[:weights] == -9)
    assert np.all(upper[:weights] == 8)
    np.testing.assert_array_equal(lower[weights : weights + 4], [2.0, -np.inf, -3.0, -np.inf])
    np.testing.assert_array_equal(upper[weights : weights + 4], [2.0, 4.0, 4.0, 4.0])
    np.testing.assert_array_equal(lower[states : states + 2], [-3.0, -np.inf])


def test_any_callable_pytree_is_a_model():
    partial = jax.tree_util.Partial(lambda matrix, t, y, args: matrix @ y, jnp.eye(2))
    nlp = jc.transcribe(partial, DATA, GRID)
    assert nlp.num_weights == 4


def test_integer_leaves_and_float_attributes_are_no_weights():
    class Mixed(eqx.Module):
        matrix: jax.Array
        order: jax.Array
        factor: float

        def __call__(self, t, y, args):
            return self.factor * (self.matrix @ y)[self.order]

    model = Mixed(jnp.array([[1.0, 2.0], [3.0, 4.0]]), jnp.array([1, 0]), 2.0)
    nlp = jc.transcribe(model, DATA, GRID)
    assert nlp.num_weights == 4
    states = np.stack([np.cos(GRID.times), np.sin(GRID.times)], axis=1)
    slope = np.stack([-np.sin(GRID.times), np.cos(GRID.times)], axis=1)
    expected = slope[1:] - 2 * (states @ np.array([[1.0, 2.0], [3.0, 4.0]]).T)[1:, ::-1]
    values = np.asarray(nlp.constraints(nlp.pack(model, [states]))).reshape(-1, 2)
    np.testing.assert_allclose(values, expected, atol=0.05)  # the interpolation's error
