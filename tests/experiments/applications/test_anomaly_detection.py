"""Anomaly detection: what is put in, what counts as found, no leakage, and answers afterwards."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scripts import ROOT, load

from rnnjax.datasets import series
from rnnjax.datasets.series.anomalies import inject
from rnnjax.datasets.series.detection import last_season_rule
from rnnjax.runs import Run

pytestmark = pytest.mark.slow
application = load(ROOT / "experiments" / "applications" / "anomaly_detection.py")
TINY = application.Config(
    window=6, features=4, steps=30, record_every=10, seeds=2, copies=2, each=2
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("tiny") / "run"
    return out, application.run(dataclasses.replace(TINY, out=out))


@pytest.fixture(scope="module")
def values():
    return series.load("elnino").values


def questions(parts, origins):
    return series.questions_at(parts.changes[:, None], parts.scaling, origins, TINY.window, 1)


# --- what is put in, and what counts ----------------------------------------------------------


def test_the_network_s_score_is_that_of_its_gaussian():
    from scipy.stats import norm

    model = TINY.make_model()
    params = application.initialise(TINY, model, jax.random.key(0))
    past = np.random.default_rng(0).normal(size=(3, 9)).astype(np.float32)
    change = np.array([0.1, -2.0, 3.0], np.float32)
    score, expected = application.network_rule(
        model, 6, params, jnp.asarray(past), jnp.asarray(change)
    )
    mean, log_variance = np.asarray(model.apply({"params": params}, past[:, 3:, None])).T
    np.testing.assert_allclose(expected, mean, rtol=1e-6)
    np.testing.assert_allclose(
        score, -norm.logpdf(change, mean, np.exp(log_variance / 2)), rtol=1e-5
    )


# --- time -------------------------------------------------------------------------------------


def test_predictions_read_what_is_before(values):
    parts = application.cut(TINY, values)
    asked = questions(parts, np.array([100]))
    scaled = (np.diff(values) - parts.scaling.mean) / parts.scaling.std
    np.testing.assert_allclose(asked.inputs[0, :, 0], scaled[94:100], rtol=1e-5)
    np.testing.assert_allclose(asked.targets, [[scaled[100]]], rtol=1e-5)


def test_what_comes_changes_nothing_before(values):
    """Neither scaling, nor what is learned, nor thresholds, nor scores of the steps before."""
    parts = application.cut(TINY, values)
    step = parts.test[50]
    later = values.copy()
    later[step + 1 :] += np.random.default_rng(0).normal(size=len(values) - step - 1)
    others = application.cut(TINY, later)
    np.testing.assert_array_equal(parts.scaling, others.scaling)
    rule = functools.partial(last_season_rule, 12)
    seen = []
    for part in (parts, others):
        learned = questions(part, part.train)[:2]
        changes = np.float32(part.changes)
        options = {"quantile": 0.98, "reach": 12, "replaced": application.REPLACED}
        found = application.detect(rule, part, changes, changes[None], **options)
        seen.append((*learned, *map(np.asarray, found)))
    for ours, theirs in zip(seen[0][:3], seen[1][:3], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(seen[0][3][:, :50], seen[1][3][:, :50])
    assert np.any(seen[0][3][:, 50:] != seen[1][3][:, 50:])
    quiet = np.diff(values)[parts.validation] - np.diff(values)[parts.validation - 12]
    np.testing.assert_allclose(seen[0][2], np.quantile(np.abs(quiet), 0.98), rtol=1e-5)


# --- a run ------------------------------------------------------------------------------------


def test_the_summary_has_its_metric_its_baselines_and_its_source(finished, values):
    out, summary = finished
    assert json.loads((out / "summary.json").read_text()) == summary
    assert summary["verdict"]["outcome"] == "quick run only"
    assert summary["metric"] == "F1" and summary["higher_is_better"]
    assert [r["f1"] for r in summary["details"]["network"]] == summary["values"]
    assert "demonstration scale" in summary["source"] and "synthetic" in summary["source"]
    parts, flags, put_in = application.cut(TINY, values), [], []
    quiet = np.abs(np.diff(values)[parts.validation])
    for copy in range(2):
        changed, anomalies = inject(parts.values, parts.test[0] + 1, parts.scaling.std[0], 2, copy)
        large = np.abs(np.diff(changed)) > np.quantile(quiet, 0.98)
        flags.append({step + 1 for step in parts.test if large[step]})
        put_in.append(anomalies)
    assert summary["details"]["last value"] == application.quality(flags, put_in)
    labelled = sum(one.end - one.start for anomalies in put_in for one in anomalies)
    assert summary["details"]["every step"]["precision"] == labelled / (2 * len(parts.test))
    assert summary["details"]["every step"]["recall"] == 1
    for name in ("gradients", "training", "found"):
        assert (out / f"{name}.png").stat().st_size > 1000


def test_the_table_shows_the_first_copy(finished, values):
    table = Run(finished[0]).read_table("found")
    parts = application.cut(TINY, values)
    changed, anomalies = inject(parts.values, parts.test[0] + 1, parts.scaling.std[0], 2, 0)
    rows = {n: table["median"][table["series"] == n] for n in ("series", "put in")}
    np.testing.assert_allclose(rows["series"], changed[parts.test + 1], rtol=1e-9)
    marked = {int(step) for step in parts.test[np.isfinite(rows["put in"])] + 1}
    assert marked == {step for a in anomalies for step in range(a.start, a.end)}


def test_it_finds_a_jump_in_a_file(finished, values, tmp_path):
    changed = values[:60].copy()
    changed[40:] += 30  # line 41
    (tmp_path / "f.csv").write_text("\n".join(map(str, changed)))
    answers = application.run(
        dataclasses.replace(TINY, out=finished[0], predict=str(tmp_path / "f.csv"))
    )
    assert "of the steps 8 to 60 are anomalies" in answers[0]
    assert int(answers[0].split()[0]) == len(answers) - 1
    (jump,) = (a for a in answers[1:] if a.startswith("step 41: "))
    assert jump.startswith(f"step 41: {changed[40]:.6g}, ")
    assert abs(float(jump.split()[3]) - changed[39]) < 10


def test_a_constant_series_has_an_answer(finished, tmp_path):
    (tmp_path / "f.csv").write_text("7\n" * 8)
    answers = application.run(
        dataclasses.replace(TINY, out=finished[0], predict=str(tmp_path / "f.csv"))
    )
    assert "of the steps 8 to 8" in answers[0] and "nan" not in "".join(answers)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("7\n" * 7, ("at least 8 values", "has 7")),
        ("7\n\nnan\n" * 9, ("line 3", "finite number", "'nan'")),
        ("", ("holds no numbers",)),
    ],
)
def test_a_file_that_cannot_be_used_is_one_line(text, words, finished, tmp_path, refuses):
    (tmp_path / "f.csv").write_text(text)
    refuses(application, f"--out {finished[0]} --predict {tmp_path / 'f.csv'}", words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--series gold", ("--series", "gold", "elnino")),
        ("--quantile 1", ("--quantile", "between 0 and 1", "1.0")),
        ("--train-share 0.7 --validation-share 0.3", ("--train-share", "leave something")),
        ("--window 700", ("--window 700", "too little")),
        ("--batch-size 400", ("--batch-size must be at most 342", "400")),
        ("--each 7", ("--each", "21 anomalies need 12 steps each")),
        ("--copies 0", ("--copies", "at least 1")),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_code_2(arguments, words, refuses):
    refuses(application, arguments, words)


def test_without_the_package_one_line_names_the_extra(tmp_path, monkeypatch, refuses):
    monkeypatch.setenv("RNNJAX_DATA", str(tmp_path / "data"))
    monkeypatch.setattr("rnnjax.datasets.builders.importlib.util.find_spec", lambda *_: None)
    refuses(application, "--steps 1", ("statsmodels", "rnnjax[series]"))
