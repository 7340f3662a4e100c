"""sensitivity: how a solution moves with what went into it, as matrices."""

import warnings
from collections.abc import Callable
from typing import Any

import jax.tree_util as jtu
import numpy as np

from ._callables import explained
from ._check import choice, describe
from ._ipopt import Ipopt
from ._nlp import NLP
from ._optimum.host import Host
from ._optimum.parameters import NAMES, Form, current, flatten
from ._precision import x64
from ._solution import Solution, check_solution
from ._solver import Outcome


def sensitivity(sol: Solution, wrt: str, where: Callable[[Any], Any] | None = None) -> Any:
    r"""The derivative of a solution by what went into it, $\partial w / \partial p$.

        jc.sensitivity(sol, "ys", lambda m: m.rate)[0]      # shape (time, obs) for a scalar rate
        jc.sensitivity(sol, "l2")[0]                        # of the states, shape (node, state)

    By the implicit function theorem on the optimality conditions, like the derivatives of
    `jc.optimum`, which says what is assumed. One linear system is solved for every number in the
    result's smaller side.

    **Arguments:**

    - `sol`: from `jc.solve` or `jc.fit`.
    - `wrt`: the parameter, "ys", "weights", "args", "y0", "l2", "center", "state_bounds" or
      "weight_bounds", each as in `jc.Optimum`.
    - `where`: picks leaves of the model, as in `eqx.tree_at`; None for the states of all
      trajectories at their nodes.

    **Returns:** what `where` returns (or a list with one item per trajectory), and in the place of
    each leaf the parameter's tree of NumPy arrays of shape `(*leaf, *parameter)`, as
    `jax.jacobian` would return it; None in it for what is no parameter, such as a text in `args`.
    NaN, with a warning, where the optimum has no derivative.

    **Errors:** `ValueError` for a solution without multipliers (of `jc.fine_tune` and
    `jc.fit_admm`: solve its `nlp` from it), for a `wrt` that the problem does not have, and for a
    `where` that finds no leaves.
    """
    check_solution("sol", sol)
    choice("wrt", wrt, NAMES)
    nlp = sol.nlp
    if sol.multipliers is None:
        raise ValueError(
            "`sol` has no multipliers: pass what jc.solve(sol.nlp, solver, sol) returns."
        )
    picked, treedef = _states(nlp) if where is None else _leaves(nlp, sol.z, where)
    form, numbers = flatten(nlp, {wrt: current(nlp, wrt)})
    p = np.concatenate([np.zeros(0), *map(np.ravel, numbers)])
    rows = np.concatenate([at for _, at, _ in picked])
    factors = np.concatenate([factor for _, _, factor in picked])
    matrix = factors[:, None] * _matrix(sol, form, p, rows)
    results, first = [], 0
    for shape, at, _ in picked:
        part = matrix[first : first + len(at)]
        first += len(at)
        results.append(_parameter(form, part, shape))
    return jtu.tree_unflatten(treedef, results)


# A leaf's shape, where its numbers stand in `z` (negative: nowhere), and their derivatives by it.
_Picked = list[tuple[tuple[int, ...], np.ndarray, np.ndarray]]


def _states(nlp: NLP) -> tuple[_Picked, Any]:
    layout, d = nlp.layout, nlp.num_states
    picked: _Picked = []
    for first, count in zip(layout.first_nodes, layout.node_counts, strict=True):
        at = (layout.columns(first + np.arange(count))[:, None] + np.arange(d)).ravel()
        picked.append(((count, d), at, nlp.units[at]))
    return picked, jtu.tree_structure([0] * len(picked))


def _leaves(nlp: NLP, z: np.ndarray, where: Callable[[Any], Any]) -> tuple[_Picked, Any]:
    leaves, model_treedef = jtu.tree_flatten(nlp.model)
    with explained("where", "where(model)"):
        chosen = where(jtu.tree_unflatten(model_treedef, range(len(leaves))))
    numbers, treedef = jtu.tree_flatten(chosen)
    if not numbers or not all(type(number) is int for number in numbers):
        raise ValueError(
            f"`where` must pick leaves or parts of the model; got {describe(where(nlp.model))}."
        )
    weighted = nlp.layout.model
    offsets = np.cumsum((0, *weighted.sizes))
    trained = np.flatnonzero(weighted.mask)
    rates = weighted.rates(np.asarray(nlp.layout.weights(z)))
    picked = []
    for number in numbers:
        shape = np.shape(leaves[number])
        if number not in trained:
            size = int(np.prod(shape))
            picked.append((shape, np.full(size, -1), np.zeros(size)))
            continue
        place = int(np.searchsorted(trained, number))
        at = np.arange(offsets[place], offsets[place + 1])
        picked.append((shape, at, rates[at]))
    return picked, treedef


def _matrix(sol: Solution, form: Form, p: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The derivatives of some of the variables, zero for negative rows."""
    nlp = sol.nlp
    solver = Ipopt() if sol.solver is None else sol.solver
    host = Host(nlp, solver, (sol.z, sol.multipliers), form)
    host.remember(p, Outcome(sol.z, sol.multipliers, sol.result))
    found = host.at(p)
    if found.linearised is None:
        warnings.warn(found.reason, stacklevel=3)
        return np.full((len(rows), form.size), np.nan)
    matrix = np.zeros((len(rows), form.size))
    real = np.flatnonzero(rows >= 0)
    no_rows = np.zeros(nlp.num_constraints)
    with x64():
        if len(real) <= form.size:
            for i in real:
                unit = np.zeros(nlp.num_variables)
                unit[rows[i]] = 1.0
                matrix[i] = found.linearised.backward(unit, no_rows)
        else:
            for j, unit in enumerate(np.eye(form.size)):
                matrix[real, j] = found.linearised.forward(unit)[0][rows[real]]
    return matrix


def _parameter(form: Form, part: np.ndarray, shape: tuple[int, ...]) -> Any:
    """Columns of derivatives as the tree of a parameter."""
    (own,) = form.parts
    columns = np.split(part, np.cumsum([int(np.prod(item)) for item in own.shapes])[:-1], axis=1)
    leaves = [
        column.reshape((*shape, *item)) for column, item in zip(columns, own.shapes, strict=True)
    ]
    return jtu.tree_unflatten(own.treedef, leaves)
