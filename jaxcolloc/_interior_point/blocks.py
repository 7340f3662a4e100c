r"""The blocks of the Jacobian $A$ and of the Hessian $W$, and their products with vectors.

Both matrices come as the values of their non-zeros. `Structure` says where these stand, so that
one indexed read makes dense blocks of them, one for each interval of each trajectory. The letters
are those of `kkt.py`: `l`, the left end of an interval; `x`, its other nodes' states, the end being
the last; `w`, the head's entries that its trajectory sees, weights first. Rows are the equations of
the model; `loose` rows are other constraints, such as path constraints.
"""

from typing import NamedTuple

import equinox as eqx
import numpy as np
from jaxtyping import Float, Int

from .._arrays import Array, Driver, driver
from .._precision import AnyArray
from .batched import onto_weights, times, times_transposed, times_weights


Index = Int[AnyArray, "*_"]


class Chain(eqx.Module):
    """Trajectories of the same interval size, and where their blocks stand in sparse values.

    `jac_*`, `loose_*` and `hess_*` are positions among the non-zeros (one past the last: zero),
    `first` (the states at the start), `inner` (those of the intervals) and `head` among the
    variables, `rows` and `loose` among the constraints (one past the last: none). Intervals beyond
    a trajectory's own are `padding` that repeats its end. The first `num_shared` of every row of
    `head` are the weights, in order; those after them are a trajectory's own unknowns.
    """

    jac_l: Index
    jac_x: Index
    jac_w: Index
    loose_l: Index
    loose_x: Index
    loose_w: Index
    hess_ll: Index
    hess_lx: Index
    hess_xx: Index
    hess_lw: Index
    hess_xw: Index
    first: Index
    inner: Index
    head: Index
    rows: Index
    loose: Index
    padding: AnyArray
    num_shared: int = eqx.field(static=True)


class Structure(eqx.Module):
    """All chains, where the Hessian of the head stands, and how many of everything there are.

    The head, the first `num_head` variables, are weights and the trajectories' own unknowns.
    """

    chains: tuple[Chain, ...]
    hess_ww: Index
    num_head: int = eqx.field(static=True)
    num_variables: int = eqx.field(static=True)
    num_constraints: int = eqx.field(static=True)


class Slopes(NamedTuple):
    """A chain's blocks of the Jacobian; axes (traj, interval, equation, ...)."""

    l: Array  # noqa: E741
    x: Array
    w: Array
    loose_l: Array
    loose_x: Array
    loose_w: Array


class Curves(NamedTuple):
    """A chain's blocks of the Hessian; axes (traj, interval, ...)."""

    ll: Array
    lx: Array
    xx: Array
    lw: Array
    xw: Array


class Curvature(NamedTuple):
    """The Hessian: that of the head, and the chains' blocks."""

    ww: Array
    chains: tuple[Curves, ...]


def slopes(
    structure: Structure,
    jacobian: Float[Array, " jacobian_entry"],
    row_scale: Float[Array, " constraint"],
) -> tuple[Slopes, ...]:
    """Each chain's blocks of the Jacobian with these non-zeros, each row times its scale."""
    jacobian, row_scale = one_more(jacobian), one_more(row_scale)

    def scaled(scale: Array, at: Array) -> Array:
        block = read(jacobian, at)
        block *= scale
        return block

    found = []
    for chain in structure.chains:
        rows, loose = row_scale[chain.rows][..., None], row_scale[chain.loose][..., None]
        found.append(
            Slopes(
                *(scaled(rows, at) for at in (chain.jac_l, chain.jac_x, chain.jac_w)),
                *(scaled(loose, at) for at in (chain.loose_l, chain.loose_x, chain.loose_w)),
            )
        )
    return tuple(found)


def curvature(structure: Structure, hessian: Float[Array, " hessian_entry"]) -> Curvature:
    """The blocks of the Hessian with these non-zeros of its lower triangle."""
    hessian = one_more(hessian)
    return Curvature(
        read(hessian, structure.hess_ww),
        tuple(
            Curves(*(read(hessian, at) for at in _curves_at(chain))) for chain in structure.chains
        ),
    )


def _curves_at(chain: Chain) -> tuple[Array, ...]:
    """Where the blocks of `Curves` stand."""
    return chain.hess_ll, chain.hess_lx, chain.hess_xx, chain.hess_lw, chain.hess_xw


def read(x: Array, at: Array) -> Array:
    """`x` at these positions."""
    # On the host `take` is the faster one, but not for narrow integers.
    return x.take(at) if at.dtype == np.intp and not driver(x).traced else x[at]


