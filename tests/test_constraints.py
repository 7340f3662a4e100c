"""Constraints: what holds at the optimum, where the rows stand, what is refused."""

import jax.numpy as jnp
import numpy as np
import pytest
from helpers import SPIRAL, Affine, Linear, Net, spiral

import jaxcolloc as jc


TS = np.linspace(0.0, 4.0, 41)
GRID = jc.Grid.uniform(0.0, 4.0, 8, jc.Radau(3))
DATA = jc.Trajectory(TS, spiral(TS))


def solve(constraints=(), data=DATA, grid=GRID, model=None, **options):
    model = Linear(jnp.asarray(SPIRAL)) if model is None else model
    nlp = jc.transcribe(model, data, grid, constraints=constraints, l2=0.0, **options)
    return jc.solve(nlp, jc.Ipopt(), jc.guess(nlp, weights="as_given"))


def test_an_inequality_holds_at_the_nodes_and_binds():
    # With the field fixed the state at the start is all that is free: a convex problem.
    stated = jc.Constraint(lambda t, y, args: y[0] + y[1], lower=-0.4)
    sol = solve(stated, trainable=False)
    sums = sol.paths[0].states.sum(axis=1)
    assert spiral(TS).sum(axis=1).min() < -0.6
    assert sums.min() == pytest.approx(-0.4, abs=1e-6)


def test_terminal_and_initial_conditions():
    sol = solve(
        [
            jc.Constraint(lambda t, y, args: y[0] - t, -4.5, -4.5, at="end"),
            jc.StateBounds(1, 0.125, 0.125, at="start"),
        ]
    )
    assert sol.paths[0].states[-1, 0] == pytest.approx(-0.5, abs=1e-8)
    assert sol.paths[0].states[0, 1] == 0.125
    assert abs(spiral(TS)[-1, 0] + 0.5) > 0.1


def test_a_constraint_sees_the_model_in_training():
    sol = solve(jc.Constraint(lambda t, y, args, model: model.matrix[0, 1], 1.5, 1.5, at="start"))
    assert float(sol.model.matrix[0, 1]) == pytest.approx(1.5, abs=1e-6)


def test_nonnegative_is_a_bound():
    nlp = jc.transcribe(Net(2, 3), DATA, GRID, constraints=[jc.nonnegative(1)])
    lower, upper = nlp.bounds
    states = lower[nlp.num_weights :].reshape(-1, 2)
    np.testing.assert_array_equal(states[:, 0], -np.inf)
    np.testing.assert_array_equal(states[:, 1], 0.0)
    assert np.all(np.isinf(upper))
    assert nlp.num_constraints == 2 * (GRID.num_nodes - 1)


