"""Reference systems with known equations, samples of them with keyed noise, a real series."""

from collections.abc import Callable
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from ._check import float_array, positive
from ._data import Trajectory
from ._jumps import doses
from ._precision import x64
from ._simulate import simulate


class System(eqx.Module):
    r"""A system $\dot y = f(t, y, args)$ with a known start.

    It is callable as the vector field, `system(t, y, args)`, so it can be integrated, or stand in
    for a model, as it is. `span` is a time over which it shows what it does. Systems with an input
    take it as `args`, a function of time such as a `jc.Input`.
    """

    field: Callable[[Any, Array, Any], Array] = eqx.field(static=True)
    y0: tuple[float, ...] = eqx.field(static=True)
    names: tuple[str, ...] = eqx.field(static=True)
    span: float = eqx.field(static=True, default=10.0)
    stiff: bool = eqx.field(static=True, default=False)

    def __call__(self, t: Any, y: Array, args: Any) -> Array:
        return self.field(t, y, args)

    def solve(
        self, ts: ArrayLike, y0: ArrayLike | None = None, args: Any = None
    ) -> Float[np.ndarray, "time state"]:
        """The noise-free states at `ts`, from `y0` at `ts[0]` (the system's start if not given)."""
        ts = float_array("ts", ts, 1, "(time,)")
        start = self.y0 if y0 is None else y0
        with x64():
            solver = diffrax.Kvaerno5() if self.stiff else diffrax.Tsit5()
            return np.asarray(
                simulate(self, ts, np.asarray(start), args, solver=solver, rtol=1e-10, atol=1e-12)
            )

    def sample(
        self,
        ts: ArrayLike,
        *,
        noise: ArrayLike,
        key: PRNGKeyArray,
        y0: ArrayLike | None = None,
        args: Any = None,
    ) -> Trajectory:
        """A trajectory observed at `ts` with Gaussian noise of standard deviation `noise`.

        `noise` is a scalar or has shape `(state,)`; `y0` is the true state at `ts[0]`; the same key
        gives the same noise, in its unit, for every system.
        """
        size = np.asarray(noise, np.float64)
        if size.shape not in ((), (len(self.y0),)):
            raise ValueError(
                f"`noise` must be a scalar or have shape ({len(self.y0)},); got shape {size.shape}."
            )
        for item in np.ravel(size).tolist():
            positive("noise", item, allow_zero=True)
        ys = self.solve(ts, y0, args)
        with x64():
            draw = np.asarray(jax.random.normal(key, ys.shape, jnp.float64))
        return Trajectory(ts, ys + size * draw, args)


def van_der_pol(mu: float = 1.0, amplitude: float = 1.0, omega: float = 1.0) -> System:
    r"""The forced Van der Pol oscillator, $\ddot x = \mu (1 - x^2) \dot x - x + A \cos \omega t$.

    State $(x, \dot x)$, start $(0, 1)$ at $t = 0$; with the default values it is the case study of
    Shapovalova and Tsay (arXiv 2502.15642, section 4.1).
    """

    def field(t: Any, y: Array, args: Any) -> Array:
        x, v = y
        force = amplitude * jnp.cos(omega * t)
        return jnp.stack([v, mu * (1 - x**2) * v - x + force])

    return System(field, (0.0, 1.0), ("x", "v"), 15.0)


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

    return System(field, (1.0, 0.0), ("x", "v"), 20.0)


def duffing(damping: float = 0.15) -> System:
    r"""Duffing's oscillator with two wells, $\ddot x = x - x^3 - \delta \dot x$.

    `damping` is $\delta$; state $(x, \dot x)$, start $(-1.5, 1)$: it crosses the hill, then settles
    in a well. Guckenheimer and Holmes, "Nonlinear Oscillations" (Springer, 1983), section 2.2.
    """

    def field(t: Any, y: Array, args: Any) -> Array:
        x, v = y
        return jnp.stack([v, x - x**3 - damping * v])

    return System(field, (-1.5, 1.0), ("x", "v"), 20.0)


