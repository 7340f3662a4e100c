"""solve_growing: windows that grow find what the whole problem does not."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import Net, spiral

import jaxcolloc as jc
from jaxcolloc._continuation import first_window


class Oscillator(eqx.Module):
    """x'' = -omega^2 x; only x is measured."""

    omega: jax.Array

    def __call__(self, t, y, args):
        return jnp.stack([y[1], -(self.omega**2) * y[0]])


TS = np.linspace(0.0, 24.0, 97)
CLEAN = np.cos(2.0 * TS)[:, None]
DATA = jc.Trajectory(TS, CLEAN + 0.1 * np.random.default_rng(0).normal(size=CLEAN.shape))


def poor_start(grid, omega):
    """Flat states and a frequency that drifts out of phase within a few cycles."""
    nlp = jc.transcribe(Oscillator(jnp.asarray(omega)), DATA, grid, num_states=2, l2=0.0)
    states = [np.zeros((grid.num_nodes, 2))]
    return nlp, jc.guess(nlp, states=states, weights="as_given")


@pytest.mark.slow
@pytest.mark.parametrize(
    "grid",
    [
        pytest.param(jc.Grid.uniform(0.0, 24.0, 48, jc.Radau(3)), id="local"),
        pytest.param(jc.Grid.single(0.0, 24.0, jc.Chebyshev(80)), id="global"),
    ],
)
def test_a_poor_frequency_is_corrected_on_the_way(grid):
    """The residuals of the truth are the noise; a solve without windows cannot do better."""
    nlp, guess = poor_start(grid, 1.4)
    grown = jc.solve_growing(nlp, jc.Ipopt(max_steps=300), guess, windows=8)
    assert grown.result is jc.RESULTS.successful
    assert abs(float(grown.model.omega)) == pytest.approx(2.0, abs=0.01)
    assert grown.objective == pytest.approx(0.01, rel=0.4)
    assert grown.nlp is nlp
    assert len(grown.stats["window_steps"]) == 7


def test_a_window_has_the_data_and_constraints_of_its_time():
    grid = jc.Grid.uniform(0.0, 24.0, 24, jc.Radau(3))
    early, late = jc.StateBounds(0, -2.0, 2.0), jc.StateBounds(1, 0.0, 0.0, at="end")
    sum_of = jc.Constraint(lambda t, y, args: jnp.sum(y), upper=9.0, at="end")
    data = [DATA, jc.Trajectory([20.0, 24.0], [[0.1], [0.2]])]
    nlp = jc.transcribe(
        Oscillator(jnp.asarray(2.0)), data, grid, num_states=2,
        constraints=[early, late, sum_of, jc.Tie(0, 1)],
    )  # fmt: skip
    window = first_window(nlp, 0.25)
    assert [item.boundaries[-1] for item in window.grids] == [6.0, 6.0]
    assert window.trajectories[0].ts[-1] == 6.0
    assert not window.trajectories[1].measured.any()
    assert window.num_constraints == 2 * 6 * 3 * 2
    nobody = jc.transcribe(Oscillator(jnp.asarray(2.0)), data[1:], grid, num_states=2)
    assert first_window(nobody, 0.25) is None


def test_bad_arguments():
    grid = jc.Grid.uniform(0.0, 4.0, 8, jc.Radau(3))
    data = jc.Trajectory(np.linspace(0, 4, 9), spiral(np.linspace(0, 4, 9)))
    nlp = jc.transcribe(Net(2, 3), data, grid)
    guess = jc.guess(nlp, key=jax.random.key(0), weights="xavier")
    with pytest.raises(ValueError, match="`windows` must be an integer of at least 2"):
        jc.solve_growing(nlp, jc.Ipopt(), guess, windows=1)
    with pytest.raises(ValueError, match=r"`guess` must come from jc\.guess"):
        jc.solve_growing(nlp, jc.Ipopt(), guess.z)
