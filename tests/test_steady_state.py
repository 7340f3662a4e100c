"""Steady states: as initial states of a fit, and found for a model."""

import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import Linear, dense

import jaxcolloc as jc
from jaxcolloc._not_finite import where_not_finite


TS = np.linspace(0.0, 8.0, 33)
GRID = jc.Grid.uniform(0.0, 8.0, 16, jc.Radau(3))
SOLVERS = [jc.InteriorPoint(tol=1e-10), jc.Ipopt(tol=1e-10)]


class Gene(eqx.Module):
    """A messenger and a protein that represses it; only the protein is seen."""

    rate: jax.Array
    decay: jax.Array
    speed: float = eqx.field(static=True, default=1.0)

    def __call__(self, t, y, args):
        made = args["dose"] + 0.2 + self.rate / (1 + (y[1] / 1.5) ** 2)
        return jnp.stack([self.speed * (made - self.decay * y[0]), args["gain"] * y[0] - y[1] / 2])

    def observe(self, t, y, args):
        return y[1:]


def gene(rate=2.0, decay=1.0, speed=1.0):
    return Gene(jnp.asarray(rate), jnp.asarray(decay), speed)


def experiments(truth, gains=(0.8, 0.8)):
    """Two doses, after a steady state without any; the gain of each is unknown."""
    data = []
    for dose, gain in zip((1.0, 3.0), gains, strict=True):
        before = {"dose": 0.0, "gain": gain}
        with jax.enable_x64(True):
            start = np.asarray(jc.steady_state(truth, [1.0, 1.0], before))
            ys = jc.simulate(truth, TS, start, before | {"dose": dose}, by=jc.Radau(5))
        unknown = jc.Unknown(1.0, scale="log")
        args = {"dose": dose, "gain": unknown}
        data.append(
            jc.Trajectory(TS, np.asarray(ys)[:, 1:], args, y0=jc.SteadyState(args | {"dose": 0.0}))
        )
    return data


def problem(data, model, grid=GRID, **options):
    defaults = {"observe": model.observe, "num_states": 2, "weight_scale": "log", "l2": 0.0}
    return jc.transcribe(model, data, grid, **(defaults | options))


# --- As initial states ---


@pytest.mark.parametrize("solver", SOLVERS, ids=["InteriorPoint", "Ipopt"])
@pytest.mark.parametrize("speed", [1.0, 1e4], ids=["slow", "stiff"])
def test_experiments_that_were_equilibrated_under_another_dose(solver, speed):
    # A fast messenger leaves a direction free, in which a trace of a penalty decides.
    nlp = problem(experiments(gene(speed=speed)), gene(1.7, 0.8, speed), l2=1e-8)
    sol = jc.solve(nlp, solver, jc.guess(nlp, weights="as_given"))
    rate, decay = float(sol.model.rate), float(sol.model.decay)
    assert rate == pytest.approx(2.0, rel=2e-3)
    # A fast messenger shows its decay only together with the gain.
    assert decay == pytest.approx(1.0, rel=2e-3) or speed > 1
    np.testing.assert_allclose([float(args["gain"]) / decay for args in sol.args], 0.8, rtol=2e-3)
    for path, args in zip(sol.paths, sol.args, strict=True):
        with jax.enable_x64(True):
            slope = sol.model(0.0, jnp.asarray(path.states[0]), args | {"dose": 0.0})
        np.testing.assert_allclose(np.asarray(slope) / [speed, 1.0], 0.0, atol=1e-5)
    assert jc.verify(sol).verdict is jc.VERDICT.good


@pytest.mark.parametrize("solver", SOLVERS, ids=["InteriorPoint", "Ipopt"])
def test_a_step_of_an_input_from_a_steady_state(solver):
    """y' = u - rate y from y(0) = u(0) / rate, in closed form."""
    rate, step = 0.7, 2.0
    u = jc.Input([0.0, step], [1.4, 2.8], kind="hold")
    ys = np.where(step >= TS, 2.0, 4.0 - 2.0 * np.exp(-rate * (TS - step)))

    class Tank(eqx.Module):
        rate: jax.Array

        def __call__(self, t, y, args):
            return args(t) - self.rate * y

    data = jc.Trajectory(TS, ys[:, None], u, y0=jc.SteadyState())
    nlp = jc.transcribe(Tank(jnp.asarray(0.4)), data, GRID, l2=0.0)
    sol = jc.solve(nlp, solver, jc.guess(nlp))
    assert float(sol.model.rate) == pytest.approx(rate, rel=1e-5)
    np.testing.assert_allclose(sol.paths[0].states[0], 1.4 / float(sol.model.rate), rtol=1e-6)


