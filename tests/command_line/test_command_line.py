"""What a user sees who mistypes: one line that names the option and what is allowed."""

import contextlib
import dataclasses
import io
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnnjax.command_line import (
    ArgumentError,
    at_least,
    fail,
    main,
    option,
    parse,
    positive,
)
from rnnjax.training import NonFiniteError


@dataclasses.dataclass(frozen=True)
class Config:
    """Train something small.

    For this test.
    """

    preset: Literal["default", "long"] = "default"
    """Defaults of the other options."""
    steps: int = 10
    """Training updates."""
    learning_rate: float = 0.1
    """Of Adam."""
    task: Literal["adding", "copy_memory"] = "adding"
    """What to learn."""
    cells: tuple[Literal["elman", "lstm"], ...] = ("elman", "lstm")
    """Which cells to compare."""
    sizes: tuple[int, int] = (3, 5)
    """Two numbers."""
    length: int | None = None
    """Sequence length."""
    scale: float | None = None
    """Of the inputs."""
    permuted: bool = False
    """Shuffle them."""
    data: Path = Path("data")
    """Where the data are."""
    out: Path | None = None
    """Directory to write to."""

    def __post_init__(self):
        at_least(1, self, "steps")
        positive(self, "learning_rate")


PRESETS = {"default": Config(), "long": Config(preset="long", steps=500, cells=("lstm",))}
LONG = "/a/file/name/that/is/longer/than/any/terminal/is/wide/and-has-hyphens, and a comma.txt"
WRONG = {
    "--steps x": "--steps must be a whole number, got 'x' (see --help)",
    "--steps=1.5": "--steps must be a whole number, got '1.5' (see --help)",
    "--steps=": "--steps must be a whole number, got '' (see --help)",
    "--steps -3": "--steps must be at least 1, got -3",
    "--steps=-3": "--steps must be at least 1, got -3",
    "--steps 0": "--steps must be at least 1, got 0",
    "--steps": "--steps needs a value (see --help)",
    "--steps --permuted": "--steps needs a value (see --help)",
    "--steps 3 4": "unexpected '4' after --steps (see --help)",
    "--sizes 3": "--sizes needs 2 values (see --help)",
    "--length x": "--length must be a whole number, got 'x' (see --help)",
    "--scale x": "--scale must be a number, got 'x' (see --help)",
    "--learning-rate fast": "--learning-rate must be a number, got 'fast' (see --help)",
    "--learning-rate nan": "--learning-rate must be positive and finite, got nan",
    "--learning-rate inf": "--learning-rate must be positive and finite, got inf",
    "--learning-rate -inf": "--learning-rate must be positive and finite, got -inf",
    "--learning-rate=-0.5": "--learning-rate must be positive and finite, got -0.5",
    "--learning-rate 0": "--learning-rate must be positive and finite, got 0.0",
    "--task sorting": "--task must be one of 'adding', 'copy_memory', got 'sorting' (see --help)",
    "--cells lstm gru": "--cells must be one of 'elman', 'lstm', got 'gru' (see --help)",
    "--preset huge": "--preset must be one of 'default', 'long', got 'huge' (see --help)",
    "--preset=huge": "--preset must be one of 'default', 'long', got 'huge' (see --help)",
    "--preset": "--preset needs a value (see --help)",
    "--permuted yes": "unexpected 'yes' after --permuted (see --help)",
    "--permuted=True": "unexpected 'True' after --permuted (see --help)",
    "--out": "--out needs a value (see --help)",
    "--stesp 3": "unknown option --stesp; perhaps you meant --steps (see --help)",
    "--stesp=3": "unknown option --stesp; perhaps you meant --steps (see --help)",
    "--learn 3": "unknown option --learn; perhaps you meant --learning-rate (see --help)",
    "--learning_rat 3 --stesp 4": (
        "unknown option --learning_rat; perhaps you meant --learning-rate (see --help)"
    ),
    "--zzz": "unknown option --zzz (see --help)",
    "-s 3": "unknown option -s (see --help)",
    "extra": "unexpected 'extra' (see --help)",
}


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


def error_line(arguments, code=2):
    """The one line on standard error that the arguments give, without `error: `."""
    errors, output = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stderr(errors),
        contextlib.redirect_stdout(output),
        pytest.raises(SystemExit) as stop,
    ):
        parse(Config, arguments, presets=PRESETS)
    line = errors.getvalue()
    assert stop.value.code == code and output.getvalue() == ""
    assert line.startswith("error: ") and line.endswith("\n") and line.count("\n") == 1
    return line.removeprefix("error: ").removesuffix("\n")


