"""An NLP on the host and as one traced program: two drivers of one text, which must agree."""

import gc
import weakref
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import SCHEMES, Driven, Linear, Net, Plant, spiral

import jaxcolloc as jc
from jaxcolloc._precision import x64
from jaxcolloc._transcription.pieces import HostBlocks, SquaredError


RNG = np.random.default_rng(0)


def net_problem(scheme, intervals=4, samples=30, **options):
    ts = np.linspace(0.0, 3.0, samples)
    ys = spiral(ts) + 0.1 * RNG.normal(size=(samples, 2))
    ys[3, 0] = np.nan
    grid = jc.Grid.uniform(0.0, 3.0, intervals, scheme)
    return jc.transcribe(Net(2, 3), jc.Trajectory(ts, ys), grid, **options)


def plants(lengths, **options):
    """Several trajectories with inputs and unknowns of their own, on grids of such lengths."""
    data, grids = [], []
    for k, intervals in enumerate(lengths):
        ts = np.linspace(0.0, 2.0 + k, 5 + k)
        args = {
            "u": jc.Input([0.0, 1.0], RNG.normal(size=2)),
            "feed": jc.Unknown(0.5 + RNG.uniform(), scale="log", l2=0.1),
            "offset": RNG.normal(size=2),
        }
        data.append(jc.Trajectory(ts, RNG.normal(size=(len(ts), 2)), args))
        grids.append(jc.Grid.uniform(0.0, 2.0 + k, intervals, jc.Radau(3)))
    model = Plant()
    return jc.transcribe(model, data, grids, observe=model.observe, **options)


def constrained():
    args = (jnp.asarray(0.3), jc.Unknown(1.2))
    data = [jc.Trajectory([0.0, 1.0, 2.0], RNG.normal(size=(3, 2)), args) for _ in range(2)]
    bound = jc.Constraint(lambda t, y, args: jnp.stack([y[0] * args[1], t * y[1] ** 2]), upper=9.0)
    grid = jc.Grid.uniform(0.0, 2.0, 5, jc.GaussLegendre(2))
    return jc.transcribe(Driven(), data, grid, constraints=(bound, jc.Tie(0, 1)), l2=0.1)


PROBLEMS = {
    **{f"net, {scheme!r}": lambda scheme=scheme: net_problem(scheme) for scheme in SCHEMES},
    "one interval": lambda: net_problem(jc.Chebyshev(30), 1),
    "few points": lambda: net_problem(jc.Radau(2), 1, 4),
    "long": lambda: net_problem(jc.Radau(3), 400),
    "robust loss": lambda: net_problem(jc.Radau(3), loss=jc.PseudoHuber(0.1)),
    "residual penalty": lambda: net_problem(jc.Radau(3), residual_penalty=0.3),
    "first node collocated": lambda: net_problem(jc.Radau(3), collocate_start=True),
    "units": lambda: net_problem(jc.Radau(3), state_scale=[1e3, 1e-3]),
    "unknowns": lambda: plants([2, 3]),
    "unequal lengths": lambda: plants([3, 50, 14], residual_penalty=0.2),
    "many trajectories": lambda: plants([2] * 11),
    "many long trajectories": lambda: plants([60] * 9),
    "constraints": constrained,
}


QUICK = ("net, Radau(4)", "one interval", "unequal lengths", "constraints")


@pytest.mark.parametrize(
    "name",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in PROBLEMS],
)
def test_host_and_program_agree(name):
    nlp = PROBLEMS[name]()
    rng = np.random.default_rng(1)
    z = 0.5 * rng.normal(size=nlp.num_variables)
    dual, factor = rng.normal(size=nlp.num_constraints), np.float64(0.7)
    inputs = {"hessian": (z, dual, factor), "gauss_newton": (z, factor)}
    with x64():
        for name in ("objective", "gradient", "constraints", "point", "hessian", "gauss_newton"):
            given = inputs.get(name, (z,))
            host = nlp.compiled.function(name)(*given)
            program = nlp.compiled.traced(name)(*given)
            for mine, other in zip(jax.tree.leaves(host), jax.tree.leaves(program), strict=True):
                assert isinstance(mine, (np.ndarray, np.generic))
                size = np.abs(np.asarray(other)).max(initial=1e-300)
                np.testing.assert_allclose(mine, other, rtol=1e-9, atol=1e-12 * size, err_msg=name)


