r"""The KKT system of a collocation NLP, factorised along its structure.

One Newton step of an interior-point method solves, for the variables and the multipliers,

$$\begin{pmatrix} W + \Sigma & A^T \\ A & -C \end{pmatrix}
  \begin{pmatrix} \Delta z \\ \Delta \lambda \end{pmatrix} = \begin{pmatrix} r \\ c \end{pmatrix}$$

with the Hessian $W$ of the Lagrangian and the constraints' Jacobian $A$. Ordered by trajectory and
interval it is block tridiagonal with a border of weights (and of the trajectories' unknowns), here
for one trajectory of three intervals:

    l0  x0,m0  x1,m1  x2,m2 |  w
    H    #      .      .    |  #      l0     the first node
    #    K0     #      .    |  #      x, m   the other nodes of an interval, its end the last
    .    #      K1     #    |  #             of them, and the multipliers of its equations
    .    .      #      K2   |  #
    ------------------------+----
    #    #      #      #    |  Hw     w      weights and unknowns

An interval's equations, $A_x x + A_l l + A_w w = c$, are as many as its unknown states $x$, for
given left end $l$ and weights. So it is eliminated for itself, whatever the Hessian is:

1. **Intervals**, in parallel: $x = T l + G w + t$ by one dense factorisation of $A_x$ each. What is
   left is a stage $\frac12 (l, w)^T Q (l, w) + \dots$ and the step $l^+ = T' l + G' w + t'$ from
   one boundary to the next, $T'$ and $G'$ being the last rows of $T$ and $G$.
2. **The chain** of boundaries with their multipliers $\nu$, in order, trajectories in parallel:
   the rows that hold $(l_e, \nu_e)$ are made triangular by an orthogonal transformation, which
   leaves as many rows for the next boundary. No sensitivities are multiplied along the trajectory
   for it, so that unstable dynamics, and stretches without data, do no harm.
3. **The weights**, by the dense Schur complement, which Cholesky's method takes apart.

The curvature is right if that succeeds and if, with the weights held, the objective is convex in
the initial states, which a backward recursion tells; where it is not, the caller must add to the
Hessian. Rows that are no equation of the model (path constraints, with slacks eliminated:
$C = 1 / \Sigma_s$) go into the Hessian of their interval, $A^T C^{-1} A$; equations among them
have a small $C$, whose effect one step of refinement takes back.

With $d$ states, $N$ nodes in intervals of $n$, $m = n d$ and $P$ weights a factorisation costs
about $N/n \, (2 m^3 + 4 m^2 P + 2 m P^2)$ operations for the intervals, $O(N/n \, d^2 P)$ for the
chain and $N/n \, d P^2 + P^3/3$ for the weights, and holds some $4 N d P$ numbers: linear in the
nodes. A general sparse solver sees none of this and fills in.

It does not do ties between trajectories, nor constraints that reach over several intervals, nor
a state other than an initial one that is fixed by equal bounds: use `jc.Ipopt`. The border is
dense: with thousands of weights, or hundreds of trajectories with unknowns of their own,
`jc.Ipopt` with its sparse border may be the better choice.

The weights' columns of the chain are the sensitivities of the linearised trajectories, with their
initial states chosen best. Where a start is so far from any trajectory that these grow beyond some
$10^8$, as on one series of 20,000 nodes over hundreds of periods, the Schur complement loses the
curvature of all other directions, and the solver gives up at once: fit shorter series first.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .batched import Square, gram, onto_weights, times, times_transposed, times_weights, transpose
from .blocks import Chain, Curvature, Curves, Slopes, Structure, add_to_head
from .chain import Turned, factorise_chain, is_convex, solve_chain


class Stage(NamedTuple):
    r"""A chain's intervals, eliminated; axes (traj, interval, ...).

    `square`: the matrices $A_x$. `t_l`, `t_w`: $T$ and $G$. `h`: the Hessian's blocks with what was
    added. `weight`: $1/C$ of the loose rows. `q_lw`: the block of $Q$ between left ends and
    weights. `turned`: the factorised chain of boundaries. `convex`: whether the objective is convex
    in the initial states. `unit_nu`: the unit of the chain's multipliers $\nu$.
    """

    square: Square
    t_l: Array
    t_w: Array
    h: Curves
    weight: Array
    q_lw: Array
    turned: Turned
    convex: Array
    unit_nu: Array


class Factor(NamedTuple):
    """The factorised system; `good` if the weights' curvature is positive and all is finite."""

    stages: tuple[Stage, ...]
    cholesky: Array
    good: Array


