"""Models with algebraic equations: called, in the NLP, and in all that is done with a solution."""

import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import dense
from scipy.integrate import solve_ivp
from scipy.optimize import brentq

import jaxcolloc as jc
from jaxcolloc._index import regularity
from jaxcolloc._precision import x64


GRAVITY, LENGTH = 9.81, 0.7


class Pendulum(eqx.Module):
    """A mass on a rod in Cartesian coordinates; the rod's tension (over m l) is algebraic."""

    gravity: jax.Array

    def field(self, t, y, a, args):
        x, z, u, v = y
        return jnp.stack([u, v, -a[0] * x, -a[0] * z - self.gravity])

    def tension(self, t, y, a, args):
        # x^2 + z^2 = l^2, differentiated twice.
        x, z, u, v = y
        return jnp.stack([u**2 + v**2 - a[0] * (x**2 + z**2) - self.gravity * z])


def pendulum(gravity=GRAVITY):
    system = Pendulum(jnp.asarray(gravity))
    return jc.DAE(system.field, system.tension, 1)


def swing(ts, angle=1.2):
    """States and tension of the pendulum from its equation in the angle."""

    def field(t, y):
        return [y[1], -GRAVITY / LENGTH * np.sin(y[0])]

    angles, rates = solve_ivp(field, (0, ts[-1]), [angle, 0.0], t_eval=ts, rtol=1e-11, atol=1e-12).y
    x, z = LENGTH * np.sin(angles), -LENGTH * np.cos(angles)
    states = np.stack([x, z, -z * rates, x * rates], axis=1)
    return states, rates**2 + GRAVITY / LENGTH * np.cos(angles)


class Manifold(eqx.Module):
    """Two tanks joined by a pipe and a valve, whose law a net knows: what flows is algebraic."""

    valve: eqx.nn.MLP
    gain: jax.Array

    def __init__(self, seed=0, width=4):
        self.valve = eqx.nn.MLP(1, 1, width, 1, jnp.tanh, key=jax.random.key(seed))
        self.gain = jnp.asarray(1.0)

    def levels(self, t, y, a, args):
        feed = 0.5 + 0.4 * jnp.sin(args * t)
        return jnp.stack([feed - a[0], (a[0] - 0.4 * y[1]) / 0.6])

    def pressure(self, t, y, a, args):
        return y[:1] - y[1:] - 0.3 * a - self.valve(a)

    def flow(self, t, y, args, algebraic):
        return jnp.concatenate([y, self.gain * algebraic])


def manifold(seed=0, width=4):
    system = Manifold(seed, width)
    return jc.DAE(system.levels, system.pressure, 1, start=0.5)


def law(flow):
    return 0.3 * flow + 1.2 * flow * np.abs(flow)


def tanks(rate, start, count=41, noise=0.0):
    """Levels and flow, with the flow eliminated by hand."""

    def flow(y):
        return brentq(lambda q: y[0] - y[1] - law(q), -10, 10, xtol=1e-14)

    def field(t, y):
        q = flow(y)
        return [0.5 + 0.4 * np.sin(rate * t) - q, (q - 0.4 * y[1]) / 0.6]

    ts = np.linspace(0.0, 10.0, count)
    ys = solve_ivp(field, (0, 10), start, t_eval=ts, rtol=1e-10, atol=1e-12).y.T
    flows = np.array([flow(y) for y in ys])
    noisy = ys + noise * np.random.default_rng(count).normal(size=ys.shape)
    return jc.Trajectory(ts, noisy, args=rate), flows


class Called(eqx.Module):
    """A DAE as a plain model: what it is called for, Newton's method finds."""

    dae: jc.DAE

    def __call__(self, t, y, args):
        return self.dae(t, y, args)


class Rich(eqx.Module):
    """Weights and a net in both parts, two algebraic variables that depend on each other."""

    net: eqx.nn.MLP
    k: jax.Array

    def __init__(self):
        self.net = eqx.nn.MLP(2, 1, 3, 1, jnp.tanh, key=jax.random.key(0))
        self.k = jnp.asarray([0.3, 0.7])

    def field(self, t, y, a, args):
        level, gain = args
        return jnp.stack(
            [level * self.k[0] - a[0] * y[0], a[1] * jnp.sin(t) - self.k[1] * y[1] * gain]
        )

    def equations(self, t, y, a, args):
        first = a[0] ** 3 + a[0] - y[0] * a[1] * args[1] + self.net(y)[0]
        return jnp.stack([first, a[1] - jnp.exp(-0.3 * a[0]) - t * y[1] + self.k[1]])

    def observe(self, t, y, args, algebraic):
        return jnp.stack([y[0] * algebraic[0], y[1] + self.k[0] * algebraic[1] ** 2])

    def work(self, t, y, args, algebraic):
        return algebraic[0] * self.k[0] + y[1]


