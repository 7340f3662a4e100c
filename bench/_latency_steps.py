"""What `latency.py` measures, in a process of its own on one core: the rows of one part, as JSON.

python bench/_latency_steps.py fit
"""

import os


# Before NumPy, JAX and CasADi start their threads.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np


Rows = list[dict[str, Any]]

COMPILED = "/jax/core/compile/backend_compile_duration"
ANSWERED = "/jax/compilation_cache/cache_hits"
WIDTH, NOISE, END, L2, TOL = 32, 0.1, 15.0, 1e-3, 1e-6


class Meter:
    """The steps of one process: what each takes, and what is compiled in it."""

    def __init__(self) -> None:
        self.rows: Rows = []
        self._programs: list[tuple[str, str]] = []
        self._answers = 0

    def listen(self) -> None:
        """Count compilations from now on; JAX is imported by then."""
        import jax.monitoring

        jax.monitoring.register_event_duration_secs_listener(self._compiled)
        jax.monitoring.register_event_listener(self._answered)

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[dict[str, Any]]:
        """Measure what is within; the row, to which it may add what it found."""
        row: dict[str, Any] = {"step": name}
        self._programs, self._answers = [], 0
        cpu, wall = time.process_time(), time.perf_counter()
        yield row
        row["cpu"], row["wall"] = time.process_time() - cpu, time.perf_counter() - wall
        row["compilations"], row["from_cache"] = len(self._programs), self._answers
        row["programs"] = self._programs.copy()
        self.rows.append(row)

    def _compiled(self, event: str, seconds: float, **about: Any) -> None:
        if event == COMPILED:
            self._programs.append((str(about.get("fun_name", "")), _caller()))

    def _answered(self, event: str, **about: Any) -> None:
        self._answers += event == ANSWERED


def _caller() -> str:
    """The library's line that the compilation was called from."""
    frame: Any = sys._getframe()
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if name.startswith("jaxcolloc."):
            return f"{name.removeprefix('jaxcolloc.')}:{frame.f_lineno}"
        frame = frame.f_back
    return "elsewhere"


def oscillator(ts: np.ndarray) -> np.ndarray:
    """Van der Pol's oscillator from (0, 1) at time 0, by NumPy alone: it compiles nothing."""

    def slope(y: np.ndarray) -> np.ndarray:
        return np.array([y[1], (1 - y[0] ** 2) * y[1] - y[0]])

    y, t, found = np.array([0.0, 1.0]), 0.0, []
    for end in ts:
        # Runge and Kutta's method, far below the noise with steps of at most 0.01.
        count = max(int(np.ceil((end - t) / 0.01)), 1)
        h = (end - t) / count
        for _ in range(count):
            k1 = slope(y)
            k2 = slope(y + h / 2 * k1)
            k3 = slope(y + h / 2 * k2)
            y = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + slope(y + h * k3))
        t = end
        found.append(y)
    return np.stack(found)


def samples(ts: np.ndarray, seed: int) -> Any:
    """A trajectory of the oscillator with noise."""
    import jaxcolloc as jc

    ys = oscillator(ts)
    return jc.Trajectory(ts, ys + NOISE * np.random.default_rng(seed).standard_normal(ys.shape))


def model_of(seed: int) -> Any:
    """A net of the state."""
    import equinox as eqx
    import jax
    import jax.numpy as jnp

    class Autonomous(eqx.Module):
        net: eqx.nn.MLP

        def __call__(self, t: Any, y: Any, args: Any) -> Any:
            return self.net(y)

    return Autonomous(eqx.nn.MLP(2, 2, WIDTH, 1, jnp.tanh, key=jax.random.key(seed)))


def imported(meter: Meter) -> None:
    """The imports, measured."""
    with meter.step("import: JAX and Equinox"):
        import equinox  # noqa: F401
        import jax  # noqa: F401
    with meter.step("import: jaxcolloc, the rest"):
        import jaxcolloc
    here = os.environ.get("LATENCY_OF")
    if here and not Path(jaxcolloc.__file__).is_relative_to(here):
        raise RuntimeError(f"{jaxcolloc.__file__} is not of the checkout {here}")
    meter.listen()


