"""Fits of `verdicts.py` with something wrong in what is asked for, and a few that come close."""

from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
from _verdict_good import LONG, SPIRAL, TS, Named, inputs, only, spiral
from _verdict_laws import (
    Experiment,
    Fixed,
    Neural,
    Problem,
    Sensed,
    duffing,
    experiment,
    growth,
    lag,
    linear,
    logistic,
    lotka,
    net,
    of_law,
    of_net,
    pendulum,
    relaxing,
    sensed,
    tanks,
    van_der_pol,
)
from _verdict_traps import uniform

import jaxcolloc as jc


def penalties() -> Named:
    """Penalties that leave the model no way to follow."""
    for l2 in (1.0, 1e-1, 1e-2, 1e2):
        yield f"net, {l2:g}", partial(lambda p: of_net(spiral(), l2=p), l2)
    yield "law, 1", lambda: of_law(spiral(), linear, [0.0] * 4, l2=1.0)
    yield "law, 0.01", lambda: of_law(spiral(), linear, [0.0] * 4, l2=0.01)
    yield "logistic net, 0.1", lambda: of_net(experiment(logistic, [1.2, 5.0], 0.2, TS), l2=0.1)


def infeasible() -> Named:
    """Constraints that data or the model contradict."""
    start = [0.0] * 4
    yield "positive where data are not", lambda: of_law(
        spiral(), linear, start, constraints=[jc.nonnegative()]
    )  # fmt: skip
    yield "two that exclude each other", lambda: of_law(
        spiral(), linear, start,
        constraints=[
            jc.Constraint(lambda t, y, a: y[0] + y[1], lower=1.0),
            jc.Constraint(lambda t, y, a: y[0] + y[1], upper=0.5),
        ],
    )  # fmt: skip
    yield "bounds without the start", lambda: of_law(
        (e := spiral()), linear, start, data=e.data(y0=[1.0, 0.0]),
        constraints=[jc.Constraint(lambda t, y, a: y[0], upper=0.5)],
    )  # fmt: skip
    yield "end far away", lambda: of_law(
        spiral(), linear, start, constraints=[jc.StateBounds(0, 5.0, 5.0, at="end")]
    )  # fmt: skip
    yield "an equation at all nodes", lambda: of_law(
        spiral(), linear, start, constraints=[jc.Constraint(lambda t, y, a: jnp.sum(y**2), 1, 1)]
    )  # fmt: skip
    yield "decay that must not fall", lambda: of_law(
        experiment(growth, [-0.7], 2.0, TS), growth, [-0.1],
        constraints=[jc.StateBounds(0, lower=1.0)],
    )  # fmt: skip


def wrong_pins() -> Named:
    """What is held fixed is wrong."""
    start = [0.0] * 4

    def pinned(y0: Any) -> Problem:
        truth = spiral()
        return of_law(truth, linear, start, data=truth.data(y0=y0))

    yield "start off by its size", lambda: pinned([0.0, 1.0])
    yield "start off by 30%", lambda: pinned([1.3, 0.0])
    yield "start off by 1%", lambda: pinned([1.01, 0.0])
    yield "one start of three", lambda: of_law(
        (e := experiment(linear, SPIRAL, [[1.0, 0], [0, 1.0], [0.5, 0.5]], TS)), linear, start,
        data=e.data(y0=([1.0, 0.0], [0.0, 1.0], [-0.5, 0.5])),
    )  # fmt: skip
    yield "weights' bounds", lambda: of_law(spiral(), linear, start, weight_bounds=(-1.0, 1.0))
    yield "a constant's bounds", bounded_constant
    yield "sensor's gain, start known", wrong_gain
    yield "frozen rate", lambda: frozen(1.0)
    yield "frozen rate, 2% off", lambda: frozen(0.51)


def bounded_constant() -> Problem:
    """A rate whose bounds leave out the truth."""
    law = lambda t, y, a, w: w[0] - a * y  # noqa: E731
    truth = experiment(law, [1.0], 3.0, TS, args=[2.0])
    pinned = jc.Unknown(0.5, bounds=(0.1, 0.6))
    return of_law(truth, law, [0.3], data=truth.data(args=(pinned,), y0=[3.0]))


def wrong_gain() -> Problem:
    """A sensor's gain held at the wrong value where the start is known."""
    law = growth
    truth = experiment(law, [-0.8], 1.0, TS, seen=lambda m, t, y, a: 2.0 * y[:1])
    model = Sensed(jnp.array([-0.4]), jnp.array(1.0), law)
    options = {
        "l2": 0.0, "observe": model.observe, "num_states": 1,
        "trainable": jc.leafwise(model, True, (lambda m: m.gain, False)),
    }  # fmt: skip
    return Problem(truth, model, truth.data(y0=[1.0]), None, options, seen=sensed)


