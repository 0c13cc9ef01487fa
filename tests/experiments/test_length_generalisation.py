"""Length generalisation: what a run writes, what it measures, and its verdict."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scripts import ROOT, load

from rnnjax import tasks
from rnnjax.experiment import padded_sets
from rnnjax.runs import Run

experiment = load(ROOT / "experiments" / "length_generalisation.py")
TINY = experiment.Config(
    networks=("elman",),
    lengths=(4, 9),
    length=4,
    features=4,
    steps=3,
    record_every=1,
)


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory):
    out = tmp_path_factory.mktemp("lengths") / "run"
    return out, experiment.run(dataclasses.replace(TINY, out=out))


@pytest.mark.slow
def test_a_run_writes_everything_it_promises(tiny_run):
    out, summary = tiny_run
    assert json.loads((out / "summary.json").read_text()) == summary
    assert list(summary["networks"]) == list(TINY.networks)
    for name in ("accuracy", "gradients"):
        for ending in ("png", "svg"):
            assert (out / f"{name}.{ending}").stat().st_size > 100
    table = Run(out).read_table("gradients")
    lags = {length: table["lag"][table["length"] == length].max() for length in (4, 9)}
    assert lags == {4: 4, 9: 9}
    for entry in summary["networks"].values():
        assert set(entry["accuracy"]) == {"4", "9"}
        assert all(0 <= a <= 1 for seeds in entry["accuracy"].values() for a in seeds)


@pytest.mark.slow
def test_figures_can_be_redrawn(tiny_run):
    out, summary = tiny_run
    figure = (out / "accuracy.png").read_bytes()
    (out / "accuracy.png").unlink()
    assert experiment.run(dataclasses.replace(TINY, out=out, redraw=True)) == summary
    assert (out / "accuracy.png").read_bytes() == figure


@pytest.mark.slow
@pytest.mark.parametrize("task", ["variable_copy", "S3"])
def test_padding_changes_neither_accuracy_nor_gradients(task):
    """Every length by itself, without padding, and by finite differences in the loss."""
    config = dataclasses.replace(TINY, task=task)
    kinds = [config.make_task(length) for length in config.lengths]
    tests = jax.tree.map(lambda a: a[0], padded_sets(kinds, [0], 5))  # of one seed
    model = config.make_model("elman")
    xs = jnp.swapaxes(tests.inputs[0], 0, 1)
    params = model.init(jax.random.key(0), xs)["params"]
    run = jax.jit(lambda p, t: experiment.measured(model, kinds[0], p, t))
    accuracies, profiles, ends = run(params, tests)
    for n, kind in enumerate(kinds):
        total = kind.total_length
        batch = jax.tree.map(lambda a, n=n, total=total: a[n, :total], tests)
        assert not tests.mask[n, total:].any() and not tests.inputs[n, total:].any()
        ys = experiment.outputs(model, params, batch.inputs)
        assert accuracies[n] == pytest.approx(kind.metrics(ys, batch)["accuracy"])
        lengths, answer = tasks.last_answer(batch)
        np.testing.assert_array_equal(ends[n], lengths)

        def losses(inputs, lengths=lengths, answer=answer, kind=kind):
            ys = experiment.outputs(model, params, inputs)
            last = ys[lengths - 1, jnp.arange(5)][None]
            return kind.example_losses(last, answer)

        slopes = jax.jacobian(losses)(batch.inputs)  # [B, T, B, D]
        own = jnp.stack([slopes[b, :, b] for b in range(5)], axis=1)
        norms = np.linalg.norm(own, axis=-1)
        np.testing.assert_allclose(np.exp(profiles[n, :total]), norms, rtol=1e-4, atol=1e-9)
        assert np.isneginf(profiles[n, total:]).all()


def summary_of(**accuracy):
    networks = {
        name: {"accuracy": {"20": [1.0, 1.0], "100": [value, value]}}
        for name, value in accuracy.items()
    }
    return {"guess": 0.5, "networks": networks}


REPRODUCED = {
    "residual_elman": 0.5,
    "residual_lstm": 1.0,
    "residual_mingru": 0.5,
    "transformer": 0.6,
}


@pytest.mark.parametrize(
    ("change", "want"),
    [
        ({}, "reproduced"),
        ({"residual_lstm": 0.9}, "not reproduced"),
        ({"residual_mingru": 0.8}, "not reproduced"),
        ({"transformer": 0.76}, "not reproduced"),
    ],
)
def test_the_verdict(change, want):
    usual, summary = experiment.Config(), summary_of(**(REPRODUCED | change))
    assert experiment.verdict(usual, summary).outcome == want
    for name, less in (("steps", 1), ("seeds", 1), ("features", 4), ("length", 1)):
        small = dataclasses.replace(usual, **{name: getattr(usual, name) - less})
        assert experiment.verdict(small, summary).outcome == "quick run only"


def test_a_transformer_sees_whole_sequences_at_every_length():
    config = experiment.Config(networks=("transformer",), lengths=(20, 1500))
    assert config.make_model("transformer").layer.window == 1500


def test_where_nothing_is_claimed():
    usual, summary = experiment.Config(), summary_of(**REPRODUCED)
    other = dataclasses.replace(usual, task="even_pairs")
    assert experiment.verdict(other, summary).outcome == "inconclusive"
    longer = dataclasses.replace(usual, length=21)
    assert experiment.verdict(longer, summary).outcome == "inconclusive"
    for name in ("residual_mingru", "transformer"):
        fewer = summary_of(**{n: a for n, a in REPRODUCED.items() if n != name})
        assert experiment.verdict(usual, fewer).outcome == "inconclusive"
    linear = summary_of(residual_mingru=0.5, transformer=0.5, residual_deltanet=1.0)
    assert experiment.verdict(usual, linear).outcome == "inconclusive"


def test_every_task_can_be_chosen():
    for name in experiment.TASKS:
        task = experiment.Config(task=name).make_task(20)
        assert isinstance(task, tasks.Sampled) and task.length == 20
    assert experiment.Config(task="A5").make_task(9).output_size == 60


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--networks bidirectional_lstm", ("--networks", "past alone", "bidirectional_lstm")),
        ("--lengths 5 5", ("--lengths", "once")),
        ("--lengths 0", ("--length", "at least 1", "0")),
        ("--task adding", ("--task", "adding", "parity")),
        ("--features 30", ("--features", "multiple of 4", "30")),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_code_2(arguments, words, refuses):
    refuses(experiment, arguments, words)
