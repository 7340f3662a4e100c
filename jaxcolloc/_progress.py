"""A progress bar for the iterations."""

import contextlib
from collections.abc import Callable, Iterator

from tqdm.auto import tqdm

from ._solution import Step


@contextlib.contextmanager
def progress_bar(show: bool | str, total: int) -> Iterator[Callable[[Step], None]]:
    """A function to call after each step; it draws nothing unless `show`, which may be a title."""
    if not show:
        yield lambda step: None
        return
    title = show if isinstance(show, str) else "collocation"
    with tqdm(total=total, unit=" steps", desc=title) as bar:

        def update(step: Step) -> None:
            bar.n = step.iteration
            bar.set_postfix_str(
                f"objective {step.objective:.5g}, defect {step.primal_infeasibility:.1e}"
            )

        yield update
