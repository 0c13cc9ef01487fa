"""The checkpoints of a training: exact, and verified after any damage or kill."""

import os
import shutil
import subprocess
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from moments import moments
from words import words

from rnnjax.checkpoint import Checkpoints


class State(NamedTuple):
    params: Any
    opt_state: Any
    key: Any
    step: Any
    more: Any


def state(number=0):
    """A tree with all kinds of leaves that training has, for two members."""
    w = jnp.arange(8.0).reshape(2, 4) / 7 + number
    params = {"w": w, "half": w.astype(jnp.bfloat16), "mask": w > 0.5}
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.1))
    weights = {"w": params["w"]}
    _, opt_state = optimizer.update(weights, optimizer.init(weights))
    rotation = jnp.exp(1j * w)  # complex64
    more = (jnp.uint32(7), [jnp.int8(-3)], {"nothing": (), "rotation": rotation})
    return State(
        params, opt_state, jax.random.split(jax.random.key(number), 2), number, more
    )._replace(step=jnp.int32(number))


def test_checkpoints_read_back_bit_by_bit_onto_any_devices(tmp_path):
    mesh = Mesh(np.array(jax.devices()), "x")
    here = state(1)
    split = NamedSharding(mesh, P("x"))
    halves = here._replace(params=jax.device_put(here.params, split))
    columns = here._replace(params=jax.device_put(here.params, NamedSharding(mesh, P(None, "x"))))
    with Checkpoints(tmp_path / "a", keep=2) as saved:
        saved.save(1, here, {"at": [None, {"n": 2**53 + 1}]}, 1.0)
        saved.save(2, halves, {}, 0.5)
    with Checkpoints(tmp_path / "a", keep=2) as saved:
        assert saved.steps() == [2, 1] and saved.damaged() == []
        for step in (1, 2):
            for like in (here, halves, columns):
                found, facts = saved.load(step, like)
                assert jax.tree.structure(found) == jax.tree.structure(here)
                assert words(found) == words(here)
                assert found.params["w"].sharding == like.params["w"].sharding
                assert facts == ({"at": [None, {"n": 2**53 + 1}]} if step == 1 else {})
        abstract = jax.eval_shape(lambda: here)
        assert words(saved.load(1, abstract)[0]) == words(here)


