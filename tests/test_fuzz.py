"""Odd arguments of every public function: a valid result, or an error that names the argument."""

import datetime
import functools
import warnings
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pandas as pd
import pytest

import jaxcolloc as jc


matplotlib = pytest.importorskip("matplotlib")
pytest.importorskip("matplotlib.pyplot")
matplotlib.use("Agg")


class Refusing:
    """An object that can be neither compared, written out, counted nor looked up."""

    __hash__ = None

    def __eq__(self, other):
        raise RuntimeError("not to be compared")

    def __repr__(self):
        raise RuntimeError("not to be written out")

    def __bool__(self):
        raise RuntimeError("neither true nor false")


class Decay(eqx.Module):
    """y' = -rate y."""

    rate: jax.Array

    def __call__(self, t, y, args):
        return -self.rate * y


ODD: dict[str, Any] = {
    "None": None,
    "True": True,
    "zero": 0,
    "minus one": -1,
    "two": 2,
    "a negative float": -1.5,
    "a small float": 0.25,
    "NaN": float("nan"),
    "infinity": float("inf"),
    "a huge integer": 10**400,
    "a large float": 1e308,
    "a complex number": 1j,
    "a fraction": Fraction(1, 3),
    "text": "text",
    "a number as text": "1.0",
    "bytes": b"bytes",
    "an empty text": "",
    "an empty list": [],
    "a list of numbers": [1.0, 2.0, 3.0],
    "a list of texts": ["a", "b"],
    "a ragged list": [[1.0], [2.0, 3.0]],
    "a nested list": [[[[1.0]]]],
    "a tuple of None": (None, None),
    "a pair of texts": ("a", "b"),
    "a pair upside down": (2.0, 1.0),
    "a dict": {"a": 1},
    "an empty dict": {},
    "a set": {1, 2},
    "a range": range(3),
    "an empty array": np.zeros(0),
    "an array of no rows": np.zeros((0, 2)),
    "an array of three axes": np.ones((2, 3, 4)),
    "an array of one axis": np.array([3.0, 1.0, 2.0]),
    "an array of NaN": np.full(3, np.nan),
    "an array without axes": np.array(2.0),
    "an array of truth values": np.array([True, False, True]),
    "an array of integers": np.arange(3),
    "an array of texts": np.array(["a", "b", "c"]),
    "an array of objects": np.array([None, {}, "a"], dtype=object),
    "an array of complex numbers": np.ones(3) * 1j,
    "a structured array": np.zeros(3, [("a", float)]),
    "a masked array": np.ma.masked_greater([1.0, 2.0, 3.0], 1.5),
    "a JAX array": jnp.ones(3),
    "a PRNG key": jax.random.key(0),
    "a data frame": pd.DataFrame({"a": [1.0, 2.0], "b": ["x", "y"]}),
    "a series": pd.Series([1.0, 2.0, 3.0]),
    "a date": datetime.date(2024, 1, 1),
    "NaT": np.datetime64("NaT", "D"),
    "dates": np.datetime64("2024-01-01") + np.arange(3),
    "a time difference": np.timedelta64(1, "s"),
    "a function": lambda *inputs: None,
    "a function of nothing": lambda: None,
    "a function that fails": lambda *inputs: {}["nothing"],
    "a class": int,
    "a module": np,
    "an object": object(),
    "a refusing object": Refusing(),
    "a generator": iter([1.0, 2.0]),
    "a model": Decay(jnp.asarray(1.0)),
    "a grid": jc.Grid.uniform(0.0, 1.0, 2, jc.Radau(1)),
    "a trajectory": jc.Trajectory([0.0, 1.0], [[1.0], [2.0]]),
    "an unknown": jc.Unknown(1.0),
    "a solver": jc.InteriorPoint(),
}

