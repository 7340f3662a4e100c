"""Fixtures that several test files use."""

import gc
import signal
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest


_MANY_MAPPINGS = 35_000


@pytest.fixture(params=[False, True], ids=["x32", "x64"])
def caller_x64(request: pytest.FixtureRequest) -> Iterator[bool]:
    """Run the test in a float32 and in a float64 program."""
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", request.param)
    yield request.param
    jax.config.update("jax_enable_x64", before)


@pytest.fixture(autouse=True)
def ctrl_c() -> Iterator[None]:
    """Python's own handler of Ctrl-C, which a process started in the background lacks."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def few_mappings() -> Iterator[None]:
    """Give compiled code back before the process has as many mappings as Linux allows.

    Every compiled function maps some memory; past `vm.max_map_count`, 65,530 by default, the next
    compilation ends in a segmentation fault.
    """
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > _MANY_MAPPINGS:
        jax.clear_caches()
        gc.collect()


class Compilations:
    """How many programs JAX has compiled since this was made."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, event: str, seconds: float, **more: object) -> None:
        self.count += event == "/jax/core/compile/backend_compile_duration"


@pytest.fixture
def compilations() -> Iterator[Compilations]:
    """A counter of what JAX compiles."""
    counter = Compilations()
    jax.monitoring.register_event_duration_secs_listener(counter)
    yield counter
    jax.monitoring.unregister_event_duration_listener(counter)
