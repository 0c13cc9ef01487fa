"""A tree of arrays on disk: complete or absent; differences of shape are named."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from words import words

from rnnjax import checkpoint
from rnnjax.checkpoint import Checkpoints

TREE = {"layer": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3)}, "step": np.int32(3)}


@pytest.fixture
def saved(tmp_path):
    checkpoint.save(tmp_path / "params", TREE)
    return tmp_path / "params"


def test_a_tree_reads_back_bit_by_bit(saved):
    for like in (TREE, jax.eval_shape(lambda: jax.tree.map(jnp.asarray, TREE))):
        found = checkpoint.load(saved, like)
        assert jax.tree.structure(found) == jax.tree.structure(TREE)
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(TREE), strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)


def test_complex_and_integer_leaves_of_carries_and_parameters_read_back(tmp_path):
    class Carry(NamedTuple):
        z: Any
        count: Any

    z = jnp.exp(1j * jnp.arange(6.0).reshape(2, 3))
    tree = {
        "carry": Carry(z, jnp.arange(2, dtype=jnp.int32)),
        "params": {"eigenvalues": z[0], "mask": z.real > 0, "index": jnp.uint8([3, 1])},
    }
    assert z.dtype == jnp.complex64
    checkpoint.save(tmp_path / "tree", tree)
    assert words(checkpoint.load(tmp_path / "tree", jax.eval_shape(lambda: tree))) == words(tree)
    with Checkpoints(tmp_path / "checkpoints", keep=1) as saved:
        saved.save(1, tree, {}, 0.0)
    with Checkpoints(tmp_path / "checkpoints", keep=1) as saved:
        found, _ = saved.load(1, tree)
        assert words(found) == words(tree) and type(found["carry"]) is Carry
    real = {**tree, "carry": tree["carry"]._replace(z=z.real)}
    with pytest.raises(
        ValueError, match=r"carry/z as complex64 \(2, 3\), expected float32 \(2, 3\)"
    ):
        checkpoint.load(tmp_path / "tree", real)


def test_nothing_is_overwritten(saved):
    with pytest.raises(FileExistsError, match="exists already"):
        checkpoint.save(saved, {"other": np.zeros(1)})
    np.testing.assert_array_equal(checkpoint.load(saved, TREE)["step"], 3)


@pytest.mark.parametrize(
    ("like", "message"),
    [
        (
            {"layer": {"kernel": np.zeros((2, 4), np.float32)}, "step": np.int32(0)},
            r"layer/kernel as float32 \(2, 3\), expected float32 \(2, 4\)",
        ),
        ({**TREE, "step": np.float32(0)}, r"step as int32 \(\), expected float32 \(\)"),
        ({"layer": TREE["layer"]}, r"step as int32 \(\), expected nothing"),
        ({**TREE, "bias": np.zeros(3)}, r"bias as nothing, expected float64 \(3,\)"),
    ],
)
def test_the_differing_leaf_is_named(saved, like, message):
    with pytest.raises(ValueError, match=message):
        checkpoint.load(saved, like)


def test_a_missing_or_damaged_tree_is_an_error_of_one_line(saved, tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        checkpoint.load(tmp_path / "nothing", TREE)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        checkpoint.load(tmp_path / "empty", TREE)
    for path in (saved / "tree").rglob("*"):
        if path.is_file() and path.parent.name == "d":
            path.write_bytes(path.read_bytes()[:10])
    with pytest.raises(OSError, match="is damaged") as caught:
        checkpoint.load(saved, TREE)
    assert "\n" not in str(caught.value)
