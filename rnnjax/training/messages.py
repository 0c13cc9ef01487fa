"""What process 0 sends to the others, as bytes that cannot run code: JSON, and arrays beside it.

A value is None, a truth value, a number, a text, a NumPy array, or a list, tuple or dictionary with
text as keys of such values. An error is the name of a known type, and its message.
"""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from rnnjax.runs import arrays_from_bytes, arrays_to_bytes

BUILT_IN: tuple[type[Exception], ...] = (
    *(ArithmeticError, AssertionError, AttributeError, EOFError, ImportError, IndexError, KeyError),
    *(LookupError, MemoryError, ModuleNotFoundError, NotImplementedError, OSError, OverflowError),
    *(FileExistsError, FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError),
    *(RuntimeError, TypeError, ValueError, ZeroDivisionError),
)
"""The types of errors that are sent as what they are, beside those that the caller names."""


def encode_value(value: Any) -> bytes:
    """Return a value as bytes.

    Raises:
        TypeError: it holds something that is no such value; the message says what.
    """
    arrays: list[np.ndarray] = []
    return _pack({"value": _plain(value, arrays)}, arrays)


def encode_error(error: Exception, types: Sequence[type[Exception]]) -> bytes:
    """Return an error as bytes: the nearest known type that it is of, and its message.

    Args:
        types: that are known beside the built-in ones.
    """
    message = str(error.args[0]) if len(error.args) == 1 else str(error)
    known = _known(types)
    for kind in type(error).__mro__:
        if kind in known.values():
            return _pack({"error": kind.__name__, "message": message}, [])
    return _pack({"error": "RuntimeError", "message": f"{type(error).__name__}: {message}"}, [])


def decode(data: bytes, types: Sequence[type[Exception]]) -> tuple[Any, Exception | None]:
    """Return the value, or else None and the error, that was encoded.

    Args:
        types: as in `encode_error`.

    Raises:
        ValueError: the bytes are neither.
    """
    try:
        size = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + size])
        if "error" in header:
            return None, _known(types)[header["error"]](str(header["message"]))
        arrays = arrays_from_bytes(data[8 + size :])
        return _value(header["value"], arrays), None
    except (LookupError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"process 0 has sent what is no message: {error!r}") from error


def _pack(header, arrays):
    text = json.dumps(header).encode()
    named = {str(i): array for i, array in enumerate(arrays)}
    return len(text).to_bytes(8, "little") + text + arrays_to_bytes(named)


def _known(types):
    return {kind.__name__: kind for kind in (*BUILT_IN, *types)}


def _plain(value, arrays):
    """Return a value as JSON holds it, `[kind, *parts]` if it has parts; append its arrays."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if type(value) in (list, tuple):
        return [type(value).__name__, *(_plain(part, arrays) for part in value)]
    if type(value) is dict and all(type(key) is str for key in value):
        return ["dict", {key: _plain(part, arrays) for key, part in value.items()}]
    if type(value) is np.ndarray and not value.dtype.hasobject:
        arrays.append(value)
        return ["array", len(arrays) - 1]
    raise TypeError(
        "what the first process sends to the others must be None, numbers, texts, NumPy arrays, or "
        f"lists, tuples and dictionaries of them, got {type(value).__name__}"
    )


def _value(plain, arrays):
    """Return the value that `_plain` was given."""
    if not isinstance(plain, list):
        return plain
    kind, *parts = plain
    if kind == "array":
        return arrays[str(parts[0])]
    if kind == "dict":
        return {key: _value(part, arrays) for key, part in parts[0].items()}
    return {"list": list, "tuple": tuple}[kind](_value(part, arrays) for part in parts)
