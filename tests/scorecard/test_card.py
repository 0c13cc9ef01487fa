"""The card: what it shows, and which of two records of a row it keeps."""

import dataclasses

import pytest

from rnnjax.scorecard import (
    Record,
    Row,
    listing,
    load_record,
    load_records,
    save_record,
    write_card,
)
from rnnjax.scorecard.card import line


@pytest.fixture
def rows(tmp_path):
    script = tmp_path / "a.py"
    script.write_text('"""Does | it work?\n\nClaim: it does.\n\nVerdict: always.\n"""\n')
    given = {"source": "A 1999", "published": "1|5", "figure": "loss", "minutes": (1.0, 20.0)}
    quick = {"b-2": ("--steps", "3")}
    return {i: Row(i, script, **given, quick=quick.get(i, ())) for i in ("a-1", "b-2")}


DONE = Record(
    id="a-1",
    full=True,
    outcome="not reproduced",
    conditions={"x < 1": True, "y < 1": False},
    command="python experiments/a.py",
    seeds="0 to 3",
    seconds=200.0,
    commit="abc1234",
    versions="Python 3.11.7, jax 0.10.2",
)


def test_the_card_says_what_came_out(rows, tmp_path):
    figure = tmp_path / "loss.png"
    figure.write_bytes(b"PNG")
    write_card(tmp_path / "docs", rows, [DONE], {"a-1": figure})
    text = (tmp_path / "docs" / "scorecard.md").read_text()
    cells = (
        "[a-1](#a-1)",
        "A 1999",
        "1\\|5",
        "not reproduced",
        "1 of 2",
        "0 to 3",
        "3 min",
        "abc1234",
    )
    assert f"| {' | '.join(cells)} |" in text
    assert "| b-2 | A 1999 | 1\\|5 | not run |  |  |  |  |" in text
    section = text.split("## a-1\n")[1]
    for part in (
        *("Does | it work?", "Claim: it does.", "Verdict: always.", "- yes: x < 1", "- NO: y < 1"),
        *("`python experiments/a.py`: **not reproduced**.", "Python 3.11.7, jax 0.10.2"),
        "![Does | it work?](scorecard/a-1.png)",
    ):
        assert part in section
    assert (tmp_path / "docs" / "scorecard" / "a-1.png").read_bytes() == b"PNG"
    assert load_records(tmp_path / "docs" / "scorecard", rows) == {"a-1": DONE}
    write_card(tmp_path / "docs", rows, [], {})  # and again from what is kept
    assert (tmp_path / "docs" / "scorecard.md").read_text() == text


@pytest.mark.parametrize(
    ("old", "new", "kept"),
    [
        ({}, {}, "new"),
        ({}, {"full": False, "outcome": "quick run only"}, "old"),
        ({"full": False, "outcome": "quick run only"}, {}, "new"),
        ({"full": False, "outcome": "quick run only"}, {"full": False}, "new"),
        ({}, {"outcome": "failed", "conditions": {}}, "old"),
        ({"outcome": "failed", "conditions": {}}, {"full": False}, "new"),
        ({"outcome": "failed", "conditions": {}}, {"outcome": "failed", "conditions": {}}, "new"),
        ({}, {"outcome": "inconclusive", "conditions": {}, "reason": "few"}, "new"),
    ],
)
def test_the_verdict_of_a_full_run_stays(old, new, kept, rows, tmp_path):
    for changes, commit in ((old, "old"), (new, "new")):
        record = dataclasses.replace(DONE, **changes, commit=commit)
        write_card(tmp_path, rows, [record], {})
    assert load_record(tmp_path / "scorecard" / "a-1.json").commit == kept
    assert f"commit {kept}" in (tmp_path / "scorecard.md").read_text()


@pytest.mark.parametrize("content", [None, "", "{", "[1]", '{"id": 3}', '{"other": 1}', "\xff"])
def test_a_damaged_record_is_none(content, tmp_path):
    path = tmp_path / "a.json"
    if content is not None:
        path.write_text(content, encoding="latin-1")
    assert load_record(path) is None


def test_records_are_kept_exactly(tmp_path):
    save_record(tmp_path / "new" / "a.json", DONE)
    assert load_record(tmp_path / "new" / "a.json") == DONE


def test_the_listing_says_how_long_and_what_came_out(rows):
    assert listing(rows, {"a-1": DONE}) == (
        "a-1  (A 1999; at most 20 min)\n    Does | it work?\n    last: not reproduced, 3 min\n"
        "b-2  (A 1999; at most 1 min, full 20 min)\n    Does | it work?\n    last: not run"
    )
    assert line(rows["a-1"], None) == ["a-1", "not run", "", "", ""]
    stopped = dataclasses.replace(DONE, outcome="failed", conditions={}, reason="no", seconds=9.6)
    assert line(rows["a-1"], stopped) == ["a-1", "failed", "", "10 s", "no"]