def test_rows_of_inequalities_follow_the_equations():
    data = [DATA, jc.Trajectory(TS[:20], spiral(TS[:20])), DATA]
    grids = [GRID, jc.Grid.uniform(0.0, 2.0, 3, jc.Radau(3)), GRID]

    def both(t, y, args):
        return jnp.stack([t, y[1]])

    stated = jc.Constraint(both, [-1.0, -2.0], [9.0, np.inf], trajectories=[1, 2])
    nlp = jc.transcribe(Net(2, 3), data, grids, constraints=stated)
    states = [np.random.default_rng(k).normal(size=(g.num_nodes, 2)) for k, g in enumerate(grids)]
    values = np.asarray(nlp.constraints(nlp.pack(Net(2, 3), states)))
    lower, upper = nlp.constraint_bounds
    first = 2 * sum(grid.num_nodes - 1 for grid in grids)
    assert np.all(lower[:first] == 0)
    assert np.all(upper[:first] == 0)
    expected = [
        np.stack([grids[k].times, states[k][:, 1]], axis=1).ravel()
        for group in nlp.groups
        for k in group.members
        if k in (1, 2)
    ]
    np.testing.assert_allclose(values[first:], np.concatenate(expected), atol=1e-12)
    np.testing.assert_array_equal(lower[first:], np.tile([-1.0, -2.0], len(values[first:]) // 2))
    np.testing.assert_array_equal(upper[first:], np.tile([9.0, np.inf], len(values[first:]) // 2))
    assert f"{len(values) - first} inequalities" in str(nlp)


@pytest.mark.slow
def test_an_invariant_stays_constant_in_the_nlp_and_in_a_rollout():
    rng = np.random.default_rng(0)
    ys = spiral(TS) + 0.05 * rng.normal(size=(len(TS), 2))
    third = 1.0 - ys.sum(axis=1, keepdims=True) + 0.05 * rng.normal(size=(len(TS), 1))
    data = jc.Trajectory(TS, np.concatenate([ys, third], axis=1))
    model = jc.Conserving(Net(3, 6), [1.0, 1.0, 1.0])
    total = jc.Constraint(lambda t, y, args: jnp.sum(y), 1.0, 1.0, at="start")
    nlp = jc.transcribe(model, data, GRID, constraints=total)
    sol = jc.solve(nlp, jc.Ipopt(), jc.guess(nlp))
    np.testing.assert_allclose(sol.paths[0].states.sum(axis=1), 1.0, atol=1e-7)
    ys = jc.simulate(sol.model, np.linspace(0, 8, 30), sol.paths[0].evaluate(0.0))
    np.testing.assert_allclose(np.asarray(ys).sum(axis=1), 1.0, atol=1e-5)


def test_conserving_leaves_a_field_that_conserves_as_it_is():
    model = Linear(jnp.asarray([[-1.0, 2.0], [1.0, -2.0]]))
    y = jnp.asarray([0.3, 0.5])
    wrapped = jc.Conserving(model, [1.0, 1.0])
    np.testing.assert_allclose(wrapped(0.0, y, None), model(0.0, y, None), atol=1e-6)


@pytest.mark.slow
def test_a_trajectory_cut_in_two_and_tied_has_the_same_optimum():
    """Of a convex problem, which has no other."""
    noise = 0.05 * np.random.default_rng(1).normal(size=(len(TS), 2))
    unit = np.asarray(1.0)
    whole = jc.Trajectory(TS, spiral(TS) + noise, unit)
    # The sample at the cut stands in the first half alone.
    halves = [
        jc.Trajectory(TS[:21], whole.ys[:21], unit),
        jc.Trajectory(TS[20:], np.concatenate([np.full((1, 2), np.nan), whole.ys[21:]]), unit),
    ]
    grids = [jc.Grid.uniform(a, a + 2.0, 4, jc.Radau(3)) for a in (0.0, 2.0)]
    start = Affine(jnp.ones(2))
    problems = [
        jc.transcribe(start, whole, GRID, l2=1e-3),
        jc.transcribe(start, halves, grids, l2=1e-3, constraints=jc.Tie(0, 1)),
        jc.transcribe(start, halves, grids, l2=1e-3),
    ]
    one, two, apart = (jc.solve(nlp, jc.Ipopt(tol=1e-9), jc.guess(nlp)) for nlp in problems)
    assert two.objective == pytest.approx(one.objective, rel=1e-7)
    states = np.concatenate([two.paths[0].states, two.paths[1].states[1:]])
    np.testing.assert_allclose(states, one.paths[0].states, atol=1e-6)
    # Without the tie the halves need not meet.
    assert apart.objective < one.objective * (1 - 1e-3)


@pytest.mark.slow
def test_the_order_of_trajectories_does_not_matter():
    rng = np.random.default_rng(2)
    data = [
        jc.Trajectory(ts, spiral(ts) + 0.05 * rng.normal(size=(len(ts), 2)))
        for ts in (np.linspace(0, 4, 12), np.linspace(0.5, 3, 7), np.linspace(0, 1, 25))
    ]
    grids = [
        jc.Grid.uniform(d.ts[0], d.ts[-1], n, jc.Radau(2))
        for d, n in zip(data, (5, 3, 2), strict=True)
    ]
    objectives, matrices = [], []
    for order in ([0, 1, 2], [2, 0, 1]):
        nlp = jc.transcribe(
            Linear(jnp.zeros((2, 2))), [data[k] for k in order], [grids[k] for k in order]
        )
        sol = jc.solve(nlp, jc.Ipopt(tol=1e-9), jc.guess(nlp))
        objectives.append(sol.objective)
        matrices.append(np.asarray(sol.model.matrix))
        ends = [sol.paths[order.index(k)].states[-1] for k in range(3)]
        matrices.append(np.stack(ends))
    assert objectives[0] == pytest.approx(objectives[1], rel=1e-9)
    np.testing.assert_allclose(matrices[0], matrices[2], atol=1e-6)
    np.testing.assert_allclose(matrices[1], matrices[3], atol=1e-6)


def _two(t, y, args):
    return y


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: jc.Constraint(_two, 1.0, 0.0), "`lower`.* must be"),
        (lambda: jc.Constraint(_two, "a"), "`lower`.* must be"),
        (lambda: jc.Constraint(_two, at="middle"), '`at` must be one of "nodes"'),
        (lambda: jc.Constraint(_two, trajectories=3), "`trajectories` must be a list"),
        (lambda: jc.Tie(-1, 0), "`first` must be an integer"),
        (
            lambda: jc.Conserving(_two, [[1.0, 1.0], [2.0, 2.0]]),
            "`invariants` must be finite numbers of shape",
        ),
        (lambda: solve(3), "`constraints` must hold|not iterable"),
        (lambda: solve([3]), "`constraints` must hold"),
        (lambda: solve(jc.Tie(0, 1)), "`constraints` must name trajectories below 1"),
        (lambda: solve(jc.Constraint(_two, [0.0, 0.0, 0.0])), "one entry for each of 2 values"),
        (lambda: solve(jc.Constraint(3)), "`function` must be callable"),
        (lambda: solve(jc.Constraint(lambda t, y, args: jnp.eye(2))), "must return a scalar"),
        (lambda: solve(jc.nonnegative(2)), "`components` must be below 2"),
        (
            lambda: solve([jc.StateBounds(0, 1.0), jc.StateBounds(0, upper=0.5)]),
            "`constraints` leave no value",
        ),
    ],
)
def test_refuses_bad_input(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()