def rich_data(grid):
    rng = np.random.default_rng(3)
    data = []
    for position, length in enumerate((11, 7, 9)):
        ts = rng.uniform(grid.boundaries[0], grid.boundaries[-1], length)
        ts[:2] = grid.times[1:3]
        ys = rng.normal(size=(length, 2))
        ys[2, 0] = np.nan
        args = (0.5 * position, np.float64(1.0 - position))
        data.append(jc.Trajectory(np.sort(ts), ys, args))
    return data


def root(equations, start=1.0, count=1, dtype=np.float64):
    model = jc.DAE(lambda t, y, a, args: y, lambda t, y, a, args: equations(a), count, start)
    with x64():
        return np.asarray(model.algebraic(0.0, jnp.zeros(1, dtype), None))


ROOTS = {
    "a square root": (lambda a: a**2 - 2, 1.0, [2**0.5]),
    "far away": (lambda a: jnp.arctan(a - 3), 100.0, [3.0]),
    "outside of the domain": (lambda a: jnp.sqrt(a) - 1e-3, 1.0, [1e-6]),
    "zero after cancellation": (lambda a: (a + 1e5) - 1e5, 1.0, [0.0]),
    "small beside its start": (lambda a: a * (1e-7 + a) - 1e-14, 1.0, [6.180339887498949e-8]),
    "two sizes": (
        lambda a: jnp.stack([a[0] - 123456.7, a[1] - (a[0] - 123456.7)]),
        1.0,
        [123456.7, 0.0],
    ),
    "an exponential": (lambda a: jnp.exp(a) - 1e-3, 20.0, [np.log(1e-3)]),
}


@pytest.mark.parametrize("name", ROOTS)
def test_newton_finds_roots_that_are_known(name):
    equations, start, expected = ROOTS[name]
    found = root(equations, start, len(expected))
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-300)
    # A float32 caller gives a start of the root's size.
    near = np.where(np.array(expected) == 0, 1.0, 1.5 * np.array(expected))
    single = root(equations, near, len(expected), np.float32)
    assert single.dtype == np.float32
    size = np.abs(expected).max() or 1.0
    np.testing.assert_allclose(single, expected, rtol=1e-4, atol=1e-6 * size)


def test_where_newton_fails_the_model_is_not_a_number():
    assert np.isnan(root(lambda a: a**2 + 2)).all()
    assert np.isnan(root(lambda a: 0 * a + 1)).all()
    assert np.isnan(root(lambda a: jnp.stack([a[0] - a[1], a[0] - a[1] - 1]), 1.0, 2)).all()


def test_derivatives_of_a_called_model_have_any_order():
    """For a^3 = y p all derivatives are known, by state and by weight, forward and reverse."""
    model = jc.DAE(
        lambda t, y, a, args: a, eqx.Partial(lambda p, t, y, a, args: a**3 - y * p, jnp.ones(1)), 1
    )

    def value(y, p=1.0):
        own = eqx.tree_at(lambda m: m.equations.args[0], model, jnp.reshape(p, (1,)))
        return own(0.0, y[None], None)[0]

    with x64():
        y, derivative = jnp.asarray(2.0), value
        for order, factor in enumerate([1 / 3, -2 / 9, 10 / 27]):
            derivative = jax.grad(derivative) if order % 2 else jax.jacfwd(derivative)
            expected = factor * 2.0 ** (1 / 3 - order - 1)
            np.testing.assert_allclose(derivative(y), expected, rtol=1e-10)
        mixed = jax.grad(jax.grad(value, argnums=1))(y, jnp.asarray(1.0))
        np.testing.assert_allclose(mixed, 2.0 ** (-2 / 3) / 9, rtol=1e-10)
        every = jax.jit(jax.vmap(value))(jnp.asarray([1.0, 8.0, 27.0]))
        np.testing.assert_allclose(every, [1.0, 2.0, 3.0], rtol=1e-12)


def test_a_pendulum_swings_as_its_angle_says(caller_x64):
    ts = np.linspace(0.0, 3.0, 31)
    states, tension = swing(ts)
    ys = jc.simulate(pendulum(), ts, states[0], rtol=1e-8, atol=1e-10)
    tol = 1e-6 if caller_x64 else 1e-3
    np.testing.assert_allclose(ys, states, atol=tol)
    a = jax.vmap(lambda y: pendulum().algebraic(0.0, y, None))(jnp.asarray(states))
    np.testing.assert_allclose(a[:, 0], tension, rtol=tol)


