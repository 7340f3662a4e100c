"""InteriorPoint: its linear algebra against dense matrices, its optima against IPOPT's.

Both drivers, NumPy on the host and the compiled loop, are held against the same, and each other.
"""

import concurrent.futures
import importlib
import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import SCHEMES, Linear, Net, Plant, dense, spiral

import jaxcolloc as jc
from jaxcolloc._arrays import module
from jaxcolloc._interior_point import batch, batched, blocks, chain, host_chain, kkt, loop
from jaxcolloc._interior_point.iterate import iterate
from jaxcolloc._interior_point.problem import host_problem_of, problem_of
from jaxcolloc._interior_point.state import Options, Record, begin
from jaxcolloc._interior_point.structure import structure_of
from jaxcolloc._precision import x64


solver_file = importlib.import_module("jaxcolloc._interior_point.solver")
TS = np.linspace(0.0, 2.0, 21)
GRID = jc.Grid.uniform(0.0, 2.0, 5, jc.Radau(3))


def two(scheme, **options):
    """Trajectories of different lengths, one with a known start."""
    data = [
        jc.Trajectory(TS, spiral(TS)),
        jc.Trajectory(TS[:12], spiral(TS)[:12], y0=[1.0, np.nan]),
    ]
    grids = [jc.Grid.uniform(0.0, 2.0, 4, scheme), jc.Grid.uniform(0.0, 1.1, 3, scheme)]
    return jc.transcribe(Net(2, 3), data, grids, **options)


def plants():
    """Inputs, an unknown of one trajectory, a sensor, gaps, an integrated residual."""
    rng, data = np.random.default_rng(0), []
    for k in range(3):
        ts = np.linspace(0.0, 1.0 + 0.3 * k, 9 + 2 * k)
        ys = rng.normal(size=(len(ts), 2))
        ys[3, 0], ys[5] = np.nan, np.nan
        feed = jc.Unknown(0.5 + k, scale="log") if k == 1 else 0.5 + k
        u = jc.Input([0.0, 0.5], rng.normal(size=2))
        data.append(jc.Trajectory(ts, ys, {"u": u, "feed": feed, "offset": np.array([1.0, 1.2])}))
    model = Plant()
    grids = [jc.Grid.uniform(0.0, 1.0 + 0.3 * k, 3 + k, jc.Radau(2)) for k in range(3)]
    return jc.transcribe(
        model, data, grids, observe=model.observe, num_states=2, residual_penalty=0.1
    )


CONSTRAINED = [
    jc.Constraint(lambda t, y, args: y[0] * y[1] + y[0], upper=3.0),
    jc.Constraint(lambda t, y, args, model: model(t, y, args)[:1], lower=-3.0, at="end"),
]


def matrices(nlp, seed=0):
    """A random point's sparse values, and the dense Jacobian and Hessian."""
    rng = np.random.default_rng(seed)
    z = np.clip(0.3 * rng.normal(size=nlp.num_variables), *nlp.bounds)
    multipliers = rng.normal(size=nlp.num_constraints)
    with x64():
        jacobian, hessian = nlp.jacobian(z), nlp.hessian(z, multipliers)
    a = dense(nlp.jacobian_structure, jacobian, (nlp.num_constraints, nlp.num_variables))
    w = dense(nlp.hessian_structure, hessian, (nlp.num_variables, nlp.num_variables))
    return rng, jacobian, hessian, a, w + np.tril(w, -1).T


def _both(structure, jacobian, hessian, diagonal, weight, dual, primal, fixed):
    slopes = blocks.slopes(structure, jacobian, module(jacobian).ones(structure.num_constraints))
    curves = blocks.curvature(structure, hessian)
    inner = kkt.eliminate(structure, slopes)
    factor = kkt.factorise(structure, slopes, inner, curves, diagonal, weight, fixed)
    return factor.good, kkt.solve(structure, slopes, inner, factor, dual, primal, fixed)


DRIVERS = ["host", "traced"]


def solved(driver, nlp, jacobian, hessian, diagonal, weight, right, gauss_newton=False):
    """`_both` on numbers, on the host or compiled."""
    with x64(), np.errstate(all="ignore"):
        fixed = nlp.bounds[0] == nlp.bounds[1]
        inputs = [jacobian, hessian, diagonal, weight, *right, fixed]
        structure = structure_of(nlp, gauss_newton)
        if driver == "host":
            good, steps = _both(structure, *map(np.asarray, inputs))
        else:
            structure = jax.tree.map(jnp.asarray, structure)
            good, steps = eqx.filter_jit(_both)(structure, *map(jnp.asarray, inputs))
        return bool(good), [np.asarray(item) for item in steps]


