"""What online methods keep: a small run, its tables by hand, its verdict, its files and manners."""

import dataclasses
import json
import math

import jax
import numpy as np
import pytest
from scripts import ROOT, load, without_figures

from rnnjax.runs import Run

online_quality = load(ROOT / "experiments" / "online_quality.py")
TINY = online_quality.Config(
    cells=("elman", "lru"), features=3, length=10, truncated=4, seeds=2, draws=3, decay=0.4
)
FIGURES = "share", "norm", "deviation"


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory):
    out = tmp_path_factory.mktemp("online_quality") / "run"
    return out, online_quality.run(dataclasses.replace(TINY, out=out))


@pytest.mark.slow
def test_a_run_writes_everything_it_promises(tiny_run):
    out, summary = tiny_run
    assert json.loads((out / "summary.json").read_text()) == summary
    assert set(summary["cells"]) == {"elman", "lru"}
    for entry in summary["cells"].values():
        assert set(entry["share"]) == set(entry["error"]) == set(online_quality.METHODS)
        assert entry["not_served"] == {}
    linear = {cell: entry["linear"] for cell, entry in summary["cells"].items()}
    unitwise = {cell: entry["unitwise"] for cell, entry in summary["cells"].items()}
    assert linear == unitwise == {"elman": False, "lru": True}
    for name in FIGURES:
        for ending in ("png", "svg", "csv"):
            assert (out / f"{name}.{ending}").stat().st_size > 1000
    assert summary["verdict"]["outcome"] == "quick run only"


@pytest.mark.slow
def test_figures_can_be_redrawn(tiny_run):
    out, summary = tiny_run
    for name in FIGURES:
        (out / f"{name}.png").unlink()
    assert online_quality.run(dataclasses.replace(TINY, out=out, redraw=True)) == summary
    assert all((out / f"{name}.png").exists() for name in FIGURES)


@pytest.mark.slow
def test_what_is_exact_is_exact(tiny_run):
    for cell, entry in tiny_run[1]["cells"].items():
        share, up_to = entry["share"], [1.0] * 4 + [0.0] * 6
        np.testing.assert_allclose(share["rtrl"], 1, atol=1e-9)
        np.testing.assert_allclose(share["truncated"], up_to, atol=1e-9)
        for method in ("snap", "eprop", "rflo"):
            assert share[method][0] == pytest.approx(1, abs=1e-9)
        if cell == "lru":
            np.testing.assert_allclose(share["snap"], 1, atol=1e-9)
            np.testing.assert_allclose(share["eprop"], 1, atol=1e-9)
        else:
            np.testing.assert_allclose(share["eprop"][1:], 0, atol=1e-12)  # nothing but U


def by_hand(params, xs):
    """Return the exact parts and those of RFLO, `[T, P]`, of an Elman network, lag 1 first."""
    w, u, b = (np.asarray(p, float) for p in params)
    states, exact, local = [np.zeros(len(b))], [], []
    for x in xs:
        states.append(np.tanh(x @ w + states[-1] @ u + b))
    arriving = np.ones(len(b))  # the loss is the sum of the last outputs
    for k, (x, h, new) in enumerate(zip(xs[::-1], states[-2::-1], states[:0:-1], strict=True)):
        slope = 1 - new**2
        for parts, along in ((exact, arriving), (local, 0.4**k * np.ones(len(b)))):
            entered = along * slope
            parts.append(np.concatenate([np.outer(x, entered), np.outer(h, entered), [entered]]))
        arriving = u @ (arriving * slope)
    return [np.stack([part.ravel() for part in parts]) for parts in (exact, local)]


