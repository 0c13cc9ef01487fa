"""A sweep's files that someone or something has altered, a folder that moves, a full disk."""

import dataclasses
import json
from pathlib import Path

import pytest
import sqlalchemy.exc

from rnnjax import sweep
from rnnjax.command_line import ArgumentError
from rnnjax.sweep import __main__, results, storage

QUICK = Path(__file__).parents[1] / "quick_script.py"


def create(out, search="1,2", **options):
    settings = sweep.Settings(
        script=str(QUICK), search={"x": search}, set={"steps": "1"}, objective="*.all", **options
    )
    return sweep.create(out, settings)


def changed(change):
    def write(stored):
        change(stored)
        return json.dumps(stored)

    return write


DAMAGE = {
    "not JSON": lambda stored: "{",
    "a list": lambda stored: "[1]",
    "brackets": lambda stored: "[" * 200_000,
    "another form": lambda stored: '{"a": 1}',
    "an unknown setting": changed(lambda s: s["settings"].update(more=1)),
    "no types": changed(lambda s: s.pop("types")),
    "types of another kind": changed(lambda s: s.update(types={"x": 3, "steps": ["int"]})),
    "numbers for names": changed(lambda s: s["settings"].update(script=3)),
    "a folder for its trials": changed(lambda s: s["settings"]["set"].update(out="..")),
    "values that are no text": changed(lambda s: s["settings"].update(search={"x": 3})),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("command", ["report", "work"])
def test_a_damaged_sweep_is_one_line(damage, command, tmp_path, capsys):
    out = tmp_path / "sweep"
    create(out)
    path = out / "sweep.json"
    path.write_text(DAMAGE[damage](json.loads(path.read_text())))
    with pytest.raises(SystemExit, match="2"):
        __main__.main([command, "--out", str(out)])
    told = capsys.readouterr().err
    assert told.startswith(f"error: --out: {path} is damaged: ") and told.count("\n") == 1


@pytest.mark.slow
def test_a_sweep_stays_itself_when_its_folder_is_renamed(tmp_path):
    out, moved = tmp_path / "before", tmp_path / "after"
    create(out)
    sweep.work(out)
    before = [(t.number, t.state, t.objective) for t in sweep.trials(out)]
    out.rename(moved)
    assert [(t.number, t.state, t.objective) for t in sweep.trials(moved)] == before
    create(moved)  # the same command, in the other folder
    assert sweep.load(moved).name == "before"


def test_a_stored_command_with_an_open_quote(tmp_path):
    create(tmp_path / "s", "1")
    sweep.work(tmp_path / "s")
    (trial,) = sweep.trials(tmp_path / "s")
    assert "--x" in results.rerun(trial)
    for command in ("python 'open", "python a.py"):
        assert results.rerun(dataclasses.replace(trial, command=command)) == command


def test_a_grid_has_a_bound(tmp_path):
    for search in ("lin:0:1:1000000000000", "int:0:1000000000000"):
        with pytest.raises(ArgumentError, match=r"has 100000000000\d points, and a sweep at most"):
            create(tmp_path / "s", search)
    assert not (tmp_path / "s").exists()
    with pytest.raises(ArgumentError, match="--trials must be at most 100000, got 1000000"):
        settings = sweep.Settings(
            script=str(QUICK), search={"x": "lin:0:1"}, objective="*.all", sampler="random"
        )
        sweep.create(tmp_path / "s", settings, trials=10**6)


def test_a_full_disk_is_one_line(tmp_path):
    made = create(tmp_path / "s")
    full = sqlalchemy.exc.OperationalError("INSERT", {}, Exception("database or disk is full"))
    with (
        pytest.raises(ArgumentError, match="^--storage: database or disk is full$"),
        storage.opened(made),
    ):
        raise full
