"""What the README says to type works."""

import re
import sys
import types
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


@pytest.mark.slow
def test_the_python_examples_run_in_order(monkeypatch):
    blocks = re.findall(r"```python\n(.*?)```", README, re.S)
    assert len(blocks) == 9
    module = types.ModuleType("readme")
    monkeypatch.setitem(sys.modules, "readme", module)  # dataclasses look their module up
    for block in blocks:
        exec(compile(block, "README.md", "exec"), module.__dict__)
    assert module.outputs.shape == (1000, 32, 128)
    assert module.a.c.shape == (1000, 32, 128)
    assert module.log_norms.shape == (1000, 32)
    assert module.ys.shape == (32, 1000, 128) and module.logits.shape == (2, 2)
    assert module.profiles["layers_1/backward_rnn/carry"].shape == (200, 32)
    assert module.outputs_nnx.shape == (32, 1000, 64)
    assert {"loss", "adjoint_norm_lag_1000", "update_ratio_bias", "gate_f_low"} <= set(
        module.metrics
    )
    assert len(module.MGU(5).init(module.jax.random.key(0), 3)) == 3


def test_ci_runs_the_readmes_test_command():
    commands = re.findall(r"^python3 -m venv .*$", README, re.M)
    assert [command.split()[-1] for command in commands] == [
        "experiments/vanishing_gradients.py",
        "pytest",
    ]
    script = (ROOT / ".ci/run").read_text()
    pattern = re.search(r"grep -m1 -E '(.*)' README.md", script)
    assert pattern and re.search(pattern[1], README, re.M)


@pytest.mark.parametrize(
    "path", re.findall(r"[\w./-]+\.(?:py|png|ipynb|md)\b|^rnnjax/\w+/", README, re.M)
)
def test_files_the_readme_names_exist(path):
    assert (ROOT / path).exists()


def test_constraints_name_no_registry():
    text = (ROOT / "constraints.txt").read_text()
    assert "==" in text and "http" not in text and "file:" not in text
