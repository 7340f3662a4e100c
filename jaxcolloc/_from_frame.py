"""from_frame: trajectories from a long or wide table."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from ._args import Unknown
from ._check import describe
from ._columns import as_frame, column, keys, numbers, times
from ._data import Trajectory
from ._inputs import Input
from ._jumps import Jump
from ._names import unit_texts


def from_frame(
    df: Any,
    *,
    time: str,
    channels: Sequence[str] | Mapping[str, str] | None = None,
    by: str | Sequence[str] | None = None,
    inputs: Sequence[str] | Mapping[str, str] | None = None,
    kind: str | Mapping[str, str] = "linear",
    constants: Sequence[str] | Mapping[str, Any] | None = None,
    variable: str | None = None,
    value: str | None = None,
    units: Mapping[str, str] | None = None,
    weights: Any = None,
    y0: Any = None,
    t0: float | None = None,
    jumps: Mapping[str, Jump | Sequence[Jump]] | Jump | Sequence[Jump] = (),
) -> list[Trajectory]:
    """Make trajectories of a table, one for each experiment in it, with their names.

        df = pd.read_csv("batches.csv")
        data = jc.from_frame(df, time="hours", by="batch", channels=["biomass", "sugar"],
                             inputs={"feed": "feed_rate"}, kind="hold", constants=["volume"],
                             units={"hours": "h", "sugar": "g/L"})

    A wide table has a row for every time and a column for every channel. A long one has a row for
    every single value: `variable` is the column that says which channel it is, `value` that of the
    numbers. Rows may come in any order.

    **Arguments:**

    - `df`: a data frame of pandas, Polars, PyArrow or another kind that narwhals knows.
    - `time`: the column of times: numbers, or dates or durations, which are turned into the unit
      that `units` has for this column (ms, s, min, h, d); dates are counted from the first row of
      their experiment.
    - `channels`: what was measured: columns, or in a long table what stands under `variable` (all
      that is no input, in the order in which it appears, if not given). A mapping gives them other
      names: `{"name": "column"}`.
    - `by`: the column, or columns, that tell experiments apart; one experiment if not given.
    - `inputs`: columns (or what stands under `variable`) that become a `jc.Input` under their name
      in the trajectory's `args`, a dictionary. Rows where it is missing are no samples of it.
    - `kind`: how inputs go on between samples, "hold", "linear" or "cubic", or a mapping by name.
    - `constants`: columns that do not vary within an experiment, whose number goes into `args` by
      name; in a mapping also values for all experiments, such as a `jc.Unknown`.
    - `units`: texts by the names of columns, for tables and pictures.
    - `y0`: the known state where each trajectory begins, as in `jc.Trajectory`; a list may hold the
      names of columns, which do not vary within an experiment: `["dose", float("nan")]`.
    - `jumps`: `jc.Jump` objects or `jc.doses(...)` of all experiments, or a mapping of experiments'
      names to those of each: `{"subject 1": jc.doses(...)}`.
    - `weights`, `t0`: passed on to every `jc.Trajectory`.

    Missing values are NaN. A row in which no channel was measured is a sample of inputs alone: pass
    `t0` where trajectories begin before their first sample.

    Returns a list of trajectories, in the order in which the experiments appear.
    **Errors:** `ValueError` naming the argument for columns that are not there or hold no numbers;
    naming experiment and time for two values of a channel or an input at one time.
    """
    frame = as_frame(df)
    plan = _Plan.of(frame, time, channels, inputs, constants, variable, value, units)
    kinds = {name: kind.get(name, "linear") if isinstance(kind, Mapping) else kind
             for name in plan.inputs}  # fmt: skip
    if isinstance(kind, Mapping) and not set(kind) <= set(plan.inputs):
        unknown = sorted(map(str, set(kind) - set(plan.inputs)))
        raise ValueError(f"`kind` must name `inputs`; got {', '.join(unknown)}.")
    found = []
    experiments = _experiments(frame, by)
    each = _jumps(jumps, [name for name, _ in experiments])
    for (name, rows), own in zip(experiments, each, strict=True):
        part = _Experiment(frame, plan, name, rows)
        ts, ys = part.samples()
        found.append(
            Trajectory(
                ts,
                ys,
                part.args(kinds),
                weights=weights,
                y0=part.start(y0),
                t0=t0,
                jumps=own,
                name=name,
                channels=list(plan.channels),
                units=plan.units,
            )
        )
    return found


def _jumps(value: Any, names: list[str | None]) -> list[Any]:
    """The jumps of each experiment."""
    if not isinstance(value, Mapping):
        return [value] * len(names)
    if not set(value) <= set(names):
        wrong = sorted(map(str, set(value) - set(names)))
        raise ValueError(
            f"`jumps` must be by the names of experiments: {', '.join(map(str, names))}; "
            f"got {', '.join(wrong)}."
        )
    return [value.get(name, ()) for name in names]


def _experiments(frame: Any, by: Any) -> list[tuple[str | None, np.ndarray]]:
    """The experiments' names with the positions of their rows."""
    if by is None:
        return [(None, np.arange(len(frame)))]
    columns = [by] if isinstance(by, str) or not isinstance(by, Sequence) else list(by)
    if not columns:
        raise ValueError("`by` must name at least one column of `df`, or be None; got none.")
    rows: dict[tuple[Any, ...], list[int]] = {}
    for row, key in enumerate(keys(frame, columns, "by")):
        rows.setdefault(key, []).append(row)
    names = {key: _experiment_name(columns, key) for key in rows}
    return [(names[key], np.array(found)) for key, found in rows.items()]


