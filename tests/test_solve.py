"""solve and Ipopt: known answers, limits, interrupts, failures."""

import builtins
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import SPIRAL, Linear, Net, spiral

import jaxcolloc as jc
from jaxcolloc._ipopt import c_interface, solver


TS = np.linspace(0.0, 4.0, 25)


def spiral_problem(grid, ys=None, **options):
    data = jc.Trajectory(TS, spiral(TS) if ys is None else ys)
    options = {"l2": 0.0} | options
    return jc.transcribe(Linear(jnp.zeros((2, 2))), data, grid, **options)


@pytest.fixture(scope="module")
def nlp():
    return spiral_problem(jc.Grid.uniform(0.0, 4.0, 8, jc.Radau(3)))


@pytest.fixture(scope="module")
def start(nlp):
    return jc.guess(nlp)


@pytest.mark.parametrize(
    ("grid", "tolerance"),
    [
        (jc.Grid.single(0.0, 4.0, jc.Chebyshev(24)), 1e-7),
        (jc.Grid.uniform(0.0, 4.0, 12, jc.Radau(4)), 1e-7),
        (jc.Grid.uniform(0.0, 4.0, 12, jc.GaussLegendre(4)), 1e-7),
        (jc.Grid.uniform(0.0, 4.0, 12, jc.Lobatto(8)), 1e-7),
        (jc.Grid.uniform(0.0, 4.0, 6, jc.Chebyshev(10)), 1e-7),
    ],
    ids=lambda value: repr(value) if isinstance(value, jc.Grid) else "",
)
def test_recovers_the_matrix_of_a_linear_system(grid, tolerance):
    """Noise-free data of y' = A y: every scheme finds A."""
    nlp = spiral_problem(grid)
    sol = jc.solve(nlp, jc.Ipopt(tol=1e-10), jc.guess(nlp))
    assert sol.result is jc.RESULTS.successful
    np.testing.assert_allclose(np.asarray(sol.model.matrix), SPIRAL, atol=1e-6)
    assert sol.objective < 1e-10
    assert sol.stats["max_defect"] < 1e-7


@pytest.mark.slow
def test_the_optimum_does_not_depend_on_the_scheme():
    rng = np.random.default_rng(0)
    noisy = spiral(TS) + 0.1 * rng.normal(size=(25, 2))
    grids = [
        jc.Grid.single(0.0, 4.0, jc.Chebyshev(26)),
        jc.Grid.uniform(0.0, 4.0, 10, jc.Radau(5)),
        jc.Grid.uniform(0.0, 4.0, 10, jc.GaussLegendre(5)),
        jc.Grid.uniform(0.0, 4.0, 10, jc.Lobatto(9)),
    ]
    found = []
    for grid in grids:
        nlp = spiral_problem(grid, noisy, l2=1e-3)
        found.append(jc.solve(nlp, jc.Ipopt(tol=1e-9), jc.guess(nlp)))
    for sol in found[1:]:
        assert sol.objective == pytest.approx(found[0].objective, rel=1e-5)
        np.testing.assert_allclose(sol.model.matrix, found[0].model.matrix, atol=1e-4)


def test_weights_act_as_inverse_variances():
    """y' = 0 fits the weighted mean of its data."""

    def still(t, y, args):
        return jnp.zeros(1)

    ys, weights = np.array([[0.0], [1.0], [5.0]]), np.array([[1.0], [2.0], [3.0]])
    data = jc.Trajectory([0.0, 0.3, 1.0], ys, weights=weights)
    nlp = jc.transcribe(still, data, jc.Grid.single(0.0, 1.0, jc.Radau(2)))
    sol = jc.solve(nlp, jc.Ipopt(), np.zeros(nlp.num_variables))
    np.testing.assert_allclose(sol.paths[0].states, np.sum(weights * ys) / 6, atol=1e-7)


