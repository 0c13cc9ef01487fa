"""Word vectors: files written byte by byte, cosines by brute force, and every way to be wrong."""

import gzip
import struct
import subprocess
import sys

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

gensim = pytest.importorskip("gensim")
from gensim.models import KeyedVectors

from rnnjax import word_vectors
from rnnjax.word_vectors import analogy, from_table, nearest, read_glove, read_word2vec

KEY = jax.random.key(0)
D = 3
WORDS = ["the", "naïve", "北京", "1950", "x\xa0y", "-"]
ROWS = np.array(
    [[0.1, -0.25, 3], [1e-42, -0.0, 3e38], [1 / 3, 2e-7, -5], [1, 2, 3], [0, 0, 0], [7, 8, 9]],
    np.float32,
)


def lines(words, rows):
    """GloVe's text format; sixteen digits give each float32 back."""
    numbers = [" ".join(repr(float(x)) for x in row) for row in rows]
    return "".join(f"{w} {n}\n" for w, n in zip(words, numbers, strict=True)).encode()


def header(rows):
    return "{} {}\n".format(*np.shape(rows)).encode()


def text(words, rows):
    return header(rows) + lines(words, rows)


def binary(words, rows, after=b""):
    packed = [struct.pack(f"<{len(row)}f", *row) for row in np.asarray(rows, np.float32)]
    pairs = zip(words, packed, strict=True)
    return header(rows) + b"".join(w.encode() + b" " + p + after for w, p in pairs)


def binary_lines(words, rows):
    return binary(words, rows, after=b"\n")


FORMATS = {
    "glove": (lines, read_glove, "g.txt"),
    "text": (text, read_word2vec, "w.vec"),
    "binary": (binary, read_word2vec, "w.bin"),
    "binary_lines": (binary_lines, read_word2vec, "w.bin"),
}
every_format = pytest.mark.parametrize("name", FORMATS)
with_header = pytest.mark.parametrize("name", [n for n in FORMATS if n != "glove"])


def reread(directory, name, words, rows, **options):
    write, read, file = FORMATS[name]
    (directory / file).write_bytes(write(words, rows))
    return read(directory / file, **options)


def same(vectors, words, rows):
    assert vectors.index_to_key == list(words)
    assert vectors.key_to_index == {w: i for i, w in enumerate(words)}
    assert len(vectors) == len(words) and vectors.vector_size == np.shape(rows)[1]
    assert vectors.vectors.dtype == np.float32
    assert vectors.vectors.tobytes() == np.asarray(rows, np.float32).tobytes()  # -0.0 is not 0.0
    np.testing.assert_array_equal(vectors[words[-1]], rows[-1])


@every_format
@pytest.mark.parametrize("packed", [False, True])
def test_words_and_numbers_are_read_exactly(name, packed, tmp_path):
    write, read, file = FORMATS[name]
    data, path = write(WORDS, ROWS), tmp_path / file
    if packed:
        data, path = gzip.compress(data), tmp_path / f"{file}.gz"
    path.write_bytes(data)
    same(read(path), WORDS, ROWS)
    same(read(str(path), limit=2), WORDS[:2], ROWS[:2])
    same(read(path, limit=99), WORDS, ROWS)


