"""Derivatives of the optimum: finite differences of re-solved ones, closed forms, both solvers."""

import dataclasses
import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import Affine

import jaxcolloc as jc
from jaxcolloc._optimum import held_out_gradient


SOLVERS = [jc.InteriorPoint(), jc.Ipopt()]
BY_KIND = pytest.mark.parametrize("solver", SOLVERS, ids=["interior_point", "ipopt"])


class Batch(eqx.Module):
    """Growth on a fed substrate: a rate, a net beside it, an input, constants of the experiment."""

    net: eqx.nn.MLP
    rate: jax.Array
    loss: jax.Array

    def __init__(self):
        self.net = eqx.nn.MLP(2, "scalar", 2, 1, jnp.tanh, key=jax.random.key(1))
        self.rate, self.loss = jnp.asarray(0.8), jnp.asarray(0.3)

    def __call__(self, t, y, args):
        growth = self.rate * y[0] * y[1] / (0.5 + y[1]) * args["activity"]
        more = 0.3 * self.net(y)
        return jnp.stack([growth - self.loss * y[0], args["feed"](t) - 0.7 * growth + more])


def experiments():
    """Two short runs with held inputs, one with a known start, each with an activity of its own."""
    rng = np.random.default_rng(0)
    data = []
    for k, level in enumerate((0.2, 0.5)):
        ts = np.linspace(0.0, 4.0 + k, 7 + 2 * k)
        feed = jc.Input([0.0, 1.5, 3.0], level * np.array([1.0, 2.0, 0.5]), "hold")
        ys = np.stack([0.4 + 0.1 * ts, 1.2 * np.exp(-0.2 * ts)], axis=1)
        ys = ys + 0.05 * rng.normal(size=ys.shape)
        ys[2, 1] = np.nan
        start = None if k else [0.4, np.nan]
        args = {"feed": feed, "activity": jc.Unknown(1.0, l2=0.05, scale="log"), "name": "run"}
        data.append(jc.Trajectory(ts, ys, args, weights=[1.0, 2.0], y0=start))
    return data


def problem(**options):
    """The two runs; the states' lower bound and a weight's upper one are active."""
    data = experiments()
    grids = [jc.Grid.aligned(item.ts, jc.Radau(2)) for item in data]
    model = Batch()
    options = {
        "l2": 1e-2,
        "state_bounds": ([-1.0, 0.55], [3.0, 5.0]),
        # So narrow that one side is active, whichever optimum a processor finds.
        "weight_bounds": jc.leafwise(model, None, (lambda m: m.loss, (0.1, 0.101))),
        "weight_scale": jc.leafwise(model, None, (lambda m: m.rate, "log")),
    } | options
    return jc.transcribe(model, data, grids, **options)


@pytest.fixture(scope="module")
def nlp():
    return problem()


@pytest.fixture(scope="module")
def sol(nlp):
    return jc.solve(nlp, jc.Ipopt(tol=1e-10), jc.guess(nlp, key=jax.random.key(0)))


@pytest.fixture
def x64():
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


def changed(nlp, **values):
    """The NLP with other numbers, by its own methods and as they document it."""
    own = {name: values.pop(name, None) for name in ("ys", "weights", "args", "y0")}
    if any(value is not None for value in own.values()):
        data = []
        for k, item in enumerate(nlp.trajectories):
            known = {name: getattr(item, name) for name in own}
            known |= {name: value[k] for name, value in own.items() if value is not None}
            data.append(jc.Trajectory(item.ts, **known))
        nlp = nlp.with_data(data)
    if "l2" in values:
        nlp = nlp.with_l2(values.pop("l2"))
    if values:
        bounds = {name: nlp.settings[name] for name in ("state_bounds", "weight_bounds")} | values
        nlp = nlp.with_bounds(**bounds)
    return nlp


def difference(nlp, sol, name, value, direction, step=1e-5):
    """The central difference of re-solved optima along a direction of one parameter."""
    ends = []
    for sign in (1, -1):
        moved = jax.tree.map(
            lambda a, b, sign=sign: a if b is None else np.asarray(a) + sign * step * b,
            value,
            direction,
            is_leaf=lambda leaf: leaf is None,
        )
        other = changed(nlp, **{name: moved})
        ends.append(jc.solve(other, jc.Ipopt(tol=1e-10), sol).z)
    return (ends[0] - ends[1]) / (2 * step)