def test_collocating_the_start_forces_zero():
    """y' = a y with N coefficients and N equations has the solution 0 only."""

    def decay(t, y, args):
        return -4.0 * y

    # Few nodes: with many, the true solution violates the equations by less than the tolerance.
    grid = jc.Grid.single(0.0, 1.0, jc.Chebyshev(5))
    data = jc.Trajectory(grid.times, np.exp(-4 * grid.times)[:, None])
    free = jc.transcribe(decay, data, grid)
    forced = jc.transcribe(decay, data, grid, collocate_start=True)
    assert forced.num_constraints == free.num_constraints + 1 == forced.num_variables
    sol = jc.solve(free, jc.Ipopt(), jc.guess(free))
    np.testing.assert_allclose(sol.paths[0].states[:, 0], np.exp(-4 * grid.times), atol=0.02)
    sol = jc.solve(forced, jc.Ipopt(), jc.guess(forced))
    np.testing.assert_allclose(sol.paths[0].states, 0.0, atol=1e-6)


def test_known_starts_are_kept():
    data = jc.Trajectory(TS, spiral(TS) + 0.1, y0=[1.0, np.nan])
    grid = jc.Grid.uniform(0.0, 4.0, 8, jc.Radau(3))
    nlp = jc.transcribe(Linear(jnp.zeros((2, 2))), data, grid, l2=0.0)
    sol = jc.solve(nlp, jc.Ipopt(), jc.guess(nlp))
    assert sol.paths[0].states[0, 0] == pytest.approx(1.0, abs=1e-9)
    assert abs(sol.paths[0].states[0, 1]) > 1e-3


@pytest.mark.parametrize("hessian", ["exact", "gauss_newton", "lbfgs"])
def test_all_hessians_reach_the_same_optimum(hessian):
    noisy = spiral(TS) + 0.05 * np.random.default_rng(1).normal(size=(25, 2))
    nlp = spiral_problem(jc.Grid.uniform(0.0, 4.0, 8, jc.Radau(3)), noisy, l2=1e-3)
    reference = jc.solve(nlp, jc.Ipopt(tol=1e-8), jc.guess(nlp))
    sol = jc.solve(nlp, jc.Ipopt(tol=1e-8, hessian=hessian), jc.guess(nlp))
    assert sol.result.ok
    assert sol.objective == pytest.approx(reference.objective, rel=1e-6)
    np.testing.assert_allclose(sol.model.matrix, reference.model.matrix, atol=1e-4)


def test_cyipopts_own_interface_takes_the_same_path(nlp, start, monkeypatch):
    direct = jc.solve(nlp, jc.Ipopt(), start)
    monkeypatch.setattr(c_interface, "load", lambda: None)
    wrapped = jc.solve(nlp, jc.Ipopt(), start)
    np.testing.assert_allclose(
        wrapped.trace.objective, direct.trace.objective, rtol=1e-6, atol=1e-10
    )
    np.testing.assert_allclose(wrapped.z, direct.z, atol=1e-8)
    np.testing.assert_allclose(wrapped.multipliers.constraints, direct.multipliers.constraints,
                               atol=1e-8)  # fmt: skip
    assert wrapped.stats["status"] == direct.stats["status"] == 0


def test_shuffled_trajectories_give_the_same_model():
    rng = np.random.default_rng(2)
    data = [
        jc.Trajectory(TS, spiral(TS) * factor + 0.05 * rng.normal(size=(25, 2)))
        for factor in (1.0, 0.5, 2.0)
    ]
    grid = jc.Grid.uniform(0.0, 4.0, 8, jc.Radau(3))
    found = []
    for order in ([0, 1, 2], [2, 0, 1]):
        nlp = jc.transcribe(Linear(jnp.zeros((2, 2))), [data[k] for k in order], grid, l2=1e-3)
        found.append(jc.solve(nlp, jc.Ipopt(tol=1e-9), jc.guess(nlp)))
    np.testing.assert_allclose(found[0].model.matrix, found[1].model.matrix, atol=1e-6)
    np.testing.assert_allclose(found[0].paths[0].states, found[1].paths[1].states, atol=1e-6)


