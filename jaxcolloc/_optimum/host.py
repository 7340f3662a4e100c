"""Solves and derivatives for one form of parameters, on the host and in float64.

Arrays may have axes in front, of length one where something is the same for all: this is how
`jax.vmap` calls the host. What is the same is solved and factorised once.
"""

import dataclasses
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from .._nlp import NLP
from .._precision import x64
from .._run import Run
from .._solver import AbstractSolver, Outcome
from .._trace import Multipliers
from .active import Point, polished
from .linearised import Linearised, Mixed
from .parameters import Form
from .places import Places


# The last so many optima are kept with their factorisations, for the derivatives that follow.
_KEPT = 16
# So many numbers are kept of optima before them, which spare the solve.
_REMEMBERED = 20_000_000
# A solve whose end does not lead to the optimum is tightened to this.
_TIGHT = 1e-9
# How far weights are moved, on the optimizer's scale, to leave a saddle point.
_SHAKE = 1e-3

_NOT_SOLVED = "The solver has not converged, so that the optimum and its derivatives are NaN ({}): "
_NOT_REGULAR = (
    "The optimum has no derivative, so that NaN is returned: its optimality conditions are "
    "singular or not those of a minimum. The data may leave directions of weights or states free "
    "(raise `l2`, or take fewer weights), active constraints may repeat one another, or the solver "
    "may have stopped at a saddle point (start it elsewhere)."
)
_WEAKLY = (
    "Some bounds or constraints are only weakly active (at the bound with a multiplier near zero, "
    "or within 1e-8 of it): the optimum has different derivatives to both sides, and those given "
    "are of the side on which what is now at its bound stays there."
)


class Found(NamedTuple):
    """An optimum: `point` is None where it has no derivatives, and `reason` says why."""

    z: np.ndarray
    multipliers: np.ndarray
    linearised: Linearised | None
    weak: bool
    reason: str


