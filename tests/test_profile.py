"""Profiles of one parameter, against the quadratic interval and a search by brute force."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import Affine, Law
from scipy.stats import chi2, f

import jaxcolloc as jc


GRID = jc.Grid.uniform(0.0, 2.0, 4, jc.Radau(3))
TS = np.linspace(0.0, 2.0, 9)


def saturating(p, y):
    return -p["most"] * y / (p["half"] + y)


def decay(p, y):
    return -p["rate"] * y


def pair(p, y):
    return -(p["a"] + p["b"]) * y


def solved(model, data, grid=GRID, solver=None, **options):
    nlp = jc.transcribe(model, data, grid, **({"l2": 0.0} | options))
    guess = jc.guess(nlp, key=jax.random.key(0), weights="as_given")
    return jc.solve(nlp, solver or jc.InteriorPoint(tol=1e-9), guess)


def affine(solver=None, **options):
    clean = np.stack([1 + 0.5 * TS, 0.2 + 0.3 * TS**2 / 2], axis=1)
    ys = clean + 0.1 * np.random.default_rng(0).normal(size=clean.shape)
    data = jc.Trajectory(TS, ys, 1.0)
    return solved(Affine(jnp.array([0.4, 0.4])), data, solver=solver, **options)


def decaying(model, noise, stop=4.0, **options):
    ts = np.linspace(0.0, stop, 20)
    ys = np.exp(-0.7 * ts)[:, None] + noise * np.random.default_rng(1).normal(size=(20, 1))
    grid = jc.Grid.uniform(0.0, stop, 6, jc.Radau(3))
    return solved(model, jc.Trajectory(ts, ys), grid, **options)


@pytest.mark.parametrize("solver", [jc.InteriorPoint(tol=1e-9), jc.Ipopt(tol=1e-9)])
def test_a_linear_problems_profile_is_the_quadratic_interval(solver):
    sol = affine(solver)
    u = jc.uncertainty(sol)
    for where, component in ((lambda m: m.w[1], 1), ("y0[0][1]", None)):
        p = jc.profile(sol, where, level=0.9)
        lower, upper = u.interval(where if component is None else lambda m: m.w[1], level=0.9)
        half = float(upper - lower) / 2
        np.testing.assert_allclose([p.lower, p.upper], [lower, upper], atol=1e-4 * half)
        assert p.shape is jc.SHAPE.bounded
        assert p.num_solves <= 6
        assert p.num_failed == 0
    freedom = u.noise.freedom
    assert p.threshold == pytest.approx(f.ppf(0.9, 1, freedom))
    # A parabola, whose minimum is the estimate.
    scaled = (p.values - p.value) / half
    np.testing.assert_allclose(p.deviances, p.threshold * scaled**2, atol=1e-4)


def saturated(scale):
    """Saturation whose half-way constant is known badly."""
    truth, start = {"most": 1.0, "half": 0.8}, {"most": 0.9, "half": 0.6}
    return saturating, truth, start, "half", 0.03, {"weight_scale": scale}


def of_some_order():
    """A reaction of unknown order, with a likelihood of known noise."""

    def law(p, y):
        return -p["rate"] * y ** p["order"]

    truth, start = {"rate": 0.5, "order": 1.6}, {"rate": 0.6, "order": 1.2}
    return law, truth, start, "order", 0.05, {"loss": jc.Gaussian(0.05)}


def with_a_prior():
    """Growth to a limit that is hardly reached, of which something is known before."""

    def law(p, y):
        return p["rate"] * y * (1 - y / p["limit"])

    truth, start = {"rate": 0.5, "limit": 9.0}, {"rate": 0.4, "limit": 6.0}
    prior = jc.Prior(lambda m: m.p["limit"], 8.0, 4.0)
    return law, truth, start, "limit", 0.3, {"loss": jc.Gaussian(0.3), "priors": [prior]}


@pytest.mark.parametrize(
    "problem",
    [saturated("linear"), saturated("log"), of_some_order(), with_a_prior()],
    ids=["saturation", "saturation on a log scale", "order", "limit with a prior"],
)
def test_a_nonlinear_profile_agrees_with_brute_force(problem):
    """No interval is symmetric, as the quadratic ones are."""
    law, truth, start, name, noise, options = problem
    ts = np.linspace(0.0, 4.0, 20)
    clean = np.asarray(jc.simulate(Law(law, **truth), ts, [2.0]))
    data = jc.Trajectory(ts, clean + noise * np.random.default_rng(2).normal(size=clean.shape))
    grid = jc.Grid.uniform(0.0, 4.0, 6, jc.Radau(3))
    sol = solved(Law(law, **start), data, grid, **options)
    p = jc.profile(sol, lambda m: m.p[name])
    assert p.shape is jc.SHAPE.bounded
    assert p.num_solves <= 12
    expected = by_brute_force(sol, p, name, options)
    np.testing.assert_allclose([p.lower, p.upper], expected, rtol=1e-2)
    assert (p.upper - p.value) > 1.02 * (p.value - p.lower)


def by_brute_force(sol, p, name, options):
    """Ends of the interval by cold solves with the constant untrained, on a fine grid."""
    sigma = jc.uncertainty(sol).noise.sigma
    unit = 1 / 2 if sigma is None else sigma**2
    data, start = sol.nlp.trajectories[0], sol.nlp.model
    trained = {other: other != name for other in start.p}

    def deviance(value):
        model = eqx.tree_at(lambda m: m.p[name], start, jnp.asarray(value))
        mask = eqx.tree_at(lambda m: m.p, model, trained)
        # What is known of the constant is a number here.
        own = {key: item for key, item in options.items() if key != "priors"}
        other = solved(model, data, sol.nlp.grids[0], trainable=mask, **own)
        assert other.result.ok
        return len(data.ts) * (other.objective - objective) / unit + known(value) - known(p.value)

    def known(value):
        priors = options.get("priors", ())
        return sum(float(((value - item.mean) / item.std) ** 2) for item in priors)

    objective = sol.objective - unit * known(p.value) / len(data.ts)
    half = (p.upper - p.lower) / 2
    ends = []
    for side, end in ((-1, p.lower), (1, p.upper)):
        grid = end + side * half * np.linspace(-0.1, 0.1, 5)
        roots = np.sqrt([deviance(value) for value in grid])
        assert np.all(np.diff(roots) > 0)
        ends.append(np.interp(np.sqrt(p.threshold), roots, grid))
    return ends


def test_a_likelihood_has_the_threshold_of_chi_square():
    sol = decaying(Law(decay, rate=0.5), 0.05, loss=jc.Gaussian(0.05))
    p = jc.profile(sol, ".p['rate']")
    assert p.threshold == pytest.approx(chi2.ppf(0.95, 1))
    lower, upper = jc.uncertainty(sol).interval(".p['rate']")
    np.testing.assert_allclose([p.lower, p.upper], [lower, upper], rtol=0.05)
    assert p.lower < p.value < p.upper


def test_what_the_data_do_not_see_is_flat():
    sol = decaying(Law(pair, a=0.3, b=0.2), 0.02)
    p = jc.profile(sol, lambda m: m.p["a"])
    assert p.shape is jc.SHAPE.flat
    assert (p.lower, p.upper) == (-np.inf, np.inf)
    assert p.deviances.max() < 0.01 * p.threshold
    assert "flat" in str(p)


def test_a_bound_within_the_interval_makes_it_one_sided():
    model = Law(decay, rate=0.5)
    free = jc.profile(decaying(model, 0.3), lambda m: m.p["rate"])
    assert free.shape is jc.SHAPE.bounded
    least = 0.5 * (free.lower + free.value)
    sol = decaying(model, 0.3, weight_bounds=bounds(model, least))
    p = jc.profile(sol, lambda m: m.p["rate"])
    assert p.shape is jc.SHAPE.one_sided
    assert p.lower == pytest.approx(least)
    assert p.upper == pytest.approx(free.upper, rel=1e-3)


def test_an_estimate_at_its_bound_is_profiled_off_it():
    model = Law(decay, rate=2.0)
    free = jc.profile(decaying(model, 0.1), lambda m: m.p["rate"])
    least = 0.5 * (free.value + free.upper)
    p = jc.profile(decaying(model, 0.1, weight_bounds=bounds(model, least)), lambda m: m.p["rate"])
    assert p.shape is jc.SHAPE.one_sided
    assert p.lower == pytest.approx(least, rel=1e-5)
    assert p.value == pytest.approx(least, rel=1e-5)
    assert least < p.upper < np.inf
    assert p.deviances[-1] > 0


def test_saturation_that_is_not_seen_is_one_sided():
    """Where half-way is far above all states only the ratio most / half is known."""
    sol = decaying(Law(saturating, most=10.0, half=14.0), 0.02, weight_scale="log")
    p = jc.profile(sol, lambda m: m.p["half"])
    assert p.shape is jc.SHAPE.one_sided
    assert p.upper == np.inf
    assert 0 < p.lower < p.value


def test_a_lower_optimum_on_the_way_is_told():
    """y' = (w - 0.2)^2: two values of w fit equally well, and the ridge prefers the smaller one."""
    ts = np.linspace(0.0, 2.0, 12)
    ys = 0.4 * ts[:, None] + 0.6 * np.random.default_rng(0).normal(size=(12, 1))

    def field(p, y):
        return (p["w"] - 0.2) ** 2 * jnp.ones_like(y)

    sol = solved(Law(field, w=0.9), jc.Trajectory(ts, ys), l2=0.05)
    assert float(sol.model.p["w"]) > 0.2
    p = jc.profile(sol, lambda m: m.p["w"])
    assert p.shape is jc.SHAPE.several_optima
    assert np.isnan([p.lower, p.upper]).all()
    again = jc.solve(sol.nlp, sol.solver, p.better)
    assert again.objective <= p.better.objective < sol.objective
    assert float(again.model.p["w"]) < 0.2
    assert jc.profile(again, lambda m: m.p["w"]).shape is not jc.SHAPE.several_optima


