"""A progress bar with the latest metrics."""

import contextlib
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from rnnjax.training.multihost import is_first_process


@contextlib.contextmanager
def progress(label: str, total: int, done: int = 0) -> Iterator[Callable[[int, Any], None]]:
    """Show a progress bar on standard error if that is a terminal; yield a function to advance it.

    The function takes the number of steps done and their metrics, name -> `[steps, S]`.
    """
    if not (sys.stderr.isatty() and is_first_process()):
        yield lambda steps, metrics: None
        return

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    def report(steps, metrics):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # all members may be NaN
            medians = (f"{name} {np.nanmedian(values[-1]):.4g}" for name, values in metrics.items())
            bar.update(task, advance=steps, note="  ".join(medians), refresh=True)

    name = TextColumn("{task.description}", markup=False)
    note = TextColumn("{task.fields[note]}", markup=False)
    columns = name, BarColumn(), MofNCompleteColumn(), Remaining(), note
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=total, completed=done, note="")
        yield report
