"""The API reference: every public name is documented, and formulas survive the rendering."""

import html
import inspect
import re

import pdoc
import pdoc.doc
import pdoc.render
import pytest

import jaxcolloc as jc
from jaxcolloc import datasets


@pytest.fixture(scope="module")
def pages():
    pdoc.render.configure(docformat="markdown", math=True, show_source=False)
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
