"""Memory horizons: closed forms, what a run writes, and the claim in small."""

import dataclasses
import json
import math

import jax
import numpy as np
import pytest
from scripts import ROOT, load, without_figures

from rnnjax import networks
from rnnjax.runs import Run

pytestmark = pytest.mark.slow
experiment = load(ROOT / "experiments" / "memory_horizon.py")

TINY = experiment.Config(
    cells=("elman", "gru"),
    forget_biases=(0.0, 1.0, 2.0),
    t_maxes=(5.0, 20.0, 80.0),
    gains=(0.5, 1.0),
    lags=300,
    features=32,
    seeds=4,
)
FIGURES = [f"{kind}_{sweep}" for kind in ("horizon", "profiles") for sweep in experiment.SWEEPS]


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory):
    out = tmp_path_factory.mktemp("tiny") / "run"
    return out, experiment.run(dataclasses.replace(TINY, out=out))


@pytest.mark.parametrize("bias", [0.0, 1.0, 3.5])
def test_the_closed_form_of_a_common_bias(bias):
    keeps = 1 / (1 + math.exp(-bias))
    profile = experiment.theory("lstm", "forget_bias", bias, 500)
    found = experiment.summarise(profile[:, None], 0.1)
    assert found["horizon"][0] == math.floor(math.log(0.1) / math.log(keeps)) + 1
    assert found["half_life"][0] == pytest.approx(math.log(2) / -math.log(keeps), rel=1e-5)


def test_the_closed_form_of_chrono_biases_is_the_mean_over_their_distribution():
    b = np.log(np.random.default_rng(0).uniform(1, 30 - 1, 400_000))
    keeps = 1 / (1 + np.exp(-b))
    profile = experiment.theory("gru", "t_max", 30.0, 100)
    for k in (1, 10, 100):
        want = math.log(np.mean(keeps ** (2.0 * k))) / 2
        assert profile[k - 1] == pytest.approx(want, abs=0.02)


@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_without_weights_the_state_decays_as_the_theory_says(name):
    config = dataclasses.replace(TINY, lags=30)
    cell = networks.CELLS[name](config.features, forget_bias=2.0)
    keys = jax.random.split(jax.random.key(0), 2)
    params = jax.vmap(lambda key: cell.init(key, config.input_size))(keys)
    params = params._replace(
        input_kernel=0 * params.input_kernel, recurrent_kernel=0 * params.recurrent_kernel
    )
    profile = np.asarray(experiment.make_profile(cell, config)(keys, params)["profile"])  # [S, K]
    want = experiment.theory(name, "forget_bias", 2.0, 30)
    np.testing.assert_allclose(np.diff(profile), np.broadcast_to(np.diff(want), (2, 29)), rtol=1e-4)
    if name == "gru":  # of an LSTM the direction along h is lost at once
        np.testing.assert_allclose(profile, np.broadcast_to(want, (2, 30)), rtol=1e-4)


def test_an_elman_network_at_rest_is_at_its_bound():
    config = dataclasses.replace(TINY, input_scale=0.0)
    cell, keys = networks.CELLS["elman"](config.features), jax.random.key(0)[None]
    params = jax.vmap(lambda key: cell.init(key, config.input_size))(keys)
    params = params._replace(recurrent_kernel=0.8 * params.recurrent_kernel)
    profile = np.asarray(experiment.make_profile(cell, config)(keys, params)["profile"])[0]
    np.testing.assert_allclose(profile, experiment.theory("elman", "gain", 0.8, 300), rtol=1e-4)


def test_a_run_writes_everything_it_promises(tiny_run):
    out, summary = tiny_run
    assert json.loads((out / "summary.json").read_text()) == summary
    assert {sweep: list(cells) for sweep, cells in summary["sweeps"].items()} == {
        "gain": ["elman", "gru"],
        "forget_bias": ["gru"],
        "t_max": ["gru"],
    }
    for cells in summary["sweeps"].values():
        for quantities in cells.values():
            assert list(quantities) == ["horizon", "half_life"]
            for entry in (e for entries in quantities.values() for e in entries):
                assert entry["low"] <= entry["value"] <= entry["high"]
    assert "theory" not in summary["sweeps"]["gain"]["gru"]["horizon"][0]
    assert summary["sweeps"]["forget_bias"]["gru"]["horizon"][0]["theory"] == 4  # (1/2)^4 < 0.1
    table = Run(out).read_table("horizons")
    assert len(table["at"]) == 2 * (2 * 2 + 3 + 3)  # quantities, cells and gains, biases, T_max
    for name in FIGURES:
        for ending in ("png", "svg"):
            assert (out / f"{name}.{ending}").stat().st_size > 1000


