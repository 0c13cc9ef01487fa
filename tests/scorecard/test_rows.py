"""The rows of the scorecard: what a file may say, and that those of the project are whole."""

import pytest
from scripts import ROOT, load

from rnnjax.command_line import ArgumentError, parse
from rnnjax.scorecard import load_rows

ROWS = load_rows(ROOT / "experiments" / "papers" / "rows.toml")
GOOD = """
[some-id]
script = "a.py"
source = "A, B 1999"
published = "1.5"
figure = "loss"
minutes = [1, 2.5]
quick = ["--steps", 3]
"""
SCRIPT = '''"""Does it work?

Claim: it does,
so A and B said.

Verdict: always.
"""
'''


@pytest.fixture
def rows_file(tmp_path):
    (tmp_path / "a.py").write_text(SCRIPT)
    (tmp_path / "papers").mkdir()
    path = tmp_path / "papers" / "rows.toml"
    path.write_text(GOOD)
    return path


def test_a_row_is_read_with_what_its_script_says(rows_file):
    (row,) = load_rows(rows_file).values()
    assert (row.id, row.source, row.published, row.figure) == (
        "some-id",
        "A, B 1999",
        "1.5",
        "loss",
    )
    assert row.question == "Does it work?" and row.rule == "Verdict: always."
    assert row.claim == "Claim: it does, so A and B said."
    assert (row.limit(False), row.limit(True)) == (1, 2.5)
    assert row.options(False) == ("--steps", "3") and row.options(True) == ()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('source = "A, B 1999"', "", r"\[some-id\] needs source, a str"),
        ('figure = "loss"', "figure = 3", r"\[some-id\] needs figure, a str"),
        ("[1, 2.5]", "[1]", "minutes of .* two positive numbers"),
        ("[1, 2.5]", "[1, -2]", "minutes of .* two positive numbers"),
        ("a.py", "b.py", r"\[some-id\] has a script that does not exist, b\.py"),
        ("quick", "quikc", r"\[some-id\] has an unknown entry, quikc"),
        ("[some-id]", "[some-id", "rows.toml: "),
        ("[some-id]", "id = 3\n[some-id]", r"\[id\] needs script"),
    ],
)
def test_a_wrong_file_is_one_line(old, new, message, rows_file):
    rows_file.write_text(GOOD.replace(old, new))
    with pytest.raises(ArgumentError, match=message) as caught:
        load_rows(rows_file)
    assert "\n" not in str(caught.value).removeprefix(str(rows_file))


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(ArgumentError, match=r"rows\.toml: .*No such file"):
        load_rows(tmp_path / "rows.toml")


@pytest.mark.parametrize("name", ROWS)
def test_every_row_of_the_project_is_whole(name):
    row = ROWS[name]
    assert row.question and row.claim.startswith("Claim") and "Verdict" in row.rule
    assert row.script.is_relative_to(ROOT / "experiments")


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_quick_options_are_options_of_the_script(name):
    row = ROWS[name]
    config = load(row.script).Config
    quick = parse(config, list(row.quick))
    assert (quick == config()) == (not row.quick)
