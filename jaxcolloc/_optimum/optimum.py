"""optimum: the solution of an NLP as a differentiable function of what goes into it."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from .._args import Fixed, Unknown, number_to_array, sealed
from .._check import float_array, refuse_traced, within_jit
from .._guess import Guess
from .._nlp import NLP, check_nlp
from .._precision import caller_float
from .._solution import Solution
from .._solve import start_of
from .._solver import AbstractSolver, check_solver
from .host import Host
from .implicit import implicit
from .parameters import NAMES, Form, current, flatten, flattened


def optimum(nlp: NLP, solver: AbstractSolver, guess: Guess | Solution | Any) -> "Optimum":
    r"""The optimum of `nlp` as a function of data, inputs, penalties and bounds, for JAX.

        best = jc.optimum(nlp, jc.InteriorPoint(), sol)
        best(l2=1e-3).model                                   # another solve
        jax.grad(lambda l2: jnp.sum(best(l2=l2).states[0][-1]))(1e-3)
        jax.jacobian(lambda ys: best(ys=ys).model.rate)(data.ys)

    It is a function that `jax.grad`, `jax.jacobian`, `jax.jvp`, `jax.jit` and `jax.vmap`
    transform, forwards and backwards; `Optimum` says what it takes and returns. Derivatives are
    those of the optimality conditions (the implicit function theorem): the solver is not
    differentiated, so any will do, and one linear system with the factorised KKT matrix at the
    optimum is solved for every direction, however many parameters there are. Solves run on the
    host, in float64 whatever the precision of the caller's program, and are taken to full
    precision by Newton steps on the optimality conditions, whatever the solver's tolerance.

    **Arguments:**

    - `nlp`: from `jc.transcribe`.
    - `solver`: for instance `jc.InteriorPoint()`.
    - `guess`: as for `jc.solve`. Every call starts here: with a `Solution` near by calls are quick
      and stay at the same one of several optima.

    **What is assumed:** the optimum is a strict one and no active constraint repeats others. Where
    directions of weights or states are free, derivatives are NaN, with a warning; where the solver
    fails the optimum is NaN too. Second derivatives are refused. Active bounds and inequalities are
    held active. At one that is active with no multiplier the derivatives of both sides differ;
    those on the side where it stays active are returned, with a warning.

    **Errors:** `ValueError` for arguments that are no NLP, solver or guess.
    """
    check_nlp("nlp", nlp)
    check_solver(solver)
    refuse_traced("guess", guess)
    return Optimum(nlp, solver, guess)


class _Problem:
    """An NLP as a static part of a PyTree: it may hold arrays, and is equal to itself only."""

    def __init__(self, nlp: NLP):
        self.nlp = nlp

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Problem) and other.nlp is self.nlp

    def __hash__(self) -> int:
        return id(self.nlp)


class Solved(eqx.Module):
    """An optimum, as `Optimum` returns it: in JAX arrays of the caller's default float.

    - `z`: the optimizer's variables.
    - `multipliers`: those of the constraints.
    - `inputs`: the `args` of each trajectory that it was solved with.
    """

    z: Float[Array, " variable"]
    multipliers: Float[Array, " constraint"]
    inputs: tuple[Any, ...]
    problem: "_Problem" = eqx.field(static=True)

    @property
    def nlp(self) -> NLP:
        """The NLP that the optimum was asked of; its own numbers may be others."""
        return self.problem.nlp

    @property
    def head(self) -> Float[Array, " head"]:
        """Weights and unknowns, on the optimizer's scale."""
        return jnp.asarray(self.nlp.layout.head(self.z))

    @property
    def model(self) -> Any:
        """The trained module, in the dtypes it came with."""
        return self.nlp.layout.model.restore(self.nlp.layout.weights(self.z))

    @property
    def states(self) -> list[Float[Array, "node state"]]:
        """The states of each trajectory at the nodes of its grid."""
        return [item[:, : self.nlp.num_states] for item in self._nodes]

    @property
    def algebraic(self) -> list[Float[Array, "node algebraic"]]:
        """The algebraic variables of each trajectory at the nodes of its grid."""
        return [item[:, self.nlp.num_states :] for item in self._nodes]

    @property
    def _nodes(self) -> list[Float[Array, "node node_state"]]:
        layout = self.nlp.layout
        flat = self.z * jnp.asarray(self.nlp.units, self.z.dtype)
        flat = flat[layout.num_head :].reshape(-1, layout.num_states)
        return jnp.split(flat, layout.first_nodes[1:])

    @property
    def args(self) -> tuple[Any, ...]:
        """The `args` of each trajectory, with values in the place of its unknowns."""
        found = []
        for k, item in enumerate(self.inputs):
            at = self.nlp.layout.unknowns(k)
            found.append(_with_values(self.nlp.trajectories[k].args, item, self.z[at]))
        return tuple(found)

    def at(self, ts: ArrayLike, trajectory: int = 0) -> Float[Array, "time state"]:
        """The states of one trajectory at any times, on the collocation path.

        **Arguments:** `ts`: times, shape `(time,)`; `trajectory`: its position.
        """
        grid = self.nlp.grids[trajectory]
        interval, rows, _ = grid.locate(float_array("ts", ts, 1, "(time,)"))
        inside = self.states[trajectory][grid.interval_nodes[interval]]
        return jnp.einsum("tn,tns->ts", jnp.asarray(rows, inside.dtype), inside)


