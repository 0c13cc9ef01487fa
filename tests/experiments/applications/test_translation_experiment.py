"""Translation: what it reads, what it writes, and what it answers afterwards."""

import dataclasses
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sacrebleu
from scripts import ROOT, load

from rnnjax.datasets import translation
from rnnjax.runs import Run

pytestmark = pytest.mark.slow
application = load(ROOT / "experiments" / "applications" / "translation.py")
TINY = application.Config(
    features=16,
    embedding=16,
    max_words=6,
    beam=2,
    learning_rate=2e-2,
    steps=90,
    record_every=10,
    seeds=2,
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("tiny") / "run"
    return out, application.run(dataclasses.replace(TINY, out=out))


@pytest.fixture
def ask(finished):
    def asked(what):
        return application.run(dataclasses.replace(TINY, out=finished[0], predict=str(what)))

    return asked


def pairs(split):
    """Return the texts of a split that are short enough, and their tokens."""
    found = zip(*translation.load(split), strict=True)
    tokens = [(s, t, translation.tokenize(s), translation.tokenize(t)) for s, t in found]
    return [pair for pair in tokens if len(pair[2]) <= 6 and len(pair[3]) <= 6]


def test_the_summary_has_its_metric_its_baselines_and_its_source(finished):
    out, summary = finished
    assert json.loads((out / "summary.json").read_text()) == summary
    assert summary["verdict"]["outcome"] == "quick run only"
    assert summary["metric"] == "BLEU" and summary["higher_is_better"]
    held_out = pairs("test")
    assert summary["pairs"] == {"train": len(pairs("train")), "test": len(held_out)}
    copies = [translation.plain(pair[0]) for pair in held_out]
    references = [translation.plain(pair[1]) for pair in held_out]
    copied = sacrebleu.corpus_bleu(copies, [references]).score
    assert summary["baselines"]["copy of the source"] == pytest.approx(copied)
    assert summary["baseline"] == max(summary["baselines"].values()) > copied
    assert "case:mixed" in summary["signature"] and "tok:13a" in summary["signature"]
    assert len(summary["chrf"]) == len(summary["exact_matches"]) == 2
    assert "demonstration scale" in summary["source"] and "user interface" in summary["source"]
    for name in ("gradients", "training", "attention"):
        assert (out / f"{name}.png").stat().st_size > 1000


def test_it_learns(finished):
    lines = (finished[0] / "metrics.jsonl").read_text().splitlines()
    losses = [json.loads(line)["loss"] for line in lines]
    assert max(losses[-2:]) < min(losses[:2]) - 0.3  # nats a word, for either seed


def test_vocabularies_are_those_of_training_alone(finished):
    stored = json.loads((finished[0] / "preprocessing.json").read_text())["tokens"]
    for side, tokens in zip((2, 3), stored, strict=True):
        words = [word for pair in pairs("train") for word in pair[side]]
        assert tokens[:2] == ["<unknown>", "<end>"]
        assert sorted(tokens[2:]) == sorted({w for w in words if words.count(w) >= 2})
        assert {word for pair in pairs("test") for word in pair[side]} - {*tokens}


def test_it_answers_on_a_file_line_by_line_as_on_the_test_sentences(finished, ask, tmp_path):
    """The same with other capitals; nothing where there are no words; something for any word."""
    examples = finished[1]["examples"]
    lines = ["", *(example["source"].upper() for example in examples), " ", "zorglub", ""]
    (tmp_path / "asked.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    answers = ask(tmp_path / "asked.txt")
    assert answers[1:-3] == [example["translation"] for example in examples]
    assert len(answers) == len(lines) and [answers[i] for i in (0, -3, -1)] == [""] * 3


def test_a_sentence_without_words_has_an_empty_translation(ask, tmp_path):
    assert ask("") == [""] == ask("  ")
    (tmp_path / "nothing.txt").touch()
    with pytest.raises(application.ArgumentError, match="nothing.txt is empty"):
        ask(tmp_path / "nothing.txt")


def test_dropped_words_are_unknown_and_ends_stay():
    tokens = jnp.tile(jnp.array([5, 1, 7, 9]), (1000, 1))
    dropped = np.asarray(application.drop_words(jax.random.key(0), tokens, 0.25))
    assert (dropped[:, 1] == 1).all() and {*dropped.ravel().tolist()} == {0, 1, 5, 7, 9}
    np.testing.assert_allclose((dropped == 0).mean(0), [0.25, 0, 0.25, 0.25], atol=0.05)


def test_gradients_reach_back_from_the_last_word_and_from_the_end_of_the_source(finished):
    table = Run(finished[0]).read_table("gradients")
    lengths = sorted((len(pair[2]), len(pair[3]) + 1) for pair in pairs("test"))
    longest = sorted(lengths, key=min)[-32:]
    for layer in np.unique(table["layer"]):
        rows = table["lag"][table["layer"] == layer]
        assert 3 <= len(rows) <= max(min(pair) for pair in longest)
        assert np.isfinite(table["median"][table["layer"] == layer]).all()
    assert {layer.split("/")[0] for layer in table["layer"]} == {"embed", "encoder", "decoder"}


def test_without_sacrebleu_one_line_names_the_extra(refuses, monkeypatch):
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    refuses(application, "--steps 1", ("sacrebleu", "pip install 'rnnjax[text]'"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--encoder mamba", ("--encoder", "mamba", "transformer")),
        ("--decoder transformer", ("--decoder", "transformer", "gru")),
        ("--source wmt", ("--source", "wmt", "tatoeba")),
        ("--encoder transformer --features 30", ("--features", "multiple of 4", "30")),
        ("--word-dropout 1", ("--word-dropout", "0..1", "1.0")),
        ("--batch-size 9999", ("--batch-size", "9999")),
        ("--min-count 9999", ("--min-count", "9999", "smaller")),
        ("--predict Hello", ("--predict", "finished run", "--out")),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_code_2(arguments, words, refuses):
    refuses(application, arguments, words)
