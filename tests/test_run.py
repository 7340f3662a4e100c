"""The run loop: limits, Ctrl-C, the best point, checkpoints, solvers of one's own."""

import os
import signal
import sys
import threading
import time
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import SPIRAL, Linear, Net, spiral

import jaxcolloc as jc
from jaxcolloc._run import Best, Checkpoint, Run, interruptible


TS = np.linspace(0.0, 3.0, 31)
DATA = jc.Trajectory(TS, spiral(TS))
GRID = jc.Grid.uniform(0.0, 3.0, 10, jc.Radau(3))
NLP = jc.transcribe(Linear(jnp.zeros((2, 2))), DATA, GRID, l2=0.0)


def step(number, **changes):
    given = {
        "objective": 1.0, "primal_infeasibility": 0.0, "dual_infeasibility": 0.0, "mu": 0.0,
        "step_norm": 0.0, "step_size": 1.0, "regularization": 0.0, "trials": 1,
        "restoration": False, "seconds": 0.0,
    }  # fmt: skip
    return jc.Step(iteration=number, **(given | changes))


def test_the_least_violated_point_is_best_and_among_those_the_lowest():
    best = Best()
    for violation, objective, name in [(1.0, 0.0, "far"), (1e-5, 5.0, "near"), (0.0, 4.0, "lower"),
                                       (1e-6, 6.0, "higher"), (0.1, 0.0, "off")]:  # fmt: skip
        best.offer(violation, objective, name)
    assert best.point == "lower"
    assert not best.offer(0.0, np.nan, "nothing")


@pytest.mark.parametrize("objective", [np.nan, np.inf])
def test_a_point_without_an_objective_is_never_best(objective):
    best = Best()
    assert not best.offer(0.0, objective, "nothing")
    assert best.offer(0.0, 1.0, "something")
    assert best.point == "something"


def test_a_run_ends_at_its_limit_of_time():
    run = Run(max_seconds=0.01)
    assert not run(step(0), lambda: None)
    time.sleep(0.02)
    assert run(step(1), lambda: None)
    assert run.result is jc.RESULTS.max_seconds_reached


def test_nested_scopes_share_one_ctrl_c():
    with interruptible() as outer:
        with interruptible() as inner:
            assert inner is outer
            run = Run()
            assert not run(step(0), lambda: None)
            signal.raise_signal(signal.SIGINT)
            assert run(step(1), lambda: None)
            assert run.result is jc.RESULTS.interrupted
        later = Run()
        assert later(step(0), lambda: None)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert not Run()(step(0), lambda: None)


def test_a_solve_in_another_thread_has_a_scope_of_its_own():
    inside, go_on = threading.Event(), threading.Event()

    def other():
        with interruptible():
            inside.set()
            go_on.wait(10)

    thread = threading.Thread(target=other)
    thread.start()
    assert inside.wait(10)
    with interruptible() as mine:
        signal.raise_signal(signal.SIGINT)
        assert mine.pressed
    go_on.set()
    thread.join()


def test_another_handler_is_left_alone():
    def own(number, frame):
        pass

    before = signal.signal(signal.SIGINT, own)
    try:
        with interruptible():
            assert signal.getsignal(signal.SIGINT) is own
    finally:
        signal.signal(signal.SIGINT, before)


class Newton(jc.AbstractSolver):
    """A solver of one's own: one that takes the given number of steps to nowhere."""

    steps: int

    @property
    def step_limit(self) -> int:
        return self.steps

    def run(self, nlp: Any, z: Any, multipliers: Any, callback: Any) -> jc.Outcome:
        rows, result = [], jc.RESULTS.max_steps_reached
        for number in range(self.steps + 1):
            rows.append(step(number, objective=float(nlp.objective(z))))
            if callback(rows[-1], lambda: (z, jc.Multipliers(*[np.zeros(1)] * 3))):
                result = jc.RESULTS.stopped
                break
        return jc.Outcome(z, None, result, steps=rows)


def test_a_solver_of_ones_own_needs_only_what_is_public():
    guess = jc.guess(NLP, weights="as_given")
    sol = jc.solve(NLP, Newton(4), guess, throw=False)
    assert sol.result is jc.RESULTS.max_steps_reached
    assert sol.stats["num_steps"] == 4
    models = []

    def callback(row):
        models.append(row.model())
        return row.iteration == 2

    stopped = jc.solve(NLP, Newton(4), guess, callback=callback)
    assert stopped.result is jc.RESULTS.stopped
    assert len(stopped.trace) == len(models) == 3
    batch = jc.solve_batch(NLP, Newton(2), [guess, guess], throw=False)
    assert [item.stats["num_steps"] for item in batch] == [2, 2]


