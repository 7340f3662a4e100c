"""bootstrap: the spread of an estimate over data that are drawn again."""

import warnings
from typing import Any

import equinox as eqx
import jax
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Float

from ._check import choice, describe, integer, share
from ._comparison import seen_on_paths
from ._data import Trajectory, changed
from ._likelihoods import LocationScale, StudentT
from ._loss import squared_error
from ._solution import Solution, SolveError
from ._solve_batch import solve_batch
from ._trace import RESULTS
from ._uncertainty.measurement import path_scales
from ._uncertainty.names import Where, chosen, named_leaves, theta_values
from ._uncertainty.uncertainty import uncertainty


_KINDS = ("parametric", "trajectories")
# What a trajectory that was not drawn weighs: little enough not to matter, enough for its states
# to be determined.
_NOT_DRAWN = 1e-4


class Bootstrap(eqx.Module):
    """Estimates from data that were drawn again, one for each draw.

    - `solution`: whose bootstrap it is; `kind`: as it was asked for.
    - `zs`: the optima, shape `(draw, variable)`, in the optimizer's units; those of solves that
      failed are left out.
    - `results`: the `jc.RESULTS` of all solves; `num_failed`: how many failed.

    `values`, `stderr` and `interval` choose quantities as `jc.Uncertainty` does.
    """

    solution: Solution
    kind: str = eqx.field(static=True)
    zs: Float[np.ndarray, "draw variable"]
    results: tuple[RESULTS, ...]

    @property
    def num_failed(self) -> int:
        """How many solves failed, and are left out."""
        return len(self.results) - len(self.zs)

    def model(self, draw: int) -> Any:
        """The model of one draw."""
        k = integer("draw", draw, 0)
        if k >= len(self.zs):
            raise ValueError(f"`draw` must be below {len(self.zs)}; got {k}.")
        return self.solution.nlp.model_at(self.zs[k])

    def values(self, where: Where, trajectory: int | None = None) -> Any:
        """The values of some leaves, in their own units, with an axis of draws in front.

        `where` and `trajectory` as in `jc.Uncertainty.stderr`. **Errors:** `ValueError` where
        nothing trained is selected.
        """
        nlp = self.solution.nlp
        found, treedef = chosen(nlp, named_leaves(nlp), where, trajectory)
        units = np.tile(nlp.parts.scale.state, len(nlp.grids))
        units = np.concatenate([np.ones(nlp.layout.num_head), units])
        theta = np.stack([theta_values(nlp, z) for z in self.zs])
        return jtu.tree_unflatten(
            treedef,
            [np.stack([leaf.outward(row, units[leaf.at]) for row in theta[:, leaf.at]])
             for leaf in found],
        )  # fmt: skip

    def stderr(self, where: Where, trajectory: int | None = None) -> Any:
        """The standard deviations of some leaves over the draws."""
        values = self.values(where, trajectory)
        return jtu.tree_map(lambda item: np.std(item, axis=0, ddof=1), values)

    def interval(
        self, where: Where, level: float = 0.95, trajectory: int | None = None
    ) -> tuple[Any, Any]:
        """The lower and the upper ends of intervals of some leaves: quantiles of the draws."""
        share("level", level, below=1.0)
        values = self.values(where, trajectory)
        tail = (1 - level) / 2
        lower, upper = (
            jtu.tree_map(lambda item, at=at: np.quantile(item, at, axis=0), values)
            for at in (tail, 1 - tail)
        )
        return lower, upper

    def __str__(self) -> str:
        most = 12
        lines = [
            f"Bootstrap: {len(self.results)} draws, {self.kind}",
            f"  failed  {self.num_failed}" + (", left out" if self.num_failed else ""),
            f"  {'':24}  {'value':>12}  {'stderr':>12}  {'lower':>12}  {'upper':>12}",
        ]
        nlp = self.solution.nlp
        names = [
            name for leaf in named_leaves(nlp) for name, net in zip(
                leaf.entries, leaf.of_net, strict=True
            ) if not net
        ]  # fmt: skip
        own = eqx.tree_at(lambda b: b.zs, self, np.asarray(self.solution.z, np.float64)[None])
        for name in names[:most]:
            numbers = (own.values(name)[0], self.stderr(name), *self.interval(name))
            lines.append(f"  {name:24}  " + "  ".join(f"{float(x):12.5g}" for x in numbers))
        if len(names) > most:
            lines.append(f"  and {len(names) - most} others")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"Bootstrap({len(self.results)} draws, {self.kind}, {self.num_failed} failed)"


