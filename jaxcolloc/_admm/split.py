"""A joint problem and the batches that it is split into."""

from typing import Any

import equinox as eqx
import numpy as np

from .._check import describe
from .._choose_grid import choose_grids
from .._constraints import Tie, as_constraints
from .._data import as_trajectories, changed
from .._grid import Grids, as_grids
from .._nlp import NLP
from .._priors import check_noise_known
from .._scheme import AbstractScheme
from .._settings import Settings
from .._solver import AbstractSolver
from .._transcribe import transcribe_with
from .._transcription.units import with_weights
from .batches import Batches, make_batches
from .subproblem import Recipe


class Admm(eqx.Module):
    """The options of a consensus fit, once they are checked."""

    rho: float
    relaxation: float
    balance: bool
    continuity: bool
    max_rounds: int
    rtol: float
    atol: float
    solver: AbstractSolver

    @property
    def shown(self) -> dict[str, Any]:
        """What a solution's `stats` tell of them."""
        return {name: value for name, value in vars(self).items() if name != "solver"}


def split_data(
    model: Any,
    data: Any,
    batches: Any,
    grid: Grids | None,
    scheme: AbstractScheme | None,
    settings: Settings,
) -> tuple[Batches, NLP]:
    """The batches, and the joint problem that they are parts of."""
    given = as_trajectories(data)
    check_noise_known(settings.loss, settings.priors, given)
    # Weights that are chosen by magnitudes are those of all data in every batch.
    trajectories = tuple(
        changed(item, weights=item.weights) for item in with_weights(given, settings.loss)
    )
    for item in as_constraints(settings.constraints, len(trajectories)):
        if isinstance(item, Tie) or item.trajectories is not None:
            raise ValueError(
                "`constraints` must apply to all trajectories, since these are solved apart; "
                f"got {describe(item)}."
            )
    grids = as_grids(choose_grids(trajectories, grid, scheme), trajectories)
    parts = make_batches(trajectories, grids, batches)
    if min(parts.counts()) == 0:
        raise ValueError("`batches` must each hold at least one observation; one has none.")
    return parts, transcribe_with(model, parts.trajectories, parts.grids, settings)


def recipes_of(joint: NLP, parts: Batches, admm: Admm) -> list[Recipe]:
    """What each process needs to build the batches' problems."""
    counts = parts.counts()
    spans = [grid.boundaries[-1] - grid.boundaries[0] for grid in parts.grids]
    units = joint.parts.scale
    penalty = joint.settings.residual_penalty
    recipes = []
    for batch, members in enumerate(parts.members):
        share = counts[batch] / sum(counts)
        span = sum(spans[k] for k in members) / sum(spans)
        settings = joint.settings.changed(**units.options, residual_penalty=penalty * span / share)
        recipes.append(
            Recipe(
                model=joint.model,
                trajectories=tuple(parts.trajectories[k] for k in members),
                grids=tuple(parts.grids[k] for k in members),
                settings=settings,
                share=share,
                parts=len(counts),
                links=tuple(link for link, _ in _links(parts, batch, admm.continuity)),
                solver=admm.solver,
            )
        )
    return recipes


def _links(parts: Batches, batch: int, continuity: bool) -> list[tuple[tuple[int, bool], int]]:
    """The cuts of a batch: (its trajectory, whether at its end), and which cut it is."""
    if not continuity:
        return []
    members = parts.members[batch]
    found = []
    for cut, (left, right) in enumerate(parts.cuts):
        if left in members:
            found.append(((members.index(left), True), cut))
        if right in members:
            found.append(((members.index(right), False), cut))
    return found


def entries_of(joint: NLP, parts: Batches, continuity: bool) -> list[np.ndarray]:
    """Which entries of the shared vector each batch has: all weights, then states at cuts."""
    weights, d = np.arange(joint.num_weights), joint.num_states
    return [
        np.concatenate(
            [weights]
            + [
                joint.num_weights + cut * d + np.arange(d)
                for _, cut in _links(parts, batch, continuity)
            ]
        )
        for batch in range(len(parts.members))
    ]
