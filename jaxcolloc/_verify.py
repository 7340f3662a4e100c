"""verify: a fit judged by its data, by rollouts, between its nodes and by how errors grow."""

import warnings

import numpy as np

from ._comparison import Comparison, compare, poor_paths
from ._guess import positive_entries, scaled_entries, start_head
from ._hints import hints
from ._index import regularity
from ._intervals import IntervalErrors, interval_errors
from ._names import which
from ._nlp import NLP
from ._noise import noise_levels
from ._rollout import END
from ._smooth import channel_spread
from ._solution import Solution, check_solution
from ._transform import Reciprocal
from ._verification import VERDICT, Verification, rms


# A perturbation that grows by this much makes a rollout meaningless whatever the grid.
_UNSTABLE = 1e3
# Errors of the intervals, in spreads, that a grid should not have.
_COARSE = 0.01
# Noise below this share of a channel's spread is not seen.
_VISIBLE = 1e-3
# A violation of what was stated, in the optimizer's units, that is none of rounding.
_VIOLATED = 1e-3
# A weight this close to its bound lies at it, as a share of the range between its bounds, or of its
# size; on a logarithmic scale the same as a factor.
_AT_BOUND, _AT_BOUND_LOG = 1e-4, 1e-2
# A positive weight that came down by this factor from its start has gone to zero.
_VANISHED = 1e-8


def verify(sol: Solution) -> Verification:
    r"""Judge a fit by its data and by what its model does, not by its collocation states.

    The data: in every channel the residuals of the fitted path are compared with the noise of the
    samples, estimated without the model (from how well neighbours in time predict a sample), and
    tested for autocorrelation. The path is a poor fit where it leaves more than 1% of a channel's
    variance and residuals of more than twice the noise, or autocorrelated ones (half of the
    variance, where samples are too few for an estimate). With a loss that is not the squared error
    up to 20% of the samples may be wild.

    The model: every trajectory is integrated from its fitted start (by an explicit method of
    Tsitouras, by the Rosenbrock method Rodas5P where that fails; steps end at the samples of inputs
    and at the grid's boundaries, tolerances are relative to each state). The rollout follows the
    path if, root mean square, it stays within 10% of each state's spread, and in each channel
    within half the noise, but at least 5% and at most 25% of the channel's spread. Every interval
    is integrated for itself from the path, together with its sensitivity
    $\Phi_e = \partial y(t_{e+1}) / \partial y(t_e)$, which tells a grid that is too coarse (the
    intervals' own errors are large) from dynamics that no grid would follow (the products of
    $\Phi_e$ are).

    The problem: the solve ended well, stated bounds and constraints hold on the path, there are
    weights, and whether some lie at their bounds.

    **Errors:** `ValueError` for what is no solution.
    """
    check_solution("sol", sol)
    noise = noise_levels(sol.nlp.trajectories)
    rows = compare(sol, noise)
    inner = [
        interval_errors(sol.model, path, args, row.spread, sol.changes(k))
        for k, (path, args, row) in enumerate(zip(sol.paths, sol.args, rows, strict=True))
    ]
    causes, notes = _causes(sol, rows, inner, noise)
    misfit = np.array([[rms(item) for item in row.residuals.misses] for row in rows])
    visible = np.maximum(noise, _VISIBLE * channel_spread(sol.nlp.trajectories))
    return Verification(
        causes=causes,
        notes=notes,
        follows=np.array([row.follows for row in rows]),
        rollouts=tuple(row.rollout for row in rows),
        path_explained=np.array([row.path_explained for row in rows]),
        rollout_explained=np.array([row.rollout_explained for row in rows]),
        noise=noise,
        misfit=misfit / visible,
        path_rmse=np.array([row.path_rmse for row in rows]),
        rollout_rmse=np.array([row.rollout_rmse for row in rows]),
        departure=np.array([row.departure for row in rows]),
        distance=np.array([np.max(row.distances) for row in rows]),
        interval_errors=tuple(item.errors for item in inner),
        residuals=tuple(item.residuals for item in inner),
        growth=np.array([item.growth for item in inner]),
        names=tuple(which(item, k) for k, item in enumerate(sol.nlp.trajectories)),
    )


def warn_unless_verified(sol: Solution) -> None:
    """Warn the caller of the function that calls this where the verdict of `sol` is not good."""
    assert sol.verification is not None
    if not sol.verification.verdict.ok:
        warnings.warn(f"The fit is not verified: {sol.verification.summary}", stacklevel=3)


