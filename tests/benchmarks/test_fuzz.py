"""Altered run directories: no traceback, nothing outside touched, no finished run lost."""

import importlib
import sys
from pathlib import Path

import pytest
from slow import slow_but_for

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
EACH = 25


@pytest.fixture(scope="module")
def fuzz(tmp_path_factory):
    """The benchmark, and the two runs that it alters."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        module = importlib.import_module("fuzz")
        place = tmp_path_factory.mktemp("fuzz")
        with module.compilation_cache(place / "programs"):
            yield module, module.make_runs(place)
    sys.modules.pop("fuzz")


@pytest.mark.parametrize("first", slow_but_for([0], range(0, 500, EACH)))
def test_altered_run_directories(first, fuzz, tmp_path):
    module, runs = fuzz
    for seed in range(first, first + EACH):
        module.one(runs, tmp_path / str(seed), seed)
