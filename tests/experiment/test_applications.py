"""What applications share: networks by name, evaluation, shares of gradients, the report."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnjax import experiment
from rnnjax.command_line import ArgumentError
from rnnjax.experiment import applications
from rnnjax.layers import RNN, TCN, Bidirectional, Embed, SoftmaxHead, Stack, Transformer
from rnnjax.models import ManyToOne
from rnnjax.runs import Run


@dataclasses.dataclass(frozen=True)
class Config(applications.Options):
    """Of a run in these tests."""

    widths: tuple[int, ...] = (3, 4)


# --- networks by name -------------------------------------------------------------------------


def test_every_name_is_the_network_that_it_says():
    kinds = {"tcn": TCN, "transformer": Transformer, "bidirectional_gru": Bidirectional}
    for name in applications.NETWORKS:
        layer = applications.network(name, 8, window=9)
        assert type(layer) is kinds.get(name, Stack if name == "deep_gru" else RNN)
        if isinstance(layer, RNN):
            assert layer.cell == applications.CELLS[name](8)
    deep = applications.network("deep_bidirectional_lstm", 8, window=9)
    assert [type(layer) for layer in deep.layers] == [Bidirectional] * 2
    assert set(applications.NAMES) == set(applications.NETWORKS)


@pytest.mark.parametrize("window", [1, 5, 6, 29, 30, 64, 784])
def test_the_smallest_cnn_that_sees_the_window(window):
    layer = applications.network("tcn", 4, window=window)
    assert layer.receptive_field >= window
    smaller = TCN(4, num_blocks=max(1, layer.num_blocks - 1))
    assert layer.num_blocks == 1 or smaller.receptive_field < window
    assert applications.network("transformer", 4, window=window).window == window


@pytest.mark.parametrize("name", ["mamba", "deep_tcn", "wide_gru", "bidirectional_deep_gru", ""])
def test_another_name_is_refused(name):
    with pytest.raises(ArgumentError, match="--network must be one of tcn, elman, .*, got"):
        applications.network(name, 8, window=9)


# --- evaluation -------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_every_row_is_evaluated_once_for_every_member(batch_size):
    columns = {"x": np.arange(7.0, dtype=np.float32), "y": np.ones((7, 2), np.float32)}

    def function(weight, x, y):
        return {"product": weight * x, "sum": weight + y}

    weights = jnp.array([1.0, 10.0, 100.0])
    found = experiment.evaluate(function, weights, columns, batch_size=batch_size)
    np.testing.assert_array_equal(found["product"], weights[:, None] * columns["x"])
    np.testing.assert_array_equal(found["sum"], weights[:, None, None] + columns["y"])


# --- gradients --------------------------------------------------------------------------------


def test_shares_are_of_each_sequences_own_end_and_add_up_to_one():
    rng = np.random.default_rng(0)
    logs, ends = rng.normal(size=(2, 6, 3)), np.array([6, 4, 5])
    (part,) = experiment.gradient_table({"layer": logs}, ends)
    assert part["layer"] == "layer" and part["lag"].tolist() == [1, 2, 3, 4]
    shares = []
    for member in range(2):
        for example, end in enumerate(ends):
            norms = np.exp([logs[member, end - lag, example] for lag in range(1, 5)])
            shares.append(np.log(norms / np.linalg.norm(norms)))
    np.testing.assert_allclose(part["median"], np.median(shares, axis=0), rtol=1e-5)
    both = experiment.gradient_table({"a": logs, "b": logs}, {"b": ends})
    assert [len(part["lag"]) for part in both] == [6, 4]


def test_reach_compares_the_earliest_tenth_of_lags_with_the_latest():
    decay = {"median": -np.arange(20.0) * np.log(10)}
    assert experiment.reach(decay) == pytest.approx(-18)
    assert experiment.reach({"median": np.zeros(5)}) == 0
    field = {"median": np.where(np.arange(20) < 10, 0.0, -np.inf)}
    assert experiment.reach(field) == -np.inf


def test_embedded_tokens_are_shown_like_inputs():
    model = ManyToOne(applications.network("gru", 3, window=4), SoftmaxHead(2), embed=Embed(5, 2))
    tokens = jnp.array([[1, 2, 3, 4], [4, 3, 0, 0]])
    lengths = jnp.array([4, 2])
    params = jax.vmap(lambda key: model.init(key, tokens)["params"])(
        jax.random.split(jax.random.key(0), 2)
    )
    found = experiment.log_gradients(model, params, jnp.sum, tokens, seq_lengths=lengths)
    assert list(found) == ["embed/output", "layer/carry"]

    def loss(vectors, params):
        ys = ManyToOne(model.layer, model.head).apply(
            {"params": {n: params[n] for n in ("layer", "head")}}, vectors, seq_lengths=lengths
        )
        return ys.sum()

    for member in range(2):
        one = jax.tree.map(lambda p, m=member: p[m], params)
        vectors = one["embed"]["embedding"][tokens]
        norms = jnp.linalg.norm(jax.grad(loss)(vectors, one), axis=-1).T
        np.testing.assert_allclose(np.exp(found["embed/output"][member]), norms, rtol=1e-5)


# --- the report -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "higher", "baseline", "beats"),
    [
        ([0.8, 0.9, 0.85], True, 0.7, True),
        ([0.8, 0.9, 0.7], True, 0.7, False),  # by less than the spread
        ([0.6, 0.6, 0.6], True, 0.7, False),
        ([0.3, 0.2], False, 0.4, True),
        ([0.3, 0.1], False, 0.4, False),
        ([0.5], False, 0.4, False),
    ],
)
def test_the_report_sets_the_value_beside_the_best_baseline(
    values, higher, baseline, beats, capsys
):
    worse = 0.1 if higher else 0.9
    summary = experiment.report(
        "metric",
        np.float32(values),
        {"poor": worse, "good": baseline},
        higher_is_better=higher,
        source="nowhere, synthetic",
        examples=[{"is": "a", "named": "b"}],
        extra=3,
    )
    assert summary["value"] == pytest.approx(np.mean(values))
    assert summary["spread"] == pytest.approx(max(values) - min(values))
    assert (summary["baseline"], summary["baseline_name"]) == (baseline, "good")
    assert summary["beats_baseline"] is beats and summary["extra"] == 3
    assert json.loads(json.dumps(summary)) == summary
    printed = capsys.readouterr().out
    assert ("beats" if beats else "does not beat") in printed
    assert "nowhere, synthetic" in printed and "is: a  named: b" in printed


# --- asking a finished run ---------------------------------------------------------------------


def init(key):
    return {"w": jax.random.normal(key, (2, 3)), "b": jnp.zeros(3)}


@pytest.fixture
def finished(tmp_path):
    """Make a finished run of two members; return its configuration and their parameters."""
    config = Config(out=tmp_path / "run", seeds=2, widths=(5, 6))
    params = jax.vmap(init)(jnp.stack([jax.random.key(seed) for seed in config.members]))

    def measure(run):
        experiment.save(run, params, {"words": ["a", "b"]})
        return {"value": 1.0}

    run = functools.partial(applications.in_application, "test", answer=answer, drawing=print)
    run(config, measure=measure)
    return config, params, run


def never(run):
    raise AssertionError("nothing is trained")


def answer(config, run, asked):
    params = experiment.restore(run, init, members=config.seeds)
    words = run.read_json("preprocessing.json")["words"]
    for line in experiment.lines(asked):
        yield f"{line} {config.widths} {words[0]} {float(params['w'][0, 0]):.6f}"


def test_a_finished_run_answers_with_its_own_configuration(finished, capsys, tmp_path):
    config, params, run = finished
    asking = Config(out=config.out, predict="hello", seeds=3, steps=7)
    capsys.readouterr()
    answers = run(asking, measure=never)
    assert answers == [f"hello (5, 6) a {float(params['w'][0, 0, 0]):.6f}"]
    assert capsys.readouterr().out.splitlines() == answers
    (tmp_path / "asked.txt").write_text("one\ntwo\n")
    both = run(dataclasses.replace(asking, predict=str(tmp_path / "asked.txt")), measure=never)
    assert [line.split()[0] for line in both] == ["one", "two"]


def test_what_cannot_be_asked_is_said(finished, tmp_path):
    config, _, run = finished
    ask = functools.partial(run, measure=never)
    for out in (None, tmp_path / "nothing"):
        with pytest.raises(ArgumentError, match="--predict needs a finished run in --out"):
            ask(Config(out=out, predict="x"))
    (config.out / "config.json").write_text('{"length": 3}')
    with pytest.raises(ArgumentError, match="--predict needs a run of test in --out"):
        ask(Config(out=config.out, predict="x"))
    for content, words in ((b"", "is empty"), (b"\xff\xfe\x00", "not a text file")):
        (tmp_path / "file").write_bytes(content)
        with pytest.raises(ArgumentError, match=words):
            experiment.lines(str(tmp_path / "file"))
    with pytest.raises(ArgumentError, match="needs a WAV file; there is no file 'x'"):
        experiment.existing("x", "a WAV file")
    assert experiment.lines("x" * 5000) == ["x" * 5000]  # too long for a file's name


def test_a_missing_package_is_one_line_and_nothing_is_left(tmp_path):
    def measure(run):
        raise ModuleNotFoundError("the data come with x: pip install 'rnnjax[text]'")

    config = Config(out=tmp_path / "run")
    with pytest.raises(ArgumentError, match=r"pip install 'rnnjax\[text\]'"):
        applications.in_application("test", config, measure, answer)
    assert list(tmp_path.iterdir()) == []


def test_the_runs_figures_are_drawn_from_its_tables(tmp_path):
    run = Run.create(tmp_path / "run", Config())
    run.append("metrics.jsonl", [{"seed": s, "step": 10, "loss": s} for s in range(3)])
    table = {"lag": np.arange(4), "median": -np.arange(4.0), "q25": -np.inf, "q75": 0.0}
    run.write_table("gradients", [{"layer": "inputs", **table}])
    applications.draw(run)
    assert run.read_table("training")["median"].tolist() == [1.0]
    for name in ("gradients", "training"):
        assert (run.path / f"{name}.png").stat().st_size > 1000
