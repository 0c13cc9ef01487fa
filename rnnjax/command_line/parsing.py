"""The edge between a shell and an experiment: arguments in, one-line errors and exit codes out."""

import contextlib
import dataclasses
import difflib
import io
import itertools
import math
import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from rnnjax.runs import LockedError, Run, locked

Config = TypeVar("Config")


class ArgumentError(Exception):
    """An argument is wrong: what was given and what is allowed, in the user's words."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How an experiment is run; abstract. None of it changes what is computed."""

    out: Path | None = None
    """Directory of the run; if it holds an unfinished one of the same arguments, that goes on
    [default: runs/NAME-DATE-TIME]."""
    overwrite: bool = False
    """Replace another run that is in --out."""
    redraw: bool = False
    """Only draw the figures of the finished run in --out again."""
    checkpoint_every: int = 100
    """Training updates between two checkpoints, from which a stopped run goes on."""
    keep: int = 2
    """How many of the newest checkpoints to keep, beside the best."""
    mesh: str | None = None
    """How devices are shared out: data=4,population=2 splits the batch four ways and the members
    two [default: by the number of members]."""
    coordinator: str | None = None
    """HOST:PORT of process 0, where one program runs on several hosts; or auto, on Cloud TPU and
    Slurm."""
    num_processes: int | None = None
    """How many processes there are, with --coordinator HOST:PORT."""
    process_id: int | None = None
    """Which of them this one is, from 0."""


def parse(
    config: type[Config],
    arguments: Sequence[str] | None = None,
    *,
    presets: Mapping[str, Config] | None = None,
) -> Config:
    """Parse the command line into `config`, a frozen dataclass.

    Args:
        config: its fields are the options, its docstring the help; its `__post_init__` may raise
            `ArgumentError`.
        arguments: what to parse; None means `sys.argv[1:]`.
        presets: named defaults, chosen with `--preset NAME`, a field of `config`; the first unless
            another is named. Other options override the preset's.

    Raises:
        SystemExit: 0 after `--help`; 2, with one line on standard error, for a wrong argument.
    """
    import tyro

    arguments = list(sys.argv[1:] if arguments is None else arguments)
    options: dict[str, Any] = {"default": _preset(arguments, presets)} if presets else {}
    if {"-h", "--help"} & {*arguments}:
        return tyro.cli(config, args=["--help"], **options)
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors), _endless_lines():
            return tyro.cli(config, args=arguments, **options)
    except ArgumentError as error:
        fail(str(error))
    except SystemExit as stop:
        if stop.code:
            fail(f"{_explain(errors.getvalue(), config, arguments)} (see --help)")
        raise


def main(config: type[Config], run: Callable[[Config], Any], **options: Any) -> None:
    """Parse the command line and call `run(config)`.

    Raises:
        SystemExit: 2, with one line on standard error, for a wrong argument (`ArgumentError`, from
            parsing or from `run`); 1, likewise, for training of which no member is finite any more
            and for a file that cannot be read or written (`OSError`); 75 if another process writes
            to the run directory; 143 when terminated, after a checkpoint; 130 when interrupted.
    """
    parsed = parse(config, **options)
    from rnnjax.training import NonFiniteError, ResumeError, TerminatedError

    try:
        with _devices(parsed if isinstance(parsed, RunOptions) else RunOptions()):
            run(parsed)
        return
    except ArgumentError as error:
        message, code = str(error), 2
    except (NonFiniteError, ResumeError, OSError) as error:
        message, code = str(error), 1
    except LockedError as error:
        message, code = str(error), os.EX_TEMPFAIL
    except TerminatedError as error:
        message, code = str(error), 128 + signal.SIGTERM
    except KeyboardInterrupt:
        message, code = "interrupted", 128 + signal.SIGINT
    fail(message, code)  # now that the run's frames are gone, and with them its progress bar


