"""Sparsity of derivatives, found from jaxprs, and the colouring of Hessians."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse

from jaxcolloc._precision import x64
from jaxcolloc._transcription.blocks import Blocks, Points
from jaxcolloc._transcription.colouring import products
from jaxcolloc._transcription.pattern import derivatives


def _masks(function, x, *others):
    """The patterns of Jacobian and Hessian as dense arrays."""
    found = derivatives(function, x, *others)
    return found.jacobian.toarray(), found.hessian.toarray()


def _met(function, x, *others):
    """Where the dense derivatives are not zero at some of several points."""
    rng = np.random.default_rng(0)

    def weighted(x, multiplier):
        return multiplier @ function(x, *others)

    first = jax.jit(jax.jacrev(lambda x: function(x, *others)))
    second = jax.jit(jax.jacfwd(jax.grad(weighted)))
    jacobian, hessian = False, False
    for scale in np.geomspace(0.3, 3.0, 30):
        point = scale * rng.normal(size=np.shape(x))
        value = np.asarray(first(point))
        curved = np.asarray(second(point, rng.normal(size=len(value))))
        jacobian, hessian = jacobian | (value != 0), hessian | (curved != 0) | (curved != 0).T
    return jacobian, hessian


def _check(function, x, *others, exact=True):
    """No non-zero is missed and, where `exact`, no zero is called one."""
    with x64():
        found, met = _masks(function, x, *others), _met(function, x, *others)
    for mask, there in zip(found, met, strict=True):
        assert not np.any(there & ~mask)
        if exact:
            np.testing.assert_array_equal(mask, there)


def test_masks_do_not_depend_on_the_values_of_other_inputs():
    class Scaled(eqx.Module):
        gain: jax.Array

        def __call__(self, x):
            return jnp.stack([self.gain * x[0] * x[1], x[2]])

    for gain in (0.0, 1.0):
        value = jnp.asarray(gain)
        for found in (
            _masks(lambda x, gain: Scaled(gain)(x), np.zeros(3), value),
            _masks(Scaled(value), np.zeros(3)),
        ):
            np.testing.assert_array_equal(found[0], [[1, 1, 0], [0, 0, 1]])
            np.testing.assert_array_equal(found[1], [[0, 1, 0], [1, 0, 0], [0, 0, 0]])


def _split_net(activation, depth, width=3):
    """A net as a function of its weights and, behind them, its state."""
    model = eqx.nn.MLP(2, 2, width, depth, activation, key=jax.random.key(0))
    arrays, rest = eqx.partition(model, eqx.is_inexact_array)
    leaves, treedef = jax.tree.flatten(arrays)
    ends = np.cumsum([leaf.size for leaf in leaves])

    def function(x):
        parts = jnp.split(x, ends)
        weights = [part.reshape(leaf.shape) for part, leaf in zip(parts, leaves, strict=False)]
        return eqx.combine(jax.tree.unflatten(treedef, weights), rest)(parts[-1])

    return function, np.ones(ends[-1] + 2)


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize(
    "activation", [jnp.tanh, jax.nn.softplus, jax.nn.relu, jax.nn.swish, jax.nn.gelu]
)
def test_patterns_of_nets_are_exact(activation, depth):
    _check(*_split_net(activation, depth))


def test_hidden_units_of_one_layer_do_not_interact():
    """Net 2-3-2: weights W1 (3, 2), b1 (3), W2 (2, 3), b2 (2), then the state."""
    jacobian, hessian = _masks(*_split_net(jnp.tanh, 1))
    unit = np.array([0, 0, 1, 1, 2, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2, -1, -1])
    inner = hessian[:15, :15]
    assert np.all(unit[:15, None][np.nonzero(inner)[0], 0] == unit[np.nonzero(inner)[1]])
    np.testing.assert_array_equal(inner[:9, :9], unit[:9, None] == unit[:9])
    np.testing.assert_array_equal(inner[9:, 9:], False)
    np.testing.assert_array_equal(jacobian[0, 9:17], [1, 1, 1, 0, 0, 0, 1, 0])


@pytest.mark.parametrize("depth", [1, 2])
def test_gauss_newton_patterns(depth):
    """A residual expanded to first order has the Hessian pattern of its Jacobian's square."""
    residual, x = _split_net(jnp.tanh, depth)

    def squared(x):
        here = jax.lax.stop_gradient(x)
        value, change = jax.jvp(residual, (here,), (x - here,))
        return jnp.sum((value + change) ** 2)[None]

    _check(squared, x)
    jacobian = _masks(residual, x)[0].astype(int)
    np.testing.assert_array_equal(_masks(squared, x)[1], jacobian.T @ jacobian > 0)


