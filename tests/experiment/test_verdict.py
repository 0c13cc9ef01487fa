"""Verdicts: four outcomes, the conditions behind them, and how they are printed and stored."""

import dataclasses
import json

import numpy as np
import pytest

from rnnjax.experiment import Outcome, Verdict, print_verdict


@dataclasses.dataclass(frozen=True)
class Config:
    steps: int = 10
    seeds: int = 4


@pytest.mark.parametrize(
    ("holds", "outcome"),
    [
        ([True, True], Outcome.REPRODUCED),
        ([True, False], Outcome.NOT_REPRODUCED),
        ([False, False], Outcome.NOT_REPRODUCED),
        ([], Outcome.INCONCLUSIVE),
    ],
)
def test_conditions_decide(holds, outcome):
    conditions = {f"condition {i}": np.bool_(value) for i, value in enumerate(holds)}
    verdict = Verdict.judge(conditions, otherwise="no gated cell was measured")
    assert verdict.outcome == outcome
    assert verdict.conditions == dict(zip(conditions, holds, strict=True))
    assert (verdict.reason == "no gated cell was measured") == (not holds)
    assert json.loads(json.dumps(verdict.entry())) == verdict.entry()


def test_a_run_below_a_default_is_quick_only():
    whole = Verdict.judge({"it learns": False})
    assert whole.unless_quick(Config(), "steps", "seeds") == whole
    assert whole.unless_quick(Config(steps=20, seeds=1), "steps", length=(30, 30)) == whole
    quick = whole.unless_quick(Config(steps=9, seeds=1), "steps", "seeds", length=(3, 3))
    assert quick.outcome == "quick run only" and quick.conditions == {"it learns": False}
    assert quick.reason == "--steps 9 is below 10; --seeds 1 is below 4"
    quick = whole.unless_quick(Config(), "steps", length=(20, 30))
    assert quick.reason == "--length 20 is below 30"


def test_it_is_printed_condition_by_condition(capsys):
    print_verdict(Verdict.judge({"it learns": True, "it remembers": False}))
    print_verdict(Verdict.inconclusive("too few seeds learn", {"it learns": False}))
    assert capsys.readouterr().out == (
        "yes it learns\nNO  it remembers\nVerdict: not reproduced\n"
        "NO  it learns\nVerdict: inconclusive (too few seeds learn)\n"
    )


def test_what_the_summary_holds():
    entry = Verdict.judge({"it learns": True}).entry()
    assert entry == {"outcome": "reproduced", "conditions": {"it learns": True}}
    entry = Verdict.inconclusive("why").entry()
    assert entry == {"outcome": "inconclusive", "conditions": {}, "reason": "why"}
