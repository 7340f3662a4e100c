"""Predictive control: a reactor fitted by collocation, steered by CasADi, estimated by jaxcolloc.

An exothermic reaction in a cooled stirred tank, at a steady state that is unstable without a
controller. Its concentration c in mol/l and its temperature T in K obey

    c' = D (c_feed - c) - a r(c, T),    T' = D (T_feed - T) + H a r(c, T) + K (T_cool - T)

with the catalyst's activity a, one when it is fresh. How the rate r depends on c is not known: a
net stands there, beside the balances, an unknown activation energy and an unknown heat transfer K.
Four parts work together:

1. Eight runs with steps of the coolant and noise are fitted by one collocation solve.
2. `jc.to_casadi` makes the fitted model a CasADi function. An optimal control problem over the next
   two minutes (multiple shooting, IPOPT) picks the coolant that brings c to its set point.
3. A moving horizon estimator finds the state, the feed's concentration and the activity from the
   last samples: one NLP, whose numbers `nlp.with_data` changes, so that nothing is compiled anew.
4. The true reactor answers. The set point jumps twice, and then the concentration of the feed
   does, of which nobody tells the controller.

    python examples/predictive_control.py

It needs CasADi: pip install 'jaxcolloc[control]'.
"""

import time
from typing import Any

import casadi as ca
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from _series import options, pyplot, rmse, save

import jaxcolloc as jc


NOISE = np.array([0.01, 0.3])
DILUTION, FEED, HOT, HEAT = 1.0, 1.0, 350.0, 80.0
# Of the samples and the controller, in minutes.
STEP = 0.1
START, COOLANT, RANGE, FASTEST = np.array([0.5, 350.0]), 300.0, (280.0, 320.0), 4.0
# Set point or feed have been as they are for so many minutes.
SETTLED = 2.5


def inputs(coolant: Any, feed: Any = FEED, activity: Any = 1.0) -> dict[str, Any]:
    """`args` of the reactor and of its model."""
    return {"coolant": coolant, "feed": feed, "activity": activity}


def balances(t: Any, y: Any, args: Any, rate: Any, transfer: Any) -> Any:
    """What is known: the flow through the tank, the heat of reaction, cooling."""
    c, temperature = y
    rate = args["activity"] * rate
    flow = DILUTION * jnp.stack([args["feed"] - c, HOT - temperature])
    cooling = transfer * (args["coolant"](t) - temperature)
    return flow + jnp.stack([-rate, HEAT * rate + cooling])


class Reactor(eqx.Module):
    """The truth, which the fit does not know: the rate saturates."""

    def rate(self, y: Any) -> Any:
        return y[0] / (0.5 + y[0]) * jnp.exp(25.0 * (1 - 350.0 / y[1]))

    def __call__(self, t: Any, y: Any, args: Any) -> Any:
        return balances(t, y, args, self.rate(y), 0.8)


class Hybrid(eqx.Module):
    """The balances and Arrhenius' law, with a net for how the rate depends on c."""

    net: eqx.nn.MLP
    activation: jax.Array
    transfer: jax.Array

    def rate(self, y: Any) -> Any:
        law = y[0] * jax.nn.softplus(self.net(2 * y[:1] - 1))
        return law * jnp.exp(self.activation * (1 - 350.0 / y[1]))

    def __call__(self, t: Any, y: Any, args: Any) -> Any:
        return balances(t, y, args, self.rate(y), self.transfer)


def experiments(count: int) -> list[jc.Trajectory]:
    """Runs from several states with a coolant that steps, and noise on both measurements."""
    rng, ts = np.random.default_rng(0), STEP * np.arange(31)
    data = []
    for _ in range(count):
        coolant = jc.Input(0.5 * np.arange(6), COOLANT + rng.uniform(-15, 15, 6), "hold")
        start = np.array([rng.uniform(0.2, 0.9), rng.uniform(335, 365)])
        ys = np.asarray(jc.simulate(Reactor(), ts, start, inputs(coolant)))
        ys = ys + NOISE * rng.normal(size=ys.shape)
        data.append(jc.Trajectory(ts, ys, inputs(coolant), weights=1 / NOISE**2))
    return data


