"""Modern gradients: what a run writes, what it measures, and its verdict."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scripts import ROOT, load

from rnnjax import tasks
from rnnjax.runs import Run

experiment = load(ROOT / "experiments" / "modern_gradients.py")
TINY = experiment.Config(
    networks=("residual_mingru",),
    length=6,
    string_length=4,
    parameters=1000,
    steps=3,
    record_every=1,
)


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory):
    out = tmp_path_factory.mktemp("modern") / "run"
    return out, experiment.run(dataclasses.replace(TINY, out=out))


@pytest.mark.slow
def test_a_run_writes_everything_it_promises(tiny_run):
    out, summary = tiny_run
    assert json.loads((out / "summary.json").read_text()) == summary
    assert list(summary["networks"]) == list(TINY.networks)
    for name in ("gradients", "adding", "parity"):
        for ending in ("png", "svg"):
            assert (out / f"{name}.{ending}").stat().st_size > 100
    table = Run(out).read_table("gradients")
    lags = {task: table["lag"][table["task"] == task].max() for task in ("adding", "parity")}
    assert lags == {"adding": 6, "parity": 4}
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert {(row["network"], row["task"]) for row in rows} == {
        (network, task) for network in TINY.networks for task in ("adding", "parity")
    }


@pytest.mark.slow
def test_networks_have_about_the_same_number_of_parameters(tiny_run):
    _, summary = tiny_run
    for entry in summary["networks"].values():
        # Of widths 4, 8, .. the nearest: with 12 there would be 3,000.
        assert 500 < entry["adding"]["parameters"] < 1600
        head = TINY.make_model("residual_mingru", tasks.Parity(), 4).head.features
        assert head == 2 and entry["parity"]["parameters"] > entry["adding"]["parameters"]


@pytest.mark.slow
def test_figures_can_be_redrawn(tiny_run):
    out, summary = tiny_run
    figure = (out / "gradients.png").read_bytes()
    (out / "gradients.png").unlink()
    assert experiment.run(dataclasses.replace(TINY, out=out, redraw=True)) == summary
    assert (out / "gradients.png").read_bytes() == figure


@pytest.mark.slow
def test_shares_are_those_of_each_sequences_own_gradient(x64):
    task = tasks.AddingArjovsky2016(5)
    model = TINY.make_model("residual_elman", task, 4)
    question = tasks.ask(task.sample(jax.random.key(1), 3))
    wide = lambda a: a.astype(jnp.float64) if a.dtype == jnp.float32 else a  # noqa: E731
    question = jax.tree.map(wide, question)
    params = jax.tree.map(wide, model.init(jax.random.key(0), question.inputs)["params"])
    found = jax.jit(lambda p, q: experiment.shares(model, task, p, q))(params, question)

    @jax.jit
    def losses(inputs):
        ys = model.apply({"params": params}, inputs)
        return task.example_losses(ys[None], question.answer)

    norms = []
    for lag in range(1, 6):
        slopes = []
        for d in range(2):
            step = jnp.zeros_like(question.inputs).at[1, 5 - lag, d].set(1e-6)
            ahead, behind = losses(question.inputs + step)[1], losses(question.inputs - step)[1]
            slopes.append((ahead - behind) / 2e-6)
        norms.append(np.linalg.norm(slopes))
    np.testing.assert_allclose(np.exp(found[:, 1]), norms / np.linalg.norm(norms), rtol=1e-4)


def test_strings_are_trained_at_all_lengths_and_tested_at_twice_the_longest():
    names = experiment.Config(string_length=7).make_tasks()
    assert [task.length for task in names["adding"]] == [50] * 3
    trained, probed, tested = names["parity"]
    assert (trained.length, trained.shortest) == (7, 1)
    assert (probed.length, probed.shortest) == (7, None)
    assert (tested.length, tested.shortest) == (14, None)
    assert experiment.Config(tracking="S3").make_tasks()["S3"][0].group == "S3"


def test_a_transformer_sees_whole_sequences():
    for sizes in ({"length": 1500}, {"string_length": 750}):
        config = experiment.Config(networks=("transformer",), **sizes)
        assert config.make_model("transformer", tasks.Parity(), 4).layer.window == 1500


def summary_of(**success):
    """Return a summary in which networks solve (adding, parity) with these shares of the seeds."""
    networks = {
        name: {"adding": {"success": adding}, "parity": {"success": parity}}
        for name, (adding, parity) in success.items()
    }
    return {"tracking": "parity", "networks": networks}


REPRODUCED = {
    "residual_elman": (0.0, 1.0),
    "residual_lstm": (1.0, 1.0),
    "residual_gru": (1.0, 0.0),
    "residual_mingru": (1.0, 0.0),
    "residual_lru": (0.0, 1.0),
}


@pytest.mark.parametrize(
    ("change", "want"),
    [
        ({}, "reproduced"),
        ({"residual_elman": (1.0, 1.0)}, "not reproduced"),
        ({"residual_mingru": (0.5, 0.0)}, "not reproduced"),
        ({"residual_mingru": (1.0, 0.5)}, "not reproduced"),
        ({"residual_lstm": (1.0, 0.5)}, "not reproduced"),
        ({"residual_mlstm": (0.0, 0.0)}, "not reproduced"),
    ],
)
def test_the_verdict(change, want):
    usual = experiment.Config()
    summary = summary_of(**(REPRODUCED | change))
    assert experiment.verdict(usual, summary).outcome == want
    for name in ("steps", "seeds", "parameters", "length", "string_length"):
        small = dataclasses.replace(usual, **{name: getattr(usual, name) - 1})
        assert experiment.verdict(small, summary).outcome == "quick run only"


@pytest.mark.parametrize("missing", [("residual_elman",), ("residual_lstm", "residual_gru")])
def test_without_one_of_each_kind_nothing_is_claimed(missing):
    summary = summary_of(**{n: s for n, s in REPRODUCED.items() if n not in missing})
    assert experiment.verdict(experiment.Config(), summary).outcome == "inconclusive"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--networks residual_mamba", ("--networks", "mamba", "residual_")),
        ("--networks transformer transformer", ("--networks", "once")),
        ("--tracking adding", ("--tracking", "adding", "parity")),
        ("--string-length 1", ("--string-length", "at least 2", "1")),
        ("--parameters 10", ("--parameters", "at least 1000", "10")),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_code_2(arguments, words, refuses):
    refuses(experiment, arguments, words)
