"""The benchmarks run, check what they time, and tell it in every form they promise."""

import csv
import dataclasses
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import rnnjax
from rnnjax.command_line import ArgumentError, parse

pytestmark = pytest.mark.slow

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def load(monkeypatch):
    """Import benchmarks by name, and forget them after the test."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield importlib.import_module
    for path in BENCHMARKS.glob("*.py"):
        sys.modules.pop(path.stem, None)


@pytest.fixture
def benchmark(load):
    return load("diagnostics"), load("timing")


@pytest.fixture
def docs(load, monkeypatch, tmp_path):
    """Give what stands in docs/benchmarks.md, which is another file for the test."""
    path = tmp_path / "docs" / "benchmarks.md"
    monkeypatch.setattr(load("timing"), "DOCS", path)
    return lambda: path.read_text()


@pytest.fixture
def peers(load, monkeypatch):
    """The benchmark, with products of small matrices."""
    module = load("peers")
    monkeypatch.setattr(module, "MATMULS", (8, 16))
    return module


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
    cell = rnnjax.GRU(config.features)
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


def test_untimed_rounds_come_first(benchmark):
    _, timing = benchmark
    calls = []
    contenders = {name: (lambda name=name: calls.append(name) or np.zeros(())) for name in "ab"}
    timing.interleaved(contenders, rounds=1, warm_ups=2)
    assert calls == list("ababaabb")


def test_quartiles_are_those_of_numpy(load):
    times = [4.0, 1.0, 2.0, 8.0, 3.0, 9.0]
    assert load("timing").quartiles(times) == pytest.approx(np.quantile(times, [0.25, 0.75]))
    assert load("timing").quartiles([3.0]) == [3.0, 3.0]


def test_a_process_with_the_default_malloc_does_not_start_anew(load, monkeypatch):
    timing = load("timing")
    monkeypatch.setenv("GLIBC_TUNABLES", timing.KEEP_MEMORY)
    environment = timing.default_malloc()
    assert "GLIBC_TUNABLES" not in environment
    monkeypatch.setattr(os, "environ", environment)
    monkeypatch.setattr(os, "execv", lambda *_: pytest.fail("started anew"))
    timing.keep_memory()


def test_peers_write_rows_and_verdicts(peers, docs, tmp_path, capsys):
    contenders = "rnnjax", "rnnjax-by-hand", "rnnjax-one-device", "linen", "linen-sharded"
    config = peers.Config(
        cells=("elman",),
        shapes=("2,4,3,5", "1,4,3,5"),
        contenders=contenders,
        rounds=3,
        warm_ups=1,
        out=tmp_path,
        docs=True,
    )
    rows = peers.run(config)
    written = json.loads((tmp_path / "peers.json").read_text())
    assert set(written) == {"gemm_gflops", "conditions", "rows"}
    assert written["rows"] == rows and "flax" in written["conditions"]
    assert written["gemm_gflops"] == max(row["gemm_gflops"] for row in rows) > 0
    assert [(row["shape"][0], row["contender"]) for row in rows] == [
        *((2, who) for who in contenders),
        *((1, who) for who in ("rnnjax", "rnnjax-one-device", "linen")),
    ]
    assert [row["devices"] for row in rows] == [2, 2, 1, 1, 2, 1, 1, 1]  # as the names promise
    for row in rows:
        assert row["cell"] == "elman" and row["shape"][1:] == [4, 3, 5]
        for kind in ("forward", "both"):
            low, high = row[f"{kind}_quartiles_ms"]
            assert 0 < low <= row[f"{kind}_ms"] <= high
        assert row["compile_s"] > 0 and row["temp_mb"] > 0
        flops = 6 * 5 * (3 + 5) * 4 * row["shape"][0]
        assert row["gflops"] == pytest.approx(flops / (row["both_ms"] * 1e6))
        assert row["gemm_share"] == pytest.approx(row["gflops"] / row["gemm_gflops"])
        ours = rows[0 if row["shape"][0] == 2 else len(contenders)]
        assert row["ratio"] == pytest.approx(row["both_ms"] / ours["both_ms"])
    out = capsys.readouterr().out
    fastest = min(rows[3:5], key=lambda row: row["both_ms"])
    verdict = (
        f"elman at 2, 4, 3, 5: {rows[0]['both_ms'] / fastest['both_ms']:.2f} of the fastest peer, "
        f"{fastest['contender']}"
    )
    left_out = "elman at 1,4,3,5 without linen-sharded: B = 1 is not split over 2 devices."
    for text in (out, docs()):
        assert text.count("| elman |") == len(rows)
        assert verdict in text and left_out in text
    assert docs().count("## Peers") == 1


@pytest.mark.filterwarnings("ignore")  # those of other libraries are theirs
@pytest.mark.parametrize("library", ["nnx-sharded", "torch", "keras", "equinox", "haiku"])
def test_other_libraries_compute_the_same(library, load):
    if library != "nnx-sharded" and importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    contenders = load("contenders")
    without = {"equinox": {"elman"}, "haiku": {"elman", "gru"}}.get(library, set())
    for name in ("elman", "lstm", "gru"):
        found, reasons = contenders.gather([library], contenders.make_problem(name, (2, 6, 3, 5)))
        assert set(reasons if name in without else found) == {library}


def test_what_is_not_installed_is_left_out(load, monkeypatch):
    contenders = load("contenders")
    monkeypatch.setitem(sys.modules, "equinox", None)
    problem = contenders.make_problem("lstm", (2, 3, 3, 5))
    found, reasons = contenders.gather(["linen", "equinox"], problem)
    assert list(found) == ["linen"] and reasons == {"equinox": "equinox is not installed"}


@pytest.mark.parametrize("what", ["outputs", "input_kernel"])
def test_peers_with_wrong_numbers_are_not_timed(what, peers, load, monkeypatch):
    libraries = load("libraries")

    def broken(*sizes):
        right = libraries.linen(*sizes)

        def run(weights, xs):
            outputs = right.run(weights, xs)
            kept = 0.0 if what == "outputs" else jax.lax.stop_gradient(outputs)
            return outputs + 1e-4 * (outputs - kept)  # else the gradient alone is wrong

        return right._replace(run=run)

    monkeypatch.setitem(libraries.MAKERS, "linen", broken)
    monkeypatch.setattr(load("timing"), "interleaved", lambda *_, **__: pytest.fail("timed"))
    config = peers.Config(cells=("elman",), shapes=("2,4,3,5",), contenders=("rnnjax", "linen"))
    with pytest.raises(AssertionError, match=f"linen: {what} differs"):
        peers.run(config)


def test_peers_measure_ours_with_the_default_malloc_too(peers):
    config = peers.Config(cells=("elman",), shapes=("2,4,3,5",), rounds=1, warm_ups=0)
    row = peers.with_default_malloc(config, "elman", "2,4,3,5")
    assert row["contender"] == "rnnjax-default-malloc"
    assert row["cell"] == "elman" and row["shape"] == [2, 4, 3, 5] and row["both_ms"] > 0


@pytest.fixture
def own_cell(tmp_path):
    """Return the name of a cell in a file of the user's."""
    readme = (BENCHMARKS.parent / "README.md").read_text()
    (block,) = (b for b in re.findall(r"```python\n(.*?)```", readme, re.S) if "class MGU" in b)
    (tmp_path / "mine.py").write_text(block)
    return f"{tmp_path}/mine.py:MGU"


