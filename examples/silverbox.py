"""Silverbox: an electronic oscillator, learned in seconds with a neural restoring force.

Wigren and Schoukens, "Three free data sets for development and benchmarking in nonlinear system
identification" (ECC 2013); an excerpt of 3072 training and, directly behind it, 1024 test
samples at 610 Hz. A second-order oscillator driven by the input, whose restoring force is linear
plus a net in position and velocity:

    x' = omega v,    v' = omega (-k x - d v + b u(t) + net(x, v)),    y = x

The score is the error of a rollout with the recorded input over the test samples, from the state
in which the training path ends.

    python examples/silverbox.py --data DIR
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


OMEGA = 430.0  # rad/s, near the resonance: x and v are of one size


class Oscillator(eqx.Module):
    """A linear oscillator and a neural correction of its force."""

    stiffness: jax.Array
    damping: jax.Array
    gain: jax.Array
    net: eqx.nn.MLP

    def __init__(self, width: int, key: Any):
        self.stiffness, self.damping, self.gain = jnp.asarray([1.0, 0.05, 0.5])
        self.net = eqx.nn.MLP(2, 1, width, 1, jnp.tanh, key=key)

    def __call__(self, t: Any, y: Any, args: Any) -> Any:
        x, v = y
        force = self.gain * args(t) - self.stiffness * x - self.damping * v
        return OMEGA * jnp.stack([v, force + 0.1 * self.net(8 * y)[0]])


def samples(folder: Path | None, part: str) -> list[np.ndarray]:
    """Times in s, input and output in V."""
    rows = [row for row in read(folder, "silverbox_4096.csv") if row["split"] == part]
    return columns(rows, "t_s", "u_V", "y_V")


def run(folder: Path | None, quick: bool = False, width: int = 8) -> dict[str, Any]:
    """Train, simulate, and return scores in mV and curves."""
    (ts, us, ys), test = samples(folder, "train"), samples(folder, "test")
    if quick:
        ts, us, ys = ts[-600:], us[-600:], ys[-600:]
    begin, start = ts[0], time.perf_counter()
    ts, later = ts - begin, test[0] - begin
    # The whole record is the input: the training path ends where the test begins.
    u = jc.Input(np.append(ts, later), np.append(us, test[1]), kind="cubic")
    data = jc.Trajectory(ts, ys[:, None], u, weights=100.0)
    model = Oscillator(width, jax.random.key(0))
    l2 = jc.leafwise(model, 0.0, (lambda m: m.net, 1e-6))
    nlp = jc.transcribe(model, data, jc.Grid.aligned(ts, jc.Radau(3), every=2), num_states=2, l2=l2)
    # Hardly any noise: the position is the output, the velocity its slope.
    guess = jc.guess(
        nlp,
        key=jax.random.key(1),
        states=lambda t, y, slope: np.stack(
            [np.interp(t, ts, ys), np.interp(t, ts, np.gradient(ys, ts)) / OMEGA], axis=1
        ),
    )
    sol = jc.solve(nlp, jc.Ipopt(max_steps=100), guess)
    seconds = time.perf_counter() - start
    path = sol.paths[0]
    train = jc.simulate(sol.model, ts, path.evaluate(0.0), u)[:, 0]
    ahead = jc.simulate(sol.model, np.append(ts[-1], later), path.evaluate(ts[-1]), u)[1:, 0]
    return {
        "train_mV": 1e3 * rmse(train, ys),
        "test_mV": 1e3 * rmse(ahead, test[2]),
        "seconds": seconds,
        "solution": sol,
        "curves": (later, test[2], np.asarray(ahead)),
    }


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--width", type=int, default=8, help="hidden units")
    chosen = parser.parse_args()
    found = run(chosen.data, chosen.quick, chosen.width)
    print(found["solution"])
    print(
        f"rollout RMSE: train {found['train_mV']:.2f} mV, test {found['test_mV']:.2f} mV; "
        f"guess and solve {found['seconds']:.1f} s with compilation"
    )
    ts, truth, rollout = found["curves"]
    plt = pyplot()
    figure, axes = plt.subplots(2, 1, figsize=(9, 5), sharex=True, constrained_layout=True)
    shown = slice(0, 300)
    axes[0].plot(ts[shown], truth[shown], color="0.6", lw=2.5, label="measured, test part")
    axes[0].plot(ts[shown], rollout[shown], color="C3", lw=1.2, label="rollout")
    axes[0].set_ylabel("output, V")
    axes[0].legend(loc="upper right", ncols=2)
    axes[1].plot(ts[shown], 1e3 * (rollout - truth)[shown], color="C3", lw=1.2)
    axes[1].set_ylabel("error, mV")
    axes[1].set_xlabel("time, s")
    save(figure, chosen.output / "silverbox.png")


if __name__ == "__main__":
    main()
