"""The paper's case with 200 equally spaced samples: local optima, and what several starts find.

Forced Van der Pol oscillator on [0, 15], noise 0.1, net 2-32-2, l2 1e-3, 50 x Radau 4. The NLP has
clusters of optima: one near 0.084 that a rollout confirms, others near 0.10. A plain solve from
`jc.guess` against `jc.fit` with the same grid and penalty, which tries up to 12 starts on 25
intervals. Seconds include guesses and the rollouts that judge the starts, but not compilation: both
have been run once before, on other noise.

    python bench/starts.py              # seeds 0 to 9
    python bench/starts.py --seeds 2
"""

import argparse
import time
import warnings
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from _report import machine, table, versions

import jaxcolloc as jc
from jaxcolloc import datasets


GRID = jc.Grid.uniform(0.0, 15.0, 50, jc.Radau(4))
OPTIONS: dict[str, Any] = {"l2": 1e-3, "state_bounds": (-5, 5), "weight_bounds": (-100, 100)}
GOOD = 0.090


class Autonomous(eqx.Module):
    """y' = net(y)."""

    net: eqx.nn.MLP

    def __call__(self, t: Any, y: Any, args: Any) -> Any:
        return self.net(y)


def case(seed: int) -> tuple[Autonomous, jc.Trajectory, Any]:
    """Model, data and key."""
    noise, weights, key = jax.random.split(jax.random.key(seed), 3)
    data = datasets.van_der_pol().sample(np.linspace(0.0, 15.0, 200), noise=0.1, key=noise)
    return Autonomous(eqx.nn.MLP(2, 2, 32, 1, jnp.tanh, key=weights)), data, key


def plain(seed: int) -> tuple[jc.Solution, float]:
    """One solve from the default guess, and its seconds."""
    model, data, key = case(seed)
    begin = time.perf_counter()
    nlp = jc.transcribe(model, data, GRID, **OPTIONS)
    sol = jc.solve(nlp, jc.Ipopt(), jc.guess(nlp, key=key), throw=False)
    return sol, time.perf_counter() - begin


def fitted(seed: int) -> tuple[jc.Solution, float]:
    """The same through `jc.fit`."""
    model, data, key = case(seed)
    begin = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sol = jc.fit(model, data, key=key, grid=GRID, **OPTIONS)
    return sol, time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=10)
    seeds = range(parser.parse_args().seeds)
    print(f"{machine()}\n{versions()}\n")
    plain(1000), fitted(1000)
    rows, seconds, good = [], np.zeros(2), np.zeros(2, int)
    for seed in seeds:
        (one, one_seconds), (best, best_seconds) = plain(seed), fitted(seed)
        verdict = jc.verify(one).verdict.name
        assert best.verification is not None
        starts = best.stats["starts"]
        rows.append(
            [
                seed,
                f"{one.objective:.4f}",
                verdict,
                f"{one_seconds:.1f}",
                f"{best.objective:.4f}",
                best.verification.verdict.name,
                len(starts),
                sum(row["verified"] for row in starts),
                f"{best_seconds:.1f}",
            ]
        )
        seconds += [one_seconds, best_seconds]
        good += [one.objective <= GOOD, best.objective <= GOOD]
        print("#", *rows[-1], flush=True)
    header = (
        "seed", "plain solve", "verdict", "s", "jc.fit", "verdict", "starts", "verified", "s"
    )  # fmt: skip
    print("\n" + table(header, rows))
    print(
        f"\nobjective at most {GOOD}: plain {good[0]} of {len(seeds)}, fit {good[1]} of "
        f"{len(seeds)}; fit takes {seconds[1] / seconds[0]:.1f} times as long"
    )


if __name__ == "__main__":
    main()
