"""Files are written at once: links, permissions, other threads, and processes that are killed."""

import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from jaxcolloc import _atomic_file, _storage


@pytest.fixture
def path(tmp_path):
    return tmp_path / "file.jcs"


def test_a_failed_write_leaves_the_old_file(path, monkeypatch):
    _storage.write(path, "old")

    def broken(number):
        raise OSError("no space left")

    monkeypatch.setattr(_atomic_file.os, "fsync", broken)
    with pytest.raises(OSError, match="no space"):
        _storage.write(path, "new")
    assert _storage.read(path) == "old"
    assert list(path.parent.iterdir()) == [path]


def test_errors_name_the_path_of_the_caller(path, monkeypatch):
    def denied(*args):
        raise PermissionError(13, "Permission denied", str(args[0]))

    monkeypatch.setattr(_atomic_file.os, "open", denied)
    with pytest.raises(PermissionError, match=rf"Permission denied: '{path}'"):
        _storage.write(path, 1)


def test_a_symbolic_link_stays(tmp_path):
    (tmp_path / "folder").mkdir()
    real, link = tmp_path / "folder" / "real", tmp_path / "link"
    link.symlink_to(Path("folder") / "real")
    for text in ("its target does not exist", "its target exists"):
        _storage.write(link, text)
        assert link.is_symlink()
        assert not real.is_symlink()
        assert _storage.read(real) == _storage.read(link) == text
    assert [item.name for item in (tmp_path / "folder").iterdir()] == ["real"]


def test_a_link_to_itself_is_refused(path):
    path.symlink_to(path)
    with pytest.raises(ValueError, match="`path` must be a file"):
        _storage.write(path, 1)


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_permissions(path):
    """A new file has the usual ones, an existing one keeps its own."""
    before = os.umask(0o027)
    try:
        _storage.write(path, 1)
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        for mode in (0o600, 0o664, 0o444):
            path.chmod(mode)
            _storage.write(path, mode)
            assert stat.S_IMODE(path.stat().st_mode) == mode
    finally:
        os.umask(before)


def dead_process():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.mark.skipif(os.name != "posix", reason="only there processes can be looked up")
def test_what_killed_processes_left_is_removed(path):
    """And nothing that a live process, another machine or somebody else may still need."""
    dead, host = dead_process(), _atomic_file._host()
    stale = [f".file.jcs.{dead}.tmp", f".file.jcs.{host}-{dead}-77.tmp", f".file.jcs.{10**12}.tmp"]
    stale += [".file.jcs.00000000-1-2.tmp"]
    kept = [f".file.jcs.{os.getpid()}.tmp", f".file.jcs.{host}-{os.getppid()}-5.tmp"]
    kept += [f".other.jcs.{dead}.tmp", f"file.jcs.{dead}.tmp", ".file.jcs.tmp", ".fileXjcs.3.tmp"]
    kept += [".file.jcs.00000000-3-4.tmp", f".file.jcs.{dead}.tmp.old", ".file.jcs.1.tmp"]
    for name in stale + kept:
        (path.parent / name).write_text("part")
    yesterday = time.time() - 90_000
    os.utime(path.parent / stale[-1], (yesterday, yesterday))
    _storage.write(path, 1)
    assert {item.name for item in path.parent.iterdir()} == {*kept, path.name}


def test_threads_that_write_the_same_file(path):
    """Each write is whole, and no thread takes another's unfinished file."""
    errors = []

    def work(number):
        try:
            for _ in range(20):
                _storage.write(path, {"number": number, "values": np.full(1000, number)})
                tree = _storage.read(path)
                assert np.all(tree["values"] == tree["number"])
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert list(path.parent.iterdir()) == [path]


WRITE = """
import sys, numpy as np
from jaxcolloc import _storage

sizes = np.random.default_rng(int(sys.argv[2]))
print("ready", flush=True)
while True:
    count = int(sizes.integers(1, 400_000))
    _storage.write(sys.argv[1], {"count": count, "values": np.full(count, float(count))})
"""


def test_a_kill_while_writing_leaves_a_whole_file(path):
    """Killed at random moments of an endless stream of writes, the file is always whole."""
    for attempt in range(4):
        command = [sys.executable, "-c", WRITE, str(path), str(attempt)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(0.05 + 0.037 * attempt)
            while not path.exists():
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
            process.wait()
        tree = _storage.read(path)
        np.testing.assert_array_equal(tree["values"], np.full(tree["count"], float(tree["count"])))
    _storage.write(path, 1)
    assert list(path.parent.iterdir()) == [path]
