"""A progress bar over items."""

import sys
from collections.abc import Iterable
from typing import Any


def progress(items: Any, label: str) -> Iterable[Any]:
    """Return the items; while they are consumed, show a progress bar if stderr is a terminal."""
    from rnnjax.training import is_first_process

    if not (sys.stderr.isatty() and is_first_process()):
        return items
    from rich.console import Console
    from rich.progress import track

    return track(items, label, console=Console(stderr=True))
