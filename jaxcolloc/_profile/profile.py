"""profile: intervals of one parameter by the likelihood itself."""

from collections.abc import Callable

import numpy as np

from .._check import share
from .._nlp import NLP
from .._solution import Solution
from .._uncertainty import Uncertainty, uncertainty
from .._uncertainty.names import Named, Where
from .._uncertainty.noise import precision_factor
from .line import Line
from .result import Profile, shape_of
from .side import END, Reach, Side, follow


# How far is looked: so many times a positive value or its inverse, or the value's size.
_POSITIVE_REACH, _REACH = 1e6, 1e3
# The first step where the quadratic interval says nothing, in sizes of the value.
_FIRST = 0.1


def profile(
    sol: Solution, where: Where, level: float = 0.95, trajectory: int | None = None
) -> Profile:
    r"""The interval of one parameter by its profile likelihood.

        p = jc.profile(sol, lambda m: m.rate)
        print(p)
        p.lower, p.upper, p.shape
        p.plot()

    The parameter is held at other values than the estimate $\hat\theta$, and everything else, nets,
    unknowns and states included, is optimised anew, in warm-started solves. The interval holds the
    values whose deviance is below its threshold,

    $$D(\theta) = 2 c \, \big(\min_{z: \, \theta(z) = \theta} F(z) - F(\hat z)\big)
      \le q^2, \qquad c = \frac{N}{2 \hat\sigma^2} \text{ or } N,$$

    with the objective $F$ and the number $N$ of observation times. Where the loss is a negative
    log-likelihood, $D$ is twice a logarithm of a likelihood ratio, and $q^2$ is the quantile of the
    $\chi^2$ distribution of one degree of freedom. Where the noise is estimated from the residuals,
    as under `jc.squared_error`, $D$ is a ratio of mean squares, and $q^2$ is the quantile of the F
    distribution of 1 and $n - p$ degrees of freedom: it allows for $\hat\sigma$ not being known
    exactly, and makes the interval that of `jc.uncertainty` where the problem is linear. Priors and
    the ridge penalty belong to the objective, as they do there.

    It is not symmetric, does not depend on the parameter's scale, and sees what no quadratic can:
    parameters that are bounded from one side only, or not at all. Steps are those of the quadratic
    interval first, then the secant method's on $\sqrt D$, on the parameter's scale: two to four
    solves to each side, at most twelve. It is looked as far as a factor of $10^6$ on a scale of
    positive values, else a thousand times the value's size.

    **Arguments:**

    - `sol`: a solution at an optimum, from `jc.fit` or `jc.solve`.
    - `where`: a function of the model that selects one trained number, such as `lambda m: m.rate`
      or `lambda m: m.rates[1]`; or its name as `print(jc.uncertainty(sol))` shows it, such as
      `"y0[0][1]"` of an initial state.
    - `level`: the probability with which the interval contains the true value.
    - `trajectory`: with it `where` is a function of that trajectory's `args` and selects a
      `jc.Unknown`.

    **Errors:** `ValueError` for a solution that is no optimum, as in `jc.uncertainty`; where
    `where` selects more than one number, or one that is fixed; where the data are no more than the
    parameters, so that nothing is left to estimate the noise from.

    Raue et al., "Structural and practical identifiability analysis of partially observed dynamical
    models by exploiting the profile likelihood" (Bioinformatics 25, 2009); Bates and Watts,
    "Nonlinear Regression Analysis" (1988), section 6.1, for the F distribution.
    """
    share("level", level, below=1.0)
    u = uncertainty(sol)
    found, _ = u._chosen(where, trajectory)
    leaf = _scalar(found)
    at = _position(sol.nlp, int(leaf.at[0]))
    if sol.nlp.bounds[0][at] == sol.nlp.bounds[1][at]:
        raise ValueError(f"`where` must select a parameter that is free; {leaf.name} is fixed.")
    if not (np.isfinite(u.noise.variance) and u.noise.variance > 0):
        raise ValueError(
            "`sol` must leave residuals to estimate the noise from; here there are "
            f"{u.noise.num_values} measured values and {u.noise.num_parameters:.4g} parameters. "
            "Pass a likelihood with a known noise, `loss=jc.Gaussian(std)`."
        )
    line = Line(u.solution, at, 2 * precision_factor(sol.nlp) / u.noise.variance)
    threshold = u.noise.quantile(level) ** 2
    sides = [follow(line, sign, _reach(u, leaf, line, sign, threshold), threshold)
             for sign in (-1, 1)]  # fmt: skip
    return _result(u, leaf, level, line, threshold, sides)


