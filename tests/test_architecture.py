"""Who may import whom, and what importing rnnjax costs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "rnnjax"
ROOMS = sorted({p.relative_to(PACKAGE).parts[0].removesuffix(".py") for p in PACKAGE.rglob("*.py")})
MAY_IMPORT = {
    "__init__": {
        *("cells", "decoding", "diagnostics", "interop", "layers", "models"),
        *("recurrence", "regularizers", "tasks", "testing", "word_vectors"),
    },
    "cells": set(),
    "checkpoint": set(),
    "command_line": {"runs", "training"},
    "datasets": set(),
    "decoding": {"cells", "recurrence"},
    "diagnostics": {"cells", "recurrence"},
    "experiment": {
        *("cells", "checkpoint", "command_line", "datasets", "diagnostics", "figures", "layers"),
        *("networks", "runs", "training"),
    },
    "figures": set(),
    "interop": {"cells", "layers"},
    "layers": {"cells", "recurrence"},
    "models": {"layers", "recurrence"},
    "networks": {"cells", "layers"},
    "recurrence": {"cells"},
    "regularizers": {"cells", "diagnostics", "recurrence"},
    "runs": set(),
    "sweep": {"command_line", "experiment", "figures", "runs"},
    "tasks": set(),
    "testing": {"cells", "recurrence"},
    "training": {"checkpoint", "runs"},
    "word_vectors": set(),
}
HEAVY = (
    *("tensorflow_datasets", "orbax", "grain", "matplotlib", "optuna", "flax", "optax", "sklearn"),
    *("gensim", "librosa", "music21", "sacrebleu", "pandas", "PIL"),
    *("pyarrow", "sqlalchemy", "submitit"),
)


def imports(path):
    """Return the dotted names that a file imports, `from a import b` as both a and a.b."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_import_only_what_stands_below_them(room):
    files = [PACKAGE / f"{room}.py"] if (PACKAGE / f"{room}.py").exists() else []
    found = set()
    for path in files or sorted((PACKAGE / room).rglob("*.py")):
        for name in imports(path):
            assert name.split(".")[0] not in ("experiments", "benchmarks", "tests"), path
            parts = name.split(".")
            if parts[0] == "rnnjax" and len(parts) > 1 and parts[1] in ROOMS:
                found.add(parts[1])
    assert room in MAY_IMPORT, f"say in this test what {room} may import"
    assert found - {room} <= MAY_IMPORT[room]


def test_only_checkpoint_knows_orbax():
    for path in PACKAGE.rglob("*.py"):
        if path.name != "checkpoint.py":
            assert not any(name.startswith("orbax") for name in imports(path)), path


def test_there_is_no_room_for_odds_and_ends():
    names = {path.stem for path in PACKAGE.rglob("*.py")}
    assert not names & {"utils", "util", "helpers", "common", "constants", "misc"}


def test_importing_rnnjax_is_silent_and_light():
    code = f"import sys, rnnjax; print([m for m in {HEAVY} if m in sys.modules])"
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_rnnjax_testing_needs_no_test_library():
    code = "import sys, rnnjax.testing; assert 'pytest' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
