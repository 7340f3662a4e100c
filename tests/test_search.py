"""The choices of fit: starts that differ in what matters, penalties, grids that see the inputs."""

import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import Lorenz, Net, lorenz_data

import jaxcolloc as jc
from jaxcolloc._choose_grid import choose_grid, input_edges
from jaxcolloc._fit.forecasts import Forecasts
from jaxcolloc._fit.holdout import hold_out
from jaxcolloc._fit.penalties import penalties_of
from jaxcolloc._fit.starts import crowded
from jaxcolloc._guess import drawn_constants, start_head
from jaxcolloc._guess.projection import project
from jaxcolloc._ridge import net_leaves, net_weights


KEY = jax.random.key(0)


class Decay(eqx.Module):
    """y' = -rate y."""

    rate: jax.Array

    def __call__(self, t, y, args):
        return -self.rate * y


class Hybrid(eqx.Module):
    """A net, a matrix, a vector, a scalar and a rate."""

    net: eqx.nn.MLP
    matrix: jax.Array
    vector: jax.Array
    scalar: jax.Array
    rate: jax.Array

    def __call__(self, t, y, args):
        return self.net(y) + self.matrix @ y * self.rate + self.vector * self.scalar


def hybrid():
    net = eqx.nn.MLP(2, 2, 3, 1, jnp.tanh, key=KEY)
    return Hybrid(net, jnp.eye(2), jnp.ones(2), jnp.asarray(2.0), jnp.asarray(0.5))


TS = np.linspace(0.0, 4.0, 40)
NOISE = np.random.default_rng(0).normal(size=(40, 2))
DATA = jc.Trajectory(TS, np.exp(-TS)[:, None] + 0.01 * NOISE[:, :1])


def test_nets_are_penalised_and_constants_are_not():
    model = hybrid()
    data = jc.Trajectory(TS, NOISE)
    scale = jc.leafwise(model, None, (lambda m: m.rate, "log"))
    grid = jc.Grid.uniform(0.0, 4.0, 5, jc.Radau(3))
    nlp = jc.transcribe(model, data, grid, l2=jc.OnNets(2.0), weight_scale=scale)
    gradient = np.asarray(nlp.gradient(nlp.pack(model, [np.zeros((16, 2))])))
    w = nlp.layout.weights(np.asarray(nlp.pack(model, [np.zeros((16, 2))])))
    nets = net_weights(nlp.layout.model, model)
    # The layers' weights and biases, and the matrix.
    assert nets.sum() == 2 * 3 + 3 + 3 * 2 + 2 + 4
    np.testing.assert_allclose(gradient[: len(w)], np.where(nets, 4.0 * w, 0.0), atol=1e-12)
    again = nlp.with_l2(0.5)
    gradient = np.asarray(again.gradient(again.pack(model, [np.zeros((16, 2))])))
    np.testing.assert_allclose(gradient[: len(w)], w, atol=1e-12)
    whole = jc.transcribe(model, data, grid, l2=jc.leafwise(model, 2.0, (lambda m: m.rate, 0.0)))
    assert np.any(np.asarray(whole.gradient(whole.pack(model, [np.zeros((16, 2))])))[-2:] != 0)

    class Own(eqx.nn.Linear):
        pass

    assert all(net_leaves(Own(2, 1, key=KEY)))
    with pytest.raises(ValueError, match="`factor` must be a finite number"):
        jc.OnNets(-1.0)


def test_a_model_of_constants_needs_no_penalty():
    grid = jc.Grid.uniform(0.0, 4.0, 5, jc.Radau(3))
    default = penalties_of(None, (DATA,))
    assert default.for_model(jc.transcribe(Decay(jnp.asarray(1.0)), DATA, grid)).values == [0.0]
    kept = default.for_model(jc.transcribe(Net(1, 3), DATA, grid))
    assert [type(item) for item in kept.values] == [jc.OnNets] * 4
    # In the units of the loss: data of another magnitude have the same ladder.
    for scale in (1e-6, 1e6):
        data = jc.Trajectory(TS, scale * DATA.ys)
        other = penalties_of(None, (data,))
        assert other.values[0].factor == pytest.approx(1e-3)
    weaker = kept.beyond(weaker=True)
    assert weaker.factor == pytest.approx(0.1 * kept.values[-1].factor)
    assert penalties_of([1e-3, 1e-2], (DATA,)).values == [1e-2, 1e-3]
    assert penalties_of([1e-3, 1e-2], (DATA,)).beyond(weaker=True) is None


