"""Settings: the options of a transcription, as one object that is passed on and compared."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, TypedDict

from ._check import flag, function, positive
from ._fingerprint import fingerprint
from ._loss import Loss, squared_error
from ._names import text_names
from ._priors import as_priors


class Options(TypedDict, total=False):
    """The options of `jc.transcribe` but `l2`, as keyword arguments of functions that call it."""

    observe: Any
    num_states: int | None
    loss: Loss
    residual_penalty: float
    state_bounds: Any
    weight_bounds: Any
    weight_scale: Any
    trainable: Any
    constraints: Any
    priors: Any
    state_scale: Any
    collocate_start: bool
    algebraic_bounds: Any
    algebraic_scale: Any
    state_names: Any


@dataclasses.dataclass(frozen=True, eq=False)
class Settings:
    """The options of `jc.transcribe`, which documents them.

    Two are equal if they ask for the same: arrays are compared by value, functions by their code,
    names of states not at all.
    `**settings` passes them on as keyword arguments, `settings["l2"]` is one of them, and
    `settings | {"l2": 0.0}` the same with changes.
    """

    observe: Any = None
    num_states: int | None = None
    loss: Loss = squared_error
    l2: Any = 1e-3
    residual_penalty: float = 0.0
    state_bounds: Any = None
    weight_bounds: Any = None
    weight_scale: Any = None
    trainable: Any = True
    constraints: Any = ()
    priors: Any = ()
    state_scale: Any = None
    collocate_start: bool = False
    algebraic_bounds: Any = None
    algebraic_scale: Any = None
    state_names: Any = None

    def __post_init__(self) -> None:
        positive("residual_penalty", self.residual_penalty, allow_zero=True)
        function("loss", self.loss, "loss(residual, weights) or loss(t, y, observed, args, model)")
        as_priors(self.priors)
        flag("collocate_start", self.collocate_start)
        if self.state_names is not None:
            names = text_names("state_names", self.state_names, None, "state")
            object.__setattr__(self, "state_names", names)

    @classmethod
    def of(cls, options: Mapping[str, Any], without: tuple[str, ...] = ()) -> "Settings":
        """From keyword arguments; those in `without` have no meaning for the caller.

        **Errors:** `ValueError` for what is no option.
        """
        check_options(options, without)
        return cls(**options)

    def changed(self, **changes: Any) -> "Settings":
        """The same with some options changed."""
        return dataclasses.replace(self, **changes)

    def fingerprints(self) -> dict[str, str]:
        """For each option but names a text that is equal where the option is."""
        names = (name for name in self.keys() if name != "state_names")
        return {name: fingerprint(getattr(self, name)) for name in names}

    def keys(self) -> Iterator[str]:
        """The names of all options."""
        return (field.name for field in dataclasses.fields(self))

    def __getitem__(self, name: str) -> Any:
        if name not in set(self.keys()):
            raise KeyError(name)
        return getattr(self, name)

    def __or__(self, changes: Mapping[str, Any]) -> "Settings":
        return self.changed(**changes)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Settings):
            return NotImplemented
        return self is other or self.fingerprints() == other.fingerprints()

    def __hash__(self) -> int:
        return hash(tuple(self.fingerprints().values()))


def check_options(options: Mapping[str, Any], without: tuple[str, ...] = ()) -> None:
    """Refuse what `transcribe` does not know, and those of its options that have no meaning."""
    known = {field.name for field in dataclasses.fields(Settings)} - {"l2"}
    unknown = sorted(set(options) - known | set(options) & set(without))
    if unknown:
        but = f", but for {' and '.join(without)}" if without else ""
        raise ValueError(
            f"`options` must be those of jc.transcribe{but}; got {', '.join(unknown)}."
        )
