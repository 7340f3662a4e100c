"""Reference systems with known equations, samples of them with keyed noise, a real series."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from ._check import float_array, positive
from ._data import Trajectory
from ._precision import x64
from ._simulate import simulate


class System(eqx.Module):
    r"""A system $\dot y = f(t, y)$ with a known start.

    It is callable as the vector field, `system(t, y, args)`, so it can be integrated, or stand in
    for a model, as it is.
    """

    field: Callable[[Any, Array, Any], Array] = eqx.field(static=True)
    y0: tuple[float, ...] = eqx.field(static=True)
    names: tuple[str, ...] = eqx.field(static=True)

    def __call__(self, t: Any, y: Array, args: Any) -> Array:
        return self.field(t, y, args)

    def solve(self, ts: ArrayLike, y0: ArrayLike | None = None) -> Float[np.ndarray, "time state"]:
        """The noise-free states at `ts`, from `y0` at `ts[0]` (the system's start if not given)."""
        ts = float_array("ts", ts, 1, "(time,)")
        start = self.y0 if y0 is None else y0
        with x64():
            return np.asarray(simulate(self, ts, np.asarray(start), rtol=1e-10, atol=1e-12))

    def sample(
        self, ts: ArrayLike, *, noise: float, key: PRNGKeyArray, y0: ArrayLike | None = None
    ) -> Trajectory:
        """A trajectory observed at `ts` with Gaussian noise of standard deviation `noise`.

        `y0` is the true state at `ts[0]`; the same key gives the same noise for every system.
        """
        noise = positive("noise", noise, allow_zero=True)
        ys = self.solve(ts, y0)
        with x64():
            draw = np.asarray(jax.random.normal(key, ys.shape, jnp.float64))
        return Trajectory(ts, ys + noise * draw)


def van_der_pol(mu: float = 1.0, amplitude: float = 1.0, omega: float = 1.0) -> System:
    r"""The forced Van der Pol oscillator, $\ddot x = \mu (1 - x^2) \dot x - x + A \cos \omega t$.

    State $(x, \dot x)$, start $(0, 1)$ at $t = 0$; with the default values it is the case study of
    Shapovalova and Tsay (arXiv 2502.15642, section 4.1).
    """

    def field(t: Any, y: Array, args: Any) -> Array:
        x, v = y
        force = amplitude * jnp.cos(omega * t)
        return jnp.stack([v, mu * (1 - x**2) * v - x + force])

    return System(field, (0.0, 1.0), ("x", "v"))


def harmonic_oscillator(omega: float = 1.0) -> System:
    r"""The harmonic oscillator, $\ddot x = -\omega^2 x$: state $(x, \dot x)$, start $(1, 0)$."""
    return _linear_oscillator(omega, 0.0)


def damped_oscillator(omega: float = 1.0, damping: float = 0.1) -> System:
    r"""The damped oscillator, $\ddot x = -\omega^2 x - 2 \zeta \omega \dot x$, start $(1, 0)$.

    `damping` is the ratio $\zeta$.
    """
    return _linear_oscillator(omega, damping)


def _linear_oscillator(omega: float, damping: float) -> System:
    def field(t: Any, y: Array, args: Any) -> Array:
        x, v = y
        return jnp.stack([v, -(omega**2) * x - 2 * damping * omega * v])

    return System(field, (1.0, 0.0), ("x", "v"))


def lynx_hare() -> Trajectory:
    """Pelts of hare and lynx, in thousands, that were traded each year from 1900 to 1920.

    Channels (hare, lynx), times in years since 1900: 21 points of the records of the Hudson Bay
    Company, as they stand in many texts on ecology, among them Howard's lecture notes "Modeling
    Basics" (Texas A&M University, 2009).
    """
    hare = [30.0, 47.2, 70.2, 77.4, 36.3, 20.6, 18.1, 21.4, 22.0, 25.4, 27.1]
    hare += [40.3, 57.0, 76.6, 52.3, 19.5, 11.2, 7.6, 14.6, 16.2, 24.7]
    lynx = [4.0, 6.1, 9.8, 35.2, 59.4, 41.7, 19.0, 13.0, 8.3, 9.1, 7.4]
    lynx += [8.0, 12.3, 19.5, 45.7, 51.1, 29.7, 15.8, 9.7, 10.1, 8.6]
    return Trajectory(np.arange(21.0), np.stack([hare, lynx], axis=1))
