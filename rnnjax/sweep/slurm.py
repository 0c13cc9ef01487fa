"""Workers as jobs of a cluster, submitted through submitit."""

import contextlib
import os
import subprocess
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rnnjax.command_line import ArgumentError
from rnnjax.sweep import processes
from rnnjax.sweep.local import worker_command
from rnnjax.sweep.settings import load
from rnnjax.sweep.trust import code_files, with_trusted_code


class Job:
    """A job: it runs a worker as a child process.

    Slurm's warning before a time limit or a preemption calls `checkpoint`: the worker stops its
    script (which saves a checkpoint), puts the trial back into the queue and ends, and the job is
    queued again.
    """

    def __init__(self, out: Path, trust: Iterable[str | Path]):
        self.out = out.resolve()
        self.trust = [Path(path).resolve() for path in trust]
        self._worker: subprocess.Popen[Any] | None = None

    def __call__(self) -> int:
        self._worker = processes.start(worker_command(self.out, self.trust))
        while (code := self._worker.poll()) is None:
            time.sleep(processes.POLL)  # not `wait`: `checkpoint` has to wait for it meanwhile
        if code:
            raise RuntimeError(f"the worker ended with exit code {code}; see its last lines")
        return code

    def checkpoint(self) -> Any:
        from submitit.helpers import DelayedSubmission

        if self._worker is not None and self._worker.poll() is None:
            self._worker.terminate()
            with contextlib.suppress(ChildProcessError):
                os.waitid(os.P_PID, self._worker.pid, os.WEXITED | os.WNOWAIT)
        return DelayedSubmission(Job(self.out, self.trust))


def submit(
    out: str | Path,
    workers: int,
    *,
    trust: Iterable[str | Path] = (),
    cluster: str = "slurm",
    at_once: int | None = None,
    parameters: Mapping[str, Any] | None = None,
) -> list[Any]:
    """Submit workers of an existing sweep as one array of jobs, and return the jobs.

    Args:
        out: the sweep's directory, on a shared file system. The jobs' logs are in its folder jobs.
        workers: number of jobs.
        trust: as in `rnnjax.sweep.work`. The jobs run the code that is named now, and no other.
        cluster: `slurm`, or `local` for processes on this machine, to try it out.
        at_once: number of jobs that may run at the same time.
        parameters: of submitit's `AutoExecutor`, such as `timeout_min`, `mem_gb`, `cpus_per_task`,
            `gpus_per_node`, `slurm_partition`, `slurm_additional_parameters`.

    Raises:
        ArgumentError: there is no sweep in `out`, it names code that is not trusted, there is no
            such cluster, or submitit refuses a parameter.
    """
    import submitit

    sweep = with_trusted_code(load(out), trust)
    files = code_files(sweep)
    try:
        executor = submitit.AutoExecutor(
            folder=sweep.out.resolve() / "jobs", cluster=cluster, slurm_max_num_timeout=1000
        )
        given = dict(parameters or {})
        if cluster == "slurm":
            given = {"slurm_array_parallelism": at_once or workers, **given}
        executor.update_parameters(name=sweep.name, **given)
        with executor.batch():
            jobs = [executor.submit(Job(sweep.out, files)) for _ in range(workers)]
    except (RuntimeError, TypeError, ValueError, NameError) as error:
        raise ArgumentError(f"submitit: {error}") from None
    return jobs
