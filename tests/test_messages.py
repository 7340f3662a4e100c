"""What is wrong with the caller's functions and calls is said in their words."""

import re

import equinox as eqx
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

import jaxcolloc as jc
from jaxcolloc._not_finite import where_not_finite


@pytest.fixture(autouse=True)
def annotations_unchecked():
    """As in the caller's program, where no annotation is checked at run time."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


TS = np.linspace(0.0, 3.0, 13)
DATA = jc.Trajectory(TS, np.stack([np.exp(-TS), np.exp(-TS / 2)], axis=1))
GRID = jc.Grid.uniform(0.0, 3.0, 3, jc.Radau(2))


class Law(eqx.Module):
    """A model whose law is any function of a rate and what a model gets."""

    rate: jax.Array
    law: object = eqx.field(static=True)

    def __call__(self, *inputs):
        return self.law(self.rate, *inputs)


def decay(rate, t, y, args):
    return -rate * y


def transcribe(law=decay, data=DATA, **options):
    return jc.transcribe(Law(jnp.asarray(1.0), law), data, GRID, **options)


@pytest.mark.parametrize(
    ("law", "message"),
    [
        (lambda k, y, t: -k * y, r"f\(t, y, args\).*takes other arguments"),
        (lambda k, y, t, args: -k * y, r"`model` must return .*f\(t, y, args\); got \(\)"),
        (lambda k, t, y, args: k * y if y[0] > 0 else y, r"`if`.*jnp.where or jax.lax.cond"),
        (lambda k, t, y, args: k * np.sin(y), "`model`.*use jax.numpy"),
        (lambda k, t, y, args: k * y * float(t), "`model`.*use jax.numpy"),
        (lambda k, t, y, args: k * y[:2] * range(int(y[0])), "`model`.*use jax.numpy"),
        (lambda k, t, y, args: k * y * args["u"], "`model`.*uses `args`, of which the .* has none"),
        (lambda k, t, y, args: k * y * args.u, "`model`.*uses `args`, of which the .* has none"),
        (lambda k, t, y, args: k * y * args, "`model`.*uses `args`, of which the .* has none"),
        (lambda k, t, y, args: jnp.round(y).astype(int), r"`model` must .*\.astype\(float\)"),
        (lambda k, t, y, args: y * 1j, "`model` must return .*complex"),
        (lambda k, t, y, args: (y[0], y[1]), r"`model` .*shape \(state,\) = \(2,\); got a tuple"),
        (lambda k, t, y, args: None, r"`model` .*shape \(state,\) = \(2,\); got None"),
        (lambda k, t, y, args: "none", "`model` must return .*got 'none'"),
        (lambda k, t, y, args: y @ jnp.ones(3), "`model` cannot be evaluated .*TypeError"),
        (lambda k, t, y, args: {}["rate"], "`model` cannot be evaluated .*KeyError: 'rate'"),
        (
            lambda k, t, y, args: jax.lax.while_loop(lambda x: x[0] > 1, lambda x: x / 2, k * y),
            "`model` cannot be evaluated .*[Rr]everse-mode",
        ),
    ],
)
def test_says_what_is_wrong_with_a_model(law, message):
    with pytest.raises(ValueError, match=message):
        transcribe(law)


def algebraic(law=None, equations=None, **options):
    """A DAE y' = -a, a = y of which one part is another."""
    law = (lambda t, y, a, args: -a) if law is None else law
    equations = (lambda t, y, a, args: a - y) if equations is None else equations
    return jc.transcribe(jc.DAE(law, equations, 2, **options), DATA, GRID)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"law": lambda t, y, args: -y}, r"`field`.*f\(t, y, a, args\).*takes other arguments"),
        ({"law": lambda t, y, a, args: -a[:1]}, r"`field` must return .* = \(2,\).*got \(1,\)"),
        ({"law": lambda t, y, a, args: a * args}, "`field`.*uses `args`, of which the .* has none"),
        ({"equations": lambda t, y, a, args: a[0] - y[0]}, r"`equations` must .*\(2,\).*got \(\)"),
        ({"equations": lambda t, y, a, args: (a[0], y[0])}, "`equations` must .*jnp.stack"),
        ({"equations": lambda t, y, a, args: a if a[0] > 0 else y}, "`equations`.*jnp.where"),
        ({"equations": lambda t, y, a, args: y}, "`equations` must determine.*equation 0 contains"),
        ({"start": lambda t, y: y}, r"`start`.*f\(t, y, args\).*takes other arguments"),
        ({"start": lambda t, y, args: jnp.ones(3)}, r"`start` must return .*\(2,\); got .*\(3,\)"),
    ],
)
def test_says_what_is_wrong_with_algebraic_equations(parts, message):
    with pytest.raises(ValueError, match=message):
        algebraic(**parts)


