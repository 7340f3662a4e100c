"""Fits of `verdicts.py` that ought to succeed: laws, nets, inputs, kinds of data, units, noise."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
from _verdict_laws import (
    Experiment,
    Hybrid,
    Problem,
    Sensed,
    brusselator,
    chain,
    duffing,
    epidemic,
    experiment,
    fitzhugh,
    growth,
    lag,
    linear,
    logistic,
    lotka,
    michaelis,
    net,
    of_law,
    of_net,
    pendulum,
    relaxing,
    sensed,
    tanks,
    van_der_pol,
)

import jaxcolloc as jc


SPIRAL = [-0.1, 2.0, -2.0, -0.1]
TS = np.linspace(0.0, 6.0, 60)
LONG = np.linspace(0.0, 15.0, 90)

Named = Iterator[tuple[str, Any]]


def spiral(**more: Any) -> Experiment:
    """A decaying rotation."""
    return experiment(linear, SPIRAL, [1.0, 0.0], **({"ts": TS} | more))


def inputs(kind: str, knots: int, count: int, last: float, seed: int = 0) -> list[jc.Input]:
    """Random inputs between 0 and 1."""
    rng, at = np.random.default_rng(seed), np.linspace(0.0, last, knots)
    return [jc.Input(at, rng.uniform(0, 1, knots), kind=kind) for _ in range(count)]


def blanked(truth: Experiment, rows: Any, channels: Any = slice(None)) -> Experiment:
    """The experiment with samples that were not taken."""
    for ys in truth.noisy:
        ys[rows, channels] = np.nan
    return truth


def only(truth: Experiment, channels: slice) -> Experiment:
    """The experiment with some channels measured."""
    for ys in (truth.noisy, truth.clean, truth.dense_clean):
        ys[:] = [item[:, channels] for item in ys]
    truth.sigma, truth.spread = truth.sigma[channels], truth.spread[channels]
    return truth


def linear_fits() -> Named:
    """Linear systems, by their matrix and by nets."""
    yield "spiral, matrix", lambda: of_law(spiral(), linear, [0.0] * 4)
    yield "spiral, net", lambda: of_net(spiral(seed=1))
    yield "decay", lambda: of_law(experiment(growth, [-0.7], 2.0, TS), growth, [-0.1])
    yield "to a rest", lambda: of_law(experiment(relaxing, [0.8, 3.0], 0.0, TS), relaxing, [1.0, 1])
    yield (
        "chain of three",
        lambda: of_law(
            experiment(chain, [1.0, 0.4], [1.0, 0, 0], TS), chain, [0.3, 1.0], positive=True
        ),
    )


def oscillators() -> Named:
    """Oscillators, by law and by nets, with all choices left to `jc.fit` or few."""

    def vdp(seed: int) -> Experiment:
        return experiment(van_der_pol, [1.0, 1.0], [2.0, 0.0], LONG, seed=seed)

    yield "Van der Pol, law", lambda: of_law(vdp(0), van_der_pol, [0.3, 0.5])
    yield "Van der Pol, net", lambda: of_net(vdp(1), 8, starts=4)
    yield "Van der Pol, net, defaults", lambda: of_net(vdp(2), 8, l2=None, starts=12)
    yield (
        "Duffing, law",
        lambda: of_law(
            experiment(duffing, [1.0, 1.0, 0.1], [0.5, 0.0], LONG), duffing, [0.5, 0.5, 0.3]
        ),
    )
    yield (
        "FitzHugh-Nagumo, law",
        lambda: of_law(
            experiment(fitzhugh, [0.5, 0.08, 0.7, 0.8], [0.0, 0.0], np.linspace(0, 60, 120)),
            fitzhugh,
            [0.4, 0.1, 0.6, 0.6],
        ),
    )
    yield (
        "Brusselator, net",
        lambda: of_net(experiment(brusselator, [1.0, 2.5], [1.0, 1.0], LONG, seed=3), 8, starts=4),
    )
    yield (
        "pendulum, net",
        lambda: of_net(experiment(pendulum, [4.0, 0.1], [2.0, 0.0], TS, seed=4), starts=4),
    )


def populations() -> Named:
    """Growth and ecology."""
    lynx = partial(experiment, lotka, [1.0, 0.5, 0.4, 0.8], [2.0, 1.0], LONG)
    s_curve = partial(experiment, logistic, [1.2, 5.0], 0.2, TS)
    yield "logistic, law", lambda: of_law(s_curve(), logistic, [0.5, 2.0], positive=True)
    yield "logistic, net", lambda: of_net(s_curve(seed=1))
    yield "Lotka-Volterra, law", lambda: of_law(lynx(), lotka, [0.5] * 4, positive=True)
    yield "Lotka-Volterra, net", lambda: of_net(lynx(seed=1), 8, starts=4)
    yield (
        "epidemics, law",
        lambda: of_law(
            experiment(
                epidemic, [1.5, 0.4], [[0.99, 0.01, 0], [0.9, 0.1, 0], [0.6, 0.02, 0.38]],
                np.linspace(0, 20, 40),
            ),
            epidemic, [1.0, 1.0], positive=True,
        ),
    )  # fmt: skip


def kinetics() -> Named:
    """Reactions, with rates on a log scale, and with a net for the rate."""
    starts = [[3.0, 0.0], [1.0, 0.2], [0.4, 0.0]]
    enzyme = partial(experiment, michaelis, [1.0, 0.6], starts, TS)

    def rate(t: Any, y: Any, a: Any, w: Any, inner: Any) -> Any:
        flow = w[0] * y[0] * jnp.exp(inner(y[:1])[0])
        return jnp.stack([-flow, flow])

    yield "Michaelis-Menten", lambda: of_law(enzyme(), michaelis, [0.2, 2.0], positive=True)
    yield (
        "Michaelis-Menten far off",
        lambda: of_law(enzyme(), michaelis, [30.0, 0.01], positive=True, starts=12),
    )
    yield (
        "rate by a net",
        lambda: Problem(
            enzyme(seed=1), Hybrid(jnp.array([1.0]), net(1, 1, 4), rate), options={"l2": 1e-4}
        ),
    )
    yield (
        "consecutive, high noise",
        lambda: of_law(
            experiment(chain, [1.0, 0.4], [1.0, 0, 0], TS, noise=0.3), chain, [0.3, 1.0],
            positive=True,
        ),
    )  # fmt: skip


def driven() -> Named:
    """Sampled inputs, held and linear, on one trajectory and on several."""
    lagged = partial(experiment, lag, [1.5, 2.0], 0.0, TS)
    yield "held, law", lambda: of_law(lagged(args=inputs("hold", 7, 1, 6.0)), lag, [0.5, 1.0])
    yield "linear, law", lambda: of_law(lagged(args=inputs("linear", 13, 1, 6.0)), lag, [0.5, 1.0])
    yield "held, net", lambda: of_net(lagged(args=inputs("hold", 7, 1, 6.0, 2), seed=1))
    yield (
        "two tanks, held, several",
        lambda: of_net(
            experiment(tanks, [1.0, 0.8, 0.5], [[0.2, 0.1], [1, 0.5], [0.4, 1]], LONG[::2],
                       args=inputs("hold", 6, 3, 15.0)),
            8,
        ),
    )  # fmt: skip
    yield (
        "pendulum, cubic, law",
        lambda: of_law(
            experiment(pendulum, [4.0, 0.3], [1.0, 0.0], TS, args=inputs("cubic", 9, 1, 6.0)),
            pendulum, [3.0, 0.1],
        ),
    )  # fmt: skip


def kinds_of_data() -> Named:
    """What data may be: partial, missing, irregular, known at the start, under constraints."""
    some = np.random.default_rng(5).uniform(size=60) < 0.4
    uneven = np.sort(np.append([0.0, 6.0], np.random.default_rng(6).uniform(0, 6, 50)))
    lynx = partial(experiment, lotka, [1.0, 0.5, 0.4, 0.8], [2.0, 1.0], LONG)
    yield "missing samples", lambda: of_law(blanked(spiral(), some), linear, [0.0] * 4)
    yield "missing in one channel", lambda: of_net(blanked(spiral(seed=1), some, 1))
    yield "irregular times", lambda: of_law(spiral(ts=uneven), linear, [0.0] * 4)
    yield "repeated times", lambda: of_net(spiral(ts=np.repeat(TS[::2], 2)))
    yield (
        "known start",
        lambda: of_law((e := spiral()), linear, [0.0] * 4, data=e.data(y0=[1.0, 0.0])),
    )
    yield (
        "first channel only",
        lambda: of_law(
            only(lynx(), slice(0, 1)), lotka, [0.8, 0.4, 0.5, 0.7], positive=True, num_states=2,
            weight_bounds=(0.1, 3.0),
        ),
    )  # fmt: skip
    yield "constraints that hold", lambda: of_law(
        lynx(), lotka, [0.5] * 4, positive=True,
        constraints=[jc.nonnegative(), jc.Constraint(lambda t, y, a: jnp.sum(y), upper=40.0)],
    )  # fmt: skip
    yield "sensor's gain", sensor
    yield "a constant for each", constants


def sensor() -> Problem:
    """A decay seen through a sensor whose gain is fitted, from a known start."""

    def seen(model: Any, t: Any, y: Any, args: Any) -> Any:
        return 2.5 * y[:1]

    truth = experiment(relaxing, [0.8, 3.0], 1.0, TS, seen=seen)
    model = Sensed(jnp.array([0.4, 1.5]), jnp.array(1.0), relaxing)
    options = {"l2": 0.0, "observe": model.observe, "num_states": 1}
    return Problem(truth, model, truth.data(y0=[1.0]), None, options, seen=sensed)


def constants() -> Problem:
    """Decays at rates of their own, one of them known."""

    def law(t: Any, y: Any, a: Any, w: Any) -> Any:
        return w[0] - a * y

    rates = [0.5, 1.0, 2.0]
    truth = experiment(law, [1.0], [[3.0], [2.0], [1.0]], TS, args=rates)
    free = [jc.Unknown(1.0, bounds=(0.05, 20.0), scale="log") for _ in rates]
    return of_law(truth, law, [0.3], data=truth.data(args=(free[0], free[1], 2.0)))


def units() -> Named:
    """States from 1e-12 to 1e12, times from 1e-9 to 1e9, seconds since 1970."""

    def by_law(state: float, time: float, seed: int) -> Problem:
        truth = experiment(logistic, [1.2 / time, state], 0.05 * state, TS * time, seed=seed)
        return of_law(truth, logistic, [0.5 / time, 2.0 * state], positive=True)

    def by_net(state: float, time: float, first: float, seed: int) -> Problem:
        w = np.array(SPIRAL) / time
        truth = experiment(linear, w, [state, 0.0], first + TS * time, seed=seed)
        return of_net(truth)

    for number, state in enumerate((1e-12, 1e-6, 1e3, 1e6, 1e12)):
        yield f"states of {state:g}, law", partial(by_law, state, 1.0, number)
        yield f"states of {state:g}, net", partial(by_net, state, 1.0, 0.0, number)
    for number, time in enumerate((1e-9, 1e-3, 1e4, 1e9)):
        yield f"times of {time:g}, law", partial(by_law, 1.0, time, number)
        yield f"times of {time:g}, net", partial(by_net, 1.0, time, 0.0, number)
    yield "seconds since 1970", partial(by_net, 1.0, 3600.0, 1.7e9, 3)
    yield "seconds since 1970, small", partial(by_net, 1e-6, 1.0, 1.7e9, 4)
    for sizes in ((1e-6, 1e6), (1e-12, 1.0)):
        yield f"channels of {sizes[0]:g} and {sizes[1]:g}", partial(mixed, sizes)


def mixed(sizes: tuple[float, float]) -> Problem:
    """A rotation whose two states have different units."""
    ratio = sizes[0] / sizes[1]
    w = [-0.1, 2.0 * ratio, -2.0 / ratio, -0.1]
    return of_net(experiment(linear, w, [sizes[0], 0.0], TS))


def outliers() -> Named:
    """Some samples far off, under a robust loss and under squares."""

    def wrong(share: float, size: float, seed: int) -> Experiment:
        truth, rng = spiral(seed=seed), np.random.default_rng(100 + seed)
        for ys in truth.noisy:
            off = rng.uniform(size=ys.shape) < share
            ys += np.where(off, size * rng.choice([-1.0, 1.0], ys.shape), 0.0)
        return truth

    robust = {"loss": jc.PseudoHuber(0.05)}
    for share, size in ((0.05, 3.0), (0.2, 3.0), (0.05, 100.0)):
        name = f"{share:.0%} off by {size:g}"
        yield (
            f"{name}, robust",
            lambda a=share, b=size: of_law(wrong(a, b, 0), linear, [0.0] * 4, **robust),
        )
        yield f"{name}, squares", lambda a=share, b=size: of_law(wrong(a, b, 0), linear, [0.0] * 4)
    yield "5% off by 3, net, robust", lambda: of_net(wrong(0.05, 3.0, 1), **robust)
    yield "5% off by 3, net, squares", lambda: of_net(wrong(0.05, 3.0, 1))
    yield "2% off by 1, net, squares", lambda: of_net(wrong(0.02, 1.0, 2))


def noises() -> Named:
    """No noise, much, and of another size in each channel."""
    yield "none, law", lambda: of_law(spiral(noise=0.0), linear, [0.0] * 4)
    yield "none, net", lambda: of_net(spiral(noise=0.0), 8, l2=1e-6)
    yield "30%, law", lambda: of_law(spiral(noise=0.3), linear, [0.0] * 4)
    yield "30%, net", lambda: of_net(spiral(noise=0.3), 4, l2=1e-3)
    yield "100%, law", lambda: of_law(spiral(noise=1.0), linear, [0.0] * 4)
    yield "1% and 50%, law", lambda: of_law(spiral(noise=[0.01, 0.5]), linear, [0.0] * 4)
    yield "1% and 50%, net", lambda: of_net(spiral(noise=[0.01, 0.5]))
    yield "0.1% and 50%, weights", lambda: weighted([0.001, 0.5])


def weighted(noise: list[float]) -> Problem:
    """Each channel weighted by its noise."""
    truth = spiral(noise=noise)
    return of_law(truth, linear, [0.0] * 4, data=truth.data(weights=1 / truth.sigma**2))


def weights() -> Named:
    """Weights that differ between channels, samples and trajectories."""

    def by(value: Any, kind: Any = of_law, **more: Any) -> Problem:
        truth = spiral(**more)
        rest = (linear, [0.0] * 4) if kind is of_law else ()
        return kind(truth, *rest, data=truth.data(weights=value))

    later = np.repeat(np.where(TS > 3, 1e-4, 1.0)[:, None], 2, axis=1)
    yield "1 and 1e-4, law", lambda: by([1.0, 1e-4])
    yield "1 and 1e-4, net", lambda: by([1.0, 1e-4], of_net)
    yield "1e-8 for all", lambda: by(1e-8)
    yield "1e8 for all", lambda: by(1e8)
    yield "little in the second half, net", lambda: by(later, of_net)
    yield "two trajectories, 1 and 1e-4", two_weights


def two_weights() -> Problem:
    """One trajectory counts far less than the other; the same net drives both."""
    truth = experiment(pendulum, [4.0, 0.1], [[2.5, 0.0], [0.3, 0.0]], TS, seed=1)
    return of_net(truth, data=truth.data(weights=(1.0, 1e-4)))


def gaps() -> Named:
    """Long times without samples."""
    middle, first = (TS > 2) & (TS < 4), TS < 2
    yield "middle, law", lambda: of_law(blanked(spiral(), middle), linear, [0.0] * 4)
    yield "middle, net", lambda: of_net(blanked(spiral(seed=1), middle))
    yield "start of one channel, net", lambda: of_net(blanked(spiral(seed=2), first, 1))
    yield "middle removed, net", lambda: of_net(spiral(ts=TS[~middle], seed=3))
    yield "clusters, law", lambda: of_law(
        spiral(ts=np.concatenate([k + np.linspace(0, 0.2, 8) for k in (0, 2, 4, 5.8)])),
        linear, [0.0] * 4,
    )  # fmt: skip


GOOD = {
    "linear": linear_fits,
    "oscillators": oscillators,
    "populations": populations,
    "kinetics": kinetics,
    "driven": driven,
    "data": kinds_of_data,
    "units": units,
    "outliers": outliers,
    "noise": noises,
    "weights": weights,
    "gaps": gaps,
}
