"""Unknown constants of each experiment."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import Linear

import jaxcolloc as jc


class Decay(Linear):
    """y' = -rate_k * y + matrix y, with a rate of each experiment."""

    def __call__(self, t, y, args):
        return self.matrix @ y - args["rate"] * y


RATES = [0.5, 1.0, 2.0]


def _data(**options):
    data = []
    for rate, length in zip(RATES, (8, 12, 9), strict=True):
        ts = np.linspace(0.0, 1.5, length)
        ys = np.stack([np.exp(-rate * ts), 2 * np.exp((0.4 - rate) * ts)], axis=1)
        data.append(jc.Trajectory(ts, ys, {"rate": jc.Unknown(1.2, **options)}))
    return data


GRID = jc.Grid.uniform(0.0, 1.5, 4, jc.Radau(3))
MODEL = Linear(jnp.zeros((2, 2)))
FIXED = Decay(jnp.asarray([[0.0, 0.0], [0.0, 0.4]]))


@pytest.mark.parametrize(
    "scale",
    [
        "linear",
        "log",
        pytest.param("softplus", marks=pytest.mark.slow),
        pytest.param(3.0, marks=pytest.mark.slow),
    ],
)
def test_finds_the_constant_of_each_experiment(scale, caller_x64):
    nlp = jc.transcribe(FIXED, _data(scale=scale, bounds=(0, 9)), GRID, l2=0.0, trainable=False)
    assert (nlp.num_weights, nlp.layout.num_head) == (0, 3)
    sol = jc.solve(nlp, jc.Ipopt(), jc.guess(nlp))
    found = [float(args["rate"]) for args in sol.args]
    np.testing.assert_allclose(found, RATES, atol=1e-4)
    end = jc.simulate(sol.model, [0.0, 1.5], sol.paths[1].evaluate(0.0), sol.args[1])[-1]
    np.testing.assert_allclose(end, _data()[1].ys[-1], atol=1e-4)


def test_the_penalty_draws_to_the_start():
    nlp = jc.transcribe(FIXED, _data(l2=1e6), GRID, l2=0.0, trainable=False)
    sol = jc.solve(nlp, jc.Ipopt(), jc.guess(nlp))
    np.testing.assert_allclose([args["rate"] for args in sol.args], 1.2, atol=1e-3)


def test_shared_weights_and_unknowns_are_found_together():
    data = _data()
    data[1] = jc.Trajectory(data[1].ts, data[1].ys, {"rate": 1.0})
    nlp = jc.transcribe(Decay(jnp.zeros((2, 2))), data, GRID, l2=1e-9)
    assert len(nlp.groups) == 2
    sol = jc.solve(nlp, jc.Ipopt(), jc.guess(nlp))
    np.testing.assert_allclose(sol.model.matrix, FIXED.matrix, atol=2e-3)
    np.testing.assert_allclose([args["rate"] for args in sol.args], RATES, atol=2e-3)
    assert sol.args[1]["rate"] == 1.0


def test_keeps_its_shape_and_place():
    args = ({"a": jc.Unknown(np.ones((2, 3)))}, 5, jc.Unknown(2.0))
    data = jc.Trajectory([0.0, 1.5], np.ones((2, 2)), args)

    def model(t, y, args):
        return -y * jnp.sum(args[0]["a"]) * args[2] * args[1]

    nlp = jc.transcribe(model, data, GRID)
    assert nlp.layout.num_head == 7
    z = np.array(nlp.pack(model, [np.ones((GRID.num_nodes, 2))]))
    z[:7] = np.arange(7.0)
    (fitted,) = nlp.args(z)
    np.testing.assert_array_equal(fitted[0]["a"], np.arange(6.0).reshape(2, 3))
    assert fitted[1] == 5
    assert float(fitted[2]) == 6.0
    assert "unknowns 7" in str(nlp)


def test_counts_as_its_start_in_gradient_matching_alone():
    open_, known = (
        [jc.Trajectory(item.ts, item.ys, {"rate": make(1.2)}) for item in _data()]
        for make in (jc.Unknown, float)
    )
    model = Decay(jnp.zeros((2, 2)))
    one, other = jc.match_gradients(model, open_), jc.match_gradients(model, known)
    np.testing.assert_allclose(one.matrix, other.matrix, rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a", {}), "`value` must be a number or an array of them; got text"),
        ((np.nan, {}), "`value` must be finite"),
        ((1.0, {"bounds": (2, 3)}), "`bounds` must have lower < upper with the `value` between"),
        ((1.0, {"bounds": (1, 1)}), "`bounds` must have lower < upper"),
        ((1.0, {"bounds": 3}), r"`bounds` must be \(lower, upper\) or None; got 3"),
        ((np.ones(2), {"bounds": (np.zeros(3), 9)}), r"`bounds` must be .* shape \(2,\); got"),
        ((-1.0, {"scale": "log"}), '`value` must be above zero with the `scale` "log"'),
        ((1.0, {"scale": np.ones(2)}), "`scale` must be"),
        ((1.0, {"scale": "cubic"}), "`scale` must be"),
        ((1.0, {"l2": -1.0}), "`l2` must be a finite number"),
        ((1.0, {"l2": np.ones(2)}), "`l2` must be a finite number"),
    ],
)
def test_refuses_bad_input(arguments, message):
    value, named = arguments
    with pytest.raises(ValueError, match=message):
        jc.Unknown(value, **named)


