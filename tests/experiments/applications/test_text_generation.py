"""Text generation: what is counted, what it is compared with, what is written and when."""

import dataclasses
import functools
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scripts import ROOT, load

from rnnjax.datasets import language
from rnnjax.datasets.vocabulary import Vocabulary
from rnnjax.training import TrainState

pytestmark = pytest.mark.slow
application = load(ROOT / "experiments" / "applications" / "text_generation.py")
TINY = application.Config(
    features=16, embedding=8, window=16, batch_size=8, steps=40, record_every=20, seeds=2, length=40
)
VOCABULARY = Vocabulary.fit(["abc abc aab"])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("tiny") / "run"
    return out, application.run(dataclasses.replace(TINY, out=out))


def small(network="gru", **changes):
    """Return a configuration, its network and parameters, for six tokens."""
    changes = {"network": network, "features": 8, "window": 4, **changes}
    config = dataclasses.replace(TINY, **changes)
    model = config.make_model(len(VOCABULARY))
    params = jax.jit(functools.partial(application.initialise, model))(jax.random.key(0))
    return config, model, params


# --- the run ----------------------------------------------------------------------------------


def test_the_summary_has_its_metric_its_baselines_and_its_source(finished):
    out, summary = finished
    assert json.loads((out / "summary.json").read_text()) == summary
    assert summary["verdict"]["outcome"] == "quick run only"
    assert summary["metric"] == "bits per character" and not summary["higher_is_better"]
    assert summary["baseline"] == summary["baselines"]["bigram"] < summary["baselines"]["unigram"]
    assert summary["value"] == np.mean(summary["values"]) and len(summary["values"]) == 2
    assert summary["value"] < math.log2(100)  # better than guessing, after 40 updates
    assert "Python 3." in summary["source"] and "demonstration scale" in summary["source"]
    for name in ("gradients", "training"):
        assert (out / f"{name}.png").stat().st_size > 1000


def test_every_character_of_the_held_out_documents_is_counted(finished):
    sizes = {s: sum(map(len, language.load(s).values())) for s in ("train", "test")}
    assert finished[1]["characters"] == sizes


def test_the_vocabulary_is_that_of_training_alone(finished):
    stored = json.loads((finished[0] / "preprocessing.json").read_text())
    characters = "".join(language.load("train").values())
    kept = {c for c in set(characters) if characters.count(c) > 1}
    assert set(stored["tokens"][2:]) == kept and len(stored["tokens"]) == len(kept) + 2


def test_it_writes_on_as_it_did_in_its_run(finished):
    out, summary = finished
    (answer,) = application.run(dataclasses.replace(TINY, out=out, predict=TINY.prompt))
    samples = (out / "samples.txt").read_text()
    assert samples.startswith(f"--- seed 0\n{answer}\n\n--- seed 1\nThe ")
    assert answer.startswith("The ") and len(answer) <= 44
    assert summary["examples"][0]["written"] == repr(answer[4:])


def test_any_prompt_has_an_answer_and_a_file_has_one_for_each_line(finished, tmp_path):
    out, _ = finished
    (tmp_path / "prompts.txt").write_text("If \n\n日本\n", encoding="utf-8")
    asked = dataclasses.replace(TINY, out=out, predict=str(tmp_path / "prompts.txt"))
    answers = application.run(asked)
    assert [answer[: len(p)] for answer, p in zip(answers, ("If ", "", "日本"), strict=True)] == [
        *("If ", "", "日本")
    ]
    assert answers[1] and "<unknown>" not in "".join(answers)  # an empty prompt begins a document
    assert application.run(dataclasses.replace(TINY, out=out, predict="")) == [answers[1]]


# --- the metric -------------------------------------------------------------------------------


