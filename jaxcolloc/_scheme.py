r"""Schemes: nodes and matrices of one collocation interval, mapped to $[0, 1]$.

A scheme holds the nodes $x_0 = 0 < x_1 < \dots < x_{n-1} \le 1$ of the interpolating
polynomial. The polynomial through the values $y_j$ is

$$p(x) = \frac{\sum_j \frac{b_j}{x - x_j} y_j}{\sum_j \frac{b_j}{x - x_j}}, \qquad
  b_j = \prod_{k \ne j} \frac{1}{x_j - x_k},$$

and its derivative at the nodes is $p'(x_i) = \sum_j D_{ij} y_j$ with

$$D_{ij} = \frac{b_j / b_i}{x_i - x_j} \quad (i \ne j), \qquad D_{ii} = -\sum_{j \ne i} D_{ij}.$$

Berrut and Trefethen, "Barycentric Lagrange Interpolation" (SIAM Review 46, 2004);
equations (5) to (7) of Shapovalova and Tsay (arXiv 2502.15642).
"""

import abc

import equinox as eqx
import numpy as np
from jaxtyping import Float

from ._check import integer


Nodes = Float[np.ndarray, " node"]
Matrix = Float[np.ndarray, "node node2"]


class AbstractScheme(eqx.Module):
    """The nodes of one interval, mapped to [0, 1], and what follows from them.

    - `nodes`: shape `(node,)`, increasing; the first is 0, the interval's start.
    - `barycentric`: barycentric weights, scaled to a largest magnitude of 1.
    - `differentiation`: shape `(node, node)`, the derivative of the interpolant at the nodes.
    - `quadrature`: shape `(node,)`, weights of the interpolatory rule on the nodes.
    - `order`: the error of a state at the interval's end falls like width**order.

    The model is collocated at every node except the first.
    """

    nodes: eqx.AbstractVar[Nodes]
    barycentric: eqx.AbstractVar[Nodes]
    differentiation: eqx.AbstractVar[Matrix]
    quadrature: eqx.AbstractVar[Nodes]

    @property
    @abc.abstractmethod
    def order(self) -> int:
        """The order of accuracy at the end of an interval."""

    @property
    def num_nodes(self) -> int:
        """The number of nodes, the start included."""
        return len(self.nodes)

    @property
    def includes_end(self) -> bool:
        """Whether the last node is the interval's end."""
        return True

    def interpolation(self, x: Float[np.ndarray, " point"]) -> Float[np.ndarray, "point node"]:
        """Rows that take the node values to the interpolant at the points `x` in [0, 1]."""
        return _interpolation(self.nodes, self.barycentric, x)

    def collocated_interpolation(
        self, x: Float[np.ndarray, " point"]
    ) -> Float[np.ndarray, "point stage"]:
        """The same for the polynomial through the collocated nodes, all but the first."""
        # Leaving a node out multiplies each weight by the distance to it.
        weights = self.barycentric[1:] * (self.nodes[1:] - self.nodes[0])
        return _interpolation(self.nodes[1:], weights, x)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.size})"

    @property
    @abc.abstractmethod
    def size(self) -> int:
        """The number that the scheme was made with."""


class Chebyshev(AbstractScheme):
    r"""Chebyshev points of the second kind, $x_j = \sin^2\frac{j \pi}{2 (n - 1)}$.

    With one interval this is the paper's method. `num` counts all nodes, both ends included.
    The barycentric weights have the closed form $(-1)^j$, halved at the ends.

    **Arguments:** `num`: the number of nodes, at least 2.
    """

    nodes: Nodes
    barycentric: Nodes
    differentiation: Matrix
    quadrature: Nodes

    def __init__(self, num: int):
        num = integer("num", num, 2)
        angle = np.arange(num) * (np.pi / (2 * (num - 1)))
        self.nodes = np.sin(angle) ** 2
        self.nodes[-1] = 1.0
        self.barycentric = (-1.0) ** np.arange(num)
        self.barycentric[[0, -1]] /= 2
        # sin(a)^2 - sin(b)^2 = sin(a + b) sin(a - b) keeps full accuracy near the ends.
        gap = np.sin(angle[:, None] + angle) * np.sin(angle[:, None] - angle)
        self.differentiation = _differentiation(gap, self.barycentric)
        self.quadrature = _clenshaw_curtis(num)

    @property
    def order(self) -> int:
        return self.num_nodes - 1

    @property
    def size(self) -> int:
        return self.num_nodes


