"""The documents: every public name is documented, formulas survive, code runs, links lead on."""

import html
import inspect
import re
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pdoc
import pdoc.doc
import pdoc.render
import pytest

import jaxcolloc as jc
from jaxcolloc import datasets


ROOT = Path(__file__).parents[1]
DOCS = ROOT / "jaxcolloc" / "docs"


@pytest.fixture(scope="module")
def pages():
    pdoc.render.configure(docformat="restructuredtext", math=True, show_source=False)
    modules = {
        name: pdoc.doc.Module(item) for name, item in (("jaxcolloc", jc), ("datasets", datasets))
    }
    return {
        name: html.unescape(pdoc.render.html_module(item, modules))
        for name, item in modules.items()
    }


def docstrings(page):
    module = jc if page == "jaxcolloc" else datasets
    names = jc.__all__ if page == "jaxcolloc" else [n for n in vars(module) if n[0].islower()]
    items = [module, *(getattr(module, name) for name in names)]
    where = ("jaxcolloc._", "jaxcolloc") if page == "jaxcolloc" else ("jaxcolloc.datasets",)
    items = [item for item in items if inspect.getmodule(item).__name__.startswith(where)]
    if page == "jaxcolloc":
        yield from ((path.name, path.read_text()) for path in DOCS.glob("*.md"))
    for item in items:
        yield getattr(item, "__name__", ""), inspect.getdoc(item) or ""
        if inspect.isclass(item):
            for name, member in vars(item).items():
                if not name.startswith("_") and (callable(member) or isinstance(member, property)):
                    yield f"{item.__name__}.{name}", inspect.getdoc(member) or ""


@pytest.mark.parametrize("page", ["jaxcolloc", "datasets"])
def test_formulas_are_not_taken_for_markup(pages, page):
    found, lost = 0, []
    shown = " ".join(pages[page].split())
    for name, text in docstrings(page):
        for formula in re.findall(r"\$\$(.+?)\$\$|\$([^$]+?)\$", text, re.DOTALL):
            wanted = " ".join("".join(formula).split())
            found += 1
            if wanted not in shown:
                lost.append(f"{name}: {wanted}")
    assert not lost
    assert found > (20 if page == "jaxcolloc" else 3)


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
@pytest.mark.usefixtures("in_a_folder")
def test_the_guides_examples_run():
    one_call, steps, experiments, _, _, noise, said = code(DOCS / "guide.md")
    names = {}
    exec(one_call, names)
    assert names["sol"].verification.verdict.ok
    back = jc.load("run.jcs", like=names["model"])
    np.testing.assert_array_equal(back.z, names["sol"].z)
    assert jax.tree.structure(names["tuned"].model) == jax.tree.structure(names["model"])
    exec(steps, names)
    assert names["sol"].result.ok
    assert names["sol"].stats["refinement_end"]
    exec(experiments, names)
    sol = names["sol"]
    assert float(sol.model.flow) == pytest.approx(0.5, abs=0.01)
    assert float(sol.model.gain) == pytest.approx(2.0, abs=0.02)
    np.testing.assert_allclose([args["scale"] for args in sol.args], [1.0, 1.3, 0.8], atol=0.02)
    exec(noise, names)
    sol = names["sol"]
    assert sol.verification.verdict.ok
    assert float(sol.model.rate) == pytest.approx(1.0, abs=0.05)
    np.testing.assert_allclose(sol.model.noise, [0.05, 0.15], rtol=0.3)
    exec(said, names)
    u = names["u"]
    lower, upper = u.interval(lambda m: m.rate)
    assert lower < 1.0 < upper
    assert names["forecast"].stderr.shape == (50, 2)
    expected = np.linspace(0, 5, 20) * float(u.stderr(lambda m: m.rate))
    np.testing.assert_allclose(names["reaction"].stderr, expected, rtol=1e-6)
    np.testing.assert_allclose(names["by_sample"], names["same"], rtol=1e-3, atol=1e-7)
    assert Path("bands.png").stat().st_size > 10_000


@pytest.mark.slow
def test_the_guides_steady_states_and_simulations_run():
    text = (DOCS / "guide.md").read_text()
    first = text.index("## Steady states")
    until = text.index("## ", text.index("## Simulation by collocation") + 1)
    rest, solved = re.findall(r"```python\n(.*?)```", text[first:until], re.DOTALL)
    names = {"eqx": eqx, "jax": jax, "jnp": jnp, "jc": jc, "np": np}
    exec(rest, names)
    sol = names["sol"]
    assert float(sol.model.rate) == pytest.approx(2.0, abs=0.01)
    assert float(sol.model.decay) == pytest.approx(1.0, abs=0.01)
    exec(solved, names)
    # Twice the logarithm of the hyperbolic cosine of theta / 4, with theta as in Bratu's problem.
    assert float(names["ys"][10, 0]) == pytest.approx(0.14053921, abs=1e-6)


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
