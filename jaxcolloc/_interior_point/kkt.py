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

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .structure import Chain, Structure


# Regularises equations that are no defects.
LOOSE = 1e-9
_LARGE, _ROUNDING = 1e100, 1e-12
# Up to this size many small matrices are inverted, which later saves time; larger ones are not.
_SMALL = 32


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
    """The Jacobian's blocks, each row times its scale."""
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
    """The Hessian's blocks."""
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


def transposed(
    structure: Structure, blocks: tuple[Slopes, ...], multipliers: Float[Array, " constraint"]
) -> Float[Array, " variable"]:
    """$A^T \\lambda$."""
    z = jnp.zeros(structure.num_variables)
    multipliers = jnp.append(multipliers, 0.0)
    for chain, a in zip(structure.chains, blocks, strict=True):
        rows, loose = multipliers[chain.rows], multipliers[chain.loose]
        left = _times_t(a.l, rows) + _times_t(a.loose_l, loose)
        x = _times_t(a.x, rows) + _times_t(a.loose_x, loose)
        w = _down(a.w, rows) + _down(a.loose_w, loose)
        z = _gathered(chain, z, left, x, w)
    return z


def times(
    structure: Structure, blocks: tuple[Slopes, ...], z: Float[Array, " variable"]
) -> Float[Array, " constraint"]:
    """$A z$."""
    found = jnp.zeros(structure.num_constraints)
    for chain, a in zip(structure.chains, blocks, strict=True):
        left, x, w = _spread(chain, z)
        rows = _times(a.l, left) + _times(a.x, x) + _across(a.w, w)
        loose = _times(a.loose_l, left) + _times(a.loose_x, x) + _across(a.loose_w, w)
        found = found.at[chain.rows].set(rows, mode="drop")
        found = found.at[chain.loose].set(loose, mode="drop")
    return found


def curved(
    structure: Structure, hessian: Curvature, z: Float[Array, " variable"]
) -> Float[Array, " variable"]:
    """$W z$."""
    head = structure.num_head
    product = jnp.zeros(len(z)).at[:head].set(hessian.ww @ z[:head])
    for chain, h in zip(structure.chains, hessian.chains, strict=True):
        left, x, w = _spread(chain, z)
        in_left = _times(h.ll, left) + _times(h.lx, x) + _across(h.lw, w)
        in_x = _times(h.xx, x) + _times_t(h.lx, left) + _across(h.xw, w)
        in_w = _down(h.lw, left) + _down(h.xw, x)
        product = _gathered(chain, product, in_left, in_x, in_w)
    return product


def _spread(chain: Chain, z: Array) -> tuple[Array, Array, Array]:
    """Left ends and other states of the intervals, and weights; axes (traj, interval, ...)."""
    d = chain.jac_l.shape[3]
    x = jnp.append(z, 0.0)[chain.inner]
    left = jnp.concatenate([z[chain.first][:, None], x[:, :-1, x.shape[2] - d :]], axis=1)
    return left, x, z[chain.head]


def _gathered(chain: Chain, z: Array, left: Array, x: Array, w: Array) -> Array:
    """The reverse of `_spread`, added to `z`."""
    d = left.shape[2]
    x = x.at[:, :-1, x.shape[2] - d :].add(left[:, 1:])
    z = z.at[chain.first].add(left[:, 0]).at[chain.inner].add(x, mode="drop")
    return _to_head(chain, z, w)


def _to_head(chain: Chain, z: Array, w: Array) -> Array:
    """`z` plus what all trajectories of a chain say on the head; the weights are its first."""
    shared = chain.num_shared
    z = z.at[:shared].add(jnp.sum(w[:, :shared], axis=0))
    return z.at[chain.head[:, shared:]].add(w[:, shared:])


