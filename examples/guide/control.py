# %% [markdown]
# # Control: out into the world
#
# A fitted model goes on into control, estimation and other programs. A tank under a feed, fitted:

# %%
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import jaxcolloc as jc


class Tanks(eqx.Module):
    flow: jax.Array
    leak: eqx.nn.MLP

    def __call__(self, t, y, args):
        upper = args["scale"] * args["feed"](t) - self.flow * y[0]
        return jnp.stack([upper, self.flow * y[0] - self.leak(y[1:])[0]])

    def observe(self, t, y, args):
        return y[1:]


def truth(t, y, args):
    upper = args["scale"] * args["feed"](t) - 0.5 * y[0]
    return jnp.stack([upper, 0.5 * y[0] - 0.4 * jnp.tanh(y[1])])


rng, ts = np.random.default_rng(0), np.linspace(0, 12, 49)
args = {"feed": jc.Input(ts[::8], rng.uniform(0, 1, 7), kind="hold"), "scale": 1.0}
levels = np.asarray(jc.simulate(truth, ts, [0.2, 0.1], args))
data = jc.Trajectory(ts, levels[:, 1:] + 0.005 * rng.normal(size=(49, 1)), args, y0=[0.2, 0.1])
leak = eqx.nn.MLP(1, 1, 4, 1, activation=jnp.tanh, key=jax.random.key(0))
tanks = Tanks(jnp.array(0.4), leak)
sol = jc.fit(tanks, data, key=jax.random.key(1), num_states=2, observe=tanks.observe)
print(float(sol.model.flow))

# %% [markdown]
# ## CasADi
#
# `jc.to_casadi` makes a CasADi function of a model, for optimal control, estimation or C code:
# each operation becomes expressions that CasADi differentiates, equal in value, Jacobian and
# Hessian (`tests/test_casadi.py`, to 1e-12). What cannot be written there is named, with its
# line. It needs `pip install "jaxcolloc[control]"`.

# %%
import casadi as ca


f = jc.to_casadi(sol.model, 2, sol.args[0])  # f(t, y, args), a casadi.Function
print(f.sx_in("args"))  # [args['feed'], args['scale']]: the feed by its value at t
sensor = jc.to_casadi(sol.model.observe, 2, sol.args[0], output="seen")

y, feed = ca.MX.sym("y", 2), ca.MX.sym("feed")
tanks = {"x": y, "p": feed, "ode": f(0, y, ca.vertcat(feed, 1.0))}
later = ca.integrator("later", "cvodes", tanks, 0.0, 0.5)(x0=[0.2, 0.1], p=0.7)["xf"]

# %% [markdown]
# With `symbols=["constants"]` the feed is the sampled function of time that it was in the fit,
# and with "weights" among them the weights are inputs too. `examples/predictive_control.py`
# closes a loop: a fitted reactor in a predictive controller, beside a moving horizon estimator.
#
# ## Moving horizon estimation
#
# The same nonlinear program, with the weights held and other data, is an estimator: nothing is
# compiled from one horizon to the next, and `y0_prior` is the arrival cost.

# %%
window = jc.Trajectory(ts[:9], data.ys[:9], args, weights=1 / 0.005**2, y0_prior=([0.2, 0.1], 0.1))
nlp = jc.transcribe(
    sol.model,
    window,
    jc.Grid.uniform(0.0, 2.0, 4, jc.Radau(3)),
    num_states=2,
    observe=sol.model.observe,
    trainable=False,
)
estimate = jc.solve(nlp, jc.InteriorPoint(), jc.guess(nlp, weights="as_given"))
again = jc.solve(nlp.with_data(window), jc.InteriorPoint(), estimate)
print(estimate.paths[0].evaluate(2.0), levels[8])

# %% [markdown]
# ## ONNX
#
# [jax2onnx](https://github.com/enpasos/jax2onnx) writes the same model as a file that ONNX
# runtimes compute (`pip install "jaxcolloc[export]"`):
#
# ```python
# from jax2onnx import to_onnx
#
# field = lambda t, y, feed: sol.model(t, y, {"feed": lambda t: feed, "scale": 1.0})
# to_onnx(
#     field,
#     [(), (2,), ()],
#     enable_double_precision=True,
#     return_mode="file",
#     output_path="tanks.onnx",
# )
# ```

# %% [test]
assert np.allclose(estimate.paths[0].evaluate(2.0), levels[8], atol=0.05)
y = np.array([0.3, 0.2])
column = np.array([0.7, 1.0])
expected = sol.model(0.0, jnp.asarray(y), {"feed": lambda t: 0.7, "scale": 1.0})
assert np.allclose(np.asarray(f(0.0, y, column)).ravel(), expected, atol=1e-6)