def loose_rows(nlp):
    """Rows that are no equation of the model: those that the caller has stated."""
    stated = jc.transcribe(nlp.model, nlp.trajectories, nlp.grids, **(nlp.settings | {
        "constraints": ()}))  # fmt: skip
    return np.arange(nlp.num_constraints) >= stated.num_constraints


@pytest.mark.slow
@pytest.mark.parametrize(
    "nlp",
    [pytest.param(lambda s=s: two(s), id=repr(s)) for s in SCHEMES[1::2]]
    + [
        pytest.param(lambda: two(jc.Radau(3), constraints=CONSTRAINED), id="constraints"),
        pytest.param(plants, id="plants"),
        pytest.param(lambda: two(jc.GaussLegendre(2), loss=jc.PseudoHuber(0.1)), id="robust"),
    ],
)
@pytest.mark.parametrize("driver", DRIVERS)
def test_steps_solve_the_sparse_system(driver, nlp):
    nlp = nlp()
    rng, jacobian, hessian, a, w = matrices(nlp)
    n, m = nlp.num_variables, nlp.num_constraints
    diagonal = 50.0 + rng.uniform(size=n)
    loose = loose_rows(nlp)
    weight = np.where(loose, rng.uniform(1.0, 9.0, m), 0.0)
    right = rng.normal(size=n), rng.normal(size=m)
    good, (dz, dl) = solved(driver, nlp, jacobian, hessian, diagonal, weight, right)
    assert good
    c = np.divide(1.0, weight, out=np.zeros(m), where=loose)
    fixed = nlp.bounds[0] == nlp.bounds[1]
    left = (w + np.diag(diagonal)) @ dz + a.T @ dl - right[0]
    np.testing.assert_allclose(left[~fixed], 0.0, atol=1e-9)
    np.testing.assert_allclose(a @ dz - c * dl, right[1], atol=1e-9)
    np.testing.assert_allclose(dz[fixed], 0.0, atol=1e-14)


@pytest.mark.slow
@pytest.mark.parametrize("driver", DRIVERS)
def test_the_curvature_is_good_exactly_if_the_inertia_is_right(driver):
    """As many negative eigenvalues as constraints (Waechter and Biegler, section 3.1)."""
    nlp = two(jc.Radau(2))
    free = nlp.bounds[0] < nlp.bounds[1]
    n, m = nlp.num_variables, nlp.num_constraints
    kinds = []
    for seed in range(12):
        _, jacobian, hessian, a, w = matrices(nlp, seed)
        added = 0.05 * 3.0 ** (seed - 4)
        nothing = np.zeros(n), np.zeros(m)
        inputs = jacobian, hessian, np.full(n, added), np.zeros(m), nothing
        good, _ = solved(driver, nlp, *inputs)
        a = a[:, free]
        upper = np.hstack([w[np.ix_(free, free)] + added * np.eye(free.sum()), a.T])
        values = np.linalg.eigvalsh(np.vstack([upper, np.hstack([a, np.zeros((m, m))])]))
        assert good == (np.sum(values < 0) == m)
        kinds.append(good)
    assert set(kinds) == {True, False}


@pytest.mark.slow
@pytest.mark.parametrize("driver", DRIVERS)
def test_unstable_dynamics_and_a_stretch_without_data_do_no_harm(driver):
    """y' = 4 y over [0, 10]: a perturbation grows by 2e17 on the way."""
    ts = np.array([0.0, 0.3, 9.0, 10.0])
    data = jc.Trajectory(ts, np.zeros((4, 2)))
    model = Linear(jnp.asarray([[4.0, 0.3], [0.1, -3.0]]))
    nlp = jc.transcribe(model, data, jc.Grid.uniform(0.0, 10.0, 40, jc.Radau(3)), l2=1.0)
    rng, jacobian, hessian, a, w = matrices(nlp)
    # The Jacobian is that of the model as it is given.
    with x64():
        z = np.zeros(nlp.num_variables)
        z[:4] = [4.0, 0.3, 0.1, -3.0]
        jacobian = nlp.jacobian(z)
        hessian = nlp.gauss_newton(z)
    n, m = nlp.num_variables, nlp.num_constraints
    a = dense(nlp.jacobian_structure, jacobian, (m, n))
    w = dense(nlp.gauss_newton_structure, hessian, (n, n))
    w = w + np.tril(w, -1).T
    right = rng.normal(size=n), rng.normal(size=m)
    inputs = jacobian, hessian, np.zeros(n), np.zeros(m), right
    _, (dz, dl) = solved(driver, nlp, *inputs, gauss_newton=True)
    size = max(1.0, np.max(np.abs(dz)), np.max(np.abs(dl)))
    np.testing.assert_allclose(w @ dz + a.T @ dl, right[0], atol=1e-10 * size)
    np.testing.assert_allclose(a @ dz, right[1], atol=1e-10 * size)


