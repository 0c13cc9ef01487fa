"""The comparison: the same data and seeds for every network, and what it writes."""

import dataclasses
import json

import numpy as np
import pytest
from scripts import ROOT, load

from rnnjax.networks import NETWORKS, causal
from rnnjax.runs import Run

pytestmark = pytest.mark.slow
experiment = load(ROOT / "experiments" / "applications" / "compare.py")
TINY = experiment.Config(
    application="sequence_classification", networks=("elman", "tcn"), steps=3, features=4, seeds=2
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    (folder / "mine.py").write_text("import rnnjax\n\n\nclass Mine(rnnjax.Elman):\n    pass\n")
    own = f"{folder}/mine.py:Mine"
    config = dataclasses.replace(TINY, networks=("elman", "tcn", own), out=folder / "run")
    return config.out, experiment.run(config)


def test_it_is_what_the_application_says_of_each_network(finished):
    out, summary = finished
    assert json.loads((out / "summary.json").read_text()) == summary
    assert list(summary["networks"]) == ["elman", "tcn", "Mine"]
    table = Run(out).read_table("results")
    for place, (name, entry) in enumerate(summary["networks"].items()):
        own = json.loads((out / name / "summary.json").read_text())
        for key in ("value", "spread", "values", "parameters"):
            assert entry[key] == own[key]
        assert entry["gradient_reach"] == pytest.approx(own["gradient_reach"], rel=1e-5)
        assert own["baseline"] == summary["baseline"] == table["baseline"][place]
        assert table["low"][place] == min(own["values"])
        config = json.loads((out / name / "config.json").read_text())
        assert (config["steps"], config["features"]) == (3, 4)
        assert config["network"].rpartition(":")[2] == name
    mine, elman = (summary["networks"][name]["values"] for name in ("Mine", "elman"))
    assert mine == elman  # the same cell under another name
    assert summary["verdict"]["outcome"] == "quick run only"
    assert len(summary["verdict"]["conditions"]) == 3
    assert (out / "comparison.png").stat().st_size > 1000
    gradients = Run(out).read_table("gradients")
    for name in summary["networks"]:
        rows = gradients["median"][gradients["network"] == name]
        there = np.isfinite(rows)  # a CNN of four channels has some that never answer
        assert len(rows) == 64 and (there.any() if name == "tcn" else there.all())


def test_the_verdict_needs_every_network_above_the_baseline_and_elman_behind_the_gated_ones():
    def judged(reach, beats=True):
        networks = {
            name: {"beats_baseline": beats or name != "gru", "gradient_reach": own}
            for name, own in reach.items()
        }
        return experiment.verdict(experiment.Config(), {"networks": networks})

    good = judged({"elman": -2.0, "lstm": -0.5, "gru": -1.0, "tcn": -3.0})
    assert good.outcome == "reproduced" and len(good.conditions) == 6
    for reach, beats in ({"elman": -0.7, "lstm": -0.5, "gru": -1.0}, True), ({"gru": 0.0}, False):
        assert judged(reach, beats).outcome == "not reproduced"
    assert len(judged({"lstm": 0.0, "gru": 0.0}).conditions) == 2


def test_every_application_takes_what_it_can_and_text_generation_only_what_is_causal():
    for name in experiment.APPLICATIONS:
        known = list(experiment.Config(application=name).configurations())
        backwards = [n for n in NETWORKS if name == "text_generation" and not causal(n)]
        assert known == [network for network in NETWORKS if network not in backwards]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--networks gru mamba", ("--networks must be", "mamba", "transformer")),
        ("--networks gru gru", ("--networks", "once", "gru gru")),
        ("--application text_generation --networks bidirectional_gru", ("--networks", "forwards")),
        ("--application poetry", ("--application", "poetry", "sentiment")),
        ("--features 0", ("--features", "at least 1", "0")),
        ("--steps 0", ("--steps", "at least 1", "0")),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_code_2(arguments, words, refuses):
    refuses(experiment, arguments, words)
