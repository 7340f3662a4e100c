"""The equations of trajectories that begin in a steady state, as terms at their first nodes."""

import numpy as np
from jaxtyping import Float

from .._callables import explained
from .._data import Trajectory
from .._grid import Grid
from .._steady import null_vector
from .blocks import Blocks, Points
from .constraint_terms import Terms
from .groups import Group
from .layout import Layout
from .pieces import HostBlocks
from .point_functions import AtRest
from .terms import Pointwise


# Equations are refused that are singular at all of so many points, drawn this far about the start.
_POINTS, _SPREAD = 4, 0.3


def steady_terms(
    layout: Layout,
    groups: tuple[Group, ...],
    grids: tuple[Grid, ...],
    first_row: int,
    scale: Float[np.ndarray, " state"],
    time: float,
) -> Terms:
    """The terms, with rows from `first_row` on; their bounds are zero."""
    terms, factors, row = [], [np.zeros(0)], first_row
    for group in groups:
        if group.rest is None:
            continue
        function = AtRest(layout.model, group.rest.equations, layout.num_differential)
        count, size = len(group.members), len(function.components)
        times = np.stack([grids[k].times[:1] for k in group.members])
        points = Points.at(times, group.rest.args, group.unknowns, None)
        with explained("model", "f(t, y, args)", group.rest.args):
            blocks = Blocks.detect(function, points, layout.num_states, layout.num_weights)
        nodes = layout.first_nodes[list(group.members)][:, None]
        rows = row + size * np.arange(count)[:, None]
        terms.append(Pointwise(blocks, points, nodes.astype(np.int32), rows.astype(np.int32)))
        factors.append(np.tile(time / scale[list(function.components)], count))
        row += count * size
    zeros = np.zeros(row - first_row)
    return Terms(tuple(terms), zeros, zeros, np.concatenate(factors))


def check_rest(
    terms: Terms,
    layout: Layout,
    groups: tuple[Group, ...],
    trajectories: tuple[Trajectory, ...],
    head: Float[np.ndarray, " head"],
    scale: Float[np.ndarray, " state"],
) -> None:
    """Refuse steady states that their equations do not determine, whatever weights and states.

    Looked at in some points, drawn at random: weights may start at values at which the model is
    singular and need not stay there.
    """
    resting = [group for group in groups if group.rest is not None]
    for group, term in zip(resting, terms.terms, strict=True):
        assert isinstance(term, Pointwise)
        assert group.rest is not None
        held = group.rest.held
        open_ones = np.setdiff1d(np.arange(layout.num_differential), held)
        rng = np.random.default_rng(0)
        blocks = HostBlocks(term.blocks, term.points)  # type: ignore[arg-type]
        found = []
        for _ in range(_POINTS):
            y = scale * np.exp(rng.normal(size=(len(group.members), 1, len(scale))))
            for own, k in zip(y, group.members, strict=True):
                known = trajectories[k].y0
                if known is not None:
                    own[:, list(held)] = known[list(held)]
            near = head + _SPREAD * (0.1 + np.abs(head)) * rng.normal(size=head.shape)
            # The algebraic variables of a node do not count.
            node = np.pad(y, [(0, 0), (0, 0), (0, layout.num_algebraic)])
            found.append(_jacobians(blocks, term.points, near, node)[:, :, open_ones])
        for member, matrices in zip(group.members, np.stack(found, axis=1), strict=True):
            _check_matrices(matrices, member, group.rest.equations)


def _jacobians(
    blocks: HostBlocks, points: Points, head: np.ndarray, y: np.ndarray
) -> Float[np.ndarray, "traj equation state"]:
    with np.errstate(all="ignore"):
        _, entries, _ = blocks.first(head, points, y)
    dense = np.zeros((len(y), blocks.num_outputs, y.shape[2]))
    dense[:, blocks.jac_y.rows, blocks.jac_y.columns] = np.asarray(entries)[:, 0]
    return dense


def _check_matrices(matrices: np.ndarray, member: int, equations: tuple[int, ...]) -> None:
    """Refuse what is singular at all points at which it is finite."""
    finite = [item for item in matrices if np.all(np.isfinite(item))]
    if not finite or not equations:
        return
    vectors = []
    for item in finite:
        vector = null_vector(item)
        if vector is None:
            return
        vectors.append(vector)
    # What is conserved stays the same from point to point.
    if len(finite) > 1 and np.allclose(vectors, vectors[0], atol=1e-6):
        listed = ", ".join(f"{value:.3g}" for value in vectors[0])
        reason = (
            f"[{listed}] @ f is the same whatever the state, for the components {list(equations)} "
            "of f. If that is something conserved, pass `invariants=` of jc.SteadyState, and what "
            'is known of its value as a jc.Constraint with at="start" or as `known` components.'
        )
    else:
        reason = "its Jacobian in the state is singular."
    raise ValueError(
        f"`y0` of trajectory {member} is no steady state that the model determines: {reason}"
    )
