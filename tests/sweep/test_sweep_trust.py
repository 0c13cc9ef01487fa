"""A sweep's directory names the code that a worker runs: which code it may name."""

import json
import shutil
from pathlib import Path

import pytest

from rnnjax import sweep
from rnnjax.command_line import ArgumentError
from rnnjax.sweep import __main__, local, trust
from rnnjax.sweep.slurm import submit

QUICK = Path(__file__).parents[1] / "quick_script.py"


@pytest.fixture
def handed(tmp_path, monkeypatch):
    """A sweep of a script elsewhere, and a project of one's own, which is the current folder."""
    for name in ("elsewhere", "mine/.git", "mine/sweeps"):
        (tmp_path / name).mkdir(parents=True)
    for folder in ("elsewhere", "mine"):
        shutil.copy(QUICK, tmp_path / folder / "script.py")
    (tmp_path / "elsewhere" / "cell.py").write_text("class Mine: ...\n")
    monkeypatch.chdir(tmp_path / "mine")
    return tmp_path


def create(place, script, network="lstm"):
    out = place / "mine" / "sweeps" / "a"
    settings = sweep.Settings(
        script=str(script), search={"network": network}, set={"steps": "1"}, objective="*.all"
    )
    return sweep.create(out, settings).out


def alter(out, **changes):
    path = out / "sweep.json"
    stored = json.loads(path.read_text())
    stored["settings"] |= changes
    path.write_text(json.dumps(stored))


def refusal(capsys, *words):
    with pytest.raises(SystemExit, match="2"):
        __main__.main([*map(str, words)])
    told = capsys.readouterr().err
    assert told.startswith("error: --out: ") and told.count("\n") == 1
    return told


@pytest.mark.parametrize("command", ["work", "slurm"])
def test_a_script_elsewhere_is_refused(command, handed, capsys):
    out, script = create(handed, handed / "elsewhere" / "script.py"), handed / "elsewhere/script.py"
    told = refusal(capsys, command, "--out", out)
    assert f"{out}/sweep.json names {script}, which is no code of the project in" in told
    assert f"--trust {script} lets it run" in told
    assert not (out / "trials").exists() and not (out / "jobs").exists()


def test_a_script_elsewhere_runs_if_it_is_trusted(handed):
    out = create(handed, handed / "elsewhere" / "script.py")
    assert sweep.work(out, trust=[handed / "elsewhere"]) == 1
    assert [t.state for t in sweep.trials(out)] == ["complete"]


def test_the_command_that_creates_a_sweep_has_named_its_script(handed, capsys):
    words = ["--search", "network=lstm", "--set", "steps=1", "--objective", "*.all"]
    __main__.main(["run", "../elsewhere/script.py", "--out", "sweeps/a", *words])
    assert [t.state for t in sweep.trials("sweeps/a")] == ["complete"]


def test_a_script_of_the_project_runs(handed):
    out = create(handed, "script.py")
    assert sweep.work(out) == 1
    assert f"python {handed}/mine/script.py" in sweep.trials(out)[0].command


ALTERED = {
    "elsewhere": "{place}/elsewhere/script.py",
    "a relative path": "../elsewhere/script.py",
    "a path out of the project": "{place}/mine/../elsewhere/script.py",
    "a link": "{place}/mine/link.py",
    "what came with the sweep": "{place}/mine/sweeps/a/came.py",
}


@pytest.mark.parametrize("how", ALTERED)
def test_an_altered_sweep_runs_nothing_outside(how, handed, capsys):
    out = create(handed, "script.py")
    shutil.copy(QUICK, out / "came.py")
    (handed / "mine" / "link.py").symlink_to(handed / "elsewhere" / "script.py")
    alter(out, script=ALTERED[how].format(place=handed))
    assert "which is no code of the project" in refusal(capsys, "work", "--out", out)
    assert not (out / "trials").exists()


@pytest.mark.parametrize("script", ["-c import os", "gone.py", ""])
def test_what_is_no_file_is_not_given_to_python(script, handed, capsys):
    out = create(handed, "script.py")
    alter(out, script=script)
    assert "which is not there" in refusal(capsys, "work", "--out", out)
    assert [t.state for t in sweep.trials(out)] == ["waiting"]


def test_a_link_is_followed_before_the_first_trial(handed):
    link = handed / "to_mine.py"
    link.symlink_to(handed / "mine" / "script.py")
    out = create(handed, "script.py")
    alter(out, script=str(link))
    found = trust.with_trusted_code(sweep.load(out), ())
    assert found.settings.script == str(handed / "mine" / "script.py")


@pytest.mark.parametrize("field", ["search", "set"])
@pytest.mark.parametrize("form", ["", "deep_"])
def test_the_file_of_a_cell_is_code_too(field, form, handed, capsys):
    cell = f"{form}{handed}/elsewhere/cell.py:Mine"
    out = create(handed, "script.py", f"lstm,{cell}")
    if field == "set":
        alter(out, search={"n": "1,2"}, set={"network": cell})
        stored = json.loads((out / "sweep.json").read_text())
        stored["types"] = {"network": ["word"], "n": ["int"]}
        (out / "sweep.json").write_text(json.dumps(stored))
    assert f"names {handed}/elsewhere/cell.py, which" in refusal(capsys, "work", "--out", out)
    words = ["work", "--out", str(out), "--trust", str(handed / "elsewhere" / "cell.py")]
    if (field, form) == ("search", ""):
        assert __main__.main(words) == 0
        assert [t.state for t in sweep.trials(out)] == ["complete"] * 2


def test_workers_and_jobs_are_told_what_is_trusted(handed):
    assert "--trust" not in local.worker_command(Path("a"), ())
    command = local.worker_command(Path("a"), ["script.py"])
    assert command[-2:] == ["--trust", f"{handed}/mine/script.py"]
    out = create(handed, handed / "elsewhere" / "script.py")
    with pytest.raises(ArgumentError, match="which is no code of the project"):
        submit(out, 1, cluster="local")
