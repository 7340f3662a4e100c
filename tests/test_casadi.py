"""Models as CasADi functions: values and derivatives are those of JAX."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import pytest
from helpers import Affine, Aliased, Driven, Law, Linear, Lorenz, Net, Plant

import jaxcolloc as jc
from jaxcolloc import datasets
from jaxcolloc._precision import to_float64, x64


ca = pytest.importorskip("casadi")

EXAMPLES = Path(__file__).parents[1] / "examples"
KEY = jax.random.key(0)
TS = np.linspace(0.0, 5.0, 9)
US = np.sin(TS) + 1.5
PAIR = np.stack([US, US**2], axis=1)
INPUT = jc.Input(TS, US, "cubic")


def example(name):
    """A script of the examples as a module."""
    sys.path.insert(0, str(EXAMPLES))
    try:
        spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(EXAMPLES))
    return module


class Of(eqx.Module):
    """y' = function(layer, t, y, args) for any layer with weights."""

    layer: object
    function: object = eqx.field(static=True)

    def __call__(self, t, y, args):
        return self.function(self.layer, t, y, args)


def net(activation, size=2, width=5, depth=2):
    mlp = eqx.nn.MLP(size, size, width, depth, activation, key=KEY)
    return Of(mlp, lambda layer, t, y, args: layer(y))


def plain(function):
    """A field without weights."""
    return Of(None, lambda layer, t, y, args: function(t, y, args))


PLANT_ARGS = {"u": INPUT, "feed": 0.7, "offset": np.array([0.1, 0.2]), "count": 3}
MATRIX = np.array([[2.0, 0.5, 0.1], [0.3, 3.0, 0.2], [0.1, 0.4, 1.5]])

SUITE = {
    "a net": lambda: (Net(3, 8, 2), 3, None),
    "a linear field": lambda: (Linear(jnp.asarray(MATRIX)), 3, None),
    "an affine field": lambda: (Affine(jnp.asarray([0.3, -2.0])), 2, 1.5),
    "Lorenz with a weight": lambda: (Lorenz(jnp.asarray(10.0)), 3, None),
    "an aliased field": lambda: (Aliased(jnp.asarray(0.4)), 1, None),
    "a net with inputs": lambda: (Driven(), 2, (0.4, 1.3)),
    "a plant": lambda: (Plant(), 2, PLANT_ARGS),
    "a plant's sensor": lambda: (Plant().observe, 2, PLANT_ARGS),
    "a law of constants": lambda: (
        Law(lambda p, y: -p["k"] * y / (p["m"] + y), k=1.2, m=0.3, gain=1.0),
        2,
        None,
    ),
    "a law's sensor": lambda: (Law(lambda p, y: y, gain=1.7).observe, 2, None),
    **{
        name: lambda name=name, args=args: (
            getattr(datasets, name)(),
            len(getattr(datasets, name)().y0),
            args,
        )
        for name, args in {
            "van_der_pol": None,
            "harmonic_oscillator": None,
            "damped_oscillator": None,
            "duffing": None,
            "lotka_volterra": None,
            "lorenz": None,
            "fitzhugh_nagumo": None,
            "brusselator": None,
            "robertson": None,
            "selkov": None,
            "driven_pendulum": INPUT,
            "two_tanks": INPUT,
            "fed_batch": INPUT,
            "sir": None,
        }.items()
    },
    "example van_der_pol": lambda: (
        example("van_der_pol").Autonomous(eqx.nn.MLP(2, 2, 32, 1, jnp.tanh, key=KEY)),
        2,
        None,
    ),
    "example lynx_hare": lambda: (
        example("lynx_hare").LotkaVolterra(jnp.asarray([0.5, 0.03, 0.02, 0.8])),
        2,
        None,
    ),
    "example cascaded_tanks, black": lambda: (
        example("cascaded_tanks").BlackBox(4, KEY),
        2,
        INPUT,
    ),
    "example cascaded_tanks, hybrid": lambda: (example("cascaded_tanks").Hybrid(4, KEY), 3, INPUT),
    "example silverbox": lambda: (example("silverbox").Oscillator(6, KEY), 2, INPUT),
    "example catechol": lambda: (
        example("catechol").Kinetics(4, KEY),
        3,
        {"solvent": np.linspace(-1, 1, 13), "tau": 0.3},
    ),
    "example feed_design": lambda: (
        example("feed_design").Hybrid(
            eqx.nn.MLP(1, "scalar", 3, 1, jnp.tanh, key=KEY), jnp.asarray(0.1)
        ),
        2,
        INPUT,
    ),
}

