"""The temporal order row of 1997: a small run, an update by hand, its verdict, its manners."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scripts import ROOT, load

from rnnjax import training
from rnnjax.runs import Run
from rnnjax.tasks import TemporalOrderHochreiter1997

pytestmark = pytest.mark.slow
hs97_order = load(ROOT / "experiments" / "papers" / "hs97_order.py")
TINY = hs97_order.Config(seeds=2, max_sequences=30, window=8, test_sequences=6)


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory):
    out = tmp_path_factory.mktemp("hs97_order") / "run"
    return out, hs97_order.run(dataclasses.replace(TINY, out=out))


def test_a_run_writes_everything_it_promises(tiny_run):
    out, summary = tiny_run
    assert json.loads((out / "summary.json").read_text()) == summary
    assert summary["weights"] == 156 and summary["verdict"]["outcome"] == "quick run only"
    assert summary["sequences"] == [None, None] and summary["wrong"] == [6, 6]
    for name in ("learned", "error"):
        for ending in ("png", "svg", "csv"):
            assert (out / f"{name}.{ending}").stat().st_size > 100
    table = Run(out).read_table("learned")
    published = table["series"] == hs97_order.SOURCE
    assert table["sequences"][published].tolist() == [31_390, 31_390]
    assert table["sequences"][~published].tolist() == [0, 30]
    assert np.isinf(Run(out).read_table("networks")["sequences"]).all()
    (out / "learned.png").unlink()
    assert hs97_order.run(dataclasses.replace(TINY, out=out, redraw=True)) == summary
    assert (out / "learned.png").exists()


def reference(params, truncated):
    """Return a function of a sequence to the answer: the network of the paper, unit by unit."""
    w, u, b = (np.asarray(a, float) for a in params.cell)
    kernel, bias = np.asarray(params.kernel, float), np.asarray(params.bias, float)
    assert truncated

    def logistic(x):
        return 1 / (1 + np.exp(-x))

    def answer(inputs, target):
        """Return outputs, and the gradient by partial derivatives carried forwards (A.1)."""
        state, before = np.zeros(4), np.zeros(8)  # activations: four cells, two i, two o
        slopes = np.zeros((4, 17, 8))  # d state / d weight, by the unit that the weight enters
        h = outs = np.zeros(4)
        source = np.zeros(17)
        for x in inputs:
            source = np.concatenate([x, before, [1.0]])
            net = x @ w + before @ u + b
            ins, outs, nets = logistic(net[:2]), logistic(net[2:4]), net[4:]
            for cell in range(4):  # cell j of block b is unit 2 j + b
                block = cell % 2
                g, rise = 4 * logistic(nets[cell]) - 2, logistic(nets[cell])
                state[cell] += ins[block] * g
                slopes[cell, :, block] += g * ins[block] * (1 - ins[block]) * source
                slopes[cell, :, 4 + cell] += ins[block] * 4 * rise * (1 - rise) * source
            squashed = 2 * logistic(state) - 1
            h = np.concatenate([outs, outs]) * squashed
            before = np.concatenate([h, ins, outs])
        y = logistic(h @ kernel + bias)
        at_outputs = (y - target) * y * (1 - y)
        at_cells = kernel @ at_outputs
        squashed = 2 * logistic(state) - 1
        gradient = np.zeros((17, 8))
        for cell in range(4):
            block, s = cell % 2, logistic(state[cell])
            opened = outs[block]
            gradient += at_cells[cell] * opened * 2 * s * (1 - s) * slopes[cell]
            gradient[:, 2 + block] += (
                at_cells[cell] * squashed[cell] * opened * (1 - opened) * source
            )
        return y, (gradient, np.outer(h, at_outputs), at_outputs)

    return answer


def test_updates_are_those_of_the_published_algorithm():
    """Five sequences, with the derivatives of the paper's appendix, carried forwards in NumPy."""
    task, cell = TemporalOrderHochreiter1997(), TINY.make_cell()
    rule = training.StoppingRule(hs97_order.MEAN_ERROR, 8)
    step, optimizer = hs97_order.make_train_step(TINY, cell, task, rule)
    params = hs97_order.init(cell, task, jax.random.key(3))
    assert params.cell.bias[:2].tolist() == [-2.0, -4.0]
    free = np.concatenate(
        [np.ravel(a) for a in (*params.cell[:2], params.cell.bias[2:], *params[1:])]
    )
    assert np.abs(free).max() <= 0.1 and free.std() == pytest.approx(0.1 / np.sqrt(3), rel=0.15)
    stream = jax.tree.map(jnp.asarray, rule.start())
    state = training.TrainState(
        params, optimizer.init(params), jnp.int32(0), jax.random.key(0), (), stream
    )
    step = jax.jit(step)
    for k in range(5):
        batch = task.sample(jax.random.key(k), 1)
        last = int(np.argmax(batch.mask[:, 0]))
        answer = reference(state.params, TINY.truncated)
        target = np.asarray(batch.targets[last, 0])
        y, (slope, kernel, bias) = answer(np.asarray(batch.inputs[: last + 1, 0], float), target)
        before, (state, metrics) = state.params, step(state, batch)
        moved = jax.tree.map(
            lambda a, b: (np.asarray(a) - np.asarray(b)) / 0.5, before, state.params
        )
        for found, want in (
            (moved.cell.input_kernel, slope[:8]),
            (moved.cell.recurrent_kernel, slope[8:16]),
            (moved.cell.bias, slope[16]),
            (moved.kernel, kernel),
            (moved.bias, bias),
        ):
            np.testing.assert_allclose(found, want, atol=3e-7, rtol=1e-3)
        assert np.abs(slope[:8]).max() > 1e-6
        assert state.stream.errors[k] == pytest.approx(np.abs(y - target).mean(), rel=1e-4)
        assert bool(state.stream.correct[k]) == (np.abs(y - target) < 0.3).all()
        assert state.stream.count == state.step == k + 1
    assert metrics["error"] == pytest.approx(np.mean(state.stream.errors[:5]))
    # A network that has met its rule is left alone.
    met = training.Judged(jnp.int32(41), jnp.ones(8, bool), jnp.zeros(8))
    after, metrics = step(state._replace(stream=met), batch)
    assert after.step == 6 and after.stream.count == 41 and metrics["correct"] == 1
    same = zip(jax.tree.leaves(after.params), jax.tree.leaves(state.params), strict=True)
    assert all((a == b).all() for a, b in same)


