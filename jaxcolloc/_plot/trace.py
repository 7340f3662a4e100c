"""plot_trace: the iterations of a solve."""

from typing import Any

import numpy as np

from .._solution import Solution, check_solution
from .style import FLOOR, PATH, ROLLOUT, headline, pyplot


# What each panel of `plot_trace` below the objective shows, by the columns of the trace.
_PANELS = {
    "infeasibility": {
        "primal_infeasibility": "constraint violation",
        "dual_infeasibility": "gradient of the Lagrangian",
        "mu": "barrier parameter",
        "gradient": "gradient",
        "primal": "primal residual",
        "dual": "dual residual",
    },
    "step": {
        "step_size": "accepted share of the step",
        "step_norm": "length of the step",
        "rho": "penalty",
    },
}


def plot_trace(sol: Solution) -> Any:
    """Draw the iterations: objective, infeasibilities or residuals, steps.

    Returns the matplotlib `Figure`. **Errors:** `ImportError` without matplotlib.
    """
    check_solution("sol", sol)
    plt = pyplot()
    columns = sol.trace.columns
    number = columns["iteration"]
    regular = ~columns.get("restoration", np.zeros(len(number), bool))
    figure, axes = plt.subplots(3, 1, figsize=(9, 7), sharex=True, constrained_layout=True)
    objective = columns["objective"][regular]
    axes[0].plot(number[regular], objective, color=PATH)
    axes[0].set_ylabel("objective")
    if len(objective) and np.all(objective > 0):
        axes[0].set_yscale("log")
    for axis, (title, lines) in zip(axes[1:], _PANELS.items(), strict=True):
        shown = {name: label for name, label in lines.items() if name in columns}
        if "step_size" in shown:
            shown.pop("step_norm", None)
        for name, label in shown.items():
            values = columns[name]
            axis.plot(number, values if title == "step" else np.maximum(values, FLOOR), label=label)
        axis.set_ylabel(title)
        if title != "step":
            axis.set_yscale("log")
        if not regular.all() and "step_size" in shown:
            axis.plot(number[~regular], columns["step_size"][~regular], "x", color=ROLLOUT,
                      label="restoration")  # fmt: skip
        axis.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize="small")
    axes[-1].set_xlabel("iteration")
    headline(figure, [f"{sol.result.name} after {sol.stats['num_steps']} steps"])
    return figure
