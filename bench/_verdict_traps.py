"""Fits of `verdicts.py` that are hard: dynamics, grids and nets that lead a fit astray."""

from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from _verdict_good import LONG, SPIRAL, TS, Named, spiral
from _verdict_laws import (
    Experiment,
    Problem,
    experiment,
    growth,
    lag,
    linear,
    logistic,
    lorenz,
    of_law,
    of_net,
    pendulum,
    robertson,
    roessler,
    shaken,
    square,
    tangent,
    van_der_pol,
)

import jaxcolloc as jc


def uniform(last: float, intervals: int, scheme: Any) -> jc.Grid:
    """Equal intervals from 0 on."""
    return jc.Grid.uniform(0.0, last, intervals, scheme)


def stiff() -> Named:
    """Fast and slow parts in one system."""
    two = partial(experiment, linear, [-1000.0, 999.0, 0.0, -1.0], [1.5, 1.0], TS)
    relaxation = partial(experiment, van_der_pol, [20.0, 1.0], [2.0, 0.0], np.linspace(0, 60, 200))
    late = np.concatenate([[0.0], np.geomspace(1e-2, 1e3, 40)])
    reactions = partial(experiment, robertson, [0.04, 1.0, 3.0], [1.0, 0.0, 0.0], late, noise=0.01)
    start = [0.1, 0.5, 1.0]
    yield "fast and slow, law", lambda: of_law(two(), linear, [-500.0, 500.0, 0.0, -0.5])
    yield "fast and slow, net", lambda: of_net(two(seed=1))
    yield "Robertson, law", lambda: of_law(reactions(), robertson, start, positive=True)
    yield "Robertson, coarse", lambda: of_law(
        reactions(), robertson, start, positive=True, grid=uniform(1e3, 10, jc.Radau(3))
    )  # fmt: skip
    yield "relaxation oscillator, law", lambda: of_law(relaxation(), van_der_pol, [10.0, 0.5])
    yield "relaxation oscillator, net", lambda: of_net(relaxation(seed=1), 8)


def chaotic() -> Named:
    """Lorenz's and Roessler's systems over short and long times."""

    def butterfly(last: float, samples: int, seed: int = 0) -> Experiment:
        times = np.linspace(0, last, samples)
        return experiment(lorenz, [10.0, 28.0, 8 / 3], [1.0, 1.0, 20.0], times, seed=seed)

    start = [8.0, 25.0, 2.0]
    yield "Lorenz to 2, law", lambda: of_law(butterfly(2.0, 80), lorenz, start)
    yield "Lorenz to 5, law", lambda: of_law(butterfly(5.0, 150), lorenz, start)
    yield "Lorenz to 20, law", lambda: of_law(butterfly(20.0, 400), lorenz, start)
    yield "Lorenz to 2, net", lambda: of_net(butterfly(2.0, 100, 1), 8)
    yield "Lorenz to 10, net", lambda: of_net(butterfly(10.0, 250, 1), 10)
    spin = partial(experiment, roessler, [0.2, 0.2, 5.7], [1.0, 1.0, 0.0])
    yield "Roessler to 15, law", lambda: of_law(spin(LONG), roessler, [0.1, 0.1, 4.0])
    yield "Roessler to 100, law", lambda: of_law(
        spin(np.linspace(0, 100, 400)), roessler, [0.1, 0.1, 4.0]
    )  # fmt: skip


