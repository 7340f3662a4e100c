"""transcribe: model, data and grid to an NLP."""

from collections.abc import Callable, Sequence
from typing import Any

from jaxtyping import ArrayLike

from ._constraints import AnyConstraint
from ._data import Trajectory
from ._early_inputs import warn_of_early_inputs
from ._grid import Grids
from ._loss import Loss, squared_error
from ._nlp import NLP
from ._priors import Prior
from ._settings import Settings
from ._transcription import build


Limits = tuple[ArrayLike | None, ArrayLike | None] | None


def transcribe(
    model: Callable[[Any, Any, Any], Any],
    data: Trajectory | Sequence[Trajectory],
    grid: Grids,
    *,
    observe: Callable[..., Any] | None = None,
    num_states: int | None = None,
    loss: Loss = squared_error,
    l2: Any = 1e-3,
    residual_penalty: float = 0.0,
    state_bounds: Limits = None,
    weight_bounds: Any = None,
    weight_scale: Any = None,
    trainable: Any = True,
    constraints: AnyConstraint | Sequence[AnyConstraint] = (),
    priors: Prior | Sequence[Prior] = (),
    state_scale: ArrayLike | None = None,
    collocate_start: bool = False,
    algebraic_bounds: Limits = None,
    algebraic_scale: ArrayLike | None = None,
    state_names: Sequence[str] | None = None,
) -> NLP:
    r"""Turn the training of `model` on `data` into a nonlinear program.

    $$\min_{w, Y} \; \frac{1}{N} \sum_k \sum_i
      \ell\big(h(t_{ki}, y_k(t_{ki})) - \mathrm{obs}_{ki}\big) + \mathtt{l2} \, \|w\|^2$$
    $$\text{subject to} \quad
      \frac{1}{h_e} \sum_j D_{ij} y_{ej} = f(t_{ei}, y_{ei}, args_k; w)$$

    for every trajectory $k$, interval $e$ of width $h_e$ and collocation node $i$; $N$ counts
    the observation times and $y_k(t)$ is the collocation polynomial. With one trajectory, one
    interval of Chebyshev points and data on its nodes this is problem (11) of
    Shapovalova and Tsay (arXiv 2502.15642).

    **Arguments:**

    - `model`: the vector field `f(t, y, args)`, any callable PyTree; `t` is a scalar, `y` and
      the result have shape `(state,)`. Its inexact-array leaves are the weights.
    - `data`: one `jc.Trajectory` or a list of them. The weights are shared; a `jc.Unknown` in
      the `args` of a trajectory is a constant of its own.
    - `grid`: one `jc.Grid` for all trajectories or one for each; it must cover the data, and
      begin at the trajectory's `t0` if there is one, and not behind its first jump. Each jump
      becomes a boundary, doubled: an interval without width.
    - `observe`: what is measured, `h(t, y, args)` or `h(t, y, args, model)` of shape `(obs,)`; the
      first `obs` components of the state if not given. A method, `observe=model.observe`, is
      called on the model being trained, so that the weights it uses are trained too. One with a
      parameter `algebraic` gets the algebraic variables of a `jc.DAE` by that name.
    - `num_states`: the number of components of the state, if larger than that of channels.
    - `loss`: `loss(residual, weights)` of one observation time, both of shape `(obs,)`; or a
      likelihood: `jc.Gaussian`, `jc.StudentT`, or a function `(t, y, observed, args, model)` or
      `(t, y, observed, args)`, or a method of the model with the latter arguments, that returns the
      negative log-likelihood of one observation time, a scalar. `y` is the state, `observed` has
      shape `(obs,)` and NaN where nothing was measured. Replace NaN before it is used, or
      derivatives are NaN too, and take those channels out:

          missing = jnp.isnan(observed)
          error = jnp.where(missing, 0.0, y - jnp.where(missing, 0.0, observed))
          return jnp.sum(jnp.where(missing, 0.0, 0.5 * (error / std) ** 2 + jnp.log(std)))

      `weights` multiply the log-likelihood of a sample; with a function of your own, that of an
      observation time, and a sample of weight zero is one that was not measured. Likelihoods are
      not scaled by the data's magnitude.
    - `l2`: the factor $\lambda$ of the ridge penalty on the weights; `jc.OnNets(...)` for the
      weights of nets alone.
    - `residual_penalty`: the factor $\rho$ of
      $\frac{1}{\sum_k T_k} \sum_k \int \sum_c ((\dot y_c - f_c) \tau / s_c)^2 \, dt$ in
      the objective, the squared residual of the equation along the polynomials, between
      the nodes as well (Nie and Kerrigan, integrated residuals, arXiv 2503.09123); $s_c$
      and $\tau$ are the units of state and time that are described below.
    - `state_bounds`: (lower, upper), scalars or shape `(state,)`; None for no bounds.
    - `weight_bounds`: the same for the weights.
    - `weight_scale`: "linear", "log" or "softplus": what the optimizer varies in the place of the
      weight (then positive), for rates and gains whose magnitude is unknown; "reciprocal" for the
      noise levels of a likelihood; or a factor, the weight's unit. The ridge penalty acts on that
      variable, bounds on the weight.
    - `trainable`: which of the model's inexact-array leaves are weights; True or False, or a
      function of a leaf. The others keep their values.
    - `constraints`: `jc.Constraint`, `jc.StateBounds`, `jc.nonnegative(...)` or `jc.Tie` objects.
    - `priors`: a `jc.Prior` or a list of them, on leaves of the model.
    - `state_scale`: the units in which the optimizer sees the states, scalar or shape `(state,)`.
      If not given: powers of a thousand near each channel's standard deviation, which is 1
      between 0.03 and 30. Time is scaled alike by its span.
    - `collocate_start`: also collocate at each trajectory's first node, as equation (8) prints
      it. This leaves no freedom for the initial state: `y' = a y` then has the solution 0 only.
    - `algebraic_bounds`, `algebraic_scale`: the same as `state_bounds` and `state_scale` for the
      algebraic variables of a `jc.DAE`, scalars or shape `(algebraic,)`; their units, if not given,
      are powers of a thousand near the values that solve the model's equations at the data.
    - `state_names`: what the states are called in tables and pictures; if not given, as the
      channels where these are the first states.

    `l2`, `weight_bounds`, `weight_scale` and `trainable` may differ from leaf to leaf: each takes
    a PyTree prefix of the model, which `jc.leafwise` helps to write.

    **Errors:** `ValueError` naming the argument, for data outside the grid, a model whose
    result has another shape than the state, inconsistent bounds, more equations than variables, a
    `jc.SteadyState` that the model does not determine.
    It warns where a `y0` without `t0` holds at a start before which an input has changed.
    """
    settings = Settings(
        observe=observe,
        num_states=num_states,
        loss=loss,
        l2=l2,
        residual_penalty=residual_penalty,
        state_bounds=state_bounds,
        weight_bounds=weight_bounds,
        weight_scale=weight_scale,
        trainable=trainable,
        constraints=constraints,
        priors=priors,
        state_scale=state_scale,
        collocate_start=collocate_start,
        algebraic_bounds=algebraic_bounds,
        algebraic_scale=algebraic_scale,
        state_names=state_names,
    )
    nlp = transcribe_with(model, data, grid, settings)
    warn_of_early_inputs(nlp.trajectories, nlp.grids)
    return nlp


def transcribe_with(model: Any, data: Any, grid: Grids, settings: Settings) -> NLP:
    """`transcribe` with its options in one object."""
    return NLP.of(build(model, data, grid, settings))


def transcribe_again(
    nlp: NLP, grid: Grids, *, data: Sequence[Trajectory] | None = None, **changes: Any
) -> NLP:
    """The same model and options on another grid, with other data or changed options."""
    data = nlp.trajectories if data is None else data
    return transcribe_with(nlp.model, data, grid, nlp.settings.changed(**changes))
