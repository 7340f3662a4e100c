"""The fields, models and simulated experiments of `verdicts.py`."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from _verdict_judge import input_times, integrate, observed

import jaxcolloc as jc


DENSE = 201


class Law(eqx.Module):
    """A known law with unknown constants, `law(t, y, args, w)`."""

    w: jax.Array
    law: Callable[..., Any] = eqx.field(static=True)

    def __call__(self, t: Any, y: Any, args: Any) -> Any:
        """The slope of the state."""
        return self.law(t, y, args, self.w)


class Fixed(eqx.Module):
    """The same with one constant as a number of Python: nothing to train."""

    w: float
    law: Callable[..., Any] = eqx.field(static=True)

    def __call__(self, t: Any, y: Any, args: Any) -> Any:
        """The slope of the state."""
        return self.law(t, y, args, jnp.asarray([self.w]))


class Neural(eqx.Module):
    """A net of the state, and of the input where the trajectory has one."""

    net: eqx.nn.MLP

    def __call__(self, t: Any, x: Any, args: Any) -> Any:
        """The slope of the state."""
        return self.net(x if args is None else jnp.append(x, args(t)))


class Hybrid(eqx.Module):
    """Constants and a net inside a known law, `law(t, y, args, w, net)`."""

    w: jax.Array
    net: eqx.nn.MLP
    law: Callable[..., Any] = eqx.field(static=True)

    def __call__(self, t: Any, y: Any, args: Any) -> Any:
        """The slope of the state."""
        return self.law(t, y, args, self.w, self.net)


class Sensed(eqx.Module):
    """A law that is seen through a sensor of its own gain."""

    w: jax.Array
    gain: jax.Array
    law: Callable[..., Any] = eqx.field(static=True)

    def __call__(self, t: Any, y: Any, args: Any) -> Any:
        """The slope of the state."""
        return self.law(t, y, args, self.w)

    def observe(self, t: Any, y: Any, args: Any) -> Any:
        """What the sensor shows of the first state."""
        return self.gain * y[:1]


def sensed(model: Sensed, t: Any, y: Any, args: Any) -> Any:
    """The same for the judge."""
    return model.observe(t, y, args)


def net(inputs: int, outputs: int, width: int = 6, seed: int = 0) -> eqx.nn.MLP:
    """A net of one hidden layer."""
    return eqx.nn.MLP(inputs, outputs, width, 1, jnp.tanh, key=jax.random.key(seed))


def linear(t: Any, y: Any, a: Any, w: Any) -> Any:
    """y' = A y with all entries of A unknown."""
    return jnp.reshape(w, (len(y), len(y))) @ y


def growth(t: Any, y: Any, a: Any, w: Any) -> Any:
    """y' = w y: growth or decay."""
    return w * y


def relaxing(t: Any, y: Any, a: Any, w: Any) -> Any:
    """y' = w0 (w1 - y)."""
    return w[0] * (w[1] - y)


def logistic(t: Any, y: Any, a: Any, w: Any) -> Any:
    """y' = w0 y (1 - y / w1)."""
    return w[0] * y * (1 - y / w[1])


def lotka(t: Any, y: Any, a: Any, w: Any) -> Any:
    """Lotka and Volterra's prey and predators."""
    both = y[0] * y[1]
    return jnp.stack([w[0] * y[0] - w[1] * both, w[2] * both - w[3] * y[1]])


def epidemic(t: Any, y: Any, a: Any, w: Any) -> Any:
    """The susceptible, the infected and the others."""
    new, over = w[0] * y[0] * y[1], w[1] * y[1]
    return jnp.stack([-new, new - over, over])


def michaelis(t: Any, y: Any, a: Any, w: Any) -> Any:
    """Michaelis and Menten: s' = -w0 s / (w1 + s), and the product."""
    rate = w[0] * y[0] / (w[1] + y[0])
    return jnp.stack([-rate, rate])


def chain(t: Any, y: Any, a: Any, w: Any) -> Any:
    """A to B to C."""
    return jnp.stack([-w[0] * y[0], w[0] * y[0] - w[1] * y[1], w[1] * y[1]])


