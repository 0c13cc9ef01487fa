"""What process 0 sends to the others: values and errors come back, and no bytes run code."""

import io
import json
import pickle
from pathlib import Path

import hypothesis
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from rnnjax.command_line import ArgumentError
from rnnjax.runs import LockedError, Run, atomic_files
from rnnjax.training import multihost
from rnnjax.training.messages import decode, encode_error, encode_value

ATOMS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
TYPES = [np.dtype(name) for name in ("bool", "int32", "uint8", "float64", "complex64", "U3")]
ARRAYS = st.sampled_from(TYPES).flatmap(
    lambda kind: arrays.arrays(kind, arrays.array_shapes(min_dims=0, min_side=0, max_side=3))
)
VALUES = st.recursive(
    ATOMS | ARRAYS,
    lambda part: (
        st.lists(part) | st.lists(part).map(tuple) | st.dictionaries(st.text(max_size=3), part)
    ),
    max_leaves=8,
)
KNOWN = ArgumentError, LockedError


def same(a, b):
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


@hypothesis.settings(max_examples=60, deadline=None)
@hypothesis.given(VALUES)
def test_a_value_comes_back_as_it_was(value):
    found, error = decode(encode_value(value), ())
    assert error is None
    assert same(found, value), (found, value)


def test_a_type_that_numpy_does_not_have_comes_back():
    half = np.asarray(jnp.arange(3, dtype=jnp.bfloat16))
    found, _ = decode(encode_value([{"observed 0": half}, float("nan")]), ())
    assert same(found[0]["observed 0"], half)
    assert np.isnan(found[1])


class OwnError(OSError):
    pass


class UnrelatedError(Exception):
    pass


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (ArgumentError("--out: no"), ArgumentError, "--out: no"),
        (LockedError("run: locked"), LockedError, "run: locked"),
        (KeyError("name"), KeyError, "'name'"),
        (
            FileNotFoundError(2, "no such file", "a"),
            FileNotFoundError,
            "[Errno 2] no such file: 'a'",
        ),
        (OwnError("full"), OSError, "full"),
        (
            UnicodeDecodeError("utf-8", b"\xff", 0, 1, "no"),
            ValueError,
            "'utf-8' codec can't decode",
        ),
        (UnrelatedError("why"), RuntimeError, "UnrelatedError: why"),
        (ValueError(), ValueError, ""),
    ],
)
def test_an_error_is_of_a_known_type_and_has_its_message(error, kind, message):
    value, found = decode(encode_error(error, KNOWN), KNOWN)
    assert value is None
    assert type(found) is kind
    assert str(found).startswith(message) and bool(message) == bool(str(found))


@pytest.mark.parametrize(
    "value", [object(), {1: 2}, {"run": Run(Path("a"))}, np.array([None]), {3}]
)
def test_what_is_no_value_is_refused_by_its_sender(value):
    with pytest.raises(TypeError, match="must be None, numbers, texts, NumPy arrays, or lists"):
        encode_value(value)


class Touches:
    """Unpickling it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return self.path.touch, ()


def message(header, rest=None):
    text = json.dumps(header).encode()
    end = encode_value(None)
    rest = end[8 + int.from_bytes(end[:8], "little") :] if rest is None else rest
    return len(text).to_bytes(8, "little") + text + rest


NO_MESSAGES = {
    "empty": b"",
    "no JSON": b"\x05" + bytes(7) + b"hello",
    "another object": message({}),
    "a list": message([]),
    "an error of a type that is not known": message({"error": "SystemExit", "message": "0"}),
    "a kind that is not known": message({"value": ["eval", "1"]}),
    "no such array": message({"value": ["array", 3]}),
    "deep": message({"value": None}).replace(b"null", b"[" * 100_000),
    "no arrays": message({"value": None}, b"nothing"),
}


@pytest.mark.parametrize("what", NO_MESSAGES)
def test_what_is_no_message_is_a_value_error(what):
    with pytest.raises(ValueError, match="process 0 has sent what is no message"):
        decode(NO_MESSAGES[what], KNOWN)


@pytest.fixture
def second(monkeypatch):
    """Make this process the second of a program; return a function that sets what it is sent."""
    monkeypatch.setattr(multihost, "_several", lambda: True)
    monkeypatch.setattr(multihost, "is_first_process", lambda: False)
    return lambda data: monkeypatch.setattr(multihost, "_first_bytes", lambda own: data)


def never():
    raise AssertionError("only the first process acts")


def test_the_others_return_and_raise_what_the_first_did(second):
    second(encode_value(("run", True, None)))
    assert multihost.on_first_process(never) == ("run", True, None)
    second(encode_error(LockedError("a is locked"), KNOWN))
    with pytest.raises(LockedError, match="^a is locked$"):
        multihost.on_first_process(never, errors=KNOWN)


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_pickle_does_not_run(wrapped, second, tmp_path):
    path = tmp_path / "ran"
    pickled = pickle.dumps((Touches(path), None))
    second(message({"value": ["array", 0]}, pickled) if wrapped else pickled)
    with pytest.raises(ValueError, match="process 0 has sent what is no message"):
        multihost.on_first_process(never)
    assert not path.exists()
    pickle.loads(pickled)
    assert path.exists()  # as it would have


def test_an_array_of_objects_does_not_run(second, tmp_path):
    path, file = tmp_path / "ran", io.BytesIO()
    np.savez(file, **{":0": np.array([Touches(path)], object)})
    path.unlink(missing_ok=True)  # NumPy's writer does not run it, but be sure
    data = file.getvalue()
    second(message({"value": ["array", 0]}, data + atomic_files._checksum(data)))
    with pytest.raises(ValueError, match="Object arrays cannot be loaded"):
        multihost.on_first_process(never)
    assert not path.exists()


def test_a_result_that_cannot_be_sent_is_an_error_of_the_first_process_too(second, monkeypatch):
    monkeypatch.setattr(multihost, "is_first_process", lambda: True)
    monkeypatch.setattr(multihost, "_first_bytes", lambda own: own)
    with pytest.raises(TypeError, match="got set"):
        multihost.on_first_process(lambda: {1})
    own = KeyError("own")
    with pytest.raises(KeyError) as raised:
        multihost.on_first_process(lambda: (_ for _ in ()).throw(own))
    assert raised.value is own
