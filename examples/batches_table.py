"""Batches in a table: from a CSV file to a report of a hybrid reactor model.

Six fed-batch runs as a plant's database exports them: a long table with a row for every value that
was written down, biomass and sugar (some values missing) and the dilution rate that the pump was
set to. The mass balances are known, the growth rate is a net of the sugar's concentration, the
yield is unknown. Five runs are fitted, the sixth is predicted.

    python examples/batches_table.py

The lines of `analyse` are all that it takes, from `read_csv` to the report.
"""

import time
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from _series import options, pyplot, save

import jaxcolloc as jc


FEED = 50.0  # g/L of sugar in what is pumped in


def export(path: Path, runs: int, samples: int) -> None:
    """Write the table: simulated runs with Monod's growth law, which the model does not know."""
    rng, rows = np.random.default_rng(0), []

    def truth(t: Any, y: Any, args: Any) -> Any:
        growth = 0.5 * y[1] / (1.5 + y[1]) * y[0]
        return jnp.stack([growth - args(t) * y[0], args(t) * (FEED - y[1]) - growth / 0.4])

    for run in range(1, runs + 1):
        switches = np.linspace(0.0, 15.0, 6)
        rates = np.round(rng.uniform(0.0, 0.05, 6), 3)
        ts = np.sort(np.round(rng.uniform(0.2, 18.0, samples), 1))
        times = np.append(0.0, np.unique(ts))
        start = rng.uniform([0.5, 8.0], [1.5, 16.0])
        ys = np.asarray(jc.simulate(truth, times, start, jc.Input(switches, rates, "hold")))
        for name, column, noise in (("biomass", 0, 0.15), ("sugar", 1, 0.3)):
            values = ys[:, column] + noise * rng.normal(size=len(ys))
            kept = rng.uniform(size=len(ys)) > 0.15
            rows += [
                (run, t, name, value) for t, value in zip(times[kept], values[kept], strict=True)
            ]
        rows += [(run, t, "dilution", rate) for t, rate in zip(switches, rates, strict=True)]
    frame = pd.DataFrame(rows, columns=["batch", "hours", "what", "value"])
    frame.to_csv(path, index=False, float_format="%.4g")


class Reactor(eqx.Module):
    """Mass balances of biomass and sugar; the growth rate is a net."""

    growth: eqx.nn.MLP
    biomass_yield: jax.Array

    def rate(self, sugar: Any) -> Any:
        return jnp.maximum(sugar, 0.0) * jax.nn.softplus(self.growth(sugar[None] / 10)[0])

    def __call__(self, t: Any, y: Any, args: Any) -> Any:
        grown, dilution = self.rate(y[1]) * y[0], args["dilution"](t)
        used = grown / self.biomass_yield
        return jnp.stack([grown - dilution * y[0], dilution * (FEED - y[1]) - used])


def analyse(path: Path, output: Path) -> tuple[jc.Solution, jc.Validation]:
    """From the file to the report."""
    data = jc.from_frame(
        pd.read_csv(path),
        time="hours",
        by="batch",
        variable="what",
        value="value",
        channels=["biomass", "sugar"],
        inputs=["dilution"],
        kind="hold",
        units={"hours": "h", "biomass": "g/L", "sugar": "g/L", "dilution": "1/h"},
    )
    net = eqx.nn.MLP(1, 1, 5, 1, activation=jnp.tanh, key=jax.random.key(0))
    model = Reactor(net, jnp.asarray(0.5))
    sol = jc.fit(model, data[:-1], key=jax.random.key(1), l2=jc.OnNets(1e-4))
    u = jc.uncertainty(sol)
    unseen = jc.validate(sol, data[-1:], horizons=[4.0])
    print(sol, u, unseen, sep="\n\n")
    jc.report(sol, output / "batches_table.html", uncertainty=u, validation=unseen)
    return sol, unseen


def main() -> None:
    chosen = options(__doc__, data=False).parse_args()
    runs, samples = (3, 12) if chosen.quick else (6, 20)
    chosen.output.mkdir(parents=True, exist_ok=True)
    pyplot()
    table = chosen.output / "batches_table.csv"
    export(table, runs, samples)
    begin = time.perf_counter()
    sol, _ = analyse(table, chosen.output)
    print(f"\n{time.perf_counter() - begin:.1f} s from the table to the report")
    print(f"yield {float(sol.model.biomass_yield):.3f}, in truth 0.4")
    save(jc.plot(sol, "all"), chosen.output / "batches_table.png")


if __name__ == "__main__":
    main()
