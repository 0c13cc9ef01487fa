"""A sweep on disk: its settings in sweep.json, its trials in an Optuna study.

All trials are put into the study before the first is run: a grid's points, or as many open ones as
were asked for, whose settings the sampler chooses when they start. A trial that starts leaves the
queue in one transaction, so none is started twice. What has no transaction of its own (adding
trials that are missing, putting back those of dead workers) happens under a lock on the directory.
"""

import contextlib
import copy
import dataclasses
import fcntl
import json
import os
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rnnjax.command_line import ArgumentError
from rnnjax.sweep import script, space

MOST_CRASHES = 5  # of one trial's worker or program; after one more it is given up


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What is searched and how: what stays the same from the first trial to the last."""

    script: str
    search: dict[str, str]
    set: dict[str, str] = dataclasses.field(default_factory=dict)
    objective: str
    direction: str = "minimize"
    sampler: str = "grid"
    pruner: str = "none"
    prune_on: str = ""
    prune_after: int = 0
    seed: int = 0
    storage: str = ""
    study: str = ""
    heartbeat: int = 30


@dataclasses.dataclass(frozen=True)
class Sweep:
    """A sweep's directory and what is in its sweep.json."""

    out: Path
    settings: Settings
    types: dict[str, list[str]]
    """What the fields that are searched or set take, as `Script.types` has it."""
    id: str
    """Distinguishes it from other sweeps that are in one data base."""

    @property
    def space(self) -> space.Space:
        """What each trial draws from, by field."""
        grid = self.settings.sampler == "grid"
        return {
            name: space.parse(name, text, self.types[name], grid=grid)
            for name, text in self.settings.search.items()
        }

    @property
    def url(self) -> str:
        """Where the study is stored, as SQLAlchemy has it."""
        url = self.settings.storage
        if not url:
            return f"sqlite:///{self.out.resolve() / 'study.db'}"
        scheme, colon, rest = url.partition("://")
        scheme = "postgresql+psycopg" if scheme in ("postgres", "postgresql") else scheme
        return f"{scheme}{colon}{rest}"

    @property
    def name(self) -> str:
        """The study's name in its storage."""
        return self.settings.study or self.out.resolve().name

    def key(self, trial: Any) -> str:
        """Return the name of a trial's folder, which it shares with those that it repeats."""
        return f"{original(trial):04d}"

    def folder(self, trial: Any) -> Path:
        """Return where a trial's script writes to."""
        return self.out / "trials" / self.key(trial)

    def words(self, values: dict[str, Any], folder: Path) -> list[str]:
        """Return the arguments of the script for a trial, as a person would type them."""
        chosen = script.arguments(self.types, {**self.settings.set, **values})
        return [self.settings.script, *chosen, "--out", str(folder)]


def original(trial: Any) -> int:
    """Return the number of the trial that this one repeats, or its own if it repeats none."""
    return trial.system_attrs.get("failed_trial", trial.number)


def crashes(trial: Any) -> int:
    """Return how often a trial was cut short before this attempt, but for workers that left."""
    return len(trial.system_attrs.get("retry_history", [])) - trial.user_attrs.get("left", 0)


def done(trial: Any) -> bool:
    """Return whether a trial has ended for good, so that nothing repeats it."""
    if trial.state.name == "FAIL":
        return "reason" in trial.user_attrs or crashes(trial) >= MOST_CRASHES
    return trial.state.name in ("COMPLETE", "PRUNED")


