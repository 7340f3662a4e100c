r"""Likelihoods: losses that are the negative logarithm of an observation's probability density.

Noise levels in them may be weights of the model, and are then trained with the rest.
"""

import abc
import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ._callables import as_floats, explained, num_required, of_model
from ._check import choice, describe, positive, real_numbers
from ._data import Trajectory, counts
from ._names import which
from ._precision import AnyArray, is_array


# A function of time, state, observation and `args` has more arguments than one of residual and
# weights.
_FEWEST_ARGUMENTS = 4
_SCALES = ("linear", "log")


class LocationScale(eqx.Module):
    r"""Independent errors of each channel, of one shape and with a standard deviation of their own.

    With the location $\mu = h(t, y, \mathtt{args})$, or its logarithm, the loss of a channel is
    $\rho((x - \mu) / \sigma) + \log \sigma$, where $x$ is what was measured, or its logarithm, and
    $\sigma^2 = \mathtt{std}^2 + \mathtt{min\_std}^2$.
    """

    std: Any
    scale: str = eqx.field(static=True)
    min_std: float = eqx.field(static=True)

    def __init__(self, std: Any, *, scale: str = "linear", min_std: float = 0.0):
        self.std = _spread(std)
        self.scale = choice("scale", scale, _SCALES)
        self.min_std = positive("min_std", min_std, allow_zero=True)

    @property
    def fixed(self) -> bool:
        """Whether the standard deviations are numbers, of errors that are not those of logarithms.

        They can then be told without the model.
        """
        return is_array(self.std) and self.scale == "linear"

    @property
    def even(self) -> bool:
        """Whether all samples of a channel are taken to be equally exact."""
        return self.scale == "linear" and (is_array(self.std) or num_required(self.std) == 1)

    def of_model(self, model: Any) -> "LocationScale":
        """The same with a `std` that is called as `std(t, y, args, model)`, if it is a function."""
        if is_array(self.std):
            return self
        method = getattr(self.std, "__self__", None) is model
        only_model = num_required(self.std) == 1 and not method
        std = _OfModelAlone(self.std) if only_model else of_model("std", self.std, model)
        return dataclasses.replace(self, std=std)

    def __call__(
        self,
        t: Any,
        y: Float[AnyArray, " state"],
        observed: Float[AnyArray, " obs"],
        args: Any,
        model: Any,
    ) -> Float[Array, ""]:
        """The negative log-likelihood of one observation of the first components of a state."""
        y, observed = jnp.asarray(y), jnp.asarray(observed)
        measured = ~jnp.isnan(observed)
        predicted = y[: len(observed)]
        parameters = self.of_model(model).parameters(predicted, measured, t, y, args, model)
        return jnp.sum(self.values(*parameters, observed, measured))

    def parameters(
        self, predicted: Array, measured: Array, t: Any, y: Array, args: Any, model: Any
    ) -> tuple[Float[Array, " obs"], Float[Array, " obs"]]:
        """Location and logarithm of the standard deviation of each channel, 0 if not measured."""
        # What was not measured must not be a logarithm of zero, whose derivative is no number.
        location = jnp.where(measured, predicted, 1.0)
        std = jnp.asarray(self.std, y.dtype) if is_array(self.std) else self._of(t, y, args, model)
        if std.shape not in ((), predicted.shape):
            raise ValueError(
                f"`std` must be a number or have shape (obs,) = {predicted.shape}; got {std.shape}."
            )
        square = jnp.broadcast_to(std**2 + self.min_std**2, predicted.shape)
        logarithm = 0.5 * jnp.log(jnp.where(measured, square, 1.0))
        return (jnp.log(location) if self.scale == "log" else location), logarithm

    def _of(self, t: Any, y: Array, args: Any, model: Any) -> Array:
        form = getattr(self.std, "shown", "f(t, y, args, model)")
        with explained("std", form, args):
            value = self.std(t, y, args, model)
        return as_floats("std", value, "a number or an array of shape (obs,)", y.dtype)

    def values(
        self, location: Array, logarithm: Array, observed: Array, measured: Array
    ) -> Float[Array, " obs"]:
        """The negative log-likelihood of each channel, 0 if not measured."""
        sample = jnp.where(measured, observed, 1.0)
        logged = self.scale == "log"
        away = (jnp.log(sample) if logged else sample) - location
        value = self.shape(away * jnp.exp(-logarithm)) + logarithm
        return jnp.where(measured, value + jnp.log(sample) if logged else value, 0.0)

    @abc.abstractmethod
    def shape(self, error: Array) -> Array:
        r"""$\rho$ of errors in units of their standard deviation."""

    @property
    @abc.abstractmethod
    def information(self) -> tuple[float, float]:
        """Fisher's information of the location, in units of the std, and of the std's logarithm."""