@pytest.mark.slow
@pytest.mark.parametrize(("time", "size"), [(1.0, 1e5), (1e-6, 1.0), (1e9, 1e-9), (3600.0, 1e12)])
def test_a_rate_is_found_in_any_units(time, size):
    begin = 1.7e9 if time == 3600.0 else 0.0
    data = jc.Trajectory(begin + time * TS, size * DATA.ys)
    sol = jc.fit(Decay(jnp.asarray(0.3 / time)), data, key=KEY, starts=2)
    assert sol.verification.verdict is jc.VERDICT.good
    assert float(sol.model.rate) * time == pytest.approx(1.0, rel=0.03)


@pytest.mark.slow
def test_a_net_in_far_units_is_told_what_to_do():
    ts = 1e-7 * TS
    data = jc.Trajectory(ts, np.stack([np.cos(4 * TS), np.sin(4 * TS)], axis=1))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        jc.fit(Net(2, 3), data, key=KEY, l2=1e-4, starts=1, refinements=0, continuation=False)
    assert any("jc.normalized" in str(item.message) for item in caught)


def test_constants_are_drawn_within_bounds_and_nets_left_alone():
    model = hybrid()
    scale = jc.leafwise(model, None, (lambda m: m.rate, "log"))
    bounds = jc.leafwise(
        model, None, (lambda m: m.scalar, (-3.0, 3.0)), (lambda m: m.rate, (0.2, None))
    )
    data = jc.Trajectory(TS, NOISE, jc.Unknown(3.0, bounds=(1.0, 5.0)))
    grid = jc.Grid.uniform(0.0, 4.0, 5, jc.Radau(3))
    nlp = jc.transcribe(model, data, grid, weight_scale=scale, weight_bounds=bounds)
    head = start_head(nlp)
    lower, upper = (nlp.head(side) for side in nlp.bounds)
    drawn = np.stack([drawn_constants(nlp, head, jax.random.key(k)) for k in range(40)])
    nets = np.append(net_weights(nlp.layout.model, model), False)
    assert np.all(drawn[:, nets] == head[nets])
    assert np.all((drawn >= lower) & (drawn <= upper))
    vector, scalar, rate, unknown = (drawn[:, at] for at in (-5, -3, -2, -1))
    assert np.ptp(np.log10(vector)) > 1
    assert scalar.min() < -1.5
    assert scalar.max() > 1.5
    # On the log scale, from two decades above its start down to its bound.
    assert rate.max() > np.log(5.0)
    assert np.any(rate == np.log(0.2))
    assert np.ptp(unknown) > 1


class Sensor(eqx.Module):
    """y' = -rate y, seen as gain * y + offset."""

    rate: jax.Array
    gain: jax.Array
    offset: jax.Array

    def __call__(self, t, y, args):
        return -self.rate * y

    def observe(self, t, y, args):
        return self.gain * y + self.offset