def test_is_the_constraint_that_it_stands_for():
    """One by one: rows, optimum, uncertainty."""
    rng = np.random.default_rng(0)
    model = Linear(jnp.asarray([[-1.0, 0.5], [0.3, -0.8]]))

    def driven(t, y, args, weights=None):
        return (model if weights is None else weights)(t, y, args) + jnp.asarray([1.0, 0.5])

    class Driven(eqx.Module):
        inner: Linear

        def __call__(self, t, y, args):
            return self.inner(t, y, args) + jnp.asarray([1.0, 0.5])

    truth = Driven(model)
    start = np.linalg.solve(-np.asarray(model.matrix), [1.0, 0.5])
    ys = start + 0.02 * rng.normal(size=(len(TS), 2))
    ys += 0.3 * np.sin(TS)[:, None]
    rest = jc.Constraint(lambda t, y, args, model: model(t, y, args), 0.0, 0.0, at="start")
    nlps = [
        jc.transcribe(truth, jc.Trajectory(TS, ys, y0=y0), GRID, constraints=stated)
        for y0, stated in ((jc.SteadyState(), ()), (None, rest))
    ]
    z = jc.guess(nlps[0]).z
    values = [np.asarray(nlp.constraints(z)) / nlp.row_factors for nlp in nlps]
    np.testing.assert_allclose(values[0], values[1], atol=1e-12)
    one, two = (jc.solve(nlp, jc.InteriorPoint(tol=1e-10), z) for nlp in nlps)
    np.testing.assert_allclose(one.z, two.z, atol=1e-6)
    errors = [
        np.asarray(jc.uncertainty(sol).stderr(lambda m: m.inner.matrix)) for sol in (one, two)
    ]
    np.testing.assert_allclose(errors[0], errors[1], rtol=1e-4)


@pytest.mark.parametrize(
    "start",
    [
        lambda args: jc.SteadyState(args | {"dose": 0.0}),
        pytest.param(lambda args: jc.SteadyState(known=[np.nan, 0.7]), marks=pytest.mark.slow),
        pytest.param(lambda args: jc.SteadyState(invariants=[[1.0, 2.0]]), marks=pytest.mark.slow),
    ],
    ids=["args", "known", "invariants"],
)
def test_derivatives_agree_with_dense_jax(start):
    """Three trajectories, the middle one with a free start, of different lengths."""
    unknowns = [jc.Unknown([0.8]), jc.Unknown([0.9]), jc.Unknown([1.1])]
    every = [
        {"dose": dose, "gain": item} for dose, item in zip((1.0, 2.0, 3.0), unknowns, strict=True)
    ]
    starts = [start(every[0]), None, start(every[2])]

    class Shaped(Gene):
        def __call__(self, t, y, args):
            return super().__call__(t, y, args | {"gain": args["gain"][0]})

    model = Shaped(jnp.asarray(1.2), jnp.asarray(0.6))
    ts = [TS, TS[:9], TS[:21]]
    data = [
        jc.Trajectory(t, np.cos(t)[:, None], args, y0=y0)
        for t, args, y0 in zip(ts, every, starts, strict=True)
    ]
    grids = [
        jc.Grid.uniform(0.0, t[-1], n, jc.Radau(2)) for t, n in zip(ts, (5, 1, 4), strict=True)
    ]
    nlp = problem(data, model, grids)
    rng = np.random.default_rng(0)
    z = nlp.inside(rng.uniform(0.3, 1.2, nlp.num_variables))
    multipliers = rng.normal(size=nlp.num_constraints)
    with jax.enable_x64(True):
        jacobian = jax.jacfwd(nlp.constraints)(jnp.asarray(z))
        hessian = jax.hessian(
            lambda z: nlp.objective(z) + jnp.asarray(multipliers) @ nlp.constraints(z)
        )(jnp.asarray(z))
    shape = (nlp.num_constraints, nlp.num_variables)
    found = dense(nlp.jacobian_structure, nlp.jacobian(z), shape)
    np.testing.assert_allclose(found, jacobian, atol=1e-10)
    found = dense(nlp.hessian_structure, nlp.hessian(z, multipliers), (len(z), len(z)))
    np.testing.assert_allclose(found, np.tril(hessian), atol=1e-9)


