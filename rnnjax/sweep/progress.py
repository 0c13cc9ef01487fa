"""How a sweep tells how far it is: a line for each trial that ends, and a bar on a terminal."""

import contextlib
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from rnnjax.sweep.worker import say

DONE = re.compile(r"; (\d+) of (\d+) done$")


@contextlib.contextmanager
def progress(out: Path) -> Iterator[Callable[[str], None]]:
    """Give the way to tell a worker's line; on a terminal there is a bar below the lines."""
    if not sys.stderr.isatty():
        yield say
        return

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    columns = TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, Remaining(), console=Console(stderr=True)) as bar:
        task = bar.add_task(str(out), total=None)

        def tell(line):
            bar.console.print(line, markup=False, highlight=False, soft_wrap=True)
            if found := DONE.search(line):
                completed, total = map(int, found.groups())
                bar.update(task, completed=completed, total=total, refresh=True)

        yield tell
