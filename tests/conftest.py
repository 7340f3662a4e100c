"""Fixtures that several test files use."""

from collections.abc import Iterator

import jax
import pytest


@pytest.fixture(params=[False, True], ids=["x32", "x64"])
def caller_x64(request: pytest.FixtureRequest) -> Iterator[bool]:
    """Run the test in a float32 and in a float64 program."""
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", request.param)
    yield request.param
    jax.config.update("jax_enable_x64", before)