WRAPPED = {
    "normalized": lambda: (
        jc.normalized(net(jnp.tanh, 2), jc.Trajectory(TS, 300 + 1e3 * PAIR)),
        2,
        None,
    ),
    "conserving": lambda: (jc.Conserving(net(jnp.tanh, 3), [1.0, 1.0, 1.0]), 3, None),
    "a field of states in units": lambda: (
        Of(
            eqx.nn.MLP(3, 2, 6, 1, jax.nn.softplus, key=KEY),
            lambda layer, t, y, args: layer(
                jnp.concatenate([y / 300, args["u"].evaluate(t)[None]])
            ),
        ),
        2,
        {"u": INPUT},
    ),
    "a vector of inputs": lambda: (
        plain(lambda t, y, args: y * args["u"](t) + args["k"]),
        2,
        {"u": jc.Input(TS, PAIR), "k": 2.0},
    ),
    "a path of Diffrax": lambda: (
        plain(lambda t, y, args: y * args.evaluate(t)),
        2,
        diffrax.LinearInterpolation(TS, US),
    ),
}

ACTIVATIONS = {
    activation.__name__: activation
    for activation in (
        jax.nn.celu, jax.nn.elu, jax.nn.gelu, jax.nn.leaky_relu, jax.nn.log_sigmoid, jax.nn.mish,
        jax.nn.relu, jax.nn.relu6, jax.nn.selu, jax.nn.sigmoid, jax.nn.silu, jax.nn.soft_sign,
        jax.nn.softplus, jax.nn.squareplus, jax.nn.hard_sigmoid, jax.nn.hard_tanh, jnp.sin,
        jnp.tanh,
    )
}  # fmt: skip


def _gelu_by_erf(x):
    return jax.nn.gelu(x, approximate=False)


LAYERS = {
    **{f"net of {name}": lambda f=f: (net(f), 2, None) for name, f in ACTIVATIONS.items()},
    "net of gelu by erf": lambda: (net(_gelu_by_erf), 2, None),
    "layer norm": lambda: (
        Of(eqx.nn.LayerNorm(3), lambda layer, t, y, args: jnp.sin(layer(y))),
        3,
        None,
    ),
    "RMS norm": lambda: (Of(eqx.nn.RMSNorm(3), lambda layer, t, y, args: layer(y)), 3, None),
    "softmax": lambda: (
        plain(lambda t, y, args: jax.nn.softmax(y) + jax.nn.log_softmax(t * y)),
        3,
        None,
    ),
    "GRU cell": lambda: (
        Of(
            eqx.nn.GRUCell(3, 3, key=KEY),
            lambda layer, t, y, args: layer(y, y**2),
        ),
        3,
        None,
    ),
    "LSTM cell": lambda: (
        Of(
            eqx.nn.LSTMCell(2, 2, key=KEY),
            lambda layer, t, y, args: layer(y, (y, jnp.cos(y)))[0],
        ),
        2,
        None,
    ),
    "PReLU": lambda: (Of(eqx.nn.PReLU(0.1), lambda layer, t, y, args: layer(y)), 2, None),
    "two nets in one by vmap": lambda: (
        Of(
            eqx.filter_vmap(lambda key: eqx.nn.MLP(2, 2, 4, 1, jnp.tanh, key=key))(
                jax.random.split(KEY, 3)
            ),
            lambda layer, t, y, args: jnp.mean(
                eqx.filter_vmap(lambda each: each(y))(layer), axis=0
            ),
        ),
        2,
        None,
    ),
    "attention": lambda: (
        Of(
            eqx.nn.MultiheadAttention(2, 4, key=KEY),
            lambda layer, t, y, args: layer(*[y.reshape(2, 4)] * 3).ravel(),
        ),
        8,
        None,
    ),
}


