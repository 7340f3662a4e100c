"""Simulation by collocation: initial and boundary values with known answers, orders, refusals."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import SCHEMES, SPIRAL, Linear, Net, spiral
from scipy.integrate import solve_bvp, solve_ivp

import jaxcolloc as jc


TS = np.linspace(0.0, 4.0, 23)
HALF = np.linspace(0.0, np.pi / 2, 17)
UNIT = np.linspace(0.0, 1.0, 21)
OPEN = [0.0, np.nan]


@pytest.fixture(autouse=True)
def wide():
    """In a float64 program, so that what is returned is not rounded."""
    with jax.enable_x64(True):
        yield


def swinging(t, y, args):
    return jnp.stack([y[1], -y[0]])


def van_der_pol(mu):
    return lambda t, y, args: jnp.stack([y[1], mu * (1 - y[0] ** 2) * y[1] - y[0]])


def robertson(t, y, args):
    slow, back, fast = 0.04 * y[0], 1e4 * y[1] * y[2], 3e7 * y[1] ** 2
    return jnp.stack([back - slow, slow - back - fast, fast])


def bratu(t, y, args):
    return jnp.stack([y[1], -args * jnp.exp(y[0])])


def bratu_solution(x, theta):
    return -2 * np.log(np.cosh((x - 0.5) * theta / 2) / np.cosh(theta / 4))


def by_scipy(model, ts, y0, args=None):
    field = jax.jit(lambda t, y: model(t, y, args))
    found = solve_ivp(
        lambda t, y: np.asarray(field(t, y)), (ts[0], ts[-1]), y0,
        method="LSODA", t_eval=ts, rtol=1e-11, atol=1e-13,
    )  # fmt: skip
    return found.y.T


def at_end(component, value):
    return jc.StateBounds(component, value, value, at="end")


# --- Initial values ---


@pytest.mark.parametrize("scheme", SCHEMES, ids=repr)
def test_reaches_the_tolerance_with_every_scheme(scheme):
    rtol = 1e-4 if scheme.num_nodes <= 2 else 1e-7
    ys = jc.simulate(Linear(jnp.asarray(SPIRAL)), TS, [1.0, 0.0], by=scheme, rtol=rtol)
    # The tolerance is one of each interval, of which there may be some thousands.
    np.testing.assert_allclose(ys, spiral(TS), atol=300 * rtol)


@pytest.mark.parametrize("scheme", [jc.Radau(2), jc.GaussLegendre(2), jc.Lobatto(4)], ids=repr)
def test_has_the_order_of_the_scheme_on_a_given_grid(scheme):
    def error(intervals):
        grid = jc.Grid.uniform(0.0, 4.0, intervals, scheme)
        ys = jc.simulate(
            Linear(jnp.asarray(SPIRAL)), [0.0, 4.0], [1.0, 0.0], by=grid, rtol=10.0, atol=10.0
        )
        return np.abs(np.asarray(ys)[-1] - spiral(np.array([4.0]))[0]).max()

    order = np.log2(error(16) / error(32))
    assert order == pytest.approx(scheme.order, abs=0.35)


@pytest.mark.parametrize("scheme", [jc.Chebyshev(6), jc.Radau(3), jc.GaussLegendre(3)], ids=repr)
def test_solves_the_equations_of_the_nonlinear_program(scheme):
    model, grid = Net(2, 5), jc.Grid([0.0, 0.3, 1.0, 1.5], scheme)
    ys = jc.simulate(model, grid.times, [0.4, -0.3], by=grid, rtol=1.0, atol=1e-2)
    nlp = jc.transcribe(model, jc.Trajectory(grid.times, ys), grid)
    z = nlp.pack(model, [np.asarray(ys)])
    np.testing.assert_allclose(nlp.constraints(z), 0.0, atol=1e-5)


def test_splits_the_intervals_of_a_grid_where_they_do_not_suffice():
    grid = jc.Grid.uniform(0.0, 4.0, 2, jc.Radau(3))
    ys = jc.simulate(Linear(jnp.asarray(SPIRAL)), TS, [1.0, 0.0], by=grid)
    np.testing.assert_allclose(ys, spiral(TS), atol=1e-6)


@pytest.mark.parametrize(
    ("model", "y0", "until"),
    [
        (robertson, [1.0, 0.0, 0.0], 1e5),
        (van_der_pol(1.0), [2.0, 0.0], 20.0),
        (van_der_pol(1000.0), [2.0, 0.0], 2000.0),
    ],
    ids=["Robertson", "Van der Pol", "Van der Pol, mu = 1000"],
)
def test_stiff_and_oscillating_models_follow_scipy(model, y0, until):
    ts = np.linspace(0.0, until, 40)
    expected = by_scipy(model, ts, y0)
    ys = np.asarray(jc.simulate(model, ts, y0, by=jc.Radau(5), rtol=1e-7))
    size = np.abs(expected).max(axis=0)
    assert np.max(np.abs(ys - expected) / size) < 1e-4


def test_robertson_until_long_after_the_transient():
    """The steady state has y0 ~ 2.0833e-8 at t = 1e11 (Hairer and Wanner)."""
    last = jc.simulate(robertson, [0.0, 1e11], [1.0, 0.0, 0.0], by=jc.Radau(5))[-1]
    np.testing.assert_allclose(last, [0.2083340149701e-7, 0.8333360770334713e-13, 1.0], rtol=1e-5)


@pytest.mark.parametrize("given", [False, True])
def test_a_net_on_200_chebyshev_nodes(given):
    net, ts = Net(2, 16, 2), np.linspace(0.0, 15.0, 31)
    scheme = jc.Chebyshev(200)
    by = jc.Grid.single(0.0, 15.0, scheme) if given else scheme
    ys = jc.simulate(net, ts, [1.0, 0.5], by=by)
    np.testing.assert_allclose(ys, by_scipy(net, ts, [1.0, 0.5]), atol=1e-6)


@pytest.mark.parametrize("scheme", [jc.Radau(3), jc.GaussLegendre(2), jc.Chebyshev(6)], ids=repr)
def test_no_interval_reaches_over_a_jump_of_an_input(scheme):
    jumps, levels = np.array([0.0, 1.0, 1.0 + 1e-3, 2.5]), np.array([1.0, -2.0, 500.0, 0.0])

    def filling(t, y, args):
        return args(t)[None] + 0 * y

    ts = np.array([0.0, 0.5, 1.0, 1.0005, 2.0, 2.5, 4.0])
    ends = np.append(jumps[1:], 9.0)
    gone = np.clip(ts[:, None], jumps, ends) - jumps
    args = jc.Input(jumps, levels, kind="hold")
    ys = jc.simulate(filling, ts, [0.0], args, by=scheme)
    np.testing.assert_allclose(np.asarray(ys)[:, 0], gone @ levels, atol=1e-7)


def test_tolerances_are_relative_to_each_states_size():
    """As without `by`: a state of 1e-12 is as exact as one of 1."""
    model = Linear(jnp.diag(jnp.asarray([-1.0, -2.0])))
    ys = np.asarray(jc.simulate(model, TS, [1.0, 1e-12], by=jc.Radau(3)))
    exact = np.stack([np.exp(-TS), 1e-12 * np.exp(-2 * TS)], axis=1)
    np.testing.assert_allclose(ys, exact, rtol=1e-5)


def test_a_model_that_solves_an_equation_inside():
    """y' = -a with a + a^3 = y: log(a) + 3 a^2 / 2 + t is constant."""

    def tangent(linear, right):
        return right / linear(jnp.ones_like(right))

    def newton(missed, start):
        def step(_, a):
            value, slope = jax.jvp(missed, (a,), (jnp.ones_like(a),))
            return a - value / slope

        return jax.lax.fori_loop(0, 30, step, start)

    def model(t, y, args):
        return -jax.lax.custom_root(lambda a: a + a**3 - y, jnp.zeros_like(y), newton, tangent)

    ys = np.asarray(jc.simulate(model, TS, [10.0], by=jc.Radau(4)))[:, 0]
    roots = np.array([np.roots([1.0, 0.0, 1.0, -y])[-1].real for y in ys])
    kept = np.log(roots) + 1.5 * roots**2 + TS
    np.testing.assert_allclose(roots[0], 2.0, rtol=1e-12)
    np.testing.assert_allclose(kept, kept[0], rtol=1e-7)


