"""The progress of a sweep: a line for each trial that ends, and a bar on a terminal."""

import contextlib
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from rnnjax.sweep.worker import print_line

DONE = re.compile(r"; (\d+) of (\d+) done$")


@contextlib.contextmanager
def progress(out: Path) -> Iterator[Callable[[str], None]]:
    """Yield a function that prints a worker's line; on a terminal a bar is below the lines."""
    if not sys.stderr.isatty():
        yield print_line
        return

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    columns = TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, Remaining(), console=Console(stderr=True)) as bar:
        task = bar.add_task(str(out), total=None)

        def report_line(line):
            bar.console.print(line, markup=False, highlight=False, soft_wrap=True)
            if found := DONE.search(line):
                completed, total = map(int, found.groups())
                bar.update(task, completed=completed, total=total, refresh=True)

        yield report_line