def test_the_same_arguments_give_the_same_bytes(tiny_run, tmp_path, monkeypatch):
    monkeypatch.setattr(experiment, "run", without_figures(experiment.run))
    experiment.run(dataclasses.replace(TINY, out=tmp_path / "again"))
    for name in ("horizons.csv", "profiles.csv", "summary.json"):
        assert (tmp_path / "again" / name).read_bytes() == (tiny_run[0] / name).read_bytes(), name


def test_figures_can_be_redrawn_from_the_tables(tiny_run):
    out, summary = tiny_run
    before = {path: path.read_bytes() for path in [*out.glob("*.svg"), *out.glob("*.png")]}
    assert len(before) == 2 * len(FIGURES)
    for path in before:
        path.unlink()
    assert experiment.run(dataclasses.replace(TINY, out=out, redraw=True)) == summary
    assert {path: path.read_bytes() for path in before} == before


def test_the_claim_holds_in_small(tiny_run):
    """The horizon rises with the forget bias, and chrono initialisation sets it to about T_max."""
    summary = tiny_run[1]
    assert summary["verdict"]["outcome"] == "reproduced"
    assert len(summary["verdict"]["conditions"]) == 3
    for entry in summary["sweeps"]["t_max"]["gru"]["horizon"]:
        assert 0.5 < entry["value"] / entry["theory"] < 2


def test_every_part_of_the_verdict_counts():
    def after(forget_bias=(5, 10), t_max=(10, 20), at=(8, 16)):
        def entries(places, values):
            horizons = [{"at": a, "value": v} for a, v in zip(places, values, strict=True)]
            return {"lstm": {"horizon": horizons}}

        sweeps = {"forget_bias": entries((0, 1), forget_bias), "t_max": entries(at, t_max)}
        return experiment.verdict(TINY, {"lags": 100, "sweeps": sweeps}).outcome

    assert after() == "reproduced"
    assert after(forget_bias=(5, math.inf)) == "reproduced"
    assert after(forget_bias=(math.inf, math.inf)) == "reproduced"
    assert after(forget_bias=(10, 10)) == "not reproduced"
    assert after(forget_bias=(math.inf, 10)) == "not reproduced"
    assert after(t_max=(20, 10)) == "not reproduced"
    assert after(t_max=(1, 20)) == "not reproduced"
    assert after(t_max=(10, 80)) == "not reproduced"
    assert after(at=(8, 26), t_max=(10, math.inf)) == "reproduced"  # 4 * 26 > K = 100
    assert after(at=(8, 25), t_max=(10, math.inf)) == "not reproduced"
    no_gates = experiment.verdict(TINY, {"lags": 100, "sweeps": {"gain": {}}})
    assert (no_gates.outcome, no_gates.conditions) == ("inconclusive", {})
    assert no_gates.reason == "no LSTM or GRU was measured"


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ("--t-maxes 2 4", ("--t-maxes", "above 2", "2")),
        ("--t-maxes 8 4", ("--t-maxes", "rising", "8")),
        ("--gains 0 1", ("--gains", "positive", "0")),
        ("--forget-biases inf", ("--forget-biases", "finite", "inf")),
        ("--epsilon 1", ("--epsilon", "between 0 and 1", "1")),
        ("--seeds 1", ("--seeds", "at least 2", "1")),
        ("--input-scale -1", ("--input-scale", "at least 0", "-1")),
        ("--cells gru gru", ("--cells", "once")),
        ("--lags many", ("--lags", "whole number", "many")),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_code_2(arguments, names, refuses):
    refuses(experiment, arguments, names)