def pair(nlp, start, tol=1e-8, **options):
    """Both solvers from one start."""
    ours = jc.solve(nlp, jc.InteriorPoint(tol=tol, max_steps=300, **options), start)
    theirs = jc.solve(nlp, jc.Ipopt(tol=tol, hessian=options.get("hessian", "exact")), start)
    return ours, theirs


def assert_same(ours, theirs, rel=1e-6):
    assert ours.result is theirs.result is jc.RESULTS.successful
    assert ours.objective == pytest.approx(theirs.objective, rel=rel)
    assert ours.stats["max_defect"] < 1e-7


SPIRALS = [
    jc.Trajectory(TS, spiral(TS) + 0.05 * np.random.default_rng(2).normal(size=(21, 2))),
    jc.Trajectory(TS[:14], spiral(TS[:14] + 0.5), y0=spiral(np.array([0.5]))[0]),
]
START = Linear(jnp.asarray([[0.0, 1.7], [-1.7, 0.0]]))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "active"),
    [
        pytest.param({}, "", id="plain"),
        pytest.param({"weight_bounds": (-1.9, 1.9)}, "weights", id="weight bounds"),
        pytest.param({"state_bounds": (-0.8, 1.2)}, "states", id="state bounds"),
        pytest.param(
            {"constraints": jc.Constraint(lambda t, y, args: y[0] + y[1], upper=0.9)},
            "rows", id="path constraint",
        ),
        pytest.param(
            {"constraints": jc.Constraint(lambda t, y, a: y @ y, lower=0.6, upper=0.6, at="end")},
            "", id="terminal equation",
        ),
    ],
)  # fmt: skip
def test_the_optimum_is_that_of_ipopt(options, active):
    # The bounds leave out what the known start of the second trajectory would forbid.
    data = SPIRALS[:1] if active in ("states", "rows") else SPIRALS
    grids = [jc.Grid.uniform(item.ts[0], item.ts[-1], 5, jc.Radau(3)) for item in data]
    nlp = jc.transcribe(START, data, grids, l2=1e-3, **options)
    ours, theirs = pair(nlp, jc.guess(nlp, weights="as_given"))
    assert_same(ours, theirs)
    np.testing.assert_allclose(ours.z, theirs.z, atol=2e-5)
    np.testing.assert_allclose(
        ours.multipliers.constraints, theirs.multipliers.constraints, atol=2e-5
    )
    forces = {
        "weights": ours.multipliers.upper[:4],
        "states": ours.multipliers.lower[4:] + ours.multipliers.upper[4:],
        "rows": ours.multipliers.constraints[loose_rows(nlp)],
    }
    if active:
        assert np.max(forces[active]) > 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("hessian", ["exact", "gauss_newton"])
def test_gauss_newton_and_legendre_points(hessian):
    grid = jc.Grid.uniform(0.0, 2.0, 6, jc.GaussLegendre(2))
    nlp = jc.transcribe(START, SPIRALS[0], grid, l2=1e-3)
    assert_same(*pair(nlp, jc.guess(nlp, weights="as_given"), tol=1e-7, hessian=hessian))


@pytest.mark.slow
def test_unknowns_of_each_trajectory():
    class Decay(eqx.Module):
        power: jax.Array

        def __call__(self, t, y, args):
            return -args * jnp.abs(y) ** self.power

    data = [
        jc.Trajectory(TS, np.exp(-rate * TS)[:, None], jc.Unknown(1.0, bounds=(0.1, 3.0)))
        for rate in (0.5, 1.5)
    ]
    nlp = jc.transcribe(Decay(jnp.asarray(0.8)), data, GRID, l2=1e-6)
    ours, theirs = pair(nlp, jc.guess(nlp, weights="as_given"))
    assert_same(ours, theirs)
    np.testing.assert_allclose([float(item) for item in ours.args], (0.5, 1.5), rtol=1e-3)


@pytest.mark.slow
def test_a_global_grid():
    nlp = jc.transcribe(START, SPIRALS[0], jc.Grid.single(0.0, 2.0, jc.Chebyshev(16)), l2=1e-3)
    assert_same(*pair(nlp, jc.guess(nlp, weights="as_given")))


@pytest.mark.slow
def test_a_net_comes_to_an_optimum():
    """IPOPT started there moves no further."""
    nlp = jc.transcribe(Net(2, 4), SPIRALS[0], GRID, l2=1e-3)
    ours = jc.solve(nlp, jc.InteriorPoint(tol=1e-8), jc.guess(nlp, key=jax.random.key(0)))
    assert ours.result is jc.RESULTS.successful
    theirs = jc.solve(nlp, jc.Ipopt(tol=1e-7), ours)
    assert theirs.stats["num_steps"] <= 3
    assert theirs.objective == pytest.approx(ours.objective, rel=1e-6)