def test_the_gravity_of_a_pendulum_is_recovered(caller_x64):
    ts = np.linspace(0.0, 2.0, 41)
    states, tension = swing(ts)
    data = jc.Trajectory(ts, states[:, :2])
    grid = jc.Grid.uniform(0.0, 2.0, 40, jc.Radau(3))
    nlp = jc.transcribe(
        pendulum(8.0), data, grid, num_states=4, observe=lambda t, y, args: y[:2], l2=0.0
    )
    start = jc.guess(nlp, states=lambda ts, ys, slopes: np.hstack([ys, slopes]))
    sol = jc.solve(nlp, jc.Ipopt(tol=1e-10), start)
    assert float(sol.model.system.gravity) == pytest.approx(GRAVITY, rel=1e-5)
    np.testing.assert_allclose(sol.paths[0].algebraic(ts)[:, 0], tension, rtol=1e-3)
    np.testing.assert_allclose(sol.paths[0].algebraic_states[::3, 0], tension, rtol=1e-4)
    assert sol.paths[0].evaluate(ts).shape == (41, 4)
    assert jc.verify(sol).verdict.ok


CASES = {
    "radau": (jc.Grid.uniform(0.0, 2.0, 3, jc.Radau(2)), {}),
    "gauss": (jc.Grid([0.0, 0.3, 0.7, 2.0], jc.GaussLegendre(2)), {"residual_penalty": 0.1}),
    "global": (jc.Grid.single(0.0, 2.0, jc.Chebyshev(6)), {"collocate_start": True}),
    "lobatto": (jc.Grid.uniform(0.0, 2.0, 2, jc.Lobatto(3)), {}),
    "gauss start": (jc.Grid.uniform(0.0, 2.0, 2, jc.GaussLegendre(2)), {"collocate_start": True}),
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name == "gauss" else pytest.mark.slow) for name in CASES],
)
def test_sparse_derivatives_match_dense_ones(name):
    grid, options = CASES[name]
    system = Rich()
    nlp = jc.transcribe(
        jc.DAE(system.field, system.equations, 2),
        rich_data(grid),
        grid,
        observe=system.observe,
        constraints=[jc.Tie(0, 1), jc.Constraint(system.work, -1.0, 2.0), jc.nonnegative(1)],
        state_scale=[0.1, 3.0],
        algebraic_scale=[2.0, 0.5],
        **options,
    )
    assert nlp.num_states == nlp.num_algebraic == 2
    rng = np.random.default_rng(0)
    z = 0.5 * rng.normal(size=nlp.num_variables)
    multipliers = rng.normal(size=nlp.num_constraints)
    core = nlp.compiled.core
    with x64():
        values = np.asarray(core.constraints(z))
        jacobian = np.asarray(jax.jit(jax.jacobian(lambda z: core.constraints(z)))(z))
        gradient = np.asarray(jax.jit(jax.grad(lambda z: core.objective(z)))(z))

        def lagrangian(z):
            return 0.7 * core.objective(z) + multipliers @ core.constraints(z)

        hessian = np.asarray(jax.jit(jax.hessian(lagrangian))(z))
    assert jacobian.shape[0] != jacobian.shape[1]
    np.testing.assert_allclose(nlp.constraints(z), values, atol=1e-12)
    sparse = dense(nlp.jacobian_structure, nlp.jacobian(z), jacobian.shape)
    np.testing.assert_allclose(sparse, jacobian, atol=1e-12 * np.abs(jacobian).max())
    np.testing.assert_allclose(nlp.gradient(z), gradient, atol=1e-13)
    lower = dense(nlp.hessian_structure, nlp.hessian(z, multipliers, 0.7), hessian.shape)
    np.testing.assert_allclose(lower, np.tril(hessian), atol=1e-11 * np.abs(hessian).max())


