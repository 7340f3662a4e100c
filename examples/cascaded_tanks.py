"""Cascaded tanks: a hidden level, an overflow, a black box and a hybrid model.

Schoukens, Mattsson, Wigren and Noel, "Cascaded tanks benchmark combining soft and hard
nonlinearities" (2016, doi 10.4121/12960104). A pump fills the upper tank, which drains into the
lower one; only the lower level is measured, every 4 s, and either tank may overflow. Two records of
1024 samples, for training and for the test, start in the same unknown state. The score is the root
mean squared error of a free simulation of the test record, from the state fitted to the training
record's start. The pump's voltage u is interpolated linearly.

    black box   x1' = net1(x1, u),    x2' = net2(x1, x2),                            y = x2
    hybrid      x1' = k4 u - k1 sqrt(x1) - over(x1) + net1(x1, u)
                x2' = k2 sqrt(x1) - k3 sqrt(x2) + share over(x1) - over2(x2) + net2(x1, x2)
                x3' = (x2 - x3) / tau, the sensor,                                   y = x3

`--tune` is how width and ridge penalty were chosen inside the training record: models fitted to its
first half and to its first 700 samples are judged by rollouts over what follows.

    python examples/cascaded_tanks.py --data DIR
"""

import time
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from _series import columns, options, pyplot, read, rmse, save

import jaxcolloc as jc


SETTINGS: dict[str, dict[str, Any]] = {
    "black box": {"width": 8, "l2": 1e-3},
    "hybrid": {"width": 4, "l2": 1e-3},
}
CANDIDATES = {
    "black box": [(width, l2) for width in (8, 16) for l2 in (1e-3, 3e-4, 1e-4)],
    "hybrid": [(width, l2) for width in (4, 8) for l2 in (3e-3, 1e-3, 3e-4)],
}
SPLITS = (512, 700)


def _net(inputs: int, width: int, key: Any) -> eqx.nn.MLP:
    return eqx.nn.MLP(inputs, "scalar", width, 1, jnp.tanh, key=key)


class BlackBox(eqx.Module):
    """Two levels, of which the second one follows the first; nothing else is known."""

    upper: eqx.nn.MLP
    lower: eqx.nn.MLP

    def __init__(self, width: int, key: Any):
        one, other = jax.random.split(key)
        self.upper, self.lower = _net(2, width, one), _net(2, width, other)

    def __call__(self, t: Any, y: Any, args: Any) -> Any:
        level, pump = (y - 5) / 3, (args(t) - 3) / 2
        return jnp.stack([self.upper(jnp.stack([level[0], pump])), self.lower(level)]) / 20

    def options(self, l2: float) -> dict[str, Any]:
        """What `jc.transcribe` needs to know."""
        return {"l2": l2, "num_states": 2, "state_bounds": (-5, 20)}

    def states(self, ts: Any, ys: Any, slopes: Any) -> Any:
        """The upper level leads the lower one."""
        return np.concatenate([ys + 60 * slopes, ys], axis=1)


class Hybrid(eqx.Module):
    """Torricelli's law, overflows, a lagging sensor, and nets for what these miss."""

    flow: jax.Array
    overflow: jax.Array
    lag: jax.Array
    upper: eqx.nn.MLP
    lower: eqx.nn.MLP

    def __init__(self, width: int, key: Any):
        one, other = jax.random.split(key)
        self.flow = jnp.asarray([0.05, 0.05, 0.05, 0.04])
        self.overflow = jnp.asarray([0.1, 0.3, 0.1])
        self.lag = jnp.asarray(10.0)
        self.upper, self.lower = _net(2, width, one), _net(2, width, other)

    def __call__(self, t: Any, y: Any, args: Any) -> Any:
        pump, level = args(t), (y - 5) / 3
        k1, k2, k3, k4 = self.flow
        first, share, second = self.overflow
        over = first * _smooth_ramp(y[0] - 10)
        outflow = jnp.sqrt(_smooth_ramp(y[:2]) + 1e-3)
        upper = k4 * pump - k1 * outflow[0] - over
        lower = k2 * outflow[0] - k3 * outflow[1] + share * over - second * _smooth_ramp(y[1] - 10)
        upper += self.upper(jnp.stack([level[0], (pump - 3) / 2])) / 50
        lower += self.lower(level[:2]) / 50
        return jnp.stack([upper, lower, (y[1] - y[2]) / self.lag])

    def options(self, l2: float) -> dict[str, Any]:
        """What `jc.transcribe` needs to know: physical constants are positive and not shrunk."""

        def physical(model: Any) -> Any:
            return model.flow, model.overflow, model.lag

        bounds = jc.leafwise(
            self,
            None,
            (lambda m: m.flow, (1e-3, 1.0)),
            (lambda m: m.overflow, (1e-4, 5.0)),
            (lambda m: m.lag, (2.0, 60.0)),
        )
        return {
            "l2": jc.leafwise(self, l2, (physical, 0.0)),
            "weight_scale": jc.leafwise(self, None, (physical, "log")),
            "weight_bounds": bounds,
            "num_states": 3,
            "state_bounds": (0, 15),
        }

    def states(self, ts: Any, ys: Any, slopes: Any) -> Any:
        """The upper level leads the lower one, which leads the sensor."""
        return np.concatenate([ys + 60 * slopes, ys + 10 * slopes, ys], axis=1)