@pytest.mark.parametrize("scale", [None, "log"])
def test_gain_and_offset_follow_from_the_states(scale):
    """Variable projection: exact for exact states, within bounds, and only where it is linear."""
    y = np.exp(-0.5 * TS)[:, None]
    data = jc.Trajectory(TS, 350.0 * y + 40.0)
    grid = jc.Grid.uniform(0.0, 4.0, 10, jc.Radau(3))
    model = Sensor(jnp.asarray(0.5), jnp.asarray(1.0), jnp.asarray(0.0))
    chosen = jc.leafwise(model, None, (lambda m: m.gain, scale))
    options = {"observe": model.observe, "num_states": 1, "weight_scale": chosen, "l2": 0.0}
    nlp = jc.transcribe(model, data, grid, **options)
    states = [np.exp(-0.5 * grid.times)[:, None]]
    found = nlp.model_at(nlp.pack_head(project(nlp, start_head(nlp), states), states))
    assert float(found.gain) == pytest.approx(350.0, rel=1e-3)
    assert float(found.offset) == pytest.approx(40.0, rel=1e-3)
    assert float(found.rate) == 0.5
    bounds = jc.leafwise(model, None, (lambda m: m.gain, (0.1, 100.0)))
    nlp = jc.transcribe(model, data, grid, weight_bounds=bounds, **options)
    found = nlp.model_at(nlp.pack_head(project(nlp, start_head(nlp), states), states))
    assert float(found.gain) <= 100.0 * (1 + 1e-6)
    plain = jc.transcribe(model, data, grid, num_states=1)
    head = start_head(plain)
    assert np.array_equal(project(plain, head, states), head)


class Steps(eqx.Module):
    """A -> B -> C."""

    rates: jax.Array

    def __call__(self, t, y, args):
        first, second = self.rates[0] * y[0], self.rates[1] * y[1]
        return jnp.stack([-first, first - second, second])


class Epidemic(eqx.Module):
    """Susceptible and infected."""

    contact: jax.Array
    recovery: jax.Array

    def __call__(self, t, y, args):
        new = self.contact * y[0] * y[1]
        return jnp.stack([-new, new - self.recovery * y[1]])


def steps():
    ts = np.linspace(0.0, 12.0, 50)
    true = Steps(jnp.asarray([0.8, 0.3]))
    ys = np.asarray(jc.simulate(true, ts, [3.0, 0.0, 0.0]))[:, 2:]
    data = jc.Trajectory(ts, ys + 0.02 * np.random.default_rng(1).normal(size=ys.shape))
    start = Steps(jnp.asarray([0.02, 5.0]))
    return true, start, data, {"num_states": 3, "observe": lambda t, y, args: y[2:]}


def epidemic():
    ts = np.linspace(0.0, 60.0, 31)
    true = Epidemic(jnp.asarray(0.45), jnp.asarray(0.12))
    ys = np.asarray(jc.simulate(true, ts, [0.98, 0.02]))[:, 1:]
    data = jc.Trajectory(ts, ys + 0.003 * np.random.default_rng(2).normal(size=ys.shape))
    start = Epidemic(jnp.asarray(1.0), jnp.asarray(1.0))
    return true, start, data, {"num_states": 2, "observe": lambda t, y, args: y[1:]}