def frozen(rate: float) -> Problem:
    """A decay of rate 0.5 whose rate is held elsewhere, and a level that is free."""
    law = lambda t, y, a, w: a * (w[0] - y)  # noqa: E731
    truth = experiment(law, [0.2], 2.0, TS, args=[0.5], noise=0.02)
    return of_law(truth, law, [1.0], data=truth.data(args=rate))


def hidden() -> Named:
    """States that nobody has measured."""
    turning = partial(experiment, linear, SPIRAL, [1.0, 0.0], TS)
    first = slice(0, 1)
    fed = partial(experiment, tanks, [1.0, 0.8, 0.5], [0.2, 0.1], LONG)
    yield "rotation, law", lambda: of_law(
        only(turning(), first), linear, [0.0, 1.0, -1.0, 0.0], num_states=2, l2=1e-6
    )  # fmt: skip
    yield "rotation, net", lambda: of_net(only(turning(seed=1), first), num_states=2)
    yield "upper tank, law", lambda: of_law(
        only(fed(args=inputs("hold", 6, 1, 15.0)), slice(1, 2)), lower_tank, [0.5] * 3,
        num_states=2, positive=True, l2=1e-6,
    )  # fmt: skip
    yield "velocity, Duffing, net", lambda: of_net(
        only(experiment(duffing, [1.0, 1.0, 0.1], [0.5, 0.0], LONG), first), 8, num_states=2
    )  # fmt: skip
    yield "predators, law", lambda: of_law(
        only(experiment(lotka, [1.0, 0.5, 0.4, 0.8], [2.0, 1.0], LONG), first), lotka, [0.8] * 4,
        num_states=2, positive=True, l2=1e-6,
    )  # fmt: skip
    yield "one that nothing shows", lambda: of_law(
        experiment(growth, [-0.7], 2.0, TS), lambda t, y, a, w: w * y, [-0.1, 0.1], num_states=2
    )  # fmt: skip


def lower_tank(t: Any, y: Any, a: Any, w: Any) -> Any:
    """The two tanks with the lower, measured one first."""
    over = w[1] * y[1]
    return jnp.stack([over - w[2] * y[0], w[0] * a(t) - over])


def long_inputs() -> Named:
    """Rough inputs of many samples, and pulses shorter than an interval."""

    def rough(knots: int, kind: str) -> Experiment:
        return experiment(lag, [1.5, 2.0], 0.0, TS, args=inputs(kind, knots, 1, 6.0))

    def pulses(width: float, kind: str = "hold") -> Experiment:
        rng = np.random.default_rng(0)
        first = np.sort(rng.choice(58, 6, replace=False)) * 0.1 + 0.03
        at = np.concatenate([[0.0], np.stack([first, first + width], axis=1).ravel()])
        us = np.concatenate([[0.0], np.tile([0.5 / width, 0.0], 6)])
        return experiment(lag, [1.5, 2.0], 0.0, TS, args=[jc.Input(at, us, kind=kind)])

    start = [0.5, 1.0]
    for knots, kind in ((1000, "hold"), (1000, "linear"), (5000, "linear"), (20_000, "linear")):
        yield f"{knots} samples, {kind}, law", partial(
            lambda n, k: of_law(rough(n, k), lag, start), knots, kind
        )  # fmt: skip
    yield "1000 samples, hold, net", lambda: of_net(rough(1000, "hold"))
    yield "pulses of 0.01, law", lambda: of_law(pulses(0.01), lag, start)
    yield "pulses of 0.0001, law", lambda: of_law(pulses(1e-4), lag, start)
    yield "pulses of 0.01, net", lambda: of_net(pulses(0.01))
    yield "pulses of 0.01, own grid", lambda: of_law(
        pulses(0.01), lag, start, grid=uniform(6.0, 24, jc.Radau(3))
    )  # fmt: skip
    yield "1000 samples, own grid", lambda: of_law(
        rough(1000, "hold"), lag, start, grid=uniform(6.0, 24, jc.Radau(3))
    )  # fmt: skip


def cannot_follow() -> Named:
    """Models without a way to do what the data do."""
    wave = partial(experiment, linear, [0.0, 1.0, -1.0, 0.0], [0.0, 1.0], LONG)
    yield "autonomous net of one state on a sine", lambda: of_net(only(wave(), slice(0, 1)))
    yield "the same, slow sine", lambda: of_net(
        only(experiment(linear, [0.0, 1.0, -1.0, 0.0], [0.0, 1.0], TS), slice(0, 1)), 8, l2=1e-7
    )  # fmt: skip
    yield "decay on a logistic", lambda: of_law(
        experiment(logistic, [1.2, 5.0], 0.2, TS), growth, [0.1]
    )  # fmt: skip
    yield "linear on Van der Pol", lambda: of_law(
        experiment(van_der_pol, [2.0, 1.0], [2.0, 0.0], LONG), linear, [0.0, 1.0, -1.0, 0.0]
    )  # fmt: skip
    yield "to a rest on a sine", lambda: of_law(only(wave(), slice(0, 1)), relaxing, [0.5, 0.5])
    yield "net blind to its input", blind
    yield "pendulum as linear", lambda: of_law(
        experiment(pendulum, [4.0, 0.0], [2.8, 0.0], LONG), linear, [0.0, 1.0, -1.0, 0.0]
    )  # fmt: skip
    yield "two trajectories that disagree", disagree
    yield "noise alone, net", lambda: of_net(noise_alone())