def test_a_cell_of_ones_own_takes_part(peers, load, own_cell):
    config = peers.Config(cells=(own_cell,), shapes=("2,4,3,5",), rounds=1, warm_ups=0)
    rows, reasons = peers.measure(config, own_cell, "2,4,3,5")
    assert {row["contender"] for row in rows} >= {"rnnjax"} and rows[0]["gflops"] is None
    assert reasons["linen"] == "it has no MGU"
    population = load("population")
    sizes = {"members": 2, "many": 2, "length": 4, "batch_size": 2, "input_size": 2, "features": 3}
    ways = population.ways(population.Config(cells=(own_cell,), **sizes), own_cell)
    assert "plain scan, one by one" in ways
    memory = load("memory")
    config = memory.Config(cells=(own_cell,), shape=(2, 4, 3, 5))
    assert all(row["of_linen"] is None for row in memory.temporaries(config, own_cell))
    diagnostics = load("diagnostics")
    config = dataclasses.replace(tiny(diagnostics), cells=(own_cell,))
    assert "gradient" in diagnostics.contenders(config, own_cell)


@pytest.mark.parametrize("name", ["peers", "memory", "population", "diagnostics", "checkpoints"])
def test_what_is_not_a_cell_is_refused(load, name):
    for cells in ((), ("lstm", "lstm"), ("nosuch",), ("./nosuch.py:A",), ("json:JSONEncoder",)):
        with pytest.raises(ArgumentError, match="^--cells "):
            load(name).Config(cells=cells)


