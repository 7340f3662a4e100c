"""InteriorPoint: its linear algebra against dense matrices, its optima against IPOPT's."""

import concurrent.futures
import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import SCHEMES, Linear, Net, Plant, dense, spiral

import jaxcolloc as jc
from jaxcolloc._interior_point import blocks, kkt, loop
from jaxcolloc._interior_point.iterate import iterate
from jaxcolloc._interior_point.problem import problem_of
from jaxcolloc._interior_point.state import Options
from jaxcolloc._interior_point.structure import structure_of
from jaxcolloc._precision import x64


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


@eqx.filter_jit
def _both(structure, jacobian, hessian, diagonal, weight, dual, primal, fixed):
    slopes = blocks.slopes(structure, jacobian, jnp.ones(structure.num_constraints))
    curves = blocks.curvature(structure, hessian)
    inner = kkt.eliminate(structure, slopes)
    factor = kkt.factorise(structure, slopes, inner, curves, diagonal, weight, fixed)
    return factor.good, kkt.solve(structure, slopes, inner, factor, dual, primal, fixed)


def solved(nlp, jacobian, hessian, diagonal, weight, right):
    """`_both` on numbers, compiled."""
    with x64():
        structure = jax.tree.map(jnp.asarray, structure_of(nlp))
        fixed = nlp.bounds[0] == nlp.bounds[1]
        inputs = [jnp.asarray(item) for item in (diagonal, weight, *right, fixed)]
        good, steps = _both(structure, jacobian, hessian, *inputs)
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
def test_steps_solve_the_sparse_system(nlp):
    nlp = nlp()
    rng, jacobian, hessian, a, w = matrices(nlp)
    n, m = nlp.num_variables, nlp.num_constraints
    diagonal = 50.0 + rng.uniform(size=n)
    loose = loose_rows(nlp)
    weight = np.where(loose, rng.uniform(1.0, 9.0, m), 0.0)
    right = rng.normal(size=n), rng.normal(size=m)
    good, (dz, dl) = solved(nlp, jacobian, hessian, diagonal, weight, right)
    assert good
    c = np.divide(1.0, weight, out=np.zeros(m), where=loose)
    fixed = nlp.bounds[0] == nlp.bounds[1]
    left = (w + np.diag(diagonal)) @ dz + a.T @ dl - right[0]
    np.testing.assert_allclose(left[~fixed], 0.0, atol=1e-9)
    np.testing.assert_allclose(a @ dz - c * dl, right[1], atol=1e-9)
    np.testing.assert_allclose(dz[fixed], 0.0, atol=1e-14)


@pytest.mark.slow
def test_the_curvature_is_good_exactly_if_the_inertia_is_right():
    """As many negative eigenvalues as constraints (Waechter and Biegler, section 3.1)."""
    nlp = two(jc.Radau(2))
    free = nlp.bounds[0] < nlp.bounds[1]
    n, m = nlp.num_variables, nlp.num_constraints
    kinds = []
    for seed in range(12):
        _, jacobian, hessian, a, w = matrices(nlp, seed)
        added = 0.05 * 3.0 ** (seed - 4)
        nothing = np.zeros(n), np.zeros(m)
        good, _ = solved(nlp, jacobian, hessian, np.full(n, added), np.zeros(m), nothing)
        a = a[:, free]
        upper = np.hstack([w[np.ix_(free, free)] + added * np.eye(free.sum()), a.T])
        values = np.linalg.eigvalsh(np.vstack([upper, np.hstack([a, np.zeros((m, m))])]))
        assert good == (np.sum(values < 0) == m)
        kinds.append(good)
    assert set(kinds) == {True, False}


@pytest.mark.slow
def test_unstable_dynamics_and_a_stretch_without_data_do_no_harm():
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
    structure = structure_of(nlp, gauss_newton=True)
    right = rng.normal(size=n), rng.normal(size=m)
    fixed = np.zeros(n, bool)
    with x64():
        inputs = map(jnp.asarray, (np.zeros(n), np.zeros(m), *right, fixed))
        _, (dz, dl) = _both(structure, jacobian, hessian, *inputs)
    dz, dl = np.asarray(dz), np.asarray(dl)
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


@pytest.mark.slow
def test_restoration_lowers_the_violation_and_hands_back(linear):
    """Forced: the state is put into restoration, as after a search that failed."""
    solver = jc.InteriorPoint()
    z = np.array(jc.guess(linear, weights="as_given").z) + 0.3
    with x64():
        problem = problem_of(linear, z)
        options = Options(jnp.asarray(solver.tol), jnp.asarray(100))
        state = loop.first(problem, jnp.asarray(z), None, None, None,
                               jnp.asarray(1e-3))  # fmt: skip
        theta = jnp.sum(jnp.abs(state.values.residual))
        state = eqx.tree_at(
            lambda item: (item.starting, item.restoring, item.restore_from), state,
            (jnp.asarray(False), jnp.asarray(True), theta),
        )  # fmt: skip
        after, records = loop.several(problem, options, True, state, jnp.asarray(5), 5)
        assert bool(records.restoration[0])
        assert not bool(after.restoring)
        assert float(jnp.sum(jnp.abs(after.values.residual))) < 0.9 * float(theta)


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


@pytest.mark.slow
def test_fit_and_refine_take_it():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sol = jc.fit(START, SPIRALS[0], l2=1e-4, solver=jc.InteriorPoint(), starts=2)
    assert sol.result.ok
    assert sol.verification.verdict.ok
    assert sol.stats["solver"] == "InteriorPoint"


@pytest.mark.slow
@pytest.mark.parametrize("vectorize", [True, False])
def test_a_batch_of_starts_ends_where_single_solves_do(linear, vectorize):
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
def test_a_batch_of_problems_with_other_noise_and_penalties(vectorize):
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
def test_a_limit_of_time_holds_for_the_whole_batch(linear, vectorize):
    starts = [jc.guess(linear, weights="as_given")] * 3
    solver = jc.InteriorPoint(max_seconds=1e-6, look=1)
    for sol in jc.solve_batch(linear, solver, starts, throw=False, vectorize=vectorize):
        assert sol.result is jc.RESULTS.max_seconds_reached
        assert sol.stats["num_steps"] <= 1


def test_ctrl_c_ends_all_threads_of_a_batch(linear, monkeypatch):
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
