"""The Optuna study of a sweep in its storage, and the lock of the sweep's directory."""

import contextlib
import fcntl
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rnnjax.command_line import ArgumentError

if TYPE_CHECKING:
    from rnnjax.sweep.settings import Sweep


def open_study(sweep: "Sweep") -> Any:
    """Return the Optuna study of a sweep; its connections stay open until the process ends.

    Raises:
        ArgumentError: the storage cannot be reached, or holds no such study.
    """
    return _load(sweep, _storage(sweep))


@contextlib.contextmanager
def opened(sweep: "Sweep") -> Iterator[Any]:
    """Yield the Optuna study of a sweep, and close its connections; errors as `open_study`."""
    storage = _storage(sweep)
    try:
        with explained():
            yield _load(sweep, storage)
    finally:
        storage.remove_session()
        storage.engine.dispose()


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Turn an error of the database into an ArgumentError of one line, such as of a full disk."""
    import optuna
    import sqlalchemy.exc

    try:
        yield
    except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        raise ArgumentError(f"--storage: {_first_line(error)}") from None


def create_study(sweep: "Sweep") -> None:
    """Create the study, unless it exists and belongs to this sweep.

    Raises:
        ArgumentError: the storage cannot be reached, or the study belongs to another sweep.
    """
    import optuna

    storage = _storage(sweep)
    try:
        with explained(), quiet():
            study = optuna.create_study(
                study_name=sweep.name,
                storage=storage,
                direction=optuna.study.StudyDirection[sweep.settings.direction.upper()],
                load_if_exists=True,
            )
        owner = study.user_attrs.get("sweep")
        if owner is None and not study.get_trials(deepcopy=False):
            study.set_user_attr("sweep", sweep.id)
        elif owner != sweep.id:
            raise ArgumentError(
                f"--storage: the study {sweep.name!r} belongs to another sweep; name this one "
                "with --study"
            )
    finally:
        storage.remove_session()
        storage.engine.dispose()


@contextlib.contextmanager
def locked(out: Path) -> Iterator[None]:
    """Hold the lock of a sweep's directory; the system releases it when the process ends."""
    with open(out / ".sweep-lock", "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppress Optuna's log and its warnings about experimental features."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


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
        raise ArgumentError(f"--storage: {_first_line(error)}") from None


def _first_line(error):
    """Return the first line of what a database says, without the library's own words around it."""
    cause = error if getattr(error, "orig", None) else error.__cause__ or error
    lines = str(getattr(cause, "orig", None) or cause).strip().splitlines()
    return lines[0] if lines else repr(error)


def _load(sweep, storage):
    import optuna

    with quiet():
        try:
            return optuna.load_study(
                study_name=sweep.name, storage=storage, pruner=_pruner(sweep.settings)
            )
        except KeyError:
            raise ArgumentError(
                f"--storage: it holds no study {sweep.name!r}; `run` the sweep again to add it"
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
