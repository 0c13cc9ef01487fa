"""Digests of trees."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from rnnjax.checkpoint import digest


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
