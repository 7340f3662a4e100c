"""Jumps: grids, equations and derivatives, paths, known answers, rollouts."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import SCHEMES, dense

import jaxcolloc as jc
from jaxcolloc._fit.holdout import hold_out
from jaxcolloc._grid import as_grids
from jaxcolloc._jumps import changes
from jaxcolloc._precision import x64
from jaxcolloc._rollout import rollout


RADAU = jc.Radau(3)


class Decay(eqx.Module):
    """y' = -rate y; a jump leaves a share of it that is a weight."""

    rate: jax.Array
    share: jax.Array

    def __init__(self, rate=0.5, share=0.4):
        self.rate, self.share = jnp.asarray(rate), jnp.asarray(share)

    def __call__(self, t, y, args):
        return -self.rate * y

    def diluted(self, y, args):
        return self.share * y


class Kinetics(eqx.Module):
    """A field and a jump that use weights, `args`, and an unknown of the experiment."""

    net: eqx.nn.MLP
    gain: jax.Array

    def __init__(self):
        self.net = eqx.nn.MLP(3, 2, 3, 1, jnp.tanh, key=jax.random.key(0))
        self.gain = jnp.asarray([0.3, 0.7])

    def __call__(self, t, y, args):
        return self.net(jnp.append(y, args["level"])) + self.gain * y[::-1] ** 2

    def mixed(self, y, args):
        return self.gain * y[::-1] * jnp.sin(y) + args["level"]


def _piecewise(times, jumps, start, slope):
    """The solution of y' = slope with amounts added at jumps, before them at their time."""
    y = start + slope * (times[:, None] - times[0])
    for t, amounts in jumps:
        y = y + np.where(times[:, None] > t, amounts, 0.0)
    return y


# --- Grids and paths ---


def test_a_grid_gets_an_interval_without_width_at_each_jump():
    ts = np.linspace(0.0, 4.0, 9)
    jumps = [jc.Jump(t, add=[1.0]) for t in (3.0, 0.0, 1.3, 1.3)]
    data = jc.Trajectory(ts, np.ones((9, 1)), jumps=jumps)
    (grid,) = as_grids(jc.Grid.uniform(0, 4, 4, RADAU), (data,))
    np.testing.assert_array_equal(grid.boundaries, [0, 0, 1, 1.3, 1.3, 1.3, 2, 3, 3, 4])
    np.testing.assert_array_equal(grid.jump_times, [0, 1.3, 1.3, 3])
    assert as_grids(grid, (data,))[0] is grid
    assert repr(grid) == "Grid(5 intervals and 4 jumps on [0, 4], Radau(3), 28 nodes)"


def test_a_boundary_at_a_jump_up_to_rounding_is_not_a_second_one():
    third = 1.0 / 3.0
    data = jc.Trajectory([0.0, 1.0], np.ones((2, 1)), jumps=jc.Jump(third, add=[1.0]))
    grid = jc.Grid([0.0, third + 1e-15, 1.0], RADAU)
    np.testing.assert_array_equal(as_grids(grid, (data,))[0].boundaries, [0, third, third, 1])


@pytest.mark.parametrize("scheme", SCHEMES, ids=repr)
def test_a_path_is_before_a_jump_at_its_time_and_after_it_a_moment_later(scheme):
    amounts = [(0.0, 2.0), (1.0, 5.0), (3.0, -1.0)]
    data = jc.Trajectory(
        [0.0, 3.0], np.ones((2, 1)), jumps=[jc.Jump(t, add=[a]) for t, a in amounts]
    )
    (grid,) = as_grids(jc.Grid.uniform(0, 3, 4, scheme), (data,))
    states = _piecewise(grid.sides, amounts, 1.0, 0.5)
    path = jc.Path(grid, states)
    early = np.array([0.0, 1.0, 3.0])
    after = [[3.0], [8.5], [8.5]]
    with jax.enable_x64(True):
        before = path.evaluate(early)
        np.testing.assert_allclose(before, [[1.0], [3.5], [9.5]], atol=1e-12)
        np.testing.assert_allclose(path.evaluate(early, left=False), after, atol=1e-12)
        np.testing.assert_allclose(path.evaluate(early[:2] + 1e-9), after[:2], atol=1e-8)
        np.testing.assert_allclose(path.derivative(early), 0.5, atol=1e-9)
    ts = np.sort(np.append(np.linspace(0, 3, 40), early))
    exact = _piecewise(ts, amounts, 1.0, 0.5)
    np.testing.assert_allclose(grid.interpolate(states, ts), exact, atol=1e-12)
    np.testing.assert_allclose(grid.slope(states, ts), 0.5, atol=1e-9)
    np.testing.assert_allclose(grid.after_jumps(states), after, atol=1e-12)


