r"""The covariance by the structured factorisation of `_interior_point/kkt.py`.

It eliminates intervals and boundaries, and leaves the Schur complement of the head: the reduced
Hessian. Given the head, a trajectory has its initial state alone to vary: the covariance of its
states has rank $d$, and is known everywhere once it is at some boundaries, the anchors. These are
so close that no sensitivity between them grows beyond a thousand, whatever it does along the
trajectory.
"""

import contextlib
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from .._interior_point import kkt
from .._interior_point.blocks import Chain, Curvature, Slopes, Structure, curvature, slopes
from .._interior_point.problem import structure_on_host
from .._likelihoods import has_information
from .along import Along
from .gaussian import DOUBTFUL, ROUNDING, Gaussian, Reduced, gaussian, is_doubtful
from .optimum import Optimum


# Growth of sensitivities from one anchor to the next.
_GROWTH = 1e3
# What is added to the head's precision so that it can be factorised, in units of the data's; it is
# subtracted again.
_SHIFT, _MORE, _TRIES = 1e-6, 1e4, 4
# The least precision of an initial state that is told from none, and the priors that stand for
# none, as shares of the data's.
_BLIND = 1e-12
_PRIORS = (0.0, 1e-9, 1e-6, 1e-3)
# Of the shift so much counts as subtracted, so that its own rounding is no precision.
_LEFT = 1e-4


class NotConvex(Exception):
    """The curvature is not positive in the initial states, or not finite."""


def takes(optimum: Optimum) -> bool:
    """Whether the structure allows for what the optimum holds.

    It does not for inner states at bounds and for constraints beside the model's equations, nor for
    equations at the start, as a `jc.DAE` has.
    """
    nlp = optimum.nlp
    inner = optimum.held & nlp.layout.inner
    more = optimum.rows[nlp.parts.num_equations :].any()
    return not (inner.any() or more or nlp.settings.collocate_start or nlp.num_algebraic)


class _System(NamedTuple):
    """The factorised equations with one Hessian.

    `scale`: the size of the data's precision. `prior`: what was added for initial states, as a
    share of it. `firsts`: for each chain the covariances of its initial states for a given head.
    """

    structure: Structure
    slopes: tuple[Slopes, ...]
    eliminated: tuple[kkt.Eliminated, ...]
    stages: tuple[kkt.Stage, ...]
    reduced: Reduced
    scale: float
    prior: float
    firsts: tuple[np.ndarray, ...]

    def own(self, dual: np.ndarray, optimum: Optimum) -> np.ndarray:
        """The variables for a right-hand side, with the head held."""
        head = self.structure.num_head
        fixed = optimum.held.copy()
        fixed[:head] = True
        factor = kkt.Factor(self.stages, np.eye(head), np.True_)
        none = np.zeros(self.structure.num_constraints)
        z, _ = kkt.solve(self.structure, self.slopes, self.eliminated, factor, dual, none, fixed)
        return np.asarray(z)


class Structured:
    """The covariance at an optimum whose structure allows for it; see `Factorised`."""

    def __init__(self, optimum: Optimum, gauss_newton: bool):
        self.optimum = optimum
        self._system = _factorised(optimum, gauss_newton)
        held = optimum.held[: optimum.nlp.layout.num_head]
        sight = None
        known = has_information(optimum.nlp.settings.loss)
        if not gauss_newton and known and is_doubtful(self._system.reduced, held):
            # Without it the exact Hessian judges itself.
            with contextlib.suppress(NotConvex):
                sight = _factorised(optimum, True, (self._system.prior,)).reduced
        below = ROUNDING if known else DOUBTFUL
        self.head = gaussian(self._system.reduced, held, sight, below)
        self._chains = [
            _Course(optimum, self._system, number)
            for number in range(len(self._system.structure.chains))
        ]
        where: dict[int, tuple[int, int]] = {}
        for number, course in enumerate(self._chains):
            where |= {k: (number, member) for member, k in enumerate(course.trajectories)}
        self._where = where
        self.num_kept = self.head.kept.shape[1] + sum(item.num_kept for item in self._chains)

    def along(self, trajectory: int, ts: Float[np.ndarray, " time"]) -> Along:
        number, member = self._where[trajectory]
        grid = self.optimum.nlp.grids[trajectory]
        return self._chains[number].along(self.head, grid, member, ts)

    def starts(self) -> Along:
        count = len(self.optimum.nlp.grids)
        d = self.optimum.nlp.num_states
        parts = [self.along(k, self.optimum.nlp.grids[k].boundaries[:1]) for k in range(count)]
        own, own_free = (np.zeros((count * d, count * d)) for _ in range(2))
        for k, part in enumerate(parts):
            at = slice(k * d, (k + 1) * d)
            own[at, at], own_free[at, at] = part.own[0], part.own_free[0]
        return Along(
            np.concatenate([part.kept[0] for part in parts]),
            np.concatenate([part.free[0] for part in parts]),
            own,
            own_free,
        )


