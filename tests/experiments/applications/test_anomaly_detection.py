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


# --- what is put in, and what counts ----------------------------------------------------------


def test_anomalies_are_what_they_say_and_nothing_else_changes(values):
    """Each undone by itself, from the last to the first, gives the series back."""
    changed, anomalies = application.inject(values, 500, 1.5, 4, seed=3)
    assert [a.kind for a in anomalies] != sorted(a.kind for a in anomalies)
    assert {a.kind: 4 for a in anomalies} == dict.fromkeys(application.KINDS, 4)
    np.testing.assert_array_equal(changed[:500], values[:500])
    level, sizes = np.zeros(len(values)), []
    for before, one in zip([None, *anomalies], anomalies, strict=False):
        start = one.start
        assert start >= (500 if before is None else before.end)
        if one.kind == "stuck":
            assert one.end - start == application.STUCK + 1
            np.testing.assert_array_equal(changed[start : one.end - 1], changed[start - 1])
            continue
        assert one.end - start == {"spike": 2, "shift": 1}[one.kind]
        offset = changed[start] - values[start] - level[start]
        level[start : start + 1 if one.kind == "spike" else None] += offset
        sizes.append(offset / 1.5)
    stuck = {s for a in anomalies if a.kind == "stuck" for s in range(a.start, a.end - 1)}
    free = [step for step in range(len(values)) if step not in stuck]
    np.testing.assert_allclose((changed - level)[free], values[free], atol=1e-12)
    assert np.all((np.abs(sizes) >= 1) & (np.abs(sizes) <= 3)) and min(sizes) < 0 < max(sizes)


def test_anomalies_are_pinned(values):
    _, anomalies = application.inject(values, 500, 1.5, 1, seed=0)
    assert [(a.kind, a.start) for a in anomalies] == [
        ("stuck", 563),
        ("shift", 644),
        ("spike", 709),
    ]
    assert application.inject(values, 500, 1.5, 1, seed=1)[1] != anomalies
    with pytest.raises(ValueError, match="21 anomalies need 12 steps each, there are 232"):
        application.inject(values, 500, 1.5, 7, seed=0)


def test_quality_by_hand():
    put_in = [
        [application.Anomaly("spike", 3, 5), application.Anomaly("stuck", 10, 17)],
        [application.Anomaly("shift", 4, 5)],
    ]
    found = application.quality([{4, 5, 12, 13}, {1}], put_in)
    # Of five flagged steps three are right; of three anomalies two are found.
    assert found["precision"] == 3 / 5 and found["recall"] == 2 / 3
    np.testing.assert_allclose(found["f1"], 2 / (5 / 3 + 3 / 2))
    assert found["recall_of_kinds"] == {"spike": 1, "shift": 0, "stuck": 1}
    assert application.quality([set(), set()], put_in)["f1"] == 0


def test_what_was_flagged_is_not_read_twice_in_a_row_at_most():
    """Against a loop; the rule expects the change before, and is off by how far it is."""
    changes = np.array([[0, 5, 0, 1, 5, 6, 7, 8, 0, 0], [9, 9, 9, 9, 9, 1, 1, 2, 3, 9.0]])
    past = np.array([[0.0, 0.0], [0.0, 1.0]])

    def rule(past, change):
        return jnp.abs(change - past[:, -1]), past[:, -1]

    scores, expected = application.watch(rule, 2.5, jnp.asarray(past), jnp.asarray(changes))
    for row in range(2):
        last, in_a_row = past[row, -1], 0
        for step, change in enumerate(changes[row]):
            assert expected[row, step] == last and scores[row, step] == abs(change - last)
            in_a_row = in_a_row + 1 if abs(change - last) > 2.5 else 0
            if not 1 <= in_a_row <= 2:
                last = change


def test_the_simple_rules_by_hand():
    past, change = jnp.array([[1.0, 2.0, 3.0]]), jnp.array([-1.5])
    assert [a.tolist() for a in application.last_value_rule(past, change)] == [[1.5], [0.0]]
    found = application.last_season_rule(2, past, change)
    assert [a.tolist() for a in found] == [[3.5], [2.0]]


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


def test_the_parts_follow_each_other_and_predictions_read_what_is_before(values):
    parts = application.cut(TINY, values)
    ends = round(731 * 0.5), round(731 * 0.7)
    assert parts.train.tolist() == list(range(6, ends[0]))
    assert parts.validation.tolist() == list(range(ends[0], ends[1]))
    assert parts.test.tolist() == list(range(ends[1], 731))
    np.testing.assert_allclose(parts.scaling.std, [np.diff(values)[: ends[0]].std()])
    asked = application.questions(TINY, parts.changes, parts.scaling, np.array([100]))
    scaled = (np.diff(values) - parts.scaling.mean) / parts.scaling.std
    np.testing.assert_allclose(asked["inputs"][0, :, 0], scaled[94:100], rtol=1e-5)
    np.testing.assert_allclose(asked["targets"], [[scaled[100]]], rtol=1e-5)


def test_what_is_missing_is_not_learned_from():
    values = series.load("co2").values
    parts = application.cut(dataclasses.replace(TINY, series="co2"), values)
    assert len(parts.values) == len(values)
    for origin in (*parts.train, *parts.validation):
        assert not np.isnan(values[origin : origin + 2]).any()
    assert np.isfinite(parts.changes).all()


def test_what_comes_changes_nothing_before(values):
    """Neither scaling, nor what is learned, nor thresholds, nor scores of the steps before."""
    parts = application.cut(TINY, values)
    step = parts.test[50]
    later = values.copy()
    later[step + 1 :] += np.random.default_rng(0).normal(size=len(values) - step - 1)
    others = application.cut(TINY, later)
    np.testing.assert_array_equal(parts.scaling, others.scaling)
    rule = functools.partial(application.last_season_rule, 12)
    seen = []
    for part in (parts, others):
        learned = application.questions(TINY, part.changes, part.scaling, part.train)
        found = application.detect(
            rule, TINY, part, np.float32(part.changes), np.float32(part.changes[None])
        )
        seen.append((*learned.values(), *map(np.asarray, found)))
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
    assert summary["metric"] == "F1" and summary["higher_is_better"]
    assert [r["f1"] for r in summary["details"]["network"]] == summary["values"]
    assert "demonstration scale" in summary["source"] and "synthetic" in summary["source"]
    parts, flags, put_in = application.cut(TINY, values), [], []
    quiet = np.abs(np.diff(values)[parts.validation])
    for copy in range(2):
        changed, anomalies = application.inject(
            parts.values, parts.test[0] + 1, parts.scaling.std[0], 2, copy
        )
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
    changed, anomalies = application.inject(
        parts.values, parts.test[0] + 1, parts.scaling.std[0], 2, 0
    )
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
