"""Search the settings of an experiment, in several processes and on several machines.

    python -m rnnjax.sweep run SCRIPT --out DIR ...   create a sweep, run workers, write a report
    python -m rnnjax.sweep create SCRIPT --out DIR    only create it
    python -m rnnjax.sweep work --out DIR             join it with a worker, from any machine
    python -m rnnjax.sweep slurm --out DIR            join it with workers that Slurm starts
    python -m rnnjax.sweep report --out DIR           write tables and figures of what there is

Every command has a --help. A grid of two fields, with two workers:

    python -m rnnjax.sweep run experiments/vanishing_gradients.py --out sweeps/a \\
        --search learning_rate=log:1e-4:1e-1:7 cells=elman,lstm,gru --set steps=500 seeds=3 \\
        --objective '*.final_loss' --workers 2

Run it again and it continues. docs/sweeps.md tells the rest.
"""

import dataclasses
import sys
from pathlib import Path
from typing import Literal

import tyro

from rnnjax.command_line import ArgumentError, at_least, fail, parse


@dataclasses.dataclass(frozen=True, kw_only=True)
class Create:
    """Create a sweep in a directory, with all its trials waiting; or add what is missing to it.

    A grid:
      python -m rnnjax.sweep run experiments/vanishing_gradients.py --out sweeps/a
      --search learning_rate=log:1e-4:1e-1:7 cells=elman,lstm,gru --set steps=500 seeds=3
      --objective '*.final_loss' --workers 2

    A hundred trials chosen by TPE, hopeless ones stopped early, on many machines:
      python -m rnnjax.sweep run experiments/vanishing_gradients.py --out sweeps/b
      --search learning_rate=log:1e-4:1e-1 clip=0.5,1,5 features=int:16:128
      --set cells=lstm --objective lstm.final_loss --sampler tpe --trials 100
      --pruner median --prune-on loss --storage postgresql://user@host/sweeps

    Run again with the same arguments it continues; with others it says what differs.
    """

    script: tyro.conf.Positional[Path]
    """The experiment, a script with a dataclass Config."""
    out: Path
    """Directory of the sweep; for several machines one that they share."""
    search: tuple[str, ...] = ()
    """Fields of its Config and what to try: clip=0.5,1,5 or learning_rate=log:1e-4:1e-1 or
    features=int:16:128 or gain=lin:0:2. A grid needs a number of points, log:1e-4:1e-1:7. The
    elements of a field that takes several are joined by +: cells=lstm,lstm+gru."""
    set: tuple[str, ...] = ()
    """Fields of its Config that all trials have in common: steps=500 cells=lstm+gru."""
    objective: str = ""
    """Where summary.json has the objective: lstm.final_loss. A number, or a list of one for each
    seed, whose mean counts. A * stands for the only entry there is."""
    direction: Literal["minimize", "maximize"] = "minimize"
    """Which objective is best."""
    sampler: Literal["grid", "random", "tpe"] = "grid"
    """Every point of a grid once, or --trials points at random or chosen by TPE."""
    trials: int | None = None
    """How many trials; more than before extends the sweep. A grid has its points."""
    pruner: Literal["none", "median", "halving", "hyperband"] = "none"
    """Stop a trial that is worse than others were at the same step."""
    prune_on: str = ""
    """Metric of metrics.jsonl that pruning goes by, as a median over members: loss."""
    prune_after: int = 0
    """Prune no trial before this step."""
    seed: int = 0
    """Of the sampler."""
    storage: str = ""
    """Where the study is: a PostgreSQL URL for many machines [default: study.db in --out]."""
    study: str = ""
    """Its name there [default: the name of --out]."""
    heartbeat: int = 30
    """Seconds between two signs of life of a worker; after four without one its trial is put back
    for others."""

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
    """Processes that run trials at the same time; they share the cores of this machine."""
    gpus_per_worker: int = 0
    """GPUs of its own that each worker gets; 0 leaves all of them to all."""

    def __post_init__(self):
        super().__post_init__()
        at_least(1, self, "workers")
        at_least(0, self, "gpus_per_worker")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Work:
    """Join a sweep with one worker: run trials until none is left.

    On another machine, or to have one more:
      python -m rnnjax.sweep work --out sweeps/a

    Ctrl-C or SIGTERM make it leave: the trial that it runs is stopped, saves a checkpoint, and goes
    on in another worker. If it is killed the others notice after a while, and do the same.
    """

    out: Path
    """Directory of the sweep."""
    cores: tuple[int, ...] = ()
    """Numbers of the cores to use [default: all]."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Slurm:
    """Join a sweep with workers that Slurm starts, as an array of jobs (extra `slurm`).

    Eight workers with a GPU each, at most four at a time:
      python -m rnnjax.sweep slurm --out sweeps/b --workers 8 --at-once 4 --partition gpu
      --minutes 240 --gpus 1 --cpus 4 --memory-gb 16 --extra constraint=a100

    A job that reaches its time limit or is preempted puts its trial back and is queued again.
    """

    out: Path
    """Directory of the sweep, which `create` has made, on a file system that the nodes share."""
    workers: int = 1
    """Jobs of the array, each a worker."""
    at_once: int | None = None
    """How many of them may run at a time [default: all]."""
    cluster: Literal["slurm", "local"] = "slurm"
    """`local` starts them as processes of this machine and waits for them, to try it out."""
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
    """Write tables and figures of what a sweep has found so far to its directory.

      python -m rnnjax.sweep report --out sweeps/a

    trials.csv and trials.parquet have a row for each trial, best.json the best one and the command
    that runs it again; parallel_coordinates and heat_map are PNG, SVG and CSV.
    """

    out: Path
    """Directory of the sweep."""


def run(config: RunIt) -> int:
    """Create a sweep, run workers until nothing is left to do, write the report."""
    from rnnjax import sweep
    from rnnjax.sweep.local import environments
    from rnnjax.sweep.progress import progress

    environments(config.workers, config.gpus_per_worker)  # refuses what cannot be, now
    config.create()
    code = 0
    with progress(config.out) as tell:
        if config.workers == 1 and not config.gpus_per_worker:
            sweep.work(config.out, tell=tell)
        else:
            gpus = config.gpus_per_worker
            code = sweep.run_workers(config.out, config.workers, gpus_per_worker=gpus, tell=tell)
    return code or report(Report(out=config.out))


def create(config: Create) -> int:
    """Create a sweep."""
    made = config.create()
    print(f"{made.out} is ready; join it with: python -m rnnjax.sweep work --out {made.out}")
    return 0


def work(config: Work) -> int:
    """Join a sweep with one worker."""
    from rnnjax import sweep
    from rnnjax.sweep import processes

    processes.use_cores(config.cores)
    sweep.work(config.out)
    return 0


def slurm(config: Slurm) -> int:
    """Submit workers."""
    from rnnjax.sweep import load, space
    from rnnjax.sweep.slurm import submit

    parameters = {
        "timeout_min": config.minutes,
        "cpus_per_task": config.cpus,
        "gpus_per_node": config.gpus,
        "mem_gb": config.memory_gb,
    }
    if config.cluster == "slurm":
        parameters |= {
            "slurm_partition": config.partition,
            "slurm_account": config.account,
            "slurm_additional_parameters": space.assignments(config.extra, "--extra") or None,
        }
        if load(config.out).url.startswith("sqlite"):
            print(
                "warning: SQLite on a file system of a network may lose its locks, and with them "
                "trials; for several machines create the sweep with --storage postgresql://...",
                file=sys.stderr,
            )
    given = {name: value for name, value in parameters.items() if value is not None}
    jobs = submit(
        config.out,
        config.workers,
        cluster=config.cluster,
        at_once=config.at_once,
        parameters=given,
    )
    print(f"submitted {len(jobs)} workers: {' '.join(job.job_id for job in jobs)}")
    if config.cluster == "local":
        failed = [job.job_id for job in jobs if job.exception() is not None]
        if failed:
            fail(f"jobs {' '.join(failed)} failed; their logs are in {config.out / 'jobs'}", 1)
    return 0


def report(config: Report) -> int:
    """Write the report, and print the best trial."""
    from rnnjax import sweep
    from rnnjax.sweep.results import best_of, rerun

    found = sweep.report(config.out)
    best = best_of(sweep.load(config.out), found)
    if best is None:
        reasons = [trial.reason for trial in found if trial.reason]
        say = f"; trial {found[0].number}: {reasons[0]}" if reasons else ""
        fail(f"no trial of {config.out} is complete{say}", 1)
    spread = f", over {len(best.seeds)} seeds ± {best.std:.3g}" if len(best.seeds) > 1 else ""
    print(f"best is trial {best.number} with {best.objective:.6g}{spread}:")
    print(f"  {rerun(best)}")
    print(f"Tables and figures are in {config.out}")
    return 0


COMMANDS = {
    "run": (RunIt, run),
    "create": (Create, create),
    "work": (Work, work),
    "slurm": (Slurm, slurm),
    "report": (Report, report),
}


def main(words: list[str]) -> int:
    """Do what a command line says; return the exit code."""
    command = words[0] if words else "--help"
    if command in ("-h", "--help"):
        print((__doc__ or "").strip())
        return 0
    if command not in COMMANDS:
        fail(f"no command {command!r}; there are {', '.join(COMMANDS)} (see --help)")
    config, function = COMMANDS[command]
    sys.argv[0] = f"python -m rnnjax.sweep {command}"
    parsed = parse(config, words[1:])
    try:
        return function(parsed)
    except ArgumentError as error:
        message, code = str(error), 2
    except OSError as error:
        message, code = str(error), 1
    except KeyboardInterrupt:
        message, code = "interrupted; go on with the same command", 130
    except ImportError as error:
        message, code = f"{error}; install rnnjax[sweep], for jobs rnnjax[slurm]", 1
    fail(message, code)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