def test_peers_draw_a_sweep(peers, docs, tmp_path, monkeypatch):
    monkeypatch.setattr(peers, "SWEPT", ("rnnjax", "linen-sharded"))
    monkeypatch.setattr(peers, "MIDDLE", {"B": 2, "T": 3, "D": 3, "H": 5})
    monkeypatch.setattr(peers, "GRID", {"T": (4,), "B": (1, 2)})
    options = {"cells": ("elman",), "shapes": (), "rounds": 2, "sweep": True}
    peers.run(peers.Config(**options, out=tmp_path / "out", docs=True))
    with open(tmp_path / "out" / "peers.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    cases = [(row["axis"], row["value"], row["contender"]) for row in rows]
    assert cases == [
        (axis, str(value), who)
        for axis, values in peers.GRID.items()
        for value in values
        for who in peers.SWEPT
    ]
    assert all(0 < float(r["q25"]) <= float(r["median"]) <= float(r["q75"]) for r in rows)
    assert (tmp_path / "out" / "peers.svg").exists() and "![" in docs()
    image = (tmp_path / "docs" / "peers.png").read_bytes()
    assert image == (tmp_path / "out" / "peers.png").read_bytes()


def small_population(module, **changes):
    sizes = {"members": 2, "many": 3, "batch_size": 2, "length": 4, "features": 3}
    return module.Config(cells=("gru",), **sizes, rounds=1, warm_ups=0, **changes)


def test_populations_write_rows_with_ratios_and_bounds(load, docs, tmp_path):
    module = load("population")
    rows = module.run(small_population(module, out=tmp_path, docs=True))
    assert json.loads((tmp_path / "population.json").read_text())["rows"] == rows
    by_name = {row["what"]: row for row in rows}
    alone = by_name["population"]["ms"] / 2
    for row in rows:
        assert row["ms_per_member"] == pytest.approx(row["ms"] / row["members"])
        assert row["ratio"] == pytest.approx(row["ms_per_member"] / alone)
    assert by_name["large population"]["members"] == 3
    assert by_name["Flax Linen, one by one"]["bound"] == ">= 4"
    assert docs().count("| gru |") == len(rows)


def test_populations_with_wrong_numbers_are_not_timed(load):
    module = load("population")
    config = small_population(module)
    found = module.ways(config, "elman")
    del found["one network, all the work"]
    linen = load("libraries").linen("elman", config.input_size, config.features)
    params, _ = module.make_members(config, "elman")
    module.check(found, linen, "Flax Linen", params, 2)

    def wrong(way):
        return way._replace(call=lambda: jax.tree.map(lambda a: 1.001 * a, way.call()))

    for label in ("population", "ours, one by one", "ours, lax.map", "large population"):
        with pytest.raises(AssertionError, match=f"^{label}: "):
            module.check(found | {label: wrong(found[label])}, linen, "Flax Linen", params, 2)


def small_memory(module, **changes):
    shapes = {"shape": (2, 9, 2, 3), "step_shape": (2, 2, 3), "long_shape": (2, 30, 2, 3)}
    return module.Config(
        cells=("elman",), **shapes, lengths=(3, 6), unit=3, rounds=1, warm_ups=0, **changes
    )


def test_memory_writes_its_three_parts(load, docs, tmp_path):
    module = load("memory")
    rows = module.run(small_memory(module, out=tmp_path, docs=True))
    assert json.loads((tmp_path / "memory.json").read_text())["rows"] == rows
    parts = {part: [row for row in rows if row["part"] == part] for part in module.PARTS}
    kept = {row["what"]: row["temporaries_mb"] for row in parts["temporaries"]}
    assert [*kept] == [*module.OPTIONS, "linen", "nnx"]
    for row in parts["temporaries"]:
        assert row["of_linen"] == pytest.approx(row["temporaries_mb"] / kept["linen"])
    assert [row["T"] for row in parts["cost per step"]] == [3, 6]
    assert parts["cost per step"][0]["ratio"] == 1
    (long,) = parts["long run"]
    assert long["T"] == 30 and np.isfinite(long["loss"]) and 50 < long["peak_mb"] < 2000
    assert docs().count("| elman |") == len(rows)


def test_the_cost_of_wrong_steps_is_not_measured(load, monkeypatch):
    module, libraries = load("memory"), load("libraries")
    right = libraries.ours

    def broken(*sizes, **options):
        network = right(*sizes, **options)
        return network._replace(run=lambda weights, xs: 1.001 * network.run(weights, xs))

    monkeypatch.setattr(libraries, "ours", broken)
    with pytest.raises(AssertionError, match="rnnjax: outputs differs"):
        module.cost_per_step(small_memory(module), "elman")


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        ("peers", "--shapes 1,2,3", "--shapes takes B,T,D,H, positive whole numbers, got '1,2,3'"),
        ("peers", "--shapes 1,2,0,3", "--shapes takes B,T,D,H, positive whole numbers, got"),
        ("peers", "--contenders nobody", "--contenders must be one of"),
        ("peers", "--rounds 0", "--rounds must be at least 1, got 0"),
        ("peers", f"--out {__file__}", "--out must be a directory, got the file"),
        ("population", "--many 3", "--many must be at least --members, got 3"),
        ("population", "--batch-size 0", "--batch-size must be at least 1, got 0"),
        ("memory", "--unit 7", "--unit must be one of --lengths, got 7"),
        ("memory", "--shape 1 2 3 0", "--shape must be positive, got 1, 2, 3, 0"),
    ],
)
def test_wrong_arguments_are_one_line(script, arguments, message, load, capsys):
    with pytest.raises(SystemExit) as stop:
        parse(load(script).Config, arguments.split())
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert error.startswith(f"error: {message}") and error.count("\n") == 1


