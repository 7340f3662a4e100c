"""Places: where the parameters of a call stand in the NLP, found by marking them.

What a number of the data becomes in the terms is what a mark in its place becomes: the problem is
built once from marks, and whatever of them comes out is a place. So samples are found where they
are sorted into slots, and inputs where they are filled up, with no word here on how.
"""

import dataclasses
from typing import Any, NamedTuple

import jax.tree_util as jtu
import numpy as np

from .._args import Unknowns
from .._arrays import module
from .._constraints import as_constraints
from .._data import Trajectory, changed
from .._nlp import NLP
from .._precision import AnyArray
from .._ridge import OnNets, ridge_factors
from .._transcription.bounds import variable_bounds
from .._transcription.core import Compiled, Core
from .._transcription.objective_terms import Quadratic
from .._transcription.terms import Defects
from .._transform import LINEAR
from .parameters import Form, flattened


# Marks are numbers from here on, each exact in float64; none of the caller's is so likely.
_FIRST_MARK = 2.0**50
_NONE = -1


class Sides(NamedTuple):
    """Bounds of the variables, `source` and `slope` for the side that each parameter moves.

    Axes: lower and upper, then the variables, in the optimizer's units. Where `source` is negative
    no parameter moves the bound; else `slope` is its derivative by that one.
    """

    value: np.ndarray
    source: np.ndarray
    slope: np.ndarray


