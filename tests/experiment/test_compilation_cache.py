"""The compilation cache: kept between processes, harmless, and without effect on numbers."""

import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnjax.experiment import compilation_cache as module
from rnnjax.experiment.compilation_cache import compilation_cache

PROGRAM = '''"""Draw, and add up."""
import dataclasses

import jax
import jax.numpy as jnp

from rnnjax.experiment import Experiment, RunOptions, Verdict


@dataclasses.dataclass(frozen=True)
class Config(RunOptions):
    """Draw."""


def measure(config, run):
    compiled = []
    jax.monitoring.register_event_listener(lambda name, **_: compiled.append(name))
    drawn = jax.jit(lambda key: jnp.tanh(jax.random.normal(key, (64, 64)) @ jnp.ones(64)))
    numbers = drawn(jax.random.key(0)).tolist()
    names = [name.rpartition("/")[2] for name in compiled]
    return {"numbers": numbers, "hits": names.count("cache_hits"), "all": len(names)}


run = Experiment("drawing", Config, measure, lambda *_: Verdict.judge({"it": True}), lambda run: 0)

if __name__ == "__main__":
    run.main()
'''


@pytest.fixture
def unset():
    """Forget what the environment says of JAX's cache."""
    chosen = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    jax.config.update("jax_compilation_cache_dir", chosen)


@pytest.fixture
def shell(tmp_path):
    """Return a call of the script in a process; it gives summary.json and what is in the cache."""
    script = tmp_path / "drawing.py"
    script.write_text(PROGRAM)
    kept = {name: v for name, v in os.environ.items() if "CACHE" not in name}
    cache = tmp_path / "cache"

    def call(name, *arguments, **environment):
        out = tmp_path / name
        command = [sys.executable, "-W", "error", str(script), "--out", str(out), *arguments]
        environment = kept | {"XDG_CACHE_HOME": str(cache)} | environment
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        return json.loads((out / "summary.json").read_text()), sorted(cache.rglob("*-cache"))

    return call


@pytest.mark.slow
def test_the_second_process_loads_what_the_first_compiled(shell):
    first, written = shell("first")
    second, still = shell("second")
    assert first["hits"] == 0 and second["hits"] > 0
    assert second["numbers"] == first["numbers"]
    assert written and still == written
    without, _ = shell("without", "--no-compilation-cache")
    assert without["hits"] == 0 and without["numbers"] == first["numbers"]


@pytest.mark.slow
def test_damaged_entries_are_compiled_again(shell):
    first, written = shell("first")
    for path in written:
        path.write_bytes(path.read_bytes()[:100])
    second, _ = shell("second")
    assert second["hits"] == 0 and second["numbers"] == first["numbers"]


@pytest.mark.slow
def test_nothing_is_written_without_the_cache_or_where_that_is_impossible(shell, tmp_path):
    _, written = shell("without", "--no-compilation-cache")
    assert written == []
    (tmp_path / "file").write_text("")
    summary, written = shell("beside", XDG_CACHE_HOME=str(tmp_path / "file"))
    assert written == [] and summary["hits"] == 0


def test_the_settings_of_jax_are_as_before(unset, tmp_path):
    names = [
        "jax_compilation_cache_dir",
        "jax_persistent_cache_min_compile_time_secs",
        "jax_persistent_cache_min_entry_size_bytes",
    ]
    before = {name: getattr(jax.config, name) for name in names}
    with compilation_cache(tmp_path / "cache"):
        np.asarray(jax.jit(lambda x: jnp.sin(x) + 3)(jnp.arange(5.0)))
        assert any((tmp_path / "cache").iterdir())
        found = len(list((tmp_path / "cache").iterdir()))
    assert {name: getattr(jax.config, name) for name in names} == before
    np.asarray(jax.jit(lambda x: jnp.sin(x) + 4)(jnp.arange(5.0)))
    assert len(list((tmp_path / "cache").iterdir())) == found


def test_the_users_own_folder_is_left_alone(unset, tmp_path):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "theirs"))
    with compilation_cache(tmp_path / "ours"):
        assert jax.config.jax_compilation_cache_dir == str(tmp_path / "theirs")
    assert not (tmp_path / "ours").exists()


def test_what_was_not_read_for_longest_is_removed_first(unset, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LIMIT", 100)
    for age, name in enumerate("abcd"):
        (tmp_path / name).write_bytes(bytes(30))
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    with compilation_cache(tmp_path):
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a"]


def test_machines_of_other_processors_have_other_folders(monkeypatch):
    here = module.cache_folder()
    monkeypatch.setattr(module.platform, "processor", lambda: "another")
    assert module.cache_folder() != here and module.cache_folder().parent == here.parent