class Traced(jc.InteriorPoint):
    """The compiled loop, also where the host would serve."""

    def _on_host(self, nlp):
        return False


def uneven():
    """Many trajectories of other lengths, held starts among them, and an unknown each."""
    data = []
    for k in range(4):
        count = 9 + 4 * k
        ts = TS[:count]
        y0 = spiral(np.array([0.2 * k]))[0] if k % 2 else None
        args = jc.Unknown(0.1 * k, bounds=(-2.0, 2.0))
        data.append(jc.Trajectory(ts, spiral(ts + 0.2 * k), args, y0=y0))
    grids = [jc.Grid.uniform(0.0, item.ts[-1], 2 + k, jc.Radau(3)) for k, item in enumerate(data)]

    class Pushed(eqx.Module):
        matrix: jax.Array

        def __call__(self, t, y, args):
            return self.matrix @ y + args * jnp.ones(2)

    return jc.transcribe(Pushed(START.matrix), data, grids, l2=1e-3)


def spirals(grid=GRID, model=START, **options):
    return jc.transcribe(model, SPIRALS[0], grid, l2=1e-3, **options)


SAME = [
    pytest.param(spirals, {}, id="plain"),
    pytest.param(lambda: spirals(model=Net(2, 4)), {}, id="net"),
    pytest.param(
        lambda: spirals(state_bounds=(-0.8, 1.2), weight_bounds=(-1.9, 1.9)), {}, id="bounds"
    ),
    pytest.param(
        lambda: spirals(
            constraints=[
                jc.Constraint(lambda t, y, args: y[0] + y[1], upper=0.9),
                jc.Constraint(lambda t, y, args: y @ y, lower=0.6, upper=0.6, at="end"),
            ]
        ), {}, id="slacks and a loose equation",
    ),
    pytest.param(uneven, {}, id="trajectories"),
    pytest.param(lambda: spirals(jc.Grid.single(0.0, 2.0, jc.Chebyshev(24))), {}, id="global"),
    pytest.param(lambda: spirals(jc.Grid.uniform(0.0, 2.0, 6, jc.GaussLegendre(2))), {}, id="open"),
    pytest.param(spirals, {"hessian": "gauss_newton", "tol": 1e-5}, id="Gauss-Newton"),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("nlp", "options"), SAME)
def test_both_drivers_take_the_same_path(nlp, options):
    nlp = nlp()
    z = np.array(jc.guess(nlp, weights="as_given").z)
    z += 0.05 * np.random.default_rng(0).normal(size=len(z))
    host, traced = (jc.solve(nlp, solver(**options), z) for solver in (jc.InteriorPoint, Traced))
    assert host.result is traced.result is jc.RESULTS.successful
    assert host.stats["num_steps"] == traced.stats["num_steps"]
    np.testing.assert_array_equal(host.trace.trials, traced.trace.trials)
    np.testing.assert_allclose(host.trace.objective, traced.trace.objective, rtol=1e-6)
    np.testing.assert_allclose(host.z, traced.z, rtol=1e-7, atol=1e-8)
    for name in ("constraints", "lower", "upper"):
        mine, other = (getattr(sol.multipliers, name) for sol in (host, traced))
        np.testing.assert_allclose(mine, other, atol=1e-7)
    again = jc.solve(nlp, jc.InteriorPoint(**options), host)
    assert again.stats["num_steps"] <= 3


@pytest.mark.slow
def test_the_host_compiles_nothing_of_its_own(linear):
    """Nothing but the NLP's functions, and those are compiled before."""
    other = spirals(jc.Grid.uniform(0.0, 2.0, 7, jc.Radau(3)))
    z = np.array(jc.guess(other, weights="as_given").z)
    with x64():
        for name, inputs in (
            ("point", ()), ("objective", ()), ("constraints", ()),
            ("hessian", (np.zeros(other.num_constraints), np.float64(1.0))),
        ):  # fmt: skip
            other.compiled.function(name)(z, *inputs)
    compiled = []

    def heard(event, seconds, **more):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(heard)
    try:
        solver = jc.InteriorPoint()
        outcome = solver.run(other, z, None, lambda step, current: False)
    finally:
        jax.monitoring.unregister_event_duration_listener(heard)
    assert outcome.result is jc.RESULTS.successful
    assert not compiled


def test_very_large_problems_take_the_compiled_loop(linear, monkeypatch):
    assert jc.InteriorPoint()._on_host(linear)
    size = linear.num_weights * (linear.num_variables - linear.num_weights)
    monkeypatch.setattr(solver_file, "LARGEST_ON_HOST", size - 1)
    assert not jc.InteriorPoint()._on_host(linear)