def test_names_where_algebraic_equations_are_not_finite():
    nlp = algebraic(equations=lambda t, y, a, args: jnp.log(a) - y)
    z = nlp.pack(nlp.model, [np.full((len(GRID.times), 4), [0.5, 0.5, 1.0, -1.0])])
    found = where_not_finite(nlp, z)
    assert re.search(
        r"`model` is not finite in trajectory 0 at t = 0.*y = \[0.5, 0.5, 1, -1\]", found
    )


def test_the_callers_own_error_stays_attached():
    def law(k, t, y, args):
        raise ZeroDivisionError("my own words")

    with pytest.raises(ValueError, match="ZeroDivisionError: my own words") as caught:
        transcribe(law)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


@pytest.mark.parametrize(
    "law",
    [
        lambda k, t, y, args: jnp.stack([-k * y[0], -y[1] / 2]).astype(jnp.float32),
        lambda k, t, y, args: -k * y.astype(jnp.float32),
        lambda k, t, y, args: np.array([1.0, 2.0]),
    ],
)
def test_takes_results_of_other_precision_and_constants(law):
    nlp = transcribe(law)
    z = jc.guess(nlp).z
    assert nlp.objective(z).dtype == nlp.constraints(z).dtype == np.float64
    assert np.all(np.isfinite(nlp.hessian(z, np.ones(nlp.num_constraints), 1.0)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"observe": lambda t, y: y}, r"`observe`.*f\(t, y, args\).*takes other arguments"),
        ({"observe": lambda t, y, args: y * args["c"]}, "`observe`.*uses `args`"),
        ({"observe": lambda t, y, args: y if y[0] > 0 else -y}, "`observe`.*jnp.where"),
        ({"observe": lambda t, y, args: (y[0], y[1])}, "`observe` must return .*got a tuple"),
        ({"observe": lambda t, y, args: y > 0}, "`observe` must return .*bool"),
        ({"loss": lambda r, w: w * r**2}, r"`loss` must return a scalar.*got shape \(2,\)"),
        ({"loss": lambda r: r}, r"`loss`.*loss\(residual, weights\).*takes other arguments"),
        ({"loss": lambda r, w: None}, "`loss` must return a scalar; got None"),
        ({"loss": lambda r, w: jnp.sum(r**2) if r[0] > 0 else 0.0}, "`loss`.*jnp.where"),
        (
            {"loss": jc.PseudoHuber},
            r"`loss` must be callable as loss\(residual, weights\) or .*; got <cl",
        ),
        ({"loss": 3}, r"`loss` must be callable as loss\(residual, weights\) or .*; got 3"),
        ({"constraints": jc.Constraint(lambda t, y: y)}, "`function`.*takes other arguments"),
        ({"constraints": jc.Constraint(lambda t, y, args: args[0])}, "`function`.*uses `args`"),
        ({"constraints": jc.Constraint(lambda t, y, args: None)}, "`function` must return a scal"),
        ({"constraints": jc.Constraint(lambda t, y, args: y * 1j)}, "`function` must .*complex"),
        ({"constraints": 3}, "`constraints` must hold jc.Constraint.*got 3"),
        ({"constraints": "ab"}, "`constraints` must hold jc.Constraint.*got 'ab'"),
        ({"collocate_start": np.ones(2)}, "`collocate_start` must be True or False"),
        ({"observe": 3}, "`observe` must be callable"),
        ({"num_states": "two"}, "`num_states` must be an integer"),
        ({"state_scale": "two"}, "`state_scale` must be"),
        ({"trainable": 3}, "`trainable` must be"),
        ({"state_names": ["a"]}, r"`state_names` must be .* one for each of 2; got \('a',\)"),
        ({"state_names": ["a", "a"]}, "`state_names` must be a list of different texts"),
    ],
)
def test_says_what_is_wrong_with_an_option(options, message):
    with pytest.raises(ValueError, match=message):
        transcribe(**options)


