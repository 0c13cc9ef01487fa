"""One program of several processes, over the loopback device: the same files as one process."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from typing import NamedTuple

import pytest
from scripts import ROOT

from rnnjax import training

pytestmark = [pytest.mark.slow, pytest.mark.multiprocess]

SCRIPT = ROOT / "experiments" / "vanishing_gradients.py"
TINY = (
    *("--cells", "elman", "--length", "8", "--features", "4", "--batch-size", "8", "--seeds", "4"),
    *("--steps", "8", "--snapshots", "2", "--record-every", "1", "--checkpoint-every", "2"),
)
SLURM_PORTS = 65535 - 2**12 + 1  # the first of the ports that JAX chooses by a job's number
COMPARED = "metrics.jsonl", "summary.json", "gradient_profiles.csv", "learning_curves.csv"

# The script, which gets a signal before it saves a checkpoint, after the previous one is complete.
SIGNALLED = """
import os, runpy, sys
from rnnjax.checkpoint import Checkpoints
count, number, sys.argv = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
finish, calls = Checkpoints._finish_pending, []
def finished(self):
    finish(self)
    calls.append(self)
    if len(calls) == count:
        os.kill(os.getpid(), number)
Checkpoints._finish_pending = finished
runpy.run_path(sys.argv[0], run_name="__main__")
"""


class Done(NamedTuple):
    code: int
    out: str
    err: str


def free_port(least=0):
    """Return a free port, the first one from `least` on if that is given."""
    for port in range(least, 2**16):
        with socket.socket() as listening, contextlib.suppress(OSError):
            listening.bind(("127.0.0.1", port))
            return listening.getsockname()[1]
    raise AssertionError("no port is free")


def start(out, processes=1, *arguments, signalled=(), slurm=False):
    """Start a run; with `signalled` (save, signal) the last process is sent that.

    With `slurm` the processes find each other by the variables that `srun` sets.
    """
    command = [str(SCRIPT), *TINY, "--out", str(out), *arguments]
    started = []
    port = free_port(SLURM_PORTS if slurm else 0)
    for i in range(processes):
        before, hosts = [], []
        if signalled and i == processes - 1:
            before = ["-c", SIGNALLED, *map(str, signalled)]
        job = {
            "SLURM_JOB_ID": str(port - SLURM_PORTS),
            "SLURM_STEP_NODELIST": "localhost",
            "SLURM_NTASKS": str(processes),
            "SLURM_PROCID": str(i),
            "SLURM_LOCALID": str(i),
        }
        if slurm:
            hosts = ["--coordinator", "auto"]
        elif processes > 1:
            hosts = ["--coordinator", f"127.0.0.1:{port}"]
            hosts += ["--num-processes", str(processes), "--process-id", str(i)]
        started.append(
            subprocess.Popen(
                [sys.executable, "-W", "error", *before, *command, *hosts],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=os.environ | {"JAX_NUM_CPU_DEVICES": "1"} | (job if slurm else {}),
            )
        )
    return started


def finish(started, timeout=1200):
    """Wait for all processes of a run."""
    try:
        ended = [process.communicate(timeout=timeout) for process in started]
    finally:
        for process in started:
            process.kill()
    return [Done(p.returncode, *pipes) for p, pipes in zip(started, ended, strict=True)]


def files(out):
    return {name: (out / name).read_bytes() for name in COMPARED}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The files of one process."""
    out = tmp_path_factory.mktemp("hosts") / "one"
    (done,) = finish(start(out))
    assert (done.code, done.err) == (0, "")
    return files(out)


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """A run of two processes; one was killed, and after resuming one was terminated."""
    out = tmp_path_factory.mktemp("hosts") / "interrupted"
    first, second = finish(start(out, 2, signalled=(2, signal.SIGKILL.value)))
    assert second.code == -signal.SIGKILL
    assert first.code == 1  # it does not wait for the killed one
    assert first.err.startswith("error: ") and first.err.count("\n") == 1
    assert not (out / "summary.json").exists()
    ended = finish(start(out, 2, signalled=(1, signal.SIGTERM.value)))
    for process in ended:
        assert process.code == 128 + signal.SIGTERM
        assert process.err.startswith("error: elman: terminated after step 6 of 8; ")
        assert process.err.count("\n") == 1
    assert not (out / "summary.json").exists()
    return out


@pytest.mark.parametrize("processes", [1, 4])
def test_any_number_of_processes_resumes_to_the_same_bits(
    uninterrupted, interrupted, tmp_path, processes
):
    out = tmp_path / "run"
    shutil.copytree(interrupted, out)
    mesh = ["--mesh", f"population={processes}"]  # not the mesh of the checkpoint
    ended = finish(start(out, processes, *mesh))
    assert [done.code for done in ended] == [0] * processes
    assert files(out) == uninterrupted
    assert (out / "learning_curves.svg").exists()
    said = ["Figures, and the numbers behind them, are in" in done.out for done in ended]
    assert said == [i == 0 for i in range(processes)]


def test_an_error_of_the_first_process_is_an_error_of_all(tmp_path):
    out = tmp_path / "file"
    out.write_text("not a run")
    for done in finish(start(out, 2)):
        assert done.code == 2
        assert done.err == f"error: --out: {out} is a file; give a directory\n"
    for done in finish(start(tmp_path / "run", 2, "--mesh", "data=3", slurm=True)):
        assert done.code == 2
        assert done.err == "error: --mesh data=3 needs 3 devices, there are 2\n"
    assert not (tmp_path / "run").exists()


def test_one_process_needs_no_others(tmp_path):
    assert training.is_first_process()
    assert training.on_first_process(lambda: 3) == 3
    assert (training.any_process(True), training.any_process(False)) == (True, False)
    with pytest.raises(KeyError, match="own"):
        training.on_first_process(lambda: {}["own"])
    with pytest.raises(ValueError, match="^unrelated$"), training.report_lost_processes():
        raise ValueError("unrelated")
