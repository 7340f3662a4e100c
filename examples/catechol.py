"""Catechol: the yields of a reaction in solvents that the model has never seen.

Boyne et al., the catechol benchmark of solvent selection (2025): yields of the starting material
and of two products of a rearrangement in 24 solvents against residence time and temperature. The
protocol: times rounded to 0.1 min, repeats averaged (319 conditions); one solvent is left out at a
time, and the score is the mean squared error over its three yields, averaged over the 24 folds,
of rollouts from the known start (1, 0, 0).

Five first-order reactions, whose rate constants follow Arrhenius' law with a neural dependence on
13 descriptors of the solvent,

    log k_j = a_j + net_j(solvent) + (b_j + net_{j+5}(solvent)) tau(T),
    SM' = -(k1 + k2 + k3) SM,    P2' = k1 SM - k4 P2,    P3' = k2 SM - k5 P3,

with tau = 0 at 200 and 1 at 225 C. What k3, k4 and k5 take is lost: the yields sum to about 0.8.

All 115 pairs of solvent and temperature are trajectories of one NLP.

`--tune` is how width and ridge penalty were chosen: the solvents are dealt into two halves, and the
setting for the solvents of one half is the best in a cross-validation (4 folds of solvents)
within the other half alone.

    python examples/catechol.py --data DIR            # all folds
    python examples/catechol.py --data DIR --folds 3  # three of them
"""

import csv
import time
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from _series import options, pyplot, read, save

import jaxcolloc as jc


# Width and ridge penalty for the solvents at even and at odd places of the alphabet.
SETTINGS = [(8, 3e-3), (8, 3e-3)]
CANDIDATES = [(4, 1e-3), (8, 3e-3), (8, 1e-3), (8, 3e-4)]
GRID = jc.Grid([0.0, 1.5, 5.0, 15.0], jc.Radau(3))
START = np.array([1.0, 0.0, 0.0])


class Kinetics(eqx.Module):
    """First-order reactions whose rates depend on temperature and solvent."""

    rate: jax.Array
    activation: jax.Array
    net: eqx.nn.MLP

    def __init__(self, width: int, key: Any):
        self.rate = jnp.asarray([-3.0, -3.0, -4.0, -4.0, -4.0])
        self.activation = jnp.full(5, 2.0)
        self.net = eqx.nn.MLP(13, 10, width, 1, jnp.tanh, key=key)

    def __call__(self, t: Any, y: Any, args: Any) -> Any:
        shift, slope = jnp.split(self.net(args["solvent"]), 2)
        k = jnp.exp(self.rate + shift + (self.activation + slope) * args["tau"])
        made = k[:3] * y[0]
        return jnp.stack([-jnp.sum(made), made[0] - k[3] * y[1], made[1] - k[4] * y[2]])


def experiments(folder: Path | None) -> tuple[list[str], list[jc.Trajectory]]:
    """The solvent of each trajectory, and the trajectories: one solvent at one temperature."""
    repeats: dict[tuple[str, float, float], list[list[float]]] = {}
    for row in read(folder, "catechol.csv"):
        key = (row["solvent"], float(row["T_C"]), round(float(row["t_min"]), 1))
        repeats.setdefault(key, []).append([float(row[name]) for name in ("SM", "P2", "P3")])
    with (Path(str(folder)) / "catechol_spange.csv").open(newline="") as file:
        table = {row[0]: row[1:] for row in list(csv.reader(file))[1:]}
    names = sorted({solvent for solvent, _, _ in repeats})
    descriptors = np.array([table[name] for name in names], float)
    descriptors = (descriptors - descriptors.mean(axis=0)) / descriptors.std(axis=0)
    solvents, data = [], []
    for solvent, temperature in sorted({key[:2] for key in repeats}):
        rows = sorted(
            (key[2], np.mean(values, axis=0))
            for key, values in repeats.items()
            if key[:2] == (solvent, temperature)
        )
        ts, ys = np.array([row[0] for row in rows]), np.stack([row[1] for row in rows])
        args = {"solvent": descriptors[names.index(solvent)], "tau": _tau(temperature)}
        solvents.append(solvent)
        data.append(jc.Trajectory(ts, ys, args, y0=START))
    return solvents, data


def _tau(celsius: float) -> float:
    kelvin = np.array([celsius, 200.0, 225.0]) + 273.15
    return float((1 / kelvin[1] - 1 / kelvin[0]) / (1 / kelvin[1] - 1 / kelvin[2]))


