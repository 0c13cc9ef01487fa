"""Creating a sweep: its settings are checked, and all its trials are added to the queue.

All trials are in the Optuna study before the first one runs: a grid's points, or the requested
number of open trials, whose settings the sampler chooses when they start. A trial leaves the queue
in one transaction, so none is started twice. Steps without a transaction of their own (adding
missing trials, retrying those of dead workers) are done under a lock on the directory.
"""

import dataclasses
import uuid
from pathlib import Path

from rnnjax.command_line import ArgumentError
from rnnjax.sweep import script, space
from rnnjax.sweep.settings import Settings, Sweep, load, write
from rnnjax.sweep.storage import create_study, locked, opened


def create(out: str | Path, settings: Settings, *, trials: int | None = None) -> Sweep:
    """Create a sweep in a directory, or check that an existing one is the same.

    Afterwards all trials are in the study: a grid's points, or `trials` open ones. If an earlier
    call was killed, only the missing trials are added.

    Args:
        out: the directory; for several machines on a shared file system.
        settings: of the sweep. The script and files of cells become absolute paths.
        trials: number of trials, unless the sampler is `grid`; more than before extends the sweep.

    Raises:
        ArgumentError: a setting is wrong, or differs from that of the existing sweep (the
            objective may differ until a trial has reached it).
    """
    out = Path(out)
    path = Path(settings.script).resolve()
    settings = dataclasses.replace(
        settings,
        script=str(path),
        search={name: _absolute(text, ",", path) for name, text in settings.search.items()},
        set={name: _absolute(text, "+", path) for name, text in settings.set.items()},
    )
    name = settings.study or out.resolve().name
    sweep = Sweep(out, settings, _check(settings, trials), uuid.uuid4().hex, name)
    try:
        out.mkdir(parents=True, exist_ok=True)
        with locked(out):
            if (out / "sweep.json").exists():
                sweep = _check_same(load(out), sweep)
            else:
                write(sweep)
            create_study(sweep)
            with opened(sweep) as study:
                _enqueue(sweep, study, trials)
    except OSError as error:
        reason = f"cannot write to {out}: {error.strerror}" if error.strerror else error
        raise ArgumentError(f"--out: {reason}") from None
    return sweep


def _absolute(text, separator, path):
    """Return a value as typed, with the files of cells as absolute paths."""
    if separator == ",":
        return ",".join(_absolute(value, "+", path) for value in text.split(","))
    words = space.elements(text)
    found = [script.absolute_cell(word, path) for word in words]
    return text if found == words else "+".join(found)


def _check(settings, trials):
    """Return the types of the fields in use; raise an ArgumentError for a wrong setting."""
    grid = settings.sampler == "grid"
    if grid and trials is not None:
        raise ArgumentError("--trials is for the samplers random and tpe; a grid has its points")
    if not grid and (trials is None or trials < 1):
        raise ArgumentError(f"--sampler {settings.sampler} needs --trials, at least 1")
    if trials is not None and trials > space.MOST_TRIALS:
        raise ArgumentError(f"--trials must be at most {space.MOST_TRIALS}, got {trials}")
    if settings.heartbeat < 1:
        raise ArgumentError(f"--heartbeat must be at least 1 second, got {settings.heartbeat}")
    if settings.pruner != "none" and not settings.prune_on:
        raise ArgumentError(f"--pruner {settings.pruner} needs --prune-on, such as loss")
    if not all(settings.objective.split(".")):
        raise ArgumentError(
            f"--objective must be names joined by dots, such as lstm.final_loss, "
            f"got {settings.objective!r}"
        )
    if not settings.search:
        raise ArgumentError("--search needs a field, such as learning_rate=log:1e-4:1e-1")
    loaded = script.load(settings.script)
    for option, names in (("--search", settings.search), ("--set", settings.set)):
        for name in names:
            loaded.check_field(name, option)
    for name in settings.search:
        if name in settings.set:
            raise ArgumentError(f"{name} is both in --search and in --set")
    types = {name: loaded.types(name) for name in [*settings.search, *settings.set]}
    drawn = {
        name: space.parse(name, text, types[name], grid=grid)
        for name, text in settings.search.items()
    }
    loaded.check_values(settings.set)
    for point in space.points(drawn) if grid else space.corners(drawn):
        loaded.check_values({**settings.set, **point})
    return types


def _check_same(old, new):
    """Return the existing sweep, with a new objective if no trial has reached the old one."""
    before, now = (dataclasses.asdict(s.settings) for s in (old, new))
    differences = space.differences(before, now)
    only_objective = before | {"objective": new.settings.objective} == now
    if differences and only_objective and not _objective_reached(old):
        changed = dataclasses.replace(old, settings=new.settings)
        write(changed)
        return changed
    if differences:
        raise ArgumentError(
            f"--out: {old.out} holds another sweep: {'; '.join(differences)}; "
            "give another directory"
        )
    return old


def _objective_reached(sweep):
    """Return whether a trial has reached the objective."""
    try:
        with opened(sweep) as study:
            states = {trial.state.name for trial in study.get_trials(deepcopy=False)}
    except ArgumentError:
        return False
    return bool(states & {"COMPLETE", "PRUNED"})


def _enqueue(sweep, study, trials):
    """Add the missing trials: points of the grid, or open ones up to a number."""
    existing = [t for t in study.get_trials(deepcopy=False) if "failed_trial" not in t.system_attrs]
    if sweep.settings.sampler == "grid":
        known = {trial.user_attrs["point"] for trial in existing}
        for index, point in enumerate(space.points(sweep.space)):
            if index not in known:
                study.enqueue_trial(point, user_attrs={"point": index})
    else:
        for _ in range(trials - len(existing)):
            study.enqueue_trial({})
