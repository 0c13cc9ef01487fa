"""Tables and estimates on the console."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def print_table(
    header: Sequence[str], rows: Iterable[Sequence[Any]], *, digits: int = 4, indent: int = 0
) -> None:
    """Print rows below a header: the first column left-aligned, all others right-aligned.

    Args:
        header: the names of the columns.
        rows: entries; a float is shown with so many `digits`, None as `-`.
        indent: spaces before each line.
    """
    texts = [list(header), *([_text(entry, digits) for entry in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    for first, *others in texts:
        cells = [f"{text:>{width}}" for text, width in zip(others, widths[1:], strict=True)]
        print((" " * indent + "  ".join([f"{first:{widths[0]}}", *cells])).rstrip())


def estimate_text(entry: Mapping[str, float]) -> str:
    """Return "value [low, high] (theory)", padded to 37 characters; the theory if there is one.

    Args:
        entry: `value`, `low`, `high` and perhaps `theory`.
    """
    value = f"{entry['value']:.4g} [{entry['low']:.4g}, {entry['high']:.4g}]"
    expected = f" ({entry['theory']:.4g})" if "theory" in entry else ""
    return f"{value:>28}{expected:9}"


def _text(entry, digits):
    if entry is None:
        return "-"
    return f"{entry:.{digits}g}" if isinstance(entry, float) else str(entry)
