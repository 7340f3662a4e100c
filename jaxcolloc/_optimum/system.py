r"""The optimality conditions linearised at a point, factorised, with what is active held.

With the Lagrangian's Hessian $W$, the Jacobian $A$ of equations and active constraints, and the
rows $E$ of the identity for variables that are fixed or at a bound,

$$\begin{pmatrix} W & A^T & E^T \\ A & & \\ E & & \end{pmatrix}
  \begin{pmatrix} x \\ \lambda \\ \nu \end{pmatrix} = \begin{pmatrix} r \\ c \\ h \end{pmatrix}.$$

The matrix is symmetric: one factorisation serves derivatives in both directions.
"""

import abc
from typing import Any

import numpy as np

from .._interior_point import blocks, kkt
from .._interior_point.problem import structure_on_host
from .._interior_point.solver import InteriorPoint
from .._nlp import NLP


Solved = tuple[np.ndarray, np.ndarray, np.ndarray]

# Refinement ends at this relative residual, or after so many rounds; a larger one than the last
# number is no solution.
_PRECISE, _MOST_ROUNDS, _ROUGH = 1e-14, 20, 1e-8
# What holds a variable or an equation in the blockwise factorisation, until refinement has made it
# hard: more loses digits of all else, less takes more rounds.
_STIFFNESS = 1e6
# A matrix of entries near one is singular where a right-hand side is magnified by more than this:
# with sixteen digits, four of a derivative's would be left.
_SINGULAR = 1e12
_EQUILIBRATIONS = 6
# In the test of the curvature where equations hold: their stiffness, and what curvature, of entries
# near one, is no more than rounding.
_STIFF, _FLAT = 1e6, 1e-8


