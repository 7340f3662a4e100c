"""uncertainty: from a solution to what the data say about it."""

import numpy as np

from .._check import choice
from .._interior_point import InteriorPoint
from .._likelihoods import has_information
from .._solution import Solution, check_solution
from . import structured
from .along import Factorised
from .closer import closer
from .names import theta_values
from .noise import influence, is_profiled, noise_of, precision_factor
from .optimum import Optimum
from .predictions import Prediction
from .result import Uncertainty
from .sensitivities import local_args, local_head
from .sparse import Sparse
from .structured import NotConvex, Structured


def uncertainty(sol: Solution, *, curvature: str = "exact") -> Uncertainty:
    r"""How well the data determine the model, the unknowns, the initial states and the path.

        u = jc.uncertainty(sol)
        print(u)
        u.stderr(lambda m: m.rate)
        u.interval(lambda m: m.rate, level=0.95)
        bands = u.bands(ts)

    The negative log-posterior is taken for its second-order expansion at the optimum, so that all
    is Gaussian. The covariance is the block of the variables in the inverse of the KKT matrix,

    $$\mathrm{Cov} = P^{-1} - P^{-1} A^T (A P^{-1} A^T)^{-1} A P^{-1}, \qquad
      P = c \, \nabla^2 L, \quad c = \frac{N}{2 \hat\sigma^2} \text{ or } N,$$

    written here for a $P$ that has an inverse, where $L$ is the Lagrangian, $A$ the Jacobian of the
    model's equations and of the active constraints, and $N$ the number of observation times. Under
    `jc.squared_error` measurements with weight $w$ have the variance $\sigma^2 / w$ with one
    unknown $\sigma$, estimated as $\hat\sigma^2 = \sum w r^2 / (n - p)$ from $n$ measured values
    and $p$ effective parameters, and intervals are those of Student's t; so are those of other
    losses of residuals, with the loss's derivatives for residuals. A likelihood, such as
    `jc.Gaussian`, knows the noise, and so do `weights` where there are priors: intervals are then
    normal ones.

    A ridge acts as a prior: a Gaussian about zero with the variance $\sigma^2 / (N \mathtt{l2})$
    (of unknowns: about their start), or $1 / (2 N \mathtt{l2})$ under a likelihood; `jc.Prior` and
    `y0_prior` count as they are stated. Where the data
    say little, this is what intervals say; with `l2=0` nothing is assumed. What neither data nor
    prior determine has infinite standard errors; `print(u)` names it. A likelihood of your own has
    no Gauss-Newton Hessian to tell what is free from what is badly known: there, directions that
    are known some 600 times worse than the best one count as free. Variables at active bounds are
    held: their error is zero.

    It costs a few iterations of `jc.InteriorPoint`, and one or two more where a second Hessian must
    say what is free. Where the exact curvature is negative in some direction, `sol` is solved on
    to a tolerance of 1e-9: if that leads to the same optimum, it takes the place of `sol` in what
    is returned. If not, the point is a saddle, or flat, and what it leaves open is infinite.

    **Arguments:**

    - `sol`: a solution at an optimum, from `jc.fit` or `jc.solve`.
    - `curvature`: "exact", or "gauss_newton", which leaves out the curvature of equations and
      observations: the same where the residuals are small, and never negative.

    **Errors:** `ValueError` for a solution that is no optimum, has no multipliers (after
    `jc.fine_tune` and `jc.fit_admm`) or no NLP (from a file that could not hold it), and where the
    curvature is negative, so that the point is no minimum.

    Pawitan, "In All Likelihood" (2001), chapter 9; Lopez-Negrete and Biegler, "A moving horizon
    estimator for processes with multi-rate measurements" (J. Process Control 22, 2012), for the
    covariance from the KKT matrix.
    """
    check_solution("sol", sol)
    choice("curvature", curvature, ("exact", "gauss_newton"))
    _check_optimum(sol)
    nlp = sol.nlp
    if curvature == "gauss_newton" and not has_information(nlp.settings.loss):
        raise ValueError(
            '`curvature` must be "exact" where `loss` is a likelihood of your own, whose '
            "Gauss-Newton Hessian is not known; `jc.Gaussian` and `jc.StudentT` have one."
        )
    sol, optimum, factorised = _judged(sol, curvature == "gauss_newton")
    noise = noise_of(sol, _num_parameters(sol, optimum, factorised))
    return Uncertainty(
        solution=sol,
        curvature=curvature,
        noise=noise,
        factorised=factorised,
        held=np.concatenate(
            [optimum.held[: nlp.layout.num_head], optimum.held[optimum.starts].ravel()]
        ),
    )


