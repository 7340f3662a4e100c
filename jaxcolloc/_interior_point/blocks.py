r"""The blocks of the Jacobian $A$ and of the Hessian $W$, and their products with vectors.

Both matrices come as the values of their non-zeros. `Structure` says where these stand, so that
one indexed read makes dense blocks of them, one for each interval of each trajectory. The letters
are those of `kkt.py`: `l`, the left end of an interval; `x`, its other nodes' states, the end being
the last; `w`, the head's entries that its trajectory sees, weights first. Rows are the equations of
the model; `loose` rows are other constraints, such as path constraints.
"""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

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
    jacobian, row_scale = jnp.append(jacobian, 0.0), jnp.append(row_scale, 0.0)
    found = []
    for chain in structure.chains:
        rows, loose = row_scale[chain.rows][..., None], row_scale[chain.loose][..., None]
        found.append(
            Slopes(
                *(rows * jacobian[at] for at in (chain.jac_l, chain.jac_x, chain.jac_w)),
                *(loose * jacobian[at] for at in (chain.loose_l, chain.loose_x, chain.loose_w)),
            )
        )
    return tuple(found)


def curvature(structure: Structure, hessian: Float[Array, " hessian_entry"]) -> Curvature:
    """The blocks of the Hessian with these non-zeros of its lower triangle."""
    hessian = jnp.append(hessian, 0.0)
    return Curvature(
        hessian[structure.hess_ww],
        tuple(
            Curves(
                hessian[chain.hess_ll], hessian[chain.hess_lx], hessian[chain.hess_xx],
                hessian[chain.hess_lw], hessian[chain.hess_xw],
            )
            for chain in structure.chains
        ),
    )  # fmt: skip


def product(
    structure: Structure, blocks: tuple[Slopes, ...], z: Float[Array, " variable"]
) -> Float[Array, " constraint"]:
    """$A z$."""
    found = jnp.zeros(structure.num_constraints)
    for chain, a in zip(structure.chains, blocks, strict=True):
        left, x, w = _to_intervals(chain, z)
        rows = times(a.l, left) + times(a.x, x) + times_weights(a.w, w)
        loose = times(a.loose_l, left) + times(a.loose_x, x) + times_weights(a.loose_w, w)
        found = found.at[chain.rows].set(rows, mode="drop")
        found = found.at[chain.loose].set(loose, mode="drop")
    return found


def transposed_product(
    structure: Structure, blocks: tuple[Slopes, ...], multipliers: Float[Array, " constraint"]
) -> Float[Array, " variable"]:
    r"""$A^T \lambda$."""
    z = jnp.zeros(structure.num_variables)
    multipliers = jnp.append(multipliers, 0.0)
    for chain, a in zip(structure.chains, blocks, strict=True):
        rows, loose = multipliers[chain.rows], multipliers[chain.loose]
        left = times_transposed(a.l, rows) + times_transposed(a.loose_l, loose)
        x = times_transposed(a.x, rows) + times_transposed(a.loose_x, loose)
        w = onto_weights(a.w, rows) + onto_weights(a.loose_w, loose)
        z = _from_intervals(chain, z, left, x, w)
    return z


def hessian_product(
    structure: Structure, hessian: Curvature, z: Float[Array, " variable"]
) -> Float[Array, " variable"]:
    """$W z$."""
    head = structure.num_head
    found = jnp.zeros(len(z)).at[:head].set(hessian.ww @ z[:head])
    for chain, h in zip(structure.chains, hessian.chains, strict=True):
        left, x, w = _to_intervals(chain, z)
        in_left = times(h.ll, left) + times(h.lx, x) + times_weights(h.lw, w)
        in_x = times(h.xx, x) + times_transposed(h.lx, left) + times_weights(h.xw, w)
        in_w = onto_weights(h.lw, left) + onto_weights(h.xw, x)
        found = _from_intervals(chain, found, in_left, in_x, in_w)
    return found


def add_to_head(chain: Chain, head: Array, w: Array) -> Array:
    """`head` plus what each trajectory of the chain has for its entries of it.

    Longer vectors that begin with the head are fine.
    """
    shared = chain.num_shared
    head = head.at[:shared].add(jnp.sum(w[:, :shared], axis=0))
    return head.at[chain.head[:, shared:]].add(w[:, shared:])


def _to_intervals(chain: Chain, z: Array) -> tuple[Array, Array, Array]:
    """The variables as left ends and other states of the intervals, and entries of the head."""
    d = chain.jac_l.shape[3]
    x = jnp.append(z, 0.0)[chain.inner]
    left = jnp.concatenate([z[chain.first][:, None], x[:, :-1, x.shape[2] - d :]], axis=1)
    return left, x, z[chain.head]


def _from_intervals(chain: Chain, z: Array, left: Array, x: Array, w: Array) -> Array:
    """`z` plus the values that `_to_intervals` would read, the other way round."""
    d = left.shape[2]
    x = x.at[:, :-1, x.shape[2] - d :].add(left[:, 1:])
    z = z.at[chain.first].add(left[:, 0]).at[chain.inner].add(x, mode="drop")
    return add_to_head(chain, z, w)
