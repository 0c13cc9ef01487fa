"""How the configuration of an existing run differs from the one that is asked for."""

from collections.abc import Collection, Mapping
from typing import Any


def differences(
    existing: Mapping[str, Any], wanted: Mapping[str, Any], ignoring: Collection[str]
) -> str:
    """Return the options in which two configurations differ, as they are typed; empty if in none.

    Args:
        ignoring: options in which they may differ.
    """
    names = *wanted, *(existing.keys() - wanted.keys())
    differing = [n for n in names if n not in ignoring and existing.get(n) != wanted.get(n)]
    return ", ".join(
        f"--{name.replace('_', '-')} {_as_typed(existing, name)}, not {_as_typed(wanted, name)}"
        for name in differing[:3]
    )


def _as_typed(config, name):
    value = config.get(name, "nothing")
    return " ".join(map(str, value)) if isinstance(value, list) else value
