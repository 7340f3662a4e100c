r"""Neural ODEs trained by direct collocation.

A model $f(t, y, \mathtt{args}; w)$ and the states $y$ of measured trajectories are variables of
one nonlinear program: fit the data, subject to $\dot y = f$ at the collocation nodes,

$$\min_{w, Y} \; \frac{1}{N} \sum_{k, i} \| h(y_k(t_{ki})) - \mathrm{obs}_{ki} \|^2 +
  \lambda \|w\|^2 \quad \text{subject to} \quad
  \frac{1}{h_e} \sum_j D_{ij} y_{ej} = f(t_{ei}, y_{ei}, \mathtt{args}_k; w).$$

Nothing is integrated during training. An interior-point method, our own or IPOPT, gets exact sparse
first and second derivatives from JAX, and the trained module goes into Diffrax as it is:

    data = jc.Trajectory(ts, ys)
    sol = jc.fit(model, data, key=jax.random.key(0))
    print(sol)
    ys = jc.simulate(sol.model, ts, y0)

The same in steps:

    grid = jc.Grid.single(0.0, 15.0, jc.Chebyshev(200))
    nlp = jc.transcribe(model, data, grid, l2=1e-3)
    sol = jc.solve(nlp, jc.Ipopt(), jc.guess(nlp, key=jax.random.key(0)))
    sol = jc.refine(sol)
    report = jc.verify(sol)

The method is that of Shapovalova and Tsay, "Training Neural ODEs Using Fully Discretized
Simultaneous Optimization" (arXiv 2502.15642). All computation is in float64, whatever the
caller's setting, which stays as it was.

The guide is beside this reference: `make docs` renders both.
"""

import importlib.metadata

from . import _storage, _transform
from . import datasets as datasets
from ._admm import fit_admm as fit_admm
from ._admm import process_pool as process_pool
from ._args import Unknown as Unknown
from ._bootstrap import Bootstrap as Bootstrap
from ._bootstrap import bootstrap as bootstrap
from ._casadi import to_casadi as to_casadi
from ._constraints import Conserving as Conserving
from ._constraints import Constraint as Constraint
from ._constraints import StateBounds as StateBounds
from ._constraints import Tie as Tie
from ._constraints import nonnegative as nonnegative
from ._continuation import solve_growing as solve_growing
from ._dae import DAE as DAE
from ._data import Trajectory as Trajectory
from ._equilibrium import steady_state as steady_state
from ._fit import fit as fit
from ._from_frame import from_frame as from_frame
from ._grid import Grid as Grid
from ._guess import Guess as Guess
from ._guess import guess as guess
from ._guess import match_gradients as match_gradients
from ._guess import xavier as xavier
from ._inputs import Input as Input
from ._interior_point import InteriorPoint as InteriorPoint
from ._ipopt import Ipopt as Ipopt
from ._ipopt import of_loaded as _of_loaded
from ._jumps import Jump as Jump
from ._jumps import doses as doses
from ._leafwise import leafwise as leafwise
from ._likelihoods import Gaussian as Gaussian
from ._likelihoods import StudentT as StudentT
from ._load import load as load
from ._loss import PseudoHuber as PseudoHuber
from ._loss import squared_error as squared_error
from ._names import Labels as _Labels
from ._nlp import NLP as NLP
from ._normalized import Normalized as Normalized
from ._normalized import normalized as normalized
from ._optimum import Optimum as Optimum
from ._optimum import Solved as Solved
from ._optimum import optimum as optimum
from ._path import Path as Path
from ._plot import plot as plot
from ._plot import plot_residuals as plot_residuals
from ._plot import plot_trace as plot_trace
from ._priors import Prior as Prior
from ._profile import SHAPE as SHAPE
from ._profile import Profile as Profile
from ._profile import profile as profile
from ._refine import refine as refine
from ._report import report as report
from ._ridge import OnNets as OnNets
from ._scheme import AbstractScheme as AbstractScheme
from ._scheme import Chebyshev as Chebyshev
from ._scheme import GaussLegendre as GaussLegendre
from ._scheme import Lobatto as Lobatto
from ._scheme import Radau as Radau
from ._sensitivity import sensitivity as sensitivity
from ._sequential import fine_tune as fine_tune
from ._settings import Settings as Settings
from ._simulate import simulate as simulate
from ._smooth import resample as resample
from ._smooth import smooth as smooth
from ._solution import Solution as Solution
from ._solution import SolveError as SolveError
from ._solve import solve as solve
from ._solve_batch import solve_batch as solve_batch
from ._solver import AbstractSolver as AbstractSolver
from ._solver import Outcome as Outcome
from ._steady import SharedUnknown as _SharedUnknown
from ._steady import SteadyState as SteadyState
from ._trace import RESULTS as RESULTS
from ._trace import Multipliers as Multipliers
from ._trace import Round as Round
from ._trace import Step as Step
from ._trace import Trace as Trace
from ._trace import TrainingStep as TrainingStep
from ._transcribe import transcribe as transcribe
from ._uncertainty import Band as Band
from ._uncertainty import Uncertainty as Uncertainty
from ._uncertainty import uncertainty as uncertainty
from ._validate import Compared as Compared
from ._validate import Validation as Validation
from ._validate import compare as compare
from ._validate import validate as validate
from ._verification import LATER as _LATER
from ._verification import VERDICT as VERDICT
from ._verification import Verification as Verification
from ._verification import of_loaded as _verification_of_loaded
from ._verify import verify as verify
from ._windows import windows as windows


