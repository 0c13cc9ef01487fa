"""The life of a run: create or resume, measure, judge, draw; or only draw again, or only answer."""

import contextlib
import dataclasses
import functools
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rnnjax import command_line
from rnnjax.command_line import ArgumentError, option
from rnnjax.experiment.compilation_cache import compilation_cache
from rnnjax.experiment.options import RunOptions, run_options
from rnnjax.experiment.verdict import Verdict, print_verdict
from rnnjax.runs import LockedError, Run, locked

Summary = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Experiment:
    """An experiment: what it measures, how its claim is judged, and what it draws.

        run = Experiment("vanishing_gradients", Config, measure, verdict, draw)

        if __name__ == "__main__":
            run.main()

    `run(config)` runs it from Python, `run.main()` from a shell.

    Args:
        name: without --out the directory is runs/NAME-DATE-TIME.
        config: a frozen dataclass that builds on `RunOptions`.
        measure: `measure(config, run)` trains, writes tables (the numbers behind the figures) and
            returns the summary.
        verdict: `verdict(config, summary)` judges the claim.
        draw: `draw(run)` reads tables and summary, and saves figures.
        show: `show(summary)` prints the summary as tables; the verdict is printed after it.
        answer: `answer(config, run, asked)` returns lines for new input, given the configuration of
            a finished run; for a `config` with the option `predict`.
        presets: named defaults, for a `config` with the option `preset`.
    """

    name: str
    config: type
    measure: Callable[[Any, Run], Summary]
    verdict: Callable[[Any, Summary], Verdict]
    draw: Callable[[Run], None]
    _: dataclasses.KW_ONLY
    show: Callable[[Summary], None] | None = None
    answer: Callable[[Any, Run, str], Iterable[str]] | None = None
    presets: Mapping[str, Any] | None = None

    def main(self, arguments: Sequence[str] | None = None) -> None:
        """Run the experiment from a shell; errors and exit codes are those of `command_line.main`.

        Compiled programs are kept on disk: see `rnnjax.experiment.compilation_cache`.

        Args:
            arguments: None means `sys.argv[1:]`.
        """
        command_line.main(
            self.config, self._with_compilation_cache, arguments=arguments, presets=self.presets
        )

    def __call__(self, config: Any, *, quiet: bool = False) -> Any:
        """Run the experiment and return its summary, which is also written to summary.json.

        An unfinished run with the same arguments in `config.out` is resumed; of a finished one the
        summary is returned. With `config.redraw` only the figures are drawn again; with
        `config.predict` the answers on new input are returned, as a list of lines.

        Args:
            quiet: print nothing and show no progress bar. Warnings still go to standard error.

        Raises:
            ArgumentError: an option does not fit the data or the devices; `out` cannot be written
                to, holds another run, or holds no finished run to redraw or to answer with.
            LockedError: another process writes to the run directory.
            TerminatedError: SIGTERM came during training; a checkpoint has been saved.
        """
        from rnnjax.datasets.preparing import DamagedError

        with contextlib.ExitStack() as stack:
            if quiet:
                stack.enter_context(_silence())
            try:
                if self.answer is not None and config.predict is not None:
                    return self._answers(config)
                return _in_run(
                    self.name, config, functools.partial(self._measure_and_judge, config), self.draw
                )
            except ModuleNotFoundError as error:
                if "rnnjax[" not in str(error):  # not a missing extra
                    raise
                raise ArgumentError(str(error)) from error
            except DamagedError as error:
                raise ArgumentError(str(error)) from error

    def _with_compilation_cache(self, config):
        with compilation_cache() if config.compilation_cache else contextlib.nullcontext():
            return self(config)

    def _measure_and_judge(self, config, run):
        summary = self.measure(config, run)
        verdict = self.verdict(config, summary)
        if self.show is not None:
            self.show(summary)
        print_verdict(verdict)
        return {**summary, "verdict": verdict.entry()}

    def _answers(self, config):
        from rnnjax.experiment import predict

        lines = []
        assert self.answer is not None
        for line in self.answer(*predict.finished(self.name, config), config.predict):
            print(line)
            lines.append(line)
        return lines


def _in_run(name, config, measure, draw) -> Summary:
    """Measure in a run directory, write summary.json, draw the figures, and return the summary."""
    if config.redraw:
        return _redraw(config, draw)
    with _devices(config), contextlib.ExitStack() as held:
        path, resuming, summary = _on_first_process(lambda: _open(name, config, held))
        run = Run(Path(path), resuming)
        if summary is not None:
            print(f"The run in {run.path} is finished; --overwrite runs it again")
            return summary
        run = held.enter_context(_only_the_first_writes(run))
        summary = _complete(run, measure, draw)
        print(f"Figures, and the numbers behind them, are in {run.path}")  # on the first process
        return summary