def no_curvature(structure: Structure, on: Driver) -> Curvature:
    """A Hessian of zeros."""
    return Curvature(
        on.nothing(structure.hess_ww.shape),
        tuple(
            Curves(*(on.nothing(at.shape) for at in _curves_at(chain)))
            for chain in structure.chains
        ),
    )


def one_more(x: Array) -> Array:
    """`x` and a zero, for positions one past the end."""
    on = driver(x)
    if on.traced:
        return on.xp.append(x, 0.0)
    longer = np.empty(len(x) + 1)
    longer[:-1] = x
    longer[-1] = 0.0
    return longer


def product(
    structure: Structure, blocks: tuple[Slopes, ...], z: Float[Array, " variable"]
) -> Float[Array, " constraint"]:
    """$A z$."""
    on = driver(z)
    # One place more for what stands nowhere.
    found = on.xp.zeros(structure.num_constraints + 1)
    for chain, a in zip(structure.chains, blocks, strict=True):
        left, x, w = _to_intervals(chain, z)
        rows = times(a.l, left) + times(a.x, x) + times_weights(a.w, w)
        found = on.put_into(found, chain.rows, rows)
        if has_loose_rows(chain):
            loose = times(a.loose_l, left) + times(a.loose_x, x) + times_weights(a.loose_w, w)
            found = on.put_into(found, chain.loose, loose)
    return found[:-1]


def transposed_product(
    structure: Structure, blocks: tuple[Slopes, ...], multipliers: Float[Array, " constraint"]
) -> Float[Array, " variable"]:
    r"""$A^T \lambda$."""
    z = driver(multipliers).xp.zeros(structure.num_variables + 1)
    multipliers = one_more(multipliers)
    for chain, a in zip(structure.chains, blocks, strict=True):
        rows = multipliers[chain.rows]
        left, x = times_transposed(a.l, rows), times_transposed(a.x, rows)
        w = onto_weights(a.w, rows)
        if has_loose_rows(chain):
            loose = multipliers[chain.loose]
            left += times_transposed(a.loose_l, loose)
            x += times_transposed(a.loose_x, loose)
            w += onto_weights(a.loose_w, loose)
        z = _from_intervals(chain, z, left, x, w)
    return z[:-1]


def hessian_product(
    structure: Structure, hessian: Curvature, z: Float[Array, " variable"]
) -> Float[Array, " variable"]:
    """$W z$."""
    head = structure.num_head
    on = driver(z)
    found = on.put_into(on.xp.zeros(len(z) + 1), slice(head), hessian.ww @ z[:head])
    for chain, h in zip(structure.chains, hessian.chains, strict=True):
        left, x, w = _to_intervals(chain, z)
        in_left = times(h.ll, left) + times(h.lx, x) + times_weights(h.lw, w)
        in_x = times(h.xx, x) + times_transposed(h.lx, left) + times_weights(h.xw, w)
        in_w = onto_weights(h.lw, left) + onto_weights(h.xw, x)
        found = _from_intervals(chain, found, in_left, in_x, in_w)
    return found[:-1]


def has_loose_rows(chain: Chain) -> bool:
    """Whether the chain has constraints that are no equations of the model."""
    return chain.loose.shape[2] > 0


def add_to_head(chain: Chain, head: Array, w: Array) -> Array:
    """`head` plus what each trajectory of the chain has for its entries of it.

    Longer vectors that begin with the head are fine. `head` is not used again.
    """
    on, shared = driver(head), chain.num_shared
    head = on.add_into(head, slice(shared), w[:, :shared].sum(axis=0))
    # No unknown belongs to two trajectories.
    return on.add_into(head, chain.head[:, shared:], w[:, shared:])


def _to_intervals(chain: Chain, z: Array) -> tuple[Array, Array, Array]:
    """The variables as left ends and other states of the intervals, and entries of the head."""
    d = chain.jac_l.shape[3]
    x = one_more(z)[chain.inner]
    first = z[chain.first][:, None]
    left = driver(z).xp.concatenate([first, x[:, :-1, x.shape[2] - d :]], axis=1)
    return left, x, z[chain.head]


def _from_intervals(chain: Chain, z: Array, left: Array, x: Array, w: Array) -> Array:
    """`z`, one longer, plus the values that `_to_intervals` would read, the other way round.

    `z` and `x` are not used again.
    """
    on, d = driver(z), left.shape[2]
    x = on.add_into(x, (slice(None), slice(-1), slice(x.shape[2] - d, None)), left[:, 1:])
    z = on.add_into(z, chain.first, left[:, 0])
    z = on.add_into(z, chain.inner, x)
    return add_to_head(chain, z, w)
