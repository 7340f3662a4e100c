"""Rollouts and intervals: right by theorems and by Diffrax, in few compilations."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import Linear, Lorenz, Net
from scipy.integrate import solve_ivp
from scipy.linalg import expm

import jaxcolloc as jc
from jaxcolloc import _intervals
from jaxcolloc._advance import Taken
from jaxcolloc._intervals import interval_errors
from jaxcolloc._path import Path
from jaxcolloc._rollout import END, _Course, rollout
from jaxcolloc._rosenbrock import rosenbrock
from jaxcolloc._tsitouras import tsitouras, tsitouras_steps


COMPILED = []
jax.monitoring.register_event_duration_secs_listener(
    lambda name, _, **rest: COMPILED.append(name) if "backend_compile" in name else None
)


def turning(t, y, args):
    return jnp.stack([y[1], -4 * y[0]])


def predators(t, y, args):
    return jnp.stack([y[0] * (1.5 - y[1]), y[1] * (y[0] - 3.0)])


def van_der_pol(t, y, args):
    return jnp.stack([y[1], 100 * (1 - y[0] ** 2) * y[1] - y[0]])


def robertson(t, y, args):
    first, second, third = 0.04 * y[0], 1e4 * y[1] * y[2], 3e7 * y[1] ** 2
    return jnp.stack([second - first, first - second - third, third])


def lagging(t, y, args):
    return args["u"](t) - args["rate"] * y


def along_path(t, y, args):
    return args["path"].evaluate(t) - y * args["rates"]


KNOTS = np.array([0.0, 0.7, 1.9, 2.0, 3.3, 5.0])
US = np.array([0.0, 1.0, -2.0, 3.0, 0.5, 1.0])
PATH = diffrax.LinearInterpolation(jnp.asarray(KNOTS), jnp.asarray(US))


@pytest.mark.parametrize(
    ("model", "start", "end", "args", "solver"),
    [
        (turning, [1.0, 0.0], 20.0, None, None),
        (predators, [1.0, 1.0], 10.0, None, None),
        (Lorenz(jnp.asarray(10.0)), [1.0, 1.0, 20.0], 2.0, None, None),
        (van_der_pol, [2.0, 0.0], 150.0, None, diffrax.Kvaerno5()),
        (robertson, [1.0, 0.0, 0.0], 1e4, None, diffrax.Kvaerno5()),
        *(
            (lagging, [0.3], 6.0, {"u": jc.Input(KNOTS, US, kind), "rate": 0.8}, None)
            for kind in ("hold", "linear", "cubic")
        ),
        (along_path, [0.3, 1.0], 5.0, {"path": PATH, "rates": np.array([0.5, 2.0])}, None),
    ],
    ids=[
        "oscillator",
        "predators",
        "lorenz",
        "van der pol",
        "robertson",
        *jc._inputs._KINDS,
        "path",
    ],
)
def test_diffrax_agrees(model, start, end, args, solver):
    ts = np.linspace(0.0, end, 101)
    found = rollout(model, ts, np.array(start), args)
    assert found.end is END.complete
    with jax.enable_x64(True):
        expected = np.asarray(jc.simulate(model, ts, start, args, solver=solver))
    size = np.abs(expected).max(axis=0)
    np.testing.assert_allclose(found.states / size, expected / size, atol=1e-5)


def step_of(method, field, u, t, h):
    with jax.enable_x64(True):
        state = jnp.asarray(u, jnp.float64)
        return jax.tree.map(np.asarray, method(field, t, state, h, 0 * state, jnp.asarray(True)))


def crossing(t, y):
    return jnp.stack([y[1] * jnp.cos(t), jnp.sin(t) - y[0] * y[1]])


def solved(t, start):
    field = lambda t, y: [y[1] * np.cos(t), np.sin(t) - y[0] * y[1]]  # noqa: E731
    return solve_ivp(field, (0.0, t), start, method="DOP853", rtol=1e-13, atol=1e-15).y[:, -1]


@pytest.mark.parametrize("method", [tsitouras, rosenbrock])
def test_methods_are_of_order_five(method):
    """Halving the step divides the error of a step by 2^6, in between and its estimate by 2^5."""
    start = np.array([1.0, 0.5])
    errors = []
    for h in (0.1, 0.05):
        step = step_of(method, crossing, start, 0.0, h)
        middle = start + sum(part * 0.6 ** (j + 1) for j, part in enumerate(step.powers))
        misses = step.end - solved(h, start), middle - solved(0.6 * h, start), step.error
        errors.append([np.abs(item).max() for item in misses])
    orders = np.log2(np.array(errors[0]) / errors[1])
    assert np.all(orders > [5.5, 4.5, 4.5])


@pytest.mark.parametrize("method", [tsitouras, rosenbrock])
@pytest.mark.parametrize("power", range(5))
def test_polynomials_are_exact(method, power):
    """Those of degree five at the end, of degree four everywhere in between."""
    t, h = 0.4, 1.3

    def field(t, y):
        return (power + 1) * jnp.broadcast_to(t, y.shape) ** power

    step = step_of(method, field, [t ** (power + 1)], t, h)
    np.testing.assert_allclose(step.end, (t + h) ** (power + 1), rtol=1e-12)
    if power < 4:
        for x in (0.3, 0.7):
            inside = t ** (power + 1) + sum(x ** (j + 1) * p for j, p in enumerate(step.powers))
            np.testing.assert_allclose(inside, (t + x * h) ** (power + 1), rtol=1e-12)


def test_steps_on_the_host_are_those_that_are_compiled():
    """Many at once, with a slope that is known or is not; and what they say of stiffness."""
    rng = np.random.default_rng(0)
    t, u, h = np.array([0.0, 1.0, 2.0]), rng.normal(size=(3, 1, 2)), np.array([0.1, 0.2, 0.3])

    def field(which, t, u):
        return np.stack([np.asarray(crossing(a, b[0]))[None] for a, b in zip(t, u, strict=True)])

    with jax.enable_x64(True):
        slope = field(None, t, u)
        fresh = np.array([True, False, True])
        slope[fresh] = np.nan
        many = tsitouras_steps(field, t, u, h, slope, fresh)
    for k in range(3):
        one = step_of(tsitouras, crossing, u[k, 0], t[k], h[k])
        for name in ("end", "error", "slope"):
            np.testing.assert_allclose(getattr(many, name)[k, 0], getattr(one, name), atol=1e-14)
        np.testing.assert_allclose(many.rigidity[k], one.rigidity, rtol=1e-6)
    rigid = step_of(tsitouras, lambda t, y: -70.0 * y, np.array([1.0, 2.0]), 0.0, 0.1)
    np.testing.assert_allclose(rigid.rigidity, 7.0)


def test_the_times_that_are_asked_for_change_no_step():
    times = np.linspace(0.0, 7.0, 3001)
    dense, sparse = (rollout(predators, ts, np.ones(2), None).states for ts in (times, times[::60]))
    np.testing.assert_array_equal(dense[::60], sparse)
    twice = rollout(predators, np.repeat(times[::60], 2), np.ones(2), None).states
    np.testing.assert_array_equal(twice[::2], sparse)
    np.testing.assert_array_equal(twice[1::2], sparse)
    alone = rollout(predators, times[:1], np.ones(2), None)
    assert alone.end is END.complete
    np.testing.assert_array_equal(alone.states, np.ones((1, 2)))


@pytest.mark.parametrize("kind", ["linear", "hold"])
def test_a_pulse_is_never_stepped_over(kind):
    """Whether it lies in an input or, at stops, in the model itself, from either side."""
    knots, us = np.array([0.0, 60.0, 60.02, 60.04, 1e4]), np.array([0.0, 0.0, 50.0, 0.0, 0.0])
    args = {"u": jc.Input(knots, us, kind=kind), "rate": 0.0}
    ts = np.array([0.0, 50.0, 70.0, 1e4])
    states = rollout(lagging, ts, np.zeros(1), args).states
    np.testing.assert_allclose(states[:, 0], [0, 0, 1, 1], atol=1e-9)

    def within(t, y, args):
        inside = (t >= 60.0) & (t < 60.02) if kind == "hold" else (t > 60.0) & (t <= 60.02)
        return jnp.where(inside, 50.0, 0.0) * jnp.ones_like(y)

    states = rollout(within, ts, np.zeros(1), None, stops=knots).states
    np.testing.assert_allclose(states[:, 0], [0, 0, 1, 1], atol=1e-12)


def test_a_jump_at_time_zero_is_one():
    """The number behind zero is not so small that it is taken for zero."""
    args = {"u": jc.Input([-1.0, 0.0, 1.0], [0.0, 2.0, 0.0], kind="hold"), "rate": 0.0}
    for ts in ([-1.0, 0.0, 1.0, 2.0], [0.0, 1.0, 2.0]):
        states = rollout(lagging, np.array(ts), np.zeros(1), args).states
        np.testing.assert_allclose(states[:, 0], np.clip(2.0 * np.array(ts), 0, 2), atol=1e-12)


def test_what_cannot_be_integrated_is_told():
    ts = np.linspace(0.0, 2.0, 21)

    def escaping(t, y, args):
        return y**2

    def broken(t, y, args):
        return jnp.where(t > 1.03, jnp.nan, 1.0) * y

    found = rollout(escaping, ts, np.ones(1), None, far=np.array([1e6]))
    assert found.end is END.infinite
    np.testing.assert_allclose(found.states[:10, 0], 1 / (1 - ts[:10]), rtol=1e-6)
    assert np.all(found.states[11:] == np.inf)
    found = rollout(escaping, ts, np.ones(1), None)
    assert found.end is not END.complete
    assert not np.any(np.isfinite(found.states[11:]))
    found = rollout(broken, ts, np.ones(1), None, far=np.array([1e6]))
    assert found.end is END.out_of_steps
    np.testing.assert_allclose(found.states[:11, 0], np.exp(ts[:11]), rtol=1e-6)
    assert not np.any(np.isfinite(found.states[11:]))


@pytest.fixture
def lengths(monkeypatch):
    """The numbers of steps that every rollout took."""
    found = []
    integrate = _Course.integrate

    def counted(self, standing):
        end = integrate(self, standing)
        found.append(len(self.steps.t))
        return end

    monkeypatch.setattr(_Course, "integrate", counted)
    return found


def test_stiffness_is_found_early(lengths):
    """An explicit method would take two million steps."""

    def stiff(t, y, args):
        return -1e6 * (y - jnp.cos(t)) - jnp.sin(t)

    ts = np.linspace(0.0, 10.0, 11)
    found = rollout(stiff, ts, np.ones(1), None)
    assert found.end is END.complete
    np.testing.assert_allclose(found.states[:, 0], np.cos(ts), atol=1e-6)
    assert lengths[0] < 5000


def test_what_only_the_explicit_method_can_do_is_left_to_it():
    """Stiff at first, so that the end seems out of reach; the Jacobian is not a number."""

    def easing(t, y, args):
        return -1e4 * jnp.exp(-t) * (y - 1) + jnp.sqrt(0.0 * y**2)

    found = rollout(easing, np.linspace(0.0, 50.0, 11), np.zeros(1), None)
    assert found.end is END.complete
    np.testing.assert_allclose(found.states[1:, 0], 1.0, atol=1e-6)


def path_of(model, boundaries, start, args=None):
    """The path through a rollout."""
    grid = jc.Grid(boundaries, jc.Radau(3))
    return Path(grid, rollout(model, grid.times, np.array(start), args, stops=boundaries).states)


@pytest.mark.parametrize("few", [0, 200])
def test_sensitivities_of_a_linear_system_are_exponentials(few, monkeypatch):
    """On the host, in the compiled loop, and for a stiff system."""
    monkeypatch.setattr(_intervals, "_FEW", few)
    matrix = np.array([[-0.1, 2.0], [-2.0, -0.1]])
    found = {}
    integrate = _intervals._Bundle.integrate

    def kept(self, begin):
        found["all"] = integrate(self, begin)
        return found["all"]

    monkeypatch.setattr(_intervals._Bundle, "integrate", kept)
    for stiff, count in ((0.0, 70), (1e5, 5)):
        full = matrix - stiff * np.array([[1.0, 1.0], [0.0, 0.0]])
        boundaries = np.linspace(0.0, 5.0, count + 1)
        path = path_of(Linear(jnp.asarray(full)), boundaries, [1.0, 0.5])
        spread = np.array([1.0, 2.0])
        errors = interval_errors(Linear(jnp.asarray(full)), path, None, spread)
        assert errors.errors.max() < 1e-6
        exact = expm(full * 5.0 / count) * spread / spread[:, None]
        np.testing.assert_allclose(found["all"][1], np.tile(exact, (count, 1, 1)), atol=2e-6)


@pytest.mark.parametrize("few", [0, 1000])
def test_intervals_end_at_all_samples_of_inputs(few, monkeypatch):
    """More samples in an interval than one call of the compiled loop takes."""
    monkeypatch.setattr(_intervals, "_FEW", few)
    knots = np.linspace(0.0, 6.0, 241)
    us = np.random.default_rng(0).normal(size=241)
    boundaries = np.array([0.0, 2.0, 5.0, 6.0])
    for kind in ("hold", "linear"):
        args = {"u": jc.Input(knots, us, kind), "rate": 0.5}
        path = path_of(lagging, boundaries, [0.1], args)
        found = interval_errors(lagging, path, args, np.ones(1))
        assert found.errors.max() < 1e-7
        np.testing.assert_allclose(found.growth, 1.0)


def test_an_interval_that_cannot_be_integrated_has_an_infinite_error():
    def breaking(t, y, args):
        return jnp.where((t > 2.2) & (t < 2.4), jnp.nan, 1.0) * jnp.ones_like(y)

    grid = jc.Grid.uniform(0.0, 5.0, 5, jc.Radau(3))
    path = Path(grid, grid.times[:, None])
    found = interval_errors(breaking, path, None, np.ones(1))
    np.testing.assert_array_equal(np.isinf(found.errors), [False, False, True, False, False])
    assert found.growth == np.inf


def test_no_length_is_compiled_for():
    """Not of the times, the grid, the data or the input."""
    model = Net(2, 3)

    def driven(t, y, args):
        return args["net"](t, y, None) + args["u"](t) + len(args["name"])

    def both(count, samples, end):
        knots = np.linspace(0.0, end, samples)
        args = {"net": model, "u": jc.Input(knots, np.sin(knots)), "name": "text"}
        path = path_of(driven, np.linspace(0.0, end, count + 1), [0.1, 0.2], args)
        return interval_errors(driven, path, args, np.ones(2))

    both(9, 12, 3.0)
    before = len(COMPILED)
    both(300, 210, 5.0)
    assert len(COMPILED) == before


def seen(t, y, args):
    return 1.0 * y


def test_a_second_verification_compiles_nothing(caller_x64):
    """Of another grid, other data and another number of them."""
    reports = []
    for count, intervals, seed in ((41, 12, 0), (67, 31, 1)):
        ts = np.linspace(0.0, 4.0, count)
        noise = 0.02 * np.random.default_rng(seed).normal(size=(count, 1))
        data = jc.Trajectory(ts, np.exp(-ts)[:, None] + noise)
        grid = jc.Grid.uniform(0.0, 4.0, intervals, jc.Radau(3))
        nlp = jc.transcribe(
            Linear(jnp.asarray([[-0.9]])), data, grid, observe=seen, num_states=1, l2=0.0
        )
        sol = jc.solve(nlp, jc.Ipopt(), jc.guess(nlp, weights="as_given"))
        before = len(COMPILED)
        reports.append(jc.verify(sol))
    assert len(COMPILED) == before
    assert all(report.verdict is jc.VERDICT.good for report in reports)


def test_models_in_float32_are_integrated_in_float64(caller_x64):
    class Decay(eqx.Module):
        rate: jax.Array

        def __call__(self, t, y, args):
            return -self.rate * args["scale"] * y if args["sign"] == "down" else y

    ts = np.linspace(0.0, 3.0, 7)
    args = {"scale": np.float32(1.0), "sign": "down"}
    found = rollout(Decay(jnp.asarray(0.5, jnp.float32)), ts, np.ones(1), args)
    assert found.states.dtype == np.float64
    np.testing.assert_allclose(found.states[:, 0], np.exp(-0.5 * ts), rtol=1e-7)


def test_steps_join():
    """Each begins where the one before ends, at the state that its polynomial has there."""
    taken: list[Taken] = []
    integrate = _Course.integrate

    class Kept(_Course):
        def integrate(self, standing):
            end = integrate(self, standing)
            taken.append(self.steps)
            return end

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jaxcolloc._rollout._Course", Kept)
        rollout(predators, np.linspace(0.0, 40.0, 5), np.ones(2), None, stops=np.arange(40.0))
    (steps,) = taken
    np.testing.assert_allclose(steps.t[1:], steps.t[:-1] + steps.h[:-1], atol=1e-14)
    ends = steps.u + steps.powers.sum(axis=1)
    np.testing.assert_allclose(ends[:-1], steps.u[1:], rtol=1e-13)
    assert np.all(np.isin(np.arange(1, 40), np.round(steps.t, 12)))


def test_a_stiff_system_is_integrated_to_as_many_times_as_are_asked_for():
    """Each of them ends a step of the stiff method: more of them than the explicit one may take."""
    ts = np.linspace(0.0, 10.0, 40_000)
    found = rollout(lambda t, y, args: -1e5 * (y - jnp.cos(t)), ts, np.ones(1), None)
    assert found.end is END.complete
    np.testing.assert_allclose(found.states[:, 0], np.cos(ts), atol=2e-5)


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_a_start_that_is_not_finite_leads_nowhere(value):
    found = rollout(lambda t, y, args: -y, np.linspace(0.0, 1.0, 5), np.array([value]), None)
    assert found.end is END.infinite
    assert not np.any(np.isfinite(found.states))