class _Square(NamedTuple):
    """Square matrices, ready to solve with: the inverses of small ones, or $LU$ and pivots."""

    matrices: Array
    pivots: Array | None

    @classmethod
    def of(cls, a: Array, small: int = _SMALL) -> "_Square":
        """From the matrices in the last two axes."""
        if a.shape[-1] <= small:
            return cls(jnp.linalg.inv(a), None)
        return cls(*jax.scipy.linalg.lu_factor(a))

    def negative(self, b: Array) -> Array:
        """$-A^{-1} B$."""
        if self.pivots is None:
            return -self.matrices @ b
        return -jax.scipy.linalg.lu_solve((self.matrices, self.pivots), b)

    def vector(self, b: Array, transposed: bool = False) -> Array:
        """$A^{-1} b$, or $A^{-T} b$."""
        if self.pivots is None:
            return (_times_t if transposed else _times)(self.matrices, b)
        factors = self.matrices, self.pivots
        return jax.scipy.linalg.lu_solve(factors, b[..., None], int(transposed))[..., 0]


class _Stage(NamedTuple):
    """A chain's intervals, eliminated; axes (traj, interval, ...).

    `t_l`, `t_w`: $T$ and $G$. `h`: the Hessian's blocks with what was added. `turn`, `upper`,
    `next`: the chain's orthogonal and triangular factors, and what the latter make of the next
    boundary; `last` is its end. `by_weights`: boundaries and multipliers $(l, \\nu)$ as
    functions of the weights. `unit_nu`: the unit of $\\nu$.
    """

    square: _Square
    t_l: Array
    t_w: Array
    h: Curves
    weight: Array
    q_lw: Array
    turn: Array
    upper: Array
    next: Array
    last: _Square
    by_weights: Array
    convex: Array
    unit_nu: Array


class Factor(NamedTuple):
    """The factorised system; `good` if the weights' curvature is positive and all is finite."""

    stages: tuple[_Stage, ...]
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
    r"""Eliminate intervals, chain and weights.

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
        good = good & jnp.all(stage.convex) & jnp.all(jnp.isfinite(stage.by_weights))
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
) -> tuple[_Stage, Array]:
    """A chain's stage, and what it adds to the Schur complement."""
    d, m = a.l.shape[3], a.x.shape[3]
    padding = jnp.asarray(chain.padding)[:, :, None, None]
    unit = jnp.eye(m)
    # In padding the end, the last of the unknowns, repeats the left end.
    square = _Square.of(a.x + padding * unit)
    t_l, t_w = square.negative(a.l - padding * unit[:, m - d :]), square.negative(a.w)
    h_ll, h_lx, h_xx, h_lw, h_xw = h
    h_xx = h_xx + diagonal[chain.inner][..., None] * unit
    h_ll = h_ll.at[:, 0].add(diagonal[chain.first][..., None] * jnp.eye(d))
    own = jnp.zeros((len(chain.head), t_w.shape[3], t_w.shape[3]))
    if chain.loose.shape[2]:
        c_l, c_x, c_w = a.loose_l, a.loose_x, a.loose_w
        weighted_l, weighted_x = _t(c_l * weight[..., None]), _t(c_x * weight[..., None])
        h_ll, h_lx, h_xx = h_ll + weighted_l @ c_l, h_lx + weighted_l @ c_x, h_xx + weighted_x @ c_x
        h_lw, h_xw = h_lw + weighted_l @ c_w, h_xw + weighted_x @ c_w
        own = own + _gram(c_w * weight[..., None], c_w)
    along_l = h_xx @ t_l + _t(h_lx)
    q_ll = h_ll + h_lx @ t_l + _t(t_l) @ along_l
    q_lw = h_lw + _t(t_l) @ h_xw + _t(along_l) @ t_w
    half = h_xw + (h_xx / 2) @ t_w
    crossed = _gram(t_w, half)
    own = own + crossed + _t(crossed)
    step_l, step_w = t_l[:, :, m - d :], t_w[:, :, m - d :]
    # The chain's multipliers in the unit of its Hessian, so that rows to be turned are alike.
    unit_nu = jnp.max(jnp.abs(q_ll), axis=(1, 2, 3), keepdims=True)
    unit_nu = jnp.where(unit_nu > 0, unit_nu, 1.0)
    chained = jax.vmap(_chain)(q_ll / unit_nu, q_lw / unit_nu, step_l, step_w, held)
    turn, upper, following, last, by_weights = chained
    by_weights = by_weights.at[:, :, d:].multiply(unit_nu)
    convex = jax.vmap(_convex)(q_ll, step_l, held)
    own = own + _gram(q_lw, by_weights[:, :, :d]) + _gram(step_w, by_weights[:, :, d:])
    stage = _Stage(
        square, t_l, t_w, Curves(h_ll, h_lx, h_xx, h_lw, h_xw), weight, q_lw, turn, upper,
        following, last, by_weights, convex, unit_nu[:, 0, 0],
    )  # fmt: skip
    return stage, own