def fitted(count: int, width: int) -> jc.Solution:
    """The hybrid model, trained by one collocation solve."""
    net = eqx.nn.MLP(1, "scalar", width, 1, jnp.tanh, key=jax.random.key(0))
    model = Hybrid(net, jnp.asarray(15.0), jnp.asarray(1.5))
    grid = jc.Grid.uniform(0.0, 3.0, 30, jc.Radau(3))
    bounds = ([0, 250], [2, 600])
    nlp = jc.transcribe(model, experiments(count), grid, l2=jc.OnNets(1e-3), state_bounds=bounds)
    return jc.solve(nlp, jc.InteriorPoint(), jc.guess(nlp, key=jax.random.key(1)))


class Controller:
    """An optimal control problem in CasADi: the coolant that brings c to its set point."""

    def __init__(self, model: Any, horizon: int):
        self.problem = ca.Opti()
        # Near one in the solver, whatever the units.
        self.states = self.problem.variable(2, horizon + 1)
        self.coolant = self.problem.variable(1, horizon)
        # The state, the coolant until now, activity and feed, the set point.
        self.given = [self.problem.parameter(size) for size in (2, 1, 2, 1)]
        y0, before, disturbance, target = self.given
        step, unit = next_state(model, 4), ca.DM([1, 100])
        self.problem.subject_to(self.states[:, 0] == y0 / unit)
        for k in range(horizon):
            after = step(self.states[:, k] * unit, self.coolant[k], disturbance)
            self.problem.subject_to(self.states[:, k + 1] == after / unit)
        moves = self.coolant - ca.horzcat(before, self.coolant[:-1])
        self.problem.subject_to(self.problem.bounded(-FASTEST, moves, FASTEST))
        self.problem.subject_to(self.problem.bounded(RANGE[0], self.coolant, RANGE[1]))
        off = self.states[0, 1:] - target
        self.problem.minimize(ca.sumsqr(off / 0.02) + ca.sumsqr(moves / 2.0))
        quiet = {"print_level": 0, "sb": "yes"}
        self.problem.solver("ipopt", {"print_time": False, "ipopt": quiet})
        self.problem.set_initial(self.coolant, COOLANT)
        self.problem.set_initial(self.states, np.tile(START[:, None] / [[1], [100]], horizon + 1))

    def __call__(self, *given: Any) -> float:
        """The coolant's temperature over the next step; starts from the solution before."""
        for parameter, value in zip(self.given, given, strict=True):
            self.problem.set_value(parameter, value)
        found = self.problem.solve()
        for variable in (self.states, self.coolant):
            self.problem.set_initial(variable, found.value(variable))
        return float(found.value(self.coolant[0]))


def next_state(model: Any, parts: int) -> Any:
    """The model's state one step later, by so many steps of Runge and Kutta's method."""
    field = jc.to_casadi(model, 2, inputs(jc.Input([0.0], [COOLANT])))
    y, coolant, disturbance = ca.SX.sym("y", 2), ca.SX.sym("coolant"), ca.SX.sym("d", 2)
    # The order is that of `field.sx_in("args")`.
    args = ca.vertcat(disturbance[0], coolant, disturbance[1])
    h, end = STEP / parts, y
    for _ in range(parts):
        a = field(0, end, args)
        b = field(0, end + h / 2 * a, args)
        c = field(0, end + h / 2 * b, args)
        d = field(0, end + h * c, args)
        end = end + h / 6 * (a + 2 * b + 2 * c + d)
    return ca.Function("next_state", [y, coolant, disturbance], [end])


