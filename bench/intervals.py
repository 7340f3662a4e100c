"""Do 95% intervals hold the truth 95 times of 100? Five known laws and two hybrid models.

Every case is sampled anew with other noise, fitted, and asked for `jc.uncertainty`. Counted is how
often 95% intervals of constants hold their true values, 95% bands of the path the noise-free states
(mean over times and states), bands with noise new measurements, and bands of a net's function the
true function where data are. Fits start warm from that of the noise-free data; a draw whose solve
fails counts as missed. "cost" is the time of `jc.uncertainty` over that of one iteration of
`jc.InteriorPoint`, medians, in the same process.

The laws with their constants, starts and spans are those of Bortz, Messenger and Dukic, "Direct
Estimation of Parameters in ODE Models Using WENDy" (Bull. Math. Biol. 85, 110, 2023), section 3, as
`get_ode_features.m` of the authors' code (github.com/MathBioCU/WENDy) has them. The protein model
is from Vyshemirsky and Girolami, "Bayesian ranking of biochemical system models" (Bioinformatics
24, 2008): its Michaelis constant is held at 0.3 and the span is WENDy's, while the start is that of
the original, without the activated protein of which WENDy's code begins with one. A constant that
occurs in several equations is one number here; WENDy estimates each occurrence. Noise is Gaussian,
5% of each state's root mean square, 128 samples.

    python bench/intervals.py                       # 200 draws of each
    python bench/intervals.py --draws 20 --only logistic,hybrid
    python bench/intervals.py --quick
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from _report import machine, named, table, versions
from scipy.integrate import solve_ivp

import jaxcolloc as jc


NOISE, SAMPLES = 0.05, 128


class Law(eqx.Module):
    """A known equation with constants."""

    w: jax.Array
    field: Callable[..., Any] = eqx.field(static=True)

    def __call__(self, t: Any, y: Any, args: Any) -> Any:
        return jnp.stack(self.field(self.w, y))


def logistic(w: Any, y: Any) -> list[Any]:
    return [w[0] * y[0] + w[1] * y[0] ** 2]


def lotka_volterra(w: Any, y: Any) -> list[Any]:
    return [w[0] * y[0] + w[1] * y[0] * y[1], w[2] * y[1] + w[3] * y[0] * y[1]]


def fitzhugh_nagumo(w: Any, y: Any) -> list[Any]:
    return [w[0] * y[0] + w[1] * y[0] ** 3 + w[2] * y[1], w[3] * y[0] + w[4] + w[5] * y[1]]


def hindmarsh_rose(w: Any, y: Any) -> list[Any]:
    return [
        w[0] * y[1] + w[1] * y[0] ** 3 + w[2] * y[0] ** 2 + w[3] * y[2],
        w[4] + w[5] * y[0] ** 2 + w[6] * y[1],
        w[7] * y[0] + w[8] + w[9] * y[2],
    ]


def protein(w: Any, y: Any) -> list[Any]:
    s, _, r, rs, rpp = y
    bound, back = w[1] * s * r - w[2] * rs, w[4] * rpp / (0.3 + rpp)
    return [-w[0] * s - bound, w[0] * s, back - bound, bound - w[3] * rs, w[3] * rs - back]


class Spring(eqx.Module):
    """An unknown rate beside a net of the friction."""

    rate: jax.Array
    net: eqx.nn.MLP

    def __call__(self, t: Any, y: Any, args: Any) -> Any:
        return jnp.stack([y[1], -self.rate * y[0] - self.function(y[1])])

    def function(self, v: Any) -> Any:
        return self.net(v[None])[0]


class Reactor(eqx.Module):
    """Growth on a substrate: an unknown yield beside a net of the growth rate."""

    rate: jax.Array
    net: eqx.nn.MLP

    def __call__(self, t: Any, y: Any, args: Any) -> Any:
        grown = self.function(y[1]) * y[0]
        return jnp.stack([grown, -grown / self.rate])

    def function(self, s: Any) -> Any:
        return self.net(s[None])[0]


class Case(eqx.Module):
    """A system: truth as a NumPy field, a model to fit, starts, span, intervals of the grid.

    `constants` are the true ones. Of hybrid models, `function` is what the net stands for.
    """

    truth: Callable[[Any], Any] = eqx.field(static=True)
    model: Callable[[], Any] = eqx.field(static=True)
    starts: tuple[tuple[float, ...], ...] = eqx.field(static=True)
    span: float = eqx.field(static=True)
    intervals: int = eqx.field(static=True)
    constants: tuple[float, ...] = eqx.field(static=True)
    function: Callable[[Any], Any] | None = eqx.field(static=True, default=None)
    samples: int = eqx.field(static=True, default=SAMPLES)


def known(field: Any, w: tuple[float, ...], start: Any, span: float, intervals: int) -> Case:
    def model() -> Law:
        return Law(jnp.asarray(w), field)

    return Case(lambda y: field(w, y), model, (start,), span, intervals, w)


def friction(v: Any) -> Any:
    return 0.3 * v + 0.1 * v**3


def growth(s: Any) -> Any:
    return 0.8 * s / (0.4 + s)


def net(seed: int = 0) -> eqx.nn.MLP:
    return eqx.nn.MLP(1, 1, 8, 1, jnp.tanh, key=jax.random.key(seed))


CASES = {
    "logistic growth": known(logistic, (1.0, -1.0), (0.01,), 10.0, 40),
    "Lotka-Volterra": known(lotka_volterra, (3.0, -1.0, -6.0, 1.0), (1.0, 1.0), 5.0, 80),
    "FitzHugh-Nagumo": known(
        fitzhugh_nagumo, (3.0, -3.0, 3.0, -1 / 3, 17 / 150, 1 / 15), (0.0, 0.1), 25.0, 160
    ),
    "Hindmarsh-Rose": known(
        hindmarsh_rose,
        (10.0, -10.0, 30.0, -10.0, 10.0, -50.0, -10.0, 0.04, 0.0319, -0.01),
        (-1.31, -7.6, -0.2), 10.0, 240,
    ),
    "protein transduction": known(
        protein, (0.07, 0.6, 0.05, 0.3, 0.017), (1.0, 0.0, 1.0, 0.0, 0.0), 25.0, 40
    ),
    "hybrid spring": Case(
        lambda y: [y[1], -1.5 * y[0] - friction(y[1])],
        lambda: Spring(jnp.asarray(1.5), net()),
        ((2.0, 0.0),), 10.0, 60, (1.5,), friction,
    ),
    "hybrid reactor": Case(
        lambda y: [growth(y[1]) * y[0], -growth(y[1]) * y[0] / 0.5],
        lambda: Reactor(jnp.asarray(0.5), net()),
        ((0.1, 2.0), (0.4, 1.0), (0.2, 0.4)), 8.0, 20, (0.5,), growth, 40,
    ),
}  # fmt: skip


class Experiment:
    """A case with its truth, the noise, and the fit of the noise-free data."""

    def __init__(self, case: Case, l2: float):
        self.case = case
        self.ts = np.linspace(0.0, case.span, case.samples)
        self.times = np.linspace(0.0, case.span, 101)
        self.clean, self.states = (
            [self.solve(start, ts) for start in case.starts] for ts in (self.ts, self.times)
        )
        every = np.concatenate(self.clean)
        self.noise = NOISE * np.sqrt(np.mean(every**2, axis=0))
        grid = jc.Grid.uniform(0.0, case.span, case.intervals, jc.Radau(4))
        ridge = 0.0 if case.function is None else jc.OnNets(l2)
        self.nlp = jc.transcribe(case.model(), self.data(self.clean), grid, l2=ridge)
        self.solver = jc.InteriorPoint(tol=1e-8, max_steps=300)
        guess = jc.guess(self.nlp, key=jax.random.key(0))
        if case.function is None:
            states = [self.solve(start, grid.times) for start in case.starts]
            guess = np.asarray(self.nlp.pack(case.model(), states))
        self.start = jc.solve(self.nlp, self.solver, guess, throw=False)

    def solve(self, start: Any, ts: np.ndarray) -> np.ndarray:
        found = solve_ivp(
            lambda t, y: np.array(self.case.truth(y)), (0.0, self.case.span), start,
            method="LSODA", t_eval=ts, rtol=1e-10, atol=1e-12,
        )  # fmt: skip
        return found.y.T

    def data(self, values: list[np.ndarray]) -> list[jc.Trajectory]:
        return [jc.Trajectory(self.ts, ys, weights=1 / self.noise**2) for ys in values]

    def draw(self, seed: int, curvature: str) -> dict[str, Any]:
        """One fit, and which of its intervals hold the truth."""
        rng = np.random.default_rng(seed)
        noisy = [ys + self.noise * rng.normal(size=ys.shape) for ys in self.clean]
        sol = jc.solve(self.nlp.with_data(self.data(noisy)), self.solver, self.start.z, throw=False)
        if not sol.result.ok:
            return {"result": sol.result.name}
        begin = time.perf_counter()
        u = jc.uncertainty(sol, curvature=curvature)
        hybrid = self.case.function is not None
        where = ".rate" if hybrid else ".w"
        lower, upper = (np.atleast_1d(side) for side in u.interval(where))
        seconds = time.perf_counter() - begin
        true = np.array(self.case.constants)
        found: dict[str, Any] = {
            "result": sol.result.name,
            "constants": ((lower <= true) & (true <= upper)).tolist(),
            "cost": seconds / (sol.stats["solve_seconds"] / max(len(sol.trace), 1)),
            "seconds": seconds,
            "sigma": u.noise.sigma,
            "parameters": u.noise.num_parameters,
        }
        found["band"], found["noisy"] = [], []
        for k, states in enumerate(self.states):
            band = u.bands(self.times, k)
            found["band"].append(share(band, states))
            new = states + self.noise * rng.normal(size=states.shape)
            both = u.bands(self.times, k, of="observations", noise=True)
            found["noisy"].append(share(both, new))
        if hybrid:
            seen = np.concatenate(self.clean)[:, 1]
            points = np.linspace(*np.quantile(seen, [0.05, 0.95]), 40)
            band = u.function_band(lambda m, x: m.function(x), points)
            found["function"] = share(band, self.case.function(points))
        return found


def share(band: jc.Band, true: np.ndarray) -> float:
    """How many of the values a band holds."""
    return float(np.mean((band.lower <= true) & (true <= band.upper)))


def run(name: str, draws: int, l2: float, curvature: str) -> dict[str, Any]:
    """All draws of one case."""
    experiment = Experiment(CASES[name], l2)
    experiment.draw(10_000, curvature)
    rows = [experiment.draw(seed, curvature) for seed in range(draws)]
    good = [row for row in rows if row["result"] == "successful"]

    def mean(key: str) -> float:
        return float(np.mean([np.mean(row[key]) for row in good if key in row]))

    each = np.mean([row["constants"] for row in good], axis=0) if good else np.array([np.nan])
    found = {
        "system": name,
        "draws": draws,
        "solved": len(good),
        "start": experiment.start.result.name,
    }
    if good:
        found |= {key: mean(key) for key in ("constants", "band", "noisy", "parameters")}
        found |= {"least": float(each.min()), "most": float(each.max())}
        found |= {key: float(np.median([row[key] for row in good])) for key in ("cost", "seconds")}
        if "function" in good[0]:
            found["function"] = mean("function")
    return found


def summary(rows: list[dict[str, Any]]) -> str:
    """The table: one line per system."""

    def percent(row: dict[str, Any], key: str) -> str:
        return f"{100 * row[key]:.1f}" if key in row else ""

    header = (
        "system", "draws", "solved", "constants", "each", "path", "new data", "function",
        "parameters", "ms", "cost",
    )  # fmt: skip
    lines = [
        [
            row["system"], row["draws"], row["solved"], percent(row, "constants"),
            f"{percent(row, 'least')} to {percent(row, 'most')}", percent(row, "band"),
            percent(row, "noisy"), percent(row, "function"), f"{row.get('parameters', np.nan):.1f}",
            f"{1e3 * row.get('seconds', np.nan):.1f}", f"{row.get('cost', np.nan):.1f}",
        ]
        for row in rows
    ]  # fmt: skip
    return table(header, lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--only", default="", help="parts of systems' names, with commas")
    parser.add_argument("--quick", action="store_true", help="five draws of each")
    parser.add_argument("--l2", type=float, default=1e-4, help="the ridge on the nets' weights")
    parser.add_argument("--curvature", default="exact", choices=("exact", "gauss_newton"))
    parser.add_argument("--output", type=Path, help="a JSON file for the rows")
    options = parser.parse_args()
    print(f"{machine()}\n{versions()}\n")
    rows = []
    for name in named(CASES, options.only):
        draws = 5 if options.quick else options.draws
        rows.append(run(name, draws, options.l2, options.curvature))
        print(f"# {json.dumps(rows[-1])}", flush=True)
    print("\n" + summary(rows))
    if options.output:
        options.output.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
