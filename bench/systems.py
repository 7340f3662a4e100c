"""`jc.fit` with no argument but the key, on twelve systems: does the model hold where it is judged?

Noise of 5% of each channel's spread, a neural field of two layers for all of them (with the input,
where there is one), three seeds each. Judged by a rollout on what the fit has not seen: the time
after the data from the fitted path's end, or one more trajectory from its true start. The error is
the root mean square against the noise-free truth, each channel in the unit of its noise.

    python bench/systems.py                    # the table
    python bench/systems.py --only lorenz --seeds 1
"""

import argparse
import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from _report import machine, named, table, versions

import jaxcolloc as jc
from jaxcolloc import datasets


NOISE = 0.05
AHEAD = 0.3


class Neural(eqx.Module):
    """A net of the state, and of the input where the trajectory has one."""

    net: eqx.nn.MLP

    def __call__(self, t: Any, x: Any, args: Any) -> Any:
        return self.net(x if args is None else jnp.append(x, args(t)))


class Case(eqx.Module):
    """A system, how it is sampled, and the size of its net."""

    make: Callable[[], datasets.System] = eqx.field(static=True)
    samples: int = 200
    width: int = 16
    trajectories: int = 1
    chaotic: bool = False
    inputs: tuple[float, float] | None = None
    spread: float = 0.0

    def starts(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Initial states, positive ones where the system's own are."""
        y0 = np.array(self.make().y0)
        drawn = y0 * (1 + self.spread * rng.uniform(-1, 1, (count, len(y0))))
        drawn[0] = y0
        return drawn


CASES = {
    "Van der Pol": Case(lambda: datasets.van_der_pol(amplitude=0.0)),
    "damped oscillator": Case(datasets.damped_oscillator),
    "Duffing": Case(datasets.duffing),
    "Lotka-Volterra": Case(datasets.lotka_volterra),
    "Lorenz": Case(datasets.lorenz, samples=400, width=24, chaotic=True),
    "FitzHugh-Nagumo": Case(datasets.fitzhugh_nagumo),
    "Brusselator": Case(datasets.brusselator),
    "Sel'kov": Case(datasets.selkov),
    "driven pendulum": Case(
        datasets.driven_pendulum, trajectories=5, samples=80, inputs=(-0.6, 0.6), spread=1.0
    ),
    "two tanks": Case(
        datasets.two_tanks, trajectories=5, samples=60, inputs=(0.2, 0.7), spread=0.6
    ),
    "fed-batch bioreactor": Case(
        datasets.fed_batch, trajectories=10, samples=30, inputs=(0.0, 0.1), spread=0.3
    ),
    "SIR": Case(datasets.sir, trajectories=8, samples=40, spread=0.5),
}


def experiment(
    case: Case, seed: int
) -> tuple[list[jc.Trajectory], np.ndarray, list[tuple[Any, ...]]]:
    """Noisy data, the noise of each channel, and (times, start, args, truth) of what is unseen."""
    system, rng = case.make(), np.random.default_rng(seed)
    keys = jax.random.split(jax.random.key(1000 + seed), case.trajectories)
    ts = np.linspace(0.0, system.span, case.samples)
    if case.trajectories == 1:
        later = system.span * (1 + AHEAD * np.linspace(0.0, 1.0, 100))
        ys = system.solve(np.append(ts, later[1:]))
        noise = NOISE * ys[: len(ts)].std(axis=0)
        data = [system.sample(ts, noise=noise, key=keys[0])]
        return data, noise, [(later, None, None, ys[len(ts) - 1 :])]
    count = case.trajectories + 1
    starts = case.starts(rng, count)
    args: list[Any] = [None] * count
    if case.inputs is not None:
        knots = np.linspace(0.0, system.span, 9)
        args = [jc.Input(knots, rng.uniform(*case.inputs, 9)) for _ in range(count)]
    truth = [system.solve(ts, y0, u) for y0, u in zip(starts, args, strict=True)]
    noise = NOISE * np.concatenate(truth).std(axis=0)
    data = [
        system.sample(ts, noise=noise, key=key, y0=y0, args=u)
        for key, y0, u in zip(keys, starts[1:], args[1:], strict=True)
    ]
    return data, noise, [(ts, starts[0], args[0], truth[0])]


def run(name: str, seed: int, solver: Any, l2: Any = None) -> dict[str, Any]:
    """One fit and its score; what goes wrong is part of the row."""
    case = CASES[name]
    data, noise, unseen = experiment(case, seed)
    states = data[0].num_channels
    inputs = states + (case.inputs is not None)
    net = eqx.nn.MLP(inputs, states, case.width, 1, jnp.tanh, key=jax.random.key(seed))
    model = jc.normalized(Neural(net), data)
    # Each fit pays for its own compilation; and compiled code of all of them fills a process.
    jax.clear_caches()
    begin = time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sol = jc.fit(model, data, key=jax.random.key(seed), solver=solver, l2=l2)
    except Exception as error:
        return {"system": name, "seed": seed, "error": f"{type(error).__name__}: {error}"}
    seconds = time.perf_counter() - begin
    assert sol.verification is not None
    errors = []
    for ts, y0, args, truth in unseen:
        start = np.asarray(sol.paths[0].evaluate(ts[0])) if y0 is None else y0
        ys = np.asarray(jc.simulate(sol.model, ts, start, args, throw=False))
        errors.append((ys - truth) / noise)
    unseen_error = float(np.sqrt(np.mean(np.concatenate(errors) ** 2)))
    selection = sol.stats.get("selection", [])
    grid = sol.stats["refinement"]
    return {
        "system": name,
        "seed": seed,
        "verdict": sol.verification.verdict.name,
        "verified": sol.verification.verdict.ok
        or (case.chaotic and sol.verification.verdict is jc.VERDICT.unstable),
        "rollout_error": unseen_error,
        "passes": bool(unseen_error <= 2.0) or case.chaotic,
        "l2": getattr(sol.nlp.settings["l2"], "factor", sol.nlp.settings["l2"]),
        "tried": len(selection),
        "selection": selection,
        "intervals": grid[-1]["intervals"],
        "rounds": len(grid) - 1,
        "seconds": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default="", help="parts of systems' names, with commas")
    parser.add_argument("--ipopt", action="store_true", help="with jc.Ipopt")
    parser.add_argument("--output", type=Path, help="a JSON file for the rows")
    options = parser.parse_args()
    print(f"{machine()}\n{versions()}\n")
    # The steps that jc.fit gives IPOPT.
    solver = jc.Ipopt(max_steps=500) if options.ipopt else None
    rows = []
    for name in named(CASES, options.only):
        for seed in range(options.seeds):
            rows.append(run(name, seed, solver))
            print(f"# {json.dumps(rows[-1])}", flush=True)
    print("\n" + summary(rows))
    if options.output:
        options.output.write_text(json.dumps(rows, indent=1) + "\n")


def summary(rows: list[dict[str, Any]]) -> str:
    """The table: one line per system, its seeds side by side."""
    lines = []
    for name in dict.fromkeys(row["system"] for row in rows):
        found = [row for row in rows if row["system"] == name]
        whole = [row for row in found if "error" not in row]
        verdicts = [row.get("verdict", "exception") for row in found]
        lines.append(
            [
                name,
                ", ".join(verdicts),
                ", ".join(f"{row['rollout_error']:.2g}" for row in whole),
                f"{sum(row['verified'] and row['passes'] for row in whole)} of {len(found)}",
                ", ".join(str(row["intervals"]) for row in whole),
                ", ".join(f"{row['seconds']:.0f}" for row in whole),
            ]
        )
    header = ("system", "verdicts", "rollout error / noise", "pass", "intervals", "seconds")
    return table(header, lines)


if __name__ == "__main__":
    main()
