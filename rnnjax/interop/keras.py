"""Weights from and to Keras: the lists that `get_weights()` returns and `set_weights` takes.

Keras lists a kernel, a recurrent kernel and a bias for each direction of each layer. Kernels are
`[D, G*H]` and `[H, G*H]`, as ours. Gate blocks are i, f, c, o in an LSTM, our i, f, g, o, and
z, r, h in a GRU, where ours are r, z, n. Keras is not needed.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from rnnjax.cells import GRU, LSTM, ConvLSTM, Elman, GRUParams
from rnnjax.interop.nets import (
    Library,
    Place,
    check_no_bias,
    check_shape,
    find_places,
    params_of,
    to_numpy,
    variables_of,
)
from rnnjax.layers import concatenate

KERAS = Library(
    "Keras",
    (Elman, LSTM, GRU, ConvLSTM),
    {"concatenate": concatenate, "jnp.add": jnp.add, "jnp.multiply": jnp.multiply},
)
NAMES = "kernel", "recurrent_kernel", "bias"
RESETS_BEFORE = (
    "reset_after=False and resets before the recurrent matmul; GRU resets after it, as with "
    "reset_after=True"
)


def from_keras(
    net: nn.Module, weights: Sequence[Any], *, reset_after: bool | None = None
) -> dict[str, Any]:
    """Return variables for `net.apply` with the weights of Keras' recurrent layers.

        input_kernel = kernel,   recurrent_kernel = recurrent_kernel,   bias = bias
        GRU: bias = bias[0] + (bias[1]_z, bias[1]_r, 0),   recurrent_bias = bias[1]_h

    and its first two gate blocks change places. Without biases (`use_bias=False` in Keras) ours are
    zero. The weights contain no activation: give `net` that of the `SimpleRNN`; LSTM, GRU and
    ConvLSTM have Keras' default ones, tanh and sigmoid, and ConvLSTM `padding="same"`.

    Args:
        net: `RNN(cell)` with an `Elman` cell (`keras.layers.SimpleRNN`), an `LSTM`, a `GRU` (with
            `reset_after=True`, the default) or a `ConvLSTM` (ConvLSTM1D, 2D or 3D);
            `Bidirectional` of two, with merge_fn `concatenate`, `jnp.add` or `jnp.multiply`; or a
            `Stack` of these. `RNN(cell, reverse=True)` is `go_backwards=True`.
        weights: what `get_weights()` returns, of a layer or of a model that holds nothing but
            recurrent layers: NumPy arrays of any floating type. Parameters have the cell's
            `param_dtype`.
        reset_after: of Keras' GRU layers. Their biases tell it, so it may be left out; without
            biases it must be given.

    Raises:
        ValueError: there are too many arrays or too few, a shape differs, a GRU has
            `reset_after=False` or does not tell, or `net` is one that Keras does not have.
        TypeError: a layer, a cell or an array is of an unsupported type.

    Source: Keras 3, keras/src/layers/rnn: simple_rnn.py, lstm.py, gru.py, conv_lstm.py.
    """
    places = _places(net)
    if isinstance(weights, Mapping | str) or not isinstance(weights, Sequence):
        kind = type(weights).__name__
        raise TypeError(f"weights must be the list that get_weights() returns, got {kind}")
    each = len(NAMES) if len(weights) == len(NAMES) * len(places) else len(NAMES) - 1
    if len(weights) != each * len(places):
        count, wanted = len(places), [len(NAMES) * len(places), (len(NAMES) - 1) * len(places)]
        what = "its layer" if count == 1 else f"each of its {count} layers and directions"
        raise ValueError(
            f"weights must hold {wanted[0]} arrays, a kernel, a recurrent kernel and a bias for "
            f"{what}, or {wanted[1]} without biases; got {len(weights)}"
        )
    if any(type(place.cell) is GRU for place in places):
        _check_reset(reset_after, told=each == len(NAMES))
    input_size = next(iter(np.shape(weights[0])[-2:-1]), 1)
    params = []
    for i, place in enumerate(places):
        shapes, found = _shapes(place, input_size), {}
        for j, name in enumerate(NAMES[:each], start=each * i):
            said = f"weights[{j}], a {name.replace('_', ' ')},"
            found[name] = to_numpy(said, weights[j])
            if type(place.cell) is GRU and name == "bias" and found[name].ndim == 1:
                raise ValueError(f"{said} has one axis, so the layer has {RESETS_BEFORE}")
            check_shape(said, found[name], shapes[name], place.cell)
        blank = {name: np.zeros(shapes[name]) for name in NAMES if name not in found}
        params.append(_merged(place, **found, **blank))
    return variables_of(places, params)


def _check_reset(reset_after, told):
    """Raise a ValueError unless the GRU layers reset after the recurrent matmul."""
    if reset_after is None and not told:
        raise ValueError(
            "the weights of a GRU without biases do not tell where it resets; pass "
            "reset_after=True if the layer has it, as it has by default"
        )
    if reset_after not in (None, True):
        raise ValueError(f"the layer has {RESETS_BEFORE}")


def to_keras(
    net: nn.Module, variables: Mapping[str, Any], *, bias: bool = True
) -> list[np.ndarray]:
    """Return the list that `set_weights` of Keras' layer takes, or of a model of such layers.

        kernel = input_kernel,   recurrent_kernel = recurrent_kernel,   bias = bias
        GRU: bias = (bias, (0, 0, recurrent_bias)), gate blocks in the order z, r, h

    Args:
        net: as for `from_keras`.
        variables: the variables of `net`, of which "params" are read; arrays keep their type.
        bias: False leaves the biases out, for layers with `use_bias=False`; they must be zero.

    Raises:
        ValueError: parameters are missing, left over or of a wrong shape, biases are not zero
            where `bias` is False, or `net` is one that Keras does not have.
        TypeError: a layer or a cell is of an unsupported type.

    Source: Keras 3, keras/src/layers/rnn: simple_rnn.py, lstm.py, gru.py, conv_lstm.py.
    """
    places = _places(net)
    params = params_of(places, variables)
    if not bias:
        check_no_bias(places, params)
    arrays = []
    for place, own in zip(places, params, strict=True):
        arrays += _separated(place.cell, own)[: len(NAMES) if bias else len(NAMES) - 1]
    return [np.array(array, order="C") for array in arrays]


def _shapes(place: Place, input_size: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of Keras' arrays, if the first layer takes inputs `[.., D]`."""
    ours = place.shapes(input_size)
    bias = (2, *ours["bias"]) if type(place.cell) is GRU else ours["bias"]
    return dict(zip(NAMES, (ours["input_kernel"], ours["recurrent_kernel"], bias), strict=True))


