"""fit_admm: batches, the consensus of their weights, executors that fail."""

import multiprocessing
import warnings
from concurrent.futures import Executor, Future

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import Affine, Linear, Net, Plant, spiral
from scipy.sparse import coo_array

import jaxcolloc as jc
from jaxcolloc._admm.batches import make_batches
from jaxcolloc._admm.consensus import Consensus
from jaxcolloc._admm.executors import InProcess
from jaxcolloc._admm.pickling import pack, unpack
from jaxcolloc._admm.split import Admm, recipes_of, split_data
from jaxcolloc._admm.subproblem import Subproblem
from jaxcolloc._settings import Settings


TS = np.linspace(0.0, 2.0, 21)
GRID = jc.Grid.uniform(0.0, 2.0, 4, jc.Radau(3))
START = Linear(jnp.asarray([[0.0, 1.7], [-1.7, 0.0]]))


def lines(count=3):
    rng = np.random.default_rng(0)
    return [
        jc.Trajectory(TS, rng.normal(size=(21, 2)), args=np.asarray(1.0 + 0.3 * k))
        for k in range(count)
    ]


def spirals(count=2, noise=0.05):
    rng = np.random.default_rng(1)
    ys = [spiral(TS + 0.7 * k) + noise * rng.normal(size=(21, 2)) for k in range(count)]
    return [jc.Trajectory(TS, item) for item in ys]


CONVEX = {
    "grid": GRID, "l2": 1e-2, "start": "as_given", "rtol": 0.0, "atol": 1e-9, "rho": 0.3,
    "solver": jc.Ipopt(tol=1e-12),
}  # fmt: skip
ONES = Affine(jnp.ones(2))


def convex(**changes):
    with warnings.catch_warnings():
        # The data are noise, which no rollout follows.
        warnings.filterwarnings("ignore", message="The fit is not verified")
        return jc.fit_admm(ONES, lines(), **(CONVEX | {"batches": [[0], [1, 2]]} | changes))


def unfinished(rounds, **changes):
    return convex(atol=1e-12, callback=lambda step: step.iteration == rounds, **changes)


@pytest.fixture(scope="module")
def joint_weights():
    nlp = jc.transcribe(ONES, lines(), GRID, l2=1e-2)
    sol = jc.solve(nlp, jc.Ipopt(tol=1e-12), jc.guess(nlp))
    return np.asarray(sol.z[:2]), sol.objective


@pytest.mark.parametrize("relaxation", [pytest.param(1.0, marks=pytest.mark.slow), 1.6])
def test_a_convex_model_comes_to_the_joint_optimum(joint_weights, relaxation):
    """Batches of one and two trajectories count by their observations."""
    weights, objective = joint_weights
    sol = convex(relaxation=relaxation)
    assert sol.result is jc.RESULTS.successful
    np.testing.assert_allclose(sol.z[:2], weights, atol=1e-6)
    assert sol.objective == pytest.approx(objective, rel=1e-6)
    assert sol.stats["members"] == [[0], [1, 2]]


@pytest.mark.slow
def test_the_penalty_is_balanced_from_far_too_large_and_too_small_ones(joint_weights):
    for rho in (1e-3, 1e3):
        sol = convex(rho=rho, max_rounds=80)
        np.testing.assert_allclose(sol.z[:2], joint_weights[0], atol=1e-6)
        assert len(set(sol.stats["rounds"]["rho"])) > 3