def _experiment_name(columns: list[Any], key: tuple[Any, ...]) -> str:
    """Texts as they are, numbers behind the name of their column: "batch 3"."""
    parts = [
        item if isinstance(item, str) and item.strip() else f"{column} {item}"
        for column, item in zip(columns, key, strict=True)
    ]
    return ", ".join(parts)


class _Plan(NamedTuple):
    """What is taken from a table: for all its rows times, and values by the names of what they are.

    `unit` is the number of microseconds in a unit of time where times are dates, to be counted from
    an experiment's first. Arrays have one entry for each row, NaN where it says nothing; `shared`
    are constants that all experiments have.
    """

    times: Float[np.ndarray, " row"]
    unit: float | None
    channels: dict[str, Float[np.ndarray, " row"]]
    inputs: dict[str, Float[np.ndarray, " row"]]
    constants: dict[str, Float[np.ndarray, " row"]]
    shared: dict[str, Any]
    units: dict[str, str]

    @classmethod
    def of(
        cls,
        frame: Any,
        time: Any,
        channels: Any,
        inputs: Any,
        constants: Any,
        variable: Any,
        value: Any,
        units: Any,
    ) -> "_Plan":
        """From the arguments of `from_frame`."""
        if (variable is None) != (value is None):
            raise ValueError("`variable` and `value` belong to a long table: pass both, or none.")
        texts = unit_texts(units)
        own = _named("inputs", inputs)
        known = _named("constants", constants, other=True)
        clash = sorted(set(own) & set(known))
        if clash:
            raise ValueError(f"`constants` must differ from `inputs` in name; got {clash} in both.")
        long: dict[Any, np.ndarray] = {}
        if variable is not None:
            long = _long(frame, variable, value)
        if channels is None and variable is None:
            raise ValueError(
                "`channels` must name the columns that were measured, or pass `variable` and "
                "`value` for a long table; got None."
            )
        rest = [name for name in long if name not in own.values()]
        seen = _named("channels", rest if channels is None else channels)
        both = sorted(set(own.values()) & set(seen.values()))
        if both:
            raise ValueError(f"`channels` must differ from `inputs`; got {both} in both.")
        if not seen:
            raise ValueError(f"`channels` must name what was measured; got {describe(channels)}.")
        column(frame, time, "time")
        when, unit = times(frame, time, texts.get(time, texts.get("time")))
        names = {"time": "time", time: "time"} | {part: name for name, part in own.items()}
        names |= {part: name for name, part in seen.items()}
        names |= {name: name for name in (*own, *seen)}
        if not set(texts) <= set(names):
            unknown = sorted(set(texts) - set(names))
            raise ValueError(
                f"`units` must be by the names of `time`, `channels` and `inputs`; got {unknown}."
            )
        return cls(
            when,
            unit,
            {name: _measured(frame, long, part, variable) for name, part in seen.items()},
            {name: _input(frame, long, part) for name, part in own.items()},
            {
                name: numbers(frame, part, "constants")
                for name, part in known.items()
                if isinstance(part, str)
            },
            {name: part for name, part in known.items() if not isinstance(part, str)},
            {names[key]: text for key, text in texts.items()},
        )


def _named(argument: str, value: Any, other: bool = False) -> dict[str, Any]:
    """Columns by the names that they are to have; `other` values than texts only if allowed."""
    if value is None:
        return {}
    pairs: list[tuple[Any, Any]] = []
    if isinstance(value, Mapping):
        pairs = list(value.items())
    elif isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        pairs = [(item, item) for item in value]
    texts = all(isinstance(name, str) and name.strip() for name, _ in pairs)
    columns = all(isinstance(part, str) or (other and _is_value(part)) for _, part in pairs)
    known = isinstance(value, (Mapping, Sequence)) and not isinstance(value, (str, bytes))
    if not (known and texts and columns) or len({name for name, _ in pairs}) < len(pairs):
        raise ValueError(
            f"`{argument}` must be a list of different columns of `df`, or a mapping of names to "
            f"columns{' or numbers' if other else ''}; got {describe(value)}."
        )
    return dict(pairs)


