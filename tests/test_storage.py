"""Files: what comes back, and what is refused and how."""

import enum
import json
import os
import zipfile
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcolloc as jc
from jaxcolloc import _storage


TS = np.linspace(0.0, 1.0, 4)
GRID = jc.Grid.uniform(0.0, 1.0, 2, jc.Radau(2))
VERIFIED_CHANNELS = ("path_explained", "rollout_explained", "misfit", "departure")
PUBLIC = {
    "Chebyshev": jc.Chebyshev(4),
    "GaussLegendre": jc.GaussLegendre(3),
    "Grid": GRID,
    "Input": jc.Input(TS, TS**2, kind="cubic"),
    "InteriorPoint": jc.InteriorPoint(max_seconds=3.0),
    "Ipopt": jc.Ipopt(options={"mu_strategy": "monotone", "max_soc": 2}),
    "Lobatto": jc.Lobatto(3),
    "Multipliers": jc.Multipliers(np.ones(2), np.zeros(3), np.zeros(3), 0.1),
    "Jump": jc.Jump(1.5, add=[2.0, jc.Unknown(1.0, bounds=(0, 3))]),
    "OnNets": jc.OnNets(1e-4),
    "Path": jc.Path(GRID, np.ones((GRID.num_nodes, 2))),
    "PseudoHuber": jc.PseudoHuber(0.5),
    "Gaussian": jc.Gaussian([0.1, 2.0], scale="log", min_std=0.01),
    "StudentT": jc.StudentT(0.1, 4),
    "RESULTS": jc.RESULTS.acceptable,
    "Radau": jc.Radau(3),
    "Round": jc.Round(1, *np.arange(5.0).tolist(), 7, True, 0.5),
    "StateBounds": jc.StateBounds([0, 1], -1.0, at="end"),
    "SteadyState": jc.SteadyState({"a": 1.0}, known=[np.nan, 1.0], invariants=[1.0, 2.0]),
    "Step": jc.Step(3, *np.arange(7.0).tolist(), 7, False, 0.5),
    "Tie": jc.Tie(0, 1),
    "Trace": jc.Trace.collect([jc.Step(3, *np.arange(7.0).tolist(), 7, False, 0.5)]),
    "Trajectory": jc.Trajectory(TS, np.ones((4, 1)), {"a": (1, jc.Unknown(2.0))}, y0=[np.nan]),
    "TrainingStep": jc.TrainingStep(3, *np.arange(4.0).tolist()),
    "Unknown": jc.Unknown([1.0, 2.0], bounds=(0.1, 3.0), scale="log", l2=0.1),
    "VERDICT": jc.VERDICT.good,
    "Verification": jc.Verification(
        causes=(jc.VERDICT.poor_fit, jc.VERDICT.too_coarse),
        notes=("Where.",),
        follows=np.array([False]),
        rollouts=(np.ones((3, 1)),),
        interval_errors=(TS,),
        residuals=(TS,),
        noise=np.array([np.nan]),
        **{name: np.ones((1, 1)) for name in VERIFIED_CHANNELS},
        **{name: np.ones(1) for name in ("path_rmse", "rollout_rmse", "distance", "growth")},
    ),
    "squared_error": jc.squared_error,
}


def test_a_verification_of_an_older_version_is_read(path):
    """It had a verdict and no causes."""
    new = PUBLIC["Verification"]
    entry = _storage._ENTRIES["Verification"]
    old = {name: getattr(new, name) for name in entry.fields if name not in entry.defaults}
    assert "verdict" in old
    report = _storage._object("Verification", old)
    assert report.causes == (jc.VERDICT.poor_fit,)
    assert np.isnan(report.path_explained).all()
    assert not report.follows.any()
    assert str(report).startswith("Verification: poor_fit.")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "file.jcs"


def same(a, b):
    """Whether two trees are equal; JAX arrays come back as NumPy's."""
    if isinstance(a, (np.ndarray, np.generic, jax.Array)):
        return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=True)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, enum.Enum) or not hasattr(a, "__dict__") or a is jc.squared_error:
        return a is b or a == b
    return type(a) is type(b) and same(vars(a), vars(b))


def savez(path, **arrays):
    with path.open("wb") as file:
        np.savez(file, **arrays)
    return path