def unstable() -> Named:
    """What grows exponentially away from where it should be."""

    def falling(last: float, start: float) -> Experiment:
        times = np.linspace(0, last, 80)
        return experiment(pendulum, [-9.0, 0.1], [start, 0.0], times)

    saddle = partial(experiment, linear, [1.0, 0.0, 0.0, -1.0])
    yield "growth to e^5", lambda: of_law(experiment(growth, [1.0], 0.1, TS[:50]), growth, [0.3])
    yield "growth to e^30", lambda: of_law(
        experiment(growth, [1.0], 1e-9, np.linspace(0, 30, 60)), growth, [0.3]
    )  # fmt: skip
    yield "growth, net", lambda: of_net(experiment(growth, [1.0], 0.1, TS[:50], seed=1))
    yield "falling pendulum, law", lambda: of_law(falling(1.2, 0.1), pendulum, [-5.0, 0.0])
    yield "pendulum over many falls, law", lambda: of_law(falling(20, 1e-3), pendulum, [-5.0, 0.0])
    yield "falling pendulum, net", lambda: of_net(falling(3.0, 0.1))
    yield "saddle, law", lambda: of_law(saddle([1e-3, 1.0], TS), linear, [0.0] * 4)
    yield "saddle held at rest", lambda: of_law(
        saddle([1e-12, 1.0], np.linspace(0, 20, 60)), linear, [0.0] * 4
    )  # fmt: skip


def blow_up() -> Named:
    """Solutions that end in infinity, behind the data or within them."""
    early = partial(experiment, square, [1.0], 0.5, np.linspace(0, 1.9, 50))
    tan = partial(experiment, tangent, [1.0, 1.0], 0.0, np.linspace(0, 1.5, 50))
    yield "square, law", lambda: of_law(early(), square, [0.5])
    yield "square, net", lambda: of_net(early(seed=1))
    yield "tangent, law", lambda: of_law(tan(), tangent, [0.5, 0.5])
    yield "tangent, coarse", lambda: of_law(
        tan(), tangent, [0.5, 0.5], grid=uniform(1.5, 2, jc.Radau(2))
    )  # fmt: skip
    # The solution of this law through these data has its pole between samples.
    yield "through a pole, coarse", lambda: of_law(
        Experiment(**poles()), tangent, [0.5, 0.5], grid=uniform(4.0, 8, jc.Radau(2))
    )  # fmt: skip
    yield (
        "cubic growth on a wave",
        lambda: of_law(
            experiment(linear, [0.0, 1.0, -1.0, 0.0], [1.0, 0.0], LONG),
            lambda t, y, a, w: w[0] * y + w[1] * y**3,
            [0.1, 0.1],
        ),
    )


def poles() -> dict[str, Any]:
    """A sawtooth of tangents, which no solution of their law follows through a pole."""
    ts = np.linspace(0.0, 4.0, 41)
    ys = np.clip(np.tan(ts), -4, 4)[:, None]
    noisy = ys + 0.05 * np.random.default_rng(0).normal(size=ys.shape)
    one = np.array([0.05 * ys.std()])
    return {
        "ts": [ts], "noisy": [noisy], "clean": [ys], "dense": [ts], "dense_clean": [ys],
        "args": [None], "starts": [ys[0]], "sigma": one, "spread": 20 * one,
    }  # fmt: skip


class Pulsing(eqx.Module):
    """y' = w cos(a t), which is y' = w at nodes one period apart."""

    w: jax.Array

    def __call__(self, t: Any, y: Any, args: Any) -> Any:
        """The slope of the state."""
        return jnp.stack([self.w * jnp.cos(args * t)])


def ramp(frequency: float, last: float = 6.0) -> Problem:
    """A line, and a model that oscillates about a constant."""
    law = lambda t, y, a, w: w + 0 * y  # noqa: E731
    truth = experiment(law, [0.5], 0.0, np.linspace(0, last, 13), args=[frequency], noise=0.02)
    return Problem(truth, Pulsing(jnp.asarray(0.0)), options={"l2": 0.0})


def on_grid(problem: Problem, grid: jc.Grid) -> Problem:
    """The same problem on a grid of the caller's."""
    problem.grid = grid
    return problem