def _is_value(part: Any) -> bool:
    """Whether this may be a constant of all experiments."""
    kinds = (Unknown, int, float, np.number, np.ndarray, jax.Array)
    return isinstance(part, kinds) and not isinstance(part, bool)


def _long(frame: Any, variable: Any, value: Any) -> dict[Any, np.ndarray]:
    """The values of a long table by their variable, each at its rows and NaN elsewhere."""
    which = [str(key[0]) for key in keys(frame, [variable], "variable")]
    values = numbers(frame, value, "value")
    labels = np.array(which)
    return {name: np.where(labels == name, values, np.nan) for name in dict.fromkeys(which)}


def _measured(frame: Any, long: dict[Any, np.ndarray], part: str, variable: Any) -> np.ndarray:
    if variable is None:
        return numbers(frame, part, "channels")
    if part not in long:
        raise ValueError(
            f'`channels` must stand in the column "{variable}", which has '
            f"{', '.join(map(str, long))}; got {part!r}."
        )
    return long[part]


def _input(frame: Any, long: dict[Any, np.ndarray], part: str) -> np.ndarray:
    if part in long:
        return long[part]
    if long and part not in frame.columns:
        raise ValueError(
            "`inputs` must name columns of `df` or what stands under `variable`: "
            f"{', '.join(map(str, (*frame.columns, *long)))}; got {part!r}."
        )
    return numbers(frame, part, "inputs")


class _Experiment:
    """The rows of one experiment in the order of time."""

    def __init__(self, frame: Any, plan: _Plan, name: str | None, rows: np.ndarray):
        ts = plan.times[rows]
        if plan.unit is not None:
            ts = (ts - ts.min()) / plan.unit
        order = np.argsort(ts, kind="stable")
        self.frame, self.plan, self.ts, self.rows = frame, plan, ts[order], rows[order]
        self.called = "the table" if name is None else f'experiment "{name}"'

    def samples(self) -> tuple[Float[np.ndarray, " time"], Float[np.ndarray, "time obs"]]:
        """The times at which anything was measured, and what."""
        series = [
            self._series(f'`channels`: "{name}"', values, False)
            for name, values in self.plan.channels.items()
        ]
        ts = np.unique(np.concatenate([times for times, _ in series]))
        if not len(ts):
            raise ValueError(f"`channels` must be measured at least once; {self.called} has none.")
        ys = np.full((len(ts), len(series)), np.nan)
        for channel, (own, values) in enumerate(series):
            ys[np.searchsorted(ts, own), channel] = values
        return ts, ys

    def args(self, kinds: dict[str, str]) -> dict[str, Any] | None:
        """Inputs and constants by name; None without any."""
        found: dict[str, Any] = {}
        for name, values in self.plan.inputs.items():
            ts, us = self._series(f'`inputs`: "{name}"', values, True)
            if not len(ts):
                raise ValueError(
                    f'`inputs` must have samples in every experiment; {self.called} has none of "'
                    f'{name}".'
                )
            found[name] = Input(ts, us, kinds[name])
        for name, values in self.plan.constants.items():
            found[name] = self._constant("constants", name, values)
        return found | self.plan.shared or None

    def start(self, y0: Any) -> Any:
        """The known state, with this experiment's numbers in the place of names of columns."""
        if not isinstance(y0, (list, tuple)):
            return y0
        return [
            self._constant("y0", item, numbers(self.frame, item, "y0"))
            if isinstance(item, str)
            else item
            for item in y0
        ]

    def _series(self, what: str, values: np.ndarray, repeated: bool) -> tuple[Any, Any]:
        """Times and values where there are any; equal ones at one time may be `repeated`."""
        own = values[self.rows]
        there = ~np.isnan(own)
        ts, own, rows = self.ts[there], own[there], self.rows[there]
        twice = ts[1:] == ts[:-1]
        wrong = twice & (own[1:] != own[:-1]) if repeated else twice
        if wrong.any():
            at = int(np.flatnonzero(wrong)[0])
            raise ValueError(
                f"{what} has two values in {self.called} at time {ts[at]:g}, in rows {rows[at]} "
                f"and {rows[at + 1]}. Average them, or name in `by` the column that tells them "
                "apart."
            )
        kept = np.append(True, ~twice)[: len(ts)]
        return ts[kept], own[kept]

    def _constant(self, argument: str, name: str, values: np.ndarray) -> float:
        """The one value that a column has in this experiment."""
        own = values[self.rows]
        given = np.unique(own[~np.isnan(own)])
        if len(given) != 1:
            found = "no value" if not len(given) else f"{given[0]:g} and {given[1]:g}"
            raise ValueError(
                f'`{argument}` must have one value in every experiment; "{name}" has {found} in '
                f"{self.called}. What varies may be one of `inputs`."
            )
        return float(given[0])
