"""Readers of GloVe's and word2vec's files."""

import contextlib
import gzip
import itertools
import math
import os
import re
import warnings
import zlib
from array import array
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from rnnjax.word_vectors.keyed import KeyedVectors, keyed, load_gensim

Entry = tuple[str, bytes, array]  # its place in the file, the bytes of the word, its numbers
ENDS_IN_A_NUMBER = re.compile(r"[ \t][-+]?[0-9]*\.?[0-9]+(e[-+]?[0-9]+)?$", re.I)
ERRORS = "strict", "replace", "ignore", "backslashreplace"


def read_glove(
    path: str | os.PathLike, *, limit: int | None = None, errors: str = "strict"
) -> KeyedVectors:
    """Read the first `limit` lines (None: all) of a GloVe text file, `word v1 .. vD` in UTF-8.

    The first line, whose word contains no space, determines D; later words may contain spaces, as
    in glove.840B. A repeated word keeps its first vector. Files named .gz or .bz2 are unpacked. A
    file that was cut within the last digits of a line looks complete.

    Args:
        path: of the file.
        limit: how many lines to read.
        errors: what becomes of bytes in a word that are not UTF-8, as for Python's `bytes.decode`:
            "strict" refuses them, "replace" reads U+FFFD in their place, "ignore" leaves them out,
            "backslashreplace" spells them out (\\xef). Words that become equal by it are repeated
            words, and a warning says how many were left out.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: `limit` is not positive, or `errors` is none of these; or, with path and line:
            the file is empty, a line has different D from the first, a number is malformed, NaN or
            infinite, or, with "strict", a word is not UTF-8.

    Source: Pennington, Socher, Manning 2014, "GloVe: Global vectors for word representation".
    """
    with _reading(path, limit, errors) as file:
        first = file.readline()
        if not first:
            raise ValueError("the file is empty")
        size = first.rstrip().count(b" ")
        if not size:
            raise ValueError("line 1 must be a word and its numbers, separated by single spaces")
        entries = _text(itertools.chain([first], file), size, 1)
        return _collect(path, entries, size, limit, errors)


def read_word2vec(
    path: str | os.PathLike,
    *,
    binary: bool | None = None,
    limit: int | None = None,
    errors: str = "strict",
) -> KeyedVectors:
    """Read the first `limit` words (None: all) of a file in word2vec's format, text or binary.

    A header `V D` is followed by V times `word v1 .. vD`: a line of text, or little-endian float32
    numbers with or without a line break after them. Anything after word V is not read.
    Repeated words, packed files and cut digits (in text) are treated as in `read_glove`.

    Args:
        path, limit, errors: as for `read_glove`. word2vec itself cuts long words anywhere, so that
            its files, such as the vectors of Google News, may need "replace".
        binary: None means binary if the name ends in .bin or .bin.gz.

    Raises:
        FileNotFoundError, ValueError: as `read_glove`; also for a header that is not two positive
            integers, and a file that ends before word V is complete.

    Source: Mikolov, Chen, Corrado, Dean 2013, "Efficient estimation of word representations in
    vector space", and its code.
    """
    if binary is None:
        binary = os.fspath(path).endswith((".bin", ".bin.gz"))
    with _reading(path, limit, errors) as file:
        header = file.readline(100)
        if not header:
            raise ValueError("the file is empty")
        found = re.fullmatch(rb"([1-9]\d{0,11}) ([1-9]\d{0,6})\s*", header)
        if not found:
            shown = header.decode(errors="replace").strip()[:40]
            raise ValueError(f"line 1 must be two positive integers, V and D, got {shown!r}")
        count, size = map(int, found.groups())
        entries = _binary(file, size) if binary else _text(file, size, 2)
        return _collect(path, entries, size, min(count, limit or count), errors, count)


@contextlib.contextmanager
def _reading(path, limit, errors) -> Iterator[Any]:
    """Open a file, unpacked, and name it in errors. (abspath: addresses are not opened.)"""
    if errors not in ERRORS:
        raise ValueError(f"errors must be one of {', '.join(map(repr, ERRORS))}, got {errors!r}")
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be None or at least 1, got {limit}")
    try:
        with load_gensim().utils.open(os.path.abspath(path), "rb") as file:
            yield file
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path}: damaged compressed file: {error}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _text(lines: Iterable[bytes], size: int, start: int) -> Iterator[Entry]:
    """Yield the entries of lines, the first of which is the file's line `start`."""
    for number, line in enumerate(lines, start):
        try:
            text = line.rstrip().decode(errors="surrogateescape")  # lossless
            word, *numbers = text.rsplit(" ", size)
            values = array("f", map(float, numbers))
            if len(values) < size or ENDS_IN_A_NUMBER.search(word):
                raise ValueError(f"expected a word and {size} numbers, as line 1 says")
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
        yield f"line {number}", word.encode(errors="surrogateescape"), values


def _binary(file: Any, size: int) -> Iterator[Entry]:
    """Yield the complete entries of the file."""
    for number in itertools.count(1):
        letters = bytearray()
        while (letter := file.read(1)) not in (b" ", b""):
            letters += letter
        numbers = file.read(4 * size)
        if len(numbers) < 4 * size:
            return
        yield f"word {number}", bytes(letters.lstrip(b"\n")), array("f", numbers)


def _collect(
    path: Any,
    entries: Iterable[Entry],
    size: int,
    most: int | None,
    errors: str,
    promised: int = 0,
) -> KeyedVectors:
    """Return the first `most` entries as vectors; all must exist if a header promised them."""
    index, values, altered, seen, lost = {}, array("f"), {}, 0, 0
    for place, letters, numbers in itertools.islice(entries, most):
        seen += 1
        try:
            word = letters.decode(errors=errors)
        except UnicodeDecodeError as error:
            remedy = "errors='replace' reads such words"
            raise ValueError(f"{place}: {error}, of the word {letters!r}; {remedy}") from None
        if not math.isfinite(sum(numbers)):
            raise ValueError(f"{place}, {word!r}, has a NaN or infinite number")
        if word in index:
            lost += letters != altered.get(word, word.encode())
        else:
            index[word] = len(index)
            values.extend(numbers)
            if letters != word.encode():
                altered[word] = letters
    if promised and seen != most:
        raise ValueError(f"the file ends after {seen} of {promised} words")
    if lost:
        warnings.warn(
            f"{path}: words that are equal to an earlier one with errors={errors!r}, and were "
            f"left out: {lost}; errors='backslashreplace' keeps them apart",
            stacklevel=3,
        )
    return keyed(index, np.frombuffer(values, np.float32).reshape(-1, size))