@pytest.mark.slow
def test_very_long_and_very_short_trajectories_in_one_problem():
    """A hundred thousand samples beside two: the matrix to the accuracy that noise allows."""
    rng = np.random.default_rng(0)
    data = []
    for length in (100_000, 2):
        ts = np.sort(rng.uniform(0.0, 8.0, length))
        data.append(jc.Trajectory(ts, spiral(ts) + 0.1 * rng.normal(size=(length, 2))))
    grids = [jc.Grid.uniform(0.0, 8.0, 60, jc.Radau(3)), jc.Grid.single(0.0, 8.0, jc.Radau(2))]
    nlp = jc.transcribe(Linear(jnp.zeros((2, 2))), data, grids, l2=0.0)
    sol = jc.solve(nlp, jc.Ipopt(), jc.guess(nlp))
    np.testing.assert_allclose(np.asarray(sol.model.matrix), SPIRAL, atol=0.01)


def test_the_trace_holds_every_iteration(nlp, start):
    seen = []
    sol = jc.solve(nlp, jc.Ipopt(), start, callback=seen.append)
    assert len(sol.trace) == len(seen) == sol.stats["num_steps"] + 1
    assert [step.iteration for step in seen] == list(range(len(seen)))
    assert sol.trace.objective[-1] == pytest.approx(sol.objective, rel=1e-9)
    assert np.all(np.diff(sol.trace.seconds) >= 0)
    assert sol.trace.primal_infeasibility[-1] < 1e-6
    assert sol.stats["evaluation_seconds"] < sol.stats["solve_seconds"]
    assert sol.stats["compile_seconds"] > 0


def test_a_limit_of_steps_returns_the_best_point(nlp, start):
    with pytest.warns(UserWarning, match="limit of steps"):
        sol = jc.solve(nlp, jc.Ipopt(max_steps=2), start)
    assert sol.result is jc.RESULTS.max_steps_reached
    assert sol.stats["num_steps"] == 2
    assert np.all(np.isfinite(sol.z))
    assert jc.solve(nlp, jc.Ipopt(max_steps=2), start, throw=False).result is sol.result


def test_a_limit_of_time_returns_the_best_point(nlp, start):
    with pytest.warns(UserWarning, match="limit of wall-clock time"):
        sol = jc.solve(nlp, jc.Ipopt(max_seconds=1e-9), start)
    assert sol.result is jc.RESULTS.max_seconds_reached


def test_a_callback_can_stop(nlp, start):
    sol = jc.solve(nlp, jc.Ipopt(), start, callback=lambda step: step.iteration == 2)
    assert sol.result is jc.RESULTS.stopped
    assert sol.stats["num_steps"] == 2

    def stop(step):
        if step.iteration == 1:
            raise StopIteration

    sol = jc.solve(nlp, jc.Ipopt(), start, callback=stop)
    assert sol.result is jc.RESULTS.stopped
    assert sol.stats["num_steps"] == 1


@pytest.mark.parametrize("direct", [True, False])
def test_ctrl_c_returns_the_best_point(nlp, start, direct, monkeypatch):
    if not direct:
        monkeypatch.setattr(c_interface, "load", lambda: None)

    def press(step):
        if step.iteration == 2:
            signal.raise_signal(signal.SIGINT)

    sol = jc.solve(nlp, jc.Ipopt(), start, callback=press)
    assert sol.result is jc.RESULTS.interrupted
    assert sol.stats["num_steps"] == 2
    best = np.argmin(np.maximum(sol.trace.primal_infeasibility, 1e-4))
    assert np.max(np.abs(nlp.constraints(sol.z))) == pytest.approx(
        sol.trace.primal_infeasibility[best], rel=1e-6
    )
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_ctrl_c_ends_at_once(nlp, start):
    def press(step):
        if step.iteration == 2:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    sol = jc.solve(nlp, jc.Ipopt(), start, callback=press)
    assert sol.result is jc.RESULTS.interrupted
    assert np.all(np.isfinite(sol.z))


