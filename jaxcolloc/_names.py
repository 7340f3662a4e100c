"""Names: what experiments, channels and states are called where they are shown.

Names are for people: nothing that is computed or compiled depends on them.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ._check import describe


@dataclasses.dataclass(frozen=True, eq=False)
class Labels:
    """The names that go with one experiment's data: its own, its channels' and units by name.

    Any two are equal: data that differ in names alone share what was compiled for them, also
    where they pass through a caller's `jax.jit`.
    """

    name: str | None = None
    channels: tuple[str, ...] | None = None
    units: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, name: Any, channels: Any, units: Any, num_channels: int) -> "Labels":
        """From the caller's arguments of these names."""
        if name is not None and not (isinstance(name, str) and name.strip()):
            raise ValueError(f"`name` must be a text that is not empty, or None; got {_said(name)}")
        if channels is not None:
            channels = text_names("channels", channels, num_channels, "channel")
        return cls(name, channels, tuple(unit_texts(units).items()))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Labels)

    def __hash__(self) -> int:
        return hash(Labels)


def text_names(argument: str, value: Any, count: int | None, noun: str) -> tuple[str, ...]:
    """`value` as a tuple of different texts, `count` of them if that is known."""
    number = "" if count is None else f", one for each of {count}"
    wanted = f"a list of different texts, the {noun}s' names{number}"
    listed = isinstance(value, Sequence) and not isinstance(value, (str, bytes))
    names = tuple(value) if listed else ()
    good = all(isinstance(item, str) and item.strip() for item in names) and len(names) > 0
    if not good or len(set(names)) < len(names) or count not in (None, len(names)):
        raise ValueError(f"`{argument}` must be {wanted}; got {_said(value)}")
    return names


def unit_texts(value: Any) -> dict[str, str]:
    """`units` as texts by name; None for none."""
    if value is None:
        return {}
    good = isinstance(value, Mapping)
    if not good or not all(isinstance(part, str) for pair in value.items() for part in pair):
        raise ValueError(
            '`units` must be texts by name, such as {"time": "h", "A": "g/L"}, or None; '
            f"got {_said(value)}"
        )
    return dict(value)


def _said(value: Any) -> str:
    return f"{describe(value)}."


def experiment(item: Any, k: int) -> str:
    """What the trajectory at position `k` is called in tables and pictures."""
    return item.name or f"trajectory {k}"


def experiments(trajectories: Sequence[Any]) -> list[Any]:
    """What trajectories are called in tables: their positions where none of them has a name."""
    if all(item.name is None for item in trajectories):
        return list(range(len(trajectories)))
    return [experiment(item, k) for k, item in enumerate(trajectories)]


def which(item: Any, k: int) -> str:
    """The trajectory at position `k` in an error: its position, and its name if it has one."""
    return f"trajectory {k}" + ("" if item.name is None else f' ("{item.name}")')


def given_channels(trajectories: Sequence[Any]) -> tuple[str, ...] | None:
    """The channels' names, from the first trajectory that has them."""
    return next((item.channels for item in trajectories if item.channels is not None), None)


def channel_names(trajectories: Sequence[Any]) -> tuple[str, ...]:
    """What channels are called: as was given, or "channel 0" and so on."""
    given = given_channels(trajectories)
    return given or tuple(f"channel {c}" for c in range(trajectories[0].num_channels))


def given_states(
    given: Sequence[str] | None, observes: bool, trajectories: Sequence[Any], count: int
) -> list[str | None]:
    """The states' names, where there are any: given, or the channels' if these are states."""
    if given is not None:
        return list(given)
    channels = None if observes else given_channels(trajectories)
    names: list[str | None] = list(channels or ())
    return names + [None] * (count - len(names))


def state_names(nlp: Any) -> tuple[str, ...]:
    """What the states of an NLP are called: as was given, or "state 0" and so on."""
    names = given_states(
        nlp.settings.state_names, nlp.observe is not None, nlp.trajectories, nlp.num_states
    )
    return tuple(name or f"state {s}" for s, name in enumerate(names))


def entry(nlp: Any, name: str) -> tuple[str, str]:
    """What an entry of `jc.uncertainty` is called, and the experiment that it belongs to, if any.

    "y0[1][0]" is the "start of biomass" of "batch 2".
    """
    found = re.fullmatch(r"(args|y0)\[(\d+)\](.*)", name)
    if found is None:
        return name.removeprefix("."), ""
    kind, k, rest = found[1], int(found[2]), found[3]
    called = experiment(nlp.trajectories[k], k)
    if kind == "y0":
        return f"start of {state_names(nlp)[int(rest.strip('[]'))]}", called
    key = re.fullmatch(r"\['(.*)'\]", rest)
    return key[1] if key else f"args{rest}", called


def with_unit(name: str, item: Any, of: str | None = None) -> str:
    """A name with its unit, if `item`, the trajectory, has one for it (or for `of`)."""
    unit = item.units.get(name if of is None else of)
    return f"{name} ({unit})" if unit else name


def listed(names: Sequence[str], most: int = 6) -> str:
    """Names in a line: the first ones, and how many more."""
    if len(names) <= most:
        return ", ".join(names)
    return f"{', '.join(names[: most - 1])} and {len(names) - most + 1} others"


def summary(items: Sequence[Any]) -> str:
    """The names of experiments and channels in a line; empty where nothing has a name."""
    channels = given_channels(items)
    parts = []
    if any(item.name is not None for item in items):
        parts.append(listed([experiment(item, k) for k, item in enumerate(items)]))
    if channels is not None:
        parts.append(f"channels {listed(channels)}")
    return "; ".join(parts)