def test_networks_of_both_experiments_have_the_published_weights():
    for symbols, weights in ((2, 156), (3, 308)):
        config = hs97_order.Config(symbols=symbols)
        task, cell = TemporalOrderHochreiter1997(symbols=symbols), config.make_cell()
        params = hs97_order.init(cell, task, jax.random.key(0))
        assert sum(leaf.size for leaf in jax.tree.leaves(params)) == weights
        assert config.limit == {2: 200_000, 3: 2_000_000}[symbols] and cell.truncated
        assert params.cell.bias[:symbols].tolist() == [-2.0, -4.0, -6.0][:symbols]


def summary_of():
    """Return a summary of sixteen networks that reproduces the claim."""
    taken = np.linspace(16_000, 40_000, 16).astype(int).tolist()
    return {"weights": 156, "sequences": taken, "wrong": [0, 1, 2, 3] * 4}


def test_the_verdict_follows_its_rule():
    usual = hs97_order.Config()
    assert hs97_order.verdict(usual, summary_of()).outcome == "reproduced"
    fast, slow = [15_600] * 9, [100_000] * 9
    changes = [
        (["stopping rule", "the published one"], "sequences", 0, [None]),
        (["the published one"], "sequences", 0, [700_000]),
        (["published mean"], "sequences", 0, fast),
        (["the published one", "published mean"], "sequences", 0, slow),
        (["test sequences"], "wrong", 0, [3] * 9),
    ]
    for broken, key, first, values in changes:
        summary = summary_of()
        summary[key][first : first + len(values)] = values
        found = hs97_order.verdict(usual, summary)
        failed = [name for name, holds in found.conditions.items() if not holds]
        assert found.outcome == "not reproduced"
        assert len(failed) == len(broken), (failed, broken)
        assert all(name.endswith(of) or of in name for name, of in zip(failed, broken, strict=True))
    for fewer in ("seeds", "window", "test_sequences"):
        config = dataclasses.replace(usual, **{fewer: getattr(usual, fewer) - 1})
        assert hs97_order.verdict(config, summary_of()).outcome == "quick run only", fewer
    config = dataclasses.replace(usual, max_sequences=199_999)
    assert hs97_order.verdict(config, summary_of()).outcome == "quick run only"
    three = dataclasses.replace(usual, symbols=3)
    assert not hs97_order.verdict(three, summary_of()).conditions[
        "the mean is near the published one"
    ]
    many = summary_of() | {"sequences": [20 * n for n in summary_of()["sequences"]]}
    assert hs97_order.verdict(three, many).outcome == "reproduced"


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ("--symbols 4", ("--symbols", "2 or 3", "4")),
        ("--max-sequences 1999", ("--max-sequences", "at least 2000", "1999")),
        ("--window 0", ("--window", "at least 1", "0")),
        ("--test-sequences 0", ("--test-sequences", "at least 1", "0")),
        ("--seeds 0", ("--seeds", "at least 1", "0")),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_code_2(arguments, names, refuses):
    refuses(hs97_order, arguments, names)