class Gaussian(LocationScale):
    r"""Normal errors: $\sum_c \frac{(x_c - \mu_c)^2}{2 \sigma_c^2} + \log \sigma_c +
    \frac{1}{2} \log 2 \pi$, for the argument `loss`.

        loss = jc.Gaussian([0.1, 2.0])  # known noise of two channels
        loss = jc.Gaussian(lambda model: model.noise)  # trained with the rest
        loss = jc.Gaussian(lambda t, y, args, model: model.share * y[:2])  # proportional
        loss = jc.Gaussian(lambda model: model.noise, scale="log")  # log-normal

    $\mu$ is what `observe` predicts of the channels, $x$ what was measured, and $\sigma^2$ the
    square of `std`, plus that of `min_std`. Channels that were not measured do not count. `weights`
    of the trajectories multiply the log-likelihood of a sample: 2 counts it twice, 0 leaves it out.

    **Arguments:**

    - `std`: the standard deviation, a number or one per channel; or a function of the model, or of
      `(t, y, args)` or `(t, y, args, model)` or a method of the model, that returns that. What it
      takes from the model is trained: give such a leaf the `weight_scale` "reciprocal", which keeps
      it positive and converges from afar ("log" may overshoot where it starts too large), and no
      ridge penalty (`l2=jc.OnNets(...)`).
    - `scale`: "linear", or "log" for errors of the logarithm (log-normal): $\mu$ and $x$ are then
      logarithms, `std` is nearly the relative error, and $\log \mathrm{obs}$ is added, so that it
      is the density of the observation itself. Observations must be above zero.
    - `min_std`: a floor of the noise, added in squares.

    A model that can go through every sample of a channel makes its trained noise zero, and the
    likelihood is then infinite: give `min_std`, such as the sensor's resolution, or a bound in
    `weight_bounds`, or a prior, wherever noise levels are trained.

    The Gauss-Newton Hessian is the expected one (Fisher's information) of what $\mu$ and
    $\log \sigma$ are to first order: $J_\mu^T J_\mu / \sigma^2 + 2 J_{\log \sigma}^T
    J_{\log \sigma}$.

    **Errors:** `ValueError` for a `std` that is not above zero.
    """

    def shape(self, error: Array) -> Array:
        r"""$\rho$ of errors in units of their standard deviation."""
        return 0.5 * error**2 + 0.5 * math.log(2 * math.pi)

    @property
    def information(self) -> tuple[float, float]:
        """Fisher's information of the location, in units of the std, and of the std's logarithm."""
        return 1.0, 2.0


class StudentT(LocationScale):
    r"""Errors with heavy tails: Student's t with `df` degrees of freedom, for the argument `loss`.

    $$\sum_c \frac{\nu + 1}{2} \log\Big(1 + \frac{(x_c - \mu_c)^2}{\nu \sigma_c^2}\Big) +
      \log \sigma_c + \log \frac{\sqrt{\nu \pi} \, \Gamma(\nu / 2)}{\Gamma((\nu + 1) / 2)}$$

    Outliers count less than with `jc.Gaussian`, whose arguments `std`, `scale` and `min_std` it
    shares; `std` is the distribution's scale $\sigma$, near its width, while its standard deviation
    is $\sigma \sqrt{\nu / (\nu - 2)}$.

    **Arguments:** `df`: the degrees of freedom $\nu$, above zero: 4 is robust, 30 nearly normal.
    """

    df: float = eqx.field(static=True)

    def __init__(self, std: Any, df: float, *, scale: str = "linear", min_std: float = 0.0):
        super().__init__(std, scale=scale, min_std=min_std)
        self.df = positive("df", df)

    def shape(self, error: Array) -> Array:
        r"""$\rho$ of errors in units of their standard deviation."""
        half = 0.5 * (self.df + 1)
        constant = math.lgamma(self.df / 2) - math.lgamma(half) + 0.5 * math.log(self.df * math.pi)
        return half * jnp.log1p(error**2 / self.df) + constant

    @property
    def information(self) -> tuple[float, float]:
        """Fisher's information of the location, in units of the std, and of the std's logarithm."""
        return (self.df + 1) / (self.df + 3), 2 * self.df / (self.df + 3)


