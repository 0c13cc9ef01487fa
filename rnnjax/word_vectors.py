"""Pretrained word vectors for an embedding table; neighbours and analogies in a trained one.

The vectors are gensim's `KeyedVectors`, so that everything in gensim works with them. The readers
are ours. gensim's readers copy a line's only number to all D places, report a binary file as cut
if a word within `limit` is repeated, accept NaN, and name neither file nor line.

Axis letters: V words, D numbers per word. gensim is imported when a function first needs it; if it
is missing, that function raises an ImportError.
"""

import contextlib
import gzip
import itertools
import math
import os
import re
import zlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float32, PRNGKeyArray

KeyedVectors = Any  # gensim's, which importing this module does not load
Entry = tuple[str, str, array]  # its place in the file, the word, its numbers
ENDS_IN_A_NUMBER = re.compile(r"[ \t][-+]?[0-9]*\.?[0-9]+(e[-+]?[0-9]+)?$", re.I)


def read_glove(path: str | os.PathLike, *, limit: int | None = None) -> KeyedVectors:
    """Read the first `limit` lines (None: all) of a GloVe text file, `word v1 .. vD` in UTF-8.

    The first line, whose word contains no space, determines D; later words may contain spaces, as
    in glove.840B. A repeated word keeps its first vector. Files named .gz or .bz2 are unpacked. A
    file that was cut within the last digits of a line looks complete.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: `limit` is not positive; or, with path and line: the file is empty, a line has
            different D from the first, a number is malformed, NaN or infinite, or the text is not
            UTF-8.

    Source: Pennington, Socher, Manning 2014, "GloVe: Global vectors for word representation".
    """
    with _reading(path, limit) as file:
        first = file.readline()
        if not first:
            raise ValueError("the file is empty")
        size = first.rstrip().count(b" ")
        if not size:
            raise ValueError("line 1 must be a word and its numbers, separated by single spaces")
        return _collect(_text(itertools.chain([first], file), size, 1), size, limit)


def read_word2vec(
    path: str | os.PathLike, *, binary: bool | None = None, limit: int | None = None
) -> KeyedVectors:
    """Read the first `limit` words (None: all) of a file in word2vec's format, text or binary.

    A header `V D` is followed by V times `word v1 .. vD`: a line of text, or little-endian float32
    numbers with or without a line break after them. Anything after word V is not read.
    Repeated words, packed files and cut digits (in text) are treated as in `read_glove`.

    Args:
        path, limit: as for `read_glove`.
        binary: None means binary if the name ends in .bin or .bin.gz.

    Raises:
        FileNotFoundError, ValueError: as `read_glove`; also for a header that is not two positive
            integers, and a file that ends before word V is complete.

    Source: Mikolov, Chen, Corrado, Dean 2013, "Efficient estimation of word representations in
    vector space", and its code.
    """
    if binary is None:
        binary = os.fspath(path).endswith((".bin", ".bin.gz"))
    with _reading(path, limit) as file:
        header = file.readline(100)
        if not header:
            raise ValueError("the file is empty")
        found = re.fullmatch(rb"([1-9]\d{0,11}) ([1-9]\d{0,6})\s*", header)
        if not found:
            shown = header.decode(errors="replace").strip()[:40]
            raise ValueError(f"line 1 must be two positive integers, V and D, got {shown!r}")
        count, size = map(int, found.groups())
        entries = _binary(file, size) if binary else _text(file, size, 2)
        return _collect(entries, size, min(count, limit or count), count)


def from_table(words: Sequence[str], table: ArrayLike) -> KeyedVectors:
    """Return a copy of a trained embedding `[V, D]` as the vectors of its words, in float32.

    Raises:
        ValueError: the shapes do not fit, a word is repeated, a number is NaN or infinite.
    """
    index, rows = _index(words, "words"), np.array(table, np.float32)
    if rows.ndim != 2 or len(rows) != len(index) or not rows.size:
        raise ValueError(f"table must have shape ({len(index)}, D), got {rows.shape}")
    if not np.isfinite(rows).all():
        raise ValueError("table must be finite, got NaN or infinite numbers")
    return _keyed(index, rows)


def table(
    vectors: KeyedVectors,
    vocabulary: Sequence[str],
    *,
    key: PRNGKeyArray,
    unknown_scale: float | int | None = None,
) -> tuple[Float32[Array, "V D"], list[str]]:
    """Return the rows of an embedding table for `vocabulary`, and the unknown words.

    A word missing from `vectors` is looked up in lower case. If that is missing too, its row i is
    drawn from N(0, s^2) with `fold_in(key, i)`: words added at the end change no earlier row.

    Args:
        unknown_scale: s; 0 gives zeros, None the standard deviation of all entries of `vectors`.

    Raises:
        ValueError: `vocabulary` is empty or repeats a word, `unknown_scale` is negative or not
            finite.
    """
    if unknown_scale is not None and not 0 <= unknown_scale < math.inf:
        raise ValueError(f"unknown_scale must be finite and at least 0, got {unknown_scale}")
    known, size = vectors.key_to_index, vectors.vector_size
    index = [known.get(w, known.get(w.lower(), -1)) for w in _index(vocabulary, "vocabulary")]
    rows = np.array(vectors.vectors[index], np.float32)
    unknown = [i for i, row in enumerate(index) if row < 0]
    if unknown:
        scale = vectors.vectors.std() if unknown_scale is None else unknown_scale

        def draw(i):
            return jax.random.normal(jax.random.fold_in(key, i), (size,), jnp.float32)

        # Not vmap, under which rows of "rbg" keys depend on each other.
        rows[unknown] = scale * np.asarray(lax.map(draw, jnp.array(unknown)))
    return jnp.asarray(rows), [vocabulary[i] for i in unknown]


