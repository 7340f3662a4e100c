r"""Consensus: the outer updates of ADMM, on what batches share.

Each batch $i$ has its own copy $x_i$ of the weights, and of a state wherever two batches meet in
time. With the consensus $\bar x$, the dual variables $u_i$ and the penalty $\rho$, a round is

$$x_i = \arg\min \; L_i(x_i) + \tfrac{\rho}{2} \| x_i - \bar x + u_i / \rho \|^2, \qquad
  \bar x^+ = \operatorname{mean}_i \, (\hat x_i + u_i / \rho), \qquad
  u_i^+ = u_i + \rho \, (\hat x_i - \bar x^+),$$

where $\hat x_i = \alpha x_i + (1 - \alpha) \bar x$ is over-relaxed and the mean of each entry is
over the batches that have it. Shapovalova and Tsay (arXiv 2502.15642), section 4.4; Boyd, Parikh,
Chu, Peleato and Eckstein (Found. Trends Mach. Learn. 3, 2011), sections 3.3, 3.4.1, 3.4.3 and 7.2.
"""

from collections.abc import Sequence
from typing import NamedTuple

import equinox as eqx
import numpy as np
from jaxtyping import Float, Int

from .._storage import stored


# Residuals further apart than this, each relative to its tolerance, change rho by the factor.
_UNBALANCED = 20.0
_CHANGE = 2.0


class Residuals(NamedTuple):
    r"""How far a round is from a fixed point, and what counts as close.

    `primal` is $\sum_i \| x_i - \bar x^+ \|$, as in the paper; `dual` is
    $\rho \, (\sum_i \| \bar x^+ - \bar x \|^2)^{1/2}$ over the entries that batch $i$ has.
    `moved` is $\| \bar x^+ - \bar x \|$ and `size` the sum of the copies' norms.
    """

    primal: float
    dual: float
    primal_tolerance: float
    dual_tolerance: float
    moved: float
    size: float

    @property
    def small(self) -> bool:
        """Whether both are within their tolerances."""
        return self.primal <= self.primal_tolerance and self.dual <= self.dual_tolerance

    @property
    def share(self) -> float:
        """The larger of the two, relative to its tolerance."""
        return max(self.primal / self.primal_tolerance, self.dual / self.dual_tolerance)


@stored("Consensus")
class Consensus(eqx.Module):
    """The shared vector with, for each batch, which entries it has and their dual variables."""

    mean: Float[np.ndarray, " shared"]
    entries: tuple[Int[np.ndarray, " _"], ...]
    duals: tuple[Float[np.ndarray, " _"], ...]
    rho: float

    @classmethod
    def start(
        cls,
        mean: Float[np.ndarray, " shared"],
        entries: Sequence[np.ndarray],
        rho: float,
        gradients: Sequence[np.ndarray] | None = None,
    ) -> "Consensus":
        """At a common start; with the gradients of the $L_i$ there, at their dual variables.

        At a fixed point $u_i = -\\nabla L_i(\\bar x)$, and the duals of each entry sum to zero.
        """
        zeros = [np.zeros(len(item)) for item in entries]
        plain = cls(mean, tuple(entries), tuple(zeros), rho)
        if gradients is None:
            return plain
        common = plain.mean_of(gradients)
        duals = [common[at] - item for at, item in zip(entries, gradients, strict=True)]
        return cls(mean, tuple(entries), tuple(duals), rho)

    def center(self, batch: int) -> Float[np.ndarray, " _"]:
        r"""$\bar x - u_i / \rho$: what the copy of a batch is pulled to."""
        return self.mean[self.entries[batch]] - self.duals[batch] / self.rho

    def advance(
        self,
        copies: Sequence[np.ndarray | None],
        relaxation: float,
        absolute: float,
        relative: float,
    ) -> tuple["Consensus", Residuals]:
        """The next consensus and the residuals of this round; None for a batch without result.

        A batch without one counts as if its copy were the consensus, and keeps its duals.
        """
        old = [self.mean[at] for at in self.entries]
        own = [now if item is None else item for item, now in zip(copies, old, strict=True)]
        relaxed = [relaxation * item + (1 - relaxation) * now
                   for item, now in zip(own, old, strict=True)]  # fmt: skip
        scaled = zip(relaxed, self.duals, strict=True)
        mean = self.mean_of([item + dual / self.rho for item, dual in scaled])
        new = [mean[at] for at in self.entries]
        duals = tuple(
            dual if copy is None else dual + self.rho * (item - now)
            for copy, item, now, dual in zip(copies, relaxed, new, self.duals, strict=True)
        )
        moved = _norm([now - before for now, before in zip(new, old, strict=True)])
        lengths = [np.linalg.norm(item) for item in own], [np.linalg.norm(now) for now in new]
        sizes = [len(at) for at in self.entries]
        size = float(max(map(np.sum, lengths)))
        gaps = [np.linalg.norm(item - now) for item, now in zip(own, new, strict=True)]
        residuals = Residuals(
            primal=float(np.sum(gaps)),
            dual=self.rho * moved,
            primal_tolerance=float(absolute * np.sum(np.sqrt(sizes)) + relative * size),
            dual_tolerance=float(absolute * np.sqrt(np.sum(sizes)) + relative * _norm(duals)),
            moved=float(np.linalg.norm(mean - self.mean)),
            size=size,
        )
        return Consensus(mean, self.entries, duals, self.rho), residuals

    def with_rho(self, rho: float) -> "Consensus":
        """With another penalty; the duals, which are not scaled by it, stay."""
        return Consensus(self.mean, self.entries, self.duals, rho)

    def balanced(self, residuals: Residuals) -> "Consensus":
        """With rho changed towards residuals of equal size."""
        ratio = (residuals.primal * residuals.dual_tolerance) / max(
            residuals.dual * residuals.primal_tolerance, 1e-300
        )
        factor = _CHANGE if ratio > _UNBALANCED else 1.0
        factor = 1 / _CHANGE if ratio < 1 / _UNBALANCED else factor
        return self.with_rho(self.rho * factor)

    def mean_of(self, copies: Sequence[np.ndarray]) -> Float[np.ndarray, " shared"]:
        """Of each entry over the batches that have it."""
        total, count = np.zeros(len(self.mean)), np.zeros(len(self.mean))
        for at, item in zip(self.entries, copies, strict=True):
            total[at] += item
            count[at] += 1
        return total / count


def _norm(parts: Sequence[np.ndarray]) -> float:
    return float(np.sqrt(sum(np.sum(item**2) for item in parts)))