def _redraw(config, draw):
    if config.out is None or not (config.out / "summary.json").exists():
        raise ArgumentError(f"--redraw needs a finished run in --out, got {config.out}")
    finished = Run(config.out)
    try:
        summary = finished.read_object("summary.json")
        _draw(draw, finished)
    except OSError as error:
        raise ArgumentError(f"--redraw: {error}") from error
    except (LookupError, TypeError, ValueError) as error:
        raise ArgumentError(
            f"--redraw: the tables in {config.out} are not those that this experiment writes "
            f"({type(error).__name__}: {error})"
        ) from error
    return summary


def _open(name, config, held):
    """Lock the run directory, and create or resume the run.

    Returns its path, whether it is resumed, and its summary if it is finished.
    """
    out = config.out or Path("runs") / time.strftime(f"{name}-%Y%m%d-%H%M%S")
    try:
        held.enter_context(locked(out))
        ignoring = run_options(config)
        run = Run.resume_or_create(out, config, ignoring=ignoring, overwrite=config.overwrite)
    except OSError as error:
        raise ArgumentError(f"--out: {error}") from None
    if run.finished:
        run.finish()  # removes what a killed process left behind
    summary = run.read_object("summary.json") if run.finished else None
    return str(run.path), run.resuming, summary


def _complete(run, measure, draw):
    """Do what is left of a run."""
    from rnnjax.training import TerminatedError

    try:
        summary = measure(run)
    except TerminatedError as error:
        message = f"{error}; the same arguments with --out {run.path} resume it"
        raise TerminatedError(message) from None
    except BaseException:
        run.rollback()  # unless something has been measured
        raise
    run.write_json("summary.json", summary)
    _draw(draw, run)
    _on_first_process(run.finish)
    return summary


def _draw(draw, run):
    def drawn():
        draw(run)  # the others need nothing that it returns

    _on_first_process(drawn)


def _on_first_process(action):
    from rnnjax.training import on_first_process

    return on_first_process(action, errors=(ArgumentError, LockedError))


@contextlib.contextmanager
def _only_the_first_writes(run) -> Iterator[Run]:
    """Give the run as this process uses it: all but the first write to a scratch folder."""
    from rnnjax.training import is_first_process

    if is_first_process():
        yield run
        return
    with tempfile.TemporaryDirectory(prefix="rnnjax-") as scratch:
        yield dataclasses.replace(run, scratch=Path(scratch))


@contextlib.contextmanager
def _devices(config: RunOptions) -> Iterator[None]:
    """Connect to the other processes and divide the devices as requested; one process prints."""
    from rnnjax import training

    if config.coordinator is not None:
        try:
            training.initialize_distributed(
                config.coordinator, config.num_processes, config.process_id
            )
        except ValueError as error:
            raise ArgumentError(f"--coordinator {error}") from None
    else:
        for name in ("num_processes", "process_id"):
            if getattr(config, name) is not None:
                raise ArgumentError(f"{option(name)} needs --coordinator HOST:PORT")
    with contextlib.ExitStack() as stack:
        if config.mesh is not None:
            try:
                shape = training.MeshShape.parse(config.mesh)
            except ValueError as error:
                raise ArgumentError(f"--mesh {error}") from None
            stack.enter_context(training.use_mesh_shape(shape))
        if not training.is_first_process():
            stack.enter_context(_no_output())
        stack.enter_context(training.report_lost_processes())
        yield


@contextlib.contextmanager
def _no_output() -> Iterator[None]:
    with (
        open(os.devnull, "w", encoding="utf-8") as nowhere,
        contextlib.redirect_stdout(nowhere),
    ):
        yield


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Print nothing on standard output, and show no progress bar on standard error."""
    with _no_output(), contextlib.redirect_stderr(_NoTerminal(sys.stderr)):  # pyright: ignore
        yield


class _NoTerminal:
    """Standard error as a stream that is no terminal, so that no progress bar is drawn there."""

    def __init__(self, stream):
        self.stream = stream

    def write(self, text):
        return self.stream.write(text)

    def flush(self):
        self.stream.flush()

    def isatty(self):
        return False

    def close(self):
        """Leave standard error open; a logger that took this stream closes it at exit."""
