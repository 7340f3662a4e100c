"""Uncertainty: what `jc.uncertainty` returns."""

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Bool, Float

from .._check import choice, flag, float_array, integer, real_numbers, share
from .._comparison import state_spreads
from .._jump_tables import SeriesJumps
from .._jumps import known_jumps
from .._nlp import NLP
from .._solution import Solution
from .._transform import Reciprocal
from . import identifiability, printing, sensitivities
from .along import Along, Factorised
from .bands import Band
from .gaussian import Variance
from .measurement import Measurement, measurement
from .names import Named, Where, chosen, named_leaves, theta_values
from .noise import Noise
from .parameters import Parameters, parameters_of
from .predictions import Prediction


_OF = ("states", "observations")


class Uncertainty(eqx.Module):
    """What the data say of a fit: standard errors, intervals, bands, and what they leave free.

    - `solution`: whose it is, `sol` itself or the same optimum found more closely; `curvature`: as
      it was asked for.
    - `noise`: `sigma`, the standard deviation of a measurement of weight one (None where the loss
      is a likelihood, one where priors count against `weights`), its degrees of `freedom`,
      `num_values` that were measured and the effective `num_parameters`.
    - `sentences`: what the data leave free, what is correlated and what is sloppy, as text.
    - `spectrum`: the eigenvalues of the reduced Hessian.

    `print(u)` shows the constants' estimates and these sentences; `to_pandas()` has all of them.
    Whatever the data leave free has infinite standard errors.
    """

    solution: Solution
    curvature: str = eqx.field(static=True)
    noise: Noise
    factorised: Factorised
    held: Bool[np.ndarray, " parameter"]

    @property
    def _nlp(self) -> NLP:
        return self.solution.nlp

    @functools.cached_property
    def leaves(self) -> list[Named]:
        """The leaves that are trained, unknowns and initial states, with their names."""
        return named_leaves(self._nlp)

    @functools.cached_property
    def parameters(self) -> Parameters:
        """All of their entries: names, values, sizes."""
        return parameters_of(self._nlp, self.leaves, np.asarray(self.solution.z, np.float64))

    @functools.cached_property
    def _all(self) -> Along:
        """All parameters in independent coordinates, on the optimizer's scale."""
        starts, head = self.factorised.starts(), self.factorised.head
        none = np.zeros((len(head.kept), starts.own.shape[1]))
        return Along(
            np.concatenate([head.kept, starts.kept]),
            np.concatenate([head.free, starts.free]),
            np.concatenate([none, starts.own]),
            np.concatenate([none, starts.own_free]),
        )

    def _scaled(self, variance: np.ndarray) -> np.ndarray:
        """A variance for a noise of one as that for the noise that there is."""
        with np.errstate(invalid="ignore"):
            return np.where(variance == 0, 0.0, variance * self.noise.variance)

    @functools.cached_property
    def _deviations(self) -> Float[np.ndarray, " parameter"]:
        """The standard error of every parameter on the optimizer's scale."""
        return np.asarray(np.sqrt(self._scaled(self._all.variance().value())))

    def _chosen(self, where: Where, trajectory: int | None) -> tuple[list[Named], Any]:
        return chosen(self._nlp, self.leaves, where, trajectory)

    def stderr(self, where: Where, trajectory: int | None = None) -> Any:
        r"""The standard errors of some leaves, in their own units and shapes.

        **Arguments:**

        - `where`: a function of the model that selects trained leaves, as in `equinox.tree_at`:
          `lambda m: m.rate`, or `lambda m: (m.rate, m.gain)`; or a name as `print(u)` shows it,
          such as `".rate"`, `"args[0]['feed']"` or `"y0[0]"`, an initial state.
        - `trajectory`: with it `where` is a function of that trajectory's `args` and selects a
          `jc.Unknown`.

        On another scale than "linear" the error is that on the scale times the derivative.
        **Errors:** `ValueError` where nothing trained is selected.
        """
        found, treedef = self._chosen(where, trajectory)
        rate = np.abs(self.parameters.rate)
        return jtu.tree_unflatten(
            treedef, [(self._deviations * rate)[leaf.at].reshape(leaf.shape) for leaf in found]
        )

    def interval(
        self, where: Where, level: float = 0.95, trajectory: int | None = None
    ) -> tuple[Any, Any]:
        """The lower and the upper ends of intervals of some leaves, as in `stderr`.

        Each contains the true value with probability `level`, if the model is true and all is
        Gaussian. On the scales "log" and "softplus" the interval is symmetric there, so that it
        stays positive; on "reciprocal" it is symmetric in the logarithm.
        """
        share("level", level, below=1.0)
        found, treedef = self._chosen(where, trajectory)
        ends = [self._ends(leaf, self.noise.quantile(level)) for leaf in found]
        lower, upper = (jtu.tree_unflatten(treedef, list(side)) for side in zip(*ends, strict=True))
        return lower, upper

    def _ends(self, leaf: Named, quantile: float) -> tuple[np.ndarray, np.ndarray]:
        raw = self._raw[leaf.at]
        units = self.parameters.rate[leaf.at]
        half = quantile * self._deviations[leaf.at]
        with np.errstate(over="ignore"):
            if isinstance(leaf.scale, Reciprocal):
                # Its own scale ends at infinity; the logarithm's derivative by it is the value.
                value = leaf.outward(raw, units)
                factor = np.exp(half.reshape(leaf.shape) * value)
                return value / factor, value * factor
            return leaf.outward(raw - half, units), leaf.outward(raw + half, units)

    @functools.cached_property
    def _raw(self) -> Float[np.ndarray, " parameter"]:
        return theta_values(self._nlp, np.asarray(self.solution.z, np.float64))

    def covariance(self, *where: Where, trajectory: int | None = None) -> Any:
        """The joint covariance of some leaves, their entries one behind another.

        `where` as in `stderr`, several of them; a square array. What is free has infinite
        variances, and covariances that are NaN.
        """
        found = [leaf for item in where for leaf in self._chosen(item, trajectory)[0]]
        if not found:
            raise ValueError("`where` must select something; got nothing.")
        at = np.concatenate([leaf.at for leaf in found])
        return self._covariance(at)

    def _covariance(self, at: np.ndarray) -> np.ndarray:
        """The covariance of some parameters in the caller's units."""
        rate = self.parameters.rate[at]
        kept, _, own, _ = (part[at] * rate[:, None] for part in self._all)
        square = self._scaled(kept @ kept.T + own @ own.T)
        free = np.isinf(self._deviations[at])
        square[free[:, None] | free] = np.nan
        square[free, free] = np.inf
        return square

    def bands(
        self,
        ts: Any = None,
        trajectory: int = 0,
        *,
        of: str = "states",
        noise: bool = False,
        level: float = 0.95,
    ) -> Band:
        """The band of the path of one trajectory, or of what is measured on it.

        **Arguments:**

        - `ts`: times within its grid, shape `(time,)`; the grid's nodes if not given.
        - `trajectory`: its position.
        - `of`: "states", or "observations".
        - `noise`: whether the band is to contain new measurements, and not only what they are
          measurements of. Their errors are those of `jc.Gaussian` and `jc.StudentT` at each time,
          with noise levels as they were trained; for a likelihood of your own the mean square of
          the residuals stands for them, and else the noise at the mean weight of their channel.
        - `level`: the probability of each interval.

        Returns a `Band` with arrays of shape `(time, state)` or `(time, obs)`.
        """
        k = self._position(trajectory)
        grid = self._nlp.grids[k]
        times = grid.times if ts is None else float_array("ts", ts, 1, "(time,)")
        if not (np.all(np.isfinite(times)) and grid.covers(times)):
            raise ValueError(
                f"`ts` must lie on the trajectory's grid [{grid.boundaries[0]:g}, "
                f"{grid.boundaries[-1]:g}]; `predict` goes beyond it."
            )
        times = np.clip(times, grid.boundaries[0], grid.boundaries[-1])
        states = grid.interpolate(self.solution.paths[k].states, times)
        along = self.factorised.along(k, times).times(self._nlp.parts.scale.state)
        prediction = Prediction(states, along)
        local = sensitivities.local_head(self._nlp, k)
        args = sensitivities.local_args(self._nlp, k)
        return self._band(times, prediction, local, args, of, noise, level)

    def _position(self, trajectory: Any) -> int:
        """The position of a trajectory, once it is checked."""
        k = integer("trajectory", trajectory, 0)
        if k >= len(self._nlp.grids):
            raise ValueError(f"`trajectory` must be below {len(self._nlp.grids)}; got {k}.")
        return k

    def _band(
        self,
        times: np.ndarray,
        prediction: Prediction,
        local: np.ndarray,
        args: Any,
        of: str,
        noise: bool,
        level: float,
    ) -> Band:
        choice("of", of, _OF)
        flag("noise", noise)
        share("level", level, below=1.0)
        if of == "states" and noise:
            raise ValueError('`noise` is that of measurements: pass `of="observations"`.')
        found = prediction
        if of == "observations":
            found = found.seen(self._nlp, self.factorised.head, self._raw, local, args, times)
        variance = self._scaled(found.along.variance().value())
        quantile = self.noise.quantile(level)
        if noise:
            errors = self._measurement(times, prediction.value, found.value, local, args)
            return errors.band(times, found.value, variance, quantile, level)
        return Band.of(times, found.value, variance, quantile, level)

    def _measurement(
        self, ts: np.ndarray, states: np.ndarray, seen: np.ndarray, local: np.ndarray, args: Any
    ) -> Measurement:
        """The errors of new measurements of states that are `seen` as this."""
        return measurement(self.solution, self.noise, self._raw[local], args, ts, states, seen)

    def predict(
        self,
        ts: Any,
        y0: Any = None,
        args: Any = None,
        *,
        jumps: Any = None,
        y0_std: Any = None,
        trajectory: int | None = None,
        of: str = "states",
        noise: bool = False,
        level: float = 0.95,
        samples: int = 0,
        key: Any = None,
    ) -> Band:
        """The band of a rollout from other starts, on other inputs, or beyond the data.

        By the delta method: states and their derivatives by the weights are integrated together.

        **Arguments:**

        - `ts`: times, shape `(time,)`, never decreasing; the first is that of the start.
        - `y0`: the state there, shape `(state,)`, taken for known but for `y0_std`. If not given,
          the state of the fitted path of `trajectory` at `ts[0]`, with its uncertainty.
        - `args`: the model's `args`; those of `trajectory`, with its unknowns, if not given.
        - `jumps`: `jc.Jump` objects whose amounts are known; if not given, those of `trajectory`
          from `ts[0]` on, where its `args` are taken as well. The start is the state before one at
          that time.
        - `y0_std`: the standard errors of `y0`, a number or shape `(state,)`, independent of all
          else.
        - `trajectory`: the one that the start and `args` are taken from; 0 where it is needed.
        - `of`, `noise`, `level`: as in `bands`.
        - `samples`: with a number above zero, the band is that of so many rollouts whose weights
          and starts are drawn from the Gaussian: its quantiles, and their standard deviation. It
          sees what the delta method does not, that the model is not linear in its weights.
        - `key`: the PRNG key of these draws.

        **Errors:** `ValueError` for wrong shapes and times, and for `samples` without a `key`.
        """
        times = float_array("ts", ts, 1, "(time,)")
        if not len(times) or not np.all(np.isfinite(times)) or np.any(np.diff(times) < 0):
            raise ValueError("`ts` must hold at least one time, all finite, never decreasing.")
        integer("samples", samples, 0)
        if samples and key is None:
            raise ValueError("`key` must be a PRNG key where `samples` are drawn.")
        k = 0 if trajectory is None else self._position(trajectory)
        start, along = self._start(times[0], y0, y0_std, k)
        changes: Any = () if jumps is None else known_jumps(jumps)
        known = None
        if args is None and (y0 is None or trajectory is not None):
            local = sensitivities.local_head(self._nlp, k)
            inner = sensitivities.local_args(self._nlp, k)
            known = self._nlp.trajectories[k].args
            changes = self._nlp.trajectories[k].jumps if jumps is None else changes
        else:
            local = np.arange(self._nlp.num_weights)
            inner = sensitivities.given_args(args)
        table = SeriesJumps.of([(known, changes)], self._nlp.num_states, self._nlp.model)
        spread = np.max(state_spreads(self.solution), axis=0)
        spread = np.maximum(spread, 1e-3 * np.abs(start))
        prediction = Prediction.rolled(
            self._nlp, self.factorised.head, self._raw, local, inner, start, along, times, spread,
            table,
        )  # fmt: skip
        band = self._band(times, prediction, local, inner, of, noise, level)
        if not samples:
            return band
        draws = Prediction.drawn(
            self._nlp, self.factorised.head, self._raw, local, inner, start, along, times, spread,
            table, integer("samples", samples, 1), key, np.sqrt(self.noise.variance),
            of == "observations",
        )  # fmt: skip
        if noise:
            errors = self._measurement(times, prediction.value, band.value, local, inner)
            draws = errors.drawn(draws, jax.random.fold_in(key, 1))
        return _sampled(band, draws)

    def _start(
        self, t: float, y0: Any, y0_std: Any, k: int
    ) -> tuple[Float[np.ndarray, " state"], Along]:
        """Where a prediction starts, in the caller's units."""
        d, head = self._nlp.num_states, self.factorised.head
        if y0 is None:
            if y0_std is not None:
                raise ValueError("`y0_std` belongs to `y0`: pass both, or neither.")
            grid = self._nlp.grids[k]
            if not grid.covers(np.array([t])):
                raise ValueError(
                    f"`ts` must begin on the grid of trajectory {k}, [{grid.boundaries[0]:g}, "
                    f"{grid.boundaries[-1]:g}], where no `y0` is given; got {t:g}."
                )
            at = np.clip([t], grid.boundaries[0], grid.boundaries[-1])
            along = self.factorised.along(k, at).times(self._nlp.parts.scale.state)
            state = grid.interpolate(self.solution.paths[k].states, at)[0]
            return state, Along(*(part[0] for part in along))
        state = float_array("y0", y0, 1, "(state,)")
        if state.shape != (d,) or not np.all(np.isfinite(state)):
            raise ValueError(f"`y0` must be finite, of shape (state,) = ({d},); got {state}.")
        wanted = f"numbers at least zero, one or shape (state,) = ({d},)"
        std = real_numbers("y0_std", 0.0 if y0_std is None else y0_std, wanted)
        if std.shape not in ((), (d,)) or not np.all(std >= 0):
            raise ValueError(f"`y0_std` must be {wanted}; got {std}.")
        # Coordinates are those of a noise of one.
        sigma = np.sqrt(self.noise.variance)
        own = np.diag(np.broadcast_to(std, (d,)) / (sigma if sigma > 0 else 1.0))
        none = np.zeros((d, head.kept.shape[1])), np.zeros((d, head.free.shape[1]))
        return state, Along(*none, own, np.zeros((d, d)))

    def function_band(
        self, f: Callable[[Any, Any], Any], points: Any, *, level: float = 0.95
    ) -> Band:
        """The band of a function of the model at some points, such as of a net inside it.

            u.function_band(lambda m, x: m.net(x), xs)

        **Arguments:**

        - `f`: `f(model, point)`, a JAX function that returns a number or an array.
        - `points`: an array whose first axis is that of the points.
        - `level`: the probability of each interval.

        The weights of a net are not known one by one, but what they do where data are is; a ridge
        narrows the band where they are not. Returns a `Band` of shape `(point, ...)`.
        **Errors:** `ValueError` naming `f` where it cannot be evaluated.
        """
        share("level", level, below=1.0)
        where = real_numbers("points", points, "an array with an axis of points first")
        if where.ndim == 0 or not len(where):
            raise ValueError("`points` must have an axis of points first, with at least one.")
        count = self._nlp.num_weights
        w = self._raw[:count]
        value, slope = sensitivities.of_model(self._nlp, w, f, where)
        head = self.factorised.head
        kept, free = (((slope @ part[:count]) ** 2).sum(axis=-1) for part in (head.kept, head.free))
        variance = self._scaled(Variance(kept, free).value())
        return Band.of(where, value, variance, self.noise.quantile(level), level)

    @functools.cached_property
    def spectrum(self) -> Float[np.ndarray, " parameter"]:
        """The eigenvalues of the reduced Hessian of weights and unknowns, ascending.

        In units of the parameters' sizes: the inverse square of an eigenvalue's root is the
        relative error along its direction. Zero for free directions; what is held has none.
        """
        head = self.factorised.head
        size = self.parameters.size[: len(head.kept)]
        singular = np.linalg.svd(head.kept / size[:, None], compute_uv=False)
        singular = np.sqrt(self.noise.variance) * singular[: head.kept.shape[1]]
        with np.errstate(divide="ignore"):
            return np.concatenate([np.zeros(head.num_free), np.sort(1 / singular**2)])

    @functools.cached_property
    def correlations(self) -> list[tuple[str, str, float]]:
        """Pairs of constants, unknowns and initial states whose correlation is above 0.99 in size.

        Each with its correlation, the largest first; weights of nets are left out.
        """
        at = self._constants
        return identifiability.correlated(
            [self.parameters.names[k] for k in at], self._covariance(at)
        )

    @property
    def _constants(self) -> np.ndarray:
        """The parameters that are no weights of nets and not held."""
        return np.flatnonzero(~self.parameters.of_net & ~self.held)

    @functools.cached_property
    def sentences(self) -> tuple[str, ...]:
        """What the data leave free, what is correlated and what is sloppy; empty if all is well."""
        return printing.sentences(self)

    def to_pandas(self) -> Any:
        """The table of estimates: name, value, stderr, lower, upper (95%), note.

        One row for every constant, unknown and initial state, and for every weight of nets.
        """
        import pandas as pd

        columns = ("name", "value", "stderr", "lower", "upper", "note")
        return pd.DataFrame(printing.rows(self, range(len(self.parameters.names))), columns=columns)

    def __str__(self) -> str:
        return printing.screen(self)

    def __repr__(self) -> str:
        return f"Uncertainty({len(self.held)} parameters, {self.curvature} curvature)"


def _sampled(band: Band, draws: np.ndarray) -> Band:
    """The band of rollouts with drawn weights; infinite where the data leave a value free."""
    tail = (1 - band.level) / 2
    lower, upper = np.quantile(draws, [tail, 1 - tail], axis=0)
    free = np.isinf(band.stderr)
    return Band(
        band.at,
        band.value,
        np.where(free, np.inf, draws.std(axis=0)),
        np.where(free, -np.inf, lower),
        np.where(free, np.inf, upper),
        band.level,
    )