def test_a_path_is_no_address(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a:b.txt", "a#b?c=%20.txt", "~.txt"):
        (tmp_path / name).write_bytes(lines(WORDS, ROWS))
        same(read_glove(name), WORDS, ROWS)
    with pytest.raises(FileNotFoundError):
        read_glove("http://nowhere.invalid/g.txt")


def test_the_name_or_the_caller_says_what_is_binary(tmp_path):
    path = tmp_path / "vectors.bin"
    path.write_bytes(text(WORDS, ROWS))
    same(read_word2vec(path, binary=False), WORDS, ROWS)
    path = tmp_path / "vectors"
    path.write_bytes(binary(WORDS, ROWS))
    same(read_word2vec(path, binary=True), WORDS, ROWS)


@with_header
def test_gensim_reads_the_same(name, tmp_path):
    got, path = reread(tmp_path, name, WORDS, ROWS), str(tmp_path / FORMATS[name][2])
    want = KeyedVectors.load_word2vec_format(path, binary="binary" in name)
    same(got, want.index_to_key, want.vectors)
    got.save(str(tmp_path / "kept"))
    same(KeyedVectors.load(str(tmp_path / "kept")), WORDS, ROWS)


@pytest.mark.parametrize("name", ["glove", "text"])
def test_words_of_a_text_file_may_have_spaces(name, tmp_path):
    words = [".", ". . .", "at name@domain.com", " ", "0.5 x", "to", ""]
    rows = np.arange(21, dtype=np.float32).reshape(7, D)
    same(reread(tmp_path, name, words, rows), words, rows)


def test_line_ends_of_windows_and_of_fasttext_do_not_matter(tmp_path):
    for end in (b"\r\n", b" \n"):
        path = tmp_path / "ends.txt"
        path.write_bytes(lines(WORDS, ROWS).replace(b"\n", end))
        same(read_glove(path), WORDS, ROWS)
    path.write_bytes(lines(WORDS, ROWS).removesuffix(b"\n"))
    same(read_glove(path), WORDS, ROWS)


@every_format
def test_the_first_of_a_repeated_word_wins_in_silence(name, tmp_path, capfd, caplog):
    words, rows = [*WORDS[:2], WORDS[0], *WORDS[2:]], np.insert(ROWS, 2, 9, axis=0)
    same(reread(tmp_path, name, words, rows), WORDS, ROWS)
    same(reread(tmp_path, name, words, rows, limit=3), WORDS[:2], ROWS[:2])
    same(reread(tmp_path, name, words, rows, limit=4), WORDS[:3], ROWS[:3])
    assert capfd.readouterr() == ("", "")
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


@with_header
def test_a_header_that_says_fewer_is_believed(name, tmp_path):
    write, read, file = FORMATS[name]
    data = write(WORDS, ROWS).replace(b"6 3\n", b"4 3\n", 1)
    (tmp_path / file).write_bytes(data)
    same(read(tmp_path / file), WORDS[:4], ROWS[:4])


THREE, BIG = lines(WORDS[:3], ROWS[:3]), b"9" * 30
PACKED = gzip.compress(text(WORDS, ROWS))
WRONG = [
    ("g.txt", b"", "the file is empty"),
    ("w.vec", b"", "the file is empty"),
    ("w.bin", b"", "the file is empty"),
    ("g.txt", b"word\n", "line 1 must be a word and its numbers"),
    ("g.txt", b"\n", "line 1 must be a word and its numbers"),
    ("g.txt", THREE + b"cut 1 2\n", "line 4: expected a word and 3 numbers, as line 1 says"),
    ("g.txt", THREE + b"cut 1 -", "line 4: could not convert string to float: '-'"),
    ("g.txt", THREE + b"\n", "line 4: expected a word and 3 numbers"),
    ("g.txt", THREE + b"more 1 2 3 4\n", "line 4: expected a word and 3 numbers"),
    ("g.txt", THREE + b"more\t-1e-5 2 3 4\n", "line 4: expected a word and 3 numbers"),
    ("g.txt", b"a 1  2\n", "line 1: could not convert string to float: ''"),
    ("g.txt", THREE + b"a 1 two 3\n", "line 4: could not convert string to float: 'two'"),
    ("g.txt", THREE + b"a 1 nan 3\n", "line 4, 'a', has a NaN or infinite number"),
    ("g.txt", THREE + b"a 1 inf -inf\n", "line 4, 'a', has a NaN or infinite number"),
    ("g.txt", THREE + b"a 1 2 1e39\n", "line 4, 'a', has a NaN or infinite number"),
    ("g.txt", THREE + b"na\xefve 1 2 3\n", "line 4: 'utf-8' codec can't decode byte 0xef"),
    ("g.txt", text(WORDS, ROWS), "line 2: expected a word and 1 numbers, as line 1 says"),
    ("w.vec", THREE, "line 1 must be two positive integers, V and D, got 'the 0.1"),
    ("w.vec", b"0 3\n", "line 1 must be two positive integers, V and D, got '0 3'"),
    ("w.vec", b"3 0\na\nb\nc\n", "line 1 must be two positive integers, V and D, got '3 0'"),
    ("w.vec", b"3 -3\n" + THREE, "line 1 must be two positive integers, V and D, got '3 -3'"),
    ("w.vec", b"3\n" + THREE, "line 1 must be two positive integers, V and D, got '3'"),
    ("w.vec", b"3 3 3\n" + THREE, "line 1 must be two positive integers"),
    ("w.vec", b"3.0 3\n" + THREE, "line 1 must be two positive integers"),
    ("w.vec", b"\xff\xfe\n" + THREE, "line 1 must be two positive integers"),
    ("w.bin", b"3 " + BIG + b"\n", "line 1 must be two positive integers"),
    ("w.vec", b"4 3\n" + THREE, "the file ends after 3 of 4 words"),
    ("w.vec", b"999999999999 3\n" + THREE, "the file ends after 3 of 999999999999 words"),
    ("w.vec", b"4 3\n" + THREE + b"cut 1\n", "line 5: expected a word and 3 numbers"),
    ("w.vec", b"4 3\n" + THREE + b"a 1 x 3\n", "line 5: could not convert string to float: 'x'"),
    ("w.vec", b"4 3\n" + THREE + b"a 1 inf 3\n", "line 5, 'a', has a NaN or infinite number"),
    ("w.vec", b"4 3\n" + THREE + b"\xe5 1 2 3\n", "line 5: 'utf-8' codec can't decode"),
    ("w.bin", binary(WORDS, ROWS)[:-1], "the file ends after 5 of 6 words"),
    ("w.bin", binary(WORDS, ROWS)[:-12], "the file ends after 5 of 6 words"),
    ("w.bin", binary(WORDS, ROWS)[:-13], "the file ends after 5 of 6 words"),
    ("w.bin", binary(WORDS, ROWS)[:-14], "the file ends after 5 of 6 words"),
    ("w.bin", binary_lines(WORDS, ROWS)[:30], "the file ends after 1 of 6 words"),
    ("w.bin", b"999999999999 9999999\na ", "the file ends after 0 of 999999999999 words"),
    ("w.bin", binary(["a"], [[1, np.nan]]), "word 1, 'a', has a NaN or infinite number"),
    ("w.bin", binary(WORDS, ROWS).replace(b"-", b"\xff"), "word 6: 'utf-8' codec can't decode"),
    ("w.vec.gz", PACKED[:-20], "damaged compressed file: Compressed file ended before"),
    ("w.vec.gz", PACKED[:20] + bytes(20) + PACKED[40:], "damaged compressed file: Error -3"),
    ("w.bin.gz", binary(WORDS, ROWS), "damaged compressed file: Not a gzipped file"),
]


@pytest.mark.parametrize(("file", "data", "message"), WRONG)
def test_a_wrong_file_is_named_with_what_is_wrong_and_where(file, data, message, tmp_path):
    path = tmp_path / file
    path.write_bytes(data)
    with pytest.raises(ValueError) as caught:
        (read_glove if file.startswith("g") else read_word2vec)(path)
    assert str(caught.value).startswith(f"{path}: {message}")
    assert "\n" not in str(caught.value)


def test_what_limit_leaves_unread_may_be_wrong(tmp_path):
    for file, read, data in (
        ("g.txt", read_glove, THREE + b"cut 1"),
        ("w.vec", read_word2vec, b"4 3\n" + THREE),
        ("w.bin", read_word2vec, binary(WORDS, ROWS)[:-1]),
    ):
        (tmp_path / file).write_bytes(data)
        same(read(tmp_path / file, limit=3), WORDS[:3], ROWS[:3])
        with pytest.raises(ValueError, match="limit must be None or at least 1, got 0"):
            read(tmp_path / file, limit=0)
        with pytest.raises(FileNotFoundError):
            read(tmp_path / f"no-{file}")


PIECES = st.text(st.characters(exclude_categories=["Cs", "Cc", "Z", "N"]), min_size=1, max_size=4)
SPACED = st.lists(PIECES, min_size=1, max_size=3).map(" ".join)
NUMBERS = st.floats(width=32, allow_nan=False, allow_infinity=False)


@st.composite
def vocabularies(draw):
    rest = draw(st.lists(SPACED, max_size=4))
    words = list(dict.fromkeys([draw(PIECES), *rest]))  # the first has no space in it
    size = draw(st.integers(1, 4))
    row = st.lists(NUMBERS, min_size=size, max_size=size)
    return words, draw(st.lists(row, min_size=len(words), max_size=len(words)))


@given(vocabularies())
@settings(max_examples=50, deadline=None)
def test_any_vocabulary_comes_back(tmp_path_factory, vocabulary):
    directory, (words, rows) = tmp_path_factory.getbasetemp(), vocabulary
    same(from_table(words, np.array(rows)), words, rows)
    for name in FORMATS:
        if "binary" in name:  # where a space ends the word
            words = list(dict.fromkeys(w.replace(" ", "_") for w in words))
        same(reread(directory, name, words, rows[: len(words)]), words, rows[: len(words)])


V = 40
NAMES = [f"w{i}" for i in range(V)]
MANY = np.random.default_rng(1).normal(size=(V, 5)).astype(np.float32)


def cosines(rows, query):
    """The cosine of each row with a vector, in float64; 0 where either is zero."""
    rows, query = np.asarray(rows, np.float64), np.asarray(query, np.float64)
    lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(query)
    return np.where(lengths > 0, rows @ query / np.where(lengths > 0, lengths, 1), 0)


def check(got, values, excluded, count):
    """`got` are the best of `values`, one for each of NAMES, without the excluded."""
    order = [i for i in np.argsort(-values) if NAMES[i] not in excluded][:count]
    assert [word for word, _ in got] == [NAMES[i] for i in order]
    np.testing.assert_allclose([value for _, value in got], values[order], atol=1e-6)


def test_nearest_is_the_largest_cosine():
    vectors = from_table(NAMES, jnp.asarray(MANY))
    for i, word in enumerate(NAMES):
        for count in (1, 10, V - 1):
            check(nearest(vectors, word, count), cosines(MANY, MANY[i]), [word], count)
        assert nearest(vectors, word, V + 5) == nearest(vectors, word, V - 1)
        for query in (MANY[i], 1e60 * MANY[i].astype(float), jnp.asarray(MANY[i])):
            check(nearest(vectors, query, 4), cosines(MANY, MANY[i]), [], 4)
    assert len(nearest(vectors, "w0")) == 10


def test_analogy_is_3cosadd_of_unit_vectors():
    vectors = from_table(NAMES, MANY)
    unit = MANY / np.linalg.norm(MANY, axis=1, keepdims=True)
    rng = np.random.default_rng(2)
    for a, b, c in [*rng.integers(V, size=(40, 3)), (1, 1, 2), (2, 1, 1), (1, 2, 1), (3, 3, 3)]:
        values = cosines(MANY, unit[b] - unit[a] + unit[c])
        chosen = NAMES[a], NAMES[b], NAMES[c]
        for count in (1, 10, V):
            check(analogy(vectors, *chosen, count), values, chosen, count)
    assert len(analogy(vectors, "w0", "w1", "w2")) == 10


def test_a_planted_analogy_is_found_whatever_the_lengths():
    rows = np.array([[1, 0, 0], [1, 0, 1], [0, 1, 0], [0, 1, 1], [-1, 0, 1]], float)
    rows *= np.array([[3], [0.1], [50], [1e-3], [1]])
    vectors = from_table(["man", "king", "woman", "queen", "crown"], rows)
    assert analogy(vectors, "man", "king", "woman", 1)[0][0] == "queen"


def test_a_zero_vector_has_cosine_zero():
    rows = MANY.copy()
    rows[3] = 0
    vectors = from_table(NAMES, rows)
    assert dict(nearest(vectors, "w0", V))["w3"] == 0
    assert {value for _, value in nearest(vectors, "w3", V)} == {0}
    assert {value for _, value in nearest(vectors, np.zeros(5), V)} == {0}
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-9)
    check(analogy(vectors, "w3", "w1", "w2", 5), cosines(rows, unit[1] + unit[2]), NAMES[1:4], 5)
    assert dict(analogy(vectors, "w0", "w1", "w2", V))["w3"] == 0
    assert {v for _, v in analogy(vectors, "w1", "w3", "w1", V)} == {0}  # 0 - u + u


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_lengths_whose_squares_leave_float32_are_measured(scale):
    rows = MANY * np.float32(scale)
    vectors = from_table(NAMES, rows)
    check(nearest(vectors, "w0", V), cosines(MANY, MANY[0]), ["w0"], V - 1)
    check(nearest(vectors, rows[0], V), cosines(MANY, MANY[0]), [], V)