def _rates(t, y, args):
    """Arrhenius, Monod, Hill and a switch."""
    k = args["k"] * jnp.exp(-args["E"] / 8.314 * (1 / y[2] - 1 / 300))
    monod, hill = y[0] / (args["K"] + y[0]), y[1] ** args["n"] / (0.5 + y[1] ** args["n"])
    heat = jnp.where(y[2] > 310, 0.0, jax.lax.select(t < 1, 5.0, 2.0))
    return jnp.stack([-k[0] * monod, k[0] * monod - k[1] * hill, heat - 0.1 * (y[2] - 300)])


def _running(t, y, args):
    def step(carry, x):
        return carry * 0.9 + x, carry**2

    last, all_of_them = jax.lax.scan(step, y[0], y, reverse=True)
    summed = jax.lax.fori_loop(0, 3, lambda k, total: total + y[k] * k, 0.0)
    return jnp.stack([last, jnp.sum(all_of_them), summed])


def _while(t, y, args):
    state = jax.lax.while_loop(lambda s: s[0] < 4, lambda s: (s[0] + 1, jnp.sin(s[1])), (0, y))
    return state[1]


def _cond(t, y, args):
    return jax.lax.cond(y[0] > y[1], lambda: y**2, lambda: -jnp.exp(y)) + jax.lax.switch(
        jnp.floor(t).astype(int), [lambda: y, lambda: 2 * y, lambda: 3 * y]
    )


def _chosen(t, y, args):
    cases = jnp.select([y > 1.0, y > 0.6], [y, y**2], -y) + y[jnp.argmin(y)]
    return cases * y[jnp.floor(t).astype(int)] + jnp.argmax(y) * y


def _indexed(t, y, args):
    picked = y[jnp.array([2, 0, 1])] * y[::-1] + jnp.roll(y, 1)
    placed = jnp.zeros(4).at[jnp.array([1, 3, 1])].add(y).at[0].set(y[1] * y[2])
    placed = placed.at[2].mul(3.0).at[jnp.array([0, 2])].max(0.3)
    table = jnp.outer(y, y)[jnp.array([0, 2]), jnp.array([1, 2])]
    piece = jax.lax.dynamic_slice(placed, (1,), (3,))
    piece = jax.lax.dynamic_update_slice(piece, table[:1], (2,))
    return picked + piece + jnp.pad(table, (0, 1)) + jnp.tile(y[:1], 3)


def _sums(t, y, args):
    a = y.reshape(3, 2)
    products = jnp.einsum("ij,kj->ik", a, a) @ jnp.array([1.0, 2.0, 3.0])
    batch = jnp.einsum("bij,bjk->bik", jnp.stack([a, 2 * a]), jnp.stack([a.T, a.T]))
    extremes = jnp.stack([jnp.max(y), jnp.min(y), jnp.prod(y), jnp.var(y)])
    flows = jnp.cumsum(y)[::2] + jnp.cumprod(y)[:3] + jax.lax.cummax(y, reverse=True)[:3]
    return jnp.concatenate([products, flows]) * jnp.sum(batch) + jnp.sum(extremes) * jnp.sort(TS)[3]


def _elementary(t, y, args):
    x = y[0]
    return jnp.stack(
        [
            jnp.log1p(x) + jnp.expm1(x) + jnp.sqrt(x) + jax.lax.rsqrt(x) + jnp.cbrt(x),
            jnp.arctan2(x, t) + jnp.arcsin(x / 3) + jnp.arccos(x / 3) + jnp.arctan(x),
            jnp.sinh(x) + jnp.cosh(x) + jnp.arcsinh(x) + jnp.arctanh(x / 3) + jnp.tan(x),
            x**3 + x**-2 + x**2.5 + 2.0**x + x**t + jnp.exp2(x) + jnp.square(x),
            jnp.abs(-x) + jnp.sign(x) + jnp.floor(x) + jnp.ceil(x) + jnp.mod(x, 0.3),
            jax.scipy.special.erf(x) + jax.scipy.special.erfc(x) + jnp.logaddexp(x, t),
            jnp.maximum(x, 0.1) * jnp.minimum(x, 9.0) * jnp.clip(x, 0.0, 5.0) + jnp.hypot(x, t),
            jax.scipy.special.logsumexp(y) + jnp.linalg.norm(y) + jnp.nan_to_num(x),
            jnp.where((x > 0.1) & (t < 9) & ~(x == 7) | (x > 99), x, -x),
            jnp.round(1.3) * jnp.trunc(x + 2.2) + jnp.arccosh(x + 1),
        ]
    )