def lotka_volterra(
    growth: float = 1.0, predation: float = 0.5, efficiency: float = 0.25, death: float = 0.6
) -> System:
    r"""Prey and predator, $\dot x = a x - b x y$, $\dot y = c x y - d y$, start $(4, 1)$."""

    def field(t: Any, y: Array, args: Any) -> Array:
        prey, predator = y
        eaten = prey * predator
        born, died = growth * prey, death * predator
        return jnp.stack([born - predation * eaten, efficiency * eaten - died])

    return System(field, (4.0, 1.0), ("prey", "predator"), 30.0)


def lorenz(sigma: float = 10.0, rho: float = 28.0, beta: float = 8 / 3) -> System:
    r"""Lorenz's system, $\dot x = \sigma (y - x)$, $\dot y = x (\rho - z) - y$,
    $\dot z = x y - \beta z$, chaotic with the default values.

    Lorenz, "Deterministic Nonperiodic Flow" (J. Atmos. Sci. 20, 1963).
    """

    def field(t: Any, y: Array, args: Any) -> Array:
        a, b, c = y
        return jnp.stack([sigma * (b - a), a * (rho - c) - b, a * b - beta * c])

    return System(field, (-8.0, 7.0, 27.0), ("x", "y", "z"), 8.0)


def fitzhugh_nagumo(
    current: float = 0.5, a: float = 0.7, b: float = 0.8, epsilon: float = 0.08
) -> System:
    r"""A spiking neuron, $\dot v = v - v^3/3 - w + I$, $\dot w = \epsilon (v + a - b w)$.

    FitzHugh, "Impulses and Physiological States in Theoretical Models of Nerve Membrane" (Biophys.
    J. 1, 1961).
    """

    def field(t: Any, y: Array, args: Any) -> Array:
        v, w = y
        return jnp.stack([v - v**3 / 3 - w + current, epsilon * (v + a - b * w)])

    return System(field, (-1.0, 1.0), ("v", "w"), 120.0)


def brusselator(a: float = 1.0, b: float = 3.0) -> System:
    r"""An oscillating reaction, $\dot x = a + x^2 y - (b + 1) x$, $\dot y = b x - x^2 y$.

    Its limit cycle alternates between a slow drift and a fast jump, the more so for larger `b`.
    Prigogine and Lefever, "Symmetry Breaking Instabilities in Dissipative Systems II" (J. Chem.
    Phys. 48, 1968).
    """

    def field(t: Any, y: Array, args: Any) -> Array:
        x, z = y
        turned = x**2 * z
        return jnp.stack([a + turned - (b + 1) * x, b * x - turned])

    return System(field, (1.0, 1.0), ("x", "y"), 25.0)


def robertson() -> System:
    r"""Robertson's stiff reaction, $A \to B$ (0.04), $2B \to B + C$ (3e7), $B + C \to A + C$ (1e4).

    State (A, 10^4 B, C), rates in 1/s: time scales from 1e-4 to 1e4 s. Robertson, "The Solution of
    a Set of Reaction Rate Equations" (in Walsh, ed., Numerical Analysis, 1966).
    """

    def field(t: Any, y: Array, args: Any) -> Array:
        a, scaled, c = y
        b = 1e-4 * scaled
        first, second, third = 0.04 * a, 3e7 * b**2, 1e4 * b * c
        return jnp.stack([third - first, 1e4 * (first - second - third), second])

    return System(field, (1.0, 0.0, 0.0), ("A", "1e4 B", "C"), 40.0, stiff=True)


def selkov(a: float = 0.08, b: float = 0.6) -> System:
    r"""Glycolysis, $\dot x = -x + a y + x^2 y$, $\dot y = b - a y - x^2 y$.

    Sel'kov, "Self-Oscillations in Glycolysis" (Eur. J. Biochem. 4, 1968), in Strogatz's form.
    """

    def field(t: Any, y: Array, args: Any) -> Array:
        x, z = y
        turned = a * z + x**2 * z
        return jnp.stack([turned - x, b - turned])

    return System(field, (0.5, 2.0), ("x", "y"), 40.0)


