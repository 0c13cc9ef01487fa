"""benchmarks/online.py times what it has checked, and asserts how costs grow with the units."""

import importlib
import json
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from rnnjax.command_line import parse

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SMALL = {"cells": ("gru",), "sizes": (3, 5), "local_sizes": (5, 7), "length": 10}
SMALL |= {"kept_length": 20, "stream_lengths": (), "rounds": 1, "check": False}


@pytest.fixture
def load(monkeypatch):
    """Import benchmarks by name, and forget them after the test."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield importlib.import_module
    for path in BENCHMARKS.glob("*.py"):
        sys.modules.pop(path.stem, None)


@pytest.mark.slow
def test_it_writes_a_row_for_each_method_and_size(load, tmp_path, monkeypatch, capsys):
    module = load("online")
    monkeypatch.setattr(load("timing"), "DOCS", tmp_path / "docs" / "benchmarks.md")
    rows = module.run(module.Config(**SMALL, out=tmp_path, docs=True))
    written = json.loads((tmp_path / "online.json").read_text())
    assert written["rows"] == rows and written["streams"] == []
    by_size = {h: {r["method"]: r for r in rows if r["H"] == h} for h in (3, 5, 7)}
    assert set(by_size[5]) == {"BPTT", *module.METHODS}
    assert set(by_size[3]) == {"BPTT", 'RTRL("dense")', "RTRL()", "SnAp(2)"}
    assert set(by_size[7]) == set(by_size[5]) - set(by_size[3]) | {"BPTT"}
    assert all(row["ms"] > 0 and row["bytes"] > 0 for row in rows)
    parameters = 3 * 5 * (5 + 2) + 5
    for method, numbers in {
        'RTRL("dense")': 5 * parameters,
        "RTRL()": 5 * parameters,
        "SnAp(1)": parameters,
        "EProp()": parameters,
        "UORO()": parameters + 5 + 2,  # a key is two numbers
    }.items():
        assert by_size[5][method]["bytes"] == 4 * numbers
    text = (tmp_path / "docs" / "benchmarks.md").read_text()
    assert "## Gradients forward in time" in text and "| gru | UORO() | 7 |" in text
    assert "gru, SnAp(1): bytes grow as H^" in capsys.readouterr().out


@pytest.mark.slow
def test_bounds_are_asserted(load, monkeypatch):
    module = load("online")
    monkeypatch.setattr(module, "BOUNDS", {("SnAp(1)", "bytes"): (0.0, 1.0)})
    with pytest.raises(AssertionError, match=r"gru, SnAp\(1\): bytes grow as H\^.*beyond"):
        module.run(module.Config(**SMALL | {"check": True}))


def test_a_wrong_gradient_is_not_timed(load):
    module = load("online")
    contenders = load("contenders")
    problem = contenders.make_problem("lru", (1, 6, 1, 3))
    want = contenders.reference(problem)
    got = jax.jit(module.gradient(module.METHODS["RTRL()"], problem.cell, problem.w))(
        problem.params, problem.xs
    )
    module.check_gradient("lru", "RTRL()", got, want, 6)
    wrong = got._replace(nu_log=got.nu_log * (1 + 1e-3))
    with pytest.raises(AssertionError, match=r"lru, RTRL\(\): nu_log differs"):
        module.check_gradient("lru", "RTRL()", wrong, want, 6)


def test_exponents_are_those_of_the_largest_sizes(load):
    module = load("online")
    rows = [
        {"cell": "gru", "method": "SnAp(1)", "H": h, "ms": 3.0 * h**2.5, "bytes": b}
        for h, b in ((8, 1), (16, 250), (32, 950))
    ]
    (fit,) = module.exponents(rows)
    assert fit["ms"] == pytest.approx(2.5) and fit["bytes"] == pytest.approx(1.926, abs=1e-3)
    assert fit["sizes"] == [16, 32]
    kept = module.verdicts(rows, [fit], [])
    assert list(kept.values()) == [True, True]
    assert list(module.verdicts(rows, [fit | {"ms": 2.7}], []).values()) == [False, True]


def test_the_gru_is_five_times_as_fast_and_memory_is_flat(load):
    module = load("online")

    def rows(dense):
        times = {module.DENSE: dense, module.AUTO: 2.0}
        return [{"cell": "gru", "method": m, "H": 64, "ms": ms} for m, ms in times.items()]

    streams = [{"peak_mb": peak} for peak in (300.0, 364.0)]
    assert all(module.verdicts(rows(10.0), [], streams).values())
    assert not any(module.verdicts(rows(9.9), [], [*streams, {"peak_mb": 364.1}]).values())


@pytest.mark.slow
def test_the_peak_of_memory_does_not_depend_on_the_length(load):
    """A float32 state of 64 complex numbers kept for 10^6 steps would be 512 MB."""
    streams = load("streams")
    peaks = [streams.stream_apart(length)["peak_mb"] for length in (1000, 1_000_000)]
    assert np.ptp(peaks) < 64  # those of equal processes differ by 12


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--cells gru gru", "--cells needs one or more values, each once, got gru gru"),
        ("--cells none", "--cells "),
        ("--sizes 8", "--sizes must be two or more positive sizes, to fit a line"),
        ("--local-sizes 0 8", "--local-sizes must be two or more positive sizes"),
        ("--stream-lengths 0", "--stream-lengths must be positive"),
        ("--rounds 0", "--rounds must be at least 1, got 0"),
        (f"--out {__file__}", "--out must be a directory, got the file"),
    ],
)
def test_wrong_arguments_are_one_line(arguments, message, load, capsys):
    with pytest.raises(SystemExit) as stop:
        parse(load("online").Config, arguments.split())
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert error.startswith(f"error: {message}") and error.count("\n") == 1
