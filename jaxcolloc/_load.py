"""load: a solution from its file."""

import os
from typing import Any

import jax
import jax.tree_util as jtu
import numpy as np

from . import _storage
from ._check import describe
from ._names import Labels
from ._nlp import NLP
from ._path import Path
from ._precision import is_array, x64
from ._settings import Settings
from ._solution import Record, Solution
from ._trace import RESULTS, Multipliers, Trace
from ._transcribe import transcribe_with
from ._verification import Verification


_WRITER = "Solution.save"
_NONE = type(None)
# What a solution's file holds, by name, with the types of it.
_KINDS: dict[str, Any] = {
    "model": list,
    "args": list,
    "paths": list,
    "result": RESULTS,
    "objective": float,
    "stats": dict,
    "trace": Trace,
    "z": np.ndarray,
    "multipliers": (Multipliers, _NONE),
    "problem": (dict, _NONE),
    "solver": object,
    "key": object,
    "verification": (Verification, _NONE),
    "request": (dict, _NONE),
}


def load(path: str | os.PathLike[str], *, like: Any) -> Solution:
    """Read what `Solution.save` or a checkpoint has written.

        sol = jc.load("run.jcs", like=model)
        sol = jc.solve(sol.nlp, jc.Ipopt(), sol)  # goes on from there

    **Arguments:**

    - `path`: the file.
    - `like`: a model of the same structure, whose arrays are replaced by the stored ones; or the
      NLP (or a solution of it), which is needed where the problem has functions that no file
      can hold, such as `observe` or constraints. With the model alone such a solution is
      complete but for `sol.nlp`.

    Options of a stored `jc.Ipopt` that may name files or libraries are left out, with a warning.

    **Errors:** `ValueError` for a file of another kind or version, a model of another shape, an
    NLP with other variables or grids; `FileNotFoundError`.
    """
    content = _content(path)
    content.pop("request")
    try:
        return _solution(content, like)
    except _storage.DAMAGE as error:
        if isinstance(error, ValueError) and str(error).startswith("`like`"):
            raise
        raise ValueError(
            f"`path` must be a file that {_WRITER} has written, of a problem that `like` is the "
            f"model or the NLP of; got {path}, with {type(error).__name__}: {error}"
        ) from error


def _solution(content: dict[str, Any], like: Any) -> Solution:
    """The solution that a file's content and the caller's model or NLP make."""
    nlp = like.nlp if isinstance(like, Solution) else like if isinstance(like, NLP) else None
    paths = tuple(Path(*parts) for parts in content.pop("paths"))
    equations = int(content["stats"]["num_constraints"])
    stored, problem = content.pop("model"), content.pop("problem")
    args = tuple(
        None if isinstance(item, _storage.Opaque) else item for item in content.pop("args")
    )
    if nlp is None:
        model = _with_leaves(like, stored)
        nlp = _rebuilt(problem, like, tuple(item.grid for item in paths))
    if nlp is not None:
        _check_same(nlp, content["z"], equations, paths)
        _check_units(nlp, content["z"], paths)
        return Solution(source=nlp, **content)
    data = None if problem is None else problem["data"]
    named = isinstance(data, list) and len(data) == len(paths)
    labels = tuple(item.labels for item in data or ()) if named else (Labels(),) * len(paths)
    return Solution(source=Record(model, args, paths, labels), **content)


def stored_setting(path: str | os.PathLike[str], name: str, default: Any) -> Any:
    """An option of the stored NLP; `default` where the file could not hold it."""
    problem = _content(path, "checkpoint")["problem"]
    found = default if problem is None else problem["settings"][name]
    return default if isinstance(found, _storage.Opaque) else found


def stored_request(path: str | os.PathLike[str]) -> Any:
    """What the file was written for, as fingerprints by name; None if it does not say."""
    return _content(path, "checkpoint")["request"]


def _content(path: str | os.PathLike[str], name: str = "path") -> dict[str, Any]:
    content: dict[str, Any] = _storage.read(path, name, entries=_KINDS, writer=_WRITER)
    return content


def _with_leaves(like: Any, stored: list[np.ndarray]) -> Any:
    leaves, treedef = jtu.tree_flatten(like)
    places = [position for position, leaf in enumerate(leaves) if is_array(leaf)]
    shapes = [leaves[place].shape for place in places]
    if shapes != [item.shape for item in stored]:
        raise ValueError(
            f"`like` must be a model whose arrays have the stored shapes "
            f"{[item.shape for item in stored]}; got {shapes or describe(like)}."
        )
    with x64():
        for place, item in zip(places, stored, strict=True):
            leaves[place] = jax.device_put(np.asarray(item, leaves[place].dtype))
    return jtu.tree_unflatten(treedef, leaves)


def _rebuilt(problem: Any, model: Any, grids: tuple[Any, ...]) -> NLP | None:
    """The NLP anew, if the file holds all that it was made of."""
    if problem is None:
        return None
    parts = [problem["data"], *problem["settings"].values()]
    if any(isinstance(part, _storage.Opaque) for part in parts):
        return None
    return transcribe_with(model, problem["data"], grids, Settings(**problem["settings"]))


def _check_same(nlp: NLP, z: np.ndarray, equations: int, paths: tuple[Path, ...]) -> None:
    """Refuse an NLP of other sizes or grids than those stored."""
    found, wanted = (len(z), equations), (nlp.num_variables, nlp.num_constraints)
    if found != wanted:
        raise ValueError(
            f"`like` must have the stored solution's {found[0]} variables and {found[1]} "
            f"constraints; got {wanted[0]} and {wanted[1]}."
        )
    for k, (grid, path) in enumerate(zip(nlp.grids, paths, strict=True)):
        same = repr(grid.scheme) == repr(path.grid.scheme)
        if not same or not np.array_equal(grid.boundaries, path.grid.boundaries):
            raise ValueError(
                f"`like` must have the stored solution's grids; got {grid} in the place of "
                f"{path.grid} in trajectory {k}."
            )


def _check_units(nlp: NLP, z: np.ndarray, paths: tuple[Path, ...]) -> None:
    """Refuse an NLP in whose units the stored variables are other states than those stored."""
    for k, (values, path) in enumerate(zip(nlp.node_values(z), paths, strict=True)):
        more = path.algebraic_states
        stored = path.states if more is None else np.hstack([path.states, more])
        if not np.allclose(values, stored, rtol=1e-6, atol=0.0, equal_nan=True):
            raise ValueError(
                "`like` must have the stored solution's units (`state_scale`, `algebraic_scale`); "
                f"got others in trajectory {k}."
            )