class Places:
    """Where each parameter of a form stands in an NLP."""

    def __init__(self, nlp: NLP, form: Form):
        self.nlp, self.form = nlp, form
        marks = _FIRST_MARK + np.arange(form.size)
        self._terms = self._find_terms(marks)
        ridge = nlp.compiled.host.quadratics[0]
        head = nlp.layout.num_head
        self._factor, self._center = np.zeros(head), self._starts()
        self._factor[ridge.at], self._center[ridge.at] = ridge.factor, ridge.center
        self._factor_source = np.full(head, _NONE)
        self._center_source = np.full(head, _NONE)
        if form.part("l2") is not None:
            marked = ridge_factors(nlp.layout.model, self._l2(marks), nlp.model)
            self._factor_source[: nlp.num_weights] = _sources(marked)
            self._factor[: nlp.num_weights] = 0.0
        if form.part("center") is not None:
            self._center_source[:] = _sources(form.leaves("center", marks)[0])

    def nlp_at(self, p: np.ndarray) -> NLP:
        """The NLP with these parameters."""
        nlp = self.nlp
        core = self._with_terms(nlp.compiled.host, p)
        ridge, others = self._ridge(p), core.quadratics[1:]
        at = nlp.compiled.host.quadratics[0].at
        bounds = self.sides(p).value
        lower, upper = bounds[0], bounds[1]
        if set(np.flatnonzero(ridge.factor)) <= set(at.tolist()):
            chosen = Quadratic(at, ridge.factor[at], ridge.center[at])
            core = dataclasses.replace(core, quadratics=(chosen, *others))
            patterns = None
        else:
            chosen = Quadratic.ridge(np.asarray(ridge.factor), np.asarray(ridge.center))
            core, patterns = Core.build(
                nlp.layout, core.equations, core.penalties, (chosen, *others), core.priors,
                (nlp.units, nlp.row_factors),
            )  # fmt: skip
        names = ("jacobian_pattern", "hessian_pattern", "gauss_newton_pattern")
        changes: dict[str, Any] = (
            {} if patterns is None else dict(zip(names, patterns, strict=True))
        )
        changes |= {"compiled": Compiled(core, nlp.compiled), "bounds": (lower, upper)}
        return NLP(dataclasses.replace(nlp.parts, **changes))

    def core_at(self, core: Core, p: AnyArray) -> Core:
        """A core with these parameters, for values and derivatives by `p`, in either driver.

        Its second derivatives are not to be asked for: the ridge stands at all of the head.
        """
        core = self._with_terms(core, p)
        return dataclasses.replace(core, quadratics=(self._ridge(p), *core.quadratics[1:]))

    def sides(self, p: np.ndarray) -> Sides:
        """The bounds with these parameters."""
        nlp, form = self.nlp, self.form
        value = np.stack(nlp.bounds)
        source, slope = np.full(value.shape, _NONE), np.zeros(value.shape)
        marks = _FIRST_MARK + np.arange(form.size)
        trajectories = self._with_starts(p)
        if form.part("weight_bounds") is not None:
            self._set_weights(p, marks, value, source, slope)
        if form.part("state_bounds") is not None:
            self._set_states(p, marks, trajectories, value, source, slope)
        if form.part("y0") is not None:
            self._set_starts(trajectories, self._with_starts(marks), value, source, slope)
        return Sides(value, source, slope)

    # --- The terms ---

    def _find_terms(self, marks: np.ndarray) -> list[list[np.ndarray | None] | None]:
        """For each term and each array of its points the parameter in every place."""
        names = [name for name in ("ys", "weights", "args") if self.form.part(name) is not None]
        if not names:
            return []
        marked = self.nlp.with_data(self._marked(names, marks)).compiled.host
        found: list[list[np.ndarray | None] | None] = []
        for own, other in zip(_terms(self.nlp.compiled.host), _terms(marked), strict=True):
            if _points(own) is None:
                found.append(None)
                continue
            mine, theirs = (jtu.tree_leaves(_points(term)) for term in (own, other))
            sources = [_marks_in(a, b) for a, b in zip(mine, theirs, strict=True)]
            found.append(None if all(item is None for item in sources) else sources)
        return found

    def _marked(self, names: list[str], marks: np.ndarray) -> list[Trajectory]:
        """The data with marks in the place of parameters."""
        trees: dict[str, Any] = {name: self.form.tree(name, marks) for name in names}
        data = []
        for k, item in enumerate(self.nlp.trajectories):
            changes: dict[str, Any] = {"weights": item.weights}
            if "ys" in trees:
                changes["ys"] = np.where(item.measured, trees["ys"][k], np.nan)
            if "weights" in trees:
                changes["weights"] = trees["weights"][k]
            if "args" in trees:
                leaves, treedef = flattened(item.args)
                shown = treedef.flatten_up_to(trees["args"][k])
                kept = [
                    own if mark is None else mark for own, mark in zip(leaves, shown, strict=True)
                ]
                changes["args"] = jtu.tree_unflatten(treedef, kept)
            data.append(changed(item, **changes))
        return data

    def _with_terms(self, core: Core, p: AnyArray) -> Core:
        if not self._terms:
            return core
        terms = [
            term if sources is None else _with_points(term, _filled(_points(term), sources, p))
            for term, sources in zip(_terms(core), self._terms, strict=True)
        ]
        count = len(core.equations)
        return dataclasses.replace(
            core, equations=tuple(terms[:count]), penalties=tuple(terms[count:])
        )

    # --- The ridge ---

    def _starts(self) -> np.ndarray:
        """What the head is drawn to: zero for weights, their starts for unknowns."""
        starts = [Unknowns.of(item.constants).start for item in self.nlp.trajectories]
        return np.concatenate([np.zeros(self.nlp.num_weights), *starts])

    def _l2(self, p: np.ndarray) -> Any:
        """The penalty as `jc.transcribe` takes it."""
        value = self.form.tree("l2", p)
        on_nets = isinstance(self.nlp.settings.l2, OnNets)
        return OnNets(float(value)) if on_nets and np.ndim(value) == 0 else value

    def _ridge(self, p: AnyArray) -> Quadratic:
        """The ridge penalty at all of the head."""
        at = np.arange(self.nlp.layout.num_head)
        factor = _read(self._factor, self._factor_source, p)
        return Quadratic(at, factor, _read(self._center, self._center_source, p))

    # --- The bounds ---

    def _with_starts(self, p: np.ndarray) -> tuple[Trajectory, ...]:
        """The trajectories with the known starts among the parameters."""
        if self.form.part("y0") is None:
            return self.nlp.trajectories
        starts = self.form.tree("y0", p)
        return tuple(
            item if start is None or item.y0 is None else changed(item, y0=_with_known(item, start))
            for item, start in zip(self.nlp.trajectories, starts, strict=True)
        )

    def _set_weights(
        self,
        p: np.ndarray,
        marks: np.ndarray,
        value: np.ndarray,
        source: np.ndarray,
        slope: np.ndarray,
    ) -> None:
        nlp, weighted = self.nlp, self.nlp.layout.model
        linear = dataclasses.replace(weighted, scales=(LINEAR,) * len(weighted.scales))
        limits = weighted.limits("weight_bounds", self.form.tree("weight_bounds", p), nlp.model)
        marked = linear.limits("weight_bounds", self.form.tree("weight_bounds", marks), nlp.model)
        free = np.flatnonzero(value[0, : nlp.num_weights] < value[1, : nlp.num_weights])
        for side in range(2):
            value[side, free] = limits[side][free]
            source[side, free] = _sources(marked[side])[free]
            finite = np.isfinite(limits[side])
            rates = weighted.rates(np.where(finite, limits[side], 0.0))
            slope[side, free] = np.where(finite, 1 / rates, 0.0)[free]

    def _set_states(
        self,
        p: np.ndarray,
        marks: np.ndarray,
        trajectories: tuple[Trajectory, ...],
        value: np.ndarray,
        source: np.ndarray,
        slope: np.ndarray,
    ) -> None:
        nlp, head, d = self.nlp, self.nlp.layout.num_head, self.nlp.num_states
        settings = nlp.settings
        limits = self.form.tree("state_bounds", p)
        stated = as_constraints(settings.constraints, len(nlp.grids))
        bounds = variable_bounds(
            nlp.layout, nlp.model, trajectories, settings.weight_bounds, limits, stated,
            settings.algebraic_bounds,
        )  # fmt: skip
        shown = self.form.tree("state_bounds", marks)
        given = variable_bounds(nlp.layout, nlp.model, nlp.trajectories, None, None, ())
        held = (given[0] == given[1])[head:]
        units = nlp.units[head:]
        for side in range(2):
            value[side, head:] = bounds[side][head:] / units
            if limits[side] is None:
                continue
            # Algebraic variables have bounds of their own.
            none = np.full(nlp.num_algebraic, np.nan)
            own, mark = (
                np.tile(np.append(np.broadcast_to(item[side], (d,)), none), nlp.layout.num_nodes)
                for item in (limits, shown)
            )
            # Not where a constraint is tighter.
            moves = ~held & (bounds[side][head:] == own)
            source[side, head:] = np.where(moves, _sources(mark), _NONE)
            slope[side, head:] = np.where(moves, 1 / units, 0.0)

    def _set_starts(
        self,
        trajectories: tuple[Trajectory, ...],
        marked: tuple[Trajectory, ...],
        value: np.ndarray,
        source: np.ndarray,
        slope: np.ndarray,
    ) -> None:
        layout = self.nlp.layout
        for k, (item, mark) in enumerate(zip(trajectories, marked, strict=True)):
            if item.y0 is None or mark.y0 is None:
                continue
            known = np.flatnonzero(~np.isnan(item.y0))
            at = layout.columns(layout.first_nodes[k]) + known
            value[:, at] = item.y0[known] / self.nlp.units[at]
            source[:, at] = _sources(mark.y0[known])
            slope[:, at] = np.where(source[:, at] >= 0, 1 / self.nlp.units[at], 0.0)