def _convex(q_ll: Array, step_l: Array, fixed: Array) -> Array:
    """Whether the objective is convex in the initial state, all else following from it.

    $V_e = Q_e + T'_e{}^T V_{e+1} T'_e$, scaled on the way, which keeps its sign.
    """
    d = q_ll.shape[1]

    def backward(after: tuple[Array, Array], item: tuple[Array, Array]) -> Any:
        value, scale = after
        q, step = item
        value = scale * q + step.T @ value @ step
        size = jnp.maximum(1.0, jnp.max(jnp.abs(value)) / _LARGE)
        return (value / size, scale / size), None

    start = (jnp.zeros((d, d)), jnp.asarray(1.0))
    (value, _), _ = jax.lax.scan(backward, start, (q_ll, step_l), reverse=True)
    free = ~fixed[:, None] & ~fixed[None, :]
    value = jnp.where(free, (value + value.T) / 2, jnp.diag(fixed.astype(value.dtype)))
    lowest = jnp.linalg.eigvalsh(value)[0]
    # What is lost in rounding is no curvature.
    return lowest > -_ROUNDING * jnp.max(jnp.abs(value))


def _gram(a: Array, b: Array) -> Array:
    """Sum over intervals of `a.T @ b`, as one product per trajectory."""
    flat = (len(a), -1)
    return _t(a.reshape(*flat, a.shape[-1])) @ b.reshape(*flat, b.shape[-1])


def _chain(
    q_ll: Array, q_lw: Array, step_l: Array, step_w: Array, held: Array
) -> tuple[Array, Array, Array, _Square, Array]:
    """Make the chain of one trajectory triangular, and solve it for the weights' columns."""
    d, p = q_lw.shape[1:]
    none, unit = jnp.zeros((d, d)), jnp.eye(d)
    here = held[:, None]
    alpha = jnp.where(here, unit, q_ll[0])
    beta = jnp.where(here, 0.0, step_l[0].T)
    omega = jnp.where(here, 0.0, q_lw[0])

    def forward(carry: tuple[Array, Array, Array], item: tuple[Array, ...]) -> Any:
        alpha, beta, omega = carry
        step, step_weights, q, q_weights, next_step = item
        old = jnp.block([[alpha, beta], [step, none], [none, -unit]])
        new = jnp.block([[none, none], [-unit, none], [q, next_step.T]])
        orthogonal, upper = jnp.linalg.qr(old, mode="complete")
        turn = orthogonal.T
        turned = turn @ new
        weights = turn @ jnp.concatenate([omega, step_weights, q_weights])
        kept = turned[2 * d :]
        carry = (kept[:, :d], kept[:, d:], weights[2 * d :])
        return carry, (turn, upper[: 2 * d], turned[: 2 * d], weights[: 2 * d])

    items = (step_l[:-1], step_w[:-1], q_ll[1:], q_lw[1:], step_l[1:])
    (alpha, _, omega), (turn, upper, coupling, weights) = jax.lax.scan(
        forward, (alpha, beta, omega), items
    )
    # One after the other: an inverse would lose digits where the chain is nearly singular.
    solved = jax.scipy.linalg.solve_triangular(upper, jnp.concatenate([coupling, weights], axis=2))
    following, solved_w = solved[:, :, : 2 * d], solved[:, :, 2 * d :]
    last = _Square.of(alpha, 0)
    end = jnp.concatenate([last.negative(omega), jnp.zeros((d, p))])
    before = _backward(following, solved_w, end)
    return turn, upper, following, last, jnp.concatenate([before, end[None]])


def _backward(following: Array, solved: Array, end: Array) -> Array:
    """$u_e = -F_e u_{e+1} - s_e$, from the end."""

    def backward(after: Array, item: tuple[Array, Array]) -> tuple[Array, Array]:
        now = -(item[0] @ after) - item[1]
        return now, now

    return jax.lax.scan(backward, end, (following, solved), reverse=True)[1]


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
        right = _to_head(chain, right, -q_w)
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
    """What is known of a chain before the weights are: boundaries, and each interval's parts."""

    u: Array
    t: Array
    r_x: Array
    loose: Array


