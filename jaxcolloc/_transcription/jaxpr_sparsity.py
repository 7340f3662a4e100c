"""On which elements of an input the results of a jaxpr depend: a walk along its equations.

The answer is always a superset of the truth: an operation without a rule, or one whose parameters
a new version of JAX has changed, lets every result depend on all that any operand depends on.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .jaxpr_constants import as_known, evaluate
from .jaxpr_indexing import INDEXING_RULES
from .jaxpr_rules import RULES, Bits, Operation, Rule, Value, join, union, union_of_all


# Operations that call the one jaxpr among their parameters once, with their own operands.
CALLS = frozenset(
    (
        "jit", "pjit", "closed_call", "core_call", "core_closed_call", "checkpoint", "remat",
        "remat2", "custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr",
    )
)  # fmt: skip

# A scan of at most so many equations in all its steps is followed step by step.
_MOST_UNROLLED = 5000

# What a rule meets where an operation's parameters are not those it knows.
_UNEXPECTED = (
    NotImplementedError, ValueError, TypeError, KeyError, IndexError, AttributeError, StopIteration,
)  # fmt: skip


class Mutable(Exception):
    """The jaxpr writes to references, which no walk along its results can follow."""


def dependence(closed: Any, position: int) -> list[np.ndarray]:
    """On which elements of one input the results of a closed jaxpr depend.

    `position` is that of the input. For each result there is a packed bitset: row `i` of
    `np.unpackbits(bits, axis=1)` has the flat input elements on which element `i` depends.
    """
    jaxpr, constants = _opened(closed)
    inputs = [Value() for _ in jaxpr.invars]
    shape = jaxpr.invars[position].aval.shape
    inputs[position] = Value(bits=_identity(shape))
    width = inputs[position].bits.shape[-1]  # type: ignore[union-attr]
    try:
        results = _walk(jaxpr, constants, inputs)
    except Mutable:
        everything = union_of_all(inputs)
        results = [Value(bits=everything) for _ in jaxpr.outvars]
    packed = []
    for var, value in zip(jaxpr.outvars, results, strict=True):
        bits = np.zeros(width, np.uint8) if value.bits is None else value.bits
        packed.append(np.broadcast_to(bits, (*var.aval.shape, width)).reshape(-1, width))
    return packed


def _identity(shape: tuple[int, ...]) -> Bits:
    """Each element depends on itself."""
    size = int(np.prod(shape))
    bits = np.zeros((size, -(-size // 8)), np.uint8)
    element = np.arange(size)
    bits[element, element // 8] = 128 >> (element % 8)
    return bits.reshape(*shape, -(-size // 8))


def _opened(jaxpr: Any) -> tuple[Any, list[Value]]:
    """A jaxpr, closed or not, and its constants."""
    inner = getattr(jaxpr, "jaxpr", jaxpr)
    constants = [Value(known=as_known(const)) for const in getattr(jaxpr, "consts", ())]
    return inner, constants or [Value() for _ in inner.constvars]


def _walk(jaxpr: Any, constants: Sequence[Value], inputs: Sequence[Value]) -> list[Value]:
    """The values of a jaxpr's results from those of its inputs."""
    found: dict[Any, Value] = {}
    found.update(zip(jaxpr.constvars, constants, strict=True))
    found.update(zip(jaxpr.invars, inputs, strict=True))

    def read(atom: Any) -> Value:
        return Value(known=as_known(atom.val)) if hasattr(atom, "val") else found[atom]

    last = {
        atom: step
        for step, equation in enumerate(jaxpr.eqns)
        for atom in equation.invars
        if not hasattr(atom, "val")
    }
    kept = {atom for atom in jaxpr.outvars if not hasattr(atom, "val")}
    for step, equation in enumerate(jaxpr.eqns):
        results = _step(equation, list(map(read, equation.invars)))
        found.update(zip(equation.outvars, results, strict=True))
        for atom in equation.invars:
            # Large patterns would fill the memory.
            if not hasattr(atom, "val") and last[atom] == step and atom not in kept:
                found.pop(atom, None)
    return [read(atom) for atom in jaxpr.outvars]


def _step(equation: Any, operands: list[Value]) -> list[Value]:
    """The values of one equation's results."""
    name, params = equation.primitive.name, equation.params
    depends = any(value.bits is not None for value in operands)
    atoms = (*equation.invars, *equation.outvars)
    if depends and any(hasattr(atom.aval, "inner_aval") for atom in atoms):
        raise Mutable
    try:
        if name in CALLS:
            return _call(equation, operands)
        if depends and name in _CONTROL:
            return _CONTROL[name](equation, operands)
        operation = Operation(
            name,
            params,
            [atom.aval.shape for atom in equation.invars],
            [atom.aval.shape for atom in equation.outvars],
        )
        if depends:
            return _ruled(operation, operands)
        known = [value.known for value in operands if value.known is not None]
        if len(operation.outputs) == 1 and len(known) == len(operands):
            return [Value(known=evaluate(operation, known, equation.outvars[0].aval.dtype))]
    except _UNEXPECTED:
        pass
    return _fallback(equation, operands)


def _ruled(operation: Operation, operands: list[Value]) -> list[Value]:
    """By the operation's rule; an error where it has none or yields other shapes than it must."""
    rule: Rule = RULES.get(operation.name) or INDEXING_RULES[operation.name]
    results = rule(operation, operands)
    for bits, shape in zip(results, operation.outputs, strict=True):
        if bits is not None and bits.shape[:-1] != shape:
            raise ValueError
    return [Value(bits=bits) for bits in results]


