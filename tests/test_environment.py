"""What the numbers rest on: that this installation of JAX computes them rightly."""

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np


def test_the_compiler_gets_a_fused_reduction_right():
    """Squared norms of 20,000 vectors (i, 0, 0), which are i^2 exactly.

    jaxlib 0.10.2 returns thousands of wrong ones on CPUs, and with them wrong objectives.
    """

    def squared_norms(rows):
        return jax.vmap(lambda row: jnp.sum((jnp.eye(3) @ row) ** 2))(rows)

    with jax.enable_x64(True):
        i = jnp.arange(20000.0)
        found = np.asarray(jax.jit(squared_norms)(jnp.stack((i, 0 * i, 0 * i), 1)))
    wrong = int(np.sum(found != np.arange(20000.0) ** 2))
    assert wrong == 0, (
        f"jax {jax.__version__} with jaxlib {jaxlib.__version__} miscompiles reductions: {wrong} "
        "of 20000 results are wrong. jax and jaxlib 0.10.2 are known for it on CPUs; install "
        "another version, for example: pip install --upgrade 'jax!=0.10.2' 'jaxlib!=0.10.2'"
    )