MATRIX = np.array([[1.0, 0, 3.0, 0, 0.5, 0], [0, 0.1, 0, 2.0, 0, -1.0]])

# Functions of six numbers of which no derivative is said to be non-zero that is not.
EXACT = {
    "no derivative": lambda y: jnp.floor(y) * y + jnp.sign(y) + jnp.round(y) * (y > 0),
    "no gradient": lambda y: jax.lax.stop_gradient(y) * jnp.roll(y, 1) + y**2,
    "gather": lambda y: y[jnp.array([1, 0, 3])] ** 2 * y[5],
    "gather pairs": lambda y: y.reshape(3, 2)[jnp.array([1, 0]), jnp.array([0, 1])] ** 2,
    "gather rows": lambda y: jnp.ravel(jnp.take(y.reshape(3, 2), jnp.array([2, 0]), axis=0) ** 2),
    "gather columns": lambda y: jnp.ravel(jnp.take(y.reshape(2, 3), jnp.array([2]), axis=1) ** 2),
    "batched gather": lambda y: jax.vmap(lambda row, i: row[i] ** 2)(
        y.reshape(3, 2), jnp.array([0, 1, 1])
    ),
    "scatter": lambda y: (y**2).at[jnp.array([1, 1, 4])].add(y[2:5] ** 3),
    "scatter rows": lambda y: jnp.ravel(y.reshape(3, 2).at[jnp.array([2])].add(y[None, :2] ** 2)),
    "set": lambda y: y.at[1:4].set(y[:3] ** 2),
    "matrix": lambda y: MATRIX @ jnp.sin(y) * y[0],
    "matrix of the right": lambda y: jnp.cos(y[:3]) @ (jnp.eye(3) * 2.0) * y[3],
    "batched product": lambda y: jax.vmap(jnp.dot)(y.reshape(3, 2), y.reshape(3, 2) ** 2),
    "outer product": lambda y: jnp.ravel(jnp.outer(y[:2], y[2:4])),
    "convolution": lambda y: jnp.convolve(y**2, jnp.array([1.0, -2.0, 1.0]), mode="same"),
    "strided convolution": lambda y: jnp.ravel(
        eqx.nn.Conv1d(1, 2, 3, padding=1, stride=2, key=jax.random.key(0))(jnp.sin(y)[None])
    ),
    "sums": lambda y: jnp.cumsum(y) ** 2 + jnp.sum(y[:2] ** 2),
    "product": lambda y: jnp.prod(y[:3])[None] + y[3:4] ** 2,
    "moves": lambda y: jnp.pad(y[::-2].reshape(3, 1).T[0] ** 2, 1) + jnp.tile(y[:1], 5) * y[1],
    "parts": lambda y: jnp.concatenate([jnp.stack([y[0] * y[1], y[2]]), *jnp.split(y**2, 3)]),
    "where": lambda y: jnp.where(y > 0, y**2, jnp.roll(y, 1) ** 2),
    "where known": lambda y: jnp.where(jnp.arange(6) < 2, y, 0.0) + jnp.roll(y, 1) ** 2,
    "branches": lambda y: jax.lax.switch(1, [lambda y: y[:2] ** 2, lambda y: y[2:4] * y[0]], y),
    "scan": lambda y: jax.lax.scan(lambda c, u: (jnp.roll(c, 1) * 1.5, c[0] ** 2), y, None, 4)[1],
    "backward scan": lambda y: jax.lax.scan(
        lambda c, u: (c + jnp.sin(u), c * u), 1.0, y, reverse=True
    )[1],
    "long scan": lambda y: jax.lax.scan(lambda c, _: (jnp.sin(c), None), y, None, 9000)[0],
    "jit": lambda y: jax.jit(lambda y: jnp.sin(y) * y[0])(y),
    "checkpoint": lambda y: jax.checkpoint(lambda y: jnp.sin(y) * y[0])(y),
    "normalised": lambda y: jnp.abs(y[3:]) ** 1.5 + y[:3] / jnp.linalg.norm(y[:3]),
}


