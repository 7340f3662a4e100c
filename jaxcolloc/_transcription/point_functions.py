"""The functions of one point that equations, losses and constraints are made of.

A point function takes the weights (behind them the unknowns of the point's trajectory), the time,
the state, the trajectory's `args` and data of the point, and returns an array of outputs.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from .._callables import OfModel, as_floats
from .._likelihoods import Gaussian, LocationScale, Own, loss_of_model
from .._loss import Loss, squared_error
from .._precision import AnyArray
from .layout import Layout
from .parameters import Weighted


class VectorField(eqx.Module):
    """The model as a point function: $f(t, y, args; w)$."""

    model: Weighted

    def __call__(self, w: Array, t: Array, y: Array, args: Any, data: Any) -> Array:
        model, args = self.model.apply(w, args)
        wanted = f"an array of shape (state,) = {y.shape}"
        slope = as_floats("model", model(t, y, args), wanted, y.dtype)
        if slope.shape != y.shape:
            raise ValueError(
                f"`model` must return {wanted} when called as f(t, y, args); got {slope.shape}. "
                "If the state has more components than the data, pass `num_states`."
            )
        return slope


class AtRest(eqx.Module):
    """Those components of the field that vanish in a steady state.

    Of a `jc.DAE` they are asked for with the algebraic variables solved for: those of the node
    belong to other `args` where the system was at rest under others.
    """

    model: Weighted
    components: tuple[int, ...] = eqx.field(static=True)
    num_states: int = eqx.field(static=True)

    def __call__(self, w: Array, t: Array, y: Array, args: Any, data: Any) -> Array:
        slope = VectorField(self.model)(w, t, y[: self.num_states], args, data)
        return slope[np.array(self.components, int)]


class NodeField(eqx.Module):
    r"""The model at a node of the problem, whose variables are those of the state and, last, $a$.

    Of a `jc.DAE` with `num_algebraic` of these: $(f, g)(t, y, a, args; w)$, one behind the other.
    """

    model: Weighted
    num_algebraic: int = eqx.field(static=True, default=0)

    def __call__(self, w: Array, t: Array, y: Array, args: Any, data: Any) -> Array:
        if self.num_algebraic == 0:
            return VectorField(self.model)(w, t, y, args, data)
        model, args = self.model.apply(w, args)
        y, a = jnp.split(y, [len(y) - self.num_algebraic])
        return jnp.concatenate([model.rate(t, y, a, args), model.residual(t, y, a, args)])


class AlgebraicEquations(eqx.Module):
    """The algebraic equations of a `jc.DAE` alone, where a node is not collocated."""

    model: Weighted
    num_differential: int = eqx.field(static=True)

    def __call__(self, w: Array, t: Array, y: Array, args: Any, data: Any) -> Array:
        model, args = self.model.apply(w, args)
        y, a = jnp.split(y, [self.num_differential])
        return model.residual(t, y, a, args)


class Node(eqx.Module):
    """How a point's variables are read: the first are those of the state, the last algebraic."""

    num_states: int = eqx.field(static=True)
    num_algebraic: int = eqx.field(static=True)

    def split(self, x: Array) -> tuple[Array, Array]:
        """State and algebraic variables."""
        return x[: self.num_states], x[len(x) - self.num_algebraic :]


def node_of(layout: Layout) -> Node | None:
    """How the nodes of a problem are read; None where they have no algebraic variables."""
    if layout.num_algebraic == 0:
        return None
    return Node(layout.num_differential, layout.num_algebraic)


def _split(node: Node | None, x: Array) -> tuple[Array, Array | None]:
    """State and algebraic variables of a point; without a `node` the state is all there is."""
    return (x, None) if node is None else node.split(x)


class Sensor(eqx.Module):
    """What is measured of a state: $h(t, y, args; w)$.

    Without a `node` it gets states alone, and the model is asked for algebraic variables.
    """

    model: Weighted
    function: OfModel
    node: Node | None = None

    def __call__(self, w: Array, t: Array, y: Array, args: Any, data: Any) -> Array:
        model, args = self.model.apply(w, args)
        return _seen(self.function, t, *_split(self.node, y), args, model)