def test_the_callers_floating_point_settings_stay(linear):
    """Also while the caller's own function runs."""
    seen = []
    with np.errstate(divide="raise", invalid="warn", over="raise"):
        before = np.geterr()
        jc.solve(
            linear, jc.InteriorPoint(max_steps=5), jc.guess(linear, weights="as_given"),
            throw=False, callback=lambda step: seen.append(np.geterr()),
        )  # fmt: skip
        assert np.geterr() == before
    assert len(seen) > 3
    assert all(item == before for item in seen)


def chain_blocks(kind, length, d, count=2):
    """Random stages with steps of one kind, for several trajectories."""
    rng = np.random.default_rng(0)
    shape = count, length, d, d
    root = rng.normal(size=shape)
    q = root @ root.swapaxes(2, 3)
    turn = np.linalg.qr(rng.normal(size=shape))[0]
    steps = {
        "rotating": turn,
        "growing": np.diag(np.r_[1.3, np.full(d - 1, 0.6)]) @ turn,
        "exploding": 2.5 * turn,
        "stiff": turn @ np.diag(np.r_[1.05, np.full(d - 1, 1e-8)]),
        "without data": 1.02 * turn,
    }
    if kind == "without data":
        q[:, np.arange(length) % 20 > 0] = 0.0
    ends = rng.normal(size=(count, length, 2 * d, 3))
    held = np.zeros((count, d), bool)
    held[1, 0] = True
    return q, ends, steps[kind], held


def dense_chain(q, step, held):
    """The matrix of one trajectory's boundaries and multipliers; the last multiplier is zero."""
    length, d, _ = q.shape
    full = np.zeros((length, 2 * d, length, 2 * d))
    for e in range(length):
        full[e, :d, e, :d] = q[e]
        if e < length - 1:
            full[e, :d, e, d:], full[e, d:, e, :d] = step[e].T, step[e]
            full[e, d:, e + 1, :d] = full[e + 1, :d, e, d:] = -np.eye(d)
    full[-1, d:, -1, d:] = np.eye(d)
    full = full.reshape(2 * d * length, -1)
    full[:d][held] = np.eye(2 * d * length)[:d][held]
    return full


@pytest.mark.parametrize("kind", ["rotating", "growing", "exploding", "stiff", "without data"])
@pytest.mark.parametrize(("length", "d"), [(60, 2), (1, 2), (2, 1), (40, 5)])
def test_the_chain_solves_its_dense_system(kind, length, d):
    q, ends, step, held = chain_blocks(kind, length, d)
    turned = host_chain.factorise_chains(q, ends, step, held)
    rng = np.random.default_rng(1)
    gradient, shift = rng.normal(size=(2, 2, length, d))
    first = np.where(held, 0.0, gradient[:, 0])
    u = host_chain.solve_chains(turned, first, gradient, shift)
    for k in range(2):
        matrix = dense_chain(q[k], step[k], held[k])
        right = -np.concatenate(
            [ends[k], np.concatenate([gradient, shift], axis=2)[k][..., None]], 2
        )
        right[-1, d:] = 0.0
        right[0, :d][held[k]] = 0.0
        found = np.concatenate([turned.by_weights[k], u[k][..., None]], axis=2)
        left = (matrix @ found.reshape(2 * d * length, -1)).reshape(right.shape)
        size = np.abs(found).max(axis=(0, 1)) * np.abs(matrix).max()
        assert np.all(np.abs(left - right).max(axis=(0, 1)) <= 1e-11 * (1 + size))


@pytest.mark.parametrize("kind", ["rotating", "growing", "exploding", "stiff", "without data"])
@pytest.mark.parametrize("length", [1, 2, 7, 60, 900])
def test_convexity_is_that_of_the_reduced_hessian(kind, length):
    """Also where products along the chain overflow, and with one bad stage."""
    q, _, step, held = chain_blocks(kind, length, 2, count=4)
    q[2, -1] -= 50.0 * np.eye(2)
    q[3, 0] -= 1e-3 * np.trace(q[3, 0]) * np.eye(2)
    with np.errstate(all="ignore"):
        found = host_chain.are_convex(q, step, held)
    with x64():
        inputs = map(jnp.asarray, (q, step, held))
        np.testing.assert_array_equal(found, np.asarray(chain.are_convex(*inputs)))
    assert found[0]