def parameter(nlp, name):
    """A parameter and a direction in it."""
    rng = np.random.default_rng(1)
    if name == "l2":
        return 1e-2, 1e-3
    if name == "state_bounds":
        value = nlp.settings[name]
        return value, ([0.0, 1.0], [0.0, 0.0])
    if name == "weight_bounds":
        value = nlp.settings[name]
        direction = jc.leafwise(nlp.model, None, (lambda m: m.loss, (1.0, 1.0)))
        return value, direction
    values = [getattr(item, name) for item in nlp.trajectories]
    if name == "args":
        directions = []
        for item in values:
            along = {"feed": jax.tree.map(np.zeros_like, item["feed"]), "activity": None}
            shape = item["feed"].coefficients.shape
            along["feed"] = eqx.tree_at(
                lambda u: u.coefficients, along["feed"], rng.normal(size=shape)
            )
            directions.append(along | {"name": None})
        return values, directions
    if name == "y0":
        return values, [np.array([1.0, 0.0]), None]
    return values, [rng.normal(size=item.shape) for item in values]


def along(best, name, value, direction):
    """The derivative of `z` along a direction by JAX, forwards, and its transpose's defect."""
    leaves, treedef = jax.tree.flatten(value, is_leaf=lambda leaf: isinstance(leaf, jc.Unknown))
    steps = treedef.flatten_up_to(direction)
    moving = [i for i, step in enumerate(steps) if step is not None]

    def call(*numbers):
        filled = list(leaves)
        for i, number in zip(moving, numbers, strict=True):
            filled[i] = number
        return best(**{name: jax.tree.unflatten(treedef, filled)}).z

    primals = [jnp.asarray(leaves[i], float) for i in moving]
    tangents = [jnp.asarray(steps[i], float) for i in moving]
    _, dz = jax.jvp(call, primals, tangents)
    cotangent = jnp.asarray(np.random.default_rng(2).normal(size=dz.shape))
    _, pullback = jax.vjp(call, *primals)
    back = sum(jnp.sum(a * b) for a, b in zip(pullback(cotangent), tangents, strict=True))
    return np.asarray(dz), float(back - cotangent @ dz) / float(jnp.linalg.norm(dz))


NAMES = ["ys", "weights", "args", "y0", "l2", "state_bounds", "weight_bounds"]


@pytest.mark.usefixtures("x64")
@BY_KIND
@pytest.mark.parametrize("name", NAMES)
def test_derivatives_are_those_of_resolved_optima(nlp, sol, solver, name):
    lower, upper = nlp.bounds
    free = lower < upper
    assert np.sum(free & ((sol.z < lower + 1e-6) | (sol.z > upper - 1e-6))) >= 2
    value, direction = parameter(nlp, name)
    dz, defect = along(jc.optimum(nlp, solver, sol), name, value, direction)
    expected = difference(nlp, sol, name, value, direction)
    assert np.linalg.norm(expected) > 1e-3
    np.testing.assert_allclose(dz, expected, rtol=0, atol=1e-5 * np.max(np.abs(expected)))
    assert abs(defect) < 1e-9


@pytest.mark.parametrize("name", NAMES)
def test_sensitivities_are_the_same_as_matrices(nlp, sol, name):
    value, direction = parameter(nlp, name)
    expected = difference(nlp, sol, name, value, direction)

    def times_direction(tree):
        pairs = zip(jax.tree.leaves(tree), jax.tree.leaves(direction), strict=True)
        return sum(np.tensordot(np.nan_to_num(a), b, np.ndim(b)) for a, b in pairs)

    largest = np.max(np.abs(expected))
    states = [times_direction(item) for item in jc.sensitivity(sol, name)]
    for found, wanted in zip(states, nlp.states_at(expected), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * largest)
    of_rate, of_bias = jc.sensitivity(sol, name, lambda m: (m.rate, m.net.layers[1].bias))
    arrays = [leaf for leaf in jax.tree.leaves(nlp.model) if eqx.is_inexact_array(leaf)]
    places = np.cumsum([0, *(leaf.size for leaf in arrays)])
    at = [leaf is nlp.model.rate for leaf in arrays].index(True)
    # The optimizer sees its logarithm.
    wanted = float(sol.model.rate) * expected[places[at]]
    np.testing.assert_allclose(times_direction(of_rate), wanted, rtol=0, atol=1e-5 * largest)
    assert np.shape(times_direction(of_bias)) == np.shape(nlp.model.net.layers[1].bias)


