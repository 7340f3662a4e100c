"""A jaxpr as CasADi expressions: a walk along its equations.

What has no CasADi expression is remembered and refused only where a result needs it.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import casadi as ca
import jax
import numpy as np

from .._transcription.jaxpr_sparsity import CALLS
from .arrays import Array, Unsupported, column, of_numbers
from .elementwise import selected
from .inputs import HELD
from .rules import RULES, Operation


# Steps of one loop that are written out.
_MOST_STEPS = 10_000

# What a rule meets where a version of JAX gives an operation other parameters than it knows.
_UNEXPECTED = (
    KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError,
)  # fmt: skip

# What to do instead, for operations that are common.
_ADVICE = {
    "sort": "Write the comparisons by jnp.minimum and jnp.maximum.",
    "random_bits": "A field must not draw random numbers: switch dropout off.",
    "pure_callback": "Write what runs in Python in jax.numpy.",
}


class Missing(NamedTuple):
    """The result of an operation that cannot be written: what is said to who needs it."""

    said: str


Value = Array | Missing


class Walk:
    """The expressions of a jaxpr's results.

    `time` is the symbol of the time, at which inputs that are symbols have their values.
    """

    def __init__(self, time: Any):
        self.time = time
        self._within: list[Any] = []

    def closed(self, jaxpr: Any, inputs: Sequence[Value]) -> list[Value]:
        """The results of a jaxpr, closed or not."""
        constants = [_constant(item) for item in getattr(jaxpr, "consts", ())]
        return self._along(getattr(jaxpr, "jaxpr", jaxpr), constants, inputs)

    def _along(
        self, jaxpr: Any, constants: Sequence[Value], inputs: Sequence[Value]
    ) -> list[Value]:
        found: dict[Any, Value] = {}
        found.update(zip(jaxpr.constvars, constants, strict=True))
        found.update(zip(jaxpr.invars, inputs, strict=True))

        def read(atom: Any) -> Value:
            return _constant(atom.val) if hasattr(atom, "val") else found[atom]

        for equation in jaxpr.eqns:
            results = self._step(equation, list(map(read, equation.invars)))
            found.update(zip(equation.outvars, results, strict=True))
        return list(map(read, jaxpr.outvars))

    def _step(self, equation: Any, operands: list[Value]) -> list[Value]:
        """The results of one equation."""
        name = equation.primitive.name
        self._within.append(equation)
        try:
            if name in CALLS:
                return self._call(equation, operands)
            if name in _CONTROL:
                return _CONTROL[name](self, equation, operands)
            missing = [item for item in operands if isinstance(item, Missing)]
            if missing:
                return [missing[0]] * len(equation.outvars)
            return _applied(equation, [item for item in operands if isinstance(item, Array)])
        except Unsupported as error:
            return self._missing(str(error))
        except _UNEXPECTED as error:
            return self._missing(f"it is not understood ({type(error).__name__}: {error})")
        finally:
            self._within.pop()

    def _missing(self, reason: str) -> list[Value]:
        """The results of the equation at hand, which cannot be written."""
        equation = self._within[-1]
        name = equation.primitive.name
        # What JAX has traced before and kept has no place of its own.
        place = next(filter(None, map(_source, reversed(self._within))), "")
        advice = f" {_ADVICE[name]}" if name in _ADVICE else ""
        said = f"`{name}`{f' at {place}' if place else ''}: {reason}.{advice}"
        return [Missing(said)] * len(equation.outvars)

    def _call(self, equation: Any, operands: list[Value]) -> list[Value]:
        """An operation that calls the one jaxpr among its parameters, with its own operands."""
        if equation.params.get("name") == HELD:
            at, values = operands
            if not (isinstance(at, Array) and at.shape == () and ca.is_equal(at.flat, self.time)):
                raise Unsupported(
                    "an input of `args` is read at another time than t, where its value is no "
                    'symbol: leave "inputs" out of `symbols`, so that it is a function of time'
                )
            return [values]
        [jaxpr] = [item for item in equation.params.values() if hasattr(item, "eqns")]
        return self.closed(jaxpr, operands)

    def _expanded(self, equation: Any, operands: list[Value]) -> list[Value]:
        """An operation that stands for several others, which newer versions of JAX keep back."""
        shapes = [
            jax.ShapeDtypeStruct(atom.aval.shape, atom.aval.dtype)  # type: ignore[no-untyped-call]
            for atom in equation.invars
        ]
        lower = equation.primitive.to_lojax
        jaxpr = jax.make_jaxpr(lambda *arrays: lower(*arrays, **equation.params))(*shapes)
        return self.closed(jaxpr, operands)

    def _cond(self, equation: Any, operands: list[Value]) -> list[Value]:
        which, *rest = operands
        branches = equation.params["branches"]
        if isinstance(which, Missing):
            return [which] * len(equation.outvars)
        known = which.known()
        if known is not None:
            return self.closed(branches[int(np.clip(known, 0, len(branches) - 1))], rest)
        options = [self.closed(branch, rest) for branch in branches]
        place = ca.fmin(ca.fmax(which.flat, 0), len(branches) - 1)
        results: list[Value] = []
        for cases in zip(*options, strict=True):
            missing = [case for case in cases if isinstance(case, Missing)]
            columns = [case.flat for case in cases if isinstance(case, Array)]
            shape = equation.outvars[len(results)].aval.shape
            results.append(missing[0] if missing else Array(selected(place, columns), shape))
        return results

    def _while(self, equation: Any, operands: list[Value]) -> list[Value]:
        params = equation.params
        num_cond, num_body = params["cond_nconsts"], params["body_nconsts"]
        first, second = operands[:num_cond], operands[num_cond : num_cond + num_body]
        carry = operands[num_cond + num_body :]
        for _ in range(_MOST_STEPS):
            [again] = self.closed(params["cond_jaxpr"], [*first, *carry])
            known = None if isinstance(again, Missing) else again.known()
            if known is None:
                raise Unsupported("how often the loop runs depends on symbols; use jax.lax.scan")
            if not known:
                return carry
            carry = self.closed(params["body_jaxpr"], [*second, *carry])
        raise Unsupported(f"the loop runs more than {_MOST_STEPS} times")

    def _scan(self, equation: Any, operands: list[Value]) -> list[Value]:
        inner, length = equation.params["jaxpr"], equation.params["length"]
        if length > _MOST_STEPS:
            raise Unsupported(f"the loop runs more than {_MOST_STEPS} times")
        # Told by shapes: what is scanned over has one axis more outside.
        bare = getattr(inner, "jaxpr", inner)
        num_xs = sum(map(_stacked, equation.invars, bare.invars))
        num_ys = sum(map(_stacked, equation.outvars, bare.outvars))
        num_carry = len(bare.outvars) - num_ys
        num_fixed = len(bare.invars) - num_xs - num_carry
        fixed, carry = operands[:num_fixed], operands[num_fixed : num_fixed + num_carry]
        xs = operands[num_fixed + num_carry :]
        steps: list[list[Value]] = [[] for _ in range(length)]
        for step in reversed(range(length)) if equation.params["reverse"] else range(length):
            results = self.closed(inner, [*fixed, *carry, *(_element(x, step) for x in xs)])
            carry, steps[step] = results[:num_carry], results[num_carry:]
        stacked = [
            _stack([items[k] for items in steps], atom.aval.shape)
            for k, atom in enumerate(equation.outvars[num_carry:])
        ]
        return [*carry, *stacked]

    def _linear_solve(self, equation: Any, operands: list[Value]) -> list[Value]:
        """A x = b for the matrix that the equation's own product has, column by column."""
        lengths, jaxprs = equation.params["const_lengths"], equation.params["jaxprs"]
        constants, right = operands[: lengths.matvec], operands[sum(lengths) :]
        missing = [item for item in (*constants, *right) if isinstance(item, Missing)]
        if missing:
            return [missing[0]] * len(equation.outvars)
        if len(right) != 1:
            raise Unsupported("it has more than one right hand side")
        [b] = [item for item in right if isinstance(item, Array)]
        columns = []
        for unit in np.eye(int(np.prod(b.shape))):
            product = self.closed(jaxprs.matvec, [*constants, of_numbers(unit.reshape(b.shape))])[0]
            if isinstance(product, Missing):
                return [product]
            columns.append(product.flat)
        return [Array(ca.densify(ca.solve(ca.horzcat(*columns), b.flat)), b.shape)]