class Host:
    """The optimum and its derivative for one form of parameters."""

    def __init__(
        self,
        nlp: NLP,
        solver: AbstractSolver,
        start: tuple[np.ndarray, Multipliers | None],
        form: Form,
    ):
        self.nlp, self.solver, self.start, self.form = nlp, solver, start, form
        with x64():
            self.places = Places(nlp, form)
        self._mixed: Mixed | None = None
        self._found: OrderedDict[bytes, Found] = OrderedDict()
        self._ends: OrderedDict[bytes, Outcome] = OrderedDict()

    # --- Called by JAX ---

    def values(self, p: Any) -> tuple[np.ndarray, np.ndarray]:
        """Variables and multipliers."""
        wide = np.asarray(p, np.float64)
        found = [self.at(row) for row in wide.reshape(-1, wide.shape[-1])]
        shape = wide.shape[:-1]
        return (
            _stacked([item.z for item in found], shape, p),
            _stacked([item.multipliers for item in found], shape, p),
        )

    def forward(self, p: Any, dp: Any) -> tuple[np.ndarray, np.ndarray]:
        """How variables and multipliers change with the parameters."""
        (n, m), dtype = self.sizes, np.asarray(p).dtype
        shape, pairs = _pairs(p, dp)
        z, multipliers = np.empty((*shape, n), dtype), np.empty((*shape, m), dtype)
        for index, (at, along) in pairs:
            linear = self._linearised(at)
            nothing = np.full(n, np.nan), np.full(m, np.nan)
            with x64():
                found = nothing if linear is None else linear.forward(along)
            z[index], multipliers[index] = found
        return z, multipliers

    def backward(self, p: Any, z: Any, multipliers: Any) -> tuple[np.ndarray]:
        """The parameters' cotangent."""
        dtype = np.asarray(p).dtype
        shape, triples = _pairs(p, z, multipliers)
        result = np.empty((*shape, self.form.size), dtype)
        for index, (at, of_z, of_rows) in triples:
            linear = self._linearised(at)
            with x64():
                result[index] = np.nan if linear is None else linear.backward(of_z, of_rows)
        return (result,)

    def outcome(self, p: np.ndarray) -> Outcome | None:
        """What solves for these parameters, as far as it is remembered."""
        return self._ends.get(p.tobytes())

    @property
    def sizes(self) -> tuple[int, int]:
        """The numbers of variables and of constraints."""
        return self.nlp.num_variables, self.nlp.num_constraints

    def _linearised(self, p: np.ndarray) -> Linearised | None:
        """The derivative at parameters; None, with a warning, where there is none."""
        found = self.at(p)
        if found.linearised is None:
            warnings.warn(found.reason, stacklevel=2)
        elif found.weak:
            warnings.warn(_WEAKLY, stacklevel=2)
        return found.linearised

    # --- One optimum ---

    def at(self, p: np.ndarray) -> Found:
        """The optimum for these parameters."""
        key = p.tobytes()
        found = self._found.pop(key, None)
        if found is None:
            with x64():
                found = self._solved(p)
        self._found[key] = found
        while len(self._found) > _KEPT:
            self._found.popitem(last=False)
        return found

    def _solved(self, p: np.ndarray) -> Found:
        nlp = self.places.nlp_at(p)
        outcome = self._ends.get(p.tobytes())
        if outcome is None:
            outcome = self._run(self.solver, nlp, *self.start)
            self.remember(p, outcome)
        if not outcome.result.ok:
            reason = _NOT_SOLVED.format(outcome.result.name) + outcome.result.value
            warnings.warn(reason, stacklevel=2)
            multipliers = np.full(nlp.num_constraints, np.nan)
            return Found(np.full(len(outcome.z), np.nan), multipliers, None, False, reason)
        outcome, point = self._followed(nlp, outcome)
        if point is None:
            multipliers = (
                np.full(nlp.num_constraints, np.nan)
                if outcome.multipliers is None
                else outcome.multipliers.constraints
            )
            return Found(outcome.z, multipliers, None, False, _NOT_REGULAR)
        self._mixed = Mixed(self.places) if self._mixed is None else self._mixed
        linear = Linearised(self.places, self._mixed, p, point)
        forces = point.forces
        end = Multipliers(point.multipliers, np.maximum(-forces, 0.0), np.maximum(forces, 0.0))
        self.remember(p, dataclasses.replace(outcome, z=point.z, multipliers=end))
        return Found(point.z, point.multipliers, linear, point.weak, "")

    def _followed(self, nlp: NLP, outcome: Outcome) -> tuple[Outcome, Point | None]:
        """The optimum that a solve has come near to, after another one where it has not.

        The second is tighter; the third leaves what may have been a saddle point.
        """
        point = self._point(nlp, outcome)
        if point is not None or outcome.multipliers is None:
            return outcome, point
        solver = tightened(self.solver, _TIGHT)
        for shake in (0.0, _SHAKE):
            z = outcome.z.copy()
            head = z[: nlp.layout.num_head]
            head += shake * np.random.default_rng(0).normal(size=len(head))
            again = self._run(solver, nlp, nlp.inside(z), outcome.multipliers)
            point = self._point(nlp, again) if again.result.ok else None
            if point is not None:
                return again, point
        return outcome, None

    def remember(self, p: np.ndarray, outcome: Outcome) -> None:
        """Keep what solves for these parameters, to come back to, without a factorisation."""
        self._ends[p.tobytes()] = outcome
        most = max(_KEPT, _REMEMBERED // (3 * self.nlp.num_variables + self.nlp.num_constraints))
        while len(self._ends) > most:
            self._ends.popitem(last=False)

    @staticmethod
    def _run(
        solver: AbstractSolver, nlp: NLP, z: np.ndarray, multipliers: Multipliers | None
    ) -> Outcome:
        run = Run(max_seconds=solver.time_limit)
        return solver.run(nlp, z, multipliers, run).ended_by(run)

    @staticmethod
    def _point(nlp: NLP, outcome: Outcome) -> Point | None:
        if outcome.multipliers is None:
            return None
        with np.errstate(all="ignore"):
            return polished(nlp, outcome.z, outcome.multipliers)


def tightened(solver: AbstractSolver, tol: float) -> AbstractSolver:
    """The same solver with a tolerance at most `tol`; itself if it has none."""
    if "tol" not in {field.name for field in dataclasses.fields(solver)}:
        return solver
    own: Any = solver
    tighter: AbstractSolver = dataclasses.replace(own, tol=min(own.tol, tol))
    return tighter


def _stacked(rows: list[np.ndarray], shape: tuple[int, ...], like: Any) -> np.ndarray:
    return np.stack(rows).reshape(*shape, -1).astype(np.asarray(like).dtype)


def _pairs(*arrays: Any) -> tuple[tuple[int, ...], Iterator[tuple[Any, list[np.ndarray]]]]:
    """The common axes in front, and for each place along them the vectors that belong together."""
    wide = [np.asarray(item, np.float64) for item in arrays]
    shape = np.broadcast_shapes(*(item.shape[:-1] for item in wide))

    def each() -> Iterator[tuple[Any, list[np.ndarray]]]:
        for index in np.ndindex(shape):
            yield index, [_taken(item, index) for item in wide]

    return shape, each()


def _taken(item: np.ndarray, index: tuple[int, ...]) -> np.ndarray:
    lead = item.shape[:-1]
    return item[tuple(0 if size == 1 else i for i, size in zip(index, lead, strict=True))]