LINE = np.linspace(0.0, 2.0, 11)


def affine(solver, l2=0.0, **options):
    """A linear least-squares problem, y' = w (1, t) with free starts, and its optimum."""
    noise = 0.05 * np.random.default_rng(0).normal(size=(11, 2))
    ys = np.stack([0.5 * LINE, 0.15 * LINE**2], axis=1) + noise
    data = jc.Trajectory(LINE, ys, 2.0)
    grid = jc.Grid.uniform(0, 2, 4, jc.Radau(3))
    nlp = jc.transcribe(Affine(jnp.ones(2)), data, grid, l2=l2, **options)
    return jc.optimum(nlp, solver, jc.guess(nlp, key=jax.random.key(0))), jnp.asarray(ys)


def hat():
    """The rows of the pseudo-inverse that belong to the weights, shape (weight, time, obs)."""
    design = np.zeros((22, 4))
    design[0::2, 0] = design[1::2, 2] = 1.0
    design[0::2, 1], design[1::2, 3] = 2 * LINE, LINE**2
    return np.linalg.pinv(design)[[1, 3]].reshape(2, 11, 2)


@pytest.mark.usefixtures("caller_x64")
@BY_KIND
def test_linear_least_squares_has_the_hat_matrix(solver):
    """In float32 programs as in float64 ones, by every transformation."""
    best, ys = affine(solver)
    tight = {"atol": 1e-6 if ys.dtype == np.float32 else 1e-12}

    def fitted(ys):
        return best(ys=ys).model.w

    w = np.einsum("wto,to->w", hat(), best.nlp.trajectories[0].ys)
    np.testing.assert_allclose(fitted(ys), w, **tight)
    for jacobian in (jax.jacrev(fitted), jax.jacfwd(fitted), jax.jit(jax.jacrev(fitted))):
        found = jacobian(ys)
        assert found.dtype == ys.dtype
        np.testing.assert_allclose(found, hat(), **tight)
    several = jnp.stack([ys, 2 * ys, ys + 1])
    squares = jax.vmap(jax.grad(lambda ys: jnp.sum(fitted(ys) ** 2)))
    expected = 2 * np.einsum("kw,wto->kto", np.asarray(jax.vmap(fitted)(several)), hat())
    np.testing.assert_allclose(squares(several), expected, **tight)
    np.testing.assert_allclose(jax.jit(squares)(several), expected, **tight)
    whole = jax.jit(jax.grad(lambda several: jnp.sum(jax.vmap(fitted)(several) ** 2)))
    np.testing.assert_allclose(whole(several), expected, **tight)


@pytest.mark.usefixtures("x64")
@BY_KIND
def test_what_the_ridge_draws_to_and_how_strongly(solver):
    """The model's weights of a ridge regression: (X'X / N + l2) w = X'y / N + l2 c."""
    best, ys = affine(solver, l2=1e-2)
    design = np.stack([2 * LINE, LINE**2])
    design = design - design.mean(axis=1, keepdims=True)
    curvature = np.sum(design**2, axis=1) / len(LINE)
    slope = np.sum(design * np.asarray(ys).T, axis=1) / len(LINE)
    center = jnp.array([0.3, -0.2])

    def expected(l2, center):
        return (slope + l2 * center) / (curvature + l2)

    def fitted(l2, center):
        return best(l2=l2, center=center).model.w

    for l2 in (1e-2, 0.0):
        np.testing.assert_allclose(fitted(l2, center), expected(l2, center), atol=1e-12)
        for by in (0, 1):
            found = jax.jacobian(fitted, argnums=by)(l2, center)
            wanted = jax.jacobian(expected, argnums=by)(l2, center)
            np.testing.assert_allclose(found, wanted, atol=1e-12)
    assert best.parameters("l2") == 1e-2
    np.testing.assert_array_equal(best.parameters("center"), np.zeros(2))
    on_nets, _ = affine(solver, l2=jc.OnNets(1.0))
    assert float(on_nets.parameters("l2")) == 1.0
    # It has no nets.
    np.testing.assert_array_equal(jax.jacobian(lambda l2: on_nets(l2=l2).model.w)(1.0), 0.0)


