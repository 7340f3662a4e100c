"""Inputs: values between samples, padding, their part in the NLP and in a rollout."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.interpolate import CubicSpline

import jaxcolloc as jc


TS = np.array([0.0, 0.4, 1.0, 1.1, 2.0])
US = np.array([1.0, -1.0, 2.0, 0.5, 3.0])
QUERIES = np.array([-0.5, 0.0, 0.2, 0.4, 0.7, 1.05, 1.9, 2.0, 2.5])


def _values(u, ts=QUERIES, **options):
    with jax.enable_x64(True):
        return np.asarray(jax.vmap(lambda t: u.evaluate(t, **options))(jnp.asarray(ts)))


def _expected(kind, ts):
    inside = np.clip(ts, TS[0], TS[-1])
    if kind == "linear":
        return np.interp(inside, TS, US)
    if kind == "cubic":
        return CubicSpline(TS, US)(inside)
    # The value at a jump is that before it.
    return US[np.clip(np.searchsorted(TS, ts, side="left") - 1, 0, len(TS) - 1)]


@pytest.mark.parametrize("kind", ["hold", "linear", "cubic"])
def test_values_between_the_samples(kind):
    u = jc.Input(TS, US, kind)
    np.testing.assert_allclose(_values(u), _expected(kind, QUERIES), atol=1e-12)
    assert (u.t0, u.t1) == (0.0, 2.0)


@pytest.mark.parametrize("kind", ["hold", "linear", "cubic"])
def test_padding_changes_no_value(kind):
    u = jc.Input(TS, np.stack([US, US**2], axis=1), kind)
    longer = u.padded()
    assert len(longer.ts) == 8
    np.testing.assert_array_equal(_values(longer), _values(u))
    assert _values(u).shape == (len(QUERIES), 2)


def test_a_hold_jumps_after_its_sample():
    u = jc.Input(TS, US, "hold")
    np.testing.assert_array_equal(_values(u, TS[1:]), US[:-1])
    np.testing.assert_array_equal(_values(u, TS, left=False), US)


def test_increments_and_derivatives():
    u = jc.Input(TS, US, "cubic")
    with jax.enable_x64(True):
        assert float(u.evaluate(0.2, 0.7)) == pytest.approx(
            float(CubicSpline(TS, US)(0.7) - CubicSpline(TS, US)(0.2)), abs=1e-12
        )
        assert float(u.derivative(0.7)) == pytest.approx(float(CubicSpline(TS, US)(0.7, 1)))
        assert float(jc.Input(TS, US).derivative(0.7)) == pytest.approx(3.0 / 0.6)
        assert float(jc.Input(TS, US, "hold").derivative(0.7)) == 0.0


@pytest.mark.parametrize(
    ("ts", "us", "kind", "message"),
    [
        ([], [], "hold", "`ts` must hold at least one time"),
        ([0.0, 0.0], [1.0, 2.0], "hold", "strictly increasing"),
        ([0.0, 1.0], [1.0], "hold", "`us` must have one sample for each of the 2 times"),
        ([0.0, 1.0], [1.0, np.nan], "hold", "`us` must be finite"),
        ([0.0, 1.0], np.ones((2, 1, 1)), "hold", "`us` must have shape"),
        ([0.0, 1.0], [1.0, 2.0], "spline", '`kind` must be one of "hold", "linear", "cubic"'),
    ],
)
def test_refuses_bad_input(ts, us, kind, message):
    with pytest.raises(ValueError, match=message):
        jc.Input(ts, us, kind)


class Gain(eqx.Module):
    """y' = -y + gain * u."""

    gain: jax.Array

    def __call__(self, t, y, args):
        return -y + self.gain * args(t)


def _driven(ts, us, gain):
    """The solution of y' = -y + gain * u for a u that is held, from zero, at the times `ts`."""
    y, values = 0.0, [0.0]
    for width, u in zip(np.diff(ts), us, strict=False):
        y = gain * u + (y - gain * u) * np.exp(-width)
        values.append(y)
    return np.array(values)[:, None]


def test_a_rollout_steps_to_the_jumps(caller_x64):
    ts = np.linspace(0.0, 5.0, 21)
    us = np.random.default_rng(0).normal(size=21)
    ys = jc.simulate(Gain(jnp.asarray(2.0)), ts, [0.0], jc.Input(ts, us, "hold"))
    np.testing.assert_allclose(ys, _driven(ts, us, 2.0), atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("shared", [False, True])
def test_finds_a_known_input_gain(shared, caller_x64):
    """Held inputs of several lengths; the intervals end at the jumps."""
    rng = np.random.default_rng(1)
    data, grids = [], []
    for length in (12, 10, 15):
        ts = np.linspace(0.0, 3.0, length)
        us = rng.normal(size=length)
        data.append(jc.Trajectory(ts, _driven(ts, us, 2.5), jc.Input(ts, us, "hold")))
        grids.append(jc.Grid.aligned(ts, jc.Radau(4)))
    if shared:
        data, grids = data[:1], grids[0]
    nlp = jc.transcribe(Gain(jnp.asarray(1.0)), data, grids, l2=0.0)
    assert len(nlp.groups) == 1
    sol = jc.solve(nlp, jc.Ipopt(), jc.guess(nlp))
    assert float(sol.model.gain) == pytest.approx(2.5, abs=1e-5)
    assert sol.model.gain.dtype == (jnp.float64 if caller_x64 else jnp.float32)


@pytest.mark.parametrize("kind", ["linear", "cubic"])
def test_a_diffrax_path_is_the_same_input(kind):
    ts = np.linspace(0.0, 3.0, 30)
    us = np.sin(2 * ts)
    if kind == "linear":
        path = diffrax.LinearInterpolation(jnp.asarray(ts), jnp.asarray(us))
    else:
        coefficients = diffrax.backward_hermite_coefficients(jnp.asarray(ts), jnp.asarray(us))
        path = diffrax.CubicInterpolation(jnp.asarray(ts), coefficients)
    grid = jc.Grid.uniform(0.0, 3.0, 10, jc.Radau(3))

    def evaluated(t, y, args):
        return -y + args.evaluate(t)

    truth = np.asarray(jc.simulate(Gain(jnp.asarray(1.0)), ts, [0.0], jc.Input(ts, us)))
    objectives = []
    for model, args in ((evaluated, path), (Gain(jnp.asarray(1.0)), jc.Input(ts, us, kind))):
        trainable = isinstance(model, Gain)
        nlp = jc.transcribe(model, jc.Trajectory(ts, truth, args), grid, l2=0.0)
        z = nlp.pack(model, [np.zeros((grid.num_nodes, 1))])
        objectives.append(np.asarray(nlp.constraints(z)))
        assert nlp.num_weights == int(trainable)
    np.testing.assert_allclose(*objectives, atol=1e-5 if kind == "linear" else 0.05)


def test_grids_align_with_samples():
    ts = np.arange(11.0)
    grid = jc.Grid.aligned(ts, jc.Radau(2), every=4)
    np.testing.assert_array_equal(grid.boundaries, [0, 4, 8, 10])
    np.testing.assert_array_equal(jc.Grid.aligned([0, 1, 1, 2], jc.Radau(2)).boundaries, [0, 1, 2])
    with pytest.raises(ValueError, match="`every` must be an integer"):
        jc.Grid.aligned(ts, jc.Radau(2), every=0)
