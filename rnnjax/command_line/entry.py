"""A script's entry: parse, run, and turn an expected error into one line and an exit code."""

import os
import signal
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from rnnjax.command_line.errors import ArgumentError, fail, until_reader_leaves
from rnnjax.command_line.parsing import parse
from rnnjax.runs import LockedError

Config = TypeVar("Config")


def main(
    config: type[Config],
    run: Callable[[Config], Any],
    *,
    arguments: Sequence[str] | None = None,
    presets: Mapping[str, Config] | None = None,
) -> None:
    """Parse the command line and call `run(config)`.

    Args:
        config, arguments, presets: as for `parse`.

    Raises:
        SystemExit: after one line on standard error. 2: a wrong argument (`ArgumentError`, from
            parsing or from `run`). 1: all members of the training have stopped, memory does not
            suffice, or a file cannot be read or written (`OSError`). 75: another process writes to
            the run directory. 143: terminated, after a checkpoint. 130: interrupted. 141, without a
            line: standard output is a pipe that nobody reads any more.
    """
    parsed = parse(config, arguments, presets=presets)
    from rnnjax.training import NonFiniteError, ResumeError, TerminatedError, use_all_cores

    use_all_cores()
    try:
        with until_reader_leaves():
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
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in str(error):
            raise
        message, code = f"not enough memory for these sizes: {error}", 1
    except KeyboardInterrupt:
        message, code = "interrupted", 128 + signal.SIGINT
    fail(message, code)  # after the run's frames are gone, and with them its progress bar
