"""Priors as terms of the objective: squares of distances, with their derivatives.

Like `objective_terms.Quadratic` they are written for NumPy and JAX alike.
"""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Float, Int

from .._arrays import driver, module
from .._data import Trajectory
from .._names import which
from .._plain import plain
from .._precision import AnyArray, Number
from .._priors import Prior, as_priors
from .._transform import Linear, Log, Softplus
from .layout import Layout
from .objective_terms import Quadratic
from .terms import Structure


@plain
class Curved:
    r"""$\sum_i \mathtt{factor}_i (g(x_i) - c_i)^2$ over weights that the optimizer sees otherwise.

    `link` names $g$, which is what a scale makes of the optimizer's variable, or its logarithm.
    """

    at: Int[AnyArray, " entry"]
    factor: Float[AnyArray, " entry"]
    center: Float[AnyArray, " entry"]
    link: str = eqx.field(static=True)

    @property
    def positions(self) -> list[AnyArray]:
        """The arrays that tell where its derivatives stand."""
        return [self.at]

    def scaled(self, factor: Float[np.ndarray, " entry"]) -> "Curved":
        """The same with its factors multiplied by these."""
        return Curved(self.at, self.factor * factor, self.center, self.link)

    def value(self, x: AnyArray) -> Number:
        """The term at `x`, the head of the variables or all of them."""
        value, _, _ = _linked(self.link, x[self.at])
        return (self.factor * (value - self.center) ** 2).sum()

    def first_order(self, x: AnyArray) -> tuple[Number, Float[AnyArray, " entry"]]:
        """The term and its derivatives by its entries."""
        value, slope, _ = _linked(self.link, x[self.at])
        away = value - self.center
        return (self.factor * away**2).sum(), 2 * self.factor * away * slope

    def hessian_structure(self) -> Structure:
        """Rows and columns: the diagonal of its entries."""
        return [(np.asarray(self.at), np.asarray(self.at))]

    def second_order(self, x: AnyArray, factor: Any, gauss_newton: bool) -> list[AnyArray]:
        """The values of the Hessian's contribution."""
        value, slope, curvature = _linked(self.link, x[self.at])
        second = slope**2
        if not gauss_newton:
            second = second + (value - self.center) * curvature
        return [2 * factor * self.factor * second]


@plain
class Coupled:
    r"""$\sum_p \mathtt{factor}_p (x_i - c_i) (x_j - c_j)$ over pairs $p = (i, j)$, $i \ge j$.

    `at` are positions in $z$, `rows` and `columns` the pairs as positions in `at`.
    """

    at: Int[AnyArray, " entry"]
    center: Float[AnyArray, " entry"]
    rows: Int[AnyArray, " pair"]
    columns: Int[AnyArray, " pair"]
    factor: Float[AnyArray, " pair"]

    @property
    def positions(self) -> list[AnyArray]:
        """The arrays that tell where its derivatives stand."""
        return [self.at, self.rows, self.columns]

    def scaled(self, factor: Float[np.ndarray, " entry"]) -> "Coupled":
        """The same with its factors multiplied by those of the rows' entries."""
        own = self.factor * factor[np.asarray(self.rows)]
        return Coupled(self.at, self.center, self.rows, self.columns, own)

    def value(self, x: AnyArray) -> Number:
        """The term at `x`, all variables."""
        away = x[self.at] - self.center
        return (self.factor * away[self.rows] * away[self.columns]).sum()

    def first_order(self, x: AnyArray) -> tuple[Number, Float[AnyArray, " entry"]]:
        """The term and its derivatives by its entries."""
        away, add = x[self.at] - self.center, driver(x).add_at
        one, other = self.factor * away[self.columns], self.factor * away[self.rows]
        slopes = add(module(x).zeros(away.shape), self.rows, one)
        return (one * away[self.rows]).sum(), add(slopes, self.columns, other)

    def hessian_structure(self) -> Structure:
        """Rows and columns: its pairs."""
        at = np.asarray(self.at)
        return [(at[np.asarray(self.rows)], at[np.asarray(self.columns)])]

    def second_order(self, x: AnyArray, factor: Any, gauss_newton: bool) -> list[AnyArray]:
        """The values of the Hessian's contribution."""
        return [factor * self.factor * (1.0 + (self.rows == self.columns))]


PriorTerm = Quadratic | Curved | Coupled