def _check_optimum(sol: Solution) -> None:
    if sol.problem is None:
        # Raises, and says what to do.
        _ = sol.nlp
    if sol.multipliers is None:
        raise ValueError(
            "`sol` must hold multipliers, which solutions of jc.fine_tune and jc.fit_admm do not: "
            "solve from it, `sol = jc.solve(sol.nlp, jc.Ipopt(), sol)`."
        )
    if not sol.result.ok:
        raise ValueError(
            f"`sol` must be at an optimum; this one ended with {sol.result!r}. Solve on from it, "
            "`sol = jc.solve(sol.nlp, jc.Ipopt(), sol)`."
        )


def _judged(sol: Solution, gauss_newton: bool) -> tuple[Solution, Optimum, Factorised]:
    """A solution and its factorised optimum; a closer one where the curvature asks for it."""
    factor = precision_factor(sol.nlp)
    optimum = Optimum.of(sol, factor)
    factorised = _factorised(optimum, gauss_newton)
    if factorised is not None and not factorised.head.bent:
        return sol, optimum, factorised
    num_kept = 0 if factorised is None else factorised.num_kept
    found = closer(sol, factor, noise_of(sol, num_kept).variance)
    if found is not None:
        other = Optimum.of(found, factor)
        again = _factorised(other, gauss_newton)
        if again is not None:
            return found, other, again
    if factorised is None:
        raise ValueError(
            "`sol` is no minimum: the curvature in its initial states is not positive, or not "
            'finite. Solve with a smaller `tol`, or try `curvature="gauss_newton"`.'
        )
    return sol, optimum, factorised


def _factorised(optimum: Optimum, gauss_newton: bool) -> Factorised | None:
    """By the structure where the problem has it and keeps it at the optimum, else sparse.

    None where the curvature in the initial states is not positive.
    """
    try:
        if InteriorPoint.takes(optimum.nlp) and structured.takes(optimum):
            return Structured(optimum, gauss_newton)
        return Sparse(optimum, gauss_newton)
    except NotConvex:
        return None


def _num_parameters(sol: Solution, optimum: Optimum, factorised: Factorised) -> float:
    r"""How many parameters the data determine, in effect.

    Where nothing is penalised, all that are not free; else the sum of the leverages
    $\partial \hat y_i / \partial y_i$, the share that each measurement has in its own prediction.
    """
    nlp = optimum.nlp
    penalised = any(np.any(np.asarray(item.factor) > 0) for item in nlp.compiled.host.quadratics)
    if not (penalised and is_profiled(nlp)):
        return float(factorised.num_kept)
    total = 0.0
    for k, item in enumerate(nlp.trajectories):
        along = factorised.along(k, item.ts).times(nlp.parts.scale.state)
        states = nlp.grids[k].interpolate(sol.paths[k].states, item.ts)
        local, args = local_head(nlp, k), local_args(nlp, k)
        seen = Prediction(states, along).seen(
            nlp, factorised.head, theta_values(nlp, optimum.z), local, args, item.ts
        )
        weights = np.where(item.measured, item.weights, 0.0)
        miss = np.where(weights > 0, seen.value - item.ys, 0.0)
        curvature = influence(nlp.settings.loss, miss, weights)[1]
        total += float((curvature * seen.along.variance().kept).sum())
    return min(total, float(factorised.num_kept))