def nearest(
    vectors: KeyedVectors, word_or_vector: str | ArrayLike, count: int = 10
) -> list[tuple[str, float]]:
    """Return the `count` words nearest to a word (without itself) or a vector `[D]`, by cosine.

    The nearest comes first, with its cosine; the order of ties is unspecified. The cosine with a
    zero vector is 0: to achieve that, `vectors.norms`, gensim's lengths, are set to 1 there.

    Raises:
        ValueError: the word is not known; the vector has another shape or is not finite; `count`
            is not positive.
    """
    if isinstance(word_or_vector, str):
        _prepare(vectors, count, word_or_vector)
        return vectors.most_similar(word_or_vector, topn=count)
    _prepare(vectors, count)
    vector = np.asarray(word_or_vector, np.float64)
    if vector.shape != (vectors.vector_size,) or not np.isfinite(vector).all():
        raise ValueError(
            f"word_or_vector must be a word or {vectors.vector_size} finite numbers, "
            f"got shape {vector.shape}"
        )
    return vectors.similar_by_vector(vector / (np.linalg.norm(vector) or 1), topn=count)


def analogy(
    vectors: KeyedVectors, a: str, b: str, c: str, count: int = 10
) -> list[tuple[str, float]]:
    """Return the `count` words that are to c as b is to a, best first, with their cosines.

        argmax over words d, other than a, b and c, of cos(d, b - a + c),    all of length one

    Ties and zero vectors are treated as in `nearest`.

    Raises:
        ValueError: a word is not known, or `count` is not positive.

    Source: Mikolov, Yih, Zweig 2013, "Linguistic regularities in continuous space word
    representations"; 3CosAdd in Levy, Goldberg 2014, "Linguistic regularities in sparse and
    explicit word representations".
    """
    _prepare(vectors, count, a, b, c)
    return vectors.most_similar(positive=[b, c], negative=[a], topn=count)


def _gensim():
    try:
        import gensim.models
        import gensim.utils
    except ImportError as error:
        raise ImportError("word vectors need gensim: pip install 'rnnjax[words]'") from error
    return gensim


@contextlib.contextmanager
def _reading(path, limit) -> Iterator[Any]:
    """Open a file, unpacked, and name it in errors. (abspath: addresses are not opened.)"""
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be None or at least 1, got {limit}")
    try:
        with _gensim().utils.open(os.path.abspath(path), "rb") as file:
            yield file
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path}: damaged compressed file: {error}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _text(lines: Iterable[bytes], size: int, start: int) -> Iterator[Entry]:
    """Yield the entries of lines, the first of which is the file's line `start`."""
    for number, line in enumerate(lines, start):
        try:
            word, *numbers = line.rstrip().decode().rsplit(" ", size)
            values = array("f", map(float, numbers))
            if len(values) < size or ENDS_IN_A_NUMBER.search(word):
                raise ValueError(f"expected a word and {size} numbers, as line 1 says")
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
        yield f"line {number}", word, values


def _binary(file: Any, size: int) -> Iterator[Entry]:
    """Yield the complete entries of the file."""
    for number in itertools.count(1):
        letters = bytearray()
        while (letter := file.read(1)) not in (b" ", b""):
            letters += letter
        numbers = file.read(4 * size)
        if len(numbers) < 4 * size:
            return
        try:
            yield f"word {number}", letters.lstrip(b"\n").decode(), array("f", numbers)
        except UnicodeDecodeError as error:
            raise ValueError(f"word {number}: {error}") from None


def _collect(entries: Iterable[Entry], size: int, most: int | None, promised: int = 0):
    """Return the first `most` entries as vectors; all must exist if a header promised them."""
    index, values, seen = {}, array("f"), 0
    for place, word, numbers in itertools.islice(entries, most):
        seen += 1
        if not math.isfinite(sum(numbers)):
            raise ValueError(f"{place}, {word!r}, has a NaN or infinite number")
        if word not in index:
            index[word] = len(index)
            values.extend(numbers)
    if promised and seen != most:
        raise ValueError(f"the file ends after {seen} of {promised} words")
    return _keyed(index, np.frombuffer(values, np.float32).reshape(-1, size))


def _keyed(index, rows):
    vectors: Any = _gensim().models.KeyedVectors(rows.shape[1])
    vectors.key_to_index, vectors.index_to_key, vectors.vectors = index, list(index), rows
    return vectors


def _index(words, name):
    """Return the number of each word."""
    index = {}
    for word in words:
        if word in index:
            raise ValueError(f"{name} must not repeat a word, but {word!r} appears twice")
        index[word] = len(index)
    if not index:
        raise ValueError(f"{name} must hold at least one word")
    return index


def _prepare(vectors, count, *words):
    """Check the arguments, and replace zero lengths, by which gensim would divide."""
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    for word in words:
        if word not in vectors.key_to_index:
            raise ValueError(
                f"word {word!r} is not among the {len(vectors)} words of these vectors"
            )
    rows, norms = vectors.vectors, vectors.norms
    if norms is None or len(norms) != len(rows):  # words were added; gensim does not notice
        squares = np.einsum("vd,vd->v", rows, rows, dtype=np.float64)  # float32 would overflow
        norms = np.sqrt(squares).astype(np.float32)
    vectors.norms = np.where(norms > 0, norms, np.float32(1))
