r"""Neural ODEs trained by direct collocation.

A model $f(t, y, \mathtt{args}; w)$ and the states $y$ of measured trajectories are variables of
one nonlinear program: fit the data, subject to $\dot y = f$ at the collocation nodes,

$$\min_{w, Y} \; \frac{1}{N} \sum_{k, i} \| h(y_k(t_{ki})) - \mathrm{obs}_{ki} \|^2 +
  \lambda \|w\|^2 \quad \text{subject to} \quad
  \frac{1}{h_e} \sum_j D_{ij} y_{ej} = f(t_{ei}, y_{ei}, \mathtt{args}_k; w).$$

Nothing is integrated during training. IPOPT gets exact sparse first and second derivatives from
jitted JAX functions, and the trained module goes into Diffrax as it is:

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

## The method

On each interval of a `Grid`, between the boundaries $t_e$ and $t_e + h_e$, the state is the
polynomial through its values $y_{ej}$ at the nodes $t_e + h_e x_j$ of a scheme (`Chebyshev`,
`Radau`, `Lobatto`, `GaussLegendre`). With the barycentric weights $b_j$ of the nodes its slope at
node $i$ is $\frac{1}{h_e} \sum_j D_{ij} y_{ej}$, where

$$D_{ij} = \frac{b_j / b_i}{x_i - x_j} \quad (i \ne j), \qquad D_{ii} = - \sum_{j \ne i} D_{ij}.$$

It equals the model's slope at every node but the first, whose value is the end of the interval
before, or the trajectory's initial state, which is fitted unless it is known. One interval of 200
Chebyshev points is the paper's global collocation; many intervals with few nodes make the
derivatives sparse. The data need not lie on nodes: the loss evaluates the polynomials.

IPOPT then solves for states and weights together. It needs the Jacobian of the equations and the
Hessian of the Lagrangian. Both consist of blocks of single nodes ($f_y$, $f_w$ and second
derivatives of $\mu \cdot f$), which `jax.vmap` computes for all nodes at once.

`InteriorPoint` does the same without IPOPT, and uses what a general solver cannot see: within
an interval there are as many equations as unknown states, intervals form a chain, and only the
weights are everywhere. Its linear system:

    l0  x0,m0  x1,m1  x2,m2 |  w
    H    #      .      .    |  #      l0     the first node
    #    K0     #      .    |  #      x, m   the other nodes of an interval, its end the last
    .    #      K1     #    |  #             of them, and the multipliers of its equations
    .    .      #      K2   |  #
    ------------------------+----
    #    #      #      #    |  Hw     w      weights and unknowns

Intervals are eliminated for themselves, in parallel; then the chain of their boundaries, by
orthogonal transformations; then the weights, by a dense Schur complement. With $d$ states, $N$
nodes in intervals of $n$, $m = n d$, and $P$ weights, a factorisation costs about
$N/n \, (2 m^3 + 4 m^2 P + 2 m P^2) + N/n \, d P^2 + P^3/3$ operations and holds some $4 N d P$
numbers. `Ipopt` is the choice where trajectories are tied together, where constraints reach over
several intervals, and with thousands of weights, whose dense border then costs most.

Data that do not fit one solve are split into batches that agree on one model (`fit_admm`).

## Sequential or simultaneous training

Sequential training (`fine_tune`) integrates the model from an initial state in each step and
follows the gradient of the rollout's error through the integration. Simultaneous training (`fit`,
`solve`) lets the states depart from every rollout until, at the optimum, the equations hold.

| | sequential | simultaneous |
|---|---|---|
| a step costs | an integration and its gradient | a sparse linear system in states and weights |
| steps taken | thousands, first order | tens, second order |
| starts far from the data | gradients vanish or explode on long series | states begin on the data |
| unstable or stiff models | the integration fails or crawls | an equation like any other |
| constraints on states | by penalties | as constraints |
| weights | up to millions, minibatches | up to some thousands |
| what holds at the end | the integrator's tolerance | the grid's: verify, refine |

Train simultaneously where the model has up to a few thousand weights and the data are few or
costly: it is faster, and rarely ends in the flat or diverging fits in which sequential training of
long oscillating series gets stuck. Then, if the rollout from a known start is what counts, polish
with `fine_tune(sol.model, data, start=sol)`, which removes what the grid leaves. Train sequentially
where nets are large, where data come in a stream, or where a model cannot be differentiated
twice.
"""

