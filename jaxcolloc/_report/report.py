"""report: what is known of a fit, on one page."""

import dataclasses
import datetime
import importlib.metadata
import os
import platform
import re
from typing import Any, BinaryIO

import jax.tree_util as jtu
import numpy as np

from .. import _atomic_file
from .._check import describe
from .._names import channel_names, entry, experiment
from .._plot import plot, plot_residuals, plot_trace
from .._plot.plot import check_uncertainty
from .._solution import Solution, check_solution
from .._uncertainty import Uncertainty, uncertainty
from .._validate import Validation
from .._verification import Verification
from .._verify import verify
from . import page


# Trajectories of one overview, and those up to which each has a picture of its own.
_TOGETHER, _MOST = 12, 24
_PACKAGES = ("jaxcolloc", "jax", "jaxlib", "equinox", "diffrax", "numpy", "scipy")


def report(
    sol: Solution,
    path: str | os.PathLike[str] | None = None,
    *,
    title: str = "Fit of a model",
    uncertainty: Uncertainty | None = None,
    validation: Validation | None = None,
) -> str:
    """Write all that is known of a fit to one HTML file, with pictures in it.

        jc.report(sol, "fit.html")

    The summary as `print(sol)` shows it, the verdict with what it means, figures of every
    experiment and channel, estimates with 95% intervals and what the data leave free, pictures of
    all trajectories, residuals and parity plots, the iterations, settings and versions. The file
    needs no network and no other file.

    **Arguments:**

    - `sol`: from `jc.fit` or `jc.solve`; it is verified if it was not.
    - `path`: the file, which is replaced at once; None for none.
    - `title`: the title of the page.
    - `uncertainty`: from `jc.uncertainty(sol)`, which is called if it is not given; where it cannot
      be had, the page says why.
    - `validation`: from `jc.validate`, to be shown as well.

    Returns the page as a text. **Errors:** `ImportError` without matplotlib; `ValueError` for bad
    arguments and for a path that is no file; `FileNotFoundError` for a folder that is not there.
    """
    check_solution("sol", sol)
    if not isinstance(title, str) or not title.strip():
        raise ValueError(f"`title` must be a text that is not empty; got {describe(title)}.")
    check_uncertainty(uncertainty, sol)
    if validation is not None and not isinstance(validation, Validation):
        raise ValueError(
            f"`validation` must be what jc.validate returns; got {describe(validation)}."
        )
    if path is not None:
        _atomic_file.destination(path)
    if sol.verification is None:
        sol = dataclasses.replace(sol, verification=verify(sol))
    assert sol.verification is not None
    u, reason = (uncertainty, "") if uncertainty is not None else _uncertainty(sol)
    sections = [
        ("Summary", page.verbatim(sol)),
        ("Verdict", _verdict(sol.verification)),
        ("Experiments", _experiments(sol, sol.verification)),
        ("Estimates", _estimates(u, reason)),
        *([] if validation is None else [("Validation", _validation(validation))]),
        ("Trajectories", _pictures(sol, u)),
        ("Residuals", page.picture(plot_residuals(sol), "Residuals and parity plots")),
        ("Iterations", page.picture(plot_trace(sol), "Objective, infeasibilities and steps")),
        ("Settings", _settings(sol)),
        ("Versions", _versions()),
    ]
    text = page.page(title, _top(sol, sol.verification), sections)
    if path is not None:

        def fill(file: BinaryIO) -> None:
            file.write(text.encode())

        _atomic_file.replace(path, fill)
    return text


def _uncertainty(sol: Solution) -> tuple[Uncertainty | None, str]:
    """The uncertainty of a solution, or why there is none."""
    try:
        return uncertainty(sol), ""
    except ValueError as error:
        return None, str(error)


def _top(sol: Solution, found: Verification) -> str:
    kind = "good" if found.verdict.ok else "bad"
    now = datetime.datetime.now().astimezone().isoformat(" ", "minutes")
    words = ", ".join(cause.name for cause in found.causes)
    return (
        f'<p>Verdict: <strong class="{kind}">{page.text(words)}</strong>. '
        f"{page.text(sol.result.name)}, objective {page.text(f'{sol.objective:.6g}')}. "
        f"Written {page.text(now)}.</p>"
    )


