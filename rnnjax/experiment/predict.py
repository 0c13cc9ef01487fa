"""Answering on new input with a finished run (`--predict`)."""

import dataclasses
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

from rnnjax import checkpoint, training
from rnnjax.checkpoint.file_sums import NAME
from rnnjax.command_line import ArgumentError
from rnnjax.experiment.options import run_options
from rnnjax.experiment.stored_config import check_code, from_stored
from rnnjax.runs import Run, file_sum

PyTree = Any
READ = "config.json", "preprocessing.json", f"params/{NAME}"  # the last has the sums of the others
SUMS = "predict.json"
"""The file that holds the sizes and checksums of those that `--predict` reads."""


def save(run: Run, params: PyTree, preprocessing: Mapping[str, Any]) -> None:
    """Save what `--predict` needs.

    Args:
        params: of all members, `[S, ...]`.
        preprocessing: whatever was fitted on the training split: vocabulary, scales, thresholds.
    """
    run.write_json("preprocessing.json", dict(preprocessing))
    place = run.shared("params")
    training.on_first_process(  # an interrupted process may have left a folder
        lambda: shutil.rmtree(place, ignore_errors=True)
    )
    checkpoint.save(place, params)
    training.on_first_process(
        lambda: run.write_json(SUMS, {name: file_sum(run.path / name) for name in READ})
    )


def restore(run: Run, init: Callable[[Any], PyTree], *, members: int) -> PyTree:
    """Return the first member's parameters from a finished run.

    Args:
        init: returns one member's parameters from a key; only their shapes are used.
        members: how many were trained.

    Raises:
        ArgumentError: the parameters are missing, damaged, or of another network.
    """
    one = jax.eval_shape(init, jax.eval_shape(lambda: jax.random.key(0)))
    like = jax.tree.map(lambda a: jax.ShapeDtypeStruct((members, *a.shape), a.dtype), one)
    try:
        params = checkpoint.load(run.path / "params", like)
    except (OSError, ValueError) as error:
        raise ArgumentError(f"--predict: {error}") from error
    return jax.tree.map(lambda a: a[0], params)


def finished(name: str, config: Any) -> tuple[Any, Run]:
    """Return the configuration of the finished run in `config.out`, and the run.

    Args:
        name: of the experiment, for the message.
        config: of the command that asks; only its run options are used.

    Raises:
        ArgumentError: there is no finished run, it is a run of another experiment, one of its files
            is damaged or altered, or it names a cell of code that is not trusted.
    """
    if config.out is None or not (config.out / "summary.json").exists():
        raise ArgumentError(f"--predict needs a finished run in --out, got {config.out}")
    run, path = Run(config.out), config.out / "config.json"
    try:
        stored = run.read_object("config.json")
        if stored.keys() != {field.name for field in dataclasses.fields(config)}:
            raise OSError(f"{path} is not of a run of {name}")
        sums = run.read_object(SUMS)
        for other in READ:
            if sums.get(other) != file_sum(run.path / other):
                raise OSError(f"{run.path / other} is not as the run has written it")
    except OSError as error:
        raise ArgumentError(f"--predict needs a run of {name} in --out: {error}") from error
    check_code(stored, config, path)
    own = {name: getattr(config, name) for name in run_options(config)}
    defaults = {field.name: field.default for field in dataclasses.fields(config)}
    of_run = from_stored(type(config), stored | {name: defaults[name] for name in own}, path)
    return dataclasses.replace(of_run, **own), run


def lines(value: str) -> list[str]:
    """Return the lines of the file named by `--predict`, or else the value itself as one line.

    Raises:
        ArgumentError: the file is empty or is not text.
    """
    path = Path(value)
    if not _is_file(path):
        return [value]
    try:
        found = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise ArgumentError(f"--predict: {value} is not a text file in UTF-8") from None
    if not found:
        raise ArgumentError(f"--predict: {value} is empty")
    return found


def read_file(value: str, what: str, read: Callable[[Path], Any]) -> Any:
    """Return `read(path)` of the file named by `--predict`.

    Args:
        what: the file should be, for the message: "a WAV file".
        read: raises a ValueError for content that it cannot use.

    Raises:
        ArgumentError: there is no such file, or `read` cannot use it.
    """
    if not _is_file(Path(value)):
        raise ArgumentError(f"--predict needs {what}; there is no file {value!r}")
    try:
        return read(Path(value))
    except ValueError as error:
        raise ArgumentError(f"--predict: {error}") from None


def _is_file(path):
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long for a file name, or contains a zero byte
        return False
