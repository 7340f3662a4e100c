"""Columns of any data frame as arrays of numbers; messages name argument, column and row."""

from typing import Any

import numpy as np
from jaxtyping import Float

from ._check import describe


# What a unit of time is in microseconds, for columns of dates and durations.
_MICROSECONDS = {"ms": 1e3, "s": 1e6, "min": 6e7, "h": 3.6e9, "d": 8.64e10}


def as_frame(value: Any) -> Any:
    """A table of pandas, Polars, PyArrow and others, as narwhals sees it."""
    import narwhals as nw

    try:
        frame = nw.from_native(value, eager_only=True)
    except Exception as error:
        # Each kind of table has errors of its own for columns that it cannot take.
        raise ValueError(
            "`df` must be a data frame, of pandas, Polars or another kind that narwhals knows, "
            f"whose columns have different names; got {_kind(value)} ({type(error).__name__}: "
            f"{str(error).splitlines()[0] if str(error) else ''})."
        ) from error
    if len(frame) == 0:
        raise ValueError("`df` must have rows; got none.")
    return frame


def column(frame: Any, name: Any, argument: str) -> Any:
    """The series under that name, once it is there."""
    if not isinstance(name, str) or name not in frame.columns:
        raise ValueError(
            f"`{argument}` must name columns of `df`: {', '.join(map(str, frame.columns))}; "
            f"got {describe(name)}. (`df.reset_index()` makes columns of an index.)"
        )
    return frame[name]


def numbers(frame: Any, name: Any, argument: str) -> Float[np.ndarray, " row"]:
    """A column of numbers; NaN where a value is missing."""
    series = column(frame, name, argument)
    if series.dtype.is_numeric():
        values = np.asarray(series.to_numpy(), np.float64)
        if np.any(np.isinf(values)):
            row = int(np.flatnonzero(np.isinf(values))[0])
            raise ValueError(
                f'`{argument}` must name columns of finite numbers; column "{name}" holds '
                f"{values[row]} in row {row}."
            )
        return values
    entries = series.to_list()
    there = [row for row, value in enumerate(entries) if not _missing(value)]
    # One text makes texts of a whole column.
    odd = [row for row in there if not _reads_as_number(entries[row])] or there
    if odd:
        raise ValueError(
            f'`{argument}` must name columns of numbers; column "{name}" holds '
            f"{describe(entries[odd[0]])} in row {odd[0]}. Convert it first, with pandas by "
            "pd.to_numeric, or pd.to_datetime for dates."
        )
    return np.full(len(frame), np.nan)


def times(
    frame: Any, name: Any, unit: str | None
) -> tuple[Float[np.ndarray, " row"], float | None]:
    """The column of times as numbers, and for dates how many microseconds one of them is.

    Dates are microseconds, to be counted from a first one; durations come in their unit.
    """
    import narwhals as nw

    series = column(frame, name, "time")
    dates = isinstance(series.dtype, (nw.Datetime, nw.Date))
    if not dates and not isinstance(series.dtype, nw.Duration):
        values = numbers(frame, name, "time")
        _check_present(values, name)
        return values, None
    if unit not in _MICROSECONDS:
        kind = "dates" if dates else "durations"
        listed = ", ".join(f'"{item}"' for item in _MICROSECONDS)
        raise ValueError(
            f'`units` must say what the {kind} in the column "{name}" of `time` are turned into, '
            f'such as units={{"{name}": "h"}}; one of {listed}; got {describe(unit)}.'
        )
    counts = series.dt.timestamp("us") if dates else series.dt.total_microseconds()
    values = np.array([np.nan if _missing(item) else float(item) for item in counts.to_list()])
    _check_present(values, name)
    size = _MICROSECONDS[unit]
    return (values, size) if dates else (values / size, None)


def keys(frame: Any, names: list[Any], argument: str) -> list[tuple[Any, ...]]:
    """What stands in some columns, row by row; nothing may be missing."""
    parts = []
    for name in names:
        values = column(frame, name, argument).to_list()
        for row, value in enumerate(values):
            if _missing(value):
                raise ValueError(
                    f'`{argument}` must name columns without gaps; column "{name}" has no value '
                    f"in row {row}."
                )
        parts.append([_whole(value) for value in values])
    return list(zip(*parts, strict=True))


def _whole(value: Any) -> Any:
    """Numbers that are whole as such: a gap elsewhere makes floats of integers."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _reads_as_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def _missing(value: Any) -> bool:
    return value is None or type(value).__name__ in ("NAType", "NaTType") or value != value


def _check_present(values: np.ndarray, name: Any) -> None:
    if np.any(np.isnan(values)):
        row = int(np.flatnonzero(np.isnan(values))[0])
        raise ValueError(f'`time` must not be missing; column "{name}" has no value in row {row}.')


def _kind(value: Any) -> str:
    return f"an object of type {type(value).__name__}"
