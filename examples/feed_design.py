"""Feed design: the feed of a fed-batch run that tells most about one rate constant.

Biomass X grows on a substrate S, which is fed, and dies at the rate k:

    X' = (m(S) - k) X,    S' = u(t) - m(S) X / 0.5

How it grows, m(S), is not known: a small net in the place of Monod's law. What is wanted is k. Its
error is that of an experiment and a fit together: samples of X and S of the run that the feed u
makes, with noise, and a collocation fit of net and k to them. `jc.optimum` makes the fitted k a
differentiable function of samples and feed, so the mean square error over drawn noise is lowered by
gradient steps in the levels of the feed, of which the total is given.

    python examples/feed_design.py
"""

import time
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from _series import options, pyplot, save

import jaxcolloc as jc


NOISE = np.array([0.02, 0.02])
START = np.array([0.2, 1.0])
SPAN, TOTAL = 12.0, 3.0


class Monod(eqx.Module):
    """The truth, which the fit does not know."""

    k: float = 0.08

    def __call__(self, t: Any, y: Any, args: Any) -> Any:
        growth = 0.5 * y[1] / (0.4 + y[1]) * y[0]
        return jnp.stack([growth - self.k * y[0], args(t) - growth / 0.5])


class Hybrid(eqx.Module):
    """Growth by a net of the substrate, death at a rate that is wanted."""

    net: eqx.nn.MLP
    k: jax.Array

    def __call__(self, t: Any, y: Any, args: Any) -> Any:
        growth = y[1] * jax.nn.softplus(self.net(y[1:])) * y[0]
        return jnp.stack([growth - self.k * y[0], args(t) - growth / 0.5])


def integrated(model: Any, ts: np.ndarray, y0: np.ndarray, args: Any, steps: int = 8) -> Any:
    """The states at equally spaced times by Runge and Kutta's method, quick to differentiate."""
    h = (ts[1] - ts[0]) / steps

    def step(y: Any, t: Any) -> tuple[Any, None]:
        # Within the step: the feed may jump at its start.
        begin, end = t + 1e-9 * h, t + h
        a = model(begin, y, args)
        b = model(t + h / 2, y + h / 2 * a, args)
        c = model(t + h / 2, y + h / 2 * b, args)
        d = model(end, y + h * c, args)
        return y + h / 6 * (a + 2 * b + 2 * c + d), None

    def sample(y: Any, t: Any) -> tuple[Any, Any]:
        y, _ = jax.lax.scan(step, y, t + h * jnp.arange(steps))
        return y, y

    first = jnp.asarray(y0)
    _, rest = jax.lax.scan(sample, first, jnp.asarray(ts[:-1]))
    return jnp.concatenate([first[None], rest])