def test_an_unknown_and_a_net_beside_it():
    """With as many solves as the interval needs, all else is at its optimum."""

    def field(t, y, args, net):
        return -args["rate"] * y + 0.1 * net(y)

    class Hybrid(eqx.Module):
        net: eqx.nn.MLP

        def __call__(self, t, y, args):
            return field(t, y, args, self.net)

    ts = np.linspace(0.0, 4.0, 20)
    rng = np.random.default_rng(3)
    data = [
        jc.Trajectory(ts, y0 * np.exp(-0.7 * ts)[:, None] + 0.02 * rng.normal(size=(20, 1)),
                      {"rate": jc.Unknown(0.5, scale="log", l2=1e-4)})
        for y0 in (1.0, 2.0)
    ]  # fmt: skip
    grid = jc.Grid.uniform(0.0, 4.0, 6, jc.Radau(3))
    model = Hybrid(eqx.nn.MLP(1, 1, 3, 1, jnp.tanh, key=jax.random.key(0)))
    sol = solved(model, data, grid, l2=1e-3)
    p = jc.profile(sol, lambda args: args["rate"], trajectory=1)
    assert p.shape is jc.SHAPE.bounded
    assert 0 < p.lower < p.value < p.upper
    assert p.name == "args[1]['rate']"
    assert np.all(p.deviances >= -1e-6)