_CONTROL: dict[str, Callable[..., list[Value]]] = {
    "call_hi_primitive": Walk._expanded,
    "cond": Walk._cond,
    "custom_linear_solve": Walk._linear_solve,
    "linear_solve": Walk._linear_solve,
    "scan": Walk._scan,
    "while": Walk._while,
}


def _constant(value: Any) -> Value:
    try:
        return of_numbers(value)
    except Unsupported as error:
        return Missing(f"a constant, since {error}")
    except (TypeError, ValueError):
        return Missing(f"a constant of type {type(value).__name__}")


def _applied(equation: Any, operands: list[Array]) -> list[Value]:
    """By the operation's rule or, where everything is known, by JAX itself."""
    name = equation.primitive.name
    operation = Operation(
        name,
        equation.params,
        [np.dtype(atom.aval.dtype) for atom in equation.invars],
        [atom.aval.shape for atom in equation.outvars],
    )
    try:
        if name not in RULES:
            raise Unsupported("it has no counterpart in CasADi")
        results = list(RULES[name](operation, *operands))
        if [item.shape for item in results] != operation.outputs:
            raise Unsupported("it is not understood")
    except (Unsupported, *_UNEXPECTED):
        known = [item.known() for item in operands]
        if any(item is None for item in known):
            raise
        return _by_jax(equation, known)
    return list(results)


def _by_jax(equation: Any, known: list[Any]) -> list[Value]:
    values = [
        item.astype(atom.aval.dtype) for item, atom in zip(known, equation.invars, strict=True)
    ]
    found = equation.primitive.bind(*values, **equation.primitive.get_bind_params(equation.params))
    return [_constant(item) for item in (found if equation.primitive.multiple_results else [found])]


def _source(equation: Any) -> str:
    """The caller's line, as far as this version of JAX tells it."""
    try:
        from jax._src import source_info_util

        found = str(source_info_util.summarize(equation.source_info))
    except Exception:
        return ""
    return "" if "unknown" in found else found


def _stacked(outer: Any, inner: Any) -> bool:
    return len(outer.aval.shape) > len(inner.aval.shape)


def _element(value: Value, step: int) -> Value:
    return value if isinstance(value, Missing) else value.take(value.positions()[step])


def _stack(items: list[Value], shape: tuple[int, ...]) -> Value:
    """The steps' results as one array."""
    missing = [item for item in items if isinstance(item, Missing)]
    if missing:
        return missing[0]
    elements, _ = column([item for item in items if isinstance(item, Array)])
    return Array(elements, shape)