def test_ctrl_c_ends_every_solve_of_a_batch():
    class Pressing(Newton):
        def run(self, nlp: Any, z: Any, multipliers: Any, callback: Any) -> jc.Outcome:
            signal.raise_signal(signal.SIGINT)
            return super().run(nlp, z, multipliers, callback)

    guess = jc.guess(NLP, weights="as_given")
    sols = jc.solve_batch(NLP, Pressing(3), [guess], throw=False)
    assert sols[0].result is jc.RESULTS.interrupted
    assert sols[0].stats["num_steps"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("when", ["starts", "final", "refine"])
def test_ctrl_c_ends_a_fit_wherever_it_is(when, monkeypatch):
    """The best point so far comes back, verified, and nothing else is begun."""
    modules = {"starts": "_fit.starts", "final": "_fit.fit", "refine": "_refine"}
    solves = []

    def press(*args, **options):
        solves.append(options)
        return jc.solve(*args, **options, callback=presses)

    def presses(row):
        if row.iteration == 1:
            signal.raise_signal(signal.SIGINT)

    # By its full name: the folder's door holds the function under the module's name.
    module = sys.modules[f"jaxcolloc.{modules[when]}"]
    monkeypatch.setattr(module, "solve", press)
    coarse = jc.Grid.uniform(0.0, 3.0, 3, jc.Radau(2))
    with warnings.catch_warnings():
        # Where it is interrupted decides whether the model holds.
        warnings.simplefilter("ignore")
        sol = jc.fit(Linear(jnp.zeros((2, 2))), DATA, key=jax.random.key(0), grid=coarse, l2=1e-8)
    assert sol.result is jc.RESULTS.interrupted
    assert sol.verification is not None
    assert np.all(np.isfinite(sol.z))
    assert len(sol.paths[0].grid.times) >= len(coarse.times)
    assert len(solves) <= 2


@pytest.mark.slow
def test_ctrl_c_ends_consensus_and_sequential_training():
    def press(row):
        if row.iteration == 2:
            signal.raise_signal(signal.SIGINT)

    data = [DATA, jc.Trajectory(TS, 2 * spiral(TS))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sol = jc.fit_admm(
            Linear(jnp.zeros((2, 2))), data, grid=GRID, start="as_given", callback=press
        )
    assert sol.result is jc.RESULTS.interrupted
    assert len(sol.trace) == 2
    tuned = jc.fine_tune(Linear(jnp.asarray(SPIRAL)), DATA, steps=9, grid=GRID, callback=press)
    assert tuned.result is jc.RESULTS.interrupted
    assert len(tuned.trace) == 3


def test_each_kind_of_run_has_its_own_rows():
    sol = jc.solve(NLP, jc.Ipopt(), jc.guess(NLP, weights="as_given"))
    assert set(sol.trace.columns) >= {"primal_infeasibility", "mu", "step_size"}
    tuned = jc.fine_tune(Linear(jnp.asarray(SPIRAL)), DATA, steps=2, grid=GRID)
    assert set(tuned.trace.columns) == {
        "iteration", "objective", "gradient", "step_norm", "seconds"
    }  # fmt: skip
    with pytest.raises(AttributeError, match="The trace has iteration, objective"):
        tuned.trace.primal_infeasibility  # noqa: B018
    assert tuned.solver is None


def test_a_checkpoint_says_what_has_changed(tmp_path):
    file = Checkpoint(tmp_path / "run", 1, {"l2": "a", "data": "b"})
    file.check({"l2": "a", "data": "b"})
    with pytest.raises(ValueError, match=r"`checkpoint` holds a fit of another problem: `data` "):
        file.check({"l2": "a", "data": "c"})
    with pytest.raises(ValueError, match="does not say what it was written for"):
        file.check(None)
    with pytest.raises((ValueError, FileNotFoundError), match="`checkpoint`"):
        Checkpoint(tmp_path / "missing" / "run")


CHANGES: dict[str, Any] = {
    "l2": {"l2": 1e-3},
    "weight_bounds": {"weight_bounds": (-9.0, 9.0)},
    "state_bounds": {"state_bounds": (-9.0, 9.0)},
    "grid": {"grid": jc.Grid.uniform(0.0, 3.0, 5, jc.Radau(3))},
    "loss": {"loss": jc.PseudoHuber(1.0)},
    "key": {"key": jax.random.key(1)},
}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoint") / "run.jcs"
    options = {"key": jax.random.key(0), "grid": GRID, "l2": 1e-6, "starts": 1, "refinements": 0}
    jc.fit(Linear(jnp.zeros((2, 2))), DATA, checkpoint=path, **options)
    return path, options


@pytest.mark.parametrize("name", CHANGES)
def test_a_fit_does_not_go_on_from_another_one(written, name):
    path, options = written
    with pytest.raises(ValueError, match=rf"`checkpoint` holds .* `{name}` differ"):
        jc.fit(Linear(jnp.zeros((2, 2))), DATA, checkpoint=path, **(options | CHANGES[name]))


@pytest.mark.parametrize(
    "data",
    [
        jc.Trajectory(TS, spiral(TS), weights=2.0),
        jc.Trajectory(TS, spiral(TS), y0=[1.0, 0.0]),
        jc.Trajectory(TS, spiral(TS), {"u": 1.0}),
        jc.Trajectory(TS, spiral(TS) + 1e-9),
    ],
    ids=["weights", "y0", "args", "ys"],
)
def test_a_fit_does_not_go_on_with_other_data(written, data):
    path, options = written
    with pytest.raises(ValueError, match=r"another problem: `data` differ"):
        jc.fit(Linear(jnp.zeros((2, 2))), data, checkpoint=path, **options)


def test_a_fit_goes_on_with_more_refinements(written):
    path, options = written
    sol = jc.fit(Linear(jnp.zeros((2, 2))), DATA, checkpoint=path, **(options | {"refinements": 1}))
    assert sol.result.ok
    assert sol.stats["refinement"]


@pytest.mark.slow
@pytest.mark.parametrize("width", [3, 4])
def test_ctrl_c_while_several_models_are_compared(width, monkeypatch, tmp_path):
    """The best of those tried comes back; what was not chosen yet is no checkpoint."""
    module = sys.modules["jaxcolloc._fit.starts"]
    models, path = [Net(2, 3), Net(2, width, seed=1)], tmp_path / "run.jcs"
    tried: list[int] = []

    def press(nlp, *args, **options):
        tried.append(nlp.num_weights)
        found = jc.solve(nlp, *args, **options)
        if len(tried) == 2:
            signal.raise_signal(signal.SIGINT)
        return found

    monkeypatch.setattr(module, "solve", press)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sol = jc.fit(
            models, DATA, key=jax.random.key(0), grid=GRID, l2=1e-4, starts=2, checkpoint=path
        )
    assert sol.result is jc.RESULTS.interrupted
    assert len(sol.z) == sol.nlp.num_variables
    assert not path.exists()


@pytest.mark.slow
def test_consensus_does_not_go_on_from_another_one(tmp_path):
    path = tmp_path / "run.jcs"
    data = [DATA, jc.Trajectory(TS, 2 * spiral(TS))]

    def run(**changes):
        options: dict[str, Any] = {"grid": GRID, "start": "as_given", "max_rounds": 1, "l2": 1e-3}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return jc.fit_admm(
                Linear(jnp.zeros((2, 2))), data, checkpoint=path, **(options | changes)
            )

    run()
    assert len(run(max_rounds=2).trace) == 2
    for name, value in {"l2": 1e-2, "rho": 3.0, "state_bounds": (-9.0, 9.0)}.items():
        with pytest.raises(ValueError, match=rf"`{name}` differ"):
            run(**{name: value})


@pytest.mark.slow
def test_ctrl_c_from_outside_ends_a_fit(tmp_path):
    """A real signal, sent by another thread while the fit writes its checkpoints."""
    path = tmp_path / "run.jcs"
    sent = []

    def press():
        while not os.path.exists(path):
            time.sleep(0.01)
        sent.append(True)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=press, daemon=True)
    thread.start()
    noisy = jc.Trajectory(TS, spiral(TS) + 0.1 * np.random.default_rng(0).normal(size=(31, 2)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sol = jc.fit(
            Net(2, 8), noisy, key=jax.random.key(0), l2=1e-6, starts=1, checkpoint=path, every=1,
            solver=jc.Ipopt(tol=1e-12),
        )  # fmt: skip
    thread.join()
    assert sent
    assert sol.verification is not None
    assert sol.result in (jc.RESULTS.interrupted, jc.RESULTS.successful)