def sensor():
    true = Sensor(jnp.asarray(0.9), jnp.asarray(350.0), jnp.asarray(40.0))
    ys = 350.0 * np.exp(-0.9 * TS)[:, None] + 40.0
    data = jc.Trajectory(TS, ys + 3.0 * NOISE[:, :1], y0=[1.0])
    start = Sensor(jnp.asarray(0.05), jnp.asarray(1.0), jnp.asarray(0.0))
    scale = jc.leafwise(start, None, (lambda m: (m.rate, m.gain), "log"))
    return true, start, data, {
        "num_states": 1, "observe": start.observe, "weight_scale": scale,
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("problem", [steps, epidemic, sensor])
def test_starts_find_what_the_true_constants_give(problem):
    true, start, data, options = problem()
    options = {"weight_scale": "log"} | options
    reached = {}
    for name, model, more in (
        ("true", true, {"weights": "as_given", "starts": 1}), ("searched", start, {}),
    ):  # fmt: skip
        own = options
        if "observe" in options and getattr(options["observe"], "__self__", None) is start:
            own = options | {"observe": model.observe}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sol = jc.fit(model, data, key=KEY, **own, **more)
        reached[name] = sol.objective
    assert reached["searched"] < 1.3 * reached["true"]
    assert len(sol.stats["starts"]) <= 12


class Robertson(eqx.Module):
    """Three reactions whose rates are nine decades apart."""

    rates: jax.Array

    def __call__(self, t, y, args):
        a, b, c = y
        first, second, third = self.rates[0] * a, self.rates[1] * b * b, self.rates[2] * b * c
        return jnp.stack([third - first, first - second - third, second])


@pytest.mark.slow
def test_stiff_kinetics_from_rates_two_decades_off():
    import diffrax

    rates = np.array([0.04, 3e7, 1e4])
    ts = np.append(0.0, np.logspace(-5, 5, 60))
    with jax.enable_x64(True):
        true = Robertson(jnp.asarray(rates))
        ys = np.asarray(jc.simulate(true, ts, [1.0, 0.0, 0.0], solver=diffrax.Kvaerno5()))
    noise = 0.01 * ys.std(axis=0) * np.random.default_rng(0).normal(size=ys.shape)
    data = jc.Trajectory(ts, ys + noise, y0=[1.0, 0.0, 0.0])
    start = Robertson(jnp.asarray(rates * [100.0, 0.01, 100.0]))
    sol = jc.fit(start, data, key=KEY, weight_scale="log")
    assert sol.verification.verdict is jc.VERDICT.good
    np.testing.assert_allclose(np.asarray(sol.model.rates), rates, rtol=0.05)


def test_the_grid_sees_jumps_and_turns_of_inputs():
    ts = np.linspace(0.0, 10.0, 101)
    flat = jc.Trajectory(ts, np.sin(0.1 * ts)[:, None])
    scheme = jc.Radau(3)
    plain = choose_grid(flat, scheme)
    rough = np.repeat(np.random.default_rng(0).normal(size=50), 2)
    for kind in ("hold", "linear"):
        u = jc.Input(np.arange(100) * 0.1, rough, kind=kind)
        edges = choose_grid(jc.Trajectory(ts, flat.ys, u), scheme).boundaries
        marked = input_edges(u)
        assert np.all(np.isin(marked[(marked > 0) & (marked < 10)], edges))
        assert len(edges) > len(plain.boundaries)
    # A smooth input of many samples, and one of repeated values, ask for no boundary at each.
    smooth = jc.Input(np.linspace(0, 10, 2001), np.sin(np.linspace(0, 10, 2001)))
    assert len(input_edges(smooth)) == 0
    fine = choose_grid(jc.Trajectory(ts, flat.ys, smooth), scheme)
    assert fine.num_intervals < 2 * plain.num_intervals + 10
    constant = jc.Input(np.arange(0, 10, 0.1), np.ones(100), kind="hold")
    assert len(input_edges(constant)) == 0
    fast = jc.Input(np.linspace(0, 10, 2001), np.sin(30 * np.linspace(0, 10, 2001)))
    dense = choose_grid(jc.Trajectory(ts, flat.ys, fast), scheme)
    assert dense.num_intervals > 1.5 * plain.num_intervals


def test_boundaries_follow_samples_spaced_by_the_logarithm():
    ts = np.append(0.0, np.logspace(-5, 5, 60))
    data = jc.Trajectory(ts, np.exp(-ts)[:, None])
    edges = choose_grid(data, jc.Radau(3)).boundaries
    assert np.sum(edges < 1.0) > 10
    assert edges[-1] == 1e5


def test_held_out_data_are_predicted_over_a_horizon():
    """Chaos is predicted over a short horizon by the true model, not over all of the time."""

    ts = np.linspace(0.0, 12.0, 481)
    model = Lorenz(jnp.asarray(10.0))
    data = lorenz_data(ts, noise=0.2)
    grid = jc.Grid.uniform(0.0, 12.0, 240, jc.Radau(3))
    nlp = jc.transcribe(model, data, grid, l2=0.0)
    whole, ahead = (hold_out(nlp, 0.6, horizon) for horizon in (None, 0.5))
    solver = jc.Ipopt(max_steps=60)
    sol = jc.solve(whole.train, solver, jc.guess(whole.train, weights="as_given"), throw=False)
    assert isinstance(ahead.forecasts, Forecasts)
    assert len(ahead.forecasts.members) > 8
    assert ahead.score(sol, solver).error < 0.3 * whole.score(sol, solver).error
    # Where the horizon is longer than what is held out, nothing is left to be predicted.
    with pytest.warns(UserWarning, match="`horizon` is too long"):
        assert Forecasts.of(nlp, [(0, 10.0)], 5.0) is None


@pytest.mark.slow
def test_candidates_that_predict_nothing_are_told():
    """A level that changes in what is held out, for no reason that a model could know."""
    data = jc.Trajectory(TS, np.where(TS < 3.3, 0.0, 20.0)[:, None] + NOISE[:, :1])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        jc.fit(
            Decay(jnp.asarray(1.0)), data, key=KEY, l2=[1e-8, 1e-6], starts=1, refinements=0,
            continuation=False, weight_bounds=(0.0, 5.0),
        )  # fmt: skip
    assert any("better than their mean" in str(item.message) for item in caught)


def test_boundaries_that_differ_by_rounding_are_one():
    """Input samples beside the data's, and two inputs, equal up to the last digit."""
    ts = np.linspace(0.1, 0.1 * np.arange(8)[7], 28)
    held = jc.Input(np.arange(8) / 10, np.arange(8) % 2.0, kind="hold")
    both = [jc.Input(times, rough, kind="hold") for times, rough in (
        (0.1 * np.arange(10), np.arange(10) % 2.0), (np.arange(10) / 10, np.arange(10) % 3.0),
    )]  # fmt: skip
    for args in (held, both):
        edges = choose_grid(jc.Trajectory(ts, np.exp(-ts)[:, None], args), jc.Radau(3)).boundaries
        assert np.diff(edges).min() > 1e-3


def test_a_path_with_a_tree_of_values_is_an_input():
    import diffrax

    ts = np.linspace(0.0, 4.0, 31)
    values = {"a": np.sin(9 * ts), "b": np.repeat([0.0, 1.0], [15, 16])}
    path = diffrax.LinearInterpolation(ts, values)
    edges = choose_grid(jc.Trajectory(TS, np.exp(-TS)[:, None], path), jc.Radau(3)).boundaries
    assert np.all(np.isin(ts[14:16], edges))


def test_rollouts_of_states_of_far_sizes_end():
    """A start of zero, or of a trace beside a large one, is no reason to call growth infinite."""
    from jaxcolloc._rollout import END, rollout

    ts = np.linspace(0.0, 20.0, 5)

    def turning(t, y, args):
        return jnp.stack([-y[0], y[0]])

    for start in ([1e6, 0.0], [1.0, 1e-30], [1.0, 1e-9]):
        assert rollout(turning, ts, np.array(start), None).end is END.complete
    assert rollout(lambda t, y, args: 1e10 - y, ts, np.zeros(1), None).end is END.complete


def test_samples_of_an_input_in_the_model_are_no_weights():
    class Driven(eqx.Module):
        rate: jax.Array
        feed: jc.Input

        def __call__(self, t, y, args):
            return self.feed(t) - self.rate * y

    model = Driven(jnp.asarray(1.0), jc.Input([0.0, 1.0, 2.0], [0.0, 1.0, 0.0]))
    nlp = jc.transcribe(model, DATA, jc.Grid.uniform(0.0, 4.0, 5, jc.Radau(3)))
    assert nlp.num_weights == 1


def test_a_choice_that_data_cannot_make_is_told():
    few = jc.Trajectory([0.0, 1.0, 2.0], np.exp(-np.arange(3.0))[:, None])
    with pytest.warns(UserWarning, match="Nothing can be held out, since the data are too few"):
        jc.fit(
            [Decay(jnp.asarray(0.5)), Decay(jnp.asarray(2.0))], few, l2=0.0, starts=1,
            refinements=0, grid=jc.Grid.uniform(0.0, 2.0, 4, jc.Radau(3)),
        )  # fmt: skip


def test_a_crowd_of_starts_is_enough():
    def log(*objectives):
        return [{"objective": item} for item in objectives]

    assert not crowded(log(1.0, 1.001, 1.002))
    assert crowded(log(1.0, 1.001, 0.5, 1.002, 1.003))
    assert not crowded(log(1.0, 1.1, 1.2, 1.3, 1.4))
    assert not crowded(log(1.0, np.inf, np.inf, np.inf, np.inf))
    assert crowded(log(-1.0, -1.001, -1.002, -1.003))
