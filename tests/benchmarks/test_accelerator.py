"""benchmarks/accelerator.py: all of its logic, at small sizes and on a CPU."""

import dataclasses
import importlib
import json
import sys
import time
from pathlib import Path

import pytest

from rnnjax.command_line import parse

pytestmark = pytest.mark.slow

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def module(monkeypatch):
    """Import the benchmark, and forget it after the test."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield importlib.import_module("accelerator")
    for path in BENCHMARKS.glob("*.py"):
        sys.modules.pop(path.stem, None)


def test_every_section_runs_on_a_cpu(module, tmp_path, monkeypatch, capsys):
    timing, peers = importlib.import_module("timing"), importlib.import_module("peers")
    monkeypatch.setattr(timing, "DOCS", tmp_path / "benchmarks.md")
    monkeypatch.setattr(peers, "MATMULS", (8,))
    monkeypatch.setattr(module, "PEERS", ("rnnjax", "linen"))
    monkeypatch.setattr(module, "WAYS", {k: module.WAYS[k] for k in ("paragru", "mingru")})
    monkeypatch.setattr(module, "QUICK", dataclasses.replace(module.QUICK, lengths=(4,)))
    config = module.Config(quick=True, cells=("elman", "mingru"), out=tmp_path, docs=True)
    sections = {section.name: section for section in module.run(config)}
    assert [*sections] == [*module.BUDGETS]
    assert not any(section.failed for section in sections.values())
    written = json.loads((tmp_path / "accelerator.json").read_text())
    assert [part["section"] for part in written["sections"]] == [*sections]
    checked = sections["checks"].rows
    assert [row["cell"] for row in checked] == ["elman", "mingru"]
    assert all(row["difference"] < row["allowed"] for row in checked)
    ways = [(row["cell"], row["way"]) for row in sections["lengths"].rows]
    assert ways == [(cell, way) for cell, ways in module.WAYS.items() for way in ways]
    for row in sections["lengths"].rows:
        assert row["difference"] < 1e-5 and row["both ms"] > 0
        assert (row["iterations"] is None) == (not row["way"].startswith("newton"))
    (note,), (row,) = sections["cudnn"].notes, sections["cudnn"].rows
    assert note.startswith("cuDNN needs a GPU: its times are left out") and row["right"]
    assert {row["contender"] for row in sections["peers"].rows} == {"rnnjax", "linen"}
    rows = {row["cell"]: row for row in sections["experiment"].rows}
    assert {cell: row["updates"] for cell, row in rows.items()} == {"elman": 20, "lstm": 20}
    assert "ended after" in sections["experiment"].notes[0]
    text = capsys.readouterr().out
    assert "JAX" in text.splitlines()[-1] and text.count("### ") == len(sections)
    docs = (tmp_path / "benchmarks.md").read_text()
    assert docs.count("## On an accelerator") == 1 and docs.count("### ") == len(sections)


def test_a_wrong_gradient_fails_the_run(module, monkeypatch):
    right = module.unrolled

    def broken(cell):
        network = right(cell)
        return network._replace(run=lambda params, xs: 1.001 * network.run(params, xs))

    monkeypatch.setattr(module, "unrolled", broken)
    config = module.Config(quick=True, sections=("checks",), cells=("elman",))
    (section,) = module.run(config)
    assert section.failed and not section.rows[0]["right"]
    assert section.rows[0]["difference"] == pytest.approx(1e-3, rel=0.1)


def test_what_fails_or_has_no_time_is_a_remark(module):
    section = module.Section("lengths", 60)
    with section.attempt("memory"):
        raise module.jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: no memory\nmore")
    with section.attempt("peers"):
        raise AssertionError("linen: outputs differs")
    late = module.Section("lengths", 0)
    with late.attempt("T = 4"):
        late.require()
        pytest.fail("begun")
    assert late.notes == ["T = 4 left out: no time left."] and not late.failed
    assert section.notes == [
        "memory left out: RESOURCE_EXHAUSTED: no memory",
        "peers failed: linen: outputs differs",
    ]
    assert section.failed


def test_the_experiment_is_stopped_after_its_time(module, monkeypatch, tmp_path):
    script = tmp_path / "endless.py"
    script.write_text(
        "import json, pathlib, sys, time\n"
        "out = pathlib.Path(sys.argv[sys.argv.index('--out') + 1])\n"
        "out.mkdir(parents=True)\n"
        "rows = [{'cell': 'lstm', 'seed': s, 'step': 7, 'loss': s} for s in (1, 2)]\n"
        "(out / 'metrics.jsonl').write_text(''.join(json.dumps(r) + chr(10) for r in rows))\n"
        "time.sleep(600)\n"
    )
    monkeypatch.setattr(module, "EXPERIMENT", script)
    section, start = module.Section("experiment", 3), time.perf_counter()
    module.experiment(module.Config(quick=True), section)
    assert time.perf_counter() - start < 60
    assert section.rows == [{"cell": "lstm", "updates": 7, "loss": 1.5}]
    assert section.notes[0].startswith("stopped after") and not section.failed


def test_an_experiment_that_breaks_fails_the_run(module, monkeypatch, tmp_path):
    script = tmp_path / "broken.py"
    script.write_text("raise SystemExit('error: broken')\n")
    monkeypatch.setattr(module, "EXPERIMENT", script)
    section = module.Section("experiment", 60)
    module.experiment(module.Config(quick=True), section)
    assert section.failed and "exit code 1: error: broken" in section.notes[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--seconds 0", "--seconds must be at least 1, got 0"),
        ("--sections cudnn cudnn", "--sections must name some of checks, lengths, cudnn"),
        ("--cells nosuch", "--cells must be"),
    ],
)
def test_wrong_arguments_are_one_line(arguments, message, module, capsys):
    with pytest.raises(SystemExit) as stop:
        parse(module.Config, arguments.split())
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert error.startswith(f"error: {message}") and error.count("\n") == 1