class Optimum:
    r"""What `jc.optimum` returns: call it with whatever is to be other than in the NLP.

    Every argument is a parameter that may be traced; what is not given is as in the NLP.

    - `ys`, `weights`: lists with one array of shape `(time, obs)` for each trajectory, or, of a
      single trajectory, the array alone. What was not measured stays so.
    - `args`: a list of the trajectories' `args` with other numbers in them: of the same structure,
      `eqx.tree_at(lambda a: a["feed"], nlp.trajectories[0].args, feed)`; or one alone. Floats and
      arrays of floats count (of a `jc.Input` the `coefficients`, see `jc.Input`); the start of a
      `jc.Unknown` is no parameter but its `center`.
    - `y0`: a list of known starts of shape `(state,)`, None for trajectories that have none.
    - `l2`: as in the NLP: a number (with `jc.OnNets` that of the nets), or a PyTree prefix of the
      model.
    - `center`: what the ridge draws weights and unknowns to, in the order and on the scale of
      `Solved.head`; zero for weights and the start for unknowns if not given.
    - `state_bounds`: (lower, upper) as in `jc.transcribe`.
    - `weight_bounds`: as in `jc.transcribe`.

    Returns `Solved`. `parameters(name)` is a parameter as the NLP has it.
    """

    def __init__(self, nlp: NLP, solver: AbstractSolver, guess: Any):
        self.nlp, self.solver = nlp, solver
        self._start = start_of(nlp, guess)
        self._hosts: dict[Form, Host] = {}
        self._calls: dict[Form, Callable[[Any], tuple[Array, Array]]] = {}

    def parameters(self, name: str) -> Any:
        """A parameter as the NLP has it."""
        _check_names({name: None})
        return current(self.nlp, name)

    def __call__(self, **parameters: Any) -> Solved:
        _check_names(parameters)
        form, leaves = flatten(self.nlp, parameters)
        inputs = self._inputs(parameters)
        if within_jit() or any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
            flat = [jnp.ravel(jnp.asarray(leaf, caller_float())) for leaf in leaves]
            p = jnp.concatenate([*flat, jnp.zeros(0)])
            z, multipliers = self._call(form)(p)
        else:
            wide = [np.ravel(leaf) for leaf in leaves]
            found = self.host(form).at(np.concatenate([*wide, np.zeros(0)]))
            dtype = caller_float()
            z, multipliers = jax.device_put(
                (found.z.astype(dtype), found.multipliers.astype(dtype))
            )
        return Solved(z, multipliers, inputs, _Problem(self.nlp))

    def host(self, form: Form) -> Host:
        """What solves for parameters of a form."""
        if form not in self._hosts:
            self._hosts[form] = Host(self.nlp, self.solver, self._start, form)
        return self._hosts[form]

    def _call(self, form: Form) -> Callable[[Any], tuple[Array, Array]]:
        if form not in self._calls:
            with jax.ensure_compile_time_eval():
                host = self.host(form)
            self._calls[form] = implicit(host)
        return self._calls[form]

    def _inputs(self, parameters: dict[str, Any]) -> tuple[Any, ...]:
        given = parameters.get("args")
        count = len(self.nlp.trajectories)
        if given is None:
            return tuple(_known(item.args) for item in self.nlp.trajectories)
        listed = isinstance(given, (list, tuple)) and len(given) == count
        return tuple(map(_known, given if listed else [given]))


def _check_names(parameters: dict[str, Any]) -> None:
    wrong = [name for name in parameters if name not in NAMES]
    if wrong:
        raise ValueError(f"The parameters of an optimum are {', '.join(NAMES)}; got {wrong[0]!r}.")


def _is_unknown(leaf: Any) -> bool:
    return isinstance(leaf, Unknown)


def _known(args: Any) -> Any:
    """`args` as arrays, what is none sealed, and None in the place of unknowns."""
    known = jtu.tree_map(lambda leaf: None if _is_unknown(leaf) else number_to_array(leaf), args)
    return sealed(known)


def _with_values(args: Any, known: Any, unknowns: Array) -> Any:
    """What `_known` has left of `args`, with fitted values for the unknowns."""
    leaves, treedef = flattened(args)
    filled, first = [], 0
    for own, other in zip(leaves, treedef.flatten_up_to(known), strict=True):
        if not _is_unknown(own):
            filled.append(other.value if isinstance(other, Fixed) else other)
            continue
        part = unknowns[first : first + own.value.size]
        first += own.value.size
        filled.append(own.scale.outward(part).reshape(own.value.shape))
    return jtu.tree_unflatten(treedef, filled)
