"""The commands of `python -m rnnjax.sweep`; each returns an exit code."""

import sys

from rnnjax.command_line import fail
from rnnjax.sweep.options import Create, Report, RunIt, Slurm, Work


def run(config: RunIt) -> int:
    """Create a sweep, run workers until no trial is left, and write the report."""
    from rnnjax import sweep
    from rnnjax.sweep.local import environments
    from rnnjax.sweep.progress import progress
    from rnnjax.sweep.trust import code_files

    environments(config.workers, config.gpus_per_worker)  # raises before anything is created
    trust = code_files(config.create())  # the command line has named them
    code = 0
    with progress(config.out) as report_line:
        if config.workers == 1 and not config.gpus_per_worker:
            sweep.work(config.out, trust=trust, report_line=report_line)
        else:
            code = sweep.run_workers(
                config.out,
                config.workers,
                gpus_per_worker=config.gpus_per_worker,
                trust=trust,
                report_line=report_line,
            )
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
    sweep.work(config.out, trust=config.trust)
    return 0


def slurm(config: Slurm) -> int:
    """Submit workers."""
    from rnnjax.sweep import load, space
    from rnnjax.sweep.slurm import submit
    from rnnjax.sweep.trust import with_trusted_code

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
        if with_trusted_code(load(config.out), config.trust).url.startswith("sqlite"):
            print(
                "warning: SQLite may lose locks, and with them trials, on a network file system; "
                "for several machines create the sweep with --storage postgresql://...",
                file=sys.stderr,
            )
    given = {name: value for name, value in parameters.items() if value is not None}
    jobs = submit(
        config.out,
        config.workers,
        trust=config.trust,
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
        why = f"; trial {found[0].number}: {reasons[0]}" if reasons else ""
        fail(f"no trial of {config.out} is complete{why}", 1)
    spread = f", over {len(best.seeds)} seeds ± {best.std:.3g}" if len(best.seeds) > 1 else ""
    print(f"best is trial {best.number} with {best.objective:.6g}{spread}:")
    print(f"  {rerun(best)}")
    print(f"Tables and figures are in {config.out}")
    return 0
