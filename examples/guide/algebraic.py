# %% [markdown]
# # Algebraic equations
#
# Some of what a model speaks of has no equation of its own in time: the pressure in a header, the
# split of a flash, the pH of a tank. It is whatever makes other equations hold at every instant. A
# `jc.DAE` says so: `field(t, y, a, args)` is $\dot y$, and `equations(t, y, a, args)`, as many as
# there are algebraic variables $a$, are zero.
#
# Two tanks are joined by a pipe of known friction and a valve of which nothing is known. What
# flows between them follows from their levels:

# %%
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import jaxcolloc as jc


class Tanks(eqx.Module):
    valve: eqx.nn.MLP
    gain: jax.Array

    def levels(self, t, y, a, args):
        feed = 0.5 + 0.4 * jnp.sin(args * t)
        return jnp.stack([feed - a[0], (a[0] - 0.4 * jnp.sqrt(y[1])) / 0.6])

    def pressure(self, t, y, a, args):
        return y[:1] - y[1:] - 0.3 * a - self.valve(a)

    def measured(self, t, y, args, algebraic):
        return jnp.concatenate([y, self.gain * algebraic])


net = eqx.nn.MLP(1, 1, 6, 1, jnp.tanh, key=jax.random.key(0))
tanks = Tanks(net, jnp.array(1.0))
model = jc.DAE(tanks.levels, tanks.pressure, 1, start=0.5)

# %% [markdown]
# Both parts are methods of one module, so that weights which both use are one: `model.system` is
# that module. The truth has a square law in the place of the net; a flow meter has a gain of 2:


# %%
class Truth(Tanks):
    def pressure(self, t, y, a, args):
        return y[:1] - y[1:] - 0.3 * a - 1.2 * a * jnp.abs(a)


true = Truth(net, jnp.array(2.0))
plant = jc.DAE(true.levels, true.pressure, 1, start=0.5)
rng, ts, data = np.random.default_rng(0), np.linspace(0.0, 10.0, 41), []
for rate in (1.0, 0.6):
    ys = jc.simulate(plant, ts, [1.0, 0.5], rate)
    flow = jax.vmap(lambda y, rate=rate: 2.0 * plant.algebraic(0.0, y, rate))(ys)
    seen = np.column_stack([ys, flow])
    data.append(jc.Trajectory(ts, seen + 0.005 * rng.normal(size=seen.shape), rate))

# %% [markdown]
# Called as `model(t, y, args)`, a `jc.DAE` solves its equations by Newton's method from `start` and
# returns $\dot y$, with exact derivatives: it goes into `jc.simulate` and into Diffrax as any model
# does. `model.algebraic(t, y, args)` is $a$.
#
# In the nonlinear program nothing is solved within: $a$ are variables at every node, and the
# equations are constraints there. Everything else is as for other models. A function with a
# parameter `algebraic`, here what is measured, gets $a$ by that name:

# %%
grid = jc.Grid.uniform(0.0, 10.0, 20, jc.Radau(3))
nlp = jc.transcribe(
    model, data, grid, observe=tanks.measured, num_states=2, l2=jc.OnNets(1e-6),
    algebraic_bounds=(-2.0, 2.0),
)  # fmt: skip
sol = jc.solve(nlp, jc.InteriorPoint(), jc.guess(nlp, states=lambda ts, ys, slopes: ys[:, :2]))
print(sol)
print(jc.verify(sol).verdict.name, float(sol.model.system.gain))

# %% [markdown]
# The path has the flow at any time, `sol.paths[0].algebraic(t)`, and the net has learned the law:

# %%
flows = jnp.linspace(0.2, 0.7, 6)
learned = jax.vmap(lambda q: 0.3 * q + sol.model.system.valve(q[None])[0])(flows)
print(np.round(learned, 3), np.round(0.3 * flows + 1.2 * flows**2, 3), sep="\n")

# %% [test]
assert jc.verify(sol).verdict.ok
assert abs(float(sol.model.system.gain) - 2.0) < 0.05
np.testing.assert_allclose(learned, 0.3 * flows + 1.2 * flows**2, atol=0.05)

# %% [markdown]
# ## Index 1
#
# The equations must determine $a$: their Jacobian in $a$ is regular, which is called index 1. One
# that contains no algebraic variable is refused when the problem is made. A pendulum in Cartesian
# coordinates, held by its tension, is such a case: $x^2 + z^2 = l^2$ does not contain the tension.
# Differentiate it in time, with the field in the place of $\dot y$, until it does: here twice, to
# $u^2 + v^2 - a (x^2 + z^2) - g z = 0$. The solution tells in `stats["regularity"]` how far the
# Jacobian is from singular at any node, and where it is not, `print` and `jc.verify` say so.
#
# A net inside the equations can make them have several solutions, or none. Where physics says that
# more pressure drives more flow, build that into the net, as `examples/manifold.py` does.
#
# `jc.to_casadi` cannot follow Newton's loop: export the two parts, `model.field` and
# `model.equations`, as functions of the state and the algebraic variables behind it.
