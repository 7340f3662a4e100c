"""What all pictures have in common: colours, titles that are not cut, legends that hide nothing."""

import textwrap
from collections.abc import Sequence
from typing import Any


PATH, ROLLOUT, DATA, GRID, INPUT, JUMP = "C0", "C3", "0.35", "0.85", "C2", "C1"
# Nothing on a logarithmic axis lies below this.
FLOOR = 1e-16
# Characters in an inch of a title, and in one line of an axis' name.
_PER_INCH, _LABEL = 12.5, 20
# What an entry of a legend takes, in inches.
_ENTRY = 1.75


def pyplot() -> Any:
    """Matplotlib's pyplot."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            "jc.plot needs matplotlib, which could not be imported: pip install matplotlib"
        ) from error
    return plt


def headline(figure: Any, lines: Sequence[str]) -> None:
    """A title of several lines at the left, broken where the figure ends."""
    width = int(_PER_INCH * float(figure.get_size_inches()[0]))
    parts = [part for line in lines for part in textwrap.wrap(plain(line), width) or [""]]
    figure.suptitle("\n".join(parts), x=0.01, ha="left", fontsize="medium")


def label(text: str, width: int = _LABEL) -> str:
    """The name of an axis in short lines."""
    return "\n".join(textwrap.wrap(plain(text), width))


def short(text: str, width: int = 60) -> str:
    """The text, or its beginning where it is long."""
    return text if len(text) <= width else text[: width - 3].rstrip() + "..."


def plain(text: str) -> str:
    """Text in which a dollar sign starts no formula."""
    return text.replace("$", r"\$")


def legend(figure: Any, axes: Sequence[Any]) -> None:
    """One legend for all panels, below them, where it hides nothing."""
    found: dict[str, Any] = {}
    for axis in axes:
        for handle, name in zip(*axis.get_legend_handles_labels(), strict=True):
            found.setdefault(name, handle)
    if found:
        columns = max(2, int(float(figure.get_size_inches()[0]) / _ENTRY))
        figure.legend(
            list(found.values()), list(found), loc="outside lower left",
            ncols=min(len(found), columns), frameon=False, fontsize="small",
        )  # fmt: skip