def test_what_a_grid_has_behind_the_last_time_is_not_solved():
    def explosive(t, y, args):
        return y**2

    grid = jc.Grid.uniform(0.0, 2.0, 4, jc.Radau(5))
    last = jc.simulate(explosive, [0.0, 0.5], [1.0], by=grid)[-1]
    np.testing.assert_allclose(last, 2.0, rtol=1e-7)


def test_repeated_and_single_times():
    model = Linear(jnp.asarray(SPIRAL))
    np.testing.assert_array_equal(
        jc.simulate(model, [1.0, 1.0], [2.0, 3.0], by=jc.Radau(2)), [[2.0, 3.0], [2.0, 3.0]]
    )
    twice = jc.simulate(model, [0.0, 1.0, 1.0], [1.0, 0.0], by=jc.Radau(4))
    np.testing.assert_array_equal(twice[1], twice[2])


def test_a_solution_that_blows_up_is_told():
    def explosive(t, y, args):
        return y**2

    with pytest.raises(RuntimeError, match=r"by Radau\(5\) failed: at t = 1"):
        jc.simulate(explosive, [0.0, 0.5, 2.0], [1.0], by=jc.Radau(5))
    ys = np.asarray(
        jc.simulate(explosive, [0.0, 0.5, 0.9, 2.0], [1.0], by=jc.Radau(5), throw=False)
    )[:, 0]
    np.testing.assert_allclose(ys[:3], [1.0, 2.0, 10.0], rtol=1e-6)
    assert np.isnan(ys[3])
    with pytest.raises(RuntimeError, match=r"5 intervals did not suffice \(`max_steps`\)"):
        jc.simulate(swinging, TS, [1.0, 0.0], by=jc.Radau(2), max_steps=5)