def driven_pendulum(damping: float = 0.3) -> System:
    r"""A pendulum with a torque, $\ddot\theta = -\sin\theta - c \dot\theta + u(t)$.

    `args` is the torque $u$; state $(\theta, \dot\theta)$ in radians.
    """

    def field(t: Any, y: Array, args: Any) -> Array:
        angle, speed = y
        return jnp.stack([speed, -jnp.sin(angle) - damping * speed + args(t)])

    return System(field, (0.5, 0.0), ("angle", "speed"), 20.0)


def two_tanks(area: float = 1.0, outflow: float = 0.5) -> System:
    r"""Two tanks in a row, $A \dot h_1 = u - k \sqrt{h_1}$,
    $A \dot h_2 = k \sqrt{h_1} - k \sqrt{h_2}$.

    `args` is the inflow $u$; Torricelli's law, levels in a unit of length.
    """

    def field(t: Any, y: Array, args: Any) -> Array:
        # The slope of the root at an empty tank is infinite.
        first, second = outflow * jnp.sqrt(jnp.maximum(y, 1e-6))
        return jnp.stack([args(t) - first, first - second]) / area

    return System(field, (0.5, 0.3), ("upper", "lower"), 30.0)


def fed_batch(
    growth: float = 0.5, half: float = 0.3, yield_: float = 0.5, feed: float = 10.0
) -> System:
    r"""A fed-batch bioreactor with Monod's growth.

    Biomass, substrate (g/l) and volume (l),
    $\dot X = \mu X - \frac{F}{V} X$, $\dot S = -\frac{\mu}{Y} X + \frac{F}{V} (S_f - S)$,
    $\dot V = F$ with $\mu = \mu_m S / (K + S)$. `args` is the feed $F$ in l/h.
    """

    def field(t: Any, y: Array, args: Any) -> Array:
        biomass, substrate, volume = y
        rate = growth * substrate / (half + jnp.abs(substrate)) * biomass
        dilution = args(t) / volume
        return jnp.stack(
            [
                rate - dilution * biomass,
                dilution * (feed - substrate) - rate / yield_,
                dilution * volume,
            ]
        )

    return System(field, (0.5, 2.0, 1.0), ("biomass", "substrate", "volume"), 12.0)


def sir(contact: float = 1.2, recovery: float = 0.4) -> System:
    r"""An epidemic, $\dot S = -\beta S I$, $\dot I = \beta S I - \gamma I$; shares of a population.

    Kermack and McKendrick, "A Contribution to the Mathematical Theory of Epidemics" (Proc. R. Soc.
    A 115, 1927). The recovered are the rest.
    """

    def field(t: Any, y: Array, args: Any) -> Array:
        susceptible, infected = y
        new = contact * susceptible * infected
        return jnp.stack([-new, new - recovery * infected])

    return System(field, (0.98, 0.02), ("susceptible", "infected"), 20.0)


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


