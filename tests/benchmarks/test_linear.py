"""benchmarks/linear.py times what it has checked, and says what it leaves out."""

import importlib
import json
import sys
from pathlib import Path

import pytest

from rnnjax.command_line import parse

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SMALL = {"shapes": ("2,6,3,4",), "head_size": 2, "rounds": 1, "warm_ups": 0}


@pytest.fixture
def load(monkeypatch):
    """Import benchmarks by name, and forget them after the test."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield importlib.import_module
    for path in BENCHMARKS.glob("*.py"):
        sys.modules.pop(path.stem, None)


@pytest.mark.slow
def test_it_writes_rows_ratios_and_what_it_leaves_out(load, tmp_path, monkeypatch, capsys):
    module = load("linear")
    monkeypatch.setattr(load("timing"), "DOCS", tmp_path / "docs" / "benchmarks.md")
    config = module.Config(
        **SMALL,
        cells=("mingru", "deltanet"),
        newton_cells=("indrnn",),
        newton_shapes=("2,6,3,4",),
        out=tmp_path,
        docs=True,
    )
    rows = module.run(config)
    written = json.loads((tmp_path / "linear.json").read_text())
    assert written["rows"] + written["newton"] == rows and "JAX" in written["conditions"]
    ways = "rnnjax", "rnnjax-parallel", "lax.scan", "associative_scan"
    newton = "rnnjax", "newton-dense", "newton-diagonal"
    assert [(row["cell"], row["contender"]) for row in rows] == [
        *(("mingru", who) for who in ways),
        *(("deltanet", who) for who in ("rnnjax", "lax.scan")),
        *(("indrnn", who) for who in newton),
    ]
    for i, row in enumerate(rows):
        unit = rows[0 if i < 4 else 4 if i < 6 else 6]
        assert row["both_ratio"] == pytest.approx(row["both_ms"] / unit["both_ms"])
        assert row["compile_s"] > 0 and row["temp_mb"] > 0
    assert rows[6]["iterations"] is None
    assert all(1 <= row["iterations"] <= 6 for row in rows[7:])
    best = min(row["both_ms"] for row in rows[2:4])
    verdict = f"and both {rows[0]['both_ms'] / best:.2f} of the fastest other way"
    docs = (tmp_path / "docs" / "benchmarks.md").read_text()
    for text in (capsys.readouterr().out, docs):
        assert text.count("| mingru |") == 4 and text.count("| indrnn |") == 3
        assert verdict in text and "mingru at 2, 6, 3, 4: forward" in text
        assert "deltanet without associative_scan: it is not linear." in text
    assert docs.count("## Linear cells") == 1


@pytest.mark.slow
def test_wrong_numbers_are_not_timed(load, monkeypatch):
    module = load("linear")
    right = module.associative

    def broken(cell):
        network = right(cell)
        return network._replace(run=lambda params, xs: 1.01 * network.run(params, xs))

    monkeypatch.setattr(module, "associative", broken)
    monkeypatch.setattr(module, "RIVALS", ())  # as if it were one of ours
    monkeypatch.setattr(load("timing"), "interleaved", lambda *_, **__: pytest.fail("timed"))
    config = module.Config(**SMALL, cells=("mingru",), contenders=("rnnjax", "associative_scan"))
    with pytest.raises(AssertionError, match="associative_scan: outputs differs"):
        module.measure(config, "mingru", "2,6,3,4")


@pytest.mark.slow
def test_newton_that_does_not_converge_is_not_timed(load, monkeypatch):
    module = load("linear")
    solve = module.rnnjax.unroll_newton

    def one_iteration(*args, **options):
        return solve(*args, **options, max_iterations=1)

    monkeypatch.setattr(module.rnnjax, "unroll_newton", one_iteration)
    config = module.Config(**SMALL, cells=())
    rows = module.measure_newton(config, "indrnn", "2,6,3,4")
    assert [row["contender"] for row in rows] == [
        "rnnjax",
        "newton-dense, not converged",
        "newton-diagonal, not converged",
    ]
    assert rows[1]["both_ms"] is None and rows[1]["iterations"] == 1
    assert "not converged" in load("timing").table([module.shown(row) for row in rows])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # those of other libraries are theirs
def test_memax_computes_the_same(load):
    pytest.importorskip("memax")
    module, contenders = load("linear"), load("contenders")
    problem = contenders.make_problem("lru", (2, 6, 3, 4))
    found = {"memax": contenders.compiled(module.network("memax", problem), problem)}
    contenders.check(found, contenders.reference(problem))


def test_what_memax_lacks_is_left_out(load, monkeypatch):
    module, contenders = load("linear"), load("contenders")
    monkeypatch.setitem(sys.modules, "memax", None)
    for name, reason in (("lru", "memax is not installed"), ("mingru", "does not have it")):
        problem = contenders.make_problem(name, (1, 2, 3, 4))
        with pytest.raises(module.LeftOut, match=reason):
            module.network("memax", problem)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--shapes 1,2,3", "--shapes takes B,T,D,H, positive whole numbers, got '1,2,3'"),
        ("--newton-shapes 1,2,3", "--newton-shapes takes B,T,D,H, positive whole numbers"),
        ("--cells lru lru", "--cells must name each cell once, got lru lru"),
        ("--cells nosuch", "--cells must be"),
        ("--cells mlstm --head-size 5", "--head-size must divide H, got 5 and 16,4096,64,128"),
        ("--rounds 0", "--rounds must be at least 1, got 0"),
    ],
)
def test_wrong_arguments_are_one_line(arguments, message, load, capsys):
    with pytest.raises(SystemExit) as stop:
        parse(load("linear").Config, arguments.split())
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert error.startswith(f"error: {message}") and error.count("\n") == 1


@pytest.mark.slow
def test_another_librarys_way_that_computes_wrong_numbers_is_left_out(load, monkeypatch):
    module = load("linear")
    right = module.associative

    def wrong(cell):
        network = right(cell)
        return module.Network(lambda params, xs: 1.01 * network.run(params, xs), network.weights)

    monkeypatch.setattr(module, "associative", wrong)
    config = module.Config(**SMALL, cells=("mingru",), newton_cells=())
    rows, reasons = module.measure(config, "mingru", "2,6,3,4")
    assert [row["contender"] for row in rows] == ["rnnjax", "rnnjax-parallel", "lax.scan"]
    assert reasons["associative_scan"].startswith("at T = 6, outputs differs from that in float64")