class PathFunction(eqx.Module):
    """A constraint's function $g(t, y, args; w)$, its value as an array of one axis."""

    model: Weighted
    function: OfModel
    node: Node | None = None

    def __call__(self, w: Array, t: Array, y: Array, args: Any, data: Any) -> Array:
        model, args = self.model.apply(w, args)
        y, a = _split(self.node, y)
        value = self.function(t, y, args, model, a)
        if isinstance(value, (tuple, list)) and value:
            value = jnp.stack(value)
        wanted = "a scalar or an array of shape (value,)"
        return jnp.atleast_1d(as_floats("function", value, wanted, y.dtype))


def _seen(observe: OfModel, t: Array, y: Array, a: Array | None, args: Any, model: Any) -> Array:
    """What is measured of a state, as floats."""
    value = observe(t, y, args, model, a)
    return as_floats("observe", value, "an array of shape (obs,)", y.dtype)


class Observed(eqx.Module):
    """The observations of one point as data of a point function."""

    ys: Float[AnyArray, "traj point obs"]
    weights: Float[AnyArray, "traj point obs"]
    measured: Bool[AnyArray, "traj point obs"]
    factor: Float[AnyArray, "traj point"]

    def for_loss(self, function: "PointLoss") -> "Observed":
        """The same as the loss of `function` may see it, in arrays of NumPy.

        A caller's likelihood gets another point's sample where nothing was measured that has a
        weight, with a factor of zero: what it returns there may be no number otherwise.
        """
        if not isinstance(function.loss, Own):
            return self
        there: np.ndarray = np.asarray(self.measured) & (np.asarray(self.weights) > 0)
        some: np.ndarray = np.asarray(there.any(axis=-1))
        if some.all():
            return dataclasses.replace(self, measured=there)
        if not some.any():
            ones = np.ones(there.shape)
            return Observed(ones, ones, ones > 0, np.zeros(some.shape))
        # The first one of the trajectory that has any, or of another trajectory.
        of_row = np.where(some.any(axis=1), np.argmax(some, axis=1), -1)
        row = np.arange(len(some))
        row = np.where(of_row < 0, int(np.argmax(of_row >= 0)), row)
        at = np.where(some, np.arange(some.shape[1]), of_row[row][:, None])
        source = np.where(some, np.arange(len(some))[:, None], row[:, None])
        ys, weights = (np.asarray(part)[source, at] for part in (self.ys, self.weights))
        return Observed(ys, weights, there[source, at], np.where(some, self.factor, 0.0))