def test_the_newest_and_the_best_are_kept(tmp_path):
    losses = {10: 3.0, 20: 1.0, 30: 2.0, 40: 5.0, 50: 4.0}
    tree = {"a": jnp.arange(3)}
    with Checkpoints(tmp_path, keep=2) as saved:
        for step, loss in losses.items():
            saved.save(step, jax.tree.map(lambda a, s=step: a + s, tree), {}, loss)
    with Checkpoints(tmp_path, keep=2) as saved:  # the best is known to the next process
        assert saved.steps() == [50, 40, 20]
        saved.save(60, tree, {}, 0.5)
        saved.save(70, tree, {}, 6.0)
    with Checkpoints(tmp_path, keep=2) as saved:
        assert saved.steps() == [70, 60]
        np.testing.assert_array_equal(saved.load(60, tree)[0]["a"], [0, 1, 2])
    assert sorted(file.name for file in (tmp_path / "files").iterdir()) == ["60.json", "70.json"]


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A directory with checkpoints 1 and 2 of `{"a": [step, ...]}`."""
    directory = tmp_path_factory.mktemp("two") / "checkpoints"
    with Checkpoints(directory, keep=2) as saved:
        for step in (1, 2):
            saved.save(step, {"a": jnp.arange(3) + step}, {"going": [True]}, 1.0)
    return directory


DAMAGE = {
    "deleted": lambda path: path.unlink(),
    "truncated": lambda path: os.truncate(path, path.stat().st_size // 2),
    "emptied": lambda path: os.truncate(path, 0),
    "a bit": lambda path: path.write_bytes(
        (data := path.read_bytes())[:-1] + bytes([data[-1] ^ 4])
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("how", DAMAGE)
def test_if_any_file_is_damaged_the_previous_checkpoint_remains(how, two, tmp_path, capfd):
    like = {"a": jnp.zeros(3, int)}
    files = [f.relative_to(two) for f in sorted((two / "steps" / "2").rglob("*")) if f.is_file()]
    assert len(files) > 8
    for file in files:
        shutil.rmtree(tmp_path / "copy", ignore_errors=True)
        shutil.copytree(two, tmp_path / "copy")
        DAMAGE[how](tmp_path / "copy" / file)
        with Checkpoints(tmp_path / "copy", keep=2) as saved:
            assert (saved.steps(), saved.damaged()) == ([1], [2]), file
            tree, facts = saved.load(1, like)
            np.testing.assert_array_equal(tree["a"], [1, 2, 3])
            assert facts == {"going": [True]}
            if file == files[-1]:  # the step can be done again
                saved.save(2, {"a": jnp.arange(3) + 2}, {}, 1.0)
    with Checkpoints(tmp_path / "copy", keep=2) as saved:
        assert (saved.steps(), saved.damaged()) == ([2, 1], [2])
    assert capfd.readouterr() == ("", "")


def test_the_recorded_sums_may_be_damaged_too(two, tmp_path):
    def left(step, damage):
        shutil.rmtree(tmp_path / "copy", ignore_errors=True)
        shutil.copytree(two, tmp_path / "copy")
        damage(tmp_path / "copy" / "files" / f"{step}.json")
        with Checkpoints(tmp_path / "copy", keep=2) as saved:
            return saved.steps(), saved.damaged()

    assert left(2, DAMAGE["a bit"]) == ([1], [2])
    assert left(1, DAMAGE["emptied"]) == ([2], [1])
    assert left(1, DAMAGE["deleted"]) == ([2], [1])
    assert left(2, DAMAGE["deleted"]) == ([2, 1], [])  # it comes after the checkpoint


@pytest.mark.slow
def test_the_digest_finds_changed_numbers(tmp_path, capfd):
    """Of large files only the size is recorded; the digest checks their content."""
    big = {"a": jax.random.bits(jax.random.key(0), (2**22 + 2**19,))}
    with Checkpoints(tmp_path, keep=2) as saved:
        saved.save(1, big, {}, 0.0)
    (file,) = (f for f in tmp_path.rglob("*") if f.is_file() and f.stat().st_size > 2**24)
    with open(file, "r+b") as opened:
        opened.seek(2**23)
        byte = opened.read(1)
        opened.seek(2**23)
        opened.write(bytes([byte[0] ^ 1]))
    with Checkpoints(tmp_path, keep=2) as saved:
        assert saved.steps() == [1]
        with pytest.raises(OSError, match="is damaged") as caught:
            saved.load(1, big)
        assert "\n" not in str(caught.value)
        saved.quarantine(1)
        assert (saved.steps(), saved.damaged()) == ([], [1])
    assert capfd.readouterr() == ("", "")


def test_killed_at_any_moment_of_a_save_the_last_complete_one_remains(tmp_path, capfd):
    tree = {"a": jnp.arange(3)}
    place = tmp_path / "checkpoints"
    with moments(place, tmp_path) as left, Checkpoints(place, keep=1) as saved:
        saved.save(1, tree, {}, 1.0)
        saved.save(2, {"a": tree["a"] + 1}, {}, 0.5)
    newest = []
    for copy in left:
        with Checkpoints(copy, keep=1) as saved:
            newest.append(max(steps := saved.steps(), default=0))
            if newest[-1]:
                found, _ = saved.load(newest[-1], tree)
                np.testing.assert_array_equal(found["a"], np.arange(3) + newest[-1] - 1)
        there = {path.name for path in (copy / "steps").iterdir()}
        assert there == {str(step) for step in steps}  # nothing unfinished stays
    assert newest == sorted(newest) and set(newest) == {0, 1, 2}
    assert capfd.readouterr() == ("", "")


@pytest.fixture
def small_disk(tmp_path):
    """A file system of one megabyte."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no mount here")
    if done.returncode:
        pytest.skip(f"no file system may be mounted here: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_fails_one_save_with_one_line(small_disk, capfd):
    tree = {"a": jax.random.bits(jax.random.key(0), (2**15,))}  # 128 kB that do not compress
    with Checkpoints(small_disk / "c", keep=2) as saved:
        saved.save(1, tree, {}, 1.0)
    room = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
    (small_disk / "filler").write_bytes(bytes(room - 2**16))
    with (
        pytest.raises(OSError, match="cannot save in .*disk/c: .*No space left") as caught,
        Checkpoints(small_disk / "c", keep=2) as saved,
    ):
        saved.save(2, tree, {}, 0.5)
        saved.save(3, tree, {}, 0.5)
    assert "\n" not in str(caught.value)
    (small_disk / "filler").unlink()
    with Checkpoints(small_disk / "c", keep=2) as saved:
        assert (saved.steps(), saved.damaged()) == ([1], [])
        assert words(saved.load(1, tree)[0]) == words(tree)
        saved.save(2, tree, {}, 0.5)
    with Checkpoints(small_disk / "c", keep=2) as saved:
        assert saved.steps() == [2, 1]
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"step": jnp.float32(0)}, r"step as int32 \(\), expected float32 \(\)"),
        ({"params": {}}, r"params/half as bfloat16 \(2, 4\), expected nothing"),
        ({"key": jnp.zeros(2)}, r"key as uint32 \(2, 2\), expected float32 \(2,\)"),
        ({"more": jnp.zeros((2, 5))}, r"more as nothing, expected float32 \(2, 5\)"),
    ],
    ids=["type", "missing", "key", "new"],
)
def test_the_differing_leaf_of_a_checkpoint_is_named(changes, message, stored):
    with Checkpoints(stored, keep=1) as saved:
        with pytest.raises(ValueError, match=message):
            saved.load(1, state()._replace(**changes))
        assert words(saved.load(1, state())[0]) == words(state(1))


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    with Checkpoints(tmp_path_factory.mktemp("stored"), keep=1) as saved:
        saved.save(1, state(1), {}, 1.0)
        return saved._directory