TS = np.linspace(0.0, 1.0, 9)
DATA = jc.Trajectory(TS, np.exp(-TS)[:, None])
FRAME = pd.DataFrame({"t": TS, "y": np.exp(-TS), "u": TS, "c": 1.0, "run": 3})
GRID = jc.Grid.uniform(0.0, 1.0, 2, jc.Radau(2))
MODEL = Decay(jnp.asarray(0.5))


@functools.cache
def problem() -> jc.NLP:
    return jc.transcribe(MODEL, DATA, GRID)


@functools.cache
def solution() -> jc.Solution:
    return jc.solve(problem(), jc.Ipopt(), jc.guess(problem()))


@functools.cache
def fitted() -> jc.Solution:
    """One with some noise left."""
    ys = DATA.ys + 0.01 * np.random.default_rng(0).normal(size=DATA.ys.shape)
    nlp = jc.transcribe(MODEL, jc.Trajectory(TS, ys), GRID, l2=1e-6)
    return jc.solve(nlp, jc.InteriorPoint(), jc.guess(nlp))


@functools.cache
def known() -> jc.Uncertainty:
    return jc.uncertainty(fitted())


Target = tuple[Callable[..., Any], Callable[[], dict[str, Any]], tuple[str, ...]]


def _with(called: Callable[..., Any], /, *names: str, **valid: Any) -> Target:
    """A function with valid arguments, of which those named (or all) are replaced by odd ones."""
    return called, lambda: valid, names or tuple(valid)


def _later(function: Callable[..., Any], make: Callable[[], dict[str, Any]], *names: str) -> Target:
    """The same where the valid arguments take some time to make."""
    return function, make, names


def _constrained(**options: Any) -> jc.NLP:
    return jc.transcribe(MODEL, DATA, GRID, **options)