def _factorised(
    optimum: Optimum, gauss_newton: bool, priors: tuple[float, ...] = _PRIORS
) -> _System:
    """The system of an optimum, with a prior on initial states where these are free.

    `priors` are tried in turn, as shares of the data's precision.
    """
    nlp = optimum.nlp
    structure = structure_on_host(nlp, gauss_newton)
    ones = np.ones(nlp.num_constraints)
    blocks = slopes(structure, optimum.jacobian, ones)
    eliminated = kkt.eliminate(structure, blocks)
    precision = optimum.precision(gauss_newton)
    hessian = curvature(structure, precision)
    rows, columns = nlp.gauss_newton_structure if gauss_newton else nlp.hessian_structure
    diagonal = np.zeros(nlp.num_variables)
    own = rows == columns
    diagonal[rows[own]] = np.abs(precision[own])
    size = np.maximum(np.abs(optimum.z), 1e-3)
    scale = float((diagonal * size**2)[nlp.layout.num_head :].sum())
    scale = scale if scale > 0 else 1.0
    for prior in priors:
        found = _with_shift(
            optimum, structure, blocks, eliminated, hessian, scale, prior, len(priors) > 1
        )
        if found is not None and (
            prior or len(priors) == 1 or not _starts_are_free(found, optimum)
        ):
            return found
    raise NotConvex


def _with_shift(
    optimum: Optimum,
    structure: Structure,
    blocks: tuple[Slopes, ...],
    eliminated: tuple[kkt.Eliminated, ...],
    hessian: Curvature,
    scale: float,
    prior: float,
    with_firsts: bool,
) -> _System | None:
    """The system with a prior on initial states; None where the curvature is not positive."""
    head = structure.num_head
    size = np.maximum(np.abs(optimum.z), 1e-3)
    loose = np.zeros(structure.num_constraints)
    shift = _SHIFT * scale / size[:head] ** 2
    for _ in range(_TRIES):
        diagonal = np.zeros(len(size))
        diagonal[:head] = shift
        diagonal[optimum.starts] = prior * scale / size[optimum.starts] ** 2
        with np.errstate(all="ignore"):
            factor = kkt.factorise(
                structure, blocks, eliminated, hessian, diagonal, loose, optimum.held
            )
        if not factor.stages:
            return None
        if bool(factor.good):
            matrix = factor.cholesky @ factor.cholesky.T - np.diag(shift)
            held = optimum.held[:head]
            matrix = np.where(held[:, None] | held, 0.0, matrix)
            total = _subtracted(structure, factor.stages) + np.abs(np.diag(matrix))
            reduced = Reduced(matrix, np.where(held, 0.0, total + _LEFT * shift))
            found = _System(structure, blocks, eliminated, factor.stages, reduced, scale, prior, ())
            if not with_firsts:
                return found
            firsts = [
                _square_at(found, optimum, number, 0)[0] for number in range(len(structure.chains))
            ]
            return found._replace(firsts=tuple(firsts))
        shift = _MORE * shift
    return None


def _subtracted(structure: Structure, stages: tuple[kkt.Stage, ...]) -> np.ndarray:
    """For each entry of the head what the elimination of boundaries has summed up, in size."""
    total = np.zeros(structure.num_head)
    for chain, stage in zip(structure.chains, stages, strict=True):
        size = np.abs(stage.ends * stage.turned.by_weights).sum(axis=(1, 2))
        np.add.at(total, chain.head, size)
    return total


def _starts_are_free(system: _System, optimum: Optimum) -> bool:
    """Whether data leave initial states free for a given head."""
    for number, chain in enumerate(system.structure.chains):
        square, size = system.firsts[number], _sizes(optimum, np.asarray(chain.first))
        if not np.all(np.isfinite(square)):
            return True
        scaled = square / (size[:, :, None] * size[:, None])
        values = np.linalg.eigvalsh(scaled)
        if np.any(values[:, -1] * system.scale * _BLIND > 1) or np.any(
            values[:, 0] < -1e-6 * np.abs(values[:, -1])
        ):
            return True
    return False


