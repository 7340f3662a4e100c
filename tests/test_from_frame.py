"""Trajectories of tables: long and wide ones hold the same, and what cannot be used is named."""

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import jaxcolloc as jc


def wide():
    """Two batches in mixed order, one value missing, a feed that is sampled more often."""
    return pd.DataFrame(
        {
            "batch": [2, 1, 1, 2, 1, 2, 1],
            "hours": [0.0, 2.0, 0.0, 1.0, 1.0, 2.0, 0.5],
            "A": [5.0, 3.0, 1.0, 6.0, np.nan, 7.0, np.nan],
            "B": [50.0, 30.0, 10.0, 60.0, 20.0, 70.0, np.nan],
            "F": [0.2, 0.1, 0.0, 0.2, 0.3, 0.2, 0.4],
            "V": [9.0, 8.0, 8.0, 9.0, 8.0, np.nan, 8.0],
        }
    )


OPTIONS = {"time": "hours", "by": "batch", "channels": ["A", "B"]}


def made(df=None, **options):
    return jc.from_frame(wide() if df is None else df, **(OPTIONS | options))


def same(one, other):
    assert [item.name for item in one] == [item.name for item in other]
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a.ts, b.ts)
        np.testing.assert_array_equal(a.ys, b.ys)
        assert a.channels == b.channels


def test_a_wide_table():
    second, first = made(
        inputs={"feed": "F"}, kind="hold", constants={"volume": "V", "gain": 2.0},
        y0=["V", np.nan, 1.0],
    )  # fmt: skip
    np.testing.assert_array_equal(first.y0, [8.0, np.nan, 1.0])
    np.testing.assert_array_equal(second.y0, [9.0, np.nan, 1.0])
    assert (second.name, first.name) == ("batch 2", "batch 1")
    np.testing.assert_array_equal(first.ts, [0.0, 1.0, 2.0])
    np.testing.assert_array_equal(first.ys, [[1.0, 10.0], [np.nan, 20.0], [3.0, 30.0]])
    np.testing.assert_array_equal(second.ys[:, 1], [50.0, 60.0, 70.0])
    assert first.channels == ("A", "B")
    # The feed has a sample where nothing was measured.
    feed = first.args["feed"]
    np.testing.assert_array_equal(feed.ts, [0.0, 0.5, 1.0, 2.0])
    assert [float(feed(t)) for t in (0.3, 0.7, 1.5)] == pytest.approx([0.0, 0.4, 0.3])
    assert (first.args["volume"], second.args["volume"]) == (8.0, 9.0)
    assert first.args["gain"] == 2.0


def test_a_long_table_holds_the_same():
    columns = ["A", "B", "F"]
    table = wide().melt(["batch", "hours", "V"], columns, var_name="what", value_name="number")
    shuffled = table.sample(frac=1.0, random_state=0)
    long = {"channels": ["A", "B"], "variable": "what", "value": "number", "inputs": ["F"]}
    found = made(shuffled.reset_index(drop=True), constants=["V"], **long)
    wanted = made(inputs=["F"], constants=["V"])
    found.sort(key=lambda item: item.name, reverse=True)
    same(found, wanted)
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(a.args["F"].ts, b.args["F"].ts)
        np.testing.assert_array_equal(a.args["F"].coefficients, b.args["F"].coefficients)
        assert a.args["V"] == b.args["V"]
    # Without `channels` it is all that is no input.
    same(made(table, **(long | {"channels": None})), wanted)


def test_other_kinds_of_tables():
    pl = pytest.importorskip("polars")
    table = pl.DataFrame({name: wide()[name].to_numpy() for name in wide()}, nan_to_null=True)
    same(made(table), made())
    since = pl.duration(minutes=60 * pl.col("hours"))
    same(made(table.with_columns(since.alias("since")), time="since", units={"since": "h"}), made())
    with pytest.raises(ValueError, match=r"`df` must be a data frame.*LazyFrame"):
        made(table.lazy())


