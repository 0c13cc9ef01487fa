"""Tables of weights are about the effective ones, with which a cell computes."""

import collections
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import own_cells
import pytest

from rnnjax import LSTM, Elman
from rnnjax.cells import Constrained, LayerNorm
from rnnjax.cells.constraints import Dale
from rnnjax.cells.initializers import Gaussian
from rnnjax.experiment import readout, weight_tables

D, S = 3, 2
KEYS = jax.random.split(jax.random.key(0), S)


def recorded(cell, drawn_by=None):
    """Return the tables and the health of two steps of a training, and the last parameters."""
    params = jax.vmap(lambda key: (drawn_by or cell).init(key, D))(KEYS)
    head = jnp.ones((S, 2, 1)), jnp.ones((S, 1))

    def observed(scale):
        scaled = jax.tree.map(lambda p: scale * p, params)
        own = readout.Readout(scaled, *head)
        return {"weights": own, "gradient": own}

    history = {0: observed(1.0), 10: observed(1.5)}
    tables = collections.defaultdict(list)
    trained = SimpleNamespace(observed=lambda: history)
    health = weight_tables.record(tables, "cell", cell, trained)
    return tables, health, history[10]["weights"].cell


def rows(tables, name, **where):
    return [row for row in tables[name] if where.items() <= row.items()]


def test_of_a_constrained_kernel():
    free = Elman(20, recurrent_kernel_init=Gaussian())
    tables, health, raw = recorded(Constrained(free, recurrent=(Dale(),)), drawn_by=free)
    sign = np.where(np.arange(20) < 16, 1.0, -1.0)[:, None]
    want = sign * np.abs(np.asarray(raw.recurrent_kernel))
    place = {"kernel": "recurrent_kernel", "phase": "after"}
    (block,) = rows(tables, "blocks", what="weights", **place)
    np.testing.assert_allclose(block["value"], want[0].ravel(), rtol=1e-6)
    (gradient,) = rows(tables, "blocks", what="gradient", **place)
    np.testing.assert_allclose(gradient["value"], raw.recurrent_kernel[0].ravel())
    (spectrum,) = rows(tables, "eigenvalues", step=10)
    radius = np.abs(np.linalg.eigvals(want[0].astype(float))).max()
    np.testing.assert_allclose(
        np.hypot(spectrum["real"], spectrum["imag"]).max(), radius, rtol=1e-5
    )
    (counts,) = rows(tables, "histograms", what="weights", **place)
    assert counts["low"][0] == pytest.approx(want.min()) and counts["low"][0] < 0
    assert health["weights"]["cell.recurrent_kernel"]["size"] == S * 400


@pytest.mark.slow
def test_of_a_mask_and_of_a_wrapper():
    class Masked(Elman):
        def prepare(self, params):
            return params._replace(recurrent_kernel=jnp.tril(params.recurrent_kernel))

    _, health, _ = recorded(Masked(5))
    assert health["weights"]["cell.recurrent_kernel"]["dead"] == S * 10
    assert health["gradients"]["cell.recurrent_kernel"]["dead"] == 0
    tables, _, raw = recorded(LayerNorm(LSTM(4)))
    assert {row["gate"] for row in tables["eigenvalues"]} == {*LSTM.gate_names}
    (block,) = rows(
        tables, "blocks", what="weights", kernel="cell.recurrent_kernel", gate="f", phase="after"
    )
    np.testing.assert_array_equal(block["value"], raw.cell.recurrent_kernel[0, :, 4:8].ravel())


@pytest.mark.slow
def test_of_complex_weights_and_of_heads():
    cell = own_cells.LRU(4)
    tables, _, raw = recorded(cell)
    ready = jax.vmap(cell.prepare)(raw)
    for part in ("real", "imag"):
        (block,) = rows(tables, "blocks", kernel=f"eigenvalues.{part}", phase="after")
        want = getattr(ready.eigenvalues[0], part)
        np.testing.assert_allclose(block["value"], want, rtol=1e-5)
    assert not tables["eigenvalues"]
    kernels = {row["kernel"] for row in tables["histograms"] if row["what"] == "gradient"}
    assert kernels == {*own_cells.LRUParams._fields}
    tables, _, raw = recorded(own_cells.SLSTM(6))
    (block,) = rows(
        tables, "blocks", what="weights", kernel="recurrent_kernel", gate="i", phase="after"
    )
    want = raw.recurrent_kernel[0, ..., :3].reshape(6, 3)
    np.testing.assert_array_equal(block["value"], want.ravel())
    assert block["row"].max() == 5 and block["column"].max() == 2