# Theophylline: dose (mg/kg), times (h) and concentrations (mg/l) of each subject.
_THEOPHYLLINE: list[tuple[float, list[float], list[float]]] = [
    (
        4.02,
        [0.0, 0.25, 0.57, 1.12, 2.02, 3.82, 5.1, 7.03, 9.05, 12.12, 24.37],
        [0.74, 2.84, 6.57, 10.5, 9.66, 8.58, 8.36, 7.47, 6.89, 5.94, 3.28],
    ),
    (
        4.4,
        [0.0, 0.27, 0.52, 1.0, 1.92, 3.5, 5.02, 7.03, 9.0, 12.0, 24.3],
        [0.0, 1.72, 7.91, 8.31, 8.33, 6.85, 6.08, 5.4, 4.55, 3.01, 0.9],
    ),
    (
        4.53,
        [0.0, 0.27, 0.58, 1.02, 2.02, 3.62, 5.08, 7.07, 9.0, 12.15, 24.17],
        [0.0, 4.4, 6.9, 8.2, 7.8, 7.5, 6.2, 5.3, 4.9, 3.7, 1.05],
    ),
    (
        4.4,
        [0.0, 0.35, 0.6, 1.07, 2.13, 3.5, 5.02, 7.02, 9.02, 11.98, 24.65],
        [0.0, 1.89, 4.6, 8.6, 8.38, 7.54, 6.88, 5.78, 5.33, 4.19, 1.15],
    ),
    (
        5.86,
        [0.0, 0.3, 0.52, 1.0, 2.02, 3.5, 5.02, 7.02, 9.1, 12.0, 24.35],
        [0.0, 2.02, 5.63, 11.4, 9.33, 8.74, 7.56, 7.09, 5.9, 4.37, 1.57],
    ),
    (
        4,
        [0.0, 0.27, 0.58, 1.15, 2.03, 3.57, 5.0, 7.0, 9.22, 12.1, 23.85],
        [0.0, 1.29, 3.08, 6.44, 6.32, 5.53, 4.94, 4.02, 3.46, 2.78, 0.92],
    ),
    (
        4.95,
        [0.0, 0.25, 0.5, 1.02, 2.02, 3.48, 5.0, 6.98, 9.0, 12.05, 24.22],
        [0.15, 0.85, 2.35, 5.02, 6.58, 7.09, 6.66, 5.25, 4.39, 3.53, 1.15],
    ),
    (
        4.53,
        [0.0, 0.25, 0.52, 0.98, 2.02, 3.53, 5.05, 7.15, 9.07, 12.1, 24.12],
        [0.0, 3.05, 3.05, 7.31, 7.56, 6.59, 5.88, 4.73, 4.57, 3.0, 1.25],
    ),
    (
        3.1,
        [0.0, 0.3, 0.63, 1.05, 2.02, 3.53, 5.02, 7.17, 8.8, 11.6, 24.43],
        [0.0, 7.37, 9.03, 7.14, 6.33, 5.66, 5.67, 4.24, 4.11, 3.16, 1.12],
    ),
    (
        5.5,
        [0.0, 0.37, 0.77, 1.02, 2.05, 3.55, 5.05, 7.08, 9.38, 12.1, 23.7],
        [0.24, 2.89, 5.22, 6.41, 7.83, 10.21, 9.18, 8.02, 7.14, 5.68, 2.42],
    ),
    (
        4.92,
        [0.0, 0.25, 0.5, 0.98, 1.98, 3.6, 5.02, 7.03, 9.03, 12.12, 24.08],
        [0.0, 4.86, 7.24, 8.0, 6.81, 5.87, 5.22, 4.45, 3.62, 2.69, 0.86],
    ),
    (
        5.3,
        [0.0, 0.25, 0.5, 1.0, 2.0, 3.52, 5.07, 7.07, 9.03, 12.05, 24.15],
        [0.0, 1.25, 3.96, 7.82, 9.72, 9.75, 8.57, 6.59, 6.11, 4.57, 1.17],
    ),
]


def theophylline(args: Any = None) -> list[Trajectory]:
    """Theophylline in the serum of 12 subjects after one oral dose, 11 samples each.

    The channel is the concentration (mg/l), times are in hours. The states are the concentration
    and the amount in the gut (mg per kg of body weight), which the dose at time zero goes into and
    which are empty before it; samples at time zero are those before the dose. `args` become those
    of every trajectory, such as `jc.Unknown` constants.

    Boeckmann, Sheiner and Beal, NONMEM Users Guide (University of California, 1994); the set
    `Theoph` that comes with R.
    """
    found = []
    for dose, ts, ys in _THEOPHYLLINE:
        jumps = doses(0.0, dose, state=1, num_states=2)
        found.append(Trajectory(ts, np.array(ys)[:, None], args, y0=[0.0, 0.0], jumps=jumps))
    return found
