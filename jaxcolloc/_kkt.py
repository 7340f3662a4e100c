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
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ._equations import Rows
from ._nlp import NLP
from ._precision import AnyArray


Index = Int[AnyArray, "*_"]
# Regularises equations that are no defects.
LOOSE = 1e-9
_LARGE, _ROUNDING = 1e100, 1e-12


class Chain(eqx.Module):
    """Trajectories of the same interval size, and where their blocks stand in sparse values.

    `jac_*`, `loose_*` and `hess_*` are positions among the non-zeros (one past the last: zero),
    `first`, `inner` and `head` among the variables, `rows` and `loose` among the constraints (one
    past the last: none). Intervals beyond a trajectory's own are padding that repeats its end.
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


class Structure(eqx.Module):
    """All chains, and the Hessian in the head."""

    chains: tuple[Chain, ...]
    hess_ww: Index
    num_head: int = eqx.field(static=True)
    num_hessian: int = eqx.field(static=True)


def structure(nlp: NLP, gauss_newton: bool = False) -> Structure:
    """Where everything stands, once per NLP.

    **Errors:** `ValueError` for ties and other constraints that join intervals.
    """
    return _Builder(nlp, gauss_newton).build()


class _Builder:
    """Sorts the non-zeros of both patterns into blocks."""

    def __init__(self, nlp: NLP, gauss_newton: bool):
        self.nlp, self.layout = nlp, nlp.layout
        self.d = nlp.num_states
        self.jacobian = nlp.jacobian_structure
        self.hessian = nlp.gauss_newton_structure if gauss_newton else nlp.hessian_structure
        self.strides = [grid.scheme.num_nodes - int(grid.scheme.includes_end) for grid in nlp.grids]
        members: dict[tuple[int, int, int], list[int]] = {}
        for k, grid in enumerate(nlp.grids):
            size = int(np.ceil(np.log2(grid.num_intervals)))
            key = (self.strides[k], self.layout.unknown_counts[k], size)
            members.setdefault(key, []).append(k)
        self.members = list(members.values())

    def build(self) -> Structure:
        nlp, layout = self.nlp, self.layout
        head = layout.num_head
        node = np.arange(layout.num_nodes)
        trajectory = np.searchsorted(layout.first_nodes, node, side="right") - 1
        inside = node - layout.first_nodes[trajectory]
        stride = np.array(self.strides)[trajectory]
        # The first node belongs to interval 0 as its left end; others to the one that they end.
        interval = np.maximum(inside - 1, 0) // stride
        self.trajectory, self.interval = trajectory, interval
        self.local = np.where(inside == 0, -1, (inside - 1) % stride)
        self.chain_of = np.zeros(len(nlp.grids), int)
        self.member_of = np.zeros(len(nlp.grids), int)
        for number, members in enumerate(self.members):
            self.chain_of[members] = number
            self.member_of[members] = np.arange(len(members))
        self._rows()
        rows, columns = self.hessian
        in_head = (rows < head) & (columns < head)
        ww = np.full((head, head), len(rows), np.int32)
        at = np.flatnonzero(in_head)
        ww[rows[at], columns[at]] = ww[columns[at], rows[at]] = at
        chains = tuple(self._chain(number) for number in range(len(self.members)))
        return Structure(chains, ww, head, len(rows))

    def _rows(self) -> None:
        """Which interval each constraint belongs to, and its place there."""
        nlp, d = self.nlp, self.d
        count = nlp.num_constraints
        self.row_trajectory = np.full(count, -1)
        self.row_interval = np.zeros(count, int)
        self.row_local = np.zeros(count, int)
        table = Rows(nlp.grids, d, bool(nlp.settings["collocate_start"]))
        for k, grid in enumerate(nlp.grids):
            _, defects, continuity = table.slices(k)
            each = (grid.scheme.num_nodes - 1) * d
            for part, size, offset in ((defects, each, 0), (continuity, d, each)):
                number = np.arange(part.stop - part.start)
                self.row_trajectory[part] = k
                self.row_interval[part] = number // size
                self.row_local[part] = offset + number % size
        self.is_loose = self.row_trajectory < 0
        self._loose_rows()

    def _loose_rows(self) -> None:
        """The interval that holds all states of a constraint."""
        rows, columns = self.jacobian
        state = self.is_loose[rows] & (columns >= self.layout.num_head)
        row, node = rows[state], (columns[state] - self.layout.num_head) // self.d
        first = self.local[node] < 0
        last = self.interval[node]
        self.row_trajectory[self.is_loose] = 0
        self.row_trajectory[row] = self.trajectory[node]
        np.maximum.at(self.row_interval, row, last)
        stride = np.array(self.strides)[self.trajectory[node]]
        is_end = self.local[node] == stride - 1
        fits = self.trajectory[node] == self.row_trajectory[row]
        here = last == self.row_interval[row]
        left = is_end & (last == self.row_interval[row] - 1)
        fits &= here | left | (first & (self.row_interval[row] == 0))
        if not fits.all():
            raise ValueError(
                "`nlp` must have no constraints that join several intervals or trajectories, such "
                f"as jc.Tie, for jc.InteriorPoint; got {len(np.unique(row[~fits]))} such "
                "equations. Use jc.Ipopt."
            )
        order: dict[tuple[int, int], int] = {}
        for i in np.flatnonzero(self.is_loose):
            key = (int(self.row_trajectory[i]), int(self.row_interval[i]))
            self.row_local[i] = order.get(key, 0)
            order[key] = self.row_local[i] + 1
        self.most_loose = max(order.values(), default=0)

    def _chain(self, number: int) -> Chain:
        nlp, layout, d = self.nlp, self.layout, self.d
        members = self.members[number]
        stride = self.strides[members[0]]
        m = stride * d
        count = len(members)
        longest = max(nlp.grids[k].num_intervals for k in members)
        own = layout.unknown_counts[members[0]]
        p, loose = layout.num_weights + own, self.most_loose
        head = np.stack(
            [np.concatenate([np.arange(layout.num_weights), layout.unknowns(k)]) for k in members]
        )
        # Where a column of the head stands among those of its trajectory.
        head_local = np.full((count, layout.num_head), -1)
        for member in range(count):
            head_local[member, head[member]] = np.arange(p)
        jac = {
            "l": np.full((count, longest, m, d), -1),
            "x": np.full((count, longest, m, m), -1),
            "w": np.full((count, longest, m, p), -1),
        }
        extra = {
            "l": np.full((count, longest, loose, d), -1),
            "x": np.full((count, longest, loose, m), -1),
            "w": np.full((count, longest, loose, p), -1),
        }
        rows, columns = self.jacobian
        mine = self.chain_of[self.row_trajectory[rows]] == number
        entry = np.flatnonzero(mine)
        row, column = rows[entry], columns[entry]
        member = self.member_of[self.row_trajectory[row]]
        e, r = self.row_interval[row], self.row_local[row]
        for blocks, chosen in ((jac, ~self.is_loose[row]), (extra, self.is_loose[row])):
            self._place(blocks, chosen, entry, (member, e, r), column, head_local)
        hess = {
            "ll": np.full((count, longest, d, d), -1),
            "lx": np.full((count, longest, d, m), -1),
            "xx": np.full((count, longest, m, m), -1),
            "lw": np.full((count, longest, d, p), -1),
            "xw": np.full((count, longest, m, p), -1),
        }
        self._place_hessian(hess, number, head_local)
        places = self._positions(members, longest, m, loose)
        num_jac, num_hess = len(rows), len(self.hessian[0])

        def closed(block: np.ndarray, none: int) -> np.ndarray:
            return np.where(block < 0, none, block).astype(np.int32)

        return Chain(
            **{f"jac_{name}": closed(block, num_jac) for name, block in jac.items()},
            **{f"loose_{name}": closed(block, num_jac) for name, block in extra.items()},
            **{f"hess_{name}": closed(block, num_hess) for name, block in hess.items()},
            head=head.astype(np.int32),
            **places,
        )

    def _place(
        self,
        blocks: dict[str, np.ndarray],
        chosen: np.ndarray,
        entry: np.ndarray,
        where: tuple[np.ndarray, ...],
        column: np.ndarray,
        head_local: np.ndarray,
    ) -> None:
        """Jacobian entries into the blocks of their interval."""
        entry, column = entry[chosen], column[chosen]
        member, e, r = (item[chosen] for item in where)
        num_head = self.layout.num_head
        weight = column < num_head
        at = member[weight], e[weight], r[weight]
        blocks["w"][(*at, head_local[at[0], column[weight]])] = entry[weight]
        state = ~weight
        member, e, r, entry = member[state], e[state], r[state], entry[state]
        node, component = np.divmod(column[state] - num_head, self.d)
        inside = (self.local[node] >= 0) & (self.interval[node] == e)
        left = ~inside
        blocks["l"][member[left], e[left], r[left], component[left]] = entry[left]
        position = self.local[node[inside]] * self.d + component[inside]
        blocks["x"][member[inside], e[inside], r[inside], position] = entry[inside]

    def _place_hessian(
        self, hess: dict[str, np.ndarray], number: int, head_local: np.ndarray
    ) -> None:
        num_head = self.layout.num_head
        rows, columns = self.hessian
        entry = np.flatnonzero(np.maximum(rows, columns) >= num_head)
        # The larger is a state, whichever triangle it was given in.
        high = np.maximum(rows[entry], columns[entry])
        low = np.minimum(rows[entry], columns[entry])
        node, component = np.divmod(high - num_head, self.d)
        mine = self.chain_of[self.trajectory[node]] == number
        entry, low, node, component = entry[mine], low[mine], node[mine], component[mine]
        member = self.member_of[self.trajectory[node]]
        e, local = self.interval[node], self.local[node]
        position = local * self.d + component
        first = local < 0
        weight = low < num_head
        for name, part in (("lw", weight & first), ("xw", weight & ~first)):
            i = component[part] if name == "lw" else position[part]
            j = head_local[member[part], low[part]]
            hess[name][member[part], e[part], i, j] = entry[part]
        both = ~weight
        entry, member, e, first = entry[both], member[both], e[both], first[both]
        component, position = component[both], position[both]
        other, other_component = np.divmod(low[both] - num_head, self.d)
        other_position = self.local[other] * self.d + other_component
        other_here = (self.local[other] >= 0) & (self.interval[other] == e)
        ll, xx = first, ~first & other_here
        lx = ~first & ~other_here
        for i, j in ((component, other_component), (other_component, component)):
            hess["ll"][member[ll], e[ll], i[ll], j[ll]] = entry[ll]
        for i, j in ((position, other_position), (other_position, position)):
            hess["xx"][member[xx], e[xx], i[xx], j[xx]] = entry[xx]
        hess["lx"][member[lx], e[lx], other_component[lx], position[lx]] = entry[lx]

    def _positions(
        self, members: list[int], longest: int, m: int, loose: int
    ) -> dict[str, np.ndarray]:
        """Where the blocks' unknowns stand among all variables and constraints."""
        nlp, layout, d = self.nlp, self.layout, self.d
        count = len(members)
        first = np.stack([layout.columns(layout.first_nodes[k]) + np.arange(d) for k in members])
        inner = np.full((count, longest, m), nlp.num_variables)
        rows = np.full((count, longest, m), nlp.num_constraints)
        extra = np.full((count, longest, loose), nlp.num_constraints)
        padding = np.ones((count, longest), bool)
        for member, k in enumerate(members):
            intervals = nlp.grids[k].num_intervals
            begin = first[member, 0] + d
            inner[member, :intervals] = begin + np.arange(intervals * m).reshape(intervals, m)
            padding[member, :intervals] = False
            own = np.flatnonzero(self.row_trajectory == k)
            kept = own[~self.is_loose[own]]
            rows[member, self.row_interval[kept], self.row_local[kept]] = kept
            more = own[self.is_loose[own]]
            extra[member, self.row_interval[more], self.row_local[more]] = more
        return {
            "first": first.astype(np.int32),
            "inner": inner.astype(np.int32),
            "rows": rows.astype(np.int32),
            "loose": extra.astype(np.int32),
            "padding": padding,
        }