def reversible(t, y, args):
    return jnp.stack([2.0 * y[1] - y[0], y[0] - 2.0 * y[1], -y[2]])


def test_a_conserved_sum_is_named_and_taken_as_an_invariant():
    ys = np.stack([2.1 + 0 * TS, 0.9 + 0 * TS, 0 * TS], axis=1)
    with pytest.raises(ValueError, match=r"`y0` of trajectory 0 .*\[1, 1, 0\] @ f is the same"):
        jc.transcribe(reversible, jc.Trajectory(TS, ys, y0=jc.SteadyState()), GRID)
    free = jc.transcribe(reversible, jc.Trajectory(TS, ys), GRID)
    with pytest.raises(ValueError, match=r"\[1, 1, 0\] @ f is the same"):
        free.with_data(jc.Trajectory(TS, ys, y0=jc.SteadyState()))
    start = jc.SteadyState(invariants=[1.0, 1.0, 0.0])
    sums = jc.Constraint(lambda t, y, args: y[0] + y[1], 6.0, 6.0, at="start")
    # By least squares, where it is free, and as it is stated.
    for stated, total in (((), 3.06), (sums, 6.0)):
        nlp = jc.transcribe(reversible, jc.Trajectory(TS, ys, y0=start), GRID, constraints=stated)
        assert nlp.num_constraints == 3 * (GRID.num_nodes - 1) + 2 + isinstance(
            stated, jc.Constraint
        )
        sol = jc.solve(nlp, jc.InteriorPoint(tol=1e-10), jc.guess(nlp))
        np.testing.assert_allclose(
            sol.paths[0].states[0], [2 * total / 3, total / 3, 0.0], atol=1e-6
        )


@pytest.mark.parametrize("scale", [1e-9, 1e9])
def test_badly_scaled_models_are_not_taken_for_singular(scale):
    """Rates that differ by eighteen decades; the steady state is (2, 2 scale)."""

    def model(t, y, args):
        return jnp.stack([2.0 - y[0], scale * (y[0] * scale - y[1])])

    data = jc.Trajectory(TS, np.stack([2 + 0 * TS, 2 * scale + 0 * TS], axis=1), weights=1.0,
                         y0=jc.SteadyState())  # fmt: skip
    assert jc.transcribe(model, data, GRID).num_constraints == 2 * GRID.num_nodes
    with jax.enable_x64(True):
        found = jc.steady_state(model, [1.0, scale])
    np.testing.assert_allclose(found, [2.0, 2 * scale], rtol=1e-8)


def test_a_known_component_takes_the_place_of_its_equation():
    data = jc.Trajectory(TS, np.zeros((33, 3)), y0=jc.SteadyState(known=[np.nan, np.nan, 5.0]))
    with pytest.raises(ValueError, match=r"\[1, 1\] @ f is the same .* components \[0, 1\]"):
        jc.transcribe(reversible, data, GRID)
    data = jc.Trajectory(TS, np.zeros((33, 3)), y0=jc.SteadyState(known=[np.nan, 1.5, 5.0]))
    nlp = jc.transcribe(reversible, data, GRID)
    sol = jc.solve(nlp, jc.InteriorPoint(), jc.guess(nlp))
    np.testing.assert_allclose(sol.paths[0].states[0], [3.0, 1.5, 5.0], atol=1e-6)


def test_other_data_change_numbers_alone(compilations):
    first, second = experiments(gene()), experiments(gene(), gains=(0.6, 0.9))
    nlp = problem(first, gene(1.7, 0.8))
    z = jc.guess(nlp, weights="as_given").z
    nlp.constraints(z), nlp.jacobian(z)
    other = problem(second, gene(1.7, 0.8))
    count = compilations.count
    again = nlp.with_data(second)
    np.testing.assert_array_equal(again.constraints(z), nlp.constraints(z))
    rows = [np.asarray(item.constraints(z)) / item.row_factors for item in (again, other)]
    np.testing.assert_allclose(*rows, atol=1e-12)
    args = {"dose": 1.0, "gain": jc.Unknown(1.0, scale="log")}
    starts = [jc.SteadyState(args | {"dose": dose}) for dose in (0.0, 0.5)]
    one, two = (
        nlp.with_data([jc.Trajectory(TS, item.ys, args, y0=y0) for item in first]) for y0 in starts
    )
    rows = np.asarray(two.constraints(z)) - np.asarray(one.constraints(z))
    assert np.flatnonzero(rows).tolist() == [len(rows) - 4, len(rows) - 2]
    assert compilations.count == count