PAIRS = [
    (jc.Radau(3), jc.InteriorPoint(tol=1e-9)),
    (jc.GaussLegendre(2), jc.Ipopt(tol=1e-9)),
    pytest.param(jc.Radau(3), jc.Ipopt(tol=1e-9), marks=pytest.mark.slow),
    pytest.param(jc.GaussLegendre(2), jc.InteriorPoint(tol=1e-9), marks=pytest.mark.slow),
    pytest.param(jc.Chebyshev(24), jc.Ipopt(tol=1e-9), marks=pytest.mark.slow),
    pytest.param(jc.Chebyshev(24), jc.InteriorPoint(tol=1e-9), marks=pytest.mark.slow),
    pytest.param(jc.Lobatto(4), jc.Ipopt(tol=1e-9), marks=pytest.mark.slow),
    pytest.param(jc.Lobatto(4), jc.InteriorPoint(tol=1e-9), marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("scheme", "solver"), PAIRS)
def test_variables_at_nodes_and_newton_inside_have_one_optimum(scheme, solver):
    data = [tanks(1.0, [1.0, 0.5], 21, 0.01)[0], tanks(0.6, [2.0, 1.5], 16, 0.01)[0]]
    intervals = 1 if isinstance(scheme, jc.Chebyshev) else 10
    grid = jc.Grid.uniform(0.0, 10.0, intervals, scheme)
    lifted, called = (
        jc.transcribe(model, data, grid, l2=1e-2)
        for model in (manifold(width=2), Called(manifold(width=2)))
    )
    start = jc.guess(called, key=jax.random.key(0))
    assert called.num_algebraic == 0 < lifted.num_algebraic
    z = lifted.pack_head(called.head(start.z), start.states)
    sol, other = jc.solve(lifted, solver, z), jc.solve(called, solver, start)
    assert sol.objective == pytest.approx(other.objective, rel=1e-6)
    for path, twin in zip(sol.paths, other.paths, strict=True):
        np.testing.assert_allclose(path.states, twin.states, atol=1e-5)
        with x64():
            by_newton = jax.vmap(lambda y: sol.model.algebraic(0.0, y, 1.0))(path.states)
        np.testing.assert_allclose(path.algebraic_states, by_newton, atol=1e-5)


@pytest.fixture(scope="module")
def fitted():
    """Levels and a flow meter, from which the valve's law is learned."""
    runs = [tanks(1.0, [1.0, 0.5]), tanks(0.6, [2.0, 1.5])]
    data = [
        jc.Trajectory(item.ts, np.column_stack([item.ys, 2.0 * flow]), args=item.args)
        for item, flow in runs
    ]
    model = manifold()
    grid = jc.Grid.uniform(0.0, 10.0, 20, jc.Radau(3))
    nlp = jc.transcribe(
        model, data, grid, observe=model.system.flow, num_states=2, l2=jc.OnNets(1e-8),
        algebraic_bounds=(-5.0, 5.0),
    )  # fmt: skip
    start = jc.guess(nlp, key=jax.random.key(0), states=lambda ts, ys, slopes: ys[:, :2])
    return jc.solve(nlp, jc.InteriorPoint(tol=1e-9), start)


def test_the_law_of_a_valve_is_recovered(fitted):
    flows = np.concatenate([path.algebraic_states[:, 0] for path in fitted.paths])
    q = np.linspace(*np.quantile(flows, [0.02, 0.98]), 20)
    valve = fitted.model.system.valve
    learned = 0.3 * q + np.asarray(jax.vmap(valve)(jnp.asarray(q)[:, None]))[:, 0]
    np.testing.assert_allclose(learned, law(q), atol=0.02)
    assert float(fitted.model.system.gain) == pytest.approx(2.0, rel=1e-3)


def test_a_rollout_is_that_with_the_flow_eliminated(fitted):
    data, _ = tanks(0.8, [1.5, 1.0])
    ys = jc.simulate(fitted.model, data.ts, data.ys[0], args=0.8)
    np.testing.assert_allclose(ys, data.ys, atol=0.02)
    assert jc.verify(fitted).verdict is jc.VERDICT.good
    assert 0.1 < fitted.stats["regularity"] <= 1.0
    assert "algebraic  smallest singular value" in str(fitted)


def test_files_hold_algebraic_variables(fitted, tmp_path):
    fitted.save(tmp_path / "run.jcs")
    whole = jc.load(tmp_path / "run.jcs", like=fitted.nlp)
    alone = jc.load(tmp_path / "run.jcs", like=fitted.model)
    assert alone.problem is None
    for other in (whole, alone):
        for path, stored in zip(fitted.paths, other.paths, strict=True):
            np.testing.assert_allclose(stored.algebraic_states, path.algebraic_states, rtol=1e-12)
    units = jc.transcribe(
        fitted.nlp.model, fitted.nlp.trajectories, fitted.nlp.grids,
        **dict(fitted.nlp.settings) | {"algebraic_scale": 3.0},
    )  # fmt: skip
    with pytest.raises(ValueError, match="`like` must have the stored solution's units"):
        jc.load(tmp_path / "run.jcs", like=units)
    table = fitted.to_pandas()
    np.testing.assert_allclose(
        table.loc[0].loc[fitted.nlp.grids[0].times, "algebraic_0"].to_numpy(),
        fitted.paths[0].algebraic_states[:, 0],
    )


def test_a_finer_grid_starts_at_the_optimum(fitted):
    finer = jc.refine(fitted, rounds=1, tol=1e-7)
    assert finer.nlp.num_variables > fitted.nlp.num_variables
    assert finer.objective == pytest.approx(fitted.objective, abs=1e-6)
    ts = np.linspace(0.0, 10.0, 33)
    np.testing.assert_allclose(
        finer.paths[0].algebraic(ts), fitted.paths[0].algebraic(ts), atol=2e-3
    )


@pytest.mark.slow
def test_growing_windows_and_batches_come_to_the_same(fitted):
    nlp, solver = fitted.nlp, jc.InteriorPoint(tol=1e-9)
    start = jc.guess(nlp, key=jax.random.key(0), states=[path.states for path in fitted.paths])
    grown = jc.solve_growing(nlp, solver, start, windows=2)
    again = jc.solve_batch(nlp, solver, [fitted, start])
    for sol in (grown, *again):
        assert sol.objective == pytest.approx(fitted.objective, rel=0.3, abs=1e-7)


@pytest.fixture(scope="module")
def noisy():
    """The same problem with and without variables for the flow, at one optimum."""
    data = [tanks(1.0, [1.0, 0.5], 21, 0.01)[0], tanks(0.6, [2.0, 1.5], 16, 0.01)[0]]
    grid = jc.Grid.uniform(0.0, 10.0, 10, jc.Radau(3))
    solver = jc.InteriorPoint(tol=1e-10)
    called = jc.transcribe(Called(manifold(width=2)), data, grid, l2=1e-3)
    other = jc.solve(called, solver, jc.guess(called, key=jax.random.key(0)))
    lifted = jc.transcribe(manifold(width=2), data, grid, l2=1e-3)
    z = lifted.pack_head(called.head(other.z), called.states_at(other.z))
    return jc.solve(lifted, solver, z), other


@pytest.mark.slow
def test_uncertainty_is_that_of_the_called_model(noisy):
    u, other = (jc.uncertainty(sol) for sol in noisy)
    np.testing.assert_allclose(u.bands().stderr, other.bands().stderr, rtol=1e-3)
    q = np.linspace(0.2, 0.7, 5)[:, None]
    band = u.function_band(lambda m, x: m.system.valve(x), q)
    twin = other.function_band(lambda m, x: m.dae.system.valve(x), q)
    np.testing.assert_allclose(band.stderr, twin.stderr, rtol=1e-3)
    np.testing.assert_allclose(u.stderr("y0[1]"), other.stderr("y0[1]"), rtol=1e-3)
    ahead = [item.predict([0.0, 5.0, 12.0]).stderr for item in (u, other)]
    np.testing.assert_allclose(*ahead, rtol=1e-2)


@pytest.mark.slow
def test_the_optimum_has_derivatives(noisy):
    sol, _ = noisy
    solver = jc.InteriorPoint(tol=1e-10)
    best, twin = (jc.optimum(item.nlp, solver, item) for item in noisy)
    ys = [jnp.asarray(item.ys) for item in sol.nlp.trajectories]
    with jax.enable_x64(True):
        gradients = [
            jax.grad(lambda y, best=item: jnp.sum(best(ys=[y, ys[1]]).states[0][7]))(ys[0])
            for item in (best, twin)
        ]
        np.testing.assert_allclose(*gradients, atol=1e-5)

        def flow(y):
            return jnp.sum(best(ys=[y, ys[1]]).algebraic[0][7])

        move = jnp.zeros_like(ys[0]).at[4, 1].set(1e-4)
        slope = (flow(ys[0] + move) - flow(ys[0] - move)) / 2e-4
        np.testing.assert_allclose(jax.grad(flow)(ys[0])[4, 1], slope, rtol=1e-3)


@pytest.mark.slow
def test_batches_agree_on_one_model():
    data = [tanks(rate, [1.5, 1.0], 21, 0.01)[0] for rate in (0.6, 1.0)]
    with warnings.catch_warnings():
        # So small a net leaves some structure.
        warnings.simplefilter("ignore")
        sol = jc.fit_admm(
            manifold(width=2), data, batches=2, key=jax.random.key(0), l2=1e-3, max_rounds=40,
            grid=jc.Grid.uniform(0.0, 10.0, 10, jc.Radau(2)),
        )  # fmt: skip
    joint = jc.solve(sol.nlp, jc.InteriorPoint(), sol)
    assert sol.objective == pytest.approx(joint.objective, rel=0.05)
    gap = np.abs(np.asarray(sol.nlp.constraints(sol.z))).max()
    assert gap < 0.05


@pytest.mark.slow
def test_sequential_training_goes_through_newton(fitted):
    """From a wrong gain of the flow meter, whose signal Newton's method finds in the rollouts."""
    nlp = fitted.nlp
    wrong = eqx.tree_at(lambda m: m.system.gain, fitted.model, jnp.asarray(1.8))
    tuned = jc.fine_tune(
        wrong, nlp.trajectories, optax.adam(5e-3), steps=10, start=fitted, num_states=2,
        grid=nlp.grids, observe=wrong.system.flow, l2=jc.OnNets(1e-8),
    )  # fmt: skip
    assert tuned.trace.objective[-1] < 0.8 * tuned.trace.objective[0]
    path = tuned.paths[0]
    with x64():
        again = jax.vmap(lambda y: tuned.model.algebraic(0.0, y, 1.0))(path.states)
    np.testing.assert_allclose(again, path.algebraic_states, rtol=1e-6)


class Held(eqx.Module):
    """A flow that is an input over the level: it jumps where the input does."""

    k: jax.Array

    def field(self, t, y, a, args):
        return a - self.k * y

    def equations(self, t, y, a, args):
        return a * (1.0 + y) - args(t)


JUMPING = [
    jc.Radau(3),
    pytest.param(jc.GaussLegendre(3), marks=pytest.mark.slow),
    pytest.param(jc.Lobatto(4), marks=pytest.mark.slow),
]


@pytest.mark.parametrize("scheme", JUMPING, ids=repr)
def test_algebraic_variables_jump_where_an_input_does(scheme):
    system = Held(jnp.asarray(1.0))
    model = jc.DAE(system.field, system.equations, 1)
    u = jc.Input([0.0, 1.0, 2.0], [1.0, 3.0, 0.5], "hold")
    ts = np.array([0.0, 0.4, 0.9, 1.0, 1.1, 1.3, 2.0, 2.05, 2.4, 3.0])
    ys = np.asarray(jc.simulate(model, ts, [0.2], args=u, rtol=1e-9, atol=1e-10))
    flow = np.array([u(t) for t in ts])[:, None] / (1 + ys)
    data = jc.Trajectory(ts, flow, args=u)
    grid = jc.Grid.uniform(0.0, 3.0, 12, scheme)
    nlp = jc.transcribe(
        model, data, grid, num_states=1, l2=0.0, observe=lambda t, y, args, algebraic: algebraic
    )
    sol = jc.solve(nlp, jc.Ipopt(tol=1e-10), jc.guess(nlp, states=[np.ones((grid.num_nodes, 1))]))
    # Samples off the nodes, right behind a jump, are interpolated from behind it only.
    assert sol.objective < 1e-6
    assert float(sol.model.system.k) == pytest.approx(1.0, abs=1e-2)
    np.testing.assert_allclose(sol.paths[0].algebraic(ts), flow, atol=3e-3)
    assert sol.paths[0].algebraic(1.001)[0] > 2 * sol.paths[0].algebraic(1.0)[0]


class Buffer(eqx.Module):
    """A weak acid fed to a tank of base: the charge balance gives the logarithm of [H+]."""

    constant: jax.Array

    def field(self, t, y, a, args):
        return jnp.stack([0.1 - y[0], 0.06 - y[1]]) * jnp.asarray([0.5, 0.2])

    def balance(self, t, y, a, args):
        h = jnp.exp(a[0])
        return jnp.stack([h + y[1] - 1e-14 / h - y[0] * self.constant / (self.constant + h)])

    def ph(self, t, y, args, algebraic):
        return -algebraic / np.log(10.0)


def test_the_constant_of_an_acid_is_recovered_from_its_ph():
    system = Buffer(jnp.asarray(3e-6))
    ts = np.linspace(0.0, 8.0, 33)
    acid, base = 0.1 + (0.02 - 0.1) * np.exp(-0.5 * ts), 0.06 + (0.005 - 0.06) * np.exp(-0.2 * ts)

    def charge(a, c, b):
        h = np.exp(a)
        return h + b - 1e-14 / h - c * 1.8e-5 / (1.8e-5 + h)

    a = [brentq(charge, -32, 0, args=pair, xtol=1e-13) for pair in zip(acid, base, strict=True)]
    data = jc.Trajectory(ts, -np.array(a)[:, None] / np.log(10.0), y0=[0.02, 0.005])
    grid = jc.Grid.uniform(0.0, 8.0, 8, jc.Radau(3))
    nlp = jc.transcribe(
        jc.DAE(system.field, system.balance, 1, start=-10.0), data, grid, num_states=2, l2=0.0,
        observe=system.ph, weight_scale="log",
    )  # fmt: skip
    start = jc.guess(nlp, states=[np.stack([np.full(25, 0.06), np.full(25, 0.03)], axis=1)])
    sol = jc.solve(nlp, jc.InteriorPoint(tol=1e-9), start)
    assert float(sol.model.system.constant) == pytest.approx(1.8e-5, rel=1e-3)


def test_guesses_of_algebraic_variables():
    data = tanks(1.0, [1.0, 0.5])[0]
    grid = jc.Grid.uniform(0.0, 10.0, 10, jc.Radau(2))
    nlp = jc.transcribe(manifold(), data, grid, algebraic_bounds=(0.0, None))
    lower = nlp.bounds[0][nlp.layout.num_head :].reshape(-1, 3)
    assert np.all(lower[:, 2] == 0)
    assert np.all(np.isneginf(lower[:, :2]))
    found = jc.guess(nlp, weights="as_given")
    y, a = nlp.states_at(found.z)[0], nlp.algebraic_at(found.z)[0]
    expected = found.model.algebraic(0.0, jnp.asarray(y[3]), 1.0)
    np.testing.assert_allclose(a[3], np.maximum(expected, 0.0), rtol=1e-5)
    given = jc.guess(nlp, weights="as_given", algebraic=[np.full((21, 1), 0.25)])
    np.testing.assert_allclose(nlp.algebraic_at(given.z)[0], 0.25)
    np.testing.assert_allclose(nlp.states_at(given.z)[0], y)
    packed = nlp.pack(nlp.model, [np.hstack([y, np.full((21, 1), 0.5)])])
    np.testing.assert_allclose(nlp.algebraic_at(packed)[0], 0.5)


def test_units_of_variables_and_equations_follow_from_the_data():
    """Pressures in Pa: flow and pressure drop differ by ten decades."""

    def field(t, y, a, args):
        return -a

    def equations(t, y, a, args):
        return 1e5 * y - 1e9 * a

    ts = np.linspace(0.0, 1.0, 11)
    data = jc.Trajectory(ts, np.exp(-ts)[:, None])
    nlp = jc.transcribe(jc.DAE(field, equations, 1), data, jc.Grid.uniform(0, 1, 2, jc.Radau(2)))
    np.testing.assert_allclose(nlp.parts.scale.node, [1.0, 1e-3])
    np.testing.assert_allclose(nlp.parts.scale.equation, [1e6])


def plain(t, y, a, args):
    return jnp.stack([a[0], a[0] + a[-1]])[: len(y)]


HIGH = {
    "of the state alone": (lambda t, y, a, args: y**2 - 1.0, 1, "equation 0 contains none"),
    "of one variable twice": (
        lambda t, y, a, args: jnp.stack([a[0] - y[0], a[0] + y[0]]),
        2,
        "no choice of variables",
    ),
}


@pytest.mark.parametrize("name", HIGH)
def test_a_higher_index_is_refused_by_the_pattern(name):
    equations, count, text = HIGH[name]
    data = jc.Trajectory([0.0, 1.0], [[1.0], [0.5]])
    grid = jc.Grid.uniform(0.0, 1.0, 2, jc.Radau(2))
    with pytest.raises(ValueError, match=f"`equations` must determine.*{text}.*in time"):
        jc.transcribe(jc.DAE(plain, equations, count), data, grid)


def test_a_pendulum_of_index_three_is_refused():
    system = Pendulum(jnp.asarray(GRAVITY))
    ts = np.linspace(0.0, 1.0, 9)
    data = jc.Trajectory(ts, swing(ts)[0])

    def length(t, y, a, args):
        return jnp.sum(y[:2] ** 2) - LENGTH**2

    with pytest.raises(ValueError, match="contains none of the algebraic variables"):
        jc.transcribe(
            jc.DAE(system.field, lambda *inputs: length(*inputs)[None], 1), data,
            jc.Grid.uniform(0.0, 1.0, 2, jc.Radau(2)),
        )  # fmt: skip


def test_a_higher_index_is_refused_by_the_numbers():
    """Equations whose pattern is regular and whose Jacobian is not."""

    def equations(t, y, a, args):
        return jnp.stack([a[0] - a[1] - y[0], 2 * (a[0] - a[1]) - y[0]])

    data = jc.Trajectory([0.0, 1.0], [[1.0], [0.5]])
    nlp = jc.transcribe(
        jc.DAE(plain, equations, 2), data, jc.Grid.uniform(0.0, 1.0, 2, jc.Radau(2))
    )
    with pytest.raises(ValueError, match=r"`equations` must determine.*singular at all nodes"):
        jc.solve(nlp, jc.Ipopt(), jc.guess(nlp))


def test_a_singularity_on_the_path_is_said():
    """(t - 1/2) a = (t - 1/2) y determines a everywhere but at t = 1/2."""

    def equations(t, y, a, args):
        return (t - 0.5) * (a - y)

    system = eqx.Partial(lambda k, t, y, a, args: -k * a, jnp.asarray(0.5))
    ts = np.linspace(0.0, 1.0, 9)
    data = jc.Trajectory(ts, np.exp(-ts)[:, None])
    grid = jc.Grid.uniform(0.0, 1.0, 2, jc.Radau(2))
    nlp = jc.transcribe(jc.DAE(system, equations, 1), data, grid, l2=0.0)
    start = nlp.pack(nlp.model, [np.hstack([np.exp(-grid.times)[:, None]] * 2)])
    with pytest.warns(UserWarning, match=r"singular, 0.0e\+00 in trajectory 0 at t = 0.5"):
        sol = jc.solve(nlp, jc.Ipopt(), start)
    assert "`equations` do not determine" in str(sol)
    assert jc.VERDICT.singular in jc.verify(sol).causes
    # Between nodes, the determinant's sign tells.
    moved = jc.Grid([0.0, 0.4, 1.0], jc.Radau(1))
    other = jc.transcribe(nlp.model, data, moved, l2=0.0)
    z = other.pack(nlp.model, [np.hstack([np.exp(-moved.times)[:, None]] * 2)])
    found = regularity(other, np.asarray(z))
    assert found.turns
    assert found.least > 0.1
    assert "changes its sign" in found.sentence


class Watched(jc.DAE):
    """A DAE with a sensor of its own."""

    def observe(self, t, y, args, algebraic):
        return 3.0 * algebraic


def test_a_sensor_may_be_a_method_of_the_model():
    model = Watched(lambda t, y, a, args: -a, lambda t, y, a, args: a - 2.0 * y, 1)
    data = jc.Trajectory([0.0, 0.7, 1.0], [[6.0], [7.0], [8.0]])
    grid = jc.Grid.uniform(0.0, 1.0, 2, jc.Radau(2))
    nlp = jc.transcribe(model, data, grid, observe=model.observe)
    z = nlp.pack(model, [np.ones((grid.num_nodes, 1))])
    assert float(nlp.objective(z)) == pytest.approx((0.0 + 1.0 + 4.0) / 3)
    values = nlp.node_values(z)[0]
    values[:, 1] = 2.5
    assert float(nlp.objective(nlp.pack(model, [values]))) == pytest.approx(
        (1.5**2 + 0.25 + 0.25) / 3
    )


def test_weights_that_both_parts_use_are_one():
    model = manifold()
    nlp = jc.transcribe(
        model, tanks(1.0, [1.0, 0.5])[0], jc.Grid.uniform(0.0, 10.0, 4, jc.Radau(2))
    )
    assert nlp.num_weights == sum(
        leaf.size for leaf in jax.tree.leaves(eqx.filter(model.system, eqx.is_inexact_array))
    )
    net = model.system.valve
    with pytest.raises(ValueError, match="`equations` must not hold arrays that `field` holds"):
        jc.DAE(eqx.Partial(plain, net), eqx.Partial(plain, net), 1)


def test_starts_may_be_functions():
    """Of two roots Newton's method comes to that on the start's side."""
    for start in (-2.0, [-2.0], lambda t, y, args: -2.0 * y, eqx.Partial(lambda t, y, args: -2.0)):
        model = jc.DAE(lambda t, y, a, args: a, lambda t, y, a, args: a**2 - y, 1, start)
        assert float(model(0.0, jnp.asarray([4.0]), None)[0]) == pytest.approx(-2.0)


REFUSED = {
    "field": {"field": 3},
    "equations": {"equations": None},
    "num_algebraic": {"num_algebraic": 0},
    "start": {"start": [1.0, 2.0]},
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_arguments_are_named(name):
    arguments = {"field": plain, "equations": plain, "num_algebraic": 1, "start": 1.0}
    with pytest.raises(ValueError, match=f"`{name}`"):
        jc.DAE(**(arguments | REFUSED[name]))


def test_wrong_shapes_and_options_are_named():
    data = jc.Trajectory([0.0, 1.0], [[1.0], [0.5]])
    grid = jc.Grid.uniform(0.0, 1.0, 2, jc.Radau(2))

    def two(t, y, a, args):
        return jnp.concatenate([a, a])

    for name, model in (
        ("field", jc.DAE(two, lambda t, y, a, args: a - y, 1)),
        ("equations", jc.DAE(lambda t, y, a, args: -a, two, 1)),
        ("start", jc.DAE(lambda t, y, a, args: -a, lambda t, y, a, args: a - y, 1,
                         lambda t, y, args: jnp.ones(3))),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=f"`{name}` must return"):
            jc.transcribe(model, data, grid)
    good = jc.DAE(lambda t, y, a, args: -a, lambda t, y, a, args: a - y, 1)
    with pytest.raises(ValueError, match="`algebraic_bounds` must have lower < upper"):
        jc.transcribe(good, data, grid, algebraic_bounds=(1.0, 0.0))
    with pytest.raises(ValueError, match="`algebraic_scale` must be numbers above zero"):
        jc.transcribe(good, data, grid, algebraic_scale=[1.0, 2.0])
    with pytest.raises(ValueError, match="`algebraic_scale` must be None"):
        jc.transcribe(lambda t, y, args: -y, data, grid, algebraic_scale=1.0)
    with pytest.raises(ValueError, match="`observe` must have no parameter `algebraic`"):
        jc.transcribe(
            lambda t, y, args: -y, data, grid, observe=lambda t, y, args, algebraic: algebraic
        )
    nlp = jc.transcribe(good, data, grid)
    with pytest.raises(ValueError, match="`algebraic` must be a list of 1 arrays"):
        jc.guess(nlp, algebraic=[np.ones((2, 1))])
    with pytest.raises(ValueError, match="`path` has no algebraic variables"):
        jc.Path(grid, np.ones((5, 1))).algebraic(0.5)


def test_a_variable_that_is_zero_up_to_rounding_has_a_unit_of_one():
    """At states of one, which stand for those that are not measured, h is zero."""

    def charge(t, y, a, args):
        return (a + y[1:]) * (0.5 + a) - 0.5 * y[:1]

    model = jc.DAE(lambda t, y, a, args: jnp.stack([-y[0], a[0]]), charge, 1, start=0.3)
    data = jc.Trajectory([0.0, 1.0, 2.0], np.ones((3, 1)))
    nlp = jc.transcribe(
        model, data, jc.Grid.uniform(0, 2, 2, jc.Radau(2)), num_states=2,
        observe=lambda t, y, args: y[:1],
    )  # fmt: skip
    np.testing.assert_array_equal(nlp.parts.scale.algebraic, [1.0])