def prior_terms(
    layout: Layout, model: Any, priors: Any, trajectories: Sequence[Trajectory], factor: float
) -> tuple[PriorTerm, ...]:
    """Those of the model's leaves and of initial states; `factor` is that of squared distances."""
    terms: list[PriorTerm] = []
    for prior in as_priors(priors):
        terms += _of_weights(layout, model, prior, factor)
    return (*terms, *_of_starts(layout, trajectories, factor))


def _of_weights(layout: Layout, model: Any, prior: Prior, factor: float) -> list[PriorTerm]:
    """One term for each leaf."""
    weighted = layout.model
    used = np.flatnonzero(weighted.mask)
    offsets = np.cumsum((0, *weighted.sizes))
    terms: list[PriorTerm] = []
    for leaf in prior.leaves(model):
        if leaf not in used:
            raise ValueError("`priors` must have a `where` that picks leaves that are trained.")
        number = int(np.searchsorted(used, leaf))
        shape, scale = weighted.shapes[number], weighted.scales[number]
        mean, std = (
            _per_entry(name, value, shape) for name, value in vars(prior).items()
            if name in ("mean", "std")
        )  # fmt: skip
        at = np.arange(offsets[number], offsets[number + 1]).astype(np.int32)
        factors = factor / std**2
        logged = prior.scale == "log"
        if isinstance(scale, Linear):
            if logged:
                raise ValueError(
                    '`priors` on the scale "log" need leaves of which all values are positive: '
                    'give them the `weight_scale` "log".'
                )
            unit = scale.factor
            terms.append(Quadratic(at, factors * unit**2, mean / unit))
        elif isinstance(scale, Log):
            terms.append(
                Quadratic(at, factors, mean) if logged else Curved(at, factors, mean, "exp")
            )
        else:
            link = "softplus" if isinstance(scale, Softplus) else "reciprocal"
            terms.append(Curved(at, factors, mean, f"log {link}" if logged else link))
    return terms


def _per_entry(name: str, value: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if value.shape not in ((), shape):
        raise ValueError(
            f"`{name}` of a prior must be a number or have the leaf's shape {shape}; "
            f"got shape {value.shape}."
        )
    return np.ravel(np.broadcast_to(value, shape))


def _of_starts(
    layout: Layout, trajectories: Sequence[Trajectory], factor: float
) -> tuple[PriorTerm, ...]:
    """One term for all initial states, none if none has a prior."""
    d = layout.num_differential
    none: list[np.ndarray] = [np.zeros(0)]
    at, center, rows, columns, factors = (none.copy() for _ in range(5))
    count = 0
    for k, item in enumerate(trajectories):
        if item.y0_prior is None:
            continue
        mean, spread = item.y0_prior
        if mean.shape != (d,):
            raise ValueError(
                f"`y0_prior` must be (mean, std) with a mean of shape (state,) = ({d},); got shape "
                f"{mean.shape} in {which(item, k)}."
            )
        there = np.flatnonzero(~np.isnan(mean))
        if spread.ndim == 1:
            pairs = (np.arange(len(there)),) * 2
            precision = np.diag(1 / spread[there] ** 2)
        else:
            pairs = np.tril_indices(len(there))
            precision = np.linalg.inv(spread[np.ix_(there, there)])
        at.append(layout.columns(layout.first_nodes[k]) + there)
        center.append(mean[there])
        rows.append(count + pairs[0])
        columns.append(count + pairs[1])
        factors.append(factor * precision[pairs] * (2.0 - (pairs[0] == pairs[1])))
        count += len(there)
    if count == 0:
        return ()
    places = (np.concatenate(part).astype(np.int32) for part in (at, rows, columns))
    where, first, second = places
    return (Coupled(where, np.concatenate(center), first, second, np.concatenate(factors)),)


def _linked(link: str, x: AnyArray) -> tuple[AnyArray, AnyArray, AnyArray]:
    """What a link makes of the optimizer's variables, with first and second derivatives."""
    xp = module(x)
    if link == "exp":
        value = xp.exp(x)
        return value, value, value
    if link.endswith("reciprocal"):
        value, slope, curvature = -1 / x, x**-2.0, -2 * x**-3.0
    else:
        value, slope = xp.logaddexp(x, 0.0), xp.exp(-xp.logaddexp(-x, 0.0))
        curvature = slope * (1 - slope)
    if not link.startswith("log"):
        return value, slope, curvature
    relative = slope / value
    return xp.log(value), relative, curvature / value - relative**2
