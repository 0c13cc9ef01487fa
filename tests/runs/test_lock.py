"""The lock of a run directory: one process at a time."""

import fcntl
import os
import signal
import socket
import subprocess
import sys

import pytest
from run_directories import contents, names

from rnnjax.runs import LockedError, locked

HOLDER = """
import sys, time
from pathlib import Path
from rnnjax.runs import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock of a directory, and the directory."""
    path = tmp_path / "held" / "run"
    with subprocess.Popen([sys.executable, "-c", HOLDER, path], stdout=subprocess.PIPE) as process:
        assert process.stdout and process.stdout.readline() == b"held\n"
        yield process, path
        process.kill()


@pytest.mark.slow
@pytest.mark.multiprocess
def test_the_lock_of_another_process_ends_when_it_is_killed(holder):
    process, path = holder
    for _ in range(2):
        with pytest.raises(LockedError) as error, locked(path):
            raise AssertionError
        assert str(error.value) == (
            f"{path} is being written to by process {process.pid} on {socket.gethostname()}; "
            "wait until it has finished, or give another directory"
        )
        assert names(path) == [".lock"]
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert names(path) == [".lock"]  # a killed process cannot remove it
    with locked(path):
        assert (path / ".lock").read_text() == f"{os.getpid()} on {socket.gethostname()}\n"
    assert not path.exists()


def test_a_lock_holds_within_a_process_and_leaves_no_file(tmp_path):
    path = tmp_path / "a" / "run"
    with locked(path):
        with pytest.raises(LockedError, match=f"by process {os.getpid()} on"), locked(path):
            raise AssertionError
        assert names(path) == [".lock"]
        with locked(tmp_path / "a" / "other"):
            pass
    assert contents(tmp_path) == {} and not path.exists()
    with pytest.raises(ZeroDivisionError), locked(path):
        raise ZeroDivisionError
    with locked(path):  # files in the directory stay
        (path / "mine").write_text("")
    assert names(path) == ["mine"]
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError, match="is a file; give a directory"):
        locked(tmp_path / "file").__enter__()
    with pytest.raises(OSError, match=r"cannot write to .*/file/run: Not a directory"):
        locked(tmp_path / "file" / "run").__enter__()


def test_a_directory_that_is_removed_while_it_is_locked_is_created_again(tmp_path, monkeypatch):
    """Another process removes the directory before the lock, or the lock after it is taken."""
    path, real = tmp_path / "run", fcntl.flock
    removed = []

    def racing(file, how):
        real(file, how)
        if len(removed) < 3:
            removed.append(file)
            (path / ".lock").unlink()
            if len(removed) < 3:
                path.rmdir()

    monkeypatch.setattr(fcntl, "flock", racing)
    with locked(path):
        assert names(path) == [".lock"] and len(removed) == 3