CHEAP: dict[str, Target] = {
    "Trajectory": _with(
        jc.Trajectory,
        ts=TS,
        ys=DATA.ys,
        args=None,
        weights=1.0,
        y0=None,
        jumps=(),
        name="a",
        channels=["y"],
        units={"time": "s"},
    ),
    "from_frame": _with(
        jc.from_frame,
        df=FRAME,
        time="t",
        channels=["y"],
        by="run",
        inputs=["u"],
        kind="hold",
        constants=["c"],
        variable=None,
        value=None,
        units={"t": "s"},
        weights=1.0,
        y0=[1.0],
        t0=0.0,
    ),
    "Jump": _with(jc.Jump, "t", "add", t=0.5, add=[1.0]),
    "Jump.to": _with(jc.Jump, "to", t=0.5, to=lambda y, args: y),
    "doses": _with(jc.doses, times=TS, amounts=1.0, state=0, num_states=2),
    "Input": _with(jc.Input, ts=TS, us=TS, kind="hold"),
    "Grid": _with(jc.Grid, boundaries=[0.0, 1.0], scheme=jc.Radau(2)),
    "Grid.single": _with(jc.Grid.single, t0=0.0, t1=1.0, scheme=jc.Radau(2)),
    "Grid.uniform": _with(jc.Grid.uniform, t0=0.0, t1=1.0, intervals=2, scheme=jc.Radau(2)),
    "Grid.aligned": _with(jc.Grid.aligned, ts=TS, scheme=jc.Radau(2), every=2),
    "Chebyshev": _with(jc.Chebyshev, num=3),
    "GaussLegendre": _with(jc.GaussLegendre, num=3),
    "Lobatto": _with(jc.Lobatto, num=3),
    "Radau": _with(jc.Radau, num=3),
    "Unknown": _with(jc.Unknown, value=1.0, bounds=(0.0, 2.0), scale="log", l2=0.0),
    "PseudoHuber": _with(jc.PseudoHuber, delta=1.0),
    "Constraint": _with(
        jc.Constraint,
        function=lambda t, y, args: y,
        lower=0.0,
        upper=1.0,
        at="start",
        trajectories=[0],
    ),
    "StateBounds": _with(
        jc.StateBounds, components=[0], lower=0.0, upper=1.0, at="start", trajectories=[0]
    ),
    "Tie": _with(jc.Tie, first=0, second=1),
    "nonnegative": _with(jc.nonnegative, components=[0]),
    "SteadyState": _with(
        jc.SteadyState, "known", "invariants", known=[np.nan, 1.0], invariants=[1.0, 1.0]
    ),
    "Conserving": _with(jc.Conserving, model=MODEL, invariants=[1.0, 1.0]),
    "DAE": _with(
        jc.DAE,
        "field",
        "equations",
        "num_algebraic",
        "start",
        field=lambda t, y, a, args: a,
        equations=lambda t, y, a, args: a - y,
        num_algebraic=1,
        start=1.0,
    ),
    "Ipopt": _with(
        jc.Ipopt, tol=1e-6, max_steps=10, max_seconds=None, hessian="exact", options=None
    ),
    "InteriorPoint": _with(
        jc.InteriorPoint,
        tol=1e-6,
        max_steps=10,
        max_seconds=None,
        hessian="exact",
        mu=1.0,
        look=1,
    ),
    "leafwise": _with(
        lambda model, default, pairs: jc.leafwise(model, default, pairs),
        "pairs",
        model=MODEL,
        default=1.0,
        pairs=(lambda m: m.rate, 2.0),
    ),
    "resample": _with(jc.resample, trajectory=DATA, ts=TS[1:4], method="linear"),
    "smooth": _with(jc.smooth, ts=TS, ys=TS, neighbours=4),
    "normalized": _with(jc.normalized, model=MODEL, data=DATA, num_states=None),
    "Settings": _with(
        jc.Settings, "loss", "residual_penalty", "collocate_start", loss=jc.squared_error
    ),
    "to_casadi": _with(
        jc.to_casadi, model=MODEL, num_states=1, args=None, symbols=(), name="f", output="dydt"
    ),
    "Gaussian": _with(jc.Gaussian, std=0.1, scale="log"),
    "StudentT": _with(jc.StudentT, std=0.1, df=4.0),
    "Prior": _with(jc.Prior, where=lambda m: m.rate, mean=1.0, std=0.5, scale="linear"),
    "y0_prior": _with(jc.Trajectory, "y0_prior", ts=TS, ys=DATA.ys, y0_prior=([1.0], 0.1)),
    "load": _with(jc.load, "path", path="missing.jcs", like=MODEL),
}
ALGEBRAIC = jc.DAE(lambda t, y, a, args: -a, lambda t, y, a, args: a - y, 1)
TRANSCRIBE = _with(
    jc.transcribe,
    model=MODEL, data=DATA, grid=GRID, observe=None, num_states=None, loss=jc.squared_error,
    l2=1e-3, residual_penalty=0.0, state_bounds=None, weight_bounds=None, weight_scale=None,
    trainable=True, constraints=(), state_scale=None, collocate_start=False, state_names=None,
)  # fmt: skip
COSTLY: dict[str, Target] = {
    "transcribe": TRANSCRIBE,
    "transcribe a DAE": _with(
        jc.transcribe, "algebraic_bounds", "algebraic_scale", model=ALGEBRAIC, data=DATA, grid=GRID,
        algebraic_bounds=None, algebraic_scale=None,
    ),
    "simulate": _with(
        jc.simulate, model=MODEL, ts=TS, y0=[1.0], args=None, jumps=(), solver=None, rtol=1e-3,
        atol=1e-3, max_steps=64, throw=False,
    ),
    "steady_state": _with(
        jc.steady_state, model=MODEL, guess=[1.0], args=None, t=0.0, known=None, invariants=None,
        throw=False,
    ),
    "simulate by": _with(
        jc.simulate, "ts", "y0", "rtol", "atol", "max_steps", "by", "constraints", "guess",
        model=MODEL, ts=TS, y0=[np.nan], rtol=1e-3, atol=1e-3, max_steps=64, by=jc.Radau(2),
        constraints=jc.StateBounds(0, 1.0, 1.0, at="end"), guess=None, throw=False,
    ),
    "verify": _later(jc.verify, lambda: {"sol": solution()}, "sol"),
    "guess": _later(
        jc.guess,
        lambda: {
            "nlp": problem(), "key": None, "states": "smooth", "weights": "as_given",
            "smoothing": 3.0, "algebraic": None,
        },
        "nlp", "key", "states", "weights", "smoothing", "algebraic",
    ),
    "xavier": _with(jc.xavier, "key", model=MODEL, key=jax.random.key(0)),
    "match_gradients": _with(jc.match_gradients, model=MODEL, data=DATA, l2=1e-4, max_steps=2),
    "fit": _with(
        jc.fit,
        "model", "data", "key", "grid", "scheme", "l2", "held_out", "horizon", "starts", "states",
        "weights", "tol", "refinements", "continuation", "solver", "checkpoint", "every",
        "progress",
        model=MODEL, data=DATA, key=None, grid=GRID, scheme=None, l2=1e-3, held_out=0.2,
        horizon=None, starts=1, states="smooth", weights="as_given", tol=1e-2, refinements=0,
        continuation=False, solver=jc.Ipopt(max_steps=2), checkpoint=None, every=20,
        progress=False,
    ),
    "solve": _later(
        jc.solve,
        lambda: {
            "nlp": problem(), "solver": jc.Ipopt(max_steps=2), "guess": solution().z,
            "throw": False, "progress": False, "callback": None, "checkpoint": None, "every": 20,
        },
        "nlp", "solver", "guess", "throw", "progress", "callback", "every",
    ),
    "solve_batch": _later(
        jc.solve_batch,
        lambda: {
            "nlp": problem(), "solver": jc.Ipopt(max_steps=2), "guesses": [solution()],
            "throw": False, "vectorize": None,
        },
        "nlp", "solver", "guesses", "throw", "vectorize",
    ),
    "solve_growing": _later(
        jc.solve_growing,
        lambda: {
            "nlp": problem(), "solver": jc.Ipopt(max_steps=2), "guess": jc.guess(problem()),
            "windows": 2, "throw": False, "progress": False,
        },
        "nlp", "solver", "guess", "windows", "throw", "progress",
    ),
    "refine": _later(
        jc.refine,
        lambda: {
            "sol": solution(), "tol": 1e-2, "rounds": 0, "how": "auto", "merge": True,
            "most_nodes": 100, "solver": None, "progress": False,
        },
        "sol", "tol", "how", "merge", "most_nodes", "solver", "progress",
    ),
    "plot_trace": _later(jc.plot_trace, lambda: {"sol": solution()}, "sol"),
    "plot": _later(
        jc.plot, lambda: {"sol": solution(), "trajectory": 1}, "sol", "trajectory"
    ),
    "plot_residuals": _later(
        jc.plot_residuals,
        lambda: {"sol": solution(), "trajectory": 0, "parity": True},
        "sol", "trajectory", "parity",
    ),
    "to_frame": _later(lambda of: solution().to_frame(of), lambda: {"of": "states"}, "of"),
    "validate": _later(
        jc.validate,
        lambda: {
            "sol": solution(), "data": DATA, "samples": 4, "horizons": [0.3], "grid": None,
            "solver": jc.Ipopt(max_steps=2),
        },
        "sol", "data", "samples", "horizons", "grid", "solver",
    ),
    "compare": _later(
        jc.compare, lambda: {"solutions": [solution()], "data": None}, "solutions", "data"
    ),
    "report": _later(
        jc.report,
        lambda: {
            "sol": solution(), "path": None, "title": "a", "uncertainty": None,
            "validation": None,
        },
        "sol", "path", "title", "uncertainty", "validation",
    ),
    "with_l2": _later(lambda l2: problem().with_l2(l2), lambda: {"l2": 0.0}, "l2"),
    "with_data": _later(lambda data: problem().with_data(data), lambda: {"data": DATA}, "data"),
    "with_bounds": _later(
        lambda **sides: problem().with_bounds(**sides),
        lambda: {"state_bounds": None, "weight_bounds": None},
        "state_bounds", "weight_bounds",
    ),
    "NLP.objective": _later(
        lambda z: problem().objective(z), lambda: {"z": solution().z}, "z"
    ),
    "NLP.pack": _later(
        lambda model, states: problem().pack(model, states),
        lambda: {"model": MODEL, "states": [solution().paths[0].states]},
        "model", "states",
    ),
    "priors": _with(
        _constrained, "loss", "priors",
        loss=jc.Gaussian(0.1), priors=[jc.Prior(lambda m: m.rate, 1.0, 0.5)],
    ),
    "uncertainty": _later(
        jc.uncertainty, lambda: {"sol": solution(), "curvature": "exact"}, "sol", "curvature"
    ),
    "stderr": _later(
        lambda **inputs: known().stderr(**inputs),
        lambda: {"where": ".rate", "trajectory": None},
        "where", "trajectory",
    ),
    "interval": _later(
        lambda **inputs: known().interval(**inputs),
        lambda: {"where": ".rate", "level": 0.9, "trajectory": None},
        "where", "level", "trajectory",
    ),
    "covariance": _later(
        lambda where, trajectory: known().covariance(where, trajectory=trajectory),
        lambda: {"where": ".rate", "trajectory": None},
        "where", "trajectory",
    ),
    "bands": _later(
        lambda **inputs: known().bands(**inputs),
        lambda: {"ts": TS, "trajectory": 0, "of": "states", "noise": False, "level": 0.9},
        "ts", "trajectory", "of", "noise", "level",
    ),
    "predict": _later(
        lambda **inputs: known().predict(**inputs),
        lambda: {
            "ts": TS, "y0": [1.0], "args": None, "y0_std": 0.1, "trajectory": None,
            "of": "states", "noise": False, "level": 0.9, "samples": 0, "key": None,
        },
        "ts", "y0", "y0_std", "trajectory", "of", "noise", "level", "samples", "key",
    ),
    "function_band": _later(
        lambda **inputs: known().function_band(**inputs),
        lambda: {"f": lambda m, x: m.rate * x, "points": [1.0, 2.0], "level": 0.9},
        "f", "points", "level",
    ),
    "profile": _later(
        jc.profile,
        lambda: {"sol": fitted(), "where": ".rate", "level": 0.9, "trajectory": None},
        "sol", "where", "level", "trajectory",
    ),
    "bootstrap": _later(
        jc.bootstrap,
        lambda: {
            "sol": fitted(), "samples": 2, "key": jax.random.key(0), "kind": "parametric",
        },
        "sol", "samples", "key", "kind",
    ),
    "optimum": _later(
        jc.optimum,
        lambda: {"nlp": problem(), "solver": jc.Ipopt(), "guess": solution()},
        "nlp", "solver", "guess",
    ),
    "optimum's call": _later(
        lambda **inputs: jc.optimum(problem(), jc.Ipopt(max_steps=5), solution())(**inputs),
        lambda: {"l2": 1e-3, "ys": DATA.ys, "weights": DATA.weights},
        "l2", "ys", "weights", "args", "y0", "center", "state_bounds", "weight_bounds",
    ),
    "sensitivity": _later(
        jc.sensitivity,
        lambda: {"sol": fitted(), "wrt": "l2", "where": lambda m: m.rate},
        "sol", "wrt", "where",
    ),
    "save": _later(lambda path: solution().save(path), lambda: {"path": "."}, "path"),
    "Path.evaluate": _later(
        lambda t: solution().paths[0].evaluate(t), lambda: {"t": 0.5}, "t"
    ),
    "fine_tune": _later(
        jc.fine_tune,
        lambda: {
            "model": MODEL, "data": DATA, "optimizer": None, "steps": 1, "windows": (1.0,),
            "batch": None, "key": None, "held_out": 0.0, "patience": None, "every": 1,
            "start": None, "grid": None, "l2": None, "clip": None, "solver": None,
            "adjoint": None, "rtol": 1e-4, "atol": 1e-6, "max_steps": 16, "max_seconds": 1.0,
            "throw": False, "progress": False, "callback": None,
        },
        "model", "data", "optimizer", "steps", "windows", "batch", "key", "held_out", "patience",
        "every", "start", "grid", "l2", "clip", "solver", "adjoint", "rtol", "atol", "max_steps",
        "max_seconds", "throw", "progress", "callback",
    ),
    "fit_admm": _later(
        jc.fit_admm,
        lambda: {
            "model": MODEL, "data": [DATA, DATA], "batches": 2, "rho": 1.0, "key": None,
            "start": "as_given", "grid": GRID, "scheme": None, "l2": 1e-3, "continuity": False,
            "relaxation": 1.0, "balance": True, "max_rounds": 1, "rtol": 1e-3, "atol": 1e-3,
            "solver": jc.Ipopt(max_steps=2), "executor": None, "retries": 0, "rollouts": False,
            "checkpoint": None, "progress": False, "callback": None,
        },
        "model", "data", "batches", "rho", "start", "grid", "scheme", "l2", "continuity",
        "relaxation", "balance", "max_rounds", "rtol", "atol", "solver", "retries",
        "rollouts", "progress", "callback",
    ),
}  # fmt: skip