# --- Boundary values ---


@pytest.mark.parametrize(
    "by",
    [
        *(jc.Radau(3), jc.GaussLegendre(3), jc.Lobatto(5), jc.Chebyshev(30)),
        jc.Grid.uniform(0.0, np.pi / 2, 3, jc.Radau(2)),
    ],
    ids=repr,
)
@pytest.mark.parametrize(
    "stated",
    [
        at_end(0, 1.0),
        jc.Constraint(lambda t, y, args: y[0] ** 3 + y[0] + y[1], 2.0, 2.0, at="end"),
        jc.Constraint(lambda t, y, args: y[1] - args["slope"], 0.0, 0.0, at="start"),
    ],
    ids=["value", "function", "start"],
)
def test_boundary_values_of_an_oscillator(by, stated):
    ys = jc.simulate(swinging, HALF, OPEN, {"slope": 1.0}, by=by, constraints=[stated])
    exact = np.stack([np.sin(HALF), np.cos(HALF)], axis=1)
    np.testing.assert_allclose(ys, exact, atol=1e-7)


def test_a_constraint_may_see_the_model():
    model = Linear(jnp.asarray([[0.0, 1.0], [-1.0, 0.0]]))
    stated = jc.Constraint(lambda t, y, args, model: y[0] - model.matrix[0, 1], 0.0, 0.0, at="end")
    ys = jc.simulate(model, HALF, OPEN, by=jc.Radau(4), constraints=stated)
    np.testing.assert_allclose(ys[:, 0], np.sin(HALF), atol=1e-8)


@pytest.mark.parametrize("scheme", [jc.Radau(3), jc.Chebyshev(40)], ids=repr)
def test_both_solutions_of_bratus_problem(scheme):
    """y'' = -exp(y) has two, by the roots of theta = sqrt(2) cosh(theta / 4)."""
    slopes = np.pi * np.cos(np.pi * UNIT)
    high = np.stack([4 * np.sin(np.pi * UNIT), 4 * slopes], axis=1)
    for theta, guess in ((1.5171645990508, None), (10.938702772256, high)):
        ys = jc.simulate(bratu, UNIT, OPEN, 1.0, by=scheme, constraints=at_end(0, 0.0), guess=guess)
        np.testing.assert_allclose(ys[:, 0], bratu_solution(UNIT, theta), atol=2e-7)


def test_a_nonlinear_problem_agrees_with_scipy():
    """y'' = y y' + y - 1 + x with y(0) = 1 and y'(1) = y(1) / 2."""

    def model(t, y, args):
        return jnp.stack([y[1], y[0] * y[1] + y[0] - 1 + t])

    natural = jc.Constraint(lambda t, y, args: y[1] - y[0] / 2, 0.0, 0.0, at="end")
    ys = jc.simulate(model, UNIT, [1.0, np.nan], by=jc.GaussLegendre(4), constraints=natural)
    found = solve_bvp(
        lambda x, y: np.stack([y[1], y[0] * y[1] + y[0] - 1 + x]),
        lambda a, b: np.array([a[0] - 1.0, b[1] - b[0] / 2]),
        UNIT, np.ones((2, len(UNIT))), tol=1e-10,
    )  # fmt: skip
    assert found.success
    np.testing.assert_allclose(ys, found.sol(UNIT).T, atol=1e-7)