@pytest.mark.parametrize("direct", [True, False])
def test_errors_of_a_callback_come_through(nlp, start, direct, monkeypatch):
    if not direct:
        monkeypatch.setattr(c_interface, "load", lambda: None)

    def fail(step):
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        jc.solve(nlp, jc.Ipopt(), start, callback=fail)


def _root(t, y, args):
    """NaN for negative states."""
    return -jnp.sqrt(y)


def test_non_finite_values_make_the_solver_shorten_its_step():
    """y' = -sqrt(y) from 1 reaches 0 at t = 2; steps that overshoot meet NaN."""
    ts = np.linspace(0.0, 1.9, 20)
    data = jc.Trajectory(ts, (1 - ts / 2)[:, None] ** 2)
    nlp = jc.transcribe(_root, data, jc.Grid.uniform(0.0, 1.9, 10, jc.Radau(3)))
    start = np.full(nlp.num_variables, 3.0)
    sol = jc.solve(nlp, jc.Ipopt(), start)
    assert sol.result is jc.RESULTS.successful
    assert np.any(sol.trace.trials > 1)
    np.testing.assert_allclose(sol.paths[0].evaluate(ts)[:, 0], (1 - ts / 2) ** 2, atol=1e-4)


@pytest.mark.parametrize("direct", [True, False])
def test_a_start_where_the_model_is_not_finite_is_reported(direct, monkeypatch):
    if not direct:
        monkeypatch.setattr(c_interface, "load", lambda: None)
    data = jc.Trajectory([0.0, 1.0], np.ones((2, 1)))
    nlp = jc.transcribe(_root, data, jc.Grid.uniform(0.0, 1.0, 2, jc.Radau(2)))
    start = np.full(nlp.num_variables, -1.0)
    with pytest.raises(jc.SolveError, match="NaN or infinity") as error:
        jc.solve(nlp, jc.Ipopt(), start)
    assert error.value.solution.result is jc.RESULTS.not_finite
    np.testing.assert_array_equal(error.value.solution.z, start)


def test_an_infeasible_problem_is_reported():
    """y' = 1 cannot stay within [0, 0.5] for one unit of time from 0.4."""

    def rise(t, y, args):
        return jnp.ones(1)

    data = jc.Trajectory([0.0], [[0.4]], y0=[0.4])
    grid = jc.Grid.uniform(0.0, 1.0, 2, jc.Radau(2))
    nlp = jc.transcribe(rise, data, grid, state_bounds=(0.0, 0.5))
    sol = jc.solve(nlp, jc.Ipopt(), np.full(nlp.num_variables, 0.4), throw=False)
    assert sol.result is jc.RESULTS.infeasible
    with pytest.raises(jc.SolveError, match="cannot be met"):
        jc.solve(nlp, jc.Ipopt(), np.full(nlp.num_variables, 0.4))


def test_a_solution_is_a_warm_start(nlp, start):
    cold = jc.solve(nlp, jc.Ipopt(), start)
    warm = jc.solve(nlp, jc.Ipopt(), cold)
    assert warm.stats["num_steps"] < cold.stats["num_steps"] / 2
    assert warm.objective == pytest.approx(cold.objective, abs=1e-9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tol": 0}, "`tol` must be a finite number above zero"),
        ({"tol": "small"}, "`tol`"),
        ({"max_steps": -1}, "`max_steps` must be an integer of at least 0"),
        ({"max_seconds": 0}, "`max_seconds`"),
        ({"hessian": "newton"}, '`hessian` must be one of "exact", "gauss_newton", "lbfgs"'),
        ({"options": 3}, "`options` must map"),
        ({"options": {1: 2}}, "`options` must map"),
    ],
)
def test_refuses_bad_settings(options, message):
    with pytest.raises(ValueError, match=message):
        jc.Ipopt(**options)