# What a caller's function raises while it runs, called once per step, is passed on as it is.
PASSED_ON = {
    ("callback", kind)
    for kind in ("a function of nothing", "a function that fails", "a model", "an unknown")
}


@pytest.fixture(autouse=True)
def annotations_unchecked() -> Iterator[None]:
    """As in the caller's program, where no annotation is checked at run time."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
    matplotlib.pyplot.close("all")


def complaint(target: Target, name: str, value: Any) -> str:
    """What is wrong with how a function takes an odd argument; empty if nothing."""
    function, make, _ = target
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            function(**(make() | {name: value}))
    except (ValueError, TypeError, FileNotFoundError) as error:
        if f"`{name}`" not in str(error) and f"`{name}[" not in str(error):
            return f"{type(error).__name__}: {' '.join(str(error).split())[:150]}"
    except Exception as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:150]}"
    return ""


def complaints(targets: dict[str, Target], share: float, seed: int = 0) -> list[str]:
    """Those of a random share of all odd calls."""
    rng = np.random.default_rng(seed)
    found = []
    for label, target in targets.items():
        for name in target[2]:
            for kind, value in ODD.items():
                if rng.random() < share and (name, kind) not in PASSED_ON:
                    said = complaint(target, name, value)
                    if said:
                        found.append(f"{label}, {name} = {kind}: {said}")
    return found


@pytest.mark.parametrize("label", CHEAP)
def test_constructors_take_odd_arguments_or_name_them(label, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert not complaints({label: CHEAP[label]}, 1.0)


# The share of all odd calls that the quick run makes; a costly call is one that succeeds.
QUICK = {
    "transcribe": 1.0,
    "NLP.objective": 1.0,
    "NLP.pack": 1.0,
    "with_bounds": 1.0,
    "save": 1.0,
    "to_frame": 1.0,
    "compare": 0.1,
    "validate": 0.1,
    "report": 0.1,
    "fine_tune": 0.005,
    "simulate": 0.02,
    "simulate by": 1.0,
    "steady_state": 0.2,
    "fit": 0.02,
}


@pytest.mark.parametrize("label", COSTLY)
def test_functions_take_some_odd_arguments_or_name_them(label, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert not complaints({label: COSTLY[label]}, QUICK.get(label, 0.02))


@pytest.mark.slow
@pytest.mark.parametrize("label", [label for label in COSTLY if QUICK.get(label) != 1.0])
def test_functions_take_odd_arguments_or_name_them(label, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert not complaints({label: COSTLY[label]}, 0.25, seed=1)
