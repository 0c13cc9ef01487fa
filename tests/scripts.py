"""Scripts as modules, and what a script imports: for tests of experiments and benchmarks."""

import dataclasses
import importlib.util
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def load(path):
    """Return a script as a module, without running its main."""
    spec = importlib.util.spec_from_file_location(f"script_{path.stem}", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def imported_by(*command):
    """Run a Python command; return its result and the top-level names of what it imported.

    What is imported decides how long `--help` takes, and does not depend on the machine's load.
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-X", "importtime", *map(str, command)],
        capture_output=True,
        text=True,
    )
    lines = done.stderr.splitlines()
    times = [line for line in lines if line.startswith("import time:")]
    names = {line.split("|")[-1].strip().partition(".")[0] for line in times}
    done.stderr = "".join(line + "\n" for line in lines if not line.startswith("import time:"))
    return done, names


def without_figures(run):
    """Return an experiment that draws nothing."""
    return dataclasses.replace(run, draw=lambda run: None)
