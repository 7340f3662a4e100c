"""Grids: nodes, interpolation between them, data on and off them."""

import numpy as np
import pytest
from helpers import SCHEMES

import jaxcolloc as jc


@pytest.mark.parametrize("scheme", SCHEMES, ids=repr)
def test_nodes_of_neighbours_are_shared(scheme):
    grid = jc.Grid([0.0, 0.5, 2.0, 3.0], scheme)
    times = grid.times
    assert len(times) == grid.num_nodes
    assert np.all(np.diff(times) > 0)
    np.testing.assert_array_equal(times[grid.interval_ends], grid.boundaries[1:])
    np.testing.assert_array_equal(times[grid.interval_nodes[:, 0]], grid.boundaries[:-1])


@pytest.mark.parametrize("scheme", SCHEMES, ids=repr)
def test_interpolates_polynomials_and_their_slopes(scheme):
    grid = jc.Grid([-1.0, 0.5, 2.0], scheme)
    power = scheme.num_nodes - 1
    ts = np.linspace(-1, 2, 31)
    values = grid.interpolate(grid.times[:, None] ** power, ts)
    np.testing.assert_allclose(values[:, 0], ts**power, atol=1e-11)
    if power > 1:
        slope = grid.slope(grid.times[:, None] ** power, ts)
        np.testing.assert_allclose(slope[:, 0], power * ts ** (power - 1), atol=1e-9)


@pytest.mark.parametrize("scheme", SCHEMES, ids=repr)
def test_finds_every_node_and_nothing_else(scheme):
    grid = jc.Grid.uniform(3.0, 15.0, 7, scheme)
    _, _, hit = grid.locate(grid.times * (1 + 1e-16))
    np.testing.assert_array_equal(hit, np.arange(grid.num_nodes))
    _, _, hit = grid.locate((grid.times[1:] + grid.times[:-1]) / 2)
    assert np.all(hit == -1)


@pytest.mark.parametrize(
    "boundaries", [[0.0], [0.0, 0.0], [1.0, 0.0], [0.0, np.nan], [[0.0, 1.0]], "ab"]
)
def test_refuses_wrong_boundaries(boundaries):
    with pytest.raises(ValueError, match="`boundaries`"):
        jc.Grid(boundaries, jc.Radau(2))


def test_refuses_what_is_no_scheme():
    with pytest.raises(ValueError, match="`scheme` must be a Chebyshev"):
        jc.Grid([0.0, 1.0], "radau")
    with pytest.raises(ValueError, match="`intervals` must be an integer of at least 1"):
        jc.Grid.uniform(0.0, 1.0, 0, jc.Radau(2))


def test_prints_itself():
    assert repr(jc.Grid.uniform(0, 15, 40, jc.Radau(5))) == (
        "Grid(40 intervals on [0, 15], Radau(5), 201 nodes)"
    )