@pytest.mark.parametrize("arguments", WRONG)
def test_a_wrong_argument_is_one_line_that_says_what_is_allowed(arguments, monkeypatch):
    for columns in ("40", "200"):
        monkeypatch.setenv("COLUMNS", columns)
        assert error_line(arguments.split()) == WRONG[arguments]
        assert os.environ["COLUMNS"] == columns
    monkeypatch.delenv("COLUMNS")
    assert error_line(arguments.split()) == WRONG[arguments]
    assert "COLUMNS" not in os.environ


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", LONG], f"--steps must be a whole number, got {LONG!r} (see --help)"),
        (["--length", LONG], f"--length must be a whole number, got {LONG!r} (see --help)"),
        (
            ["--steps", "two  words"],
            "--steps must be a whole number, got 'two  words' (see --help)",
        ),
        (
            ["--steps", "two\nlines"],
            r"--steps must be a whole number, got 'two\nlines' (see --help)",
        ),
        (
            ["--task", "it's"],
            "--task must be one of 'adding', 'copy_memory', got 'it's' (see --help)",
        ),
        (["--" + "x-y" * 50], f"unknown option --{'x-y' * 50} (see --help)"),
        ([LONG.replace(",", "")], f"unexpected {LONG.replace(',', '')!r} (see --help)"),
    ],
    ids=range(7),
)
def test_words_are_not_torn_apart_and_nothing_is_drawn(arguments, message, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert error_line(arguments) == message
    errors = io.StringIO()
    with (
        contextlib.redirect_stderr(errors),
        contextlib.redirect_stdout(Terminal()),
        pytest.raises(SystemExit),
    ):
        parse(Config, arguments, presets=PRESETS)
    assert errors.getvalue() == f"error: {message}\n"


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.sampled_from([w for a in WRONG for w in a.split()] + ["--", "-", "", "│", "--=", "[b]"])
        | st.text(max_size=3),
        max_size=4,
    ).filter(lambda arguments: "-h" not in arguments)
)
def test_whatever_is_typed_there_is_a_config_or_one_line(arguments):
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            assert isinstance(parse(Config, arguments, presets=PRESETS), Config)
    except SystemExit:
        assert len(error_line(arguments)) > 5


def test_right_arguments():
    text = "--steps 7 --learning-rate 1e-3 --cells lstm elman --sizes 1 2 --length 9 --permuted"
    config = parse(Config, [*text.split(), "--out", "a b/c", "--scale=-inf", "--task=copy_memory"])
    assert config == Config(
        steps=7,
        learning_rate=1e-3,
        task="copy_memory",
        cells=("lstm", "elman"),
        sizes=(1, 2),
        length=9,
        scale=-math.inf,
        permuted=True,
        out=Path("a b/c"),
    )
    assert parse(Config, ["--learning_rate", "2", "--no-permuted"]) == Config(learning_rate=2.0)
    assert parse(Config, []) == Config()


@pytest.mark.parametrize(
    ("arguments", "config"),
    [
        ("", PRESETS["default"]),
        ("--preset default", PRESETS["default"]),
        ("--preset long", PRESETS["long"]),
        ("--preset=long", PRESETS["long"]),
        ("--preset long --steps 7", dataclasses.replace(PRESETS["long"], steps=7)),
        ("--cells elman --preset=long", dataclasses.replace(PRESETS["long"], cells=("elman",))),
        ("--preset long --preset default", PRESETS["default"]),
        ("--preset=default --preset=long", PRESETS["long"]),
    ],
)
def test_presets_change_defaults_only(arguments, config):
    assert parse(Config, arguments.split(), presets=PRESETS) == config


@pytest.mark.parametrize("arguments", ["--help", "-h", "--steps x --help", "--preset long --help"])
def test_help_names_and_explains_every_option(arguments, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit) as stop:
        parse(Config, arguments.split(), presets=PRESETS)
    output, errors = capsys.readouterr()
    assert stop.value.code == 0 and errors == ""
    assert "Train something small." in output and "For this test." in output
    for name in [field.name for field in dataclasses.fields(Config)]:
        assert option(name) in output
    for explanation in ("Training updates.", "Of Adam.", "Shuffle them.", "Where the data are."):
        assert explanation in output
    assert f"(default: {500 if 'long' in arguments else 10})" in output
    assert max(map(len, output.splitlines())) <= 100


def test_limits():
    at_least(3, Config(), "steps", "steps")
    positive(Config(), "learning_rate")
    for wrong in (2, -1, math.nan):
        with pytest.raises(ArgumentError) as error:
            at_least(3, dataclasses.replace(Config(), length=wrong), "steps", "length")
        assert str(error.value) == f"--length must be at least 3, got {wrong}"
    with pytest.raises(ArgumentError, match="--scale must be positive and finite, got -2"):
        positive(dataclasses.replace(Config(), scale=-2), "learning_rate", "scale")
    assert option("learning_rate") == "--learning-rate"


