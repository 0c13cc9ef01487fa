"""The summary of an application: its value beside the best baseline, and the verdict."""

import dataclasses
import json
import types

import numpy as np
import pytest

from rnnjax import experiment


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(experiment.ApplicationOptions):
    """Of a run in these tests."""


CASES = [
    ([0.8, 0.9, 0.85], True, 0.7, True),
    ([0.8, 0.9, 0.7], True, 0.7, False),  # by less than the spread
    ([0.6, 0.6, 0.6], True, 0.7, False),
    ([0.3, 0.2], False, 0.4, True),
    ([0.3, 0.1], False, 0.4, False),
    ([0.5], False, 0.4, False),
]


def summary_of(values, higher, baseline):
    return experiment.report(
        "metric",
        np.float32(values),
        {"poor": 0.1 if higher else 0.9, "good": baseline},
        higher_is_better=higher,
        source="nowhere, synthetic",
        examples=[{"is": "a", "named": "b"}],
        extra=3,
    )


@pytest.mark.parametrize(("values", "higher", "baseline", "beats"), CASES)
def test_the_report_sets_the_value_beside_the_best_baseline(values, higher, baseline, beats):
    summary = summary_of(values, higher, baseline)
    assert summary["value"] == pytest.approx(np.mean(values))
    assert summary["spread"] == pytest.approx(max(values) - min(values))
    assert (summary["baseline"], summary["baseline_name"]) == (baseline, "good")
    assert summary["beats_baseline"] is beats and summary["extra"] == 3
    assert json.loads(json.dumps(summary)) == summary
    top = ["metric", "value", "spread", "values", "baseline"]
    assert list(summary)[:5] == top and {"higher_is_better", "source"} <= summary.keys()


@pytest.mark.parametrize(("values", "higher", "baseline", "beats"), CASES)
def test_the_verdict_is_whether_it_beats_the_baseline(values, higher, baseline, beats):
    summary = summary_of(values, higher, baseline)
    verdict = experiment.beats_baseline(Config(), summary)
    assert verdict.outcome == ("reproduced" if beats else "not reproduced")
    ((condition, holds),) = verdict.conditions.items()
    assert "by more than the spread over seeds" in condition and holds is beats


@pytest.mark.parametrize("option", [{"steps": 3}, {"seeds": 2}])
def test_a_run_with_fewer_steps_or_seeds_is_not_judged(option):
    verdict = experiment.beats_baseline(Config(**option), summary_of(*CASES[0][:3]))
    assert verdict.outcome == "quick run only" and list(verdict.conditions.values()) == [True]


def test_the_summary_is_shown_with_every_baseline_and_example(capsys):
    experiment.show_report(summary_of([0.8, 0.9], True, 0.7))
    printed = capsys.readouterr().out
    for text in ("nowhere, synthetic", "higher is better", "0.85", "mean of 2 seeds", "0.7  good"):
        assert text in printed
    assert "0.1  poor" in printed and "is: a  named: b" in printed
    experiment.show_report(summary_of([0.3], False, 0.4))
    printed = capsys.readouterr().out
    assert "lower is better" in printed and "one seed" in printed


def test_the_entries_of_a_network():
    config = types.SimpleNamespace(network="gru")
    params = {"w": np.zeros((2, 3, 4)), "b": np.zeros((2, 4))}  # of two members
    table = [{"median": -np.arange(20.0) * np.log(10)}, {"median": np.zeros(20)}]
    found = experiment.network_entries(config, params, table)
    assert found == {"network": "gru", "parameters": 16, "gradient_reach": pytest.approx(-18)}
    assert list(found) == ["network", "parameters", "gradient_reach"]