def test_is_stored_with_the_data(tmp_path):
    data = [
        jc.Trajectory(
            TS, np.stack([item.ys[:, 0], item.ys[:, 0]], axis=1), item.args, y0=item.start
        )
        for item in experiments(gene())
    ]
    nlp = jc.transcribe(gene(1.7, 0.8), data, GRID)
    sol = jc.solve(nlp, jc.InteriorPoint(max_steps=3), jc.guess(nlp), throw=False)
    sol.save(tmp_path / "run.jcs")
    again = jc.load(tmp_path / "run.jcs", like=gene())
    np.testing.assert_array_equal(again.nlp.constraints(sol.z), nlp.constraints(sol.z))


def test_the_first_window_and_the_first_batch_keep_it():
    data = jc.Trajectory(TS, np.ones((33, 2)), {"dose": 1.0}, y0=jc.SteadyState({"dose": 0.0}))
    parts = jc.windows(data, 9)
    assert parts[0].steady.args == {"dose": 0.0}
    assert all(part.steady is None for part in parts[1:])


@pytest.mark.slow
def test_batches_agree_on_the_model():
    model = gene(1.7, 0.8)
    data = [
        jc.Trajectory(item.ts, item.ys, {"dose": dose, "gain": 0.8},
                      y0=jc.SteadyState({"dose": 0.0, "gain": 0.8}))
        for item, dose in zip(experiments(gene()), (1.0, 3.0), strict=True)
    ]  # fmt: skip
    found = jc.fit_admm(
        model, data, batches=2, grid=GRID, start="as_given", observe=model.observe, num_states=2,
        weight_scale="log", l2=0.0, solver=jc.InteriorPoint(), max_rounds=60,
    )  # fmt: skip
    np.testing.assert_allclose([found.model.rate, found.model.decay], [2.0, 1.0], rtol=0.02)


@pytest.mark.slow
def test_a_fit_refines_its_grid():
    model = gene(1.7, 0.8)
    sol = jc.fit(
        model, experiments(gene()), key=jax.random.key(0), l2=0.0, weights="as_given",
        observe=model.observe, num_states=2, weight_scale="log",
    )  # fmt: skip
    assert sol.verification.verdict is jc.VERDICT.good
    np.testing.assert_allclose([sol.model.rate, sol.model.decay], [2.0, 1.0], rtol=2e-3)


@pytest.mark.slow
def test_sequential_training_solves_for_it_in_every_step():
    model = gene(1.9, 0.95)
    tuned = jc.fine_tune(
        model, experiments(gene()), optax.adam(1e-2), steps=60, observe=model.observe,
        num_states=2, weight_scale="log",
    )  # fmt: skip
    for path, args in zip(tuned.paths, tuned.args, strict=True):
        before = args | {"dose": 0.0}
        expected = jc.steady_state(tuned.model, [1.0, 1.0], before)
        np.testing.assert_allclose(path.states[0], expected, rtol=1e-5)
    values = np.asarray(tuned.trace.objective)
    assert values.min() < 0.2 * values[0]


def test_the_optimum_changes_with_inputs_that_the_steady_state_shares():
    """Against differences: the input acts on the start as well as on the path."""

    class Tank(eqx.Module):
        rate: jax.Array

        def __call__(self, t, y, args):
            return args * (1 + 0.1 * t) - self.rate * y

    ys = 2.0 + 0.1 * np.sin(TS)[:, None]
    solver = jc.InteriorPoint(tol=1e-12)

    def solved(feed):
        data = jc.Trajectory(TS, ys, np.asarray(feed), y0=jc.SteadyState())
        nlp = jc.transcribe(Tank(jnp.asarray(0.7)), data, GRID, l2=0.0, state_scale=1.0)
        return jc.solve(nlp, solver, jc.guess(nlp))

    sol, step = solved(1.4), 1e-4
    found = np.asarray(jc.sensitivity(sol, "args", lambda m: m.rate)[0]).ravel()
    with jax.enable_x64(True):
        ahead, behind = (float(solved(1.4 + side).z[0]) for side in (step, -step))
    assert found[0] == pytest.approx((ahead - behind) / (2 * step), rel=1e-5)


