"""Gauss-Newton Hessians: what makes up for the curvature they lack, and that they converge."""

import jax
import numpy as np
import pytest
from helpers import Net

import jaxcolloc as jc
from jaxcolloc._ipopt.damping import Damping, Linearised


def oscillator(width):
    """A net on noisy data of the Van der Pol oscillator, which hardly determine its weights."""
    ts = np.linspace(0.0, 15.0, 100)
    data = jc.datasets.van_der_pol(amplitude=0.0).sample(ts, noise=0.1, key=jax.random.key(0))
    return jc.transcribe(Net(2, width), data, jc.Grid.uniform(0, 15, 30, jc.Radau(3)), l2=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [jc.Ipopt, jc.InteriorPoint])
def test_gauss_newton_converges_on_nets(kind):
    nlp = oscillator(16)
    for seed in range(3):
        start = jc.guess(nlp, key=jax.random.key(seed), weights="xavier")
        exact = jc.solve(nlp, jc.Ipopt(), start)
        sol = jc.solve(nlp, kind(hessian="gauss_newton", max_steps=400), start)
        assert sol.result.ok
        assert sol.objective == pytest.approx(exact.objective, rel=0.1)


def test_gauss_newton_learns_the_curvature_it_lacks():
    """Along a short step, from first derivatives alone, what the exact Hessian has more."""
    nlp = oscillator(3)
    rng = np.random.default_rng(0)
    z = np.asarray(jc.guess(nlp, key=jax.random.key(0), weights="xavier").z)
    step = 1e-5 * rng.normal(size=len(z))
    multipliers = rng.normal(size=nlp.num_constraints)

    def at(z):
        gradient, jacobian = (np.asarray(f(z)) for f in (nlp.gradient, nlp.jacobian))
        return Linearised(z, float(nlp.objective(z)), gradient, jacobian)

    def curvature(structure, values):
        rows, columns = structure
        twice = np.where(rows == columns, 1, 2)
        return np.sum(twice * np.asarray(values) * step[rows] * step[columns])

    damping = Damping(nlp)
    damping.learn(at(z), multipliers, 1.0)
    plain = np.asarray(nlp.gauss_newton(z, 1.0))
    damped = damping.added(z, plain, 1.0)
    square = np.sum(step[: nlp.num_weights] ** 2)
    first = curvature(damping.structure, damped) - curvature(nlp.gauss_newton_structure, plain)
    assert first / square == pytest.approx(float(nlp.objective(z)))
    damping.learn(at(z + step), multipliers, 1.0)
    exact = curvature(nlp.hessian_structure, nlp.hessian(z, multipliers, 1.0))
    expected = (exact - curvature(nlp.gauss_newton_structure, plain)) / square
    assert damping.estimates[-1] == pytest.approx(expected, rel=1e-3)
