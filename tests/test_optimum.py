"""Derivatives of the optimum: finite differences of re-solved optima, closed forms, both solvers."""

import dataclasses
import importlib
import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import Affine

import jaxcolloc as jc


optimum = importlib.import_module("jaxcolloc._optimum").optimum
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
        "weight_bounds": jc.leafwise(model, None, (lambda m: m.loss, (0.0, 0.2))),
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
        direction = jc.leafwise(nlp.model, None, (lambda m: m.loss, (0.0, 1.0)))
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
    assert np.sum(free & (sol.z < lower + 1e-6)) >= 1
    assert np.sum(free & (sol.z > upper - 1e-6)) == 1
    value, direction = parameter(nlp, name)
    dz, defect = along(optimum(nlp, solver, sol), name, value, direction)
    expected = difference(nlp, sol, name, value, direction)
    assert np.linalg.norm(expected) > 1e-3
    np.testing.assert_allclose(dz, expected, rtol=0, atol=1e-5 * np.max(np.abs(expected)))
    assert abs(defect) < 1e-9