class Design:
    """The error of the fitted rate as a function of the feed's levels."""

    def __init__(self, windows: int, samples: int, draws: int, width: int):
        self.knots = np.linspace(0.0, SPAN, windows + 1)[:-1]
        self.ts = np.linspace(0.0, SPAN, samples)
        rng = np.random.default_rng(0)
        half = rng.normal(size=(draws // 2, samples, 2))
        self.noise = jnp.asarray(NOISE * np.concatenate([half, -half]))
        net = eqx.nn.MLP(1, "scalar", width, 1, jnp.tanh, key=jax.random.key(0))
        self.feed = jc.Input(self.knots, np.full(windows, TOTAL / SPAN), "hold")
        data = jc.Trajectory(self.ts, self.run(jnp.zeros(windows)), self.feed, weights=1 / NOISE**2)
        grid = jc.Grid.aligned(np.union1d(self.knots, self.ts), jc.Radau(2))
        model = Hybrid(net, jnp.asarray(0.1))
        l2 = jc.leafwise(model, 1e-2, (lambda m: m.k, 0.0))
        nlp = jc.transcribe(model, data, grid, l2=l2)
        start = jc.solve(nlp, jc.InteriorPoint(), jc.guess(nlp, key=jax.random.key(1)))
        self.best = jc.optimum(nlp, jc.InteriorPoint(), start)
        self.slope = jax.jit(jax.value_and_grad(self.error))

    def inputs(self, logits: Any) -> jc.Input:
        """The feed: levels above zero with the given total."""
        levels = jax.nn.softmax(logits) * TOTAL * len(self.knots) / SPAN
        return eqx.tree_at(lambda u: u.coefficients, self.feed, levels[None])

    def run(self, logits: Any) -> Any:
        """What the samples would be without noise."""
        return integrated(Monod(), self.ts, START, self.inputs(logits))

    def rates(self, logits: Any, noise: Any) -> Any:
        """The fitted rate for each draw of the noise."""
        feed, ys = self.inputs(logits), self.run(logits)
        return jax.vmap(lambda each: self.best(ys=ys + each, args=feed).model.k)(noise)

    def error(self, logits: Any) -> Any:
        """The logarithm of the rate's root mean square error."""
        return 0.5 * jnp.log(jnp.mean((self.rates(logits, self.noise) - Monod().k) ** 2))


def optimise(design: Design, steps: int, size: float) -> tuple[np.ndarray, list[float]]:
    """The feed after so many gradient steps, as logits, and the errors on the way."""
    logits = jnp.zeros(len(design.knots))
    optimiser = optax.adam(size)
    state = optimiser.init(logits)
    errors, best = [], logits
    for _ in range(steps):
        error, slope = design.slope(logits)
        errors.append(float(jnp.exp(error)))
        if errors[-1] == min(errors):
            best = logits
        updates, state = optimiser.update(slope, state)
        logits = optax.apply_updates(logits, updates)
    return np.asarray(best), errors


def main() -> None:
    jax.config.update("jax_enable_x64", True)
    parser = options(__doc__, data=False)
    chosen = parser.parse_args()
    quick = chosen.quick
    begin = time.perf_counter()
    design = Design(windows=6, samples=13, draws=4 if quick else 16, width=3)
    logits, errors = optimise(design, 6 if quick else 20, 0.3 if quick else 0.15)
    rng = np.random.default_rng(1)
    fresh = jnp.asarray(NOISE * rng.normal(size=(20 if quick else 200, len(design.ts), 2)))
    found = {}
    for name, each in (("constant feed", jnp.zeros(6)), ("designed feed", jnp.asarray(logits))):
        rates = np.asarray(design.rates(each, fresh))
        found[name] = rates
        print(
            f"{name}: k = {rates.mean():.4f} with standard deviation {rates.std():.5f} "
            f"over {len(rates)} simulated experiments, truth {Monod().k}"
        )
    print(
        f"{len(errors)} gradient steps, error {errors[0]:.5f} to {min(errors):.5f}, "
        f"{time.perf_counter() - begin:.1f} s"
    )
    draw(design, found, logits, chosen.output)


def draw(design: Design, found: dict[str, np.ndarray], logits: np.ndarray, output: Any) -> None:
    """Feeds, runs, and the rates that are found."""
    plt = pyplot()
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.4), constrained_layout=True)
    for (name, rates), each, color in zip(
        found.items(), (np.zeros(len(logits)), logits), ("C0", "C3"), strict=True
    ):
        levels = np.asarray(design.inputs(jnp.asarray(each)).coefficients)[0]
        axes[0].stairs(levels, np.append(design.knots, SPAN), color=color, label=name)
        ys = np.asarray(design.run(jnp.asarray(each)))
        axes[1].plot(design.ts, ys[:, 0], "o-", color=color, ms=3, label="biomass")
        axes[1].plot(design.ts, ys[:, 1], "s--", color=color, ms=3, label="substrate")
        axes[2].hist(rates, bins=20, color=color, alpha=0.6, label=name)
    axes[2].axvline(Monod().k, color="0.2", lw=1)
    for axis, title, label in zip(
        axes,
        ("feed", "runs", "fitted rates of fresh experiments"),
        ("hours", "hours", "k per hour"),
        strict=True,
    ):
        axis.set_title(title)
        axis.set_xlabel(label)
    axes[0].legend()
    axes[1].legend(["biomass", "substrate"])
    save(figure, output / "feed_design.png")


if __name__ == "__main__":
    main()
