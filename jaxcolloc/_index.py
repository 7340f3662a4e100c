"""Whether the algebraic equations of a point determine their variables: index 1."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from ._algebraic import Algebraic
from ._dae import REDUCE
from ._nlp import NLP


# Below this a singular value counts as zero.
_SINGULAR = 1e-8
# A variable's size is at least this share of its unit.
_LEAST = 1e-3


class Regularity(NamedTuple):
    """How regular the equations' Jacobian in the algebraic variables is at the nodes of a point.

    `least`: the smallest of all singular values, where an equation's largest derivative is one and
    variables have the units of their own size; `most`: the largest over the nodes of a node's
    smallest one. It is `least` in `trajectory` at the time `t`; `turns` is whether the
    determinant changes its sign along some trajectory.
    """

    least: float
    most: float
    trajectory: int
    t: float
    turns: bool

    @property
    def sentence(self) -> str:
        """What is wrong, and what to do; empty if nothing."""
        if not self.least <= _SINGULAR and not self.turns and np.isfinite(self.least):
            return ""
        where = f"trajectory {self.trajectory} at t = {self.t:.6g}"
        what = f"(nearly) singular, {self.least:.1e} in {where}"
        if self.least > _SINGULAR:
            what = f"singular somewhere between nodes: its determinant changes its sign in {where}"
        return (
            f"`equations` do not determine the algebraic variables: their Jacobian is {what}. Of "
            f"index 1 it is regular. {REDUCE}"
        )


def regularity(nlp: NLP, z: Float[np.ndarray, " variable"]) -> Regularity:
    """That of a point of the problem of a `jc.DAE`."""
    values = nlp.node_values(z)
    d, units = nlp.num_states, nlp.parts.scale
    size = np.maximum(np.abs(np.concatenate(values)).max(axis=0), _LEAST * units.node)
    model, found = nlp.model_at(z), []
    for k, (grid, args, own) in enumerate(zip(nlp.grids, nlp.args(z), values, strict=True)):
        there = Algebraic(model, args).at(grid.times, own[:, :d], own[:, d:])
        slopes = np.concatenate([there.in_state, there.in_algebraic], axis=2) * size
        # Not finite counts as singular.
        slopes = np.where(np.all(np.isfinite(slopes), axis=(1, 2))[:, None, None], slopes, 0.0)
        largest = np.abs(slopes).max(axis=2, keepdims=True)
        blocks = slopes[:, :, d:] / np.where(largest > 0, largest, 1.0)
        least = np.linalg.svd(blocks, compute_uv=False)[:, -1]
        signs = np.sign(np.linalg.det(blocks))
        turned = np.flatnonzero(signs[1:] * signs[:-1] < 0)
        at = int(np.argmin(least))
        if len(turned) and least[at] > _SINGULAR:
            at = int(turned[0]) + 1
        found.append(
            Regularity(
                float(np.min(least)),
                float(np.max(least)),
                k,
                float(grid.times[at]),
                len(turned) > 0,
            )
        )
    worst = min(found, key=lambda item: (not item.sentence, item.least))
    return worst._replace(most=max(item.most for item in found))


def check_index(nlp: NLP, z: Float[np.ndarray, " variable"]) -> None:
    """Refuse a start at which no node's equations determine their variables."""
    if nlp.num_algebraic == 0:
        return
    found = regularity(nlp, z)
    if found.most <= _SINGULAR:
        raise ValueError(
            "`equations` must determine the algebraic variables (index 1), but their Jacobian is "
            f"singular at all nodes of the start. {REDUCE}"
        )
