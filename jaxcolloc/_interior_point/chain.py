r"""The chain of interval boundaries of one trajectory, factorised in order.

When the intervals are eliminated (`kkt.py`), every one has left a stage
$\frac12 (l, w)^T Q (l, w)$ and a step $l^+ = T' l + G' w + t'$ to the next boundary, whose
multiplier is $\nu$. The optimality conditions of boundary $e$ in $l_e$ and $\nu_e$ make a block
bidiagonal matrix when each boundary's are read together with the step before it:

    alpha  beta |                     rows carried over from the boundaries before
    T'     0    | -1    0             the step l+ = T' l + ...
    0     -1    |  Q    T'^T          the conditions in l+
    ------------+-----------
    l_e    nu_e |  l+   nu+

An orthogonal transformation makes the two left columns of blocks triangular. It leaves $2d$ rows
that determine $(l_e, \nu_e)$ from what follows, and $d$ rows in what follows alone, which are
carried over. No sensitivities are multiplied along the trajectory for it.

This is the text for compiled programs; `host_chain.py` has the same functions for NumPy.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from .batched import Square
from .options import CURVATURE_ROUNDING, OVERFLOW_GUARD


class Turned(NamedTuple):
    r"""The factorised chain; axes (boundary, ...).

    `turn`: the orthogonal transformations. `upper`: the triangular blocks. `following`: the factor
    $F_e$ of the next boundary in $u_e = -F_e u_{e+1} - \dots$, with $u = (l, \nu)$. `last`: the
    matrix of the last boundary. `by_weights`: $u$ as a linear function of the weights. `unit`:
    that of the multipliers $\nu$.
    """

    turn: Array
    upper: Array
    following: Array
    last: Square
    by_weights: Array
    unit: Array


def _factorise(q_ll: Array, ends: Array, step_l: Array, held: Array) -> Turned:
    """Make the chain of one trajectory triangular, and solve it for the weights' columns.

    `q_ll` are the stages' Hessians and `step_l` the factors of the steps, one for each interval;
    `ends` are the same for the weights, one above the other. `held` marks the initial states that
    are fixed.
    """
    d, p = q_ll.shape[1], ends.shape[2]
    # The multipliers in the unit of the Hessian, so that rows to be turned are alike.
    unit_nu = _unit(q_ll)
    q_ll, q_lw, step_w = q_ll / unit_nu, ends[:, :d] / unit_nu, ends[:, d:]
    none, unit = jnp.zeros((d, d)), jnp.eye(d)
    here = held[:, None]
    alpha = jnp.where(here, unit, q_ll[0])
    beta = jnp.where(here, 0.0, step_l[0].T)
    omega = jnp.where(here, 0.0, q_lw[0])

    def forward(carry: tuple[Array, Array, Array], item: tuple[Array, ...]) -> Any:
        alpha, beta, omega = carry
        step, step_weights, q, q_weights, next_step = item
        old = jnp.block([[alpha, beta], [step, none], [none, -unit]])
        new = jnp.block([[none, none], [-unit, none], [q, next_step.T]])
        orthogonal, upper = jnp.linalg.qr(old, mode="complete")
        turn = orthogonal.T
        turned = turn @ new
        weights = turn @ jnp.concatenate([omega, step_weights, q_weights])
        kept = turned[2 * d :]
        carry = (kept[:, :d], kept[:, d:], weights[2 * d :])
        return carry, (turn, upper[: 2 * d], turned[: 2 * d], weights[: 2 * d])

    items = (step_l[:-1], step_w[:-1], q_ll[1:], q_lw[1:], step_l[1:])
    (alpha, _, omega), (turn, upper, coupling, weights) = jax.lax.scan(
        forward, (alpha, beta, omega), items
    )
    # One after the other: an inverse would lose digits where the chain is nearly singular.
    solved = jax.scipy.linalg.solve_triangular(upper, jnp.concatenate([coupling, weights], axis=2))
    following, solved_w = solved[:, :, : 2 * d], solved[:, :, 2 * d :]
    last = Square.of(alpha, 0)
    end = jnp.concatenate([last.negative(omega), jnp.zeros((d, p))])
    before = _substitute(following, solved_w, end)
    by_weights = jnp.concatenate([before, end[None]]).at[:, d:].multiply(unit_nu)
    return Turned(turn, upper, following, last, by_weights, unit_nu)


def _unit(q_ll: Array) -> Array:
    """The largest curvature of one trajectory's stages; one where there is none."""
    largest = jnp.max(jnp.abs(q_ll))
    return jnp.where(largest > 0, largest, 1.0)


def _solve(turned: Turned, q_first: Array, q_l: Array, step: Array) -> Array:
    r"""Boundaries and multipliers $(l, \nu)$ of one trajectory for one right-hand side.

    `q_first` is the stages' gradient at the start, zero in what is fixed, `q_l` that at all
    boundaries, and `step` the constant part of the steps.
    """
    d = q_l.shape[1]
    q_first, q_l = q_first / turned.unit, q_l / turned.unit

    def forward(rho: Array, item: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        turn, step, q = item
        rows = turn @ jnp.concatenate([rho, step, q])
        return rows[2 * d :], rows[: 2 * d]

    rho, kept = jax.lax.scan(forward, q_first, (turned.turn, step[:-1], q_l[1:]))
    solved = jax.scipy.linalg.solve_triangular(turned.upper, kept[..., None])[..., 0]
    end = jnp.concatenate([-turned.last.vector(rho), jnp.zeros(d)])
    u = jnp.concatenate([_substitute(turned.following, solved, end), end[None]])
    return u.at[:, d:].multiply(turned.unit)


def _is_convex(q_ll: Array, step_l: Array, fixed: Array) -> Array:
    """Whether the objective is convex in the initial state of one trajectory.

    All else follows from it, the weights being held:
    $V_e = Q_e + T'_e{}^T V_{e+1} T'_e$, scaled on the way, which keeps its sign.
    """
    d = q_ll.shape[1]

    def backward(after: tuple[Array, Array], item: tuple[Array, Array]) -> Any:
        value, scale = after
        q, step = item
        value = scale * q + step.T @ value @ step
        size = jnp.maximum(1.0, jnp.max(jnp.abs(value)) / OVERFLOW_GUARD)
        return (value / size, scale / size), None

    start = (jnp.zeros((d, d)), jnp.asarray(1.0))
    (value, _), _ = jax.lax.scan(backward, start, (q_ll, step_l), reverse=True)
    free = ~fixed[:, None] & ~fixed[None, :]
    value = jnp.where(free, (value + value.T) / 2, jnp.diag(fixed.astype(value.dtype)))
    lowest = jnp.linalg.eigvalsh(value)[0]
    # What is lost in rounding is no curvature.
    return lowest > -CURVATURE_ROUNDING * jnp.max(jnp.abs(value))


def _substitute(following: Array, solved: Array, end: Array) -> Array:
    """$u_e = -F_e u_{e+1} - s_e$, from the end."""

    def backward(after: Array, item: tuple[Array, Array]) -> tuple[Array, Array]:
        now = -(item[0] @ after) - item[1]
        return now, now

    return jax.lax.scan(backward, end, (following, solved), reverse=True)[1]


# For the trajectories of a chain, along the first axis of everything.
factorise_chains, solve_chains = jax.vmap(_factorise), jax.vmap(_solve)
are_convex = jax.vmap(_is_convex)