@pytest.mark.parametrize("rtol", [1e-5, 1e-9])
def test_a_boundary_layer_is_resolved(rtol):
    """eps y'' = y' with a layer of that width at the end."""
    eps = 1e-3

    def model(t, y, args):
        return jnp.stack([y[1], y[1] / eps])

    ts = np.append(UNIT, [1 - 1e-3, 1 - 1e-4])
    ts.sort()
    ys = jc.simulate(
        model, ts, OPEN, by=jc.GaussLegendre(4), constraints=at_end(0, 1.0), rtol=rtol, atol=rtol
    )
    exact = (np.exp((ts - 1) / eps) - np.exp(-1 / eps)) / (1 - np.exp(-1 / eps))
    np.testing.assert_allclose(ys[:, 0], exact, atol=20 * rtol)


def test_boundary_values_under_a_held_input():
    """y'' = u with u = 1, then -1, y(0) = y(2) = 0: two parabolas."""

    def model(t, y, args):
        return jnp.stack([y[1], args(t)])

    ts = np.linspace(0.0, 2.0, 9)
    pushed = jc.Input([0.0, 1.0], [1.0, -1.0], kind="hold")
    by, end = jc.Grid.uniform(0.0, 2.0, 3, jc.Radau(3)), at_end(0, 0.0)
    ys = jc.simulate(model, ts, OPEN, pushed, by=by, constraints=end)
    exact = np.where(ts <= 1, ts * (ts - 1) / 2, (ts - 1) * (2 - ts) / 2)
    np.testing.assert_allclose(ys[:, 0], exact, atol=1e-9)


def test_troeschs_problem_which_shooting_cannot_solve():
    """y'' = n sinh(n y), y(0) = 0, y(1) = 1: y'(0) = 3.5833778463e-4 for n = 10."""

    def model(t, y, args):
        return jnp.stack([y[1], 10.0 * jnp.sinh(10.0 * y[0])])

    ys = jc.simulate(model, UNIT, OPEN, by=jc.GaussLegendre(4), constraints=at_end(0, 1.0))
    assert float(ys[0, 1]) == pytest.approx(3.5833778463e-4, rel=1e-8)


def test_a_problem_without_solution_is_told():
    """Bratu's problem has none beyond the parameter 3.5138."""
    with pytest.raises(RuntimeError, match=r"failed: Newton's method does not converge"):
        jc.simulate(bratu, UNIT, OPEN, 4.0, by=jc.Radau(3), constraints=at_end(0, 0.0))
    ys = jc.simulate(
        bratu, UNIT, OPEN, 4.0, by=jc.Radau(3), constraints=at_end(0, 0.0), throw=False
    )
    assert np.isnan(np.asarray(ys)[1:]).all()


def test_a_grid_that_may_not_grow_is_told():
    with pytest.raises(RuntimeError, match=r"12 intervals is not tried|times what is allowed"):
        jc.simulate(
            bratu, UNIT, OPEN, 1.0, by=jc.Radau(1), constraints=at_end(0, 0.0), max_steps=12
        )


# --- The call ---


def test_compiles_the_model_once_whatever_the_grid(compilations):
    net = Net(2, 7)
    # What JAX compiles to tell the caller's float is compiled then.
    jc.simulate(swinging, TS, [1.0, 0.0], by=jc.Radau(3))
    before = compilations.count
    jc.simulate(net, TS, [1.0, 0.0], by=jc.Radau(3))
    first = compilations.count
    assert first - before <= 3
    jc.simulate(net, TS[:5], [0.3, 0.2], by=jc.Radau(3))
    jc.simulate(net, TS, [0.3, 0.2], by=jc.Grid.uniform(0.0, 4.0, 7, jc.Radau(4)))
    assert compilations.count == first
    end = at_end(0, 0.1)
    for intervals in (3, 5):
        grid = jc.Grid.uniform(0.0, 4.0, intervals, jc.Radau(3))
        jc.simulate(net, TS, OPEN, by=grid, constraints=end, rtol=1e-4)
    assert compilations.count - first == 2


def test_returns_the_callers_float():
    with jax.enable_x64(False):
        ys = jc.simulate(swinging, HALF, [0.0, 1.0], by=jc.Radau(4))
    assert ys.dtype == np.float32
    np.testing.assert_allclose(ys[:, 0], np.sin(HALF), atol=1e-6)