def test_times_in_single_precision_are_those_of_the_jump():
    t = 12.1
    assert float(np.float32(t)) > t
    data = jc.Trajectory(
        np.array([0.0, t, 20.0], np.float32), [[1.0], [1.0], [3.0]], jumps=jc.Jump(t, add=[2.0])
    )
    assert data.ts[1] == t
    (grid,) = as_grids(jc.Grid.uniform(0, 20, 2, RADAU), (data,))
    path = jc.Path(grid, _piecewise(grid.sides, [(t, 2.0)], 1.0, 0.0))
    assert path.evaluate(jnp.float32(t)).dtype == jnp.float32
    assert path.evaluate(jnp.float32(t)) == 1.0
    found = jc.simulate(
        lambda t, y, args: 0 * y, data.ts.astype(np.float32), [1.0], jumps=data.jumps
    )
    assert found.dtype == jnp.float32
    np.testing.assert_array_equal(found, [[1.0], [1.0], [3.0]])


# --- Equations ---


@pytest.mark.parametrize("scheme", SCHEMES, ids=repr)
def test_equations_hold_for_a_solution_and_for_no_other(scheme):
    amounts = [(0.0, 2.0), (1.0, 5.0), (1.0, -2.0), (3.0, -1.0)]
    jumps = [jc.Jump(t, add=[a]) for t, a in amounts]
    data = jc.Trajectory(np.linspace(0, 3, 7), np.ones((7, 1)), args=0.5, jumps=jumps)
    nlp = jc.transcribe(lambda t, y, args: args + 0 * y, data, jc.Grid.uniform(0, 3, 2, scheme))
    grid = nlp.grids[0]
    states = _piecewise(grid.sides, amounts, 1.0, 0.5)
    # Between two jumps at one time.
    middle = grid.interval_nodes[grid.is_jump][1, 1:]
    states[middle] = 8.5
    states[grid.interval_ends[grid.is_jump][1]] = 8.5
    z = nlp.pack(nlp.model, [states])
    np.testing.assert_allclose(nlp.constraints(z), 0.0, atol=1e-12)
    for node in grid.interval_nodes[grid.is_jump].ravel():
        other = states.copy()
        other[node] += 0.1
        assert np.abs(nlp.constraints(nlp.pack(nlp.model, [other]))).max() > 0.05


def test_the_residual_between_nodes_knows_no_jump():
    """A penalty on it is zero for a solution, whatever the jumps."""
    amounts = [(0.0, 2.0), (1.0, 5.0)]
    jumps = [jc.Jump(t, add=[a]) for t, a in amounts]
    data = jc.Trajectory([0.0, 2.0], np.ones((2, 1)), jumps=jumps)
    grid = jc.Grid.uniform(0, 2, 2, jc.GaussLegendre(2))
    objectives = []
    for penalty in (0.0, 1e6):
        nlp = jc.transcribe(lambda t, y, args: 0.5 + 0 * y, data, grid, residual_penalty=penalty)
        z = nlp.pack(nlp.model, [_piecewise(nlp.grids[0].sides, amounts, 1.0, 0.5)])
        objectives.append(nlp.objective(z))
    # The samples see 1 and 9.
    np.testing.assert_allclose(objectives, 32.0, rtol=1e-9)


def _rich(scheme):
    """Trajectories of different numbers and kinds of jumps."""
    model = Kinetics()
    rng = np.random.default_rng(1)
    unknown = jc.Unknown([0.3, 0.1])
    kinds = [
        [jc.Jump(0.0, add=[1.0, np.nan]), jc.Jump(0.7, to=model.mixed)],
        [],
        [
            jc.Jump(0.4, add=[jc.Unknown(2.0, scale="log"), 1.0]),
            jc.Jump(1.0, to=lambda y, args: y**2 * args["level"]),
            jc.Jump(1.0, add=[0.5, jc.Unknown(0.2)]),
            jc.Jump(1.6, to=model.mixed),
            jc.Jump(2.0, add=unknown),
        ],
        [jc.Jump(0.5, to=lambda y, args, model: model.gain * y), jc.Jump(1.1, to=model.mixed)],
    ]
    data = [
        jc.Trajectory(
            np.linspace(0, 2, 5), rng.normal(size=(5, 2)), {"level": jc.Unknown(0.4)}, jumps=jumps
        )
        for jumps in kinds
    ]
    return jc.transcribe(model, data, jc.Grid.uniform(0, 2, 2, scheme), state_scale=[1e-3, 1e3])


