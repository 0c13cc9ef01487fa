"""The benchmarks run, check what they time, and tell it in every form they promise."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import diagnostics
    import timing

    yield diagnostics, timing
    for name in ("diagnostics", "timing"):
        del sys.modules[name]


def tiny(module, **changes):
    sizes = {"batch_size": 2, "length": 4, "input_size": 2, "features": 3}
    return module.Config(cells=("gru",), **sizes, exponents=(1, 2), values=2, rounds=2, **changes)


def test_it_writes_rows_with_ratios_and_bounds(benchmark, tmp_path, capsys, monkeypatch):
    module, timing = benchmark
    monkeypatch.setattr(timing, "DOCS", tmp_path / "benchmarks.md")
    (tmp_path / "benchmarks.md").write_text(
        "# Benchmarks\n\n## Others\n\nkept\n\n## Diagnostics\n\nold\n"
    )
    rows = module.run(tiny(module, out=tmp_path, docs=True))
    written = json.loads((tmp_path / "diagnostics.json").read_text())
    assert written["rows"] == rows and "JAX" in written["conditions"]
    by_name = {row["what"]: row for row in rows}
    for name, row in by_name.items():
        assert row["ms"] > 0, name
        if row["in units of"] in ("gradient", "forward"):
            unit = by_name[row["in units of"]]["ms"]
            assert row["ratio"] == pytest.approx(row["ms"] / unit)
    assert by_name["2 Lyapunov exponents"]["bound"] == 8
    assert by_name["gradient and adjoint norms"]["bound"] == 1.15
    docs = (tmp_path / "benchmarks.md").read_text()
    assert docs.startswith("# Benchmarks") and "## Others\n\nkept" in docs
    assert docs.count("## Diagnostics") == 1 and "old" not in docs
    assert docs.count("| gru |") == len(rows)
    assert capsys.readouterr().out.count("| gru |") == len(rows)


def test_wrong_numbers_are_not_timed(benchmark):
    module, _ = benchmark
    config = tiny(module)
    calls = module.contenders(config, "gru")
    right = calls["gradient and adjoint norms"]
    calls["gradient and adjoint norms"] = lambda: (right()[0], 1.01 * right()[1])
    cell = module.CELLS["gru"](config.features)
    key = module.jax.random.key(0)
    params = cell.init(key, config.input_size)
    xs = module.jax.random.normal(key, (config.length, config.batch_size, config.input_size))
    with pytest.raises(AssertionError):
        module.check(cell, params, xs, calls)


def test_contenders_take_turns_and_are_called_once_before_each_timing(benchmark):
    _, timing = benchmark
    calls = []
    contenders = {name: (lambda name=name: calls.append(name) or np.zeros(())) for name in "ab"}
    seconds = timing.interleaved(contenders, rounds=3)
    assert calls == list("aabb") * 3
    assert {name: len(times) for name, times in seconds.items()} == {"a": 3, "b": 3}
    assert timing.median([3.0, 1.0, 2.0]) == 2.0


def test_a_wrong_argument_is_one_line():
    command = [sys.executable, str(BENCHMARKS / "diagnostics.py"), "--exponents", "0"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: --exponents must lie in 1..128, got 0")
    assert done.stderr.count("\n") == 1