def test_words_added_since_the_last_question_are_found():
    vectors = from_table(NAMES[:30], MANY[:30])
    nearest(vectors, "w0")
    vectors.add_vectors(NAMES[30:], MANY[30:])
    check(nearest(vectors, "w0", 5), cosines(MANY, MANY[0]), ["w0"], 5)


def test_vectors_are_a_copy_of_the_table():
    trained = MANY.copy()
    vectors = from_table(NAMES, trained)
    trained[:] = 0
    np.testing.assert_array_equal(vectors.vectors, MANY)
    half = from_table(NAMES, jnp.asarray(MANY, jnp.bfloat16))
    np.testing.assert_allclose(half.vectors, MANY, rtol=2**-8)


def rows_of(vocabulary, key=KEY, **options):
    vectors = from_table(WORDS, ROWS)
    rows, unknown = word_vectors.table(vectors, vocabulary, key=key, **options)
    assert isinstance(rows, jax.Array) and rows.dtype == jnp.float32
    return np.asarray(rows), unknown


def test_table_holds_the_rows_in_the_order_of_the_vocabulary():
    vocabulary = ["-", "nobody", "the", "The", "THE", "NAÏVE", "Nobody", "1950"]
    rows, unknown = rows_of(vocabulary, unknown_scale=0)
    assert unknown == ["nobody", "Nobody"]
    zero = np.zeros(D)
    the = ROWS[0]
    np.testing.assert_array_equal(rows, [ROWS[5], zero, the, the, the, ROWS[1], zero, ROWS[3]])
    rows, unknown = rows_of(tuple(WORDS))
    assert unknown == []
    np.testing.assert_array_equal(rows, ROWS)


