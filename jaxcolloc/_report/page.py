"""A page of HTML that needs nothing but itself: text is escaped, pictures are part of it."""

import base64
import html
import io
from collections.abc import Sequence
from typing import Any

import numpy as np


_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #222; max-width: 1050px; margin: 2em auto;
       padding: 0 1em; }
h1 { font-size: 1.6em; margin-bottom: 0.2em; }
h2 { font-size: 1.2em; margin-top: 1.8em; border-bottom: 1px solid #ccc; }
pre { background: #f6f6f6; padding: 0.8em; overflow-x: auto; font-size: 13px; }
table { border-collapse: collapse; font-size: 14px; }
th, td { text-align: left; padding: 0.2em 0.9em 0.2em 0; border-bottom: 1px solid #e4e4e4;
         vertical-align: top; }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
img { max-width: 100%; height: auto; }
nav a { margin-right: 1em; }
.good { color: #176b2c; } .bad { color: #a3200d; }
.wide { overflow-x: auto; }
figure { margin: 1em 0; }
summary { cursor: pointer; }
"""
_DPI = 110


def text(value: Any) -> str:
    """Any value as escaped text."""
    return html.escape(str(value))


def paragraph(value: Any) -> str:
    """A paragraph of text."""
    return f"<p>{text(value)}</p>"


def verbatim(value: Any) -> str:
    """Text as it is printed."""
    return f"<pre>{text(value)}</pre>"


def bullets(items: Sequence[Any]) -> str:
    """A list of sentences; nothing for none."""
    if not items:
        return ""
    return "<ul>" + "".join(f"<li>{text(item)}</li>" for item in items) + "</ul>"


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table; numbers are rounded to four digits and stand at the right."""
    top = "".join(f'<th scope="col">{text(name)}</th>' for name in head)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return (
        f'<div class="wide"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _cell(value: Any) -> str:
    if isinstance(value, (float, np.floating)):
        return f'<td class="number">{text(f"{value:.4g}")}</td>'
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return f'<td class="number">{text(value)}</td>'
    return f"<td>{text(value)}</td>"


def picture(figure: Any, alt: str) -> str:
    """A matplotlib figure inside the page; the figure is closed."""
    import matplotlib.pyplot as plt

    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=_DPI)
    plt.close(figure)
    code = base64.b64encode(data.getvalue()).decode()
    return f'<figure><img alt="{text(alt)}" src="data:image/png;base64,{code}"></figure>'


def folded(title: str, content: str, opened: bool) -> str:
    """Content that a click shows."""
    return (
        f"<details{' open' if opened else ''}><summary>{text(title)}</summary>{content}</details>"
    )


def page(title: str, top: str, sections: Sequence[tuple[str, str]]) -> str:
    """The whole page: what stands on top, links to the sections, the sections by their titles."""
    links = "".join(f'<a href="#s{k}">{text(name)}</a>' for k, (name, _) in enumerate(sections))
    body = "".join(
        f'<section id="s{k}"><h2>{text(name)}</h2>{content}</section>'
        for k, (name, content) in enumerate(sections)
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{text(title)}</title><style>{_STYLE}</style></head>"
        f"<body><header><h1>{text(title)}</h1>{top}<nav>{links}</nav></header>"
        f"<main>{body}</main></body></html>\n"
    )