def jumping(*jumps, **options):
    data = jc.Trajectory(TS, DATA.ys, jumps=jumps, **options)
    return transcribe(data=data)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: jc.Jump(1.0), "`add` or `to` must be given, one of the two; got None and None"),
        (lambda: jc.Jump(1.0, add=[1.0], to=decay), "`add` or `to` must be given, one of the two"),
        (lambda: jc.Jump(np.inf, add=[1.0]), "`t` must be a finite number; got inf"),
        (lambda: jc.Jump(1.0, add=[[1.0, jc.Unknown(2.0)]]), "`add` must be amounts of shape"),
        (lambda: jc.Jump(1.0, add=[1.0, jc.Unknown([2.0])]), "`add` must be .*as one amount"),
        (lambda: jc.Jump(1.0, to=3), r"`to` must be callable as fn\(y, args\) or .*; got 3"),
        (lambda: jc.doses([0.0, 1.0], [1.0], num_states=2), "`amounts` must be .* 2 times; got 1"),
        (lambda: jc.doses(0.0, 1.0, state=2, num_states=2), "`state` must be below .* = 2; got 2"),
        (lambda: jumping(3), "`jumps` must be jc.Jump objects in a list; got"),
        (lambda: jumping(jc.Jump(-1.0, add=[1.0, 0.0]), t0=0.0), "`jumps` must not be before `t0`"),
        (lambda: jumping(jc.Jump(-1.0, add=[1.0, 0.0])), "`grid` must begin at or .* first jump"),
        (lambda: jumping(jc.Jump(4.0, add=[jc.Unknown(1.0), 0])), "`grid` must reach jumps whose"),
        (
            lambda: jumping(jc.Jump(1.0, add=[1.0])),
            r"`add` must have shape \(state,\) = \(2,\); got \(1,\) in the jump of trajectory 0",
        ),
        (lambda: jumping(jc.Jump(1.0, to=lambda y: y)), r"`to`.*fn\(y, args\).*other arguments"),
        (lambda: jumping(jc.Jump(1.0, to=lambda y, args: y[0])), r"`to` must return .*\(2,\)"),
        (lambda: jumping(jc.Jump(1.0, to=lambda y, args: None)), "`to` must return .*got None"),
        (lambda: jumping(jc.Jump(1.0, to=lambda y, args: y * args)), "`to`.*uses `args`, of which"),
        (lambda: jumping(jc.Jump(1.0, to=lambda y, args: -y if y[0] else y)), "`to`.*jnp.where"),
        (
            lambda: jc.transcribe(decay, DATA, jc.Grid([0.0, 1.0, 1.0, 3.0], jc.Radau(2))),
            "`grid` must hold a boundary twice only where its trajectory jumps",
        ),
        (
            lambda: jc.transcribe(
                lambda t, y, args: -y,
                jc.Trajectory(TS, DATA.ys, jumps=jc.Jump(0.0, add=[1.0, 1.0])),
                GRID,
                collocate_start=True,
            ),
            "`collocate_start` must be False where a trajectory begins with a jump",
        ),
        (
            lambda: jc.simulate(
                lambda t, y, args: -y, TS, [1.0], jumps=jc.Jump(1.0, add=jc.Unknown(1.0))
            ),
            "`jumps` must have amounts that are known",
        ),
        (
            lambda: jc.simulate(
                lambda t, y, args: -y, TS, [1.0], jumps=jc.Jump(1.0, add=[1.0, 2.0])
            ),
            r"`jumps` must have amounts of the shape of `y0`, \(1,\); got \(2,\)",
        ),
        (
            lambda: jc.resample(
                jc.Trajectory(TS, DATA.ys, jumps=jc.Jump(1.0, add=[1.0, 2.0])), TS[1:]
            ),
            "`trajectory` must have no jumps",
        ),
        (
            lambda: jc.windows(
                jc.Trajectory(TS, DATA.ys, jumps=jc.Jump(1.0, add=jc.Unknown([1.0, 2.0]))), 3
            ),
            "`data` must have no jc.Unknown",
        ),
    ],
)
def test_says_what_is_wrong_with_a_jump(act, message):
    with pytest.raises(ValueError, match=message):
        act()