class Estimator:
    """State, activity and feed from the last samples: one NLP that is solved again and again."""

    def __init__(self, model: Any, length: int):
        self.ts = STEP * np.arange(length + 1)
        self.start, self.disturbance = START, np.array([1.0, FEED])
        blank = self.window(np.tile(START, (length + 1, 1)), np.full(length, COOLANT))
        # The model stays as it was fitted: the variables are states, activity and feed.
        grid = jc.Grid.aligned(self.ts, jc.Radau(2))
        self.nlp = jc.transcribe(model, blank, grid, trainable=False, state_scale=[1.0, 100.0])
        self.last = jc.guess(self.nlp)

    def window(self, ys: np.ndarray, levels: np.ndarray) -> jc.Trajectory:
        """The last samples; what the window before says of this one's start is the arrival cost."""
        activity, feed = (
            jc.Unknown(value, bounds=(0.3, 3.0), l2=1e2) for value in self.disturbance
        )
        args = inputs(jc.Input(self.ts[:-1], levels, "hold"), feed, activity)
        prior = self.start, 2 * NOISE
        return jc.Trajectory(self.ts, ys, args, weights=1 / NOISE**2, y0_prior=prior)

    def __call__(self, ys: np.ndarray, levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The state at the last sample, and activity and feed."""
        nlp = self.nlp.with_data(self.window(ys, levels))
        self.last = sol = jc.solve(nlp, jc.Ipopt(), self.last)
        self.disturbance = np.array([float(sol.args[0][name]) for name in ("activity", "feed")])
        self.start, now = np.asarray(sol.paths[0].evaluate(self.ts[[1, -1]]))
        return now, self.disturbance


def closed_loop(model: Any, minutes: float, length: int, horizon: int) -> dict[str, np.ndarray]:
    """Reactor, estimator and controller together, after `length` steps without control."""
    rng = np.random.default_rng(1)
    estimator, controller = Estimator(model, length), Controller(model, horizon)
    count = round(minutes / STEP)
    ts = STEP * np.arange(count)
    targets = np.select([ts < minutes / 4, ts < minutes / 2], [0.5, 0.4], 0.6)
    feeds = np.where(ts < 0.75 * minutes, FEED, 1.08 * FEED)
    truth, levels = np.tile(START, (count + 1, 1)), np.full(count, COOLANT)
    ys, found = np.zeros((count, 2)), np.full((count, 4), np.nan)
    seconds = np.full((count, 2), np.nan)
    for k in range(count):
        ys[k] = truth[k] + NOISE * rng.normal(size=2)
        if k >= length:
            begin = time.perf_counter()
            found[k] = np.concatenate(estimator(ys[k - length : k + 1], levels[k - length : k]))
            between = time.perf_counter()
            levels[k] = controller(found[k, :2], levels[k - 1], found[k, 2:], targets[k])
            seconds[k] = between - begin, time.perf_counter() - between
        args = inputs(jc.Input([0.0], levels[k : k + 1], "hold"), feeds[k])
        truth[k + 1] = np.asarray(jc.simulate(Reactor(), np.array([0.0, STEP]), truth[k], args))[1]
    return {
        "ts": ts, "targets": targets, "feeds": feeds, "truth": truth[:-1], "levels": levels,
        "ys": ys, "found": found, "seconds": seconds,
    }  # fmt: skip


def settled(run: dict[str, np.ndarray]) -> np.ndarray:
    """Where set point and feed have been as they are for some time, under control."""
    changed = np.diff(run["targets"], prepend=np.nan) != 0
    changed |= np.diff(run["feeds"], prepend=np.nan) != 0
    changed |= np.diff(np.isnan(run["found"][:, 0]), prepend=True)
    last = np.maximum.accumulate(np.where(changed, run["ts"], 0.0))
    return (run["ts"] - last >= SETTLED) & ~np.isnan(run["found"][:, 0])


def report(run: dict[str, np.ndarray]) -> None:
    """Errors and times."""
    on, calm = ~np.isnan(run["found"][:, 0]), settled(run)
    c, truth, found = run["truth"][:, 0], run["truth"][on], run["found"][on]
    print(
        f"tracking: c is {rmse(c[calm], run['targets'][calm]):.4f} mol/l off its set point "
        f"{SETTLED} min after a change, {rmse(c[on], run['targets'][on]):.4f} over all (rms)"
    )
    print(
        f"estimates: c {rmse(found[:, 0], truth[:, 0]):.4f} mol/l of noise {NOISE[0]}, T "
        f"{rmse(found[:, 1], truth[:, 1]):.2f} K of {NOISE[1]}, feed "
        f"{found[-1, 3]:.3f} mol/l at the end, truth {run['feeds'][-1]:.3f} (rms)"
    )
    # The first one compiles.
    milliseconds = 1e3 * run["seconds"][on][1:]
    print(
        "per step: estimator {:.0f} ms, controller {:.0f} ms; at most {:.0f} and {:.0f} ms".format(
            *np.median(milliseconds, axis=0), *np.max(milliseconds, axis=0)
        )
    )


def draw(model: Any, run: dict[str, np.ndarray], output: Any) -> None:
    """The rate that was found, and the run."""
    plt = pyplot()
    figure, axes = plt.subplots(2, 2, figsize=(12, 6.4), constrained_layout=True)
    law, level, heat, feed = axes.ravel()
    c = np.linspace(0.02, 0.9, 89)
    for each, style, label in ((Reactor(), "k-", "truth"), (model, "C3--", "fitted net")):
        rates = jax.vmap(lambda c, each=each: each.rate(jnp.stack([c, jnp.asarray(350.0)])))(c)
        law.plot(c, rates, style, label=label)
    law.set(title="rate at 350 K", xlabel="c in mol/l", ylabel="mol/(l min)")
    ts, found = run["ts"], run["found"]
    level.plot(ts, run["ys"][:, 0], ".", color="0.7", ms=4, label="measured")
    level.step(ts, run["targets"], "k", where="post", lw=1, label="set point")
    level.plot(ts, run["truth"][:, 0], "C0", label="reactor")
    level.plot(ts, found[:, 0], "C3--", lw=1, label="estimate")
    level.set(title="concentration", ylabel="mol/l")
    heat.plot(ts, run["truth"][:, 1], "C0", label="reactor")
    heat.step(ts, run["levels"], "C2", where="post", label="coolant")
    heat.set(title="temperature and what is done", ylabel="K")
    feed.step(ts, run["feeds"], "k", where="post", lw=1, label="true feed")
    feed.plot(ts, found[:, 3], "C3--", label="estimated feed")
    feed.plot(ts, found[:, 2], "C1:", label="estimated activity, truth 1")
    feed.set(title="what nobody measures", ylabel="feed in mol/l, activity")
    for axis in (level, heat, feed):
        axis.set_xlabel("minutes")
        changed = np.flatnonzero(np.diff(run["feeds"]))
        axis.axvline(ts[changed + 1].item(), color="0.5", ls=":", lw=1, label="the feed changes")
    for axis in axes.ravel():
        axis.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=8)
    save(figure, output / "predictive_control.png")


def main() -> None:
    jax.config.update("jax_enable_x64", True)
    chosen = options(__doc__, data=False).parse_args()
    begin = time.perf_counter()
    sol = fitted(4 if chosen.quick else 8, 4)
    print(sol)
    print(
        f"activation {float(sol.model.activation):.2f}, truth 25; "
        f"heat transfer {float(sol.model.transfer):.3f}, truth 0.8"
    )
    run = closed_loop(sol.model, *((12.0, 8, 15) if chosen.quick else (16.0, 15, 20)))
    report(run)
    print(f"{time.perf_counter() - begin:.1f} s in all")
    draw(sol.model, run, chosen.output)


if __name__ == "__main__":
    main()
