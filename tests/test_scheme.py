"""Schemes: exactness on polynomials, weights, orders."""

import numpy as np
import pytest
import scipy.special
from helpers import SCHEMES, Linear

import jaxcolloc as jc


EXACT_TO = {
    "Chebyshev": lambda n: n - 1,
    "Lobatto": lambda n: 2 * n - 3,
    "Radau": lambda n: 2 * (n - 1) - 2,
    "GaussLegendre": lambda n: 2 * (n - 1) - 1,
}


@pytest.mark.parametrize("scheme", SCHEMES, ids=repr)
def test_differentiates_and_interpolates_polynomials_exactly(scheme):
    x, degree = scheme.nodes, scheme.num_nodes - 1
    between = np.linspace(0, 1, 17)
    for power in range(degree + 1):
        slope = power * x ** max(power - 1, 0)
        np.testing.assert_allclose(scheme.differentiation @ x**power, slope, atol=1e-11)
        values = scheme.interpolation(between) @ x**power
        np.testing.assert_allclose(values, between**power, atol=1e-12)


@pytest.mark.parametrize("scheme", SCHEMES, ids=repr)
def test_interpolant_is_not_exact_beyond_its_degree(scheme):
    power = scheme.num_nodes
    values = scheme.interpolation(np.array([0.37])) @ scheme.nodes**power
    assert abs(values[0] - 0.37**power) > 1e-8


@pytest.mark.parametrize("scheme", SCHEMES, ids=repr)
def test_quadrature_is_exact_to_its_degree(scheme):
    degree = EXACT_TO[type(scheme).__name__](scheme.num_nodes)
    for power in range(degree + 1):
        integral = scheme.quadrature @ scheme.nodes**power
        assert integral == pytest.approx(1 / (power + 1), abs=1e-13)


@pytest.mark.parametrize("scheme", SCHEMES, ids=repr)
def test_nodes_are_where_they_belong(scheme):
    assert scheme.nodes[0] == 0.0
    assert np.all(np.diff(scheme.nodes) > 0)
    assert (scheme.nodes[-1] == 1.0) == scheme.includes_end
    np.testing.assert_allclose(scheme.differentiation.sum(axis=1), 0, atol=1e-12)


def test_known_nodes():
    np.testing.assert_allclose(jc.Radau(2).nodes, [0, 1 / 3, 1], atol=1e-15)
    np.testing.assert_allclose(jc.GaussLegendre(1).nodes, [0, 0.5], atol=1e-15)
    np.testing.assert_allclose(jc.Lobatto(3).nodes, [0, 0.5, 1], atol=1e-15)
    np.testing.assert_allclose(jc.Chebyshev(3).quadrature, [1 / 6, 4 / 6, 1 / 6], atol=1e-15)


@pytest.mark.parametrize("make", [jc.Chebyshev, jc.Lobatto, jc.Radau, jc.GaussLegendre])
def test_two_thousand_nodes_neither_over_nor_underflow(make):
    scheme = make(2000)
    weights = np.abs(scheme.barycentric)
    assert np.all(np.isfinite(weights))
    assert weights.min() > 0
    assert scheme.quadrature.sum() == pytest.approx(1, abs=1e-10)
    x = scheme.nodes
    np.testing.assert_allclose(scheme.differentiation @ np.sin(3 * x), 3 * np.cos(3 * x), atol=1e-5)
    between = np.linspace(0.001, 0.999, 53)
    values = scheme.interpolation(between) @ np.sin(40 * x)
    np.testing.assert_allclose(values, np.sin(40 * between), atol=1e-9)


def test_barycentric_weights_of_gauss_nodes_match_the_closed_form():
    # Wang, Huybrechs and Vandewalle (2014): (-1)^j sqrt((1 - x^2) w) for Gauss-Legendre nodes;
    # the additional node at -1 divides by the distance to it.
    scheme = jc.GaussLegendre(30)
    x, w = scipy.special.roots_legendre(30)
    closed = (-1.0) ** np.arange(30) * np.sqrt((1 - x**2) * w) / (x + 1)
    ratio = scheme.barycentric[1:] / closed
    np.testing.assert_allclose(ratio / ratio[0], 1, rtol=1e-10)


def _end_error(scheme, intervals):
    """The error at t = 2 of the collocated solution of y' = y from 1."""
    grid = jc.Grid.uniform(0.0, 2.0, intervals, scheme)
    data = jc.Trajectory([0.0], [[1.0]], y0=[1.0])
    nlp = jc.transcribe(Linear(np.array([[1.0]])), data, grid, l2=0.0, weight_bounds=None)
    rows, columns = nlp.jacobian_structure
    z = np.zeros(nlp.num_variables)
    z[0] = 1.0
    matrix = np.zeros((nlp.num_constraints, nlp.num_variables))
    matrix[rows, columns] = nlp.jacobian(z)
    # The equations are linear in the states: solve them with weight and first state fixed.
    right = -np.asarray(nlp.constraints(z)) - matrix[:, 1] * 1.0
    states = np.linalg.solve(matrix[:, 2:], right)
    return abs(states[-1] - np.exp(2.0))


@pytest.mark.slow
@pytest.mark.parametrize(
    "scheme",
    [jc.Chebyshev(3), jc.Lobatto(3), jc.Lobatto(4), jc.Radau(1), jc.Radau(2), jc.Radau(3),
     jc.GaussLegendre(1), jc.GaussLegendre(2), jc.GaussLegendre(3)],
    ids=repr,
)  # fmt: skip
def test_convergence_order_at_the_intervals_ends(scheme):
    # High orders reach rounding errors soon, low orders their asymptotic range late.
    intervals = 32 if scheme.order < 3 else 4
    coarse, fine = _end_error(scheme, intervals), _end_error(scheme, 2 * intervals)
    assert np.log2(coarse / fine) == pytest.approx(scheme.order, abs=0.35)


def test_chebyshev_converges_spectrally():
    errors = [_end_error(jc.Chebyshev(num), 1) for num in (4, 8, 12)]
    assert errors[1] < 1e-3 * errors[0]
    assert errors[2] < 1e-4 * errors[1]


@pytest.mark.parametrize("make", [jc.Chebyshev, jc.Lobatto])
@pytest.mark.parametrize("num", [1, 2.5, "3", None, True])
def test_refuses_wrong_node_counts(make, num):
    with pytest.raises(ValueError, match="`num` must be an integer of at least 2"):
        make(num)


@pytest.mark.parametrize("make", [jc.Radau, jc.GaussLegendre])
def test_refuses_zero_nodes(make):
    with pytest.raises(ValueError, match="`num` must be an integer of at least 1"):
        make(0)