@pytest.mark.parametrize("script", ["diagnostics", "peers", "population", "memory"])
def test_help_imports_no_other_library(script):
    command = [sys.executable, str(BENCHMARKS / f"{script}.py"), "--help"]
    environment = os.environ | {"PYTHONPROFILEIMPORTTIME": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    modules = {line.split("|")[-1].strip() for line in done.stderr.splitlines()}
    assert "rnnjax" in modules and "usage:" in done.stdout
    assert not modules & {"flax", "torch", "keras", "equinox", "haiku", "matplotlib"}


def test_a_wrong_argument_is_one_line():
    command = [sys.executable, str(BENCHMARKS / "diagnostics.py"), "--exponents", "0"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: --exponents must lie in 1..128, got 0")
    assert done.stderr.count("\n") == 1


def test_layers_are_timed_beside_the_same_without_flax(load, docs, tmp_path):
    module = load("layers")
    sizes = {"batch_size": 2, "length": 4, "input_size": 2, "features": 3}
    rows = module.run(module.Config(cells=("gru",), **sizes, rounds=2, out=tmp_path, docs=True))
    assert json.loads((tmp_path / "layers.json").read_text())["rows"] == rows
    names = ["unroll", "time-major layer", "batch-major layer"]
    wrappers = ["unroll", "LayerNorm", "Zoneout", "VariationalDropout"]
    assert [row["what"] for row in rows] == names * 3 + wrappers
    for i, row in enumerate(rows):
        unit = rows[min(i - i % 3, 9)]["ms"]
        assert row["in units of unroll"] == pytest.approx(row["ms"] / unit)
    assert docs().count("| gru |") == 13


def test_layers_with_other_gradients_are_not_timed(load, monkeypatch):
    module = load("layers")
    sizes = {"batch_size": 2, "length": 4, "input_size": 2, "features": 3}
    config = module.Config(cells=("gru",), **sizes)
    right = module.by_hand
    monkeypatch.setattr(module, "by_hand", lambda *a: 1.01 * right(*a))
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        module.contenders(config, "gru", "deep")