def create(out: str | Path, settings: Settings, *, trials: int | None = None) -> Sweep:
    """Create a sweep in a directory, or check that the one that is there is the same.

    Afterwards all trials are in the study: a grid's points, or `trials` open ones. A creator that
    was killed half way is no harm: only what is missing is added.

    Args:
        out: the directory; for several machines on a file system that they share.
        settings: of the sweep. `script` is made absolute.
        trials: how many, unless the sampler is `grid`; more than before extends the sweep.

    Raises:
        ArgumentError: a setting is wrong, or differs from those of the sweep that is there (the
            objective may, as long as no trial has reached it).
    """
    out = Path(out)
    settings = dataclasses.replace(settings, script=str(Path(settings.script).resolve()))
    sweep = Sweep(out, settings, _check(settings, trials), uuid.uuid4().hex)
    try:
        out.mkdir(parents=True, exist_ok=True)
        with locked(out):
            if (out / "sweep.json").exists():
                sweep = _same(load(out), sweep)
            else:
                _write(sweep)
            _new_study(sweep)
            with opened(sweep) as study:
                _enqueue(sweep, study, trials)
    except OSError as error:
        raise ArgumentError(f"--out: cannot write to {out}: {error.strerror}") from None
    return sweep


def load(out: str | Path) -> Sweep:
    """Read a sweep's settings.

    Raises:
        ArgumentError: the directory holds no sweep.
    """
    try:
        stored = json.loads((Path(out) / "sweep.json").read_bytes())
    except FileNotFoundError:
        raise ArgumentError(f"--out: {out} holds no sweep (no sweep.json)") from None
    return Sweep(Path(out), Settings(**stored["settings"]), stored["types"], stored["id"])


def open_study(sweep: Sweep) -> Any:
    """Return the Optuna study of a sweep, for as long as this process lives.

    Raises:
        ArgumentError: the storage cannot be reached, or holds no such study.
    """
    return _study(sweep, _storage(sweep))


@contextlib.contextmanager
def opened(sweep: Sweep) -> Iterator[Any]:
    """Give the Optuna study of a sweep, and close its connections afterwards; raises likewise."""
    storage = _storage(sweep)
    try:
        yield _study(sweep, storage)
    finally:
        storage.remove_session()
        storage.engine.dispose()