def blind() -> Problem:
    """A driven lag, and a net that does not see what drives it."""
    truth = experiment(lag, [1.5, 2.0], 0.0, TS, args=inputs("hold", 12, 1, 6.0))
    data = truth.data(args=None)
    return Problem(truth, jc.normalized(Neural(net(1, 1)), data), data, options={"l2": 1e-5})


def disagree() -> Problem:
    """Two decays at different rates, for which there is one rate."""
    law = lambda t, y, a, w: -a * w * y  # noqa: E731
    truth = experiment(law, [1.0], [[2.0], [2.0]], TS, args=[0.3, 1.5])
    return of_law(truth, law, [1.0], data=truth.data(args=1.0))


def noise_alone() -> Experiment:
    """Samples without a signal; the truth is zero, the spread that of the noise."""
    truth = experiment(relaxing, [1.0, 0.0], 1.0, TS, noise=0.0)
    for ys in (truth.clean, truth.dense_clean):
        ys[0] = np.zeros_like(ys[0])
    truth.noisy = [np.random.default_rng(0).normal(size=(60, 1))]
    truth.sigma, truth.spread = np.ones(1), np.ones(1)
    return truth


def nothing_to_train() -> Named:
    """Models whose constants are numbers of Python, right or wrong."""
    decay = partial(experiment, growth, [-0.7], 2.0, TS)
    for rate in (-0.7, -0.2, 0.5):
        yield f"rate {rate:g}", partial(
            lambda w: Problem(decay(), Fixed(w, growth), options={"l2": 0.0}, trains=False), rate
        )  # fmt: skip
    yield "a function", lambda: Problem(
        decay(), lambda t, y, a: -0.7 * y, options={"l2": 0.0}, trains=False
    )  # fmt: skip


def stopped() -> Named:
    """Solves that are stopped long before they end."""

    def after(problem: Problem, steps: int) -> Problem:
        problem.steps = steps
        return problem

    wave = partial(experiment, van_der_pol, [1.0, 1.0], [2.0, 0.0], LONG)
    grid = uniform(15.0, 40, jc.Radau(3))
    for steps in (1, 2, 3):
        yield f"net, {steps} steps", partial(lambda n: after(of_net(wave(), grid=grid), n), steps)
    yield "law, 1 step", lambda: after(of_law(spiral(), linear, [0.0] * 4), 1)
    yield "net, jc.fit, 2 steps", lambda: after(of_net(spiral()), 2)
    yield "law, jc.fit, 3 steps", lambda: after(of_law(wave(), van_der_pol, [0.1, 0.1]), 3)


def at_bounds() -> Named:
    """Weights that end at their bounds, near the truth and far from it."""
    start = [0.0, 1.0, -1.0, 0.0]
    for bound in (1.99, 1.9, 1.5):
        yield f"rotation, {bound:g}", partial(
            lambda b: of_law(spiral(), linear, start, weight_bounds=(-b, b)), bound
        )  # fmt: skip
    yield "logistic, at the truth", lambda: of_law(
        experiment(logistic, [1.2, 5.0], 0.2, TS), logistic, [1.0, 3.0],
        weight_bounds=(np.array([0.1, 1.0]), np.array([1.19, 10.0])),
    )  # fmt: skip
    yield "net, small bounds", lambda: of_net(spiral(), weight_bounds=(-0.2, 0.2))
    yield "net, wide bounds", lambda: of_net(spiral(), weight_bounds=(-1.5, 1.5))


def cuts() -> Named:
    """State bounds that cut into the solution."""
    start = [0.0, 1.0, -1.0, 0.0]
    for bound in (0.99, 0.9, 0.6):
        yield f"rotation, {bound:g}", partial(
            lambda b: of_law(spiral(), linear, start, state_bounds=(-b, b)), bound
        )  # fmt: skip
    yield "net, 0.7", lambda: of_net(spiral(), state_bounds=(-0.7, 0.7))
    yield "logistic, below its rest", lambda: of_law(
        experiment(logistic, [1.2, 5.0], 0.2, TS), logistic, [1.0, 3.0], state_bounds=(0.0, 4.0)
    )  # fmt: skip


MISTAKES = {
    "penalty": penalties,
    "infeasible": infeasible,
    "wrong pins": wrong_pins,
    "hidden": hidden,
    "long inputs": long_inputs,
    "cannot follow": cannot_follow,
    "nothing to train": nothing_to_train,
    "stopped": stopped,
    "at bounds": at_bounds,
    "cuts": cuts,
}
