# %% [markdown]
# # What the data say
#
# The fit is that of [noise and prior knowledge](noise.html): a decay whose rate and relative
# noise are found.

# %%
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import jaxcolloc as jc


class Decay(eqx.Module):
    rate: jax.Array
    noise: jax.Array  # of the two sensors, relative to what they measure

    def __call__(self, t, y, args):
        return jnp.stack([-self.rate * y[0], self.rate * y[0] - 0.3 * y[1]])

    def spread(self, t, y, args):
        return self.noise * y


rng, ts = np.random.default_rng(0), np.linspace(0, 6, 60)
decay = Decay(jnp.array(1.0), jnp.array([0.05, 0.15]))
levels = np.asarray(jc.simulate(decay, ts, [5.0, 1.0]))
data = jc.Trajectory(
    ts,
    levels * (1 + np.array([0.05, 0.15]) * rng.normal(size=levels.shape)),
    y0_prior=([5.0, np.nan], [0.1, np.nan]),  # the first state was weighed in, to 0.1
)
decay = Decay(jnp.array(0.5), jnp.array([1.0, 1.0]))
sol = jc.fit(
    decay,
    data,
    loss=jc.Gaussian(decay.spread),
    weight_scale=jc.leafwise(decay, None, (lambda m: m.noise, "reciprocal")),
    priors=jc.Prior(lambda m: m.rate, 0.9, 0.2),  # from another laboratory
)

# %% [markdown]
# A fitted rate constant is worth as much as its error bar. `jc.uncertainty` asks how far every
# constant, initial state and curve could move before the fit became noticeably worse than the
# noise allows, everything else being fitted anew; it costs about as much as a few steps of the
# solve:

# %%
u = jc.uncertainty(sol)
print(u)  # estimates with 95% intervals, and what the data leave free
print(u.stderr(lambda m: m.rate), u.interval(lambda m: m.rate, level=0.95))
u.bands(ts)  # of the path, for all times between the data as well
u.bands(ts, of="observations", noise=True)  # where new measurements will lie
forecast = u.predict(np.linspace(0, 12, 50), [8.0, 0.0])  # another batch, twice as long
reaction = u.function_band(lambda m, c: m.rate * c, np.linspace(0, 5, 20))  # any part of the model
jc.plot(sol, uncertainty=u)

# %%
p = jc.profile(sol, lambda m: m.rate)
print(p.lower, p.upper, p.shape)
p.plot()

# %%
b = jc.bootstrap(sol, 50, key=jax.random.key(3))  # 50 more fits, of data that are drawn again
print(b.stderr(lambda m: m.rate), b.interval(lambda m: m.rate))

best = jc.optimum(sol.nlp, jc.InteriorPoint(), sol)  # the fit as a function, for JAX
by_sample = jax.grad(lambda ys: best(ys=ys).model.rate)(data.ys)
same = jc.sensitivity(sol, "ys", lambda m: m.rate)[0]

# %% [markdown]
# Three things are assumed. **The model is true**: for some values of its constants it is the law
# behind the data, which differ from it by independent errors alone. No interval contains what a
# wrong model leaves out, so look at the verdict and the residuals first. **The errors are as the
# loss says**: under the squared error normal, of one size (or as `weights` say) that is estimated
# from what the fit misses, with intervals of Student's t; under a likelihood as that one says,
# its trained noise levels included. **Near the optimum all is Gaussian**: within the interval the
# model is nearly linear in its constants, as the usual standard error of a regression assumes.
# This is good where intervals are small against the values, and poor where they are not; a
# constant that must be positive does better with the `weight_scale` "log", whose intervals stay
# positive, and `predict(..., samples=200, key=key)` rolls out drawn models in the place of the
# linear estimate. Whatever stands at a bound is taken as held there, with no error of its own.
#
# Two checks of these intervals cost more solves and assume less. A **profile** (`jc.profile`)
# holds one constant at other values and fits all else anew at each, until the fit has become
# worse than chance allows: its interval need not be symmetric, is the same on every scale of the
# constant, and its `shape` tells of what no error bar can, a constant with a limit to one side
# only, or with none. It still takes the model for true and the errors for what the loss says. A
# **bootstrap** (`jc.bootstrap`) repeats the experiment on paper: it adds new noise to the fitted
# curves, or draws whole experiments with replacement (`kind="trajectories"`), fits each of these
# data sets, and shows how the estimates scatter. The second way assumes nothing of the noise, and
# sees differences from one experiment to the next, but needs many experiments. Where all three
# agree, the error bar is sound; where they part, believe the profile.
#
# What the data do not determine has infinite errors, never a small number, and `print(u)` says
# which constants only count together: in `k * gain`, for instance, neither is known where their
# product is all that is seen. The weights of a net are of this kind, and what can be known is the
# net as a function: `u.function_band(lambda m, x: m.net(x)[0], xs)` is narrow where the states of
# the data have been and wide elsewhere. A ridge penalty (`l2`) acts as a Gaussian prior about
# zero, whose standard deviation `print(u)` shows. Far from the data the band of a net says no
# more than that prior, and the bias that a penalty brings is in no band: with a strong ridge they
# are too narrow.
#
# The optimum is also a differentiable function of what went into it. `jc.optimum` gives it to
# `jax.grad`, `jax.jacobian`, `jax.vmap` and `jax.jit`: how a rate constant moves with each sample
# (above: large entries are the samples it hangs on), with an input, a bound or the penalty. What
# is differentiated are the conditions of the optimum, not the solver's steps, so that a gradient
# costs one more linear system. `jc.sensitivity` returns the same as a matrix, of weights or of
# all states. Use it to choose feed times that shrink an interval, or, over many similar data
# sets, what the ridge should draw the weights to: `best(center=c)` is a fit that knows what
# others have shown, and `jax.grad` of the error on their held-out data says how to better `c`.
# The penalty itself is chosen in this way by `jc.fit(..., l2="gradient")`.

# %% [test]
lower, upper = u.interval(lambda m: m.rate)
assert lower < 1.0 < upper
assert forecast.stderr.shape == (50, 2)
expected = np.linspace(0, 5, 20) * float(u.stderr(lambda m: m.rate))
assert np.allclose(reaction.stderr, expected, rtol=1e-6)
assert np.allclose(by_sample, same, rtol=1e-3, atol=1e-7)
