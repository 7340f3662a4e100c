"""The same problem with other numbers: equal to one transcribed anew, and nothing is compiled."""

import logging
import types

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import Linear, Net, Plant

import jaxcolloc as jc


GRID = jc.Grid.uniform(0.0, 2.0, 4, jc.Radau(2))
RNG = np.random.default_rng(0)


def plant_data(seed, grids=2):
    rng = np.random.default_rng(seed)
    data = []
    for k in range(grids):
        ts = np.linspace(0.0, 2.0, 9)
        ys = rng.normal(size=(9, 2))
        ys[k + 1, 0] = np.nan
        args = {
            "u": jc.Input([0.0, 1.0], rng.normal(size=2)),
            "feed": jc.Unknown(0.5 + rng.uniform(), bounds=(0.1, 5.0), scale="log", l2=0.1),
            "offset": rng.normal(size=2),
        }
        y0 = [rng.normal(), np.nan]
        data.append(jc.Trajectory(ts, ys, args, weights=rng.uniform(1, 2, size=2), y0=y0))
    return data


def transcribed(data, **options):
    model = Plant()
    given = {
        "observe": model.observe,
        "l2": 0.3,
        "constraints": jc.Constraint(lambda t, y, args: y[0] * args["feed"], upper=9.0),
        "residual_penalty": 0.2,
        "state_scale": 1.0,
    }
    return jc.transcribe(model, data, GRID, **(given | options))


def same_problem(one, other):
    """Bounds, structures and all functions at one point."""
    z = np.random.default_rng(1).normal(size=one.num_variables)
    dual = np.random.default_rng(2).normal(size=one.num_constraints)
    for a, b in zip(
        (*one.bounds, *one.constraint_bounds, *one.jacobian_structure, *one.hessian_structure),
        (*other.bounds, *other.constraint_bounds, *other.jacobian_structure,
         *other.hessian_structure), strict=True,
    ):  # fmt: skip
        np.testing.assert_array_equal(a, b)
    for name in ("objective", "gradient", "constraints", "jacobian", "gauss_newton"):
        mine, theirs = (np.asarray(getattr(nlp, name)(z)) for nlp in (one, other))
        np.testing.assert_allclose(mine, theirs, rtol=1e-12, atol=1e-13, err_msg=name)
    np.testing.assert_allclose(one.hessian(z, dual, 0.7), other.hessian(z, dual, 0.7), rtol=1e-11,
                               atol=1e-12)  # fmt: skip


def test_other_data_are_another_transcription_without_tracing():
    counter = types.SimpleNamespace(count=0)

    class Counted(Plant):
        def __call__(self, t, y, args):
            counter.count += 1
            return super().__call__(t, y, args)

    model = Counted()
    first = jc.transcribe(model, plant_data(0), GRID, observe=model.observe, l2=0.3)
    z = np.zeros(first.num_variables)
    first.objective(z), first.jacobian(z), first.hessian(z, np.ones(first.num_constraints))
    before = counter.count
    other = first.with_data(plant_data(5))
    other.objective(z), other.jacobian(z), other.hessian(z, np.ones(first.num_constraints))
    assert counter.count == before
    assert other.parts.hessian_pattern is first.parts.hessian_pattern
    assert float(other.objective(z)) != float(first.objective(z))


@pytest.mark.slow
def test_other_data_give_the_problem_that_is_transcribed_from_them():
    same_problem(transcribed(plant_data(0)).with_data(plant_data(7)), transcribed(plant_data(7)))


@pytest.mark.slow
def test_other_sampling_is_allowed_too():
    first = transcribed(plant_data(0))
    data = plant_data(3)
    data[0] = jc.Trajectory([0.1, 0.9, 1.7], RNG.normal(size=(3, 2)), data[0].args)
    same_problem(first.with_data(data), transcribed(data))


def test_other_data_must_be_as_many():
    with pytest.raises(ValueError, match="`grid` must be"):
        transcribed(plant_data(0)).with_data(plant_data(0, 3))
    first = jc.transcribe(Net(2, 3), jc.Trajectory([0.0, 2.0], np.ones((2, 2))), GRID)
    with pytest.raises(ValueError, match="`data` must have 2 channels"):
        first.with_data(jc.Trajectory([0.0, 2.0], np.ones((2, 3))))
    with pytest.raises(ValueError, match="must cover"):
        first.with_data(jc.Trajectory([0.0, 3.0], np.ones((2, 2))))


@pytest.mark.slow
@pytest.mark.parametrize("l2", [0.0, 0.7])
def test_another_penalty_is_another_transcription(l2):
    same_problem(transcribed(plant_data(0)).with_l2(l2), transcribed(plant_data(0), l2=l2))


@pytest.mark.slow
def test_another_penalty_per_leaf():
    model = Plant()
    l2 = jc.leafwise(model, 0.2, (lambda m: m.rate, 0.0))
    same_problem(transcribed(plant_data(0)).with_l2(l2), transcribed(plant_data(0), l2=l2))


@pytest.mark.slow
def test_other_bounds_are_another_transcription():
    bounds = {"state_bounds": (-8.0, [9.0, 10.0]), "weight_bounds": (-4.0, 4.0)}
    same_problem(transcribed(plant_data(0)).with_bounds(**bounds),
                 transcribed(plant_data(0), **bounds))  # fmt: skip


