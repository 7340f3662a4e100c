"""to_casadi: a model as a CasADi function of the time, the state, and what else is symbolic."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

from .._args import Unknown, as_arrays, check_leaf
from .._callables import as_floats, explained
from .._check import describe, integer, refuse_traced
from .._check import function as callable_as
from .._dae import DAE
from .._precision import is_inexact, to_float64, x64
from .inputs import Held


_KINDS = ("constants", "inputs", "weights")
_FORM = "f(t, y, args)"


def to_casadi(
    model: Callable[[Any, Any, Any], Any],
    num_states: int,
    args: Any = None,
    *,
    symbols: Sequence[str] = ("constants", "inputs"),
    name: str = "model",
    output: str = "dydt",
) -> Any:
    r"""A model as a CasADi `Function`, for optimal control, estimation or code generation.

        f = jc.to_casadi(sol.model, 3, sol.args[0])
        dydt = f(t, y, u)  # numbers, SX or MX
        f.sx_in("args")  # which symbol stands where

    Each operation of the model becomes expressions of CasADi (SX) with the weights as numbers, so
    that CasADi differentiates it, and writes it as C, as if it had been written there. The function
    has the inputs "t", "y" (a column of `num_states`) and "args" (a column, empty where nothing in
    `args` is symbolic), and the one output `output`.

    Values are in float64, whatever the types in the model; casts to shorter floats do not round.
    Derivatives are CasADi's own: `jax.lax.stop_gradient` and rules by `jax.custom_jvp` do not
    count, and at a kink, as that of `jax.nn.relu` at zero, the derivative is that from one side.

    **Arguments:**

    - `model`: any callable `f(t, y, args)`: a fitted model, its `observe`, a constraint. Its result
      has at most two axes; a scalar or a vector becomes a column. Of a `jc.DAE` the two parts, each
      as a function of the state and, behind it, the algebraic variables.
    - `num_states`: the length of `y`.
    - `args`: `args` as a trajectory has them, such as `sol.args[0]`. The column "args" has the
      elements of their float arrays and inputs, in the order of `jax.tree.leaves`; an input
      (`jc.Input` or another Diffrax path) stands there by its value at `t`, and its samples here
      are looked at for their shape only. All else, such as integers, is as it is here.
    - `symbols`: what is symbolic, any of "constants" (the float arrays in `args`), "inputs" and
      "weights"; the rest are numbers inside. Inputs that are not symbolic are functions of time,
      interpolated as they are here. With "weights" the function has one more input "weights", the
      model's inexact arrays in the order of `jax.flatten_util.ravel_pytree`.
    - `name`: the function's name.
    - `output`: its output's name.

    **Returns:** a `casadi.Function` of SX.

    **Errors:** `ImportError` without CasADi (`pip install casadi`); `ValueError` that names an
    operation which CasADi has no counterpart for, with its line, such as sorting or a loop whose
    number of steps depends on the state.
    """
    refuse_traced("to_casadi", model, args)
    ca = _casadi()
    callable_as("model", model, _FORM)
    if isinstance(model, DAE):
        raise ValueError(
            "`model` must be explicit: a jc.DAE solves its equations by a loop that CasADi cannot "
            "follow. Export its two parts as functions of the state and, behind it, the algebraic "
            "variables: with m = model.system, jc.to_casadi(lambda t, z, args: m.field(t, z[:d], "
            "z[d:], args), d + num_algebraic, args), and the equations alike."
        )
    num_states = integer("num_states", num_states, 1)
    symbols = _checked_symbols(symbols)
    _check_names(ca, name, output)
    with x64():
        traced = _Traced(model, num_states, _checked_args(args), symbols)
        from .walk import Missing, Walk

        t, y = ca.SX.sym("t"), ca.SX.sym("y", num_states)
        columns = [t, y, *(_column(ca, each) for each in traced.names)]
        [result] = Walk(t).closed(traced.jaxpr, traced.split(columns))
    if isinstance(result, Missing):
        raise ValueError(f"`model` cannot be written in CasADi: {result.said}")
    value = result.flat
    if len(result.shape) == 2:
        value = ca.reshape(value, *result.shape[::-1]).T
    inputs = ["t", "y", "args", "weights"][: len(columns)]
    return ca.Function(name, columns, [value], inputs, [output])


def _casadi() -> Any:
    try:
        import casadi
    except ImportError as error:
        raise ImportError(
            "jc.to_casadi needs CasADi, which could not be imported: pip install casadi"
        ) from error
    return casadi


def _checked_symbols(symbols: Any) -> tuple[str, ...]:
    listed = isinstance(symbols, (tuple, list))
    if not listed or not all(isinstance(item, str) and item in _KINDS for item in symbols):
        raise ValueError(
            '`symbols` must hold any of "constants", "inputs" and "weights"; '
            f"got {describe(symbols)}."
        )
    return tuple(symbols)


def _check_names(ca: Any, name: Any, output: Any) -> None:
    for label, text in (("name", name), ("output", output)):
        if not isinstance(text, str) or not ca.Function.check_name(text):
            raise ValueError(
                f"`{label}` must be a name of letters, digits and single underscores that begins "
                f"with a letter; got {describe(text)}."
            )
    if output in ("t", "y", "args", "weights"):
        raise ValueError(f"`output` must differ from the inputs' names; got {describe(output)}.")


def _checked_args(args: Any) -> Any:
    """`args` with numbers as arrays."""
    for leaf in jtu.tree_leaves(args, is_leaf=_is_path):
        if isinstance(leaf, Unknown):
            raise ValueError(
                "`args` must hold numbers in the place of jc.Unknown; after a fit, `sol.args[0]` "
                "has the values that were found."
            )
        if not _is_path(leaf):
            check_leaf(leaf)
    return jtu.tree_map(
        lambda leaf: leaf if _is_path(leaf) else as_arrays(leaf), args, is_leaf=_is_path
    )


def _is_path(leaf: Any) -> bool:
    return isinstance(leaf, diffrax.AbstractPath)


class _Traced:
    """A model's jaxpr, whose inputs are the time, the state and all symbolic arrays.

    `shapes` has those of the inputs that each column of the CasADi function holds, `names` a name
    for each element of the columns behind time and state.
    """

    def __init__(self, model: Any, num_states: int, args: Any, symbols: tuple[str, ...]):
        model = to_float64(model)
        paths, treedef = jtu.tree_flatten_with_path(args, is_leaf=_is_path)
        leaves = [to_float64(leaf) for _, leaf in paths]
        chosen = [k for k, leaf in enumerate(leaves) if _is_symbol(leaf, symbols)]
        arrays, rest = eqx.partition(model, _is_float if "weights" in symbols else _never)
        weights, weights_def = jtu.tree_flatten_with_path(arrays)

        def field(t: Any, y: Any, given: list[Any], weights: list[Any]) -> Any:
            seen = list(leaves)
            for k, value in zip(chosen, given, strict=True):
                seen[k] = Held(value) if _is_path(leaves[k]) else value
            whole = eqx.combine(jtu.tree_unflatten(weights_def, weights), rest)
            return _result(whole(t, y, jtu.tree_unflatten(treedef, seen)))

        with explained("model", _FORM, args):
            given = [_floats(_shape(leaves[k])) for k in chosen]
            wide = [_floats(leaf.shape) for _, leaf in weights]
            self.jaxpr = jax.make_jaxpr(field)(_floats(()), _floats((num_states,)), given, wide)
        self.shapes: list[list[tuple[int, ...]]] = [
            [()],
            [(num_states,)],
            [item.shape for item in given],
        ]
        self.names = [_labels("args", [paths[k][0] for k in chosen], given)]
        if "weights" in symbols:
            self.shapes.append([item.shape for item in wide])
            self.names.append(_labels("weights", [path for path, _ in weights], wide))

    def split(self, columns: list[Any]) -> list[Any]:
        """The jaxpr's inputs out of the function's."""
        from .arrays import Array

        inputs = []
        for column, shapes in zip(columns, self.shapes, strict=True):
            first = 0
            for shape in shapes:
                size = math.prod(shape)
                inputs.append(Array(column[first : first + size], shape))
                first += size
        return inputs


def _result(value: Any) -> Any:
    """What the model returned, as an array that CasADi has room for."""
    wanted = "an array of floats with at most two axes"
    result = as_floats("model", value, wanted, jnp.float64)
    if result.ndim > 2:
        raise ValueError(f"`model` must return {wanted}; got shape {result.shape}.")
    return result


def _never(leaf: Any) -> bool:
    return False


def _is_symbol(leaf: Any, symbols: tuple[str, ...]) -> bool:
    if _is_path(leaf):
        return "inputs" in symbols
    return "constants" in symbols and _is_float(leaf)


def _is_float(leaf: Any) -> bool:
    """Whether a leaf is an array of real floats: complex ones are no symbols."""
    return is_inexact(leaf) and jnp.issubdtype(leaf.dtype, jnp.floating)


def _floats(shape: tuple[int, ...]) -> Any:
    return jax.ShapeDtypeStruct(shape, np.float64)  # type: ignore[no-untyped-call]


def _shape(leaf: Any) -> tuple[int, ...]:
    """The shape of an array, or of a path's values."""
    found: tuple[int, ...] = (
        jax.eval_shape(leaf.evaluate, _floats(())).shape if _is_path(leaf) else leaf.shape
    )
    return found


def _labels(root: str, places: list[Any], arrays: list[Any]) -> list[str]:
    """A name for each element of some arrays in a tree."""
    names = []
    for place, array in zip(places, arrays, strict=True):
        stem = root + jtu.keystr(place)
        names += [f"{stem}{list(at) if at else ''}" for at in np.ndindex(array.shape)]
    return names


def _column(ca: Any, names: list[str]) -> Any:
    return ca.vertcat(ca.SX(0, 1), *map(ca.SX.sym, names))
