"""The rows of a scorecard, from a TOML file and the docstrings of their scripts."""

import ast
import dataclasses
import re
import tomllib
from pathlib import Path
from typing import Any

from rnnjax.command_line import ArgumentError

FIELDS = {"script": str, "source": str, "published": str, "figure": str, "minutes": list}


@dataclasses.dataclass(frozen=True)
class Row:
    """A published result, and the experiment that runs it again."""

    id: str
    script: Path
    source: str  # who published it, and when
    published: str  # the number, or the ordering
    figure: str  # of the run, which the card shows
    minutes: tuple[float, float]  # at which a quick and a full run are stopped
    quick: tuple[str, ...] = ()  # options of a quick run; none where the full one is quick

    @property
    def question(self) -> str:
        """The first line of the script's docstring."""
        return self._docstring().split("\n", 1)[0]

    @property
    def claim(self) -> str:
        """The paragraph of the docstring that starts with "Claim"."""
        return self._paragraph("Claim")

    @property
    def rule(self) -> str:
        """The paragraph that has the verdict rule."""
        return self._paragraph("Verdict")

    def limit(self, full: bool) -> float:
        """Return the minutes at which a run is stopped."""
        return self.minutes[int(full)]

    def options(self, full: bool) -> tuple[str, ...]:
        """Return the options of a run."""
        return () if full else self.quick

    def _docstring(self):
        return ast.get_docstring(ast.parse(self.script.read_text(encoding="utf-8"))) or ""

    def _paragraph(self, word):
        for paragraph in re.split(r"\n\s*\n", self._docstring()):
            if paragraph.startswith(word) or f" {word}: " in paragraph:
                return " ".join(paragraph.split())
        return ""


def load_rows(path: Path) -> dict[str, Row]:
    """Return the rows in a TOML file, by their ids, in its order.

        [hs97-order]
        script = "papers/hs97_order.py"  # from the folder above the file's
        source = "Hochreiter, Schmidhuber 1997"
        published = "31,390 sequences in the mean of 20 trials"
        figure = "sequences"
        minutes = [4, 30]  # quick, full
        quick = ["--trials", "4"]  # optional

    Raises:
        ArgumentError: the file is not TOML, an entry is missing or has another type, or there is no
            such script; the message names the row.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ArgumentError(f"{path}: {error}") from None
    return {name: _row(name, table, path) for name, table in tables.items()}


def _row(name: str, table: Any, path: Path) -> Row:
    for field, kind in FIELDS.items():
        if not isinstance(table, dict) or not isinstance(table.get(field), kind):
            raise ArgumentError(f"{path}: [{name}] needs {field}, a {kind.__name__}")
    unknown = table.keys() - FIELDS.keys() - {"quick"}
    if unknown:
        raise ArgumentError(f"{path}: [{name}] has an unknown entry, {sorted(unknown)[0]}")
    minutes = table["minutes"]
    if len(minutes) != 2 or not all(isinstance(m, int | float) and m > 0 for m in minutes):
        raise ArgumentError(f"{path}: minutes of [{name}] must be two positive numbers")
    script = path.parents[1] / table["script"]
    if not script.is_file():
        raise ArgumentError(f"{path}: [{name}] has a script that does not exist, {table['script']}")
    texts = {field: table[field] for field in ("source", "published", "figure")}
    quick = tuple(map(str, table.get("quick", ())))
    return Row(name, script, **texts, minutes=(float(minutes[0]), float(minutes[1])), quick=quick)