@contextlib.contextmanager
def _devices(options):
    """Find the other processes and the devices that are asked for; of the processes one prints."""
    from rnnjax import training

    training.use_all_cores()
    if options.coordinator is not None:
        try:
            training.initialize_distributed(
                options.coordinator, options.num_processes, options.process_id
            )
        except ValueError as error:
            raise ArgumentError(f"--coordinator {error}") from None
    else:
        for name in ("num_processes", "process_id"):
            if getattr(options, name) is not None:
                raise ArgumentError(f"{option(name)} needs --coordinator HOST:PORT")
    try:
        shares = None if options.mesh is None else training.MeshShape.parse(options.mesh)
    except ValueError as error:
        raise ArgumentError(f"--mesh {error}") from None
    with contextlib.ExitStack() as stack:
        stack.enter_context(training.use_mesh_shape(shares))
        if not training.is_first_process():
            nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
            stack.enter_context(contextlib.redirect_stdout(nowhere))
        stack.enter_context(training.report_lost_processes())
        yield


def in_run(
    name: str,
    config: RunOptions,
    measure: Callable[[Run], dict[str, Any]],
    draw: Callable[[Run], None],
) -> dict[str, Any]:
    """Measure in a run directory, write summary.json, draw the figures, and return the summary.

    A run of the same arguments that is there already and unfinished goes on; of a finished one the
    summary is returned.

    Args:
        name: of the experiment: without `config.out` the directory is runs/NAME-DATE-TIME.
        config: with `redraw` nothing is measured: the figures of the finished run in `out` are
            drawn again.
        measure: writes tables (the numbers behind the figures) and returns the summary.
        draw: reads the tables of a run and saves its figures.

    Raises:
        ArgumentError: `out` cannot be written to or holds another run, or holds no finished run to
            redraw.
        LockedError: another process writes there.
        TerminatedError: SIGTERM came while it trained.
    """
    from rnnjax.training import on_first_process

    at_least(1, config, "checkpoint_every", "keep")
    if config.redraw:
        if config.out is None or not (config.out / "summary.json").exists():
            raise ArgumentError(f"--redraw needs a finished run in --out, got {config.out}")
        finished = Run(config.out)
        on_first_process(lambda: draw(finished))
        return finished.read_json("summary.json")
    with contextlib.ExitStack() as held:

        def opened():
            out = config.out or Path("runs") / time.strftime(f"{name}-%Y%m%d-%H%M%S")
            options = {field.name for field in dataclasses.fields(RunOptions)}
            try:
                held.enter_context(locked(out))
                run = Run.resume_or_create(
                    out, config, ignoring=options, overwrite=config.overwrite
                )
            except OSError as error:
                raise ArgumentError(f"--out: {error}") from None
            if run.finished:
                run.finish()  # what a process that was killed has left
            return run, run.read_json("summary.json") if run.finished else None

        run, summary = on_first_process(opened)
        if summary is not None:
            print(f"The run in {run.path} is finished; --overwrite would begin it again")
            return summary
        summary = _finish(held.enter_context(_only_the_first_writes(run)), measure, draw)
    print(f"Figures, and the numbers behind them, are in {run.path}")
    return summary


@contextlib.contextmanager
def _only_the_first_writes(run):
    """Give the run as this process is to use it, if it is one of several."""
    from rnnjax.training import is_first_process

    if is_first_process():
        yield run
        return
    with tempfile.TemporaryDirectory(prefix="rnnjax-") as elsewhere:
        yield dataclasses.replace(run, scratch=Path(elsewhere))


def _finish(run, measure, draw):
    """Do what is left of a run."""
    from rnnjax.training import TerminatedError, on_first_process

    try:
        summary = measure(run)
    except TerminatedError as error:
        raise TerminatedError(f"{error}; the same arguments with --out {run.path} go on") from None
    except (ArgumentError, ImportError, OSError, RuntimeError):
        run.rollback()  # unless it holds something
        raise
    run.write_json("summary.json", summary)
    on_first_process(lambda: draw(run))
    on_first_process(run.finish)
    return summary


def progress(items: Any, label: str) -> Iterable[Any]:
    """Return the items, with a progress bar on standard error while they last, if a terminal."""
    from rich.console import Console
    from rich.progress import track

    from rnnjax.training import is_first_process

    shown = sys.stderr.isatty() and is_first_process()
    return track(items, label, console=Console(stderr=True), disable=not shown)