def archive(path, tree, number=_storage._FORMAT, **more):
    """A valid archive with any tree of JSON's and of arrays."""
    text = {"format": number, "version": "9.9", "tree": tree}
    return savez(path, text=np.frombuffer(json.dumps(text).encode(), np.uint8), **more)


# What comes back


def test_trees_of_all_kinds(path):
    tree = {
        "numbers": (1, True, None, 0.1, np.inf, "text"),
        "arrays": [np.arange(3), np.ones((2, 2), np.float32), np.zeros((0, 3)), np.array(1j)],
        "scalars": [np.int64(3), np.bool_(True), np.float32(0.1)],
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "empty": ((), [], {}),
    }
    _storage.write(path, tree)
    assert same(tree, _storage.read(path))


def test_jax_arrays_and_keys(path):
    _storage.write(path, [jnp.ones((2, 2)), np.float64(np.pi), jax.random.key(3)])
    array, number, key = _storage.read(path)
    np.testing.assert_array_equal(array, np.ones((2, 2)))
    assert number == np.pi
    assert jnp.array_equal(jax.random.key_data(key), jax.random.key_data(jax.random.key(3)))


@pytest.mark.parametrize("name", PUBLIC)
def test_public_objects_come_back(name, path):
    _storage.write(path, PUBLIC[name])
    assert same(PUBLIC[name], _storage.read(path))


def test_every_registered_public_name_has_an_example():
    assert _storage._ENTRIES.keys() & set(jc.__all__) <= PUBLIC.keys() <= _storage._ENTRIES.keys()


def computed(entry):
    """Whether a class stores something that it computes."""
    return any(isinstance(getattr(entry.item, name, None), property) for name in entry.fields)


@pytest.mark.parametrize(
    "name", sorted(name for name, entry in _storage._ENTRIES.items() if not computed(entry))
)
def test_everything_registered_comes_back(name, path):
    """Each field of each class, members of enumerations, functions."""
    entry = _storage._ENTRIES[name]
    if not isinstance(entry.item, type):
        objects = [entry.item]
    elif issubclass(entry.item, enum.Enum):
        objects = list(entry.item)
    else:
        objects = [object.__new__(entry.item)]
        for position, field in enumerate(entry.fields):
            value = {} if field == "options" else position + 0.5
            object.__setattr__(objects[0], field, value)
    _storage.write(path, objects)
    back = _storage.read(path)
    assert [type(item) for item in back] == [type(item) for item in objects]
    for item, other in zip(back, objects, strict=True):
        assert item is other or vars(item) == vars(other)


def test_fields_of_plain_classes_are_all_named():
    assert vars(PUBLIC["Unknown"]).keys() == set(_storage._ENTRIES["Unknown"].fields)


def test_files_name_objects_by_their_public_names(path):
    """The text in the file has registered names and no module."""
    _storage.write(path, list(PUBLIC.values()))
    with np.load(path) as file:
        text = file["text"].tobytes().decode()
    assert '"object": "Grid"' in text
    assert '"enum": "RESULTS"' in text
    assert '"function": "squared_error"' in text
    assert f'"version": "{jc.__version__}"' in text
    assert "jaxcolloc" not in text
    assert "_grid" not in text


# Registration


def test_registered_names_are_unique():
    with pytest.raises(ValueError, match=r"`name` must not be taken in files; got 'Grid'"):
        _storage.stored("Grid")(jc.Radau)
    assert _storage.stored("Grid")(jc.Grid) is jc.Grid


def test_a_plain_class_must_name_its_fields():
    class Plain:
        pass

    with pytest.raises(ValueError, match="`fields` must name the attributes"):
        _storage.stored("Plain")(Plain)


class Foreign(eqx.Module):
    a: float = 1.0


class Subclass(jc.Trajectory):
    pass


FOREIGN = [lambda: 1, object(), {1: 2}, np.array(["a"]), Path("."), Foreign(), jc.simulate, np.sin]


@pytest.mark.parametrize("item", [*FOREIGN, Subclass(TS, np.ones((4, 1))), jc.Constraint(np.sin)])
def test_what_is_not_registered_is_left_out(item, path):
    with pytest.raises(_storage.NotStorable, match="without pickle"):
        _storage.write(path, {"a": item})
    assert list(path.parent.iterdir()) == []
    opaque = _storage.storable(item)
    assert isinstance(opaque, _storage.Opaque)
    _storage.write(path, opaque)
    assert _storage.read(path).text == opaque.text


# What is refused


