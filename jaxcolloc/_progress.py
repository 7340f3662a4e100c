"""A progress bar for the iterations."""

import contextlib
from collections.abc import Callable, Iterator

from tqdm.auto import tqdm

from ._trace import Row


@contextlib.contextmanager
def progress_bar(show: bool | str, total: int) -> Iterator[Callable[[Row], None]]:
    """A function to call after each step; it draws nothing unless `show`, which may be a title."""
    if not show:
        yield lambda row: None
        return
    title = show if isinstance(show, str) else "collocation"
    with tqdm(total=total, unit=" steps", desc=title) as bar:

        def update(row: Row) -> None:
            bar.n = row.iteration
            bar.set_postfix_str(row.summary())

        yield update