def test_names_kinds_and_units():
    table = wide().assign(run="x", G=1.0)
    first = made(
        table, by=["run", "batch"], channels={"cA": "A"}, inputs=["F", "G"],
        kind={"F": "hold"}, units={"hours": "h", "A": "g/L", "F": "L/h"}, y0=[1.0], t0=-1.0,
        constants={"k": jc.Unknown(1.0)},
    )[0]  # fmt: skip
    assert first.name == "x, batch 2"
    assert first.units == {"time": "h", "cA": "g/L", "F": "L/h"}
    assert (first.args["F"].kind, first.args["G"].kind) == ("hold", "linear")
    assert isinstance(first.args["k"], jc.Unknown)
    assert (first.y0, first.t0) == (1.0, -1.0)
    assert made(by=None, channels=["B"], df=wide()[wide().batch == 1])[0].name is None


def test_dates_and_durations_become_numbers():
    table = wide()
    start = pd.to_datetime(["2024-03-30", "2024-03-31"])[table.batch - 1]
    table["when"] = start + pd.to_timedelta(60 * table.hours, unit="min")
    table["since"] = pd.to_timedelta(60 * table.hours, unit="min")
    for column in ("when", "since"):
        found = made(table, time=column, units={column: "h"})
        same(found, made())
        assert found[0].units == {"time": "h"}
    np.testing.assert_allclose(made(table, time="when", units={"when": "min"})[1].ts, [0, 60, 120])
    with pytest.raises(ValueError, match=r'`units` must say what the dates .*"when": "h"'):
        made(table, time="when")
    with pytest.raises(ValueError, match="`units` must say what the durations"):
        made(table, time="since", units={"since": "years"})


def test_whole_numbers_with_gaps():
    table = wide()
    table["A"] = table["A"].astype("Int64")
    same(made(table), made())


def with_cell(row, column, value):
    table = wide().astype({column: object})
    table.loc[row, column] = value
    return table


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"df": [[1.0]]}, "`df` must be a data frame.*got an object of type list"),
        ({"df": wide()[:0]}, "`df` must have rows"),
        ({"time": "t"}, "`time` must name columns of `df`: batch, hours, A, .*; got 't'"),
        ({"channels": ["A", "C"]}, "`channels` must name columns of `df`.*got 'C'"),
        ({"channels": "A"}, "`channels` must be a list of different columns"),
        ({"channels": ["A", "A"]}, "`channels` must be a list of different columns"),
        ({"channels": None}, "`channels` must name the columns that were measured"),
        ({"by": "run"}, "`by` must name columns of `df`"),
        ({"by": []}, "`by` must name at least one"),
        ({"inputs": ["G"]}, "`inputs` must name columns"),
        ({"inputs": ["F"], "kind": "spline"}, '`kind` must be one of "hold"'),
        ({"inputs": ["F"], "kind": {"G": "hold"}}, "`kind` must name `inputs`; got G"),
        ({"inputs": ["F"], "constants": ["F"]}, "`constants` must differ from `inputs`"),
        ({"constants": ["B"]}, '`constants` must .*"B" has 50 and 60 in experiment "batch 2"'),
        (
            {"y0": [1.0, "B"]},
            '`y0` must have one value .*"B" has 50 and 60 in experiment "batch 2"',
        ),
        ({"y0": ["W"]}, "`y0` must name columns of `df`"),
        ({"constants": {"k": "none"}}, "`constants` must name columns"),
        ({"units": {"C": "g"}}, r"`units` must be by the names of .*got \['C'\]"),
        ({"variable": "A"}, "`variable` and `value` belong to a long table"),
        (
            {"df": with_cell(3, "B", "low")},
            "`channels` must name columns of numbers; column \"B\" holds 'low' in row 3|"
            '`channels` must name columns of numbers; column "B" holds 50.0 in row 0',
        ),
        ({"df": wide().assign(B="x")}, "column \"B\" holds 'x' in row 0"),
        (
            {"df": wide().assign(hours="2024-03-31 08:00")},
            r"column \"hours\" holds '2024-03-31 08:00' in row 0.*pd.to_datetime for dates",
        ),
        ({"df": wide().assign(B=True)}, '`channels` must name columns of numbers; .*"B" holds Tr'),
        ({"df": wide().assign(hours=np.nan)}, '`time` must not be missing; column "hours"'),
        (
            {"df": wide().assign(batch=[1, None] + 5 * [1])},
            '`by` must name columns without gaps; column "batch" has no value in row 1',
        ),
        (
            {"df": wide().assign(hours=[0.0, 2.0, 0.0, 2.0, 1.0, 2.0, 0.5])},
            '`channels`: "A" has two values in experiment "batch 2" at time 2, in rows 3 and 5',
        ),
        (
            {"df": wide().assign(A=np.nan, B=np.nan)},
            '`channels` must be measured at least once; experiment "batch 2" has none',
        ),
        (
            {"df": wide().assign(F=[1, 1, 1, 1, 1, 1, np.inf]), "inputs": ["F"]},
            '`inputs` must name columns of finite numbers; column "F" holds inf in row 6',
        ),
        (
            {"df": wide().assign(F=[1.0] + 6 * [np.nan]), "inputs": ["F"]},
            '`inputs` must have samples in every experiment; experiment "batch 1" has none of "F"',
        ),
    ],
)
def test_says_what_cannot_be_used(options, message):
    with pytest.raises(ValueError, match=message):
        made(**options)