def test_a_word_comes_before_its_lower_case_and_upper_case_is_not_tried():
    vectors = from_table(["us", "US", "Paris"], np.eye(3))
    rows, unknown = word_vectors.table(vectors, ["US", "us", "paris"], key=KEY, unknown_scale=0)
    np.testing.assert_array_equal(rows, [[0, 1, 0], [1, 0, 0], [0, 0, 0]])
    assert unknown == ["paris"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["threefry2x32", "rbg"])
def test_unknown_rows_depend_on_the_key_and_their_position_alone(kind):
    key = jax.random.key(7, impl=kind)
    vocabulary = ["a", "the", "b", "c"]
    rows, unknown = rows_of(vocabulary, key, unknown_scale=0.5)
    assert unknown == ["a", "b", "c"]
    np.testing.assert_array_equal(rows, rows_of(vocabulary, key, unknown_scale=0.5)[0])
    longer, _ = rows_of([*vocabulary, "d", "-", "e"], key, unknown_scale=0.5)
    np.testing.assert_array_equal(longer[:4], rows)
    known, _ = rows_of(["-", "the", "b", "c"], key, unknown_scale=0.5)
    np.testing.assert_array_equal(known[1:], rows[1:])
    for i in (0, 2, 3):
        want = 0.5 * jax.random.normal(jax.random.fold_in(key, i), (D,))
        np.testing.assert_array_equal(rows[i], want)
    other, _ = rows_of(vocabulary, jax.random.fold_in(key, 1), unknown_scale=0.5)
    assert (other[[0, 2, 3]] != rows[[0, 2, 3]]).all()