RADAU = {"barycentric": None, "differentiation": None, "nodes": None, "quadrature": None}
OTHER_VERSION = {
    "an unknown object": ({"object": "Foreign", "fields": {}}, "holds 'Foreign'"),
    "a function's name": ({"object": "squared_error", "fields": {}}, "holds 'squared_error'"),
    "a module": ({"function": "os:system"}, "holds 'os:system'"),
    "a class's name": ({"function": "Grid"}, "holds 'Grid'"),
    "an unknown member": ({"enum": "RESULTS", "member": "ok"}, r"holds RESULTS\.ok"),
    "a member of a class": ({"enum": "Grid", "member": "single"}, "holds 'Grid'"),
    "a field too few": (
        {"object": "Radau", "fields": {key: RADAU[key] for key in sorted(RADAU)[:3]}},
        "its Radau lacks the field `quadrature`",
    ),
    "a field too many": (
        {"object": "Radau", "fields": RADAU | {"colour": 1}},
        "its Radau has the unknown field `colour`",
    ),
}


@pytest.mark.parametrize("case", OTHER_VERSION)
def test_objects_of_another_version(case, path):
    tree, message = OTHER_VERSION[case]
    wanted = rf"`path` was written by another version of jaxcolloc \(9\.9; .*{message}.*file\.jcs"
    with pytest.raises(ValueError, match=wanted):
        _storage.read(archive(path, {"list": [tree]}))


def test_formats(path):
    old = r"`path` was written by jaxcolloc 0\.1 \(format 1\), which this version no longer reads"
    with pytest.raises(ValueError, match=old):
        _storage.read(archive(path, {}, number=1))
    new = r"`path` was written by jaxcolloc 9\.9 \(format 7\); this version, .*, reads format 2"
    with pytest.raises(ValueError, match=new):
        _storage.read(archive(path, {}, number=7))


WRONG_TREES = [
    1.5,
    [],
    {},
    {"float": "many"},
    {"float": 1},
    {"array": "a9"},
    {"array": ["a0"]},
    {"list": {"a": 1}},
    {"list": "text"},
    {"tuple": None},
    {"dict": [1]},
    {"opaque": 3},
    {"key": 1, "impl": "threefry2x32"},
    {"key": {"array": "a0"}, "impl": "none"},
    {"function": None},
    {"enum": [], "member": "good"},
    {"object": "Grid"},
    {"object": "RESULTS", "fields": {}},
    {"object": "Ipopt", "fields": {**vars(jc.Ipopt()), "options": 3}},
    {"class": "_grid:Grid", "fields": {}},
]


@pytest.mark.parametrize("tree", WRONG_TREES, ids=repr)
def test_a_valid_archive_with_a_wrong_tree(tree, path):
    with pytest.raises(
        ValueError, match=r"`path` must be a file written by jaxcolloc; got .*\.jcs"
    ):
        _storage.read(archive(path, tree, a0=np.zeros(3)))


TEXTS = [
    "",
    "[",
    "[]",
    "{}",
    '{"format": null}',
    '{"format": 2}',
    "[" * 100_000,
    "\xff",
    "1" * 5000,
]


@pytest.mark.parametrize("text", [*TEXTS, '{"format": 2, "tree": ' + '{"list": [' * 9000])
def test_a_valid_archive_with_a_wrong_text(text, path):
    savez(path, text=np.frombuffer(text.encode("latin-1"), np.uint8))
    with pytest.raises(ValueError, match="`path` must be a file written by jaxcolloc"):
        _storage.read(path)


def test_a_tree_too_deep_to_read(path):
    tree = None
    for _ in range(100):
        tree = {"list": [tree]}
    archive(path, tree)
    assert isinstance(_storage.read(path), list)
    deep = '{"format": 2, "tree": ' + '{"list": [' * 5000 + "]}" * 5000 + "}"
    savez(path, text=np.frombuffer(deep.encode(), np.uint8))
    with pytest.raises(ValueError, match="`path` must be a file written by jaxcolloc"):
        _storage.read(path)


def test_trees_must_have_the_entries_asked_for(path):
    _storage.write(path, {"a": 1, "b": "text"})
    entries = {"a": int, "b": (str, type(None))}
    assert _storage.read(path, entries=entries) == {"a": 1, "b": "text"}
    for wrong in ({"a": int}, {"a": int, "b": int}, {"a": int, "b": str, "c": int}):
        with pytest.raises(ValueError, match=r"`checkpoint` must be a file that fit_admm has wri"):
            _storage.read(path, "checkpoint", entries=wrong, writer="fit_admm")
    _storage.write(path, [1])
    with pytest.raises(ValueError, match="that jaxcolloc has written"):
        _storage.read(path, entries=entries)


