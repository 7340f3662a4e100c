"""Files that are written at once: a reader finds the old content or the new, never a part of it.

The new content is written beside its destination and then renamed.
"""

import errno
import os
import platform
import re
import stat
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from ._check import describe


# Unfinished files of other machines, whose processes cannot be looked up, go after a day.
_STALE_SECONDS = 86400.0

PathLike = str | os.PathLike[str]


def replace(path: PathLike, fill: Callable[[BinaryIO], None], name: str = "path") -> None:
    """Give the file `path` the content that `fill(file)` writes.

    A process that is killed while writing leaves the old file whole; what it leaves beside it goes
    with the next write. A symbolic link stays and its target is replaced; an existing file keeps
    its permissions.

    **Errors:** as `destination`, of which `name` is the argument; `OSError` if writing fails.
    """
    target = destination(path, name)
    _remove_stale(target)
    owner = f"{_host()}-{os.getpid()}-{threading.get_ident()}"
    beside = target.with_name(f".{target.name}.{owner}.tmp")
    try:
        beside.unlink(missing_ok=True)
        with _create(beside, target) as file:
            fill(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, target)
    except OSError as error:
        if error.filename is None:
            raise
        # The caller knows their own path, not that of the file beside it.
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error
    finally:
        beside.unlink(missing_ok=True)


def destination(path: PathLike, name: str = "path") -> Path:
    """The file that is replaced when `path` is written, behind symbolic links.

    Call it before a long computation to refuse at once what could not be saved at its end.

    **Errors:** `ValueError` naming the argument `name` for anything but a path, for a folder or a
    device; `FileNotFoundError` if the folder it lies in does not exist.
    """
    target = Path(os.path.realpath(as_path(path, name)))
    if target.is_symlink():
        raise ValueError(f"`{name}` must be a file; got {path}, a link that leads to itself.")
    if target.exists() and not target.is_file():
        kind = "a folder" if target.is_dir() else "no regular file"
        raise ValueError(f"`{name}` must be a file; got {path}, which is {kind}.")
    if not target.parent.is_dir():
        text = f"`{name}` must lie in a folder that exists"
        raise FileNotFoundError(errno.ENOENT, text, os.fspath(path))
    return target


def as_path(path: Any, name: str = "path") -> Path:
    """`path` as a `Path`.

    **Errors:** `ValueError` naming the argument `name` for anything but a str or `os.PathLike`.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise ValueError(f"`{name}` must be a path, a str or os.PathLike; got {describe(path)}.")
    text = os.fspath(path)
    if not isinstance(text, str) or not text or "\0" in text:
        raise ValueError(f"`{name}` must be the path of a file; got {describe(text)}.")
    return Path(text)


def _create(beside: Path, target: Path) -> BinaryIO:
    """A new file for writing with the permissions of `target`, or the usual ones if there is none.

    It must not exist: where others may write, they could have left a link there.
    """
    mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else None

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags, 0o666 if mode is None else mode)

    file = open(beside, "xb", opener=opener)  # noqa: SIM115
    if mode is not None:
        os.chmod(beside, mode)
    return file


def _host() -> str:
    return f"{zlib.crc32(platform.node().encode()):08x}"


def _remove_stale(target: Path) -> None:
    """Remove what killed processes left beside `target`; that of live ones stays."""
    form = re.compile(rf"\.{re.escape(target.name)}\.(?:([0-9a-f]{{8}})-)?(\d+)(?:-\d+)?\.tmp")
    try:
        found = [item for item in os.scandir(target.parent) if form.fullmatch(item.name)]
    except OSError:
        return
    for item in found:
        host, process = form.fullmatch(item.name).groups()  # type: ignore[union-attr]
        try:
            if _is_stale(item, host, int(process)):
                os.unlink(item.path)
        except OSError:
            # Gone meanwhile, or another user's.
            continue


def _is_stale(item: os.DirEntry[str], host: str | None, process: int) -> bool:
    # Only POSIX has a signal that asks for a process without doing anything to it.
    if os.name != "posix" or host not in (None, _host()):
        return time.time() - item.stat().st_mtime > _STALE_SECONDS
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:
        # It runs, as another user's.
        return False
    return False
