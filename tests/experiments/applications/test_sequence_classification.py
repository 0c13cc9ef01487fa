"""Sequence classification: what it reads, what it writes, and what it answers afterwards."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image
from scripts import ROOT, load

from rnnjax.checkpoint import Checkpoints
from rnnjax.datasets import digits, images

pytestmark = pytest.mark.slow
application = load(ROOT / "experiments" / "applications" / "sequence_classification.py")
TINY = application.Config(order="rows", features=8, steps=60, record_every=20, seeds=2)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("tiny") / "run"
    return out, application.run(dataclasses.replace(TINY, out=out))


def test_the_summary_has_its_metric_its_baseline_and_its_source(finished):
    out, summary = finished
    assert json.loads((out / "summary.json").read_text()) == summary
    assert summary["metric"] == "accuracy" and summary["higher_is_better"]
    labels = digits.load("test")[1]
    assert summary["baseline"] == (labels == 3).mean()  # 147 of the 1,442 in training, the most
    assert summary["value"] == np.mean(summary["values"]) and len(summary["values"]) == 2
    assert summary["spread"] == abs(np.subtract(*summary["values"]))
    assert summary["value"] > 0.3 and summary["beats_baseline"]
    assert "demonstration scale" in summary["source"]
    for name in ("gradients", "training"):
        assert (out / f"{name}.png").stat().st_size > 1000


def test_stopped_in_the_middle_the_same_command_finishes_with_the_same_bytes(
    finished, tmp_path, monkeypatch
):
    save, steps = Checkpoints.save, []

    def interrupted(self, step, *arguments):
        steps.append(step)
        if step == 45:
            raise KeyboardInterrupt
        save(self, step, *arguments)

    config = dataclasses.replace(TINY, out=tmp_path, checkpoint_every=15)
    monkeypatch.setattr(Checkpoints, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        application.run(config)
    assert not (tmp_path / "summary.json").exists()
    monkeypatch.setattr(
        Checkpoints, "save", lambda self, step, *rest: steps.append(step) or save(self, step, *rest)
    )
    assert application.run(config) == finished[1]
    assert steps == [15, 30, 45, 45, 60]
    for name in ("metrics.jsonl", "summary.json", "gradients.csv", "training.csv"):
        assert (tmp_path / name).read_bytes() == (finished[0] / name).read_bytes(), name


def test_orders_show_the_same_pixels():
    pixels, _ = images.load("digits", "test")
    scale = {"mean": 0.25, "deviation": 0.5}
    rows, flat, permuted = (
        application.sequences(dataclasses.replace(TINY, order=order), pixels, scale)
        for order in application.ORDERS
    )
    assert rows.shape == (355, 8, 8) and flat.shape == permuted.shape == (355, 64, 1)
    np.testing.assert_array_equal(rows[5, 2], (pixels[5, 2] - 0.25) / 0.5)
    for step, pixel in enumerate(digits.permutation()):
        np.testing.assert_array_equal(permuted[:, step], flat[:, pixel])


def test_normalisation_is_that_of_training_alone(finished):
    scale = json.loads((finished[0] / "preprocessing.json").read_text())
    pixels, _ = digits.load("train")
    np.testing.assert_allclose(scale["mean"], pixels.mean(dtype=np.float64), rtol=1e-5)
    np.testing.assert_allclose(scale["deviation"], pixels.std(dtype=np.float64), rtol=1e-5)


def test_it_answers_about_image_files_as_about_the_test_images(finished, tmp_path):
    out, summary = finished
    pixels, _ = images.load("digits", "test")
    for example in summary["examples"][:2]:
        image = np.uint8(np.round(pixels[example["image"]] * 255))
        Image.fromarray(image).save(tmp_path / "digit.png")
        asked = dataclasses.replace(TINY, out=out, predict=str(tmp_path / "digit.png"))
        (answer,) = application.run(asked)
        assert answer.split()[0] == example["named"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--network mamba", ("--network", "mamba", "transformer")),
        ("--network transformer --features 30", ("--features", "multiple of 4", "30")),
        ("--source cifar", ("--source", "cifar", "fashion_mnist")),
        ("--batch-size 1443", ("--batch-size", "1442", "1443")),
        ("--predict seven.png", ("--predict", "finished run", "--out")),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_code_2(arguments, words, refuses):
    refuses(application, arguments, words)
