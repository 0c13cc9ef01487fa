"""Sequences without a step and batches without an example have diagnostics, of size zero."""

import jax
import jax.numpy as jnp
import pytest
from slow import in_turn

from rnnjax import GRU, LSTM, Elman, diagnostics

KEY, D, H = jax.random.key(0), 3, 4
CELLS = {"elman": Elman(H), "lstm": LSTM(H), "gru": GRU(H)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cell", "sizes", "lengths"),
    in_turn(CELLS, [(0, 2), (5, 0), (0, 0)], [False, True, False, True]),
)
def test_nothing_in_nothing_out(cell, sizes, lengths):
    total, batch = sizes
    xs, params = jnp.zeros((total, batch, D)), cell.init(KEY, D)
    direction = jax.tree.map(jnp.ones_like, cell.initial_carry((batch,)))
    options = {"seq_lengths": jnp.zeros(batch, int)} if lengths else {}

    def loss(ys):
        return (ys**2).sum()

    by_step = jax.tree.map(lambda leaf: (total, *leaf.shape), direction)
    shapes = lambda tree: jax.tree.map(jnp.shape, tree)  # noqa: E731
    assert shapes(diagnostics.adjoints(cell, params, xs, loss)) == by_step
    logs = diagnostics.log_gradient_profile(cell, params, xs, direction, **options)
    assert logs.shape == (total, batch)
    profile = diagnostics.gradient_profile(cell, params, xs, loss, **options)
    assert profile.log_norms.shape == (total, batch) and profile.at_end.shape == (batch,)
    assert (profile.at_end == -jnp.inf).all()
    if not lengths:
        size = sum(leaf.shape[-1] for leaf in jax.tree.leaves(direction))
        found = diagnostics.jacobians(cell, params, xs)
        assert found.shape == (total, batch, size, size)
    if cell.gate_names[0] != "h":
        found = diagnostics.log_carousel_profile(cell, params, xs, direction, **options)
        assert found.joint.shape == (total, batch)