def robertson(t: Any, y: Any, a: Any, w: Any) -> Any:
    """Robertson's reactions, the third one in units of a thousand."""
    one, two, three = w[0] * y[0], 1e4 * w[1] * y[1] * y[2], 1e7 * w[2] * y[1] ** 2
    return jnp.stack([-one + two, one - two - three, three])


def van_der_pol(t: Any, y: Any, a: Any, w: Any) -> Any:
    """Van der Pol's oscillator."""
    return jnp.stack([y[1], w[0] * (1 - y[0] ** 2) * y[1] - w[1] * y[0]])


def pendulum(t: Any, y: Any, a: Any, w: Any) -> Any:
    """A damped pendulum, with a torque where there is an input."""
    torque = 0.0 if a is None else a(t)
    return jnp.stack([y[1], -w[0] * jnp.sin(y[0]) - w[1] * y[1] + torque])


def duffing(t: Any, y: Any, a: Any, w: Any) -> Any:
    """Duffing's oscillator."""
    return jnp.stack([y[1], w[0] * y[0] - w[1] * y[0] ** 3 - w[2] * y[1]])


def fitzhugh(t: Any, y: Any, a: Any, w: Any) -> Any:
    """FitzHugh and Nagumo's nerve."""
    fast = y[0] - y[0] ** 3 / 3 - y[1] + w[0]
    return jnp.stack([fast, w[1] * (y[0] + w[2] - w[3] * y[1])])


def brusselator(t: Any, y: Any, a: Any, w: Any) -> Any:
    """The Brusselator."""
    made = y[0] ** 2 * y[1]
    return jnp.stack([w[0] + made - (w[1] + 1) * y[0], w[1] * y[0] - made])


def lorenz(t: Any, y: Any, a: Any, w: Any) -> Any:
    """Lorenz's system."""
    return jnp.stack([w[0] * (y[1] - y[0]), y[0] * (w[1] - y[2]) - y[1], y[0] * y[1] - w[2] * y[2]])


def roessler(t: Any, y: Any, a: Any, w: Any) -> Any:
    """Roessler's system."""
    return jnp.stack([-y[1] - y[2], y[0] + w[0] * y[1], w[1] + y[2] * (y[0] - w[2])])


def lag(t: Any, y: Any, a: Any, w: Any) -> Any:
    """A lag of first order behind an input: y' = w0 (w1 u - y)."""
    return w[0] * (w[1] * a(t) - y)


def tanks(t: Any, y: Any, a: Any, w: Any) -> Any:
    """Two tanks, one above the other, the upper one fed."""
    over = w[1] * y[0]
    return jnp.stack([w[0] * a(t) - over, over - w[2] * y[1]])


def square(t: Any, y: Any, a: Any, w: Any) -> Any:
    """y' = w y^2, which escapes in finite time."""
    return w * y**2


def tangent(t: Any, y: Any, a: Any, w: Any) -> Any:
    """y' = w0 + w1 y^2, whose solution is a tangent."""
    return w[0] + w[1] * y**2


def shaken(t: Any, y: Any, a: Any, w: Any) -> Any:
    """y' = w0 cos(a t) - w1 y: a force of the frequency `a`."""
    return w[0] * jnp.cos(a * t) - w[1] * y


@dataclasses.dataclass
class Experiment:
    """Simulated measurements and what they are measurements of, one entry per trajectory.

    - `ts`, `noisy`, `clean`: sample times, samples with and without noise, shape (time, obs).
    - `dense`, `dense_clean`: times between the samples as well, and the truth there.
    - `args`, `starts`: inputs and true initial states.
    - `sigma`, `spread`: the noise and the truth's standard deviation, shape (obs,).
    """

    ts: list[np.ndarray]
    noisy: list[np.ndarray]
    clean: list[np.ndarray]
    dense: list[np.ndarray]
    dense_clean: list[np.ndarray]
    args: list[Any]
    starts: list[np.ndarray]
    sigma: np.ndarray
    spread: np.ndarray

    def data(self, **more: Any) -> list[jc.Trajectory]:
        """The trajectories; a tuple in `more` has one value for each, others are for all."""
        found = []
        for k, (ts, ys, args) in enumerate(zip(self.ts, self.noisy, self.args, strict=True)):
            own = {}
            for name, item in more.items():
                own[name] = item[k] if isinstance(item, tuple) else item
            found.append(jc.Trajectory(ts, ys, own.pop("args", args), **own))
        return found