@pytest.mark.parametrize(
    "scheme",
    [
        jc.Radau(2),
        pytest.param(jc.GaussLegendre(2), marks=pytest.mark.slow),
        pytest.param(jc.Chebyshev(4), marks=pytest.mark.slow),
        pytest.param(jc.GaussLegendre(1), marks=pytest.mark.slow),
    ],
    ids=repr,
)
def test_derivatives_match_dense_ones(scheme):
    nlp = _rich(scheme)
    assert nlp.num_variables != nlp.num_constraints
    rng = np.random.default_rng(0)
    z = rng.normal(size=nlp.num_variables) / np.maximum(nlp.units, 1e-3)
    multipliers = rng.normal(size=nlp.num_constraints)
    core = nlp.compiled.core
    with x64():
        values, jacobian, hessian = jax.jit(
            lambda z: (
                core.constraints(z),
                jax.jacobian(core.constraints)(z),
                jax.hessian(lambda z: core.objective(z) + multipliers @ core.constraints(z))(z),
            )
        )(z)
    shape = (nlp.num_constraints, nlp.num_variables)
    np.testing.assert_allclose(nlp.constraints(z), values, rtol=1e-12, atol=1e-12)
    sparse = dense(nlp.jacobian_structure, nlp.jacobian(z), shape)
    np.testing.assert_allclose(sparse, jacobian, atol=1e-12 * np.abs(jacobian).max())
    lower = dense(nlp.hessian_structure, nlp.hessian(z, multipliers), (shape[1], shape[1]))
    np.testing.assert_allclose(lower, np.tril(hessian), atol=1e-12 * np.abs(hessian).max())


def test_unknown_amounts_depend_on_nothing_but_their_own_jump():
    nlp = _rich(jc.Radau(2))
    grid = nlp.grids[2]
    jacobian = dense(
        nlp.jacobian_structure,
        np.ones(len(nlp.jacobian_structure[0])),
        (nlp.num_constraints, nlp.num_variables),
    )
    # One after another: two single amounts, then the vector's two; `args` hold one before them.
    own = nlp.layout.unknowns(2)[1:]
    assert [int(jacobian[:, at].sum()) for at in own] == [1, 1, 1, 1]
    assert len(grid.jump_times) == 5


def test_data_without_jumps_have_the_same_problem_as_before():
    """The equations, row by row, do not depend on whether another trajectory jumps."""
    grid = jc.Grid.uniform(0, 2, 3, jc.GaussLegendre(2))
    plain = jc.Trajectory([0.0, 1.0, 2.0], np.ones((3, 1)))
    other = jc.Trajectory([0.0, 1.0, 2.0], np.ones((3, 1)), jumps=jc.Jump(1.0, add=[1.0]))
    alone = jc.transcribe(Decay(), plain, grid)
    both = jc.transcribe(Decay(), [plain, other], grid)
    states = np.random.default_rng(0).normal(size=(grid.num_nodes, 1))
    more = np.zeros((both.grids[1].num_nodes, 1))
    expected = alone.constraints(alone.pack(Decay(), [states]))
    found = both.constraints(both.pack(Decay(), [states, more]))
    np.testing.assert_allclose(found[: len(expected)], expected, rtol=1e-12, atol=1e-12)


def test_new_data_on_the_same_grid_keep_the_structure():
    data = jc.Trajectory(
        np.linspace(0, 4, 9), np.ones((9, 1)), y0=[1.0], jumps=jc.Jump(2.0, add=[1.0])
    )
    nlp = jc.transcribe(Decay(), data, jc.Grid.uniform(0, 4, 6, RADAU))
    more = eqx.tree_at(lambda item: item.jumps, data, (jc.Jump(2.0, add=[3.0]),))
    other = nlp.with_data(more)
    assert other.parts.jacobian_pattern is nlp.parts.jacobian_pattern
    fresh = jc.transcribe(Decay(), more, nlp.grids)
    z = np.random.default_rng(0).normal(size=nlp.num_variables)
    np.testing.assert_allclose(other.constraints(z), fresh.constraints(z))
    assert np.abs(np.asarray(other.constraints(z) - nlp.constraints(z))).max() > 1.0