def test_matrices_that_are_not_inverted_are_solved_with():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(2, 3, 6, 6))
    b, x = rng.normal(size=(2, 3, 6, 4)), rng.normal(size=(2, 3, 6))
    for largest in (5, 6):
        square = batched.Square.of(a, largest)
        np.testing.assert_allclose(a @ square.negative(b), -b, atol=1e-12)
        np.testing.assert_allclose(batched.times(a, square.vector(x)), x, atol=1e-12)
        there = square.vector(x, transposed=True)
        np.testing.assert_allclose(batched.times_transposed(a, there), x, atol=1e-12)


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_singular_and_infinite_blocks_are_no_good_factor(driver, value):
    nlp = spirals()
    _, jacobian, hessian, *_ = matrices(nlp)
    jacobian = np.full(len(jacobian), value)
    n, m = nlp.num_variables, nlp.num_constraints
    right = np.ones(n), np.ones(m)
    good, steps = solved(driver, nlp, jacobian, hessian, np.ones(n), np.zeros(m), right)
    assert not good
    assert not all(np.all(np.isfinite(item)) for item in steps)


@pytest.fixture(scope="module")
def linear():
    return jc.transcribe(START, SPIRALS[0], GRID, l2=1e-3)


@pytest.fixture(scope="module")
def found(linear):
    return jc.solve(linear, jc.InteriorPoint(), jc.guess(linear, weights="as_given"))


def test_a_warm_start_needs_a_step_or_two(linear, found):
    again = jc.solve(linear, jc.InteriorPoint(), found)
    assert again.stats["num_steps"] <= 2 < found.stats["num_steps"]
    assert again.objective == pytest.approx(found.objective, rel=1e-8)
    across = jc.solve(linear, jc.Ipopt(), found)
    assert across.stats["num_steps"] <= 3


def test_the_trace_tells_every_step(found):
    trace = found.trace
    assert list(trace.iteration) == list(range(len(trace)))
    assert found.stats["num_steps"] == len(trace) - 1
    assert trace.objective[-1] == pytest.approx(found.objective, rel=1e-12)
    assert trace.primal_infeasibility[-1] < 1e-6
    assert np.all(trace.step_size[1:] > 0)


def test_a_start_far_from_any_solution_is_made_feasible(linear):
    z = 3.0 * np.random.default_rng(0).normal(size=linear.num_variables)
    sol = jc.solve(linear, jc.InteriorPoint(max_steps=500), z, throw=False)
    assert sol.stats["max_defect"] < 1e-5
    assert sol.result.ok


def restored(driver, nlp, z, count=5):
    """The rows of the trace after the state was put into restoration, and both violations."""
    mu, yes, no = np.float64(1e-3), True, False
    with x64(), np.errstate(all="ignore"):
        if driver == "host":
            problem = host_problem_of(nlp, z)
            options, state = Options(1e-6, 100), begin(problem, z, None, None, None, mu)
        else:
            problem = problem_of(nlp, z)
            options = Options(jnp.asarray(1e-6), jnp.asarray(100))
            state = loop.first(problem, jnp.asarray(z), None, None, None, jnp.asarray(mu))
            yes, no = jnp.asarray(True), jnp.asarray(False)
        theta = state.values.theta
        state = state._replace(starting=no, restoring=yes, restore_from=theta)
        if driver == "host":
            states = [state]
            while len(states) <= count:
                states.append(iterate(problem, options, True, states[-1]))
            after, rows = states[-1], [item.record for item in states[1:]]
        else:
            after, rows = loop.several(problem, options, True, state, jnp.asarray(count), count)
            rows = [jax.tree.map(lambda item, row=row: item[row], rows) for row in range(count)]
        assert not bool(after.restoring)
        return np.array(rows, float), float(theta), float(after.values.theta)


@pytest.mark.slow
def test_restoration_lowers_the_violation_and_hands_back(linear):
    """Forced, as after a search that failed; alike by both drivers."""
    z = np.array(jc.guess(linear, weights="as_given").z) + 0.3
    host, before, after = restored("host", linear, z)
    assert host[0, Record._fields.index("restoration")]
    assert after < 0.9 * before
    traced, *_ = restored("traced", linear, z)
    np.testing.assert_allclose(host, traced, rtol=1e-6, atol=1e-9)


@pytest.mark.slow
def test_limits_and_callbacks_end_a_solve(linear):
    start = jc.guess(linear, weights="as_given")
    with pytest.warns(UserWarning, match="limit of steps"):
        few = jc.solve(linear, jc.InteriorPoint(max_steps=3, look=2), start)
    assert few.result is jc.RESULTS.max_steps_reached
    assert few.stats["num_steps"] == 3
    none = jc.solve(linear, jc.InteriorPoint(max_steps=0), start, throw=False)
    assert none.result is jc.RESULTS.max_steps_reached
    short = jc.solve(linear, jc.InteriorPoint(max_seconds=1e-9, look=1), start, throw=False)
    assert short.result is jc.RESULTS.max_seconds_reached
    models = []

    def callback(step):
        models.append(step.model())
        return step.iteration == 2

    stopped = jc.solve(linear, jc.InteriorPoint(look=1), start, callback=callback)
    assert stopped.result is jc.RESULTS.stopped
    assert stopped.stats["num_steps"] == 2
    np.testing.assert_allclose(models[-1].matrix, stopped.z[:4].reshape(2, 2), rtol=1e-6)