def _forward(
    chain: Chain, a: Slopes, stage: _Stage, dual: Array, primal: Array, held: Array
) -> tuple[_Local, Array]:
    """Each trajectory's boundaries without the weights' share, and the weights' right side."""
    d, m = a.l.shape[3], a.x.shape[3]
    h = stage.h
    loose = primal[chain.loose]
    shift = stage.weight * loose
    r_x = dual[chain.inner] + _times_t(a.loose_x, shift)
    r_l = _times_t(a.loose_l, shift).at[:, 0].add(dual[chain.first])
    t = stage.square.vector(primal[chain.rows])
    along = _times(h.xx, t) - r_x
    q_l = _times_t(stage.t_l, along) + _times(h.lx, t) - r_l
    q_w = _down(stage.t_w, along) + _down(h.xw, t) - _down(a.loose_w, shift)
    q_first = jnp.where(held, 0.0, q_l[:, 0])
    unit = stage.unit_nu
    u = jax.vmap(_chain_solve)(stage, q_first / unit, q_l / unit[:, None], t[:, :, m - d :])
    u = u.at[:, :, d:].multiply(unit[:, None])
    q_w = q_w + _down(stage.q_lw, u[:, :, :d]) + _down(stage.t_w[:, :, m - d :], u[:, :, d:])
    return _Local(u, t, r_x, loose), q_w


def _chain_solve(stage: _Stage, q_first: Array, q_l: Array, step: Array) -> Array:
    """Boundaries and multipliers of one trajectory for one right-hand side."""
    d = q_l.shape[1]

    def forward(rho: Array, item: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        turn, step, q = item
        turned = turn @ jnp.concatenate([rho, step, q])
        return turned[2 * d :], turned[: 2 * d]

    rho, kept = jax.lax.scan(forward, q_first, (stage.turn, step[:-1], q_l[1:]))
    solved = jax.scipy.linalg.solve_triangular(stage.upper, kept[..., None])[..., 0]
    end = jnp.concatenate([-stage.last.vector(rho), jnp.zeros(d)])
    return jnp.concatenate([_backward(stage.next, solved, end), end[None]])


def _back(a: Slopes, stage: _Stage, found: _Local, w: Array) -> tuple[Array, Array, Array, Array]:
    """Left ends, states and both kinds of multipliers, once the weights are known."""
    d, m = a.l.shape[3], a.x.shape[3]
    h = stage.h
    u = found.u + _across(stage.by_weights, w)
    left, nu = u[:, :, :d], u[:, :, d:]
    x = found.t + _times(stage.t_l, left) + _across(stage.t_w, w)
    gradient = _times(h.xx, x) + _times_t(h.lx, left) + _across(h.xw, w) - found.r_x
    gradient = gradient.at[:, :, m - d :].add(nu)
    rows = -stage.square.vector(gradient, transposed=True)
    in_loose = _times(a.loose_l, left) + _times(a.loose_x, x) + _across(a.loose_w, w)
    return left, x, rows, stage.weight * (in_loose - found.loose)


def _times(a: Array, x: Array) -> Array:
    """Each interval's matrix times its vector."""
    return jnp.einsum("...ij,...j->...i", a, x)


def _times_t(a: Array, x: Array) -> Array:
    """Each interval's transposed matrix times its vector."""
    return jnp.einsum("...ij,...i->...j", a, x)


def _across(a: Array, w: Array) -> Array:
    """Each interval's matrix times the weights of its trajectory."""
    flat = a.reshape(len(a), -1, a.shape[-1])
    return (flat @ w[..., None]).reshape(a.shape[:-1])


def _down(a: Array, x: Array) -> Array:
    """Sum over intervals of transposed matrix times vector."""
    flat = a.reshape(len(a), -1, a.shape[-1])
    return (x.reshape(len(a), 1, -1) @ flat)[:, 0]


def _t(a: Array) -> Array:
    return jnp.swapaxes(a, -1, -2)
