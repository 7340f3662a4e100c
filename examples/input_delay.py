"""Dead time: a delay of the input is a weight like any other.

A tank at the end of a long pipe. What is fed into the pipe arrives a time later that nobody has
measured, and mixes:

    y' = (gain u(t - delay) - y) / tau

The input is a `jc.Input` between whose samples it is interpolated, so that it has a slope, and the
delay a gradient; of a held input it would be zero. The model with a delay is compared with one in
which it is zero (`trainable`), on one record of 60 minutes with noise.

    python examples/input_delay.py
"""

import time
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from _series import options, pyplot, rmse, save

import jaxcolloc as jc


class Mixing(eqx.Module):
    """A first-order lag of an input that comes late."""

    gain: jax.Array
    tau: jax.Array
    delay: jax.Array

    def __call__(self, t: Any, y: Any, args: Any) -> Any:
        return (self.gain * args(t - self.delay)[None] - y) / self.tau


TRUE = Mixing(jnp.asarray(1.8), jnp.asarray(3.0), jnp.asarray(4.5))
START = Mixing(jnp.asarray(1.0), jnp.asarray(1.0), jnp.asarray(0.0))


def record(noise: float = 0.05) -> tuple[jc.Trajectory, np.ndarray]:
    """Samples every half minute of the tank behind a feed that is moved at random; the truth."""
    rng = np.random.default_rng(0)
    knots = np.arange(0.0, 63.0, 3.0)
    feed = jc.Input(knots, rng.uniform(0.0, 1.0, len(knots)), kind="cubic")
    ts = np.arange(0.0, 60.25, 0.5)
    truth = np.asarray(jc.simulate(TRUE, ts, [0.3], feed))
    return jc.Trajectory(ts, truth + noise * rng.normal(size=truth.shape), feed), truth


def fit(data: jc.Trajectory, delayed: bool, starts: int) -> jc.Solution:
    """The constants from a start without delay, which is trained or not."""
    chosen = jc.leafwise(START, True, (lambda m: m.delay, delayed))
    bounds = jc.leafwise(START, (0.05, 20.0), (lambda m: m.delay, (0.0, 10.0)))
    return jc.fit(
        START, data, key=jax.random.key(0), starts=starts, trainable=chosen, weight_bounds=bounds
    )


def run(quick: bool = False) -> dict[str, Any]:
    """Both solutions and how far their rollouts are from the truth."""
    data, truth = record()
    begin = time.perf_counter()
    found: dict[str, Any] = {"data": data, "truth": truth}
    for name, delayed in (("with a delay", True), ("without", False)):
        sol = fit(data, delayed, 2 if quick else 4)
        path = np.asarray(jc.simulate(sol.model, data.ts, sol.paths[0].evaluate(0.0), data.args))
        found[name] = {"solution": sol, "path": path, "error": rmse(path, truth)}
    return found | {"seconds": time.perf_counter() - begin}


def main() -> None:
    chosen = options(__doc__, data=False).parse_args()
    found = run(chosen.quick)
    table = jc.uncertainty(found["with a delay"]["solution"]).to_pandas().set_index("name")
    for name in ("gain", "tau", "delay"):
        row = table.loc[f".{name}"]
        print(f"{name:<6} {row.value:.3f} (true {getattr(TRUE, name):g}), error {row.stderr:.3f}")
    errors = [found[name]["error"] for name in ("with a delay", "without")]
    print(
        f"rollouts from the truth, RMSE: with a delay {errors[0]:.4f}, without {errors[1]:.4f} "
        f"({found['seconds']:.1f} s)"
    )
    save(draw(found), chosen.output / "input_delay.png")


def draw(found: dict[str, Any]) -> Any:
    """The feed above, the tank below."""
    data, plt = found["data"], pyplot()
    figure, (above, below) = plt.subplots(
        2, 1, figsize=(9, 5), sharex=True, constrained_layout=True, height_ratios=(1, 2)
    )
    feed = np.asarray(jax.vmap(data.args)(jnp.asarray(data.ts)))
    delay = float(found["with a delay"]["solution"].model.delay)
    above.plot(data.ts, feed, "k", label="feed")
    above.plot(data.ts + delay, feed, "C0--", lw=1, label=f"{delay:.2f} minutes later")
    above.set_xlim(0, 60)
    below.plot(data.ts, data.ys[:, 0], "k.", ms=4, label="samples")
    for name, style in (("with a delay", "C0"), ("without", "C3--")):
        below.plot(data.ts, found[name]["path"][:, 0], style, label=f"rollout {name}")
    above.set_ylabel("feed")
    below.set_ylabel("tank")
    below.set_xlabel("minutes")
    for axis in (above, below):
        axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    return figure


if __name__ == "__main__":
    main()