@contextlib.contextmanager
def locked(out: Path) -> Iterator[None]:
    """Hold the lock of a sweep's directory; it ends with the process at the latest."""
    with open(out / ".sweep-lock", "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep Optuna from saying that something is experimental, and from its own log."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


def revive(sweep: Sweep, study: Any) -> None:
    """Put the trials of dead workers back into the queue; call it under the lock.

    A trial that stopped without a reason and that none repeats is repeated, with the same settings
    and the same folder, unless it has crashed more than `MOST_CRASHES` times.
    """
    import optuna
    from optuna.trial import TrialState

    storage = study._storage
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if trial.user_attrs.get("worker", [None])[0] != trial.number:
            # Its worker died after taking it from the queue and before its first heartbeat.
            storage.record_heartbeat(trial._trial_id)
            storage.set_trial_user_attr(trial._trial_id, "worker", [trial.number, "lost"])
    with quiet():
        optuna.storages.fail_stale_trials(study)
        retry = optuna.storages.RetryHeartbeatStaleTrialCallback()
    trials = study.get_trials(deepcopy=False)
    repeated = {n for trial in trials for n in trial.system_attrs.get("retry_history", [])}
    for trial in trials:
        if trial.state == TrialState.FAIL and not done(trial) and trial.number not in repeated:
            retry(study, copy.deepcopy(trial))  # which it changes


def _check(settings, trials):
    """Return the types of the fields in use; raise an ArgumentError for what is wrong."""
    grid = settings.sampler == "grid"
    if grid and trials is not None:
        raise ArgumentError("--trials is for the samplers random and tpe; a grid has its points")
    if not grid and (trials is None or trials < 1):
        raise ArgumentError(f"--sampler {settings.sampler} needs --trials, at least 1")
    if settings.heartbeat < 1:
        raise ArgumentError(f"--heartbeat must be at least 1 second, got {settings.heartbeat}")
    if (settings.pruner != "none") and not settings.prune_on:
        raise ArgumentError(f"--pruner {settings.pruner} needs --prune-on, such as loss")
    if not all(settings.objective.split(".")):
        raise ArgumentError(
            f"--objective must be names joined by dots, such as lstm.final_loss, "
            f"got {settings.objective!r}"
        )
    if not settings.search:
        raise ArgumentError("--search needs a field, such as learning_rate=log:1e-4:1e-1")
    loaded = script.load(settings.script)
    for option, named in (("--search", settings.search), ("--set", settings.set)):
        for name in named:
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


def _same(old, new):
    """Return the sweep that is there, with a new objective if it may have one."""
    before, now = (dataclasses.asdict(s.settings) for s in (old, new))
    differ = space.differences(before, now)
    if differ and before | {"objective": new.settings.objective} == now and not _reached(old):
        changed = dataclasses.replace(old, settings=new.settings)
        _write(changed)
        return changed
    if differ:
        raise ArgumentError(
            f"--out: {old.out} holds another sweep: {'; '.join(differ)}; give another directory"
        )
    return old


def _reached(sweep):
    """Return whether a trial has reached the objective."""
    try:
        with opened(sweep) as study:
            states = {trial.state.name for trial in study.get_trials(deepcopy=False)}
    except ArgumentError:
        return False
    return bool(states & {"COMPLETE", "PRUNED"})


def _write(sweep):
    value = {"id": sweep.id, "settings": dataclasses.asdict(sweep.settings), "types": sweep.types}
    unfinished = sweep.out / ".sweep.json.unfinished"
    unfinished.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    os.replace(unfinished, sweep.out / "sweep.json")


def _storage(sweep):
    import optuna
    import sqlalchemy.exc

    beat = sweep.settings.heartbeat
    wait: dict[str, Any] = {"connect_args": {"timeout": 60}} if "sqlite" in sweep.url else {}
    try:
        with quiet():
            return optuna.storages.RDBStorage(
                sweep.url, engine_kwargs=wait, heartbeat_interval=beat, grace_period=4 * beat
            )
    except (ImportError, sqlalchemy.exc.SQLAlchemyError) as error:
        said = str(getattr(error, "orig", None) or error).strip().splitlines()
        raise ArgumentError(f"--storage: {said[0] if said else error!r}") from None


def _study(sweep, storage):
    import optuna

    with quiet():
        try:
            return optuna.load_study(
                study_name=sweep.name, storage=storage, pruner=_pruner(sweep.settings)
            )
        except KeyError:
            raise ArgumentError(
                f"--storage: no study {sweep.name!r} there; `run` the sweep again to add it"
            ) from None


def _pruner(settings):
    from optuna import pruners

    if settings.pruner == "median":
        return pruners.MedianPruner(n_warmup_steps=settings.prune_after)
    if settings.pruner == "halving":
        return pruners.SuccessiveHalvingPruner(min_resource=settings.prune_after or "auto")
    if settings.pruner == "hyperband":
        return pruners.HyperbandPruner(min_resource=settings.prune_after or 1)
    return pruners.NopPruner()


def _new_study(sweep):
    """Create the study, unless it is there and this sweep's."""
    import optuna

    storage = _storage(sweep)
    try:
        with quiet():
            study = optuna.create_study(
                study_name=sweep.name,
                storage=storage,
                direction=sweep.settings.direction,
                load_if_exists=True,
            )
        owner = study.user_attrs.get("sweep")
        if owner is None and not study.get_trials(deepcopy=False):
            study.set_user_attr("sweep", sweep.id)
        elif owner != sweep.id:
            raise ArgumentError(
                f"--storage: its study {sweep.name!r} is another sweep's; name this one with "
                "--study"
            )
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _enqueue(sweep, study, trials):
    """Add the trials that are missing: points of the grid, or open ones up to a number."""
    there = [t for t in study.get_trials(deepcopy=False) if "failed_trial" not in t.system_attrs]
    if sweep.settings.sampler == "grid":
        known = {trial.user_attrs["point"] for trial in there}
        for index, point in enumerate(space.points(sweep.space)):
            if index not in known:
                study.enqueue_trial(point, user_attrs={"point": index})
    else:
        for _ in range(trials - len(there)):
            study.enqueue_trial({})
