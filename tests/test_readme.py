"""What the README and the documentation say to type works."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/**/*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.S | re.M)
FACTS = {  # what holds after the examples of a document
    "README.md": """
assert outputs.shape == (1000, 32, 128)
assert profile.log_norms.shape == (1000, 32)
assert logits.shape == (2, 2)
assert len(MGU(5).init(jax.random.key(0), 3)) == 3
""",
    "docs/layers.md": """
assert ys.shape == (32, 200, 128) and logits.shape == (2, 2)
assert profiles["layers_1/backward_rnn/carry"].shape == (200, 32)
assert outputs_nnx.shape == (32, 200, 64)
assert losses.shape == scores.shape == (2,) and paths.shape == (2, 4)
assert (log_probs <= 0).all() and abs(confidence.sum() - 5) < 1e-4
assert drawn.tokens.shape == (2, 20) and (drawn.lengths >= 1).all()
""",
    "docs/dynamics.md": """
assert found.report.num_converged > 1000 and found.q.max() <= 1e-20
assert branch.ended == "at stop" and branch.values[-1] == 1
assert drawn.epochs["stimulus"].start.shape == drawn.conditions.coherence.shape == (1024,)
assert ei.init(jax.random.key(0), 3) is not None
""",
    "docs/diagnostics.md": """
names = {"loss", "adjoint_norm_lag_200", "update_ratio_bias", "gate_f_low"}
assert names <= set(metrics), metrics
""",
}


def name(path):
    return path.relative_to(ROOT).as_posix()


@pytest.mark.slow
@pytest.mark.parametrize(
    "path",
    [path for path in DOCUMENTS if BLOCK.search(path.read_text())],
    ids=name,
)
def test_the_python_examples_run_in_order(path, tmp_path):
    script = tmp_path / "examples.py"
    script.write_text("\n\n".join([*BLOCK.findall(path.read_text()), FACTS.get(name(path), "")]))
    done = subprocess.run([sys.executable, "-W", "error", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


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
    "path", sorted(set(re.findall(r"[\w./-]+\.(?:py|png|ipynb|md)\b|^rnnjax/\w+/", README, re.M)))
)
def test_files_the_readme_names_exist(path):
    assert (ROOT / path).exists() or path.endswith("mine.py")  # the reader's own


def test_constraints_name_no_registry():
    text = (ROOT / "constraints.txt").read_text()
    assert "==" in text and "http" not in text and "file:" not in text


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", path.read_text()):
        if not target.startswith("http"):
            assert (path.parent / target).exists(), f"{name(path)} links to {target}"


@pytest.mark.parametrize(
    "path",
    [path for path in DOCUMENTS if path.name not in ("CONTRIBUTING.md", "CHANGELOG.md")],
    ids=name,
)
def test_files_that_documents_name_exist(path):
    pattern = r"(?<![\w./])(?:rnnjax|experiments|benchmarks|notebooks|tests|docs)/[\w./-]+\w"
    for named in re.findall(pattern, path.read_text()):
        assert (ROOT / named).exists(), f"{name(path)} names {named}"


def test_the_readme_is_one_page():
    assert len(README.splitlines()) <= 160