def _called(t, y, args):
    inner = jax.jit(lambda z: jnp.tanh(z) * t)
    custom = jax.custom_jvp(lambda z: jnp.sin(z) / z)
    custom.defjvp(lambda primals, tangents: (custom(*primals), tangents[0] * 0))
    other = jax.custom_vjp(jnp.exp)
    other.defvjp(lambda z: (jnp.exp(z), None), lambda _, cotangent: (cotangent,))
    return jax.checkpoint(inner)(y) + custom(2.0) + other(0.5) + jax.vmap(lambda z: jnp.exp(z))(y)


def _implicit(t, y, args):
    """A mass matrix that depends on the state."""
    mass = jnp.asarray(MATRIX) + jnp.diag(y**2)
    return jnp.linalg.solve(mass, jnp.cos(y)) + jnp.linalg.solve(jnp.asarray(MATRIX), y)


OPERATIONS = {
    "rates": lambda: (
        plain(_rates),
        3,
        {"k": np.array([0.3, 0.1]), "E": 5e4, "K": 0.2, "n": 2.3},
    ),
    "scan and fori_loop": lambda: (plain(_running), 3, None),
    "while": lambda: (plain(_while), 2, None),
    "cond and switch": lambda: (plain(_cond), 2, None),
    "choices": lambda: (plain(_chosen), 3, None),
    "positions": lambda: (plain(_indexed), 3, None),
    "sums": lambda: (plain(_sums), 6, None),
    "elementary functions": lambda: (plain(_elementary), 2, None),
    "functions that call": lambda: (plain(_called), 2, None),
    "a mass matrix": lambda: (plain(_implicit), 3, None),
    "a table of the state": lambda: (
        plain(lambda t, y, args: jnp.interp(y, args, jnp.asarray(PAIR[:, 1]))),
        2,
        TS,
    ),
    "a function, not a module": lambda: (lambda t, y, args: -args * y, 2, 2.0),
    "a matrix": lambda: (plain(lambda t, y, args: jnp.outer(y, y[:2] + t)), 3, None),
    "a scalar": lambda: (plain(lambda t, y, args: y @ y), 3, None),
}
CASES = {**SUITE, **WRAPPED, **LAYERS, **OPERATIONS}


class Constant:
    """An input that is the same at all times."""

    def __init__(self, value):
        self.value = value

    def __call__(self, t):
        return self.value

    def evaluate(self, t):
        return self.value


def is_path(leaf):
    return isinstance(leaf, diffrax.AbstractPath)


def symbolic(args):
    """The places of the leaves of `args` that are symbols, their values at 0.7, and the tree."""
    leaves, treedef = jtu.tree_flatten(args, is_leaf=is_path)
    places = [
        k for k, leaf in enumerate(leaves) if is_path(leaf) or np.asarray(leaf).dtype == float
    ]
    with x64():
        at = [leaf.evaluate(0.7) if is_path(leaf) else leaf for leaf in leaves]
    return [(k, np.asarray(at[k], float)) for k in places], leaves, treedef


def in_jax(model, num_states, args):
    """`function(x)` of time, state and what is symbolic in `args`, and the last of these."""
    places, leaves, treedef = symbolic(args)
    model = to_float64(model)

    def function(x):
        full, first = list(leaves), 1 + num_states
        for k, value in places:
            part = x[first : first + value.size].reshape(value.shape)
            full[k] = Constant(part) if is_path(leaves[k]) else part
            first += value.size
        return jnp.ravel(model(x[0], x[1 : 1 + num_states], jtu.tree_unflatten(treedef, full)))

    return function, np.concatenate([value.ravel() for _, value in places] + [np.zeros(0)])


def in_casadi(function, num_states):
    """Value, Jacobian and summed Hessian of a CasADi function in all its inputs at once."""
    size = function.numel_in()
    x = ca.SX.sym("x", size)
    value = function(x[0], x[1 : 1 + num_states], x[1 + num_states :])
    flat = ca.vec(value.T)
    weights = ca.DM(np.cos(np.arange(flat.numel())))
    hessian, _ = ca.hessian(ca.dot(weights, flat), x)
    return ca.Function("all", [x], [flat, ca.jacobian(flat, x), hessian])


