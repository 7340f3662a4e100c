"""Theophylline: one dose, twelve subjects, constants of each with their intervals.

Twelve people took theophylline once and gave blood eleven times in a day
(`jc.datasets.theophylline`). The law is that of a gut which empties into one compartment,

    C' = ka G / V - ke C,    G' = -ka G,    G jumps by the dose (mg per kg) at time zero,

with the concentration C measured and the gut G not. First ka, ke and V are those of every subject
(`jc.Unknown` in its `args`), then one set is fitted to all. The table has the constants of each
subject and their standard errors; the picture shows samples, both fits and
the 95% bands of the first.

    python examples/theophylline.py
"""

import time
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from _series import options, pyplot, save

import jaxcolloc as jc
from jaxcolloc import datasets


class OneCompartment(eqx.Module):
    """Absorption from the gut and elimination, both of first order, for constants in `args`."""

    def __call__(self, t: Any, y: Any, args: Any) -> Any:
        concentration, gut = y
        absorbed = args["ka"] * gut
        return jnp.stack([absorbed / args["v"] - args["ke"] * concentration, -absorbed])


class Pooled(eqx.Module):
    """The same with one set of constants for all subjects."""

    constants: dict[str, jax.Array]

    def __call__(self, t: Any, y: Any, args: Any) -> Any:
        return OneCompartment()(t, y, self.constants)


# Rough starts and bounds, which keep ka above ke: exchanged, and with another volume, they fit as
# well.
STARTS = {"ka": (2.0, (0.3, 30.0)), "ke": (0.1, (0.01, 0.25)), "v": (1.0, (0.1, 10.0))}


def unknowns() -> dict[str, jc.Unknown]:
    """The constants of one subject."""
    return {
        name: jc.Unknown(value, bounds=bounds, scale="log")
        for name, (value, bounds) in STARTS.items()
    }


def fit(model: Any, data: list[jc.Trajectory], **settings: Any) -> jc.Solution:
    """One solve; intervals get longer with the time since the dose."""
    edges = np.append(0.0, np.geomspace(0.1, 25.0, 16))
    nlp = jc.transcribe(model, data, jc.Grid(edges, jc.Radau(3)), num_states=2, l2=0.0, **settings)
    return jc.solve(nlp, jc.InteriorPoint(), jc.guess(nlp, weights="as_given"))


def run(quick: bool = False) -> dict[str, Any]:
    """Both solutions and the uncertainty of the first."""
    count = 4 if quick else 12
    begin = time.perf_counter()
    each = fit(OneCompartment(), datasets.theophylline(unknowns())[:count])
    start = Pooled({name: jnp.asarray(value) for name, (value, _) in STARTS.items()})
    pooled = fit(start, datasets.theophylline()[:count], weight_scale="log")
    found = {"each": each, "pooled": pooled, "uncertainty": jc.uncertainty(each)}
    return found | {"seconds": time.perf_counter() - begin}


def report(found: dict[str, Any]) -> None:
    """The constants of every subject, and how far both fits are from the samples."""
    each, pooled = found["each"], found["pooled"]
    table = found["uncertainty"].to_pandas().set_index("name")
    print("subject" + "".join(f"{name:>10} (error)" for name in STARTS))
    for k in range(len(each.paths)):
        rows = [table.loc[f"args[{k}]['{name}']"] for name in STARTS]
        texts = [f"{row.value:10.4f} ({100 * row.stderr / row.value:4.0f}%)" for row in rows]
        print(f"{k + 1:>7}" + "".join(texts))
    one = [float(pooled.model.constants[name]) for name in STARTS]
    print("    all" + "".join(f"{value:10.4f}        " for value in one).rstrip())
    errors = [np.sqrt(sol.objective) for sol in (each, pooled)]
    print(
        f"RMSE, mg/l: constants of each subject {errors[0]:.3f}, one set {errors[1]:.3f} "
        f"({found['seconds']:.1f} s)"
    )


def draw(found: dict[str, Any]) -> Any:
    """Samples, both paths and the bands, one panel for each subject."""
    each, plt = found["each"], pyplot()
    count = len(each.paths)
    figure, axes = plt.subplots(
        (count + 3) // 4, 4, figsize=(11, 2.2 * ((count + 3) // 4) + 0.6), sharex=True, sharey=True,
        constrained_layout=True, squeeze=False,
    )  # fmt: skip
    fine = np.linspace(0.0, 24.9, 250)
    for k, axis in enumerate(axes.flat):
        data = each.nlp.trajectories[k]
        band = found["uncertainty"].bands(fine, trajectory=k)
        sides = band.lower[:, 0], band.upper[:, 0]
        axis.fill_between(fine, *sides, color="C0", alpha=0.25, lw=0)
        axis.plot(fine, band.value[:, 0], "C0", label="constants of each, 95% band")
        own = found["pooled"].paths[k].evaluate(fine)
        axis.plot(fine, own[:, 0], "C3--", lw=1, label="one set for all")
        axis.plot(data.ts, data.ys[:, 0], "ko", ms=3, label="samples")
        dose = data.jumps[0].add[1]
        axis.text(0.97, 0.93, f"{k + 1}: {dose:g} mg/kg", ha="right", va="top",
                  transform=axis.transAxes)  # fmt: skip
    for axis in axes[-1]:
        axis.set_xlabel("hours after the dose")
    for axis in axes[:, 0]:
        axis.set_ylabel("mg/l")
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False
    )
    return figure


def main() -> None:
    chosen = options(__doc__, data=False).parse_args()
    found = run(chosen.quick)
    report(found)
    save(draw(found), chosen.output / "theophylline.png")


if __name__ == "__main__":
    main()
