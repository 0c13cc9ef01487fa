"""Image to word: how words are spelled and scored, what is written, and what it depends on."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from PIL import Image
from scripts import ROOT, load

from rnnjax.command_line import ArgumentError
from rnnjax.datasets import digits, images
from rnnjax.datasets.vocabulary import Vocabulary
from rnnjax.runs import Run
from rnnjax.training import TrainState

pytestmark = pytest.mark.slow
application = load(ROOT / "experiments" / "applications" / "image_to_word.py")
TINY = application.Config(features=16, steps=200, record_every=50, seeds=2)
WORDS = Vocabulary.fit(["ab", "b", "acab"])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("tiny") / "run"
    return out, application.run(dataclasses.replace(TINY, out=out))


@pytest.fixture(scope="module")
def small():
    model = dataclasses.replace(TINY, features=8).make_model(len(WORDS))
    return model, jax.jit(lambda key: application.initialise(model, 4, key))(jax.random.key(0))


# --- the run ----------------------------------------------------------------------------------


def test_the_summary_has_its_metric_its_baseline_and_its_source(finished):
    out, summary = finished
    assert json.loads((out / "summary.json").read_text()) == summary
    assert summary["metric"] == "accuracy of whole words" and summary["higher_is_better"]
    labels = digits.load("test")[1]
    assert summary["baseline"] == (labels == 3).mean()  # 147 of the 1,442 in training, the most
    assert summary["baseline_name"] == "most frequent word, three"
    assert summary["value"] == np.mean(summary["values"]) and len(summary["values"]) == 2
    assert summary["value"] > 0.3 and summary["beats_baseline"]
    right = [names >= value for names, value in
             zip(summary["answers_that_are_names"], summary["values"], strict=True)]  # fmt: skip
    assert all(right) and "demonstration scale" in summary["source"]
    for name in ("gradients", "context", "training"):
        assert (out / f"{name}.png").stat().st_size > 1000


def test_letters_are_those_of_the_names_and_saved(finished):
    stored = json.loads((finished[0] / "preprocessing.json").read_text())
    assert sorted(stored["tokens"][2:]) == sorted(set("".join(images.DIGITS)))
    assert stored["length"] == len("three") + 1


def test_the_gradient_reaches_back_to_the_first_letter_of_the_longest_words(finished):
    table = Run(finished[0]).read_table("gradients")
    assert all(layer.startswith("decoder/") for layer in table["layer"])
    carry = table["lag"][table["layer"] == "decoder/layer/carry"]
    assert carry.tolist() == [1, 2, 3, 4, 5, 6] and np.isfinite(table["median"]).all()


def test_it_answers_about_image_files_as_about_the_test_images(finished, tmp_path):
    out, summary = finished
    pixels, labels = images.load("digits", "test")
    for example in summary["examples"][:2]:
        assert example["is"] == images.DIGITS[labels[example["image"]]]
        image = np.uint8(np.round(pixels[example["image"]] * 255))
        Image.fromarray(image).save(tmp_path / "digit.png")
        asked = dataclasses.replace(TINY, out=out, predict=str(tmp_path / "digit.png"))
        assert application.run(asked) == [example["written"]]


# --- words ------------------------------------------------------------------------------------


def test_a_word_is_spelled_letter_by_letter_with_an_end():
    found = application.spelling(WORDS, ["ab", "b", "acab"])
    assert found["lengths"].tolist() == [3, 2, 5]
    spelled = [[WORDS.tokens[t] for t in row] for row in found["targets"]]
    end, nothing = "<end>", "<unknown>"  # the padding, which is not counted
    assert spelled == [
        ["a", "b", end, nothing, nothing],
        ["b", end, nothing, nothing, nothing],
        ["a", "c", "a", "b", end],
    ]
    assert found["previous"].tolist() == [[1, *row[:-1]] for row in found["targets"].tolist()]


def test_the_loss_is_the_mean_over_letters_and_ends_each_given_those_before(small):
    model, params = small
    pixels = jax.random.normal(jax.random.key(1), (3, 4))
    spelled = application.spelling(WORDS, ["ab", "b", "acab"])
    optimizer = optax.sgd(0.0)
    state = TrainState(params, optimizer.init(params), jnp.int32(0), jax.random.key(0))
    step = jax.jit(application.make_train_step(model, optimizer))
    _, metrics = step(state, {"pixels": pixels, **spelled})
    losses = [
        loss for i in range(3) for loss in losses_of_word(model, params, pixels[i], spelled, i)
    ]
    assert len(losses) == 10 and metrics["loss"] == pytest.approx(np.mean(losses), rel=1e-5)


def losses_of_word(model, params, pixels, spelled, row):
    """Return the loss of each letter of one word, written step by step."""
    variables = {"params": params}
    step = jax.jit(lambda state, read: model.apply(variables, state, read, method="step"))
    state = model.apply(variables, pixels[None], method="start")
    read, losses = 1, []
    for letter in spelled["targets"][row][: spelled["lengths"][row]]:
        state, logits = step(state, jnp.array([read]))
        p = np.exp(np.asarray(logits[0], np.float64))
        losses.append(-np.log(p[letter] / p.sum()))
        read = int(letter)
    return losses


def test_it_writes_the_most_probable_letters_until_the_end(small):
    model, params = small
    pixels = jax.random.normal(jax.random.key(2), (2, 4))
    found = np.asarray(jax.jit(lambda p, x: application.write(model, 5, p, x))(params, pixels))
    apply = jax.jit(lambda image, said: model.apply({"params": params}, image, said))
    for row, image in zip(found, pixels, strict=True):
        said = [1]
        for place in range(5):
            logits = apply(image[None], jnp.array([said + [0] * (4 - place)]))
            said.append(1 if 1 in said[1:] else int(logits[0, place].argmax()))
        assert row.tolist() == said[1:]


def test_how_a_letter_depends_on_the_context_is_the_gradient_of_its_own_loss(small):
    model, params = small
    pixels = jax.random.normal(jax.random.key(3), (2, 4))
    spelled = application.spelling(WORDS, ["acab", "b"])
    several = jax.tree.map(lambda p: p[None], params)
    table = application.by_letter(model, several, pixels=pixels, **spelled)
    assert table["letter"].tolist() == [1, 2, 3, 4, 5]

    word = jnp.asarray(spelled["targets"][0])

    def loss(context, letter):
        previous = jnp.concatenate([jnp.array([1]), word[:-1]])[None]
        logits = model.apply({"params": params}, context, previous, method="decode")
        return -jax.nn.log_softmax(logits[0, letter])[word[letter]]

    context = model.apply({"params": params}, pixels[:1], method="context")
    gradient = jax.jit(jax.grad(loss))
    for letter in (2, 4):  # which only the longer word has
        expected = np.log(np.linalg.norm(gradient(context, letter)))
        assert table["median"][letter] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--network tcn", ("--network", "tcn", "deep_gru")),
        ("--source cifar", ("--source", "cifar", "fashion_mnist")),
        ("--batch-size 1443", ("--batch-size", "1442", "1443")),
        ("--features 0", ("--features", "at least 1", "0")),
        ("--predict seven.png", ("--predict", "finished run", "--out")),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_code_2(arguments, words, refuses):
    refuses(application, arguments, words)


@pytest.mark.parametrize("content", [None, b"", b"no image"])
def test_what_is_no_image_is_refused_in_one_line(content, finished, tmp_path):
    path = tmp_path / "seven.png"
    if content is not None:
        path.write_bytes(content)
    asked = dataclasses.replace(TINY, out=finished[0], predict=str(path))
    with pytest.raises(ArgumentError, match="--predict") as caught:
        application.run(asked)
    assert "\n" not in str(caught.value) and "seven.png" in str(caught.value)
