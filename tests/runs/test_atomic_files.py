"""Files are complete or absent, also on a full disk."""

import io

import pytest
from run_directories import Config, names

from rnnjax.runs import Run, atomic_files, write_arrays


def test_rows_are_appended_whole(run, monkeypatch):
    with pytest.raises(TypeError, match="cannot write"):
        run.append("rows.jsonl", [{"a": 1}, {"a": object()}])
    assert not (run.path / "rows.jsonl").exists()
    writes = []

    class Short(io.FileIO):
        def write(self, data, /):
            writes.append(super().write(bytes(data)[:50_000]))  # a disk may accept only a part
            return writes[-1]

    real_open = open
    monkeypatch.setattr(
        "builtins.open",
        lambda path, mode, buffering=-1: (
            real_open(path, mode, buffering) if buffering else Short(path, mode)
        ),
    )
    rows = [{"a": "x" * 1000, "b": i} for i in range(99)]
    run.append("rows.jsonl", rows)
    assert len(writes) == 1 + 3  # the file's name, then the rows
    monkeypatch.undo()
    run.append("rows.jsonl", [{"a": "\u2028ü\n"}])
    assert run.read_rows("rows.jsonl") == [*rows, {"a": "\u2028ü\n"}]
    with open(run.path / "rows.jsonl", "a") as file:
        file.write('{"a": "cut o')
    assert run.read_rows("rows.jsonl") == [*rows, {"a": "\u2028ü\n"}]


def test_an_incomplete_file_is_removed(run, monkeypatch):
    run.write_json("summary.json", "old")

    def disk_full(file, data):
        file.write(data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic_files, "_write_all", disk_full)
    with pytest.raises(OSError, match="No space"):
        run.write_json("summary.json", "new")
    assert run.read_json("summary.json") == "old"
    assert names(run.path) == ["config.json", "summary.json"]
    monkeypatch.undo()
    # A killed process cannot clean up. The next run does; nothing reads the leftover file.
    (run.path / ".summary.json.unfinished").write_text("half")
    assert run.read_json("summary.json") == "old"
    Run.create(run.path, Config(), overwrite=True).finish()
    assert names(run.path) == [".finished", "config.json"]


def test_a_full_disk_is_reported_with_the_file(run, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic_files, "_write_all", full)
    writes = {
        "config.json": lambda: run.write_json("config.json", 1),
        "metrics.jsonl": lambda: run.append("metrics.jsonl", [{"a": 1}]),
        "a.npz": lambda: write_arrays(run.path / "a.npz", {"a": 1}),
    }
    (run.path / ".rnnjax").write_text("\n".join(writes))
    for name, write in writes.items():
        with pytest.raises(OSError, match=f"cannot write to .*/{name}: No space left on device"):
            write()