@pytest.mark.parametrize(
    "options", [{"no_such_option": 1}, {"max_iter": "many"}, {"mu_strategy": "bold"}]
)
def test_refuses_options_that_ipopt_does_not_know(nlp, start, options):
    with pytest.raises(ValueError, match=f"`options` holds '{next(iter(options))}'"):
        jc.solve(nlp, jc.Ipopt(options=options), start)


def test_passes_options_on(nlp, start):
    options = {
        "mu_strategy": "adaptive",
        "max_iter": 2,
        "warm_start_same_structure": False,
        "mu_max": 10,
    }
    sol = jc.solve(nlp, jc.Ipopt(options=options), start, throw=False)
    assert sol.stats["num_steps"] == 2


@pytest.mark.parametrize(
    ("guess", "message"),
    [
        (np.zeros(3), r"got shape \(3,\)"),
        ("start", "must be what jc.guess returns"),
        (None, "must hold|must come"),
    ],
)
def test_refuses_bad_guesses(nlp, guess, message):
    with pytest.raises(ValueError, match=f"`guess`.*{message}"):
        jc.solve(nlp, jc.Ipopt(), guess)
    with pytest.raises(ValueError, match="`guess` must be finite"):
        jc.solve(nlp, jc.Ipopt(), np.full(nlp.num_variables, np.nan))


def test_refuses_what_is_no_solver(nlp, start):
    with pytest.raises(ValueError, match="`solver` must be a solver"):
        jc.solve(nlp, "ipopt", start)


def test_says_how_to_install_ipopt(nlp, start, monkeypatch):
    true_import = builtins.__import__

    def without(name, *rest, **more):
        if name == "cyipopt":
            raise ImportError(name)
        return true_import(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"pip install cyipopt-wheels.*\n.*\n.*conda-forge"):
        solver._import()


@pytest.mark.slow
def test_hands_the_model_back_in_its_own_dtypes(caller_x64):
    model = Net(2, 4)
    before = [leaf.dtype for leaf in jax.tree.leaves(model) if hasattr(leaf, "dtype")]
    data = jc.Trajectory(TS.astype(np.float32), spiral(TS).astype(np.float32))
    nlp = jc.transcribe(model, data, jc.Grid.uniform(0.0, 4.0, 8, jc.Radau(3)), l2=1e-3)
    sol = jc.solve(nlp, jc.Ipopt(), jc.guess(nlp, key=jax.random.key(1)))
    after = [leaf.dtype for leaf in jax.tree.leaves(sol.model) if hasattr(leaf, "dtype")]
    assert before == after
    assert jax.config.jax_enable_x64 == caller_x64
    assert jax.tree.structure(model) == jax.tree.structure(sol.model)
    assert sol.z.dtype == np.float64
    ys = jc.simulate(sol.model, TS, sol.paths[0].evaluate(0.0))
    assert ys.dtype == (np.float64 if caller_x64 else np.float32)
    assert np.max(np.abs(np.asarray(ys) - spiral(TS))) < 0.1


def test_precision_does_not_depend_on_the_caller():
    objectives = []
    for setting in (False, True):
        with jax.enable_x64(setting):
            nlp = spiral_problem(jc.Grid.uniform(0.0, 4.0, 8, jc.Radau(3)))
            objectives.append(jc.solve(nlp, jc.Ipopt(), jc.guess(nlp)).objective)
    assert objectives[0] == pytest.approx(objectives[1], abs=1e-12)


def test_prints_on_one_screen(nlp, start, capsys):
    sol = jc.solve(nlp, jc.Ipopt(), start, progress=True)
    assert "successful" in str(sol)
    assert len(str(sol).split("\n")) < 12
    assert "objective" in capsys.readouterr().err
