"""Starts drawn from visited states: where from, how likely, with how much noise."""

import jax
import jax.numpy as jnp
import numpy as np
import own_cells
import pytest

from rnnjax import LSTM, dynamics
from rnnjax.cells import ElmanCarry, LSTMCarry

KEY = jax.random.key(0)
T, B, H = 5, 3, 2


def visited():
    c = jnp.arange(T * B * H, dtype=jnp.float32).reshape(T, B, H)
    return LSTMCarry(c, -c)


def test_every_step_of_every_example_is_as_likely():
    drawn = dynamics.visited_states(LSTM(H), visited(), KEY, 6000)
    assert drawn.c.shape == (6000, H)
    np.testing.assert_array_equal(drawn.c, -drawn.h)
    np.testing.assert_array_equal(drawn.c[:, 1], drawn.c[:, 0] + 1)
    states, counts = np.unique(drawn.c[:, 0], return_counts=True)
    np.testing.assert_array_equal(states, np.arange(0, T * B * H, H))
    assert (np.abs(counts - 400) < 5 * 20).all()


def test_the_noise_has_its_standard_deviation():
    still = LSTMCarry(jnp.zeros((T, H)), jnp.ones((T, H)))
    drawn = dynamics.visited_states(LSTM(H), still, KEY, 5000, noise=0.5)
    for leaf, mean in zip(drawn, (0, 1), strict=True):
        np.testing.assert_allclose(leaf.mean(), mean, atol=0.02)
        np.testing.assert_allclose(leaf.std(), 0.5, atol=0.02)
    assert abs(np.corrcoef(drawn.c.ravel(), drawn.h.ravel())[0, 1]) < 0.05


def test_complex_and_integer_leaves():
    lru = own_cells.LRU(H)
    still = jax.tree.map(lambda a: a[None], lru.initial_carry((1,)))
    drawn = dynamics.visited_states(lru, still, KEY, 5000, noise=0.5).state
    np.testing.assert_allclose([drawn.real.std(), drawn.imag.std()], 0.5, atol=0.02)
    cell = own_cells.Counting(H)
    carries = own_cells.CountingCarry(jnp.arange(T), jnp.zeros((T, H)))
    drawn = dynamics.visited_states(cell, carries, KEY, 100, noise=1.0)
    assert drawn.count.dtype == carries.count.dtype and {*drawn.count.tolist()} == {*range(T)}


def test_what_it_refuses():
    cell = LSTM(H)
    for num, noise, words in ((0, 0.0, "num must be"), (2, -1.0, "noise must be at least 0")):
        with pytest.raises(ValueError, match=words):
            dynamics.visited_states(cell, visited(), KEY, num, noise=noise)
    with pytest.raises(ValueError, match="carries must be those of LSTM, LSTMCarry"):
        dynamics.visited_states(cell, visited().c, KEY, 2)
    with pytest.raises(ValueError, match=r"carries must have leaves \[T, \*batch"):
        dynamics.visited_states(LSTM(5), visited(), KEY, 2)
    with pytest.raises(ValueError, match=r"carries must have leaves \[T, \*batch"):
        dynamics.visited_states(cell, cell.initial_carry(()), KEY, 2)
    with pytest.raises(ValueError, match="at least one state"):
        dynamics.visited_states(cell, cell.initial_carry((0,)), KEY, 2)


def test_the_spread_of_states():
    states = np.array([[[1.0, 0], [-1, 0]], [[0, 2], [0, -2]]])
    assert dynamics.spread(ElmanCarry(5 + jnp.asarray(states))) == pytest.approx(2.5**0.5)