@pytest.mark.parametrize(
    ("raised", "code", "line"),
    [
        (ArgumentError("--out: no"), 2, "--out: no"),
        (ArgumentError("--out: a\nname"), 2, "--out: a name"),
        (NonFiniteError("loss became nan"), 1, "loss became nan"),
        (FileNotFoundError(2, "No such file", "x.csv"), 1, "[Errno 2] No such file: 'x.csv'"),
        (PermissionError("cannot write to x: no"), 1, "cannot write to x: no"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_what_stops_a_run_is_one_line_and_an_exit_code(raised, code, line, monkeypatch, capsys):
    def chunks():
        try:
            yield
        finally:
            print("progress bar closed", file=sys.stderr)

    def run(config):
        assert config == Config(steps=3)
        for _ in chunks():
            raise raised

    monkeypatch.setattr(sys, "argv", ["script.py", "--steps", "3"])
    with pytest.raises(SystemExit) as stop:
        main(Config, run)
    assert stop.value.code == code
    assert capsys.readouterr() == ("", f"progress bar closed\nerror: {line}\n")


@pytest.mark.parametrize("raised", [ValueError("a bug"), ZeroDivisionError(), SystemExit(7)])
def test_anything_else_is_not_hidden(raised, monkeypatch):
    def run(config):
        raise raised

    monkeypatch.setattr(sys, "argv", ["script.py"])
    with pytest.raises(type(raised)) as error:
        main(Config, run)
    assert error.value is raised


def test_main_runs(monkeypatch, capsys):
    seen = []
    monkeypatch.setattr(sys, "argv", ["script.py", "--preset", "long"])
    main(Config, seen.append, presets=PRESETS)
    assert seen == [PRESETS["long"]]
    assert capsys.readouterr() == ("", "")
    with pytest.raises(SystemExit) as stop:
        fail("no")
    assert stop.value.code == 2
    monkeypatch.setattr(sys, "argv", ["script.py", "--steps", "0"])
    with pytest.raises(SystemExit) as stop:
        main(Config, seen.append, presets=PRESETS)
    assert stop.value.code == 2 and len(seen) == 1


def test_in_a_shell():
    code = """
import dataclasses
from rnnjax.command_line import main

@dataclasses.dataclass(frozen=True)
class Config:
    "Do nothing."
    steps: int = 1
    "Updates."

main(Config, print)
"""
    command = [sys.executable, "-W", "error", "-c", code]
    environment = os.environ | {"FORCE_COLOR": "1", "COLUMNS": "40", "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [*command, "--steps", "many"], env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: --steps must be a whole number, got 'many' (see --help)\n"


@pytest.mark.slow
@pytest.mark.parametrize("printed", ["print('x' * 100_000)", "print('x')", "parse(Nothing)"])
def test_a_reader_that_leaves_ends_a_script_quietly(printed):
    script = f"""
import dataclasses
import sys
from rnnjax.command_line import main, parse

@dataclasses.dataclass(frozen=True)
class Nothing:
    pass

main(Nothing, lambda config: {printed}, arguments=[])
"""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-c", script, "--help"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def test_another_broken_pipe_is_reported(capsys):
    def run(config):
        read, write = os.pipe()
        os.close(read)
        os.write(write, b"x")

    with pytest.raises(SystemExit, match="1"):
        main(Config, run, arguments=[])
    assert "Broken pipe" in capsys.readouterr().err


@dataclasses.dataclass(frozen=True)
class Places:
    out: Path | None = None
    name: str = ""


def test_paths_start_at_home_and_are_not_empty(monkeypatch, capsys):
    monkeypatch.setenv("HOME", "/home/me")
    for words in (["--out", "~/runs"], ["--out=~/runs"]):
        assert parse(Places, words).out == Path("/home/me/runs")
    assert parse(Places, ["--out", "a~b", "--name", "~"]) == Places(Path("a~b"), "~")
    assert parse(Places, ["--name="]) == Places()
    for words in (["--out", ""], ["--out="]):
        with pytest.raises(SystemExit, match="2"):
            parse(Places, words)
        assert capsys.readouterr().err == "error: --out needs a path, got nothing\n"


def test_counts_have_a_bound():
    at_least(1, Config(steps=10**9), "steps")
    with pytest.raises(ArgumentError, match=f"--steps must be at most {10**9}, got {10**10}"):
        at_least(1, Config(steps=10**10), "steps")


@pytest.mark.parametrize("error", [MemoryError("16 GB"), RuntimeError("RESOURCE_EXHAUSTED: x")])
def test_too_little_memory_is_one_line(error, capsys):
    def run(config):
        raise error

    with pytest.raises(SystemExit, match="1"):
        main(Config, run, arguments=[])
    assert capsys.readouterr().err == f"error: not enough memory for these sizes: {error}\n"