class _Stage(NamedTuple):
    """A chain's intervals, eliminated; axes (traj, interval, ...).

    `t_l`, `t_w`: $T$ and $G$. `turn`, `upper_inverse`, `solved_next`: the chain's orthogonal and
    triangular factors, and what the latter make of the next boundary. `by_weights`: boundaries
    and multipliers $(l, \\nu)$ as functions of the weights. `unit_nu`: the unit of $\\nu$.
    """

    inverse: Array
    t_l: Array
    t_w: Array
    h_lx: Array
    h_xx: Array
    h_xw: Array
    loose: tuple[Array, Array, Array, Array]
    q_lw: Array
    turn: Array
    upper_inverse: Array
    solved_next: Array
    last_inverse: Array
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
    jacobian: Float[Array, " jacobian_entry"],
    hessian: Float[Array, " hessian_entry"],
    diagonal: Float[Array, " variable"],
    weight: Float[Array, " constraint"],
    fixed: Array,
) -> Factor:
    r"""Eliminate intervals, chain and weights.

    `diagonal` is added to the Hessian; `weight` is $1/C$ of the rows that are no equations of the
    model; variables marked `fixed` have no step.
    """
    jacobian, hessian = jnp.append(jacobian, 0.0), jnp.append(hessian, 0.0)
    diagonal, weight = jnp.append(diagonal, 0.0), jnp.append(weight, 0.0)
    fixed = jnp.append(fixed, False)
    schur = hessian[structure.hess_ww] + jnp.diag(diagonal[: structure.num_head])
    stages = []
    for chain in structure.chains:
        stage, own = _eliminate(chain, jacobian, hessian, diagonal, weight, fixed)
        stages.append(stage)
        rows, columns = chain.head[:, :, None], chain.head[:, None, :]
        schur = schur.at[rows, columns].add(own)
    held = fixed[: structure.num_head]
    free = ~held[:, None] & ~held[None, :]
    schur = jnp.where(free, (schur + schur.T) / 2, jnp.diag(held.astype(schur.dtype)))
    cholesky = jnp.linalg.cholesky(schur)
    good = jnp.all(jnp.isfinite(cholesky))
    for stage in stages:
        good = good & jnp.all(stage.convex) & jnp.all(jnp.isfinite(stage.by_weights))
    return Factor(tuple(stages), cholesky, good)


