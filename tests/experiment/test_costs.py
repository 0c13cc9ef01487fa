"""Bytes kept for a gradient, counted by hand, and times of updates."""

import jax
import jax.numpy as jnp
import pytest
from run_directories import begin

from rnnjax import Elman, experiment, online
from rnnjax.cells import LRU

T, B, D, H = 7, 2, 3, 4


@pytest.mark.parametrize(
    ("method", "numbers"),
    [
        (online.RTRL(), H + H * (D + H + 1) * H),
        (online.SnAp(1), H + H * (D + H + 1)),
        (online.UORO(), H + H + H * (D + H + 1) + 2),  # and a key
    ],
)
def test_bytes_of_a_method_are_those_of_its_arrays(method, numbers):
    params, xs = Elman(H).init(jax.random.key(0), D), jnp.zeros((T, B, D))
    found = experiment.kept_bytes(method, Elman(H), params, xs)
    assert found == 4 * B * numbers
    longer = jnp.zeros((100 * T, B, D))
    assert experiment.kept_bytes(method, Elman(H), params, longer) == found


@pytest.mark.parametrize("cell", [Elman(H), LRU(H)])
def test_back_propagation_keeps_more_of_longer_sequences(cell):
    params = cell.init(jax.random.key(0), D)
    counts = [
        experiment.kept_bytes(None, cell, params, jnp.zeros((total, B, D)))
        for total in (100, 200, 300)
    ]
    assert counts[2] - counts[1] == counts[1] - counts[0] >= 100 * B * (H + D) * 4


def test_milliseconds_are_the_median_between_records(tmp_path):
    run = begin(tmp_path / "run")
    rows = [("a", 10, 0.0), ("a", 20, 1.0), ("b", 20, 1.5), ("a", 30, 3.0), ("a", 40, 30.0)]
    rows += [("a", 5, 31.0), ("b", 40, 2.5)]  # a resumed training goes back
    run.append("times.jsonl", [{"cell": c, "step": s, "time": t} for c, s, t in rows])
    assert experiment.update_milliseconds(run, cell="a") == pytest.approx(200)
    assert experiment.update_milliseconds(run, cell="b") == pytest.approx(50)
    assert experiment.update_milliseconds(run, cell="c") is None
