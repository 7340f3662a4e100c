"""How an NLP prints itself: sizes, and its two sparse matrices on a small raster."""

from collections.abc import Sequence

import numpy as np

from .._grid import Grid
from .._names import summary
from .build import Parts
from .sparse import Pattern


def screen(nlp: Parts) -> str:
    """All that is known of its size, and where its derivatives are not zero."""
    nodes = sum(grid.num_nodes for grid in nlp.grids)
    samples = sum(int(item.observed.sum()) for item in nlp.trajectories)
    lower, upper = nlp.bounds
    fixed = int(np.sum(lower == upper))
    bounded = int(np.sum((np.isfinite(lower) | np.isfinite(upper)) & (lower < upper)))
    row_lower, row_upper = nlp.constraint_bounds
    equal = int(np.sum(row_lower == row_upper))
    more = (
        ""
        if equal == nlp.jacobian_pattern.shape[0]
        else f", {nlp.jacobian_pattern.shape[0] - equal} inequalities"
    )
    d, m = nlp.layout.num_differential, nlp.layout.num_algebraic
    names = summary(nlp.trajectories)
    own = nlp.layout.num_head - nlp.layout.num_weights
    lines = [
        f"NLP: {nlp.layout.num_variables} variables, {equal} equality constraints{more}",
        f"  weights       {nlp.layout.num_weights}" + (f", unknowns {own}" if own else ""),
        f"  states        {nodes * d} = {nodes} nodes x {d}",
        *([f"  algebraic     {nodes * m} = {nodes} nodes x {m}"] if m else []),
        f"  bounded       {bounded}, fixed {fixed}",
        f"  trajectories  {len(nlp.trajectories)} with {samples} observation times",
        *([f"  data          {names}"] if names else []),
    ]
    lines += [f"  grid          {text}" for text in _grid_lines(nlp.grids)]
    for name, pattern in (("Jacobian", nlp.jacobian_pattern), ("Hessian", nlp.hessian_pattern)):
        size = pattern.shape[0] * pattern.shape[1]
        if name == "Hessian":
            size = pattern.shape[0] * (pattern.shape[0] + 1) // 2
        share = 100 * pattern.num_entries / max(size, 1)
        lines.append(f"  {name:<12}  {pattern.num_entries} non-zeros ({share:.2g}%)")
    left = _picture(nlp.jacobian_pattern, "Jacobian", nlp.layout.num_head)
    right = _picture(nlp.hessian_pattern, "Hessian", nlp.layout.num_head)
    height = max(len(left), len(right))
    width = max(len(line) for line in left)
    left += [""] * (height - len(left))
    right += [""] * (height - len(right))
    lines.append("")
    lines += [f"  {a:<{width}}    {b}".rstrip() for a, b in zip(left, right, strict=True)]
    return "\n".join(lines)


def _grid_lines(grids: Sequence[Grid]) -> list[str]:
    texts: dict[str, int] = {}
    for grid in grids:
        texts[repr(grid)] = texts.get(repr(grid), 0) + 1
    shown = [f"{text}" + (f" x {count}" if count > 1 else "") for text, count in texts.items()]
    return shown if len(shown) <= 3 else [*shown[:2], f"and {len(shown) - 2} others"]


def _picture(pattern: Pattern, name: str, num_weights: int, cells: int = 24) -> list[str]:
    """The pattern on a small raster, weights apart from states."""
    rows = _cells(pattern.rows, pattern.shape[0], num_weights if name == "Hessian" else 0, cells)
    columns = _cells(pattern.columns, pattern.shape[1], num_weights, cells)
    row_of, row_split, num_rows = rows
    column_of, column_split, num_columns = columns
    raster = np.zeros((num_rows, num_columns), int)
    np.add.at(raster, (row_of, column_of), 1)
    lines = [f"{name} (weights | states)"]
    for index, row in enumerate(raster):
        if index == row_split and index:
            lines.append("-" * (num_columns + 1))
        marks = ["#" if count else "." for count in row]
        lines.append("".join(marks[:column_split]) + "|" + "".join(marks[column_split:]))
    return lines


def _cells(
    index: np.ndarray, size: int, num_weights: int, cells: int
) -> tuple[np.ndarray, int, int]:
    """Which raster cell each index falls in, where the states begin, how many cells."""
    head = min(num_weights, 6)
    tail = min(size - num_weights, cells - 6)
    in_weights = index < num_weights
    first = index * head // max(num_weights, 1)
    second = head + (index - num_weights) * tail // max(size - num_weights, 1)
    return np.where(in_weights, first, second), head, head + tail