def assert_close(found, wanted):
    wanted = np.asarray(wanted)
    found = ca.DM(found).full().reshape(wanted.shape)
    scale = np.max(np.abs(wanted), initial=0.0)
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12 * scale)


def assert_alike(function, wanted, xs, num_states):
    """A CasADi function and one of JAX agree at points, with their derivatives."""
    both = in_casadi(function, num_states)
    with x64():

        @jax.jit
        def derivatives(x):
            value = wanted(x)
            weights = jnp.cos(jnp.arange(value.size))
            hessian = jax.jacfwd(jax.jacfwd(lambda x: weights @ wanted(x)))(x)
            return value, jax.jacfwd(wanted)(x), hessian

        for x in xs:
            for found, expected in zip(both(x), derivatives(jnp.asarray(x)), strict=True):
                assert np.all(np.isfinite(expected))
                assert_close(found, expected)


@pytest.mark.parametrize("case", CASES)
def test_values_and_derivatives_are_those_of_jax(case):
    model, num_states, args = CASES[case]()
    function = jc.to_casadi(model, num_states, args)
    wanted, constants = in_jax(model, num_states, args)
    assert function.name_in() == ["t", "y", "args"]
    assert function.size1_in(2) == len(constants)
    rng = np.random.default_rng(0)
    xs = [
        np.concatenate([[0.3 + k], rng.uniform(0.2, 1.4, num_states), constants]) for k in range(2)
    ]
    assert_alike(function, wanted, xs, num_states)


def test_there_are_models_of_the_whole_suite():
    assert len(SUITE) >= 30


@pytest.mark.parametrize("kind", ["hold", "linear", "cubic"])
def test_inputs_may_be_functions_of_time(kind):
    args = {"u": jc.Input(TS, US, kind), "k": 2.0}
    model = plain(lambda t, y, args: args["k"] * y * args["u"](t - 0.1) ** 2)
    function = jc.to_casadi(model, 1, args, symbols=["constants"])

    def wanted(x):
        return model(x[0], x[1:2], args | {"k": x[2]})

    times = [*np.linspace(-0.5, 5.5, 13), *(TS + 0.1)[[0, 3, 8]]]
    # Away from the kinks of a line, where derivatives differ.
    times = times if kind == "hold" else times[:13]
    assert_alike(function, wanted, [np.array([t, 0.7, 1.1]) for t in times], 1)


def test_weights_may_be_symbols():
    model = Driven()
    args = (0.4, 1.3)
    function = jc.to_casadi(model, 2, args, symbols=["weights"])
    assert function.name_in() == ["t", "y", "args", "weights"]
    assert function.size_in("args") == (0, 1)
    arrays, rest = eqx.partition(to_float64(model), eqx.is_inexact_array)
    with x64():
        flat, unravel = jax.flatten_util.ravel_pytree(to_float64(arrays))
        y = np.array([0.3, -0.2])
        wanted = jax.jacfwd(lambda w: eqx.combine(unravel(w), rest)(0.1, y, args))(flat)
    w = ca.SX.sym("w", len(flat))
    found = ca.Function("f", [w], [ca.jacobian(function(0.1, y, [], w), w)])(np.asarray(flat))
    assert_close(found, wanted)


def test_names_say_which_symbol_stands_where():
    args = {"T": 300.0, "u": INPUT, "k": np.ones((1, 2)), "mode": 3, "law": jnp.tanh}
    function = jc.to_casadi(
        lambda t, y, args: args["law"](y) * args["T"] * args["u"](t), 1, args, name="plant"
    )
    assert function.name() == "plant"
    assert str(function.sx_in("args")) == "[args['T'], args['k'][0, 0], args['k'][0, 1], args['u']]"
    assert jc.to_casadi(lambda t, y, args: y, 1, output="level").name_out() == ["level"]


def test_takes_symbols_of_matrix_expressions():
    function = jc.to_casadi(Driven(), 2, (0.4, 1.3))
    y = ca.MX.sym("y", 2)
    outer = ca.Function("outer", [y], [function(0.3, y, [0.4, 1.3])])
    assert_close(outer([0.1, 0.2]), function(0.3, [0.1, 0.2], [0.4, 1.3]))