def _merged(place, kernel, recurrent_kernel, bias):
    """Return our parameters of one direction of one layer, with Keras' numbers."""
    if type(place.cell) is not GRU:
        return place.kind(kernel, recurrent_kernel, bias)
    kernel, recurrent_kernel, bias = map(_first_two_swapped, (kernel, recurrent_kernel, bias))
    outside, inside = np.split(bias[1], [2 * place.cell.features])
    bias = bias[0] + np.concatenate([outside, np.zeros_like(inside)])
    return GRUParams(kernel, recurrent_kernel, bias, inside)


def _separated(cell, params):
    """Return the arrays that `_merged` makes into these parameters, by the order of `NAMES`."""
    if type(cell) is not GRU:
        return list(params)
    inside = np.zeros_like(params.bias)
    inside[2 * cell.features :] = params.recurrent_bias
    arrays = params.input_kernel, params.recurrent_kernel, np.stack([params.bias, inside])
    return list(map(_first_two_swapped, arrays))


def _first_two_swapped(blocks):
    """Return gate blocks in the order z, r, h as r, z, n, or the other way round."""
    first, second, third = np.split(blocks, 3, axis=-1)
    return np.concatenate([second, first, third], axis=-1)


def _places(net):
    """Return a `Place` for each direction of each layer, in Keras' order."""
    places = find_places(net, KERAS)
    for place in places:
        if place.rnn.reverse and place.path.endswith("forward_rnn/cell"):
            raise ValueError("forward_rnn must not have reverse: Keras' forward layer has not")
    return places