@pytest.mark.parametrize("name", EXACT)
def test_patterns_of_operations_are_exact(name):
    _check(EXACT[name], np.ones(6))


# Functions whose pattern holds for all points and branches, of which a few do not meet all.
SUPERSET = {
    "unknown operation": lambda y: jnp.real(jnp.fft.fft(y)) ** 2,
    "solve": lambda y: jnp.linalg.solve(jnp.eye(2) + 0.1 * jnp.outer(y[:2], y[:2]), y[2:4]),
    "cholesky": lambda y: jnp.linalg.cholesky(jnp.diag(1 + y[:2] ** 2)) @ y[2:4],
    "cond": lambda y: jax.lax.cond(
        y[0] > 0, lambda y: y[:2] ** 2, lambda y: y[2:4] * jnp.sin(y[0]), y
    ),
    "maximum": lambda y: jnp.max(y)[None] ** 2,
    "sort": lambda y: jnp.sort(y) ** 2,
    "set twice": lambda y: y.at[jnp.array([1, 3])].set(y[0] * y[5]) ** 2,
    "set in a loop": lambda y: jax.lax.fori_loop(0, 3, lambda i, c: c.at[i].set(c[i + 1] ** 2), y),
    "argmax": lambda y: y[jnp.argmax(y)][None] * y[0],
    "interpolation": lambda y: jnp.interp(y[:2], jnp.arange(4.0), y[2:]),
    "scale": lambda y: y.at[1].mul(y[2]).at[3].max(y[4]),
}


@pytest.mark.parametrize("name", SUPERSET)
def test_no_non_zero_is_missed(name):
    _check(SUPERSET[name], np.ones(6), exact=False)


def test_unknown_operations_give_a_dense_mask():
    for mask in _masks(SUPERSET["unknown operation"], np.zeros(6)):
        assert mask.all()


def test_unknown_positions_reach_everywhere_along_their_axis_only():
    def taken(y, i):
        return y.reshape(3, 2)[i]

    def added(y, i):
        return jnp.ravel(jnp.zeros((3, 2)).at[i].add(y[:2]))

    def window(y, i):
        return jax.lax.dynamic_slice(y.reshape(3, 2), (i, 1), (1, 1))[0]

    def put(y, i):
        return jnp.ravel(jax.lax.dynamic_update_slice(jnp.zeros((3, 2)), y[None, :2], (i, 0)))

    even, odd = np.arange(6) % 2 == 0, np.arange(6) % 2 == 1
    index = np.asarray(1)
    np.testing.assert_array_equal(_masks(taken, np.ones(6), index)[0], [even, odd])
    np.testing.assert_array_equal(_masks(window, np.ones(6), index)[0], [odd])
    for function in (added, put):
        mask = _masks(function, np.ones(6), index)[0]
        np.testing.assert_array_equal(mask[:, :2], np.stack([even, odd], axis=1))
        assert not mask[:, 2:].any()


def test_derivatives_that_come_with_an_operation_count():
    """A rounding with the gradient of the identity, and a gradient that mixes elements."""

    @jax.custom_jvp
    def straight(x):
        return jnp.round(x)

    straight.defjvp(lambda x, tangent: (jnp.round(x[0]), tangent[0]))

    @jax.custom_vjp
    def mixing(x):
        return jnp.round(x)

    mixing.defvjp(lambda x: (jnp.round(x), x), lambda x, ct: (ct * x * x[0],))
    _check(lambda y: straight(y) ** 2, np.ones(3))
    _check(mixing, np.ones(3))


def test_references_give_a_dense_mask():
    def function(y):
        store = jax.new_ref(jnp.zeros(3))
        store[...] = y
        return store[...] ** 2

    assert np.all(_masks(function, np.ones(3))[0] >= np.eye(3))


def _symmetric(density, hubs, diagonal):
    rng = np.random.default_rng(0)
    mask = np.tril(rng.random((25, 25)) < density)
    mask[:, :hubs] = True
    np.fill_diagonal(mask, np.diag(mask) & (rng.random(25) < diagonal))
    mask |= mask.T
    matrix = np.where(mask, rng.normal(size=(25, 25)), 0)
    return mask, np.tril(matrix) + np.tril(matrix, -1).T


