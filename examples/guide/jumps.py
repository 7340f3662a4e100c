# %% [markdown]
# # Jumps and doses
#
# Doses, pulses of feed, dilutions and resets change the state at known times. A trajectory states
# them as `jc.Jump` objects: `add=` amounts, entries of which may be a `jc.Unknown`, or `to=` a
# function `fn(y, args)` of the state before, or a method of the model, whose weights are trained.
# Here a culture is diluted every four hours to a share that is not known, and gets a dose of
# something toxic after ten.

# %%
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import jaxcolloc as jc


class Culture(eqx.Module):
    growth: jax.Array
    kill: jax.Array
    share: jax.Array

    def __call__(self, t, y, args):
        cells, toxin = y
        return jnp.stack([(self.growth - self.kill * toxin) * cells, -0.3 * toxin])

    def diluted(self, y, args):
        return self.share * y


def runs(model, dose):
    dilutions = [jc.Jump(t, to=model.diluted) for t in (4.0, 8.0, 12.0)]
    return [*dilutions, *jc.doses(10.0, dose, state=1, num_states=2)]


ts = np.linspace(0.0, 16.0, 65)
true = Culture(jnp.array(0.4), jnp.array(0.5), jnp.array(0.25))
cells = np.asarray(jc.simulate(true, ts, [1.0, 0.0], jumps=runs(true, 2.0)))[:, :1]
cells = cells * (1 + 0.02 * np.random.default_rng(1).normal(size=cells.shape))
culture = Culture(jnp.array(0.2), jnp.array(0.5), jnp.array(0.5))
dose = jc.Unknown(1.0, bounds=(0.1, 10), scale="log")
data = jc.Trajectory(ts, cells, y0=[np.nan, 0.0], jumps=runs(culture, dose))
trained = jc.leafwise(culture, True, (lambda m: m.kill, False))  # dose times kill is what is seen
sol = jc.fit(culture, data, num_states=2, trainable=trained, key=jax.random.key(2))
print(float(sol.model.growth), float(sol.model.share))
print(sol.jumps[0][2].add)
jc.plot(sol)

# %% [markdown]
# A sample at the very time of a jump sees the state before it, and so do `y0` at a jump that
# begins the trajectory, `sol.paths[0].evaluate(t)` and `jc.simulate(..., jumps=sol.jumps[0])`;
# `evaluate(t, left=False)` is the state after it. Without a `t0` the trajectory begins at its
# first sample or jump, whichever comes first. Give grids without regard to jumps: a boundary is
# put at each.
#
# In pharmacokinetics mind the mirror image: absorption and elimination may change places, with another
# volume, and fit equally well. Bounds say which of the
# two is meant, or a model in which the one is the other plus something positive.

# %% [test]
assert abs(float(sol.model.growth) - 0.4) < 0.03
assert abs(float(sol.model.share) - 0.25) < 0.03
assert abs(float(sol.jumps[0][2].add[1]) - 2.0) < 0.3
assert sol.verification.verdict.ok