def test_ctrl_c_returns_the_best_point(linear):
    def callback(step):
        if step.iteration == 2:
            raise KeyboardInterrupt

    start = jc.guess(linear, weights="as_given")
    sol = jc.solve(linear, jc.InteriorPoint(look=1), start, callback=callback)
    assert sol.result is jc.RESULTS.interrupted
    assert np.all(np.isfinite(sol.z))


@pytest.mark.slow
def test_a_model_without_a_value_at_the_start_says_so():
    class Root(eqx.Module):
        rate: jax.Array

        def __call__(self, t, y, args):
            return -self.rate * jnp.sqrt(y)

    data = jc.Trajectory(TS, np.linspace(-0.5, 1.0, 21)[:, None])
    nlp = jc.transcribe(Root(jnp.asarray(1.0)), data, GRID)
    with pytest.raises(jc.SolveError, match="NaN or infinity"):
        jc.solve(nlp, jc.InteriorPoint(), jc.guess(nlp, weights="as_given"))


def test_what_it_cannot_do_is_said():
    data = [jc.Trajectory(TS, spiral(TS)), jc.Trajectory(TS + 2.0, spiral(TS + 2.0))]
    grids = [GRID, jc.Grid.uniform(2.0, 4.0, 5, jc.Radau(3))]
    tied = jc.transcribe(START, data, grids, constraints=jc.Tie(0, 1))
    with pytest.raises(ValueError, match="join several intervals or trajectories"):
        jc.solve(tied, jc.InteriorPoint(), jc.guess(tied, weights="as_given"))
    end = jc.StateBounds(lower=0.5, upper=0.5, components=[0], at="end")
    pinned = jc.transcribe(START, SPIRALS[0], GRID, constraints=end)
    with pytest.raises(ValueError, match="no fixed states but initial ones"):
        jc.solve(pinned, jc.InteriorPoint(), jc.guess(pinned, weights="as_given"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hessian": "lbfgs"}, "`hessian` must be one of"),
        ({"tol": 0.0}, "`tol` must be a finite number above zero"),
        ({"look": 0}, "`look` must be an integer of at least 1"),
        ({"mu": -1.0}, "`mu` must be a finite number above zero"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        jc.InteriorPoint(**options)


def test_float64_inside_whatever_the_caller_uses(caller_x64, linear):
    sol = jc.solve(linear, jc.InteriorPoint(tol=1e-9), jc.guess(linear, weights="as_given"))
    assert sol.result is jc.RESULTS.successful
    assert sol.trace.dual_infeasibility[-1] < 1e-8
    assert jax.config.jax_enable_x64 == caller_x64


def test_the_loop_calls_nothing_back_on_the_host(linear):
    """What runs on a GPU must be one program."""
    with x64():
        z = np.zeros(linear.num_variables)
        problem = problem_of(linear, z)
        options = Options(jnp.asarray(1e-6), jnp.asarray(100))
        state = loop.first(problem, jnp.asarray(z), None, None, None,
                               jnp.asarray(1e-3))  # fmt: skip
        arrays, rest = eqx.partition((problem, state), eqx.is_array)

        def run(arrays):
            problem, state = eqx.combine(arrays, rest)
            return iterate(problem, options, True, state)

        text = str(jax.make_jaxpr(run)(arrays))
    assert "callback" not in text


def test_a_small_batch_is_solved_one_after_another_on_the_host(linear, monkeypatch):
    """Without the loop's compilation."""

    def refuse(*inputs):
        raise AssertionError

    monkeypatch.setattr(loop, "several", refuse)
    start = jc.guess(linear, weights="as_given")
    one, other = jc.solve_batch(linear, jc.InteriorPoint(), [start, start])
    assert one.result is other.result is jc.RESULTS.successful
    assert jc.InteriorPoint().together(8) == 1


@pytest.mark.slow
def test_fit_and_refine_take_it():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sol = jc.fit(START, SPIRALS[0], l2=1e-4, solver=jc.InteriorPoint(), starts=2)
    assert sol.result.ok
    assert sol.verification.verdict.ok
    assert sol.stats["solver"] == "InteriorPoint"


@pytest.fixture
def in_threads(monkeypatch):
    """However few: else they are solved one after another on the host."""
    monkeypatch.setattr(batch, "FEW_NODES", 0)


@pytest.mark.slow
@pytest.mark.parametrize("vectorize", [True, False])
def test_a_batch_of_starts_ends_where_single_solves_do(linear, in_threads, vectorize):
    rng = np.random.default_rng(0)
    z = np.array(jc.guess(linear, weights="as_given").z)
    starts = [z + 0.1 * rng.normal(size=len(z)) for _ in range(3)]
    together = jc.solve_batch(linear, jc.InteriorPoint(tol=1e-9), starts, vectorize=vectorize)
    for start, sol in zip(starts, together, strict=True):
        alone = jc.solve(linear, jc.InteriorPoint(tol=1e-9), start)
        assert sol.result is jc.RESULTS.successful
        assert sol.stats["num_steps"] == alone.stats["num_steps"]
        np.testing.assert_allclose(sol.z, alone.z, atol=1e-8)
        np.testing.assert_allclose(sol.trace.objective, alone.trace.objective, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("vectorize", [True, False])
def test_a_batch_of_problems_with_other_noise_and_penalties(in_threads, vectorize):
    rng = np.random.default_rng(1)
    nlps = []
    for l2 in (1e-4, 1e-2):
        noisy = jc.Trajectory(TS, SPIRALS[0].ys + 0.02 * rng.normal(size=(21, 2)))
        nlps.append(jc.transcribe(START, noisy, GRID, l2=l2))
    guesses = [jc.guess(nlp, weights="as_given") for nlp in nlps]
    solver = jc.InteriorPoint(tol=1e-9)
    together = jc.solve_batch(nlps, solver, guesses, vectorize=vectorize)
    theirs = jc.solve_batch(nlps, jc.Ipopt(tol=1e-9), guesses)
    for nlp, ours, other in zip(nlps, together, theirs, strict=True):
        assert ours.nlp is nlp
        assert ours.objective == pytest.approx(other.objective, rel=1e-7)
    assert together[0].objective != pytest.approx(together[1].objective, rel=1e-2)
    again = jc.solve_batch(nlps, solver, together, vectorize=vectorize)
    assert max(sol.stats["num_steps"] for sol in again) <= 2


@pytest.mark.slow
@pytest.mark.parametrize("vectorize", [True, False])
def test_a_limit_of_time_holds_for_the_whole_batch(linear, in_threads, vectorize):
    starts = [jc.guess(linear, weights="as_given")] * 3
    solver = jc.InteriorPoint(max_seconds=1e-6, look=1)
    for sol in jc.solve_batch(linear, solver, starts, throw=False, vectorize=vectorize):
        assert sol.result is jc.RESULTS.max_seconds_reached
        assert sol.stats["num_steps"] <= 1


def test_ctrl_c_ends_all_threads_of_a_batch(linear, in_threads, monkeypatch):
    """As if it came while the main thread waits."""

    def wait(futures):
        raise KeyboardInterrupt

    monkeypatch.setattr(concurrent.futures, "wait", wait)
    starts = [np.array(jc.guess(linear, weights="as_given").z) + 0.3] * 3
    solver = jc.InteriorPoint(tol=1e-12, look=1)
    sols = jc.solve_batch(linear, solver, starts, throw=False, vectorize=False)
    # Some may have ended before.
    allowed = jc.RESULTS.interrupted, jc.RESULTS.successful
    assert {sol.result for sol in sols} <= set(allowed)
    assert sols[-1].result is not jc.RESULTS.successful
    assert all(np.all(np.isfinite(sol.z)) for sol in sols)


def test_a_batch_of_different_shapes_is_refused(linear):
    other = jc.transcribe(START, SPIRALS[0], jc.Grid.uniform(0.0, 2.0, 6, jc.Radau(3)))
    starts = [jc.guess(item, weights="as_given") for item in (linear, other)]
    with pytest.raises(ValueError, match="NLPs of one shape"):
        jc.solve_batch([linear, other], jc.InteriorPoint(), starts)
    with pytest.raises(ValueError, match="as many as there are in `nlp`, 2; got 1"):
        jc.solve_batch([linear, linear], jc.InteriorPoint(), starts[:1])
    with pytest.raises(ValueError, match="`guesses` must be a list"):
        jc.solve_batch(linear, jc.InteriorPoint(), starts[0])


def test_a_model_without_weights_has_its_states_fitted():
    ts = np.linspace(0.0, 2.0, 9)
    data = jc.Trajectory(ts, np.exp(-ts)[:, None] + 0.1)
    grid = jc.Grid.uniform(0.0, 2.0, 3, jc.Radau(2))
    nlp = jc.transcribe(lambda t, y, args: -y, data, grid)
    mine, theirs = (jc.solve(nlp, item, jc.guess(nlp)) for item in (jc.InteriorPoint(), jc.Ipopt()))
    assert mine.result is jc.RESULTS.successful
    assert mine.objective == pytest.approx(theirs.objective, rel=1e-6)