def bootstrap(
    sol: Solution, samples: int = 200, *, key: Any, kind: str = "parametric"
) -> Bootstrap:
    r"""Fit data that are drawn again, many times: how much the estimates vary.

        b = jc.bootstrap(sol, key=jax.random.key(0))
        print(b)
        b.interval(lambda m: m.rate, level=0.95)

    It assumes less than `jc.uncertainty`, neither that the problem is nearly linear nor, by
    trajectories, how the noise is distributed, and costs `samples` solves, each started from `sol`,
    for which nothing is compiled.

    **Arguments:**

    - `sol`: a solution at an optimum, from `jc.fit` or `jc.solve`.
    - `samples`: how many times data are drawn.
    - `key`: the PRNG key of the draws.
    - `kind`: "parametric": what would be measured on the fitted paths plus noise, Gaussian with the
      variance $\hat\sigma^2 / w$ under `jc.squared_error`, where $w$ are the weights and
      $\hat\sigma$ is that of `jc.uncertainty`; from the loss's own distribution, as fitted, for
      `jc.Gaussian` and `jc.StudentT`. What was not measured stays so. "trajectories": as many
      trajectories as there are, drawn with replacement, by weights that count how often each was
      drawn; this sees whatever differs from one experiment to the next. What belongs to one
      trajectory alone, its initial state or unknowns, then varies only as far as the shared
      weights take it along.

    Both keep priors, and the ridge penalty, as they are. Solves that fail are left out, with a
    warning; they are those where the data say least, so intervals are then too narrow.

    **Errors:** `ValueError` for a solution that is no optimum, for a loss that nothing can be drawn
    from, for fewer than two trajectories to draw from; `jc.SolveError` where fewer than two solves
    succeed.

    Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapters 6 and 9.
    """
    count = integer("samples", samples, 2)
    choice("kind", kind, _KINDS)
    rng = _generator(key)
    # Checks the solution too.
    sigma = uncertainty(sol).noise.sigma
    draw = _Trajectories(sol) if kind == "trajectories" else _Parametric(sol, sigma)
    together = max(sol.solver.together(count), 1)
    zs, results, last = [], [], sol
    for first in range(0, count, together):
        drawn = [draw(rng) for _ in range(min(together, count - first))]
        nlps = [sol.nlp.with_data(data) for data in drawn]
        for found in solve_batch(nlps, sol.solver, [sol] * len(nlps), throw=False):
            results.append(found.result)
            if found.result.ok and np.all(np.isfinite(found.z)):
                zs.append(np.asarray(found.z, np.float64))
            else:
                last = found
    failed = count - len(zs)
    if len(zs) < 2:
        raise SolveError(last)
    if failed:
        warnings.warn(
            f"{failed} of {count} solves of the bootstrap failed and are left out.", stacklevel=2
        )
    return Bootstrap(sol, kind, np.stack(zs), tuple(results))


def _generator(key: Any) -> np.random.Generator:
    """Random numbers from a PRNG key, by NumPy: JAX would compile a program for every shape."""
    try:
        words = np.asarray(jax.random.key_data(key))
    except (TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"`key` must be a PRNG key, such as jax.random.key(0); got {describe(key)}."
        ) from error
    return np.random.default_rng(words.ravel().tolist())


class _Trajectories:
    """Trajectories drawn with replacement."""

    def __init__(self, sol: Solution):
        self.items = sol.nlp.trajectories
        if len(self.items) < 2:
            raise ValueError(
                '`kind` can be "trajectories" only where there are at least two of them; '
                f"got {len(self.items)}."
            )

    def __call__(self, rng: np.random.Generator) -> list[Trajectory]:
        number = len(self.items)
        times = np.bincount(rng.integers(0, number, number), minlength=number)
        factor = np.where(times > 0, times, _NOT_DRAWN)
        return [
            changed(item, weights=share * item.weights)
            for item, share in zip(self.items, factor, strict=True)
        ]


class _Parametric:
    """Noise drawn again about the fitted paths."""

    def __init__(self, sol: Solution, sigma: float | None):
        nlp = sol.nlp
        loss = nlp.settings.loss
        self.items, self.loss = nlp.trajectories, loss
        self.seen = seen_on_paths(sol)
        if isinstance(loss, LocationScale):
            self.levels = [path_scales(sol, k, seen) for k, seen in enumerate(self.seen)]
        elif loss is squared_error:
            assert sigma is not None
            if not np.isfinite(sigma):
                raise ValueError(
                    "`sol` must leave residuals to estimate the noise from: there are no more "
                    "measured values than parameters."
                )
            self.levels = [np.full(item.ys.shape, sigma) for item in self.items]
        else:
            raise ValueError(
                '`kind` must be "trajectories" for this loss, from which no noise can be drawn; '
                "jc.squared_error, jc.Gaussian and jc.StudentT have one."
            )

    def __call__(self, rng: np.random.Generator) -> list[Trajectory]:
        return [self._one(k, rng) for k in range(len(self.items))]

    def _one(self, k: int, rng: np.random.Generator) -> Trajectory:
        item, seen = self.items[k], self.seen[k]
        weights = np.where(item.weights > 0, item.weights, np.inf)
        if isinstance(self.loss, StudentT):
            noise = rng.standard_t(self.loss.df, size=seen.shape)
        else:
            noise = rng.standard_normal(seen.shape)
        noise = noise * self.levels[k] / np.sqrt(weights)
        logged = isinstance(self.loss, LocationScale) and self.loss.scale == "log"
        ys = seen * np.exp(noise) if logged else seen + noise
        return changed(item, ys=np.where(item.measured, ys, np.nan), weights=item.weights)
