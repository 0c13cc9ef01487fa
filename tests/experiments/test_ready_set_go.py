"""The ready-set-go experiment: a small run, its numbers by hand, its verdict, and its manners."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scripts import ROOT, load

from rnnjax import experiment
from rnnjax.experiment import readout
from rnnjax.runs import Run
from rnnjax.tasks import trials

SCRIPT = ROOT / "experiments" / "ready_set_go.py"
ready_set_go = load(SCRIPT)
TINY = ready_set_go.Config(
    dt=80, shortest=240, longest=480, features=4, steps=20, batch_size=4, seeds=1, record_every=10
)
FIGURES = "produced", "speed", "trajectories", "flow_field"


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory):
    out = tmp_path_factory.mktemp("ready_set_go") / "run"
    return out, ready_set_go.run(dataclasses.replace(TINY, out=out))


def test_a_run_writes_everything_it_promises(tiny_run):
    out, summary = tiny_run
    written = json.loads((out / "summary.json").read_text())
    assert set(written) == set(summary) == {"intervals", "networks", "verdict"}
    assert summary["intervals"] == [240, 320, 400]
    assert list(summary["networks"]) == ["rate", "rank-two rate"]
    assert summary["verdict"]["outcome"] == "quick run only"
    for figure in FIGURES:
        for ending in ("png", "svg"):
            assert (out / f"{figure}.{ending}").stat().st_size > 100
        assert (out / f"{figure}.csv").exists()


def test_tables_hold_what_networks_do(tiny_run):
    out, summary = tiny_run
    run = Run(out)
    speed, paths = run.read_table("speed"), run.read_table("trajectories")
    law = experiment.select(speed, network="1 / interval")
    np.testing.assert_allclose(law["median"], [1, 240 / 320, 240 / 400])
    for name, (network,) in summary["networks"].items():
        rows = experiment.select(speed, network=name)
        slope = np.polyfit(np.log(rows["interval"]), np.log(rows["median"]), 1)[0]
        assert slope == pytest.approx(network["speed_exponent"], abs=1e-6)
        here = experiment.select(paths, network=name)
        starts = np.flatnonzero(np.diff(here["trajectory"], prepend=-1))
        assert here["interval"][starts].tolist() == [240, 320, 400]
    field = run.read_table("flow_field")
    assert np.abs(field["leaving"]).max() < 1e-12  # it is the field of a two-dimensional system
    for path in (0, 2):  # the state approaches the plane as (1 - dt / tau)^t
        outside = experiment.select(run.read_table("flow_paths"), trajectory=path)["outside"]
        np.testing.assert_allclose(outside[1:], 0.2 * outside[:-1], rtol=1e-3, atol=1e-6)


def test_figures_can_be_redrawn(tiny_run):
    out, _ = tiny_run
    (out / "flow_field.png").unlink()
    ready_set_go.run(dataclasses.replace(TINY, out=out, redraw=True))
    assert (out / "flow_field.png").exists()


def test_the_output_ramps_from_set_to_go():
    task = trials.ReadySetGo(dt=100, fixation_ms=100, ready_ms=100, measure_ms=400, set_ms=100)
    target, counted = map(np.asarray, ready_set_go.ramp(task.sample(jax.random.key(0), 1)))
    expected = [-1] * 6 + [-1, -0.75, -0.5, -0.25, 0]  # fixation, measure, set; then four steps
    np.testing.assert_allclose(target[counted], expected)
    assert counted[:11].all() and not counted[11:].any()


def test_a_network_made_by_hand_is_followed_to_its_go():
    """Two linear units: the set cue starts one, which adds to the other at every step."""
    config = dataclasses.replace(TINY, dt=80, features=2)
    cell = dataclasses.replace(config.make_cell("rate"), activation_fn=lambda x: x)
    task = trials.ReadySetGo(dt=80, measure_ms=trials.Uniform(240, 480))
    tested = task.trials_of([3, 4, 5])
    params = readout.init(cell, task, jax.random.key(0))
    raw = params.cell._replace(
        input_kernel=jnp.zeros((3, 2)).at[2].set(jnp.array([0.125, 1.25])),
        recurrent_kernel=jnp.eye(2).at[0, 1].set(1.0),
        bias=jnp.zeros(2),
    )
    # After the set cue: unit 0 holds .1, unit 1 starts at 1 and grows by .08 a step.
    kernel = jnp.zeros((2, 2)).at[1, 1].set(1.0)
    params = readout.Readout(raw, kernel, jnp.array([0.0, -1.3]))
    paths, went = ready_set_go.follow(cell, params, tested)
    np.testing.assert_allclose(went, 2.75, rtol=1e-4)  # 1.08 after one step, 1.3 after 3.75
    for path in paths:
        np.testing.assert_allclose(path[:, 1], 1.08 + 0.08 * np.arange(4), rtol=1e-4)


def straight(length, steps, start=0.0):
    """A trajectory along a line, at constant speed."""
    return np.stack([np.linspace(0, length, steps + 1), np.full(steps + 1, start)], axis=1)


def test_scaled_trajectories_and_those_of_a_clock():
    intervals = np.array([10, 15, 20])
    scaled = [straight(1.0, k, start=0.01 * k) for k in intervals]
    found = ready_set_go.describe(intervals, scaled, intervals * 0.9)
    assert found["slope"] == pytest.approx(0.9) and found["goes"] and found["ordered"]
    assert found["speed_exponent"] == pytest.approx(-1)
    assert found["phase_over_time"] < 0.5
    clock = [straight(0.1 * k, k, start=0.01 * (k == 15)) for k in intervals]
    found = ready_set_go.describe(intervals, clock, np.array([10.0, np.nan, 20.0]))
    assert found["speed_exponent"] == pytest.approx(0, abs=1e-9)
    assert found["phase_over_time"] > 1
    assert not (found["goes"] or found["ordered"])


GOOD = {"slope": 0.95, "goes": True, "speed_exponent": -0.8, "phase_over_time": 0.5}
GOOD |= {"ordered": True}


def judged(config=None, **change):
    summary = {"networks": {"rate": [GOOD, GOOD | change], "rank-two rate": [GOOD]}}
    return ready_set_go.verdict(config or ready_set_go.Config(), summary)


def test_the_verdict_follows_its_rule():
    assert judged().outcome == "reproduced"
    worse = {"slope": (0.89, 1.11, np.nan), "speed_exponent": (-0.5, np.nan), "ordered": (False,)}
    worse["phase_over_time"] = (1.0, np.nan)
    for key, values in worse.items():
        for value in values:
            found = judged(**{key: value})
            assert found.outcome == "not reproduced", key
            assert sum(not holds for holds in found.conditions.values()) == 1, key
    assert not any(list(judged(goes=False).conditions.values())[:4])
    for fewer in ("steps", "seeds", "features"):
        usual = ready_set_go.Config()
        config = dataclasses.replace(usual, **{fewer: getattr(usual, fewer) - 1})
        assert judged(config).outcome == "quick run only", fewer


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ("--dt 0", ("--dt", "at least 1", "got 0")),
        ("--dt 84", ("--dt", "at most 83", "got 84")),
        ("--shortest 50", ("--shortest", "at least 100", "got 50")),
        ("--longest 850", ("--longest", "at least 901", "got 850")),
        ("--features 1", ("--features", "at least 2", "got 1")),
        ("--rank-two-learning-rate 0", ("--rank-two-learning-rate", "positive")),
        ("--cells none", ("--cells", "none")),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_code_2(arguments, names, refuses):
    refuses(ready_set_go, arguments, names)
