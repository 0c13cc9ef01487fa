"""Parameters by gate, their spectra, health and histograms, against NumPy by hand."""

import dataclasses
import functools
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import own_cells
import pytest

from rnnjax import GRU, LSTM, Cell, Elman, diagnostics
from rnnjax.cells import Constrained, Zoneout
from rnnjax.cells.constraints import Dale
from rnnjax.cells.initializers import Gaussian
from rnnjax.diagnostics import weights

D, H = 3, 5


@dataclasses.dataclass(frozen=True)
class Leak(Cell):
    """A cell that is not gated: s' = a s + x."""

    class Params(NamedTuple):
        rates: dict

    def init(self, key, input_size):
        return self.Params({"a": jnp.full(input_size, 0.5)})

    def initial_carry(self, batch_shape):
        return jnp.zeros((*batch_shape, 1))

    def project(self, params, x):
        return x

    def step(self, params, carry, u):
        return params.rates["a"] * carry + u

    def output(self, carry):
        return carry


def population(cell, *shape):
    """Random parameters with leading axes."""
    rng = np.random.default_rng(0)
    params = jax.eval_shape(lambda: cell.init(jax.random.key(0), D))
    return jax.tree.map(lambda p: rng.normal(size=(*shape, *p.shape)).astype(p.dtype), params)


@pytest.mark.parametrize(("cell", "gates"), [(Elman(H), 1), (LSTM(H), 4), (GRU(H), 3)])
@pytest.mark.parametrize("shape", [(), (2,), (4, 2)])
def test_blocks_are_the_columns_of_their_gates(cell, gates, shape):
    params = population(cell, *shape)
    blocks = weights.by_gate(cell, params)
    for kernel in ("input_kernel", "recurrent_kernel", "bias"):
        assert list(blocks[kernel]) == list(cell.gate_names)
        for g, name in enumerate(cell.gate_names):
            want = getattr(params, kernel)[..., g * H : (g + 1) * H]
            np.testing.assert_array_equal(blocks[kernel][name], want)
            assert want.shape[-1] == H and len(blocks[kernel]) == gates
    others = set(blocks) - {"input_kernel", "recurrent_kernel", "bias"}
    assert others == ({"recurrent_bias"} if isinstance(cell, GRU) else set())
    if isinstance(cell, GRU):
        np.testing.assert_array_equal(blocks["recurrent_bias"][""], params.recurrent_bias)


@pytest.mark.slow
def test_the_forget_gates_bias_is_where_the_gradient_says(x64):
    """With a zero network and cell state one, only the forget gate's bias moves c."""
    cell = LSTM(H, param_dtype=jnp.float64)
    zero = jax.tree.map(jnp.zeros_like, cell.init(jax.random.key(0), D))
    carry = cell.initial_carry(())._replace(c=jnp.ones(H))

    def loss(params):
        return cell.step(params, carry, cell.project(params, jnp.zeros(D))).c.sum()

    blocks = weights.by_gate(cell, jax.grad(loss)(zero))["bias"]
    np.testing.assert_allclose(blocks["f"], 0.25)  # s'(0) c
    np.testing.assert_allclose(blocks["g"], 0.5)  # s(0) tanh'(0)
    assert not blocks["i"].any() and not blocks["o"].any()


def test_a_cell_that_is_not_gated_has_its_leaves_by_path():
    blocks = weights.by_gate(Leak(), Leak().init(jax.random.key(0), D))
    assert list(blocks) == ["rates.a"] and list(blocks["rates.a"]) == [""]
    np.testing.assert_array_equal(blocks["rates.a"][""], [0.5] * D)
    with pytest.raises(TypeError, match="Gated.*Leak"):
        weights.block_spectra(Leak(), {})


def test_parameters_of_another_cell_are_refused():
    with pytest.raises(ValueError, match=r"input_kernel.* 20 columns .*i, f, g, o.*\(3, 15\)"):
        weights.by_gate(LSTM(H), population(GRU(H)))


