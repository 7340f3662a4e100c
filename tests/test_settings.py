"""Settings and fingerprints: equal where two problems are the same, else different."""

import functools
import subprocess
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import Net

import jaxcolloc as jc
from jaxcolloc._fingerprint import fingerprint


def scaled(factor):
    return lambda t, y, args: factor * y


class Sensor(eqx.Module):
    gain: float

    def __call__(self, t, y, args):
        return self.gain * y


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (1.0, 1.0, True),
        (1.0, 1, True),
        (1e-3, np.float64(1e-3), True),
        (1, True, False),
        (range(3), range(4), False),
        ({1, 2}, {2, 1}, True),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        (np.ones(3), np.ones(3), True),
        (np.ones(3), jnp.ones(3, jnp.float32), False),
        (np.ones(3), np.ones((3, 1)), False),
        ([1, 2], (1, 2), True),
        ({"a": 1}, {"a": 2}, False),
        (None, False, False),
        (scaled(2.0), scaled(2.0), True),
        (scaled(2.0), scaled(3.0), False),
        (lambda t, y, args: y, lambda t, y, args: -y, False),
        (functools.partial(max, 1), functools.partial(max, 2), False),
        (Sensor(2.0), Sensor(2.0), True),
        (Sensor(2.0), Sensor(2.5), False),
        (Sensor(2.0).__call__, Sensor(2.5).__call__, False),
        (jnp.tanh, jnp.sin, False),
        (np.sin, np.cos, False),
        (jax.random.key(0), jax.random.key(1), False),
        (jc.Unknown(1.0), jc.Unknown(1.0, scale="log"), False),
        (jc.Radau(3), jc.Radau(4), False),
        (jc.Input([0, 1], [1, 2]), jc.Input([0, 1], [1, 2], kind="hold"), False),
        (Net(2, 3), Net(2, 3), True),
        (Net(2, 3), Net(2, 3, seed=1), False),
    ],
)
def test_fingerprints_tell_what_differs(one, other, same):
    assert (fingerprint(one) == fingerprint(other)) is same


def test_something_that_holds_itself_has_a_fingerprint():
    item = [1]
    item.append(item)
    assert fingerprint(item) == fingerprint(item)


def test_fingerprints_are_the_same_in_every_process():
    code = (
        "from jaxcolloc._fingerprint import fingerprint; import jaxcolloc as jc, numpy as np\n"
        "tree = {'a': np.arange(3.0), 'b': lambda x: x in {'one', 'two', 'three'},"
        " 'c': jc.Radau(3), 'd': frozenset('abcdef')}\n"
        "print(fingerprint(tree))"
    )
    texts = set()
    for seed in ("1", "2"):
        command = [sys.executable, "-c", code]
        run = subprocess.run(
            command, capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
        )
        texts.add(run.stdout)
    assert len(texts) == 1


def test_settings_are_equal_where_they_ask_for_the_same():
    one = jc.Settings(l2=1e-2, observe=scaled(2.0), weight_bounds=(np.zeros(2), 1.0))
    same = jc.Settings(l2=1e-2, observe=scaled(2.0), weight_bounds=(np.zeros(2), 1.0))
    assert one == same
    assert hash(one) == hash(same)
    for change in ({"l2": 0.0}, {"observe": scaled(3.0)}, {"collocate_start": True}):
        assert one != one.changed(**change)
        assert one | change == same.changed(**change)


def test_settings_are_passed_on_as_keywords():
    data = jc.Trajectory(np.linspace(0, 1, 5), np.ones((5, 2)))
    grid = jc.Grid.uniform(0.0, 1.0, 2, jc.Radau(2))
    nlp = jc.transcribe(Net(2, 3), data, grid, l2=1e-2, state_bounds=(-5, 5))
    assert nlp.settings["l2"] == 1e-2
    again = jc.transcribe(Net(2, 3), data, grid, **(nlp.settings | {"l2": 0.5}))
    assert again.settings == nlp.settings.changed(l2=0.5)
    np.testing.assert_array_equal(again.bounds[1], nlp.bounds[1])
    with pytest.raises(KeyError):
        nlp.settings["nothing"]


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match="`residual_penalty`"):
        jc.Settings(residual_penalty=-1.0)


def test_unknown_options_are_named():
    data = jc.Trajectory(np.linspace(0, 1, 9), np.ones((9, 2)))
    with pytest.raises(ValueError, match=r"`options` must be those of jc.transcribe; got colour"):
        jc.fit(Net(2, 3), data, colour="red")
    with pytest.raises(ValueError, match=r"but for residual_penalty and collocate_start"):
        jc.fine_tune(Net(2, 3), data, collocate_start=True)
