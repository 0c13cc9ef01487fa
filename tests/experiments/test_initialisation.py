"""Initialisation: scaled parameters are drawn ones, profiles are gradients, the claim in small."""

import copy
import dataclasses
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scripts import ROOT, load, without_figures

import rnnjax
from rnnjax import networks
from rnnjax.cells.initializers import Fused, Orthogonal
from rnnjax.runs import Run

pytestmark = pytest.mark.slow
initialisation = load(ROOT / "experiments" / "initialisation.py")

TINY = initialisation.Config(
    gains=(0.5, 2.0), forget_biases=(0.0, 3.0), features=32, examples=4, seeds=4
)
FIGURES = "half_lives", "norms", "half_life_by_gain", "profiles"


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory):
    out = tmp_path_factory.mktemp("tiny") / "run"
    return out, initialisation.run(dataclasses.replace(TINY, out=out))


@pytest.mark.parametrize("draw", [Orthogonal, lambda gain: Fused(Orthogonal(gain))])
@pytest.mark.parametrize("name", networks.CELLS)
def test_rescaled_parameters_are_those_drawn_with_that_gain_and_bias(name, draw):
    make, keeps, key = networks.CELLS[name], initialisation.KEEPS.get(name), jax.random.key(3)
    bias = {"forget_bias": 2.5} if keeps else {}
    none = {"forget_bias": 0.0} if keeps else {}
    want = make(4, recurrent_kernel_init=draw(1.7), **bias).init(key, 2)
    cell = make(4, recurrent_kernel_init=draw(1.0), **none)
    got = initialisation.rescale(cell, keeps, cell.init(key, 2), 1.7, 2.5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), got, want)


def test_a_profile_is_the_gradient_through_the_unrolled_network():
    """The two norms at the largest lag, by differentiating the last h with respect to s_0."""
    config = dataclasses.replace(TINY, lags=5, features=4, examples=2)
    cell, key = rnnjax.LSTM(config.features, forget_bias=0.0), jax.random.key(4)
    params = cell.init(key, config.input_size)
    profiles = initialisation.make_profiles(cell, "f", config)
    one = (
        jax.tree.map(lambda a: a[None], t) for t in (key, params, jnp.array(1.5), jnp.array(1.0))
    )
    found = profiles(*one)
    to_h, joint = (np.asarray(found[name])[0, -1] for name in ("to_h", "joint"))

    params = initialisation.rescale(cell, "f", params, 1.5, 1.0)
    input_key, direction_key = jax.random.split(jax.random.fold_in(key, 1))
    xs = jax.random.normal(input_key, (5, 2, config.input_size))
    v = jax.random.normal(direction_key, (2, config.features))
    v = v / jnp.linalg.norm(v, axis=-1, keepdims=True)

    def along_v(carry):
        return jnp.sum(v * rnnjax.unroll(cell, params, xs, carry)[0].h)

    gradient = jax.grad(along_v)(cell.initial_carry((2,)))
    squares = [np.sum(np.square(part), -1) for part in (gradient.h, gradient.c)]
    np.testing.assert_allclose(to_h, np.log(squares[0]) / 2, rtol=1e-4)
    np.testing.assert_allclose(joint, np.log(sum(squares)) / 2, rtol=1e-4)


def test_an_elman_network_at_rest_is_linear(tmp_path, monkeypatch):
    """tanh'(0) = 1 and U = gain Q, so every step multiplies by the gain."""
    monkeypatch.setattr(initialisation, "run", without_figures(initialisation.run))
    config = dataclasses.replace(
        TINY, cells=("elman",), gains=(0.5, 0.9, 1.25), input_scale=0.0, out=tmp_path / "run"
    )
    summary = initialisation.run(config)
    assert summary["verdict"]["reason"] == "no LSTM or GRU was measured"
    assert summary["cells"]["elman"]["per gate"]["log10_norm"] == pytest.approx(0, abs=1e-5)
    table = Run(config.out).read_table("half_lives")
    by_gain = dict(
        zip(table["gain"], zip(table["median"], table["log10_norm"], strict=True), strict=True)
    )
    assert set(by_gain) == {0.5, 0.9, 1.0, 1.25}
    for gain in (0.5, 0.9):
        want = math.log(2) / -math.log(gain), 60 * math.log10(gain)
        assert by_gain[gain] == pytest.approx(want, rel=1e-4)
    assert by_gain[1.25][0] == math.inf