def _smooth_ramp(x: Any) -> Any:
    return 0.1 * jax.nn.softplus(x / 0.1)


MODELS = {"black box": BlackBox, "hybrid": Hybrid}


def record(folder: Path | None, part: str) -> list[np.ndarray]:
    """Times in s, pump voltage and level of the lower tank in V."""
    rows = [row for row in read(folder, "cascaded_tanks.csv") if row["split"] == part]
    return columns(rows, "t_s", "u_V", "y_V")


def fit(name: str, width: int, l2: float, ts: Any, us: Any, ys: Any, key: int = 0) -> Any:
    """One collocation solve."""
    model = MODELS[name](width, jax.random.key(key))
    data = jc.Trajectory(ts, ys[:, None], jc.Input(ts, us))
    grid = jc.Grid.aligned(ts, jc.Radau(3), every=3)
    nlp = jc.transcribe(model, data, grid, observe=lambda t, y, args: y[-1:], **model.options(l2))
    # The black box leaves the meaning of its hidden state open, and jaxcolloc chooses one.
    states = "smooth" if name == "black box" else model.states
    guess = jc.guess(nlp, key=jax.random.key(key + 1), states=states)
    return jc.solve(nlp, jc.Ipopt(max_steps=500), guess)


def rollout(sol: jc.Solution, ts: Any, us: Any) -> np.ndarray:
    """The measured level in a free simulation from the fitted start."""
    start = sol.paths[0].evaluate(0.0)
    return np.asarray(jc.simulate(sol.model, ts, start, jc.Input(ts, us)))[:, -1]


def validate(folder: Path | None, name: str, width: int, l2: float) -> float:
    """The rollout's error behind the first half, and the first two thirds, of the training record.

    Each is fitted alone, and simulated on from the state where it ends.
    """
    ts, us, ys = record(folder, "train")
    squares = []
    for count in SPLITS:
        sol = fit(name, width, l2, ts[:count], us[:count], ys[:count])
        start = sol.paths[0].evaluate(ts[count - 1])
        u = jc.Input(ts, us)
        ahead = jc.simulate(sol.model, ts[count - 1 :], start, u, throw=False)[1:, -1]
        squares.append(np.mean((np.asarray(ahead) - ys[count:]) ** 2))
    return float(np.sqrt(np.mean(squares)))


def run(folder: Path | None, quick: bool = False, names: Any = tuple(MODELS)) -> dict[str, Any]:
    """Train each model, simulate both records, and return scores in V and curves."""
    train, test = record(folder, "train"), record(folder, "test")
    if quick:
        train = [column[:200] for column in train]
    found = {}
    for name in names:
        begin = time.perf_counter()
        sol = fit(name, **SETTINGS[name], ts=train[0], us=train[1], ys=train[2])
        seconds = time.perf_counter() - begin
        curves = [rollout(sol, *part[:2]) for part in (train, test)]
        found[name] = {
            "train_V": rmse(curves[0], train[2]),
            "test_V": rmse(curves[1], test[2]),
            "test_after_50_V": rmse(curves[1][50:], test[2][50:]),
            "seconds": seconds,
            "solution": sol,
            "curves": curves,
        }
    return found


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--tune", action="store_true", help="choose sizes on the training record")
    chosen = parser.parse_args()
    if chosen.tune:
        for name, candidates in CANDIDATES.items():
            for width, l2 in candidates:
                error = validate(chosen.data, name, width, l2)
                print(f"{name}, width {width}, l2 {l2:g}: {error:.3f} V ahead", flush=True)
        return
    train, test = record(chosen.data, "train"), record(chosen.data, "test")
    found = run(chosen.data, chosen.quick)
    for name, row in found.items():
        sol = row["solution"]
        print(
            f"{name:<9} {sol.result.name}, {sol.stats['num_steps']} steps, "
            f"{row['seconds']:.1f} s with guess and compilation; rollout RMSE: "
            f"train {row['train_V']:.3f} V, test {row['test_V']:.3f} V, "
            f"without its first 50 samples {row['test_after_50_V']:.3f} V"
        )
    plt = pyplot()
    figure, axes = plt.subplots(2, 1, figsize=(10, 6), constrained_layout=True)
    for axis, part, title, index in zip(
        axes, (train, test), ("training record", "test record"), (0, 1), strict=True
    ):
        axis.plot(part[0], part[2], color="0.6", lw=2.5, label="measured")
        for (name, row), color in zip(found.items(), ("C0", "C3"), strict=True):
            curve = row["curves"][index]
            axis.plot(part[0][: len(curve)], curve, color=color, lw=1.2, label=name)
        axis.set_ylabel("lower level, V")
        axis.set_title(f"{title}: rollouts")
    axes[0].legend(ncols=3)
    axes[1].set_xlabel("time, s")
    save(figure, chosen.output / "cascaded_tanks.png")


if __name__ == "__main__":
    main()