def aliased() -> Named:
    """Fast forces, sampled slowly or met by nodes always in the same phase."""
    slow = np.linspace(0.0, 10.0, 41)
    fast = partial(experiment, shaken, [20.0, 1.0], 0.5, slow)
    for nodes, period in ((1, 1.0), (2, 1 / 3), (3, 1.0)):
        name = f"nodes in resonance, Radau({nodes})"
        grid = uniform(6.0, 6, jc.Radau(nodes))
        yield name, partial(lambda p, g: on_grid(ramp(2 * np.pi / p), g), period, grid)
    yield "nodes in resonance, jc.fit", lambda: ramp(6 * np.pi)
    yield "fast force, law", lambda: of_law(fast(args=[2 * np.pi * 3.9]), shaken, [10.0, 0.5])
    yield "fast force, coarse", lambda: of_law(
        fast(args=[2 * np.pi * 3.9]), shaken, [10.0, 0.5], grid=uniform(10.0, 20, jc.Radau(2))
    )  # fmt: skip
    yield "force in step with samples", lambda: of_law(
        fast(args=[2 * np.pi * 4.0]), shaken, [10.0, 0.5], grid=uniform(10.0, 40, jc.Radau(1))
    )  # fmt: skip
    yield "nodes pass over pulses", passed_over


def passed_over() -> Problem:
    """Pulses of an input that lie between the nodes of the grid."""
    at = np.sort(np.concatenate([k + np.array([0.1, 0.15, 0.2]) for k in range(6)]))
    pulses = jc.Input(at, np.tile([0.0, 20.0, 0.0], 6))
    truth = experiment(lag, [1.0, 1.0], 0.0, TS, args=[pulses])
    return of_law(truth, lag, [0.5, 0.5], grid=uniform(6.0, 6, jc.Radau(2)))


def coarse() -> Named:
    """Too few nodes for what the data do."""
    times = np.linspace(0.0, 20.0, 80)
    turning = partial(experiment, linear, [0.0, 2.0, -2.0, 0.0], [1.0, 0.0], times)
    free = [0.0, 1.0, -1.0, 0.0]
    for intervals, nodes in ((6, 2), (10, 3), (20, 2), (40, 1)):
        grid = uniform(20.0, intervals, jc.Radau(nodes))
        yield f"rotation, {intervals} x Radau({nodes})", partial(
            lambda g: of_law(turning(), linear, free, grid=g), grid
        )  # fmt: skip
    yield "rotation, Chebyshev(12)", lambda: of_law(
        turning(), linear, free, grid=jc.Grid.single(0.0, 20.0, jc.Chebyshev(12))
    )  # fmt: skip
    yield "rotation, net, 10 x Radau(2)", lambda: of_net(
        turning(seed=1), 8, l2=1e-6, grid=uniform(20.0, 10, jc.Radau(2))
    )  # fmt: skip
    wave = partial(experiment, van_der_pol, [2.0, 1.0], [2.0, 0.0], LONG)
    yield "Van der Pol, 8 x Radau(3)", lambda: of_law(
        wave(), van_der_pol, [1.0, 0.5], grid=uniform(15.0, 8, jc.Radau(3))
    )  # fmt: skip
    yield "Van der Pol, net, 12 x Radau(2)", lambda: of_net(
        wave(seed=1), 8, grid=uniform(15.0, 12, jc.Radau(2))
    )  # fmt: skip


def overfit() -> Named:
    """Large nets, few noisy samples, hardly a penalty."""
    few = np.linspace(0.0, 6.0, 12)
    for seed in range(3):
        yield f"12 samples, net of 24, {seed}", partial(
            lambda s: of_net(spiral(ts=few, noise=0.3, seed=s), 24, l2=1e-9, seed=s), seed
        )  # fmt: skip
    yield "12 samples, 6 x Radau(2)", lambda: of_net(
        spiral(ts=few, noise=0.2), 24, l2=1e-9, grid=uniform(6.0, 6, jc.Radau(2))
    )  # fmt: skip
    yield "logistic, net of 24", lambda: of_net(
        experiment(logistic, [1.2, 5.0], 0.2, few, noise=0.3), 24, l2=1e-9
    )  # fmt: skip
    yield "two trajectories, net of 24", lambda: of_net(
        experiment(linear, SPIRAL, [[1.0, 0.0], [0.2, -0.5]], few, noise=0.3), 24, l2=1e-9
    )  # fmt: skip


TRAPS = {
    "stiff": stiff,
    "chaotic": chaotic,
    "unstable": unstable,
    "blow-up": blow_up,
    "aliased": aliased,
    "coarse": coarse,
    "overfit": overfit,
}
