"""The adding row of 1997: a small run that is killed, updates by hand, its verdict, its manners."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scripts import ROOT, load

from rnnjax import training
from rnnjax.runs import Run

pytestmark = pytest.mark.slow
hs97_adding = load(ROOT / "experiments" / "papers" / "hs97_adding.py")
SMALL = {"max_sequences": 40, "window": 8, "test_sequences": 6, "checkpoint_every": 10}
TINY = hs97_adding.Config(length=10, seeds=2, logistic_sequences=24, **SMALL)


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory):
    out = tmp_path_factory.mktemp("hs97_adding") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hs97_adding, "PUBLISHED", {10: 300})
        return out, hs97_adding.run(dataclasses.replace(TINY, out=out))


def test_a_run_writes_everything_it_promises(tiny_run):
    out, summary = tiny_run
    assert json.loads((out / "summary.json").read_text()) == summary
    assert [*summary["networks"]] == ["linear", "logistic"]
    assert summary["verdict"]["outcome"] == "quick run only"
    for entry in summary["networks"].values():
        assert entry["weights"] == 93 and len(entry["sequences"]) == len(entry["wrong"]) == 2
    for name in ("learned", "error"):
        for ending in ("png", "svg", "csv"):
            assert (out / f"{name}.{ending}").stat().st_size > 100
    table = Run(out).read_table("error")
    for output, most in (("linear", 40), ("logistic", 24)):
        steps = table["sequences"][table["series"] == f"{output} output unit"]
        assert steps.tolist() == [*range(8, most + 1, 4)]
    assert set(Run(out).read_table("networks")["series"]) == {
        f"{output} output unit" for output in hs97_adding.OUTPUTS
    }


def test_a_killed_run_resumes_to_the_same_numbers(tiny_run, tmp_path, monkeypatch):
    whole, summary = tiny_run
    calls, train = [], training.ResumableTraining.train_on_samples

    def killed(self, *args, observe, **options):
        def observed(state):
            calls.append(state)
            if len(calls) == 7:  # in the first training, after 24 sequences
                raise KeyboardInterrupt
            return observe(state)

        return train(self, *args, observe=observed, **options)

    monkeypatch.setattr(hs97_adding, "PUBLISHED", {10: 300})
    config = dataclasses.replace(TINY, out=tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(training.ResumableTraining, "train_on_samples", killed)
        with pytest.raises(KeyboardInterrupt):
            hs97_adding.run(config)
    assert hs97_adding.run(config) == summary
    for name in ("metrics.jsonl", "error.csv", "learned.csv", "networks.csv"):
        assert (tmp_path / "run" / name).read_bytes() == (whole / name).read_bytes(), name


@pytest.mark.parametrize("output", ["linear", "logistic"])
def test_the_gradient_is_that_of_half_the_squared_error_of_the_last_output(output):
    """Without truncation the update is along float64 finite differences of the loss."""
    config = dataclasses.replace(TINY, truncated=False)
    task, cell = config.make_task(), config.make_cell()
    rule = training.StoppingRule(hs97_adding.MEAN_ERROR, 8)
    step, optimizer = hs97_adding.make_train_step(cell, output, task, rule)
    params = hs97_adding.init(cell, task, jax.random.key(1))
    assert params.cell.bias[:2].tolist() == [-3.0, -6.0]
    batch = task.sample(jax.random.key(2), 1)
    last = int(np.argmax(batch.mask[:, 0]))
    squash = {"linear": lambda x: x, "logistic": lambda x: 1 / (1 + np.exp(-x))}[output]

    def answer(leaves):
        w, u, b, kernel, bias = leaves
        c, h, i, o = np.zeros(4), np.zeros(4), np.zeros(2), np.zeros(2)
        for x in np.asarray(batch.inputs[: last + 1, 0], float):
            net = x @ w + np.concatenate([h, i, o]) @ u + b
            i, o = (1 / (1 + np.exp(-net[at])) for at in (slice(0, 2), slice(2, 4)))
            c = c + np.tile(i, 2) * 2 * np.tanh(net[4:] / 2)
            h = np.tile(o, 2) * np.tanh(c / 2)
        return squash(h @ kernel + bias)[0]

    target = float(batch.targets[last, 0, 0])
    leaves = [np.asarray(leaf, float) for leaf in jax.tree.leaves(params)]
    state = training.TrainState(
        params, optimizer.init(params), jnp.int32(0), jax.random.key(0), (), rule.start()
    )
    after, metrics = jax.jit(step)(state, batch)
    assert metrics["error"] == pytest.approx(abs(answer(leaves) - target), rel=1e-4)
    for place, leaf in enumerate(leaves):
        moved = (leaf - np.asarray(jax.tree.leaves(after.params)[place], float)) / 0.5
        for index in list(np.ndindex(leaf.shape))[:: max(1, leaf.size // 9)]:
            losses = []
            for shift in (1e-5, -1e-5):
                changed = [of.copy() for of in leaves]
                changed[place][index] += shift
                losses.append((answer(changed) - target) ** 2 / 2)
            slope = (losses[0] - losses[1]) / 2e-5
            assert moved[index] == pytest.approx(slope, rel=2e-3, abs=5e-7)


def summary_of():
    """Return a summary of sixteen networks that reproduces the claim."""
    taken = np.linspace(70_000, 110_000, 16).astype(int).tolist()
    linear = {"weights": 93, "sequences": taken, "wrong": [0, 1, 2, 3] * 4}
    logistic = {"weights": 93, "sequences": [None] * 16, "wrong": [2560] * 16}
    return {"networks": {"linear": linear, "logistic": logistic}}


def test_the_verdict_follows_its_rule():
    usual = hs97_adding.Config()
    assert hs97_adding.verdict(usual, summary_of()).outcome == "reproduced"
    changes = [
        ({"stopping rule", "the mean"}, "sequences", [None]),
        ({"the mean"}, "sequences", [1_500_000]),
        ({"the median"}, "sequences", [36_900] * 9),
        ({"the median", "the mean"}, "sequences", [250_000] * 9),
        ({"test sequences"}, "wrong", [3] * 9),
    ]
    for broken, key, values in changes:
        summary = summary_of()
        summary["networks"]["linear"][key][: len(values)] = values
        found = hs97_adding.verdict(usual, summary)
        failed = [name for name, holds in found.conditions.items() if not holds]
        assert found.outcome == "not reproduced" and len(failed) == len(broken), (failed, broken)
        assert all(any(word in name for name in failed) for word in broken)
    for fewer in ("seeds", "window", "test_sequences", "max_sequences"):
        config = dataclasses.replace(usual, **{fewer: getattr(usual, fewer) - 1})
        assert hs97_adding.verdict(config, summary_of()).outcome == "quick run only", fewer
    longer = hs97_adding.verdict(dataclasses.replace(usual, length=200), summary_of())
    assert longer.outcome == "inconclusive" and "100 and 500" in longer.reason
    longer = dataclasses.replace(usual, length=500, logistic_sequences=0)
    assert not hs97_adding.verdict(longer, summary_of()).conditions[
        "the mean is near the published number"
    ]


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ("--length 9", ("--length", "at least 10", "9")),
        ("--max-sequences 1999", ("--max-sequences", "at least 2000", "1999")),
        ("--logistic-sequences 5", ("--logistic-sequences", "at least 2000", "5")),
        ("--window 0", ("--window", "at least 1", "0")),
        ("--test-sequences 0", ("--test-sequences", "at least 1", "0")),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_code_2(arguments, names, refuses):
    refuses(hs97_adding, arguments, names)
