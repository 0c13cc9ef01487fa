"""What holds for every experiment file: it says what it claims, and its command line is light."""

import dataclasses
import subprocess
import sys

import pytest
from scripts import ROOT, imported_by, load

SCRIPTS = sorted(ROOT.glob("experiments/**/*.py"))
HEAVY = {
    *(
        "tensorflow_datasets",
        "orbax",
        "grain",
        "matplotlib",
        "optuna",
        "sklearn",
        "scipy",
        "gensim",
    ),
    *("librosa", "music21", "sacrebleu", "pandas", "PIL", "pyarrow", "sqlalchemy", "submitit"),
}
FAST = ("vanishing_gradients", "sentiment", "trainability")  # one of each kind is always tested

every_script = pytest.mark.parametrize(
    "path",
    [pytest.param(p, marks=() if p.stem in FAST else pytest.mark.slow) for p in SCRIPTS],
    ids=[path.stem for path in SCRIPTS],
)


@every_script
def test_it_says_what_it_claims_and_how_it_is_run(path):
    module = load(path)
    place = path.relative_to(ROOT).as_posix()
    assert module.__doc__ and f"python {place}" in module.__doc__
    assert "Claim" in module.__doc__
    named = [ROOT / "README.md", *ROOT.glob("docs/**/*.md")]
    assert any(place in document.read_text() for document in named)
    assert dataclasses.is_dataclass(module.Config) and callable(module.run)
    assert {"out", "overwrite", "redraw"} <= {f.name for f in dataclasses.fields(module.Config)}
    with pytest.raises(dataclasses.FrozenInstanceError):
        module.Config().out = None


@every_script
def test_help_imports_nothing_heavy_and_names_every_option(path):
    done, imported = imported_by(path, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "rnnjax" in imported and not imported & HEAVY
    if path.parent.name != "applications":
        assert not imported & {"flax", "optax"}
    for field in dataclasses.fields(load(path).Config):
        assert "--" + field.name.replace("_", "-") in done.stdout


@every_script
def test_an_unknown_option_is_one_line(path, tmp_path):
    command = [sys.executable, str(path), "--no-such-option", "1"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: unknown option --no-such-option")
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