@pytest.mark.parametrize("seed", range(4))
def test_damaged_files_are_refused(seed, path):
    """Cut short or with some bytes changed: refused, or what it was where nothing was lost."""
    tree = {"numbers": np.arange(20.0), "objects": list(PUBLIC.values())[:4]}
    _storage.write(path, tree)
    whole, chance = path.read_bytes(), np.random.default_rng(seed)
    for trial in range(100):
        data = bytearray(whole)
        for at in chance.integers(len(data), size=chance.integers(1, 5)):
            data[at] = chance.integers(256)
        if trial % 3 == 0:
            data = data[: chance.integers(len(data))]
        path.write_bytes(data)
        try:
            keys = _storage.read(path).keys()
        except ValueError as error:
            good = "`path`" in str(error) and str(path) in str(error)
        else:
            good = keys == tree.keys()
        assert good


def test_a_small_file_cannot_fill_the_memory(path):
    """Compressed members, and a header that promises more than follows."""
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file,
        file.open("text.npy", "w") as text,
    ):
        for _ in range(64):
            text.write(bytes(2**20))
    assert path.stat().st_size < 2**17
    with pytest.raises(ValueError, match="`path` must be a file written by jaxcolloc"):
        _storage.read(path)
    for shape in ((10**13,), (-1,), (2**62, 2**62), (3,)):
        header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}}}".ljust(117) + "\n"
        data = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + bytes(8)
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("text.npy", data)
        with pytest.raises(ValueError, match="`path` must be a file written by jaxcolloc"):
            _storage.read(path)


def test_members_that_lie_about_their_size(path):
    """The same bytes as a thousand members: the sum of their sizes exceeds the file's."""
    archive(path, {}, a=np.zeros(1000))
    data = path.read_bytes()
    with zipfile.ZipFile(path) as file:
        sizes = [item.file_size for item in file.infolist()]
    changed = data.replace(sizes[1].to_bytes(4, "little"), (2**30).to_bytes(4, "little"))
    path.write_bytes(changed)
    with pytest.raises(ValueError, match="`path` must be a file written by jaxcolloc"):
        _storage.read(path)


def test_pickles_are_refused(path):
    savez(path, text=np.array([print], object))
    with pytest.raises(ValueError, match="`path` must be a file written by jaxcolloc"):
        _storage.read(path)


@pytest.mark.parametrize("wrong", [None, 3, b"file", 1.5, ["file"], "", "a\0b"])
def test_paths_of_a_wrong_kind(wrong):
    with pytest.raises(ValueError, match="`checkpoint` must be "):
        _storage.read(wrong, "checkpoint")
    with pytest.raises(ValueError, match="`checkpoint` must be "):
        _storage.write(wrong, 1, "checkpoint")


def test_folders_and_missing_files(tmp_path, path):
    with pytest.raises(ValueError, match=rf"`path` must be a file.*{tmp_path}, which is no reg"):
        _storage.read(tmp_path)
    with pytest.raises(
        ValueError, match=rf"`path` must be a file; got {tmp_path}, which is a fold"
    ):
        _storage.write(tmp_path, 1)
    with pytest.raises(FileNotFoundError, match=rf"`path` names no file: '{path}'"):
        _storage.read(path)
    with pytest.raises(FileNotFoundError, match=rf"`path` must lie in a folder.*'{path}/x.jcs'"):
        _storage.write(path / "x.jcs", 1)
    with pytest.raises(FileNotFoundError, match=r"`path` must lie in a folder.*none/x\.jcs'"):
        _storage.write(str(tmp_path / "none" / "x.jcs"), 1)
    with pytest.raises(FileNotFoundError, match="`path` names no file"):
        _storage.read(path / "x.jcs")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
def test_what_is_no_regular_file(path):
    os.mkfifo(path)
    with pytest.raises(ValueError, match="`path` must be a file"):
        _storage.read(path)
    with pytest.raises(ValueError, match="no regular file"):
        _storage.write(path, 1)
    with pytest.raises(ValueError, match="no regular file"):
        _storage.write(os.devnull, 1)