def test_integrates_in_casadi_as_in_jax():
    model, y0 = Net(2, 6), np.array([0.4, -0.3])
    function = jc.to_casadi(model, 2)
    y = ca.SX.sym("y", 2)
    problem = {"x": y, "ode": function(0, y, [])}
    options = {"abstol": 1e-10, "reltol": 1e-10}
    integrator = ca.integrator("integrator", "cvodes", problem, 0.0, 2.0, options)
    with x64():
        wanted = jc.simulate(model, np.array([0.0, 2.0]), y0, rtol=1e-10, atol=1e-12)[-1]
    np.testing.assert_allclose(integrator(x0=y0)["xf"].full()[:, 0], wanted, rtol=1e-7)


def test_compositions_that_are_smooth_have_their_derivatives_at_ties():
    """As the stable forms of softplus and of the logistic function have at zero."""
    for function, first, second in (
        (jax.nn.softplus, 0.5, 0.25),
        (jax.nn.sigmoid, 0.25, 0.0),
        (lambda y: y * jnp.abs(y), 0.0, None),
        (jax.nn.log_sigmoid, 0.5, -0.25),
    ):
        exported = jc.to_casadi(lambda t, y, args, f=function: f(y), 1)
        y = ca.SX.sym("y")
        slope = ca.jacobian(exported(0, y, []), y)
        both = ca.Function("both", [y], [slope, ca.jacobian(slope, y)])(0.0)
        assert float(both[0]) == pytest.approx(first, abs=1e-15)
        assert second is None or float(both[1]) == pytest.approx(second, abs=1e-15)


def test_derivatives_do_not_overflow_far_from_zero():
    for function in (jax.nn.softplus, jax.nn.sigmoid, jax.nn.silu, jax.nn.elu, jnp.tanh):
        exported = jc.to_casadi(lambda t, y, args, f=function: f(y), 1)
        y = ca.SX.sym("y")
        slope = ca.jacobian(exported(0, y, []), y)
        both = ca.Function("both", [y], [slope, ca.jacobian(slope, y)])
        with x64():
            for value in (-2000.0, -750.0, -40.0, 40.0, 750.0, 2000.0):
                wanted = jax.grad(lambda x, f=function: f(x))(value)
                # JAX has 1 - 1 where it computes a slope near zero.
                np.testing.assert_allclose(float(both(value)[0]), wanted, rtol=1e-12, atol=1e-15)
                assert np.isfinite(float(both(value)[1]))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (
            lambda t, y, args: jnp.sort(y),
            r"cannot be written in CasADi: `sort` at .*test_casadi.py",
        ),
        (lambda t, y, args: jnp.convolve(y, np.ones(2), "same"), "`conv_general_dilated` at"),
        (lambda t, y, args: jnp.linalg.eigh(jnp.outer(y, y))[0], "no counterpart in CasADi"),
        (lambda t, y, args: jnp.fft.fft(y).real, "complex numbers"),
        (lambda t, y, args: y.at[jnp.floor(t).astype(int)].set(1.0), "`scatter` .*index"),
        (
            lambda t, y, args: jax.lax.while_loop(lambda x: x[0] > 1, lambda x: x / 2, y),
            "`while` .*depends on symbols",
        ),
        (lambda t, y, args: jax.lax.fori_loop(0, 20_000, lambda k, x: x / 2, y), "more than 10000"),
        (lambda t, y, args: jnp.real(1j * y), "`model` cannot be written"),
        (lambda t, y, args: jnp.round(y), "`round` .*halves to even"),
        (lambda t, y, args: y[jnp.array([0, 5])], "`gather` .*outside"),
        (
            lambda t, y, args: jax.pure_callback(np.sin, jax.typeof(y), y),
            "`pure_callback` .*jax.numpy",
        ),
        (lambda t, y, args: y * jax.random.uniform(jax.random.key(args), (2,)), "random"),
        (lambda t, y, args: jnp.einsum("i,j,k", y, y, y), "`model` must return .*two axes"),
        (lambda t, y, args: (y, y), "`model` must return .*got a tuple"),
        (lambda t, y, args: y if y[0] > 0 else -y, "`model` cannot be evaluated .*jnp.where"),
        (lambda t, y, args: y * args["u"], "`model` cannot be evaluated as f"),
        (lambda t, y: y, r"`model`.*f\(t, y, args\).*takes other arguments"),
    ],
)
def test_names_what_it_cannot_do(function, message):
    with pytest.raises(ValueError, match=message):
        jc.to_casadi(function, 2, 3.0 if "random" in message else None)