@pytest.mark.usefixtures("x64")
def test_active_inequalities_are_held():
    """The sum of both weights is bounded: the derivative is that of the constrained regression."""
    limit = jc.Constraint(lambda t, y, args, model: jnp.sum(model.w), upper=0.3, at="start")
    loose = jc.Constraint(lambda t, y, args: y[0], upper=50.0)
    design = hat().reshape(2, -1)
    inverse = design @ design.T
    normal = inverse @ np.ones(2)
    projected = (np.eye(2) - np.outer(normal, np.ones(2)) / normal.sum()) @ design
    for solver in SOLVERS:
        best, ys = affine(solver, constraints=[loose, limit])
        assert float(jnp.sum(best().model.w)) == pytest.approx(0.3, abs=1e-12)
        found = jax.jacobian(lambda ys, best=best: best(ys=ys).model.w)(ys)
        np.testing.assert_allclose(found.reshape(2, -1), projected, atol=1e-10)


@pytest.mark.usefixtures("x64")
def test_ties_and_states_fixed_at_the_end():
    """What only IPOPT takes is factorised by a general method."""
    tie, end = jc.Tie(0, 1), jc.StateBounds(1, 2.0, 2.0, at="end", trajectories=[1])
    ys = [np.stack([0.3 * LINE + 0.5 * k, 0.2 * LINE + k], axis=1) for k in range(2)]
    data = [jc.Trajectory(LINE, item, 2.0) for item in ys]
    grids = [jc.Grid.uniform(0, 2, 3, jc.Radau(2))] * 2
    nlp = jc.transcribe(Affine(jnp.ones(2)), data, grids, l2=1e-3, constraints=[tie, end])
    assert not jc.InteriorPoint.takes(nlp)
    best = jc.optimum(nlp, jc.Ipopt(), jc.guess(nlp, key=jax.random.key(0)))
    steps = [np.cos(item) for item in ys]

    def moved(size):
        return best(ys=[a + size * b for a, b in zip(ys, steps, strict=True)])

    # Linear least squares: differences are exact.
    expected = (moved(1.0).z - moved(-1.0).z) / 2
    np.testing.assert_allclose(jax.jacobian(lambda a: moved(a).z)(0.0), expected, atol=1e-10)
    assert float(moved(0.0).states[1][-1, 1]) == pytest.approx(2.0, abs=1e-12)


class Redundant(eqx.Module):
    """y' = a + b: the data tell the sum only."""

    a: jax.Array
    b: jax.Array

    def __call__(self, t, y, args):
        return jnp.stack([self.a + self.b])


@BY_KIND
def test_free_directions_have_no_derivative(solver):
    data = jc.Trajectory(LINE, 0.5 * LINE[:, None])
    grid = jc.Grid.uniform(0, 2, 3, jc.Radau(2))
    nlp = jc.transcribe(Redundant(jnp.asarray(0.2), jnp.asarray(0.1)), data, grid, l2=0.0)
    best = jc.optimum(nlp, solver, jc.guess(nlp, weights="as_given"))
    found = best()
    assert float(found.model.a + found.model.b) == pytest.approx(0.5, abs=1e-5)
    with pytest.warns(UserWarning, match="singular"):
        gradient = jax.grad(lambda ys: best(ys=ys).model.a)(jnp.asarray(data.ys, float))
    assert np.all(np.isnan(gradient))
    sol = jc.solve(nlp, solver, jc.guess(nlp, weights="as_given"))
    with pytest.warns(UserWarning, match="singular"):
        assert np.all(np.isnan(jc.sensitivity(sol, "ys", lambda m: m.a)[0]))


