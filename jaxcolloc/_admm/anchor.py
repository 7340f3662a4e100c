"""Anchor: a quadratic pull of some variables towards given values, as an NLP's parameters."""

import dataclasses

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .._nlp import NLP
from .._precision import AnyArray, x64
from .._transcription.core import Compiled, Core
from .._transcription.layout import Layout
from .._transcription.terms import States, Structure


class Anchor(eqx.Module):
    r"""$\sum_i \mathtt{factor}_i (x_i - c_i)^2$ over entries of the head and of the states.

    `states` are positions among all states, one node's after another. `x` is in the caller's
    units; the entries of the head come first.
    """

    head: Int[AnyArray, " _"]
    states: Int[AnyArray, " _"]
    factor: Float[AnyArray, " entry"]
    center: Float[AnyArray, " entry"]

    def hessian_structure(self, layout: Layout, gauss_newton: bool) -> Structure:
        """The diagonal of these entries."""
        at = np.concatenate([np.asarray(self.head), layout.num_head + np.asarray(self.states)])
        return [(at, at)]

    def value(self, head: Array, states: States) -> Float[Array, ""]:
        """The penalty."""
        x = jnp.concatenate([head[self.head], jnp.ravel(states)[self.states]])
        return jnp.sum(self.factor * (x - self.center) ** 2)

    def second_order(
        self, head: Array, states: States, factor: Array, gauss_newton: bool
    ) -> list[Array]:
        """The values of the Hessian's contribution."""
        return [2 * factor * jnp.asarray(self.factor)]


def with_anchor(nlp: NLP, positions: Int[np.ndarray, " entry"]) -> NLP:
    """The same NLP with an anchor, of factor zero, on the variables at these positions of `z`.

    Those of the head must come first.
    """
    first = nlp.layout.num_head
    inside = positions < first
    zeros = np.zeros(len(positions))
    anchor = Anchor(positions[inside], positions[~inside] - first, zeros, zeros)
    with x64():
        old = nlp.compiled.core
        core, patterns = Core.build(
            nlp.layout,
            old.equations,
            (*old.penalties, anchor),
            old.ridge,
            (nlp.units, nlp.row_factors),
        )
        return dataclasses.replace(
            nlp,
            compiled=Compiled(core),
            jacobian_pattern=patterns[0],
            hessian_pattern=patterns[1],
            gauss_newton_pattern=patterns[2],
        )


def anchored(nlp: NLP, factor: np.ndarray, center: np.ndarray) -> NLP:
    """The NLP with other numbers in its anchor, which compiles nothing anew."""
    with x64():
        core = nlp.compiled.core
        anchor = core.penalties[-1]
        assert isinstance(anchor, Anchor)
        anchor = dataclasses.replace(anchor, factor=factor, center=center)
        penalties = (*core.penalties[:-1], anchor)
        core = eqx.tree_at(lambda item: item.penalties, core, penalties)
        return dataclasses.replace(nlp, compiled=Compiled(core))