def experiment(
    law: Callable[..., Any],
    w: Sequence[float],
    starts: Any,
    ts: Any,
    *,
    args: Sequence[Any] | None = None,
    noise: Any = 0.05,
    seed: int = 0,
    seen: Callable[..., Any] | None = None,
) -> Experiment:
    """Simulate `law` with the constants `w` from each of `starts`, and measure at `ts`.

    `noise` is a share of each channel's spread; `seen(model, t, y, args)` is what is measured, all
    states if not given.
    """
    rng = np.random.default_rng(seed)
    starts = np.atleast_2d(np.asarray(starts, float))
    args = [None] * len(starts) if args is None else list(args)
    model, ts = Law(np.asarray(w, float), law), np.asarray(ts, float)
    dense = np.unique(np.append(ts, np.linspace(ts[0], ts[-1], DENSE)))
    curves = []
    for start, own in zip(starts, args, strict=True):
        cuts = np.append(ts, input_times(own))
        size = np.maximum(np.abs(start), 1e-3 * (np.max(np.abs(start)) or 1.0))
        states = integrate(model, own, dense, start, cuts, size, gone=np.inf)
        assert np.all(np.isfinite(states)), "the truth must not escape"
        curves.append(states if seen is None else observed(seen, model, own, dense, states))
    at = np.searchsorted(dense, ts)
    spread = np.concatenate([curve[at] for curve in curves]).std(axis=0)
    sigma = np.broadcast_to(np.asarray(noise) * spread, spread.shape)
    clean = [curve[at] for curve in curves]
    noisy = [ys + sigma * rng.normal(size=ys.shape) for ys in clean]
    count = len(starts)
    return Experiment(
        [ts] * count, noisy, clean, [dense] * count, curves, args, list(starts), sigma, spread
    )


@dataclasses.dataclass
class Problem:
    """One fit: what is fitted to what, how, and what is known of the truth.

    - `grid`: None for `jc.fit`; else the NLP on it is solved and verified.
    - `options`: of `jc.fit`, or of `jc.transcribe`.
    - `steps`: the solver's limit.
    - `seen(model, t, y, args)`: what is measured, for the judge.
    - `trains`: whether the model has any weight.
    """

    experiment: Experiment
    model: Any
    data: list[jc.Trajectory] = dataclasses.field(default_factory=list)
    grid: Any = None
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    steps: int = 300
    seen: Callable[..., Any] | None = None
    trains: bool = True

    def __post_init__(self) -> None:
        """Take the plain data, and see the first states, where nothing else is said."""
        self.data = self.data or self.experiment.data()
        channels = self.data[0].num_channels
        if self.seen is None:
            self.seen = lambda model, t, y, args: y[:channels]


def of_law(
    truth: Experiment,
    law: Callable[..., Any],
    w: Sequence[float],
    *,
    grid: Any = None,
    data: Any = None,
    positive: bool = False,
    **options: Any,
) -> Problem:
    """A law fitted from the constants `w`, on a log scale where they are `positive`."""
    options = {"l2": 0.0} | ({"weight_scale": "log"} if positive else {}) | options
    return Problem(truth, Law(jnp.asarray(w), law), data or [], grid, options)


def of_net(
    truth: Experiment,
    width: int = 6,
    *,
    grid: Any = None,
    data: Any = None,
    num_states: int | None = None,
    l2: Any = 1e-5,
    seed: int = 0,
    **options: Any,
) -> Problem:
    """A normalised net fitted."""
    data = data or truth.data()
    states = num_states or data[0].num_channels
    inputs = states + (data[0].args is not None)
    model = jc.normalized(Neural(net(inputs, states, width, seed)), data, num_states=num_states)
    options = {"l2": l2} | ({} if num_states is None else {"num_states": num_states}) | options
    return Problem(truth, model, data, grid, {k: v for k, v in options.items() if v is not None})