def test_unknown_rows_have_the_spread_of_the_known():
    vectors = from_table(NAMES, 1 + 0.3 * MANY)  # the mean is not theirs: it is 0
    vocabulary = [f"unknown{i}" for i in range(4000)]
    rows, unknown = word_vectors.table(vectors, vocabulary, key=KEY)
    assert unknown == vocabulary
    spread = np.std(1 + 0.3 * MANY.astype(np.float64))
    np.testing.assert_allclose(rows.std(), spread, rtol=0.02)
    np.testing.assert_allclose(rows.mean(), 0, atol=4 * spread / np.sqrt(rows.size))
    unit, _ = word_vectors.table(vectors, vocabulary[:9], key=KEY, unknown_scale=1)
    np.testing.assert_allclose(rows[:9], spread * unit, rtol=1e-5)


def test_wrong_arguments_are_named():
    vectors = from_table(NAMES, MANY)
    unknown = "word 'x' is not among the 40 words of these vectors"
    for ask, message in (
        (lambda: nearest(vectors, "x"), unknown),
        (lambda: analogy(vectors, "w1", "w2", "x"), unknown),
        (lambda: analogy(vectors, "x", "w2", "w1"), unknown),
        (lambda: nearest(vectors, "w1", 0), "count must be at least 1, got 0"),
        (lambda: analogy(vectors, "w1", "w2", "w3", -1), "count must be at least 1, got -1"),
        (lambda: nearest(vectors, np.ones(1)), "a word or 5 finite numbers, got shape (1,)"),
        (lambda: nearest(vectors, MANY), "a word or 5 finite numbers, got shape (40, 5)"),
        (lambda: nearest(vectors, 3), "a word or 5 finite numbers, got shape ()"),
        (lambda: nearest(vectors, np.full(5, np.nan)), "a word or 5 finite numbers"),
        (lambda: rows_of([]), "vocabulary must hold at least one word"),
        (lambda: rows_of(list("abcbca")), "vocabulary must not repeat a word, but 'b' appears"),
        (lambda: rows_of(["a"], unknown_scale=-1.0), "finite and at least 0, got -1.0"),
        (lambda: rows_of(["a"], unknown_scale=np.nan), "finite and at least 0, got nan"),
        (lambda: from_table([], np.ones((0, 5))), "words must hold at least one word"),
        (lambda: from_table(["a", "a"], np.ones((2, 5))), "words must not repeat a word, but 'a'"),
        (lambda: from_table(["a", "b"], MANY), "table must have shape (2, D), got (40, 5)"),
        (lambda: from_table(["a"], np.ones(5)), "table must have shape (1, D), got (5,)"),
        (lambda: from_table(["a"], np.ones((1, 0))), "table must have shape (1, D), got (1, 0)"),
        (lambda: from_table(["a"], np.array([[1, np.inf]])), "table must be finite"),
    ):
        with pytest.raises(ValueError) as caught:
            ask()
        assert message in str(caught.value)


def test_gensim_loads_when_it_is_needed_and_is_asked_for_when_it_is_missing(tmp_path, monkeypatch):
    code = "import sys, rnnjax.word_vectors; print('gensim' in sys.modules)"
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ("False", "")
    monkeypatch.setitem(sys.modules, "gensim.models", None)
    for ask in (
        lambda: read_glove(tmp_path / "g.txt"),
        lambda: read_word2vec(tmp_path / "w.bin"),
        lambda: from_table(NAMES, MANY),
    ):
        with pytest.raises(ImportError) as caught:
            ask()
        assert str(caught.value) == "word vectors need gensim: pip install 'rnnjax[words]'"
