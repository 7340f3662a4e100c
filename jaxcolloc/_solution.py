"""What a solve returns: Solution."""

import functools
import os
from typing import Any

import equinox as eqx
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Float

from . import _storage
from ._check import choice, describe, refuse_traced
from ._jumps import Change, Jump, changes
from ._names import Labels
from ._names import summary as names_summary
from ._nlp import NLP
from ._path import Path
from ._precision import is_array
from ._trace import RESULTS, Multipliers, Trace
from ._verification import Verification


def check_solution(name: str, value: Any) -> None:
    """Refuse what is no Solution, and one that is being traced; `name` is the caller's argument."""
    if not isinstance(value, Solution):
        raise ValueError(f"`{name}` must be a Solution; got {describe(value)}.")
    refuse_traced(name, value.z)


class Record(eqx.Module):
    """What a file has kept of a solution whose problem it could not hold."""

    model: Any
    args: tuple[Any, ...]
    paths: tuple[Path, ...]
    labels: tuple[Labels, ...]


class Solution(eqx.Module):
    """The trained model and all that was found with it.

    - `model`: the trained module, in the dtypes it came with: `diffrax.ODETerm(sol.model)`.
    - `paths`: one `Path` per trajectory, `sol.paths[0].evaluate(t)`.
    - `args`: the `args` of each trajectory, with fitted values in the place of a `jc.Unknown`.
    - `jumps`: the `jc.Jump` objects of each trajectory, with fitted values alike.
    - `result`: a member of `jc.RESULTS`; `result.ok` tells whether an optimum was found.
    - `objective`: the objective at the point returned.
    - `stats`: `num_steps`, `num_constraints`, `compile_seconds`, `solve_seconds`,
      `evaluation_seconds` (inside our functions), `max_defect` (the largest violation of an
      equation or constraint, in the units of the NLP: the state's per time), `solver`, `status`
      and `status_text` (the solver's own); of a `jc.DAE` also `regularity`, the smallest singular
      value of its equations' Jacobian in the algebraic variables at any node, in their own units.
    - `trace`: the iterations.
    - `z`, `multipliers`: the optimizer's variables, for a warm start (None after `jc.fine_tune`
      and `jc.fit_admm`, which have no multipliers); `nlp`: what was solved; `solver`: by which
      solver, None after `jc.fine_tune`; `key`: the PRNG key of its guess.
    - `verification`: the `jc.Verification` that `jc.fit` makes; None after the others.

    `model`, `args`, `jumps` and `paths` are what `z` says, read off when asked for.
    """

    source: NLP | Record
    z: Float[np.ndarray, " variable"]
    result: RESULTS = eqx.field(static=True)
    objective: float
    stats: dict[str, Any]
    trace: Trace
    multipliers: Multipliers | None
    solver: Any
    key: Any = None
    verification: Verification | None = None

    @functools.cached_property
    def model(self) -> Any:
        """The trained module."""
        return self.source.model_at(self.z) if isinstance(self.source, NLP) else self.source.model

    @property
    def weights(self) -> Float[np.ndarray, " weight"]:
        """The weights on the optimizer's scale."""
        return np.asarray(self.nlp.layout.weights(self.nlp.head(self.z)))

    @functools.cached_property
    def args(self) -> tuple[Any, ...]:
        """The `args` of each trajectory."""
        return self.source.args(self.z) if isinstance(self.source, NLP) else self.source.args

    @functools.cached_property
    def jumps(self) -> tuple[tuple[Jump, ...], ...]:
        """The jumps of each trajectory, with fitted amounts in the place of a `jc.Unknown`."""
        return self.nlp.jumps(self.z)

    def changes(self, trajectory: int) -> list[Change]:
        """The jumps of one trajectory on its grid, as a rollout applies them."""
        times = self.paths[trajectory].grid.jump_times.tolist()
        return changes(self.jumps[trajectory], self.model, self.args[trajectory], times)

    @functools.cached_property
    def paths(self) -> tuple[Path, ...]:
        """The collocated trajectories."""
        source = self.source
        if isinstance(source, Record):
            return source.paths
        states = source.states_at(self.z)
        if source.num_algebraic == 0:
            return tuple(Path(*pair) for pair in zip(source.grids, states, strict=True))
        more = source.algebraic_at(self.z)
        return tuple(Path(*parts) for parts in zip(source.grids, states, more, strict=True))

    @property
    def problem(self) -> NLP | None:
        """The NLP that was solved; None in a solution from a file that could not hold it."""
        return self.source if isinstance(self.source, NLP) else None

    @property
    def nlp(self) -> NLP:
        """The NLP that was solved.

        **Errors:** `ValueError` in a solution from a file that could not hold the whole problem.
        """
        if self.problem is None:
            raise ValueError(
                "This solution was loaded without its NLP, since functions or other objects that "
                "a file cannot hold belong to it. Load it with `like=nlp`."
            )
        return self.problem

    @property
    def labels(self) -> tuple[Labels, ...]:
        """The names of each trajectory and its channels."""
        source = self.source
        if isinstance(source, NLP):
            return tuple(item.labels for item in source.trajectories)
        return source.labels

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all of it to one file, for `jc.load`.

        Weights, states, multipliers, grids, options, the key and the data; no pickle. The file
        is replaced at once: a kill while writing leaves the old one whole. Functions (a loss,
        `observe`, constraints) and `args` of foreign classes cannot be stored; a solution with
        these is loaded with `like=nlp`, or without its NLP.
        """
        _storage.write(path, self.content() | {"request": None})

    def to_frame(self, of: str = "observations") -> Any:
        """A long table (pandas), with the names of experiments, channels and states.

            sol.to_frame().groupby("channel")["residual"].std()

        **Arguments:**

        - `of`: "observations" for a row of each measured value: experiment, time, channel, the
          value observed, the one predicted on the path, the residual (observed minus predicted),
          the one predicted on the rollout from the path's start (NaN behind a failure) and the
          sample's weight. "states" for a row of each state at each node: experiment, time, state,
          its value on the path and on the verified rollout (NaN before a verification).

        `to_pandas` has the same in a wide form.
        """
        # Below this class in the order of files.
        from ._tables import samples_table, states_table

        choice("of", of, ("observations", "states"))
        return samples_table(self) if of == "observations" else states_table(self)

    def to_pandas(self) -> Any:
        """A wide table of all trajectories: states at the nodes and at the observation times.

        Rows are indexed by trajectory and time; the columns are `path_0, ...`, the states on the
        collocation path, `algebraic_0, ...` the algebraic variables of a `jc.DAE`, `rollout_0, ...`
        the states of the rollout at the nodes (after `jc.fit`), and `data_0, ...`, the
        observations; with names, these in the place of numbers. NaN where there is none.
        """
        from ._tables import wide_table

        return wide_table(self)

    def content(self) -> dict[str, Any]:
        """All of it as a tree that a file can hold."""
        problem = None
        if self.problem is not None:
            problem = {
                "data": _storage.storable(list(self.problem.trajectories)),
                "settings": {
                    name: _storage.storable(self.problem.settings[name])
                    for name in list(self.problem.settings.keys())
                },
            }
        leaves = [np.asarray(leaf) for leaf in jtu.tree_leaves(self.model) if is_array(leaf)]
        return {
            "model": leaves,
            "args": [_storage.storable(item) for item in self.args],
            "paths": [
                (path.grid, path.states)
                if path.algebraic_states is None
                else (path.grid, path.states, path.algebraic_states)
                for path in self.paths
            ],
            "result": self.result,
            "objective": self.objective,
            "stats": {name: _storage.storable(value) for name, value in self.stats.items()},
            "trace": self.trace,
            "z": self.z,
            "multipliers": self.multipliers,
            "problem": problem,
            "solver": _storage.storable(self.solver),
            "key": _storage.storable(self.key),
            "verification": self.verification,
        }

    def __str__(self) -> str:
        stats = self.stats
        count = len(self.paths)
        noun = "trajectory" if count == 1 else "trajectories"
        jumps = sum(len(path.grid.jump_times) for path in self.paths)
        noun += f", {jumps} jump{'s' if jumps > 1 else ''}" if jumps else ""
        names = names_summary(self.labels)
        proof = [] if self.verification is None else [str(self.verification)]
        return "\n".join(
            [
                f"Solution: {self.result.name}. {self.result.value}",
                f"  problem    {len(self.z)} variables, "
                f"{stats['num_constraints']} constraints, {count} {noun}",
                *([f"  data       {names}"] if names else []),
                f"  objective  {self.objective:.8g}",
                f"  defect     {stats['max_defect']:.2g} at most",
                *(
                    [f"  algebraic  smallest singular value {stats['regularity']:.2g}"]
                    if "regularity" in stats
                    else []
                ),
                *([f"  note       {stats['singular']}"] if "singular" in stats else []),
                f"  solver     {stats['solver']}, {_counted(stats['num_steps'], 'step')}",
                f"  seconds    {stats['compile_seconds']:.2f} to compile, "
                f"{stats['solve_seconds']:.2f} to solve, "
                f"{stats['evaluation_seconds']:.2f} of these in functions",
                *proof,
            ]
        )

    def __repr__(self) -> str:
        return f"Solution({self.result!r}, objective={self.objective:.8g})"


class SolveError(RuntimeError):
    """A solve failed; `solution` holds the best point found."""

    def __init__(self, solution: Solution):
        where = solution.stats.get("not_finite", "")
        super().__init__(
            f"{solution.result.value} {where + ' ' if where else ''}"
            f"[{solution.result!r}; the solver's status: {solution.stats['status_text']}; "
            "the best point found is in `error.solution`, or pass `throw=False`]"
        )
        self.solution = solution


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