def at_least(least: int, config: Any, *names: str) -> None:
    """Raise an ArgumentError for the first of the named options that is below `least`."""
    for name in names:
        if not getattr(config, name) >= least:
            raise ArgumentError(
                f"{option(name)} must be at least {least}, got {getattr(config, name)}"
            )


def positive(config: Any, *names: str) -> None:
    """Raise an ArgumentError for the first of the named options that is not positive and finite."""
    for name in names:
        if not 0 < getattr(config, name) < math.inf:
            raise ArgumentError(
                f"{option(name)} must be positive and finite, got {getattr(config, name)}"
            )


def option(name: str) -> str:
    """Return the name of a field as it is typed: `--batch-size`."""
    return "--" + name.replace("_", "-")


def fail(message: str, code: int = 2) -> NoReturn:
    """Print one line on standard error and exit."""
    print("error:", *message.splitlines(), file=sys.stderr)
    raise SystemExit(code)


def _preset(arguments, presets):
    """Return the preset that the arguments name last; tyro reports an unknown name."""
    chosen = next(iter(presets))
    for argument, following in itertools.pairwise([*arguments, ""]):
        name, equals, value = argument.partition("=")
        if name == "--preset":
            chosen = value if equals else following
    return presets.get(chosen, next(iter(presets.values())))


@contextlib.contextmanager
def _endless_lines():
    """Let tyro wrap no lines: it tears long words apart."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "1000000"
    try:
        yield
    finally:
        del os.environ["COLUMNS"]
        if before is not None:
            os.environ["COLUMNS"] = before


TYRO_SAYS = (
    (r"Error parsing (--\S+): invalid literal for int.*?: ", r"\1 must be a whole number, got "),
    (r"Error parsing (--\S+): could not convert.*?: ", r"\1 must be a number, got "),
    (r"Error parsing (--\S+): no type matching (\S+) .* from \[(.*)\]", r"\1 must be \2, got \3"),
    (r"Error parsing (--\S+): ", r"\1: "),
    (r" \{None\}\|INT,", " a whole number,"),
    (r" \{None\}\|FLOAT,", " a number,"),
    (
        r"invalid choice (.*) for argument '(--\S+)'\. Expected one of \((.*?),?\)",
        r"\2 must be one of \3, got \1",
    ),
    (r"Missing value for argument '(--\S+)'\. Expected (\d+) values", r"\1 needs \2 values"),
    (r" needs 1 values", r" needs a value"),
)


def _explain(box, config, arguments):
    """Return in our words what tyro says in the box that it draws around an error."""
    box = re.sub(r"\x1b\[[0-9;]*m", "", box)
    lines = [line.strip(" │") for line in box.splitlines()[1:]]  # without the title
    paragraphs = re.split(r"^[-─╰╯]*$", "\n".join(lines), flags=re.M)
    text = next(filter(str.strip, paragraphs), box).strip().replace("\n", " ").rstrip(".")
    for theirs, ours in TYRO_SAYS:
        text = re.sub(theirs, ours, text)
    unknown = text.removeprefix("Unrecognized options: ")
    return text if unknown == text else _explain_unknown(unknown, config, arguments)


def _explain_unknown(tokens, config, arguments):
    """Return what is wrong with the first of the tokens, a list with commas."""
    if tokens.startswith("-"):
        name = re.split("[=,]", tokens)[0]
        names = [option(field.name) for field in dataclasses.fields(config)]
        close = [n for n in names if n.startswith(name) and name != "-"]
        close = close or difflib.get_close_matches(name, names)
        return f"unknown option {name}" + "".join(f"; perhaps you meant {o}" for o in close[:1])
    token = tokens.split(", ")[0]
    words = (word for argument in arguments for word in argument.split("=", 1))
    before = [w for w in itertools.takewhile(lambda w: w != token, words) if w.startswith("--")]
    return f"unexpected {token!r}" + "".join(f" after {o}" for o in before[-1:])