def test_units_that_were_kept_are_in_the_file(tmp_path):
    ts = np.linspace(0.0, 2.0, 9)
    nlp = jc.transcribe(
        Linear(jnp.zeros((1, 1))), jc.Trajectory(ts, np.exp(-ts)[:, None]), GRID, l2=0.0
    )
    large = nlp.with_data(jc.Trajectory(ts, 3e4 * np.exp(-ts)[:, None]))
    np.testing.assert_array_equal(large.units, nlp.units)
    sol = jc.solve(large, jc.Ipopt(), jc.guess(large, weights="as_given"), throw=False)
    sol.save(tmp_path / "run.jcs")
    again = jc.load(tmp_path / "run.jcs", like=sol.model)
    np.testing.assert_allclose(again.paths[0].states, sol.paths[0].states, rtol=1e-12)
    fresh = jc.transcribe(nlp.model, large.trajectories, GRID, l2=0.0)
    with pytest.raises(ValueError, match="`like` must have the stored solution's units"):
        jc.load(tmp_path / "run.jcs", like=fresh)


@pytest.mark.slow
def test_held_weights_stay_where_they_are():
    """Only the states and the start are fitted then."""
    matrix = np.array([[-0.5, 0.1], [0.0, -0.3]])
    ts = np.linspace(0.0, 2.0, 9)
    data = jc.Trajectory(ts, RNG.normal(size=(9, 2)))
    nlp = jc.transcribe(Linear(jnp.zeros((2, 2))), data, GRID, l2=0.0)
    held = nlp.with_weights_held(matrix.ravel())
    for solver in (jc.Ipopt(tol=1e-9), jc.InteriorPoint(tol=1e-9)):
        sol = jc.solve(held, solver, jc.guess(held, weights="as_given"))
        np.testing.assert_allclose(sol.model.matrix, matrix, atol=1e-6)
        assert sol.stats["max_defect"] < 1e-6


@pytest.mark.parametrize("together", [None, False, True])
@pytest.mark.parametrize("solver", [jc.Ipopt(), jc.InteriorPoint()])
def test_a_known_start_is_the_new_one(solver, together):
    """Where a warm start comes from a problem with another one."""
    ts = np.linspace(0.0, 2.0, 9)

    def data(start):
        return jc.Trajectory(ts, np.exp(-ts)[:, None], y0=[start])

    nlp = jc.transcribe(Linear(-jnp.ones((1, 1))), data(1.0), GRID, l2=1e-6)
    sol = jc.solve(nlp, solver, jc.guess(nlp, weights="as_given"))
    other = nlp.with_data(data(0.9))
    if together is None:
        again = jc.solve(other, solver, sol)
    else:
        again = jc.solve_batch([other, other], solver, [sol, sol], vectorize=together)[1]
    assert again.paths[0].states[0, 0] == pytest.approx(0.9, abs=1e-7)


def test_a_pull_moves_the_optimum_to_its_center():
    """An infinitely strong one holds; a weak one changes nothing."""
    ts = np.linspace(0.0, 2.0, 9)
    data = jc.Trajectory(ts, np.exp(-ts)[:, None])
    nlp = jc.transcribe(Linear(jnp.zeros((1, 1))), data, GRID, l2=0.0)
    found = {}
    for factor in (0.0, 1e6):
        pulled = nlp.with_pull(np.array([0]), np.array([factor]), np.array([-2.0]))
        sol = jc.solve(pulled, jc.Ipopt(tol=1e-10), jc.guess(pulled, weights="as_given"))
        found[factor] = float(sol.model.matrix[0, 0])
        assert sol.objective == pytest.approx(
            float(nlp.objective(sol.z)) + factor * (found[factor] + 2.0) ** 2, rel=1e-6
        )
    assert found[0.0] == pytest.approx(-1.0, abs=1e-2)
    assert found[1e6] == pytest.approx(-2.0, abs=1e-4)


@pytest.mark.slow
def test_a_resolve_compiles_nothing():
    ts = np.linspace(0.0, 2.0, 9)

    def data(k):
        return jc.Trajectory(ts, np.exp(-ts)[:, None] + 0.01 * k)

    nlp = jc.transcribe(Linear(jnp.zeros((1, 1))), data(0), GRID, l2=1e-6)
    for solver in (jc.Ipopt(), jc.InteriorPoint()):
        sol = jc.solve(nlp, solver, jc.guess(nlp, weights="as_given"))
        # Once more for what only a warm start needs.
        jc.solve(nlp.with_data(data(1)), solver, sol)
        with jax.log_compiles(), _Caught() as caught:
            other = nlp.with_data(data(2)).with_l2(1e-5)
            again = jc.solve(other, solver, sol)
        assert again.result.ok
        assert caught.compiled == []


class _Caught:
    """The names of what JAX compiles meanwhile."""

    def __enter__(self):
        self.compiled = []
        outer = self

        class Handler(logging.Handler):
            def emit(self, record):
                text = record.getMessage()
                if text.startswith("Compiling"):
                    outer.compiled.append(text[:80])

        self.handler, self.logger = Handler(), logging.getLogger("jax")
        self.logger.addHandler(self.handler)
        return self

    def __exit__(self, *_):
        self.logger.removeHandler(self.handler)


def test_a_guess_is_what_its_point_says():
    nlp = transcribed(plant_data(0), state_scale=[10.0, 0.1])
    guess = jc.guess(nlp, key=jax.random.key(0))
    model, states = nlp.unpack(guess.z)
    assert eqx.tree_equal(guess.model, model)
    for a, b in zip(guess.states, states, strict=True):
        np.testing.assert_array_equal(a, b)
    narrow = nlp.with_bounds(state_bounds=(-2.0, 2.0))
    far = jc.Guess.at(narrow, np.full(nlp.num_variables, 300.0))
    assert max(item.max() for item in far.states) == 2.0
    for item, states in zip(nlp.trajectories, far.states, strict=True):
        assert states[0, 0] == pytest.approx(item.y0[0])