def _terms(core: Core) -> tuple[Any, ...]:
    return (*core.equations, *core.penalties)


def _points(term: Any) -> Any:
    """The points at which a term evaluates a function; None where it has none."""
    term = term.field if isinstance(term, Defects) else term
    return getattr(term, "points", None)


def _with_points(term: Any, points: Any) -> Any:
    if isinstance(term, Defects):
        return dataclasses.replace(term, field=_with_points(term.field, points))
    return dataclasses.replace(term, points=points)


def _filled(points: Any, sources: list[np.ndarray | None], p: AnyArray) -> Any:
    """Points with parameters in their places."""
    leaves, treedef = jtu.tree_flatten(points)
    filled = [
        leaf if source is None else _read(leaf, source, p)
        for leaf, source in zip(leaves, sources, strict=True)
    ]
    return jtu.tree_unflatten(treedef, filled)


def _read(other: AnyArray, source: np.ndarray, p: AnyArray) -> Any:
    """The parameters at their places, what is there otherwise at all others."""
    if not np.any(source >= 0):
        return other
    return module(p).where(source >= 0, p[np.maximum(source, 0)], other)


def _marks_in(own: Any, other: Any) -> np.ndarray | None:
    """Which parameter's mark stands where in an array that has come of marks; None for none."""
    if not isinstance(other, np.ndarray) or other.dtype.kind != "f":
        return None
    source = np.where(own != other, _sources(other), _NONE)
    return source if np.any(source >= 0) else None


def _sources(marked: np.ndarray) -> np.ndarray:
    """The parameters that marks stand for, negative for other numbers."""
    marked = np.asarray(marked, np.float64)
    there = np.isfinite(marked) & (marked >= _FIRST_MARK)
    return np.where(there, np.where(there, marked, 0.0) - _FIRST_MARK, _NONE).astype(np.int64)


def _with_known(item: Trajectory, start: np.ndarray) -> Any:
    """What is stated of a trajectory's start, with other values for what is known of it."""
    known = np.where(np.isnan(np.asarray(item.y0, np.float64)), np.nan, start)
    return known if item.steady is None else item.steady.holding(known)