def _causes(
    sol: Solution,
    rows: list[Comparison],
    inner: list[IntervalErrors],
    noise: np.ndarray,
) -> tuple[tuple[VERDICT, ...], tuple[str, ...]]:
    """All that was found, that to be mended first on top, and sentences on where."""
    nlp = sol.nlp
    found: set[VERDICT] = set()
    notes: list[str] = []
    if not sol.result.ok:
        found.add(VERDICT.not_converged)
        notes.append(f"The result is {sol.result.name}: {sol.result.value}")
    if nlp.layout.num_head == 0 and nlp.settings.trainable is True:
        found.add(VERDICT.no_weights)
    violation = _violation(nlp, sol.z)
    if violation:
        found.add(VERDICT.violated)
        notes.append(violation)
    if nlp.num_algebraic and (sentence := regularity(nlp, sol.z).sentence):
        found.add(VERDICT.singular)
        notes.append(sentence)
    poor = poor_paths(nlp, [row.residuals for row in rows], noise)
    if poor:
        found.add(VERDICT.poor_fit)
        more = f" ({len(poor)} such)" if len(poor) > 1 else ""
        notes.append(poor[0].said(nlp.trajectories) + more)
    for row, item in zip(rows, inner, strict=True):
        if not row.follows:
            found |= _departures(row, item)
    at_bounds = _at_bounds(nlp, sol.z)
    if found:
        notes += [*(["Weights lie at their bounds."] if at_bounds else []), *hints(sol)]
    elif at_bounds:
        found.add(VERDICT.at_bounds)
    if not found:
        return (VERDICT.good,), ()
    return tuple(item for item in VERDICT if item in found), tuple(notes)


def _departures(row: Comparison, inner: IntervalErrors) -> set[VERDICT]:
    """Why one trajectory's rollout leaves its path."""
    # What the intervals' errors come to if nothing amplifies them.
    own = np.sqrt(np.sum(inner.errors**2))
    coarse = {VERDICT.too_coarse} if own > _COARSE else set()
    if row.end is not END.complete:
        ended = VERDICT.blows_up if row.end is END.infinite else VERDICT.out_of_steps
        return coarse | {ended}
    far = 0.1 * np.max(row.distances)
    amplified = own < far and (
        inner.growth > _UNSTABLE or (own < _COARSE and own * inner.growth > far)
    )
    return {VERDICT.unstable} if amplified else {VERDICT.too_coarse}


def _violation(nlp: NLP, z: np.ndarray) -> str:
    """The worst violation of bounds and stated constraints by `z`, in words, or empty."""
    lower, upper = nlp.bounds
    size = np.maximum(1.0, np.minimum(np.abs(lower), np.abs(upper)))
    beyond = np.maximum(lower - z, z - upper) / np.where(np.isfinite(size), size, 1.0)
    if beyond.max(initial=0.0) > _VIOLATED:
        at = int(np.argmax(beyond))
        return f"Variable {at} of the optimizer is {beyond[at]:.2g} outside its bounds."
    first = nlp.parts.num_equations
    if first == nlp.num_constraints:
        return ""
    values = np.asarray(nlp.constraints(z))
    lower, upper = nlp.constraint_bounds
    # The size of a row: of its bounds, and of its terms at this point.
    rows, columns = nlp.jacobian_structure
    size = np.zeros(len(values))
    np.maximum.at(size, rows, np.abs(np.asarray(nlp.jacobian(z)) * z[columns]))
    for side in (lower, upper):
        size = np.maximum(size, np.where(np.isfinite(side), np.abs(side), 0.0))
    beyond = np.maximum(lower - values, values - upper)[first:]
    share = beyond / np.where(size > 0, size, 1.0)[first:]
    if not share.max(initial=0.0) > _VIOLATED:
        return ""
    at = first + int(np.argmax(share))
    limit = lower[at] if values[at] < lower[at] else upper[at]
    return f"A constraint has the value {values[at]:.3g} where its bound is {limit:.3g}."


def _at_bounds(nlp: NLP, z: np.ndarray) -> bool:
    """Whether a weight or unknown lies at a bound, or a positive one has gone to zero."""
    lower, upper = (nlp.layout.head(side) for side in nlp.bounds)
    head, start = nlp.head(z), start_head(nlp)
    inverse = scaled_entries(nlp, lambda scale: isinstance(scale, Reciprocal))
    positive = positive_entries(nlp) & ~inverse
    size = np.maximum(np.maximum(np.abs(head), np.abs(start)), 1e-300)
    size = np.where(np.isfinite(upper - lower), upper - lower, size)
    slack = np.where(positive, _AT_BOUND_LOG, _AT_BOUND * size)
    near = (head - lower <= slack) | (upper - head <= slack)
    least = np.where(inverse, start / _VANISHED, start + np.log(_VANISHED))
    vanished = (positive | inverse) & np.isneginf(lower) & (head < least)
    return bool(np.any((near & (lower < upper)) | vanished))
