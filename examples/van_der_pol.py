"""The paper's case study: a forced Van der Pol oscillator, learned by one collocation solve.

Shapovalova and Tsay, "Training Neural ODEs Using Fully Discretized Simultaneous Optimization"
(arXiv 2502.15642), section 4.1: 200 Chebyshev points on [0, 15], noise of standard deviation 0.1,
an autonomous net 2-32-2 with tanh, ridge penalty 1e-3, states within 5, weights within 100.

    python examples/van_der_pol.py                 # the paper's size
    python examples/van_der_pol.py --seeds 10      # mean over seeds 0 to 9
    python examples/van_der_pol.py --nodes 60 --until 6 --width 8
"""

import argparse
import time
from pathlib import Path
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import jaxcolloc as jc
from jaxcolloc import datasets


class Autonomous(eqx.Module):
    """y' = net(y): the model does not know the forcing's phase."""

    net: eqx.nn.MLP

    def __call__(self, t: Any, y: Any, args: Any) -> Any:
        return self.net(y)


def train(options: argparse.Namespace, seed: int) -> tuple[jc.Solution, jc.Trajectory, float]:
    """One training run: data, NLP, guess, solve; and the seconds that the guess took."""
    grid = jc.Grid.single(0.0, options.until, jc.Chebyshev(options.nodes))
    noise_key, model_key, guess_key = jax.random.split(jax.random.key(seed), 3)
    data = datasets.van_der_pol().sample(grid.times, noise=0.1, key=noise_key)
    net = eqx.nn.MLP(2, 2, options.width, 1, activation=jnp.tanh, key=model_key)
    nlp = jc.transcribe(
        Autonomous(net), data, grid, l2=1e-3, state_bounds=(-5, 5), weight_bounds=(-100, 100)
    )
    begin = time.perf_counter()
    guess = jc.guess(nlp, key=guess_key)
    seconds = time.perf_counter() - begin
    if seed == options.first:
        print(nlp)
    return jc.solve(nlp, jc.Ipopt(), guess), data, seconds


def rollout_errors(sol: jc.Solution, until: float) -> tuple[dict[str, Any], float, float]:
    """Mean squared errors of a Diffrax rollout against the noise-free truth.

    Train: from the true start over the time of the data; test: from the true state at its end
    over as long again.
    """
    ts = np.linspace(0.0, 2 * until, 401)
    truth = datasets.van_der_pol().solve(ts)
    halves = slice(0, 201), slice(200, 401)
    # The trained module is a Diffrax vector field as it is.
    assert callable(diffrax.ODETerm(sol.model).vf)
    runs = [np.asarray(jc.simulate(sol.model, ts[part], truth[part][0])) for part in halves]
    train, test = (
        float(np.mean((run - truth[part]) ** 2)) for run, part in zip(runs, halves, strict=True)
    )
    return {"ts": ts, "truth": truth, "runs": runs, "halves": halves}, train, test


def picture(path: Path, curves: dict[str, Any], data: jc.Trajectory) -> None:
    """Truth, data and rollout over the training and the test range, as in the paper's figure 1."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 1, figsize=(9, 5.5), sharex=True, constrained_layout=True)
    ts, truth = curves["ts"], curves["truth"]
    for state, (axis, name) in enumerate(zip(axes, ("$x$", r"$\dot{x}$"), strict=True)):
        axis.plot(ts, truth[:, state], color="0.6", lw=2.5, label="truth")
        axis.plot(data.ts, data.ys[:, state], ".", color="C0", ms=4, label="data, noise 0.1")
        for run, part, color, label in zip(
            curves["runs"], curves["halves"], ("C1", "C3"), ("rollout, train", "rollout, test"),
            strict=True,
        ):  # fmt: skip
            axis.plot(ts[part], run[:, state], color=color, lw=1.6, label=label)
        axis.axvline(data.ts[-1], color="0.3", lw=0.8, ls="--")
        axis.set_ylabel(name)
    axes[0].legend(loc="upper center", bbox_to_anchor=(0.5, 1.22), ncols=4, frameon=False)
    axes[1].set_xlabel("time")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--nodes", type=int, default=200, help="Chebyshev points")
    parser.add_argument("--until", type=float, default=15.0, help="end of the training data")
    parser.add_argument("--width", type=int, default=32, help="hidden units")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds to run")
    parser.add_argument("--output", type=Path, default=Path("examples/output"))
    options = parser.parse_args()

    rows = []
    for seed in range(options.first, options.first + options.seeds):
        sol, data, guess_seconds = train(options, seed)
        curves, train_error, test_error = rollout_errors(sol, options.until)
        rows.append((train_error, test_error, sol.result.ok))
        if seed == options.first:
            print(f"\n{sol}\n  guess      {guess_seconds:.2f} seconds\n")
            target = options.output / "van_der_pol.png"
            picture(target, curves, data)
        print(
            f"seed {seed}: {sol.result.name}, {sol.stats['num_steps']} steps, "
            f"objective {sol.objective:.5f}, compile {sol.stats['compile_seconds']:.2f} s, "
            f"solve {sol.stats['solve_seconds']:.2f} s, "
            f"rollout MSE train {train_error:.4f}, test {test_error:.4f}",
            flush=True,
        )
    if options.seeds > 1:
        mean = np.mean([row[:2] for row in rows], axis=0)
        solved = sum(row[2] for row in rows)
        print(
            f"mean over {options.seeds} seeds: train {mean[0]:.4f}, test {mean[1]:.4f}; "
            f"{solved} of {options.seeds} solved"
        )
    print(f"picture: {target}")


if __name__ == "__main__":
    main()