def _eliminate(
    chain: Chain, jacobian: Array, hessian: Array, diagonal: Array, weight: Array, fixed: Array
) -> tuple[_Stage, Array]:
    """A chain's stage, and what it adds to the Schur complement."""
    d, m = chain.jac_l.shape[3], chain.jac_x.shape[3]
    padding = jnp.asarray(chain.padding)[:, :, None, None]
    unit = jnp.eye(m)
    a_x = jacobian[chain.jac_x] + padding * unit
    # In padding the end, the last of the unknowns, repeats the left end.
    a_l = jacobian[chain.jac_l] - padding * unit[:, m - d :]
    a_w = jacobian[chain.jac_w]
    inverse = jnp.linalg.inv(a_x)
    t_l, t_w = -inverse @ a_l, -inverse @ a_w
    h_ll, h_lx, h_xx = hessian[chain.hess_ll], hessian[chain.hess_lx], hessian[chain.hess_xx]
    h_lw, h_xw = hessian[chain.hess_lw], hessian[chain.hess_xw]
    h_xx = h_xx + diagonal[chain.inner][..., None] * unit
    h_ll = h_ll.at[:, 0].add(diagonal[chain.first][..., None] * jnp.eye(d))
    c_l, c_x, c_w = (jacobian[item] for item in (chain.loose_l, chain.loose_x, chain.loose_w))
    w_c = weight[chain.loose]
    loose = (c_l, c_x, c_w, w_c)
    own = jnp.zeros((len(chain.head), t_w.shape[3], t_w.shape[3]))
    if chain.loose.shape[2]:
        weighted_l, weighted_x = _t(c_l * w_c[..., None]), _t(c_x * w_c[..., None])
        h_ll, h_lx, h_xx = h_ll + weighted_l @ c_l, h_lx + weighted_l @ c_x, h_xx + weighted_x @ c_x
        h_lw, h_xw = h_lw + weighted_l @ c_w, h_xw + weighted_x @ c_w
        own = own + _gram(c_w * w_c[..., None], c_w)
    along_l = h_xx @ t_l + _t(h_lx)
    q_ll = h_ll + h_lx @ t_l + _t(t_l) @ along_l
    q_lw = h_lw + h_lx @ t_w + _t(t_l) @ h_xw + _t(along_l - _t(h_lx)) @ t_w
    half = h_xw + h_xx @ t_w / 2
    crossed = _gram(t_w, half)
    own = own + crossed + _t(crossed)
    step_l, step_w = t_l[:, :, m - d :], t_w[:, :, m - d :]
    # The chain's multipliers in the unit of its Hessian, so that rows to be turned are alike.
    unit_nu = jnp.max(jnp.abs(q_ll), axis=(1, 2, 3), keepdims=True)
    unit_nu = jnp.where(unit_nu > 0, unit_nu, 1.0)
    chained = jax.vmap(_chain)(q_ll / unit_nu, q_lw / unit_nu, step_l, step_w, fixed[chain.first])
    turn, upper_inverse, solved_next, last_inverse, by_weights = chained
    by_weights = by_weights.at[:, :, d:].multiply(unit_nu)
    convex = jax.vmap(_convex)(q_ll, step_l, fixed[chain.first])
    own = own + _gram(q_lw, by_weights[:, :, :d]) + _gram(step_w, by_weights[:, :, d:])
    stage = _Stage(
        inverse, t_l, t_w, h_lx, h_xx, h_xw, loose, q_lw, turn, upper_inverse, solved_next,
        last_inverse, by_weights, convex, unit_nu[:, 0, 0],
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
    q_ll: Array, q_lw: Array, step_l: Array, step_w: Array, fixed: Array
) -> tuple[Array, ...]:
    """Make the chain of one trajectory triangular, and solve it for the weights' columns."""
    d, p = q_lw.shape[1:]
    none, unit = jnp.zeros((d, d)), jnp.eye(d)
    here = fixed[:, None]
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
    upper_inverse = jax.scipy.linalg.solve_triangular(
        upper, jnp.broadcast_to(jnp.eye(2 * d), upper.shape)
    )
    solved_next, solved_w = upper_inverse @ coupling, upper_inverse @ weights
    last_inverse = jnp.linalg.inv(alpha)
    end = jnp.concatenate([-last_inverse @ omega, jnp.zeros((d, p))])

    def backward(after: Array, item: tuple[Array, Array]) -> tuple[Array, Array]:
        now = -(item[0] @ after) - item[1]
        return now, now

    _, before = jax.lax.scan(backward, end, (solved_next, solved_w), reverse=True)
    by_weights = jnp.concatenate([before, end[None]])
    return turn, upper_inverse, solved_next, last_inverse, by_weights