def test_what_no_result_needs_is_no_obstacle():
    def field(t, y, args):
        jnp.sort(y)
        return 2 * y

    assert_close(jc.to_casadi(field, 2)(0, [1.0, 2.0], []), [2.0, 4.0])


def test_what_is_known_is_computed_by_jax():
    table = np.array([3.0, 1.0, 2.0])
    found = jc.to_casadi(lambda t, y, args: y * jnp.sort(args), 3, table, symbols=())
    assert_close(found(0, np.ones(3), []), np.sort(table))


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda u, t: u(t - 0.5), 'another time than t.*leave "inputs" out'),
        (lambda u, t: u.derivative(t), "`symbols` must leave out .*derivative"),
        (lambda u, t: u.evaluate(0.0, t), "`symbols` must leave out .*increment"),
    ],
)
def test_an_input_that_is_a_symbol_has_its_value_at_the_time_alone(use, message):
    def model(t, y, args):
        return y * use(args, t)

    with pytest.raises(ValueError, match=message):
        jc.to_casadi(model, 1, INPUT)
    function = jc.to_casadi(model, 1, INPUT, symbols=())
    with x64():
        assert_close(function(1.3, 0.4, []), model(1.3, jnp.array([0.4]), INPUT))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": 3}, "`model` must be callable as f"),
        ({"num_states": 0}, "`num_states` must be an integer of at least 1"),
        ({"args": {"k": jc.Unknown(1.0)}}, r"`args` must .*sol.args\[0\]"),
        ({"args": np.array(["a"])}, "`args` must hold arrays of numbers"),
        ({"symbols": "weights"}, "`symbols` must hold"),
        ({"symbols": ["y"]}, "`symbols` must hold"),
        ({"name": "a name"}, "`name` must be a name"),
        ({"output": "2"}, "`output` must be a name"),
        ({"output": "y"}, "`output` must differ"),
    ],
)
def test_arguments_are_checked(arguments, message):
    with pytest.raises(ValueError, match=message):
        jc.to_casadi(**({"model": lambda t, y, args: y, "num_states": 1} | arguments))


def test_compiles_nothing(caplog):
    model, args = Plant(), dict(PLANT_ARGS)
    with jax.log_compiles():
        jc.to_casadi(model, 2, args)
        jc.to_casadi(model.observe, 2, args, symbols=["weights"])
        said = [record.getMessage() for record in caplog.records]
        jax.jit(lambda x: x + 1)(1.0)
    compiled = [record.getMessage() for record in caplog.records if "Compiling" in record.msg]
    assert len(compiled) == 1
    assert not any("Compiling" in message for message in said)


def test_says_how_to_get_casadi():
    code = (
        "import sys; sys.modules['casadi'] = None; import jaxcolloc as jc\n"
        "jc.to_casadi(lambda t, y, args: y, 1)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert re.search("ImportError: jc.to_casadi needs CasADi.*pip install", run.stderr)


def test_leaves_the_callers_precision_as_it_was():
    before = jnp.zeros(()).dtype
    value = jc.to_casadi(lambda t, y, args: y / 3, 1)(0, 1.0, [])
    assert jnp.zeros(()).dtype == before
    assert float(value) == 1 / 3


def test_a_dae_is_exported_by_its_parts():
    """The equations are solved by a loop; the parts are functions like any other."""
    system = jc.DAE(
        lambda t, y, a, args: -a * y, lambda t, y, a, args: a - args * y - 0.1 * a**3, 1
    )
    with pytest.raises(ValueError, match=r"`model` must be explicit: a jc\.DAE"):
        jc.to_casadi(system, 1, 0.5)
    f = jc.to_casadi(lambda t, z, args: system.field(t, z[:1], z[1:], args), 2, 0.5)
    assert float(f(0.0, [2.0, 3.0], 0.5)) == pytest.approx(-6.0)
