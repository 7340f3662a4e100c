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
   in a compiled program the rows that hold $(l_e, \nu_e)$ are made triangular by an orthogonal
   transformation, which leaves as many rows for the next boundary (`chain.py`); on the host all
   are one banded matrix for LAPACK (`host_chain.py`). No sensitivities are multiplied along the
   trajectory for it, so that unstable dynamics, and stretches without data, do no harm.
3. **The weights**, by the dense Schur complement, which Cholesky's method takes apart.

The curvature is right if that succeeds and if, with the weights held, the objective is convex in
the initial states, which a recursion over the intervals tells; where it is not, the caller must add
to the Hessian. What does not depend on the Hessian is done once for all attempts (`eliminate`).
Rows that are no equation of the model (path constraints, with slacks eliminated:
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

from typing import Any, NamedTuple

from jaxtyping import Float

from .._arrays import Array, Driver, driver
from . import chain as traced_chain
from . import host_chain
from .batched import (
    Square,
    cholesky,
    cholesky_solve,
    gram,
    gram_with,
    onto_weights,
    times,
    times_transposed,
    times_weights,
    transpose,
)
from .blocks import (
    Chain,
    Curvature,
    Curves,
    Slopes,
    Structure,
    add_to_head,
    has_loose_rows,
    one_more,
)


class Eliminated(NamedTuple):
    """A chain's intervals, eliminated; axes (traj, interval, ...). No Hessian has a part in it.

    `square`: the matrices $A_x$. `t_l`, `t_w`: $T$ and $G$.
    """

    square: Square
    t_l: Array
    t_w: Array


class Stage(NamedTuple):
    r"""A chain's stages, factorised; axes (traj, interval, ...).

    `h`: the Hessian's blocks with what was added. `weight`: $1/C$ of the loose rows. `ends`: the
    block of $Q$ between left ends and weights, and below it $G'$. `turned`: the factorised chain
    of boundaries.
    """

    h: Curves
    weight: Array
    ends: Array
    turned: Any


class Factor(NamedTuple):
    """The factorised system; `good` if the weights' curvature is positive and all is finite."""

    stages: tuple[Stage, ...]
    cholesky: Array
    good: Array


class _Bowl(NamedTuple):
    """What is left of a chain's Hessian in the left ends.

    `h`: its blocks with what was added. `own`: what the loose rows add to the weights' block.
    `along_l`: the gradient in the intervals' states per unit of the left ends. `q_ll`: the block
    of $Q$. `convex`: whether the objective is convex in the initial states.
    """

    h: Curves
    own: Array
    along_l: Array
    q_ll: Array
    convex: Array


def eliminate(structure: Structure, blocks: tuple[Slopes, ...]) -> tuple[Eliminated, ...]:
    """Each chain's intervals."""
    found = []
    for chain, a in zip(structure.chains, blocks, strict=True):
        on, (d, m) = driver(a.x), (a.l.shape[3], a.x.shape[3])
        a_x, a_l = a.x, a.l
        if on.traced or chain.padding.any():
            # In padding the end, the last of the unknowns, repeats the left end.
            unit = on.xp.asarray(chain.padding)[:, :, None, None] * on.xp.eye(m)
            a_x, a_l = a_x + unit, a_l - unit[..., m - d :]
        square = Square.of(a_x)
        found.append(Eliminated(square, square.negative(a_l), square.negative(a.w)))
    return tuple(found)


def factorise(
    structure: Structure,
    blocks: tuple[Slopes, ...],
    eliminated: tuple[Eliminated, ...],
    hessian: Curvature,
    diagonal: Float[Array, " variable"],
    weight: Float[Array, " constraint"],
    fixed: Array,
) -> Factor:
    """Eliminate chain and weights.

    `diagonal` is added to the Hessian; `weight` is $1/C$ of the rows that are no equations of the
    model; variables marked `fixed` have no step. On the host a factor that is not good is empty.
    """
    on, head = driver(diagonal), structure.num_head
    xp = on.xp
    schur = hessian.ww + xp.diag(diagonal[:head])
    diagonal, weight = one_more(diagonal), one_more(weight)
    parts = list(zip(structure.chains, blocks, eliminated, hessian.chains, strict=True))
    bowls = [_bowl(*part, diagonal, weight[part[0].loose], fixed) for part in parts]
    good = on.value(True)
    for bowl in bowls:
        good = good & xp.all(bowl.convex)
    if not on.traced and not good:
        # The rest would be for nothing: more is to be added to the Hessian.
        return Factor((), schur, good)
    stages = []
    for (chain, _, intervals, _), bowl in zip(parts, bowls, strict=True):
        stage, own = _stage(intervals, bowl, weight[chain.loose], fixed[chain.first])
        stages.append(stage)
        schur = _to_schur(chain, schur, own)
        good = good & xp.isfinite(stage.turned.by_weights).all()
    held = fixed[:head]
    schur = (schur + schur.T) / 2
    if on.traced or held.any():
        free = ~held[:, None] & ~held[None, :]
        schur = xp.where(free, schur, xp.diag(held.astype(schur.dtype)))
    factor, positive = cholesky(schur)
    return Factor(tuple(stages), factor, good & positive)


def _to_schur(chain: Chain, schur: Array, own: Array) -> Array:
    """The Schur complement, which is not used again, plus a chain's part of it."""
    on, shared = driver(schur), chain.num_shared
    weights = slice(shared)
    schur = on.add_into(schur, (weights, weights), own[:, :shared, :shared].sum(axis=0))
    unknown = chain.head[:, shared:]
    if not unknown.shape[1]:
        return schur
    rows, columns = unknown[:, :, None], chain.head[:, None, :shared]
    schur = on.add_into(schur, (rows, columns), own[:, shared:, :shared])
    rows, columns = chain.head[:, :, None], unknown[:, None, :]
    return on.add_into(schur, (rows, columns), own[:, :, shared:])


def _boundaries(on: Driver) -> Any:
    """The module that factorises the chain."""
    return traced_chain if on.traced else host_chain


def _bowl(
    chain: Chain,
    a: Slopes,
    intervals: Eliminated,
    h: Curves,
    diagonal: Array,
    weight: Array,
    fixed: Array,
) -> _Bowl:
    """What is left of a chain's Hessian in the left ends."""
    on, (d, m) = driver(diagonal), (a.l.shape[3], a.x.shape[3])
    t_l = intervals.t_l
    h, own = _condensed(chain, a, h, diagonal, weight)
    along_l = h.xx @ t_l + transpose(h.lx)
    q_ll = h.ll + h.lx @ t_l + transpose(t_l) @ along_l
    convex = _boundaries(on).are_convex(q_ll, t_l[:, :, m - d :], fixed[chain.first])
    return _Bowl(h, own, along_l, q_ll, convex)


def _stage(intervals: Eliminated, bowl: _Bowl, weight: Array, held: Array) -> tuple[Stage, Array]:
    """A chain's stages, and what it adds to the Schur complement."""
    _, t_l, t_w = intervals
    h, own, along_l, q_ll, _ = bowl
    on, (m, d) = driver(t_l), t_l.shape[2:]
    q_lw = transpose(t_l) @ h.xw
    q_lw += h.lw
    q_lw += transpose(along_l) @ t_w
    # Not symmetric, but right once the Schur complement is made so.
    own = own + gram_with(t_w, h.xx, h.xw)
    ends = on.xp.concatenate([q_lw, t_w[:, :, m - d :]], axis=2)
    turned = _boundaries(on).factorise_chains(q_ll, ends, t_l[:, :, m - d :], held)
    return Stage(h, weight, ends, turned), own + gram(ends, turned.by_weights)


def _condensed(
    chain: Chain, a: Slopes, h: Curves, diagonal: Array, weight: Array
) -> tuple[Curves, Array]:
    """The Hessian's blocks with the diagonal and the loose rows, $A^T C^{-1} A$, added.

    With them comes what the loose rows add to the weights' own block.
    """
    on = driver(diagonal)
    xp = on.xp
    ll, lx, xx, lw, xw = h
    xx = xx + diagonal[chain.inner][..., None] * xp.eye(a.x.shape[3])
    first = diagonal[chain.first][..., None] * xp.eye(a.l.shape[3])
    ll = on.add_to(ll, (slice(None), 0), first)
    own = xp.zeros((len(chain.head), a.w.shape[3], a.w.shape[3]))
    if has_loose_rows(chain):
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
    eliminated: tuple[Eliminated, ...],
    factor: Factor,
    dual: Float[Array, " variable"],
    primal: Float[Array, " constraint"],
    fixed: Array,
) -> tuple[Float[Array, " variable"], Float[Array, " constraint"]]:
    """The steps of variables and multipliers for one right-hand side `(dual, primal)`."""
    on, head = driver(dual), structure.num_head
    xp = on.xp
    if not on.traced and not factor.stages:
        return xp.full(len(dual), xp.nan), xp.full(len(primal), xp.nan)
    # A copy, to be added to.
    right = dual[:head] + 0.0
    dual, primal = one_more(dual), one_more(primal)
    local = []
    parts = list(zip(structure.chains, blocks, eliminated, factor.stages, strict=True))
    for chain, a, intervals, stage in parts:
        found, q_w = _forward(chain, a, intervals, stage, dual, primal, fixed[chain.first])
        local.append(found)
        right = add_to_head(chain, right, -q_w)
    right = xp.where(fixed[:head], 0.0, right)
    w = cholesky_solve(factor.cholesky, right)
    # One place more for what stands nowhere.
    z = on.put_into(xp.zeros(len(fixed) + 1), slice(head), w)
    multipliers = xp.zeros(structure.num_constraints + 1)
    for (chain, a, intervals, stage), found in zip(parts, local, strict=True):
        left, x, rows = _back(intervals, stage, found, w[chain.head])
        z = on.put_into(z, chain.first, left[:, 0])
        z = on.put_into(z, chain.inner, x)
        multipliers = on.put_into(multipliers, chain.rows, rows)
        if has_loose_rows(chain):
            own = times_weights(a.loose_w, w[chain.head])
            loose = times(a.loose_l, left) + times(a.loose_x, x) + own
            loose = stage.weight * (loose - found.loose)
            multipliers = on.put_into(multipliers, chain.loose, loose)
    return xp.where(fixed, 0.0, z[:-1]), multipliers[:-1]


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
    chain: Chain,
    a: Slopes,
    intervals: Eliminated,
    stage: Stage,
    dual: Array,
    primal: Array,
    held: Array,
) -> tuple[_Local, Array]:
    """Each trajectory's boundaries without the weights' share, and the weights' right-hand side."""
    on, (m, d) = driver(dual), intervals.t_l.shape[2:]
    h = stage.h
    t = intervals.square.vector(primal[chain.rows])
    loose = primal[chain.loose]
    r_x = dual[chain.inner]
    shift = stage.weight * loose
    if has_loose_rows(chain):
        r_x += times_transposed(a.loose_x, shift)
    along = times(h.xx, t) - r_x
    q_l = times_transposed(intervals.t_l, along) + times(h.lx, t)
    q_w = onto_weights(intervals.t_w, along) + onto_weights(h.xw, t)
    if has_loose_rows(chain):
        q_l = q_l - times_transposed(a.loose_l, shift)
        q_w = q_w - onto_weights(a.loose_w, shift)
    q_l = on.add_into(q_l, (slice(None), 0), -dual[chain.first])
    q_first = on.xp.where(held, 0.0, q_l[:, 0])
    u = _boundaries(on).solve_chains(stage.turned, q_first, q_l, t[:, :, m - d :])
    return _Local(u, t, r_x, loose), q_w + onto_weights(stage.ends, u)


def _back(
    intervals: Eliminated, stage: Stage, found: _Local, w: Array
) -> tuple[Array, Array, Array]:
    """Left ends, states and the multipliers of the model's equations, once `w` is known."""
    square, t_l, t_w = intervals
    on, (m, d), h = driver(w), t_l.shape[2:], stage.h
    u = found.u + times_weights(stage.turned.by_weights, w)
    left, nu = u[:, :, :d], u[:, :, d:]
    x = found.t + times(t_l, left) + times_weights(t_w, w)
    gradient = times(h.xx, x) + times_transposed(h.lx, left) + times_weights(h.xw, w) - found.r_x
    gradient = on.add_into(gradient, (slice(None), slice(None), slice(m - d, None)), nu)
    return left, x, -square.vector(gradient, transposed=True)