class PointLoss(eqx.Module):
    """The loss of one observation time as a point function of one output.

    With `linearise`, the residual is replaced by its first-order expansion at the point, which
    leaves value and gradient as they are and makes the Hessian the Gauss-Newton one. Of a
    likelihood, the parameters of the distribution are expanded, and the Hessian in these is the
    expected one. That of a caller's likelihood is not known: it stays as it is.
    """

    model: Weighted
    observe: OfModel | None
    loss: Loss
    node: Node | None = None
    linearise: bool = eqx.field(static=True, default=False)

    @classmethod
    def of(
        cls,
        weighted: Weighted,
        observe: OfModel | None,
        loss: Loss,
        model: Any,
        node: Node | None = None,
    ) -> "PointLoss":
        """From the option `loss` of a problem of `model`, whose weights `weighted` has."""
        return cls(weighted, observe, loss_of_model(loss, model), node)

    @property
    def sees_algebraic(self) -> bool:
        """Whether algebraic variables of a node are seen."""
        return self.node is not None and self.observe is not None and self.observe.takes_algebraic

    @property
    def curved(self) -> bool:
        """Whether the Gauss-Newton Hessian is another one than the exact one."""
        if isinstance(self.loss, Own):
            return False
        likelihood = isinstance(self.loss, LocationScale) and not self.squared
        return likelihood or self.observe is not None

    @property
    def squared(self) -> bool:
        """Whether it is a sum of squares of the states' errors, up to factors and a constant."""
        squared = isinstance(self.loss, Gaussian) and self.loss.fixed
        return self.observe is None and (squared or self.loss is squared_error)

    def __call__(self, w: Array, t: Array, y: Array, args: Any, data: Observed) -> Array:
        if isinstance(self.loss, LocationScale):
            loss: Any = self._of_distribution(w, t, y, args, data)
        elif isinstance(self.loss, Own):
            loss = self._of_callers_own(w, t, y, args, data)
        else:
            loss = self._of_residual(w, t, y, args, data)
        value = as_floats("loss", loss, "a scalar", y.dtype)
        if value.shape != ():
            raise ValueError(
                f"`loss` must return a scalar, the sum over channels; got shape {value.shape}."
            )
        return (jnp.asarray(data.factor) * value)[None]

    def _predicted(self, w: Array, t: Array, y: Array, args: Any, data: Observed) -> Array:
        """What would be measured."""
        if self.observe is None:
            return y[: data.ys.shape[-1]]
        model, known = self.model.apply(w, args)
        return _seen(self.observe, t, *_split(self.node, y), known, model)

    def _of_residual(self, w: Array, t: Array, y: Array, args: Any, data: Observed) -> Any:
        def residual(w: Array, y: Array) -> Array:
            predicted = self._predicted(w, t, y, args, data)
            return jnp.where(data.measured, predicted - data.ys, 0.0)

        difference = _expanded(residual, w, y) if self.linearise else residual(w, y)
        return self.loss(difference, jnp.asarray(data.weights))

    def _of_distribution(self, w: Array, t: Array, y: Array, args: Any, data: Observed) -> Array:
        loss: LocationScale = self.loss  # type: ignore[assignment]
        measured, weights = jnp.asarray(data.measured), jnp.asarray(data.weights)

        def parameters(w: Array, y: Array) -> tuple[Array, Array]:
            model, known = self.model.apply(w, args)
            predicted = self._predicted(w, t, y, args, data)
            return loss.parameters(predicted, measured, t, _split(self.node, y)[0], known, model)

        def total(location: Array, logarithm: Array) -> Array:
            values = loss.values(location, logarithm, jnp.asarray(data.ys), measured)
            return jnp.sum(weights * values)

        if not self.linearise:
            return total(*parameters(w, y))
        here = jax.lax.stop_gradient(parameters(w, y))
        there = _expanded(parameters, w, y)
        value, slopes = jax.value_and_grad(total, argnums=(0, 1))(*here)
        of_location, of_logarithm = loss.information
        curvatures: tuple[Any, Any] = (of_location * jnp.exp(-2 * here[1]), of_logarithm)
        for slope, curvature, old, new in zip(slopes, curvatures, here, there, strict=True):
            step = jnp.where(measured, new - old, 0.0)
            value = value + jnp.sum(slope * step + 0.5 * weights * curvature * step**2)
        return value

    def _of_callers_own(self, w: Array, t: Array, y: Array, args: Any, data: Observed) -> Array:
        model, known = self.model.apply(w, args)
        observed = jnp.where(data.measured, data.ys, jnp.nan)
        value = self.loss(t, _split(self.node, y)[0], observed, known, model)
        # The same for all channels that have any.
        return jnp.max(jnp.asarray(data.weights)) * as_floats("loss", value, "a scalar", y.dtype)


class PointResidual(eqx.Module):
    r"""$q \sum_c ((\dot y_c - f_c(t, y, args; w)) / s_c)^2$ at one point between the nodes.

    Its state is $y$ and the interpolant's slope $\dot y$, one behind the other; `data` holds the
    quadrature weight $q$ and the scale $s$ of each equation. Algebraic equations have no slope, and
    what interpolates their variables comes third.
    """

    field: NodeField
    linearise: bool = eqx.field(static=True, default=False)

    def __call__(self, w: Array, t: Array, y: Array, args: Any, data: tuple[Array, Array]) -> Array:
        weight, scale = data
        algebraic = self.field.num_algebraic

        def residual(w: Array, y: Array) -> Array:
            state, slope, *collocated = jnp.split(y, 3 if algebraic else 2)
            if algebraic:
                differential = np.arange(len(state)) < len(state) - algebraic
                state = jnp.where(differential, state, collocated[0])
                slope = jnp.where(differential, slope, 0.0)
            return (slope - self.field(w, t, state, args, None)) / scale

        difference = _expanded(residual, w, y) if self.linearise else residual(w, y)
        return (weight * jnp.sum(difference**2))[None]


def linearised(function: PointLoss | PointResidual) -> PointLoss | PointResidual:
    """The same function, with the Gauss-Newton Hessian in the place of the exact one."""
    return dataclasses.replace(function, linearise=True)


def _expanded(function: Callable[[Array, Array], Any], w: Array, y: Array) -> Any:
    """What the function returns, expanded to first order about where it is."""
    here = jax.lax.stop_gradient((w, y))
    value, change = jax.jvp(function, here, (w - here[0], y - here[1]))
    return jax.tree.map(jnp.add, value, change)
