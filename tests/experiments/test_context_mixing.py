"""Context mixing: what a run writes, what it measures, and the claim in small."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scripts import ROOT, load

from rnnjax import tasks
from rnnjax.experiment import layer_label
from rnnjax.runs import Run

pytestmark = pytest.mark.slow
experiment = load(ROOT / "experiments" / "context_mixing.py")
TINY = experiment.Config(
    networks=("tcn", "bidirectional_elman", "transformer"),
    length=24,
    features=8,
    blocks=2,
    steps=4,
    record_every=2,
)


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory):
    out = tmp_path_factory.mktemp("tiny") / "run"
    return out, experiment.run(dataclasses.replace(TINY, out=out))


def test_a_run_writes_everything_it_promises(tiny_run):
    out, summary = tiny_run
    assert json.loads((out / "summary.json").read_text()) == summary
    assert list(summary["networks"]) == list(TINY.networks)
    for name in ("inputs", "forms", "layers_before", "layers_after"):
        for ending in ("png", "svg"):
            assert (out / f"{name}.{ending}").stat().st_size > 100
    table = Run(out).read_table("shares")
    found = {n: set(table["layer"][table["network"] == n]) for n in TINY.networks}
    assert found["tcn"] == {"inputs", "layer/block_0", "layer/block_1"}
    ends = {"layer/forward_rnn/carry", "layer/backward_rnn/carry"}
    assert found["bidirectional_elman"] == {"inputs", *ends}
    assert layer_label("layer/layers_1/backward_rnn/carry") == "layer 2 backward"
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert {(row["network"], row["step"]) for row in rows} == {
        (network, step) for network in TINY.networks for step in (2, 4)
    }


def test_zero_beyond_the_field_of_view_and_nowhere_else(tiny_run):
    _, summary = tiny_run
    networks = summary["networks"]
    assert networks["tcn"]["receptive_field"] == 13
    for phase in ("before", "after"):
        assert networks["tcn"][phase]["zero_lags"] == list(range(14, 25))
        for name in TINY.networks[1:]:
            assert networks[name][phase]["zero_lags"] == []
    # The backward direction of the two reads the beginning last.
    assert networks["transformer"]["before"]["reach"] > -0.5
    assert networks["bidirectional_elman"]["before"]["reach"] > -0.5


def test_shares_are_those_of_each_sequences_own_gradient(x64):
    """The squares add up to one; and they are what finite differences give."""
    task = tasks.AddingHochreiter1997(12)
    config = dataclasses.replace(TINY, task="adding_hochreiter1997", length=12, features=4)
    model = config.make_model("deep_lstm")
    question = tasks.ask(task.sample(jax.random.key(1), 3))
    question = jax.tree.map(
        lambda a: a.astype(jnp.float64) if a.dtype == jnp.float32 else a, question
    )
    params = model.init(jax.random.key(0), question.inputs)["params"]
    params = jax.tree.map(lambda p: p.astype(jnp.float64), params)
    lags = int(question.lengths.min())
    measure = jax.jit(lambda params, q: experiment.shares(model, task, lags, params, q))
    found = measure(params, question)["inputs"]
    np.testing.assert_allclose(jnp.exp(2 * found).sum(0), np.ones(3), rtol=1e-12)

    @jax.jit
    def losses(inputs):
        ys = model.apply({"params": params}, inputs, seq_lengths=question.lengths)
        return task.example_losses(ys[None], question.answer)

    b, norms = 1, []
    for lag in range(1, lags + 1):
        t = int(question.lengths[b]) - lag
        slopes = []
        for d in range(2):
            step = jnp.zeros_like(question.inputs).at[b, t, d].set(1e-6)
            ahead, behind = losses(question.inputs + step)[b], losses(question.inputs - step)[b]
            slopes.append((ahead - behind) / 2e-6)
        norms.append(np.linalg.norm(slopes))
    np.testing.assert_allclose(np.exp(found[:, b]), norms / np.linalg.norm(norms), rtol=1e-4)


def test_a_sequence_that_is_shorter_is_measured_from_its_own_end(tmp_path):
    config = dataclasses.replace(
        TINY, networks=("tcn",), task="adding_hochreiter1997", steps=0, out=tmp_path / "run"
    )
    summary = experiment.run(config)
    assert summary["networks"]["tcn"]["before"]["zero_lags"][0] == 14
    assert summary["verdict"] == {
        "outcome": "inconclusive",
        "conditions": {},
        "reason": "the rule needs the networks elman, tcn, transformer",
    }
    figures = {path: path.read_bytes() for path in (tmp_path / "run").glob("*.png")}
    assert {path.stem for path in figures} == {"inputs", "layers_before"}
    experiment.run(dataclasses.replace(config, redraw=True))
    assert {path: path.read_bytes() for path in figures} == figures


def entry(**changes):
    phase = {"reach": 0.0, "zero_lags": []}
    return {"before": phase | changes, "after": phase}


@pytest.mark.parametrize(
    ("elman", "transformer", "zeros", "want"),
    [
        (-4.0, -0.2, [8, 9, 10], "reproduced"),
        (-2.0, -0.2, [8, 9, 10], "not reproduced"),
        (-4.0, -2.0, [8, 9, 10], "not reproduced"),
        (-4.0, -0.2, [7, 8, 9, 10], "not reproduced"),
        (-4.0, -0.2, [9, 10], "not reproduced"),
    ],
)
def test_the_verdict(elman, transformer, zeros, want):
    phase = {"reach": -np.inf, "zero_lags": zeros}
    networks = {
        "tcn": {"receptive_field": 7, "before": phase, "after": phase},
        "elman": entry(reach=elman),
        "transformer": entry(reach=transformer),
    }
    assert experiment.verdict(experiment.Config(), {"networks": networks}).outcome == want
    for option, value in {"steps": 999, "seeds": 1, "features": 28, "length": 99}.items():
        small = dataclasses.replace(experiment.Config(), **{option: value})
        assert experiment.verdict(small, {"networks": networks}).outcome == "quick run only"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--networks tcn mamba", ("--networks", "mamba", "transformer")),
        ("--networks tcn tcn", ("--networks", "once")),
        ("--features 30", ("--features", "multiple of 4", "30")),
        ("--steps -1", ("--steps", "at least 0", "-1")),
        ("--length 1", ("--length", "at least 2", "1")),
        ("--task copy_memory", ("--task", "copy_memory", "adding")),
        ("--redraw", ("--redraw", "--out")),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_code_2(arguments, words, refuses):
    refuses(experiment, arguments, words)
