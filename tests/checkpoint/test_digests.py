"""Digests of trees."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from rnnjax.checkpoint import digest, digests


def test_a_digest_depends_on_every_word_and_its_index_only():
    tree = {
        "a": jnp.arange(6, dtype=jnp.uint32).reshape(2, 3),
        "b": jnp.zeros((2, 2), jnp.bfloat16),
    }
    want = digest(tree)
    found = {want}
    for i in range(2):
        for j in range(3):
            for bit in (0, 13, 31):
                flipped = tree["a"].at[i, j].set(tree["a"][i, j] ^ np.uint32(1 << bit))
                found.add(digest({**tree, "a": flipped}))
    found.add(digest({**tree, "a": tree["a"][::-1]}))
    found.add(digest({**tree, "a": tree["a"][:, ::-1]}))
    found.add(digest({**tree, "b": -tree["b"]}))  # a sign of zero is a bit
    assert len(found) == 1 + 18 + 3
    z = jnp.array([1 + 2j, 3 - 4j], jnp.complex64)
    changed = z, z.conj(), z[::-1], 1j * z, z + 1e-7 * z
    assert len({digest({"z": value}) for value in changed}) == 5
    pair = {"a": jnp.float32(1), "b": jnp.float32(2)}
    assert digest(pair) != (digest({"a": pair["b"], "b": pair["a"]}))
    for spec in (P("x"), P()):
        placed = jax.device_put(tree, NamedSharding(Mesh(np.array(jax.devices()), "x"), spec))
        assert digest(placed) == want


def test_small_trees_have_the_digest_that_the_device_computes(monkeypatch):
    draw = np.random.default_rng(0).normal
    leaves = [
        draw(size=(4, 3, 5)).astype(np.float32),
        draw(size=3),  # float64, which JAX makes float32
        jnp.asarray(draw(size=(2, 3)), jnp.bfloat16),
        np.array([1 + 2j, 3 - 4j], np.complex64),
        np.array([1, -2, 3], np.int8),
        np.array([True, False]),
        np.zeros((0, 3), np.float32),
        jnp.float32(-0.0),
        3,
        jax.random.key(3),
        jax.random.split(jax.random.key(1), 4),
    ]
    trees = [*leaves, leaves]
    on_host = [digest(tree) for tree in trees]
    monkeypatch.setattr(digests, "SMALL", -1)
    assert [digest(tree) for tree in trees] == on_host
    with jax.enable_x64(True):
        wide = np.arange(6.0).reshape(2, 3)
        on_device = digest(wide)
        monkeypatch.setattr(digests, "SMALL", 100)
        assert digest(wide) == on_device