def factorise(
    structure: Structure,
    blocks: tuple[Slopes, ...],
    hessian: Curvature,
    diagonal: Float[Array, " variable"],
    weight: Float[Array, " constraint"],
    fixed: Array,
) -> Factor:
    """Eliminate intervals, chain and weights.

    `diagonal` is added to the Hessian; `weight` is $1/C$ of the rows that are no equations of the
    model; variables marked `fixed` have no step.
    """
    head = structure.num_head
    schur = hessian.ww + jnp.diag(diagonal[:head])
    diagonal, weight = jnp.append(diagonal, 0.0), jnp.append(weight, 0.0)
    stages = []
    for chain, a, h in zip(structure.chains, blocks, hessian.chains, strict=True):
        stage, own = _eliminate(chain, a, h, diagonal, weight[chain.loose], fixed[chain.first])
        stages.append(stage)
        schur = _to_schur(chain, schur, own)
    held = fixed[:head]
    free = ~held[:, None] & ~held[None, :]
    schur = jnp.where(free, (schur + schur.T) / 2, jnp.diag(held.astype(schur.dtype)))
    cholesky = jnp.linalg.cholesky(schur)
    good = jnp.all(jnp.isfinite(cholesky))
    for stage in stages:
        good = good & jnp.all(stage.convex) & jnp.all(jnp.isfinite(stage.turned.by_weights))
    return Factor(tuple(stages), cholesky, good)


def _to_schur(chain: Chain, schur: Array, own: Array) -> Array:
    """The Schur complement plus a chain's part of it."""
    shared = chain.num_shared
    schur = schur.at[:shared, :shared].add(jnp.sum(own[:, :shared, :shared], axis=0))
    unknown = chain.head[:, shared:]
    if not unknown.shape[1]:
        return schur
    schur = schur.at[unknown[:, :, None], chain.head[:, None, :shared]].add(
        own[:, shared:, :shared]
    )
    return schur.at[chain.head[:, :, None], unknown[:, None, :]].add(own[:, :, shared:])


def _eliminate(
    chain: Chain, a: Slopes, h: Curves, diagonal: Array, weight: Array, held: Array
) -> tuple[Stage, Array]:
    """A chain's stage, and what it adds to the Schur complement."""
    d, m = a.l.shape[3], a.x.shape[3]
    padding = jnp.asarray(chain.padding)[:, :, None, None]
    unit = jnp.eye(m)
    # In padding the end, the last of the unknowns, repeats the left end.
    square = Square.of(a.x + padding * unit)
    t_l, t_w = square.negative(a.l - padding * unit[:, m - d :]), square.negative(a.w)
    h, own = _condensed(chain, a, h, diagonal, weight)
    along_l = h.xx @ t_l + transpose(h.lx)
    q_ll = h.ll + h.lx @ t_l + transpose(t_l) @ along_l
    q_lw = h.lw + transpose(t_l) @ h.xw + transpose(along_l) @ t_w
    half = h.xw + (h.xx / 2) @ t_w
    crossed = gram(t_w, half)
    own = own + crossed + transpose(crossed)
    step_l, step_w = t_l[:, :, m - d :], t_w[:, :, m - d :]
    # The chain's multipliers in the unit of its Hessian, so that rows to be turned are alike.
    unit_nu = jnp.max(jnp.abs(q_ll), axis=(1, 2, 3), keepdims=True)
    unit_nu = jnp.where(unit_nu > 0, unit_nu, 1.0)
    turned = jax.vmap(factorise_chain)(q_ll / unit_nu, q_lw / unit_nu, step_l, step_w, held)
    by_weights = turned.by_weights.at[:, :, d:].multiply(unit_nu)
    turned = turned._replace(by_weights=by_weights)
    convex = jax.vmap(is_convex)(q_ll, step_l, held)
    own = own + gram(q_lw, by_weights[:, :, :d]) + gram(step_w, by_weights[:, :, d:])
    return Stage(square, t_l, t_w, h, weight, q_lw, turned, convex, unit_nu[:, 0, 0]), own


def _condensed(
    chain: Chain, a: Slopes, h: Curves, diagonal: Array, weight: Array
) -> tuple[Curves, Array]:
    """The Hessian's blocks with the diagonal and the loose rows, $A^T C^{-1} A$, added.

    With them comes what the loose rows add to the weights' own block.
    """
    ll, lx, xx, lw, xw = h
    xx = xx + diagonal[chain.inner][..., None] * jnp.eye(a.x.shape[3])
    ll = ll.at[:, 0].add(diagonal[chain.first][..., None] * jnp.eye(a.l.shape[3]))
    own = jnp.zeros((len(chain.head), a.w.shape[3], a.w.shape[3]))
    if chain.loose.shape[2]:
        c_l, c_x, c_w = a.loose_l, a.loose_x, a.loose_w
        weighted_l = transpose(c_l * weight[..., None])
        weighted_x = transpose(c_x * weight[..., None])
        ll, lx, xx = ll + weighted_l @ c_l, lx + weighted_l @ c_x, xx + weighted_x @ c_x
        lw, xw = lw + weighted_l @ c_w, xw + weighted_x @ c_w
        own = own + gram(c_w * weight[..., None], c_w)
    return Curves(ll, lx, xx, lw, xw), own