@pytest.mark.parametrize("density", [0.0, 0.05, 0.3, 1.0])
@pytest.mark.parametrize("hubs", [0, 3])
@pytest.mark.parametrize("diagonal", [0.0, 0.5, 1.0])
def test_every_entry_can_be_read_off(density, hubs, diagonal):
    mask, matrix = _symmetric(density, hubs, diagonal)
    found = products(scipy.sparse.csr_array(mask))
    compressed = (found.color == np.arange(found.num_colors)[:, None]).astype(float) @ matrix
    again = np.zeros_like(matrix)
    again[found.rows, found.columns] = compressed[found.product, found.position]
    np.testing.assert_allclose(again, np.tril(matrix), atol=1e-14)
    assert len(found.rows) == np.tril(mask).sum()
    assert found.num_colors <= 25


def _count(mask):
    return products(scipy.sparse.csr_array(mask)).num_colors


def test_the_fewest_products_where_they_are_known():
    arrow = np.eye(30, dtype=bool)
    arrow[0] = arrow[:, 0] = True
    assert _count(arrow) == 2
    np.fill_diagonal(arrow, False)
    assert _count(arrow) == 1
    assert _count(np.zeros((5, 5), bool)) == 0
    assert _count(np.eye(5, dtype=bool)) == 1
    assert _count(np.ones((5, 5), bool)) == 5
    band = sum(np.eye(40, k=k) for k in (-2, -1, 0, 1, 2)) != 0
    assert _count(band) <= 5
    assert _count(np.kron(np.eye(6), np.ones((4, 4)))) == 4


def test_products_of_nets():
    """Net 2-8-2 has a block per hidden unit; its linear weights need no product of their own."""
    function, x = _split_net(jnp.tanh, 1, width=8)
    size = len(x) - 2
    assert _count(_masks(function, x)[1][:size, :size]) == 3


def test_large_nets():
    """Net 2-64-64-2: 192 weights of the first layer, 65 of one unit of the second."""
    function, x = _split_net(jnp.tanh, 2, width=64)
    found = derivatives(function, x)
    size = len(x) - 2
    assert size == 4482
    assert products(found.hessian[:size, :size]).num_colors <= 257


class _Counted(eqx.Module):
    """A point function that notes each call."""

    matrix: np.ndarray
    log: object
    option: object = eqx.field(static=True, default=None)

    def __call__(self, w, t, y, args, data):
        self.log.append(y.shape)
        return self.matrix @ y * w[0] * (1.0 if args is None else args)


class _Log(list):
    __hash__ = object.__hash__
    __eq__ = object.__eq__


def _detect(function, args=None, num_unknowns=0):
    points = Points(np.zeros((2, 3)), args, np.zeros((2, num_unknowns), np.int32), None)
    with x64():
        return Blocks.detect(function, points, 2, 1)


def test_each_structure_is_traced_once():
    log = _Log()
    first = _detect(_Counted(np.eye(2), log))
    again = _detect(_Counted(np.zeros((2, 2)), log))
    assert len(log) == 1
    assert again.jac_y == first.jac_y
    np.testing.assert_array_equal(again.function.matrix, 0)
    for function, args, num_unknowns in (
        (_Counted(np.eye(2)[:1], log), None, 0),
        (_Counted(np.eye(2, dtype=np.float32), log), None, 0),
        (_Counted(np.eye(2), log, "other"), None, 0),
        (_Counted(np.eye(2), log), np.ones((2, 2)), 0),
        (_Counted(np.eye(2), log), np.ones(2), 0),
        (_Counted(np.eye(2), log), None, 1),
    ):
        count = len(log)
        for _ in range(2):
            _detect(function, args, num_unknowns)
        assert len(log) == count + 1


class _Unhashable(list):
    __hash__ = None


class _Ambiguous:
    def __eq__(self, other):
        raise ValueError("the truth value is ambiguous")


@pytest.mark.parametrize(("kind", "option"), [(_Unhashable, object), (_Log, _Ambiguous)])
def test_what_cannot_be_compared_is_traced_each_time(kind, option):
    log = kind()
    first, second = (_detect(_Counted(np.eye(2), log, option())) for _ in range(2))
    assert len(log) == 2
    assert first.jac_y == second.jac_y