def test_the_optimum_changes_with_a_known_component():
    class Chain(eqx.Module):
        rate: jax.Array

        def __call__(self, t, y, args):
            return jnp.stack([y[1] - self.rate * y[0], -0.2 * y[1]])

    ys = np.stack([2 + np.sin(TS), 2 * np.exp(-0.2 * TS)], axis=1)

    def solved(value):
        data = jc.Trajectory(TS, ys, y0=jc.SteadyState(known=[np.nan, value]), weights=1.0)
        nlp = jc.transcribe(Chain(jnp.asarray(0.7)), data, GRID, l2=0.0)
        return jc.solve(nlp, jc.InteriorPoint(tol=1e-12), jc.guess(nlp))

    sol, step = solved(2.0), 1e-4
    found = np.asarray(jc.sensitivity(sol, "y0", lambda m: m.rate)[0]).ravel()
    ahead, behind = (float(solved(2.0 + side).z[0]) for side in (step, -step))
    assert found[1] == pytest.approx((ahead - behind) / (2 * step), rel=1e-5)
    assert found[0] == 0


def test_says_where_the_model_is_not_finite_before_the_experiment():
    def model(t, y, args):
        return jnp.log(y - args)

    data = jc.Trajectory(TS, 3 + 0 * TS[:, None], 0.0, y0=jc.SteadyState(2.0))
    nlp = jc.transcribe(model, data, GRID)
    z = nlp.pack(model, [np.append([1.0], np.full(GRID.num_nodes - 1, 3.0))[:, None]])
    assert where_not_finite(nlp, z).startswith(
        "`model` is not finite in trajectory 0 at t = 0, where y = [1]"
    )


