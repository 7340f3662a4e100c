# %% [markdown]
# # Noise and prior knowledge
#
# Minimising a squared error is maximum likelihood where all errors are normal and equally large,
# or where `weights` are `1 / s**2` of their standard deviations `s`. Where the noise is not
# known, is proportional to what is measured, or has outliers, `loss` may be a likelihood instead,
# and its noise levels are trained with the rest:

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
print(float(sol.model.rate), sol.model.noise)

# %% [test]
assert sol.verification.verdict.ok
assert abs(float(sol.model.rate) - 1.0) < 0.05
assert np.allclose(sol.model.noise, [0.05, 0.15], rtol=0.3)

# %% [markdown]
# `jc.Gaussian(0.1)` is known noise, `jc.Gaussian(lambda model: model.noise)` trained noise of
# each channel, `scale="log"` makes it log-normal, and `jc.StudentT(..., df=4)` bears outliers. A
# likelihood of your own is a function of `(t, y, observed, args, model)`, or a method of the
# model without the last, that returns the negative log-likelihood of one observation time;
# `jc.transcribe` says how to write one where values are missing. Give noise levels the scale
# "reciprocal", in which a solve finds them from afar, and a bound or `min_std` where the model
# could go through every sample: without any noise the likelihood has no maximum.
#
# Priors are Gaussian, on leaves of the model (`jc.Prior`, also of the logarithm) and on initial
# states (`y0_prior`, with standard deviations or a covariance). They count against the data by
# the noise of these, so that they need a likelihood, or `weights` of `1 / s**2`. In moving
# horizon estimation `y0_prior` is the arrival cost: `nlp.with_data(...)` with the next window and
# its prior compiles nothing.
