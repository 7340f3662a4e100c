"""report: one file of valid HTML that needs nothing else, with all names in it."""

import dataclasses
import html.parser
import re

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcolloc as jc


matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")

TS = np.linspace(0.0, 3.0, 16)
EMPTY = {"meta", "img", "br", "hr", "link", "input"}


class Reader(html.parser.HTMLParser):
    """Collects text and links, and complains of elements that are not closed in their order."""

    def __init__(self):
        super().__init__()
        self.open, self.text, self.links, self.wrong = [], [], [], []
        self.ids = []

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.links += [given[key] for key in ("src", "href") if key in given]
        self.ids += [given["id"]] if "id" in given else []
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data):
        self.text.append(data)


def read(text):
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert not reader.wrong
    assert not reader.open
    return reader


class Decay(eqx.Module):
    rate: jax.Array
    net: eqx.nn.MLP

    def __call__(self, t, y, args):
        return -self.rate * args["scale"] * y + 0.0 * self.net(y)


@pytest.fixture(scope="module")
def sol():
    rng = np.random.default_rng(0)
    data = [
        jc.Trajectory(
            TS, start * np.exp(-scale * TS)[:, None] + 0.02 * rng.normal(size=(16, 1)),
            {"scale": scale if scale == 1.0 else jc.Unknown(1.1)}, name=name,
            channels=["A < B & C"], units={"time": "h"},
        )
        for start, scale, name in ((1.0, 1.0, "first"), (2.0, 1.3, "<script>alert(1)</script>"))
    ]  # fmt: skip
    net = eqx.nn.MLP(1, 1, 2, 1, key=jax.random.key(0))
    grid = jc.Grid.uniform(0.0, 3.0, 6, jc.Radau(3))
    nlp = jc.transcribe(Decay(jnp.asarray(0.8), net), data, grid, l2=1e-6, state_names=["level"])
    return jc.solve(nlp, jc.InteriorPoint(), jc.guess(nlp, weights="as_given"))


def test_a_page_needs_nothing_else_and_has_all_names(sol, tmp_path):
    path = tmp_path / "fit.html"
    text = jc.report(sol, path, title="Kinetics & <more>", validation=jc.validate(sol, _other()))
    assert path.read_text() == text
    assert list(tmp_path.iterdir()) == [path]
    page = read(text)
    assert "http" not in re.sub('"data:image/png;base64,[^"]*"', "", text)
    assert all(link.startswith(("data:image/png;base64,", "#s")) for link in page.links)
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    pictures = [link for link in page.links if link.startswith("data:")]
    # All together, each alone, the unseen one, residuals, iterations.
    assert len(pictures) == 1 + 2 + 1 + 2
    words = " ".join(page.text)
    for name in ("first", "<script>alert(1)</script>", "A < B & C", "level", "Kinetics & <more>"):
        assert name in words
    assert "<script" not in text
    u = jc.uncertainty(sol)
    lower, upper = u.interval(lambda m: m.rate)
    assert f"{float(lower):.4g}" in words
    assert f"{float(upper):.4g}" in words
    wanted = ["scale", "start of level", "weights of nets", "Validation: fit", "state_bounds"]
    for part in (*wanted, str(jc.verify(sol)).splitlines()[0], jc.__version__, "InteriorPoint"):
        assert part in words


def _other():
    return jc.Trajectory(TS, 3 * np.exp(-TS)[:, None], {"scale": 1.0}, name="other")


def test_what_has_no_errors_says_why(sol, monkeypatch):
    text = jc.report(dataclasses.replace(sol, multipliers=None))
    assert "No standard errors: `sol` must hold multipliers" in " ".join(read(text).text)


@pytest.mark.slow
def test_many_trajectories_have_no_pictures_of_their_own():
    data = [jc.Trajectory(TS, np.exp(-TS)[:, None], name=f"run {k}") for k in range(25)]
    grid = jc.Grid.uniform(0.0, 3.0, 3, jc.Radau(2))
    nlp = jc.transcribe(lambda t, y, args: -y, data, grid)
    page = read(jc.report(jc.solve(nlp, jc.InteriorPoint(), jc.guess(nlp))))
    assert len([link for link in page.links if link.startswith("data:")]) == 3 + 2
    assert "left out of 25" in " ".join(page.text)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sol": 3}, "`sol` must be a Solution"),
        ({"path": 3}, "`path` must be a path"),
        ({"path": "."}, "`path` must be a file"),
        ({"title": ""}, "`title` must be a text"),
        ({"uncertainty": 3}, "`uncertainty` must be what"),
        ({"validation": 3}, "`validation` must be what"),
    ],
)
def test_says_what_cannot_be_written(sol, options, message):
    with pytest.raises(ValueError, match=message):
        jc.report(**({"sol": sol} | options))


def test_a_page_is_not_begun_where_it_cannot_lie(sol, tmp_path):
    with pytest.raises(FileNotFoundError, match="`path` must lie in a folder"):
        jc.report(sol, tmp_path / "nowhere" / "fit.html")
