"""Where the blocks of a collocation NLP's KKT system stand among its sparse values."""

import equinox as eqx
import numpy as np
from jaxtyping import Int

from .._nlp import NLP
from .._precision import AnyArray
from .._transcription.equations import Rows


Index = Int[AnyArray, "*_"]


class Chain(eqx.Module):
    """Trajectories of the same interval size, and where their blocks stand in sparse values.

    `jac_*`, `loose_*` and `hess_*` are positions among the non-zeros (one past the last: zero),
    `first`, `inner` and `head` among the variables, `rows` and `loose` among the constraints (one
    past the last: none). Intervals beyond a trajectory's own are padding that repeats its end.
    The first `num_shared` of every row of `head` are the weights, in order.
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
    """All chains, and the Hessian in the head."""

    chains: tuple[Chain, ...]
    hess_ww: Index
    num_head: int = eqx.field(static=True)
    num_variables: int = eqx.field(static=True)
    num_constraints: int = eqx.field(static=True)


def structure_of(nlp: NLP, gauss_newton: bool = False) -> Structure:
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
        return Structure(chains, ww, head, nlp.num_variables, nlp.num_constraints)

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
            num_shared=layout.num_weights,
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
