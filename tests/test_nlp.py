"""The NLP's functions and sparse derivatives against dense JAX."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import Driven, Linear, Net, Plant, dense

import jaxcolloc as jc
from jaxcolloc._precision import x64
from jaxcolloc._transcription.blocks import over_points


def _rich_data(grid, lengths=(11, 7, 9)):
    """Trajectories of different lengths, with inputs, gaps, weights and times off the nodes."""
    rng = np.random.default_rng(3)
    data = []
    for position, length in enumerate(lengths):
        ts = rng.uniform(grid.boundaries[0], grid.boundaries[-1], length)
        ts[:2] = grid.times[1:3]
        ts = np.sort(ts)
        ys = rng.normal(size=(length, 2))
        ys[2, 0] = np.nan
        ys[4] = np.nan
        args = (0.5 * position, np.float64(1.0 - position))
        item = jc.Trajectory(ts, ys, args, weights=rng.uniform(0.5, 2, (length, 2)))
        data.append(item)
    return data


def _observe(t, y, args):
    return jnp.stack([y[0] * y[1] + t, jnp.tanh(y[2])])


CASES = {
    "global": (jc.Grid.single(0.0, 2.0, jc.Chebyshev(9)), {}),
    "radau": (jc.Grid.uniform(0.0, 2.0, 4, jc.Radau(3)), {"l2": 0.0}),
    "gauss": (jc.Grid([0.0, 0.3, 0.7, 2.0], jc.GaussLegendre(2)), {}),
    "lobatto": (jc.Grid.uniform(0.0, 2.0, 3, jc.Lobatto(4)), {"collocate_start": True}),
    "gauss start": (jc.Grid.uniform(0.0, 2.0, 2, jc.GaussLegendre(3)), {"collocate_start": True}),
    "robust": (jc.Grid.uniform(0.0, 2.0, 4, jc.Radau(2)), {"loss": jc.PseudoHuber(0.4)}),
}


def _make(name):
    grid, options = CASES[name]
    return jc.transcribe(Driven(), _rich_data(grid), grid, **options)


def _check_derivatives(nlp):
    rng = np.random.default_rng(0)
    z = 0.5 * rng.normal(size=nlp.num_variables)
    multipliers = rng.normal(size=nlp.num_constraints)
    core = nlp.compiled.core
    with x64():
        jacobian = np.asarray(jax.jit(jax.jacobian(lambda z: core.constraints(z)))(z))
        gradient = np.asarray(jax.jit(jax.grad(lambda z: core.objective(z)))(z))

        def lagrangian(z):
            return 0.7 * core.objective(z) + multipliers @ core.constraints(z)

        hessian = np.asarray(jax.jit(jax.hessian(lagrangian))(z))
    shape = (nlp.num_constraints, nlp.num_variables)
    square = (nlp.num_variables, nlp.num_variables)
    sparse = dense(nlp.jacobian_structure, nlp.jacobian(z), shape)
    np.testing.assert_allclose(sparse, jacobian, atol=1e-12 * np.abs(jacobian).max())
    np.testing.assert_allclose(np.asarray(nlp.gradient(z)), gradient, atol=1e-13)
    lower = dense(nlp.hessian_structure, nlp.hessian(z, multipliers, 0.7), square)
    largest = max(1.0, float(np.abs(hessian).max()))
    np.testing.assert_allclose(lower, np.tril(hessian), atol=1e-11 * largest)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in ("global", "radau") else pytest.mark.slow)
        for name in CASES
    ],
)
def test_sparse_derivatives_match_dense_ones(name):
    nlp = _make(name)
    assert nlp.num_variables != nlp.num_constraints
    _check_derivatives(nlp)


@pytest.mark.slow
def test_derivatives_with_hidden_states_and_an_observation_function():
    grid = jc.Grid.uniform(0.0, 2.0, 3, jc.Radau(2))
    data = _rich_data(grid, (8,))
    model = Net(3, 4, depth=2)
    nlp = jc.transcribe(model, data, grid, observe=_observe, num_states=3)
    _check_derivatives(nlp)


@pytest.mark.slow
def test_derivatives_with_trajectories_of_very_different_lengths():
    """Padding must leave no mark: lengths 1, 3, 4 and 9 intervals, one grid each."""
    grids = [jc.Grid.uniform(0.0, 2.0, count, jc.Radau(2)) for count in (3, 1, 9, 4)]
    data = [_rich_data(grid, (6,))[0] for grid in grids]
    nlp = jc.transcribe(Driven(), data, grids)
    assert 1 < len(nlp.groups) < 4
    _check_derivatives(nlp)


@pytest.mark.slow
def test_derivatives_of_a_model_whose_sparsity_is_unknown():
    def model(t, y, args):
        return jnp.linalg.solve(jnp.eye(2) + 0.1 * jnp.outer(y, y), y)

    grid = jc.Grid.uniform(0.0, 1.0, 2, jc.Radau(2))
    nlp = jc.transcribe(model, jc.Trajectory([0.0, 1.0], np.ones((2, 2)), y0=None), grid)
    _check_derivatives(nlp)


def _plant(**options):
    """Everything at once: inputs, unknowns, a trained observation, bounds, scales, units."""
    grids = [jc.Grid.uniform(0.0, 2.0, count, jc.Radau(2)) for count in (3, 4, 2)]
    rng = np.random.default_rng(5)
    data = []
    for item in _rich_data(grids[0]):
        samples = np.linspace(0.0, 2.0, 5 + len(data))
        args = {
            "u": jc.Input(samples, rng.normal(size=len(samples)), "hold"),
            "feed": jc.Unknown(1.0 + len(data), bounds=(0.1, 9), scale="log", l2=0.3),
            "offset": jc.Unknown([0.1, -0.2]),
        }
        data.append(jc.Trajectory(item.ts, item.ys, args, weights=item.weights))
    model = Plant()
    return jc.transcribe(
        model,
        data,
        grids,
        observe=model.observe,
        num_states=2,
        l2=jc.leafwise(model, 0.1, (lambda m: m.rate, 0.0)),
        weight_scale=jc.leafwise(
            model, None, (lambda m: m.rate, "log"), (lambda m: m.gain, "softplus")
        ),
        trainable=jc.leafwise(model, True, (lambda m: m.exponent, False)),
        **options,
    )


def _work(t, y, args, model):
    return jnp.stack([y[0] * y[1] * args["feed"], model.rate[0] * t + y[0]])


PLANTS = {
    "units": {"state_scale": [1e-3, 20.0]},
    "constraints": {
        "state_scale": [0.1, 3.0],
        "residual_penalty": 0.1,
        "constraints": [
            jc.Constraint(_work, -1.0, [2.0, 3.0], trajectories=[0, 2]),
            jc.Constraint(lambda t, y, args: jnp.sum(y**2), 1.0, 1.0, at="end"),
            jc.nonnegative(1),
            jc.Tie(2, 0),
        ],
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PLANTS)
def test_derivatives_of_a_hybrid_model_match_dense_ones(name):
    nlp = _plant(**PLANTS[name])
    assert nlp.layout.num_head == nlp.num_weights + 9
    _check_derivatives(nlp)


@pytest.mark.slow
def test_gauss_newton_of_a_hybrid_model():
    """The Hessian of the same objective with every residual expanded to first order."""
    nlp = _plant(**PLANTS["constraints"])
    z = 0.5 * np.random.default_rng(2).normal(size=nlp.num_variables)
    core = nlp.compiled.core
    size = (nlp.num_variables,) * 2
    lower = dense(nlp.gauss_newton_structure, nlp.gauss_newton(z, 0.7), size)

    def expanded(z):
        head, states = core._parts(z)
        values = [
            over_points(p.gauss_newton.function, head, p.points, p._at(states), nlp.num_weights)
            for p in core.penalties
        ]
        return 0.7 * sum(map(jnp.sum, values), start=core.quadratics[0].value(head))

    with x64():
        expected = np.asarray(jax.jit(jax.hessian(expanded))(z))
        exact = np.asarray(jax.jit(jax.hessian(lambda z: 0.7 * core.objective(z)))(z))
    np.testing.assert_allclose(lower, np.tril(expected), atol=1e-11)
    assert np.abs(expected - exact).max() > 1e-3
    symmetric = lower + np.tril(lower, -1).T
    assert np.linalg.eigvalsh(symmetric).min() > -1e-9


def test_the_residual_penalty_is_the_integral():
    """For y = t^2 and y' = 3 y the squared residual 4 t^2 - 12 t^3 + 9 t^4 has a known integral."""
    grid = jc.Grid([0.0, 0.7, 2.0], jc.Radau(2))
    data = jc.Trajectory([0.0, 2.0], [[0.0], [4.0]])
    model = Linear(np.array([[3.0]]))
    nlp = jc.transcribe(model, data, grid, l2=0.0, residual_penalty=0.5)
    z = nlp.pack(model, [grid.times[:, None] ** 2])
    integral = 4 * 2**3 / 3 - 12 * 2**4 / 4 + 9 * 2**5 / 5
    assert float(nlp.objective(z)) == pytest.approx(0.5 * integral / 2, rel=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("observe", [None, _observe])
def test_gauss_newton_drops_exactly_the_curvature(observe):
    grid = jc.Grid.uniform(0.0, 2.0, 3, jc.Radau(2))
    d = 2 if observe is None else 3
    data = _rich_data(grid, (8,))[0]
    nlp = jc.transcribe(Net(d, 3), data, grid, observe=observe, num_states=d, l2=0.1)
    z = 0.5 * np.random.default_rng(0).normal(size=nlp.num_variables)

    def residuals(z):
        w = nlp.layout.weights(z)
        states = z[nlp.layout.num_head :].reshape(-1, nlp.num_states)
        interval, rows, _ = grid.locate(data.ts)
        y = jnp.einsum("tn,tns->ts", rows, states[grid.interval_nodes[interval]])
        h = y if observe is None else jax.vmap(lambda t, y: observe(t, y, None))(data.ts, y)
        scale = np.where(data.measured, np.sqrt(data.weights / 7), 0)
        return jnp.concatenate([jnp.ravel(scale * h), jnp.sqrt(0.1) * w])

    with x64():
        first = jax.jacobian(residuals)(jnp.asarray(z))
        expected = np.asarray(2 * first.T @ first)
    square = (nlp.num_variables, nlp.num_variables)
    lower = dense(nlp.gauss_newton_structure, nlp.gauss_newton(z, 1.0), square)
    np.testing.assert_allclose(lower, np.tril(expected), atol=1e-12)


def test_pattern_drawn_by_hand():
    """Net 2-1-2 (7 weights: W1 W1 b1 | W2 W2 | b2 b2), one interval of two Radau nodes.

    Rows: two nodes x two states. A row meets the hidden layer, its own row of W2 and b2; the
    states it differentiates (its own component at all three nodes) and both states of its node.
    """
    grid = jc.Grid.single(0.0, 1.0, jc.Radau(2))
    nlp = jc.transcribe(Net(2, 1), jc.Trajectory([0.0], [[1.0, 2.0]]), grid)
    #         W1 W1 b1 W2 W2 b2 b2 | node 0, node 1, node 2
    drawn = """
              #  #  #  #  .  #  .    #  .  #  #  #  .
              #  #  #  .  #  .  #    .  #  #  #  .  #
              #  #  #  #  .  #  .    #  .  #  .  #  #
              #  #  #  .  #  .  #    .  #  .  #  #  #
    """
    expected = [
        [mark == "#" for mark in line.split()] for line in drawn.split("\n") if line.strip()
    ]
    pattern = np.zeros((4, 13), bool)
    pattern[nlp.jacobian_structure] = True
    np.testing.assert_array_equal(pattern, np.array(expected))
    # Second derivatives: the output layer is linear, so W2 meets neither itself nor b2.
    second = np.zeros((13, 13), bool)
    second[nlp.hessian_structure] = True
    weights = np.array(
        [
            [1, 0, 0, 0, 0, 0, 0],
            [1, 1, 0, 0, 0, 0, 0],
            [1, 1, 1, 0, 0, 0, 0],
            [1, 1, 1, 1, 0, 0, 0],
            [1, 1, 1, 0, 1, 0, 0],
            [0, 0, 0, 0, 0, 1, 0],  # the ridge penalty only
            [0, 0, 0, 0, 0, 0, 1],
        ],
        bool,
    )
    np.testing.assert_array_equal(second[:7, :7], weights)
    np.testing.assert_array_equal(second[7:9, :7], False)  # node 0 is not collocated
    np.testing.assert_array_equal(second[9:, :5], True)
    np.testing.assert_array_equal(second[9:, 5:7], False)
    states = np.kron(np.eye(3), [[1, 0], [1, 1]]).astype(bool)
    states[1, 0] = False  # at node 0 there is the loss only, which does not mix states
    np.testing.assert_array_equal(second[7:, 7:], states)


def test_data_on_nodes_give_the_papers_objective():
    grid = jc.Grid.single(0.0, 3.0, jc.Chebyshev(6))
    rng = np.random.default_rng(0)
    ys, states = rng.normal(size=(6, 2)), rng.normal(size=(6, 2))
    model = Net(2, 3)
    nlp = jc.transcribe(model, jc.Trajectory(grid.times, ys), grid, l2=0.01)
    leaves = [
        np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(model) if hasattr(leaf, "shape")
    ]
    ridge = 0.01 * sum(np.sum(leaf**2) for leaf in leaves)
    expected = np.sum((states - ys) ** 2) / 6 + ridge
    value = float(nlp.objective(nlp.pack(model, [states])))
    assert value == pytest.approx(expected, rel=1e-12)


def test_objective_interpolates_between_nodes():
    grid = jc.Grid.uniform(0.0, 2.0, 3, jc.Radau(3))
    ts = np.array([0.05, 0.4, 1.3, 1.31, 1.9])
    nlp = jc.transcribe(Linear(np.eye(1)), jc.Trajectory(ts, np.zeros((5, 1))), grid, l2=0.0)
    z = nlp.pack(Linear(np.eye(1)), [grid.times[:, None] ** 2])
    assert float(nlp.objective(z)) == pytest.approx(np.mean(ts**4), rel=1e-12)


def test_constraints_are_the_defects():
    grid = jc.Grid.uniform(0.0, 2.0, 3, jc.Radau(3))
    data = jc.Trajectory([0.0, 1.0], np.zeros((2, 1)))
    nlp = jc.transcribe(Linear(np.array([[3.0]])), data, grid)
    values = nlp.constraints(nlp.pack(Linear(np.array([[3.0]])), [grid.times[:, None] ** 2]))
    expected = 2 * grid.times[1:] - 3 * grid.times[1:] ** 2
    np.testing.assert_allclose(np.asarray(values), expected, atol=1e-12)


def test_equations_stand_in_the_order_of_trajectories():
    """Also where lengths differ so much that they are evaluated in several groups."""
    grids = [jc.Grid.uniform(0.0, 1.0, count, jc.GaussLegendre(1)) for count in (1, 8, 2)]
    data = [jc.Trajectory([0.0], [[0.0]]) for _ in grids]
    model = Linear(np.zeros((1, 1)))
    nlp = jc.transcribe(model, data, grids, collocate_start=True)
    states = [np.full((grid.num_nodes, 1), 0.0) for grid in grids]
    states[2] = grids[2].times[:, None] * 5.0
    values = np.asarray(nlp.constraints(nlp.pack(model, states)))
    third = 1 + 2 * grids[2].num_intervals
    np.testing.assert_allclose(values[:-third], 0, atol=1e-12)
    np.testing.assert_allclose(values[-third:-2], 5.0, atol=1e-12)
    np.testing.assert_allclose(values[-2:], 0, atol=1e-12)


def test_pack_and_unpack_are_inverse_and_keep_dtypes():
    model = Net(2, 3)
    grid = jc.Grid.uniform(0.0, 1.0, 2, jc.Radau(2))
    data = [jc.Trajectory([0.0, 1.0], np.ones((2, 2))) for _ in range(3)]
    nlp = jc.transcribe(model, data, grid)
    states = list(np.random.default_rng(0).normal(size=(3, grid.num_nodes, 2)))
    again, placed = nlp.unpack(nlp.pack(model, states))
    for one, other in zip(states, placed, strict=True):
        np.testing.assert_array_equal(one, other)
    before, after = jax.tree.leaves(model), jax.tree.leaves(again)
    for one, other in zip(before, after, strict=True):
        if hasattr(one, "dtype"):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


def _count(jaxpr):
    """The equations of a jaxpr and of those inside it."""
    inner = [value for equation in jaxpr.eqns for value in equation.params.values()]
    nested = [getattr(value, "jaxpr", value) for value in inner]
    return len(jaxpr.eqns) + sum(_count(item) for item in nested if hasattr(item, "eqns"))


def test_the_number_of_nodes_does_not_change_the_traced_program():
    """Compile time cannot grow with the data: the jaxprs have the same number of equations."""

    def equations(intervals, trajectories):
        grid = jc.Grid.uniform(0.0, 1.0, intervals, jc.Radau(2))
        ts = np.linspace(0, 1, 3 * intervals)
        data = [jc.Trajectory(ts, np.ones((len(ts), 2))) for _ in range(trajectories)]
        nlp = jc.transcribe(Net(2, 3), data, grid)
        core = nlp.compiled.core
        z, multipliers = np.ones(nlp.num_variables), np.ones(nlp.num_constraints)
        with x64():
            first = jax.make_jaxpr(core.point)(z)
            second = jax.make_jaxpr(core.hessian)(z, multipliers, 1.0)
        return _count(first.jaxpr), _count(second.jaxpr)

    assert equations(4, 2) == equations(40, 20)


@pytest.mark.slow
def test_functions_can_be_transformed(caller_x64):
    nlp = _make("radau")
    z = 0.1 * np.random.default_rng(1).normal(size=nlp.num_variables)
    value = float(nlp.objective(z))
    assert float(jax.jit(nlp.objective)(z)) == pytest.approx(value, rel=1e-6)
    pair = np.asarray(jax.vmap(nlp.constraints)(np.stack([z, 2 * z])))
    np.testing.assert_allclose(pair[0], nlp.constraints(z), atol=1e-12)
    with jax.enable_x64(True):
        gradient = jax.grad(nlp.objective)(z)
        jacobian = np.asarray(jax.jit(jax.jacobian(nlp.constraints))(z))
    np.testing.assert_allclose(gradient, nlp.gradient(z), atol=1e-12)
    np.testing.assert_allclose(jacobian[nlp.jacobian_structure], nlp.jacobian(z), atol=1e-12)


def test_prints_on_one_screen():
    grid = jc.Grid.uniform(0.0, 1.0, 30, jc.Radau(3))
    data = [jc.Trajectory([0.0, 1.0], np.ones((2, 2)), y0=[1.0, np.nan])] * 2
    nlp = jc.transcribe(Net(2, 3), data, grid, state_bounds=(-2, 2))
    text = str(nlp)
    assert len(text.split("\n")) <= 45
    assert max(map(len, text.split("\n"))) <= 100
    assert f"{nlp.num_variables} variables, {nlp.num_constraints} equality constraints" in text
    assert "Radau(3)" in text
    assert f"Jacobian      {len(nlp.jacobian_structure[0])} non-zeros" in text
    assert "bounded       362, fixed 2" in text


def test_functions_refuse_vectors_of_another_length():
    grid = jc.Grid.uniform(0.0, 1.0, 2, jc.Radau(2))
    nlp = jc.transcribe(Net(2, 3), jc.Trajectory([0.0], [[1.0, 1.0]]), grid)
    with pytest.raises(ValueError, match=rf"`z` must be numbers of shape \({nlp.num_variables},\)"):
        nlp.objective(np.zeros(3))
    with pytest.raises(
        ValueError, match=r"`states\[0\]` must have shape \(node, state\) = \(5, 2\)"
    ):
        nlp.pack(Net(2, 3), [np.zeros((4, 2))])
    with pytest.raises(ValueError, match="`states` must be a list of 1 arrays"):
        nlp.pack(Net(2, 3), [])
    with pytest.raises(ValueError, match="`states` must be finite"):
        nlp.pack(Net(2, 3), [np.full((5, 2), np.nan)])
    with pytest.raises(ValueError, match="`model` must have weights of the shapes"):
        nlp.pack(Net(2, 4), [np.zeros((5, 2))])


@pytest.mark.parametrize("scheme", [jc.Radau(3), jc.Chebyshev(12)], ids=repr)
def test_padding_never_asks_for_the_observation_of_a_state_that_does_not_occur(scheme):
    """The logarithm has no derivative at zero, where a filled-up sample must not be."""
    grid = jc.Grid.uniform(0.0, 1.0, 2, scheme)
    on_nodes, between = grid.times[1:4], np.array([0.11, 0.12, 0.13, 0.77])
    samples = [on_nodes, between, between[:1], np.append(on_nodes[1:], 0.9)]
    data = [jc.Trajectory(np.sort(ts), np.ones((len(ts), 1))) for ts in samples]
    data.append(jc.Trajectory([0.3, 0.4], [[np.nan], [np.nan]]))
    options = {"observe": lambda t, y, args: jnp.log(y), "l2": 0.0}
    model = Linear(jnp.ones((1, 1)))
    nlp = jc.transcribe(model, data, grid, **options)
    states = [1 + k + grid.times[:, None] ** 2 for k in range(len(data))]
    z = nlp.pack(model, states)
    gradient = np.asarray(nlp.gradient(z))
    hessian = np.asarray(nlp.hessian(z, np.zeros(nlp.num_constraints), 1.0))
    gauss_newton = np.asarray(nlp.gauss_newton(z, 1.0))
    assert all(np.all(np.isfinite(item)) for item in (gradient, hessian, gauss_newton))
    alone = 0.0
    for item, part in zip(data[:4], states, strict=False):
        single = jc.transcribe(model, item, grid, **options)
        alone += len(item.ts) * float(single.objective(single.pack(model, [part])))
    count = sum(len(ts) for ts in samples)
    np.testing.assert_allclose(nlp.objective(z), alone / count, rtol=1e-12)
