"""windows: one long series as many short trajectories, each with a start of its own."""

from collections.abc import Sequence

import numpy as np

from ._args import Unknowns
from ._check import integer
from ._data import Trajectory, as_trajectories, changed
from ._names import which


def windows(
    data: Trajectory | Sequence[Trajectory], samples: int, *, overlap: int = 1
) -> list[Trajectory]:
    """Cut trajectories into short ones, each with a start of its own.

        sol = jc.fit(model, jc.windows(data, 5), key=key)

    A model without noise that is fitted to one long trajectory must explain all of it from a
    single start. Where the system itself is disturbed (process noise, inputs that nobody has
    measured), the data leave any such path, and rates and phases come out wrong. From one window
    to the next the state may jump, which takes up what the disturbances have done; 2 samples in a
    window give a model that is fitted to predict one step ahead.

    **Arguments:**

    - `data`: one `jc.Trajectory` or a list of them.
    - `samples`: how many observation times a window holds, at least 2. Samples at one time stay
      together.
    - `overlap`: how many of these it shares with the next, less than `samples`. Shared samples
      are fitted in both windows. With 0, what happens between two windows is not fitted.

    Returns the windows in the order of time, one trajectory after the other. The last of each is
    shorter where the samples do not suffice; a single time that would be left goes to the window
    before. `weights` and `jumps` are cut along, `args` belong to every window as they are. The
    first of each trajectory keeps its `y0`, `y0_prior` and `t0`; the other states are fitted.
    Windows in which nothing was measured are left out. Those of an experiment with a name are
    numbered.

    **Errors:** `ValueError` for what are no trajectories, sizes that do not fit, and a `jc.Unknown`
    in `args` or `jumps`, which would become a constant of each window.
    """
    trajectories = as_trajectories(data)
    samples = integer("samples", samples, 2)
    overlap = integer("overlap", overlap, 0)
    if overlap >= samples:
        raise ValueError(f"`overlap` must be less than `samples`, {samples}; got {overlap}.")
    for position, item in enumerate(trajectories):
        if len(Unknowns.of(item.constants).start):
            raise ValueError(
                "`data` must have no jc.Unknown in `args` or `jumps`, which would be another "
                f"constant in each window; {which(item, position)} has one. Make it a weight of "
                "the model, or put its value there."
            )
    return [part for item in trajectories for part in _cut(item, samples, overlap)]


def _cut(item: Trajectory, samples: int, overlap: int) -> list[Trajectory]:
    """The windows of one trajectory."""
    times, first = np.unique(item.ts, return_index=True)
    rows = np.append(first, len(item.ts))
    begins = np.arange(0, max(len(times) - overlap, 1), samples - overlap)
    ends = np.minimum(begins + samples, len(times))
    if len(begins) > 1 and ends[-1] - begins[-1] < 2:
        begins, ends = begins[:-1], np.append(ends[:-2], ends[-1])
    parts = [
        slice(rows[begin], rows[end])
        for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)
        if item.observed[rows[begin] : rows[end]].any()
    ]
    names: list[str | None] = [item.name]
    if len(parts) != 1:
        names = [item.name and f"{item.name}, window {i + 1}" for i in range(len(parts))]
    return [_part(item, part, name) for part, name in zip(parts, names, strict=True)]


def _part(item: Trajectory, rows: slice, name: str | None) -> Trajectory:
    """Some rows of a trajectory; its start is known only if the first row is among them."""
    begin = item.begin if rows.start == 0 else item.ts[rows.start]
    return changed(
        item,
        ts=item.ts[rows],
        ys=item.ys[rows],
        weights=item.weights[rows] if item.weighted else None,
        y0=item.start if rows.start == 0 else None,
        t0=item.t0 if rows.start == 0 else None,
        y0_prior=item.y0_prior if rows.start == 0 else None,
        jumps=[
            jump
            for jump in item.jumps
            if begin <= jump.t and (jump.t < item.ts[rows.stop - 1] or rows.stop == len(item.ts))
        ],
        name=name,
    )