def test_spectra_of_known_blocks():
    """A rotation scaled by a, a diagonal, a nilpotent block: eigenvalues in closed form."""
    a, angle = 0.8, 0.3
    rotation = np.eye(H)
    rotation[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    diagonal = np.diag([0.1, -3.0, 0.0, 2.0, -0.5])
    shift = 7 * np.diag(np.ones(H - 1), 1)
    cell = GRU(H)
    kernel = np.concatenate([a * rotation, diagonal, shift], axis=1)
    spectra = weights.block_spectra(cell, population(cell)._replace(recurrent_kernel=kernel))
    assert list(spectra) == ["r", "z", "n"]
    r, z, n = spectra.values()
    np.testing.assert_allclose(np.abs(r.eigenvalues), a)
    phases = np.sort(np.angle(r.eigenvalues))
    np.testing.assert_allclose(phases, [-angle, 0, 0, 0, angle], atol=1e-12)
    np.testing.assert_allclose(r.singular_values, a)
    np.testing.assert_allclose(z.eigenvalues, [-3, 2, -0.5, 0.1, 0])
    np.testing.assert_allclose(z.singular_values, [3, 2, 0.5, 0.1, 0])
    np.testing.assert_allclose(n.eigenvalues, 0, atol=1e-12)
    np.testing.assert_allclose(n.singular_values, [7, 7, 7, 7, 0], atol=1e-12)


def test_spectra_of_a_history_are_those_of_each_network():
    cell = LSTM(H)
    params = population(cell, 3, 2)
    params.recurrent_kernel[1, 0, 2, 7] = np.nan  # in the forget gate's block
    spectra = weights.block_spectra(cell, params)
    for g, (name, (eigenvalues, singular_values)) in enumerate(spectra.items()):
        assert eigenvalues.shape == singular_values.shape == (3, 2, H)
        assert np.iscomplexobj(eigenvalues) and np.isrealobj(singular_values)
        for at in np.ndindex(3, 2):
            block = params.recurrent_kernel[at][:, g * H : (g + 1) * H].astype(np.float64)
            if name == "f" and at == (1, 0):
                assert np.isnan(eigenvalues[at]).all() and np.isnan(singular_values[at]).all()
                continue
            # det(U - lambda I) = 0; the sum is the trace, the product the determinant
            for value in eigenvalues[at]:
                assert abs(np.linalg.det(block - value * np.eye(H))) < 1e-9
            np.testing.assert_allclose(eigenvalues[at].sum(), np.trace(block), atol=1e-12)
            np.testing.assert_allclose(eigenvalues[at].prod(), np.linalg.det(block), rtol=1e-9)
            want = np.sqrt(np.linalg.eigvalsh(block.T @ block)[::-1])
            np.testing.assert_allclose(singular_values[at], want, rtol=1e-6)
            assert (np.diff(np.abs(eigenvalues[at])) <= 1e-12).all()


def test_health_counts_what_is_wrong():
    tree = {
        "cell": population(GRU(H)),
        "head": [np.array([[0.0, np.nan, np.inf], [-np.inf, -0.0, 1.0]], np.float32)],
    }
    found = weights.health(tree)
    assert list(found) == [
        "cell.input_kernel",
        "cell.recurrent_kernel",
        "cell.bias",
        "cell.recurrent_bias",
        "head.0",
    ]
    assert found["head.0"] == weights.Health(size=6, nan=1, infinite=2, dead=2)
    assert found["cell.recurrent_kernel"] == weights.Health(H * 3 * H, 0, 0, 0)
    *fine, wrong = weights.health_report(found).splitlines()
    assert len(fine) == 4 and all("all finite, none zero" in line for line in fine)
    for words in ("head.0", "6 entries", "1 NaN", "2 infinite", "2 dead (0.33)"):
        assert words in wrong


def test_an_entry_is_dead_only_if_it_is_zero_in_the_whole_history():
    history = np.zeros((4, 2, 3))
    history[2, 1, 0] = 1e-30  # once alive
    history[0, 0, 1] = np.nan
    history[3, 0, 1] = np.inf
    assert weights.health(history, 2) == {"": weights.Health(size=3, nan=1, infinite=1, dead=1)}
    assert weights.health(history)[""].dead == 21
    half = {"g": jnp.zeros((2, 3), jnp.bfloat16)}
    assert weights.health(half, 1)["g"] == weights.Health(3, 0, 0, 3)
    for leading in (-1, 4):
        with pytest.raises(ValueError, match=f"leading.*got {leading}"):
            weights.health(history, leading)
    with pytest.raises(ValueError, match="leading.*empty"):
        weights.health({"g": np.zeros((0, 3))}, 1)


@pytest.mark.parametrize("count", [diagnostics.histogram, diagnostics.log_histogram])
def test_every_entry_is_counted_once(count):
    """Against a loop over entries and bins."""
    rng = np.random.default_rng(1)
    blocks = {"i": rng.normal(size=(3, 7, 5)), "f": 100 * rng.normal(size=(3, 7, 5))}
    blocks["i"][0, 0, :3] = 0, -0.0, np.nan
    blocks["f"][2, 1, :2] = np.inf, -np.inf
    found = count(blocks, 6)
    scale = np.abs if count is diagnostics.log_histogram else np.asarray
    for name, block in blocks.items():
        edges, counts, zero, not_finite = found[name]
        np.testing.assert_array_equal(edges, found["i"].edges)
        assert counts.shape == (3, 6) and len(edges) == 7
        np.testing.assert_array_equal(counts.sum(-1) + zero + not_finite, 35)
        for s in range(3):
            values = [v for v in scale(block[s]).ravel() if np.isfinite(v) and v != 0]
            for n, (low, high) in enumerate(itertools.pairwise(edges)):
                last = n == 5
                inside = [v for v in values if low <= v < high or (last and v == high)]
                assert counts[s, n] == len(inside)
    assert found["i"].zero.tolist() == [2, 0, 0] and found["i"].not_finite.tolist() == [1, 0, 0]
    assert found["f"].zero.tolist() == [0, 0, 0] and found["f"].not_finite.tolist() == [0, 0, 2]
    edges = found["i"].edges
    steps = np.diff(np.log(edges) if count is diagnostics.log_histogram else edges)
    np.testing.assert_allclose(steps, steps[0])
    finite = scale(np.concatenate([b[np.isfinite(b) & (b != 0)] for b in blocks.values()]))
    assert (edges[0], edges[-1]) == (finite.min(), finite.max())


@pytest.mark.parametrize("count", [diagnostics.histogram, diagnostics.log_histogram])
@pytest.mark.parametrize("value", [0.0, 0.25, -3.0, np.nan])
def test_blocks_of_one_value_have_a_histogram(count, value):
    found = count({"b": np.full((2, 4), value, np.float32)}, 3)["b"]
    assert (np.diff(found.edges) > 0).all()
    total = 4 if np.isfinite(value) and value else 0
    np.testing.assert_array_equal(found.counts.sum(-1), [total] * 2)
    assert found.zero.sum() == (8 if value == 0 else 0)
    assert found.not_finite.sum() == (8 if np.isnan(value) else 0)


def test_histograms_refuse_what_they_cannot_count():
    with pytest.raises(ValueError, match="bins.*positive integer.*0"):
        diagnostics.histogram({"b": np.ones((2, 3))}, 0)
    with pytest.raises(ValueError, match="'b'.*leading axis"):
        diagnostics.log_histogram({"b": np.float64(1)})


@pytest.mark.slow
def test_the_median_spectral_radius_is_over_gates_and_seeds():
    cell = GRU(H)
    params = jax.vmap(lambda key: cell.init(key, D))(jax.random.split(jax.random.key(0), 3))
    blocks = np.split(np.asarray(params.recurrent_kernel, float), 3, axis=-1)
    want = np.median([np.abs(np.linalg.eigvals(block)).max(-1) for block in blocks])
    assert weights.median_spectral_radius(cell, params) == pytest.approx(want, rel=1e-6)
    leak = Leak()
    assert weights.median_spectral_radius(leak, leak.init(jax.random.key(0), H)) is None
    for name in ("coRNN", "IndRNN", "sLSTM"):
        own = own_cells.CELLS[name]
        radius = weights.median_spectral_radius(own, own.init(jax.random.key(0), D))
        assert radius is None if name == "coRNN" else radius > 0  # [2H, H] has no eigenvalues


def dale(*shape, units=200):
    free = Elman(units, recurrent_kernel_init=Gaussian())
    cell = Constrained(free, recurrent=(Dale(),))
    keys = jax.random.split(jax.random.key(0), shape)
    init = functools.reduce(lambda f, _: jax.vmap(f), shape, lambda key: free.init(key, D))
    params = init(keys)
    sign = np.where(np.arange(units) < 160, 1.0, -1.0)
    return cell, params, sign[:, None] * np.abs(np.asarray(params.recurrent_kernel, float))


@pytest.mark.slow
def test_spectra_and_weights_are_those_of_the_effective_kernel():
    """|W| diag(sign) of 200 units: a radius of 6.8, where that of the raw kernel is 1.1."""
    cell, params, want = dale(2)
    raw = np.abs(np.linalg.eigvals(np.asarray(params.recurrent_kernel, float))).max(-1)
    radius = np.abs(np.linalg.eigvals(want)).max(-1)
    assert (radius > 6.3).all() and (radius < 7.3).all() and (raw < 1.2).all()
    for around in (cell, Zoneout(cell, 0.1)):
        found = weights.block_spectra(around, params)["h"]
        np.testing.assert_allclose(np.abs(found.eigenvalues[:, 0]), radius, rtol=1e-6)
        median = weights.median_spectral_radius(around, params)
        assert median == pytest.approx(np.median(radius), rel=1e-6)
        ready = weights.effective_params(around, params, 1)
        np.testing.assert_allclose(weights.by_gate(around, ready)["recurrent_kernel"]["h"], want)
        blocks = weights.by_gate(around, params)["recurrent_kernel"]["h"]  # as given
        np.testing.assert_array_equal(blocks, params.recurrent_kernel)


def test_health_of_effective_weights_counts_what_a_constraint_removes():
    class Masked(Elman):
        def prepare(self, params):
            mask = jnp.arange(H) > 1
            return params._replace(recurrent_kernel=params.recurrent_kernel * mask)

    params = population(Masked(H), 3)
    ready = weights.effective_params(Masked(H), params, 1)
    assert weights.health(params, 1)["recurrent_kernel"].dead == 0
    assert weights.health(ready, 1)["recurrent_kernel"].dead == 2 * H


def test_blocks_of_a_block_diagonal_kernel_are_cut_in_each_head():
    cell = own_cells.SLSTM(6)
    params = population(cell, 3)
    blocks = weights.by_gate(cell, params)["recurrent_kernel"]
    for g, name in enumerate(cell.gate_names):
        np.testing.assert_array_equal(blocks[name], params.recurrent_kernel[..., 3 * g : 3 * g + 3])


def test_leading_axes_of_a_cell_whose_inputs_are_a_tree_must_be_said():
    cell = own_cells.Timed(H)
    keys = jax.random.split(jax.random.key(0), 2)
    params = jax.vmap(lambda key: cell.init(key, own_cells.TimedInputs(3, 1)))(keys)
    with pytest.raises(ValueError, match="leading must be given.*Timed.init"):
        weights.block_spectra(cell, params)
    with pytest.raises(ValueError, match="leading must be given"):
        weights.median_spectral_radius(cell, params)
    spectrum = weights.block_spectra(cell, params, 1)["h"]
    np.testing.assert_allclose(spectrum.singular_values, 1, rtol=1e-5)
    assert weights.median_spectral_radius(cell, params, 1) == pytest.approx(1, rel=1e-5)
