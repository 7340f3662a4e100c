"""Lynx and hare: 21 yearly counts, Lotka-Volterra's equations against a neural vector field.

The pelts that the Hudson Bay Company traded from 1900 to 1920 (`jc.datasets.lynx_hare`). Both
models live in the logarithm of the counts, x = log(counts), which keeps these above zero:

    Lotka-Volterra   x' = (a - b exp(x2), c exp(x1) - d), four rates on a log scale
    neural           x' = net(x), 2-5-2

Each is fitted to all years and judged by a rollout from its fitted start; and again to the first
14 years, to predict the last 7, which is where the prior knowledge shows.

    python examples/lynx_hare.py
"""

import time
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from _series import options, pyplot, rmse, save
from scipy.interpolate import CubicSpline

import jaxcolloc as jc
from jaxcolloc import datasets


class LotkaVolterra(eqx.Module):
    """Prey grows and is eaten, the predator lives on it."""

    rates: jax.Array

    def __call__(self, t: Any, y: Any, args: Any) -> Any:
        a, b, c, d = self.rates
        return jnp.stack([a - b * jnp.exp(y[1]), c * jnp.exp(y[0]) - d])


class Neural(eqx.Module):
    """Nothing is known."""

    net: eqx.nn.MLP

    def __call__(self, t: Any, y: Any, args: Any) -> Any:
        return self.net(y - 3.0)


def models(width: int) -> dict[str, tuple[Any, dict[str, Any]]]:
    """Each model with its options of `jc.transcribe`."""
    net = eqx.nn.MLP(2, 2, width, 1, activation=jnp.tanh, key=jax.random.key(0))
    rates = jnp.asarray([0.5, 0.03, 0.03, 0.8])
    return {
        "Lotka-Volterra": (LotkaVolterra(rates), {"l2": 0.0, "weight_scale": "log"}),
        "neural field": (Neural(net), {"l2": 3e-3}),
    }


def fit(model: Any, settings: dict[str, Any], years: np.ndarray, counts: np.ndarray) -> Any:
    """One collocation solve on the logarithms of the counts."""
    data = jc.Trajectory(years, np.log(counts))
    grid = jc.Grid.uniform(years[0], years[-1], len(years) - 1, jc.Radau(3))
    nlp = jc.transcribe(model, data, grid, **settings)
    key = None if settings["l2"] == 0 else jax.random.key(1)
    # Two samples in the steep part of a cycle are too few to smooth: a spline through the data.
    curve = CubicSpline(years, np.log(counts))
    return jc.solve(
        nlp, jc.Ipopt(max_steps=500), jc.guess(nlp, key=key, states=[curve(grid.times)])
    )


def run(quick: bool = False, width: int = 5, first: int = 14) -> dict[str, dict[str, Any]]:
    """Scores and curves of each model, errors in thousands of pelts."""
    data = datasets.lynx_hare()
    fine = np.linspace(0.0, 20.0, 101 if quick else 401)
    found: dict[str, dict[str, Any]] = {}
    for name, (model, settings) in models(width).items():
        begin = time.perf_counter()
        row: dict[str, Any] = {}
        for part, count in (("all", len(data.ts)), ("first", first)):
            sol = fit(model, settings, data.ts[:count], data.ys[:count])
            start = sol.paths[0].evaluate(0.0)
            ys = np.exp(np.asarray(jc.simulate(sol.model, fine, start)))
            at = np.stack([np.interp(data.ts, fine, channel) for channel in ys.T], axis=1)
            row[part] = {"solution": sol, "curve": ys}
            row[f"{part}_rmse"] = rmse(at[:count], data.ys[:count])
            row[f"{part}_ahead"] = rmse(at[count:], data.ys[count:]) if count < 21 else np.nan
        row["seconds"] = time.perf_counter() - begin
        found[name] = row
    return found


def main() -> None:
    parser = options(__doc__, data=False)
    parser.add_argument("--width", type=int, default=5, help="hidden units of the neural field")
    chosen = parser.parse_args()
    data, found = datasets.lynx_hare(), run(chosen.quick, chosen.width)
    for name, row in found.items():
        print(
            f"{name:<15} rollout RMSE, thousand pelts: all 21 years {row['all_rmse']:.2f}; fitted "
            f"to 14 years {row['first_rmse']:.2f}, the 7 years after {row['first_ahead']:.2f} "
            f"({row['seconds']:.1f} s)"
        )
    print(
        "rates (a, b, c, d):", np.round(found["Lotka-Volterra"]["all"]["solution"].model.rates, 4)
    )
    plt = pyplot()
    figure, axes = plt.subplots(2, 2, figsize=(11, 5.5), sharex=True, constrained_layout=True)
    for column, part in enumerate(("all", "first")):
        for channel, animal in enumerate(("hare", "lynx")):
            axis = axes[channel, column]
            for name, color in zip(found, ("C0", "C3"), strict=True):
                curve = found[name][part]["curve"][:, channel]
                axis.plot(1900 + np.linspace(0, 20, len(curve)), curve, color=color, label=name)
            axis.plot(1900 + data.ts, data.ys[:, channel], "ko", ms=4, label="pelts")
            axis.set_ylim(0, 1.3 * data.ys[:, channel].max())
            axis.set_ylabel(f"{animal}, thousand")
            if part == "first":
                axis.axvline(1913, color="0.3", lw=0.8, ls="--")
    axes[0, 0].set_title("rollouts, fitted to all years")
    axes[0, 1].set_title("fitted up to the dashed line")
    axes[0, 0].legend()
    for axis in axes[1]:
        axis.set_xlabel("year")
        axis.set_xticks(range(1900, 1921, 5))
    save(figure, chosen.output / "lynx_hare.png")


if __name__ == "__main__":
    main()
