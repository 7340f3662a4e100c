# %% [markdown]
# # Algebraic equations
#
# What has no equation of its own in time, such as the pressure in a header or the pH of a tank,
# is whatever makes other equations hold: `jc.DAE(field, equations, num_algebraic)` has `field(t,
# y, a, args)` for the slope of the state and `equations(t, y, a, args) = 0`, as many as algebraic
# variables `a`, with weights and nets in either. In the NLP `a` are variables at every node;
# called as `model(t, y, args)`, by Diffrax or `jc.simulate`, it solves for them by Newton's
# method.

# %%
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import jaxcolloc as jc


class Joined(eqx.Module):
    friction: jax.Array

    def levels(self, t, y, a, args):
        return jnp.concatenate([-a, a])

    def flow(self, t, y, a, args):
        return y[:1] - y[1:] - self.friction * a - a**3

    def dae(self):
        return jc.DAE(self.levels, self.flow, 1)


ts = np.linspace(0.0, 8.0, 33)
ys = jc.simulate(Joined(jnp.asarray(0.5)).dae(), ts, [1.0, 0.2])
sol = jc.fit(Joined(jnp.asarray(2.0)).dae(), jc.Trajectory(ts, ys), l2=0.0)
print(float(sol.model.system.friction))
print(sol.paths[0].algebraic(0.5), sol.model.algebraic(0.5, ys[2], None))  # what flows then

# %% [markdown]
# A function with a parameter `algebraic`, such as `observe` or that of a `jc.Constraint`, gets
# `a` by that name; `algebraic_bounds` and `algebraic_scale` are those of `a`. The equations must
# determine `a` (index 1): what is of higher index, such as a pendulum whose length is given, is
# refused, and has to be differentiated in time until `a` comes in.

# %% [test]
assert abs(float(sol.model.system.friction) - 0.5) < 1e-3
assert np.allclose(sol.paths[0].algebraic(3.0), sol.model.algebraic(3.0, ys[12], None), atol=1e-3)