class Circle(eqx.Module):
    """A constant velocity of size one; its worst direction is stationary as the best one is."""

    angle: jax.Array

    def __call__(self, t, y, args):
        return jnp.stack([jnp.cos(self.angle), jnp.sin(self.angle)])


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("tied", [False, True])
def test_a_saddle_point_is_left(tied):
    """By the structured factorisation and by the sparse one."""
    way = np.array([1.0, 0.1])
    # The second run goes on where the first one ends.
    times = [LINE, LINE + 2.0]
    starts = [[0.0, 0.0], None if tied else [2.0, 0.2]]
    data = [
        jc.Trajectory(LINE, np.outer(t, way), y0=y0) for t, y0 in zip(times, starts, strict=True)
    ]
    grid = jc.Grid.uniform(0, 2, 3, jc.Radau(2))
    worst = np.arctan2(0.1, 1.0) + np.pi
    nlp = jc.transcribe(
        Circle(jnp.asarray(worst)), data, grid, l2=0.0, constraints=[jc.Tie(0, 1)] if tied else ()
    )
    back = np.outer(grid.times, [np.cos(worst), np.sin(worst)])
    z = nlp.pack(nlp.model, [back, back + (back[-1] if tied else starts[1])])
    best = jc.optimum(nlp, jc.Ipopt(), z)
    assert jc.InteriorPoint.takes(nlp) != tied
    angle = float(best().model.angle)
    assert np.cos(angle) == pytest.approx(np.cos(0.1), abs=0.01)
    assert np.cos(angle - worst) == pytest.approx(-1.0, abs=1e-6)


@pytest.mark.usefixtures("x64")
def test_a_gradient_flows_through_fits_of_several_tasks():
    """What the ridge draws to is learned from many tasks: the least error of data held out."""
    l2, steps = 0.5, 3
    rng = np.random.default_rng(0)
    tasks = [rng.normal([0.5, -0.3], 0.1) for _ in range(4)]
    line = np.stack([2 * LINE, LINE**2])
    design = line - line.mean(axis=1, keepdims=True)
    curvature = np.sum(design**2, axis=1) / len(LINE)
    best, _ = affine(jc.InteriorPoint(), l2=l2)

    def outer(center):
        fits = [best(ys=(line * task[:, None]).T, center=center).model.w for task in tasks]
        return sum(jnp.sum((w - task) ** 2) for w, task in zip(fits, tasks, strict=True))

    # w = (curvature task + l2 center) / (curvature + l2): quadratic in the center.
    share = l2 / (curvature + l2)
    center = jnp.zeros(2)
    for _ in range(steps):
        center = center - jax.grad(outer)(center) / (2 * len(tasks) * share**2)
    np.testing.assert_allclose(center, np.mean(tasks, axis=0), atol=1e-8)


@BY_KIND
def test_what_is_not_solved_has_no_derivative(solver):
    solver = dataclasses.replace(solver, max_steps=1)
    best, ys = affine(solver, l2=1e-3, state_bounds=(-5.0, 5.0))
    with pytest.warns(UserWarning, match="max_steps_reached"):
        gradient = jax.grad(lambda ys: best(ys=ys).model.w[0])(ys)
    assert np.all(np.isnan(gradient))


@pytest.mark.usefixtures("x64")
def test_weakly_active_bounds_are_told():
    best, ys = affine(jc.InteriorPoint())
    upper = float(best().model.w[0])
    limit, ys = affine(jc.InteriorPoint(), weight_bounds=(-1.0, upper))
    with pytest.warns(UserWarning, match="weakly active"):
        gradient = jax.grad(lambda ys: limit(ys=ys).model.w[0])(ys)
    # Either side: the bound held, or not.
    assert np.allclose(gradient, 0.0) or np.allclose(gradient, hat()[0], atol=1e-6)


@pytest.mark.usefixtures("x64")
def test_what_is_returned(nlp, sol):
    """Model, states, `args` and the path between the nodes, as the solution has them."""
    best = jc.optimum(nlp, jc.InteriorPoint(), sol)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = best(args=best.parameters("args"))
        same = jax.jit(lambda l2: best(l2=l2))(1e-2)
    for each in (found, same):
        np.testing.assert_allclose(each.z, sol.z, atol=1e-7)
        np.testing.assert_allclose(each.head, nlp.head(sol.z), atol=1e-7)
        np.testing.assert_allclose(each.multipliers, sol.multipliers.constraints, atol=1e-6)
        for a, b in zip(each.states, nlp.states_at(sol.z), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-7)
        wanted = sol.args[1]
        assert each.args[1]["name"] == "run"
        assert float(each.args[1]["activity"]) == pytest.approx(float(wanted["activity"]))
        times = np.linspace(0, 5, 17)
        np.testing.assert_allclose(each.at(times, 1), sol.paths[1].evaluate(times), atol=1e-7)
    assert float(found.args[0]["feed"](1.0)) == pytest.approx(0.2)


