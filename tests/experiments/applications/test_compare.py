"""The comparison: the same data and seeds for every network, and what it writes."""

import dataclasses
import json

import numpy as np
import pytest
from scripts import ROOT, load

from rnnjax.experiment import applications
from rnnjax.runs import Run

pytestmark = pytest.mark.slow
experiment = load(ROOT / "experiments" / "applications" / "compare.py")
TINY = experiment.Config(
    application="sequence_classification", networks=("elman", "tcn"), steps=3, features=4, seeds=2
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("tiny") / "run"
    return out, experiment.run(dataclasses.replace(TINY, out=out))


def test_it_is_what_the_application_says_of_each_network(finished):
    out, summary = finished
    assert json.loads((out / "summary.json").read_text()) == summary
    assert list(summary["networks"]) == ["elman", "tcn"]
    table = Run(out).read_table("results")
    for place, (name, entry) in enumerate(summary["networks"].items()):
        own = json.loads((out / name / "summary.json").read_text())
        for key in ("value", "spread", "values", "parameters"):
            assert entry[key] == own[key]
        assert entry["gradient_reach"] == pytest.approx(own["gradient_reach"], rel=1e-5)
        assert own["baseline"] == summary["baseline"] == table["baseline"][place]
        assert table["low"][place] == min(own["values"])
        config = json.loads((out / name / "config.json").read_text())
        assert (config["steps"], config["features"], config["network"]) == (3, 4, name)
    assert (out / "comparison.png").stat().st_size > 1000
    gradients = Run(out).read_table("gradients")
    for name in summary["networks"]:
        rows = gradients["median"][gradients["network"] == name]
        there = np.isfinite(rows)  # a CNN of four channels has some that never answer
        assert len(rows) == 64 and (there.all() if name == "elman" else there.any())


def test_every_application_takes_what_it_can_and_text_generation_only_what_is_causal():
    for name in experiment.APPLICATIONS:
        known = experiment.Config(application=name).known
        causal = name == "text_generation"
        assert known == (applications.CAUSAL if causal else applications.NETWORKS)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--networks gru mamba", ("--networks", "mamba", "transformer", "each once")),
        ("--networks gru gru", ("--networks", "each once")),
        ("--application text_generation --networks bidirectional_gru", ("--networks", "tcn")),
        ("--application poetry", ("--application", "poetry", "sentiment")),
        ("--features 0", ("--features", "at least 1", "0")),
        ("--steps 0", ("--steps", "at least 1", "0")),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_code_2(arguments, words, refuses):
    refuses(experiment, arguments, words)
