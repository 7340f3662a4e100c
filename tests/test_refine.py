"""refine and what it is made of: multipliers on another grid, splitting, joining, the stop."""

import jax.numpy as jnp
import numpy as np
import pytest
from helpers import SCHEMES, Linear, spiral

import jaxcolloc as jc
from jaxcolloc._refine import _parts, split
from jaxcolloc._transcribe import transcribe_again
from jaxcolloc._transfer import _collocated_quadrature, _costate, transfer


TS = np.linspace(0.0, 6.0, 61)
DATA = jc.Trajectory(TS, spiral(TS) + 0.05 * np.random.default_rng(0).normal(size=(61, 2)))


def uniform(intervals, scheme):
    return jc.Grid.uniform(0.0, 6.0, intervals, scheme)


def solved(grid, **options):
    """A linear field, whose optimum is one and the same from any sensible start."""
    nlp = jc.transcribe(Linear(jnp.zeros((2, 2))), DATA, grid, l2=1e-4, **options)
    return jc.solve(nlp, jc.Ipopt(), jc.guess(nlp))


@pytest.fixture(scope="module")
def coarse():
    return solved(uniform(9, jc.Radau(3)))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (uniform(15, jc.Radau(3)), uniform(24, jc.Radau(3))),
        (uniform(12, jc.GaussLegendre(3)), uniform(12, jc.GaussLegendre(4))),
        (uniform(16, jc.Lobatto(4)), uniform(24, jc.Lobatto(4))),
        pytest.param(
            uniform(1, jc.Chebyshev(40)), uniform(1, jc.Chebyshev(56)), marks=pytest.mark.slow
        ),
    ],
    ids=lambda grid: repr(grid.scheme),
)
def test_a_moved_solution_is_a_warm_start(before, after):
    """Bounds are active, so that their multipliers matter as well."""
    sol = solved(before, weight_bounds=(-1.9, 1.9))
    assert np.max(sol.multipliers.lower + sol.multipliers.upper) > 1e-2
    nlp = transcribe_again(sol.nlp, after)
    cold = jc.solve(nlp, jc.Ipopt(), jc.guess(nlp))
    start = transfer(sol, nlp)
    warm = jc.solve(nlp, jc.Ipopt(), start)
    assert warm.result is jc.RESULTS.successful
    # A Newton step or two from close by.
    assert warm.stats["num_steps"] <= 3
    assert warm.stats["num_steps"] < cold.stats["num_steps"]
    assert warm.objective == pytest.approx(cold.objective, rel=1e-4)
    np.testing.assert_allclose(warm.model.matrix, cold.model.matrix, atol=1e-3)
    np.testing.assert_allclose(start.z[:4], sol.z[:4], atol=1e-6)


def test_multipliers_on_the_same_grid_stay_as_they_are():
    """States, bounds and a path constraint included; the units of states are not one."""
    data = jc.Trajectory(TS, 1e3 * DATA.ys)
    model = Linear(jnp.asarray([[-0.1, 1.8], [-2.2, -0.1]]))
    for scheme in (jc.Radau(3), jc.GaussLegendre(2)):
        nlp = jc.transcribe(
            model, data, uniform(12, scheme), state_bounds=(-800, 800),
            constraints=jc.Constraint(lambda t, y, args: y[0] + y[1], upper=900.0),
        )  # fmt: skip
        sol = jc.solve(nlp, jc.Ipopt(), jc.guess(nlp, weights="as_given"))
        assert np.max(np.abs(sol.multipliers.lower)) > 1e-6
        moved = transfer(sol, transcribe_again(nlp, nlp.grids))
        np.testing.assert_allclose(moved.z, sol.z, atol=1e-9)
        for name in ("constraints", "lower", "upper"):
            ours, theirs = getattr(moved.multipliers, name), getattr(sol.multipliers, name)
            np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-9 * np.abs(theirs).max())


@pytest.mark.parametrize("scheme", [item for item in SCHEMES if item.size > 2], ids=repr)
def test_a_smooth_costate_is_moved_exactly(scheme):
    """A costate that each interval's polynomial holds keeps its values on any other grid."""
    before, after = uniform(5, scheme), jc.Grid([0.0, 0.7, 1.2, 3.1, 6.0], jc.Radau(3))

    def multipliers(grid):
        times = grid.boundaries[:-1, None] + grid.widths[:, None] * grid.scheme.nodes[1:]
        costate = np.stack([1 + 0.5 * times, 2 - times], axis=-1)
        weights = grid.widths[:, None] * _collocated_quadrature(grid.scheme)
        return (weights[:, :, None] * costate).reshape(-1, 2)

    moved = _costate(multipliers(before), before, after)
    np.testing.assert_allclose(moved, multipliers(after), rtol=1e-9, atol=1e-12)
    # The weights are those of a rule: they integrate a constant.
    if scheme.quadrature[0] == 0:
        assert np.sum(_collocated_quadrature(scheme)) == pytest.approx(1.0)