def solve(
    structure: Structure,
    factor: Factor,
    dual: Float[Array, " variable"],
    primal: Float[Array, " constraint"],
    fixed: Array,
) -> tuple[Float[Array, " variable"], Float[Array, " constraint"]]:
    """The steps of variables and multipliers for one right-hand side `(dual, primal)`."""
    head = structure.num_head
    fixed = jnp.append(fixed, False)
    dual, primal = jnp.append(dual, 0.0), jnp.append(primal, 0.0)
    right = dual[:head]
    local = []
    for chain, stage in zip(structure.chains, factor.stages, strict=True):
        found = _forward(chain, stage, dual, primal, fixed)
        local.append(found)
        right = right.at[chain.head].add(-found[-1])
    right = jnp.where(fixed[:head], 0.0, right)
    w = jax.scipy.linalg.cho_solve((factor.cholesky, True), right)
    z = jnp.zeros(len(dual)).at[:head].set(w)
    multipliers = jnp.zeros(len(primal))
    for chain, stage, found in zip(structure.chains, factor.stages, local, strict=True):
        z, multipliers = _back(chain, stage, found, w, dual, primal, z, multipliers)
    return jnp.where(fixed[:-1], 0.0, z[:-1]), multipliers[:-1]


def _forward(
    chain: Chain, stage: _Stage, dual: Array, primal: Array, fixed: Array
) -> tuple[Array, ...]:
    """Each trajectory's boundaries without the weights' share, and the weights' right side."""
    d, m = chain.jac_l.shape[3], chain.jac_x.shape[3]
    c_l, c_x, c_w, w_c = stage.loose
    r_x, c = dual[chain.inner], primal[chain.rows]
    shift = w_c * primal[chain.loose]
    r_x = r_x + jnp.einsum("terx,ter->tex", c_x, shift)
    r_l = jnp.einsum("terl,ter->tel", c_l, shift).at[:, 0].add(dual[chain.first])
    t = jnp.einsum("texy,tey->tex", stage.inverse, c)
    along = jnp.einsum("texy,tey->tex", stage.h_xx, t) - r_x
    q_l = (
        jnp.einsum("texl,tex->tel", stage.t_l, along)
        + jnp.einsum("telx,tex->tel", stage.h_lx, t)
        - r_l
    )
    q_w = (
        jnp.einsum("texp,tex->tp", stage.t_w, along)
        + jnp.einsum("texp,tex->tp", stage.h_xw, t)
        - jnp.einsum("terp,ter->tp", c_w, shift)
    )
    q_first = jnp.where(fixed[chain.first], 0.0, q_l[:, 0])
    unit = stage.unit_nu
    u = jax.vmap(_chain_solve)(stage, q_first / unit, q_l / unit[:, None], t[:, :, m - d :])
    u = u.at[:, :, d:].multiply(unit[:, None])
    q_w = (
        q_w
        + jnp.einsum("telp,tel->tp", stage.q_lw, u[:, :, :d])
        + jnp.einsum("telp,tel->tp", stage.t_w[:, :, m - d :], u[:, :, d:])
    )
    return u, t, r_x, q_w