# --- Known answers ---


@pytest.mark.parametrize(
    ("scheme", "solver"),
    [
        (RADAU, jc.InteriorPoint()),
        (jc.GaussLegendre(3), jc.InteriorPoint()),
        (jc.Lobatto(5), jc.InteriorPoint()),
        (jc.Chebyshev(5), jc.Ipopt()),
    ],
    ids=["Radau", "GaussLegendre", "Lobatto", "Chebyshev"],
)
def test_dilutions(scheme, solver):
    """y' = -rate y, diluted to a share at two times: both constants are found."""
    ts = np.linspace(0.0, 6.0, 25)
    ys = 2.0 * np.exp(-0.3 * ts) * 0.5 ** ((ts > 1.7).astype(int) + (ts > 4.0))
    start = Decay(0.6, 0.9)
    data = jc.Trajectory(ts, ys[:, None], jumps=[jc.Jump(t, to=start.diluted) for t in (1.7, 4.0)])
    nlp = jc.transcribe(start, data, jc.Grid.uniform(0, 6, 8, scheme), l2=0.0)
    sol = jc.solve(nlp, solver, jc.guess(nlp))
    np.testing.assert_allclose(sol.model.rate, 0.3, rtol=1e-5)
    np.testing.assert_allclose(sol.model.share, 0.5, rtol=1e-5)


class Ball(eqx.Module):
    """Height and speed of a ball that comes up from the ground with a share of its speed."""

    restitution: jax.Array

    def __call__(self, t, y, args):
        return jnp.stack([y[1], jnp.full_like(y[1], -9.81)])

    def bounced(self, y, args):
        return jnp.stack([y[0], -self.restitution * y[1]])


def test_a_bouncing_ball():
    """From h = 1 at rest: each flight is a parabola, and 0.8 times as long as the one before."""
    speed, t = np.sqrt(2 * 9.81), np.sqrt(2 / 9.81)
    bounces, pieces = [], [(0.0, 1.0, 0.0)]
    for _ in range(3):
        speed *= 0.8
        bounces.append(t)
        pieces.append((t, 0.0, speed))
        t += 2 * speed / 9.81
    ts = np.linspace(0.0, 0.98 * t, 60)
    begin, height, up = np.array(pieces)[np.searchsorted(bounces, ts)].T
    ys = height + up * (ts - begin) - 4.905 * (ts - begin) ** 2
    start = Ball(jnp.asarray(0.5))
    data = jc.Trajectory(
        ts, ys[:, None], y0=[1.0, 0.0], jumps=[jc.Jump(t, to=start.bounced) for t in bounces]
    )
    sol = jc.fit(start, data, num_states=2, key=jax.random.key(0))
    assert sol.verification.verdict is jc.VERDICT.good
    np.testing.assert_allclose(sol.model.restitution, 0.8, rtol=1e-4)
    np.testing.assert_allclose(sol.paths[0].grid.jump_times, bounces)


def test_unknown_amounts_are_found_for_each_trajectory():
    ts = np.linspace(0.0, 5.0, 21)
    data = []
    for amount in (1.0, 2.5, 0.3):
        ys = np.exp(-0.5 * ts) + amount * np.exp(-0.5 * (ts - 2)) * (ts > 2)
        jump = jc.Jump(2.0, add=[jc.Unknown(1.0, bounds=(0, 9))])
        data.append(jc.Trajectory(ts, ys[:, None], jumps=jump))
    sol = jc.fit(Decay(0.2), data, trainable=lambda leaf: leaf.shape == () and leaf != 0.4)
    found = [jumps[0].add[0] for jumps in sol.jumps]
    np.testing.assert_allclose(found, [1.0, 2.5, 0.3], rtol=1e-4)
    np.testing.assert_allclose(sol.model.rate, 0.5, rtol=1e-4)
    names = jc.uncertainty(sol).to_pandas()["name"].tolist()
    assert [f"jumps[{k}][0].add[0]" for k in range(3)] == [item for item in names if "add" in item]


