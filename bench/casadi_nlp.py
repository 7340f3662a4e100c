"""The same NLP written with CasADi, for the comparisons of this folder."""

import itertools
from typing import Any

import casadi
import numpy as np

import jaxcolloc as jc


def build(
    nlp: jc.NLP, sizes: tuple[int, ...], l2: float, options: dict[str, Any]
) -> casadi.Function:
    """CasADi's solver for one trajectory, a tanh net with layers of these sizes, data on the nodes.

    Variables and equations are in the order of `nlp`: weights (each layer's matrix row by row,
    then its biases), then states node by node.
    """
    (grid,), (trajectory,) = nlp.grids, nlp.trajectories
    d = nlp.num_states
    # Scalar expressions throughout: CasADi evaluates these much faster than matrix expressions.
    z = casadi.SX.sym("z", nlp.num_variables)
    field = _field(sizes)
    w = z[: nlp.num_weights]
    states = casadi.reshape(z[nlp.num_weights :], d, grid.num_nodes)
    slopes = casadi.horzcat(*[field(states[:, node], w) for node in range(grid.num_nodes)])
    matrix = grid.scheme.differentiation
    equations = []
    for interval, nodes in enumerate(grid.interval_nodes):
        nodes = [int(node) for node in nodes]
        rows = casadi.DM(matrix[1:] / grid.widths[interval])
        left = casadi.mtimes(states[:, nodes], rows.T)
        equations.append(casadi.vec(left - slopes[:, nodes[1:]]))
    _, _, hit = grid.locate(trajectory.ts)
    if np.any(hit < 0):
        raise ValueError("the data must lie on the grid's nodes")
    residual = states[:, [int(node) for node in hit]] - casadi.DM(trajectory.ys.T)
    objective = casadi.sumsqr(residual) / len(trajectory.ts) + l2 * casadi.sumsqr(w)
    problem = {"x": z, "f": objective, "g": casadi.vertcat(*equations)}
    return casadi.nlpsol("solver", "ipopt", problem, options)


def _field(sizes: tuple[int, ...]) -> casadi.Function:
    pairs = list(itertools.pairwise(sizes))
    y = casadi.SX.sym("y", sizes[0])
    w = casadi.SX.sym("w", sum((inner + 1) * outer for inner, outer in pairs))
    value, first = y, 0
    for position, (inner, outer) in enumerate(pairs):
        matrix = casadi.reshape(w[first : first + inner * outer], inner, outer).T
        first += inner * outer
        value = casadi.mtimes(matrix, value) + w[first : first + outer]
        first += outer
        if position < len(pairs) - 1:
            value = casadi.tanh(value)
    return casadi.Function("field", [y, w], [value])