def _verdict(found: Verification) -> str:
    rows = [(cause.name, cause.value) for cause in found.causes]
    head = "All is well." if found.verdict.ok else "To be mended, the first first:"
    return page.paragraph(head) + page.table(("verdict", "meaning"), rows) + page.bullets(
        found.notes
    )  # fmt: skip


def _experiments(sol: Solution, found: Verification) -> str:
    """Figures of every experiment and channel."""
    items = sol.nlp.trajectories
    names = channel_names(items)
    rows = [
        (
            experiment(item, k),
            name,
            int(item.measured[:, c].sum()),
            float(found.path_explained[k, c]),
            float(found.rollout_explained[k, c]),
            float(found.misfit[k, c]),
            "yes" if found.follows[k] else "no",
        )
        for k, item in enumerate(items)
        for c, name in enumerate(names)
    ]
    head = ("experiment", "channel", "samples", "explained by the path", "by the rollout",
            "residuals / noise", "rollout follows")  # fmt: skip
    return page.table(head, rows)


def _estimates(u: Uncertainty | None, reason: str) -> str:
    """The table of constants, unknowns and initial states, and what the data leave free."""
    if u is None:
        return page.paragraph(f"No standard errors: {reason}")
    frame = u.to_pandas()
    kept = frame[~u.parameters.of_net]
    rows = [
        (*entry(u.solution.nlp, row.name), row.value, row.stderr, row.lower, row.upper, row.note)
        for row in kept.itertuples()
    ]
    head = ("name", "experiment", "value", "standard error", "95% from", "to", "")
    nets = len(frame) - len(kept)
    more = page.paragraph(f"And {nets} weights of nets, which are not known one by one.")
    return page.table(head, rows) + (more if nets else "") + page.bullets(u.sentences)


def _validation(found: Validation) -> str:
    return page.verbatim(found) + page.picture(found.plot(), "Unseen series and simulations")


def _pictures(sol: Solution, u: Uncertainty | None) -> str:
    """All trajectories together, and each in detail where they are not too many."""
    count = len(sol.paths)
    parts = []
    if count > 1:
        for first in range(0, count, _TOGETHER):
            chosen = list(range(first, min(first + _TOGETHER, count)))
            alt = f"Trajectories {chosen[0]} to {chosen[-1]}: data, paths and rollouts"
            parts.append(page.picture(plot(sol, chosen, uncertainty=u), alt))
    if count > _MOST:
        parts.append(page.paragraph(f"Pictures in detail are left out of {count} trajectories."))
        return "".join(parts)
    for k, item in enumerate(sol.nlp.trajectories):
        alt = f"{experiment(item, k)}: data, path, rollout and errors"
        shown = page.picture(plot(sol, k, uncertainty=u), alt)
        parts.append(shown if count == 1 else page.folded(experiment(item, k), shown, False))
    return "".join(parts)


def _settings(sol: Solution) -> str:
    """Options of the problem, model, grids and solver."""
    nlp = sol.nlp
    leaves = [leaf for leaf in jtu.tree_leaves(nlp.model) if hasattr(leaf, "shape")]
    size = sum(int(np.prod(leaf.shape)) for leaf in leaves)
    rows = [
        ("model", f"{type(nlp.model).__name__} with {size} numbers, {nlp.num_weights} trained"),
        ("solver", repr(sol.solver)),
        ("grids", ", ".join(dict.fromkeys(repr(grid) for grid in nlp.grids))),
    ]
    rows += [(name, _shown(nlp.settings[name])) for name in list(nlp.settings.keys())]
    for key in ("selection", "starts", "refinement_end", "fit_seconds"):
        if key in sol.stats:
            rows.append((key, _shown(sol.stats[key])))
    return page.table(("option", "value"), rows)


def _shown(value: Any, most: int = 600) -> str:
    """A value as text, without addresses and not too long."""
    try:
        text = re.sub(r" at 0x[0-9a-f]+", "", repr(value))
    except Exception:
        # A foreign `__repr__`.
        text = f"an object of type {type(value).__name__}"
    return text if len(text) <= most else text[: most - 3] + "..."


def _versions() -> str:
    rows = [(name, importlib.metadata.version(name)) for name in _PACKAGES]
    rows += [("Python", platform.python_version()), ("platform", platform.platform())]
    return page.table(("package", "version"), rows)