# --- Rollouts ---


class Oscillator(eqx.Module):
    """Van der Pol's."""

    damping: jax.Array

    def __call__(self, t, y, args):
        return jnp.stack([y[1], self.damping * (1 - y[0] ** 2) * y[1] - y[0] + args])


def _by_scipy(ts, start, jumps):
    """The oscillator with damping 1 and input 0.3 integrated piece by piece."""
    from scipy.integrate import solve_ivp

    def field(t, y):
        return [y[1], (1 - y[0] ** 2) * y[1] - y[0] + 0.3]

    y, begin, states = np.array(start), ts[0], []
    ends = [*(t for t, _ in jumps), ts[-1]]
    for number, end in enumerate(ends):
        here = (ts <= end) & ((ts > begin) | ((number == 0) & (ts == ts[0])))
        times = np.unique([begin, *ts[here], end])
        values = y[:, None]
        if len(times) > 1:
            values = solve_ivp(field, times[[0, -1]], y, t_eval=times, rtol=1e-11, atol=1e-11).y
        states += [values[:, np.searchsorted(times, t)] for t in ts[here]]
        y, begin = values[:, -1], end
        y = jumps[number][1](y) if number < len(jumps) else y
    return np.array(states)


JUMPS = [
    jc.Jump(0.0, add=[1.0, 0.0]),
    jc.Jump(2.0, to=lambda y, args: jnp.stack([y[1], y[0] * args])),
    jc.Jump(2.0, add=[0.0, -1.5]),
    jc.Jump(3.5, to=lambda y, args, model: y * model.damping / 2),
    jc.Jump(5.0, add=[7.0, 7.0]),
]
MAPS = [
    (0.0, lambda y: y + np.array([1, 0])),
    (2.0, lambda y: np.array([y[1], 0.3 * y[0]])),
    (2.0, lambda y: y - np.array([0, 1.5])),
    (3.5, lambda y: y / 2),
    (5.0, lambda y: y + 7),
]


def test_rollouts_and_simulations_are_those_of_scipy_piece_by_piece():
    model, ts = Oscillator(jnp.asarray(1.0)), np.array([0.0, 0.0, 0.5, 2.0, 2.2, 3.5, 4.0, 5.0])
    expected = _by_scipy(ts, [0.5, 0.2], MAPS)
    with jax.enable_x64(True):
        simulated = jc.simulate(model, ts, [0.5, 0.2], 0.3, jumps=JUMPS)
        inside = jax.jit(lambda ts, y: jc.simulate(model, ts, y, 0.3, jumps=JUMPS, atol=1e-10))
        np.testing.assert_allclose(simulated, expected, atol=1e-6)
        np.testing.assert_allclose(inside(ts, jnp.array([0.5, 0.2])), expected, atol=1e-6)
    found = rollout(model, ts, np.array([0.5, 0.2]), 0.3, jumps=changes(JUMPS, model, 0.3))
    np.testing.assert_allclose(found.states, expected, atol=1e-5)
    np.testing.assert_allclose(found.after[-1], expected[-1] + 7, atol=1e-5)


@pytest.mark.slow
def test_a_simulation_with_jumps_has_derivatives():
    """Of y' = -rate y with a dose and a dilution, by the rate: the closed form's."""
    jumps = [jc.Jump(1.0, add=[2.0]), jc.Jump(2.0, to=lambda y, args: 0.5 * y)]

    def last(rate):
        model = eqx.tree_at(lambda m: m.rate, Decay(), rate)
        return jc.simulate(model, jnp.array([0.0, 1.5, 3.0]), jnp.array([1.0]), jumps=jumps)[-1, 0]

    with jax.enable_x64(True):
        slope = jax.grad(last)(0.4)
    exact = -0.5 * (3 * np.exp(-1.2) + 4 * np.exp(-0.8))
    np.testing.assert_allclose(slope, exact, rtol=1e-6)


class Diluted(eqx.Module):
    """What a jump leaves of each state."""

    share: jax.Array

    def __call__(self, y, args):
        return self.share * y


class Fading(eqx.Module):
    """Two states that fade alike."""

    rate: jax.Array

    def __call__(self, t, y, args):
        return -self.rate * y