def test_bits_of_documents_are_those_of_reading_character_by_character():
    _, model, params = small()
    texts = ["abcabcaab", "", "b?a", "cabc"]  # longer than a window, empty, shorter, one window
    columns = language.whole_documents(texts, VOCABULARY, 4)
    assert columns["tokens"].shape == (4, 13)
    found = jax.jit(lambda p: application.document_bits(model, 4, p, **columns))(params)
    step = jax.jit(lambda c, x: model.apply({"params": params}, c, x, method="step"))
    start, _ = model.apply({"params": params}, jnp.zeros((1, 0), jnp.int32), return_carry=True)
    for text, bits in zip(texts, found, strict=True):
        carry, read, expected = start, 1, 0.0
        for token in VOCABULARY.encode(text):
            carry, logits = step(carry, jnp.array([read]))
            p = np.exp(np.asarray(logits[0], np.float64))
            expected -= math.log2(p[token] / p.sum())
            read = token
        assert bits == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("network", ["tcn", "transformer"])
def test_no_answer_depends_on_what_comes_after_it(network):
    _, model, params = small(network)
    tokens = jnp.array([[1, 2, 3, 4, 2, 3, 5]])
    apply = jax.jit(lambda tokens: model.apply({"params": params}, tokens))
    logits, others = apply(tokens), apply(tokens.at[:, 4:].set(0))
    np.testing.assert_array_equal(logits[:, :4], others[:, :4])
    assert np.abs(logits[:, 4:] - others[:, 4:]).min(axis=-1).max() > 0


def test_the_loss_is_that_of_the_next_character():
    _, model, params = small()
    tokens = jnp.array([[1, 2, 3, 4, 2], [3, 3, 1, 0, 2]])
    optimizer = optax.sgd(0.0)
    state = TrainState(params, optimizer.init(params), jnp.int32(0), jax.random.key(0))
    step = jax.jit(application.make_train_step(model, optimizer))
    _, metrics = step(state, {"tokens": tokens})
    p = np.asarray(jax.nn.softmax(model.apply({"params": params}, tokens[:, :-1])))
    expected = np.mean([-np.log(p[b, t, tokens[b, t + 1]]) for b in range(2) for t in range(4)])
    assert metrics["loss"] == pytest.approx(expected, rel=1e-5)


# --- writing ----------------------------------------------------------------------------------


def test_cold_it_writes_what_is_most_probable_and_never_the_unknown():
    config, model, params = small(temperature=1e-4, length=6)
    params["head"]["dense"]["bias"] = jnp.zeros(len(VOCABULARY)).at[:2].set(jnp.array([9.0, -9.0]))
    found = application.write(config, VOCABULARY, params, "ab", seed=0)
    tokens = jnp.zeros((1, 9), jnp.int32).at[0, :3].set(jnp.array([1, *VOCABULARY.encode("ab")]))
    apply = jax.jit(lambda tokens: model.apply({"params": params}, tokens))
    for place in range(2, 8):
        best = apply(tokens)[0, place, 1:].argmax() + 1
        tokens = tokens.at[0, place + 1].set(best)
    assert found == "".join(VOCABULARY.decode(tokens[0, 3:].tolist())) and len(found) == 6


def test_from_a_tiny_nucleus_it_writes_what_is_most_probable():
    cold, _, params = small(temperature=1e-4, length=6)
    hot = dataclasses.replace(cold, temperature=9.0)
    narrow = dataclasses.replace(hot, top_p=1e-6)
    written = [application.write(c, VOCABULARY, params, "ab", seed=0) for c in (cold, hot, narrow)]
    assert written[0] == written[2] != written[1]


def test_it_stops_where_the_document_ends():
    config, _, params = small(temperature=1e-4, length=6)
    params["head"]["dense"]["bias"] = jnp.zeros(len(VOCABULARY)).at[1].set(99.0)
    assert application.write(config, VOCABULARY, params, "ab", seed=0) == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--network bidirectional_gru", ("--network", "it would see the answer")),
        ("--network mamba", ("--network", "mamba", "transformer")),
        ("--source wikipedia", ("--source", "wikipedia", "tiny_shakespeare")),
        ("--window 10000000", ("--window", "10000000")),
        ("--batch-size 10000000", ("--batch-size", "10000000")),
        ("--temperature 0", ("--temperature", "positive", "0")),
        ("--top-p 0", ("--top-p", "positive and at most 1", "0")),
        ("--top-p 1.5", ("--top-p", "positive and at most 1", "1.5")),
        ("--predict If", ("--predict", "finished run", "--out")),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_code_2(arguments, words, refuses):
    refuses(application, arguments, words)