__all__ = [
    "DAE",
    "NLP",
    "RESULTS",
    "SHAPE",
    "VERDICT",
    "AbstractScheme",
    "AbstractSolver",
    "Band",
    "Bootstrap",
    "Chebyshev",
    "Compared",
    "Conserving",
    "Constraint",
    "GaussLegendre",
    "Gaussian",
    "Grid",
    "Guess",
    "Input",
    "InteriorPoint",
    "Ipopt",
    "Jump",
    "Lobatto",
    "Multipliers",
    "Normalized",
    "OnNets",
    "Optimum",
    "Outcome",
    "Path",
    "Prior",
    "Profile",
    "PseudoHuber",
    "Radau",
    "Round",
    "Settings",
    "Solution",
    "SolveError",
    "Solved",
    "StateBounds",
    "SteadyState",
    "Step",
    "StudentT",
    "Tie",
    "Trace",
    "TrainingStep",
    "Trajectory",
    "Uncertainty",
    "Unknown",
    "Validation",
    "Verification",
    "bootstrap",
    "compare",
    "datasets",
    "doses",
    "fine_tune",
    "fit",
    "fit_admm",
    "from_frame",
    "guess",
    "leafwise",
    "load",
    "match_gradients",
    "nonnegative",
    "normalized",
    "optimum",
    "plot",
    "plot_residuals",
    "plot_trace",
    "process_pool",
    "profile",
    "refine",
    "report",
    "resample",
    "sensitivity",
    "simulate",
    "smooth",
    "solve",
    "solve_batch",
    "solve_growing",
    "squared_error",
    "steady_state",
    "to_casadi",
    "transcribe",
    "uncertainty",
    "validate",
    "verify",
    "windows",
    "xavier",
]

__version__ = importlib.metadata.version("jaxcolloc")

# What a file may hold, by its public name or by one of its own.
_storage.register(
    *(RESULTS, VERDICT, Multipliers, Round, Step, Trace, TrainingStep),
    *(Chebyshev, GaussLegendre, Grid, Lobatto, Radau),
    *(Input, Jump, OnNets, PseudoHuber, StateBounds, SteadyState, Tie, squared_error),
    *(Gaussian, StudentT),
    InteriorPoint,
)
_storage.stored("Labels")(_Labels)
_storage.stored("SharedUnknown")(_SharedUnknown)
_storage.stored("Path", defaults={"algebraic_states": None})(Path)
_storage.stored(
    "Trajectory",
    defaults={"t0": None, "y0_prior": None, "steady": None, "jumps": (), "labels": _Labels()},
)(Trajectory)
_storage.stored(
    "Verification",
    fields=(*Verification.__dataclass_fields__, "verdict"),
    defaults=dict.fromkeys(_LATER),
    on_load=_verification_of_loaded,
)(Verification)
_storage.stored("Ipopt", on_load=_of_loaded)(Ipopt)
_storage.stored("Unknown", fields=("value", "lower", "upper", "scale", "l2"))(Unknown)
for _kind in (_transform.Linear, _transform.Log, _transform.Reciprocal, _transform.Softplus):
    _storage.stored(f"{_kind.__name__}Scale")(_kind)
