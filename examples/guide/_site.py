"""The documents as pages that need no network: guide, gallery, reference, contributing.

    python examples/guide/_site.py [--output build/docs]

Pages of the guide are run for what they print and draw, unless `build/guide` has it from the same
text; the tests leave it there. The reference comes from pdoc, its formulas as MathML.
"""

import argparse
import functools
import html
import inspect
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _pages
import jinja2
import latex2mathml.converter
import markdown2
import pdoc
import pdoc.render
import pygments
import pygments.formatters
import pygments.lexers
from _contents import BACKGROUND, GUIDE, TASKS

import jaxcolloc as jc


ROOT = Path(__file__).parents[2]
RUNS = ROOT / "build" / "guide"
EXTRAS = ["tables", "fenced-code-blocks", "header-ids", "code-friendly", "cuddled-lists"]
TEMPLATE = jinja2.Template((Path(__file__).parent / "_page.html").read_text(), autoescape=True)
FORMULA = re.compile(r"\$\$(.+?)\$\$|\$([^$\n]+(?:\n[^$\n]+)*?)\$", re.DOTALL)
# What holds no formulas.
VERBATIM = re.compile(r"(<(pre|code|script|style)\b.*?</\2>|<[^>]+>)", re.DOTALL)


def math(text: str) -> str:
    """Text with its formulas between dollar signs as MathML."""

    def converted(found: re.Match[str]) -> str:
        block, inline = found.groups()
        display = "block" if block else "inline"
        return latex2mathml.converter.convert((block or inline).strip(), display=display)

    return FORMULA.sub(converted, text)


def math_in_html(page: str) -> str:
    """The same for the text of an HTML page, code left alone."""
    parts, end = [], 0
    for found in VERBATIM.finditer(page):
        parts.append((page[end : found.start()], found.group()))
        end = found.end()
    parts.append((page[end:], ""))
    # A formula is in one piece of text: tags are kept out by writing them as characters.
    shown = [math(html.unescape(text)) if "$" in text else text for text, _ in parts]
    return "".join(text + tag for text, (_, tag) in zip(shown, parts, strict=True))


def markdown(text: str) -> str:
    """Markdown as HTML, with formulas and links from public names to the reference."""
    formulas: list[str] = []

    def kept(found: re.Match[str]) -> str:
        formulas.append(math(found.group()))
        return f"FORMULA{len(formulas) - 1}END"

    pieces = re.split(r"(```.*?```|`[^`]+`)", text, flags=re.DOTALL)
    text = "".join(p if p.startswith("`") else FORMULA.sub(kept, p) for p in pieces)
    page = str(markdown2.markdown(text, extras=EXTRAS))
    page = re.sub(r"FORMULA(\d+)END", lambda found: formulas[int(found[1])], page)
    return re.sub(r"<code>jc\.(\w+)(.*?)</code>", _link, page)


def _link(found: re.Match[str]) -> str:
    name = found[1]
    if name not in jc.__all__:
        return found[0]
    return f'<a href="{_where(name)}">{found[0]}</a>'


def _where(name: str) -> str:
    """The address of a public name."""
    return (
        f"reference/jaxcolloc.html#{name}"
        if name != "datasets"
        else ("reference/jaxcolloc/datasets.html")
    )


def highlighted(code: str) -> str:
    """Python as HTML."""
    formatter = pygments.formatters.HtmlFormatter(cssclass="code")
    return str(pygments.highlight(code, pygments.lexers.PythonLexer(), formatter))


def body(result: dict[str, Any]) -> str:
    """A run page's cells as HTML."""
    parts = []
    for cell in result["cells"]:
        if cell["kind"] == "markdown":
            parts.append(markdown(cell["source"]))
        elif cell["kind"] == "code":
            parts.append(highlighted(cell["source"].strip("\n")))
            if cell["text"].strip():
                parts.append(f'<pre class="output">{html.escape(cell["text"].rstrip())}</pre>')
            parts += [
                f'<img alt="The picture drawn by the code above" src="data:image/png;base64,{png}">'
                for png in cell["pictures"]
            ]
    return "\n".join(parts)


