"""Words whose bytes are not UTF-8, in files written byte by byte."""

import re
import struct
import warnings

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

gensim = pytest.importorskip("gensim")
from gensim.models import KeyedVectors

from rnnjax.word_vectors import read_glove, read_word2vec

WORDS = [b"the", b"na\xefve", "naïve".encode(), b"\xe5\x8c", b"x\xff\xfey", b"end"]
READ = {
    "replace": ["the", "na\ufffdve", "naïve", "\ufffd", "x\ufffd\ufffdy", "end"],
    "ignore": ["the", "nave", "naïve", "", "xy", "end"],
    "backslashreplace": ["the", r"na\xefve", "naïve", r"\xe5\x8c", r"x\xff\xfey", "end"],
}


def rows(words):
    return np.arange(2.0 * len(words)).reshape(-1, 2)


def glove(words):
    return b"".join(b"%b %d %d\n" % (w, *row) for w, row in zip(words, rows(words), strict=True))


def text(words):
    return b"%d 2\n" % len(words) + glove(words)


def binary(words):
    pairs = zip(words, rows(words), strict=True)
    packed = (w + b" " + struct.pack("<2f", *row) for w, row in pairs)
    return b"%d 2\n" % len(words) + b"".join(packed)


FORMATS = {
    "glove": (glove, read_glove, "g.txt", "line 2"),
    "text": (text, read_word2vec, "w.vec", "line 3"),
    "binary": (binary, read_word2vec, "w.bin", "word 2"),
}
every_format = pytest.mark.parametrize("name", FORMATS)


def reread(directory, name, words, **options):
    write, read, file, _ = FORMATS[name]
    (directory / file).write_bytes(write(words))
    return read(directory / file, **options)


@every_format
@pytest.mark.parametrize("errors", READ)
def test_words_are_read_as_python_decodes_them(name, errors, tmp_path):
    found = reread(tmp_path, name, WORDS, errors=errors)
    assert found.index_to_key == READ[errors]
    np.testing.assert_array_equal(found.vectors, rows(WORDS))
    np.testing.assert_array_equal(found[READ[errors][1]], [2, 3])
    whole = reread(tmp_path, name, [WORDS[0], WORDS[2]], errors=errors)
    assert whole.index_to_key == ["the", "naïve"]


@pytest.mark.parametrize("name", ["text", "binary"])
@pytest.mark.parametrize("errors", ["replace", "ignore"])
def test_gensim_reads_the_same(name, errors, tmp_path):
    words = [w for w in WORDS if w != WORDS[3]]  # "ignore" leaves nothing of it
    got = reread(tmp_path, name, words, errors=errors)
    path = str(tmp_path / FORMATS[name][2])
    options = {"binary": name == "binary", "unicode_errors": errors}
    want = KeyedVectors.load_word2vec_format(path, **options)
    assert got.index_to_key == want.index_to_key
    np.testing.assert_array_equal(got.vectors, want.vectors)


@every_format
def test_by_default_they_are_refused_with_what_to_write(name, tmp_path):
    for options in ({}, {"errors": "strict"}):
        with pytest.raises(ValueError) as caught:
            reread(tmp_path, name, WORDS, **options)
        _, _, file, place = FORMATS[name]
        assert str(caught.value) == (
            f"{tmp_path / file}: {place}: 'utf-8' codec can't decode byte 0xef in position 2: "
            r"invalid continuation byte, of the word b'na\xefve'; errors='replace' reads such words"
        )
    assert len(reread(tmp_path, name, WORDS, limit=1)) == 1  # the others are not read


@every_format
@pytest.mark.parametrize(
    ("errors", "words", "kept", "lost"),
    [
        ("replace", [b"a\xff", b"a\xfe", b"a\xff", b"b", b"a\xfd"], [b"a\xff", b"b"], 2),
        ("replace", ["a\ufffd".encode(), b"a\xfe", b"b"], ["a\ufffd".encode(), b"b"], 1),
        ("ignore", [b"a\xff", b"a", b"a", b"b"], [b"a\xff", b"b"], 2),
        ("ignore", [b"a", b"b", b"a\xff", b"a"], [b"a", b"b"], 1),
        ("backslashreplace", [b"a\xff", rb"a\xff", b"b"], [b"a\xff", b"b"], 1),
        ("replace", [b"a", b"b\xff", b"a", b"b\xff"], [b"a", b"b\xff"], 0),
        ("backslashreplace", [b"a\xff", b"a\xfe", b"b"], [b"a\xff", b"a\xfe", b"b"], 0),
    ],
)
def test_words_that_become_equal_are_counted_in_a_warning(
    name, errors, words, kept, lost, tmp_path
):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = reread(tmp_path, name, words, errors=errors)
    assert found.index_to_key == [w.decode(errors=errors) for w in kept]
    np.testing.assert_array_equal(found.vectors, rows(words)[[words.index(w) for w in kept]])
    path = tmp_path / FORMATS[name][2]
    assert [str(w.message) for w in caught] == [
        f"{path}: words that are equal to an earlier one with errors={errors!r}, and were left "
        f"out: {lost}; errors='backslashreplace' keeps them apart"
    ] * (lost > 0)


@pytest.mark.parametrize("errors", ["strict", *READ])
def test_bytes_within_a_number_are_never_left_out(errors, tmp_path):
    path = tmp_path / "w.vec"
    for wrong in (b"1\xff", b"\xff", "1\ufffd".encode()):
        path.write_bytes(b"2 2\na 1 2\nb 3 " + wrong + b"\n")
        with pytest.raises(ValueError, match="w.vec: line 3: could not convert string to float"):
            read_word2vec(path, errors=errors)


def test_another_way_is_refused_before_the_file_is_opened(tmp_path):
    message = "errors must be one of 'strict', 'replace', 'ignore', 'backslashreplace', got "
    for wrong in ("surrogateescape", "", "Replace"):
        for read in (read_glove, read_word2vec):
            with pytest.raises(ValueError, match=re.escape(message + repr(wrong))):
                read(tmp_path / "nowhere.bin", errors=wrong)


LETTERS = st.binary(min_size=1, max_size=4).filter(lambda w: not re.search(rb"[\s\x1c-\x1f\d]", w))


@given(st.lists(LETTERS, min_size=1, max_size=5), st.sampled_from(sorted(READ)))
def test_any_bytes_are_read_as_python_decodes_them(tmp_path_factory, words, errors):
    directory = tmp_path_factory.getbasetemp()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = [reread(directory, name, words, errors=errors) for name in FORMATS]
    want = {}
    for row, word in enumerate(words):
        want.setdefault(word.decode(errors=errors), row)
    for vectors in found:
        assert vectors.index_to_key == [*want]
        np.testing.assert_array_equal(vectors.vectors, rows(words)[[*want.values()]])