def test_a_run_writes_everything_it_promises(tiny_run):
    out, summary = tiny_run
    assert json.loads((out / "summary.json").read_text()) == summary
    assert list(summary["cells"]) == ["elman", "lstm", "gru"]
    for name, entry in summary["cells"].items():
        assert entry["per gate"]["spectral_radius"] == pytest.approx(1, rel=1e-4)
        if name == "elman":
            assert "fused" not in entry and "log10_ratio" not in entry
        else:
            assert entry["fused"]["spectral_radius"] < 0.9
            assert entry["log10_ratio"]["least"] <= entry["log10_ratio"]["median"]
    table = Run(out).read_table("half_lives")
    gated = 2 * 2 * 3 * 2 + 2 * 3  # cells, draws, gains and 1, biases; and the LSTM's default 1
    assert len(table["gain"]) == 3 + gated
    for name in FIGURES:
        for ending in ("png", "svg"):
            assert (out / f"{name}.{ending}").stat().st_size > 1000


def test_stopped_in_the_middle_the_same_arguments_give_the_same_bytes(
    tiny_run, tmp_path, monkeypatch
):
    """And nothing is measured twice."""
    once, measured, config = Run.cached, [], dataclasses.replace(TINY, out=tmp_path)

    def watched(stop):
        def watch(run, name, compute, *arguments):
            def measure(*arguments):
                if len(measured) == stop:
                    raise KeyboardInterrupt
                measured.append(name)
                return compute(*arguments)

            return once(run, name, measure, *arguments)

        return watch

    monkeypatch.setattr(initialisation, "run", without_figures(initialisation.run))
    monkeypatch.setattr(Run, "cached", watched(4))
    with pytest.raises(KeyboardInterrupt):
        initialisation.run(config)
    monkeypatch.setattr(Run, "cached", watched(None))
    initialisation.run(config)
    assert len(measured) == len(set(measured)) > 8
    for name in ("half_lives.csv", "profiles.csv", "summary.json"):
        assert (tmp_path / name).read_bytes() == (tiny_run[0] / name).read_bytes(), name


def test_figures_can_be_redrawn_from_the_tables(tiny_run):
    out, summary = tiny_run
    before = {path: path.read_bytes() for path in [*out.glob("*.svg"), *out.glob("*.png")]}
    assert len(before) == 2 * len(FIGURES)
    for path in before:
        path.unlink()
    assert initialisation.run(dataclasses.replace(TINY, out=out, redraw=True)) == summary
    assert {path: path.read_bytes() for path in before} == before


def test_the_claim_holds_in_small(tiny_run):
    """One fused draw alone shrinks the gradient over 60 steps a hundredfold and more."""
    summary = tiny_run[1]
    assert summary["verdict"]["outcome"] == "reproduced"
    for name, gates in (("lstm", 4), ("gru", 3)):
        entry = summary["cells"][name]
        assert entry["log10_ratio"]["median"] > 2 and entry["log10_ratio"]["least"] > 1
        assert entry["fused"]["half_life"] < 0.9 * entry["per gate"]["half_life"]
        assert entry["fused"]["spectral_radius"] == pytest.approx(gates**-0.5, rel=0.15)


def test_every_part_of_the_verdict_counts(tiny_run):
    cells = tiny_run[1]["cells"]

    def after(**changes):
        changed = copy.deepcopy(cells)
        changed["lstm"]["log10_ratio"] |= {"median": 2.5, "least": 1.5}
        changed["gru"]["log10_ratio"] |= {"median": 2.5, "least": 1.5} | changes
        return initialisation.verdict(TINY, {"cells": changed}).outcome

    assert after() == "reproduced"
    assert after(median=1.9) == "not reproduced"
    assert after(least=0.9) == "not reproduced"


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ("--gains 1 0", ("--gains", "positive", "0")),
        ("--gains 1 1", ("--gains", "once")),
        ("--forget-biases nan", ("--forget-biases", "finite", "nan")),
        ("--lags 1", ("--lags", "at least 2", "1")),
        ("--input-scale -1", ("--input-scale", "at least 0", "-1")),
        ("--cells lstm lstm", ("--cells", "once")),
        ("--cells transformer", ("--cells", "transformer", "gru")),
        ("--seeds none", ("--seeds", "whole number", "none")),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_code_2(arguments, names, refuses):
    refuses(initialisation, arguments, names)