def bounds(model, least):
    return eqx.tree_at(lambda m: m.p, model, {"rate": (least, None)})


def test_bad_input_is_told():
    sol = affine()
    with pytest.raises(ValueError, match="must select one number; got 2"):
        jc.profile(sol, lambda m: m.w)
    with pytest.raises(ValueError, match="`level`"):
        jc.profile(sol, lambda m: m.w[0], level=95)
    stopped = jc.solve(sol.nlp, jc.InteriorPoint(max_steps=0), jc.guess(sol.nlp), throw=False)
    with pytest.raises(ValueError, match="must be at an optimum"):
        jc.profile(stopped, lambda m: m.w[0])
    known = jc.Trajectory(TS, sol.nlp.trajectories[0].ys, 1.0, y0=[1.0, np.nan])
    with pytest.raises(ValueError, match="is fixed"):
        jc.profile(solved(Affine(jnp.array([0.4, 0.4])), known), "y0[0][0]")
    few = jc.Trajectory(TS[:2], sol.nlp.trajectories[0].ys[:2], 1.0)
    with pytest.raises(ValueError, match="residuals to estimate the noise"):
        jc.profile(solved(Affine(jnp.array([0.4, 0.4])), few), lambda m: m.w[0])


def test_variables_are_held_at_values_or_bounds():
    sol = affine(weight_bounds=(0.0, 1.0))
    nlp = sol.nlp.with_held(np.array([0, 1]), np.array([0.3, 7.0]))
    held = jc.solve(nlp, sol.solver, nlp.inside(sol.z))
    np.testing.assert_array_equal(held.z[:2], [0.3, 1.0])
    assert held.objective > sol.objective


def test_a_plot_shows_the_curve():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    p = jc.profile(affine(), lambda m: m.w[0])
    (axis,) = p.plot().axes
    curve = axis.get_lines()[0].get_xydata()
    nearest = np.abs(curve[:, 0, None] - p.values).argmin(axis=0)
    np.testing.assert_allclose(curve[nearest, 1], p.deviances, atol=0.1)
    plt.close("all")
