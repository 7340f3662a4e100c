"""Manifold: three tanks fed by one header, whose pressure nobody measures, through unknown valves.

Levels h change by what flows in through the valves and out through holes of known size:

    A_i h_i' = q(p - h_i) - c sqrt(h_i),        q(p - h_1) + q(p - h_2) + q(p - h_3) = u(t)

The header has no volume: its pressure p (as a head of water) is whatever makes the flows add up to
what the pump delivers, an algebraic variable. It jumps with the pump, and where that stands still
water runs back from the full tanks to the others. The law q of the valves is a net that can only
grow, as more pressure drives more flow: so there is one p for any levels. Levels of two runs are
measured, with noise; a third run is predicted.

    python examples/manifold.py
"""

import time
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from _series import options, pyplot, rmse, save

import jaxcolloc as jc


AREAS, HOLE = np.array([1.0, 0.6, 1.5]), 0.25
NOISE, SPAN, HELD = 0.01, 24.0, 2.0
STARTS = [[1.0, 0.3, 0.6], [0.3, 1.2, 0.2], [0.8, 0.8, 0.1]]


def true_law(drop: Any) -> Any:
    """A turbulent valve, laminar where little flows."""
    return 0.5 * drop / (drop**2 + 0.01) ** 0.25


class Monotone(eqx.Module):
    """A net of one layer that grows with the pressure drop, and is zero where that is."""

    slopes: jax.Array
    shifts: jax.Array
    heights: jax.Array

    def __init__(self, width: int, key: Any):
        draw = 0.5 * jax.random.normal(key, (2, width))
        self.slopes, self.heights = draw
        self.shifts = jnp.linspace(-2.0, 2.0, width)

    def __call__(self, drop: Any) -> Any:
        steps = jnp.tanh(jax.nn.softplus(self.slopes) * drop + self.shifts) - jnp.tanh(self.shifts)
        return jnp.sum(jax.nn.softplus(self.heights) * steps)


class Manifold(eqx.Module):
    """The tanks, for any law of their valves."""

    law: Any

    def flows(self, y: Any, a: Any) -> Any:
        return jax.vmap(self.law)(a[0] - y)

    def levels(self, t: Any, y: Any, a: Any, args: Any) -> Any:
        return (self.flows(y, a) - HOLE * jnp.sqrt(y)) / AREAS

    def balance(self, t: Any, y: Any, a: Any, args: Any) -> Any:
        return jnp.sum(self.flows(y, a), keepdims=True) - args(t)

    def dae(self) -> jc.DAE:
        return jc.DAE(self.levels, self.balance, num_algebraic=1)


def pump(seed: int) -> jc.Input:
    """What is delivered: steps between nothing and a lot."""
    knots = np.arange(0.0, SPAN, HELD)
    levels = np.random.default_rng(seed).uniform(0.1, 1.2, len(knots))
    levels[2::4] = 0.0
    return jc.Input(knots, levels, "hold")


def experiments(samples: int) -> list[jc.Trajectory]:
    """Three runs of the true tanks."""
    ts, truth = np.linspace(0.0, SPAN, samples), Manifold(true_law).dae()
    runs = []
    for seed, start in enumerate(STARTS):
        feed = pump(seed)
        ys = np.asarray(jc.simulate(truth, ts, start, feed, rtol=1e-8, atol=1e-10))
        noise = NOISE * np.random.default_rng(10 + seed).normal(size=ys.shape)
        runs.append(jc.Trajectory(ts, ys + noise, feed))
    return runs


def fitted(runs: list[jc.Trajectory], width: int) -> jc.Solution:
    """The tanks with a net for the law, fitted to the levels."""
    model = Manifold(Monotone(width, jax.random.key(0))).dae()
    grid = jc.Grid.uniform(0.0, SPAN, int(SPAN), jc.Radau(3))
    nlp = jc.transcribe(model, runs, grid, l2=1e-6)
    return jc.solve(nlp, jc.InteriorPoint(), jc.guess(nlp))


def heads(model: jc.DAE, ts: np.ndarray, levels: np.ndarray, feed: jc.Input) -> np.ndarray:
    """The header's pressure at some levels."""
    each = jax.vmap(lambda t, y: model.algebraic(t, y, feed)[0])
    return np.asarray(each(jnp.asarray(ts), jnp.asarray(levels)))


def main() -> None:
    jax.config.update("jax_enable_x64", True)
    chosen = options(__doc__, data=False).parse_args()
    begin = time.perf_counter()
    runs = experiments(31 if chosen.quick else 97)
    sol = fitted(runs[:2], 4 if chosen.quick else 8)
    print(sol)
    print(jc.verify(sol))
    new, truth = runs[2], Manifold(true_law).dae()
    ts = np.linspace(0.0, SPAN, 121 if chosen.quick else 481)
    true, predicted = (
        np.asarray(jc.simulate(model, ts, STARTS[2], new.args, rtol=1e-8, atol=1e-10))
        for model in (truth, sol.model)
    )
    pressures = [
        heads(model, ts, levels, new.args)
        for model, levels in ((truth, true), (sol.model, predicted))
    ]
    path = sol.paths[0]
    seen = np.concatenate([item.algebraic_states - item.states for item in sol.paths])
    drops = np.linspace(*np.quantile(seen, [0.01, 0.99]), 200)
    law = np.asarray(jax.vmap(sol.model.system.law)(jnp.asarray(drops)))
    print(f"law of the valves: off by {rmse(law, true_law(drops)):.4f} of {np.ptp(law):.2f}")
    print(
        f"new run: levels off by {rmse(predicted, true):.4f}, "
        f"pressure by {rmse(pressures[1], pressures[0]):.4f} of {np.ptp(pressures[0]):.2f}"
    )
    print(f"{time.perf_counter() - begin:.0f} s in all")
    draw(chosen.output, new, ts, (true, predicted), pressures, drops, law, path)


def draw(
    output: Any,
    new: jc.Trajectory,
    ts: np.ndarray,
    levels: tuple[np.ndarray, np.ndarray],
    pressures: list[np.ndarray],
    drops: np.ndarray,
    law: np.ndarray,
    path: jc.Path,
) -> None:
    """The new run, its pressure, and the law."""
    plt = pyplot()
    figure, axes = plt.subplots(1, 3, figsize=(13, 3.8), layout="constrained")
    for tank, colour in enumerate(("tab:blue", "tab:orange", "tab:green")):
        axes[0].plot(new.ts, new.ys[:, tank], ".", color=colour, alpha=0.4, markersize=4)
        axes[0].plot(ts, levels[1][:, tank], color=colour, label=f"tank {tank + 1}")
        axes[0].plot(ts, levels[0][:, tank], "k:", linewidth=1)
    axes[0].set(title="A new run (dotted: truth)", ylabel="level in m")
    axes[0].legend()
    axes[1].plot(ts, pressures[1], color="tab:red", label="predicted")
    axes[1].plot(ts, pressures[0], "k:", label="truth")
    axes[1].set(title="Its header pressure, never measured", ylabel="head in m")
    axes[1].legend()
    for axis in axes[:2]:
        axis.set_xlabel("time in min")
    axes[2].plot(drops, law, color="tab:red", label="net")
    axes[2].plot(drops, true_law(drops), "k:", label="truth")
    axes[2].set(title="The law of the valves", xlabel="pressure drop in m", ylabel="flow in m³/min")
    axes[2].legend()
    save(figure, output / "manifold.png")


if __name__ == "__main__":
    main()