class Lobatto(AbstractScheme):
    """Legendre-Gauss-Lobatto points: both ends and the extrema of a Legendre polynomial.

    `num` counts all nodes, both ends included. Like `Chebyshev`, it collocates at all nodes
    but the first, so that the order is `num - 1`; its quadrature is exact to degree
    `2 num - 3`.

    **Arguments:** `num`: the number of nodes, at least 2.
    """

    nodes: Nodes
    barycentric: Nodes
    differentiation: Matrix
    quadrature: Nodes

    def __init__(self, num: int):
        num = integer("num", num, 2)
        ends = 2.0 / (num * (num - 1))
        if num == 2:
            x, weight = np.array([-1.0, 1.0]), np.array([ends, ends])
        else:
            from scipy.special import roots_jacobi

            inner, inner_weight = roots_jacobi(num - 2, 1.0, 1.0)
            x = np.concatenate([[-1.0], inner, [1.0]])
            weight = np.concatenate([[ends], inner_weight / (1 - inner**2), [ends]])
        self.nodes = (1 + x) / 2
        self.barycentric, self.differentiation = _matrices(self.nodes)
        self.quadrature = weight / 2

    @property
    def order(self) -> int:
        return self.num_nodes - 1

    @property
    def size(self) -> int:
        return self.num_nodes


class Radau(AbstractScheme):
    """Radau IIA: `num` collocation nodes, the last of them the interval's end.

    The start is an additional node that is not collocated. Order `2 num - 1` at the
    intervals' ends, and stiffly accurate.

    **Arguments:** `num`: the number of collocation nodes, at least 1.
    """

    nodes: Nodes
    barycentric: Nodes
    differentiation: Matrix
    quadrature: Nodes

    def __init__(self, num: int):
        num = integer("num", num, 1)
        if num == 1:
            inner, inner_weight = np.zeros(0), np.zeros(0)
        else:
            from scipy.special import roots_jacobi

            inner, inner_weight = roots_jacobi(num - 1, 1.0, 0.0)
        self.nodes = np.concatenate([[0.0], (1 + inner) / 2, [1.0]])
        self.barycentric, self.differentiation = _matrices(self.nodes)
        weight = np.concatenate([[0.0], inner_weight / (1 - inner), [2.0 / num**2]])
        self.quadrature = weight / 2

    @property
    def order(self) -> int:
        return 2 * self.num_nodes - 3

    @property
    def size(self) -> int:
        return self.num_nodes - 1


class GaussLegendre(AbstractScheme):
    """Gauss-Legendre: `num` collocation nodes inside the interval, neither end among them.

    The start is an additional node that is not collocated; the state at the end is the
    interpolant's value there, tied to the next interval by a continuity equation.
    Order `2 num` at the intervals' ends.

    **Arguments:** `num`: the number of collocation nodes, at least 1.
    """

    nodes: Nodes
    barycentric: Nodes
    differentiation: Matrix
    quadrature: Nodes

    def __init__(self, num: int):
        num = integer("num", num, 1)
        from scipy.special import roots_legendre

        inner, weight = roots_legendre(num)
        self.nodes = np.concatenate([[0.0], (1 + inner) / 2])
        self.barycentric, self.differentiation = _matrices(self.nodes)
        self.quadrature = np.concatenate([[0.0], weight / 2])

    @property
    def includes_end(self) -> bool:
        return False

    @property
    def order(self) -> int:
        return 2 * self.num_nodes - 2

    @property
    def size(self) -> int:
        return self.num_nodes - 1


def _matrices(nodes: Nodes) -> tuple[Nodes, Matrix]:
    gap = nodes[:, None] - nodes
    barycentric = _barycentric(gap)
    return barycentric, _differentiation(gap, barycentric)


def _interpolation(
    nodes: Nodes, barycentric: Nodes, x: Float[np.ndarray, " point"]
) -> Float[np.ndarray, "point node"]:
    """The Lagrange polynomials of the nodes at the points `x`."""
    gap = np.asarray(x, dtype=np.float64)[:, None] - nodes
    hit = gap == 0
    terms = barycentric / np.where(hit, 1.0, gap)
    on_node = hit.any(axis=1, keepdims=True)
    total = np.where(on_node, 1.0, terms.sum(axis=1, keepdims=True))
    return np.where(on_node, hit.astype(np.float64), terms / total)


def _barycentric(gap: Matrix) -> Nodes:
    # In logarithms: the plain product of some hundred differences leaves the range of floats.
    num = len(gap)
    magnitude = np.log(np.abs(gap + np.eye(num)))
    log_weight = -magnitude.sum(axis=1)
    sign = (-1.0) ** (num - 1 - np.arange(num))
    return sign * np.exp(log_weight - log_weight.max())


def _differentiation(gap: Matrix, barycentric: Nodes) -> Matrix:
    num = len(gap)
    matrix = (barycentric / barycentric[:, None]) / (gap + np.eye(num))
    np.fill_diagonal(matrix, 0.0)
    np.fill_diagonal(matrix, -matrix.sum(axis=1))
    return matrix


def _clenshaw_curtis(num: int) -> Nodes:
    # Waldvogel, BIT Numerical Mathematics 46 (2006): the inverse FFT of the moments.
    degree = num - 1
    moment = np.zeros(num)
    moment[::2] = 2.0 / (1.0 - np.arange(0, num, 2) ** 2.0)
    mirrored = np.concatenate([moment, moment[1:degree][::-1]])
    weight = np.fft.ifft(mirrored).real[:num]
    weight[1:degree] *= 2
    return weight / 2