def test_a_function_with_arrays_is_the_same_in_all_trainings():
    ts, share = np.linspace(0.0, 6.0, 13), np.array([0.5, 0.1])
    ys = np.exp(-0.5 * ts)[:, None] * np.where(ts[:, None] > 3, share, 1.0)
    data = jc.Trajectory(ts, ys, jumps=[jc.Jump(3.0, to=Diluted(jnp.asarray(share)))])
    grid = jc.Grid.uniform(0, 6, 6, jc.Radau(3))
    nlp = jc.transcribe(Fading(jnp.asarray(0.4)), data, grid, l2=0.0)
    sol = jc.solve(nlp, jc.InteriorPoint(), jc.guess(nlp))
    assert float(sol.model.rate) == pytest.approx(0.5, abs=1e-4)
    tuned = jc.fine_tune(sol.model, data, steps=20, start=sol)
    assert float(tuned.model.rate) == pytest.approx(0.5, abs=1e-3)
    u = jc.uncertainty(sol)
    ahead = u.predict([0.0, 3.0, 3.001], jumps=data.jumps).value[-1]
    np.testing.assert_allclose(ahead, u.bands([3.001]).value[0], atol=1e-4)


def test_gradients_pass_by_jumps_whose_functions_fail_elsewhere():
    """The root is taken where the state is positive; at the end it is not."""
    root = jc.Jump(1.0, to=lambda y, args: jnp.sqrt(y))

    def last(rate):
        return jc.simulate(
            lambda t, y, args: -jnp.ones(1) * args, jnp.array([0.0, 1.0, 3.0]), [4.0], rate,
            jumps=[root],
        )[-1, 0]  # fmt: skip

    # sqrt(4 - r) - 2 r
    assert float(jax.grad(last)(1.0)) == pytest.approx(-0.5 / np.sqrt(3.0) - 2.0, rel=1e-4)


def test_the_residual_between_nodes_leaves_jumps_out():
    """Within a jump there is no state, and a root of it may not exist."""
    data = jc.Trajectory([0.0, 2.0, 4.0, 6.0], np.ones((4, 1)), jumps=[jc.Jump(3.0, add=[-2.6])])
    grid = jc.Grid.uniform(0.0, 6.0, 6, jc.Radau(3))
    nlp = jc.transcribe(
        lambda t, y, args: -jnp.sqrt(y), data, grid, residual_penalty=1e-2, num_states=1
    )
    states = np.where(nlp.grids[0].sides[:, None] <= 3.0, 3.0, 0.4)
    assert np.isfinite(float(nlp.objective(nlp.pack_head(np.zeros(0), [states]))))


@pytest.mark.parametrize("times", [jnp.array([0.7, 1.3]), np.array([0.7, 1.3], np.float32)])
def test_jumps_in_single_precision_are_at_the_decimals_written(times):
    ts = np.round(np.linspace(0.0, 2.0, 21), 10)
    jumps = jc.doses(times, 1.0, num_states=1)
    assert [jump.t for jump in jumps] == [0.7, 1.3]
    assert jc.Jump(times[0], add=[1.0]).t == 0.7
    ys = jc.simulate(lambda t, y, args: 0 * y, ts, [1.0], jumps=jumps)
    assert [float(ys[k, 0]) for k in (7, 8, 13, 14)] == [1.0, 2.0, 2.0, 3.0]


def test_held_out_windows_end_where_amounts_are_unknown():
    """A dose that is yet to be found cannot be predicted; before it all is exact."""
    ts, data = np.linspace(0.0, 10.0, 41), []
    for k in range(6):
        level = sum(20 * np.exp(-0.5 * (ts - t)) * (ts > t) for t in (2.5, 5.0, 7.5))
        level = level + (k + 1) * np.exp(-0.5 * ts)
        jumps = [jc.Jump(t, add=[jc.Unknown(1.0)]) for t in (2.5, 5.0, 7.5)]
        data.append(jc.Trajectory(ts, level[:, None], jumps=jumps))
    grid = jc.Grid.uniform(0.0, 10.0, 8, jc.Radau(4))
    nlp = jc.transcribe(Fading(jnp.asarray(0.4)), data, grid, l2=0.0)
    held = hold_out(nlp, 0.3, 1.0)
    sol = jc.solve(held.train, jc.InteriorPoint(), jc.guess(held.train))
    assert held.score(sol, jc.InteriorPoint()).error < 0.02
