"""Who may import whom, what importing rnnjax costs, and the habits that every file keeps."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "rnnjax"
ROOMS = sorted({p.relative_to(PACKAGE).parts[0].removesuffix(".py") for p in PACKAGE.rglob("*.py")})
MAY_IMPORT = {
    "__init__": {
        *("cells", "decoding", "diagnostics", "dynamics", "initializers", "interop", "interrupts"),
        *("layers", "models", "online", "recurrence", "regularizers", "tasks", "testing"),
        "word_vectors",
    },
    "cells": set(),
    "checkpoint": set(),
    "command_line": {"runs", "training"},
    "datasets": set(),
    "decoding": {"cells", "recurrence"},
    "diagnostics": {"cells", "online", "recurrence"},
    "dynamics": {"cells", "diagnostics", "recurrence"},
    "experiment": {
        *("cells", "checkpoint", "command_line", "datasets", "diagnostics", "dynamics"),
        *("figures", "layers", "models", "networks", "online", "runs", "tasks", "training"),
    },
    "figures": set(),
    "initializers": {"cells"},
    "interop": {"cells", "layers"},
    "interrupts": set(),
    "layers": {"cells", "recurrence"},
    "models": {"layers", "recurrence"},
    "networks": {"cells", "layers"},
    "online": {"cells", "recurrence"},
    "recurrence": {"cells"},
    "regularizers": {"cells", "diagnostics", "recurrence"},
    "runs": set(),
    "scorecard": {"command_line", "runs", "training"},
    "sweep": {"command_line", "experiment", "figures", "networks", "runs"},
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
        if path.relative_to(PACKAGE).parts[0] != "checkpoint":
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


def python_files(*folders):
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def described(path, lines):
    """Return whether a file is short, or its docstring says why it is not."""
    text = path.read_text()
    reason = re.search(rf"\b{lines} lines\b", ast.get_docstring(ast.parse(text)) or "")
    return text.count("\n") <= lines or bool(reason)


def test_a_long_module_says_why():
    """At most 300 lines, or a sentence in the docstring with the words "300 lines"."""
    long = [str(path) for path in python_files("rnnjax") if not described(path, 300)]
    assert not long


def test_experiments_are_short():
    """At most 200 lines; an application up to 260, if its docstring says why in "200 lines"."""
    applications = ROOT / "experiments" / "applications"
    for path in python_files("experiments"):
        lines = path.read_text().count("\n")
        assert lines <= (260 if path.is_relative_to(applications) else 200), path
        assert described(path, 200), path


def is_dataclass(node):
    return any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list)


def test_classes_call_no_super():
    """Classes are abstract or final; only a chain of options dataclasses checks its parent's."""
    found = []
    for path in python_files("rnnjax"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                calls = re.findall(r"\bsuper\(.*?\)\.(\w+)", ast.unparse(node))
                if any(name != "__post_init__" or not is_dataclass(node) for name in calls):
                    found.append(f"{path}: {node.name}")
    assert not found


def test_nothing_is_dispatched_on_attributes():
    found = [str(p) for p in python_files("rnnjax") if "hasattr(" in p.read_text()]
    assert not found


@pytest.mark.parametrize("folder", ["rnnjax", "experiments", "benchmarks", "tests"])
def test_imports_are_absolute(folder):
    for path in python_files(folder):
        assert list(imports(path)) is not None


def test_tests_mirror_the_trees():
    """Each package of the library and each folder of scripts has its tests under its own name."""

    def packages(top):
        return {path.parent.relative_to(ROOT / top).as_posix() for path in python_files(top)}

    tests = packages("tests")
    rooms = {name for name in packages("rnnjax") if "/" not in name}
    scripts = {f"{top}/{name}" for top in ("experiments", "benchmarks") for name in packages(top)}
    scripts = {name.removesuffix("/.") for name in scripts}
    assert rooms | scripts <= tests
    of_tests_alone = {"fixtures"}
    assert tests - of_tests_alone <= packages("rnnjax") | scripts
    modules = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
    files = {path.stem.removeprefix("test_") for path in (ROOT / "tests").glob("test_*.py")}
    assert modules <= files


def documents():
    """Return every file that a person reads, but the changelog."""
    folders = "rnnjax", "experiments", "benchmarks", "tests", "docs", "notebooks"
    found = [p for top in folders for end in ("py", "md") for p in (ROOT / top).rglob(f"*.{end}")]
    return [*found, *(p for p in ROOT.glob("*.md") if p.name != "CHANGELOG.md")]


def old_names():
    """Return the names in the changelog's table of renames that are no plain English words.

    A row with more than a name on its left side is about something that kept its name.
    """
    names = re.findall(r"^\| `([\w./]+)` \| .* \|$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    return sorted(name for name in names if re.search(r"[._/]|[a-z][A-Z]", name))


@pytest.mark.parametrize("name", old_names())
def test_nothing_has_its_old_name(name):
    first, rest = re.escape(name[0]), re.escape(name[1:])
    pattern = re.compile(rf"(?<![\w/.])(?i:{first}){rest}(?![\w/])")
    found = [str(p) for p in documents() if pattern.search(p.read_text())]
    assert not found
