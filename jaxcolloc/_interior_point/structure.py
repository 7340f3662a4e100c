"""Where the blocks of an NLP's Jacobian and Hessian stand among their non-zeros.

This is the only place in the folder, beside the solver itself, that knows of trajectories' grids.
An interval's unknowns are the states at its nodes, without its left end, in order; its rows are its
collocation equations and then those of continuity. Algebraic variables and equations are among
them, so that an interval has as many of both; the algebraic equations at a trajectory's start are
loose rows.
"""

import numpy as np

from .._nlp import NLP
from .._transcription.groups import alike, length_class
from .._transcription.layout import Rows
from .blocks import Chain as Chain
from .blocks import Structure


def structure_of(nlp: NLP, gauss_newton: bool = False) -> Structure:
    """Where the blocks of this NLP's Jacobian and Hessian stand.

    `gauss_newton` is whether the Hessian is the Gauss-Newton approximation.

    **Errors:** `ValueError` for ties and other constraints that join intervals.
    """
    return _Builder(nlp, gauss_newton).build()


class _Builder:
    """Sorts the non-zeros of Jacobian and Hessian into blocks.

    `members` are the trajectories of each chain: those with intervals of one size, as many unknowns
    of their own, and similar numbers of intervals.
    """

    def __init__(self, nlp: NLP, gauss_newton: bool):
        self.nlp, self.layout = nlp, nlp.layout
        self.d = nlp.layout.num_states
        self.jacobian = nlp.jacobian_structure
        self.hessian = nlp.gauss_newton_structure if gauss_newton else nlp.hessian_structure
        self.strides = [grid.stride for grid in nlp.grids]
        counts = self.layout.unknown_counts
        self.members = alike(
            [(grid.stride, counts[k], length_class(grid)) for k, grid in enumerate(nlp.grids)]
        )

        self.chain_of = np.zeros(len(nlp.grids), int)
        self.member_of = np.zeros(len(nlp.grids), int)
        for number, members in enumerate(self.members):
            self.chain_of[members] = number
            self.member_of[members] = np.arange(len(members))
        self._locate_nodes()
        self._locate_rows()
        self._locate_loose_rows()

    def build(self) -> Structure:
        """The structure of all chains."""
        nlp, head = self.nlp, self.layout.num_head
        rows, columns = self.hessian
        in_head = (rows < head) & (columns < head)
        ww = np.full((head, head), len(rows), np.int32)
        at = np.flatnonzero(in_head)
        ww[rows[at], columns[at]] = ww[columns[at], rows[at]] = at
        chains = tuple(self._chain(number) for number in range(len(self.members)))
        return Structure(chains, ww, head, nlp.num_variables, nlp.num_constraints)

    def _locate_nodes(self) -> None:
        """Find the trajectory, the interval and the place there, `local`, of each node.

        The first node of a trajectory is the left end of its interval 0, with place -1; others
        belong to the interval that they are inside of or end.
        """
        layout = self.layout
        node = np.arange(layout.num_nodes)
        self.trajectory = np.searchsorted(layout.first_nodes, node, side="right") - 1
        inside = node - layout.first_nodes[self.trajectory]
        stride = np.array(self.strides)[self.trajectory]
        self.interval = np.maximum(inside - 1, 0) // stride
        self.local = np.where(inside == 0, -1, (inside - 1) % stride)

    def _locate_rows(self) -> None:
        """Find the trajectory, the interval and the place there of each equation of the model.

        The other constraints are marked as loose.
        """
        nlp, d = self.nlp, self.d
        count = nlp.num_constraints
        self.row_trajectory = np.full(count, -1)
        self.row_interval = np.zeros(count, int)
        self.row_local = np.zeros(count, int)
        table = Rows(nlp.grids, d, nlp.settings.collocate_start, nlp.num_algebraic)
        for k, grid in enumerate(nlp.grids):
            _, defects, continuity = table.slices(k)
            each = (grid.scheme.num_nodes - 1) * d
            for part, size, offset in ((defects, each, 0), (continuity, d, each)):
                number = np.arange(part.stop - part.start)
                self.row_trajectory[part] = k
                self.row_interval[part] = number // size
                self.row_local[part] = offset + number % size
        self.is_loose = self.row_trajectory < 0

    def _locate_loose_rows(self) -> None:
        """Find the same for loose constraints: the interval that holds all their states.

        **Errors:** `ValueError` where there is none.
        """
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
        """Where the blocks of one chain stand."""
        layout, d = self.layout, self.d
        members = self.members[number]
        m = self.strides[members[0]] * d
        longest = max(self.nlp.grids[k].num_intervals for k in members)
        head = np.stack(
            [np.concatenate([np.arange(layout.num_weights), layout.unknowns(k)]) for k in members]
        )
        p, shape = head.shape[1], (len(members), longest)
        # Where a column of the head stands among those of its trajectory.
        head_local = np.full((len(members), layout.num_head), -1)
        for member in range(len(members)):
            head_local[member, head[member]] = np.arange(p)

        def empty(**sizes: tuple[int, int]) -> dict[str, np.ndarray]:
            return {name: np.full((*shape, *size), -1) for name, size in sizes.items()}

        def closed(blocks: dict[str, np.ndarray], prefix: str, none: int) -> dict[str, np.ndarray]:
            return {
                prefix + name: np.where(block < 0, none, block).astype(np.int32)
                for name, block in blocks.items()
            }

        loose = self.most_loose
        jac = empty(l=(m, d), x=(m, m), w=(m, p))
        extra = empty(l=(loose, d), x=(loose, m), w=(loose, p))
        hess = empty(ll=(d, d), lx=(d, m), xx=(m, m), lw=(d, p), xw=(m, p))
        self._place_jacobian(jac, extra, number, head_local)
        self._place_hessian(hess, number, head_local)
        num_jac, num_hess = len(self.jacobian[0]), len(self.hessian[0])
        return Chain(
            **closed(jac, "jac_", num_jac),
            **closed(extra, "loose_", num_jac),
            **closed(hess, "hess_", num_hess),
            **self._positions(members, longest, m, loose),
            head=head.astype(np.int32),
            num_shared=layout.num_weights,
        )

    def _place_jacobian(
        self,
        jac: dict[str, np.ndarray],
        extra: dict[str, np.ndarray],
        number: int,
        head_local: np.ndarray,
    ) -> None:
        """Write where the Jacobian's entries stand into the blocks of one chain.

        Those of the model's equations go into `jac`, those of loose rows into `extra`.
        """
        rows, columns = self.jacobian
        entry = np.flatnonzero(self.chain_of[self.row_trajectory[rows]] == number)
        row, column = rows[entry], columns[entry]
        member = self.member_of[self.row_trajectory[row]]
        where = member, self.row_interval[row], self.row_local[row]
        for blocks, chosen in ((jac, ~self.is_loose[row]), (extra, self.is_loose[row])):
            self._place(blocks, chosen, entry, where, column, head_local)

    def _place(
        self,
        blocks: dict[str, np.ndarray],
        chosen: np.ndarray,
        entry: np.ndarray,
        where: tuple[np.ndarray, ...],
        column: np.ndarray,
        head_local: np.ndarray,
    ) -> None:
        """Write the positions of the chosen Jacobian entries into the blocks of their interval.

        `where` holds each entry's trajectory in the chain, interval and row.
        """
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
        """Write where the Hessian's entries with states stand into the blocks of one chain."""
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
        first = layout.first_columns[members]
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