def fit(data: list[jc.Trajectory], left_out: np.ndarray, width: int, l2: float) -> Any:
    """One solve without the trajectories left out.

    They stay in the NLP with weight zero: no yield of theirs enters, and all folds have one
    shape, so that the functions are compiled once.
    """
    kept = [
        jc.Trajectory(item.ts, np.zeros_like(item.ys), item.args, weights=0.0, y0=item.y0)
        if out
        else jc.Trajectory(item.ts, item.ys, item.args, weights=1.0, y0=item.y0)
        for item, out in zip(data, left_out, strict=True)
    ]
    model = Kinetics(width, jax.random.key(0))
    penalty = jc.leafwise(model, 0.0, (lambda m: m.net, l2))
    nlp = jc.transcribe(model, kept, GRID, l2=penalty)
    # Exponential decay from a rough rate: nothing of the data but their scale is in this guess.
    decay = np.exp(-0.1 * GRID.times)[:, None]
    states = [np.concatenate([decay, 0.4 * (1 - decay), 0.3 * (1 - decay)], axis=1)] * len(data)
    guess = jc.guess(nlp, states=states, weights="as_given")
    return jc.solve(nlp, jc.Ipopt(max_steps=300), guess)


def rollout(model: Any, item: jc.Trajectory, every_time: np.ndarray) -> np.ndarray:
    """The yields at the times of a trajectory."""
    ys = np.asarray(jc.simulate(model, every_time, START, item.args))
    return ys[np.searchsorted(every_time, item.ts)]


def errors(sol: jc.Solution, unseen: list[jc.Trajectory], every_time: np.ndarray) -> Any:
    """Measured and predicted yields, one row per condition."""
    predicted = np.concatenate([rollout(sol.model, item, every_time) for item in unseen])
    return np.concatenate([item.ys for item in unseen]), predicted


def tune(folder: Path | None) -> None:
    """For the solvents of each half, the errors of all settings within the other half."""
    solvents, data = experiments(folder)
    names = sorted(set(solvents))
    every_time = np.unique(np.concatenate([[0.0], *(item.ts for item in data)]))
    for half in (0, 1):
        others = names[1 - half :: 2]
        inside = [k for k, name in enumerate(solvents) if name in others]
        known = [data[k] for k in inside]
        for width, l2 in CANDIDATES:
            scores = []
            for fold in range(4):
                left_out = np.isin([solvents[k] for k in inside], others[fold::4])
                sol = fit(known, left_out, width, l2)
                unseen = [item for item, out in zip(known, left_out, strict=True) if out]
                measured, predicted = errors(sol, unseen, every_time)
                scores.append(np.mean((measured - predicted) ** 2))
            print(
                f"for half {half}, width {width}, l2 {l2:g}: MSE {np.mean(scores):.5f}",
                flush=True,
            )


def run(folder: Path | None, quick: bool = False, folds: int | None = None) -> dict[str, Any]:
    """The score of each fold, and predictions beside measurements."""
    solvents, data = experiments(folder)
    names = sorted(set(solvents))[: 2 if quick else folds]
    every_time = np.unique(np.concatenate([[0.0], *(item.ts for item in data)]))
    begin, scores, pairs, steps = time.perf_counter(), {}, [], []
    for place, name in enumerate(names):
        left_out = np.array(solvents) == name
        sol = fit(data, left_out, *SETTINGS[place % 2])
        unseen = [item for item, out in zip(data, left_out, strict=True) if out]
        measured, predicted = errors(sol, unseen, every_time)
        scores[name] = float(np.mean((predicted - measured) ** 2))
        pairs.append((measured, predicted))
        steps.append(sol.stats["num_steps"])
        print(
            f"{name:<38} {sol.result.name}, {sol.stats['num_steps']:3d} steps, "
            f"MSE {scores[name]:.5f}",
            flush=True,
        )
    return {
        "scores": scores,
        "mse": float(np.mean(list(scores.values()))),
        "median": float(np.median(list(scores.values()))),
        "seconds": time.perf_counter() - begin,
        "steps": steps,
        "conditions": sum(len(item.ts) for item in data),
        "pairs": [np.concatenate(side) for side in zip(*pairs, strict=True)],
    }


def main() -> None:
    parser = options(__doc__)
    parser.add_argument(
        "--folds", type=int, help="how many solvents are left out; all if not given"
    )
    parser.add_argument("--tune", action="store_true", help="how the settings were chosen")
    chosen = parser.parse_args()
    if chosen.tune:
        tune(chosen.data)
        return
    found = run(chosen.data, chosen.quick, chosen.folds)
    print(
        f"{len(found['scores'])} folds of {found['conditions']} conditions: "
        f"mean {found['mse']:.5f}, median {found['median']:.5f}; {found['seconds']:.0f} s"
    )
    plt = pyplot()
    figure, axes = plt.subplots(1, 3, figsize=(10.5, 3.6), constrained_layout=True)
    for axis, name, one, other in zip(
        axes, ("starting material", "product 2", "product 3"), *(side.T for side in found["pairs"]),
        strict=True,
    ):  # fmt: skip
        axis.plot([0, 1], [0, 1], color="0.7", lw=1)
        axis.plot(one, other, ".", ms=5, alpha=0.6)
        axis.set_title(f"yield of {name}")
        axis.set_xlabel("measured")
    axes[0].set_ylabel("rollout, solvent left out")
    save(figure, chosen.output / "catechol.png")


if __name__ == "__main__":
    main()
