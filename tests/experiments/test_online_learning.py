"""The online learning experiment: a small run, its numbers by hand, its verdict, its manners."""

import dataclasses
import json

import jax
import optax
import pytest
from scripts import ROOT, load

import rnnjax
from rnnjax import online
from rnnjax.experiment import readout
from rnnjax.runs import Run

SCRIPT = ROOT / "experiments" / "online_learning.py"
pytestmark = pytest.mark.slow
online_learning = load(SCRIPT)
CONFIG = online_learning.Config
FEW = {  # the methods of a small run: each is a program
    "back-propagation": (None, None),
    "RTRL": (online.RTRL(), None),
    "RTRL, every 5 steps": (online.RTRL(), 5),
    "SnAp(1)": (online.SnAp(1), None),
    "RFLO": (online.RFLO(0.5), None),
    "truncated at 4": (online.Truncated(4), None),
}


def tiny(cell, **options):
    usual = {
        "copy_length": 2,
        "order_length": 10,
        "features": 3,
        "steps": 6,
        "batch_size": 4,
        "seeds": 2,
    }
    return CONFIG(cells=(cell,), **usual, **options)


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory):
    out = tmp_path_factory.mktemp("online_learning") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CONFIG, "make_methods", lambda self: FEW)
        return out, online_learning.run(tiny("elman", out=out))


def test_a_run_writes_everything_it_promises(tiny_run):
    out, summary = tiny_run
    assert json.loads((out / "summary.json").read_text()) == summary
    assert [*summary["trained"]] == ["elman, copy", "elman, order"] and summary["missing"] == []
    for found in summary["trained"].values():
        assert [*found] == [*FEW] and all(len(of["loss"]) == 2 for of in found.values())
        weights = found["SnAp(1)"]["bytes"] // 16 - 3  # of 4 examples, without the state
        assert found["RTRL"]["bytes"] == 16 * (3 + 3 * weights)
    for ending in ("png", "svg", "csv"):
        assert (out / f"loss.{ending}").stat().st_size > 100
    assert summary["verdict"]["outcome"] == "quick run only"
    table = Run(out).read_table("loss")
    assert set(table["method"]) == {*FEW} and len(set(table["panel"])) == 2
    assert table["update"][table["method"] == "RTRL"].max() == 6
    assert table["update"][table["method"] == "RTRL, every 5 steps"].max() == 6


def test_losses_are_those_of_a_plain_loop(tiny_run):
    """Back-propagation with `jax.grad` of the task's own loss, one sequence batch after another."""
    _, summary = tiny_run
    config = tiny("elman")
    task, cell = config.make_tasks()["copy"], config.make_cell("elman")
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-2))

    def loss(params, batch):
        hidden = rnnjax.unroll(cell, params.cell, batch.inputs)[1]
        return task.loss(hidden @ params.kernel + params.bias, batch)

    step = jax.jit(jax.value_and_grad(loss))
    for seed in (0, 1):
        init_key, key = jax.random.split(jax.random.key(seed))
        params = readout.init(cell, task, init_key)
        opt_state = optimizer.init(params)
        for _ in range(6):
            key, now = jax.random.split(key)
            updates, opt_state = optimizer.update(step(params, task.sample(now, 4))[1], opt_state)
            params = optax.apply_updates(params, updates)
        held_out = task.sample(
            jax.random.split(jax.random.fold_in(jax.random.key(seed), 1))[0], 128
        )
        want = float(loss(params, held_out)) / task.chance
        for method in ("back-propagation", "RTRL"):
            got = summary["trained"]["elman, copy"][method]["loss"][seed]
            assert got == pytest.approx(want, rel=1e-4)
        for method in ("SnAp(1)", "RFLO", "truncated at 4", "RTRL, every 5 steps"):
            got = summary["trained"]["elman, copy"][method]["loss"][seed]
            assert abs(got - want) > 1e-3  # another gradient