@pytest.mark.slow
def test_a_fixed_point_satisfies_the_joint_problems_conditions():
    """Not convex; joint multipliers by least squares, since ADMM has none."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The fit is not verified")
        sol = jc.fit_admm(
            START, spirals(), grid=GRID, l2=1e-3, start="guess", rtol=0.0, atol=1e-8, rho=1.0,
            solver=jc.Ipopt(tol=1e-11), max_rounds=150,
        )  # fmt: skip
    assert sol.result is jc.RESULTS.successful
    nlp, z = sol.nlp, sol.z
    gradient = np.asarray(nlp.gradient(z))
    shape = (nlp.num_constraints, nlp.num_variables)
    jacobian = coo_array((np.asarray(nlp.jacobian(z)), nlp.jacobian_structure), shape).toarray()
    multipliers = np.linalg.lstsq(jacobian.T, -gradient, rcond=None)[0]
    assert np.max(np.abs(np.asarray(nlp.constraints(z)))) < 1e-8
    np.testing.assert_allclose(gradient + jacobian.T @ multipliers, 0.0, atol=1e-6)
    assert np.max(np.abs(gradient)) > 1e-3


def plants():
    rng, data = np.random.default_rng(0), []
    for k in range(3):
        ts = np.linspace(0.0, 1.0 + 0.5 * k, 9 + 4 * k)
        ys = 2000.0 * rng.normal(size=(len(ts), 2))
        ys[3, 0], ys[5] = np.nan, np.nan
        u = jc.Input([0.0, 0.5], rng.normal(size=2))
        feed = jc.Unknown(0.5 + k, scale="log", l2=0.3) if k == 1 else 0.5 + k
        data.append(jc.Trajectory(ts, ys, {"u": u, "feed": feed, "offset": np.array([1.0, 1.2])}))
    return data


@pytest.mark.slow
def test_the_batches_objectives_add_up_to_the_joint_one():
    """Ridge penalties of weights and unknowns, residual penalty, automatic weights and units."""
    model = Plant()
    options = {"observe": model.observe, "num_states": 2, "residual_penalty": 0.7,
               "loss": jc.PseudoHuber(0.5)}  # fmt: skip
    grids = [jc.Grid.uniform(0.0, 1.0 + 0.5 * k, 2 + k, jc.Radau(2)) for k in range(3)]
    admm = Admm(1.0, 1.0, True, False, 10, 1e-3, 1e-3, jc.Ipopt())
    parts, joint = split_data(
        model, plants(), [[0, 2], [1]], grids, None, Settings(l2=0.2, **options)
    )
    problems = [Subproblem(recipe) for recipe in recipes_of(joint, parts, admm)]
    rng = np.random.default_rng(3)
    head = joint.head(jc.guess(joint).z) + 0.1 * rng.normal(size=joint.layout.num_head)
    states = [rng.normal(size=(count, 2)) for count in joint.layout.node_counts]
    weights, own = head[: joint.num_weights], head[joint.num_weights :]
    total = 0.0
    for problem, members, extra in zip(problems, parts.members, ([], own), strict=True):
        inside = np.concatenate([weights, extra])
        z = problem.nlp.pack_head(inside, [states[k] for k in members])
        total += problem.recipe.share * float(problem.nlp.objective(z))
    assert total == pytest.approx(float(joint.objective(joint.pack_head(head, states))), rel=1e-12)


def test_subproblems_pull_weights_and_states_at_cuts_in_the_units_of_the_joint_problem():
    """The anchor's value, gradient and Hessian, by a dense check of the subproblem's objective."""
    data = [jc.Trajectory(TS, 5e3 * spiral(TS), weights=1e-6)]
    admm = Admm(1.0, 1.0, True, True, 10, 1e-3, 1e-3, jc.Ipopt())
    parts, joint = split_data(START, data, 2, [GRID], None, Settings(l2=1e-3))
    problem = Subproblem(recipes_of(joint, parts, admm)[1])
    assert problem.recipe.links == ((0, False),)
    plain = problem.nlp
    rng = np.random.default_rng(0)
    z = rng.normal(size=plain.num_variables)
    center, rho = rng.normal(size=6), 3.0
    factor = np.full(6, rho / (2 * problem.recipe.share)) / problem.units**2
    pulled = problem.nlp.with_pull(problem.positions, factor, center * problem.units)
    copy = z[problem.positions]
    expected = float(plain.objective(z)) * problem.recipe.share + rho / 2 * np.sum(
        (copy - center) ** 2
    )
    assert float(pulled.objective(z)) * problem.recipe.share == pytest.approx(expected, rel=1e-12)
    rows, columns = pulled.hessian_structure
    zeros = np.zeros(pulled.num_constraints)
    assert np.array_equal(rows, plain.hessian_structure[0])
    difference = np.asarray(pulled.hessian(z, zeros)) - np.asarray(plain.hessian(z, zeros))
    diagonal = np.zeros(plain.num_variables)
    np.add.at(diagonal, rows[rows == columns], difference[rows == columns])
    wanted = np.zeros(plain.num_variables)
    wanted[problem.positions] = rho / problem.recipe.share
    np.testing.assert_allclose(diagonal, wanted, atol=1e-9)
    np.testing.assert_allclose(difference[rows != columns], 0.0, atol=1e-12)


def test_advancing_is_boyds_iteration():
    """Means, duals and residuals by hand; one entry that only two of three batches have."""
    entries = [np.array([0, 1]), np.array([0]), np.array([0, 1])]
    state = Consensus.start(np.array([1.0, 2.0]), entries, 2.0)
    copies = [np.array([2.0, 4.0]), np.array([3.0]), np.array([1.0, 0.0])]
    new, residuals = state.advance(copies, 1.0, 0.1, 0.01)
    np.testing.assert_allclose(new.mean, [2.0, 2.0])
    for dual, expected in zip(new.duals, ([0.0, 4.0], [2.0], [-2.0, -4.0]), strict=True):
        np.testing.assert_allclose(dual, expected)
    assert residuals.primal == pytest.approx(2.0 + 1.0 + np.sqrt(5.0))
    assert residuals.dual == pytest.approx(2.0 * np.sqrt(3.0))
    sizes = np.sqrt(20.0) + 3.0 + 1.0, 2 * np.sqrt(8.0) + 2.0
    assert residuals.primal_tolerance == pytest.approx(
        0.1 * (2 * np.sqrt(2) + 1) + 0.01 * max(sizes)
    )
    assert residuals.dual_tolerance == pytest.approx(0.1 * np.sqrt(5) + 0.01 * np.sqrt(40.0))
    relaxed, _ = state.advance(copies, 1.5, 0.1, 0.01)
    np.testing.assert_allclose(relaxed.mean, [2.5, 2.0])
    again, _ = new.advance(copies, 1.0, 0.1, 0.01)
    np.testing.assert_allclose(again.center(0), again.mean - np.array(again.duals[0]) / 2.0)


def test_a_batch_without_result_keeps_its_duals_and_moves_nothing():
    state = Consensus.start(np.zeros(1), [np.array([0])] * 2, 1.0)
    new, _ = state.advance([np.array([4.0]), None], 1.0, 1e-3, 1e-3)
    np.testing.assert_allclose(new.mean, [2.0])
    np.testing.assert_allclose(new.duals[1], [0.0])
    np.testing.assert_allclose(new.duals[0], [2.0])


def test_first_duals_make_a_common_optimum_a_fixed_point():
    entries = [np.array([0, 1])] * 2
    gradients = [np.array([1.0, -2.0]), np.array([-1.0, 2.0])]
    state = Consensus.start(np.zeros(2), entries, 3.0, gradients)
    for dual, gradient in zip(state.duals, gradients, strict=True):
        np.testing.assert_allclose(dual, -gradient)
    tilted = Consensus.start(np.zeros(2), entries, 3.0, [np.array([3.0, 0.0]), np.zeros(2)])
    np.testing.assert_allclose(np.sum(tilted.duals, axis=0), 0.0)


def test_trajectories_are_shared_out_by_their_observations():
    data = [jc.Trajectory(np.linspace(0, 1, n), np.zeros((n, 1))) for n in (10, 40, 12, 9)]
    grids = tuple(jc.Grid.uniform(0, 1, 4, jc.Radau(1)) for _ in data)
    parts = make_batches(tuple(data), grids, 2)
    assert parts.members == ((1,), (0, 2, 3))
    assert parts.counts() == [40, 31]
    assert make_batches(tuple(data), grids, [[3, 0], [1], [2]]).members == ((3, 0), (1,), (2,))


def test_more_batches_than_trajectories_cut_them_at_boundaries_of_their_grids():
    ys = np.arange(21.0)[:, None]
    data = (jc.Trajectory(TS, ys, y0=[0.0]), jc.Trajectory(TS[:5], ys[:5]))
    grids = (jc.Grid.uniform(0.0, 2.0, 7, jc.Radau(2)), jc.Grid.uniform(0, 2.0, 2, jc.Radau(2)))
    parts = make_batches(data, grids, 4)
    assert parts.members == ((0,), (1,), (2,), (3,))
    assert parts.cuts == ((0, 1), (1, 2))
    assert [item.num_intervals for item in parts.grids] == [2, 3, 2, 2]
    joined = np.concatenate([item.ys for item in parts.trajectories[:3]])
    assert np.array_equal(joined, ys)
    for item, grid in zip(parts.trajectories, parts.grids, strict=True):
        assert grid.covers(item.ts)
    assert [item.y0 is None for item in parts.trajectories] == [False, True, True, True]


@pytest.mark.slow
def test_continuity_closes_the_gaps_where_a_trajectory_is_cut():
    def gap(continuity):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The fit is not verified")
            sol = jc.fit_admm(
                START, spirals(1, noise=0.2), batches=2, grid=GRID, start="guess", rho=0.1,
                continuity=continuity, max_rounds=60,
            )  # fmt: skip
        assert sol.result is jc.RESULTS.successful
        assert len(sol.paths) == 2
        return np.max(np.abs(sol.paths[0].states[-1] - sol.paths[1].states[0]))

    assert gap(True) < 0.1 * gap(False)


@pytest.mark.slow
def test_unknowns_stay_with_their_trajectory_and_come_back():
    def field(t, y, args):
        return -args["rate"] * y

    class Rate(eqx.Module):
        factor: jax.Array

        def __call__(self, t, y, args):
            return self.factor * field(t, y, args)

    rates = (0.5, 2.0)
    data = [
        jc.Trajectory(TS, np.exp(-1.5 * rate * TS)[:, None], {"rate": jc.Unknown(1.0, l2=1e-9)})
        for rate in rates
    ]
    # The model's factor is pinned to the truth, by bounds.
    bounds = (1.5, 1.5 + 1e-9)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The fit is not verified")
        sol = jc.fit_admm(
            Rate(jnp.asarray(1.5)), data, grid=GRID, start="as_given", l2=0.0,
            weight_bounds=bounds, rollouts=False,
        )  # fmt: skip
    found = [float(item["rate"]) for item in sol.args]
    np.testing.assert_allclose(found, rates, rtol=1e-2)


class Flaky(Executor):
    """Fails for some submissions of one batch, by the number of the submission."""

    def __init__(self, fails):
        self.inner, self.fails, self.count = InProcess(), fails, 0

    def submit(self, fn, /, *args, **kwargs):
        batch = args[1]
        if batch == 1:
            self.count += 1
            if self.count in self.fails:
                future = Future()
                future.set_exception(MemoryError("no room"))
                return future
        return self.inner.submit(fn, *args, **kwargs)


@pytest.mark.slow
def test_a_failed_subproblem_is_tried_again(joint_weights):
    # The first submission asks for the recipe, the second is the start, the third a round.
    sol = convex(executor=Flaky({3, 6}))
    assert sum(sol.stats["rounds"]["left_out"]) == 0
    np.testing.assert_allclose(sol.z[:2], joint_weights[0], atol=1e-6)


@pytest.mark.slow
def test_a_batch_that_fails_again_is_left_out_of_the_round_with_a_warning(joint_weights):
    with pytest.warns(UserWarning, match="Left out of round 2 .* batch 1: MemoryError: no room"):
        sol = convex(executor=Flaky({4, 5}))
    assert sol.stats["rounds"]["left_out"][:3] == [0, 1, 0]
    assert sol.result is jc.RESULTS.successful
    np.testing.assert_allclose(sol.z[:2], joint_weights[0], atol=1e-6)


def test_a_run_in_which_nothing_works_ends_and_returns_the_start():
    class Dead(Executor):
        def submit(self, fn, /, *args, **kwargs):
            raise_in = Future()
            raise_in.set_exception(OSError("unreachable"))
            return raise_in

    with pytest.warns(UserWarning, match="unreachable"):
        sol = convex(executor=Dead())
    assert sol.result is jc.RESULTS.failed
    np.testing.assert_allclose(sol.z[:2], 1.0)


@pytest.mark.slow
def test_a_killed_worker_does_not_lose_the_run(joint_weights):
    def kill(step):
        if step.iteration == 2:
            for process in multiprocessing.active_children():
                process.kill()

    sol = convex(executor=2, callback=kill)
    assert sol.result is jc.RESULTS.successful
    assert sum(sol.stats["rounds"]["left_out"]) == 0
    np.testing.assert_allclose(sol.z[:2], joint_weights[0], atol=1e-6)


@pytest.mark.slow
def test_a_broken_pool_of_the_caller_is_replaced_by_this_process(joint_weights):
    def kill(step):
        if step.iteration == 1:
            for process in multiprocessing.active_children():
                process.kill()

    with jc.process_pool(1) as pool, pytest.warns(UserWarning, match="executor is broken"):
        sol = convex(executor=pool, callback=kill)
    np.testing.assert_allclose(sol.z[:2], joint_weights[0], atol=1e-6)


def test_models_travel_with_jitted_functions_and_lambdas():
    """`jnp.tanh` cannot be pickled, nor can the lambda that ends a net."""
    shift = 3.0
    model = {"net": Net(2, 3), "functions": [jnp.tanh, jax.nn.swish, lambda x: x + shift]}
    again = unpack(pack(model))
    y = jnp.asarray([0.4, -1.0])
    np.testing.assert_array_equal(again["net"](0.0, y, None), model["net"](0.0, y, None))
    assert again["functions"][:2] == [jnp.tanh, jax.nn.swish]
    assert again["functions"][2](1.0) == 4.0
    with pytest.raises(ValueError, match="can be sent to another process"):
        pack(iter_of_nothing())


def iter_of_nothing():
    yield


@pytest.mark.slow
def test_a_local_dask_cluster_does_the_same(joint_weights):
    distributed = pytest.importorskip("distributed")
    with warnings.catch_warnings():
        # Dask's own servers warn of what they do; the numbers are what is tested.
        warnings.simplefilter("ignore")
        with (
            distributed.LocalCluster(
                n_workers=2, threads_per_worker=1, dashboard_address=None
            ) as cluster,
            distributed.Client(cluster) as client,
        ):
            sol = convex(executor=client.get_executor())
    np.testing.assert_allclose(sol.z[:2], joint_weights[0], atol=1e-6)


def test_a_checkpoint_goes_on_where_the_run_was_stopped(tmp_path):
    whole = unfinished(12)
    file = tmp_path / "run.admm"
    stopped = unfinished(5, checkpoint=file)
    assert stopped.result is jc.RESULTS.stopped
    assert len(stopped.trace) == 5
    with pytest.warns(UserWarning, match="limit of rounds"):
        resumed = convex(atol=1e-12, checkpoint=file, max_rounds=12)
    assert len(resumed.trace) == 12
    np.testing.assert_allclose(resumed.trace.objective, whole.trace.objective, rtol=1e-9)
    np.testing.assert_allclose(resumed.z, whole.z, atol=1e-9)
    with pytest.raises(ValueError, match="`checkpoint` holds a fit of another problem: `batches`"):
        convex(batches=[[0, 1], [2]], checkpoint=file)


@pytest.mark.slow
def test_a_round_that_leaves_the_start_is_repeated_with_a_larger_penalty():
    r"""Batches that contradict each other, one of them with hardly any curvature.

    With curvatures $h_i$ of the $L_i$ and gradients $g_i$ at the start, the first duals and a
    vanishing $\rho$ lead to $x_i = x_0 - \bar g / h_i$: far from what the flat batch wants. Only a
    $\rho$ that outweighs its curvature of about 1e-3 holds it.
    """
    data = [
        jc.Trajectory(TS, np.stack([5.0 * TS, 0 * TS], axis=1), np.asarray(0.05)),
        jc.Trajectory(TS, np.stack([-5.0 * TS, 0 * TS], axis=1), np.asarray(1.0)),
    ]
    zero = Affine(jnp.zeros(2))
    nlp = jc.transcribe(zero, data, GRID, l2=0.0)
    # At the start the states are constant, the data's means.
    start = float(np.mean(2 * 25.0 * (TS - TS.mean()) ** 2) / 2)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The fit is not verified|The limit of rounds")
        sol = jc.fit_admm(zero, data, batches=2, start="as_given", grid=GRID, l2=0.0, rho=1e-5,
                          max_rounds=12, balance=False, rollouts=False)  # fmt: skip
    rounds = sol.stats["rounds"]
    rejected = rounds["rejected"]
    assert rejected[:2] == [True, True]
    assert not all(rejected)
    for k in range(11):
        expected = rounds["rho"][k] * (10 if rejected[k] else 1)
        assert rounds["rho"][k + 1] == pytest.approx(expected)
    for value, no in zip(rounds["objective"], rejected, strict=True):
        assert no or value <= 1.2 * start * (1 + 1e-6)
    assert max(rounds["objective"][:2]) > 10 * start
    best = jc.solve(nlp, jc.Ipopt(), jc.guess(nlp)).z[0]
    # Each accepted round goes on from the start, towards the joint optimum.
    assert abs(sol.z[0] - best) < abs(best)


@pytest.mark.slow
def test_starts_apart_keep_their_own_weights_in_the_first_round():
    """Copies of one net with its hidden units permuted: their mean is another function."""
    net = Net(2, 4)
    first, second = net.mlp.layers
    order = np.array([2, 0, 3, 1])
    layers = (
        eqx.tree_at(lambda x: (x.weight, x.bias), first, (first.weight[order], first.bias[order])),
        eqx.tree_at(lambda x: x.weight, second, second.weight[:, order]),
    )
    other = eqx.tree_at(lambda item: item.mlp.layers, net, layers)
    y = jnp.asarray([0.3, -0.2])
    np.testing.assert_allclose(net(0.0, y, None), other(0.0, y, None), rtol=1e-5)
    seen = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        options = {"grid": GRID, "l2": 0.0, "rollouts": False}
        for start in ([net, net], [net, other]):
            sol = jc.fit_admm(
                net, spirals(), start=start, rho=1e6, max_rounds=1, balance=False, **options
            )
            seen.append(sol.z[: sol.nlp.num_weights])
    # So strong a pull leaves all at the mean of the starts.
    flat = [np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(eqx.filter(
        item, eqx.is_inexact_array))]) for item in (net, other)]  # fmt: skip
    np.testing.assert_allclose(seen[0], flat[0], atol=1e-4)
    np.testing.assert_allclose(seen[1], (flat[0] + flat[1]) / 2, atol=1e-4)


def test_the_trace_and_the_table_of_rounds_agree():
    sol = unfinished(4)
    rounds = sol.stats["rounds"]
    np.testing.assert_allclose(sol.trace.primal, rounds["primal"])
    np.testing.assert_allclose(sol.trace.dual, rounds["dual"])
    np.testing.assert_allclose(sol.trace.rho, rounds["rho"])
    assert np.all(np.isfinite(rounds["rollout_mse"]))
    # The last rollout is of the model returned: exact in time, as the grid is for this model.
    assert rounds["rollout_mse"][-1] == pytest.approx(sol.objective - 1e-2 * np.sum(sol.z[:2] ** 2),
                                                      rel=1e-4)  # fmt: skip


def test_a_solution_is_saved_and_loaded(tmp_path):
    sol = unfinished(2)
    sol.save(tmp_path / "run.jcs")
    again = jc.load(tmp_path / "run.jcs", like=sol.model)
    assert again.stats["rounds"]["rho"] == sol.stats["rounds"]["rho"]
    assert again.stats["options"]["rho"] == 0.3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batches": 0}, "`batches` must be an integer of at least 1"),
        ({"batches": [[0], [0, 1]]}, "hold each of 0 to 2 once"),
        ({"batches": [0, 1, 2]}, "hold each of 0 to 2 once"),
        ({"batches": 20}, "asks for 7 segments of a trajectory whose grid has 4 intervals"),
        ({"rho": 0.0}, "`rho` must be a finite number above zero"),
        ({"relaxation": 2.0}, "`relaxation` must be above 0 and below 2"),
        ({"start": "anywhere"}, "`start` must be one of fit, batch, guess, as_given"),
        ({"start": [ONES]}, "one model for each of the 2 batches; got 1 models"),
        ({"executor": "dask"}, "`executor` must be a number of processes or have a `submit`"),
        ({"solver": "ipopt"}, "`solver` must be a solver"),
        ({"retries": -1}, "`retries` must be an integer"),
        ({"nonsense": 1}, "`options` must be those of jc.transcribe; got nonsense"),
        ({"constraints": jc.Tie(0, 1)}, "`constraints` must apply to all trajectories"),
    ],
)
def test_bad_arguments_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        convex(**changes)


def test_a_trajectory_with_an_unknown_is_not_cut():
    data = [jc.Trajectory(TS, spiral(TS), args=jc.Unknown(1.0))]
    with pytest.raises(ValueError, match="`batches` must not be more than there are trajectories"):
        jc.fit_admm(START, data, batches=2, grid=GRID)
