"""The options of the commands of `python -m rnnjax.sweep`."""

import dataclasses
from pathlib import Path
from typing import Literal

import tyro

from rnnjax.command_line import at_least


@dataclasses.dataclass(frozen=True, kw_only=True)
class Create:
    """Create a sweep in a directory and put all its trials into the queue.

    A grid:
      python -m rnnjax.sweep run experiments/vanishing_gradients.py --out sweeps/a
      --search learning_rate=log:1e-4:1e-1:7 cells=elman,lstm,gru --set steps=500 seeds=3
      --objective '*.final_loss' --workers 2

    A hundred trials chosen by TPE, with early stopping of bad ones, on many machines:
      python -m rnnjax.sweep run experiments/vanishing_gradients.py --out sweeps/b
      --search learning_rate=log:1e-4:1e-1 clip=0.5,1,5 features=int:16:128
      --set cells=lstm --objective lstm.final_loss --sampler tpe --trials 100
      --pruner median --prune-on loss --storage postgresql://user@host/sweeps

    The same arguments continue the sweep; other arguments are refused with what differs.
    """

    script: tyro.conf.Positional[Path]
    """The script of the experiment; it has a dataclass Config."""
    out: Path
    """Directory of the sweep; for several machines on a shared file system."""
    search: tuple[str, ...] = ()
    """Fields of its Config and the values to try: clip=0.5,1,5 or learning_rate=log:1e-4:1e-1 or
    features=int:16:128 or gain=lin:0:2. A grid needs a number of points, log:1e-4:1e-1:7. +
    joins the elements of a field that takes several: cells=lstm,lstm+gru,./mine.py:MyCell."""
    set: tuple[str, ...] = ()
    """Fields of its Config with the same value in all trials: steps=500 cells=lstm+gru."""
    objective: str = ""
    """Path of the objective in summary.json: lstm.final_loss. It is a number, or a list with one
    number per seed, of which the mean is used. A * stands for the only entry."""
    direction: Literal["minimize", "maximize"] = "minimize"
    """Whether the smallest or the largest objective is best."""
    sampler: Literal["grid", "random", "tpe"] = "grid"
    """Every point of a grid, or --trials points, drawn at random or chosen by TPE."""
    trials: int | None = None
    """Number of trials, unless the sampler is grid; more than before extends the sweep."""
    pruner: Literal["none", "median", "halving", "hyperband"] = "none"
    """Stop a trial that is worse than others at the same step."""
    prune_on: str = ""
    """Metric of metrics.jsonl that the pruner compares, as the median over members: loss."""
    prune_after: int = 0
    """Prune no trial before this step."""
    seed: int = 0
    """Seed of the sampler."""
    storage: str = ""
    """URL of the database of the study, PostgreSQL for several machines [default: study.db in
    --out]."""
    study: str = ""
    """Name of the study in the database [default: the name of --out]."""
    heartbeat: int = 30
    """Seconds between two heartbeats of a worker. After four without one its trial returns to the
    queue."""

    def __post_init__(self):
        at_least(0, self, "prune_after", "seed")

    def create(self):
        """Create the sweep, and return it."""
        from rnnjax import sweep
        from rnnjax.sweep import space

        names = [f.name for f in dataclasses.fields(sweep.Settings)]
        given = {name: getattr(self, name) for name in names}
        given |= {
            "script": str(self.script),
            "search": space.assignments(self.search, "--search"),
            "set": space.assignments(self.set, "--set"),
        }
        return sweep.create(self.out, sweep.Settings(**given), trials=self.trials)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunIt(Create):
    __doc__ = (Create.__doc__ or "").replace("Create a sweep", "Create and run a sweep", 1)

    workers: int = 1
    """Number of processes that run trials at the same time, each on its share of the cores."""
    gpus_per_worker: int = 0
    """Number of GPUs of each worker; 0 means that all workers see all GPUs."""

    def __post_init__(self):
        super().__post_init__()
        at_least(1, self, "workers")
        at_least(0, self, "gpus_per_worker")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Work:
    """Join a sweep with one worker, which runs trials until the queue is empty.

    On another machine, or for one more worker:
      python -m rnnjax.sweep work --out sweeps/a

    On Ctrl-C or SIGTERM the worker stops: its trial saves a checkpoint and returns to the queue. If
    a worker is killed, the others notice after a while and resume its trial.
    """

    out: Path
    """Directory of the sweep. Its sweep.json names the script that is run."""
    trust: tuple[Path, ...] = ()
    """Files and folders whose code may be run, beside that of the project in the current folder
    (the nearest folder with .git or pyproject.toml): the sweep's script, and files of cells."""
    cores: tuple[int, ...] = ()
    """Numbers of the cores to use [default: all]."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Slurm:
    """Join a sweep with workers that Slurm starts, as an array of jobs (extra `slurm`).

    Eight workers with a GPU each, at most four at a time:
      python -m rnnjax.sweep slurm --out sweeps/b --workers 8 --at-once 4 --partition gpu
      --minutes 240 --gpus 1 --cpus 4 --memory-gb 16 --extra constraint=a100

    A job that reaches its time limit or is preempted stops its trial and is queued again.
    """

    out: Path
    """Directory of the sweep, from the command create, on a shared file system. Its sweep.json
    names the script that is run."""
    trust: tuple[Path, ...] = ()
    """Files and folders whose code may be run, beside that of the project in the current folder."""
    workers: int = 1
    """Number of jobs of the array; each is a worker."""
    at_once: int | None = None
    """Number of jobs that may run at the same time [default: all]."""
    cluster: Literal["slurm", "local"] = "slurm"
    """`local` starts them as processes on this machine and waits for them, to try it out."""
    partition: str | None = None
    """Slurm's partition."""
    account: str | None = None
    """Slurm's account."""
    minutes: int = 60
    """Time limit of a job."""
    gpus: int = 0
    """GPUs of a job."""
    cpus: int = 1
    """Cores of a job."""
    memory_gb: float | None = None
    """Memory of a job in gigabytes."""
    extra: tuple[str, ...] = ()
    """More options of sbatch: constraint=a100 qos=low."""

    def __post_init__(self):
        at_least(1, self, "workers", "minutes", "cpus")
        at_least(0, self, "gpus")
        if self.at_once is not None:
            at_least(1, self, "at_once")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """Write tables and figures of a sweep's trials so far to its directory.

      python -m rnnjax.sweep report --out sweeps/a

    trials.csv and trials.parquet have one row per trial; best.json has the best trial and the
    command that runs it again; parallel_coordinates and heat_map are PNG, SVG and CSV.
    """

    out: Path
    """Directory of the sweep."""
