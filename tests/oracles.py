"""Independent implementations that the tests compare with, and how to measure the difference."""

from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from rnnjax.cells import GatedParams, GRUParams

PYTORCH = Path(__file__).parent / "fixtures" / "pytorch.npz"


def relative_error(got, want):
    """Return the largest difference over the largest value (1 for zeros), over two pytrees."""
    got, want = (jax.tree.leaves(tree) for tree in (got, want))
    assert [a.shape for a in got] == [b.shape for b in want]
    difference = max(
        np.max(np.abs(np.asarray(a) - np.asarray(b))) for a, b in zip(got, want, strict=True)
    )
    return difference / (max(np.max(np.abs(np.asarray(b))) for b in want) or 1)


def from_pytorch(name, arrays):
    """Return our parameters with the weights (or their gradients) of a PyTorch network.

    PyTorch stores `[G*H, D]`, gate order i, f, g, o and r, z, n, and two biases: for all but the
    GRU's n gate only their sum matters.
    """
    w, u = arrays["weight_ih_l0"].T, arrays["weight_hh_l0"].T
    b, bh = arrays["bias_ih_l0"], arrays["bias_hh_l0"]
    if name != "gru":
        return GatedParams(*map(jnp.asarray, (w, u, b + bh)))
    features = len(b) // 3
    both = b + np.concatenate([bh[: 2 * features], np.zeros_like(b[:features])])
    return GRUParams(*map(jnp.asarray, (w, u, both, bh[2 * features :])))


def to_flax(cell_name, params):
    """Return a Flax cell's variables with our parameters."""
    w, u, b = params[:3]
    gates = {"elman": "h", "lstm": "ifgo", "gru": "rzn"}[cell_name]
    ws, us, bs = (jnp.split(a, len(gates), axis=-1) for a in (w, u, b))
    if cell_name == "elman":
        return {"params": {"i": {"kernel": w, "bias": b}, "h": {"kernel": u}}}
    tree = {}
    for gate, wg, ug, bg in zip(gates, ws, us, bs, strict=True):
        if cell_name == "lstm":
            tree[f"i{gate}"], tree[f"h{gate}"] = {"kernel": wg}, {"kernel": ug, "bias": bg}
        else:
            tree[f"i{gate}"], tree[f"h{gate}"] = {"kernel": wg, "bias": bg}, {"kernel": ug}
    if cell_name == "gru":
        tree["hn"]["bias"] = params.recurrent_bias
    return {"params": tree}


def flax_cell(cell_name, features, dtype):
    """Return the Flax cell of that name."""
    kinds = {"elman": nn.SimpleCell, "lstm": nn.LSTMCell, "gru": nn.GRUCell}
    return kinds[cell_name](features, dtype=dtype, param_dtype=dtype)


def run_flax(cell_name, features, params, xs, carry):
    """Run the Flax cell with our parameters over `xs [T, B, D]` by a Python loop."""
    cell = flax_cell(cell_name, features, xs.dtype)
    state = tuple(carry) if cell_name == "lstm" else carry.h
    outputs = []
    for x in xs:
        state, y = cell.apply(to_flax(cell_name, params), state, x)
        outputs.append(y)
    return jnp.stack(outputs)