def test_a_rollout_asks_for_the_fitted_value():
    with pytest.raises(ValueError, match=r"`args` must hold values, .* pass `sol.args\[k\]`"):
        jc.simulate(FIXED, [0.0, 1.0], [1.0, 1.0], _data()[0].args)


def test_jax_cannot_take_it_for_an_array():
    assert jax.tree.leaves({"a": jc.Unknown(1.0)})[0].value == 1.0


class Turn(eqx.Module):
    """z' = rate * c * z, with the complex constant c of the experiment."""

    rate: jax.Array

    def __call__(self, t, y, args):
        slope = self.rate * args["turn"] * (y[0] + 1j * y[1])
        return jnp.stack([slope.real, slope.imag])


@pytest.mark.parametrize("turn", [-0.1 + 1j, np.complex64(-0.1 + 1j), np.array(-0.1 + 1j)])
def test_complex_constants_keep_their_imaginary_part(turn):
    ts = np.linspace(0.0, 1.5, 9)
    z = np.exp(2 * complex(turn) * ts)
    data = jc.Trajectory(ts, np.stack([z.real, z.imag], axis=1), {"turn": turn})
    nlp = jc.transcribe(Turn(jnp.asarray(2.0)), data, jc.Grid.uniform(0.0, 1.5, 8, jc.Radau(4)))
    nodes = np.exp(2 * complex(turn) * nlp.grids[0].times)
    exact = nlp.pack(nlp.model, [np.stack([nodes.real, nodes.imag], axis=1)])
    assert np.max(np.abs(nlp.constraints(exact))) < 1e-4


class Frozen(eqx.Module):
    """y' = rate y, turned by a complex constant that is no weight."""

    rate: jax.Array
    turn: jax.Array

    def __call__(self, t, y, args):
        return Turn(self.rate)(t, y, {"turn": self.turn})


def test_complex_constants_of_the_model_are_held_or_refused():
    data = jc.Trajectory([0.0, 1.0], np.ones((2, 2)))
    model = Frozen(jnp.asarray(1.0), jnp.asarray(1j))
    with pytest.raises(ValueError, match=r"`model` must have real weights.*`trainable`"):
        jc.transcribe(model, data, GRID)
    held = jc.leafwise(model, True, (lambda m: m.turn, False))
    nlp = jc.transcribe(model, data, GRID, trainable=held)
    z = nlp.pack(model, [np.ones((GRID.num_nodes, 2))])
    # y' = 1j (1 + 1j) = (-1, 1) and the path is constant.
    defects = np.asarray(nlp.constraints(z)).reshape(-1, 2)
    np.testing.assert_allclose(defects / np.abs(defects), np.tile([1.0, -1.0], (len(defects), 1)))


class Unhashable:
    """An object that cannot be looked up by its value."""

    __hash__ = None

    def rate(self, t):
        return 1.0 + t


def test_any_object_may_be_a_leaf():
    seen = []

    def model(t, y, args):
        seen.append(args)
        return -args["law"](t) * y * args["table"].rate(t) * (2.0 if args["unit"] == "mol" else 1.0)

    args = {"law": jnp.cos, "table": Unhashable(), "unit": "mol", "none": None, "np": np, "n": 3}
    data = [
        jc.Trajectory([0.0, 1.5], np.ones((2, 1)), args | {"gain": gain}) for gain in (1.0, 2.0)
    ]
    nlp = jc.transcribe(model, data, GRID)
    assert len(nlp.groups) == 1
    assert all(item["np"] is np and item["n"] == 3 for item in seen)
    assert jc.match_gradients(model, data) is model
    jc.solve(nlp, jc.Ipopt(max_steps=3), jc.guess(nlp), throw=False)


def test_leaves_that_differ_are_kept_apart():
    data = [jc.Trajectory([0.0, 1.5], np.ones((2, 1)), {"law": law}) for law in (jnp.cos, jnp.sin)]
    nlp = jc.transcribe(lambda t, y, args: args["law"](t) * y, data, GRID)
    assert len(nlp.groups) == 2


def test_refuses_arrays_of_other_things():
    data = jc.Trajectory([0.0, 1.5], np.ones((2, 1)), {"names": np.array(["a", "b"])})
    with pytest.raises(ValueError, match="`args` must hold arrays of numbers; got one of type <U1"):
        jc.transcribe(lambda t, y, args: -y, data, GRID)
