"""What the data leave free, said by the names of leaves; correlations, and the spectrum."""

import numpy as np
from jaxtyping import Float

from .parameters import Parameters


# Shares of a free direction below this are none.
_SHARE = 1e-4
CORRELATED = 0.99
# Eigenvalues over so many decades are called sloppy.
SLOPPY = 6.0
_MOST_NAMES = 6


def free_sentences(
    parameters: Parameters, directions: Float[np.ndarray, "parameter free"]
) -> list[str]:
    """Sentences on free directions, given on the optimizer's scale, one a column."""
    if not directions.shape[1]:
        return []
    # In units of the parameters' sizes, as an orthonormal basis.
    scaled = directions / parameters.size[:, None]
    basis, singular, _ = np.linalg.svd(scaled, full_matrices=False)
    basis = basis[:, singular > 1e-9 * singular[0]]
    total = basis.shape[1]
    net = parameters.of_net
    sentences = []
    if net.any():
        in_net = basis[net]
        rank = int(np.sum(np.linalg.svd(in_net, compute_uv=False) > _SHARE))
        if rank:
            sentences.append(
                f"The data leave {rank} directions of the nets' {int(net.sum())} weights free: "
                "no weight of a net is known by itself (a ridge would act as its prior)."
            )
    touched = np.flatnonzero(~net & (np.abs(basis).max(axis=1) > _SHARE))
    for members, beside_net in _clusters(basis, touched, net):
        sentences.append(_sentence(parameters, basis, members, beside_net))
    return sentences if sentences else [f"The data leave {total} directions free."]


def _clusters(
    basis: np.ndarray, touched: np.ndarray, net: np.ndarray
) -> list[tuple[np.ndarray, bool]]:
    """Parameters that free directions join, and whether these move weights of nets as well."""
    projector = basis[touched] @ basis[touched].T
    if net.any():
        with_net = np.abs(basis[touched] @ basis[net].T).max(axis=1) > _SHARE
    else:
        with_net = np.zeros(len(touched), bool)
    joined = np.abs(projector) > _SHARE
    left, found = set(range(len(touched))), []
    while left:
        reached, todo = set(), [min(left)]
        while todo:
            one = todo.pop()
            if one in reached:
                continue
            reached.add(one)
            todo += [int(k) for k in np.flatnonzero(joined[one])]
        left -= reached
        members = np.array(sorted(reached))
        found.append((touched[members], bool(with_net[members].any())))
    return found


def _sentence(
    parameters: Parameters, basis: np.ndarray, members: np.ndarray, beside_net: bool
) -> str:
    names = [parameters.names[k] for k in members]
    listed = _listed(names)
    if beside_net:
        return (
            f"{listed} cannot be told from what the nets can do: the data leave a change of "
            f"{'both' if len(names) == 1 else 'all'} together free."
        )
    part = basis[members]
    left, singular, _ = np.linalg.svd(part, full_matrices=True)
    rank = int(np.sum(singular > _SHARE))
    if rank >= len(members):
        verb = "is" if len(names) == 1 else "are each"
        return f"The data do not say what {listed} {verb}."
    seen = left[:, rank:].T
    if len(seen) == 1:
        combination = _combination(parameters, members, seen[0])
        return f"{listed} change together: only {combination} is seen."
    return f"{listed} change together: only {len(seen)} combinations of them are seen."


def _combination(parameters: Parameters, members: np.ndarray, seen: np.ndarray) -> str:
    """The one function of some parameters that data see, to first order.

    `seen` is its gradient in units of the parameters' sizes.
    """
    names = [parameters.names[k] for k in members]
    positive = parameters.positive[members]
    value = parameters.value[members]
    # By the change of the value, and by its relative change.
    linear = seen / (parameters.size[members] * parameters.rate[members])
    relative = linear * value
    if not positive.any() and _alike(linear):
        return _joined(names, linear / linear[0], " + ", " - ")
    if np.all(value != 0) and _alike(relative):
        return _joined(names, relative / relative[0], " * ", " / ")
    text = " + ".join(
        f"{number:.3g} {name}" for number, name in zip(linear / linear[0], names, strict=True)
    )
    return f"{text.replace('+ -', '- ')} (here)"


def _alike(numbers: np.ndarray) -> bool:
    """Whether all are the same up to their signs."""
    size = np.abs(numbers)
    return bool(np.all(np.isfinite(size)) and np.ptp(size) <= 1e-3 * size.max() and size.max() > 0)


def _joined(names: list[str], signs: np.ndarray, plus: str, minus: str) -> str:
    text = names[0]
    for name, sign in zip(names[1:], signs[1:], strict=True):
        text += (plus if sign > 0 else minus) + name
    return text


def _listed(names: list[str]) -> str:
    if len(names) > _MOST_NAMES:
        names = [*names[: _MOST_NAMES - 1], f"{len(names) - _MOST_NAMES + 1} others"]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def correlated(
    names: list[str], covariance: Float[np.ndarray, "entry entry"]
) -> list[tuple[str, str, float]]:
    """Pairs whose correlation is above 0.99 in size, the largest first."""
    deviation = np.sqrt(np.diag(covariance))
    known = np.flatnonzero((deviation > 0) & np.isfinite(deviation))
    inner = covariance[np.ix_(known, known)] / (deviation[known][:, None] * deviation[known])
    pairs = [
        (names[known[i]], names[known[j]], float(inner[i, j]))
        for i, j in zip(*np.nonzero(np.triu(np.abs(inner) > CORRELATED, 1)), strict=True)
    ]
    return sorted(pairs, key=lambda pair: -abs(pair[2]))


def sloppy_sentence(
    parameters: Parameters, eigenvalues: np.ndarray, vectors: np.ndarray
) -> str | None:
    """A sentence where the eigenvalues of the constants' precision spread over many decades."""
    if len(eigenvalues) < 2 or eigenvalues[0] <= 0:
        return None
    decades = float(np.log10(eigenvalues[-1] / eigenvalues[0]))
    if decades < SLOPPY:
        return None
    worst = vectors[:, 0]
    order = np.argsort(-np.abs(worst))[:3]
    named = [parameters.names[k] for k in order if abs(worst[k]) > 0.2]
    return (
        f"Sloppy: what the data say of the constants spreads over {decades:.0f} decades; the least "
        f"known direction is mostly {_listed(named)}."
    )