def _chain_solve(stage: _Stage, q_first: Array, q_l: Array, step: Array) -> Array:
    """Boundaries and multipliers of one trajectory for one right-hand side."""
    d = q_l.shape[1]

    def forward(rho: Array, item: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        turn, step, q = item
        turned = turn @ jnp.concatenate([rho, step, q])
        return turned[2 * d :], turned[: 2 * d]

    rho, kept = jax.lax.scan(forward, q_first, (stage.turn, step[:-1], q_l[1:]))
    solved = jnp.einsum("eij,ej->ei", stage.upper_inverse, kept)
    end = jnp.concatenate([-stage.last_inverse @ rho, jnp.zeros(d)])

    def backward(after: Array, item: tuple[Array, Array]) -> tuple[Array, Array]:
        now = -(item[0] @ after) - item[1]
        return now, now

    _, before = jax.lax.scan(backward, end, (stage.solved_next, solved), reverse=True)
    return jnp.concatenate([before, end[None]])


def _back(
    chain: Chain,
    stage: _Stage,
    found: tuple[Array, ...],
    w: Array,
    dual: Array,
    primal: Array,
    z: Array,
    multipliers: Array,
) -> tuple[Array, Array]:
    """States and multipliers, once the weights are known."""
    d, m = chain.jac_l.shape[3], chain.jac_x.shape[3]
    u, t, r_x, _ = found
    own = w[chain.head]
    u = u + jnp.einsum("teup,tp->teu", stage.by_weights, own)
    left, nu = u[:, :, :d], u[:, :, d:]
    x = (
        t
        + jnp.einsum("texl,tel->tex", stage.t_l, left)
        + jnp.einsum("texp,tp->tex", stage.t_w, own)
    )
    gradient = (
        jnp.einsum("texy,tey->tex", stage.h_xx, x)
        + jnp.einsum("telx,tel->tex", stage.h_lx, left)
        + jnp.einsum("texp,tp->tex", stage.h_xw, own)
        - r_x
    )
    gradient = gradient.at[:, :, m - d :].add(nu)
    own_rows = -jnp.einsum("texy,tex->tey", stage.inverse, gradient)
    c_l, c_x, c_w, w_c = stage.loose
    loose = w_c * (
        jnp.einsum("terl,tel->ter", c_l, left)
        + jnp.einsum("terx,tex->ter", c_x, x)
        + jnp.einsum("terp,tp->ter", c_w, own)
        - primal[chain.loose]
    )
    # Padding stands one past the end, whose value is not used.
    z = z.at[chain.first].set(left[:, 0]).at[chain.inner].set(x)
    multipliers = multipliers.at[chain.rows].set(own_rows).at[chain.loose].set(loose)
    return z, multipliers


def _t(a: Array) -> Array:
    return jnp.swapaxes(a, -1, -2)
