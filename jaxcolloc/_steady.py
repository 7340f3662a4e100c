"""SteadyState: an initial state at which the model rests, as the caller states it."""

import dataclasses
from typing import Any

import equinox as eqx
import jax.tree_util as jtu
import numpy as np
from jaxtyping import ArrayLike, Float

from ._args import Unknown
from ._check import describe, float_array, real_numbers


# A matrix whose rows and columns are scaled so often is singular where its least singular value is
# this share of the largest.
_SWEEPS, _SINGULAR = 2, 1e-13


@dataclasses.dataclass(frozen=True)
class SharedUnknown:
    """Stands for the unknown at this position among those of the trajectory's `args`."""

    position: int


class SteadyState(eqx.Module):
    r"""The state of an experiment that was left alone before it began: $f(t_0, y_0, args) = 0$.

        before = {"dose": 0.0, "uptake": uptake}
        jc.Trajectory(ts, ys, {"dose": 2.0, "uptake": uptake}, y0=jc.SteadyState(before))

    The equations hold at the trajectory's start, with the weights and unknowns that are found.

    **Arguments:**

    - `args`: those of the model before the experiment, as a trajectory has them; its own if not
      given. A `jc.Unknown` must be the same object as one in the trajectory's `args`.
    - `known`: components whose value is known, shape `(state,)`, NaN for the others. The value
      takes the place of the equation of that component, which need not rest.
    - `invariants`: $C$ with $C \dot y = 0$ whatever the state, as sums of species that only turn
      into each other; shape `(state,)` or `(invariant, state)`. Each leaves one equation less, and
      the value of $C y_0$ is fitted, or stated by a `jc.Constraint` with `at="start"` or by `known`
      components.

    **Errors:** `ValueError` for wrong shapes and invariants that depend on each other.
    """

    args: Any
    known: Float[np.ndarray, " state"] | None
    invariants: Float[np.ndarray, "invariant state"] | None

    def __init__(self, args: Any = None, *, known: ArrayLike | None = None, invariants: Any = None):
        self.args = args
        self.known = None if known is None else _known(known)
        self.invariants = None if invariants is None else as_invariants(invariants)

    def of(self, args: Any) -> "SteadyState":
        """The same for a trajectory with these `args`, whose unknowns its own ones stand for."""
        unknowns = [leaf for leaf in jtu.tree_leaves(args) if isinstance(leaf, Unknown)]

        def shared(leaf: Any) -> Any:
            if isinstance(leaf, Unknown):
                same = [position for position, item in enumerate(unknowns) if item is leaf]
                if len(same) == 1:
                    return SharedUnknown(same[0])
            elif not isinstance(leaf, SharedUnknown) or leaf.position < len(unknowns):
                return leaf
            raise ValueError(
                "`args` of a jc.SteadyState may hold a jc.Unknown only if that is the same object "
                "as one, and only one, in the `args` of its trajectory."
            )

        return self._with(args=jtu.tree_map(shared, self.args))

    def holding(self, known: Float[np.ndarray, " state"]) -> "SteadyState":
        """The same with other values of the known components."""
        return self._with(known=known)

    def _with(self, **changes: Any) -> "SteadyState":
        return SteadyState(
            **({"args": self.args, "known": self.known, "invariants": self.invariants} | changes)
        )

    def before(self, stated: Any, found: Any) -> Any:
        """The `args` before the experiment.

        `stated` are those of the trajectory, `found` the same with values in the place of unknowns.
        """
        if self.args is None:
            return found
        treedef: Any = jtu.tree_structure(stated)
        pairs = zip(jtu.tree_leaves(stated), treedef.flatten_up_to(found), strict=True)
        values = [value for leaf, value in pairs if isinstance(leaf, Unknown)]
        return jtu.tree_map(
            lambda leaf: values[leaf.position] if isinstance(leaf, SharedUnknown) else leaf,
            self.args,
        )

    def held(self, size: int) -> tuple[int, ...]:
        """The positions of the known components of a state of that size."""
        known = np.full(size, np.nan) if self.known is None else self.known
        if known.shape != (size,):
            raise ValueError(
                f"`known` of a jc.SteadyState must have shape (state,) = ({size},); got shape "
                f"{known.shape}."
            )
        return tuple(np.flatnonzero(~np.isnan(known)).tolist())

    def equations(self, size: int) -> tuple[int, ...]:
        """The components whose equations are left, of a state of that size.

        Without those of known components, and without one for each invariant that follows from the
        others.

        **Errors:** `ValueError` for invariants of another size, or of known components alone.
        """
        open_ones = np.setdiff1d(np.arange(size), self.held(size))
        if self.invariants is None:
            return tuple(open_ones.tolist())
        from scipy.linalg import qr

        rows = self.invariants
        if rows.shape[1] != size:
            raise ValueError(
                f"`invariants` of a jc.SteadyState must have shape (invariant, state) with state = "
                f"{size}; got shape {rows.shape}."
            )
        part = rows[:, open_ones]
        if np.linalg.matrix_rank(part) < len(rows):
            raise ValueError(
                "`invariants` of a jc.SteadyState must be independent in the components that are "
                f"not known; got {describe(rows)}."
            )
        _, order = qr(part, mode="r", pivoting=True)
        return tuple(sorted(open_ones[order[len(rows) :]].tolist()))


def _known(value: Any) -> np.ndarray:
    known = float_array("known", value, 1, "(state,)", missing=True)
    if np.any(np.isinf(known)) or (len(known) and not np.any(np.isnan(known))):
        raise ValueError(
            "`known` must be finite, and NaN for the components that are to be found; "
            f"got {known}. If all are known, pass them as `y0`."
        )
    return known


def as_invariants(value: Any) -> Float[np.ndarray, "invariant state"]:
    """The rows of invariants, which must be independent."""
    wanted = "finite numbers of shape (state,) or (invariant, state) with independent rows"
    rows = np.atleast_2d(real_numbers("invariants", value, wanted))
    sound = rows.ndim == 2 and rows.size > 0 and np.all(np.isfinite(rows))
    if not sound or np.linalg.matrix_rank(rows) < len(rows):
        raise ValueError(f"`invariants` must be {wanted}; got {describe(rows)}.")
    return rows


def null_vector(
    matrix: Float[np.ndarray, "equation state"],
) -> Float[np.ndarray, " equation"] | None:
    """The combination of a matrix's rows that vanishes; None where they are independent.

    Whatever the units of rows and columns.
    """
    units = np.ones(len(matrix))
    for _ in range(_SWEEPS):
        largest = np.abs(matrix).max(axis=1)
        largest = np.where(largest > 0, largest, 1.0)
        matrix, units = matrix / largest[:, None], units / largest
        largest = np.abs(matrix).max(axis=0)
        matrix = matrix / np.where(largest > 0, largest, 1.0)
    left, values, _ = np.linalg.svd(matrix)
    if values.min(initial=np.inf) > _SINGULAR * values.max(initial=0.0):
        return None
    found = units * left[:, -1]
    return np.asarray(found / found[np.argmax(np.abs(found))])