def page_run(name: str) -> dict[str, Any]:
    """A page with its output: that of the last run of the same text, or of a new one."""
    file, path = RUNS / f"{name}.json", Path(__file__).parent / f"{name}.py"
    if not file.exists() or json.loads(file.read_text())["digest"] != _pages.digest(path):
        subprocess.run([sys.executable, _pages.__file__, name, file], check=True)
    return dict(json.loads(file.read_text()))


def reference_by_task() -> str:
    """What there is for which task, with the first sentence of each docstring."""
    parts = ["# Reference by task"]
    for task, names in TASKS.items():
        rows = [f"| `jc.{name}` | {_first_sentence(name)} |" for name in names]
        parts.append("\n".join([f"## {task}", "", "| name | what it is |", "|---|---|", *rows]))
    return "\n\n".join(parts)


def _first_sentence(name: str) -> str:
    item = getattr(jc, name)
    text = " ".join((inspect.getdoc(item) or "").split("\n\n")[0].split())
    sentence = re.match(r"(.+?\.)(?: |$)", text)
    shown = sentence[1] if sentence else text
    # Formulas of a docstring that begins with its equation stay whole.
    if shown.count("$") % 2:
        shown = text
    return shown.replace("|", r"\|") if "$" not in shown else shown


def readme(folder: str) -> str:
    """The README of a folder, with links to its neighbours' as pages."""
    text = (ROOT / folder / "README.md").read_text()
    text = re.sub(r"\]\((?:\.\./)?(bench|examples)/README\.md\)", r"](\1.html)", text)
    return text.replace("](../examples/pictures/", "](pictures/")


def reference(output: Path) -> None:
    """The pages that pdoc makes of docstrings, formulas as MathML."""
    pdoc.render.configure(
        docformat="restructuredtext", show_source=False, search=True,
        logo_link="../index.html", footer_text="Guide: ../index.html",
    )  # fmt: skip
    pdoc.pdoc("jaxcolloc", output_directory=output)
    for path in output.rglob("*.html"):
        path.write_text(math_in_html(path.read_text()))


def write(output: Path, name: str, heading: str, text: str) -> None:
    """One page in the frame that all have."""
    style = pygments.formatters.HtmlFormatter().get_style_defs(".code")
    page = TEMPLATE.render(
        title=heading, body=text, guide=_entries(), background=BACKGROUND, here=name, style=style
    )
    (output / f"{name}.html").write_text(page)


def _entries() -> list[tuple[str, list[tuple[str, str]]]]:
    here = Path(__file__).parent
    return [
        (part, [(name, _pages.title(here / f"{name}.py")) for name in names])
        for part, names in GUIDE.items()
    ]


def main() -> None:
    """Write all pages."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "docs")
    output = parser.parse_args().output
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    reference(output / "reference")
    for name in (name for names in GUIDE.values() for name in names):
        result = page_run(name)
        write(output, name, result["title"], body(result))
    makers: dict[str, Callable[[], str]] = {
        "examples": functools.partial(readme, "examples"),
        "tasks": reference_by_task,
        "bench": functools.partial(readme, "bench"),
        "contributing": (ROOT / "jaxcolloc" / "docs" / "contributing.md").read_text,
    }
    for name, heading in BACKGROUND.items():
        write(output, name, heading, markdown(makers[name]()))
    shutil.copytree(ROOT / "examples" / "pictures", output / "pictures")
    shutil.copytree(ROOT / "bench" / "results", output / "results")
    first = next(iter(GUIDE.values()))[0]
    shutil.copy(output / f"{first}.html", output / "index.html")
    print(f"{output}/index.html")


if __name__ == "__main__":
    main()