def test_how_an_interval_is_split():
    errors = np.array([1e-6, 1e-3, 2e-3, 1e-1, np.inf])
    np.testing.assert_array_equal(_parts(errors, 1e-3), [1, 1, 2, 4, 4])
    grid = jc.Grid([0.0, 1.0, 2.0, 4.0, 5.0, 6.0], jc.Radau(3))
    finer = split(grid, errors, 1e-3, _parts(errors, 1e-3), np.zeros(0), merge=True)
    expected = [0, 1, 2, 3, 4, 4.25, 4.5, 4.75, 5, 5.25, 5.5, 5.75, 6]
    np.testing.assert_allclose(finer.boundaries, expected)


def test_what_is_needlessly_fine_is_joined_but_not_over_a_jump():
    grid = jc.Grid(np.arange(9.0), jc.Radau(3))
    errors, parts = np.full(8, 1e-9), np.ones(8, int)
    joined = split(grid, errors, 1e-3, parts, np.zeros(0), merge=True)
    np.testing.assert_array_equal(joined.boundaries, [0, 2, 4, 6, 8])
    kept = split(grid, errors, 1e-3, parts, np.array([3.0, 4.0]), merge=True)
    assert set(kept.boundaries) == {0, 2, 3, 4, 6, 8}
    assert len(split(grid, errors, 1e-3, parts, np.zeros(0), merge=False).boundaries) == 9


@pytest.mark.slow
def test_refinement_reaches_the_tolerance_and_says_so(coarse):
    before = jc.verify(coarse)
    assert before.distance[0] > 1e-4
    fine = jc.refine(coarse, tol=1e-5)
    assert fine.verification.distance[0] <= 1e-5
    assert fine.verification.verdict is jc.VERDICT.good
    assert fine.stats["refinement_end"] == "the rollout follows the path"
    rounds = fine.stats["refinement"]
    assert rounds[-1]["distance"] < rounds[0]["distance"]
    assert rounds[-1]["nodes"] > rounds[0]["nodes"]
    assert all(row["num_steps"] <= 3 for row in rounds[1:])
    # Nothing is left to be done, and nothing is done.
    again = jc.refine(fine, tol=1e-5)
    assert len(again.stats["refinement"]) == 1
    np.testing.assert_array_equal(again.z, fine.z)


def test_intervals_are_split(coarse):
    finer = jc.refine(coarse, tol=1e-4, how="h")
    assert finer.verification.distance[0] <= 1e-4
    assert finer.paths[0].grid.num_intervals > 9
    assert finer.paths[0].grid.scheme.size == 3


@pytest.mark.slow
def test_orders_are_raised(coarse):
    higher = jc.refine(coarse, tol=1e-6, how="p", rounds=2)
    assert higher.paths[0].grid.num_intervals == 9
    assert higher.paths[0].grid.scheme.size == 5
    assert higher.verification.distance[0] < jc.verify(coarse).distance[0] / 10
    whole = solved(uniform(1, jc.Chebyshev(16)))
    more = jc.refine(whole, tol=1e-6, rounds=1)
    assert repr(more.paths[0].grid.scheme) == "Chebyshev(24)"
    assert more.verification.distance[0] < jc.verify(whole).distance[0] / 3


def test_why_refinement_stops(coarse):
    none = jc.refine(coarse, tol=1e-6, rounds=0)
    assert none.stats["refinement_end"] == "rounds = 0 were done"
    small = jc.refine(coarse, tol=1e-6, most_nodes=30)
    assert "most_nodes = 30" in small.stats["refinement_end"]
    np.testing.assert_array_equal(small.z, coarse.z)
    failed = jc.refine(coarse, tol=1e-6, solver=jc.Ipopt(max_steps=0))
    assert "max_steps_reached" in failed.stats["refinement_end"]
    np.testing.assert_array_equal(failed.z, coarse.z)
    with pytest.raises(ValueError, match="`tol` must be a finite number above zero"):
        jc.refine(coarse, tol=0.0)
    with pytest.raises(ValueError, match='`how` must be one of "auto", "h", "p"'):
        jc.refine(coarse, how="x")
    with pytest.raises(ValueError, match="`sol` must be a Solution"):
        jc.refine(coarse.model)


def test_another_penalty_without_transcribing_anew(coarse):
    nlp = coarse.nlp
    other = nlp.with_l2(0.5)
    z = np.random.default_rng(0).normal(size=nlp.num_variables)
    fresh = transcribe_again(nlp, nlp.grids, l2=0.5)
    assert float(other.objective(z)) == pytest.approx(float(fresh.objective(z)), rel=1e-12)
    multipliers = np.ones(nlp.num_constraints)
    np.testing.assert_allclose(other.hessian(z, multipliers), fresh.hessian(z, multipliers))
    assert float(nlp.objective(z)) != float(other.objective(z))
    assert other.settings["l2"] == 0.5
    none = nlp.with_l2(0.0)
    assert len(none.hessian_structure[0]) == len(
        transcribe_again(nlp, nlp.grids, l2=0.0).hessian_structure[0]
    )
