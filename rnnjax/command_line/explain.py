"""The parser's error messages, reworded: one line that names the option and what is allowed."""

import dataclasses
import difflib
import itertools
import re
from collections.abc import Sequence

from rnnjax.command_line.checks import option

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


def explain(box: str, config: type, arguments: Sequence[str]) -> str:
    """Return in one line what the box says that tyro draws around an error."""
    box = re.sub(r"\x1b\[[0-9;]*m", "", box)
    lines = [line.strip(" │") for line in box.splitlines()[1:]]  # without the title
    paragraphs = re.split(r"^[-─╰╯]*$", "\n".join(lines), flags=re.M)
    text = next(filter(str.strip, paragraphs), box).strip().replace("\n", " ").rstrip(".")
    for theirs, ours in TYRO_SAYS:
        text = re.sub(theirs, ours, text)
    unknown = text.removeprefix("Unrecognized options: ")
    return text if unknown == text else _explain_unknown(unknown, config, arguments)


def _explain_unknown(tokens, config, arguments):
    """Explain the first of the tokens, a comma-separated list."""
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