def test_a_class_is_no_model():
    with pytest.raises(
        ValueError, match=r"`model` must be callable as f\(t, y, args\); got <class"
    ):
        jc.transcribe(Law, DATA, GRID)


@pytest.mark.parametrize(
    ("act", "names"),
    [
        (lambda: jax.jit(lambda v: jc.Trajectory(TS, v))(DATA.ys), ("`ys`", "jax.jit")),
        (lambda: jax.vmap(lambda v: jc.Trajectory(TS, v))(DATA.ys[None]), ("`ys`", "jax.vmap")),
        (lambda: jax.grad(lambda t: jc.Trajectory(t, TS))(TS), ("`ts`", "jax.grad")),
        (
            lambda: eqx.filter_jit(lambda m: jc.fit(m, DATA))(Law(jnp.asarray(1.0), decay)),
            ("jax.jit",),
        ),
        (lambda: jax.jit(lambda x: jc.fit(decay, DATA))(1.0), ("`data`", "jax.jit")),
        (
            lambda: eqx.filter_jit(lambda m: jc.transcribe(m, DATA, GRID))(
                Law(jnp.asarray(1.0), decay)
            ),
            ("jax.jit",),
        ),
        (
            lambda: eqx.filter_vmap(lambda m: jc.transcribe(m, DATA, GRID))(
                Law(jnp.ones(3), decay)
            ),
            ("`model`", "jax.vmap"),
        ),
        (
            lambda: eqx.filter_jit(lambda d: jc.transcribe(decay, d, GRID))(DATA),
            ("jax.jit",),
        ),
        (
            lambda: eqx.filter_jit(lambda n: jc.solve(n, jc.Ipopt(), np.zeros(3)))(transcribe()),
            ("`nlp`", "jax.jit"),
        ),
    ],
)
def test_says_what_cannot_be_traced(act, names):
    with pytest.raises(ValueError, match="being traced") as caught:
        act()
    assert all(name in str(caught.value) for name in names)


def _named(**options):
    """Where a problem with a state of 0 at the start of the second trajectory is not finite."""
    ts = np.array([0.0, 1.0, 2.0])
    options = {"model": lambda t, y, args: -y, "l2": 0.0, "jumps": ()} | options
    jumps = options.pop("jumps")
    data = [jc.Trajectory(ts, ys[:, None], jumps=jumps) for ys in (1 + ts, ts)]
    model, grid = options.pop("model"), jc.Grid.uniform(0.0, 2.0, 2, jc.Radau(1))
    nlp = jc.transcribe(model, data, grid, **options)
    z = nlp.pack(model, [start + nlp.grids[0].times[:, None] for start in (1, 0)])
    return nlp, z


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"model": lambda t, y, args: jnp.log(y - 1)},
            "`model` is not finite in trajectory 1 at t = 1, where y = [1] and its value is [-inf]",
        ),
        (
            {"model": lambda t, y, args: jnp.sqrt(y - 1)},
            "The derivative of `model` is not finite in trajectory 1 at t = 1",
        ),
        (
            {"model": lambda t, y, args: jnp.abs(y - 1) ** 1.5},
            "The second derivative of `model` is not finite in trajectory 1 at t = 1",
        ),
        (
            {"observe": lambda t, y, args: jnp.log(y)},
            "`observe` is not finite in trajectory 1 at t = 0, where y = [0]",
        ),
        (
            {"loss": lambda r, w: jnp.sqrt(jnp.sum(r**2))},
            "The derivative of `loss` is not finite in trajectory 0 at t = 0",
        ),
        (
            {"constraints": jc.Constraint(lambda t, y, args: 1 / y, lower=0.0, at="start")},
            "`constraints` is not finite in trajectory 1 at t = 0",
        ),
        (
            {"constraints": jc.Constraint(lambda t, y, args: 1 / y, lower=0.0, trajectories=[0])},
            "",
        ),
        (
            {"jumps": jc.Jump(1.0, to=lambda y, args: jnp.log(y - 1))},
            "`to` is not finite in trajectory 1 at t = 1, where y = [1] and its value is [-inf]",
        ),
        ({}, ""),
    ],
)
def test_finds_what_is_not_finite(options, message):
    found = where_not_finite(*_named(**options))
    assert found.startswith(message)
    assert bool(found) == bool(message)


