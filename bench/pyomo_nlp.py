"""The same NLP written with Pyomo, in the style of the paper: scalar constraints, one by one."""

import itertools
from pathlib import Path

import casadi
import numpy as np
import pyomo.environ as pyo

import jaxcolloc as jc


def write(nlp: jc.NLP, sizes: tuple[int, ...], l2: float, z: np.ndarray, path: Path) -> None:
    """Build the model of one trajectory, data on the nodes, and write it as an AMPL file.

    Hidden units are named expressions, which the file defines once.
    """
    (grid,), (trajectory,) = nlp.grids, nlp.trajectories
    d, first_state = nlp.num_states, nlp.num_weights
    lower, upper = nlp.bounds
    model = pyo.ConcreteModel()
    model.z = pyo.Var(range(nlp.num_variables))
    for index, value in enumerate(z):
        model.z[index].set_value(float(value))
        model.z[index].setlb(float(lower[index]))
        model.z[index].setub(float(upper[index]))
    model.hidden = pyo.Expression(pyo.Any)

    def field(node: int) -> list:
        value = [model.z[first_state + node * d + state] for state in range(d)]
        first = 0
        for layer, (inner, outer) in enumerate(itertools.pairwise(sizes)):
            bias = first + inner * outer
            value = [
                sum(
                    model.z[first + row * inner + column] * value[column] for column in range(inner)
                )
                + model.z[bias + row]
                for row in range(outer)
            ]
            first = bias + outer
            if layer < len(sizes) - 2:
                for row, item in enumerate(value):
                    model.hidden[node, layer, row] = pyo.tanh(item)
                value = [model.hidden[node, layer, row] for row in range(outer)]
        return value

    matrix = grid.scheme.differentiation
    model.equations = pyo.ConstraintList()
    for interval, nodes in enumerate(grid.interval_nodes):
        nodes = [int(node) for node in nodes]
        for row, node in enumerate(nodes[1:], start=1):
            slopes = field(node)
            for state in range(d):
                left = sum(
                    float(matrix[row, column] / grid.widths[interval])
                    * model.z[first_state + other * d + state]
                    for column, other in enumerate(nodes)
                )
                model.equations.add(left - slopes[state] == 0)
    _, _, hit = grid.locate(trajectory.ts)
    losses = sum(
        (model.z[first_state + int(node) * d + state] - float(trajectory.ys[row, state])) ** 2
        for row, node in enumerate(hit)
        for state in range(d)
    )
    ridge = sum(model.z[index] ** 2 for index in range(first_state))
    model.objective = pyo.Objective(expr=losses / len(trajectory.ts) + l2 * ridge)
    model.write(str(path), format="nl")


def read(path: Path) -> tuple[casadi.NlpBuilder, dict[str, casadi.MX]]:
    """The file as a problem of CasADi, which has the IPOPT that Pyomo lacks."""
    builder = casadi.NlpBuilder()
    builder.import_nl(str(path), {"verbose": False})
    problem = {
        "x": casadi.vertcat(*builder.x),
        "f": builder.f,
        "g": casadi.vertcat(*builder.g),
    }
    return builder, problem
