"""The documents: every public name is documented, formulas survive, code runs, links lead on."""

import inspect
import json
import re
import subprocess
import sys
import types
from pathlib import Path

import _contents
import _pages
import _site
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcolloc as jc
from jaxcolloc import datasets


ROOT = Path(__file__).parents[1]
DOCS = ROOT / "jaxcolloc" / "docs"
GUIDE = ROOT / "examples" / "guide"


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The reference as pages of HTML."""
    output = tmp_path_factory.mktemp("reference")
    _site.reference(output)
    places = {"jaxcolloc": "jaxcolloc.html", "datasets": "jaxcolloc/datasets.html"}
    return {name: (output / place).read_text() for name, place in places.items()}


def docstrings(page):
    module = jc if page == "jaxcolloc" else datasets
    names = jc.__all__ if page == "jaxcolloc" else [n for n in vars(module) if n[0].islower()]
    items = [module, *(getattr(module, name) for name in names)]
    where = ("jaxcolloc._", "jaxcolloc") if page == "jaxcolloc" else ("jaxcolloc.datasets",)
    items = [item for item in items if inspect.getmodule(item).__name__.startswith(where)]
    for item in items:
        yield getattr(item, "__name__", ""), inspect.getdoc(item) or ""
        if inspect.isclass(item):
            for name, member in vars(item).items():
                if not name.startswith("_") and (callable(member) or isinstance(member, property)):
                    yield f"{item.__name__}.{name}", inspect.getdoc(member) or ""


def formulas(text):
    found = re.findall(r"\$\$(.+?)\$\$|\$([^$]+?)\$", text, re.DOTALL)
    return ["".join(formula) for formula in found]


@pytest.mark.parametrize("page", ["jaxcolloc", "datasets"])
def test_formulas_become_mathml(pages, page):
    """All of them, with nothing left that is LaTeX, and no need of a network."""
    wanted = [item for _, text in docstrings(page) for item in formulas(text)]
    assert len(wanted) > (20 if page == "jaxcolloc" else 3)
    assert pages[page].count("<math") >= len(wanted)
    text = re.sub(_site.VERBATIM, "", pages[page])
    assert "$" not in text
    assert not re.findall(r"\\[a-z|]+", text)
    assert "mathjax" not in pages[page].lower()
    assert not re.findall(r"(?:src|href)=.https?://(?!pdoc.dev)", pages[page])


def test_every_public_name_is_documented(pages):
    for name in jc.__all__:
        assert f'id="{name}"' in pages["jaxcolloc"] or name == "datasets"
    assert all(text for _, text in docstrings("jaxcolloc"))


def code(path):
    """The blocks of Python in a document."""
    return re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL)


@pytest.fixture
def in_a_folder(tmp_path, monkeypatch):
    """Run the test where it may write files, with pictures that need no screen."""
    monkeypatch.chdir(tmp_path)
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.switch_backend("Agg")
    yield
    plt.close("all")


@pytest.mark.slow
@pytest.mark.usefixtures("in_a_folder")
def test_the_readmes_example_runs():
    (block,) = code(ROOT / "README.md")
    names = {}
    exec(block, names)
    assert names["sol"].verification.verdict.ok
    assert names["ys"].shape == (200, 2)
    assert Path("fit.png").stat().st_size > 10_000


@pytest.mark.slow
@pytest.mark.parametrize("name", _pages.names())
def test_the_guides_pages_run(name):
    """With the checks they contain; what they print and draw stays for `make docs`."""
    file = ROOT / "build" / "guide" / f"{name}.json"
    command = [sys.executable, _pages.__file__, name, file]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(file.read_text())
    assert result["digest"] == _pages.digest(GUIDE / f"{name}.py")
    code = [cell for cell in result["cells"] if cell["kind"] == "code"]
    assert not code or any(cell["text"] for cell in code)


def test_the_contents_name_every_page_and_every_name():
    pages = [name for names in _contents.GUIDE.values() for name in names]
    assert sorted(pages) == _pages.names()
    assert all(_pages.title(GUIDE / f"{name}.py") for name in pages)
    named = [name for names in _contents.TASKS.values() for name in names]
    assert sorted(named) == sorted(jc.__all__)


def test_links_between_pages_lead_to_pages():
    known = {*_pages.names(), *_contents.BACKGROUND}
    for name in _pages.names():
        text = (GUIDE / f"{name}.py").read_text()
        assert set(re.findall(r"\]\((\w+)\.html\)", text)) <= known


def test_a_page_keeps_what_it_prints(tmp_path):
    page = tmp_path / "page.py"
    page.write_text(
        "# %% [markdown]\n# # Title\n# $x_1$\n\n"
        "# %%\nx = 3\nprint(x)\nx + 1\n\n# %% [test]\n1 / 1\n"
    )
    result = _pages.run(page)
    assert [cell["kind"] for cell in result["cells"]] == ["markdown", "code", "test"]
    assert result["cells"][1]["text"] == "3\n4\n"
    shown = _site.body(result)
    assert "<math" in shown
    assert "1 / 1" not in shown
    page.write_text("# %% [test]\nassert False\n# %% [markdown]\n# # Title\n")
    with pytest.raises(AssertionError):
        _pages.run(page)
    page.write_text("x = 3\n")
    with pytest.raises(ValueError, match="must begin with"):
        _pages.cells(page)


class Tanks(eqx.Module):
    """The guide's tanks as they were before any fit."""

    def __call__(self, t, y, args):
        inflow = args["scale"] * args["feed"](t)
        return jnp.stack([inflow - 0.5 * y[0], 0.5 * y[0] - 0.4 * jnp.tanh(y[1])])