def test_the_gradient_is_that_of_the_objective():
    """Of the traced functions: what is summed by hand is what JAX differentiates."""
    nlp = plants([2, 3], residual_penalty=0.3)
    z = 0.5 * RNG.normal(size=nlp.num_variables)
    with x64():
        expected = jax.grad(nlp.objective)(jax.device_put(z))
        np.testing.assert_allclose(nlp.gradient(z), expected, rtol=1e-9, atol=1e-11)


def test_a_squared_error_is_not_compiled_and_others_are():
    def kinds(**options):
        core = net_problem(jc.Radau(3), **options).compiled.pieces
        return {type(penalty.blocks) for penalty in core.penalties}

    assert kinds() == {SquaredError}
    assert kinds(loss=jc.PseudoHuber(1.0)) == {HostBlocks}
    assert kinds(loss=lambda residual, weights: jnp.sum(weights * residual**2)) == {HostBlocks}


@pytest.mark.parametrize("observed", [False, True])
def test_no_grid_and_no_data_are_compiled_for(observed, compilations):
    """Other intervals, samples, times, noise and weights: the model is compiled once."""

    class Own(Linear):
        """A model that nothing has been compiled for yet."""

    model = Own(jnp.asarray([[0.1, 0.2], [0.3, 0.4]]))
    observe = (lambda t, y, args: 2.0 * y) if observed else None

    def evaluated(samples, intervals, begin, end):
        ts = np.linspace(begin, end, samples)
        data = jc.Trajectory(ts, RNG.normal(size=(samples, 2)))
        grid = jc.Grid.uniform(begin, end, intervals, jc.Radau(3))
        nlp = jc.transcribe(model, data, grid, observe=observe)
        z = RNG.normal(size=nlp.num_variables)
        nlp.objective(z), nlp.gradient(z), nlp.constraints(z), nlp.jacobian(z)
        nlp.hessian(z, np.ones(nlp.num_constraints)), nlp.gauss_newton(z)

    evaluated(20, 10, 0.0, 2.0)
    assert compilations.count > 0
    before = compilations.count
    evaluated(33, 17, 0.0, 2.0)
    evaluated(57, 29, 1.0, 9.0)
    assert compilations.count == before


def test_not_a_number_comes_through():
    nlp = net_problem(jc.Radau(3))
    z = np.zeros(nlp.num_variables)
    z[-1] = np.nan
    assert np.isnan(nlp.objective(z))
    assert np.isnan(nlp.constraints(z)).any()


class Typed(Linear):
    """A field that asks for the type of a number that it holds."""

    number: Any = 1

    def __call__(self, t, y, args):
        return y * {bool: 2.0, int: 3.0, float: 4.0}[type(self.number)]


def test_numbers_of_different_types_are_different_models():
    """1, 1.0 and True are equal to Python."""
    data = jc.Trajectory(np.linspace(0.0, 1.0, 4), np.ones((4, 1)))
    grid = jc.Grid.uniform(0.0, 1.0, 2, jc.Radau(1))
    slopes = []
    for number in (1, True, 1.0):
        nlp = jc.transcribe(Typed(jnp.ones((1, 1)), number), data, grid)
        z = np.ones(nlp.num_variables)
        slopes.append(float(-np.asarray(nlp.constraints(z))[0]))
        with x64():
            assert slopes[-1] == pytest.approx(-float(nlp.compiled.traced("constraints")(z)[0]))
    assert slopes[0] / 3.0 == pytest.approx(slopes[1] / 2.0) == pytest.approx(slopes[2] / 4.0)


@pytest.mark.parametrize("change", ["data", "l2"])
def test_problems_that_were_changed_are_forgotten(change):
    """As in moving horizon estimation: a chain of problems keeps no more than its last ones."""
    nlp = net_problem(jc.Radau(2))
    first = weakref.ref(nlp.compiled)
    for step in range(4):
        data = [jc.Trajectory(item.ts, item.ys + 0.1) for item in nlp.trajectories]
        nlp = nlp.with_data(data) if change == "data" else nlp.with_l2(0.1 * (step + 1))
        nlp.objective(np.zeros(nlp.num_variables))
    gc.collect()
    assert first() is None
