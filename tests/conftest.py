"""Fixtures that several test files use."""

import warnings

import jax
import pytest


# JAX and its friends warn at import of things that are theirs to mend.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import diffrax  # noqa: F401
    import jaxopt  # noqa: F401


@pytest.fixture(params=[False, True], ids=["x32", "x64"])
def caller_x64(request: pytest.FixtureRequest) -> bool:
    """Run the test in a float32 and in a float64 program."""
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", request.param)
    yield request.param
    jax.config.update("jax_enable_x64", before)
