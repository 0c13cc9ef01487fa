"""Trees of arrays on disk: whole or not at all, and what does not fit is named."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnjax import checkpoint

TREE = {"layer": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3)}, "step": np.int32(3)}


@pytest.fixture
def saved(tmp_path):
    checkpoint.save(tmp_path / "params", TREE)
    return tmp_path / "params"


def test_what_is_saved_is_read_bit_by_bit(saved):
    for like in (TREE, jax.eval_shape(lambda: jax.tree.map(jnp.asarray, TREE))):
        found = checkpoint.load(saved, like)
        assert jax.tree.structure(found) == jax.tree.structure(TREE)
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(TREE), strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)


def test_nothing_is_overwritten(saved):
    with pytest.raises(FileExistsError, match="is there already"):
        checkpoint.save(saved, {"other": np.zeros(1)})
    np.testing.assert_array_equal(checkpoint.load(saved, TREE)["step"], 3)


@pytest.mark.parametrize(
    ("like", "message"),
    [
        (
            {"layer": {"kernel": np.zeros((2, 4), np.float32)}, "step": np.int32(0)},
            r"layer/kernel as float32 \(2, 3\), wanted is float32 \(2, 4\)",
        ),
        ({**TREE, "step": np.float32(0)}, r"step as int32 \(\), wanted is float32 \(\)"),
        ({"layer": TREE["layer"]}, r"step as int32 \(\), wanted is nothing"),
        ({**TREE, "bias": np.zeros(3)}, r"bias as nothing, wanted is float64 \(3,\)"),
    ],
)
def test_where_the_trees_differ_is_named(saved, like, message):
    with pytest.raises(ValueError, match=message):
        checkpoint.load(saved, like)


def test_what_is_missing_or_damaged_is_said_in_one_line(saved, tmp_path):
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