def test_an_input_repeated_at_one_time_is_one_sample():
    table = pd.concat([wide(), wide().assign(A=np.nan, B=np.nan)])
    same(made(table, inputs=["F"]), made())
    table.loc[0, "F"] = [0.2, 0.9]
    with pytest.raises(ValueError, match='`inputs`: "F" has two values in experiment "batch 2"'):
        made(table, inputs=["F"])


def test_it_fits():
    ts = np.linspace(0.0, 3.0, 13)
    rows = [{"run": k, "t": t, "x": k * np.exp(-0.7 * t)} for k in (1, 2) for t in ts]
    data = jc.from_frame(pd.DataFrame(rows), time="t", by="run", channels=["x"])
    grid = jc.Grid.uniform(0.0, 3.0, 4, jc.Radau(3))
    nlp = jc.transcribe(lambda t, y, args: -0.7 * y, data, grid)
    sol = jc.solve(nlp, jc.InteriorPoint(), jc.guess(nlp))
    assert float(sol.objective) < 1e-8
    assert "run 1, run 2; channels x" in str(sol)
    assert jnp.shape(sol.paths[0].states) == (13, 1)


LONG = pd.DataFrame(
    {
        "t": [0.0, 1.0, 0.0, 1.0, 0.0, 1.0],
        "what": ["X", "X", "D", "D", "S", "S"],
        "value": [1.0, 2.0, 0.5, 0.5, 3.0, 4.0],
    }
)


def test_jumps_belong_to_experiments_by_name():
    table = pd.DataFrame({"t": [0.0, 1.0] * 2, "run": ["a", "a", "b", "b"], "y": [1.0, 2, 3, 4]})
    dose = jc.Jump(0.5, add=[1.0])
    data = jc.from_frame(table, time="t", by="run", channels=["y"], jumps={"b": [dose]})
    assert [len(item.jumps) for item in data] == [0, 1]
    data = jc.from_frame(table, time="t", by="run", channels=["y"], jumps=dose)
    assert [len(item.jumps) for item in data] == [1, 1]
    with pytest.raises(
        ValueError, match="`jumps` must be by the names of experiments: a, b; got c"
    ):
        jc.from_frame(table, time="t", by="run", channels=["y"], jumps={"c": dose})


def test_the_value_that_is_no_number_is_named():
    table = LONG.astype({"value": object})
    table.loc[4, "value"] = "<0.3"
    with pytest.raises(ValueError, match=r"'<0.3' in row 4"):
        jc.from_frame(table, time="t", variable="what", value="value")


@pytest.mark.parametrize("number", [np.int64(3), np.float32(3.0), jnp.array(3.0)])
def test_constants_of_all_may_be_numbers_of_any_kind(number):
    (item,) = jc.from_frame(
        LONG, time="t", variable="what", value="value", inputs=["D"], constants={"V": number}
    )
    assert float(item.args["V"]) == 3.0
    assert item.channels == ("X", "S")


def test_what_is_no_input_is_told_with_what_there_is():
    options = {"time": "t", "variable": "what", "value": "value"}
    with pytest.raises(ValueError, match=r"stands under `variable`.*X, D, S; got 'd'"):
        jc.from_frame(LONG, **options, inputs=["d"])
    with pytest.raises(ValueError, match="`channels` must differ from `inputs`"):
        jc.from_frame(LONG, **options, channels=["X", "D"], inputs=["D"])