@pytest.mark.parametrize(
    "solver",
    [jc.Ipopt(max_steps=5), jc.InteriorPoint(max_steps=5)],
    ids=lambda item: repr(item)[:6],
)
def test_a_solve_says_what_is_not_finite(solver):
    nlp, z = _named(model=Law(jnp.asarray(1.0), lambda k, t, y, args: k * jnp.log(y - 1)))
    sol = jc.solve(nlp, solver, z, throw=False)
    assert sol.result is jc.RESULTS.not_finite
    assert sol.stats["not_finite"].startswith("`model` is not finite in trajectory 1 at t = 1")
    with pytest.raises(jc.SolveError, match="`model` is not finite in trajectory 1 at t = 1"):
        jc.solve(nlp, solver, z)
    with pytest.raises(jc.SolveError, match="`model` is not finite in trajectory 1 at t = 1"):
        jc.solve_batch(nlp, solver, [z])


def test_messages_are_sentences():
    """Every message that a wrong call of the constructors gives names an argument and ends."""
    with pytest.raises(ValueError, match=re.compile(r"^`\w+` .*\.$", re.DOTALL)):
        jc.Trajectory(TS, TS)


@pytest.fixture(scope="module")
def stopped():
    """A solve that was stopped on its way, whose result is no optimum."""
    nlp = transcribe(l2=0.0)
    return jc.solve(nlp, jc.InteriorPoint(max_steps=1), jc.guess(nlp), throw=False)


@pytest.mark.parametrize(
    "ask",
    [
        lambda sol: jc.uncertainty(sol),
        lambda sol: jc.profile(sol, ".rate"),
        lambda sol: jc.bootstrap(sol, 2, key=jax.random.key(0)),
    ],
    ids=["uncertainty", "profile", "bootstrap"],
)
def test_what_is_no_optimum_says_nothing_of_the_data(stopped, ask):
    assert not stopped.result.ok
    with pytest.raises(ValueError, match="`sol` must be at an optimum; this one ended with"):
        ask(stopped)


def test_what_is_no_optimum_has_no_derivative(stopped):
    with pytest.warns(UserWarning, match="not converged, so that the optimum .* are NaN"):
        (found,) = jc.sensitivity(stopped, "ys")
    assert np.isnan(found).all()


@pytest.mark.parametrize(
    ("priors", "message"),
    [
        (jc.Prior(lambda m: m.speed, 1.0, 0.5), "`where`.*speed"),
        (jc.Prior(lambda m: m.rate, [1.0, 2.0], 0.5), r"`priors\[0\]\.mean`|`mean`"),
        (jc.Prior(lambda m: m.rate, 0.0, 0.5, scale="log"), "`weight_scale`|log"),
        (3, "`priors` must"),
    ],
)
def test_says_what_is_wrong_with_a_prior(priors, message):
    with pytest.raises(ValueError, match=message):
        transcribe(priors=priors, loss=jc.Gaussian(0.1))


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (jc.Gaussian(lambda t, y, args: y[:1] * jnp.ones(3)), r"`std`.*shape"),
        (jc.Gaussian([0.1, 0.2, 0.3]), r"`std`.*\(2,\)|`std`.*2"),
        (jc.Gaussian(lambda t, y: y), r"`std`.*f\(t, y, args\).*takes other arguments"),
        (jc.Gaussian(lambda t, y, args: args["s"]), "`std`.*uses `args`"),
        (jc.Gaussian(lambda model: model.noise), r"`std`.*f\(model\).*AttributeError"),
        (jc.Gaussian(0.1, scale="log"), "above zero|positive"),
    ],
)
def test_says_what_is_wrong_with_a_likelihood(loss, message):
    data = jc.Trajectory(TS, DATA.ys - 0.5)
    with pytest.raises(ValueError, match=message):
        transcribe(data=data, loss=loss)