class Own(eqx.Module):
    """A caller's negative log-likelihood, called as `loss(t, y, observed, args, model)`."""

    function: Callable[..., Any]
    form: str = eqx.field(static=True)

    def __call__(self, t: Any, y: Array, observed: Array, args: Any, model: Any) -> Any:
        if self.form == "method":
            return self.function(model, t, y, observed, args)
        if self.form == "model":
            return self.function(t, y, observed, args, model)
        return self.function(t, y, observed, args)


class _OfModelAlone(eqx.Module):
    """A function of the model, called with all else as well."""

    function: Callable[[Any], Any]
    shown = "f(model)"

    def __call__(self, t: Any, y: Any, args: Any, model: Any) -> Any:
        return self.function(model)


def is_likelihood(loss: Any) -> bool:
    """Whether a `loss` is the negative log-likelihood of an observation time."""
    return isinstance(loss, LocationScale) or num_required(loss, 2) >= _FEWEST_ARGUMENTS


def has_information(loss: Any) -> bool:
    """Whether the Gauss-Newton Hessian of a `loss` is known: not for a caller's likelihood."""
    return isinstance(loss, LocationScale) or not is_likelihood(loss)


def loss_of_model(loss: Any, model: Any) -> Any:
    """The `loss` that a problem of `model` evaluates."""
    if isinstance(loss, LocationScale):
        return loss.of_model(model)
    if not is_likelihood(loss):
        return loss
    if getattr(loss, "__self__", None) is model and hasattr(loss, "__func__"):
        return Own(loss.__func__, "method")
    return Own(loss, "model" if num_required(loss, 2) > _FEWEST_ARGUMENTS else "plain")


def loss_form(loss: Any) -> str:
    """How a `loss` is called, for errors."""
    if is_likelihood(loss):
        return "loss(t, y, observed, args, model)"
    return "loss(residual, weights)"


def check_data(loss: Any, trajectories: Sequence[Trajectory]) -> None:
    """Refuse data that a likelihood is not defined for."""
    for k, item in enumerate(trajectories):
        used = counts(item)
        if isinstance(loss, LocationScale):
            if loss.scale == "log" and np.any(item.ys[used] <= 0):
                raise ValueError(
                    '`ys` must be above zero for errors on the scale "log"; got '
                    f"{np.min(item.ys[used]):g} in {which(item, k)}."
                )
        elif is_likelihood(loss):
            most = np.max(np.where(used, item.weights, -np.inf), axis=1, keepdims=True)
            if np.any(used & (item.weights != most)):
                raise ValueError(
                    "`weights` must be the same for all channels of a time, or zero, where `loss` "
                    f"is a likelihood of your own; they differ in {which(item, k)}."
                )


def objective_size(loss: Any, num_channels: int, objective: float) -> float:
    """The size of an objective, of which a few percent matter.

    A log-likelihood may be zero or negative; half per channel is what noise contributes to it.
    """
    return num_channels / 2 if is_likelihood(loss) else abs(objective)


def _spread(std: Any) -> Any:
    if callable(std) and not is_array(std):
        if isinstance(std, type):
            raise ValueError(f"`std` must be numbers or a function; got {describe(std)}.")
        return std
    wanted = "numbers above zero, one or shape (obs,), or a function of the model"
    array = real_numbers("std", std, wanted)
    if array.ndim > 1 or not np.all(np.isfinite(array) & (array > 0)):
        raise ValueError(f"`std` must be {wanted}; got {describe(std)}.")
    return array
