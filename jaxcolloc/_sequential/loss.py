"""The loss of rollouts: the data's losses as functions of weights and initial states alone."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .._equilibrium import at_rest
from .._integrate import Stepping, integrate_through
from .._jump_tables import SeriesJumps
from .._nlp import NLP
from .._precision import AnyArray, is_array, to_float64
from .._transcription.groups import Group, padded
from .._transcription.point_functions import Observed, PointLoss
from .._transcription.prior_terms import PriorTerm


class Parameters(eqx.Module):
    """What sequential training varies, in the optimizer's units."""

    head: Float[AnyArray, " head"]
    starts: Float[AnyArray, "traj state"]


class Series(eqx.Module):
    """The trajectories of one group, padded to one length.

    `share` is where in its trajectory's time an observation lies, from 0 to 1.
    """

    group: Group
    members: Int[AnyArray, " traj"]
    begin: Float[AnyArray, " traj"]
    end: Float[AnyArray, " traj"]
    ts: Float[AnyArray, "traj time"]
    share: Float[AnyArray, "traj time"]
    data: Observed
    jumps: SeriesJumps | None

    @classmethod
    def of(cls, nlp: NLP, group: Group, function: PointLoss) -> "Series":
        """From the NLP's data, for a loss."""
        chosen = [nlp.trajectories[k] for k in group.members]
        begin = np.array([nlp.grids[k].boundaries[0] for k in group.members])
        end = np.array([item.ts[-1] for item in chosen])
        ts = padded([item.ts for item in chosen], None)
        measured = padded([item.measured for item in chosen], False)
        data = Observed(
            ys=np.where(measured, padded([item.ys for item in chosen]), 0.0),
            weights=np.where(measured, padded([item.weights for item in chosen]), 0.0),
            measured=measured,
            factor=padded([item.observed.astype(float) for item in chosen]),
        )
        data = data.for_loss(function)
        span = np.where(end > begin, end - begin, 1.0)
        share = (ts - begin[:, None]) / span[:, None]
        jumps = SeriesJumps.of(
            [(item.args, item.jumps) for item in chosen], nlp.num_states, nlp.model
        )
        series = cls(group, np.array(group.members), begin, end, ts, share, data, jumps)
        return jax.tree.map(lambda leaf: jnp.asarray(leaf) if is_array(leaf) else leaf, series)

    def counts(self, after: float, until: float) -> int:
        """How many observation times lie in that part of the time."""
        seen = np.asarray(self.data.factor) > 0
        return int(np.sum((self.share > after) & (self.share <= until) & seen))


Part = tuple[Series, Int[AnyArray, " _"]]


class RolloutLoss(eqx.Module):
    r"""$\frac{1}{N} \sum_k \sum_i \ell(h(y_k(t_{ki})) - \mathrm{obs}_{ki}) + \mathtt{l2} \|w\|^2$.

    $y_k$ is integrated from trajectory k's initial state.
    """

    function: PointLoss
    penalties: tuple[PriorTerm, ...]
    units: Float[AnyArray, " state"]
    stepping: Stepping

    def __call__(
        self,
        parameters: Parameters,
        parts: tuple[Part, ...],
        after: Array,
        until: Array,
        factor: Array,
    ) -> Float[Array, ""]:
        """Of some trajectories and the observations after and until those shares of the time.

        `factor` multiplies the sum over observations.
        """
        total = jnp.zeros(())
        for series, batch in parts:
            total = total + self._sum(parameters, series, batch, after, until)
        return factor * total + self.penalty(parameters)

    def penalty(self, parameters: Parameters) -> Array:
        """What does not depend on the data: the ridge penalty and priors."""
        starts = parameters.starts * self.units
        x = jnp.concatenate([jnp.asarray(parameters.head), jnp.ravel(starts)])
        total = jnp.zeros(())
        for term in self.penalties:
            total = total + jnp.asarray(term.value(x))
        return total

    def _sum(
        self, parameters: Parameters, series: Series, batch: Any, after: Array, until: Array
    ) -> Array:
        num_weights = self.function.model.size

        def one(item: Series) -> Array:
            # Of one trajectory: the group's axis is mapped over.
            args, unknowns = item.group.args, parameters.head[jnp.asarray(item.group.unknowns)]
            w = jnp.concatenate([parameters.head[:num_weights], unknowns])
            model, known = self.function.model.apply(w, args)
            stop = item.begin + until * (item.end - item.begin)
            times = jnp.append(item.begin, jnp.clip(item.ts, item.begin, stop))
            start = parameters.starts[jnp.asarray(item.members)] * self.units
            rest = item.group.rest
            if rest is not None:
                before = self.function.model.apply(w, rest.args)[1]
                start = at_rest(
                    lambda y: model(item.begin, y, before),
                    start, rest.equations, rest.held, rest.invariants,
                )  # fmt: skip
            jumps = None if item.jumps is None else item.jumps.table(unknowns)
            ys, _ = integrate_through(model, times, start, known, jumps, self.stepping, throw=False)
            ys = ys[1:]

            def loss(t: Array, y: Array, data: Observed) -> Array:
                return self.function(w, t, y, args, data)[0]

            losses = jax.vmap(loss)(jnp.asarray(item.ts), ys, item.data)
            counted = (item.share > after) & (item.share <= until)
            return jnp.sum(jnp.where(counted, losses, 0.0))

        # What a jump's function holds has no axis of trajectories.
        apart = jax.tree.map(is_array, series)
        if series.jumps is not None and series.jumps.functions:
            apart = eqx.tree_at(lambda item: item.jumps.functions, apart, False)
        arrays, rest = eqx.partition(series, apart)
        arrays = jax.tree.map(lambda leaf: leaf[batch], arrays)
        if len(batch) == 1:
            # Compiles in two thirds of the time.
            return one(eqx.combine(jax.tree.map(lambda leaf: leaf[0], arrays), rest))
        return jnp.sum(jax.vmap(lambda item: one(eqx.combine(item, rest)))(arrays))


def all_rollouts(
    nlp: NLP, penalties: tuple[PriorTerm, ...], stepping: Stepping
) -> tuple[RolloutLoss, tuple[Part, ...]]:
    """The loss of the NLP's data, and all of its trajectories; to be called inside `x64()`.

    `penalties` are terms of the NLP, of weights, unknowns and initial states.
    """
    # Where these stand, one behind the other.
    places = np.append(np.arange(nlp.layout.num_head), nlp.layout.start_columns.ravel())
    penalties = tuple(
        dataclasses.replace(term, at=np.searchsorted(places, np.asarray(term.at)))
        for term in penalties
    )
    function = PointLoss.of(nlp.layout.model, nlp.observe, nlp.settings.loss, nlp.model)
    units = nlp.units[nlp.layout.start_columns[0]]
    series = [Series.of(nlp, group, function) for group in nlp.groups]
    parts = tuple((item, jnp.arange(len(item.members))) for item in series)
    stepping = dataclasses.replace(stepping, unit=units)
    return to_float64(RolloutLoss(function, penalties, units, stepping)), parts


@eqx.filter_jit
def rollout_value(loss: RolloutLoss, parameters: Parameters, problem: tuple[Any, ...]) -> Array:
    """The loss; `problem` holds its other arguments."""
    return loss(parameters, *problem)
