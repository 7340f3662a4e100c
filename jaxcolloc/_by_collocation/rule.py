"""Rule: the collocation equations of many intervals at once, and their linearisation.

With the state $l$ at an interval's left end and the changes $z_i = y_i - l$ at its collocated
nodes, the equations are $\\sum_j D_{ij} z_j - h f(t_i, l + z_i) = 0$. Changes lose fewer digits
than states, since the rows of a differentiation matrix add up to zero.
"""

import functools
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from .._points import Field
from .._scheme import AbstractScheme, GaussLegendre, Radau


class Rule(NamedTuple):
    """What the equations take from a scheme.

    `nodes`: the collocated ones in [0, 1]; `matrix`: the derivatives of the changes at them; `end`:
    the weights of the changes that make up that at the interval's end.
    """

    nodes: Float[np.ndarray, " node"]
    matrix: Float[np.ndarray, "node node"]
    end: Float[np.ndarray, " node"]

    @classmethod
    def of(cls, scheme: AbstractScheme) -> "Rule":
        """That of a scheme."""
        end = scheme.interpolation(np.ones(1))[0, 1:]
        return cls(scheme.nodes[1:], scheme.differentiation[1:, 1:], end)


@functools.cache
def finer(num: int, symmetric: bool) -> Rule:
    """A rule of higher order than any with so many collocated nodes, for estimates of errors.

    A symmetric one does for solutions that grow, the other one for those that decay at once.
    """
    return Rule.of(GaussLegendre(num + 1) if symmetric else Radau(num + 1))


class Linear(NamedTuple):
    """The equations of intervals, linearised: `matrix @ dz - into @ dl = -residual`, both flat.

    Those of an interval are one behind the other, node by node.
    """

    residual: Float[np.ndarray, "interval equation"]
    matrix: Float[np.ndarray, "interval equation equation"]
    into: Float[np.ndarray, "interval equation state"]


def linearised(
    field: Field,
    rule: Rule,
    boundaries: tuple[np.ndarray, np.ndarray],
    left: Float[np.ndarray, "interval state"],
    change: Float[np.ndarray, "interval node state"],
) -> Linear:
    """The equations about a point; `boundaries` are the intervals' begins and ends."""
    times, width = _times(rule, boundaries)
    count, n, d = change.shape
    states = (left[:, None] + change).reshape(-1, d)
    value, jacobian = field.first(times.ravel(), states)
    jacobian = width[:, None, None, None] * jacobian.reshape(count, n, d, d)
    matrix = np.zeros((count, n, d, n, d))
    state, node = np.arange(d), np.arange(n)
    matrix[:, :, state, :, state] = rule.matrix
    matrix[:, node, :, node, :] -= jacobian.swapaxes(0, 1)
    size = n * d
    return Linear(
        _residual(rule, width, change, value),
        matrix.reshape(count, size, size),
        jacobian.reshape(count, size, d),
    )


def residual(
    field: Field,
    rule: Rule,
    boundaries: tuple[np.ndarray, np.ndarray],
    left: Float[np.ndarray, "interval state"],
    change: Float[np.ndarray, "interval node state"],
) -> Float[np.ndarray, "interval equation"]:
    """What the equations of the intervals miss."""
    times, width = _times(rule, boundaries)
    states = (left[:, None] + change).reshape(-1, change.shape[2])
    return _residual(rule, width, change, field.value(times.ravel(), states))


def _times(rule: Rule, boundaries: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The nodes' times, none behind the end, where an input may jump; and the widths."""
    begin, end = boundaries
    width = end - begin
    return np.minimum(begin[:, None] + width[:, None] * rule.nodes, end[:, None]), width


def _residual(rule: Rule, width: np.ndarray, change: np.ndarray, value: np.ndarray) -> np.ndarray:
    slope = rule.matrix @ change
    return (slope - width[:, None, None] * value.reshape(change.shape)).reshape(len(change), -1)