def test_warns_of_an_input_that_changes_before_the_start():
    def model(t, y, args):
        return args(t) - y

    u = jc.Input([-1.0, 0.0], [1.0, 2.0])
    for t0, y0 in ((None, jc.SteadyState()), (0.0, jc.SteadyState())):
        data = jc.Trajectory(TS, 2 + 0 * TS[:, None], u, y0=y0, t0=t0)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            jc.transcribe(model, data, GRID)
        said = [str(item.message) for item in caught]
        assert len(said) == (t0 is None)
        assert all("what its input did before is not seen" in item for item in said)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: jc.SteadyState(known=[[1.0]]), r"`known` must have shape \(state,\)"),
        (lambda: jc.SteadyState(known=[1.0, 2.0]), "`known` must be finite, and NaN for the compo"),
        (
            lambda: jc.SteadyState(invariants=[[1.0, 1.0], [2.0, 2.0]]),
            "`invariants` must be finite",
        ),
        (
            lambda: jc.Trajectory(TS, TS[:, None], y0=jc.SteadyState({"k": jc.Unknown(1.0)})),
            r"`args` of a jc.SteadyState may hold a jc.Unknown only if that is the same object",
        ),
        (
            lambda: _two(jc.SteadyState(known=[np.nan, 1.0, 1.0])),
            r"`known` of a jc.SteadyState must have shape \(state,\) = \(2,\)",
        ),
        (
            lambda: _two(jc.SteadyState(invariants=[1.0, 1.0, 1.0])),
            r"\(invariant, state\) with stat",
        ),
        (
            lambda: _two(jc.SteadyState(known=[1.0, np.nan], invariants=[1.0, 0.0])),
            "must be independent in the components that are not known",
        ),
        (lambda: _two(jc.SteadyState(), collocate_start=True), "`collocate_start` must be False"),
        (
            lambda: jc.fine_tune(
                gene(),
                jc.Trajectory(TS, np.ones((33, 2)), y0=jc.SteadyState(), y0_prior=([1, 1], 1.0)),
            ),
            "`data` must have no `y0_prior` beside a jc.SteadyState",
        ),
    ],
)
def test_says_what_is_wrong(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def _two(y0, **options):
    data = jc.Trajectory(TS, np.ones((33, 2)), y0=y0)
    return jc.transcribe(Linear(-jnp.eye(2)), data, GRID, **options)


# --- Of a model ---


def test_the_steady_state_of_a_linear_system_and_its_derivatives():
    """A y + b = 0: dy/db = -inv(A)."""
    matrix = np.array([[-1.0, 0.4], [0.2, -3.0]])

    def model(t, y, args):
        return jnp.asarray(matrix) @ y + args

    with jax.enable_x64(True):
        b = np.array([1.0, -2.0])
        found = jc.steady_state(model, [5.0, 5.0], b)
        np.testing.assert_allclose(found, -np.linalg.solve(matrix, b), rtol=1e-12)
        for transform in (jax.jacfwd, jax.jacrev):
            slope = transform(lambda b: jc.steady_state(model, [5.0, 5.0], b))(b)
            np.testing.assert_allclose(slope, -np.linalg.inv(matrix), rtol=1e-10)


def test_derivatives_by_the_models_weights():
    args = {"dose": 0.5, "gain": 0.8}

    def protein(rate):
        return jc.steady_state(Gene(rate, jnp.asarray(1.0)), [1.0, 1.0], args)[1]

    with jax.enable_x64(True):
        slope = jax.jit(jax.grad(protein))(2.0)
        difference = (protein(2.0 + 1e-5) - protein(2.0 - 1e-5)) / 2e-5
    assert float(slope) == pytest.approx(float(difference), rel=1e-6)


def test_what_is_conserved_is_that_of_the_guess():
    with pytest.raises(RuntimeError, match=r"leave others as well.*pass `invariants`"):
        jc.steady_state(reversible, [1.0, 0.0, 4.0])
    invariant = [1.0, 1.0, 0.0]
    found = jc.steady_state(reversible, [3.0, 0.0, 4.0], invariants=invariant)
    np.testing.assert_allclose(found, [2.0, 1.0, 0.0], atol=1e-6)
    with jax.enable_x64(True):
        slope = jax.jacobian(
            lambda total: jc.steady_state(
                reversible, jnp.stack([total, 0.0, 4.0]), invariants=invariant
            )
        )(3.0)
    np.testing.assert_allclose(slope, [2 / 3, 1 / 3, 0.0], atol=1e-10)


def test_known_components_stay():
    found = jc.steady_state(reversible, [1.0, 1.0, 1.0], known=[np.nan, 2.5, 7.0])
    np.testing.assert_allclose(found, [5.0, 2.5, 7.0])


def test_a_stable_state_is_found_from_either_side_of_a_threshold():
    """y' = y (1 - y) (y - 0.3): from the guess to the state that the model comes to."""

    def model(t, y, args):
        return y * (1 - y) * (y - 0.3)

    for guess, expected in ((0.2, 0.0), (0.4, 1.0), (3.0, 1.0)):
        found = float(jc.steady_state(model, [guess])[0])
        assert found == pytest.approx(expected, abs=1e-6)


def test_a_model_that_never_rests_is_told():
    def growing(t, y, args):
        return 1 + y**2

    with pytest.raises(RuntimeError, match="the model may have none"):
        jc.steady_state(growing, [0.0])
    assert np.isnan(jc.steady_state(growing, [0.0], throw=False)).all()


def test_compiles_once(compilations):
    model = gene()
    for dose in (0.1, 0.2, 0.3):
        jc.steady_state(model, [1.0, dose], {"dose": dose, "gain": 0.8})
    # Beside it, JAX may compile two trivial programs that tell the caller's float.
    assert compilations.count <= 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"guess": [1.0]}, "`guess` must have the shape of the model's state"),
        ({"guess": [1.0, np.nan, 0.0]}, "`guess` must be finite"),
        ({"guess": [[1.0]]}, r"`guess` must have shape \(state,\)"),
        ({"known": [np.nan, 1.0]}, r"`known` of a jc.SteadyState must have shape \(state,\)"),
        ({"invariants": [1.0, 1.0]}, r"`invariants` of a jc.SteadyState must have shape"),
        ({"args": jc.Unknown(1.0)}, "`args` must hold values"),
        ({"t": np.nan}, "`t` must be a finite number"),
        ({"throw": 1}, "`throw` must be True or False"),
        ({"model": 3}, "`model` must be callable"),
        ({"model": lambda t, y: y}, "`model`.*takes other arguments"),
    ],
)
def test_says_what_is_wrong_with_a_call(options, message):
    with pytest.raises(ValueError, match=message):
        jc.steady_state(**({"model": reversible, "guess": [1.0, 1.0, 1.0]} | options))


@pytest.mark.parametrize("rest", [0.1, 3.0, 1e6, 1e-6, 0.0])
def test_a_search_may_begin_at_zero(rest):
    found = jc.steady_state(lambda t, y, args: rest - y, [0.0])
    np.testing.assert_allclose(found, [rest], rtol=1e-6)
    two = jc.steady_state(lambda t, y, args: jnp.stack([rest - y[0], y[0] - 2 * y[1]]), [0.0, 0.0])
    np.testing.assert_allclose(two, [rest, rest / 2], rtol=1e-6)