def solve(
    structure: Structure,
    blocks: tuple[Slopes, ...],
    factor: Factor,
    dual: Float[Array, " variable"],
    primal: Float[Array, " constraint"],
    fixed: Array,
) -> tuple[Float[Array, " variable"], Float[Array, " constraint"]]:
    """The steps of variables and multipliers for one right-hand side `(dual, primal)`."""
    head = structure.num_head
    right = dual[:head]
    dual, primal = jnp.append(dual, 0.0), jnp.append(primal, 0.0)
    local = []
    for chain, a, stage in zip(structure.chains, blocks, factor.stages, strict=True):
        found, q_w = _forward(chain, a, stage, dual, primal, fixed[chain.first])
        local.append(found)
        right = add_to_head(chain, right, -q_w)
    right = jnp.where(fixed[:head], 0.0, right)
    w = jax.scipy.linalg.cho_solve((factor.cholesky, True), right)
    z = jnp.zeros(len(fixed)).at[:head].set(w)
    multipliers = jnp.zeros(structure.num_constraints)
    for chain, a, stage, found in zip(structure.chains, blocks, factor.stages, local, strict=True):
        left, x, rows, loose = _back(a, stage, found, w[chain.head])
        # Padding stands one past the end.
        z = z.at[chain.first].set(left[:, 0]).at[chain.inner].set(x, mode="drop")
        multipliers = multipliers.at[chain.rows].set(rows, mode="drop")
        multipliers = multipliers.at[chain.loose].set(loose, mode="drop")
    return jnp.where(fixed, 0.0, z), multipliers


class _Local(NamedTuple):
    r"""What is known of a chain before the weights are.

    `u`: boundaries and multipliers $(l, \nu)$ for zero weights. `t`: the constant part of the
    intervals' states. `r_x`, `loose`: the right-hand sides of intervals and loose rows.
    """

    u: Array
    t: Array
    r_x: Array
    loose: Array


def _forward(
    chain: Chain, a: Slopes, stage: Stage, dual: Array, primal: Array, held: Array
) -> tuple[_Local, Array]:
    """Each trajectory's boundaries without the weights' share, and the weights' right-hand side."""
    d, m = a.l.shape[3], a.x.shape[3]
    h = stage.h
    loose = primal[chain.loose]
    shift = stage.weight * loose
    r_x = dual[chain.inner] + times_transposed(a.loose_x, shift)
    r_l = times_transposed(a.loose_l, shift).at[:, 0].add(dual[chain.first])
    t = stage.square.vector(primal[chain.rows])
    along = times(h.xx, t) - r_x
    q_l = times_transposed(stage.t_l, along) + times(h.lx, t) - r_l
    q_w = onto_weights(stage.t_w, along) + onto_weights(h.xw, t) - onto_weights(a.loose_w, shift)
    q_first = jnp.where(held, 0.0, q_l[:, 0])
    unit = stage.unit_nu
    step = t[:, :, m - d :]
    u = jax.vmap(solve_chain)(stage.turned, q_first / unit, q_l / unit[:, None], step)
    u = u.at[:, :, d:].multiply(unit[:, None])
    q_w = q_w + onto_weights(stage.q_lw, u[:, :, :d])
    q_w = q_w + onto_weights(stage.t_w[:, :, m - d :], u[:, :, d:])
    return _Local(u, t, r_x, loose), q_w


def _back(a: Slopes, stage: Stage, found: _Local, w: Array) -> tuple[Array, Array, Array, Array]:
    """Left ends, states and both kinds of multipliers, once the weights are known."""
    d, m = a.l.shape[3], a.x.shape[3]
    h = stage.h
    u = found.u + times_weights(stage.turned.by_weights, w)
    left, nu = u[:, :, :d], u[:, :, d:]
    x = found.t + times(stage.t_l, left) + times_weights(stage.t_w, w)
    gradient = times(h.xx, x) + times_transposed(h.lx, left) + times_weights(h.xw, w) - found.r_x
    gradient = gradient.at[:, :, m - d :].add(nu)
    rows = -stage.square.vector(gradient, transposed=True)
    in_loose = times(a.loose_l, left) + times(a.loose_x, x) + times_weights(a.loose_w, w)
    return left, x, rows, stage.weight * (in_loose - found.loose)
