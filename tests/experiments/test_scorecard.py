"""The scorecard as a command: rows one after another, the card, the listing, its manners."""

import dataclasses
import json

import pytest
from scripts import ROOT, load

from rnnjax.command_line import parse
from rnnjax.scorecard import Record, Row, save_record

SCRIPT = ROOT / "experiments" / "scorecard.py"
scorecard = load(SCRIPT)
TEXTS = {"source": "A 1999", "published": "1", "figure": "loss", "minutes": (1.0, 2.0)}


@pytest.fixture
def card(tmp_path, monkeypatch):
    """Two rows, which are not run: their records are those in `outcomes`."""
    script = tmp_path / "a.py"
    script.write_text('"""Does it work?\n\nClaim: yes.\n\nVerdict: always.\n"""\n')
    rows = {name: Row(name, script, **TEXTS, quick=("--steps", "3")) for name in ("one", "two")}
    outcomes, asked = {"one": "reproduced", "two": "not reproduced"}, []

    def run_row(row, folder, *, full):
        asked.append((row.id, folder, full))
        return Record(row.id, full, outcomes[row.id], {"it works": True}, seconds=3.0)

    monkeypatch.setattr(scorecard.Config, "known", rows)
    monkeypatch.setattr(scorecard.scorecard, "run_row", run_row)
    return tmp_path, outcomes, asked


def run(tmp_path, name="run", **options):
    places = {"out": tmp_path / name, "rows": tmp_path / "rows", "card": tmp_path / "docs"}
    return scorecard.run(scorecard.Config(**places, **options))


def test_rows_run_one_after_another_and_are_written(card, capsys):
    tmp_path, outcomes, asked = card
    summary = run(tmp_path, full=True)
    assert asked == [(name, tmp_path / "rows" / "full", True) for name in ("one", "two")]
    assert json.loads((tmp_path / "run" / "summary.json").read_text()) == summary
    assert summary["verdict"]["conditions"] == {"one": True, "two": False}
    assert summary["verdict"]["outcome"] == "not reproduced"
    assert summary["rows"]["two"]["outcome"] == "not reproduced"
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["1", "of", "2", "one", "reproduced", "1", "of", "1", "3", "s"]
    text = (tmp_path / "docs" / "scorecard.md").read_text()
    assert "| [one](#one) | A 1999 | 1 | reproduced |" in text
    outcomes["two"] = "reproduced"
    assert run(tmp_path, "b", full=True)["verdict"]["outcome"] == "reproduced"


def test_a_quick_run_is_no_verdict(card):
    tmp_path, outcomes, asked = card
    outcomes["two"] = "quick run only"
    summary = run(tmp_path)
    assert asked[0] == ("one", tmp_path / "rows" / "quick", False)
    assert summary["verdict"]["outcome"] == "quick run only"
    assert summary["verdict"]["reason"] == "two ran quickly"
    assert run(tmp_path, "b", only=("one",))["verdict"]["outcome"] == "reproduced"
    assert [name for name, *_ in asked] == ["one", "two", "one"]


def test_a_row_that_runs_elsewhere_is_left_to_others(card):
    tmp_path, outcomes, _ = card
    outcomes["one"] = "runs elsewhere"
    run(tmp_path, full=True)
    assert "| one | A 1999 | 1 | not run |" in (tmp_path / "docs" / "scorecard.md").read_text()


def test_the_listing_runs_nothing(card, capsys):
    tmp_path, _, asked = card
    record = Record("one", True, "reproduced", {"it works": True}, seconds=3.0)
    save_record(tmp_path / "docs" / "scorecard" / "one.json", record)
    with pytest.raises(SystemExit) as stopped:
        run(tmp_path, list=True)
    assert not stopped.value.code and not asked
    assert "last: reproduced, 3 s\ntwo" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


def test_rows_are_those_of_the_project():
    config = parse(scorecard.Config, [])
    assert {"zo24-curse", "deletang22-regular"} <= config.known.keys()
    assert config.card == ROOT / "docs" and not dataclasses.asdict(config)["full"]


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ("--only zo24", ("--only", "among", "zo24-curse", "zo24")),
        ("--only zo24-curse zo24-curse", ("--only", "once", "zo24-curse zo24-curse")),
        ("--full maybe", ("--full", "maybe")),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_code_2(arguments, names, refuses):
    refuses(scorecard, arguments, names)