def _fallback(equation: Any, operands: list[Value]) -> list[Value]:
    """Every element of every result depends on all that any operand depends on."""
    everything = union_of_all(operands)
    return [_spread(everything, atom.aval) for atom in equation.outvars]


def _spread(bits: Bits | None, aval: Any) -> Value:
    if bits is None:
        return Value()
    return Value(bits=np.broadcast_to(bits, (*getattr(aval, "shape", ()), bits.shape[-1])))


def _call(equation: Any, operands: list[Value]) -> list[Value]:
    [jaxpr] = [item for item in equation.params.values() if hasattr(item, "eqns")]
    inner, constants = _opened(jaxpr)
    return _walk(inner, constants, operands)


def _cond(equation: Any, operands: list[Value]) -> list[Value]:
    which, *rest = operands
    branches = [_opened(branch) for branch in equation.params["branches"]]
    if which.known is not None:
        branches = [branches[int(np.clip(which.known, 0, len(branches) - 1))]]
    results = [_walk(inner, constants, rest) for inner, constants in branches]
    merged = [_merged(options) for options in zip(*results, strict=True)]
    if which.bits is None:
        return merged
    return [
        Value(bits=join(_spread(which.bits, atom.aval).bits, value.bits))
        for atom, value in zip(equation.outvars, merged, strict=True)
    ]


def _merged(options: Sequence[Value]) -> Value:
    if len(options) == 1:
        return options[0]
    bits = None
    for option in options:
        bits = join(bits, option.bits)
    return Value(bits=bits)


def _while(equation: Any, operands: list[Value]) -> list[Value]:
    params = equation.params
    num_cond, num_body = params["cond_nconsts"], params["body_nconsts"]
    condition, body = _opened(params["cond_jaxpr"]), _opened(params["body_jaxpr"])
    first, second = operands[:num_cond], operands[num_cond : num_cond + num_body]
    carry = _limit(*body, second, operands[num_cond + num_body :], [])[0]
    [again] = _walk(*condition, [*first, *carry])
    if again.bits is not None:
        raise NotImplementedError
    return carry


def _scan(equation: Any, operands: list[Value]) -> list[Value]:
    inner, constants = _opened(equation.params["jaxpr"])
    length = equation.params["length"]
    # Told by shapes: what is scanned over has one axis more outside.
    num_xs = sum(map(_stacked, equation.invars, inner.invars))
    num_ys = sum(map(_stacked, equation.outvars, inner.outvars))
    num_carry = len(inner.outvars) - num_ys
    num_fixed = len(inner.invars) - num_xs - num_carry
    fixed = operands[:num_fixed]
    carry, xs = operands[num_fixed : num_fixed + num_carry], operands[num_fixed + num_carry :]
    if length * _num_equations(inner) > _MOST_UNROLLED:
        anywhere = [Value(bits=None if x.bits is None else union(x.bits, [0])) for x in xs]
        carry, ys = _limit(inner, constants, fixed, carry, anywhere)
        outer = equation.outvars[num_carry:]
        return carry + [_spread(y.bits, atom.aval) for y, atom in zip(ys, outer, strict=True)]
    steps: list[list[Value]] = [[] for _ in range(length)]
    for step in reversed(range(length)) if equation.params["reverse"] else range(length):
        here = [_element(x, step) for x in xs]
        results = _walk(inner, constants, [*fixed, *carry, *here])
        carry, steps[step] = results[:num_carry], results[num_carry:]
    outer = equation.outvars[num_carry:]
    return carry + [
        _collected(list(items), atom.aval.shape)
        for items, atom in zip(zip(*steps, strict=True), outer, strict=True)
    ]


def _limit(
    inner: Any,
    constants: list[Value],
    fixed: list[Value],
    carry: list[Value],
    xs: list[Value],
) -> tuple[list[Value], list[Value]]:
    """Carry and results of a loop of any number of steps."""
    carry = [Value(bits=value.bits) for value in carry]
    while True:
        results = _walk(inner, constants, [*fixed, *carry, *xs])
        ahead = [
            Value(bits=join(old.bits, new.bits)) for old, new in zip(carry, results, strict=False)
        ]
        same = all(
            new.bits is None or (old.bits is not None and np.array_equal(old.bits, new.bits))
            for old, new in zip(carry, ahead, strict=True)
        )
        if same:
            return carry, results[len(carry) :]
        carry = ahead


def _stacked(outer: Any, inner: Any) -> bool:
    return len(outer.aval.shape) > len(inner.aval.shape)


def _num_equations(jaxpr: Any) -> int:
    """The equations of a jaxpr, those inside loops as often as they run."""
    count = len(jaxpr.eqns)
    for equation in jaxpr.eqns:
        for item in equation.params.values():
            for part in item if isinstance(item, (tuple, list)) else (item,):
                if hasattr(part, "eqns"):
                    times = equation.params.get("length", 1)
                    count += times * _num_equations(getattr(part, "jaxpr", part))
    return count


def _element(value: Value, step: int) -> Value:
    return Value(*(None if item is None else item[step] for item in value))


def _collected(items: list[Value], shape: tuple[int, ...]) -> Value:
    """The steps' results as one array."""
    width = next((item.bits.shape[-1] for item in items if item.bits is not None), None)
    if width is None:
        return Value()
    blank = np.zeros((*shape[1:], width), np.uint8)
    return Value(bits=np.stack([blank if item.bits is None else item.bits for item in items]))


_CONTROL = {"cond": _cond, "scan": _scan, "while": _while}