class System:
    """The conditions of `nlp` at `z` with the constraints' `multipliers`; within `x64()`.

    `held` marks the variables that do not move, `rows` the constraints that hold as equations.
    `regular` tells whether there is one solution to all right-hand sides, at a minimum as far as
    the factorisation knows.
    """

    def __init__(
        self, nlp: NLP, z: np.ndarray, multipliers: np.ndarray, held: np.ndarray, rows: np.ndarray
    ):
        # It takes long to import.
        from scipy import sparse

        call = nlp.compiled.function
        hessian = np.asarray(call("hessian")(z, multipliers, 1.0))
        _, gradient, constraints, jacobian = map(np.asarray, call("point")(z))
        self.gradient, self.constraints = gradient, constraints
        self.held, self.rows = held, rows
        largest = np.max(np.abs(hessian), initial=0.0)
        self.unit = float(largest) if largest > 0 else 1.0
        hessian = hessian / self.unit
        self.w = nlp.parts.hessian_pattern.symmetric(hessian)
        every = nlp.parts.jacobian_pattern.matrix(jacobian)
        self.a = sparse.csr_array(sparse.diags_array(rows.astype(float)) @ every)
        self.scale = self._equilibrated()
        finite = np.isfinite(hessian).all() and np.isfinite(jacobian).all()
        self._method: _Method | None = None
        if finite:
            blockwise = InteriorPoint.takes(nlp)
            self._method = _Blockwise(nlp, hessian, jacobian, self) if blockwise else _General(self)
        self.regular = self._determined()
        if not self.regular and isinstance(self._method, _Blockwise) and self._method.good:
            # It has pivots inside blocks only.
            self._method = _General(self)
            self.regular = self._determined()

    def solve(self, r: np.ndarray, c: np.ndarray, h: np.ndarray) -> Solved:
        r"""$x$, $\lambda$ and $\nu$; entries of `c` and `h` where nothing is held do not count."""
        assert self._method is not None
        r = r / self.unit
        known = np.where(self.held, h, 0.0)
        dual = r - self.w @ known
        primal = np.where(self.rows, c - self.a @ known, 0.0)
        x, multipliers = self._refined(dual, primal)
        x = x + known
        force = np.where(self.held, r - self.w @ x - self.a.T @ multipliers, 0.0)
        return x, multipliers * self.unit, force * self.unit

    def _refined(self, dual: np.ndarray, primal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The solution with nothing moving that is held, in units of the Hessian."""
        method = self._method
        assert method is not None
        x, y, force = np.zeros(len(dual)), np.zeros(len(primal)), np.zeros(len(dual))
        best, least = (x, y), np.inf
        size = self._norm(dual, primal)
        for _ in range(_MOST_ROUNDS):
            left = np.where(self.held & ~method.soft, 0.0, dual - self.w @ x - self.a.T @ y - force)
            missing = np.where(self.rows, primal - self.a @ x, 0.0)
            gap = np.where(method.soft, -x, 0.0)
            error = max(self._norm(left, missing), self._norm(gap, 0 * missing))
            if not error < 0.5 * least:
                break
            best, least = (x, y), error
            if error <= _PRECISE * size:
                break
            dx, dl = method.solve(left + method.stiffness * gap, missing)
            x, y = x + dx, y + dl
            force = force + np.where(method.soft, method.stiffness * (dx - gap), 0.0)
        if not least <= _ROUGH * size:
            # Not solved: the matrix is singular, or as good as that.
            return np.full(len(dual), np.nan), np.full(len(primal), np.nan)
        return np.where(self.held, 0.0, best[0]), best[1]

    def _norm(self, dual: np.ndarray, primal: np.ndarray) -> float:
        """The size of a right-hand side, as the equilibrated matrix sees it."""
        n = len(dual)
        return float(
            max(
                np.max(np.abs(dual * self.scale[:n]), initial=0.0),
                np.max(np.abs(primal * self.scale[n:]), initial=0.0),
            )
        )

    def _equilibrated(self) -> np.ndarray:
        """Factors of rows and columns that bring the matrix's entries near one (Ruiz)."""
        n = self.w.shape[0]
        w, a = self.w.tocoo(), self.a.tocoo()
        rows = np.concatenate([w.coords[0], a.coords[0] + n, a.coords[1]])
        columns = np.concatenate([w.coords[1], a.coords[1], a.coords[0] + n])
        values = np.abs(np.concatenate([w.data, a.data, a.data]))
        free = np.concatenate([~self.held, self.rows])
        kept = free[rows] & free[columns] & (values > 0)
        rows, columns, values = rows[kept], columns[kept], values[kept]
        scale = np.ones(len(free))
        for _ in range(_EQUILIBRATIONS):
            largest = np.zeros(len(free))
            np.maximum.at(largest, rows, values * scale[rows] * scale[columns])
            scale /= np.sqrt(np.where(largest > 0, largest, 1.0))
        return scale

    def _determined(self) -> bool:
        """Whether the matrix is far from singular: one right-hand side of noise tells."""
        if self._method is None or not self._method.good:
            return False
        n = len(self.held)
        noise = np.random.default_rng(0).uniform(0.5, 1.0, len(self.scale))
        noise *= np.where(np.arange(len(noise)) % 2 == 0, 1.0, -1.0)
        noise = np.where(np.concatenate([~self.held, self.rows]), noise / self.scale, 0.0)
        with np.errstate(all="ignore"):
            x, y = self._refined(noise[:n], noise[n:])
            found = np.concatenate([x, y]) / self.scale
        return bool(np.all(np.isfinite(found)) and np.max(np.abs(found)) < _SINGULAR)


class _Method(abc.ABC):
    """A factorisation; `soft` marks what is held by a `stiffness` that refinement makes hard."""

    good: bool
    soft: np.ndarray
    stiffness = _STIFFNESS

    @abc.abstractmethod
    def solve(self, dual: np.ndarray, primal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The solution for one right-hand side, not refined."""


class _Blockwise(_Method):
    """That of `jc.InteriorPoint`, interval by interval."""

    def __init__(self, nlp: NLP, hessian: np.ndarray, jacobian: np.ndarray, system: System):
        self.structure = structure_on_host(nlp, gauss_newton=False)
        inner = nlp.layout.inner
        self.hard, self.soft = system.held & ~inner, system.held & inner
        largest = np.zeros(nlp.num_constraints)
        np.maximum.at(largest, nlp.jacobian_structure[0], np.abs(jacobian))
        self.row_scale = 1 / np.where(largest > 0, largest, 1.0)
        with np.errstate(all="ignore"):
            self.slopes = blocks.slopes(self.structure, jacobian, self.row_scale)
            self.eliminated = kkt.eliminate(self.structure, self.slopes)
            self.factor = kkt.factorise(
                self.structure,
                self.slopes,
                self.eliminated,
                blocks.curvature(self.structure, hessian),
                np.where(self.soft, self.stiffness, 0.0),
                np.where(system.rows, self.stiffness, 0.0),
                self.hard,
            )
        self.good = bool(self.factor.good)

    def solve(self, dual: np.ndarray, primal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with np.errstate(all="ignore"):
            x, y = kkt.solve(
                self.structure, self.slopes, self.eliminated, self.factor, dual,
                primal * self.row_scale, self.hard,
            )  # fmt: skip
        return x, y * self.row_scale


class _General(_Method):
    """A sparse LU factorisation of all that is free."""

    def __init__(self, system: System):
        from scipy import sparse
        from scipy.sparse.linalg import splu

        self.free, self.rows = np.flatnonzero(~system.held), np.flatnonzero(system.rows)
        self.soft = np.zeros(len(system.held), bool)
        self.scale = system.scale[np.concatenate([self.free, len(system.held) + self.rows])]
        w = system.w[self.free][:, self.free]
        a = system.a[self.rows][:, self.free]
        every = sparse.block_array([[w, a.T], [a, None]], format="coo")
        scaled = every.data * self.scale[every.coords[0]] * self.scale[every.coords[1]]
        matrix = sparse.coo_array((scaled, every.coords), shape=every.shape).tocsc()
        size = len(self.free)
        self.factor: Any = None
        self.good = _is_convex(matrix[:size, :size], matrix[size:, :size])
        if not self.good:
            return
        try:
            self.factor = splu(sparse.csc_matrix(matrix))
        except RuntimeError:
            # Exactly singular.
            self.good = False

    def solve(self, dual: np.ndarray, primal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        right = np.concatenate([dual[self.free], primal[self.rows]])
        found = self.factor.solve(right * self.scale) * self.scale
        x, y = np.zeros(len(dual)), np.zeros(len(primal))
        x[self.free], y[self.rows] = np.split(found, [len(self.free)])
        return x, y


def _is_convex(w: Any, a: Any) -> bool:
    r"""Whether a Hessian is nowhere clearly negative along what equations leave free.

    There $W + c A^T A$ is positive for a large $c$, and symmetric pivots tell whether it is.
    """
    from scipy import sparse
    from scipy.sparse.linalg import splu

    matrix = w + _STIFF * (a.T @ a) + _FLAT * sparse.eye_array(w.shape[0])
    try:
        factor = splu(
            sparse.csc_matrix(matrix),
            permc_spec="MMD_AT_PLUS_A",
            diag_pivot_thresh=0.0,
            options={"SymmetricMode": True},
        )
    except RuntimeError:
        return False
    on_diagonal = np.array_equal(factor.perm_r, factor.perm_c)
    return bool(on_diagonal and np.all(factor.U.diagonal() > 0))