def _scalar(found: list[Named]) -> Named:
    number = sum(leaf.at.size for leaf in found)
    if number != 1:
        names = ", ".join(leaf.name for leaf in found)
        raise ValueError(
            f"`where` must select one number; got {number}, in {names}. Choose a component, such "
            "as `lambda m: m.rates[0]`."
        )
    return found[0]


def _position(nlp: NLP, parameter: int) -> int:
    """The position in `z` of a parameter, which may be an initial state."""
    layout = nlp.layout
    k, component = divmod(parameter - layout.num_head, layout.num_differential)
    if k < 0:
        return parameter
    return int(layout.columns(layout.first_nodes[k])) + component


def _reach(u: Uncertainty, leaf: Named, line: Line, sign: int, threshold: float) -> Reach:
    """How far to go to one side, on the optimizer's scale."""
    parameter, x = int(leaf.at[0]), line.start.x
    size = float(u.parameters.size[parameter])
    deviation = float(u._deviations[parameter])
    half = np.sqrt(threshold) * deviation
    if leaf.scale is not None and leaf.scale.positive:
        value = np.asarray(leaf.scale.outward(np.array([x])))
        most = abs(float(leaf.scale.inward(value * _POSITIVE_REACH**sign)[0]) - x)
    else:
        most = max(_REACH * size, 3 * half if np.isfinite(half) else 0.0)
    bound = sign * (float(line.sol.nlp.bounds[sign > 0][line.at]) - x)
    # A solver stays a little away from a bound that is active.
    bound = 0.0 if bound <= 1e-6 * max(abs(x), 1.0) else bound
    step = half / 2 if 0 < half < 10 * size else _FIRST * size
    if deviation == 0:
        step = min(step, _step_off(line, threshold))
    return Reach(step, min(bound, most), bound <= most)


def _step_off(line: Line, threshold: float) -> float:
    """The step off an active bound, whose force says how the objective rises."""
    dual = line.sol.multipliers
    force = 0.0 if dual is None else max(abs(dual.lower[line.at]), abs(dual.upper[line.at]))
    return threshold / (line.factor * force) if force > 0 else np.inf


def _result(
    u: Uncertainty, leaf: Named, level: float, line: Line, threshold: float, sides: list[Side]
) -> Profile:
    rate = u.parameters.rate[leaf.at]

    def outward(x: float) -> float:
        return float(leaf.outward(np.array([x]), rate).ravel()[0])

    positive = leaf.scale is not None and leaf.scale.positive
    several = END.lower in (sides[0].end, sides[1].end)
    ends = []
    for side, beyond in zip(sides, (0.0 if positive else -np.inf, np.inf), strict=True):
        known = side.end in (END.crossed, END.bound)
        ends.append(np.nan if several else outward(side.x) if known else beyond)
    points = sorted(line.points, key=lambda point: point.x)
    return Profile(
        name=u.parameters.names[int(leaf.at[0])],
        value=outward(line.start.x),
        level=float(level),
        lower=ends[0],
        upper=ends[1],
        shape=shape_of((sides[0].end, sides[1].end)),
        values=np.array([outward(point.x) for point in points]),
        deviances=np.array([point.deviance for point in points]),
        threshold=threshold,
        ends=(_told(sides[0], outward), _told(sides[1], outward)),
        num_solves=line.num_solves,
        num_failed=line.num_failed,
        better=line.better if several else None,
        positive=positive,
    )


def _told(side: Side, outward: Callable[[float], float]) -> str:
    return f"{side.end.value}, at {outward(side.x):.6g}"