@pytest.mark.slow
def test_the_tables_are_those_of_a_loop_by_hand(tiny_run):
    out, summary = tiny_run
    with jax.enable_x64(True):
        cell = TINY.make_cell("elman")
        _, params, xs = online_quality.draw_networks(TINY, cell)
        members = [(jax.tree.map(lambda p, i=i: p[i], params), np.asarray(xs[i])) for i in (0, 1)]
        drawn = jax.random.split(jax.random.key(1), 3)[0]
        np.testing.assert_array_equal(members[1][0].bias, cell.init(drawn, 2).bias)
        parts = [by_hand(*member) for member in members]
    shares = [(found * exact).sum(1) / (exact**2).sum(1) for exact, found in parts]
    entry = summary["cells"]["elman"]
    np.testing.assert_allclose(entry["share"]["rflo"], np.mean(shares, 0), rtol=1e-8)
    error = np.std(shares, 0, ddof=1) / math.sqrt(2)
    np.testing.assert_allclose(entry["error"]["rflo"], error, rtol=1e-6, atol=1e-12)
    table = Run(out).read_table("share")
    rows = (table["cell"] == "elman") & (table["method"] == "rflo")
    assert table["lag"][rows].tolist() == list(range(1, 11))
    np.testing.assert_allclose(table["median"][rows], entry["share"]["rflo"], rtol=1e-12)
    high = table["median"][rows] + 2 * np.array(entry["error"]["rflo"])
    np.testing.assert_allclose(table["q75"][rows], high, rtol=1e-9)
    assert table["drawn"][rows].tolist() == [1] * 10
    wide = 4 * np.array(summary["cells"]["lru"]["error"]["uoro"]) > 1.5
    first = wide.tolist().index(True)  # from there on the band would hide the rest
    of_uoro = (table["cell"] == "lru") & (table["method"] == "uoro")
    assert table["drawn"][of_uoro].tolist() == [1] * first + [0] * (10 - first)
    norms = Run(out).read_table("norm")
    of_elman = norms["median"][norms["cell"] == "elman"]
    logs = [np.log(np.linalg.norm(exact, axis=1)) for exact, _ in parts]
    np.testing.assert_allclose(of_elman, np.mean(logs, 0), rtol=1e-8)  # of two: the median


def stand_in(config, name, method):
    """Return a quality that is perfect, for methods that serve the cell; e-prop does not."""
    del name
    if method == "eprop":
        raise TypeError("EProp cannot serve this cell: it needs another")
    names = online_quality.diagnostics.GradientQuality._fields
    found = {key: np.ones((config.seeds, config.length)) for key in names}
    found["norm"][:, 7:] = 1e-12, 1e-12, 1e-12  # rounding
    found["share_error"][:] = 0.5 if method == "uoro" else 0.0
    return found


