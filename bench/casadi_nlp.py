"""The same NLP written with CasADi, for the comparisons of this folder."""

from typing import Any

import casadi
import numpy as np

import jaxcolloc as jc


def build(nlp: jc.NLP, width: int, l2: float, options: dict[str, Any]) -> casadi.Function:
    """CasADi's solver for one trajectory, a tanh net with one hidden layer, data on the nodes.

    Variables and equations are in the order of `nlp`: weights (hidden layer's matrix row by row,
    its biases, output layer's), then states node by node.
    """
    (grid,), (trajectory,) = nlp.grids, nlp.trajectories
    d = nlp.num_states
    # Scalar expressions throughout: CasADi evaluates these much faster than matrix expressions.
    z = casadi.SX.sym("z", nlp.num_variables)
    field = _field(d, width)
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


def _field(d: int, width: int) -> casadi.Function:
    y = casadi.SX.sym("y", d)
    w = casadi.SX.sym("w", width * d + width + d * width + d)
    first = casadi.reshape(w[: width * d], d, width).T
    bias = w[width * d : width * d + width]
    rest = w[width * d + width :]
    second = casadi.reshape(rest[: d * width], width, d).T
    hidden = casadi.tanh(casadi.mtimes(first, y) + bias)
    return casadi.Function("field", [y, w], [casadi.mtimes(second, hidden) + rest[d * width :]])
