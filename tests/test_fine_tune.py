"""fine_tune: gradients through rollouts, what is trained, when it ends."""

import dataclasses

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import SPIRAL, Linear, Net, Plant, spiral

import jaxcolloc as jc
from jaxcolloc._integrate import Stepping
from jaxcolloc._precision import x64
from jaxcolloc._sequential.fine_tune import _problem
from jaxcolloc._sequential.training import FineTuning, Training, arrays, value_and_gradient


TS = np.linspace(0.0, 4.0, 25)
GRID = jc.Grid.uniform(0.0, 4.0, 16, jc.Radau(3))
START = Linear(jnp.asarray([[0.0, 1.7], [-1.7, 0.0]]))
PINNED = jc.Trajectory(TS, spiral(TS), y0=[1.0, 0.0])


def plants(count=3):
    """Trajectories of several lengths and inputs, with samples missing."""
    rng, data = np.random.default_rng(0), []
    for k in range(count):
        ts = np.linspace(0.0, 1.0 + 0.3 * k, 9 + 2 * k)
        ys = rng.normal(size=(len(ts), 2))
        ys[3, 0], ys[5] = np.nan, np.nan
        u = jc.Input([0.0, 0.5], rng.normal(size=2), kind="hold" if k % 2 else "linear")
        feed = jc.Unknown(0.5 + k, scale="log") if k == 1 else 0.5 + k
        args = {"u": u, "feed": feed, "offset": np.array([1.0, 1.2])}
        data.append(jc.Trajectory(ts, ys, args, weights=[1.0, 2.0]))
    return data


def training(nlp, **changes):
    tuning = FineTuning(
        optax.sgd(1e-2), (3,), (1.0,), None, 0.0, None, 10,
        Stepping(diffrax.Tsit5(), 1e-9, 1e-11, 4096),
    )  # fmt: skip
    return Training(nlp, dataclasses.replace(tuning, **changes), jax.random.key(0))


def objective_and_gradient(run, parameters):
    parts, until, factor, _ = next(run.schedule.tasks())
    problem = arrays((parts, -1.0, until, factor))
    return value_and_gradient(run.loss, parameters, problem)[:2]


