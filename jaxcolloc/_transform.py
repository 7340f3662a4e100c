"""Scales: what the optimizer sees of a weight or an unknown."""

import abc
import contextlib
from typing import Any

import equinox as eqx
import numpy as np

from ._arrays import module
from ._check import describe, positive
from ._precision import AnyArray


class Scale(eqx.Module):
    """A monotone map from the optimizer's variable to the value in the model."""

    @abc.abstractmethod
    def outward(self, variable: AnyArray) -> AnyArray:
        """The value in the model."""

    @abc.abstractmethod
    def inward(self, value: np.ndarray) -> np.ndarray:
        """The optimizer's variable."""

    @abc.abstractmethod
    def rate(self, variable: np.ndarray) -> np.ndarray:
        """The derivative of the value by the variable."""

    @property
    def positive(self) -> bool:
        """Whether all values are above zero."""
        return True

    @property
    def most(self) -> float:
        """What the variable must stay below."""
        return np.inf

    def limit(self, value: np.ndarray) -> np.ndarray:
        """A bound on the value as a bound on the variable."""
        if not self.positive:
            return self.inward(value)
        inside = np.clip(value, np.finfo(float).tiny, np.finfo(float).max)
        return np.where(
            value > 0, np.where(np.isinf(value), self.most, self.inward(inside)), -np.inf
        )

    def check(self, name: str, value: np.ndarray) -> None:
        """Refuse values that the scale does not reach."""
        if self.positive and np.any(value <= 0):
            raise ValueError(
                f"`{name}` can be {self!r} only where all values are above zero; "
                f"got {value.min():g}."
            )


class Linear(Scale):
    """value = factor * variable."""

    factor: float = eqx.field(static=True)

    @property
    def positive(self) -> bool:
        return False

    def outward(self, variable: AnyArray) -> AnyArray:
        return variable if self.factor == 1 else self.factor * variable

    def inward(self, value: np.ndarray) -> np.ndarray:
        return value / self.factor

    def rate(self, variable: np.ndarray) -> np.ndarray:
        return np.full(len(variable), self.factor)

    def __repr__(self) -> str:
        return f"{self.factor:g}"


class Log(Scale):
    """value = exp(variable)."""

    def outward(self, variable: AnyArray) -> AnyArray:
        return module(variable).exp(variable)

    def inward(self, value: np.ndarray) -> np.ndarray:
        return np.log(value)

    def rate(self, variable: np.ndarray) -> np.ndarray:
        return np.exp(variable)

    def __repr__(self) -> str:
        return '"log"'


class Reciprocal(Scale):
    """value = -1 / variable, of negative variables.

    A likelihood's minimum in its noise level is found from afar in this variable: Newton's steps
    halve or double it there, at most, and overshoot in its logarithm.
    """

    def outward(self, variable: AnyArray) -> AnyArray:
        return -1 / variable

    def inward(self, value: np.ndarray) -> np.ndarray:
        return -1 / value

    def rate(self, variable: np.ndarray) -> np.ndarray:
        return np.asarray(variable**-2.0)

    @property
    def most(self) -> float:
        # Of which the value is infinity.
        return -0.0

    def __repr__(self) -> str:
        return '"reciprocal"'


class Softplus(Scale):
    """value = log(1 + exp(variable))."""

    def outward(self, variable: AnyArray) -> AnyArray:
        # What `jax.nn.softplus` computes.
        return module(variable).logaddexp(variable, 0.0)

    def inward(self, value: np.ndarray) -> np.ndarray:
        return value + np.log(-np.expm1(-value))

    def rate(self, variable: np.ndarray) -> np.ndarray:
        return np.exp(-np.logaddexp(-variable, 0.0))

    def __repr__(self) -> str:
        return '"softplus"'


LINEAR = Linear(1.0)
_NAMES: dict[Any, Scale] = {
    **{None: LINEAR, "linear": LINEAR, "log": Log()},
    **{"softplus": Softplus(), "reciprocal": Reciprocal()},
}


def is_scale(value: Any) -> bool:
    """Whether `value` can be said to be a scale."""
    return isinstance(value, (str, int, float, np.number)) and not isinstance(value, bool)


def as_scale(value: Any, name: str = "weight_scale") -> Scale:
    """A scale from its name or a factor; `name` is that of the caller's argument."""
    if value is None or isinstance(value, str):
        if value in _NAMES:
            return _NAMES[value]
    elif is_scale(value):
        with contextlib.suppress(ValueError):
            return Linear(positive(name, value))
    raise ValueError(
        f'`{name}` must be "linear", "log", "softplus", "reciprocal" or a factor above zero; '
        f"got {describe(value)}."
    )