def _square_at(
    system: _System, optimum: Optimum, number: int, boundary: int
) -> tuple[np.ndarray, np.ndarray]:
    """The covariances of the states at one boundary for a given head, and the states' sizes.

    Of all trajectories of a chain, shape (traj, state, state); of zeros for those that end before.
    """
    chain: Chain = system.structure.chains[number]
    d = chain.first.shape[1]
    if boundary == 0:
        at, there = np.asarray(chain.first), np.ones(len(chain.first), bool)
    else:
        at = np.asarray(chain.inner[:, boundary - 1, chain.inner.shape[2] - d :])
        there = ~np.asarray(chain.padding[:, boundary - 1])
    at = np.where(there[:, None], at, 0)
    square = np.zeros((len(at), d, d))
    for state in range(d):
        dual = np.zeros(len(optimum.z))
        dual[at[there, state]] = 1.0
        square[there, :, state] = system.own(dual, optimum)[at[there]]
    return (square + square.swapaxes(1, 2)) / 2, _sizes(optimum, at)


def _sizes(optimum: Optimum, at: np.ndarray) -> np.ndarray:
    return np.asarray(np.maximum(np.abs(optimum.z[at]), 1e-3))


class _Course:
    """The trajectories of one chain: their states by the head, and by what is their own.

    `roots`, `roots_free`: for every boundary a factor of the covariance given the head, and of
    that in free directions; axes (traj, boundary, state, own).
    """

    def __init__(self, optimum: Optimum, system: _System, number: int):
        self.chain: Chain = system.structure.chains[number]
        self.steps, self.stage = system.eliminated[number], system.stages[number]
        self.d = self.chain.first.shape[1]
        starts = optimum.starts[:, 0]
        self.trajectories = [int(np.flatnonzero(starts == at)[0]) for at in self.chain.first[:, 0]]
        t_l = self.steps.t_l
        last = t_l[:, :, t_l.shape[2] - self.d :]
        count, length = t_l.shape[:2]
        self.roots = np.zeros((count, length, self.d, self.d))
        self.roots_free = np.zeros_like(self.roots)
        unit = np.broadcast_to(np.eye(self.d), (count, self.d, self.d))
        product, self.num_kept = unit, 0
        for boundary in range(length):
            if boundary:
                product = last[:, boundary - 1] @ product
            if boundary == 0 or not np.abs(product).max(initial=0.0) <= _GROWTH:
                if boundary:
                    square, size = _square_at(system, optimum, number, boundary)
                else:
                    square, size = (
                        system.firsts[number],
                        _sizes(optimum, np.asarray(self.chain.first)),
                    )
                anchor, anchor_free, kept = _roots(square, size, system)
                product = unit
                self.num_kept = self.num_kept if boundary else kept
            self.roots[:, boundary] = product @ anchor
            self.roots_free[:, boundary] = product @ anchor_free

    def along(self, head: Gaussian, grid: object, member: int, ts: np.ndarray) -> Along:
        """The states of one trajectory, as in `Factorised`."""
        interval, rows, hit = grid.locate(ts)  # type: ignore[attr-defined]
        here, where = np.unique(interval, return_inverse=True)
        local = self.chain.head[member]
        by_weights = self.stage.turned.by_weights[member, here, : self.d]
        from_head = [by_weights @ factor[local] for factor in (head.kept, head.free)]
        t_l, t_w = self.steps.t_l[member, here], self.steps.t_w[member, here]
        parts = []
        for left, factor in zip(from_head, (head.kept, head.free), strict=True):
            parts.append(np.concatenate([left, t_l @ left + t_w @ factor[local]], axis=1))
        own = (self.roots[member, here], self.roots_free[member, here])
        parts += [np.concatenate([left, t_l @ left], axis=1) for left in own]
        nodes = rows.shape[1]
        inside = grid.interval_nodes[interval]  # type: ignore[attr-defined]
        # On a node the interpolant is the node's state.
        exact = (inside == hit[:, None]).astype(float)
        rows = np.where((hit >= 0)[:, None] & exact.any(axis=1)[:, None], exact, rows)
        found = []
        for part in parts:
            shape = len(here), part.shape[1] // self.d, self.d, part.shape[2]
            shaped = part.reshape(shape)[:, :nodes]
            found.append(np.einsum("tn,tnsc->tsc", rows, shaped[where]))
        return Along(*found)


def _roots(
    square: np.ndarray, size: np.ndarray, system: _System
) -> tuple[np.ndarray, np.ndarray, int]:
    """Factors of covariances, apart from and in free directions; how many of the former."""
    if not np.all(np.isfinite(square)):
        raise NotConvex
    values, vectors = np.linalg.eigh(square / (size[:, :, None] * size[:, None]))
    most = 0.1 / (system.prior * system.scale) if system.prior else np.inf
    tiny = 1e-14 * np.abs(values).max(axis=1, keepdims=True)
    roots = size[:, :, None] * vectors * np.sqrt(np.maximum(values, 0.0))[:, None]
    dark = (values > most)[:, None]
    count = int(np.sum((values > tiny) & (values <= most)))
    return np.where(dark, 0.0, roots), np.where(dark, roots, 0.0), count
