"""Sparsity detection and colouring."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxcolloc._transcription.pattern import color_columns, hessian_mask, jacobian_mask, read_off


def test_masks_do_not_depend_on_the_values_of_other_inputs():
    def function(x, gain):
        return jnp.stack([gain * x[0] * x[1], x[2]])

    for gain in (0.0, 1.0):
        mask = jacobian_mask(function, jnp.zeros(3), jnp.asarray(gain))
        np.testing.assert_array_equal(mask, [[True, True, False], [False, False, True]])
        mask = hessian_mask(
            lambda x, gain: function(x, gain).sum(), jnp.zeros(3), jnp.asarray(gain)
        )
        np.testing.assert_array_equal(mask, [[0, 1, 0], [1, 0, 0], [0, 0, 0]])


def test_unknown_operations_give_a_dense_mask():
    def function(x):
        return jnp.real(jnp.fft.fft(x))

    with pytest.warns(UserWarning, match="could not be detected"):
        assert jacobian_mask(function, jnp.zeros(4)).all()


@pytest.mark.parametrize("density", [0.0, 0.05, 0.3, 1.0])
@pytest.mark.parametrize("hubs", [0, 3])
def test_every_entry_can_be_read_off(density, hubs):
    rng = np.random.default_rng(0)
    mask = np.tril(rng.random((25, 25)) < density)
    mask[:, :hubs] = True
    mask |= mask.T
    matrix = np.where(mask, rng.normal(size=(25, 25)), 0)
    matrix = np.tril(matrix) + np.tril(matrix, -1).T
    color, count = color_columns(mask)
    compressed = (color == np.arange(count)[:, None]).astype(float) @ matrix
    rows, columns, which, position = read_off(mask, color)
    found = np.zeros_like(matrix)
    found[rows, columns] = compressed[which, position]
    np.testing.assert_allclose(found, np.tril(matrix), atol=1e-14)
    assert count <= 25


def test_an_arrow_needs_two_colours():
    mask = np.eye(30, dtype=bool)
    mask[0] = mask[:, 0] = True
    assert color_columns(mask)[1] == 2