def test_what_cannot_be_served_is_left_out(tmp_path, monkeypatch, capsys):
    names = "back-propagation", "RTRL", "RTRL, every 5 steps", "SnAp(1)", "RFLO", "truncated at 4"
    methods = {name: FEW[name if name == "RFLO" else "back-propagation"] for name in names}
    monkeypatch.setattr(CONFIG, "make_methods", lambda self: methods)
    summary = online_learning.run(tiny("deltanet", out=tmp_path / "run"))
    assert [*summary["trained"]["deltanet, order"]] == [n for n in names if n != "RFLO"]
    (sentence, again) = summary["missing"]
    assert sentence == again and "RFLO cannot serve DeltaNet: it needs" in sentence
    assert sentence in capsys.readouterr().out


def test_figures_can_be_redrawn(tiny_run):
    out, summary = tiny_run
    (out / "loss.png").unlink()
    assert online_learning.run(tiny("elman", out=out, redraw=True)) == summary
    assert (out / "loss.png").exists()


def summary_of():
    """Return a summary of two networks that reproduces the claim."""
    losses = {name: [0.3, 0.4] for name in CONFIG().make_methods()}
    losses |= {"RTRL": [0.32, 0.39], "RTRL, every 5 steps": [0.7, 0.75]}
    losses |= {"truncated at 4": [0.6, 0.6], "UORO": [0.55, 0.5]}
    found = {name: {"loss": of, "bytes": 1} for name, of in losses.items()}
    return {"trained": {"gru, copy": found, "gru, order": found}, "missing": []}


def test_the_verdict_follows_its_rule():
    usual = CONFIG()
    assert online_learning.verdict(usual, summary_of()).outcome == "reproduced"
    changes = [
        ("RTRL ends as back-propagation", "back-propagation", [0.3, 0.5], "copy order"),
        ("RTRL, every 5 steps learns", "RTRL, every 5 steps", [0.1, 0.76], "copy order"),
        ("SnAp(1) below truncated at 4", "SnAp(1)", [0.4, 0.41], "copy order"),
        ("UORO below truncated at 4", "UORO", [0.6, 0.6], "order"),
        ("RFLO below truncated at 4", "RFLO", [0.7, 0.7], "order"),
        ("e-prop below truncated at 4", "e-prop", [0.7, 0.7], "order"),
    ]
    for broken, method, losses, where in changes:
        summary = json.loads(json.dumps(summary_of()))  # no list is shared
        for task in ("copy", "order"):
            summary["trained"][f"gru, {task}"][method]["loss"] = losses
        found = online_learning.verdict(usual, summary)
        failed = [name for name, holds in found.conditions.items() if not holds]
        assert failed == [f"gru, {task}: {broken}" for task in where.split()]
        assert found.outcome == "not reproduced"
    summary = summary_of()
    both = {"loss": [0.5, 0.6], "bytes": 1}
    summary["trained"]["gru, copy"] |= {"RTRL": both, "back-propagation": both}
    found = online_learning.verdict(usual, summary).conditions
    assert [name for name, holds in found.items() if not holds] == [  # both tasks share a dict
        f"gru, {task}: RTRL below truncated at 4" for task in ("copy", "order")
    ]
    del summary["trained"]["gru, order"]["e-prop"]
    found = online_learning.verdict(usual, summary).conditions
    assert not any("order: e-prop" in name for name in found)
    for fewer in ("steps", "seeds", "features"):
        config = dataclasses.replace(usual, **{fewer: getattr(usual, fewer) - 1})
        assert online_learning.verdict(config, summary_of()).outcome == "quick run only", fewer


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ("--order-length 9", ("--order-length", "at least 10", "9")),
        ("--copy-length 0", ("--copy-length", "at least 1", "0")),
        ("--truncated 0", ("--truncated", "at least 1", "0")),
        ("--every 0", ("--every", "at least 1", "0")),
        ("--decay 1.5", ("--decay", "at most 1", "1.5")),
        ("--cells none", ("--cells", "none")),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_code_2(arguments, names, refuses):
    refuses(online_learning, arguments, names)
