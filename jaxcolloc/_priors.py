r"""Priors: what is known of constants and initial states before anything was measured."""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Float

from ._callables import explained
from ._check import choice, describe, function, real_numbers
from ._data import Trajectory
from ._likelihoods import is_likelihood


class Prior(eqx.Module):
    r"""A Gaussian prior on leaves of the model, for the argument `priors`.

        priors = jc.Prior(lambda model: model.rate, 0.5, 0.1)
        priors = [jc.Prior(lambda model: model.gain, np.log(2.0), 0.3, scale="log"), ...]

    It adds the negative logarithm of its density to that of the data: with $N$ observation times,

    $$\frac{c}{N} \sum_i \Big(\frac{w_i - \mathtt{mean}_i}{\mathtt{std}_i}\Big)^2$$

    to the objective, where $c = 1/2$ if `loss` is a likelihood. Under a squared error (and other
    losses of residuals) $c = 1$, which is the same where `weights` are `1 / s**2` of the noise's
    standard deviations `s`: how much a prior counts against data depends on their noise, so that
    trajectories without `weights` are refused. The optimum is then the mode of the posterior.

    **Arguments:**

    - `where`: `where(model)` returns a leaf, a part of the model, or a tuple or list of these, as
      in `equinox.tree_at`. All of them must be trained.
    - `mean`, `std`: numbers, or arrays of each leaf's shape; `std` above zero.
    - `scale`: "linear", or "log" if `mean` and `std` are those of the natural logarithm, so that a
      `std` of 0.1 is about 10%. Such a leaf needs a `weight_scale` of positive values, such as
      "log". The density is that of the logarithm, whose mode `exp(mean)` is the value's median.

    **Errors:** `ValueError` for what are no numbers, and a `std` that is not above zero.
    """

    where: Callable[[Any], Any]
    mean: Float[np.ndarray, "..."]
    std: Float[np.ndarray, "..."]
    scale: str = eqx.field(static=True)

    def __init__(self, where: Callable[[Any], Any], mean: Any, std: Any, *, scale: str = "linear"):
        self.where = function("where", where, "where(model)")
        self.mean = real_numbers("mean", mean, "finite numbers")
        if not np.all(np.isfinite(self.mean)):
            raise ValueError(f"`mean` must be finite numbers; got {describe(mean)}.")
        self.std = real_numbers("std", std, "finite numbers above zero")
        if not np.all(np.isfinite(self.std) & (self.std > 0)):
            raise ValueError(f"`std` must be finite numbers above zero; got {describe(std)}.")
        self.scale = choice("scale", scale, ("linear", "log"))

    def leaves(self, model: Any) -> list[int]:
        """The positions of its leaves among those of the model."""
        leaves, treedef = jtu.tree_flatten(model)
        with explained("where", "where(model)"):
            picked = jtu.tree_leaves(self.where(jtu.tree_unflatten(treedef, range(len(leaves)))))
        if not picked or not all(type(leaf) is int for leaf in picked):
            raise ValueError(
                "`priors` must have a `where` that picks leaves or parts of the model; "
                f"got {describe(self.where(model))}."
            )
        return picked


def as_priors(value: Any) -> tuple[Prior, ...]:
    """The option `priors` as a tuple."""
    priors = (value,) if isinstance(value, Prior) else value
    if not isinstance(priors, (list, tuple)) or not all(isinstance(p, Prior) for p in priors):
        raise ValueError(f"`priors` must be a jc.Prior or a list of them; got {describe(value)}.")
    return tuple(priors)


def check_noise_known(loss: Any, priors: Any, trajectories: Sequence[Trajectory]) -> None:
    """Refuse priors where nothing says how exact the data are against which they count."""
    stated = "priors" if as_priors(priors) else ""
    if any(item.y0_prior is not None for item in trajectories):
        stated = stated or "y0_prior"
    if not stated or is_likelihood(loss) or all(item.weighted for item in trajectories):
        return
    raise ValueError(
        f"`{stated}` counts against the data by their noise, which must be known: pass `weights`, "
        "1 / s**2 for a standard deviation s, to each jc.Trajectory, or a likelihood such as "
        "jc.Gaussian as `loss`."
    )


def prior_factor(loss: Any, trajectories: Sequence[Trajectory]) -> float:
    r"""What squares of distances in units of standard deviations are multiplied by.

    $c / N$ in the words of `Prior`.
    """
    num_times = sum(int(item.observed.sum()) for item in trajectories)
    return (0.5 if is_likelihood(loss) else 1.0) / num_times