import importlib.metadata

from . import _storage
from . import datasets as datasets
from ._admm import fit_admm as fit_admm
from ._admm import process_pool as process_pool
from ._args import Unknown as Unknown
from ._constraints import Conserving as Conserving
from ._constraints import Constraint as Constraint
from ._constraints import StateBounds as StateBounds
from ._constraints import Tie as Tie
from ._constraints import nonnegative as nonnegative
from ._continuation import solve_growing as solve_growing
from ._data import Trajectory as Trajectory
from ._fit import fit as fit
from ._gradient_matching import match_gradients as match_gradients
from ._gradient_matching import xavier as xavier
from ._grid import Grid as Grid
from ._guess import Guess as Guess
from ._guess import guess as guess
from ._inputs import Input as Input
from ._interior_point import InteriorPoint as InteriorPoint
from ._ipopt import Ipopt as Ipopt
from ._ipopt import of_loaded as _of_loaded
from ._leafwise import leafwise as leafwise
from ._load import load as load
from ._loss import PseudoHuber as PseudoHuber
from ._loss import squared_error as squared_error
from ._nlp import NLP as NLP
from ._normalized import Normalized as Normalized
from ._normalized import normalized as normalized
from ._path import Path as Path
from ._plot import plot as plot
from ._plot import plot_trace as plot_trace
from ._refine import refine as refine
from ._scheme import AbstractScheme as AbstractScheme
from ._scheme import Chebyshev as Chebyshev
from ._scheme import GaussLegendre as GaussLegendre
from ._scheme import Lobatto as Lobatto
from ._scheme import Radau as Radau
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
from ._trace import RESULTS as RESULTS
from ._trace import Multipliers as Multipliers
from ._trace import Round as Round
from ._trace import Step as Step
from ._trace import Trace as Trace
from ._trace import TrainingStep as TrainingStep
from ._transcribe import transcribe as transcribe
from ._verification import VERDICT as VERDICT
from ._verification import Verification as Verification
from ._verify import verify as verify


__all__ = [
    "NLP",
    "RESULTS",
    "VERDICT",
    "AbstractScheme",
    "AbstractSolver",
    "Chebyshev",
    "Conserving",
    "Constraint",
    "GaussLegendre",
    "Grid",
    "Guess",
    "Input",
    "InteriorPoint",
    "Ipopt",
    "Lobatto",
    "Multipliers",
    "Normalized",
    "Outcome",
    "Path",
    "PseudoHuber",
    "Radau",
    "Round",
    "Settings",
    "Solution",
    "SolveError",
    "StateBounds",
    "Step",
    "Tie",
    "Trace",
    "TrainingStep",
    "Trajectory",
    "Unknown",
    "Verification",
    "datasets",
    "fine_tune",
    "fit",
    "fit_admm",
    "guess",
    "leafwise",
    "load",
    "match_gradients",
    "nonnegative",
    "normalized",
    "plot",
    "plot_trace",
    "process_pool",
    "refine",
    "resample",
    "simulate",
    "smooth",
    "solve",
    "solve_batch",
    "solve_growing",
    "squared_error",
    "transcribe",
    "verify",
    "xavier",
]

__version__ = importlib.metadata.version("jaxcolloc")

# What a file may hold under its public name; private classes are registered where they are defined.
_storage.register(
    *(RESULTS, VERDICT, Multipliers, Path, Round, Step, Trace, TrainingStep, Verification),
    *(Chebyshev, GaussLegendre, Grid, Lobatto, Radau),
    *(Input, PseudoHuber, StateBounds, Tie, Trajectory, squared_error),
    InteriorPoint,
)
_storage.stored("Ipopt", on_load=_of_loaded)(Ipopt)
