"""Cached results: read back exactly, and computed again if their file is damaged."""

import jax.numpy as jnp
import numpy as np
import pytest
from run_directories import begin, resume_or_begin

from rnnjax.runs import read_arrays


def test_a_cached_result_is_computed_once(tmp_path):
    calls = []

    def compute(scale):
        calls.append(scale)
        half = np.arange(4).astype(jnp.bfloat16) / 3
        return {"file": half, "float": np.float32(0.1) * scale, "names": np.array(["a", "bc"])}

    def same(found, want):
        for name, value in want.items():
            assert found[name].dtype == value.dtype
            np.testing.assert_array_equal(found[name], value)
        return found.keys() == want.keys()

    path = tmp_path / "run"
    first = begin(path).cached("a b/3", compute, 2)
    assert same(resume_or_begin(path).cached("a b/3", compute, 2), first) and calls == [2]
    (file,) = (path / ".history").rglob("*.npz")
    data = file.read_bytes()
    for at in range(0, len(data), 7):  # any flipped bit is found
        file.write_bytes(data[:at] + bytes([data[at] ^ 16]) + data[at + 1 :])
        with pytest.raises(OSError, match="is damaged"):
            read_arrays(file)
    assert same(resume_or_begin(path).cached("a b/3", compute, 2), first) and calls == [2, 2]
    for damage in (file.unlink, lambda: file.write_bytes(data[:30]), lambda: file.write_bytes(b"")):
        damage()
        assert same(resume_or_begin(path).cached("a b/3", compute, 2), first)
        assert file.read_bytes() == data
    assert calls == [2] * 5
    resume_or_begin(path).finish()
    assert not (path / ".history").exists()