@pytest.mark.usefixtures("x64")
def test_bad_parameters_are_refused(nlp, sol):
    best, ys = affine(jc.InteriorPoint())
    with pytest.raises(ValueError, match="parameters of an optimum are ys, weights"):
        best(data=ys)
    with pytest.raises(ValueError, match=r"`ys` must hold arrays of shape \(11, 2\)"):
        best(ys=ys[1:])
    with pytest.raises(ValueError, match="`args` must have the structure"):
        best(args={"gain": 2.0})
    with pytest.raises(ValueError, match="`y0` must be None for trajectory 0"):
        best(y0=[np.zeros(2)])
    with pytest.raises(ValueError, match="one entry for each of 2 trajectories"):
        jc.optimum(nlp, jc.InteriorPoint(), sol)(ys=[sol.z])
    with pytest.raises(ValueError, match="`state_bounds` must be set"):
        best.parameters("state_bounds")
    with pytest.raises(NotImplementedError, match="once only"):
        jax.hessian(lambda ys: best(ys=ys).model.w[0])(ys)
    with pytest.raises(ValueError, match="`solver` must be a solver"):
        jc.optimum(best.nlp, "ipopt", np.zeros(best.nlp.num_variables))
    with pytest.raises(ValueError, match="`wrt` must be one of"):
        jc.sensitivity(sol, "data")
    with pytest.raises(ValueError, match="`where` must pick"):
        jc.sensitivity(sol, "ys", lambda m: 3.0)


def test_the_ridge_by_the_gradient_of_a_held_out_error():
    """An error whose least is known: three solves come close to it."""
    noise = np.random.default_rng(1).normal(size=(11, 2))
    data = jc.Trajectory(LINE, np.stack([0.5 * LINE, 0.15 * LINE**2], axis=1) + 0.1 * noise, 2.0)
    grid = jc.Grid.uniform(0, 2, 4, jc.Radau(3))
    nlp = jc.transcribe(Affine(jnp.ones(2)), data, grid, l2=1e-2)
    start = jc.guess(nlp, weights="as_given")
    wanted = jc.solve(nlp.with_l2(6e-2), jc.Ipopt(tol=1e-10), start).model.w

    def error(sol):
        return float(1e-3 + np.sum((nlp.head(sol.z) - np.asarray(wanted)) ** 2))

    tried = held_out_gradient(nlp, error, jc.InteriorPoint(), start)
    assert len(tried) == 3
    logs = [np.log10(item.l2) for item in tried]
    np.testing.assert_allclose(logs, [item.decades - 2 for item in tried], atol=1e-12)
    assert logs[:2] == [-2.0, -1.0]
    assert abs(logs[2] - np.log10(6e-2)) < 0.25
    assert tried[2].error < min(tried[0].error, tried[1].error)
    for item in tried:
        ends = []
        for sign in (1, -1):
            other = nlp.with_l2(item.l2 * 10 ** (1e-4 * sign))
            ends.append(np.log(error(jc.solve(other, jc.Ipopt(tol=1e-10), item.solution))))
        assert item.slope == pytest.approx((ends[0] - ends[1]) / 2e-4, rel=1e-3, abs=1e-6)
    flat = held_out_gradient(nlp, lambda sol: 1.0, jc.Ipopt(), start)
    assert [item.slope for item in flat] == [0.0]
    # An error that says nothing, and a solve that fails, lead to stronger penalties.
    lost = held_out_gradient(nlp, lambda sol: 2.0, jc.Ipopt(), start, useless=1.5)
    assert [item.decades for item in lost] == [0.0, 1.0, 2.0]
    with pytest.warns(UserWarning, match="has not converged"):
        failed = held_out_gradient(nlp, error, jc.Ipopt(max_steps=0), start)
    assert [item.decades for item in failed][:2] == [0.0, 1.0]
    assert not any(item.solution.result.ok for item in failed)