@pytest.mark.filterwarnings("ignore")
def test_the_guides_models_go_into_onnx(tmp_path, monkeypatch):
    """By the lines that its page shows and does not run."""
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("jax2onnx")
    monkeypatch.chdir(tmp_path)
    before, names = jnp.zeros(()).dtype, {"sol": types.SimpleNamespace(model=Tanks())}
    text = "".join(cell["source"] for cell in _pages.cells(GUIDE / "control.py"))
    (lines,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    exec(lines, names)
    session = runtime.InferenceSession("tanks.onnx")
    for y, feed in (([0.2, 0.1], 0.7), ([1.5, 0.8], 0.1)):
        given = [np.asarray(value) for value in (0.0, y, feed)]
        inputs = zip([item.name for item in session.get_inputs()], given, strict=True)
        (found,) = session.run(None, dict(inputs))
        with jax.enable_x64(True):
            args = {"feed": lambda t, feed=feed: feed, "scale": 1.0}
            wanted = Tanks()(0.0, jnp.asarray(y), args)
        assert found.dtype == np.float64
        np.testing.assert_allclose(found, wanted, rtol=1e-12)
    assert jnp.zeros(()).dtype == before


@pytest.mark.parametrize("path", ["README.md", "bench/README.md", "examples/README.md"])
def test_links_lead_to_files(path):
    links = re.findall(r"\]\((?!http)([^)#]+)\)", (ROOT / path).read_text())
    assert len(links) > 4
    missing = [link for link in links if not (ROOT / path).parent.joinpath(link).exists()]
    assert not missing


def test_the_layout_names_what_there_is():
    """Every name in the table of files exists, and no folder is missing from it."""
    rows = re.findall(r"^\| (`_.*?|`d.*?) \|", (DOCS / "contributing.md").read_text(), re.MULTILINE)
    named = {name for row in rows for name in re.findall("`(.*?)`", row)}
    library = [item for item in (ROOT / "jaxcolloc").iterdir() if item.name != "__pycache__"]
    assert named <= {item.stem + "/" * item.is_dir() for item in library}
    assert {item.name + "/" for item in library if item.is_dir()} <= named
