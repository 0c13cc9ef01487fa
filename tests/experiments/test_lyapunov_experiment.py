"""The experiment on Lyapunov exponents: its theory, its claim in small, its files and manners."""

import dataclasses
import json

import pytest
from scripts import ROOT, load

SCRIPT = ROOT / "experiments" / "lyapunov.py"
pytestmark = pytest.mark.slow
lyapunov = load(SCRIPT)
TINY = lyapunov.Config(
    gains=(0.7, 2.0),
    units=12,
    steps=20,
    transient=5,
    sizes=(4, 6),
    cells=("gru",),
    length=6,
    features=4,
    updates=4,
    snapshots=2,
    leading=2,
    seeds=2,
)


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory):
    out = tmp_path_factory.mktemp("lyapunov") / "run"
    return out, lyapunov.run(dataclasses.replace(TINY, out=out))


def test_a_run_writes_everything_it_promises(tiny_run):
    out, summary = tiny_run
    assert json.loads((out / "summary.json").read_text()) == summary
    assert set(summary) == {"gains", "distance_of_spectra", "cells", "verdict"}
    assert list(summary["gains"]) == ["0.7", "2.0"] and list(summary["cells"]) == ["gru"]
    for name in ("first_exponent", "spectra", "training"):
        for ending in ("png", "svg", "csv"):
            assert (out / f"{name}.{ending}").stat().st_size > 100
    header, *rows = (out / "spectra.csv").read_text().splitlines()
    assert header.startswith("size,place,median") and len(rows) == 4 + 6
    assert len((out / "metrics.jsonl").read_text().splitlines()) == 0  # fewer than ten updates


def test_the_same_arguments_give_the_same_bytes(tiny_run, tmp_path):
    out, _ = tiny_run
    lyapunov.run(dataclasses.replace(TINY, out=tmp_path / "again"))
    for name in ("summary.json", "first_exponent.csv", "spectra.csv", "training.csv"):
        assert (tmp_path / "again" / name).read_bytes() == (out / name).read_bytes(), name


def test_figures_can_be_redrawn(tiny_run):
    out, summary = tiny_run
    (out / "spectra.png").unlink()
    assert lyapunov.run(dataclasses.replace(TINY, out=out, redraw=True)) == summary
    assert (out / "spectra.png").exists()


def test_the_verdict_follows_its_rule():
    good = {"of_seeds": [-0.5], "log_spectral_radius_of_seeds": [-0.501]}
    good |= {"standard_error_of_seeds": [0.0], "mean": -0.5, "theory": -0.501}
    chaotic = dict(good, mean=0.15, theory=0.16)
    summary = {"gains": {"0.5": good, "2.0": chaotic}, "distance_of_spectra": 0.01}
    usual = lyapunov.Config()
    assert lyapunov.verdict(usual, summary).outcome == "reproduced"
    for change in (
        {"distance_of_spectra": 0.06},
        {"gains": {"0.5": dict(good, of_seeds=[-0.51])}},
        {"gains": {"2.0": dict(chaotic, mean=0.11)}},
        {"gains": {"2.0": dict(chaotic, mean=-0.01, theory=0.01)}},
    ):
        assert lyapunov.verdict(usual, summary | change).outcome == "not reproduced"
    quick = lyapunov.verdict(TINY, summary)
    assert quick.outcome == "quick run only" and all(quick.conditions.values())
    for fewer in ("units", "steps", "transient", "seeds"):
        config = dataclasses.replace(usual, **{fewer: getattr(usual, fewer) - 1})
        assert lyapunov.verdict(config, summary).outcome == "quick run only", fewer
    config = dataclasses.replace(usual, sizes=(200, 99, 50))
    assert lyapunov.verdict(config, summary).reason == "--sizes 99 is below 100"
    config = dataclasses.replace(usual, sizes=(100, 200), updates=1)  # not what is judged
    assert lyapunov.verdict(config, summary).outcome == "reproduced"


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ("--gains 0", ("--gains", "positive")),
        ("--sizes 10", ("--sizes", "two or more")),
        ("--leading 40", ("--leading", "--features", "40")),
        ("--length 1", ("--length", "at least 2")),
        ("--cells gru gru", ("--cells", "once")),
        ("--redraw", ("--redraw", "--out")),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_code_2(arguments, names, refuses):
    refuses(lyapunov, arguments, names)