@pytest.mark.slow
def test_the_objective_is_that_of_the_transcription_with_the_states_eliminated():
    """On a fine grid both agree; several groups, inputs, an unknown, a trained sensor, gaps."""
    model, data = Plant(), plants()
    # A grid for each, with boundaries where inputs jump.
    grids = [
        jc.Grid(np.unique(np.append(np.linspace(0.0, item.ts[-1], 13), 0.5)), jc.Radau(4))
        for item in data
    ]
    nlp = _problem(model, tuple(data), None, grids, 1e-2, {"observe": model.observe})
    with x64():
        run = training(nlp)
        parameters = run.first([[0.8, 0.9], [1.0, 1.2], [0.7, 0.5]])
        value, gradient = objective_and_gradient(run, parameters)
        z = run.outcome(parameters, jc.RESULTS.trained).z
        assert float(value) == pytest.approx(float(nlp.objective(z)), rel=1e-6)
        direction = jax.tree.map(
            lambda leaf: jax.random.normal(jax.random.key(leaf.size), leaf.shape), parameters
        )
        steps = [
            objective_and_gradient(
                run, jax.tree.map(lambda a, b, h=h: a + h * b, parameters, direction)
            )[0]
            for h in (1e-3, -1e-3)
        ]
        slope = sum(
            float(jnp.vdot(a, b))
            for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(direction), strict=True)
        )
        assert float(steps[0] - steps[1]) / 2e-3 == pytest.approx(slope, rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", [optax.adam(0.05), optax.lbfgs()], ids=["adam", "lbfgs"])
def test_recovers_the_matrix_of_a_linear_system(optimizer):
    steps = 25 if optimizer.init is optax.lbfgs().init else 150
    sol = jc.fine_tune(START, PINNED, optimizer, steps=steps, grid=GRID, rtol=1e-6, atol=1e-8)
    assert sol.result is jc.RESULTS.trained
    np.testing.assert_allclose(np.asarray(sol.model.matrix), SPIRAL, atol=0.02)
    assert len(sol.trace) == steps + 1
    assert sol.trace.objective[-1] < 1e-2 * sol.trace.objective[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    "adjoint", [diffrax.DirectAdjoint(), diffrax.BacksolveAdjoint()], ids=["direct", "backsolve"]
)
def test_adjoints_give_the_same_steps(adjoint):
    options = {"steps": 3, "grid": GRID, "rtol": 1e-8, "atol": 1e-10, "max_steps": 256}
    usual = jc.fine_tune(START, PINNED, optax.sgd(0.01), **options)
    other = jc.fine_tune(START, PINNED, optax.sgd(0.01), adjoint=adjoint, **options)
    np.testing.assert_allclose(other.trace.objective, usual.trace.objective, rtol=1e-4)


@pytest.mark.slow
def test_returns_the_least_objective_and_paths_that_are_rollouts():
    # Stepping this long rise and fall.
    sol = jc.fine_tune(START, PINNED, optax.adam(0.5), steps=12, grid=GRID)
    assert np.any(np.diff(sol.trace.objective) > 0)
    assert sol.objective == pytest.approx(sol.trace.objective.min(), rel=1e-2)
    assert sol.multipliers is None
    rolled = jc.simulate(sol.model, GRID.times, [1.0, 0.0])
    np.testing.assert_allclose(sol.paths[0].states, rolled, atol=1e-4)
    assert np.all(jc.verify(sol).follows)


@pytest.mark.slow
def test_initial_states_are_trained_within_their_bounds_and_known_ones_are_kept():
    data = jc.Trajectory(TS, spiral(TS), y0=[1.0, np.nan])
    sol = jc.fine_tune(
        Linear(jnp.asarray(SPIRAL)), data, optax.adam(0.05), steps=60, grid=GRID,
        start=[[5.0, 0.5]], trainable=False, state_bounds=(-3.0, 3.0),
    )  # fmt: skip
    np.testing.assert_allclose(sol.paths[0].states[0], [1.0, 0.0], atol=0.05)
    assert sol.paths[0].states[0, 0] == 1.0
    np.testing.assert_array_equal(np.asarray(sol.model.matrix), SPIRAL.astype(np.float32))
    bounded = jc.fine_tune(
        START, PINNED, optax.adam(0.05), steps=40, grid=GRID, weight_bounds=(-1.8, 1.8)
    )
    assert np.max(np.abs(np.asarray(bounded.model.matrix))) <= np.float32(1.8)


@pytest.mark.slow
def test_windows_grow_and_end_with_all_data():
    ys = spiral(TS)
    ys[TS > 2.0] += 100.0
    data = jc.Trajectory(TS, ys, y0=[1.0, 0.0])
    sol = jc.fine_tune(START, data, optax.sgd(0.0), steps=(2, 3), windows=(0.5, 1.0), grid=GRID)
    objective = sol.trace.objective
    assert len(objective) == 6
    early = TS <= 2.0
    truth = np.asarray(jc.simulate(START, TS, [1.0, 0.0]))
    squares = np.sum((truth - ys) ** 2, axis=1)
    np.testing.assert_allclose(objective[:2], squares[early].mean(), rtol=1e-3)
    np.testing.assert_allclose(objective[2:], squares.mean(), rtol=1e-3)


@pytest.mark.slow
def test_batches_have_the_full_gradient_on_average():
    """To the accuracy of the integrations, whose steps differ with what is integrated together."""
    model, data = Plant(), plants(3)
    grids = [jc.Grid.uniform(0.0, item.ts[-1], 6, jc.Radau(3)) for item in data]
    nlp = _problem(model, tuple(data), None, grids, 0.0, {"observe": model.observe})
    states = [[0.5 + 0.1 * k, 1.0] for k in range(3)]
    with x64():
        whole = training(nlp)
        parameters = whole.first(states)
        _, full = objective_and_gradient(whole, parameters)
        run = training(nlp, batch=1)
        epoch = [
            next_batch for next_batch, _ in zip(run.schedule._batches(), range(3), strict=False)
        ]
        scale = 1 / run.schedule.count(-1.0, 1.0)
        parts = [
            value_and_gradient(run.loss, parameters, arrays((item, -1.0, 1.0, factor * scale)))[1]
            for item, factor in epoch
        ]
        mean = jax.tree.map(lambda *leaves: sum(leaves) / 3, *parts)
    for a, b in zip(jax.tree.leaves(mean), jax.tree.leaves(full), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6 * np.max(np.abs(b)))


@pytest.mark.slow
def test_batches_train_and_repeat_with_their_key():
    angles = np.linspace(0.0, 2.0, 6)
    data = []
    for angle in angles:
        start = np.array([np.cos(angle), np.sin(angle)])
        ys = np.asarray(jc.simulate(Linear(jnp.asarray(SPIRAL)), TS, start))
        data.append(jc.Trajectory(TS, ys, y0=start))
    runs = [
        jc.fine_tune(
            START, data, optax.adam(0.03), steps=120, batch=2, key=jax.random.key(3), grid=GRID
        )
        for _ in range(2)
    ]
    np.testing.assert_allclose(np.asarray(runs[0].model.matrix), SPIRAL, atol=0.05)
    np.testing.assert_array_equal(runs[0].trace.objective, runs[1].trace.objective)


def test_stops_early_on_held_out_data_and_returns_the_model_that_predicts_best():
    """The end of the data contradicts the rest: what fits the beginning predicts ever worse."""
    between = Linear(jnp.asarray([[-0.05, 1.85], [-1.85, -0.05]]))
    ys = np.where(TS[:, None] < 2.9, spiral(TS), np.asarray(jc.simulate(between, TS, [1.0, 0.0])))
    data = jc.Trajectory(TS, ys, y0=[1.0, 0.0])
    sol = jc.fine_tune(
        START, data, optax.adam(0.02), steps=200, held_out=0.25, patience=4, every=5, grid=GRID
    )
    assert sol.result is jc.RESULTS.early_stopped
    looks = np.array(sol.stats["held_out"])
    np.testing.assert_array_equal(looks[:, 0], 5 * np.arange(len(looks)))
    assert len(looks) - 1 - int(np.argmin(looks[:, 1])) == 4
    assert np.argmin(looks[:, 1]) > 0
    unseen = np.asarray(jc.simulate(sol.model, TS, [1.0, 0.0]))[TS > 3.0] - ys[TS > 3.0]
    assert np.sum(unseen**2, axis=1).mean() == pytest.approx(looks[:, 1].min(), rel=1e-2)


@pytest.mark.slow
def test_a_solution_brings_its_options_states_and_unknowns():
    model, data = Plant(), plants(2)
    grids = [jc.Grid.uniform(0.0, item.ts[-1], 8, jc.Radau(3)) for item in data]
    nlp = jc.transcribe(model, data, grids, observe=model.observe, l2=1e-2)
    guess = jc.guess(
        nlp, weights="as_given", states=[np.full((g.num_nodes, 2), 0.8) for g in grids]
    )
    z = np.array(guess.z)
    z[nlp.layout.unknowns(1)] += 0.2
    z[nlp.layout.num_head :] += 0.1 * np.random.default_rng(0).uniform(
        size=len(z) - nlp.layout.num_head
    )
    # A point known beforehand in the place of an optimum.
    sol = jc.solve(nlp, jc.Ipopt(max_steps=0), z, throw=False)
    assert float(sol.args[1]["feed"]) == pytest.approx(1.5 * np.exp(0.2), rel=1e-5)
    tuned = jc.fine_tune(sol.model, data, optax.sgd(0.0), steps=1, start=sol)
    assert tuned.nlp.settings["l2"] == 1e-2
    assert tuned.nlp.observe is not None
    assert float(tuned.args[1]["feed"]) == pytest.approx(float(sol.args[1]["feed"]))
    for path, old in zip(tuned.paths, sol.paths, strict=True):
        np.testing.assert_allclose(path.states[0], old.states[0], atol=1e-6)


def test_goes_back_to_collocation_and_to_a_file(tmp_path):
    tuned = jc.fine_tune(START, PINNED, optax.adam(0.05), steps=30, grid=GRID)
    tuned.save(tmp_path / "tuned.jcs")
    loaded = jc.load(tmp_path / "tuned.jcs", like=tuned.model)
    np.testing.assert_array_equal(loaded.model.matrix, tuned.model.matrix)
    assert loaded.multipliers is None
    assert loaded.result is jc.RESULTS.trained
    again = jc.solve(loaded.nlp, jc.Ipopt(), loaded)
    np.testing.assert_allclose(np.asarray(again.model.matrix), SPIRAL, atol=1e-3)
    assert "30 steps" in str(tuned)
    assert [line.get_label() for line in jc.plot_trace(tuned).axes[1].lines] == ["gradient"]


class Bursting(eqx.Module):
    """y' = rate * y^2, infinite at 1 / (rate * y0)."""

    rate: jax.Array

    def __call__(self, t, y, args):
        return self.rate * y**2


@pytest.mark.slow
def test_a_step_into_infinity_is_halved():
    ts = np.linspace(0.0, 1.0, 11)
    data = jc.Trajectory(ts, 1 / (1 - 0.5 * ts)[:, None], y0=[1.0])
    model = Bursting(jnp.asarray(0.2))
    rate = optax.exponential_decay(1.3, 1, 0.8)
    # Adam's first step leads to the rate 1.5, which is infinite at t = 2/3.
    sol = jc.fine_tune(model, data, optax.adam(rate), steps=40, max_steps=512, clip=1.0)
    assert sol.stats["skipped"] > 0
    assert sol.objective < 1e-2
    assert np.all(np.isfinite(sol.trace.objective))
    with pytest.raises(jc.SolveError) as caught:
        jc.fine_tune(Bursting(jnp.asarray(2.0)), data, steps=5, max_steps=512)
    assert caught.value.solution.result is jc.RESULTS.not_finite


@pytest.mark.slow
def test_held_out_data_may_lie_behind_a_failure():
    """Infinite at t = 0.83: the trained part ends before, the first look goes beyond."""
    ts = np.linspace(0.0, 1.0, 11)
    data = jc.Trajectory(ts, 1 / (1 - 0.5 * ts)[:, None], y0=[1.0])
    model = Bursting(jnp.asarray(1.2))
    sol = jc.fine_tune(model, data, optax.adam(0.1), steps=12, held_out=0.3, every=3, max_steps=512)
    looks = np.array(sol.stats["held_out"])
    assert not np.isfinite(looks[0, 1])
    assert np.isfinite(looks[-1, 1])


def test_ends_when_asked():
    seen = []

    def callback(step):
        seen.append(np.asarray(step.model().matrix))
        return step.iteration == 2

    stopped = jc.fine_tune(START, PINNED, optax.adam(0.05), steps=9, grid=GRID, callback=callback)
    assert stopped.result is jc.RESULTS.stopped
    assert len(seen) == len(stopped.trace) == 3
    np.testing.assert_array_equal(seen[0], START.matrix)
    assert not np.array_equal(seen[1], seen[2])
    limited = jc.fine_tune(START, PINNED, steps=10**6, max_seconds=0.2, grid=GRID)
    assert limited.result is jc.RESULTS.max_seconds_reached

    def interrupt(step):
        if step.iteration == 3:
            raise KeyboardInterrupt

    broken = jc.fine_tune(START, PINNED, steps=9, grid=GRID, callback=interrupt)
    assert broken.result is jc.RESULTS.interrupted
    assert len(broken.trace) == 4


def test_a_gradient_is_clipped():
    sol = jc.fine_tune(START, PINNED, optax.sgd(1.0), steps=3, clip=1e-3, grid=GRID)
    np.testing.assert_allclose(sol.trace.step_norm[1:], 1e-3, rtol=1e-6)


def test_the_model_keeps_its_dtypes():
    assert jc.fine_tune(START, PINNED, steps=1, grid=GRID).model.matrix.dtype == jnp.float32


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer": 0.1}, "`optimizer` must be an Optax optimizer"),
        ({"steps": 0}, "`steps` must be an integer of at least 1"),
        ({"steps": (1, 2)}, "`steps` must be a number or 1 of them"),
        ({"windows": (0.5, 0.9)}, "`windows` must be growing shares"),
        ({"batch": 1}, "`key` must be a PRNG key with `batch`"),
        ({"held_out": 0.95}, "`held_out` must be a share below 0.9"),
        ({"start": [[1.0]]}, r"list of 1 arrays of shape \(state,\) = \(2,\)"),
        ({"max_seconds": 0}, "`max_seconds` must be a finite number above zero"),
        ({"clip": -1.0}, "`clip` must be a finite number above zero"),
        ({"constraints": [jc.nonnegative()]}, "`constraints` cannot be imposed on rollouts"),
        ({"residual_penalty": 1.0}, "`options` must be those of jc.transcribe, but for"),
    ],
)
def test_bad_arguments(changes, message):
    with pytest.raises(ValueError, match=message):
        jc.fine_tune(START, PINNED, **({"grid": GRID} | changes))


@pytest.mark.slow
def test_a_net_is_trained_without_a_grid():
    data = jc.Trajectory(TS, spiral(TS) + 0.02 * np.random.default_rng(0).normal(size=(25, 2)))
    sol = jc.fine_tune(Net(2, 8), data, optax.adam(0.02), steps=(150, 250), windows=(0.4, 1.0))
    assert sol.objective < 0.02
    assert jc.verify(sol).verdict.ok