def test_a_run_goes_on_without_what_a_method_cannot_serve(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(online_quality, "quality", stand_in)
    config = dataclasses.replace(TINY, cells=("lru",), out=tmp_path / "run")
    summary = without_figures(online_quality.run)(config)
    entry = summary["cells"]["lru"]
    assert entry["not_served"] == {"e-prop": "EProp cannot serve this cell: it needs another"}
    assert "eprop" not in entry["share"]
    assert entry["share"]["snap"] == [1.0] * 7 + [None] * 3
    assert entry["error"]["uoro"][:7] == pytest.approx([0.5 / math.sqrt(2)] * 7)
    assert entry["error"]["uoro"][7:] == [None] * 3
    assert not any("e-prop" in condition for condition in summary["verdict"]["conditions"])
    printed = capsys.readouterr().out
    assert "EProp cannot serve this cell" in printed
    assert json.loads((tmp_path / "run" / "summary.json").read_text()) == summary


def test_a_cell_that_no_method_serves_is_one_line(tmp_path, monkeypatch):
    def refused(*_):
        raise TypeError("no forward mode")

    monkeypatch.setattr(online_quality, "quality", refused)
    config = dataclasses.replace(TINY, cells=("lru",), out=tmp_path / "run")
    with pytest.raises(online_quality.ArgumentError, match="--cells lru: no forward mode"):
        online_quality.run(config)


def summary_by_hand(**changes):
    """Return a summary of a dense and a linear cell that reproduces; changes by CELL_METHOD."""
    ones, falls = [1.0] * 12, (0.7 ** np.arange(12)).tolist()
    noisy = (1 + 0.3 * np.cos(np.arange(12))).tolist()
    dense = {"rtrl": ones, "snap": falls, "eprop": falls, "rflo": falls, "uoro": noisy}
    linear = dense | {"snap": ones, "eprop": ones}
    cells = {}
    for cell, share in (("gru", dense), ("lru", linear)):
        share = share | {"truncated": [1.0] * 4 + [0.0] * 8}
        share |= {key[4:]: values for key, values in changes.items() if key[:3] == cell}
        entry = {"unitwise": cell == "lru", "linear": cell == "lru", "share": share}
        entry |= {"error": {"uoro": [0.1] * 12}, "deviation": np.arange(12.0).tolist()}
        cells[cell] = entry | {key: share.pop(key) for key in ("deviation",) if key in share}
    return {"truncated": 4, "cells": cells}


FULL = online_quality.Config()


def judged(config=FULL, **changes):
    verdict = online_quality.verdict(config, summary_by_hand(**changes))
    return str(verdict.outcome), [name for name, holds in verdict.conditions.items() if not holds]


def one_off(values, place, value):
    return [*values[:place], value, *values[place + 1 :]]


ONES, FALLS = [1.0] * 12, (0.7 ** np.arange(12)).tolist()
KEPT = [1.0] * 4 + [0.0] * 8


@pytest.mark.parametrize(
    ("changes", "failed"),
    [
        ({"gru_rtrl": one_off(ONES, 11, 0.99)}, "gru: RTRL keeps all"),
        ({"lru_truncated": one_off(KEPT, 3, 0.9)}, "lru: truncation keeps lags 1 to 4 alone"),
        ({"lru_truncated": one_off(KEPT, 4, 0.1)}, "lru: truncation keeps lags 1 to 4 alone"),
        ({"gru_uoro": one_off(ONES, 6, 1.41)}, "gru: UORO has no bias"),
        ({"gru_deviation": [3.0, *range(10), 2.9]}, "gru: UORO's noise grows with the lag"),
        ({"lru_snap": one_off(ONES, 9, 0.9)}, "lru: SnAp(1) keeps all at every lag"),
        ({"lru_eprop": one_off(ONES, 9, 0.9)}, "lru: e-prop keeps all at every lag"),
        ({"gru_snap": one_off(FALLS, 0, 0.9)}, "gru: SnAp(1) keeps all at lag 1"),
        ({"gru_eprop": one_off(FALLS, 0, 0.9)}, "gru: e-prop keeps all at lag 1"),
        ({"lru_rflo": one_off(FALLS, 0, 0.9)}, "lru: RFLO keeps all at lag 1"),
        ({"gru_snap": one_off(FALLS, 9, 0.5)}, "gru: SnAp(1) keeps less than half at lag 10"),
        ({"gru_eprop": one_off(FALLS, 9, 0.5)}, "gru: e-prop keeps less than half at lag 10"),
        ({"gru_rflo": one_off(FALLS, 9, 0.5)}, "gru: RFLO keeps less than half at lag 10"),
        ({"gru_snap": one_off(FALLS, 9, None)}, "gru: SnAp(1) keeps less than half at lag 10"),
    ],
    ids=lambda value: value.replace(" ", "_") if isinstance(value, str) else "",
)
def test_every_condition_counts(changes, failed):
    assert judged(**changes) == ("not reproduced", [failed])


def test_the_verdict_of_what_fits():
    assert judged() == ("reproduced", [])
    unknown = {"gru_rtrl": one_off(ONES, 11, None), "gru_uoro": one_off(ONES, 11, None)}
    assert judged(**unknown) == ("reproduced", [])  # a lag that was not measured
    slow = dataclasses.replace(FULL, decay=0.9)
    assert judged(slow, gru_rflo=one_off(FALLS, 9, 5.0)) == ("reproduced", [])
    for option in ("length", "seeds", "draws", "features"):
        fewer = dataclasses.replace(FULL, **{option: getattr(FULL, option) - 1})
        assert judged(fewer) == ("quick run only", [])


@pytest.mark.parametrize("ratio", [1 / 9, 1 / 3])
def test_what_stays_in_a_unit_of_a_rotation(ratio):
    """The threshold of the verdict: the mean share over random rotations at lag 10."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(20):
        rotation = np.linalg.qr(rng.normal(size=(100, 100)))[0]
        along = exact = rng.normal(size=100)
        for _ in range(9):
            exact = exact + ratio * rotation @ exact
        found.append(along @ exact / (exact @ exact))
    want = 1 / sum(math.comb(9, j) ** 2 * ratio ** (2 * j) for j in range(10))
    assert np.mean(found) == pytest.approx(want, abs=0.03)
    assert want < 0.5


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ("--length 9", ("--length", "at least 10", "9")),
        ("--truncated 0", ("--truncated", "at least 1", "0")),
        ("--truncated 40", ("--truncated", "at most 39", "40")),
        ("--decay 1.5", ("--decay", "from 0 to 1", "1.5")),
        ("--decay nan", ("--decay", "from 0 to 1", "nan")),
        ("--draws 1", ("--draws", "at least 2", "1")),
        ("--seeds 1", ("--seeds", "at least 2", "1")),
        ("--input-size 0", ("--input-size", "at least 1", "0")),
        ("--cells gru gru", ("--cells", "once")),
        ("--cells nothing", ("--cells", "elman", "nothing")),
        ("--draws many", ("--draws", "whole number", "many")),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_code_2(arguments, names, refuses):
    refuses(online_quality, arguments, names)
