"""Profile: what `jc.profile` returns."""

import enum
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Float

from .._solution import Solution
from .side import END


class SHAPE(enum.Enum):
    """The shape of a profile; the value says what it means."""

    bounded = "The data bound the parameter from below and from above."
    one_sided = (
        "The data bound the parameter from one side only. To the other they allow all values, up "
        "to its bound if it has one."
    )
    flat = "The data do not bound the parameter."
    several_optima = (
        "With the parameter held elsewhere a lower objective was found than the solution's, which "
        "is a local optimum only. Solve from there, `jc.solve(sol.nlp, sol.solver, "
        "profile.better)`, and profile that."
    )

    def __repr__(self) -> str:
        return f"SHAPE.{self.name}"


class Profile(eqx.Module):
    """The profile likelihood of one parameter.

    - `name`: of the parameter; `value`: its estimate; `level`: that of the interval.
    - `lower`, `upper`: the ends of the interval, in the parameter's units. Infinite, or zero from
      below on a scale of positive values, where the deviance stays below its threshold as far as
      was looked, or solves failed; the parameter's bound where it does so up to that; NaN with
      several optima.
    - `shape`: a `jc.SHAPE`.
    - `values`, `deviances`: the curve, shape `(point,)`, by ascending values.
    - `threshold`: of the deviance, at this level.
    - `ends`: how the lower and the upper side ended, as text.
    - `num_solves`, `num_failed`: of the solves along the way.
    - `better`: with several optima, the solution of lower objective, with the parameter held.
    """

    name: str = eqx.field(static=True)
    value: float
    level: float
    lower: float
    upper: float
    shape: SHAPE = eqx.field(static=True)
    values: Float[np.ndarray, " point"]
    deviances: Float[np.ndarray, " point"]
    threshold: float
    ends: tuple[str, str]
    num_solves: int
    num_failed: int
    better: Solution | None
    positive: bool = eqx.field(static=True)

    def plot(self) -> Any:
        """Draw the deviance along the parameter, its threshold and the ends of the interval.

        Returns the matplotlib `Figure`. **Errors:** `ImportError` without matplotlib.
        """
        from .._plot.style import PATH, ROLLOUT, pyplot

        figure, axis = pyplot().subplots(figsize=(6, 4), constrained_layout=True)
        at, deviance = self._curve()
        axis.plot(at, deviance, color=PATH, lw=2.2)
        axis.plot(self.values, self.deviances, "o", color=PATH, ms=4, label="re-optimised")
        axis.axhline(self.threshold, color="0.35", lw=1, ls="--", label=f"{self.level:.4g} level")
        for end in (self.lower, self.upper):
            if np.isfinite(end) and (end > 0 or not self.positive):
                axis.axvline(end, color=ROLLOUT, lw=1)
        axis.axvline(self.value, color="0.35", lw=0.8)
        if self.positive:
            axis.set_xscale("log")
        axis.set_ylim(min(0.0, self.deviances.min()), 2 * self.threshold)
        axis.set_xlabel(self.name)
        axis.set_ylabel("deviance")
        axis.set_title(self.shape.name.replace("_", " "), loc="left")
        axis.legend(frameon=False)
        return figure

    def _curve(self) -> tuple[np.ndarray, np.ndarray]:
        """The deviance between the points: its root is nearly a line on each side."""
        scale = np.log(self.values) if self.positive else self.values
        own = np.log(self.value) if self.positive else self.value
        root = np.sqrt(np.maximum(self.deviances, 0.0)) * np.sign(scale - own)
        at = np.linspace(scale[0], scale[-1], 400)
        deviance = np.interp(at, scale, root) ** 2
        return (np.exp(at) if self.positive else at), deviance

    def __str__(self) -> str:
        percent = f"{100 * self.level:.4g}%"
        lines = [
            f"Profile of {self.name}: {self.shape.name}. {self.shape.value}",
            f"  value     {self.value:.6g}",
            f"  interval  {self.lower:.6g} to {self.upper:.6g} ({percent})",
            f"  below     {self.ends[0]}",
            f"  above     {self.ends[1]}",
            f"  solves    {self.num_solves}, of which {self.num_failed} failed",
            f"  deviance  threshold {self.threshold:.4g}",
        ]
        return "\n".join(lines + self._table())

    def _table(self) -> list[str]:
        most = 12
        shown = np.unique(np.linspace(0, len(self.values) - 1, most).astype(int))
        return [f"    {self.values[k]:>12.6g}  {self.deviances[k]:>10.4g}" for k in shown]

    def __repr__(self) -> str:
        return f"Profile({self.name}, {self.shape!r}, {self.lower:.6g} to {self.upper:.6g})"


def shape_of(ends: tuple[END, END]) -> SHAPE:
    """The shape by how both sides ended."""
    if END.lower in ends:
        return SHAPE.several_optima
    number = sum(end is END.crossed for end in ends)
    return (SHAPE.flat, SHAPE.one_sided, SHAPE.bounded)[number]
