"""Inputs of `args` whose values at the time t are symbols, not functions of time."""

from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array


def _jaxcolloc_input_at(t: Any, values: Any) -> Any:
    # The walk along the jaxpr finds this call by its name, and looks at which time it stands.
    del t
    return values


HELD = _jaxcolloc_input_at.__name__
_at = jax.jit(_jaxcolloc_input_at)


class Held(eqx.Module):
    """What stands in the place of a path in `args`: its values at the time t."""

    values: Array

    def __call__(self, t: Any) -> Array:
        """The values, where `t` is the time of the field itself."""
        return _at(t, self.values)

    def evaluate(self, t0: Any, t1: Any = None, left: bool = True) -> Array:
        """The same under the name that Diffrax gives it."""
        del left
        if t1 is not None:
            raise _refused("its increment over a time")
        return self(t0)

    def derivative(self, t: Any, left: bool = True) -> Array:
        """Refused: the values at one time do not say how they change."""
        raise _refused("its derivative")


def _refused(what: str) -> ValueError:
    return ValueError(
        f'`symbols` must leave out "inputs" where the model needs more of an input than its '
        f"values at t; got a model that uses {what}."
    )
