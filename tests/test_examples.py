"""The examples at small size."""

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import curve_fit

import jaxcolloc as jc


ROOT = Path(__file__).parents[1]


def run(script, output, *arguments):
    """The printed lines of an example whose picture goes to the folder `output`."""
    command = [sys.executable, ROOT / "examples" / script, "--output", output, *arguments]
    environment = {k: v for k, v in os.environ.items() if k != "JAXCOLLOC_DATA"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert (output / script).with_suffix(".png").stat().st_size > 10_000
    return done.stdout


@pytest.mark.slow
def test_van_der_pol(tmp_path):
    small = ["--nodes", "40", "--until", "5", "--width", "6", "--seeds", "2"]
    printed = run("van_der_pol.py", tmp_path, *small)
    assert "NLP: 112 variables, 78 equality constraints" in printed
    assert "mean over 2 seeds" in printed
    assert "2 of 2 solved" in printed


@pytest.mark.slow
def test_batches(tmp_path):
    printed = run("batches.py", tmp_path, "--quick")
    assert "2 batches, executor here" in printed
    # The noise is 0.05, the data's spread about 1.
    assert float(re.search(r"([\d.]+) in the rollout", printed).group(1)) < 0.15


@pytest.mark.slow
def test_batches_table(tmp_path):
    printed = run("batches_table.py", tmp_path, "--quick")
    assert "batch 1, batch 2; channels biomass, sugar" in printed
    # Two runs do not teach every optimum of a net what a third one needs; but that is then said.
    fit = float(re.search(r"Validation: fit (-?[\d.]+)%", printed).group(1))
    assert fit > 80 or "note" in printed.split("Validation:")[1]
    assert float(re.search(r"yield ([\d.]+), in truth 0.4", printed).group(1)) == pytest.approx(
        0.4, abs=0.03
    )
    assert "batch 2" in (tmp_path / "batches_table.html").read_text()


@pytest.mark.slow
def test_lynx_hare(tmp_path):
    printed = run("lynx_hare.py", tmp_path, "--quick")
    # The rates that every text finds, near 0.5, 0.03, 0.02 and 0.8.
    rates = re.search(r"rates.*\[(.*)\]", printed).group(1).split()
    np.testing.assert_allclose(np.array(rates, float), [0.54, 0.027, 0.024, 0.80], rtol=0.05)
    assert float(re.search(r"Lotka.*all 21 years ([\d.]+)", printed).group(1)) < 5.0
    # Of counts that spread by 16 and 21 thousand; a net has more than one optimum.
    assert float(re.search(r"neural.*all 21 years ([\d.]+)", printed).group(1)) < 8.0


@pytest.mark.slow
def test_theophylline(tmp_path):
    """Against least squares with the closed form of the law, dose by dose."""
    printed = run("theophylline.py", tmp_path, "--quick")
    for k, item in enumerate(jc.datasets.theophylline()[:4]):
        (row,) = re.findall(rf"^ +{k + 1} (.*)$", printed, re.MULTILINE)
        found = np.array(re.findall(r"([\d.]+) \(", row), float)

        def law(ts, *logs, dose=item.jumps[0].add[1]):
            ka, ke, v = np.exp(logs)
            return dose * ka / (v * (ka - ke)) * (np.exp(-ke * ts) - np.exp(-ka * ts))

        best, _ = curve_fit(law, item.ts, item.ys[:, 0], p0=np.log([1.5, 0.08, 0.5]))
        np.testing.assert_allclose(found, np.exp(best), rtol=2e-3)


@pytest.mark.slow
def test_input_delay(tmp_path):
    printed = run("input_delay.py", tmp_path, "--quick")
    constants = dict(re.findall(r"^(\w+) +([\d.]+) \(true", printed, re.MULTILINE))
    found = [float(constants[name]) for name in ("gain", "tau", "delay")]
    np.testing.assert_allclose(found, [1.8, 3.0, 4.5], rtol=0.05)
    late, early = map(
        float, re.search(r"with a delay ([\d.]+), without ([\d.]+)", printed).groups()
    )
    assert 10 * late < early


@pytest.mark.slow
def test_feed_design(tmp_path):
    printed = run("feed_design.py", tmp_path, "--quick")
    spread = [float(text) for text in re.findall(r"deviation ([\d.]+)", printed)]
    assert spread[1] < 0.95 * spread[0]
    first, last = map(float, re.search(r"error ([\d.]+) to ([\d.]+)", printed).groups())
    assert last < 0.9 * first


@pytest.mark.slow
def test_predictive_control(tmp_path):
    pytest.importorskip("casadi")
    printed = run("predictive_control.py", tmp_path, "--quick")
    # Of steps of 0.1 and 0.2; the noise is 0.01.
    assert float(re.search(r"c is ([\d.]+) mol/l off", printed).group(1)) < 0.015
    assert float(re.search(r"estimates: c ([\d.]+)", printed).group(1)) < 0.01
    feed, truth = re.search(r"feed ([\d.]+) mol/l at the end, truth ([\d.]+)", printed).groups()
    assert float(feed) == pytest.approx(float(truth), abs=0.03)


@pytest.mark.slow
def test_manifold(tmp_path):
    printed = run("manifold.py", tmp_path, "--quick")
    off, size = map(float, re.search(r"law.*off by ([\d.]+) of ([\d.]+)", printed).groups())
    assert off < 0.1 * size
    assert float(re.search(r"levels off by ([\d.]+)", printed).group(1)) < 0.01
    assert float(re.search(r"pressure by ([\d.]+)", printed).group(1)) < 0.05


def write(path, header, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


@pytest.mark.slow
def test_cascaded_tanks(tmp_path):
    """On a made-up record in the place of the real one, which is not part of the project."""
    ts = 4.0 * np.arange(260)
    rows = []
    for part, phase in (("train", 0.0), ("test", 1.0)):
        us = 2.5 + np.sin(ts / 60 + phase) + 0.5 * np.sin(ts / 23)
        ys = 5 + 2 * np.sin(ts / 60 + phase - 0.9) + 0.3 * np.sin(ts / 23 - 1.2)
        columns = zip(range(260), ts, us, ys, strict=True)
        rows += [[part, *row] for row in columns]
    write(tmp_path / "cascaded_tanks.csv", ["split", "k", "t_s", "u_V", "y_V"], rows)
    printed = run("cascaded_tanks.py", tmp_path, "--quick", "--data", tmp_path)
    errors = [float(text) for text in re.findall(r"train ([\d.]+) V", printed)]
    assert len(errors) == 2
    assert max(errors) < 0.5


@pytest.mark.slow
def test_silverbox(tmp_path):
    """On a simulated Duffing oscillator."""
    ts = np.arange(900) / 610.35
    us = 0.03 * np.sin(2 * np.pi * (20 + 40 * ts) * ts)

    def oscillator(t, y, args):
        force = args(t) - y[0] - 0.1 * y[1] - 4.0 * y[0] ** 3
        return 430.0 * jnp.stack([y[1], force])

    ys = jc.simulate(oscillator, ts, [0.0, 0.0], jc.Input(ts, us, "cubic"))[:, 0]
    parts = ["train"] * 700 + ["test"] * 200
    rows = zip(parts, range(900), ts, us, np.asarray(ys), strict=True)
    write(tmp_path / "silverbox_4096.csv", ["split", "k", "t_s", "u_V", "y_V"], rows)
    printed = run("silverbox.py", tmp_path, "--quick", "--data", tmp_path)
    assert float(re.search(r"test ([\d.]+) mV", printed).group(1)) < 2.0


@pytest.mark.slow
def test_catechol(tmp_path):
    """On yields of a made-up reaction in five solvents."""
    rng = np.random.default_rng(0)
    rows, table = [], []
    for name in "ABCDE":
        descriptors = rng.normal(size=13)
        table.append([name, *descriptors])
        for celsius in (175.0, 225.0):
            rate = 0.05 * np.exp(0.3 * descriptors[0] + (celsius - 200) / 25)
            for minutes in (2.0, 7.0, 15.0):
                left = np.exp(-rate * minutes)
                rows.append([0, name, minutes, celsius, left, 0.5 * (1 - left), 0.3 * (1 - left)])
    header = ["exp", "solvent", "t_min", "T_C", "SM", "P2", "P3"]
    write(tmp_path / "catechol.csv", header, rows)
    write(tmp_path / "catechol_spange.csv", ["SOLVENT NAME", *map(str, range(13))], table)
    printed = run("catechol.py", tmp_path, "--quick", "--data", tmp_path)
    assert "2 folds of 30 conditions" in printed
    assert printed.count("successful") == 2
    assert float(re.search(r"mean ([\d.]+)", printed).group(1)) < 0.03


@pytest.mark.parametrize(
    "script",
    [
        "cascaded_tanks.py",
        pytest.param("catechol.py", marks=pytest.mark.slow),
        pytest.param("silverbox.py", marks=pytest.mark.slow),
    ],
)
def test_asks_for_the_data(script, tmp_path):
    command = [sys.executable, ROOT / "examples" / script]
    environment = {k: v for k, v in os.environ.items() if k != "JAXCOLLOC_DATA"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 1
    assert "Pass --data DIR or set JAXCOLLOC_DATA" in done.stderr
