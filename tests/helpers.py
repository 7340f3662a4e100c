"""Models and problems with known answers."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import jaxcolloc as jc


class Net(eqx.Module):
    """An autonomous neural vector field."""

    mlp: eqx.nn.MLP

    def __init__(self, num_states: int, width: int, depth: int = 1, seed: int = 0):
        key = jax.random.key(seed)
        self.mlp = eqx.nn.MLP(num_states, num_states, width, depth, jnp.tanh, key=key)

    def __call__(self, t: Any, y: Any, args: Any) -> Any:
        return self.mlp(y)


class Linear(eqx.Module):
    """y' = A y."""

    matrix: jax.Array

    def __call__(self, t: Any, y: Any, args: Any) -> Any:
        return self.matrix @ y


class Affine(eqx.Module):
    """y' = args * (w1, w2 t): linear in weights and states, so that the NLP is convex."""

    w: jax.Array

    def __call__(self, t: Any, y: Any, args: Any) -> Any:
        return args * self.w * jnp.stack([jnp.ones_like(t), t])


class Lorenz(eqx.Module):
    """Lorenz's chaotic system with one weight."""

    rate: jax.Array

    def __call__(self, t: Any, y: Any, args: Any) -> Any:
        a, b, c = y
        return jnp.stack([self.rate * (b - a), a * (28 - c) - b, a * b - 8 / 3 * c])


def lorenz_data(ts: np.ndarray, noise: float) -> jc.Trajectory:
    """Samples of `Lorenz` with its usual rate, and noise."""
    ys = np.asarray(jc.simulate(Lorenz(jnp.asarray(10.0)), ts, [1.0, 1.0, 20.0]))
    noisy = ys + noise * np.random.default_rng(0).normal(size=ys.shape)
    return jc.Trajectory(ts, noisy, weights=0.01)


class Aliased(eqx.Module):
    """y' = rate * cos(6 pi t), which is y' = rate at the nodes t = k / 3 of a coarse grid.

    On intervals of length one, Radau(2) has no other nodes: the NLP is convex, its states are
    straight lines, and every solution of the model comes back to its start at t = k / 3.
    """

    rate: jax.Array

    def __call__(self, t: Any, y: Any, args: Any) -> Any:
        return jnp.stack([self.rate * jnp.cos(6 * jnp.pi * t)])


def aliased_data() -> jc.Trajectory:
    """A line of slope 1/2 with a little noise, which the coarse grid below lets `Aliased` fit."""
    ts = np.linspace(0.0, 6.0, 13)
    noise = 0.01 * np.random.default_rng(0).normal(size=(13, 1))
    return jc.Trajectory(ts, 0.5 * ts[:, None] + noise)


ALIASED_GRID = jc.Grid.uniform(0.0, 6.0, 6, jc.Radau(2))


class Driven(eqx.Module):
    """A field that uses time, inputs, and weights that no other equation shares."""

    net: eqx.nn.MLP
    rate: jax.Array

    def __init__(self, width: int = 3, seed: int = 0):
        self.net = eqx.nn.MLP(4, 2, width, 1, jnp.tanh, key=jax.random.key(seed))
        self.rate = jnp.asarray([0.3, -0.2, 0.1])

    def __call__(self, t: Any, y: Any, args: Any) -> Any:
        level, gain = args
        inside = self.net(jnp.concatenate([y, jnp.stack([jnp.sin(t), level])]))
        outside = self.rate[:2] * y**2 + jnp.stack([self.rate[2] * gain, jnp.asarray(0.0)])
        return inside + outside


class Law(eqx.Module):
    """y' = f(p, y) for a static function of a dictionary of constants, seen through a gain."""

    p: dict[str, jax.Array]
    f: Any = eqx.field(static=True)

    def __init__(self, f: Any, **p: Any):
        self.f = f
        self.p = {name: jnp.asarray(float(value)) for name, value in p.items()}

    def __call__(self, t: Any, y: Any, args: Any) -> Any:
        return self.f(self.p, y)

    def observe(self, t: Any, y: Any, args: Any) -> Any:
        return self.p["gain"] * y


class Plant(eqx.Module):
    """A net beside a known law, with a rate, a sensor's gain and a frozen exponent.

    `args` holds an input path and a constant of the experiment.
    """

    net: eqx.nn.MLP
    rate: jax.Array
    gain: jax.Array
    exponent: jax.Array

    def __init__(self, width: int = 3, seed: int = 0):
        self.net = eqx.nn.MLP(3, 2, width, 1, jnp.tanh, key=jax.random.key(seed))
        self.rate = jnp.asarray([0.7, 1.3])
        self.gain = jnp.asarray(1.5)
        self.exponent = jnp.asarray(1.5)

    def __call__(self, t: Any, y: Any, args: Any) -> Any:
        u = args["u"](t)
        inside = self.net(jnp.concatenate([y, u[None]]))
        decay = self.rate * args["feed"] * jnp.abs(y) ** self.exponent
        return inside - decay + jnp.sum(args["offset"] ** 2)

    def observe(self, t: Any, y: Any, args: Any) -> Any:
        return self.gain * jnp.stack([y[0] * y[1], y[1] + args["feed"]])


def spiral(ts: np.ndarray) -> np.ndarray:
    """The solution of y' = A y with A = [[-0.1, 2], [-2, -0.1]] from (1, 0)."""
    decay = np.exp(-0.1 * ts)
    return np.stack([decay * np.cos(2 * ts), -decay * np.sin(2 * ts)], axis=1)


SPIRAL = np.array([[-0.1, 2.0], [-2.0, -0.1]])

SCHEMES = [
    jc.Chebyshev(2),
    jc.Chebyshev(7),
    jc.Lobatto(2),
    jc.Lobatto(5),
    jc.Radau(1),
    jc.Radau(4),
    jc.GaussLegendre(1),
    jc.GaussLegendre(3),
]


def dense(structure: tuple[np.ndarray, np.ndarray], values: Any, shape: tuple[int, int]) -> Any:
    """A sparse matrix as a dense one; fails if a position occurs twice."""
    rows, columns = structure
    assert len(set(zip(rows.tolist(), columns.tolist(), strict=True))) == len(rows)
    matrix = np.zeros(shape)
    matrix[rows, columns] = np.asarray(values)
    return matrix