def test_takes_a_weight_of_float32():
    net = jax.tree.map(
        lambda leaf: leaf.astype(jnp.float32) if eqx.is_inexact_array(leaf) else leaf, Net(2, 4)
    )
    ys = jc.simulate(net, TS, [1.0, 0.0], by=jc.Radau(4))
    np.testing.assert_allclose(ys, jc.simulate(net, TS, [1.0, 0.0]), atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"by": 3}, "`by` must be a scheme such as .*got 3"),
        ({"by": jc.Radau}, "`by` must be a scheme such as"),
        ({"by": jc.Grid.uniform(0.0, 1.0, 3, jc.Radau(2))}, "`by` must be a grid that begins"),
        ({"by": jc.Grid.uniform(-1.0, 5.0, 3, jc.Radau(2))}, "`by` must be a grid that begins"),
        ({"y0": [1.0]}, "`y0` must have the shape of the model's state"),
        ({"y0": OPEN}, "as many conditions as the state has components, 2; got 1: 1 by `y0` and 0"),
        ({"y0": [1.0, np.inf]}, "`y0` must be finite"),
        ({"constraints": at_end(0, 1.0)}, "2; got 3: 2 by `y0` and 1 by `constraints`"),
        ({"y0": OPEN, "constraints": jc.nonnegative(1)}, "must be equations at the start or the e"),
        ({"y0": OPEN, "constraints": jc.Tie(0, 0)}, "must be equations .*got a jc.Tie"),
        (
            {"y0": OPEN, "constraints": jc.StateBounds(0, 0.0, 1.0, at="end")},
            "must be equations .*got 0.0 and 1.0",
        ),
        ({"y0": OPEN, "constraints": at_end(2, 1.0)}, "`components` must be below 2"),
        ({"y0": OPEN, "constraints": 3}, "`constraints` must hold"),
        (
            {"y0": OPEN, "constraints": jc.Constraint(lambda t, y: y, 1.0, 1.0, at="end")},
            "`function`.*takes other arguments",
        ),
        ({"guess": np.zeros((23, 2))}, "`guess` is for boundary values"),
        (
            {"y0": OPEN, "constraints": at_end(0, 1.0), "guess": np.zeros((3, 2))},
            r"`guess` must be finite numbers of shape \(time, state\) = \(23, 2\)",
        ),
        (
            {"y0": OPEN, "constraints": at_end(0, 1.0), "ts": [1.0, 1.0]},
            "`ts` must hold different times",
        ),
        ({"by": None, "constraints": at_end(0, 1.0)}, "are for boundary values, which need `by`"),
        ({"by": None, "y0": OPEN}, "`y0` must be finite"),
    ],
)
def test_says_what_is_wrong(options, message):
    known = {"model": swinging, "ts": TS, "y0": [1.0, 0.0], "by": jc.Radau(3)}
    with pytest.raises(ValueError, match=message):
        jc.simulate(**(known | options))


def test_refuses_a_solver_and_what_is_traced():
    import diffrax

    with pytest.raises(ValueError, match="`by` and `solver` are two ways"):
        jc.simulate(swinging, TS, [1.0, 0.0], by=jc.Radau(3), solver=diffrax.Tsit5())
    with pytest.raises(ValueError, match="`by` must be None inside"):
        jax.jit(lambda y: jc.simulate(swinging, TS, y, by=jc.Radau(3)))(np.ones(2))


@pytest.mark.parametrize("by", [jc.Radau(3), jc.Grid.uniform(0.0, 6.0, 4, jc.Radau(3))])
def test_jumps_are_gone_through(by):
    """Two doses at once at the start, a dilution later: each piece decays."""
    jumps = [*jc.doses([0.0, 0.0], 2.0, num_states=1), jc.Jump(3.0, to=lambda y, args: 0.5 * y)]
    ts = np.array([0.0, 1.0, 3.0, 3.0, 4.0, 6.0])
    ys = jc.simulate(lambda t, y, args: -args * y, ts, [1.0], 0.3, jumps=jumps, by=by)
    factor = np.array([1.0, 5.0, 5.0, 5.0, 2.5, 2.5])
    np.testing.assert_allclose(ys[:, 0], factor * np.exp(-0.3 * ts), rtol=1e-6)
    one = jc.simulate(lambda t, y, args: -args * y, ts, [1.0], 0.3, jumps=jumps)
    np.testing.assert_allclose(ys, one, rtol=1e-6)


def test_jumps_need_a_known_start():
    with pytest.raises(ValueError, match="`jumps` need a `y0` that is known"):
        jc.simulate(
            lambda t, y, args: jnp.stack([y[1], -y[0]]), [0.0, 1.0], [0.0, np.nan],
            jumps=jc.Jump(0.5, add=[1.0, 0.0]), by=jc.Radau(3),
            constraints=jc.StateBounds(0, 1.0, 1.0, at="end"),
        )  # fmt: skip