def fits(meter: Meter) -> None:
    """A default fit, and others in the same process."""
    imported(meter)
    import jax

    import jaxcolloc as jc

    ts, more = np.linspace(0.0, END, 200), np.linspace(0.0, END, 250)
    key, model = jax.random.key(0), model_of(0)
    cases = {
        "first fit": samples(ts, 0),
        "next fit: other noise": samples(ts, 1),
        "next fit: 250 samples": samples(more, 2),
        "next fit: other start time": samples(ts + 3.0, 3),
    }
    for name, data in cases.items():
        with meter.step(name) as row:
            sol = jc.fit(model, data, key=key)
        row["verdict"] = "good" if sol.verification.verdict.ok else str(sol.verification.verdict)
        row["objective"], row["intervals"] = sol.objective, sol.paths[0].grid.num_intervals


def on_grid(intervals: int, seed: int) -> tuple[Any, Any]:
    """A grid, and a trajectory with a sample on each of its nodes."""
    import jaxcolloc as jc

    grid = jc.Grid.uniform(0.0, END, intervals, jc.Radau(4))
    return grid, samples(grid.times, seed)


BOUNDS: dict[str, Any] = {"state_bounds": (-5, 5), "weight_bounds": (-100, 100)}


def solves(meter: Meter, solver_name: str) -> None:
    """One NLP from its data to its verified solution, with new data, and on another grid."""
    imported(meter)
    import jax

    import jaxcolloc as jc

    solver = getattr(jc, solver_name)(tol=TOL)
    key, model = jax.random.key(0), model_of(0)
    grid, data = on_grid(50, 0)
    _, new = on_grid(50, 1)
    for turn, (own, seen) in (("", (grid, data)), (", other grid", on_grid(60, 2))):
        with meter.step(f"transcribe{turn}"):
            nlp = jc.transcribe(model, seen, own, l2=L2, **BOUNDS)
        with meter.step(f"guess{turn}"):
            start = jc.guess(nlp, key=key)
        with meter.step(f"solve{turn}") as row:
            sol = jc.solve(nlp, solver, start, throw=False)
        row |= solved(sol)
        with meter.step(f"verify{turn}"):
            jc.verify(sol)
        if turn:
            continue
        with meter.step("with_data and solve") as row:
            again = jc.solve(nlp.with_data(new), solver, start, throw=False)
        row |= solved(again)


def solved(sol: Any) -> dict[str, Any]:
    """How a solve ended."""
    return {
        "result": sol.result.name,
        "objective": sol.objective,
        "iterations": sol.stats["num_steps"],
    }


def casadi(meter: Meter) -> None:
    """The same NLP from the same start through CasADi, whose data are constants of the NLP."""
    import jax

    import jaxcolloc as jc

    with meter.step("import"):
        import casadi  # noqa: F401
    import casadi_nlp

    ipopt = {"tol": TOL, "max_iter": 3000, "mu_strategy": "adaptive", "print_level": 0, "sb": "yes"}
    key, model = jax.random.key(0), model_of(0)
    for turn, (own, seen) in (("", on_grid(50, 0)), (", other grid", on_grid(60, 2))):
        nlp = jc.transcribe(model, seen, own, l2=L2, **BOUNDS)
        start, (lower, upper) = jc.guess(nlp, key=key), nlp.bounds
        with meter.step(f"build{turn}"):
            options = {"ipopt": ipopt, "print_time": False}
            peer = casadi_nlp.build(nlp, (2, WIDTH, 2), L2, options)
        with meter.step(f"solve{turn}") as row:
            found = peer(x0=start.z, lbx=lower, ubx=upper, lbg=0, ubg=0)
        row["objective"], row["iterations"] = float(found["f"]), peer.stats()["iter_count"]


PARTS: dict[str, Callable[[Meter], None]] = {
    "fit": fits,
    "Ipopt": lambda meter: solves(meter, "Ipopt"),
    "InteriorPoint": lambda meter: solves(meter, "InteriorPoint"),
    "CasADi": casadi,
}


def main() -> None:
    meter = Meter()
    PARTS[sys.argv[1]](meter)
    print(json.dumps(meter.rows))


if __name__ == "__main__":
    main()
